"""``bateau run --console``: the program as a process of its own, whose output goes to a file that the console shows.

The program has no terminal: its standard input is empty. It ends with the console: it is interrupted as by Ctrl-C (which asks it to
stop), five seconds later once more (which cancels it), and after another five it is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from ..client import NoAgent, connect
from ..model import InsightError
from .sources import AgentSource

# Seconds: until the program's agent answers, and for the program to end when it was interrupted.
START = 20.0
PATIENCE = 5.0
# Bytes from the end of the output that are looked at.
MOST_OUTPUT = 65536


class Child:
    """The program. ``command``: what is run, a ``bateau run`` without ``--console``."""

    def __init__(self, command: Sequence[str]) -> None:
        self._output = tempfile.NamedTemporaryFile(prefix="bateau-run-", suffix=".log")  # noqa: SIM115  # closed by `close`
        # A group of its own: Ctrl-C in the terminal is the console's.
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT, process_group=0
        )

    def source(self) -> AgentSource:
        """Its agent, once that answers. Raises ``InsightError`` if it does not, or the program has ended already."""
        end = time.monotonic() + START
        while True:
            try:
                return AgentSource(f"process {self.process.pid}", lambda: connect(self.process.pid))
            except NoAgent as error:
                if self.process.poll() is not None:
                    raise InsightError(f"the program ended with status {self.status}") from error
                if time.monotonic() > end:
                    raise InsightError(f"the program does not answer: {error}") from error
                time.sleep(0.02)

    @property
    def status(self) -> int | None:
        """What it ended with, as a shell counts (128 and the signal's number); None while it runs."""
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code

    def output(self) -> str:
        """The last lines that it printed."""
        size = os.fstat(self._output.fileno()).st_size
        with open(self._output.name, "rb") as file:
            file.seek(max(0, size - MOST_OUTPUT))
            return file.read(MOST_OUTPUT).decode(errors="replace")

    def close(self) -> int:
        """End it, print what it had to say at last, and return its status."""
        for _ in range(2):
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(PATIENCE)
        if self.process.poll() is None:
            print(f"bateau run: the program did not end in {2 * PATIENCE:g} s, and is killed", file=sys.stderr)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        sys.stdout.write(self.output())
        sys.stdout.flush()
        self._output.close()
        assert self.status is not None
        return self.status
