"""Strategies: determinism, replay, the published properties of each, actors' names, and their cost."""

from __future__ import annotations

import math
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bateau
from bateau import sim
from bateau.sim.running import one_run
from bateau.sim.strategy import NAMES, ActorKeys, Replay, Strategy, by_name
from bateau.sim.strategy.exhaustive import Exhaustive
from bateau.sim.strategy.fifo import Fifo
from bateau.sim.strategy.pct import FIRST_GUESS, Pct
from bateau.sim.strategy.pos import Pos
from bateau.sim.strategy.random import Random
from bateau.sim.strategy.surw import ALL, Surw
from bateau.time import sleep
from support.toys import PARK, Toy

SEEDED = ("fifo", "random", "pct", "pos", "surw")


def made(name):
    """A toy's steps are no kernel tasks': following their instructions would follow the test's own."""
    return Exhaustive(reduce=False) if name == "exhaustive" else by_name(name)


def tree_of_actors(toy: Toy):
    """Actors that spawn, yield, park, wake each other and draw lots: something of everything."""

    def leaf(name):
        for _ in range(3):
            toy.log.append(name)
            yield
        if toy.parked:
            toy.wake(toy.parked[0])

    def branch(name):
        toy.spawn(leaf(name + "a"))
        yield
        if toy.chance("loss a>b", 0.3):
            toy.log.append("lost")
        toy.spawn(leaf(name + "b"))
        toy.log.append(toy.choose("ties", 3))
        yield PARK

    for name in "xyz":
        toy.spawn(branch(name))
    yield


# ---- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEEDED)
@settings(max_examples=25, deadline=None)
@given(seeds=st.lists(st.integers(), min_size=1, max_size=4))
def test_the_same_seeds_give_the_same_runs(name, seeds):
    def runs():
        strategy = by_name(name)
        found = []
        for seed in seeds:
            assert strategy.begin(seed)
            toy = Toy(strategy).run(tree_of_actors)
            strategy.end(None)
            found.append((toy.choices, toy.log))
        return found

    assert runs() == runs()


