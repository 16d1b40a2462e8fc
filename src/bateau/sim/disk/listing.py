"""What ``os.scandir`` and ``os.listdir`` give: the entries of a simulated directory."""

from __future__ import annotations

import os
import posix
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .inode import Directory, Inode

if TYPE_CHECKING:
    from ..world import World

join: Callable[..., Any] = os.path.join


class SimDirEntry:
    """What ``os.DirEntry`` is: a name, and what the directory knew of it; the rest asks the disk and is remembered."""

    def __init__(self, world: World, name: Any, path: Any, node: Inode, fd: int | None) -> None:
        self._world = world
        self._number = node.number
        self._mode = node.mode
        self._fd = fd
        self._followed: os.stat_result | None = None
        self._own: os.stat_result | None = None
        self.name = name
        self.path = path

    def inode(self) -> int:
        """The number of its inode."""
        return self._number

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self._mode)

    def is_junction(self) -> bool:
        """Never: that is Windows."""
        return False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory."""
        return self._is(stat.S_ISDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file."""
        return self._is(stat.S_ISREG, follow_symlinks)

    def _is(self, kind: Any, follow: bool) -> bool:
        if not follow or not self.is_symlink():
            return bool(kind(self._mode))
        try:
            return bool(kind(self.stat().st_mode))
        except FileNotFoundError:
            return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Its status; asked for once. Raises ``OSError``."""
        follow = follow_symlinks and self.is_symlink()
        found = self._followed if follow else self._own
        if found is None:
            where, fd = (self.path, None) if self._fd is None else (self.name, self._fd)
            found = os.stat(where, dir_fd=fd, follow_symlinks=follow)
            if follow:
                self._followed = found
            else:
                self._own = found
        return found

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


class Scan:
    """The iterator of ``os.scandir``: what was there when it was made."""

    def __init__(self, entries: list[Any]) -> None:
        self._entries: Iterator[Any] = iter(entries)

    def __iter__(self) -> Scan:
        return self

    def __next__(self) -> Any:
        return next(self._entries)

    def close(self) -> None:
        """End the iteration."""
        self._entries = iter(())

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()


def entries_of(world: World, directory: Directory, given: Any, fd: int | None, real: str = "") -> list[Any]:
    """The entries of a directory that was given as path ``given`` (None: as descriptor ``fd``).

    Where ``real`` is a directory of the real machine that is seen there, too, its other entries come after the simulated ones.
    """
    binary = isinstance(given, bytes)
    made: list[Any] = []
    for text in directory.names():
        name: Any = os.fsencode(text) if binary else text
        path: Any = name if given is None else join(given, name)
        made.append(SimDirEntry(world, name, path, directory.entries[text], fd))
    if real:
        others: list[Any]
        try:
            others = list(posix.scandir(os.fsencode(real) if binary else real))
        except OSError:
            return made
        made += [entry for entry in others if os.fsdecode(entry.name) not in directory.entries]
    return made
