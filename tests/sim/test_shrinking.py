"""Shrinking: always to something that fails, never larger, the same each time, and minimal where that can be said."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bateau.sim.shrinking import Shrinker, choices_of, entries_of, moved, shrink, weight
from bateau.sim.strategy import Replay
from bateau.sim.strategy.random import Random
from support.toys import Toy

CHOICES = st.dictionaries(
    st.sampled_from(["tasks a", "tasks b", "loss a>b", "crash"]),
    st.dictionaries(st.integers(0, 40), st.integers(1, 9), max_size=12),
    max_size=4,
)


@given(CHOICES)
def test_entries_are_choices_and_back(choices):
    assert choices_of(entries_of(choices)) == {stream: answers for stream, answers in choices.items() if answers}


@settings(max_examples=200, deadline=None)
@given(CHOICES, st.data())
def test_any_failure_shrinks_to_one_no_larger(choices, data):
    # An arbitrary rule: some of the answers there are have to stay at least as large as drawn.
    needed = data.draw(st.sets(st.sampled_from(entries_of(choices)), max_size=5)) if entries_of(choices) else set()
    tried = []

    def still_fails(candidate):
        tried.append(entries_of(candidate))
        return all(candidate.get(s, {}).get(i, 0) >= (a + 1) // 2 for s, i, a in needed)

    result = shrink(choices, still_fails, max_runs=2000)
    assert entries_of(result) == tuple(sorted((s, i, (a + 1) // 2) for s, i, a in needed)), "nothing else is left"
    assert len(tried) == len(set(tried)), "nothing is run twice"
    tried.clear()
    assert shrink(choices, still_fails, max_runs=2000) == result


def test_it_tries_nothing_at_all_first():
    runs = []
    shrinker = Shrinker({"a": {1: 1}, "b": {2: 2}}, lambda choices: runs.append(choices) or True)
    assert shrinker.shrink() == {}
    assert runs == [{}]
    assert shrinker.finished


def test_whole_streams_go_in_one_run_each():
    choices = {f"loss {n}": dict.fromkeys(range(50), 1) for n in range(20)} | {"tasks": {4: 1}}
    shrinker = Shrinker(choices, lambda candidate: candidate.get("tasks") == {4: 1})
    assert shrinker.shrink() == {"tasks": {4: 1}}
    assert shrinker.runs <= 6


def test_many_answers_of_one_stream_take_few_runs():
    choices = {"tasks": {i: 1 + i % 3 for i in range(2000)}}
    needed = {137: 3, 1500: 1}
    shrinker = Shrinker(
        choices, lambda candidate: all(candidate.get("tasks", {}).get(i, 0) >= a for i, a in needed.items())
    )
    assert shrinker.shrink() == {"tasks": needed}
    assert shrinker.runs < 150


def test_answers_move_to_earlier_questions():
    def still_fails(candidate):
        at = sorted(candidate.get("tasks", {}))
        return len(at) >= 2 and at[1] - at[0] == 3  # only their distance matters

    assert shrink({"tasks": {20: 1, 23: 1}}, still_fails) == {"tasks": {0: 1, 3: 1}}


def test_what_stands_behind_a_removed_answer_may_have_to_move():
    def still_fails(candidate):
        asked, answers = 0, candidate.get("tasks", {})
        if answers.get(3):
            asked += 1  # this choice makes the program ask once more
        return answers.get(7 + asked, 0) == 1

    assert shrink({"tasks": {3: 1, 8: 1}}, still_fails) == {"tasks": {7: 1}}


def test_runs_are_bounded_and_what_was_found_until_then_is_kept():
    choices = {"tasks": dict.fromkeys(range(100), 1)}
    shrinker = Shrinker(choices, lambda candidate: len(candidate.get("tasks", {})) >= 10, max_runs=5)
    result = shrinker.shrink()
    assert shrinker.runs == 5
    assert not shrinker.finished
    assert 10 <= len(result["tasks"]) < 100
    assert shrink(choices, lambda _: True, max_runs=0) == choices
    with pytest.raises(ValueError, match="max_runs"):
        shrink(choices, lambda _: True, max_runs=-1)


def test_errors_of_the_run_are_passed_on():
    def broken(candidate):
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        shrink({"a": {1: 1}}, broken)


@given(CHOICES, st.integers(0, 20), st.integers(-3, 3))
def test_moving_keeps_the_answers_apart(choices, start, by):
    entries = entries_of(choices)
    start = min(start, len(entries))
    stream = entries[start][0] if start < len(entries) else "tasks a"
    result = moved(entries, start, stream, by)
    assert len(entries_of(choices_of(result))) == len(entries)
    assert weight(result)[:2] == weight(entries)[:2]
    assert all(index >= 0 for _, index, _ in result)


# ---- real schedules: a lost update among noise -------------------------------------------------------------------------


def lost_update(toy: Toy):
    def adder():
        yield
        seen = toy.get("count")
        yield
        toy.set("count", seen + 1)

    def noise():
        for _ in range(8):
            yield

    def locked_out():  # in production's order the two adders are far apart
        for _ in range(3):
            yield
        yield from adder()

    for body in (adder, noise, noise, locked_out):
        toy.spawn(body())
    yield


def test_a_schedule_found_at_random_shrinks_to_what_matters():
    strategy = Random(waits=0)

    def fails(choices):
        return Toy(Replay(choices)).run(lost_update).state["count"] == 1

    shrunk = []
    for seed in range(300):
        strategy.begin(seed)
        toy = Toy(strategy).run(lost_update)
        if toy.state["count"] == 1:
            shrinker = Shrinker(toy.choices, fails)
            result = shrinker.shrink()
            assert fails(result)
            assert shrinker.finished
            shrunk.append(sum(map(len, result.values())))
    assert len(shrunk) > 20
    # The late adder has to be preferred a few times, or the other held back: the result is locally minimal, if not always the best.
    assert min(shrunk) <= 3
    assert sum(shrunk) / len(shrunk) <= 5
    assert not fails({})
