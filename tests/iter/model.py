"""The obvious sequential model of combinators: a list of outcomes in, a list of outcomes out.

An outcome is an item, or a `Boom` in the place of an item that failed. Every combinator that the property tests know is a `Row` of
`TABLE`: how it is applied to an iterator, and what the model makes of a list. A new combinator is one more row.

Rows take and give numbers: what a combinator gives is folded to one by `number`, so that rows can be chained at will.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

import bateau
from bateau.iter import Retry


class Boom(Exception):
    """A failure; equal to another with the same key."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Boom) and self.args == other.args

    def __hash__(self) -> int:
        return hash(self.args)


Outcomes = list[Any]
# Makes a function sync or async, as the test has drawn.
Colour = Callable[[Callable[..., Any]], Callable[..., Any]]


def number(value: Any) -> int:
    """Any item as a number, order and nesting included."""
    if isinstance(value, (list, tuple)):
        total = 1
        for part in value:
            total = total * 3 + number(part)
        return total % 17
    return int(value)


# -- functions for rows: each fails for some numbers -------------------------------------------------------------------


def double(x: int) -> int:
    if x % 11 == 7:
        raise Boom("double", x)
    return x * 2 % 17


def odd(x: int) -> bool:
    if x % 11 == 6:
        raise Boom("odd", x)
    return x % 2 == 1


def small(x: int) -> bool:
    if x % 11 == 5:
        raise Boom("small", x)
    return x < 9


def half(x: int) -> int | None:
    if x % 11 == 4:
        raise Boom("half", x)
    return None if x % 2 else x // 2


def add(a: int, b: int) -> int:
    if (a + b) % 11 == 8:
        raise Boom("add", a, b)
    return (a + b) % 17


def pair(x: int) -> list[int]:
    if x % 11 == 3:
        raise Boom("pair", x)
    return [x] * (x % 3)


# -- models ------------------------------------------------------------------------------------------------------------


def each(fn: Callable[[Any], list[Any]]) -> Callable[..., Outcomes]:
    """A model of what looks at one item at a time: `fn` gives what becomes of it."""

    def model(outcomes: Outcomes, *_: Any) -> Outcomes:
        found: Outcomes = []
        for outcome in outcomes:
            if isinstance(outcome, Boom):
                found.append(outcome)
                continue
            try:
                found += fn(outcome)
            except Boom as error:
                found.append(error)
        return found

    return model


def stateful(make: Callable[..., Callable[[Any], list[Any] | None]]) -> Callable[..., Outcomes]:
    """The same with memory; None ends it."""

    def model(outcomes: Outcomes, *args: Any) -> Outcomes:
        step = make(*args)
        found: Outcomes = []
        for outcome in outcomes:
            if isinstance(outcome, Boom):
                found.append(outcome)
                continue
            try:
                given = step(outcome)
            except Boom as error:
                found.append(error)
                continue
            if given is None:
                break
            found += given
        return found

    return model


def taking_while() -> Callable[[Any], list[Any] | None]:
    return lambda x: [x] if small(x) else None


def skipping_while() -> Callable[[Any], list[Any]]:
    going = False

    def step(x: Any) -> list[Any]:
        nonlocal going
        going = going or not small(x)
        return [x] if going else []

    return step


def scanning() -> Callable[[Any], list[Any]]:
    state = 1

    def step(x: Any) -> list[Any]:
        nonlocal state
        state = add(state, x)
        return [state]

    return step


def deduping() -> Callable[[Any], list[Any]]:
    last: Any = None

    def step(x: Any) -> list[Any]:
        nonlocal last
        key = (half(x),)
        new, last = key != last, key
        return [x] if new else []

    return step


def keeping_unique() -> Callable[[Any], list[Any]]:
    seen: set[Any] = set()

    def step(x: Any) -> list[Any]:
        key = half(x)
        new = key not in seen
        seen.add(key)
        return [x] if new else []

    return step


def windowing(n: int) -> Callable[[Any], list[Any]]:
    last: list[Any] = []

    def step(x: Any) -> list[Any]:
        last.append(x)
        return [tuple(last[-n:])] if len(last) >= n else []

    return step


def skipping(outcomes: Outcomes, n: int) -> Outcomes:
    return [x for place, x in enumerate(outcomes) if place >= n or isinstance(x, Boom)]


