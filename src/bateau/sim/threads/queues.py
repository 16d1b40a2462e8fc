"""``queue.SimpleQueue`` in a world: C's own blocks the OS thread, which would stop the world."""

from __future__ import annotations

import sys
from collections import deque
from queue import Empty
from types import GenericAlias
from typing import TYPE_CHECKING, Any

from ..sites import Site, running_at
from ..thread import SimThread, here
from .waits import Wait

if TYPE_CHECKING:
    from ..world import World

from _queue import SimpleQueue as _Real  # C's, also while a door stands in its place

# Executors put into their queue when they are collected, in the middle of anything: no moment to let others run.
_COLLECTED = "weakref_cb"


class _Meta(type):
    """What is a queue of either kind is an instance of the class."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Real) or type.__instancecheck__(cls, instance)


class Content:
    """A queue in one world, or in one process of it."""

    __slots__ = ("items", "waiters")

    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self.waiters: dict[SimThread, None] = {}


class SimpleQueue(metaclass=_Meta):
    """An unbounded queue without tasks; at home where it was made, as a lock is (see ``locks``)."""

    def __class_getitem__(cls, item: Any) -> GenericAlias:
        return GenericAlias(cls, item)

    def __init__(self) -> None:
        self._home = here.world
        self._content = Content()
        self._made_at = running_at()
        self._outside: Any = None

    @classmethod
    def adopting(cls, real: Any) -> SimpleQueue:
        """One that is ``real`` outside worlds."""
        made = cls()
        made._outside = real
        made._home = None
        return made

    def _real(self) -> Any:
        if self._outside is None:
            self._outside = _Real()
        return self._outside

    def _in(self, world: World) -> Content:
        if world is self._home:
            return self._content
        contents: dict[SimpleQueue, Content] = world.thread.process.parts.setdefault("queues", {})
        content = contents.get(self)
        if content is None:
            content = contents[self] = Content()
        return content

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Never blocks, and may be called while the collector runs."""
        world = here.world
        if world is None:
            self._real().put(item)
            return
        if sys._getframe(1).f_code.co_name != _COLLECTED and not world.closed:
            world.point()
        content = self._in(world)
        content.items.append(item)
        for waiter in tuple(content.waiters):
            waiter.unblock()

    put_nowait = put

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Raises ``queue.Empty`` where nothing came in time (``timeout`` in seconds of the host's clock)."""
        world = here.world
        if world is None:
            return self._real().get(block, timeout)
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        world.point()
        content = self._in(world)
        if not content.items and (not block or timeout == 0 or not self._wait(world, content, timeout)):
            raise Empty
        return content.items.popleft()

    def _wait(self, world: World, content: Content, timeout: float | None) -> bool:
        thread = world.thread
        deadline = None if timeout is None else thread.process.host.clock.world_time_after(timeout)
        what = QueueWait(self._made_at, deadline is not None)
        while not content.items:
            content.waiters[thread] = None
            try:
                in_time = world.block(what, deadline)
            finally:
                content.waiters.pop(thread, None)
            if not in_time and not content.items:
                return False
        return True

    def get_nowait(self) -> Any:
        """Raises ``queue.Empty``."""
        return self.get(block=False)

    def empty(self) -> bool:
        """Whether nothing is in it."""
        return self.qsize() == 0

    def qsize(self) -> int:
        """How much is in it."""
        world = here.world
        if world is None:
            return int(self._real().qsize())
        world.point()
        return len(self._in(world).items)


class QueueWait(Wait):
    """Waiting for an item."""

    __slots__ = ("made_at",)

    def __init__(self, made_at: Site | None, timed: bool) -> None:
        super().__init__(timed)
        self.made_at = made_at

    def __str__(self) -> str:
        where = f" made at {self.made_at[0]}:{self.made_at[1]}" if self.made_at is not None else ""
        return f"an item of the SimpleQueue{where}"
