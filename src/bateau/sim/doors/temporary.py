"""Doors of what keeps state of its own about files: ``tempfile``'s names and clean-ups, the home directory, ``os``'s lists of abilities."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..disk.view import HOME, plain, view_of
from ..thread import here
from . import door, real, stand_in

if TYPE_CHECKING:
    from ..process import Process
    from ..world import World

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789_"
# What the machine says about the home directory; a program that says something else itself is believed.
MACHINE_HOME = os.environ.get("HOME")


# -- tempfile --------------------------------------------------------------------------------------------------------------


@door("tempfile", "_gettempdir")
def gettempdir(world: World) -> Any:
    """The disk's own ``/tmp``, whatever the real machine has, unless the program has set ``tempfile.tempdir`` to a place that exists."""
    chosen = tempfile.tempdir
    if chosen is not None and view_of(world).disk.exists(os.fsdecode(chosen)):
        return chosen
    return "/tmp"


@door("tempfile", "_get_candidate_names")
def candidate_names(world: World) -> Iterator[str]:
    random = world.random(f"tempfile {world.thread.process.name}")
    while True:
        yield "".join(random.choices(CHARACTERS, k=8))


class _Closer:
    """What ``tempfile._TemporaryFileCloser`` is: it owns a file and its name, and both go at the end.

    It remembers its process: what Python drops after that has died deletes nothing, least of all a real file of that name.
    """

    def __init__(
        self, process: Process, file: Any, name: Any, delete: bool, delete_on_close: bool, warn_message: str
    ) -> None:
        self.process = process
        self.file = file
        self.name = name
        self.delete = delete
        self.delete_on_close = delete_on_close
        self.warn_message = warn_message
        self.close_called = False
        self.cleanup_called = False

    def cleanup(self, windows: bool = False, unlink: Any = None) -> None:
        if self.cleanup_called:
            return
        self.cleanup_called = True
        if not _lives(self.process):
            return
        try:
            if not self.close_called:
                self.close_called = True
                self.file.close()
        finally:
            if self.delete:
                try:
                    os.unlink(self.name)
                except FileNotFoundError:
                    if self.delete_on_close:
                        raise

    def close(self, unlink: Any = None) -> None:
        if not self.close_called:
            self.close_called = True
            self.file.close()
            if self.delete and self.delete_on_close:
                self.cleanup()

    def __del__(self) -> None:
        self.cleanup()


def _lives(process: Process) -> bool:
    return here.world is process.world and not process.dead and not process.world.over


@door("tempfile", "_TemporaryFileCloser")
def closer(
    world: World, file: Any, name: Any, delete: bool = True, delete_on_close: bool = True, warn_message: str = ""
) -> _Closer:
    return _Closer(world.thread.process, file, name, delete, delete_on_close, warn_message)


class _Cleanup:
    """Stands for ``TemporaryDirectory._cleanup``, which outlives the directory object in a finalizer: it deletes nothing afterwards."""

    def __get__(self, instance: Any, owner: Any) -> Callable[..., None]:
        cleanup: Callable[..., None] = real("tempfile:TemporaryDirectory", "_cleanup").__get__(instance, owner)
        world = here.world
        if world is None:
            return cleanup
        process = world.thread.process

        def in_time(*args: Any, **kwargs: Any) -> None:
            if _lives(process):
                cleanup(*args, **kwargs)

        return in_time


stand_in("tempfile:TemporaryDirectory", "_cleanup", _Cleanup())


# -- the rest --------------------------------------------------------------------------------------------------------------


@door("posixpath", "expanduser")
def expanduser(world: World, path: Any) -> Any:
    given = plain(path)
    home = os.environ.get("HOME")
    if home == MACHINE_HOME:
        if isinstance(given, bytes):
            if given == b"~" or given.startswith(b"~/"):
                return HOME.encode() + given[1:]
        elif given == "~" or given.startswith("~/"):
            return HOME + given[1:]
    return real("posixpath", "expanduser")(path)


class _Abilities(set[Any]):
    """One of ``os.supports_dir_fd`` and its like, which hold functions: a door can do what the function behind it can."""

    def __contains__(self, function: object) -> bool:
        return super().__contains__(getattr(function, "__wrapped__", function))

    def __ge__(self, others: Any) -> bool:
        return all(each in self for each in others)


for _name in (
    "supports_dir_fd",
    "supports_fd",
    "supports_follow_symlinks",
    "supports_effective_ids",
    "supports_bytes_environ",
):
    if isinstance(getattr(os, _name), set):
        stand_in("os", _name, _Abilities(getattr(os, _name)))


def _taken_by_glob() -> None:
    """From 3.13 on a class of ``glob`` keeps functions of ``os``; nobody sees them there but it."""
    import glob

    owner = getattr(glob, "_StringGlobber", None)
    if owner is None:
        return
    for name in ("lstat", "scandir"):
        if name in vars(owner):
            stand_in("glob:_StringGlobber", name, staticmethod(_late(name)))


def _late(name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(os, name)(*args, **kwargs)

    return call


_taken_by_glob()
