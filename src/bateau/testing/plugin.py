"""The pytest plugin: hooks that find the tests that are bateau's (see ``claiming``) and hand them over to ``suite``.

This module is imported at the start of every pytest in the environment, so it imports little; ``suite`` comes with the first test of ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.scope import Scope

from . import options
from .claiming import EXPLICIT, automatic, claim, inner, is_async, nearest, refuse
from .marks import PIN, SIMULATE
from .options import Settings

if TYPE_CHECKING:
    from .suite import Suite

_SUITE = pytest.StashKey["Suite"]()
_OURS = pytest.StashKey[bool]()
_SESSION = Scope.Session

pytest_addoption = options.pytest_addoption


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known, and refuse options that make no sense before anything runs."""
    options.configure(config)
    other = automatic(config)
    if other is not None and options.settings(config).auto:
        raise pytest.UsageError(
            f"bateau_mode = auto and the automatic mode of {other}'s plugin: both want every async test; turn one of them off"
        )
    config.pluginmanager.register(_Covered(config), "bateau-covered")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Before output is captured, and before anything has been hashed that matters: see ``bateau_pin_hash_seed``."""
    options.pin_hash_seed(early_config)
    return (yield)


def suite_of(config: pytest.Config) -> Suite:
    """The one suite of this run."""
    if _SUITE not in config.stash:
        from .suite import Suite

        config.stash[_SUITE] = Suite(options.settings(config))
    return config.stash[_SUITE]


def is_ours(item: Any) -> bool:
    """Whether the collected ``item`` is run by bateau."""
    return bool(item.stash.get(_OURS, False))


# -- collection ----------------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of ours gets the parameter ``bateau_runtime``; one runtime does not show in its name."""
    names = claim(metafunc)
    if names is None:
        return
    if not hasattr(pytest, "HIDDEN_PARAM"):
        refuse(
            metafunc.definition,
            f"is run by bateau, whose plugin needs pytest 8.4 or later; this is {pytest.__version__}",
        )
    if "bateau_runtime" not in metafunc.fixturenames:
        metafunc.fixturenames.insert(0, "bateau_runtime")
    given = options.settings(metafunc.config)
    params = [pytest.param(name, marks=_skipped(name, given, metafunc)) for name in names]
    metafunc.parametrize(
        "bateau_runtime",
        params,
        indirect=True,
        scope=_grouping(metafunc, names),
        ids=list(names) if len(names) > 1 else [pytest.HIDDEN_PARAM],
    )


def _skipped(name: str, given: Settings, metafunc: pytest.Metafunc) -> tuple[pytest.MarkDecorator, ...]:
    """Why this test is not run on this runtime now, as a mark."""
    explored = {SIMULATE, PIN} & nearest(metafunc.definition, *EXPLICIT)
    if given.chosen is not None and name not in given.chosen and not (name == "sim" and explored):
        return (pytest.mark.skip(reason=f"it is for {name}, and --bateau-runtime says {','.join(given.chosen)}"),)
    why = options.why_unavailable(name)
    return (pytest.mark.skip(reason=why),) if why is not None else ()


def _grouping(metafunc: Any, names: tuple[str, ...]) -> Any:
    """As far as fixtures that outlive a test make it worth while, tests are grouped by runtime, where they have several."""
    widest = None
    if len(names) == 1:
        return "function"
    for defs in metafunc._arg2fixturedefs.values():
        if is_async(defs[-1].func) and (widest is None or defs[-1]._scope > widest):
            widest = defs[-1]._scope
    return "function" if widest is None else widest.value


