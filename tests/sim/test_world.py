"""The simulated world itself: time, processes, crashes, ends. Nothing here needs a network or a disk."""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
import threading
import time
import uuid
import warnings
from pathlib import Path

import pytest

import bateau
from bateau import sim
from bateau import time as vtime
from bateau.sim import stubborn as leaving
from bateau.sim.running import one_run
from bateau.sync import Event, Lock


def test_time_jumps_and_is_exact():
    async def main():
        began, wall = time.monotonic(), time.time()
        await vtime.sleep(1.0)
        assert time.monotonic() - began == 1.0
        await vtime.sleep(86400 * 365)
        assert time.monotonic() - began == 1.0 + 86400 * 365
        assert time.time() - wall == 1.0 + 86400 * 365
        time.sleep(0.5)  # blocking code waits in the same time
        return time.monotonic() - began

    real = time.perf_counter()
    assert sim.run(main) == 1.5 + 86400 * 365
    assert time.perf_counter() - real < 60  # not a year


@pytest.mark.parametrize("seconds", [0.1, 0.3, 1 / 3, 1e-9, 12345.678])
def test_sleeps_that_are_no_binary_fractions_end_and_not_early(seconds):
    async def main():
        for _ in range(50):
            began = time.monotonic()
            await vtime.sleep(seconds)
            assert time.monotonic() - began >= seconds * (1 - 1e-12)

    sim.run(main)


def test_the_same_seed_gives_the_same_randomness_and_another_seed_another():
    async def main():
        return random.random(), os.urandom(8), uuid.uuid4(), secrets.token_hex(8), random.sample(range(100), 5)

    assert sim.run(main, seed=3) == sim.run(main, seed=3)
    assert not set(map(str, sim.run(main, seed=3))) & set(map(str, sim.run(main, seed=4)))


def test_outside_the_world_everything_is_real_again():
    before = time.monotonic, random.random, os.urandom, time.sleep

    async def main():
        assert time.monotonic() < 1000

    sim.run(main)
    assert (time.monotonic, random.random, os.urandom, time.sleep) == before
    assert sim.current_world() is None


def test_another_thread_stays_outside():
    """A thread that the world did not make sees the real clock, also while the world runs."""
    go, done = threading.Event(), threading.Event()
    seen = []

    def other():
        go.wait(30)
        seen.append(time.time())
        done.set()

    thread = threading.Thread(target=other)
    thread.start()

    def step():
        go.set()
        return True

    async def main():
        sim.always(step)
        while not done.is_set():
            await vtime.sleep(0.001)

    # `done` and `go` are real events, asked and set without waiting.
    sim.run(main, max_steps=100_000_000)
    thread.join()
    assert abs(seen[0] - time.time()) < 60


def test_processes_of_several_hosts():
    async def worker(n):
        await vtime.sleep(n)
        return n * 10

    def blocking(n):
        time.sleep(n)
        return n

    async def main(world):
        one = world.host("a").start(worker, 2)
        two = world.host("b").start(blocking, 3)
        three = world.host("b").start(worker, 1)
        assert await two == 3
        assert time.monotonic() == 3
        assert (await one, await three) == (20, 10)
        assert world.host("a").running == []
        assert [process.exit_code for host in world.hosts.values() for process in host.processes][1:] == [0, 0, 0]

    sim.run(main)


def test_a_crash_runs_no_cleanup_and_awaiting_the_victim_says_so():
    log = []

    async def victim():
        try:
            await vtime.sleep(100)
        finally:
            log.append(f"cleanup at {time.monotonic()}")

    async def main(world):
        process = world.host("a").start(victim)
        await vtime.sleep(1)
        world.host("a").crash()
        with pytest.raises(bateau.TaskCancelled):
            await process
        await vtime.sleep(1000)
        assert log == []  # not while the world lives
        return "end"

    assert sim.run(main) == "end"


