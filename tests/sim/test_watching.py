"""Which steps are proven independent: never two that are not, and enough that are, on real bateau programs."""

from __future__ import annotations

import asyncio
import contextlib
import dis
import json
import sys
import textwrap
import types

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bateau
from bateau import checkpoint, yield_now
from bateau.channel import channel
from bateau.sim.doors import opened
from bateau.sim.running import one_run
from bateau.sim.strategy import bytecode, instructions
from bateau.sim.strategy.exhaustive import Exhaustive
from bateau.sim.strategy.knowledge import is_plain
from bateau.sim.strategy.watching import StepWatcher
from bateau.sync import Event, Lock, Notify, Semaphore
from bateau.time import sleep

# ---- the bytecode is understood --------------------------------------------------------------------------------------


def code_objects(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_objects(constant)


# Where ``dis.stack_effect`` tells something else than what happens: two instructions that share one effect before 3.12, and what is
# sent to start a generator.
EXCEPTIONS = {"PRECALL", "RETURN_GENERATOR"} | ({"CALL"} if sys.version_info < (3, 12) else set())


@pytest.mark.parametrize("module", [json.decoder, contextlib, asyncio.base_events, asyncio.tasks, textwrap, types, dis])
def test_the_stack_has_the_depth_that_python_says(module, monkeypatch):
    step, seen = bytecode.step, 0

    def checked(instruction, stack):
        nonlocal seen
        action, stacks = step(instruction, stack)
        for jumps, after in stacks:
            seen += 1
            if instruction.opname not in EXCEPTIONS:
                assert len(after) == len(stack) + instructions._effect(instruction, jumps), instruction
        return action, stacks

    monkeypatch.setattr(bytecode, "step", checked)
    with open(module.__file__) as file:
        whole = compile(file.read(), module.__file__, "exec")
    for code in code_objects(whole):
        bytecode.plan_of(code)
    assert seen > 500


def test_classes_made_in_c_are_not_taken_for_plain_ones():
    import array
    import functools
    import random
    import re

    class Plain: ...

    class Slotted:
        __slots__ = ("a", "b")

    class Below(Slotted, Plain):
        more = 1

    class Broken(Exception): ...

    for cls in (Plain, Slotted, Below, Broken):
        assert is_plain(cls), cls
    for cls in (
        dict,
        list,
        array.array,
        random.Random,
        re.Pattern,
        functools.partial,
        OSError,
        types.SimpleNamespace,
        type,
    ):
        assert not is_plain(cls), cls

    class Guarded:
        def __setattr__(self, name, value): ...

    class Mapping(dict): ...

    for cls in (Guarded, Mapping, Lock, Event):
        assert not is_plain(cls), cls


# ---- footprints of single steps ----------------------------------------------------------------------------------------

SETTING = """
class Box:
    kind = "box"
    def __init__(self): self.count, self.size = 0, 0
    def grow(self): self.size += 1
    @property
    def both(self): return self.count, self.size

class Slotted:
    __slots__ = ("count", "size")
    def __init__(self): self.count = self.size = 0

class Text(str): ...

GLOBAL = 0
one, other, slotted, text = Box(), Box(), Slotted(), Text()
things, names, table, numbers = [1], ["x"], {"k": 1}, {1, 2}
lender = [5].__iter__()
seen = []

def generated(n):
    for i in range(n):
        yield i

def make():
    cell = neighbour = 0
    def first():
        nonlocal cell, neighbour
        global GLOBAL, things
        x = y = None
        FIRST
    def second():
        nonlocal cell, neighbour
        global GLOBAL, things
        x = y = None
        SECOND
    return first, second

first, second = make()
"""


def footprints(first: str, second: str):
    """Of two pieces of code that run one after the other, and whether the watcher takes them to be dependent."""
    space: dict = {}
    source = SETTING.replace("FIRST", first).replace("SECOND", second)
    exec(compile(source, "<program>", "exec"), space)
    watcher = StepWatcher()
    assert watcher.works
    found = []
    for name in ("first", "second"):
        function = space[name]
        watcher.start()
        try:
            function()
        finally:
            found.append(watcher.stop())
    return found


DEPENDENT = [
    ("one.count = 1", "x = one.count"),
    ("one.count += 1", "one.count += 1"),
    ("one.count = 1", "x = one.both"),
    ("one.grow()", "x = one.size"),
    ("slotted.size = 1", "x = slotted.size"),
    ("setattr(one, 'count', 1)", "x = one.count"),
    ("one.__dict__['count'] = 1", "x = one.count"),
    ("vars(one)['count'] = 1", "x = one.count"),
    ("Box.kind = 'z'", "x = one.kind"),
    ("del one.size", "one.size = 1"),
    ("text.mark = 1", "x = getattr(text, 'mark', 0)"),
    ("things.append(1)", "x = len(things)"),
    ("things.append(1)", "x = things[0]"),
    ("things += [2]", "x = things == [1]"),
    ("things.append(1)", "x = [t for t in things]"),
    ("things.append(1)", "x = str(things)"),
    ("things.append(1)", "x = f'{things}'"),
    ("things.append(1)", "x = sum(things)"),
    ("things.clear()", "x = 1 if things else 2"),
    ("things.clear()", "a, *b = names + things"),
    ("y = things; y.append(1)", "x = things.copy()"),
    ("for y in (things,): y.append(1)", "x = len(things)"),
    ("table['k'] = 2", "x = table.get('k')"),
    ("table['k'] = 2", "x = list(table.values())"),
    ("table.update(names=1)", "x = 'names' in table"),
    ("numbers.add(3)", "x = 3 in numbers"),
    ("x = next(lender, 0)", "y = list(lender)"),
    ("for x in lender: pass", "y = next(lender, None)"),
    ("cell = 1", "x = cell"),
    ("cell += 1", "cell += 1"),
    ("GLOBAL = 1", "x = GLOBAL"),
    ("globals()['GLOBAL'] = 1", "x = GLOBAL"),
    ("print(end='')", "print(end='')"),
    ("list(map(things.append, [1]))", "x = len(things)"),
    ("sorted([1], key=things.append)", "x = len(things)"),
    ("for x in iter(things.pop, None): break", "x = len(things)"),
    ("x = '{0.count}'.format(one)", "one.count = 1"),
    ("import functools; functools.partial(things.append, 1)()", "x = len(things)"),
    ("exec('one.count = 5')", "x = one.count"),
    ("type(one).kind = 'y'", "x = other.kind"),
    ("(lambda box: box.grow())(one)", "x = one.size"),
    ("[one.grow() for i in range(2)]", "x = one.size"),
    ("any(one.grow() for i in range(2))", "x = one.size"),
    ("try:\n            raise ValueError\n        except ValueError:\n            one.count = 1", "x = one.count"),
    ("seen.append(one); seen[0].size = 2", "x = one.size"),
]

INDEPENDENT = [
    ("one.count = 1", "other.count = 1"),
    ("one.count = 1", "x = one.size"),
    ("one.count += 1", "other.grow()"),
    ("x = one.both", "x = one.both"),
    ("slotted.count = 1", "slotted.size = 1"),
    ("things.append(1)", "names.append('y')"),
    ("things.append(1)", "table['k'] = 1"),
    ("things[0] = 1", "names[0] = 1"),
    ("cell = 1", "neighbour = 1"),
    ("x = cell", "y = cell"),
    ("GLOBAL = 1", "x = one.count"),
    ("for i in range(3): one.count += i", "for i in range(3): other.count += i"),
    ("x = [i for i in range(3)]", "one.count = 1"),
    ("x = [1, 2]; x.append(3); y = len(x)", "one.count = 1"),
    ("for x in things: one.count = x", "for x in names: other.count = x"),
    ("for x, y in table.items(): one.count = y", "other.count = 1"),
    ("x = sorted(things)[0]", "x = list(names)"),
    ("x = Box(); x.count = 1; x.grow()", "y = Box(); y.count = 1; y.grow()"),
    ("x = 'a,b'.split(','); one.count = x[0]", "other.count = 'a'.upper()"),
    ("x = max(len(things), 1)", "y = isinstance(one, Box)"),
    ("x = (i for i in range(3)); one.count = 1", "other.count = 1"),
]


@pytest.mark.parametrize(("first", "second"), DEPENDENT)
def test_what_depends_is_seen_to_depend(first, second):
    a, b = footprints(first, second)
    assert a.conflicts(b), (a, b)
    a, b = footprints(second, first)
    assert a.conflicts(b), (a, b)


@pytest.mark.parametrize(("first", "second"), INDEPENDENT)
def test_what_is_independent_is_seen_to_be(first, second):
    a, b = footprints(first, second)
    assert not a.conflicts(b), (a, b)


def test_it_says_why_a_step_could_not_be_followed():
    watcher = StepWatcher()
    space: dict = {}
    exec(compile("def function(): getattr(1, 'real')", "<program>", "exec"), space)
    watcher.start()
    space["function"]()
    assert watcher.stop().everything
    assert watcher.lost == {"a call of getattr": 1}


def test_it_stands_aside_for_a_debugger():
    watcher = StepWatcher()

    def debugger(frame, event, arg):
        return None

    before = sys.gettrace()
    sys.settrace(debugger)
    try:
        watcher.start()
        assert watcher.stop().everything
        assert sys.gettrace() is debugger
    finally:
        sys.settrace(before)


# ---- whole programs: the reduced search finds what the whole one finds -------------------------------------------------------

SIMPLE = [
    "x = shared.a", "shared.a = me", "shared.b += 1", "shared.bump()", "x = shared.both", "other.a = me", "other.b += 1", "x = other.b",
    "slotted.a = me", "x = slotted.a", "own.a = own.a + 1", "own.bump()", "things.append(me)", "x = len(things)", "things[0] = me",
    "for t in things: x = t", "x = [t for t in things]", "table['k'] = me", "x = table.get('k')", "table[me] = 1", "x = sorted(table)",
    "cell = f'{cell}{me}'", "x = cell", "GLOB = me", "x = GLOB", "await sleep(0)", "await yield_now()", "await checkpoint()",
    "await sleep(1)", "event.set()", "event.clear()", "x = event.is_set()", "x = lock1.locked()", "note.notify_one()",
    "x = getattr(shared, 'a')", "setattr(shared, 'a', me)", "Box.kind = me", "x = shared.kind", "for i in numbers(2): x = i",
    "x = await helper(shared, me)", "x = await helper(own, me)", "del things[1:]", "log.append(x)", "log.append(x)",
    "a, b = shared.a, shared.b; x = (a, b)", "shared.__dict__['a'] = me", "x = str(things)", "things += [me]",
    "await event.wait()", "await note.wait()", "await send.send(me)", "x = await recv.recv()", "await sem.acquire()", "sem.release()",
    "x = await first", "s.spawn(child, me)", "x = send.closed; send.close()", "async for x in recv: break",
]  # fmt: skip
HEADS = [
    "async with lock1:", "async with lock2:", "async with sem:", "if shared.a:", "for i in range(2):", "try:",
]  # fmt: skip

STATEMENTS = st.recursive(
    st.lists(st.sampled_from(SIMPLE), min_size=1, max_size=4),
    lambda inner: st.lists(
        st.one_of(st.sampled_from(SIMPLE), st.tuples(st.sampled_from(HEADS), inner)), min_size=1, max_size=4
    ),
    max_leaves=4,
)

HEAD = """
class Box:
    kind = "box"
    def __init__(self): self.a = self.b = 0
    def bump(self): self.b = self.b + 1
    @property
    def both(self): return self.a, self.b

class Slotted:
    __slots__ = ("a",)
    def __init__(self): self.a = 0

GLOB = 0

def numbers(n):
    for i in range(n): yield i

async def helper(box, me):
    box.a = me
    await sleep(0)
    return box.b

def program():
    shared, other, slotted, cell = Box(), Box(), Slotted(), 0
    things, table, logs = ["z"], {"k": 0}, {name: [] for name in ("w0", "w1", "w2", "child")}
    async def early(): await sleep(0); return 5
    async def child(me):
        slotted.a = "c" + me
        await sleep(0)
        logs["child"].append((me, shared.b))
    def outcome():
        return repr((vars(shared), vars(other), slotted.a, things, table, cell, GLOB, Box.kind, logs))
    async def scenario():
        lock1, lock2, event, sem, note = Lock(), Lock(), Event(), Semaphore(1), Notify()
        send, recv = channel(1)
"""


def lines(statements, indent):
    for statement in statements:
        if isinstance(statement, tuple):
            head, inner = statement
            yield indent + head
            yield from lines(inner, indent + "    ")
            if head == "try:":
                yield indent + "finally:"
                yield indent + "    shared.b += 1"
        else:
            yield indent + statement


def source(bodies):
    parts = [HEAD]
    for number, statements in enumerate(bodies):
        parts.append(f"        async def w{number}():")
        parts.append("            nonlocal cell; global GLOB")
        parts.append(f"            x, me, own, log = 0, 'w{number}', Box(), logs['w{number}']")
        parts.extend(lines(statements, " " * 12))
        parts.append("            log.append(x)")
    parts.append("        async with bateau.scope() as s:")
    parts.append("            first = s.spawn(early)")
    parts.extend(f"            s.spawn(w{number})" for number in range(len(bodies)))
    parts.append("    return scenario, outcome")
    return "\n".join(parts)


NAMES = {
    "bateau": bateau, "sleep": sleep, "Lock": Lock, "Event": Event, "Semaphore": Semaphore, "Notify": Notify, "channel": channel,
    "yield_now": yield_now, "checkpoint": checkpoint,
}  # fmt: skip


def explore(code, limit, **options):
    """All outcomes of a program, deadlocks and errors included, and the strategy."""
    strategy = Exhaustive(**options)
    outcomes = set()
    with opened():
        while strategy.runs < limit and strategy.begin(0):
            space = dict(NAMES)
            exec(code, space)
            scenario, outcome = space["program"]()
            run = one_run(scenario, seed=0, strategy=strategy)
            strategy.end(run)
            outcomes.add((outcome(), type(run.error).__name__))
    return outcomes, strategy


@pytest.mark.filterwarnings("ignore")  # programs made at random drop channels, and leave coroutines and locks behind
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STATEMENTS, min_size=2, max_size=3))
def test_a_real_program_has_the_same_outcomes_with_reduction(bodies):
    code = compile(source(bodies), "<program>", "exec")
    every, whole = explore(code, 250, reduce=False)
    if not whole.exhausted:
        return  # too large to compare
    kept, reduced = explore(code, 1000)
    assert kept == every
    assert reduced.runs <= whole.runs


def test_tasks_with_objects_of_their_own_need_one_run():
    code = compile(
        source([["own.a = own.a + 1", "await sleep(0)", "own.bump()", "await sleep(1)", "log.append(1)"]] * 3),
        "p",
        "exec",
    )
    # ``first`` and the workers' own logs apart, nothing is shared; the naive search would make thousands of runs.
    outcomes, strategy = explore(code, 1000)
    assert strategy.exhausted
    assert len(outcomes) == 1
    assert strategy.runs == 1
