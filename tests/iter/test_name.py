"""``bateau.iter`` is a function and a package: both work, whichever was seen first."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
order = sys.argv[1]
if order == "package":
    import bateau.iter
elif order == "name":
    from bateau.iter import each
import bateau
if order == "both":
    made = bateau.iter([1])
    import bateau.iter

async def main():
    assert await bateau.iter([1, 2]).collect() == [1, 2]
    assert await bateau.iter.once(3).collect() == [3]
    package = sys.modules["bateau.iter"]
    for name in package.__all__:
        assert getattr(bateau.iter, name) is getattr(package, name), name
    try:
        bateau.iter.nonsense
    except AttributeError as error:
        assert "nonsense" in str(error)
    else:
        raise AssertionError

bateau.run(main)
"""


@pytest.mark.parametrize("order", ["function", "package", "name", "both"])
def test_in_any_order(order):
    subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM, order], check=True, timeout=60)
