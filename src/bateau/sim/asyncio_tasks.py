"""Tasks of plain asyncio in the world: which of those that are ready steps next is a choice, and stories and explanations know them.

asyncio promises that callbacks run in the order in which they were registered, and the steps of its tasks are callbacks. Programs rely on the
former; the latter is an accident of its loop (and is different on every eager or foreign loop). So the world chooses among the *steps of
tasks* that stand side by side in the queue, and plain callbacks keep their places.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from ..kernel.explain import sites_of, where_suspended, who
from .thread import here

if TYPE_CHECKING:
    from .process import Process
    from .world import World

PART = "asyncio loops"


class Actor:
    """What strategies and stories see of an asyncio task, or of the plain callbacks of a loop."""

    __slots__ = ("__weakref__", "id", "name")

    def __init__(self, number: int, name: str) -> None:
        self.id = number
        self.name = name


class Loops:
    """The asyncio loops of one simulated process (its part ``PART``)."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.ready: list[ReadyQueue] = []

    def explain(self) -> list[str]:
        """Where each of their tasks stands, in lines."""
        return [f"  {line}" for queue in self.ready for line in queue.explain()]


class ReadyQueue(deque[Any]):
    """What a loop of a simulated process takes the next callback from: ``loop._ready``.

    The steps of tasks that stand side by side at its head are taken out of the deque to where one of them can be chosen.

    Invariants: the loop asks for one handle at a time (``popleft``) and runs it before it asks again; so the last one has been run by
    then. What is in ``_head`` comes before what is in the deque, and ``_names`` are their actors, in the same order.
    """

    def __init__(self, loop: Any, world: World, handles: Any = ()) -> None:
        super().__init__(handles)
        self.loop = loop
        self.world = world
        self.process = world.thread.process
        part: Loops = self.process.parts.setdefault(PART, Loops(self.process))
        part.ready.append(self)
        number = f":{len(part.ready)}" if len(part.ready) > 1 else ""
        self.stream = f"tasks {self.process.name}/asyncio{number}"
        self.callbacks = Actor(0, "callbacks")
        # Numbered in the order in which they were first ready: the same in each run with the same choices.
        self._actors: WeakKeyDictionary[Any, Actor] = WeakKeyDictionary()
        self._count = 0
        self._stepped: Any = None
        self._head: list[Any] = []
        self._names: list[Actor] = []
        self._only_callbacks = [self.callbacks]

    def __len__(self) -> int:
        return len(self._head) + super().__len__()

    def clear(self) -> None:
        self._head.clear()
        self._names.clear()
        super().clear()

    def popleft(self) -> Any:
        """The handle to run next."""
        world = self.world
        if here.world is not world:
            return self._take(0)
        self._tell()
        index = 0
        if world.strategy is not None:
            self._fill()
            actors = self._names or self._only_callbacks
            timers, events = self.loop._scheduled, world._heap
            may_wait = bool(
                (timers and timers[0]._when <= self.loop.time() + world.stall)
                or (events and events[0].when <= world.now + world.stall)
            )
            if len(actors) > 1 or may_wait:
                index = world.choose_step(self.stream, actors, may_wait)
            elif world.strategy.follows:
                world.strategy.only(self.stream, actors[0])
            if index >= len(actors):
                world.let_time_pass(self._first_timer())
                index = 0
        handle = self._take(index)
        self._stepped = task_of(handle)
        return handle

    def _fill(self) -> None:
        """Take those who may be next to the head: the steps of tasks up to the next plain callback.

        No step overtakes a plain callback: what a future calls when it is done (a transport's bookkeeping, say) comes before the step of
        the task that waits for it, and code relies on that.
        """
        for _ in range(super().__len__()):
            task = task_of(self[0])
            if task is None:
                return
            self._head.append(super().popleft())
            self._names.append(self._actors.get(task) or self.actor(task))

    def _take(self, index: int) -> Any:
        if not self._head:
            return super().popleft()
        del self._names[index]
        return self._head.pop(index)

    def actor(self, task: Any) -> Actor:
        """The name and number of a task."""
        found = self._actors.get(task)
        if found is None:
            self._count += 1
            # asyncio numbers the tasks of the whole interpreter: that would be another name in each run.
            name = str(task.get_name())
            if name.startswith("Task-") and name[5:].isdigit():
                coro = task.get_coro()
                name = f"{getattr(coro, '__qualname__', 'task')}-{self._count}"
            found = self._actors[task] = Actor(self._count, name)
        return found

    def _first_timer(self) -> float | None:
        when = min((timer._when for timer in self.loop._scheduled if not timer._cancelled), default=None)
        return self.process.host.clock.world_time_at(when) if when is not None else None

    def _tell(self) -> None:
        """The world hears of the step that has ended by now."""
        task, self._stepped = self._stepped, None
        if task is None:
            return
        world, process = self.world, self.process
        if world.detailed:
            actor = self.actor(task)
            site = where_suspended(task.get_coro())
            text = "waits" if not task.done() else "is cancelled" if task.cancelled() else "ends"
            if task.done() and not task.cancelled() and task._exception is not None:
                text = f"ends with {task._exception!r}"
            world.note("step", text, host=process.host.name, actor=f"{process.name}:{actor.name}", site=site)
        world.stepped(process, None)
        if world.over or process.dead:
            world.before_call(world.thread)

    def explain(self) -> list[str]:
        """Where each task of the loop stands."""
        lines: list[str] = []
        tasks = sorted(asyncio.all_tasks(self.loop), key=lambda task: self.actor(task).id)
        for task in tasks:
            own, innermost = sites_of(task.get_coro())
            site = own or innermost
            line = who(self.actor(task).name, site, "asyncio")
            if getattr(task, "_fut_waiter", None) is None:
                lines.append(f"{line} is ready: it goes on when it is its turn")
                continue
            inside = f" in {innermost[2]}" if innermost is not None and innermost is not own else ""
            lines.append(f"{line} waits on something of asyncio's{inside}")
        return lines


def task_of(handle: Any) -> Any:
    """The asyncio task of which this handle is a step, or None."""
    owner: Any = getattr(handle._callback, "__self__", None)
    return owner if isinstance(owner, asyncio.Task) else None  # pyright: ignore[reportUnknownVariableType]  # a task of whatever


class _InOrder(WeakKeyDictionary[Any, None]):
    """The async generators that a loop closes at its end: as a set in the order in which they began, not in that of their addresses."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)


def adopt(loop: Any) -> None:
    """A loop was made on a thread of a world: its ready queue asks the world from now on."""
    world = here.world
    if (
        world is not None
        and isinstance(getattr(loop, "_ready", None), deque)
        and not isinstance(loop._ready, ReadyQueue)
    ):
        loop._ready = ReadyQueue(loop, world, loop._ready)
        if isinstance(getattr(loop, "_asyncgens", None), WeakSet):
            loop._asyncgens = _InOrder()
