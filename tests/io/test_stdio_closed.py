"""A program started with `<&-` or `>&-`: the numbers 0 to 2 are soon somebody else's, and must not be read or written as stdio."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import bateau
from bateau import io

async def main():
    for name in sys.argv[2:]:
        try:
            getattr(io, name)()
        except bateau.Closed as error:
            assert f"its {name} closed" in str(error), error
        else:
            raise AssertionError(name)
    await io.print("into the void, as Python's own print")

bateau.run(main, runtime=sys.argv[1])
"""


# libuv aborts the process when it meets one of these numbers among its own descriptors.
@pytest.mark.parametrize("runtime", ["native", "asyncio", "trio"], indirect=True)
@pytest.mark.parametrize(("redirections", "closed"), [("<&-", "stdin"), (">&-", "stdout"), ("<&- >&-", "stdin stdout")])
def test_each_says_so(runtime, redirections, closed):
    command = f'exec "$0" -c "$1" {runtime.name} {closed} {redirections}'
    done = subprocess.run(["sh", "-c", command, sys.executable, PROGRAM], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
