"""Functions that never suspend are listed, with their line and number, once they have many tasks (story S11)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bateau
from bateau import insight
from bateau.insight.collect import snapshot
from bateau.insight.console.problems import find_problems
from bateau.insight.counting import count
from bateau.insight.explain import explain
from bateau.insight.model import Finding


async def computes(number: int) -> int:
    return number + 1


async def finds_all_there(event: bateau.sync.Event) -> None:
    await event.wait()


async def waits_once_in_a_while(number: int) -> None:
    if number == 7:
        await bateau.time.sleep(0)


def never_waits(found: tuple[Finding, ...]) -> list[Finding]:
    return [finding for finding in found if finding.hazard == "never_waits"]


@pytest.mark.parametrize("tasks", [30, 40])
def test_functions_that_never_suspend_are_listed(tasks: int) -> None:
    """From the threshold on, and not those of which one task has waited."""

    async def main() -> None:
        event = bateau.sync.Event()
        event.set()
        async with bateau.scope() as scope:
            for number in range(tasks):
                scope.spawn(computes, number)
                scope.spawn(waits_once_in_a_while, number)
                if number % 2:
                    scope.spawn(finds_all_there, event)
        with insight.thresholds(never_waits=35):
            shown = snapshot()
        found = never_waits(shown.findings)
        if tasks < 35:
            assert found == []
            return
        (one,) = found
        frame = shown.frame(one.site)
        assert frame is not None
        assert (frame.file, frame.line) == (__file__, computes.__code__.co_firstlineno)
        assert one.message.startswith(
            "40 tasks of 'computes' have ended, and none of them ever waited; there is no await"
        )
        assert one.message in explain(shown)
        (problem,) = (problem for problem in find_problems(shown) if problem.name == "never_waits")
        assert problem.chapter == "docs/hazards.md#never_waits"
        with insight.thresholds(never_waits=20):
            _, second = never_waits(snapshot().findings)
        assert "of 'finds_all_there' " in second.message and "an await in it, which never had to wait" in second.message

    stop = count()
    try:
        bateau.run(main, runtime="native")
    finally:
        stop()
    assert never_waits(snapshot().findings) == [], "what is counted is gone with the last who counts"


def test_who_mutes_it_is_not_counted() -> None:
    async def main() -> None:
        with insight.muted("never_waits"):
            async with bateau.scope() as scope:
                for number in range(50):
                    scope.spawn(computes, number)
        with insight.thresholds(never_waits=1):
            assert never_waits(snapshot().findings) == []

    stop = count()
    try:
        bateau.run(main, runtime="native")
    finally:
        stop()


PROGRAM = """
import os, signal, bateau
async def computes(number): return number
async def waits(number):
    await bateau.time.sleep(0)
async def main():
    async with bateau.scope() as scope:
        for number in range(1100):
            scope.spawn(computes, number)  # spawned here
            scope.spawn(waits, number)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("pure", ["", "1"])
def test_a_recording_tells_them_too(tmp_path: Path, pure: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    env: dict[str, Any] = {**os.environ, "BATEAU_PURE": pure, "TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    run = [sys.executable, "-m", "bateau"]
    done = subprocess.run([*run, "run", f"{program}:main"], env=env, cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done
    (recording,) = tmp_path.rglob("*.recording")
    told = subprocess.run([*run, "postmortem", str(recording)], env=env, capture_output=True, text=True, timeout=60)
    line = PROGRAM.splitlines().index("            scope.spawn(computes, number)  # spawned here") + 1
    assert "1,100 tasks of 'computes' have ended, and none of them ever waited" in told.stdout, told
    assert f"program.py:{line}" in told.stdout
    assert "'waits'" not in told.stdout
