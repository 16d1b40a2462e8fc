"""For how long a step has lasted, and when a hazard was seen: compared with what the program itself noted."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time

import pytest

import bateau
from bateau import insight
from bateau.insight import LiveReader, Snapshot, from_json, steps, to_json
from bateau.insight.ages import aged, alike
from bateau.insight.console.problems import find_problems
from bateau.insight.counting import count
from bateau.insight.explain import explain
from bateau.insight.hazards import store
from bateau.insight.memory import read_process
from bateau.insight.model import Finding, Process, Runtime, Task, Wait
from bateau.kernel import hazard
from support.entries import on_asyncio_family, on_native
from support.memory_children import child

pytestmark = pytest.mark.real_os("another thread looks at the running program")


class Look:
    """A snapshot taken on another thread while the caller, in the middle of a step, waits for it as a spinning task would."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        found: list[Snapshot] = []

        def read() -> None:
            self.before = time.monotonic()
            found.append(LiveReader().read())
            self.after = time.monotonic()

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        self.snapshot = found[0]
        assert from_json(to_json(self.snapshot)) == self.snapshot

    def task(self):
        return next(task for task in self.snapshot.tasks if task.state == "running")


async def spin(looks, before):
    await bateau.time.sleep(0.01)
    before.append(time.monotonic())
    await bateau.time.sleep(0.01)
    looks.append(Look())


def ran(entry):
    looks, before = [], []

    async def main():
        async with bateau.scope() as scope:
            scope.spawn(spin, looks, before, name="spinner")

    entry.run(main)
    return looks[0], before[0]


@pytest.mark.parametrize("how", ["recorded", "counted"])
def test_where_steps_are_noted(entry, how, tmp_path):
    with contextlib.ExitStack() as stack:
        if how == "recorded":
            stack.enter_context(insight.record(tmp_path))
        else:
            stack.callback(count())
        look, before = ran(entry)
    task = look.task()
    rides = entry.family != "native"
    assert task.ran_at_most is rides
    # The step began before its first line ran, and after the wait before it had begun.
    assert look.before - look.began - 0.002 <= task.ran <= look.after - before + 0.01
    assert f"has run for {'at most ' if rides else ''}" in explain(look.snapshot)


@on_native
def test_by_the_last_look_outside(entry):
    look, before = ran(entry)
    task = look.task()
    assert task.ran_at_most
    assert (
        look.before - look.began - 0.002 <= task.ran <= look.after - before + 0.02
    )  # its clock is the system's coarse one


def test_of_a_loop_of_asyncios_own():
    looks, before = [], []

    async def main():
        before.append(time.monotonic())
        await asyncio.sleep(0.01)
        looks.append(Look())

    asyncio.run(main())
    task = looks[0].task()
    assert task.ran_at_most
    assert looks[0].before - looks[0].began - 0.002 <= task.ran <= looks[0].after - before[0] + 0.01


@on_native
def test_an_outer_step_is_not_told_by_the_inner_turn(entry):
    """A nested ``block_on`` turns the loop in the middle of the outer step, which began long before that."""
    looks = []

    async def inner():
        await bateau.time.sleep(0.01)
        looks.append(Look())

    async def main():
        bateau.block_on(inner)

    with insight.muted("nested_block_on"):
        entry.run(main)
    running = [task for task in looks[0].snapshot.tasks if task.state == "running"]
    assert len(running) > 1
    assert all(task.ran is None for task in running)


PROGRAM = """
import sys, time

def held(began):
    tell(began=began)
    block()

if sys.argv[1] == "asyncio":
    import asyncio
    async def main():
        await asyncio.sleep(0.01)
        held(time.monotonic())
    asyncio.run(main())
elif sys.argv[1] == "trio":
    import trio
    async def main():
        await trio.sleep(0.01)
        held(time.monotonic())
    trio.run(main)
else:
    import bateau
    async def main():
        await bateau.time.sleep(0.01)
        held(time.monotonic())
    if sys.argv[1] == "recorded":
        bateau.insight.record(sys.argv[2])
    bateau.run(main)
"""


@pytest.mark.parametrize("how", ["asyncio", "trio", "bateau", "recorded"])
def test_from_outside(how, tmp_path):
    started = time.monotonic()
    with child(PROGRAM, how, str(tmp_path)) as (pid, told):
        before = time.monotonic()
        snapshot = read_process(pid)
        after = time.monotonic()
        task = next(task for task in snapshot.tasks if task.state == "running")
        assert task.ran_at_most is (how != "recorded")
        assert before - told["began"] - 0.002 <= task.ran <= after - started + 0.02


# -- when a hazard was seen ------------------------------------------------------------------------------------------------


@pytest.fixture
def forgotten():
    store.forget()
    yield
    store.forget()


