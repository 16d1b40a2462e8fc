"""Exhaustive exploration: nothing is missed by leaving out what does not matter, and bounds visit what they say."""

from __future__ import annotations

from collections import Counter
from math import factorial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bateau.sim.strategy.exhaustive import Exhaustive
from bateau.sim.strategy.footprint import EVERYTHING, Footprint
from bateau.sim.strategy.frontier import Bounds, Frontier
from bateau.sim.strategy.replay import Replay
from bateau.sim.strategy.tree import NotReproducible, Tree
from support.toys import PARK, Toy, ToyLock


class ToyWatcher:
    """Knows the footprints of a toy's steps, because its programs say what they touch."""

    toy: Toy

    def reset(self):
        self.on = False

    def start(self):
        self.on = True

    def stop(self):
        if not self.on:
            return EVERYTHING
        self.on = False
        touched = self.toy.touched
        return Footprint.of([name for name, wrote in touched if not wrote], [name for name, wrote in touched if wrote])

    def met(self):
        return 0


def explore(program, outcome, *, limit=20_000, **options):
    """All outcomes of a program, how often each, and the strategy."""
    watcher = ToyWatcher()
    strategy = Exhaustive(watcher=watcher, **options)
    outcomes = Counter()
    while strategy.runs < limit and strategy.begin(0):
        watcher.toy = Toy(strategy)
        outcomes[outcome(watcher.toy.run(program))] += 1
        strategy.end(None)
    return outcomes, strategy


def final(toy: Toy):
    """The whole of what a program has done that anybody in it could know."""
    return (
        tuple(sorted(toy.state.items())),
        tuple(sorted((actor, tuple(seen)) for actor, seen in seen_by(toy).items())),
        len(toy.parked),
    )


def seen_by(toy: Toy):
    seen = {}
    for who, what in toy.log:
        seen.setdefault(who, []).append(what)
    return seen


# ---- known numbers -----------------------------------------------------------------------------------------------------


def writers(actors: int, steps: int, names: str):
    """Each actor reads and writes one thing per step, taking turns among those named."""

    def program(toy: Toy):
        def body(number):
            for step in range(steps):
                name = names[(number + step) % len(names)]
                toy.set(name, toy.get(name) * 3 + number)
                yield

        for number in range(actors):
            toy.spawn(body(number))
        return
        yield

    return program


@pytest.mark.parametrize(("actors", "steps"), [(2, 2), (2, 3), (3, 2)])
def test_without_reduction_it_makes_every_interleaving(actors, steps):
    _, strategy = explore(writers(actors, steps, "a"), final, reduce=False)
    length = steps + 1  # the last step of each only ends it
    assert strategy.runs == factorial(actors * length) // factorial(length) ** actors


@pytest.mark.parametrize(("actors", "steps"), [(2, 2), (2, 3), (3, 2)])
def test_with_reduction_it_makes_each_order_of_what_matters_once(actors, steps):
    outcomes, strategy = explore(writers(actors, steps, "a"), final)
    assert strategy.runs == factorial(actors * steps) // factorial(steps) ** actors
    assert strategy.redundant == 0
    assert set(outcomes.values()) == {1}


def test_independent_actors_take_one_run():
    def program(toy: Toy):
        def body(number):
            for _ in range(4):
                toy.set(f"own {number}", toy.get(f"own {number}") + 1)
                yield

        for number in range(5):
            toy.spawn(body(number))
        return
        yield

    assert explore(program, final)[1].runs == 1


def test_the_classic_of_one_writer_and_many_readers():
    # Flanagan's and Godefroid's example for which sleep sets alone explore far too much.
    def program(toy: Toy):
        def reader(number):
            toy.log.append((number, toy.get("x")))
            return
            yield

        def writer():
            toy.set("x", 1)
            return
            yield

        for number in range(7):
            toy.spawn(reader(number))
        toy.spawn(writer())
        return
        yield

    outcomes, strategy = explore(program, final)
    assert len(outcomes) == 2**7
    assert strategy.runs - strategy.redundant == 2**7


# ---- soundness: random programs ------------------------------------------------------------------------------------------

NAMES = st.sampled_from("abc")
LEAF = st.one_of(
    st.just(("yield",)),
    st.tuples(st.sampled_from(["read", "write", "add"]), NAMES),
    st.tuples(st.just("race"), NAMES),
    st.tuples(st.just("choose"), st.integers(2, 3)),
    st.just(("park",)),
    st.just(("wake",)),
)
OPS = st.recursive(
    st.lists(LEAF, max_size=3),
    lambda ops: st.lists(
        st.one_of(
            LEAF,
            st.tuples(st.just("lock"), st.sampled_from("xy"), ops),
            st.tuples(st.just("spawn"), ops),
            st.tuples(st.just("if"), NAMES, ops),
        ),
        max_size=3,
    ),
    max_leaves=5,
)
PROGRAMS = st.lists(OPS, min_size=2, max_size=3)


