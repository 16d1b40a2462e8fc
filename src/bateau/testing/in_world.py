"""A test inside a simulated world: its fixtures, which are set up anew in each run, and the scenario that the simulator calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any

import pytest

from ..kernel.cancellation import CancelScope
from ..kernel.current import current_task
from ..kernel.host import Host
from .claiming import is_async
from .fixtures import LiveFixture
from .outcomes import MAGIC, single_outcome
from .running import FixtureMisuse, Guard, overdue

_ENDED = object()


def _world_ended() -> tuple[type[BaseException], ...]:
    """What comes out of a wait, or is thrown into it, when the world has ended: nothing can be awaited any more."""
    from ..sim.thread import Killed

    return GeneratorExit, Killed


class Deferred:
    """Stands for a fixture until the simulated run, in which it is set up."""

    def __init__(
        self, name: str, fn: Callable[..., Any], kwargs: Mapping[str, Any], seconds: float | None = None
    ) -> None:
        self.name = name
        self.fn = fn
        self.kwargs = kwargs
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"<fixture {self.name!r}, which is set up inside the simulated run; ask for it as an argument>"


def the_world() -> Deferred:
    """Stands for the world of the run."""

    def world() -> Any:
        from ..sim import current_world

        return current_world()

    return Deferred("world", world, {})


class _Fixtures:
    """The fixtures of one run."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._values: dict[int, Any] = {}
        # How to tear down what was set up, in the order of setting up.
        self._undo: list[Callable[[], Any]] = []
        self.live: list[LiveFixture] = []

    async def value_of(self, given: Any) -> Any:
        """The value of a fixture, set up at its first use."""
        if not isinstance(given, Deferred):
            return given
        if id(given) not in self._values:
            kwargs = {name: await self.value_of(value) for name, value in given.kwargs.items()}
            self._values[id(given)] = await self._set_up(given, kwargs)
        return self._values[id(given)]

    async def _set_up(self, given: Deferred, kwargs: dict[str, Any]) -> Any:
        if is_async(given.fn):
            live = LiveFixture(given.name, given.fn, kwargs, seconds=given.seconds)
            value = await live.start()
            for var, set_to in live.changed.items():
                var.set(set_to)
            self._undo.append(live.stop)
            self.live.append(live)
            return value
        made = given.fn(**kwargs)
        if not inspect.isgenerator(made):
            return made
        value = next(made)

        def tear_down() -> None:
            if next(made, _ENDED) is not _ENDED:
                raise FixtureMisuse(f"fixture {given.name!r} has more than one `yield`")

        self._undo.append(tear_down)
        return value

    async def tear_down(self) -> list[BaseException]:
        """The last one first, each of them whatever the others raise; what they raised."""
        errors: list[BaseException] = []
        with CancelScope(shield=True):
            while self._undo:
                try:
                    done = self._undo.pop()()
                    if inspect.isawaitable(done):
                        await done
                except _world_ended():
                    raise
                except BaseException as error:
                    errors.append(error)
        return errors


class Scenario:
    """The test of ``item`` as the simulator runs it, again and again. ``function()`` is what it calls."""

    def __init__(self, item: Any, call: Callable[..., Any], kwargs: dict[str, Any], seconds: float | None) -> None:
        self.item = item
        self.call = call
        self.kwargs = kwargs
        self.seconds = seconds
        # What ``pytest.skip()`` raised in a run: not a failure to be shrunk, but the end of the exploration.
        self._outcome: BaseException | None = None

    def raise_outcome(self) -> None:
        """End the exploration, if a run has skipped the test."""
        if self._outcome is not None:
            raise self._outcome

    def function(self) -> Callable[..., Any]:
        """An async function if the test is one. Fails the test where a plain one asks for what takes an async one."""
        if self._is_async():

            async def run() -> None:
                with self:
                    await self._run()

            made: Any = run
        else:
            made = self._plain()
        made.__name__ = self.item.originalname
        test: Callable[..., Any] = made
        return test

    def prepare(self, world: Any) -> None:
        """Called with each world before the test: the time of a plain function is the world's to watch."""
        if self.seconds is not None and not self._is_async():
            world.at(self.seconds, self._overdue, world)

    def _overdue(self, world: Any) -> None:
        assert self.seconds is not None
        world.end_with(overdue(f"test {self.item.name!r}", self.seconds, "virtual time", world.explain()))

    def _is_async(self) -> bool:
        return inspect.iscoroutinefunction(getattr(self.call, "func", self.call))

    def _plain(self) -> Callable[[], None]:
        for value in self.item.funcargs.values():
            if isinstance(value, Deferred) and value.name != "world":
                pytest.fail(
                    f"{self.item.nodeid} is a plain function and uses the async fixture {value.name!r}: in a simulated world that is "
                    "set up inside each run, which takes an async test",
                    pytrace=False,
                )

        def run() -> None:
            with self:
                given = self.kwargs.items()
                self.call(**{name: value.fn() if isinstance(value, Deferred) else value for name, value in given})

        return run

    async def _run(self) -> None:
        fixtures = _Fixtures(current_task().host)
        guard = Guard(f"test {self.item.name!r}", self.seconds)
        failure: BaseException | None = None
        try:
            # Also those that the test does not name: autouse, usefixtures.
            for value in self.item.funcargs.values():
                await fixtures.value_of(value)
            kwargs = {name: await fixtures.value_of(value) for name, value in self.kwargs.items()}
            for live in fixtures.live:
                live.watch(guard)
            await guard.run(partial(self.call, **kwargs))
        except _world_ended():
            raise  # the world has ended: as after a power cut, nothing is torn down
        except BaseException as error:
            failure = error
        errors = await fixtures.tear_down()
        if failure is not None:
            errors.insert(0, failure)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise BaseExceptionGroup("errors of the test and its fixtures", errors)

    def __enter__(self) -> None:
        """A run begins."""

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        outcome = single_outcome(exc) if exc is not None else None
        if not isinstance(outcome, MAGIC):
            return False
        self._outcome = outcome
        return True
