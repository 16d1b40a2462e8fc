"""Where Unix sockets are found: abstract names in a table of the host, others by what a path leads to on its disk."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ..disk.tree import FOLLOW
from ..disk.view import view_of
from ..fds import failure

if TYPE_CHECKING:
    from ..disk.inode import Inode
    from .stack import Stack
    from .unixsocket import UnixSocket


class UnixNames:
    """The names on one host.

    Invariant: ``abstract`` and ``bound`` hold open sockets only. A path is known by its inode, so that links, renames and working
    directories mean what they mean on a real system, and a file outlives its socket.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.abstract: dict[bytes, UnixSocket] = {}
        self.bound: dict[Inode, UnixSocket] = {}
        self._autobound = 0

    def bind(self, sock: UnixSocket, name: bytes) -> bytes:
        """Let ``sock`` be found at ``name`` (empty: some abstract name); what it is bound to. Raises ``OSError``."""
        if not name:
            self._autobound += 1
            name = b"\0%05x" % self._autobound
        if name[:1] == b"\0":
            if name in self.abstract:
                raise failure(errno.EADDRINUSE)
            self.abstract[name] = sock
            return name
        view = view_of(self.stack.world)
        mode = sock.permissions & ~view.umask
        try:
            node = view.disk.names.mknod(view.start(None), os.fsdecode(name), mode, "socket")
        except FileExistsError:
            raise failure(errno.EADDRINUSE) from None
        self.bound[node] = sock
        return name

    def find(self, name: bytes) -> UnixSocket:
        """Who is bound to ``name``. Raises ``OSError`` (ENOENT, ECONNREFUSED)."""
        if name[:1] == b"\0":
            found = self.abstract.get(name)
        else:
            view = view_of(self.stack.world)
            node = view.disk.names.find(view.start(None), os.fsdecode(name), FOLLOW)
            found = self.bound.get(node)
        if found is None:
            raise failure(errno.ECONNREFUSED)
        return found

    def leave(self, sock: UnixSocket) -> None:
        """``sock`` is closed. A name on the disk stays, and nobody answers there."""
        for name in [name for name, known in self.abstract.items() if known is sock]:
            del self.abstract[name]
        for node in [node for node, known in self.bound.items() if known is sock]:
            del self.bound[node]

    def clear(self) -> None:
        """The host has lost power."""
        self.abstract.clear()
        self.bound.clear()
