"""The simulated engine as an asyncio event loop: the native one's, with a selector over simulated descriptors and no self-pipe."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from ..runtimes.native_asyncio import AsyncioSide, NativeLoop
from .fds import IN, OUT, Poller

if TYPE_CHECKING:
    from .runtime import SimEngine


class _Fds(Poller):
    """What asyncio watches. When something is ready, the engine's own poll ends."""

    def __init__(self, engine: SimEngine) -> None:
        super().__init__(engine.process)
        self.engine = engine

    def became_ready(self) -> None:
        self.engine.simulated.wake()  # also when it is not waiting yet: this may come in the middle of a turn


class SimSelector(selectors.BaseSelector):
    """asyncio's selector; waiting on it turns the engine, as ``_TurningSelector`` does."""

    def __init__(self, side: SimAsyncioSide) -> None:
        self.side = side
        self.fds = _Fds(cast("SimEngine", side.engine))
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        self.fds.register(fd, _mask(events))
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = self.get_key(fileobj)
        del self._keys[key.fd]
        if key.fd in self.fds.registered:  # else it was closed under us
            self.fds.unregister(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self.get_key(fileobj)
        self.fds.modify(key.fd, _mask(events))
        key = self._keys[key.fd] = selectors.SelectorKey(fileobj, key.fd, events, data)
        return key

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self._keys.get(fd)
        if key is None:  # closed meanwhile: asyncio still knows it by the object
            key = next((each for each in self._keys.values() if each.fileobj is fileobj), None)
        if key is None:
            raise KeyError(f"{fileobj!r} is not registered")
        return key

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.side.turn_and_poll(0 if self.fds.collect() else timeout)
        found: list[tuple[selectors.SelectorKey, int]] = []
        for fd, mask in self.fds.collect():
            key = self._keys[fd]
            events = (selectors.EVENT_READ if mask & ~OUT else 0) | (selectors.EVENT_WRITE if mask & ~IN else 0)
            if events & key.events:
                found.append((key, events & key.events))
        return found

    def close(self) -> None:
        self.fds.close()
        self._keys.clear()


class SimLoop(NativeLoop):
    """The running asyncio loop of a simulated program."""

    def time(self) -> float:
        # What the door of ``time.monotonic`` does, which the loop's own method calls: several times for each callback.
        engine: Any = self.bateau_domain
        engine.world.look()
        return float(engine.clock.monotonic())

    def _make_self_pipe(self) -> None:
        """It is woken by the world, not by a pipe."""
        self._ssock = self._csock = None

    def _close_self_pipe(self) -> None:
        """There is none."""

    def _write_to_self(self) -> None:
        self.bateau_domain.reactor.wake()


class SimAsyncioSide(AsyncioSide):
    """See the module's head."""

    own_fds = 0

    def make_selector(self) -> selectors.BaseSelector:
        return SimSelector(self)

    def make_loop(self) -> NativeLoop:
        return SimLoop(self)

    def own_fd(self) -> int:
        return -1

    def discard(self) -> list[Any]:
        """Its process was killed: forget everything without running any of it. Returns the coroutines of asyncio's own tasks."""
        loop: Any = self.loop
        coros: list[Any] = []
        for task in asyncio.all_tasks(loop):
            left: Any = task
            left._log_destroy_pending = False
            coros.append(task.get_coro())
        self.leave()
        loop._ready.clear()
        loop._scheduled.clear()
        loop._selector.close()
        loop._closed = True
        return coros


def _mask(events: int) -> int:
    return (IN if events & selectors.EVENT_READ else 0) | (OUT if events & selectors.EVENT_WRITE else 0)
