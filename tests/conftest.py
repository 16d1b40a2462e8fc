"""Fixtures of the whole suite: the leak check around every test, and the ways in (`entry`, `runtime`).

Warnings are errors (pyproject), exceptions that nobody could catch are errors (pytest's unraisable and thread hooks, fed by the
garbage collection that the leak check does while the guilty test is still the current one).
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from support.entries import ENTRIES, KERNEL, RUNTIMES, SIMULATED, Entry, Runtime, require, ways_in
from support.leaks import ErrorLog, ProcessState, Snapshot, make_process_globals


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--law", type=int, action="append", default=[], help="run only the tests of this law (repeatable)")
    parser.addoption("--every-entry", action="store_true", help="every runtime for every folder (support.entries)")


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what it puts in the background with Ctrl-C and Ctrl-\ ignored, children inherit that, and the tests of these
    # signals would wait for ever. A test run is nobody's background.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    # A fork beside another thread warns. Up to 3.14 that was a thread of Python's, and a find; from 3.15 on any of the process's counts,
    # and pytest's own watchdog (faulthandler_timeout) is one.
    if sys.version_info >= (3, 15):
        config.addinivalue_line("filterwarnings", "ignore:This process .* is multi-threaded:DeprecationWarning")
    # Many tests start a Python of their own. Where it may not write bytecode beside the sources, each would compile bateau and
    # half the standard library anew, which is most of such a test's time: give them a place.
    if sys.dont_write_bytecode:
        del os.environ["PYTHONDONTWRITEBYTECODE"]
        os.environ["PYTHONPYCACHEPREFIX"] = str(config.rootpath / ".pytest_cache" / "bytecode")


def pytest_report_header() -> str:
    return f"bateau kernel: {KERNEL}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Which ways in a test runs over, unless it names them itself: see ``support.entries``."""
    path, tests = metafunc.definition.path, metafunc.config.rootpath / "tests"
    # The samples of test_leak_check are elsewhere.
    folder = path.relative_to(tests).parts[0] if path.is_relative_to(tests) else ""
    simulated = folder in SIMULATED and not metafunc.definition.get_closest_marker("real_os")
    marks = metafunc.definition.iter_markers("parametrize")
    named = {name.strip() for mark in marks for name in str(mark.args[0]).split(",")}
    for fixture, names, also in (("entry", ENTRIES, "owned:sim"), ("runtime", RUNTIMES, "sim")):
        if fixture in metafunc.fixturenames and fixture not in named:
            if not metafunc.config.getoption("--every-entry"):
                names = ways_in(names, folder)
            metafunc.parametrize(fixture, (*names, also) if simulated else names, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(config.getoption("--law"))
    if not wanted:
        return
    kept = [item for item in items if any(wanted.intersection(mark.args) for mark in item.iter_markers("law"))]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def pytest_collection_finish() -> None:
    make_process_globals()
    # Every test ends with a full collection, so that what it dropped is reported as its own. Setting aside the modules that
    # collection imported makes that cost about a millisecond instead of a tenth of a second.
    # Hypothesis comes first: when it is imported it asks the collector who refers to trio's random generator, and the collector
    # does not look among what is set aside. (Its pytest plugin imports it at the end of every run.)
    importlib.import_module("hypothesis")
    gc.collect()
    gc.freeze()


# What tests import and what pytest notes of them is set aside as well, so often: else the collection after each test takes a
# twentieth of a second when ten thousand have run (measured: half of the suite's time).
FREEZE_EVERY = 50
_since_freeze = 0


def set_aside() -> None:
    """Right after a test's own collection, when what is left is nobody's garbage."""
    global _since_freeze
    _since_freeze += 1
    if _since_freeze >= FREEZE_EVERY:
        _since_freeze = 0
        gc.freeze()


@pytest.fixture
def asyncio_errors() -> Iterator[list[str]]:
    """What asyncio logged as an error during the test; a test that provokes some asserts on them and clears the list."""
    with ErrorLog() as log:
        yield log.messages


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest, asyncio_errors: list[str]) -> Iterator[None]:
    """Fail a test that leaks; `@pytest.mark.no_leak_check("why")` stands aside."""
    before, state = Snapshot(), ProcessState()
    yield
    changed = state.restore()
    if request.node.get_closest_marker("no_leak_check"):
        return
    leaks = before.settled_leaks() + changed
    set_aside()
    problems = [f"left behind {leak}" for leak in leaks] + [f"asyncio logged: {error}" for error in asyncio_errors]
    if problems:
        pytest.fail(
            "\n".join(["the test did not clean up:", *(f"  * {problem}" for problem in problems)]), pytrace=False
        )


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """An owned program on each runtime: `runtime.run(main, *args)`."""
    require(request.param)
    return Runtime(request.param)


@pytest.fixture
def entry(request: pytest.FixtureRequest) -> Entry:
    """Each way into a bateau program, owned and adopted: `entry.run(main, *args)`."""
    way = Entry(request.param)
    require(way.runtime)
    return way
