"""Explorations: what fails is found, shrunk, told, and replays; what is right passes; the same over several processes."""

from __future__ import annotations

import asyncio
import functools
import random
import re
import threading
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import bateau
from bateau import net, sim
from bateau import time as vtime
from bateau.sim.picture import html, svg
from bateau.sim.running import one_run
from bateau.sim.stepping import Stepper
from bateau.sim.story import tell
from bateau.sim.strategy import Replay
from bateau.sim.token import TokenError, encode
from bateau.sync import Lock


def line_of(text: str) -> str:
    for number, line in enumerate(Path(__file__).read_text().splitlines(), 1):
        if line.strip().endswith(text):
            return f"test_exploring.py:{number}"
    raise AssertionError(text)


async def lost_update():
    state = {"x": 0}

    async def increment():
        value = state["x"]
        await vtime.sleep(random.random())  # the gap
        state["x"] = value + 1

    async with bateau.scope() as scope:
        for n in range(2):
            scope.spawn(increment, name=f"increment {n}")
    assert state["x"] == 2  # the check


async def guarded_update():
    state = {"x": 0}
    lock = Lock()

    async def increment():
        async with lock:
            value = state["x"]
            await vtime.sleep(random.random())
            state["x"] = value + 1

    async with bateau.scope() as scope:
        for _ in range(2):
            scope.spawn(increment)
    assert state["x"] == 2


async def opposite_locks():
    a, b = Lock(), Lock()

    async def one():
        async with a, b:  # a, then b
            await vtime.sleep(0)

    async def two():
        async with b, a:  # b, then a
            await vtime.sleep(0)

    async with bateau.scope() as scope:
        scope.spawn(one, name="one")
        scope.spawn(two, name="two")


async def early_timeout():
    """A timeout may come although the work is as good as done: the machine may be that slow."""
    done = bateau.sync.Event()

    async def work():
        await vtime.sleep(0)
        done.set()

    async with bateau.scope() as scope:
        scope.spawn(work)
        with bateau.fail_after(0.05):  # no time at all
            await done.wait()


def test_what_fails_always_is_found_by_production_itself():
    with pytest.raises(sim.Found) as caught:
        sim.explore(lost_update, strategy="fifo", seeds=3)
    found = caught.value
    assert isinstance(found.error, AssertionError)
    assert found.__cause__ is not None
    assert found.run.choices == {}
    assert "every one of" in found.story
    assert line_of("# the check") in found.story
    assert line_of("# the gap") in found.story  # where the tasks stood


def test_a_deadlock_is_found_explained_shrunk_and_replayed():
    with pytest.raises(sim.Found) as caught:
        sim.explore(opposite_locks, seeds=2000)
    found = caught.value
    assert isinstance(found.error, bateau.Deadlock)
    assert "a ring of waits: 'one' -> 'two' -> 'one'" in found.story
    assert line_of("# a, then b") in found.story
    assert line_of("# b, then a") in found.story
    assert sum(map(len, found.run.choices.values())) <= 3
    again = sim.replay(opposite_locks, found.token)
    assert isinstance(again.error, bateau.Deadlock)
    assert again.digest == sim.replay(opposite_locks, found.token).digest
    assert not re.search("0x[0-9a-f]{6}", found.story)  # an address would be another one in each run


async def short_one():
    await bateau.checkpoint()


async def fails_alone():
    await bateau.checkpoint()
    raise KeyError("of its own")


def test_the_token_of_another_scenario_does_not_pass_for_a_replay():
    with pytest.raises(sim.Found) as caught:
        sim.explore(opposite_locks, seeds=2000)
    token = caught.value.token

    with pytest.raises(
        TokenError, match=r"nothing failed, but .*it was made of .*:opposite_locks, and this is .*:short_one"
    ):
        sim.replay(short_one, token)
    passed = sim.replay(short_one, token, strict=False)
    assert passed.error is None
    assert passed.strayed[-1].startswith("it was made of")
    # A function inside another has no name that a token could know: what tells is what the run is asked.
    no_name = functools.partial(short_one)
    late = encode(one_run(opposite_locks, strategy=Replay({"tasks test": {0: 1}})))
    with pytest.raises(
        TokenError, match=r"nothing failed, but .*1 of the 1 answers of 'tasks test' were never asked for"
    ):
        sim.replay(no_name, late)
    failed = sim.replay(fails_alone, token)
    assert isinstance(failed.error, KeyError)
    assert "NOTE: this run went another way" in tell(failed, token)
    # A token of its own scenario, shrunk or not, is asked for every answer.
    assert sim.replay(opposite_locks, token).strayed == []


