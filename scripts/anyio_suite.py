#!/usr/bin/env python
"""Runs anyio's own tests on bateau's anyio backend, and compares what fails with the list of what may.

    .venv/bin/python scripts/anyio_suite.py [--work FOLDER] [pytest's arguments, e.g. tests/test_sockets.py]

It fetches the source distribution of the installed anyio with pip, and three plugins that its tests need, into a scratch folder
(``build/anyio-suite``). A failure that is not in ``anyio_suite_expected.txt`` is tried again on anyio's own asyncio backend: what fails
there too is this machine's doing (no IPv6 name for localhost, say). Exit status 1: something else has failed, or something passed
that is in the list.

pytest loads this file as a plugin as well: the second half.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
EXPECTED = HERE / "anyio_suite_expected.txt"
PLUGINS = ("trustme", "pytest-mock", "pytest-timeout")
# Where the plugin writes what failed, and which backend it runs.
REPORT, BACKEND = "BATEAU_ANYIO_REPORT", "BATEAU_ANYIO_BACKEND"


def fetch(work: Path) -> Path:
    """The unpacked source distribution, and the plugins beside it."""
    name = f"anyio-{version('anyio')}"
    folder = work / name
    pip = [sys.executable, "-m", "pip", "-q"]
    if not folder.exists():
        work.mkdir(parents=True, exist_ok=True)
        what = ["--no-deps", "--no-binary", ":all:", name.replace("-", "==")]
        subprocess.run([*pip, "download", "--dest", str(work), *what], check=True)
        with tarfile.open(work / f"{name}.tar.gz") as archive:
            archive.extractall(work, filter="data")
    if not (work / "site").exists():
        subprocess.run([*pip, "install", "--no-deps", "--target", str(work / "site"), *PLUGINS], check=True)
    return folder


def run(folder: Path, backend: str, arguments: list[str]) -> dict[str, str]:
    """Run the tests for ``backend``; what came of each."""
    report = folder.parent / f"{backend}.json"
    report.unlink(missing_ok=True)
    path = [str(HERE), str(folder.parent / "site"), str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), REPORT: str(report), BACKEND: backend}
    fixed = [
        "-q",
        "-p",
        "anyio_suite",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:bateau",
        "-m",
        "not network",
        "--timeout=20",
    ]
    subprocess.run([sys.executable, "-m", "pytest", *fixed, *arguments], cwd=folder, env=environment, check=False)
    outcomes: dict[str, str] = json.loads(report.read_text())
    return outcomes


def expected() -> set[str]:
    """The tests that may fail, without the reasons."""
    lines = (line.partition("#")[0].strip() for line in EXPECTED.read_text().splitlines())
    return {line for line in lines if line}


def main() -> int:
    """See the module's head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE.parent / "build" / "anyio-suite")
    options, rest = parser.parse_known_args()
    folder = fetch(options.work.resolve())
    outcomes = run(folder, "bateau", rest)
    failed = {test for test, outcome in outcomes.items() if outcome == "failed"}
    passed = {test for test, outcome in outcomes.items() if outcome == "passed"}
    news = failed - expected()
    here: set[str] = set()
    if news:
        print("\nThese failed and are not expected to; on anyio's asyncio backend:")
        twins = {test.replace("[bateau", "[asyncio"): test for test in sorted(news)}
        again = run(folder, "asyncio", list(twins))
        here = {twins[test] for test, outcome in again.items() if outcome == "failed" and test in twins}
    print(
        f"\n{len(passed)} passed, {len(failed & expected())} failed as expected, {len(here)} fail on asyncio here too"
    )
    for test in sorted(news - here):
        print(f"FAILED {test}")
    for test in sorted(expected() & passed):
        print(f"PASSED, and is in {EXPECTED.name}: {test}")
    return 1 if (news - here) or (expected() & passed) else 0


# -- the plugin --------------------------------------------------------------------------------------------------------

_outcomes: dict[str, str] = {}


def _install() -> None:
    """Make ``bateau`` the one backend besides those that anyio's tests name themselves. Before their conftest asks."""
    import anyio._core._eventloop as loops

    import bateau.interop.anyio

    bateau.interop.anyio.install()
    loops.BACKENDS = ("bateau",)


if os.environ.get(BACKEND) == "bateau" and __name__ != "__main__":
    _install()


def pytest_configure(config: Any) -> None:
    """Tests swallow cancellations on purpose. Bateau reports that, and anyio's settings turn each warning into a failure."""
    config.addinivalue_line("filterwarnings", "ignore:swallowed_cancellation:bateau.HazardWarning")


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Leave the tests of the backend in question."""
    wanted = os.environ.get(BACKEND)

    def backend(item: Any) -> str | None:
        given = item.callspec.params.get("anyio_backend") if hasattr(item, "callspec") else None
        return given[0] if isinstance(given, tuple) else given

    left_out = [item for item in items if backend(item) != wanted]
    items[:] = [item for item in items if backend(item) == wanted]
    config.hook.pytest_deselected(items=left_out)


def pytest_runtest_logreport(report: Any) -> None:
    """Note the worst that happened to each test."""
    if report.failed or (report.when == "call" and _outcomes.get(report.nodeid) != "failed"):
        _outcomes[report.nodeid] = "failed" if report.failed else report.outcome


def pytest_sessionfinish() -> None:
    """Hand over what happened."""
    if os.environ.get(REPORT):
        Path(os.environ[REPORT]).write_text(json.dumps(_outcomes))


if __name__ == "__main__":
    sys.exit(main())
