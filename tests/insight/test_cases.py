"""One program per hazard with one planted fault, and the one finding expected of it: live, by a dump from outside, and after a kill -9.

Each file in `cases/` is such a program: its `main`, the line of the finding (marked
`# <- found`), the thresholds it is watched with (`WATCH`), and the runtimes that it makes sense on (`RUNTIMES`; `plain`: asyncio alone). The file's name begins
with the hazard's. That a load with no fault has no finding is shown by test_healthy.py.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bateau import insight
from bateau.cli.entry import main as command
from bateau.insight import hazards
from bateau.insight.hazards import store
from support.hazard_case import CASES, hazard_of, line_of, run, runtimes_of
from support.processes import environment


@pytest.fixture(autouse=True)
def log() -> Iterator[list[logging.LogRecord]]:
    """Findings go to the log, as in a program that has configured one, and are forgotten after the test."""
    records: list[logging.LogRecord] = []
    logger = logging.getLogger("bateau.hazards")
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    store.forget()
    yield records
    logger.removeHandler(handler)
    store.forget()


def pairs() -> Iterator[Any]:
    for path in CASES:
        for runtime in runtimes_of(path):
            yield pytest.param(path, runtime, id=f"{path.stem}-{runtime}")


@pytest.mark.parametrize(("path", "on"), list(pairs()))
def test_the_planted_fault_is_found_and_nothing_else(path: Path, on: str, log: list[logging.LogRecord]) -> None:
    line = line_of(path)
    run(path, on)
    found = insight.findings()
    assert [(each.name, each.filename, each.lineno) for each in found] == [(hazard_of(path), str(path), line)]
    hazard = hazards.by_name(found[0].name)
    text = hazard.format(found[0])
    assert hazard.title in text and hazard.remedy in text and f"docs/hazards.md#{hazard.name}" in text
    assert f":{line}" in hazard.summary(found[0])


@pytest.mark.real_os("it reads and kills another process")
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_it_is_seen_from_outside_and_after_the_end(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frozen in the moment of its report, without an agent: `bateau dump` of its memory; then killed: `bateau postmortem`."""
    surroundings = environment(BATEAU_INSIGHT="0", XDG_RUNTIME_DIR=str(tmp_path), PYTHONWARNINGS="ignore")
    arguments = [str(path), runtimes_of(path)[0], str(tmp_path / "recorder")]
    with subprocess.Popen(
        [sys.executable, "-m", "support.hazard_case", *arguments], stdout=subprocess.PIPE, text=True, env=surroundings
    ) as child:
        assert child.stdout is not None
        try:
            line = child.stdout.readline()
            assert line, f"it ended with {child.wait()} and found nothing"
            name, message, file, number = truth = json.loads(line)
            assert (name, file, number) == (hazard_of(path), str(path), line_of(path))
            os.waitid(os.P_PID, child.pid, os.WSTOPPED)
            assert command(["dump", "--json", str(child.pid)]) == 0
            seen = insight.from_json(capsys.readouterr().out)
            assert command(["dump", str(child.pid)]) == 0
            text = capsys.readouterr().out
        finally:
            child.kill()
    assert seen.source == "memory"
    assert told(seen) == [truth]
    found = re.search(rf"FOUND {name}( \([^)]+\))?: {re.escape(f'{message} [{file}:{number}]')}", text)
    assert found or (name == "deadlock" and "DEADLOCK" in text), text  # a knot that is there to be seen is told once

    [recording] = (tmp_path / "recorder").iterdir()
    assert command(["postmortem", str(recording)]) == 0
    text = capsys.readouterr().out
    assert f"{name}: {message}" in text and f"{file}:{number}" in text
    assert told(insight.read_report(recording).snapshot) == [truth]


def told(snapshot: insight.Snapshot) -> list[list[Any]]:
    """The findings in a snapshot."""
    found = []
    for each in snapshot.findings:
        frame = snapshot.frame(each.site)
        assert frame is not None
        found.append([each.hazard, each.message, frame.file, frame.line])
    return found


def test_every_hazard_has_a_case() -> None:
    assert {hazard.name for hazard in hazards.catalogue()} == {hazard_of(path) for path in CASES}