def test_what_is_right_passes():
    for strategy in ("fifo", "random", "pct", "pos", "surw"):
        covered = sim.explore(guarded_update, seeds=100, strategy=strategy)
        assert covered.runs == 100
        assert "100 runs" in str(covered)


def test_time_may_go_on_before_those_who_are_ready():
    with pytest.raises(sim.Found) as caught:
        sim.explore(early_timeout, seeds=3000)
    assert isinstance(caught.value.error, TimeoutError)
    assert "time goes on before" in caught.value.story
    assert line_of("# no time at all") in caught.value.story


def test_several_processes_find_the_same():
    covered = sim.explore(guarded_update, seeds=200, jobs=2)
    assert covered.runs == 200
    assert covered.steps == sim.explore(guarded_update, seeds=200).steps
    with pytest.raises(sim.Found) as caught:
        sim.explore(opposite_locks, seeds=2000, jobs=2)
    assert isinstance(sim.replay(opposite_locks, caught.value.token).error, bateau.Deadlock)


def test_several_processes_need_independent_runs():
    with pytest.raises(ValueError, match="can't share them"):
        sim.explore(guarded_update, strategy="exhaustive", jobs=2)
    with pytest.raises(ValueError, match="number of processes"):
        sim.explore(guarded_update, jobs=0)


def test_a_check_after_each_run():
    seen = []

    async def scenario():
        seen.append(random.random())

    with pytest.raises(sim.Found, match="check"):
        sim.explore(scenario, seeds=100, check=lambda: seen[-1] < 0.9)
    sim.explore(scenario, seeds=20, check=lambda: seen[-1] < 1)


def test_an_unknown_strategy_names_the_known():
    with pytest.raises(ValueError, match=r"choose from fifo, random"):
        sim.explore(guarded_update, strategy="luck")


def test_a_run_that_is_not_under_control_is_said_to_be():
    outside = [0]

    async def scenario():
        outside[0] += 1
        assert outside[0] != 3

    with pytest.raises(sim.Found, match="does not replay"):
        sim.explore(scenario, seeds=10)


def test_progress_and_coverage():
    told = []

    async def scenario():
        sim.buggify("here", 0.5)
        await vtime.sleep(3)

    covered = sim.explore(scenario, seeds=50, progress=lambda covered: told.append(covered.runs))
    assert told == list(range(1, 51))
    assert covered.asked["buggify"] == 50
    assert 10 < covered.answered["buggify"] < 40
    assert covered.seconds == 150


def test_always_names_itself_and_the_moment():
    async def scenario():
        state = {"balance": 10}

        def not_negative():
            assert state["balance"] >= 0, f"balance {state['balance']}"

        sim.always(not_negative)
        await vtime.sleep(1)
        state["balance"] -= 20
        await vtime.sleep(1)
        state["balance"] += 20

    with pytest.raises(sim.InvariantBroken, match=r"not_negative at (?s:.*): balance -10(?s:.*)\(at 1.000000 s"):
        sim.run(scenario)


def test_unchanged():
    async def scenario():
        items = [1, 2]
        sim.unchanged(lambda: tuple(items), "the items")
        await vtime.sleep(1)
        items.append(3)
        await vtime.sleep(1)

    with pytest.raises(sim.InvariantBroken, match=r"changed: the items: from \(1, 2\) to \(1, 2, 3\)"):
        sim.run(scenario)


@pytest.mark.parametrize("within", [None, 5.0])
def test_eventually(within):
    async def scenario(comes_at):
        came = []
        sim.eventually(lambda: came, within)
        await vtime.sleep(comes_at)
        came.append(1)
        await vtime.sleep(0)
        came.clear()  # once was enough
        await vtime.sleep(10)

    async def never():
        sim.eventually(lambda: False, within, "the answer")
        await vtime.sleep(10)

    sim.run(scenario, 3)
    with pytest.raises(sim.InvariantBroken, match="did not come true .*: the answer"):
        sim.run(never)
    if within is not None:
        with pytest.raises(sim.InvariantBroken, match=r"within 5 s"):
            sim.run(scenario, 6)


def test_a_check_is_made_after_runs_that_wait_for_something_too():
    calls = []

    async def scenario():
        sim.eventually(lambda: bateau.now() > 0.5, within=5)
        await vtime.sleep(1)

    def check():
        calls.append(None)
        return False

    with pytest.raises(sim.Found, match="check"):
        sim.explore(scenario, seeds=1, check=check)
    assert calls


