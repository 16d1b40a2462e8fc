"""Parts of a pipeline that begin and end while it runs: one source of ``chain``, one sub-iterator of ``flat_map``.

What such a part runs in the background lives in the pipeline's own scope, and has ended when the part has: a ``flat_map`` over a
million items must not gather a million ended tasks and open generators until its pipeline is left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar, TypeVarTuple

from ..kernel.errors import TaskCancelled
from ..kernel.scope import ShieldedJoin
from ..kernel.task import Task
from .flow import Failure, Need
from .interior import Interior
from .stage import Stage, gives_up, open_stages

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Nested(Interior):
    """An interior inside another, with whose scope it works.

    Invariant: ``_tasks`` are all the tasks spawned here, ended or not.
    """

    __slots__ = ("_around", "_tasks")

    def __init__(self, around: Interior, *, resumable: bool) -> None:
        super().__init__(around.site, resumable=resumable)
        self.scope = around.scope
        self._around = around
        self._tasks: list[Task[Any]] = []

    def spawn(self, fn: Callable[[*Ts], Awaitable[T]], *args: *Ts, name: str) -> Task[T]:
        task = self._around.spawn(fn, *args, name=name)
        self._tasks.append(task)
        return task

    async def keep(self) -> None:
        if self._around.scope is None:
            await self._around.keep()
        self.scope = self._around.scope

    def used(self) -> bool:
        """Whether there is anything to end."""
        return bool(self._tasks or self._deferred)

    async def end(self) -> None:
        """Cancel what still runs, await it, close what was deferred. Cancelled, it can be asked again."""
        while self._tasks:
            task = self._tasks[-1]
            task.cancel("its part of the pipeline has ended")
            with suppress(TaskCancelled):
                await ShieldedJoin(task)
            self._tasks.pop()
        await self._run_deferred()

    def hand_over(self) -> None:
        """The pipeline is being left as a whole: let the interior around this one do the rest."""
        for fn in self._deferred:
            self._around.defer(fn)
        self._deferred.clear()
        for source in self._sources:
            self._around.close_later(source)
        self._sources.clear()


def nested(stages: tuple[Stage, ...], interior: Interior) -> Iterator[Any]:
    """The items and signals of ``stages``, opened now and ended with the last of them."""
    inner = Nested(interior, resumable=interior.resumable or gives_up(stages))
    try:
        yield from open_stages(stages, inner)
        if inner.used():
            need = Need()
            yield need.of(inner.end)
            if need.error is not None:
                yield Failure(need.error)
        for error in inner.close_sources():  # nothing is awaited for that: a part that waits for nothing costs no wait
            yield Failure(error)
    finally:
        inner.hand_over()
