"""Doors of ``os.read``, ``os.write`` and ``os.close``: numbers from ``FIRST_FD`` on are the process's own, others are real.

What a number stands for is a ``SimFile``, whose methods ``read`` and ``write`` do what the system calls of these names do.
"""

from __future__ import annotations

import posix  # whose functions are always the real ones: doors are put in ``os``
from typing import TYPE_CHECKING, Any

from ..fds import FIRST_FD
from . import door

if TYPE_CHECKING:
    from ..world import World


@door("os", "read")
def read(world: World, fd: int, length: int, /) -> bytes:
    if fd < FIRST_FD:
        return posix.read(fd, length)
    thread = world.thread
    world.before_call(thread)
    return thread.process.fds.get(fd).read(length)


@door("os", "write")
def write(world: World, fd: int, data: Any, /) -> int:
    if fd < FIRST_FD:
        return posix.write(fd, data)
    thread = world.thread
    world.before_call(thread)
    return thread.process.fds.get(fd).write(data)


@door("os", "close")
def close(world: World, fd: int) -> None:
    if fd < FIRST_FD:
        posix.close(fd)
        return
    thread = world.thread
    world.before_call(thread)
    thread.process.fds.close(fd)
