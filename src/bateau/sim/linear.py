"""Linearizability: whether a history could have come from an object that does one operation after the other.

*"Each operation seems to take effect at one moment between its call and its answer"* (Herlihy, Wing: "Linearizability: a correctness
condition for concurrent objects", 1990). The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with
Lowe's memory ("Testing for linearizability", 2017): operations are put in order one after the other, none before one that had been
answered when it was called, and no set of operations is tried twice with the same state. The problem is NP-complete; what keeps it
small is that few operations overlap, and that keys are judged apart.

An operation that failed is left out. One whose end is unknown may take effect at any time after its call, also never.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from .given import whole
from .history import History, Op, frozen, table
from .models import IMPOSSIBLE, WHOLE, IfSaid, Model

# Combinations of operations and state that are looked at before the search is given up.
DEFAULT_MAX_STATES = 5_000_000
# How many operations and possible answers a message shows.
MOST_SHOWN = 30
MOST_ANSWERS = 10


class NotLinearizable(AssertionError):
    """A history that no order explains.

    ``prefix`` is its shortest beginning that no order explains (of one key, ``key``, where those are judged apart), in the order of the
    calls; ``culprit`` is the operation whose answer ends it: without that answer there is an order, ``order``. ``possible`` are the
    answers that would have fitted, as far as they are known.
    """

    def __init__(
        self, model: Model, key: Hashable, prefix: list[Op], culprit: Op, order: list[Op], possible: list[Any]
    ) -> None:
        self.model = model
        self.key = key
        self.prefix = prefix
        self.culprit = culprit
        self.order = order
        self.possible = possible
        super().__init__(_explain(self))


class Undecided(RuntimeError):
    """The search was given up: the history is too long and too concurrent."""


def check_linearizable(history: History, model: Model, *, max_states: int = DEFAULT_MAX_STATES) -> None:
    """Raise ``NotLinearizable`` unless some order of the operations explains every answer in ``history``.

    Raises ``Undecided`` after ``max_states`` combinations, ``ValueError`` for an operation that ``model`` does not know.
    """
    _require(history, model, max_states)
    for key, ops in _parts(history, model).items():
        search = _Search(ops, model, max_states)
        if not search.run():
            raise _failure(ops, model, key, max_states)


def is_linearizable(history: History, model: Model, *, max_states: int = DEFAULT_MAX_STATES) -> bool:
    """``check_linearizable`` as a question."""
    _require(history, model, max_states)
    return all(_Search(ops, model, max_states).run() for ops in _parts(history, model).values())


def _require(history: Any, model: Any, max_states: Any) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what can't be judged."""
    if not isinstance(history, History):
        raise TypeError(f"history is a sim.History, not {history!r}")
    if not isinstance(model, Model):
        raise TypeError(
            f"model is an object that says what each operation does, as bateau.sim.models.Register(), not {model!r}"
            + (": call it" if isinstance(model, type) else "")
        )
    whole("max_states", max_states, 1)


def _parts(history: History, model: Model) -> dict[Hashable, list[Op]]:
    """The operations that may have had an effect, by key; under ``WHOLE`` if any of them concerns the whole object."""
    ops = [op for op in history.ops if op.status != "failed"]
    parts: dict[Hashable, list[Op]] = {}
    for op in ops:
        parts.setdefault(model.key(op), []).append(op)
    return {WHOLE: ops} if WHOLE in parts else parts


class _Entry:
    """A call or an answer, linked in the order of the history. ``answer`` of a call is the entry of its answer, if it has one."""

    __slots__ = ("answer", "bit", "following", "op", "previous")

    def __init__(self, op: Op | None, bit: int, answer: _Entry | None) -> None:
        self.op = op  # None in an answer, and in the head of the list
        self.bit = bit
        self.answer = answer
        self.previous: _Entry | None = None
        self.following: _Entry | None = None