@pytest.mark.parametrize("call", [sim.always, sim.unchanged, sim.eventually])
def test_invariants_belong_to_a_run(call):
    with pytest.raises(bateau.NotInRuntime, match="inside a scenario"):
        call(lambda: True)


def test_cancel_everywhere_finds_the_point_without_cleanup():
    opened: list[str] = []

    async def connect():
        await vtime.sleep(0.1)
        opened.append("socket")
        await vtime.sleep(0.1)  # the handshake: cancelled here, nobody closes

    async def use():
        opened.clear()
        async with bateau.scope(name="job"):
            await connect()
            try:
                await vtime.sleep(1)
            finally:
                opened.pop()

    with pytest.raises(sim.Found) as caught:
        sim.cancel_everywhere(use, scope="job", check=lambda: not opened)
    assert "cancel everywhere in scope 'job': fails with point 1 (of 3)" in str(caught.value)
    assert line_of("cancelled here, nobody closes") in caught.value.story
    assert sim.replay(use, caught.value.token, check=lambda: not opened, forgive=bateau.Cancelled).failed


def test_cancel_everywhere_passes_what_cleans_up_and_tries_pairs():
    opened: list[str] = []

    async def use():
        opened.clear()
        async with bateau.scope(name="job"):
            try:
                opened.append("x")
                await vtime.sleep(1)
            finally:
                async with bateau.cleanup(5):
                    await vtime.sleep(0.1)
                    opened.pop()
            await vtime.sleep(1)

    assert sim.cancel_everywhere(use, scope="job", check=lambda: not opened).runs == 4
    assert sim.cancel_everywhere(use, scope="job", pairs=True, check=lambda: not opened).runs > 4
    assert sim.cancel_everywhere(use, check=lambda: not opened).exhausted


def test_cancel_everywhere_says_when_there_is_nothing_to_cancel():
    async def scenario():
        await vtime.sleep(1)

    async def twice():
        await scenario()
        await scenario()

    with pytest.raises(ValueError, match="never came to a point"):
        sim.cancel_everywhere(scenario, scope="nobody")
    with pytest.raises(ValueError, match="2 points, more than most=1"):
        sim.cancel_everywhere(twice, most=1)


def test_crash_everywhere():
    """A counter kept in memory that its host must not lose: it does, at any point after the first increment."""
    stored = {"value": 0}

    async def server(acknowledged):
        await vtime.sleep(1)
        acknowledged.append(1)  # told to the client, and written nowhere
        await vtime.sleep(1)
        stored["value"] += 1

    async def scenario(world):
        stored["value"] = 0
        acknowledged: list[int] = []
        world.host("server").start(server, acknowledged)
        await vtime.sleep(1.5)
        promised = len(acknowledged)
        await vtime.sleep(10)
        assert stored["value"] >= promised

    # Without restart the promise is broken; restarted it is kept, because the program does it all again.
    with pytest.raises(sim.Found, match="crash everywhere in host 'server'"):
        sim.crash_everywhere(scenario, "server", restart_after=None)
    assert sim.crash_everywhere(scenario, "server", restart_after=0.1).runs >= 3


def test_pictures():
    with pytest.raises(sim.Found) as caught:
        sim.explore(opposite_locks, seeds=2000)
    run = caught.value.run
    drawn = svg(run)
    assert drawn.startswith("<svg")
    assert drawn.count("<rect") > 5
    for told in (
        "virtual time, one column per event",
        ">0 s<",
        ">a step<",
        ">it fails<",
        ">an order other than usual<",
    ):
        assert told in drawn
    assert ">freeze, thaw<" not in drawn, "the legend names what is there"
    ET.fromstring(drawn)
    page = html(run, caught.value.token)
    assert caught.value.token in page
    assert "test:one" in page


def test_the_title_of_a_picture_is_not_cut_in_silence():
    async def long():
        raise ValueError("word " * 200 + "<end>")

    drawn = svg(one_run(long))
    root = ET.fromstring(drawn)
    lines = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text") if each.get("class") == "h"]
    assert len(lines) == 3
    assert lines[-1].endswith("word …")
    assert "<end>" in root.find("{http://www.w3.org/2000/svg}title").text


def test_stepping_through_by_hand():
    said: list[str] = []
    answers = iter(["w", "v", "nonsense", "", "u one", ""])

    def ask() -> str:
        answer = next(answers, None)
        if answer is None:
            raise EOFError
        return answer

    with pytest.raises(sim.Found) as caught:
        sim.explore(opposite_locks, seeds=2000)
    run = sim.replay(opposite_locks, caught.value.token, prepare=Stepper(ask, said.append).attach)
    assert run.failed
    text = "\n".join(said)
    assert "process test (opposite_locks)" in text  # w
    assert "opposite_locks at" in text  # v
    assert text.count("who waits on what") == 2  # at the start, and after nonsense