def made_of(bodies):
    def program(toy: Toy):
        locks = {name: ToyLock(toy, f"lock {name}") for name in "xy"}
        for number, ops in enumerate(bodies):
            toy.spawn(interpret(toy, locks, str(number), ops))
        return
        yield

    return program


def interpret(toy: Toy, locks, me, ops):
    for place, (what, *rest) in enumerate(ops):
        if what == "yield":
            yield
        elif what == "read":
            toy.log.append((me, toy.get(rest[0])))
        elif what == "write":
            toy.set(rest[0], me)
        elif what == "add":
            toy.set(rest[0], f"{toy.get(rest[0])}{me}")
        elif what == "race":
            seen = toy.get(rest[0])
            yield
            toy.set(rest[0], f"{seen}{me}")
        elif what == "choose":
            toy.log.append((me, toy.choose("luck", rest[0])))
        elif what == "park":
            toy.touched.append(("parked", True))
            yield PARK
        elif what == "wake":
            toy.touched.append(("parked", True))
            if toy.parked:
                toy.wake(toy.parked[0])
        elif what == "lock":
            yield from locks[rest[0]].acquire()
            yield from interpret(toy, locks, f"{me}.{place}", rest[1])
            locks[rest[0]].release()
        elif what == "spawn":
            toy.spawn(interpret(toy, locks, f"{me}.{place}", rest[0]))
        elif what == "if" and toy.get(rest[0]):
            yield from interpret(toy, locks, f"{me}.{place}", rest[1])


@settings(max_examples=400, deadline=None)
@given(PROGRAMS)
def test_the_reduced_search_finds_what_the_whole_one_finds(bodies):
    program = made_of(bodies)
    limit = 3000
    every, whole = explore(program, final, reduce=False, limit=limit)
    if not whole.exhausted:
        return  # too large to compare
    kept, reduced = explore(program, final)
    assert set(kept) == set(every)
    assert reduced.runs <= whole.runs
    assert sum(every.values()) == whole.runs


@settings(max_examples=100, deadline=None)
@given(PROGRAMS)
def test_what_is_not_redundant_is_no_two_times_the_same(bodies):
    # Two complete runs never have the same order of all dependent steps.
    program = made_of(bodies)
    orders = Counter()
    watcher = ToyWatcher()
    strategy = Exhaustive(watcher=watcher)
    while strategy.runs < 2000 and strategy.begin(0):
        toy = watcher.toy = Toy(strategy)
        trace = []
        luck = []
        toy.after_step = lambda toy, actor, trace=trace: trace.append((actor.id, tuple(toy.touched)))
        before = strategy.redundant
        toy.run(program)
        luck = tuple(what for _, what in toy.log)
        if strategy.redundant == before:
            orders[named_order(toy, trace), luck] += 1
        strategy.end(None)
    assert all(count == 1 for count in orders.values())


def named_order(toy: Toy, trace):
    """Pairs of dependent steps, in the order in which they were made (a canonical form of the partial order)."""
    count = Counter()
    steps = []
    for actor, touched in trace:
        count[actor] += 1
        steps.append(((actor, count[actor]), touched))
    pairs = [
        (one, other)
        for place, (one, first) in enumerate(steps)
        for other, second in steps[place + 1 :]
        if any(a == b and (v or w) for a, v in first for b, w in second)
    ]
    return frozenset(pairs), frozenset(step for step, _ in steps)


# ---- bounds --------------------------------------------------------------------------------------------------------------


def all_within(program, price, most):
    """Brute force: every sequence of answers, of which those within the bound count."""
    found, stack = set(), [()]
    while stack:
        prefix = stack.pop()
        asked = []

        class Scripted(Replay):
            def step(self, stream, ready, may_wait, prefix=prefix, asked=asked):
                at = len(asked)
                asked.append(len(ready))
                return prefix[at] if at < len(prefix) else 0

        toy = Toy(Scripted({})).run(program)
        answers = prefix + (0,) * (len(asked) - len(prefix))
        found.add((answers, final(toy)))
        for at in range(len(prefix), len(asked)):
            for answer in range(1, asked[at]):
                longer = answers[:at] + (answer,)
                if price(longer) <= most:
                    stack.append(longer)
    return found


