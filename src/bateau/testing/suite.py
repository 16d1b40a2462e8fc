"""What the pytest plugin does with tests of ours: loops for them, their fixtures as tasks, and the run itself.

A test that uses only fixtures of its own runs on a loop of its own, which ends with it. Fixtures that outlive a test need a loop that
does: all those of one runtime share one, the *long* loop, and so do the tests that use them. In a simulated world nothing outlives a
run, so there the async fixtures are only noted (``in_world.Deferred``) and set up anew inside each run.
"""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, NamedTuple, cast

import pytest
from _pytest.fixtures import resolve_fixture_function

from ..kernel.current import current_task, current_task_or_none
from ..kernel.errors import Cancelled
from ..runtimes import registry
from .claiming import is_async
from .fixtures import LiveFixture
from .in_world import Deferred, the_world
from .leaks import Snapshot, make_process_globals
from .marks import PIN, RUNTIMES, SIMULATE
from .options import Settings
from .outcomes import single_outcome
from .running import FixtureEnded, FixtureMisuse, Guard, Loop
from .tracebacks import trimmed

_MISSING = object()
_TOO_LATE = (
    "outlives the test and was asked for by request.getfixturevalue(), after async fixtures of the test itself had been set up on a "
    "loop that ends with it; name it as an argument or in usefixtures"
)


class ItemState:
    """What belongs to one run of one test."""

    def __init__(self) -> None:
        self.loop: Loop | None = None
        # Whether it runs on the long loop of its runtime.
        self.long = False
        # For the report: the story of a simulated failure, and what was covered.
        self.sections: list[tuple[str, str]] = []
        self.covered: dict[str, Any] | None = None


_STATE = pytest.StashKey[ItemState]()


class _Place(NamedTuple):
    """Where a fixture lives."""

    runtime: str
    loop: Loop | None
    request: Any


