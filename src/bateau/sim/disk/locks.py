"""Advisory locks on simulated files: ``flock`` (of an open file) and POSIX record locks (of a process, by ranges).

As on Linux the two kinds know nothing of each other, an open file's lock goes with its last descriptor, and a process loses its record
locks on a file as soon as it closes any open file of it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..process import Process
    from ..thread import SimThread
    from .file import OpenFile
    from .inode import Inode

# Where an unlimited record lock ends.
END = 1 << 63

# A record lock: whose, from, to (exclusive), whether exclusive.
Record = tuple["Process", int, int, bool]


class Locks:
    """The locks on one inode.

    Invariants: either one open file holds it exclusively or any number share it. No two processes' records conflict.
    """

    def __init__(self) -> None:
        # Holders, and whether exclusively.
        self.flocks: dict[OpenFile, bool] = {}
        self.records: list[Record] = []
        self.waiting: dict[SimThread, None] = {}

    def changed(self) -> None:
        """Something was let go: who waits looks again."""
        waiting, self.waiting = self.waiting, {}
        for thread in waiting:
            thread.unblock()

    def wait(self, file: OpenFile, what: str) -> None:
        """Block the running thread until something is let go."""
        thread = file.world.thread
        self.waiting[thread] = None
        try:
            file.world.block(what)
        finally:
            self.waiting.pop(thread, None)


def locks_of(node: Inode) -> Locks:
    """The locks of an inode, made when first asked for."""
    if node.locks is None:
        node.locks = Locks()
    return node.locks


def flock(file: OpenFile, exclusive: bool | None, *, waits: bool) -> None:
    """Lock an open file's inode; None unlocks. Raises ``BlockingIOError`` where it would have to wait and must not."""
    locks = locks_of(file.node)
    if exclusive is None:
        if locks.flocks.pop(file, None) is not None:
            locks.changed()
        return
    if (
        locks.flocks.pop(file, None) is not None
    ):  # a change of kind is not atomic, and may end with no lock: see flock(2)
        locks.changed()
    while any(exclusive or other for other in locks.flocks.values()):
        if not waits:
            raise OSError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        locks.wait(file, f"flock({file.path})")
    locks.flocks[file] = exclusive


def lock_range(file: OpenFile, start: int, end: int, exclusive: bool | None, *, waits: bool) -> None:
    """Lock a range for the calling process; None unlocks. Raises ``BlockingIOError`` where it would have to wait and must not."""
    locks, process = locks_of(file.node), file.world.thread.process
    while exclusive is not None and conflict(locks, process, start, end, exclusive):
        if not waits:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        locks.wait(file, f"lockf({file.path})")
    kept: list[Record] = []
    for record in locks.records:
        owner, first, last, kind = record
        if owner is not process or last <= start or end <= first:
            kept.append(record)
            continue
        if first < start:
            kept.append((owner, first, start, kind))
        if end < last:
            kept.append((owner, end, last, kind))
    if exclusive is not None:
        kept.append((process, start, end, exclusive))
    locks.records = kept
    locks.changed()


def conflict(locks: Locks, process: Process, start: int, end: int, exclusive: bool) -> Record | None:
    """The first record of another process that is in the way."""
    for record in locks.records:
        owner, first, last, kind = record
        if owner is not process and first < end and start < last and (exclusive or kind):
            return record
    return None


def forget(file: OpenFile, process: Any) -> None:
    """The last descriptor of an open file was closed."""
    locks = file.node.locks
    if locks is None:
        return
    locks.flocks.pop(file, None)
    locks.records = [record for record in locks.records if record[0] is not process]
    locks.changed()
