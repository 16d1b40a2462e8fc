"""``bateau sim``: from the command line alone, as a stranger would use it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCENARIO = """\
import bateau
from bateau.sync import Lock


async def transfer(first, second):
    async with first, second:
        await bateau.time.sleep(0.01)


async def deadlock():
    alice, bob = Lock(name="alice"), Lock(name="bob")
    async with bateau.scope() as scope:
        scope.spawn(transfer, alice, bob, name="alice to bob")
        scope.spawn(transfer, bob, alice, name="bob to alice")


async def fine(world):
    await bateau.time.sleep(3600)
    return world.now


async def takes(one):
    pass


async def fails():
    raise ValueError("always")


not_a_function = 3
"""


@pytest.fixture
def bateau_sim(tmp_path: Path):
    (tmp_path / "accounts.py").write_text(SCENARIO)

    def call(*args: str, said: str = "", cwd: Path = tmp_path) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "bateau.cli", "sim", *args],
            cwd=cwd,
            input=said,
            capture_output=True,
            text=True,
            timeout=100,
            env={**os.environ, "COLUMNS": "200", "PYTHONHASHSEED": "0"},  # else each starts itself a second time
        )
        return done.returncode, done.stdout + done.stderr

    return call


def test_run(bateau_sim):
    status, text = bateau_sim("run", "accounts.py:fine")
    assert status == 0
    assert "value: 3600.0" in text
    assert "3600.000000 simulated seconds" in text


def test_explore_replay_step_and_draw(bateau_sim, tmp_path):
    status, text = bateau_sim("explore", "--seeds", "2000", "accounts.py:deadlock")
    assert status == 1
    assert "a ring of waits: 'alice to bob' -> 'bob to alice' -> 'alice to bob'" in text
    token = re.search(r"bateau sim replay (sim-\S+)", text)[1]
    status, again = bateau_sim("replay", token, "--svg", "run.svg", "--html", "run.html")
    assert status == 1
    assert "a ring of waits" in again
    assert (tmp_path / "run.svg").read_text().startswith("<svg")
    assert token in (tmp_path / "run.html").read_text()
    status, stepped = bateau_sim("replay", token, "--step", said="\nw\nv\nc\n")
    assert status == 1
    assert "who waits on what" in stepped
    assert "process test (deadlock)" in stepped
    status, _ = bateau_sim("replay", token, "--step", said="q\n")
    assert status == 130


def test_the_commands_of_a_message_work_anywhere(bateau_sim, tmp_path):
    # A file of a package, with an import that is relative to it.
    package = tmp_path / "app" / "checks"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (package / "scenarios.py").write_text(
        "from ..accounts import deadlock as _deadlock\nasync def deadlock(): await _deadlock()\n"
    )
    (package.parent / "accounts.py").write_text(SCENARIO)
    status, text = bateau_sim("explore", "--seeds", "2000", "app/checks/scenarios.py:deadlock")
    assert status == 1
    command = re.search(r"bateau sim (replay sim-\S+ --target \S+)", text)[1].split()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    seed = re.search(r"seed (\d+) fails", text)[1]
    status, text = bateau_sim(*command, cwd=elsewhere)
    assert status == 1
    assert "a ring of waits" in text
    # The token alone is enough in the project and below; elsewhere it is told what is missing.
    status, text = bateau_sim("replay", command[1], cwd=package)
    assert status == 1
    status, text = bateau_sim("replay", command[1], cwd=tmp_path.parent)
    assert status == 2
    assert "no such file here or in a directory above" in text
    # One seed alone; and a token that is none of this scenario's.
    status, text = bateau_sim("explore", "--seed", seed, "accounts.py:deadlock")
    assert status == 1
    status, text = bateau_sim("replay", command[1], "--target", "accounts.py:fine")
    assert status == 2
    assert "nothing failed, but the run went another way than the token records" in text


def test_explore_what_is_right(bateau_sim):
    status, text = bateau_sim("explore", "--seeds", "50", "--jobs", "2", "--faults", "some", "accounts.py:fine")
    assert status == 0
    assert text.startswith("passed: 50 runs")


def test_what_fails_at_once(bateau_sim):
    status, text = bateau_sim("run", "accounts.py:fails")
    assert status == 1
    assert "ValueError: always" in text
    assert "accounts.py:27 in fails" in text


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("run", "accounts.py:nothing"), "names no function"),
        (("run", "accounts.py:not_a_function"), "names no function"),
        (("run", "missing.py:x"), "no file 'missing.py'"),
        (("run", "accounts"), "neither a file"),
        (("replay", "nonsense"), "a replay token starts with 'sim-'"),
        (("explore", "--strategy", "luck", "accounts.py:fine"), "invalid choice"),
        (("explore", "--seeds", "0", "accounts.py:fine"), "1 or more"),
        (("run", "accounts.py:takes"), "missing a required argument: 'one'. Name a scenario that needs nothing"),
        (("run", "accounts.py:fine", "--svg", "nowhere/run.svg"), "there is no directory 'nowhere'"),
        (("explore", "accounts.py:fine", "--html", "."), "'.' is a directory"),
        (("explore", "--seed", "3", "--seeds", "5", "accounts.py:fine"), "not allowed with argument"),
        (("explore", "--seed", "3", "--first", "5", "accounts.py:fine"), "give one of the two"),
        (("explore", "--jobs", "0", "accounts.py:fine"), "1 or more"),
    ],
)
def test_bad_input_says_what_to_do(bateau_sim, args, says):
    status, text = bateau_sim(*args)
    assert status == 2
    assert says in text
    assert "Traceback" not in text


def test_help(bateau_sim):
    status, text = bateau_sim("--help")
    assert status == 0
    for word in ("run", "explore", "replay"):
        assert word in text