def stepping(outcomes: Outcomes, n: int) -> Outcomes:
    return [x for place, x in enumerate(outcomes) if place % n == 0 or isinstance(x, Boom)]


def enumerating(outcomes: Outcomes) -> Outcomes:
    return [x if isinstance(x, Boom) else (place, x) for place, x in enumerate(outcomes)]


def chunking(outcomes: Outcomes, n: int) -> Outcomes:
    found: Outcomes = []
    for failed, run in itertools.groupby(outcomes, lambda x: isinstance(x, Boom)):
        items = list(run)
        found += items if failed else [items[i : i + n] for i in range(0, len(items), n)]
    return found


def zipping(outcomes: Outcomes, others: list[int]) -> Outcomes:
    rows = [x if isinstance(x, Boom) else (x, y) for x, y in zip(outcomes, others, strict=False)]
    # The item of this side that has no company has been asked for: if it failed, that is said.
    beyond = outcomes[len(others) : len(others) + 1]
    return rows + [x for x in beyond if isinstance(x, Boom)]


def cycling(outcomes: Outcomes, times: int) -> Outcomes:
    again = [x for x in outcomes if not isinstance(x, Boom)]
    return outcomes + again * (times - 1) if times else []


def grouping(outcomes: Outcomes) -> Outcomes:
    keyed: Outcomes = []
    for x in outcomes:
        try:
            keyed.append(x if isinstance(x, Boom) else (half(x), x))
        except Boom as error:
            keyed.append(error)
    found: Outcomes = []
    for key, run in itertools.groupby(keyed, lambda x: (True, 0) if isinstance(x, Boom) else (False, x[0])):
        items = list(run)
        found += items if key[0] else [(key[1] or 0, [x for _, x in items])]
    return found


def interleaving(outcomes: Outcomes, other: list[int]) -> Outcomes:
    rounds = itertools.zip_longest(outcomes, other, other, fillvalue=small_numbers)
    return [x for row in rounds for x in row if x is not small_numbers]


def parting(outcomes: Outcomes) -> Outcomes:
    judged: list[tuple[Any, bool | None]] = []
    for x in outcomes:
        try:
            judged.append((x, None if isinstance(x, Boom) else odd(x)))
        except Boom as error:
            judged.append((error, None))
    return [x for x, yes in judged if yes is not False] + [x for x, yes in judged if yes is not True]


def newest(outcomes: Outcomes, *_: Any) -> Outcomes:
    """Of a source that never pauses: what came last before a failure, or the end."""
    found: Outcomes = []
    for failed, run in itertools.groupby(outcomes, lambda x: isinstance(x, Boom)):
        items = list(run)
        found += items if failed else items[-1:]
    return found


def catching(outcomes: Outcomes) -> Outcomes:
    return [number(x.args[-1]) if isinstance(x, Boom) else x for x in outcomes]


