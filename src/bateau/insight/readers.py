"""Which reader reaches a process: its agent if it answers, else its memory. Loads no more than is used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .errors import ReadError

if TYPE_CHECKING:
    from .model import Reader, Snapshot, Want


def reader_for(pid: int, *, timeout: float = 5.0) -> tuple[Reader, str | None]:
    """A reader of that process: its agent if it answers, else its memory; and why not the agent, in that case.

    A process that is stopped is not asked: no thread of it would answer. Raises ``ReadError`` if there is no such process.
    """
    from .client import NoAgent, connect

    if pid == os.getpid():
        from .agent import running

        if running() is None:
            from .collect import LiveReader

            return LiveReader(), None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        raise ReadError(f"there is no process {pid}") from None
    except PermissionError:
        pass  # another user's: whoever may, can read its memory
    if is_stopped(pid):
        return ProcessMemory(pid), f"process {pid} is stopped (a signal, a debugger), so its agent can't answer"
    try:
        return connect(pid, timeout=timeout, is_held=lambda: _is_held(pid)), None
    except NoAgent as error:
        return ProcessMemory(pid), str(error)


def _is_held(pid: int) -> bool:
    """Whether C code holds its interpreter. A process that can't be looked into is left to its agent."""
    from .memory.held import is_held

    return is_held(pid)


def is_stopped(pid: int) -> bool:
    """Whether a signal (``SIGSTOP``, Ctrl-Z) or a debugger has stopped it. False where the system does not say."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return state_of(file.read()) in {b"T", b"t"}
    except OSError:
        return False


def state_of(stat: bytes) -> bytes:
    """The letter for the state in ``/proc/PID/stat``; the name before it, in parentheses, may be anything."""
    return stat.rpartition(b")")[2].split()[0]


class ProcessMemory:
    """The reader of another process's memory, which is imported when it is needed."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def read(self, want: Want | None = None) -> Snapshot:
        """See ``bateau.insight.memory``."""
        from .memory import read_process

        return read_process(self._pid, want)