class Suite:
    """The plugin's side that works; one for each run of pytest."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.live: dict[Any, LiveFixture] = {}
        # The runtime and loop of each fixture that was set up (also of those only noted), and the request that did it.
        self._where: dict[Any, _Place] = {}
        self._long: dict[str, Loop] = {}
        # Whether a test shares the long loop without a fixture on it: then it stays open to the end.
        self._shared = False
        self._current: Any = None
        self._check: Any = None
        self._leaks_checked = False

    # -- tests ---------------------------------------------------------------------------------------------------------

    def take(self, item: Any, fn: Any) -> None:
        """Make ``item`` run its async function ``fn`` through us. What other plugins see of it from now on is a plain function."""
        runtime = item.callspec.params["bateau_runtime"]
        if not inspect.iscoroutinefunction(fn) and runtime != "sim":
            return  # a plain test that uses async fixtures
        if hasattr(item.obj, "hypothesis"):
            handle = item.obj.hypothesis
            if not hasattr(fn, "__bateau_inner__"):
                handle.inner_test = self._through(fn, lambda: self._current)
            return
        item.obj = self._through(item.obj, lambda: item)

    def _through(self, fn: Any, item_of: Callable[[], Any]) -> Any:
        @wraps(fn)
        def test(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            return self.run_test(item_of(), fn, args, kwargs)

        marked: Any = test
        marked.__bateau_inner__ = fn
        return test

    @contextmanager
    def calling(self, item: Any) -> Generator[None]:
        """``item`` is being called (hypothesis has one function for all its items)."""
        outer, self._current = self._current, item
        try:
            yield
        finally:
            self._current = outer

    def run_test(self, item: Any, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the test's function to its end; what it raises is raised with the user's frames only."""
        __tracebackhide__ = True
        call = partial(fn, *args)
        error: BaseException | None = None
        value: Any = None
        try:
            if self.runtime_of(item) == "sim":
                from .simulated import run_test

                run_test(self, item, call, kwargs)
                return None
            value = self._run_on_loop(item, partial(call, **kwargs))
        except BaseException as raised:
            error = raised if self.settings.full_trace else trimmed(single_outcome(raised))
        if error is not None:
            try:
                raise error
            finally:
                del error  # it holds this frame
        return value

    def _run_on_loop(self, item: Any, call: Callable[[], Any]) -> Any:
        state = self.state(item)
        own_for_the_call = state.loop is None and not self._needs_long(item)
        loop = self.loop_of(item)
        guard = Guard(f"test {item.name!r}", self.settings.timeout_of(item))
        used = [self.live[each] for each in item._request._fixture_defs.values() if each in self.live]

        for live in used:
            live.watch(guard)

        async def test() -> Any:
            current_task().name = f"test {item.name}"
            return await guard.run(call)

        try:
            value = loop.run(test)
            for live in used:
                broken = live.take_error()
                if broken is not None:
                    broken.add_note(f"this came from fixture {live.name!r} at the end of {guard.what}, which uses it")
                    raise broken
            return value
        finally:
            for live in used:
                live.watch(None)
            if own_for_the_call:
                self._close_own(item)

    def runtime_of(self, item: Any) -> str:
        """The name of the runtime that ``item`` runs on."""
        return cast("str", item.callspec.params["bateau_runtime"])

    def state(self, item: Any) -> ItemState:
        """What belongs to this run of ``item``."""
        state: ItemState | None = item.stash.get(_STATE, None)
        if state is None:
            state = item.stash[_STATE] = ItemState()
        return state

    # -- loops ---------------------------------------------------------------------------------------------------------

    def loop_of(self, item: Any) -> Loop:
        """The loop on which ``item`` and its own fixtures run, opened if need be."""
        state = self.state(item)
        if state.long or (state.loop is None and self._needs_long(item)):
            state.long = True
            return self._long_loop(self.runtime_of(item))
        if state.loop is None:
            state.loop = Loop(registry.get(self.runtime_of(item)))
            stack = item.session._setupstate
            if stack.is_node_active(item):
                stack.addfinalizer(partial(self._close_own, item), item)
        return state.loop

    def _needs_long(self, item: Any) -> bool:
        """Whether something on the loop of ``item`` outlives it: an async fixture, or the loop that pytest-asyncio would share."""
        for name, defs in item._fixtureinfo.name2fixturedefs.items():
            if name in item.fixturenames and is_async(defs[-1].func) and _scope_of(item, defs[-1]) != "function":
                return True
        mark = item.get_closest_marker("asyncio")
        scope = mark.kwargs.get("loop_scope", mark.kwargs.get("scope")) if mark is not None else None
        if scope is None and item.config.pluginmanager.hasplugin("asyncio") and not self.marked_as_ours(item):
            scope = item.config.getini("asyncio_default_test_loop_scope")
        if scope in (None, "function"):
            return False
        self._shared = True
        return True

    @staticmethod
    def marked_as_ours(item: Any) -> bool:
        """Whether the test itself says that bateau runs it: then it is no other plugin's that was taken over."""
        return any(item.get_closest_marker(name) is not None for name in (RUNTIMES, SIMULATE, PIN))

    def _long_loop(self, runtime: str) -> Loop:
        loop = self._long.get(runtime)
        if loop is None:
            loop = self._long[runtime] = Loop(registry.get(runtime))
        return loop

    def _close_own(self, item: Any) -> None:
        state = self.state(item)
        loop, state.loop = state.loop, None
        state.long = False
        if loop is not None:
            if self._check is not None:
                self._check.loop_ends(loop)
            loop.close()

    def close(self) -> None:
        """The run of pytest is over."""
        for runtime in tuple(self._long):
            self._long.pop(runtime).close()

    # -- fixtures ------------------------------------------------------------------------------------------------------

    @contextmanager
    def setting_up(self, fixturedef: Any, request: Any, *, ours: bool) -> Generator[None]:
        """While pytest sets up a fixture: where it is ours to do, its function is replaced by one that does it."""
        stand_in = self._stand_in(fixturedef, request) if ours else None
        check = self._check if request.scope != "function" and self._check is not None else None
        before = Snapshot() if check is not None else None
        real = fixturedef.func
        if stand_in is not None:
            fixturedef.func = stand_in
        try:
            yield
        finally:
            fixturedef.func = real
            if check is not None:
                check.snapshot.allow(before)

    def _stand_in(self, fixturedef: Any, request: Any) -> Callable[..., Any] | None:
        """What to set up the fixture with, or None: pytest can do it."""
        item = request._pyfuncitem
        fn = resolve_fixture_function(fixturedef, request)
        if fixturedef.argname in {"bateau_runtime", "world"}:
            return None
        if self.runtime_of(item) == "sim":
            given = [request.getfixturevalue(name) for name in fixturedef.argnames]
            if not is_async(fn) and not any(isinstance(value, Deferred) for value in given):
                return None
            self._lives_on("sim", None, fixturedef, request)

            def note(**kwargs: Any) -> Deferred:
                return Deferred(fixturedef.argname, fn, kwargs, self.settings.timeout_of(item))

            return note
        if not is_async(fn):
            return None

        def set_up(**kwargs: Any) -> Any:
            __tracebackhide__ = True
            return self._set_up(fixturedef, request, fn, kwargs)

        return set_up

    def _set_up(self, fixturedef: Any, request: Any, fn: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
        __tracebackhide__ = True
        item, name = request._pyfuncitem, fixturedef.argname
        if current_task_or_none() is not None:
            pytest.fail(
                f"request.getfixturevalue({name!r}) inside a running async test or fixture: {name!r} is async itself, and pytest "
                "can't wait for it there; ask for it as an argument",
                pytrace=False,
            )
        loop = self._loop_for(item, name, request)
        self._lives_on(self.runtime_of(item), loop, fixturedef, request)
        live = LiveFixture(name, fn, kwargs, seconds=self.settings.timeout_of(item))
        value: Any = None
        error: BaseException | None = None
        try:
            value = loop.run(lambda: live.start(loop.add))
        except BaseException as raised:
            error = self._shown(raised, f"fixture {name!r} was cancelled while it was being set up")
        if error is not None:
            if live.task is not None:
                loop.fixtures.pop(live.task, None)
            self._unused(loop)
            raise error
        self.live[fixturedef] = live
        restore = _apply(live.changed)
        request.addfinalizer(partial(self._tear_down, fixturedef, request, loop, live, restore))
        return value

    def _lives_on(self, runtime: str, loop: Loop | None, fixturedef: Any, request: Any) -> None:
        self._where[fixturedef] = _Place(runtime, loop, request)
        request.addfinalizer(partial(self._where.pop, fixturedef, None))

    def _loop_for(self, item: Any, name: str, request: Any) -> Loop:
        if request.scope == "function":
            return self.loop_of(item)
        state = self.state(item)
        if state.loop is not None:
            pytest.fail(f"fixture {name!r} {_TOO_LATE}", pytrace=False)
        state.long = True
        return self._long_loop(self.runtime_of(item))

    def _tear_down(
        self, fixturedef: Any, request: Any, loop: Loop, live: LiveFixture, restore: Callable[[], None]
    ) -> None:
        __tracebackhide__ = True
        restore()
        self.live.pop(fixturedef, None)
        error: BaseException | None = None
        try:
            loop.run(live.stop)
        except BaseException as raised:
            error = self._shown(raised, f"fixture {live.name!r} was cancelled while it was being torn down")
        finally:
            if live.task is not None:
                loop.fixtures.pop(live.task, None)
            self._unused(loop)
        if error is not None:
            raise error

    def _shown(self, error: BaseException, cancelled: str) -> BaseException:
        """What pytest is to see of a fixture's error: it knows only ``Exception`` and its own."""
        if isinstance(error, Cancelled):
            wrapped = FixtureEnded(f"{cancelled}: {error.reason}")
            wrapped.__cause__ = error
            error = wrapped
        if isinstance(error, FixtureMisuse):
            return pytest.fail.Exception(str(error), pytrace=False)
        return error if self.settings.full_trace else trimmed(single_outcome(error))

    def _unused(self, loop: Loop) -> None:
        """A fixture on ``loop`` has ended: a long loop ends with the last of them."""
        for runtime, each in tuple(self._long.items()):
            if each is loop and not loop.fixtures and not self._shared:
                self._long.pop(runtime).close()

    def before_setup(self, item: Any) -> None:
        """What outlives a test is set up anew where the next test that uses it runs on another runtime."""
        runtime = self.runtime_of(item)
        for defs in item._fixtureinfo.name2fixturedefs.values():
            for fixturedef in defs:
                place = self._where.get(fixturedef)
                if place is not None and place.runtime != runtime:
                    fixturedef.finish(request=place.request)

    def check_fixtures(self, item: Any, *, ours: bool) -> None:
        """Refuse what can't work: a fixture that lives on another loop than the test, its own or another plugin's."""
        request = getattr(item, "_request", None)
        for fixturedef in getattr(request, "_fixture_defs", {}).values():
            why = self._cannot_use(item, fixturedef) if ours else self._theirs_cannot_use(fixturedef)
            if why is not None:
                pytest.fail(f"fixture {fixturedef.argname!r} {why}", pytrace=False)

    def _theirs_cannot_use(self, fixturedef: Any) -> str | None:
        if fixturedef not in self.live:
            return None
        return (
            "was set up by bateau, on its own event loop, for an earlier test; a test that another plugin runs can't use it: give "
            "the two a fixture each"
        )

    def _cannot_use(self, item: Any, fixturedef: Any) -> str | None:
        place, runtime = self._where.get(fixturedef), self.runtime_of(item)
        if place is None:
            if not is_async(fixturedef.func):
                return None
            return (
                "was set up by another plugin, on its own event loop, for an earlier test; a test that bateau runs can't use it: "
                "give the two a fixture each"
            )
        if place.runtime != runtime:
            return (
                f"lives on {place.runtime}, and this test on {runtime}: it was asked for by request.getfixturevalue(), too late to be "
                "set up anew; name it as an argument or in usefixtures"
            )
        if place.loop is not None and place.loop is not self.loop_of(item):
            return _TOO_LATE
        return None

    def world(self) -> Deferred:
        """The value of the fixture ``world``."""
        return the_world()

    # -- leaks and reports ---------------------------------------------------------------------------------------------

    def watch_leaks(self) -> None:
        """Begin to watch a test for leaks."""
        from .leak_check import LeakCheck

        if not self._leaks_checked:
            self._leaks_checked = True
            make_process_globals()
        self._check = LeakCheck(self._long)

    def leaks_left(self) -> list[str]:
        """End that watch; a line for each leak."""
        check, self._check = self._check, None
        return cast("list[str]", check.finish())

    def add_to_report(self, item: Any, report: Any) -> None:
        """Put the story of a simulated failure below its traceback, and what was covered where the summary finds it."""
        state: ItemState | None = item.stash.get(_STATE, None)
        if state is None or report.when != "call":
            return
        if state.covered is not None:
            report.bateau_covered, state.covered = state.covered, None
        if report.failed:
            for title, text in state.sections:
                if hasattr(report.longrepr, "addsection"):
                    report.longrepr.addsection(title, text)
                else:
                    report.sections.append((title, text))
        state.sections.clear()


def _scope_of(item: Any, fixturedef: Any) -> str:
    callspec = item.callspec
    if fixturedef.argname in callspec.params:
        return cast("str", callspec._arg2scope[fixturedef.argname].value)
    return cast("str", fixturedef.scope)


def _apply(changed: dict[contextvars.ContextVar[Any], Any]) -> Callable[[], None]:
    """Set these variables here, so that the test and later fixtures see them. Returns the undoing."""
    tokens = [(var, value, var.set(value)) for var, value in changed.items()]

    def restore() -> None:
        for var, value, token in reversed(tokens):
            if var.get(_MISSING) is value:  # else a later fixture has set it, and that is still there
                var.reset(token)

    return restore
