"""One seed, one run: what breaks that is found, and said where; and the hash seed can be pinned."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from bateau import sim
from bateau.scopes import scope
from bateau.sim.determinism import check_determinism
from bateau.sync import Event
from bateau.time import sleep
from support import sim_programs

# What C keeps is not found, and stays real.
REAL_CLOCK = itertools.repeat(time.perf_counter_ns)
COUNTER = itertools.count()
TESTS = Path(__file__).resolve().parents[1]


def test_what_is_deterministic_passes() -> None:
    for strategy in ("fifo", "random", "pct", "surw"):
        check_determinism(sim_programs.mixed, strategy=strategy, seed=3)
    check_determinism(sim_programs.mixed, times=4)


async def several() -> None:
    async def child(n: int) -> None:
        for _ in range(3):
            await sleep(random.random())

    async with scope() as working:
        for n in range(4):
            working.spawn(child, n, name=f"child {n}")


@pytest.mark.parametrize("strategy", ["fifo", "random", "pct", "pos", "surw"])
def test_tasks_are_deterministic_under_each_strategy(strategy: str) -> None:
    for seed in range(5):
        sim.check_determinism(several, seed=seed, strategy=strategy, times=3)


def test_the_first_difference_is_shown_with_its_line() -> None:
    counter = itertools.count()

    async def leaky() -> None:
        await sleep(1)
        await sleep(2 + next(counter))  # the outside comes in

    with pytest.raises(sim.InvariantBroken) as caught:
        sim.check_determinism(leaky)
    text = str(caught.value)
    assert "sleep of 2 s" in text and "sleep of 3 s" in text and "the outside comes in" in text


def test_addresses_in_descriptions_are_no_difference() -> None:
    async def scenario() -> None:
        events = [Event() for _ in range(3)]
        async with scope() as working:
            for event in events:
                working.spawn(event.wait)
            await sleep(1)
            for event in events:
                event.set()

    junk: list[Any] = []

    async def grown() -> None:
        junk.append([object() for _ in range(1000)])
        await scenario()

    check_determinism(grown, times=3)


async def by_the_real_clock() -> None:
    await sleep(1)
    if next(REAL_CLOCK)() % 2:  # the runs of a test that is run often enough differ here
        await sleep(2)
    else:
        await sleep(3)


async def by_a_module_global() -> None:
    await sleep(1)
    await sleep(2 + next(COUNTER))


async def by_addresses() -> None:
    class Thing:
        def __init__(self, number: int) -> None:
            self.number = number

    keep = [Thing(number) for number in range(100) if number % 7 or bytes(next(COUNTER) % 977 * 16)]
    for thing in list(set(keep))[:5]:
        await sleep(thing.number)


def by_a_real_generator() -> None:
    lock = threading.Lock()

    def work() -> None:
        for byte in next(REAL_RANDOM)(3):
            time.sleep(byte / 100)
            with lock:
                pass

    workers = [threading.Thread(target=work) for _ in range(2)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()


REAL_RANDOM = itertools.repeat(os.urandom)


@pytest.mark.parametrize("scenario", [by_the_real_clock, by_a_module_global, by_addresses, by_a_real_generator])
def test_what_is_not_is_found_with_the_line(scenario: Any) -> None:
    with pytest.raises(sim.InvariantBroken, match="differ") as caught:
        check_determinism(scenario, times=40)
    said = str(caught.value)
    assert "test_determinism.py:" in said and "sleep(" in said, said
    assert "real clock" in said


def test_it_takes_two() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        check_determinism(sim_programs.mixed, times=1)


def test_an_end_that_differs_is_found() -> None:
    def scenario() -> None:
        assert next(COUNTER) % 2

    with pytest.raises(sim.InvariantBroken, match="differ"):
        check_determinism(scenario)


# -- other interpreters ------------------------------------------------------------------------------------------------------

SCRIPT = """
from bateau.sim.running import one_run
from bateau.sim.strategy import by_name
from support import sim_programs
for seed in range(3):
    strategy = by_name("random")
    strategy.begin(seed)
    run = one_run(sim_programs.mixed, seed=seed, strategy=strategy)
    print(run.digest, run.value, run.error, run.choices)
"""


def python(*arguments: str, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
    done = subprocess.run(
        [sys.executable, *arguments], env={**inherited, "PYTHONPATH": path, **environment}, text=True, capture_output=True, timeout=100
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_same_seed_gives_the_same_run_in_another_interpreter() -> None:
    here = python("-c", SCRIPT, PYTHONHASHSEED="0", TZ="UTC")
    there = python(
        "-X", "dev", "-c", SCRIPT, PYTHONHASHSEED="0", NOISE="x" * 3000, TZ="Asia/Tokyo", PYTHONMALLOC="malloc"
    )
    assert here == there and len(set(here.splitlines())) == 3


def test_pinning_the_hash_seed_starts_the_program_anew_once(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import os, sys\n"
        "print('begins', flush=True)\n"
        "from bateau.sim.determinism import pin_hash_seed\n"
        "pin_hash_seed()\n"
        "print(sys.argv[1:], hash('a string'), os.environ.get('PYTHONHASHSEED'), sys.flags.dev_mode)\n"
    )
    outputs = {python("-X", "dev", str(script), "--an", "argument with spaces") for _ in range(2)}
    assert len(outputs) == 1
    (output,) = outputs
    assert output.splitlines()[:2] == ["begins", "begins"] and "['--an', 'argument with spaces']" in output
    assert output.splitlines()[2].endswith("0 True")
    assert python(str(script), PYTHONHASHSEED="7").splitlines()[0] == "begins"
    assert python(str(script), PYTHONHASHSEED="7").splitlines()[1].endswith("7 False")


def test_the_sets_of_asyncio_do_not_depend_on_what_ran_before() -> None:
    """Its set of all tasks is one for the interpreter, and remembers; a loop's async generators stand in it by their addresses."""
    ended: list[int] = []
    kept: list[Any] = []

    async def sleeps(number: int) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(number)

    async def generator(number: int) -> Any:
        try:
            yield number
        finally:
            ended.append(100 + number)

    async def main() -> None:
        for number in range(8):
            kept.append(asyncio.get_running_loop().create_task(sleeps(number), name=str(number)))
            opened = generator(number)
            kept.append(opened)
            await opened.__anext__()
        await asyncio.sleep(1)
        ended.extend(int(task.get_name()) for task in asyncio.all_tasks() if task.get_name().isdigit())

    def outcome(program: Any, junk: int) -> list[int]:
        rest = [object() for _ in range(junk)]
        ended.clear()
        kept.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sim.run(program)
        del rest
        return list(ended)

    for program in (main, lambda: asyncio.run(main())):
        first = outcome(program, 0)
        assert len(first) == 24
        assert [number for number in first if number >= 100] == list(range(100, 108))
        assert all(outcome(program, 37 * number) == first for number in range(1, 6))