def test_restart_starts_the_programs_again():
    starts = []

    async def program(name):
        starts.append((name, time.monotonic()))
        await Event().wait()

    async def main(world):
        host = world.host("a")
        host.start(program, "x")
        host.start(program, "y")
        await vtime.sleep(1)
        host.crash()
        await vtime.sleep(1)
        assert len(host.restart()) == 2
        await vtime.sleep(1)

    sim.run(main)
    assert starts == [("x", 0.0), ("y", 0.0), ("x", 2.0), ("y", 2.0)]


def test_a_process_can_crash_itself_in_the_middle_of_a_step():
    log = []

    async def program(world):
        log.append("before")
        world.host("a").crash()
        log.append("never")

    async def main(world):
        world.host("a").start(program, world)
        await vtime.sleep(5)

    sim.run(main)
    assert log == ["before"]


def test_frozen_processes_stand_still_and_go_on():
    ticks = []

    async def ticking():
        while True:
            await vtime.sleep(1)
            ticks.append(time.monotonic())

    async def main(world):
        host = world.host("a")
        host.start(ticking)
        await vtime.sleep(2.5)
        host.freeze()
        await vtime.sleep(10)
        assert ticks == [1.0, 2.0]
        host.thaw()
        await vtime.sleep(1.5)

    sim.run(main)
    assert ticks == [1.0, 2.0, 12.5, 13.5]


def test_clocks_jump_and_drift():
    async def fast():
        began = time.monotonic()
        await vtime.sleep(10)
        return time.monotonic() - began

    async def main(world):
        host = world.host("a")
        host.clock.drift(2.0)
        assert await host.start(fast) == 10
        assert world.now == 5  # a second of the world is two of this clock
        host.clock.jump(-3600)
        assert host.clock.wall() < world.host("test").clock.wall() - 3000

    sim.run(main)


def test_a_failed_process_fails_the_run_unless_it_is_awaited():
    async def broken():
        raise ValueError("boom")

    async def unseen(world):
        world.host("a").start(broken)
        await vtime.sleep(10)

    async def seen(world):
        with pytest.raises(ValueError, match="boom"):
            await world.host("a").start(broken)

    with pytest.raises(sim.ProcessFailed, match="boom") as caught:
        sim.run(unseen)
    assert isinstance(caught.value.__cause__, ValueError)
    sim.run(seen)


def test_stuck_names_every_process_and_its_lines():
    async def server():
        lock = Lock()
        async with lock:
            await Event().wait()  # the culprit

    async def main(world):
        await world.host("a").start(server)

    with pytest.raises(bateau.Deadlock) as caught:
        sim.run(main)
    assert isinstance(caught.value, sim.Stuck)
    text = str(caught.value)
    assert "process a (server) on host a" in text
    culprit = Path(__file__).read_text().splitlines().index("            await Event().wait()  # the culprit") + 1
    assert f"test_world.py:{culprit}" in text


def test_one_process_alone_is_a_plain_deadlock():
    async def main():
        await Event().wait()

    with pytest.raises(bateau.Deadlock, match="nothing can ever run again"):
        sim.run(main)


def test_too_many_steps_end_the_run_with_an_explanation():
    async def main():
        while True:
            await bateau.checkpoint()

    with pytest.raises(sim.NoProgress, match="max_steps"):
        sim.run(main, max_steps=5_000)


def test_a_busy_loop_sees_time_go_on():
    async def main():
        began = time.monotonic()
        while time.monotonic() < began + 0.05:
            await vtime.sleep(0)

    sim.run(main)


def test_a_scenario_may_be_a_sync_function():
    def main(world):
        time.sleep(2)
        return world.now

    assert sim.run(main) == 2


def test_the_runtime_by_name():
    async def main():
        await vtime.sleep(3600)
        return time.monotonic()

    assert bateau.run(main, runtime="sim") == 3600
    with bateau.Runner(runtime="sim") as runner:
        assert runner.run(main) == 3600
        assert runner.run(main) == 7200


def test_what_is_left_of_a_world_can_do_nothing():
    """Coroutines of the dead are closed when the world has ended; what they try to do then has no effect."""
    log = []

    async def stubborn():
        while True:
            try:
                await vtime.sleep(1)
            finally:
                log.append("closing")
                time.sleep(1)  # raises: it is dead
                log.append("slept")

    async def main(world):
        world.host("a").start(stubborn)
        world.host("b").start(stubborn)
        await vtime.sleep(0.5)
        world.host("a").crash()

    sim.run(main)
    assert "slept" not in log