def in_threads() -> None:
    total = 0
    lock = threading.Lock()

    def add(number: int) -> None:
        nonlocal total
        with lock:
            time.sleep(number)
            total += number

    adders = [threading.Thread(target=add, args=(number,), name=f"adder {number}") for number in (1, 2)]
    for each in adders:
        each.start()
    for each in adders:
        each.join()
    assert total == 4


def one_thread() -> None:
    time.sleep(1)
    raise KeyError("one")


def test_stepping_through_threads():
    """Where no task ever makes a step."""
    said: list[str] = []
    answers = iter(["u adder 1", "v", "w", ""])
    run = sim.replay(in_threads, token_of(in_threads), prepare=Stepper(lambda: next(answers, "c"), said.append).attach)
    assert run.failed
    text = "\n".join(said)
    assert "number = 1" in text
    assert "lock = <locked lock made at" in text
    assert "thread 'adder 2'" in text
    for scenario in (in_threads, one_thread):
        answers = iter(["", "q"] if scenario is in_threads else ["q"])  # the second one not in the test's own thread
        with pytest.raises(KeyboardInterrupt):
            sim.replay(scenario, token_of(scenario), prepare=Stepper(lambda: next(answers), print).attach)  # noqa: B023


def test_leaving_while_stepping_leaves_nothing_behind():
    async def scenario():
        await vtime.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        sim.replay(scenario, token_of(scenario), prepare=Stepper(lambda: "q", lambda text: None).attach)
    assert time.monotonic() > 1  # the real one again


def token_of(scenario) -> str:
    from bateau.sim.running import one_run
    from bateau.sim.token import encode

    return encode(one_run(scenario))


def test_a_token_of_other_options_is_refused():
    async def scenario():
        await vtime.sleep(1)

    with pytest.raises(ValueError, match="other options"):
        sim.replay(scenario, token_of(scenario), faults=sim.Faults.some())


@pytest.mark.parametrize("call", [sim.explore, sim.cancel_everywhere, sim.run])
def test_a_misspelt_option_is_an_error(call):
    with pytest.raises(TypeError, match="no option 'fautls'; it has .*faults"):
        call(guarded_update, fautls=sim.Faults.many())


@pytest.mark.parametrize("seeds", [0, -1, "many", 1.5, True, None, []])
def test_no_seeds_are_an_error(seeds):
    with pytest.raises((TypeError, ValueError), match="how many runs"):
        sim.explore(guarded_update, seeds=seeds)


def test_looking_at_a_run_does_not_change_it():
    with pytest.raises(sim.Found) as caught:
        sim.explore(lost_update, seeds=50)
    plain = sim.replay(lost_update, caught.value.token)
    looked = sim.replay(
        lost_update,
        caught.value.token,
        prepare=Stepper(lambda: Path(__file__).read_text()[:0], lambda text: None).attach,
    )
    assert looked.digest == plain.digest


async def busy_tasks():
    async def of_asyncio():
        while True:
            await asyncio.sleep(0)

    async with bateau.scope() as scope:
        scope.spawn(of_asyncio, name="bateau's own")
        one = asyncio.get_running_loop().create_task(of_asyncio(), name="asyncio's own")
        await one


def test_a_task_that_is_ready_is_told_to_be():
    with pytest.raises(sim.NoProgress) as caught:
        sim.run(busy_tasks, max_steps=500)
    lines = str(caught.value).splitlines()
    assert [line.split(" at ")[0] for line in lines if "is ready: it goes on when it is its turn" in line] == [
        '  task "bateau\'s own"',
        '  asyncio task "asyncio\'s own"',
    ]


def test_a_cause_shows_no_frames_of_the_simulator():
    async def serve():
        async with await net.listen_tcp("0.0.0.0", 7) as listener, await listener.accept() as stream:
            await stream.recv()

    async def scenario(world):
        world.host("server").start(serve)
        await vtime.sleep(1)
        async with await net.connect_tcp("server", 7) as stream:
            await stream.sendall(b"x")  # reset here
            world.network.reset("test", "server")
            await stream.recv()

    with pytest.raises(sim.Found) as caught:
        sim.explore(scenario)
    story = caught.value.story
    assert isinstance(caught.value.error, bateau.Broken)
    assert "because of:\nConnectionResetError" in story
    assert not re.search(r"bateau/(sim|net|io)/\w+", story)