@pytest.mark.usefixtures("forgotten")
@on_asyncio_family
def test_a_hazard_says_how_often_and_when(entry):
    with pytest.warns(bateau.HazardWarning):
        for _ in range(3):
            hazard.report("growth", "it grows", ("app.py", 7))
    hazard.recent[0] = hazard.recent[0]._replace(first=time.time() - 90)
    looks = []

    async def main():
        await bateau.time.sleep(0)
        looks.append(Look())

    entry.run(main)
    snapshot = looks[0].snapshot
    (finding,) = snapshot.findings
    assert finding.count == 3
    assert 0 <= finding.ago <= 60
    assert 90 <= finding.first_ago <= 150
    assert "FOUND growth (3 times, first 1m30s ago, last " in explain(snapshot)
    (problem,) = find_problems(snapshot)
    assert "\n  seen 3 times, first 1m30s ago, last " in problem.text


def test_those_of_other_lines_stay_apart():
    found = [Finding("a", "x", 1), Finding("a", "y", 1), Finding("a", "x", 2), Finding("a", "x", 1)]
    assert [(one.message, one.site, one.count) for one in alike(found)] == [("y", 1, 1), ("x", 2, 1), ("x", 1, 2)]


def test_what_is_not_known_is_not_said():
    text = explain(Snapshot(1.0, Process(1), findings=(Finding("a", "x"),)))
    assert "FOUND a: x" in text


@pytest.mark.usefixtures("forgotten")
def test_what_goes_on_is_seen_again():
    hazard.keep(hazard.Finding("a", "x", "app.py", 1, first=1.0, last=1.0))
    store.amend(hazard.recent[0], "it took 3 s in all")
    (finding,) = hazard.recent
    assert finding.first == 1.0
    assert finding.last > 1.0
    assert finding.evidence == ("it took 3 s in all",)


@pytest.mark.usefixtures("forgotten")
def test_a_logged_hazard_tells_its_sentence_once(caplog):
    sink = store.LogSink()
    try:
        hazard.report("unretrieved_error", "task 'x' failed and nobody looked", ("app.py", 7))
    finally:
        sink.close()
    (record,) = [one for one in caplog.records if one.name == "bateau.hazards"]
    assert record.getMessage().startswith("unretrieved_error: An error that nobody saw\n")
    assert record.getMessage().count("nobody looked") == record.getMessage().count("app.py:7") == 1


# -- what was asked for, and what others have added ----------------------------------------------------------------------------


def test_memory_and_context_are_told_of_every_task():
    alike_ = [Task(n, f"w{n}", "waiting", waits=Wait("sleep"), memory=500) for n in (1, 2)]
    one = Task(3, "main", "waiting", waits=Wait("read"), memory=1624, context={"request": "'r1'"})
    text = explain(Snapshot(1.0, Process(1), tasks=(*alike_, one)))
    assert "\n    memory of their frames: 1,000 bytes\n" in text
    assert "\n    context request = 'r1'\n    memory of its frames: 1,624 bytes\n" in text


def test_what_extensions_added_is_told():
    runtime = Runtime(1, "toy", ext={"queue": 7})
    text = explain(Snapshot(1.0, Process(1), runtimes=(runtime,), ext={"pool": {"idle": 3}}))
    assert "\n  queue: 7\n" in text
    assert "\npool: {'idle': 3}\n" in text


def test_what_memory_cannot_give_is_said(tmp_path):
    with child(PROGRAM, "asyncio", str(tmp_path)) as (pid, _):
        done = subprocess.run(
            [sys.executable, "-m", "bateau.cli", "dump", "--memory", str(pid)],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    assert "--memory and --context need an agent in the process" in done.stderr


@pytest.mark.parametrize("torn", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_a_torn_time_is_none(torn):
    assert steps.shorter([steps.Lasted(torn), None]) is None
    assert steps.shorter([steps.Lasted(torn, at_most=True), steps.Lasted(2.0, at_most=True)]) == (2.0, True)
    assert aged(torn, torn, 1.0) == {}


def test_who_is_busy_has_counters_in_a_snapshot_though_it_waits_for_nothing() -> None:
    found: dict[str, Task] = {}

    async def spins() -> None:
        while True:
            await bateau.yield_now()

    async def main() -> None:
        async with bateau.scope() as scope:
            scope.spawn(spins, name="spinner")
            await bateau.time.sleep(0.01)
            found.update((task.name, task) for task in insight.snapshot().tasks)
            scope.cancel()

    stop = count()
    try:
        bateau.run(main, runtime="native")
    finally:
        stop()
    assert found["spinner"].state == "ready"
    assert found["spinner"].stats["steps"] > 1
    assert found["spinner"].stats["busy"] > 0
