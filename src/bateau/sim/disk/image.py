"""Copies of a disk's whole content: ``Disk.snapshot`` and ``Disk.restore``."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from .inode import Directory, File, Inode

if TYPE_CHECKING:
    from .disk import Disk


class Image:
    """What a disk held at one moment. It does not change, and can be restored any number of times."""

    __slots__ = ("root",)

    def __init__(self, root: Directory) -> None:
        self.root = copied(root, root.disk)


def copied(root: Directory, disk: Disk) -> Directory:
    """A copy of the tree below ``root`` in which everything is safe; hard links stay what they are."""
    twins: dict[int, Inode] = {}

    def twin(node: Inode, parent: Directory | None) -> Inode:
        found = twins.get(node.number)
        if found is not None:
            return found
        made = twins[node.number] = copy(node)
        made.disk = disk
        made.number = disk.next_number()
        made.opened = 0
        made.locks = None
        if isinstance(made, File):
            made.data = bytearray(made.data)
            made.safe = bytearray(made.data)
            made.safe_size = made.size
            made.pending = []
            made.stale = False
        elif isinstance(made, Directory):
            made.parent = parent if parent is not None else made
            made.entries = {name: twin(child, made) for name, child in made.entries.items()}
            made.safe = dict(made.entries)
        return made

    made = twin(root, None)
    assert isinstance(made, Directory)
    return made
