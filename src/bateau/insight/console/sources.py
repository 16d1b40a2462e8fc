"""Where the console's snapshots come from: an agent, another process's memory, a file. One interface for all.

A source is read on a thread of the console's; nothing here knows of the screen.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Protocol

from ..model import InsightError, Reader, ReadError, Snapshot, Want
from ..schema import from_json

Verb = Literal["cancel", "stop", "wake"]


class Source(Protocol):
    """What the console shows. ``acts``: whether the program can be acted upon; ``live``: whether it changes."""

    name: str
    acts: bool
    live: bool

    def read(self, want: Want | None = None) -> Snapshot:
        """Take a snapshot; may block. Raises ``InsightError``."""
        ...

    def act(self, verb: Verb, number: int) -> str:
        """Cancel a task, stop a scope, wake a task; returns what was done, in words. Raises ``InsightError``."""
        ...

    def close(self) -> None:
        """Let go of it. Idempotent."""
        ...


class ReaderSource:
    """Anything that can be read, and not acted upon."""

    acts = False

    def __init__(self, name: str, reader: Reader, *, live: bool = True) -> None:
        self.name = name
        self.live = live
        self._reader = reader

    def read(self, want: Want | None = None) -> Snapshot:
        """Take a snapshot."""
        return self._reader.read(want)

    def act(self, verb: Verb, number: int) -> str:
        """Not possible."""
        raise InsightError(
            f"{self.name} can only be looked at: to {verb} something, the program must run an agent (bateau.insight.init(), or bateau run)"
        )

    def close(self) -> None:
        """Nothing to let go of."""


class FileReader:
    """A snapshot in a file, as ``bateau dump --json`` writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, want: Want | None = None) -> Snapshot:
        """Read the file. Raises ``ReadError`` where it can't be, ``SchemaError`` where it is no snapshot."""
        try:
            text = self._path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ReadError(f"{self._path} can't be read: {error}") from error
        return from_json(text)


class MemoryReader:
    """The memory of a process in which no agent answers. ``pid``: its number."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def read(self, want: Want | None = None) -> Snapshot:
        """Read it, without stopping it."""
        from ..memory import read_process

        return read_process(self._pid, want)


def find_source(target: str) -> Source:
    """What ``target`` means: a process id, the path of an agent's socket, ``host:port``, or a file that ``bateau dump --json`` wrote.

    Raises ``ReadError``, which says what was tried.
    """
    path = Path(target)
    if target.isdecimal():
        return _process(int(target))
    if path.is_socket() or (":" in target and not path.exists()):
        return _agent(target)
    if path.is_file():
        return ReaderSource(path.name, FileReader(path), live=False)
    raise ReadError(
        f"{target!r} is no process id, no socket, no host:port and no file; name one of these, such as the number that `ps` shows"
    )


def _process(pid: int) -> Source:
    if not os.path.exists(f"/proc/{pid}") and os.path.exists("/proc/self"):
        raise ReadError(f"there is no process {pid}")
    from ..client import find_agent

    address = find_agent(pid)
    if address is not None:
        return _agent(address)
    return ReaderSource(f"process {pid} (read from its memory)", MemoryReader(pid))


def _agent(target: str) -> Source:
    from .agents import AgentSource

    return AgentSource(target)