def _linked(ops: Sequence[Op]) -> _Entry:
    """The head of the list of all calls and of the answers of those that were answered."""
    events: list[tuple[int, _Entry]] = []
    for number, op in enumerate(ops):
        answer = None
        if op.status == "answered":
            assert op.ended is not None
            answer = _Entry(None, 1 << number, None)
            events.append((op.ended, answer))
        events.append((op.invoked, _Entry(op, 1 << number, answer)))
    head = last = _Entry(None, 0, None)
    for _, entry in sorted(events, key=lambda event: event[0]):
        last.following, entry.previous = entry, last
        last = entry
    return head


def _lift(call: _Entry) -> None:
    """Take an operation out of the list."""
    for entry in (call, call.answer):
        if entry is not None:
            assert entry.previous is not None
            entry.previous.following = entry.following
            if entry.following is not None:
                entry.following.previous = entry.previous


def _put_back(call: _Entry) -> None:
    """The reverse of the last ``_lift`` that has not been undone."""
    for entry in (call.answer, call):
        if entry is not None:
            assert entry.previous is not None
            entry.previous.following = entry
            if entry.following is not None:
                entry.following.previous = entry


class _Search:
    """One search for an order of ``ops`` (sorted by their calls). ``order`` is what it found.

    States are sets of the model's states: all those in which the object can be after the operations so far, in that order.
    """

    def __init__(self, ops: Sequence[Op], model: Model, max_states: int) -> None:
        self.ops = ops
        self.model = model
        self.max_states = max_states
        self.order: list[Op] = []

    def run(self) -> bool:
        """Whether there is an order."""
        head = _linked(self.ops)
        left = sum(op.status == "answered" for op in self.ops)
        states: frozenset[Hashable] = frozenset({self.model.initial})
        done = 0
        seen: set[tuple[int, frozenset[Hashable]]] = set()
        path: list[tuple[_Entry, frozenset[Hashable]]] = []
        entry = head.following
        while left:
            assert entry is not None  # an operation that was answered is left, so its answer is in the list
            if entry.op is None:  # an answer: what it belongs to had to come before, and has found no place
                if not path:
                    return False
                entry, states = path.pop()
                _put_back(entry)
                done &= ~entry.bit
                left += entry.answer is not None
                entry = entry.following
                continue
            following = self._after(states, entry.op)
            if following and (done | entry.bit, following) not in seen:
                seen.add((done | entry.bit, following))
                if len(seen) > self.max_states:
                    raise self._given_up()
                path.append((entry, states))
                states = following
                done |= entry.bit
                left -= entry.answer is not None
                _lift(entry)
                entry = head.following
            else:
                entry = entry.following
        self.order = [entry.op for entry, _ in path if entry.op is not None]
        return True

    def _after(self, states: frozenset[Hashable], op: Op) -> frozenset[Hashable]:
        after = self.model.after
        if len(states) == 1:
            (state,) = states
            return frozenset(after(state, op))
        return frozenset(following for state in states for following in after(state, op))

    def _given_up(self) -> Undecided:
        return Undecided(
            f"{self.max_states} combinations of {len(self.ops)} operations on one {self.model.name} were tried without a result: "
            "use more keys, fewer clients at a time, or shorter histories; or raise max_states"
        )


# -- what to tell of a failure -----------------------------------------------------------------------------------------------


class _Prefix:
    """``ops`` as they were seen up to the moment ``end``: later calls had not been made, later answers not come."""

    def __init__(self, ops: Sequence[Op], end: int) -> None:
        self.ops = [_as_of(op, end) for op in ops if op.invoked <= end]


def _as_of(op: Op, end: int) -> Op:
    return op if op.status != "answered" or op.ended is None or op.ended <= end else _changed(op, "pending", None)


def _changed(op: Op, status: Any, value: Any) -> Op:
    """A copy of ``op`` with another end; it is in no history."""
    other = Op.__new__(Op)
    for slot in Op.__slots__:
        setattr(other, slot, getattr(op, slot))
    other.status = status
    other.value = value
    return other