def test_a_blocked_thread_that_swallows_everything_is_no_hang():
    def stubborn():
        for _ in range(3):
            try:
                time.sleep(1000)
            except BaseException:
                pass

    async def main(world):
        world.host("a").start(stubborn)
        await vtime.sleep(1)

    sim.run(main)


def test_threads_that_swallow_their_end_are_told_once_and_do_not_pile_up(monkeypatch):
    def stubborn():
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                pass

    async def main(world):
        world.host("a").start(stubborn)
        await vtime.sleep(1)

    monkeypatch.setattr(leaving, "MOST_LEFT_BEHIND", leaving._left + 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(RuntimeError, match=r"4 threads|left behind, the last ones a at .*test_world.py"):
            sim.explore(main, seeds=100)
    told = [each for each in caught if each.category is sim.StubbornThread]
    assert len(told) == 1
    assert "test_world.py:" in str(told[0].message)


DIGEST = """
import bateau, random, sys
from bateau import sim, time
async def worker(n, order):
    for _ in range(5):
        await time.sleep(random.random())
        order.append(n)
async def program(order):
    async with bateau.scope() as scope:
        for n in range(4):
            scope.spawn(worker, n, order)
async def main(world):
    order = []
    await world.host("a").start(program, order)
    await world.host("b").start(program, order)
    return order
from bateau.sim import stubborn as leaving
from bateau.sim.running import one_run
from bateau.sim.strategy import by_name
strategy = by_name("random")
strategy.begin(5)
run = one_run(main, seed=5, strategy=strategy)
print(run.digest, run.value, run.error, flush=True)
"""


def test_the_same_seed_is_the_same_run_in_another_process():
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    said = [
        subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert said[0] == said[1]
    assert "None" in said[0]


def test_a_run_counts_its_choices():
    async def child():
        await vtime.sleep(0)

    async def main():
        async with bateau.scope() as scope:
            for _ in range(3):
                scope.spawn(child)

    run = one_run(main)
    assert run.choices == {}
    assert not run.failed
    assert run.steps >= 7


def test_buggify_is_off_outside_and_on_inside():
    assert not any(sim.buggify("x", 1.0) for _ in range(100))

    async def main():
        return [sim.buggify("x", 0.5) for _ in range(100)]

    assert not any(sim.run(main))  # nobody decides: production
    hit = sim.run(main, strategy="random")
    assert 20 < sum(hit) < 80


@pytest.mark.parametrize("bad", [{"loss": 2}, {"crash": -0.1}, {"dns": "often"}])
def test_faults_are_probabilities(bad):
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        sim.Faults(**bad)


def test_a_task_that_swallows_everything_is_no_hang():
    async def stubborn():
        while True:
            try:
                await vtime.sleep(1)
            except BaseException:  # bateau: ignore[swallowed_cancellation]
                pass

    async def main(world):
        world.host("a").start(stubborn)
        await vtime.sleep(10)
        world.host("a").crash()

    sim.run(main)


def test_a_coroutine_in_a_lambda_is_run():
    async def program(n):
        await vtime.sleep(n)
        return n

    async def main(world):
        return await world.host("a").start(lambda: program(3))

    assert sim.run(lambda: program(2)) == 2
    assert sim.run(main) == 3


def test_what_is_no_function_is_refused():
    async def main(world):
        with pytest.raises(TypeError, match="needs a function"):
            world.host("a").start(3)

    sim.run(main)
    with pytest.raises(TypeError, match="a scenario is a function"):
        sim.run(3)
    with pytest.raises(ValueError, match="host 'test' is the scenario"):
        sim.crash_everywhere(main, "test")


def test_invariants_are_sync():
    async def holds():
        return True

    async def main():
        for call in (sim.always, sim.eventually, sim.unchanged):
            with pytest.raises(TypeError, match="is async"):
                call(holds)

    sim.run(main)
