"""A door in trio: of the tasks that are ready in one of its rounds, the world chooses the order, which trio itself draws at random.

trio is not imported for it: the door is opened when the program has imported trio, before or during the run.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..thread import here
from . import at_opening, at_shutting, importing

if TYPE_CHECKING:
    from ..world import World


class _Actor:
    """What strategies and stories see of a trio task."""

    __slots__ = ("id", "name")

    def __init__(self, number: int, name: str) -> None:
        self.id = number
        self.name = name


class Order:
    """Stands in for the generator with which trio shuffles each round."""

    def __init__(self, real: Any) -> None:
        self.real = real
        # trio numbers the tasks of the whole interpreter; these are numbered in the order in which their run first saw them.
        self._actors: WeakKeyDictionary[Any, _Actor] = WeakKeyDictionary()
        self._counts: WeakKeyDictionary[World, int] = WeakKeyDictionary()

    def __getattr__(self, name: str) -> Any:
        """For what else trio draws: the offset of its clock."""
        world = here.world
        return getattr(self.real if world is None else world.random("trio"), name)

    def shuffle(self, batch: list[Any]) -> None:
        """Put the tasks of one round into the order in which they are to step."""
        world = here.world
        if world is None:
            self.real.shuffle(batch)
            return
        process = world.thread.process
        for task in batch:
            if task not in self._actors:
                count = self._counts[world] = self._counts.get(world, 0) + 1
                self._actors[task] = _Actor(count, str(task.name))
        batch.sort(key=lambda task: self._actors[task].id)
        if world.strategy is not None:
            stream = f"tasks {process.name}/trio"
            for place in range(len(batch) - 1):
                chosen = place + world.choose_step(stream, [self._actors[task] for task in batch[place:]], False)
                batch.insert(place, batch.pop(chosen))
        for task in batch:
            if world.detailed:
                self._note(world, task)
            world.stepped(process, None)
        if world.over or process.dead:
            world.before_call(world.thread)

    def _note(self, world: World, task: Any) -> None:
        from ...kernel.explain import where_suspended

        process = world.thread.process
        world.note(
            "step",
            "goes on",
            host=process.host.name,
            actor=f"{process.name}:{self._actors[task].name}",
            site=where_suspended(task.coro),
        )


_saved: tuple[Any, bool] | None = None


def _open(module: Any = None) -> None:
    global _saved
    run: Any = sys.modules.get("trio._core._run")
    if run is not None and _saved is None and hasattr(run, "_r"):
        _saved = run._r, run._ALLOW_DETERMINISTIC_SCHEDULING
        run._r = Order(run._r)
        run._ALLOW_DETERMINISTIC_SCHEDULING = True


def _shut() -> None:
    global _saved
    run: Any = sys.modules.get("trio._core._run")
    if run is not None and _saved is not None:
        (run._r, run._ALLOW_DETERMINISTIC_SCHEDULING), _saved = _saved, None


at_opening(_open)
at_shutting(_shut)
importing.executed["trio._core._run"] = _open