@pytest.mark.parametrize("name", [*SEEDED, "exhaustive"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers())
def test_every_run_replays_from_its_choices(name, seed):
    strategy = made(name)
    for _ in range(3):
        assert strategy.begin(seed)
        toy = Toy(strategy).run(tree_of_actors)
        strategy.end(None)
        replay = Replay(toy.choices)
        again = Toy(replay).run(tree_of_actors)
        assert (again.log, again.choices, again.asked) == (toy.log, toy.choices, toy.asked)
        assert replay.strayed() == []


@pytest.mark.parametrize("name", [*SEEDED, "exhaustive"])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_answers_are_always_possible(name, data):
    strategy = made(name)
    for seed in range(3):
        if not strategy.begin(seed):
            break
        toy = Toy(strategy)
        actors = [toy.spawn(iter(())) for _ in range(6)]
        for _ in range(data.draw(st.integers(0, 12))):
            ready = data.draw(st.lists(st.sampled_from(actors), min_size=1, unique=True))
            may_wait = data.draw(st.booleans())
            if len(ready) == 1 and not may_wait:
                strategy.only("tasks", ready[0])
            else:
                assert 0 <= strategy.step("tasks", ready, may_wait) < len(ready) + may_wait
            assert strategy.chance("loss", 0.5) in (0, 1)
            assert 0 <= strategy.choose("ties", 4) < 4
        if name == "exhaustive":
            break  # which rightly complains of a program that asks other questions each time


@pytest.mark.parametrize("name", SEEDED)
def test_faults_come_as_likely_as_was_said(name):
    strategy = by_name(name)
    strategy.begin(5)
    for p in (0.01, 0.5, 0.99):
        count = sum(strategy.chance("loss", p) for _ in range(10_000))
        assert abs(count - 10_000 * p) < 5 * math.sqrt(10_000 * p * (1 - p))


def test_a_strategy_of_ones_own_does_what_production_does_where_it_says_nothing():
    class Mine(Strategy):
        def choose(self, stream, n):
            return n - 1

    toy = Toy(Mine()).run(tree_of_actors)
    assert toy.choices == {"ties": {0: 2, 1: 2, 2: 2}}


def test_names_are_checked():
    assert set(NAMES) == {*SEEDED, "exhaustive"}
    with pytest.raises(
        ValueError, match="there is no strategy 'dfs'; choose from fifo, random, pct, pos, surw, exhaustive"
    ):
        by_name("dfs")
    for make in (lambda: Random(waits=1.0), lambda: Pct(waits=-0.1), lambda: Surw(waits=math.nan)):
        with pytest.raises(ValueError, match="waits is a probability"):
            make()
    for make in (lambda: Pct(0), lambda: Pct(2, steps=0)):
        with pytest.raises(ValueError, match="1 or more"):
            make()


# ---- fifo, random --------------------------------------------------------------------------------------------------------


def test_fifo_is_production():
    strategy = Fifo()
    strategy.begin(3)
    toy = Toy(strategy).run(tree_of_actors)
    assert set(toy.choices) <= {"loss a>b"}


def test_a_random_walk_chooses_evenly_and_waits_as_often_as_it_was_told():
    strategy = Random(waits=0.2)
    strategy.begin(1)
    toy = Toy(strategy)
    actors = [toy.spawn(iter(())) for _ in range(4)]
    without = Counter(strategy.step("tasks", actors, False) for _ in range(20_000))
    assert set(without) == {0, 1, 2, 3}
    assert all(abs(count - 5_000) < 350 for count in without.values())
    counts = Counter(strategy.step("tasks", actors, True) for _ in range(20_000))
    assert abs(counts[4] - 4_000) < 320
    assert all(abs(counts[index] - 4_000) < 320 for index in range(4))


# ---- pct -----------------------------------------------------------------------------------------------------------------


def chain(depth: int, others: int, noise: int):
    """A bug of exactly `depth` ordering constraints: two actors take turns `depth` + 1 times; `others` and `noise` are in the way.

    Each turn is one step; a turn whose predecessor has not happened comes to nothing for good.
    """

    def program(toy: Toy):
        def player(me):
            for turn in range(me, depth + 1, 2):
                for _ in range(noise):
                    yield
                if toy.state.get("turn", 0) == turn:
                    toy.state["turn"] = turn + 1
                yield

        def bystander():
            for _ in range(noise):
                yield

        for body in (player(1), player(0), *(bystander() for _ in range(others))):
            toy.spawn(body)
        return
        yield

    return program, lambda toy: toy.state.get("turn", 0) == depth + 1


@pytest.mark.parametrize(
    ("depth", "others", "noise", "runs"), [(1, 0, 0, 2000), (1, 3, 2, 2000), (2, 1, 1, 6000), (3, 0, 1, 12_000)]
)
def test_the_published_bound_of_pct_holds(depth, others, noise, runs):
    program, found = chain(depth, others, noise)
    strategy = Pct(depth, waits=0)
    hits = actors = 0
    for seed in range(runs):
        strategy.begin(seed)
        toy = Toy(strategy).run(program)
        hits += found(toy)
        actors = toy._made
    strategy.begin(0)
    bound = 1 / (actors * strategy.longest ** (depth - 1))
    expected = bound * runs
    assert expected > 10, "the measurement says nothing"
    assert hits > expected - 4 * math.sqrt(expected), f"{hits} of {runs}, and the bound says {expected:.0f}"


def test_pct_learns_how_long_runs_are():
    program, _ = chain(2, 2, 5)
    strategy = Pct(2)
    strategy.begin(0)
    assert all(1 <= point <= FIRST_GUESS for point in strategy._falls)
    steps = Toy(strategy).run(program).steps
    strategy.begin(1)
    assert strategy.longest == steps
    assert Pct(2, steps=7).longest == 0
    points = set()
    for seed in range(2000):
        strategy.begin(seed)
        points.update(strategy._falls)
    assert points == set(range(1, steps + 1))


def test_pct_without_change_points_runs_by_priority_alone():
    strategy = Pct(1, waits=0)
    strategy.begin(1)
    toy = Toy(strategy)
    actors = [toy.spawn(iter(())) for _ in range(5)]
    first = strategy.step("tasks", actors, False)
    assert all(strategy.step("tasks", actors, False) == first for _ in range(20))
    rest = actors[:first] + actors[first + 1 :]
    second = rest[strategy.step("tasks", rest, False)]
    assert strategy.step("tasks", [actors[first], second], False) == 0
    # Another stream may number its actors alike; they are others.
    strategy.step("tasks of another", list(reversed(actors)), False)
    assert strategy.step("tasks", [actors[first], second], False) == 0


# ---- pos -----------------------------------------------------------------------------------------------------------------


class Waiting:
    """An actor whose pending step follows a wait on some resource."""

    def __init__(self, number, resource):
        self.id = number
        self.waiting = type("Operation", (), {"resource": resource})()


def test_pos_keeps_the_order_of_what_does_not_race():
    # a and b wait for different things: while a runs again and again, b keeps its low priority, and does not run before a is gone.
    held_back = 0
    for seed in range(400):
        strategy = Pos(waits=0)
        strategy.begin(seed)
        a, b = Waiting(1, "one"), Waiting(2, "other")
        order = [strategy.step("tasks", [a, b], False) for _ in range(6)]
        held_back += order == [0] * 6
    # A random walk does this in one of 64 runs; drawing only the runner's priority anew, it is one of 7.
    assert 400 / 7 * 0.6 < held_back < 400 / 7 * 1.5


def test_pos_draws_anew_for_what_races():
    counts = Counter()
    strategy = Pos(waits=0)
    for seed in range(400):
        strategy.begin(seed)
        same = object()
        actors = [Waiting(1, same), Waiting(2, same)]
        counts[tuple(strategy.step("tasks", actors, False) for _ in range(3))] += 1
    assert len(counts) == 8
    assert max(counts.values()) < 90, "each of the eight orders of three races comes equally often"


# ---- surw ----------------------------------------------------------------------------------------------------------------


def lopsided(toy: Toy):
    """One actor with twelve steps and one with one: a random walk nearly always has the short one first."""

    def body(name, steps):
        for _ in range(steps):
            toy.log.append(name)
            yield

    toy.spawn(body("a", 12))
    toy.spawn(body("b", 1))
    return
    yield


def places_of_b(strategy, runs):
    counts = Counter()
    for seed in range(runs):
        strategy.begin(seed)
        toy = Toy(strategy).run(lopsided)
        strategy.end(None)
        if not isinstance(strategy, Surw) or strategy._selected is ALL:
            counts[toy.log.index("b")] += 1
    return counts


def test_surw_is_uniform_over_interleavings_where_a_random_walk_is_not():
    walk = places_of_b(Random(waits=0), 2000)
    assert walk[0] > 900
    assert sum(walk[place] for place in range(6, 13)) < 40
    uniform = places_of_b(Surw(waits=0), 4000)
    # With the steps that only end them a makes 13 and b 2: of their 105 interleavings 14 have b's first step first, 13 second...
    total = sum(uniform.values())
    assert total > 1500
    for place in range(12):
        expected = total * (14 - place) / 105
        assert abs(uniform[place] - expected) < 5 * math.sqrt(expected), uniform


def test_surw_selects_kinds_of_steps_it_has_seen():
    strategy = Surw(waits=0)
    seen = Counter()
    for seed in range(100):
        strategy.begin(seed)
        seen[strategy._selected] += 1
        run = one_run(deadlock_by_order, seed=seed, strategy=strategy)
        strategy.end(run)
    assert seen[ALL] > 15
    waits = {wait for wait, function in seen if function.endswith("take")}
    assert {"_Acquire", ""} <= waits, seen


# ---- replay --------------------------------------------------------------------------------------------------------------


def test_replay_fits_answers_to_their_questions_and_says_so():
    replay = Replay({"tasks": {0: 5, 3: 1}, "loss": {7: 1}})
    toy = Toy(replay)
    actors = [toy.spawn(iter(())) for _ in range(3)]
    assert replay.step("tasks", actors, False) == 2
    assert replay.step("tasks", actors, True) == 0
    assert replay.choose("unknown stream", 4) == 0
    told = replay.strayed()
    assert "answer 0 of 'tasks' was too large for its question" in told
    assert "1 of the 2 answers of 'tasks' were never asked for" in told
    assert "1 of the 1 answers of 'loss' were never asked for" in told
    replay.begin(0)
    assert replay.step("tasks", actors, True) == 3, "as large as it may be: the clock goes on"


def test_replay_of_nothing_is_production():
    assert Toy(Replay({})).run(tree_of_actors).log == Toy(Strategy()).run(tree_of_actors).log


# ---- actors' names ---------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_actors_have_the_same_names_in_every_schedule(seed):
    class Naming(Random):
        follows = True

        def begin(self, seed):
            self.keys = ActorKeys()
            return super().begin(seed)

        def step(self, stream, ready, may_wait):
            keys = self.keys.see(stream, ready)
            index = super().step(stream, ready, may_wait)
            self.keys.ran(stream, keys[index])
            return index

        def only(self, stream, actor):
            self.keys.ran(stream, self.keys.see(stream, [actor])[0])

    def program(toy: Toy):
        def body(path):
            assert toy.strategy.keys.key(toy.stream, toy.current) == ("tasks toy", 0, *path)
            for child in range(2 if len(path) < 2 else 0):
                toy.spawn(body((*path, child)))
                yield
            yield

        yield from body(())

    strategy = Naming(waits=0)
    strategy.begin(seed)
    Toy(strategy).run(program)
    assert len(strategy.keys._keys["tasks toy"]) == 1 + 2 + 4


# ---- cost ------------------------------------------------------------------------------------------------------------------


def cost_of(strategy, ready, rounds=20_000):
    strategy.begin(0)
    step = strategy.step
    best = math.inf
    for _ in range(5):
        started = time.process_time()
        for _ in range(rounds):
            step("tasks", ready, True)
        best = min(best, time.process_time() - started)
    return best / rounds


def test_a_step_of_a_random_walk_costs_little_more_than_the_call():
    toy = Toy(Strategy())
    ready = [toy.spawn(iter(())) for _ in range(4)]
    call = cost_of(Strategy(), ready)
    assert cost_of(Random(), ready) - call < 1e-6
    for strategy in (Pct(), Pos(), Surw()):
        assert cost_of(strategy, ready) - call < 30e-6


# ---- in the world ------------------------------------------------------------------------------------------------------------


async def lost_update():
    count = 0

    async def add():
        nonlocal count
        seen = count
        await sleep(0)
        count = seen + 1

    async with bateau.scope() as s:
        s.spawn(add)
        await sleep(0.1)
        s.spawn(add)
    assert count == 2


async def deadlock_by_order():
    first, second = bateau.sync.Lock(), bateau.sync.Lock()

    async def take(one, other):
        async with one:
            await sleep(0)
            async with other:
                pass

    async with bateau.scope() as s:
        s.spawn(take, first, second)
        await sleep(0)
        await sleep(0)
        s.spawn(take, second, first)


@pytest.mark.parametrize("name", ["random", "pct", "pos", "surw", "exhaustive"])
def test_each_finds_a_deadlock_that_production_does_not_have(name):
    sim.explore(deadlock_by_order, seeds=1, strategy="fifo")
    with pytest.raises(sim.Found) as caught:
        sim.explore(deadlock_by_order, seeds=500, strategy=name)
    assert isinstance(caught.value.error, bateau.Deadlock)


def test_exhaustive_proves_that_a_small_program_has_no_such_bug():
    async def ordered():
        first, second = bateau.sync.Lock(), bateau.sync.Lock()

        async def take():
            async with first:
                await sleep(0)
                async with second:
                    pass

        async with bateau.scope() as s:
            for _ in range(3):
                s.spawn(take)

    covered = sim.explore(ordered, seeds=10_000, strategy="exhaustive")
    assert covered.exhausted
    assert covered.runs < 200


def test_runs_of_a_world_are_the_same_again():
    for name in SEEDED:
        strategy, digests = by_name(name), []
        for _ in range(2):
            strategy = by_name(name)
            for seed in range(3):
                strategy.begin(seed)
                run = one_run(deadlock_by_order, seed=seed, strategy=strategy)
                strategy.end(run)
                digests.append((run.digest, run.choices))
        assert digests[:3] == digests[3:]