@pytest.mark.parametrize("bound", [0, 1, 2])
@pytest.mark.parametrize(
    ("kind", "price"),
    [("preemptions", lambda answers: sum(map(bool, answers))), ("delays", lambda answers: sum(answers))],
)
def test_bounds_visit_every_run_within_them_once(kind, price, bound):
    program = writers(3, 2, "ab")
    expected = all_within(program, price, bound)
    outcomes, strategy = explore(program, final, **{kind: bound})
    assert strategy.exhausted
    assert strategy.runs == len(expected)
    assert set(outcomes) == {outcome for _, outcome in expected}


@settings(max_examples=60, deadline=None)
@given(bodies=PROGRAMS, bound=st.integers(0, 2))
def test_bounds_hold_and_come_in_order(bodies, bound):
    strategy = Exhaustive(preemptions=bound, faults=0)
    made = []
    while strategy.runs < 500 and strategy.begin(0):
        toy = Toy(strategy).run(made_of(bodies))
        strategy.end(None)
        made.append(toy.choices)
    skipped = [len(choices.get("tasks toy", {})) for choices in made]
    assert max(skipped, default=0) <= bound
    deviations = [sum(map(len, choices.values())) for choices in made]
    assert deviations == sorted(deviations), "the run closest to production comes first"


def test_bounds_are_checked():
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match="preemptions must be a number of times"):
            Exhaustive(preemptions=wrong)
    assert Bounds().waits == 0


def test_faults_yields_and_waits_are_bounded_each_for_itself():
    for faults in (0, 1, 2, None):
        for yields in (0, 1):
            seen = set()
            strategy = Exhaustive(faults=faults, yields=yields, waits=1, reduce=False)
            while strategy.begin(0):
                answers = tuple(strategy.chance("loss a>b", 0.5) for _ in range(3))
                gave_way = tuple(strategy.chance("yields test", 0.1) for _ in range(2))
                seen.add((answers, gave_way))
                strategy.end(None)
            assert max(sum(answers) for answers, _ in seen) == (3 if faults is None else faults)
            assert max(sum(gave_way) for _, gave_way in seen) == yields
            assert len(seen) == strategy.runs


def test_the_clock_may_go_first():
    strategy = Exhaustive(waits=1, reduce=False)
    seen = []
    toy = Toy(strategy)
    actors = [toy.spawn(iter(())) for _ in range(2)]
    while strategy.begin(0):
        seen.append([strategy.step("tasks toy", actors, True) for _ in range(2)])
        strategy.end(None)
    assert [2, 2] not in seen
    assert sorted(seen) == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1]]


# ---- errors ----------------------------------------------------------------------------------------------------------------


def test_a_program_that_does_not_reproduce_is_told_so():
    tree = Tree()
    assert tree.begin()
    tree.actors("tasks", [("a",), ("b",)], met=0, fixed=[("a",)])
    tree.end()
    assert tree.begin()
    with pytest.raises(NotReproducible, match="is not simulated"):
        tree.actors("tasks", [("a",), ("c",)], met=0)


def test_a_run_that_was_given_up_counts_as_made():
    strategy = Exhaustive(reduce=False)
    toy = Toy(strategy)
    actors = [toy.spawn(iter(())) for _ in range(3)]
    answers = []
    while strategy.begin(0):  # and no ``end``
        answers.append(strategy.step("tasks toy", actors, False))
    assert answers == [0, 1, 2]
    assert strategy.exhausted


def test_a_frontier_needs_no_more_than_its_deviations():
    frontier = Frontier()
    assert frontier.begin()
    assert [frontier.decide(2) for _ in range(10)] == [0] * 10
    assert len(frontier._heap) == 10


# ---- footprints -----------------------------------------------------------------------------------------------------------


def test_footprints_conflict_where_one_has_written():
    read, write = Footprint.of(["a"]), Footprint.of([], ["a"])
    assert not read.conflicts(read)
    assert read.conflicts(write)
    assert write.conflicts(read)
    assert write.conflicts(write)
    assert not write.conflicts(Footprint.of(["b"], ["c"]))
    assert EVERYTHING.conflicts(Footprint())
    assert Footprint().conflicts(EVERYTHING)
    assert read.joined(write).conflicts(read)


def test_objects_met_later_may_be_any_in_another_run():
    one, other = Footprint(), Footprint()
    one.write("count", 3)
    other.write("count", 4)
    assert not one.conflicts(other)
    assert one.before(3).conflicts(other)
    assert not one.before(4).conflicts(other)
    unknown = Footprint()
    unknown.read("count", None)
    assert unknown.conflicts(one)
    assert not unknown.conflicts(Footprint.of([], ["size"]))
