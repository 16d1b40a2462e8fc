"""CPython's own asyncio tests against bateau's loop: ``python scripts/asyncio_conformance.py [MODULE...] [-k WORD] [-v]``.

The tests come with the interpreter (``test.test_asyncio``); where it was installed without them, this says so and ends with 77.
Every loop that they make (by class, by policy, by ``new_event_loop``) is one of ``bateau.interop.asyncio``. Left out: what tests
asyncio's own classes on mocks (``test_base_events``, ``test_selector_events``, ``test_unix_events``), proactor and Windows.

Ends with 0 if everything passes but what ``asyncio_expected.txt`` lists, and everything listed for this Python fails.
"""

from __future__ import annotations

import argparse
import asyncio
import asyncio.unix_events
import importlib
import io
import sys
import time
import unittest
from pathlib import Path
from typing import Any

import bateau.interop.asyncio

EXPECTED = Path(__file__).with_name("asyncio_expected.txt")

MODULES = """
test_buffered_proto test_context test_eager_task_factory test_events test_free_threading test_futures test_futures2 test_locks
test_pep492 test_protocols test_queues test_runners test_sendfile test_server test_sock_lowlevel test_ssl test_sslproto
test_staggered test_streams test_subprocess test_taskgroups test_tasks test_threads test_timeouts test_transports test_waitfor
""".split()

_SELECTOR_LOOP = asyncio.SelectorEventLoop

# The same tests again for selectors that bateau's loop has not: one run is enough.
AGAIN = (
    "SelectEventLoop",
    "PollEventLoop",
    "KqueueEventLoop",
    "SelectLoop",
    "PollLoop",
    "Sendfile_Select",
    "Sendfile_Poll",
)


def _make(selector: Any = None, *_: Any) -> asyncio.AbstractEventLoop:
    if selector is not None:
        selector.close()
    return bateau.interop.asyncio.new_event_loop()


class _Stand(type):
    """Stands for ``asyncio.SelectorEventLoop``: called, it makes our loop; asked about one, it answers as the real class."""

    def __call__(cls, selector: Any = None) -> Any:
        return _make(selector)

    def __instancecheck__(cls, loop: Any) -> bool:
        return isinstance(loop, _SELECTOR_LOOP)


class _StandIn(metaclass=_Stand):
    pass


def _is_again(test: unittest.TestCase) -> bool:
    name = type(test).__name__
    return any(name.startswith(again) or f"_{again}" in name for again in AGAIN)


def _flatten(suite: Any) -> list[unittest.TestCase]:
    if isinstance(suite, unittest.TestCase):
        return [suite]
    return [test for part in suite for test in _flatten(part)]


def _collect(names: list[str], word: str) -> list[unittest.TestCase]:
    found = []
    for name in names:
        try:
            module = importlib.import_module(f"test.test_asyncio.{name}")
        except ModuleNotFoundError:
            continue  # an older Python has fewer
        except unittest.SkipTest:
            continue
        tests = _flatten(unittest.defaultTestLoader.loadTestsFromModule(module))
        found += [test for test in tests if word in test.id() and not _is_again(test)]
    return found


def _expected() -> dict[str, str]:
    """The tests that may not pass on this Python, with the reason."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    reasons: dict[str, str] = {}
    for line in EXPECTED.read_text().splitlines() if EXPECTED.exists() else ():
        if line.strip() and not line.startswith("#"):
            name, versions, reason = line.split(maxsplit=2)
            if versions == "all" or here in versions.split(","):
                reasons[name] = reason
    return reasons


class _Result(unittest.TextTestResult):
    began = 0.0

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 (unittest's name)
        self.began = time.monotonic()
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802 (unittest's name)
        super().stopTest(test)
        if (took := time.monotonic() - self.began) > 3.0:
            print(f"slow: {test.id()} {took:.1f} s", file=sys.stderr)


def main() -> int:
    """Run them and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=MODULES)
    parser.add_argument("-k", default="", help="only tests whose id contains this")
    parser.add_argument("-v", action="store_true", help="name each test; show tracebacks of expected failures too")
    options = parser.parse_args()
    try:
        importlib.import_module("test.test_asyncio")
    except ImportError:
        print("this Python was installed without its own tests (test.test_asyncio)")
        return 77
    loops: Any = asyncio
    loops.unix_events._UnixDefaultEventLoopPolicy._loop_factory = staticmethod(_make)
    loops.SelectorEventLoop = loops.EventLoop = _StandIn
    tests = _collect(options.modules, options.k)
    expected = _expected()
    stream = sys.stderr if options.v else io.StringIO()
    runner = unittest.TextTestRunner(stream=stream, verbosity=2 if options.v else 0, resultclass=_Result)
    result = runner.run(unittest.TestSuite(tests))
    failed: dict[str, str] = {}
    for test, trace in [*result.failures, *result.errors]:
        name = test.id().removeprefix("test.test_asyncio.")
        failed[name.split(" ")[0]] = trace
    ran = {test.id().removeprefix("test.test_asyncio.") for test in tests}
    for name, trace in failed.items():
        if name not in expected:
            print(f"FAILED {name}\n{trace}")
    unexpected = sorted(set(failed) - set(expected))
    passed = sorted((set(expected) & ran) - set(failed))
    kind = "native" if bateau.interop.asyncio.is_native() else "asyncio's own"
    print(
        f"Python {sys.version.split()[0]}, {kind} loop: {result.testsRun} tests, {len(result.skipped)} skipped,"
        f" {len(failed)} failed, of which {len(set(failed) & set(expected))} expected"
    )
    for name in unexpected:
        print(f"  unexpected: {name}")
    for name in passed:
        print(f"  expected to fail, and passed: {name}")
    return 1 if unexpected or passed else 0


if __name__ == "__main__":
    sys.exit(main())
