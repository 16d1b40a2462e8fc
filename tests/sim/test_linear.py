"""Linearizability: the checker against brute force, each model, what it tells, and histories recorded in a world."""

from __future__ import annotations

import time
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bateau
from bateau import sim
from bateau.sim import models
from bateau.sim.history import History, Op, frozen
from bateau.sim.linear import NotLinearizable, Undecided, check_linearizable, is_linearizable
from bateau.time import sleep

# ---- histories, written and made up ----------------------------------------------------------------------------------

CLIENTS = 3


def played(*events) -> History:
    """`("a", "write", 1)` is a call, `("a", "->", value)` its answer, `("a", "fail")` and `("a", "unknown")` its other ends."""
    history, open_ops = History(), {}
    for client, what, *rest in events:
        if what == "->":
            open_ops.pop(client).respond(*rest)
        elif what == "fail":
            open_ops.pop(client).fail()
        elif what == "unknown":
            open_ops.pop(client).unknown()
        else:
            open_ops[client] = history.invoke(what, *rest, client=client)
    return history


def explained_by_brute_force(history: History, model: models.Model) -> bool:
    """The definition: some order of all answered and some of the unknown operations respects time and gives every answer."""
    answered = [op for op in history.ops if op.status == "answered"]
    open_ended = [op for op in history.ops if op.status in ("pending", "unknown")]
    for chosen in range(1 << len(open_ended)):
        ops = answered + [op for number, op in enumerate(open_ended) if chosen >> number & 1]
        if any(respects_time(order) and gives(order, model) for order in permutations(ops)):
            return True
    return False


def respects_time(order: tuple[Op, ...]) -> bool:
    return not any(
        later.status == "answered" and later.ended < earlier.invoked
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
    )


def gives(order: tuple[Op, ...], model: models.Model) -> bool:
    states = {model.initial}
    for op in order:
        states = {following for state in states for following in model.after(state, op)}
    return bool(states)


@st.composite
def histories(draw, calls):
    """Clients that call and are answered at random: `calls` draws (name, args, answer)."""
    history = History()
    waiting: dict[int, tuple[Op, object]] = {}
    for _ in range(draw(st.integers(1, 10))):
        client = draw(st.integers(0, CLIENTS - 1))
        if client in waiting:
            op, answer = waiting.pop(client)
            end = draw(st.sampled_from(["respond"] * 5 + ["unknown", "fail"]))
            if end == "respond":
                op.respond(answer)
            else:
                getattr(op, end)()
        elif len(history.ops) < 6:
            name, args, answer = draw(calls)
            waiting[client] = (history.invoke(name, *args, client=str(client)), answer)
    return history


SMALL = st.integers(0, 1)
CALLS = {
    models.Register(0): st.one_of(
        st.tuples(st.just("write"), st.tuples(SMALL), st.none()), st.tuples(st.just("read"), st.just(()), SMALL)
    ),
    models.CASRegister(0): st.one_of(
        st.tuples(st.just("write"), st.tuples(SMALL), st.none()),
        st.tuples(st.just("read"), st.just(()), SMALL),
        st.tuples(st.just("cas"), st.tuples(SMALL, SMALL), st.booleans()),
    ),
    models.Counter(): st.one_of(
        st.tuples(st.just("add"), st.just(()), st.none() | st.integers(1, 3)),
        st.tuples(st.just("read"), st.just(()), st.integers(0, 3)),
    ),
    models.Queue(): st.one_of(
        st.tuples(st.just("put"), st.tuples(SMALL), st.none()),
        st.tuples(st.just("get"), st.just(()), st.none() | SMALL),
    ),
    models.Set(): st.one_of(
        st.tuples(st.sampled_from(["add", "remove"]), st.tuples(SMALL), st.none() | st.booleans()),
        st.tuples(st.just("contains"), st.tuples(SMALL), st.booleans()),
        st.tuples(st.just("read"), st.just(()), st.sets(SMALL)),
    ),
    models.Map(): st.one_of(
        st.tuples(st.just("put"), st.tuples(SMALL, SMALL), st.none()),
        st.tuples(st.just("get"), st.tuples(SMALL), st.none() | SMALL),
        st.tuples(st.just("delete"), st.tuples(SMALL), st.none() | st.booleans()),
        st.tuples(st.just("cas"), st.tuples(SMALL, st.none() | SMALL, SMALL), st.booleans()),
    ),
    models.Mutex(): st.one_of(
        st.tuples(st.sampled_from(["acquire", "release"]), st.just(()), st.none()),
        st.tuples(st.just("try_acquire"), st.just(()), st.booleans()),
    ),
}


