"""Doors of ``open`` and ``io``: Python's buffered and text layers over a raw file of the simulated disk."""

from __future__ import annotations

import _io  # whose functions are always the real ones: doors are put in ``io`` and ``builtins``
import errno
import io
import os
import warnings
from abc import ABCMeta
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..disk import buffered
from ..disk.raw import BUFFER_SIZE, SimFileIO
from ..disk.view import plain, text_of, view_of
from ..errors import NotSimulated
from ..fds import FIRST_FD
from ..thread import here
from . import door, stand_in
from .files import open_file

if TYPE_CHECKING:
    from ..world import World

_ACCESS = {
    "r": os.O_RDONLY,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
}


@door("builtins", "open")
def open_builtin(world: World, *args: Any, **kwargs: Any) -> Any:
    return open_(world, *args, **kwargs)


@door("io", "open")
def open_(
    world: World,
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
) -> Any:
    if isinstance(file, int) and file < FIRST_FD:
        return _io.open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    if not isinstance(file, int):
        file = plain(file)
    text, raw_mode = _check_mode(mode, buffering, encoding, errors, newline)
    raw = open_raw(world, file, raw_mode, closefd, opener)
    result: Any = raw
    try:
        line_buffering = False
        if buffering == 1:
            buffering, line_buffering = -1, text
        if buffering < 0:
            buffering = BUFFER_SIZE
        if buffering == 0:
            if text:
                raise ValueError("can't have unbuffered text I/O")
            return result
        if "+" in mode:
            result = buffered.BufferedRandom(world, raw, buffering)
        elif "r" in mode:
            result = buffered.BufferedReader(world, raw, buffering)
        else:
            result = buffered.BufferedWriter(world, raw, buffering)
        if text:
            result = io.TextIOWrapper(result, encoding, errors, newline, line_buffering)
            result.mode = mode
    except BaseException:
        result.close()
        raise
    return result


def _check_mode(
    mode: Any, buffering: Any, encoding: str | None, errors: str | None, newline: str | None
) -> tuple[bool, str]:
    """Whether it is text, and the mode of the raw file. Raises ``ValueError`` and ``TypeError`` as ``open`` does."""
    if not isinstance(mode, str):
        raise TypeError(f"open() argument 'mode' must be str, not {type(mode).__name__}")
    if not isinstance(buffering, int):
        raise TypeError(f"'{type(buffering).__name__}' object cannot be interpreted as an integer")
    kinds = set(mode)
    if kinds - set("axrwb+t") or len(mode) > len(kinds):
        raise ValueError(f"invalid mode: {mode!r}")
    text, binary = "t" in kinds, "b" in kinds
    if text and binary:
        raise ValueError("can't have text and binary mode at once")
    if len(kinds & set("axrw")) > 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    if not kinds & set("axrw"):
        raise ValueError("Must have exactly one of create/read/write/append mode and at most one plus")
    if binary:
        for name, value in (("an encoding", encoding), ("an errors", errors), ("a newline", newline)):
            if value is not None:
                raise ValueError(f"binary mode doesn't take {name} argument")
        if buffering == 1:
            warnings.warn(
                "line buffering (buffering=1) isn't supported in binary mode, the default buffer size will be used",
                RuntimeWarning,
                stacklevel=5,
            )
    return not binary, mode.replace("b", "").replace("t", "")


def open_raw(world: World, file: Any, mode: str, closefd: bool = True, opener: Any = None) -> Any:
    """What ``io.FileIO(file, mode)`` gives in a world."""
    view = view_of(world)
    flags = _ACCESS[mode.replace("+", "")] | os.O_CLOEXEC
    if "+" in mode:
        flags = flags & ~os.O_WRONLY | os.O_RDWR
    if isinstance(file, int):
        raw = SimFileIO(view.process, file, file, flags, closefd)
    else:
        text_of(file)  # TypeError for what is no path
        if not closefd:
            raise ValueError("Cannot use closefd=False with file name")
        if opener is None:
            fd = open_file(world, file, flags, 0o666)
        else:
            fd = opener(file, flags)
            if not isinstance(fd, int):
                raise TypeError("expected integer from opener")
            if fd < 0:
                raise ValueError(f"opener returned {fd}")
            if fd < FIRST_FD:
                return _io.FileIO(fd, mode, closefd)
        raw = SimFileIO(view.process, fd, file, flags, True)
    if raw.is_directory():
        if not isinstance(file, int):
            raw.close()
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), file)
    if "a" in mode and raw.seekable():
        raw.seek(0, os.SEEK_END)
    return raw


@door("io", "open_code")
def open_code(world: World, path: str) -> Any:
    return open_(world, path, "rb")


class _Guarding(ABCMeta):
    """Makes a stand-in class: to ``isinstance`` and outside worlds it is the real one, inside it is what ``_inside`` makes."""

    _real: type
    _inside: Callable[..., Any]

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        world = here.world
        real: Any = cls._real
        if cls.__dict__.get("_real") is None:  # a subclass that was made while doors were open
            if world is not None and real is _io.FileIO:
                raise NotSimulated(f"{cls.__name__} can't be made in a simulated world: use io.FileIO itself")
            return type.__call__(cls, *args, **kwargs)
        made = cls._inside(world, *args, **kwargs) if world is not None else None
        return real(*args, **kwargs) if made is None else made

    def __instancecheck__(cls, instance: Any) -> bool:
        if cls.__dict__.get("_real") is None:
            return super().__instancecheck__(instance)
        return isinstance(instance, cls._real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        if cls.__dict__.get("_real") is None:
            return super().__subclasscheck__(subclass)
        return issubclass(subclass, cls._real)


def guard(module: str, name: str, real: type, inside: Any) -> None:
    """Let ``inside(world, *args)`` make what ``module.name(*args)`` makes in a world; None: the real thing."""
    made = _Guarding(name, (real,), {"_real": real, "_inside": staticmethod(inside), "__doc__": real.__doc__})
    made.__module__ = real.__module__
    stand_in(module, name, made)


def _file_io(world: World, file: Any, mode: str = "r", closefd: bool = True, opener: Any = None) -> Any:
    if isinstance(file, int) and file < FIRST_FD:
        return None
    return open_raw(world, file if isinstance(file, int) else plain(file), mode.replace("b", ""), closefd, opener)


guard("io", "FileIO", _io.FileIO, _file_io)
guard("io", "BufferedReader", _io.BufferedReader, buffered.BufferedReader)
guard("io", "BufferedWriter", _io.BufferedWriter, buffered.BufferedWriter)
guard("io", "BufferedRandom", _io.BufferedRandom, buffered.BufferedRandom)