@pytest.hookimpl(trylast=True, wrapper=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> Generator[None, Any, Any]:
    """Inside the wrappers of other plugins: what they see of a test of ours is a plain function."""
    made = yield
    if isinstance(made, list):
        for item in made:  # pyright: ignore[reportUnknownVariableType]  # of whatever
            callspec = getattr(item, "callspec", None)  # pyright: ignore[reportUnknownArgumentType]  # of whatever
            if callspec is not None and "bateau_runtime" in callspec.params:
                _take(item)
    return made  # pyright: ignore[reportUnknownVariableType]  # of whatever


def _take(item: Any) -> None:
    item.stash[_OURS] = True
    item.add_marker("bateau")
    if "bateau_runtime" not in item.fixturenames:
        item.fixturenames.insert(0, "bateau_runtime")
    suite_of(item.config).take(item, inner(item.obj))


class _Undo:
    """Runs between anyio's hook, which marks what it will take, and pytest's own, which makes the item."""

    @pytest.hookimpl
    def pytest_pycollect_makeitem(self, collector: Any, name: str, obj: Any) -> None:
        marks: Any = getattr(obj, "pytestmark", None)
        if not isinstance(marks, list) or automatic(collector.config) != "anyio":
            return
        names: set[str] = {getattr(mark, "name", "") for mark in marks}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # of whatever
        if names.intersection(EXPLICIT) or any(collector.get_closest_marker(name) for name in EXPLICIT):
            obj.pytestmark = [mark for mark in marks if getattr(mark, "args", None) != ("anyio_backend",)]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # of whatever


def pytest_plugin_registered(plugin: object, manager: pytest.PytestPluginManager) -> None:
    """Where anyio's plugin is, ``_Undo`` is."""
    if manager.get_name(plugin) == "anyio" and not manager.hasplugin("bateau-undo"):
        manager.register(_Undo(), "bateau-undo")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that are checked for leaks ask for the fixture that does it."""
    given = options.settings(config)
    for item in items:
        if is_ours(item):
            # The order of the tests has been made. From here on the runtime is the session's, and so may be what asks for it.
            callspec: Any = getattr(item, "callspec", None)
            callspec._arg2scope["bateau_runtime"] = _SESSION
        if isinstance(item, pytest.Function) and given.leaks_of(item):
            import_module("asyncio")  # else the first test that imports it is blamed for what a loop of ours then opens
            if "_bateau_leaks" not in item.fixturenames:
                _first_of_its_own(item, "_bateau_leaks")


def _first_of_its_own(item: Any, name: str) -> None:
    """Ask for the fixture ``name`` before all others that live as long as the test, and after those that live longer."""
    defs = item._fixtureinfo.name2fixturedefs
    names: list[str] = item.fixturenames
    for index, each in enumerate(names):
        if each == "bateau_runtime" or (each in defs and defs[each][-1].scope != "function"):
            continue
        names.insert(index, name)
        return
    names.append(name)


# -- fixtures ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def bateau_runtime(request: pytest.FixtureRequest) -> str:
    """The name of the runtime that the test runs on."""
    return getattr(request, "param", None) or options.settings(request.config).names[0]


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Any:
    """The simulated world of a test that is simulated."""
    item: Any = request.node
    if not is_ours(item) or request.getfixturevalue("bateau_runtime") != "sim":
        pytest.fail(
            f"{item.nodeid} asks for the simulated `world` and is not simulated: write @simulate", pytrace=False
        )
    return suite_of(request.config).world()


@pytest.fixture
def _bateau_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    suite = suite_of(request.config)
    suite.watch_leaks()
    yield
    problems = suite.leaks_left()
    if problems:
        listed = "\n".join(f"  * {problem}" for problem in problems)
        pytest.fail(f"the test did not clean up:\n{listed}", pytrace=False)


@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> Generator[None, object, object]:
    """Around every other plugin: an async fixture of a test of ours is set up by us, and the others see a plain function."""
    __tracebackhide__ = True
    item = request._pyfuncitem
    if not is_ours(item) and _SUITE not in item.config.stash:
        return (yield)
    with suite_of(item.config).setting_up(fixturedef, request, ours=is_ours(item)):
        return (yield)


# -- running and reporting -----------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture of the test is set up."""
    if is_ours(item):
        suite_of(item.config).before_setup(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Refuse fixtures that live on another plugin's loop."""
    __tracebackhide__ = True
    if _SUITE in item.config.stash:
        suite = suite_of(item.config)
        suite.check_fixtures(item, ours=is_ours(item))
        with suite.calling(item), warnings.catch_warnings():
            if is_ours(item) and item.get_closest_marker("asyncio") is not None:
                # pytest-asyncio thinks that its mark is on a plain function.
                warnings.filterwarnings("ignore", ".*marked with '@pytest.mark.asyncio'", pytest.PytestWarning)
            return (yield)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """The story of a simulated failure stands below its traceback."""
    report = yield
    if is_ours(item):
        suite_of(item.config).add_to_report(item, report)
    return report


class _Covered:
    """What explorations covered, from the reports: those of pytest-xdist's workers come in the same way."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._found: list[tuple[str, dict[str, Any]]] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        covered = getattr(report, "bateau_covered", None)
        if covered is not None:
            self._found.append((report.nodeid, covered))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._found or _SUITE in self._config.stash:
            from .summary import write

            write(terminalreporter, self._found)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Free the loops that are still open."""
    if _SUITE in session.config.stash:
        session.config.stash[_SUITE].close()
