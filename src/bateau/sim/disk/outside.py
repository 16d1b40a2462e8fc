"""What of the real machine simulated programs see: the Python installation, ``sys.path``, certificates and time zones, to be read only.

It is like a read-only file system that is mounted under the simulated disk: where the disk itself has nothing, and only there, the
real thing is seen. So imports of data, tracebacks and certificates work; and what runs there costs no virtual time, since Python's own
caches (of source lines, say) decide how often it is asked, and those outlive a run.
"""

from __future__ import annotations

import os
import posix
import sys
from posixpath import normpath

from ..thread import here

PLACES = (
    "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
    "/usr/share/zoneinfo", "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/usr/share/mime", "/usr/share/locale",
)  # fmt: skip
# Where asking for what isn't there takes no time either: modules look there once per process and remember.
SYSTEM = ("/etc/", "/usr/", "/opt/", "/proc/", "/sys/", "/lib/", "/bin/")
# A place that has one of these in it would hide that the disk has nothing there.
NEVER_SEEN = frozenset({"/", "/tmp", "/home", "/var", "/var/tmp", "/dev"})


class _Seen:
    """The places that are seen, as long as ``sys.path`` stays what it was."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.places: frozenset[str] = frozenset()
        self.prefixes: tuple[str, ...] = ()
        self.above: frozenset[str] = frozenset()

    def look(self) -> None:
        if self.path == sys.path:
            return
        self.path = list(sys.path)
        world, here.world = here.world, None  # the real machine's links and current directory, not the simulated one's
        try:
            found = [sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.__file__), *PLACES, *sys.path]
            full = [os.path.abspath(place) for place in found]
            full += [os.path.realpath(place) for place in full]
        finally:
            here.world = world
        places = sorted({place for place in full if place not in NEVER_SEEN})
        self.places = frozenset(places)
        self.prefixes = tuple(place + "/" for place in places)
        self.above = frozenset(place[:at] or "/" for place in places for at in range(len(place)) if place[at] == "/")


_seen = _Seen()


def is_seen(path: str) -> bool:
    """Whether the real thing at an absolute path may be read, where the disk has nothing there."""
    _seen.look()
    path = normpath(path)
    return path.startswith(_seen.prefixes) or path in _seen.places


def is_above(path: str) -> bool:
    """Whether it is a directory on the way to such a place."""
    _seen.look()
    return normpath(path) in _seen.above


def is_free(path: str) -> bool:
    """Whether looking for something that isn't there takes no time."""
    return path.startswith(SYSTEM)


def content(path: str) -> tuple[bytes, os.stat_result]:
    """A real file's content and status. Raises ``OSError``."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        status = posix.fstat(fd)
        parts: list[bytes] = []
        while part := posix.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts), status
    finally:
        posix.close(fd)