@pytest.mark.parametrize("model", CALLS, ids=lambda model: model.name)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_it_decides_as_brute_force_does(model, data):
    history = data.draw(histories(CALLS[model]))
    assert is_linearizable(history, model) == explained_by_brute_force(history, model)


@pytest.mark.parametrize("model", CALLS, ids=lambda model: model.name)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_prefix_it_blames_is_the_shortest_and_what_it_says_is_possible_is(model, data):
    history = data.draw(histories(CALLS[model]))
    if not is_linearizable(history, model):
        with pytest.raises(NotLinearizable) as caught:
            check_linearizable(history, model)
        error = caught.value
        prefix = History()
        prefix.ops = error.prefix
        assert not explained_by_brute_force(prefix, model)
        place = next(i for i, op in enumerate(prefix.ops) if op is error.culprit)
        for answer in error.possible:
            prefix.ops[place] = altered(error.culprit, "answered", answer)
            assert explained_by_brute_force(prefix, model)
        prefix.ops[place] = altered(error.culprit, "pending", None)
        assert explained_by_brute_force(prefix, model)
        assert repr(error.culprit) in str(error)


def altered(op: Op, status, value) -> Op:
    other = Op.__new__(Op)
    for slot in Op.__slots__:
        setattr(other, slot, getattr(op, slot))
    other.status, other.value = status, value
    return other


# ---- known histories ---------------------------------------------------------------------------------------------------


def test_a_stale_read_is_told_with_what_would_have_been_right():
    history = played(
        ("a", "write", 1), ("b", "read"), ("b", "->", 0), ("b", "read"), ("b", "->", 1),
        ("c", "read"), ("c", "->", 0), ("a", "->"), ("a", "read"), ("a", "->", 1),
    )  # fmt: skip
    with pytest.raises(NotLinearizable) as caught:
        check_linearizable(history, models.Register(0))
    error = caught.value
    assert error.culprit.client == "c"
    assert error.possible == [1]
    assert len(error.prefix) == 4, "what came after the bad answer is no part of the story"
    assert "read() -> 0   <- no order gives this answer; possible here: 1" in str(error)
    assert "this order explains the rest: read() -> 0; write(1) pending; read() -> 1" in str(error)


def test_an_unknown_write_may_come_late_or_never():
    history = played(("a", "write", 1), ("a", "unknown"), ("b", "read"), ("b", "->", 0), ("b", "read"), ("b", "->", 1))
    check_linearizable(history, models.Register(0))
    check_linearizable(played(("a", "write", 1), ("b", "read"), ("b", "->", 0)), models.Register(0))


def test_a_failed_write_never_happened():
    history = played(("a", "write", 1), ("a", "fail"), ("b", "read"), ("b", "->", 1))
    with pytest.raises(NotLinearizable):
        check_linearizable(history, models.Register(0))


def test_two_holders_of_a_mutex():
    history = played(("a", "acquire"), ("a", "->"), ("b", "acquire"), ("b", "->"), ("a", "release"), ("a", "->"))
    with pytest.raises(NotLinearizable, match="mutex") as caught:
        check_linearizable(history, models.Mutex())
    assert caught.value.culprit.client == "b"
    assert caught.value.possible == []


def test_a_queue_that_swaps_two_items():
    history = played(("a", "put", 1), ("a", "->"), ("a", "put", 2), ("a", "->"), ("b", "get"), ("b", "->", 2))
    with pytest.raises(NotLinearizable) as caught:
        check_linearizable(history, models.Queue())
    assert caught.value.possible == [1]


def test_keys_are_judged_apart_and_the_bad_one_is_named():
    history = played(
        ("a", "put", "x", 1), ("a", "->"), ("a", "put", "y", 1), ("a", "->"), ("b", "get", "x"), ("b", "->", 1),
        ("b", "get", "y"), ("b", "->", 7),
    )  # fmt: skip
    with pytest.raises(NotLinearizable, match="map, key 'y'") as caught:
        check_linearizable(history, models.Map())
    assert {op.args[0] for op in caught.value.prefix} == {"y"}