# -- the table ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One combinator: `apply(it, colour, *args)` and `model(outcomes, *args)`, for `args` drawn from `draw`.

    `ordered` is False where the order of results is open: it is then compared as a multiset, and not chained.
    """

    name: str
    apply: Callable[..., bateau.iter.AsyncIter[Any]] | Any
    model: Callable[..., Outcomes]
    draw: tuple[st.SearchStrategy[Any], ...] = ()
    ordered: bool = True


small_numbers = st.integers(1, 4)
lists = st.lists(st.integers(0, 16), max_size=6)


def same(outcomes: Outcomes, *_: Any) -> Outcomes:
    return list(outcomes)


async def later(items: list[int]) -> Any:
    for item in items:
        await bateau.yield_now()
        yield item


def slow(items: list[int]) -> Any:
    """A sub-iterator with work in the background."""
    return bateau.iter(later(items)).prefetch(2)


def in_turn(parts: Any) -> Any:
    first, *others = parts
    return first.interleave(*others)


def one_by_one(parts: Any) -> Any:
    first, *others = parts
    return first.chain(*others)


def by_several(shared: Any) -> Any:
    return shared.iter().interleave(shared.iter(), shared)


TABLE: list[Row] = [
    Row("map", lambda it, c: it.map(c(double)), each(lambda x: [double(x)])),
    Row("map twice", lambda it, c: it.map(double).map(c(double)).map(number), each(lambda x: [double(double(x))])),
    Row("starmap", lambda it, c: it.map(lambda x: (x, 1)).starmap(c(add)), each(lambda x: [add(x, 1)])),
    Row("filter", lambda it, c: it.filter(c(odd)), each(lambda x: [x] if odd(x) else [])),
    Row("filter_map", lambda it, c: it.filter_map(c(half)), each(lambda x: [] if half(x) is None else [half(x)])),
    Row("inspect", lambda it, c: it.inspect(c(double)), each(lambda x: [double(x) and x or x])),
    Row("flat_map", lambda it, c: it.flat_map(c(pair)), each(pair)),
    Row("flat_map in the background", lambda it, c: it.flat_map(lambda x: slow(pair(x))), each(pair)),
    Row("flat_map of generators", lambda it, c: it.flat_map(lambda x: later(pair(x))), each(pair)),
    Row("flatten", lambda it, c: it.map(pair).flatten(), each(pair)),
    Row("take", lambda it, c, n: it.take(n), lambda o, n: o[:n], (st.integers(0, 8),)),
    Row("take_while", lambda it, c: it.take_while(c(small)), stateful(taking_while)),
    Row("skip", lambda it, c, n: it.skip(n), skipping, (st.integers(0, 8),)),
    Row("skip_while", lambda it, c: it.skip_while(c(small)), stateful(skipping_while)),
    Row("step_by", lambda it, c, n: it.step_by(n), stepping, (small_numbers,)),
    Row("enumerate", lambda it, c: it.enumerate(), enumerating),
    Row("scan", lambda it, c: it.scan(1, c(add)), stateful(scanning)),
    Row("dedup", lambda it, c: it.dedup(c(half)), stateful(deduping)),
    Row("unique", lambda it, c: it.unique(c(half)), stateful(keeping_unique)),
    Row("window", lambda it, c, n: it.window(n), stateful(windowing), (small_numbers,)),
    Row("chunks", lambda it, c, n: it.chunks(n), chunking, (small_numbers,)),
    Row("zip", lambda it, c, other: it.zip(other), zipping, (lists,)),
    Row("zip with a generator", lambda it, c, other: it.zip(later(other)), zipping, (lists,)),
    Row("chain", lambda it, c, other: it.chain(other, later(other)), lambda o, other: o + other + other, (lists,)),
    Row("cycle", lambda it, c, times: it.cycle(times), cycling, (st.integers(0, 3),)),
    Row("catch", lambda it, c: it.catch(Boom, c(lambda e, _: number(e.args[-1]))), catching),
    Row("catch all", lambda it, c: it.catch(Boom), lambda o: [x for x in o if not isinstance(x, Boom)]),
    Row("group_by", lambda it, c: it.group_by(c(half)).map(lambda run: (run[0] or 0, run[1])), grouping),
    Row("retry", lambda it, c: it.map(c(double)).retry(Retry(1, delay=0)), each(lambda x: [double(x)])),
    Row("timeout", lambda it, c: it.map(c(double)).timeout(100), each(lambda x: [double(x)])),
    Row("throttle", lambda it, c: it.throttle(10**6), same),
    Row("progress", lambda it, c: it.progress(c(lambda progress: None)), same),
    Row("batch", lambda it, c, n: it.batch(n, wait=100), chunking, (small_numbers,)),
    Row(
        "catch before buffered",
        lambda it, c, n: it.catch(Boom, lambda e, _: number(e.args[-1])).map(c(double)).buffered(n),
        lambda o, n: each(lambda x: [double(x)])(catching(o)),
        (small_numbers,),
    ),
    Row(
        "catch before retry",
        lambda it, c: it.catch(Boom, lambda e, _: number(e.args[-1])).map(c(double)).retry(Retry(1, delay=0)),
        lambda o: each(lambda x: [double(x)])(catching(o)),
    ),
    Row("interleave", lambda it, c, other: it.interleave(other, later(other)), interleaving, (lists,)),
    Row("merge", lambda it, c, o: it.merge(o, later(o)), lambda o, other: o + other + other, (lists,), ordered=False),
    Row(
        "merge_with_priority",
        lambda it, c, other: it.merge_with_priority(later(other), other),
        lambda o, other: o + other + other,
        (lists,),
        ordered=False,
    ),
    Row(
        "tee in turn",
        lambda it, c, n: in_turn(it.tee(n, limit=1)),
        lambda o, n: [x for x in o for _ in range(n)],
        (small_numbers,),
    ),
    Row(
        "tee one by one",
        lambda it, c, n: one_by_one(it.tee(n, unbounded=True)),
        lambda o, n: o * n,
        (small_numbers,),
    ),
    Row("partition", lambda it, c: one_by_one(it.partition(c(odd), unbounded=True)), parting),
    Row("share", lambda it, c: by_several(it.share()), same),
    Row("debounce", lambda it, c: it.debounce(1000), newest),
    Row("sample", lambda it, c: it.sample(1000), newest),
    Row("prefetch", lambda it, c, n: it.prefetch(n), same, (small_numbers,)),
    Row("buffered", lambda it, c, n: it.map(c(double)).buffered(n), each(lambda x: [double(x)]), (small_numbers,)),
    Row(
        "buffered after several",
        lambda it, c, n: it.filter(odd).map(c(double)).buffered(n),
        each(lambda x: [double(x)] if odd(x) else []),
        (small_numbers,),
    ),
    Row(
        "buffered_unordered",
        lambda it, c, n: it.map(c(double)).buffered_unordered(n),
        each(lambda x: [double(x)]),
        (small_numbers,),
        ordered=False,
    ),
]

# -- ends: `apply(it, colour)` and what the model makes of the outcomes, or raises --------------------------------------


def first_error(outcomes: Outcomes) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Boom):
            raise outcome


def whole(fn: Callable[[list[Any]], Any]) -> Callable[[Outcomes], Any]:
    """The model of an end that needs every item."""

    def model(outcomes: Outcomes) -> Any:
        first_error(outcomes)
        return fn(outcomes)

    return model


def up_to(outcomes: Outcomes) -> Iterator[Any]:
    for outcome in outcomes:
        if isinstance(outcome, Boom):
            raise outcome
        yield outcome


def folding(outcomes: Outcomes) -> int:
    state = 1
    for item in up_to(outcomes):
        state = add(state, item)
    return state


def reducing(outcomes: Outcomes) -> Any:
    state = None
    for item in up_to(outcomes):
        state = item if state is None else add(state, item)
    return state


def most(best: Callable[..., Any]) -> Callable[[Outcomes], Any]:
    def model(outcomes: Outcomes) -> Any:
        keyed = [(double(item), item) for item in up_to(outcomes)]
        return best(keyed, key=lambda both: both[0])[1] if keyed else None

    return model


@dataclass(frozen=True)
class End:
    """One end: `await apply(it, colour)` gives what `model(outcomes)` gives, or raises what it raises."""

    name: str
    apply: Callable[..., Any]
    model: Callable[[Outcomes], Any]


ENDS: list[End] = [
    End("collect", lambda it, c: it.collect(), whole(list)),
    End("collect into", lambda it, c: it.collect(set), whole(set)),
    End(
        "for_each",
        lambda it, c: it.for_each(c(double)),
        lambda o: first_error(each(lambda x: [double(x)])(o)),
    ),
    End(
        "for_each_concurrent",
        lambda it, c: it.for_each_concurrent(1, c(double)),
        lambda o: first_error(each(lambda x: [double(x)])(o)),
    ),
    End("fold", lambda it, c: it.fold(1, c(add)), folding),
    End("reduce", lambda it, c: it.reduce(c(add), default=None), reducing),
    End("count", lambda it, c: it.count(), whole(len)),
    End("first", lambda it, c: it.first(None), lambda o: next(up_to(o), None)),
    End("last", lambda it, c: it.last(None), whole(lambda o: o[-1] if o else None)),
    End("nth", lambda it, c: it.nth(2, None), lambda o: next(itertools.islice(up_to(o), 2, None), None)),
    End("find", lambda it, c: it.find(c(odd), None), lambda o: next((x for x in up_to(o) if odd(x)), None)),
    End("any", lambda it, c: it.any(c(odd)), lambda o: any(odd(x) for x in up_to(o))),
    End("all", lambda it, c: it.all(c(odd)), lambda o: all(odd(x) for x in up_to(o))),
    End("min", lambda it, c: it.min(c(double), default=None), most(min)),
    End("max", lambda it, c: it.max(c(double), default=None), most(max)),
    End("sum", lambda it, c: it.sum(), whole(sum)),
    End("join", lambda it, c: it.map(str).join("-"), whole(lambda o: "-".join(map(str, o)))),
]
