"""The stacks while the GIL is held: written by a C thread of ``faulthandler``, which needs no GIL.

While C code holds the GIL, no Python thread runs, the watcher's included. So a dump of all stacks is put up for a second from now, and
taken down again before it comes, again and again; it comes only where nobody could take it down. What it wrote says what held the GIL
even if the process never comes back from there, and is killed: the file is what remains. ``faulthandler`` has one such timer for the
whole process, so this is done only where the program asks for it (``watch(gil_file=...)``), and not while a debugger or pytest uses it.
"""

from __future__ import annotations

import faulthandler
import os
from contextlib import suppress

# Seconds without a Python thread running before the stacks are written.
AFTER = 1.0


class GilWatch:
    """Call ``alive`` at least every half second; ``taken`` gives what was written since it was last asked."""

    def __init__(self, path: str | os.PathLike[str], after: float = AFTER) -> None:
        self.path = os.fspath(path)
        self._after = after
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._read = 0
        self._armed = float("-inf")

    def alive(self, now: float) -> None:
        """A Python thread runs: put the dump off."""
        if now - self._armed >= self._after / 2:
            self._armed = now
            faulthandler.dump_traceback_later(self._after, repeat=False, file=self._fd)

    def taken(self) -> str:
        """What was written since the last call; "" if nothing."""
        data = os.pread(self._fd, 1 << 16, self._read)
        self._read += len(data)
        return data.decode(errors="replace")

    def close(self) -> None:
        """Take the dump down, and remove the file if it is empty."""
        faulthandler.cancel_dump_traceback_later()
        empty = os.fstat(self._fd).st_size == 0
        os.close(self._fd)
        if empty:
            with suppress(OSError):
                os.unlink(self.path)