def _failure(ops: list[Op], model: Model, key: Hashable, max_states: int) -> NotLinearizable:
    """Find the first answer that no order explains. A beginning of a linearizable history is linearizable, so halving finds it."""
    answers = sorted(op.ended for op in ops if op.status == "answered" and op.ended is not None)
    good, bad = (
        -1,
        len(answers) - 1,
    )  # with the first ``good`` + 1 answers there is an order, with ``bad`` + 1 there is none
    while bad - good > 1:
        middle = (good + bad) // 2
        if _Search(_Prefix(ops, answers[middle]).ops, model, max_states).run():
            good = middle
        else:
            bad = middle
    end = answers[bad]
    culprit = next(op for op in ops if op.status == "answered" and op.ended == end)
    prefix = _Prefix(ops, end).ops
    before = _Search([_changed(op, "pending", None) if op is culprit else op for op in prefix], model, max_states)
    before.run()
    return NotLinearizable(model, key, prefix, culprit, before.order, _possible(prefix, culprit, model, max_states))


def _possible(prefix: list[Op], culprit: Op, model: Model, max_states: int) -> list[Any]:
    """Which answers of ``culprit`` some order would explain: those that the model gives after some of the others, tried one by one."""
    candidates: dict[Hashable, Any] = {}
    for result in _results(prefix, culprit, model, max_states):
        candidates.setdefault(frozen(result), result)
    fitting: list[Any] = []
    for result in candidates.values():
        tried = [_changed(op, "answered", result) if op is culprit else op for op in prefix]
        if _Search(tried, model, max_states).run():
            fitting.append(result)
            if len(fitting) == MOST_ANSWERS:
                break
    return fitting


def _results(prefix: list[Op], culprit: Op, model: Model, max_states: int) -> list[Any]:
    """What the model gives for ``culprit`` in the states that any order of the others passes through."""
    found: dict[Hashable, Any] = {}

    class Asking(Model):
        """``model``, noting what it would answer to ``culprit`` in each state that the search comes to."""

        name = model.name
        initial = model.initial

        def after(self, state: Any, op: Op) -> Any:
            if op is not pending:
                return model.after(state, op)
            result, _ = model.apply(state, op)
            if result is not IMPOSSIBLE[0]:
                result = result.value if isinstance(result, IfSaid) else result
                found.setdefault(frozen(result), result)
            return ()

    # The culprit was answered at the very end: as one that is never put in order, it makes the search go through everything.
    pending = _changed(culprit, "answered", None)
    try:
        _Search([pending if op is culprit else op for op in prefix], Asking(), max_states).run()
    except (NotImplementedError, ValueError):  # a model with ``after`` alone says nothing of answers
        return []
    return list(found.values())


def _explain(error: NotLinearizable) -> str:
    model, culprit, prefix = error.model, error.culprit, error.prefix
    where = f"{model.name}, key {error.key!r}" if error.key is not WHOLE else model.name
    if error.possible:
        fits = ", ".join(map(repr, error.possible)) + (", ..." if len(error.possible) == MOST_ANSWERS else "")
        why = f"no order gives this answer; possible here: {fits}"
    else:
        why = "no order gives this answer"
    shown = prefix[-MOST_SHOWN:]
    if culprit not in shown:
        shown = [culprit, *shown[1:]]
    lines = [
        f"not linearizable ({where}): {culprit!r} of {culprit.client} fits into no order of what had been called until then",
        f"  ... {len(prefix) - len(shown)} operations before" if len(shown) < len(prefix) else "",
        table(shown, {culprit: why}),
    ]
    if error.order:
        order = [op for op in error.order if op is not culprit][-MOST_SHOWN:]
        lines.append(f"without that answer this order explains the rest: {'; '.join(map(repr, order))}")
    return "\n".join(line for line in lines if line)
