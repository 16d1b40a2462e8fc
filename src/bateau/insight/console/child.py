"""``bateau run --console``: the program as a process of its own, whose output goes to a file that the console shows.

The program has no terminal: its standard input is empty. It ends with the console: it is interrupted as by Ctrl-C (which asks it to
stop), five seconds later once more (which cancels it), and after another five it is killed. So too if the console is ended by a signal
(its terminal was closed, a ``kill``). If the console itself is killed (``SIGKILL``), Linux interrupts the program, once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from types import FrameType
from typing import Any

from ..client import NoAgent, connect
from ..model import InsightError
from .sources import AgentSource

# Seconds: until the program's agent answers, and for the program to end when it was interrupted.
START = 20.0
PATIENCE = 5.0
# Bytes from the end of the output that are looked at.
MOST_OUTPUT = 65536


class _Leash:
    """A pipe that nobody writes to. The console alone holds its writing end, so that the system closes that when the console ends,
    however it ends; and the system then sends SIGINT to who asked for it at the reading end.

    Exactly one: PR_SET_PDEATHSIG, which is there for this, sends one for each thread that the console still has as it dies (measured: up
    to six from a process of seven), and a second SIGINT cancels what the first had asked to end in order.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def options(self) -> dict[str, Any]:
        """For ``subprocess.Popen``. Nothing where pipes send no chosen signal: there, such a program goes on."""
        if not sys.platform.startswith("linux"):
            return {}
        return {"pass_fds": (self._read,), "preexec_fn": self._ask}

    def _ask(self) -> None:
        """In the program's process, before it begins."""
        import fcntl

        os.close(self._write)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the program has its own handler
        fcntl.fcntl(self._read, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._read, fcntl.F_SETSIG, signal.SIGINT)
        fcntl.fcntl(self._read, fcntl.F_SETFL, fcntl.fcntl(self._read, fcntl.F_GETFL) | os.O_ASYNC)
        if select.select([self._read], [], [], 0)[0]:  # the console has ended already
            os._exit(130)

    def handed_over(self) -> None:
        """The program has its own copy of the reading end, or was not started."""
        os.close(self._read)

    def close(self) -> None:
        """Once the program has ended."""
        os.close(self._write)


class Child:
    """The program. ``command``: what is run, a ``bateau run`` without ``--console``."""

    def __init__(self, command: Sequence[str]) -> None:
        self._output = tempfile.NamedTemporaryFile(prefix="bateau-run-", suffix=".log")  # noqa: SIM115  # closed by `close`
        # One thread at a time ends it: that of a signal, or who closes.
        self._ending = threading.Lock()
        # When `status` first saw that it had ended, as the wall clock counts; 0 until then.
        self.ended_at = 0.0
        self._leash = _Leash()
        try:
            # A group of its own: Ctrl-C in the terminal is the console's. No other thread of ours has begun, so that the leash may run
            # Python between fork and exec.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                process_group=0,
                **self._leash.options(),
            )
        finally:
            self._leash.handed_over()

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
        if code is not None and not self.ended_at:
            self.ended_at = time.time()
        return code if code is None or code >= 0 else 128 - code

    def output(self) -> str:
        """The last lines that it printed."""
        size = os.fstat(self._output.fileno()).st_size
        with open(self._output.name, "rb") as file:
            file.seek(max(0, size - MOST_OUTPUT))
            return file.read(MOST_OUTPUT).decode(errors="replace")

    def end(self) -> None:
        """Interrupt it, twice if need be, and kill it if it does not end. From any thread; idempotent."""
        with self._ending:
            for _ in range(2):
                if self.process.poll() is None:
                    self._tell(signal.SIGINT)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.process.wait(PATIENCE)
            if self.process.poll() is None:
                with contextlib.suppress(OSError):  # the terminal may be gone
                    print(f"bateau run: the program did not end in {2 * PATIENCE:g} s, and is killed", file=sys.stderr)
                self._tell(signal.SIGKILL)
            self.process.wait()

    def _tell(self, number: int) -> None:
        """A signal for all of its group; for nobody, if it has ended meanwhile, which `status` may have found on another thread."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self) -> int:
        """End it, print what it had to say at last, and return its status."""
        self.end()
        output = self.output()
        self._output.close()
        self._leash.close()
        try:
            sys.stdout.write(output)
            sys.stdout.flush()
        except OSError:  # its terminal is gone; and Python would try once more at its end
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        assert self.status is not None
        return self.status


@contextlib.contextmanager
def ended_by_signals(
    child: Callable[[], Child | None], leave: Callable[[], None]
) -> Generator[Callable[[], None], None, None]:
    """Inside the block SIGHUP and SIGTERM end the program, on a thread (it may take as long as `PATIENCE` allows), and then ``leave``.

    ``child``: the program, None before it was started. ``leave`` is called on that thread. For the main thread. Gives what a signal
    calls there, for any other reason to end.
    """

    def finish() -> None:
        found = child()
        try:
            if found is not None:
                found.end()
        finally:
            leave()

    def handle(_signum: int, _frame: FrameType | None) -> None:
        threading.Thread(target=finish, name="bateau-console-end", daemon=True).start()

    numbers = [number for name in ("SIGHUP", "SIGTERM") if (number := getattr(signal, name, None)) is not None]
    # Who ignores one (nohup) goes on doing so.
    before = {number: signal.getsignal(number) for number in numbers}
    taken = [number for number in numbers if before[number] not in (signal.SIG_IGN, None)]
    for number in taken:
        signal.signal(number, handle)
    try:
        yield finish
    finally:
        for number in taken:
            signal.signal(number, before[number])
