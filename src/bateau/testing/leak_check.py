"""The leak check around one test: the process before and after, what nobody saw, and what stands on its loops."""

from __future__ import annotations

from collections.abc import Mapping

from .leaks import Snapshot, Unseen, residue
from .running import Loop


class LeakCheck:
    """Begins when it is made, ends with ``finish``. ``snapshot`` is the process before; fixtures that outlive the test are added to it."""

    def __init__(self, long: Mapping[str, Loop]) -> None:
        self._long = long
        self._standing = {id(loop): residue(loop.host) for loop in long.values()}
        self._found: list[str] = []
        self.snapshot = Snapshot()
        self._unseen = Unseen()
        self._unseen.start()

    def loop_ends(self, loop: Loop) -> None:
        """The test's own loop is about to be closed: whatever still stands on it is left over."""
        self._found += [f"left on the loop: {what}" for what in residue(loop.host).values()]

    def finish(self) -> list[str]:
        """End; a line for each leak."""
        for loop in self._long.values():
            before = self._standing.get(id(loop), {})
            self._found += [
                f"left on the loop: {what}" for key, what in residue(loop.host).items() if key not in before
            ]
        found = self._found + [f"left behind {leak}" for leak in self.snapshot.settled_leaks()]
        return found + self._unseen.stop()
