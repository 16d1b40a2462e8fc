"""Stages that keep only the newest item: ``debounce`` and ``sample``.

What is before them runs freely, at its own pace and while the consumer is busy, because only the newest counts: held back by
demand, a source would give what was new long ago.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from ..kernel.cancellation import CancelScope
from ..kernel.current import current_host, current_task
from ..kernel.operation import Checkpoint
from ..sync import Event
from .flow import END, Failure, Flow, Need, of_the_cut
from .handoff import stopped
from .interior import Interior
from .stage import Stage

_NONE: Final[Any] = object()


class Newest:
    """The newest item of a chain that runs in a task of its own.

    Invariant: ``halted`` is set while ``failure`` waits to be raised, and from the end on; ``news`` while there is something to
    look at: an item, or a halt.
    """

    __slots__ = ("_go", "came_at", "ended", "failure", "halted", "item", "label", "news")

    def __init__(self, label: str) -> None:
        self.label = label
        self.item: Any = _NONE
        # When it came, on the program's clock.
        self.came_at = 0.0
        self.failure: Failure | None = None
        self.ended = False
        self.news = Event(name=f"an item for {label}")
        self.halted = Event(name=f"the end of what comes before {label}")
        self._go = Event(name=f"the consumer of {label}")

    async def watch(self, flow: Flow[Any]) -> None:
        """Drive ``flow`` to its end. A failure waits for the consumer to take it."""
        now = current_host().now
        try:
            while True:
                item = await flow.next()
                if item is END:
                    return
                if isinstance(item, Failure):
                    await self._halt(item)
                    continue
                self.item = item
                self.came_at = now()
                self.news.set()
                await Checkpoint()
        except BaseException as error:
            if isinstance(error, Exception) and not of_the_cut(current_task(), error):
                await self._halt(Failure(error))
                return
            if self.failure is None:
                self.failure = Failure(stopped(self.label))
            raise
        finally:
            flow.close()
            self.ended = True
            self.news.set()
            self.halted.set()

    async def _halt(self, failure: Failure) -> None:
        self.failure = failure
        self._go.clear()
        self.news.set()
        self.halted.set()
        await self._go.wait()

    def take(self) -> Any:
        """The newest item, or ``_NONE``; it is not there any more."""
        item, self.item = self.item, _NONE
        if not self.halted.is_set():
            self.news.clear()
        return item

    def take_failure(self) -> Failure | None:
        """The failure that halted it, if one did; it goes on then."""
        failure, self.failure = self.failure, None
        if failure is not None and not self.ended:
            self.halted.clear()
            self.news.clear()
            self._go.set()
        return failure


class KeepsNewest(Stage):
    """What ``Debounce`` and ``Sample`` share: they differ in what they wait for before they give the newest item."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def background(self, resumable: bool) -> bool:
        return True

    def moment(self, newest: Newest) -> Callable[[], Awaitable[bool]]:
        """Makes the wait for the next moment at which the newest item is due. True: it has come."""
        raise NotImplementedError

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        newest = Newest(f".{self.describe()}({self.seconds:g})")
        interior.spawn(newest.watch, Flow(source), name=newest.label)
        need, moment = Need(), self.moment(newest)
        while True:
            yield need.of(moment)
            if need.error is not None:
                yield Failure(need.error)
                continue
            halted = newest.halted.is_set()
            if need.value or halted:
                item = newest.take()
                if item is not _NONE:
                    yield item
            if halted:
                failure = newest.take_failure()
                if failure is not None:
                    yield failure
                elif newest.ended:
                    return


class Debounce(KeepsNewest):
    """The items after which nothing came for ``seconds``, and the last one."""

    __slots__ = ()

    def moment(self, newest: Newest) -> Callable[[], Awaitable[bool]]:
        async def quiet() -> bool:
            await newest.news.wait()
            while not newest.halted.is_set():
                due = newest.came_at + self.seconds
                if current_host().now() >= due:
                    return True
                with CancelScope(at=due):
                    await newest.halted.wait()
            return True

        return quiet


class Sample(KeepsNewest):
    """The newest item at each tick of a clock, and the last one; a tick without a new item gives none."""

    __slots__ = ()

    def moment(self, newest: Newest) -> Callable[[], Awaitable[bool]]:
        due = current_host().now() + self.seconds

        async def tick() -> bool:
            nonlocal due
            with CancelScope(at=due):
                await newest.halted.wait()
            now = current_host().now()
            if now < due:
                return False
            # Ticks that nobody waited for are gone; the rhythm stays.
            due += self.seconds * (1 + (now - due) // self.seconds)
            return True

        return tick