def test_values_need_not_be_hashable_and_are_kept_as_they_were():
    history = History()
    value = [1, {"k": {2}}]
    with history.operation("write", value):
        pass
    value.append(3)
    with history.operation("read") as op:
        op.value = [1, {"k": {2}}]
    check_linearizable(history, models.Register())
    with pytest.raises(TypeError, match="a history can hold what can be hashed"):
        frozen(Unhashable())


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


def test_a_model_of_ones_own_may_leave_several_states_open():
    class Bag(models.Model):
        """Gives back any of what was put in."""

        name = "bag"
        initial = frozenset()

        def after(self, state, op):
            if op.name == "put":
                return (state | {op.args[0]},)
            return [state - {item} for item in state if op.status != "answered" or item == op.value]

    puts = [(c, *e) for c in "ab" for e in (("put", c), ("->",))]
    check_linearizable(played(*puts, ("a", "take"), ("a", "->", "b"), ("a", "take"), ("a", "->", "a")), Bag())
    with pytest.raises(NotLinearizable, match="bag"):
        check_linearizable(played(*puts, ("a", "take"), ("a", "->", "b"), ("a", "take"), ("a", "->", "b")), Bag())


def test_misuse_is_told():
    history = played(("a", "write", 1), ("a", "->"))
    with pytest.raises(ValueError, match="a queue has no operation 'write'; it has get, put"):
        check_linearizable(history, models.Queue())
    op = history.invoke("read")
    op.respond(1)
    with pytest.raises(RuntimeError, match="has ended before"):
        op.fail()


def test_an_operation_whose_block_raises_is_unknown():
    history = History()
    with pytest.raises(OSError), history.operation("write", 1) as op:
        raise OSError("connection lost")
    assert op.status == "unknown"
    assert "connection lost" in repr(op)


# ---- size --------------------------------------------------------------------------------------------------------------


def register_run(clients: int, rounds: int, bad: bool) -> History:
    """Overlapping writes and reads of all clients that are linearizable by construction; or not, at the very end."""
    history = History()
    value = 0
    for number in range(rounds):
        ops = [history.invoke("write", number * clients + c, client=str(c)) for c in range(clients)]
        for c in reversed(range(clients)):
            value = number * clients + c
            ops[c].respond()
        reads = [history.invoke("read", client=str(c)) for c in range(clients)]
        for read in reads:
            read.respond(value)
    if bad:
        with history.operation("read") as op:
            op.value = -1
    return history


def test_thousands_of_operations_take_no_time():
    started = time.process_time()
    check_linearizable(register_run(5, 400, bad=False), models.Register(0))
    with pytest.raises(NotLinearizable) as caught:
        check_linearizable(register_run(5, 100, bad=True), models.Register(0))
    assert "operations before" in str(caught.value), "a long prefix is cut"
    assert time.process_time() - started < 20


def test_a_hopeless_search_is_given_up():
    history = History()
    writes = [history.invoke("put", number, client=str(number)) for number in range(12)]
    for op in writes:
        op.respond()
    for number in (*reversed(range(11)), 99):
        with history.operation("get") as op:
            op.value = number
    with pytest.raises(Undecided, match="use more keys"):
        check_linearizable(history, models.Queue(), max_states=2_000)


# ---- in a world ----------------------------------------------------------------------------------------------------------


def test_a_history_recorded_in_a_world_has_its_times_and_clients():
    async def scenario():
        history = History()
        value = 0

        async def write(new):
            nonlocal value
            with history.operation("write", new):
                await sleep(1)
                value = new
                await sleep(1)

        async def read():
            await sleep(1.5)
            with history.operation("read") as op:
                op.value = value

        async with bateau.scope() as s:
            s.spawn(write, 7, name="writer")
            s.spawn(read, name="reader")
        return history

    history = sim.run(scenario)
    check_linearizable(history, models.Register(0))
    write, read = history.ops
    assert (write.client, write.invoked_at, write.ended_at) == ("writer", 0.0, 2.0)
    assert (read.client, read.invoked_at, read.value) == ("reader", 1.5, 7)
    assert "writer  write(7) -> None" in str(history)
