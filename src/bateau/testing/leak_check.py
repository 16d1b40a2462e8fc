"""The leak check around one test: the process before and after, what nobody saw, and what stands on its loops."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from ..time import sleep
from .leaks import Snapshot, Unseen, residue, settled
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

    def _pause_for(self, seconds: float) -> None:
        """Let the long loops go on meanwhile: a server that lives there has to hear that its client has gone."""
        for loop in self._long.values():
            loop.run(partial(sleep, seconds / len(self._long)))
        if not self._long:
            time.sleep(seconds)

    def _left(self) -> list[str]:
        found: list[str] = []
        for loop in self._long.values():
            before = self._standing.get(id(loop), {})
            found += [f"left on the loop: {what}" for key, what in residue(loop.host).items() if key not in before]
        return found + [f"left behind {leak}" for leak in self.snapshot.leaks()]

    def finish(self) -> list[str]:
        """End; a line for each leak."""
        return self._found + settled(self._left, pause_for=self._pause_for) + self._unseen.stop()
