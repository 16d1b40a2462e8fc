"""Every native call by itself, ten thousand times: no reference, no block of memory is left over. And none is forgotten here.

`test_leaks.py` repeats what programs do; this file goes through what `bateau._native` exports. A new function, method or kind
of operation has to be added to one of the tables, else the test that counts them fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import mmap
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextvars import copy_context
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

import bateau
import bateau.time
from bateau import fs, net, sync
from bateau.channel import channel
from bateau.interop.asyncio import is_native, new_event_loop
from bateau.io import BufReader, BufWriter
from bateau.io.fd import FdWatch
from bateau.kernel import cancellation, twin
from bateau.kernel.current import current_host, current_task
from support.loops import Recorder

pytestmark = pytest.mark.skipif(twin.native is None or not is_native(), reason="the kernel is pure here")

native: Any = twin.native

ROUNDS = 10_000
# What the interpreter itself may keep meanwhile: free lists, caches, the counters' own integers.
SLACK = 300
DONE = 4


class Token:
    """What calls are given, to see whether they keep it."""


def nothing(*_: object) -> None:
    """What is called in vain."""


def measure(call: Callable[[], object], token: Token, rounds: int = ROUNDS) -> None:
    """Repeat ``call`` and compare."""

    def repeat(times: int) -> None:
        for _ in range(times):
            call()

    repeat(100)
    gc.collect()
    references, blocks = sys.getrefcount(token), sys.getallocatedblocks()
    repeat(rounds)
    gc.collect()
    more = sys.getallocatedblocks() - blocks
    assert more < SLACK, f"{more} blocks of memory are left over by {rounds} rounds"
    more = sys.getrefcount(token) - references
    assert not more, f"{more} references are left over by {rounds} rounds"


quiet = contextlib.suppress(Exception)
# What is a whole engine, or more, each time.
SELDOM = {"engine": ROUNDS // 10, "look": ROUNDS // 20, "world": ROUNDS // 20, "simulated": ROUNDS // 40}

# ---- in no program ---------------------------------------------------------------------------------------------------------

# name of the type, then of what each of these calls is about
PLAIN: dict[str, tuple[str, ...]] = {}
_plain: dict[str, Callable[[Token], Callable[[], object]]] = {}


def plain(**names: str) -> Callable[[Any], Any]:
    def register(make: Callable[[Token], Callable[[], object]]) -> Any:
        _plain[make.__name__] = make
        for owner, methods in names.items():
            PLAIN[owner] = (*PLAIN.get(owner, ()), *methods.split())
        return make

    return register


@plain(FdTable="get pop items keys clear __iter__ __len__ __contains__ __getitem__ __setitem__ __delitem__")
def fd_table(token: Token) -> Callable[[], object]:
    table = native.FdTable()

    def call() -> None:
        table[0] = table[1] = table[2] = token.__repr__
        table[1] = print
        assert table[1] is print and len(table) == 3 and 2 in table and 5 not in table
        assert table.get(0) == token.__repr__ and table.get(7) is None and table.get(7, token) is token
        assert list(table) == table.keys() == [0, 1, 2] and table.items()[1] == (1, print)
        assert table.pop(1) is print and table.pop(1, token) is token
        del table[0]
        for wrong in (
            lambda: table[0],
            lambda: table.pop(0),
            lambda: table.__setitem__(-1, token),
            lambda: table.get(),
        ):
            with contextlib.suppress(KeyError, ValueError, TypeError):
                wrong()
        table.clear()

    return call


@plain(Deque="append appendleft popleft clear __iter__ __len__ __getitem__ __setitem__ __delitem__")
def deque(token: Token) -> Callable[[], object]:
    queue = native.Deque()

    def call() -> None:
        for _ in range(5):
            queue.append(token)
            queue.appendleft(token)
        assert queue.popleft() is token
        assert list(queue)[-1] is token and len(queue) == 9 and queue[2] is token
        queue[1] = token
        del queue[3]
        for wrong in (lambda: queue[100], lambda: queue["x"]):
            with contextlib.suppress(IndexError, TypeError):
                wrong()
        with contextlib.suppress(IndexError):
            del queue[100]
        queue.clear()
        with contextlib.suppress(IndexError):
            queue.popleft()

    return call


@plain(WaitQueue="__iter__ __len__ __contains__ add add_first discard pop peek")
def wait_queue(token: Token) -> Callable[[], object]:
    queue = native.WaitQueue()

    def operation() -> Any:
        op = native.SendFields()
        op.item, op.state = token, DONE
        return op

    def call() -> None:
        one, two = operation(), operation()
        queue.add(one)
        queue.add_first(two)
        assert one in queue and token not in queue and list(queue) == [two, one] and len(queue) == 2
        assert queue.peek() is two and queue.pop() is two
        queue.discard(one)
        queue.discard(two)
        assert queue.pop() is None and queue.peek() is None
        with contextlib.suppress(TypeError):
            queue.add(token)
        queue.add(one)
        queue.clear() if hasattr(queue, "clear") else queue.discard(one)

    return call


@plain(Children="__iter__ __len__ __contains__ __setitem__ __delitem__ pop")
def children(token: Token) -> Callable[[], object]:
    class Node(native.NodeFields):
        kept = token

    def call() -> None:
        here, there, nodes = native.Children(), native.Children(), [Node() for _ in range(4)]
        for node in (*nodes, *nodes):
            node.record = token
            here[node] = None
        assert list(here) == nodes and len(here) == 4 and nodes[1] in here and token not in here
        del here[nodes[1]]
        assert here.pop(nodes[2]) is None and here.pop(nodes[2], token) is token and here.pop(token, 1) == 1
        there[nodes[1]] = None
        for wrong in (
            lambda: here.pop(nodes[1]),
            lambda: here.__delitem__(nodes[1]),
            lambda: there.__setitem__(nodes[0], None),
            lambda: there.__setitem__(token, None),
            lambda: there.__delitem__(token),
            lambda: there.pop(),
        ):
            with pytest.raises((KeyError, RuntimeError, TypeError)):
                wrong()
        assert list(here) == [nodes[0], nodes[3]] and list(there) == [nodes[1]]
        nodes[0].children = there  # is dropped with it

    return call


@plain(module="claim keep know track last_number count_from")
def functions(token: Token) -> Callable[[], object]:
    def call() -> None:
        with contextlib.suppress(RuntimeError):
            native.claim()
        native.keep("no such name", token)
        native.know("no such name", Token)
        native.track(token)
        native.count_from(native.last_number())
        for wrong in (native.keep, native.know, native.track, native.count_from):
            with contextlib.suppress(TypeError):
                wrong()
            with contextlib.suppress(TypeError):
                wrong(token)

    return call


@plain(Facade="__getattribute__ __reduce__")
def facade(token: Token) -> Callable[[], object]:
    module = native.Facade("made")

    def call() -> None:
        module.held = token
        for _ in range(3):  # found, found again, and not there
            assert module.held is token
            assert module.__name__ == "made" and getattr(module, str(b"held", "ascii")) is token
        del module.held
        with contextlib.suppress(AttributeError):
            _ = module.held
        assert module.__reduce__()[1] == ("made",)

    return call


@plain(module="own")
def own(token: Token) -> Callable[[], object]:
    class Mine(native.EventFields):
        pass

    def call() -> None:
        native.own(Mine, "set")
        assert Mine.set.__objclass__ is Mine
        native.own(Mine, "__init__")
        for wrong in ((Mine, "nowhere"), (Mine, token), (token, "set")):
            with contextlib.suppress(AttributeError, TypeError):
                native.own(*wrong)

    return call


@plain(Ring="spawn step idle park wake cancel end adopt since note close")
def ring(token: Token) -> Callable[[], object]:
    from bateau.insight.recorder.writer import about
    from bateau.kernel.errors import Cancelled

    class Task:
        scope = coro = None
        _name = "x"

        def __init__(self) -> None:
            self.id, self.waiting, self.held = 5, SimpleNamespace(resource=token), token

    def make() -> tuple[Any, Any]:
        records, tasks, texts = 64, 64, 1 << 16
        tasks_at = 4096 + records * 32
        texts_at = tasks_at + tasks * 96
        memory = mmap.mmap(-1, (texts_at + texts + 4095) // 4096 * 4096)
        memory[:8] = b"BATEAUFR"
        memory[64:112] = struct.pack("<6Q", 4096, records, tasks_at, tasks, texts_at, texts)
        memory[2080:2088] = (8).to_bytes(8, "little")
        return memory, native.Ring(memory, about, Cancelled, False)

    memory, written = make()
    error = ValueError(token)
    node = SimpleNamespace(task=None, record=SimpleNamespace(reason="why"), token=token)
    count = 0

    def call() -> None:
        nonlocal memory, written, count
        task = Task()
        for method in ("spawn", "step", "park", "since", "wake", "adopt"):
            getattr(written, method)(task)
            with contextlib.suppress(TypeError):
                getattr(written, method)()
        written.idle()
        with quiet:
            written.cancel(node, 1)
        written.end(task, error)
        written.note(5, "words")
        with contextlib.suppress(TypeError):
            written.note(5, token)
        count += 1
        if not count % 100:
            written.close()
            written.close()
            memory.close()
            memory, written = make()

    return call


@plain(
    WorldFields="at after next_event run_due jump choose_step chance next_thread look",
    WorldEvent="cancel __hash__ __lt__ __le__ __eq__ __ne__ __gt__ __ge__",
    ClockFields="monotonic world_time_at",
)
def world(token: Token) -> Callable[[], object]:
    from bateau.sim.host import HostClock
    from bateau.sim.strategy import by_name
    from bateau.sim.world import World

    worlds = [World(0, by_name(name)) for name in ("random", "fifo")] + [World()]
    thread = SimpleNamespace(process=SimpleNamespace(dead=False))

    def call() -> None:
        for made in worlds:
            made.at(made.now + 1, nothing, token).cancel()
            first, second = made.after(1.0, nothing, token), made.after(1, nothing, token)
            assert first < second and first == first and first != second and {first: token}
            for wrong in (
                lambda made=made: made.at(1),
                lambda made=made: made.at("x", nothing),
                lambda made=made: made.after(None, nothing),
                lambda first=first: first < token,
                lambda made=made: made.choose_step("a", token, True),
                lambda made=made: made.chance("a", token),
                lambda made=made: made.jump(token),
                lambda made=made: [made.after(0, token, token), made.run_due()],
            ):
                with contextlib.suppress(TypeError):
                    wrong()
            assert made.next_event() is not None
            made.jump(made.now + 2.5)
            made.run_due()
            assert made.choose_step("a", [token, token], True) in (0, 1, 2)
            made.chance("b", 0.5)
            made.look()
            made.ready.append(thread)
            assert made.next_thread() is thread
            made.asked.clear(), made.choices.clear()
            clock = HostClock(made, 5.0)
            assert clock.world_time_at(clock.monotonic() + 1) > made.now
            clock.world = token
            for wrong in (clock.monotonic, lambda clock=clock: clock.world_time_at(1)):
                with contextlib.suppress(TypeError):
                    wrong()

    return call


@plain(EngineFields="_run_ahead _next_timer _live_timer")
def simulated(token: Token) -> Callable[[], object]:
    from bateau import sim

    async def nap(seconds: float, given: object) -> None:
        with bateau.move_on_after(seconds * 3):
            await bateau.time.sleep(seconds)
        with bateau.move_on_after(seconds / 2):
            await bateau.time.sleep(seconds)

    async def main() -> None:
        engine: Any = current_host()
        async with bateau.scope() as scope:
            for number in range(1, 4):
                scope.spawn(nap, float(number), token)
            await bateau.yield_now()
            assert (engine._next_timer() is None) is (engine._live_timer() is None)  # none is cancelled yet

    counter = iter(range(1 << 60))
    return lambda: sim.run(main, seed=next(counter), strategy="random")


@plain(Stacks="of")
def stacks(token: Token) -> Callable[[], object]:
    async def waits(held: object) -> None:
        await asyncio.sleep(0)

    def call() -> None:
        looked = native.Stacks("waiting")
        waiting = waits(token)
        looked.of(waiting)
        waiting.send(None)
        looked.of(waiting)
        looked.of(waiting)
        waiting.close()
        looked.of(waiting)
        with contextlib.suppress(TypeError):
            looked.of(token)
        with contextlib.suppress(TypeError):
            native.Stacks(token)

    return call


@plain(Look="task", module="make")
def look(token: Token) -> Callable[[], object]:
    class Row:
        pass

    async def waits(held: object) -> None:
        async with bateau.scope(name="inner"):
            await bateau.time.sleep_forever()

    known: list[object] = []
    tables = native.Stacks("waiting")

    def stack_of(coro: object) -> int:
        known.append(len(known))
        return known[-1]  # type: ignore[return-value]

    async def main() -> None:
        async with bateau.scope() as scope:
            tasks = [scope.spawn(waits, token), scope.spawn(waits, token, name="named")]
            await bateau.yield_now()
            for stacks in (tables, None):
                reader = native.Look(stacks, known, stack_of, lambda code, offset: offset)
                for task in (*tasks, token, current_task()):
                    fields = reader.task(task)
                    if fields is not None:
                        native.make(Row, fields)
            known.clear()
            failing = native.Look(None, known, token, token)
            for broken in (
                lambda: failing.task(tasks[0]),
                lambda: native.make(int, {}),
                lambda: native.make(Row, token),
            ):
                with contextlib.suppress(TypeError):
                    broken()
            with contextlib.suppress(TypeError):
                native.Look(token, known, token, token)
            scope.cancel()
        assert reader.task(tasks[0]) is None  # ended

    return lambda: bateau.run(main)


@plain(Window="word text", Record="read", Chains="of")
def memory(token: Token) -> Callable[[], object]:
    """A made-up address space of one chunk: two coroutines (type 1) of which the first awaits the second, which awaits an end (type 2)."""
    size = 1 << 12
    chunk = bytearray(size)

    def put(at: int, *words: int) -> None:
        struct.pack_into(f"<{len(words)}Q", chunk, at, *words)

    put(64, 1, 1, 0, 100, 200)  # references, type, state, code, instruction
    put(64 + 40, size + 256)  # its first variable
    put(256, 1, 1, 0, 300, 400)
    put(256 + 40, size + 512)
    put(512, 1, 2)
    put(1024, 1, 9, 5)
    put(1024 + 32, 0x60)
    chunk[1024 + 40 : 1024 + 45] = b"hello"

    class Chunks(dict[int, Any]):
        def __missing__(self, number: int) -> bytes:
            if number == 3:
                raise ProcessLookupError("gone")
            return b""

    class Path:
        def __init__(self, slot: int) -> None:
            self.after: dict[tuple[int, ...], Path] = {}
            self.slot = slot

    class Found(tuple[Any, ...]):
        __slots__ = ()

    chunks = Chunks({1: bytes(chunk), 2: token})
    root, first, second = Path(0), Path(5), Path(5)
    root.after[1, 0, 100, 200] = first
    first.after[1, 0, 300, 400] = second

    def call() -> None:
        window = native.Window(chunks, 12, lambda address: token)
        assert window.word(size + 64 + 8) == 1 and window.word(0) is token and window.word(1 << 70) is token
        assert window.text(size + 1024, 9, 40) == "hello" and window.text(size, 9, 40) is None
        record = native.Record(window, ((0, "Q"), (8, "i"), (12, "b"), (13, "B"), (14, "h"), (16, "q")))
        assert record.read(size + 64, 1) == [0, 1, 0, 0, 0, 0] and record.read(64, 0) is None
        chains = native.Chains(window, root, {2: "end"}, Found, 16, 24, 32, 40, False)
        for _ in range(2):
            assert chains.of(size + 64) == (second, [size + 104, size + 296], size + 512, False)
        assert chains.of(64) is None
        for broken in (
            lambda: window.word(token), lambda: window.word(3 * size), lambda: record.read(3 * size, 0), lambda: chains.of(3 * size),
            lambda: native.Window(chunks, 1, token), lambda: native.Record(window, ((0, "x"),)), lambda: native.Record(token, ()),
            lambda: native.Chains(window, root, {}, Path, 0, 0, 0, 0, False), lambda: window.text(token, 0, 0),
        ):  # fmt: skip
            with contextlib.suppress(TypeError, ValueError, ProcessLookupError):
                broken()

    return call


@plain(EngineFields="_drop_timers _share_context", EngineTimer="cancel")
def engine(token: Token) -> Callable[[], object]:
    from bateau.kernel.task import Task
    from bateau.runtimes.native import NativeEngine

    variable: contextvars.ContextVar[Token] = contextvars.ContextVar("variable")

    def call() -> None:
        made = NativeEngine()
        context = contextvars.copy_context()
        context.run(variable.set, token)
        made._share_context(Task(made, None, name="its own", context=context))  # not taken, we have it
        made._share_context(Task(made, None, name="shared", context=context.copy()))
        del context
        made.call_at(1e12, lambda: token)
        made.call_at(1e12, lambda: token).cancel()
        native.EngineFields._drop_timers(made)
        made.call_at(1e12, lambda: token)
        made.close()

    return call


@pytest.mark.parametrize("name", _plain)
def test_calls(name: str) -> None:
    token = Token()
    measure(_plain[name](token), token, SELDOM.get(name, ROUNDS))


# ---- fields ------------------------------------------------------------------------------------------------------------------

TYPES = {name: kind for name, kind in vars(native).items() if isinstance(kind, type)}
FIELDS = {"member_descriptor", "getset_descriptor"}
# What is made by its maker alone; their fields are gone through with their calls.
MADE_ELSEWHERE = {
    "Ring": ring,
    "EngineTimer": engine,
    "WorldEvent": world,
    "Handle": None,
    "TimerHandle": None,
    "LoopCore": None,
    "LoopFaceFields": None,
    "Stacks": stacks,
    "Look": look,
    "Window": memory,
    "Record": memory,
    "Chains": memory,
    "BufferedRead": None,
    "FileCall": None,
    "NowFileFields": None,
}
# What may not be set to anything: a program that does has its queue taken away (test_misuse.py).
ANYTHING = sorted(TYPES.keys() - MADE_ELSEWHERE.keys())


@pytest.mark.parametrize("name", ANYTHING)
def test_fields(name: str) -> None:
    """Each field read, set, deleted, and dropped with its owner."""
    kind, token = TYPES[name], Token()
    fields = [key for each in kind.__mro__ for key, value in vars(each).items() if type(value).__name__ in FIELDS]
    values = (token, 1, 1.5, "x", None, True)

    def call() -> None:
        thing = kind("made") if issubclass(kind, ModuleType) else kind()
        for field in fields:
            for value in values:
                with contextlib.suppress(TypeError, AttributeError, ValueError, OverflowError):
                    setattr(thing, field, value)
            with contextlib.suppress(AttributeError):
                getattr(thing, field)
            with contextlib.suppress(TypeError, AttributeError):
                delattr(thing, field)
            with contextlib.suppress(TypeError, AttributeError, ValueError):
                setattr(thing, field, token)
        if issubclass(kind, native.OperationFields):
            thing.state = DONE  # else it says that nobody awaited it

    measure(call, token, 500)


# ---- operations --------------------------------------------------------------------------------------------------------------


def blocking(world: SimpleNamespace) -> dict[str, Callable[[], Any]]:
    """For each kind of operation, one that has to wait."""

    def wait_for_condition() -> Any:
        if not world.condition.locked():  # a wait that was closed by hand could not take it back
            assert world.condition.lock.try_acquire()
        return world.condition.wait()

    return {
        "YieldFields": bateau.yield_now,
        "CheckpointFields": bateau.checkpoint,
        "SleepFields": lambda: bateau.time.sleep(1000),
        "SendFields": lambda: world.full.send(world.token),
        "RecvFields": world.empty.recv,
        "LockAcquireFields": world.held.acquire,
        "SemaphoreAcquireFields": world.taken.acquire,
        "EventWaitFields": world.event.wait,
        "ConditionWaitFields": wait_for_condition,
        "JoinFields": lambda: world.asleep.join(),
        "PassageFields": lambda: world.scope.__aexit__(None, None, None),
        "StreamReadFields": lambda: world.stream.read(100),
        "StreamWriteFields": lambda: world.stuffed.write(world.data),
        "StreamReadIntoFields": lambda: world.stream.readinto(world.buffer),
        "StreamOperationFields": lambda: world.stream.recv_fds(100, 1),
        "FdOperationFields": lambda: world.watch.readable(),
        "BufferedRead": lambda: world.reader.readline(),
        "DatagramFields": lambda: world.datagrams.recvfrom(),
        "FileCall": lambda: world.file.pread(100, 0),
    }


# Every kind of operation, and what all of them have.
OPERATIONS = set(blocking(MagicMock()))
OF_OPERATIONS = {"__iter__", "__next__", "__del__", "__await__", "send", "throw", "close"}
# Bases, and what is ready at once: `call` below awaits them.
PARTS = {"OperationFields", "PlacedFields", "Nothing", "_True", "DrainFields"}


@contextlib.asynccontextmanager
async def world(token: Token) -> Any:
    """Things to wait for, none of which will come."""
    full, keep_receiver = channel(1)
    keep_sender, empty = channel(1)
    await full.send(token)
    made = SimpleNamespace(
        token=token, full=full, empty=empty, held=sync.Lock(), taken=sync.Semaphore(1), event=sync.Event(),
        condition=sync.Condition(),
    )  # fmt: skip
    made.stream, silent = map(net.from_socket, socket.socketpair())
    made.stuffed, deaf = map(net.from_socket, socket.socketpair())
    with contextlib.suppress(bateau.WouldBlock):
        while True:
            made.stuffed.try_write(bytes(1 << 16))
    idle = os.pipe()
    made.watch = FdWatch(idle[0])
    made.data, made.buffer = b"x" * 100, bytearray(10)
    made.reader = BufReader(made.stream)
    made.datagrams = await net.udp(("127.0.0.1", 0))
    made.file = await fs.open(__file__, "rb")
    hold = sync.Event()

    async def holder() -> None:
        async with made.held, made.taken:
            await hold.wait()

    async with bateau.scope() as scope, made.condition:
        made.scope, made.asleep = scope, scope.spawn(holder)
        for _ in range(3):
            await bateau.yield_now()
        yield made
        hold.set()
    for end in (
        full,
        keep_receiver,
        keep_sender,
        empty,
        made.stream,
        silent,
        made.stuffed,
        deaf,
        made.watch,
        made.datagrams,
        made.file,
    ):
        end.close()
    for fd in idle:
        os.close(fd)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_operations(name: str) -> None:
    """Stepped by hand: begun and thrown into, begun and closed, dropped unawaited; awaited twice."""
    token = Token()

    async def main() -> None:
        async with world(token) as things:
            make, task = blocking(things)[name], current_task()

            def call() -> None:
                task.budget = 100
                wait = make().__await__()
                with contextlib.suppress(StopIteration):
                    assert next(wait) is not token
                with pytest.raises((KeyError, RuntimeError)):
                    wait.throw(KeyError(token))
                task.budget = 0  # others come first
                wait = make().__await__()
                assert next(wait) is None
                with pytest.raises(KeyError):
                    wait.throw(KeyError(token))
                task.budget = 100
                op = make()
                wait = iter(op) if hasattr(op, "__iter__") else op.__await__()
                with contextlib.suppress(StopIteration):
                    wait.send(None)
                wait.close()
                for again in (lambda: op.__await__().send(None), lambda: wait.send(None), lambda: next(wait)):
                    with contextlib.suppress(RuntimeError, StopIteration):
                        again()
                with contextlib.suppress(RuntimeError, TypeError, KeyError):
                    wait.throw(KeyError)
                wait.close()
                unused = make()
                if hasattr(unused, "state"):
                    unused.state = DONE  # else it says that nobody awaited it
                else:
                    unused.close()

            measure(call, token, ROUNDS // 5)
            wait_again = things.condition.lock
            if not wait_again.locked():
                wait_again.try_acquire()

    bateau.run(main, runtime="native")


# ---- in a program ------------------------------------------------------------------------------------------------------------

IN_PROGRAM = {
    "SocketStreamFields": "read readinto recv write sendall",
    "SideFields": "ready",
    "UdpSocketFields": "recv recvfrom send sendto",
    "BufReaderFields": "read readexactly readline readuntil",
    "BufWriterFields": "flush write",
    "AsyncFileFields": "read readline seek tell",
    "BinaryFileFields": "peek pread read1 readinto",
    "NowFileFields": "read readall readinto",
    "ReactorFields": "is_awaited poll _control",
    "LoopFaceFields": "wake_up",
    "LoopSideFields": "__call__ _is_waiting _iterate _publish _rest _spin _unpublish",
    "EngineFields": "wake start call_at timeout _run_timers _pending_timers _has_timer turn",
    "TaskFields": "_begin finish join __await__ __setattr__ __delattr__",
    "ScopeFields": "spawn child_ended __aenter__ __aexit__",
    "CancelScopeFields": "__enter__ __exit__",
    "SenderFields": "send",
    "ReceiverFields": "recv __anext__",
    "EventFields": "is_set set clear wait",
    "LockFields": "acquire release __aenter__ __aexit__",
    "SemaphoreFields": "acquire release __aenter__ __aexit__",
    "ConditionFields": "wait notify notify_all __aenter__ __aexit__",
    "Nothing": "__iter__ __next__ __await__",
    "_True": "__iter__ __next__ __await__",
    "OperationFields": "__del__",
    "PlacedFields": "__del__",
    "DrainFields": "__del__",
    "module": "yield_now checkpoint finish timeout fail_after move_on_after sleep deliver spread scope content_of descriptor_of",
}


def test_calls_in_a_program() -> None:
    token = Token()

    async def some(rounds: int) -> None:
        host: Any = current_host()
        sender, receiver = channel(2)
        lock, semaphore, event, condition = sync.Lock(), sync.Semaphore(2), sync.Event(), sync.Condition()

        async def waiter(*_: Any) -> Token:
            async with condition:
                await condition.wait()
            await event.wait()
            return token

        for _ in range(rounds):
            host.call_at(0, lambda: token)
            host.call_at(1e12, token.__repr__).cancel()
            host._run_timers()
            assert not any(timer.fn is token.__repr__ for timer in host._pending_timers())
            host._has_timer(), host.timeout()
            with native.timeout(100), cancellation.CancelScope():
                await native.sleep(0)
                await native.checkpoint()
            with native.move_on_after(100) as cut, native.fail_after(100):
                cut.cancel()
                await native.checkpoint()
            assert cut.cancelled_caught
            native.deliver(current_task())
            with contextlib.suppress(TypeError):
                native.spread(token)
            with contextlib.suppress(TypeError, AttributeError):
                native.spread(token, token)
            await sender.send(token)
            await sender.send(token)
            assert await receiver.recv() is token
            assert await anext(receiver) is token
            async with bateau.scope() as scope:
                tasks = [scope.spawn(waiter, token, name="x") for _ in range(3)]
                await native.yield_now()
                async with condition:
                    condition.notify()
                    condition.notify_all()
                event.set()
                assert event.is_set()
                assert await tasks[0] is token and await tasks[0].join() is token
            event.clear()
            async with lock, semaphore:
                await semaphore.acquire()
                semaphore.release()
            await lock.acquire()
            lock.release()
            for wrong in (lambda: host.call_at(token), lambda: native.sleep(token), lambda: native.timeout(token),
                          lambda: scope.spawn(token), lock.release, condition.notify):  # fmt: skip
                with contextlib.suppress(TypeError, ValueError, RuntimeError):
                    wrong()
        sender.close()
        receiver.close()

    async def main() -> None:
        await some(100)
        gc.collect()
        references, blocks = sys.getrefcount(token), sys.getallocatedblocks()
        await some(ROUNDS // 5)
        gc.collect()
        assert sys.getallocatedblocks() - blocks < SLACK
        assert sys.getrefcount(token) - references == 0

    bateau.run(main, runtime="native")


def test_calls_of_streams() -> None:
    """Data at hand, data waited for, and readiness that is asked for beside it."""
    token = Token()

    async def talk(one: Any, other: Any, rounds: int) -> None:
        host: Any = current_host()
        reader, writer = BufReader(one), BufWriter(one)

        async def answer() -> None:
            for _ in range(rounds):
                assert await other.recv(100) == b"ping"
                await other.sendall(b"into")
                await other.sendall(b"pong")
                await other.sendall(b"a line\nten bytes!a record;")
                await other.sendall(b"rest")

        async with bateau.scope() as scope:
            scope.spawn(answer)
            for n in range(rounds):
                await writer.write(b"ping")
                await writer.flush()
                for buffer in (bytearray(2), memoryview(bytearray(2))):
                    assert await one.readinto(buffer) == 2
                assert await reader.read(4) == b"pong"
                assert await reader.readline() == b"a line\n"
                assert await reader.readexactly(10) == b"ten bytes!"
                assert await reader.readuntil(b";") == b"a record;"
                assert await reader.readexactly(4) == b"rest"
                if not n % 10:
                    one._watch.reading.disarm()  # so that it has to be registered again
                    host.reactor.is_awaited(-1)
                    with contextlib.suppress(TypeError):
                        one.read("x")
                    for wrong in (lambda: one.write(token), lambda: reader.readexactly("x"), lambda: reader.readuntil(5),
                                  lambda: reader.read(token)):  # fmt: skip
                        with contextlib.suppress(TypeError, ValueError):
                            await wrong()

    async def main() -> None:
        one, other = map(net.from_socket, socket.socketpair())
        async with one, other:
            await talk(one, other, 200)
            gc.collect()
            references, blocks = sys.getrefcount(token), sys.getallocatedblocks()
            await talk(one, other, ROUNDS // 2)
            gc.collect()
            assert sys.getallocatedblocks() - blocks < SLACK
            assert sys.getrefcount(token) == references

    bateau.run(main, runtime="native")


def test_calls_of_datagram_sockets() -> None:
    token = Token()

    async def main() -> None:
        async with await net.udp(("127.0.0.1", 0)) as there, await net.udp(remote=there.getsockname()) as here:

            async def some(rounds: int) -> None:
                for _ in range(rounds):
                    await here.send(b"one")
                    data, address = await there.recvfrom()
                    await there.sendto(data, address)
                    assert await here.recv() == b"one"
                    for wrong in (lambda: here.send(token), lambda: there.sendto(b"", token), lambda: here.recv(token)):
                        with contextlib.suppress(TypeError, ValueError):
                            await wrong()

            await some(100)
            gc.collect()
            references, blocks = sys.getrefcount(token), sys.getallocatedblocks()
            await some(ROUNDS // 5)
            gc.collect()
            assert sys.getallocatedblocks() - blocks < SLACK
            assert sys.getrefcount(token) == references

    bateau.run(main, runtime="native")


def test_calls_of_files(tmp_path: Any) -> None:
    """What is in memory, what is refused, and what is left to a thread."""
    token, path = Token(), tmp_path / "data"
    path.write_bytes(b"a line\n" * 2000)
    small, missing = tmp_path / "small", tmp_path / "missing"
    small.write_bytes(b"small")

    async def some(rounds: int, file: Any, raw: Any, unsure: Any) -> None:
        buffer = bytearray(10_000)
        for n in range(rounds):
            for each in (file, raw):
                await each.seek(0)
                assert len(await each.read(10)) == 10 == await each.tell()
                await each.seek(-20, os.SEEK_END)
                assert len(await each.read()) == 20
                assert await each.pread(20, 13_990) == b"ne\na line\n"
                assert await each.readinto(buffer) == 0
            assert file._file.raw.read(1) == b"" == raw._file.read() == raw._file.readall()
            await file.seek(0)
            assert await file.readline() == b"a line\n" == (await file.peek())[:7]
            assert len(await file.read1(100)) == 100
            await file.readinto(buffer)
            for wrong in (lambda: file.read("x"), lambda: file.pread(token, 0), lambda: file.pread(0), lambda: file.readinto(token),
                          lambda: file.seek(0, token), lambda: file.seek(token), lambda: raw._file.read(0, token), lambda: file.tell(1)):  # fmt: skip
                with contextlib.suppress(TypeError, ValueError):
                    await wrong()
            if not n % 50:
                with contextlib.suppress(OSError):
                    await file.pread(10, 1 << 62)
                unsure._asks, unsure._now.can = True, True  # it learns each time that it can't be asked
                assert await unsure.pread(6, 0) == b"unsure"
            for whole in (small, missing, tmp_path, path, unsure.name):
                assert native.content_of(whole) in (None, b"small", path.read_bytes())
                if (fd := native.descriptor_of(whole)) is not None:
                    os.close(fd)
            for wrong in (token, b"a\0b"):
                for call in (native.content_of, native.descriptor_of):
                    with contextlib.suppress(TypeError, ValueError):
                        call(wrong)

    async def main() -> None:
        with tempfile.NamedTemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as shared:
            shared.write(b"unsure")
            shared.flush()
            async with fs.open(path, "rb") as file, fs.open(path, "rb", 0) as raw, fs.open(shared.name, "rb") as unsure:
                await some(100, file, raw, unsure)
                gc.collect()
                references, blocks = sys.getrefcount(token), sys.getallocatedblocks()
                await some(ROUNDS, file, raw, unsure)
                gc.collect()
                assert sys.getallocatedblocks() - blocks < SLACK
                assert sys.getrefcount(token) == references

    bateau.run(main, runtime="native")


def test_calls_of_the_asyncio_side() -> None:
    """asyncio's futures, yields and calls in a native program; and whole programs, each with a loop of its own."""
    token = Token()

    async def some(rounds: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(rounds):
            future = loop.create_future()
            loop.call_soon(future.set_result, token)
            assert await future is token
            await asyncio.sleep(0)
            task = asyncio.create_task(asyncio.sleep(0, token))
            assert await task is token
            task = asyncio.create_task(asyncio.sleep(1000))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            async with bateau.scope() as scope:
                child = scope.spawn(asyncio.sleep, 0, token)
                assert await child is token
            with bateau.move_on_after(0.0001):
                await asyncio.sleep(1000)

    async def main() -> None:
        await some(100)
        gc.collect()
        references, blocks = sys.getrefcount(token), sys.getallocatedblocks()
        await some(1000)
        gc.collect()
        assert sys.getallocatedblocks() - blocks < SLACK
        assert sys.getrefcount(token) == references

    bateau.run(main, runtime="native")
    measure(lambda: bateau.run(some, 1, runtime="native"), token, 150)


# ---- on the loop -------------------------------------------------------------------------------------------------------------

ON_LOOP = {
    "LoopCore": "call_soon call_soon_threadsafe call_at call_later time get_debug create_future _run_once _add_reader _add_writer "
    "_remove_reader _remove_writer _add_callback _write_to_self _timer_handle_cancelled _core_registered _core_descriptors _core_close _core_embed",
    "Handle": "cancel cancelled get_context _run __repr__",
    "TimerHandle": "when",
    "StreamCore": "write writelines set_protocol get_protocol pause_reading resume_reading is_reading is_closing get_write_buffer_size "
    "get_extra_info _flush _begin _start_reading _stop_reading _clear_queue _maybe_pause_protocol _drop",
    "module": "make_stream_core running_loop_getter" if sys.version_info < (3, 12) else "make_stream_core",
}  # fmt: skip


def handles(loop: Any, token: Token) -> Iterator[Callable[[], object]]:
    """What a loop is asked for, and the fields of what it gives."""
    context = copy_context()
    here, there = socket.socketpair()

    def schedule() -> None:
        for handle in (
            loop.call_soon(nothing, token),
            loop.call_soon(nothing, token, context=context),
            loop.call_soon_threadsafe(nothing, token),
            loop.call_at(0, nothing, token),
            loop.call_later(100, nothing, token, token, token, token),
        ):
            repr(handle), handle.get_context(), handle.cancelled()
            for field in ("_callback", "_args", "_context", "_loop", "_source_traceback", "_cancelled"):
                getattr(handle, field)
            getattr(handle, "when", int)(), getattr(handle, "_scheduled", 0), getattr(handle, "_when", 0)
            handle._run()
            handle.cancel()
            handle.cancel()
        for wrong in (
            lambda: loop.call_soon(),
            lambda: loop.call_at("x", nothing),
            lambda: loop.call_later(1, nothing, wrong=token),
        ):
            with contextlib.suppress(TypeError):
                wrong()
        timer = loop.call_later(100, nothing, token)
        loop._timer_handle_cancelled(timer)
        timer.cancel()
        loop._add_callback(asyncio.Handle(nothing, (token,), loop)) if not loop.get_debug() else None
        loop.time(), loop.create_future(), loop._write_to_self()
        loop.stop()
        loop.run_forever()

    def watch() -> None:
        for fd in (here.fileno(), there.fileno()):
            loop._add_reader(fd, nothing, token)
            loop._add_reader(fd, nothing, token)
            loop._add_writer(fd, nothing, token)
        assert loop._core_registered(here) == 3 and here.fileno() in loop._core_descriptors()
        for fd in (here.fileno(), there.fileno()):
            loop._remove_reader(fd)
            loop._remove_writer(fd)
            loop._remove_writer(fd)
        for wrong in (-1, token, 1 << 40):
            with contextlib.suppress(ValueError, OSError, OverflowError):
                loop._add_reader(wrong, nothing, token)

    def fields() -> None:
        for name in ("_stopping", "_debug", "_closed", "_thread_id", "_ready", "_scheduled", "_core_future_type"):
            value = getattr(loop, name)
            if name not in ("_ready", "_scheduled"):
                setattr(loop, name, value)

    yield schedule
    yield watch
    yield fields
    here.close()
    there.close()


def test_calls_on_the_loop() -> None:
    token, loop = Token(), new_event_loop()
    try:
        for call in handles(loop, token):
            measure(call, token, ROUNDS // 4)
    finally:
        loop.close()


def test_loops_and_what_they_hold() -> None:
    """Made, given things to keep, and closed with them."""
    token = Token()

    def call() -> None:
        loop = new_event_loop()
        loop.call_soon(nothing, token)
        loop.call_later(100, nothing, token)
        loop.close()

    measure(call, token, 300)


def test_calls_on_transports() -> None:
    from bateau.runtimes import native_transport as module

    token = Token()
    core = module._StreamCore

    class Plain(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.token = token

    async def one() -> None:
        loop: Any = asyncio.get_running_loop()
        here, there = socket.socketpair()
        here.setblocking(False)
        transport, protocol = await loop.create_connection(Plain, sock=here)
        assert transport.get_protocol() is protocol
        for data in (b"1", bytearray(b"2"), memoryview(b"3"), bytes(300_000)):
            transport.write(data)
        transport.writelines([b"4", b"5"])
        transport.write(b"held")
        transport._flush()
        transport.write(b"held")
        assert transport.get_extra_info("socket") is not None
        assert transport.get_extra_info(name="none", default=token) is token
        with contextlib.suppress(TypeError):
            transport.get_extra_info([])
        if sys.version_info < (3, 12):
            assert native.running_loop_getter(lambda: token)() is loop
        for wrong in (lambda: transport.write(token), lambda: transport.writelines(token), lambda: transport.writelines([token]),
                      lambda: transport._begin(loop, here, 1, protocol), lambda: transport.set_protocol()):  # fmt: skip
            with contextlib.suppress(TypeError, RuntimeError):
                wrong()
        (
            transport.pause_reading(),
            transport.resume_reading(),
            transport._start_reading(),
            transport._maybe_pause_protocol(),
        )
        transport.is_reading(), transport.is_closing(), transport.get_write_buffer_size()
        transport.set_protocol(protocol)
        there.send(b"x")
        await protocol.until(lambda: protocol.data)
        for name, field in vars(core).items():
            if type(field).__name__ in FIELDS:
                value = getattr(transport, name)
                with contextlib.suppress(AttributeError, TypeError):
                    setattr(transport, name, value)
        transport._stop_reading(), transport._clear_queue()
        transport.abort()
        await protocol.lost
        there.close()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        measure(lambda: runner.run(one()), token, 500)
    if sys.version_info < (3, 12):
        measure(lambda: native.running_loop_getter(lambda: token)(), token)
    base = type("Base", (), {})
    measure(lambda: native.make_stream_core(asyncio.transports._FlowControlMixin, asyncio.BufferedProtocol), token, 50)
    with contextlib.suppress(TypeError):
        native.make_stream_core(base)


# ---- none is forgotten ---------------------------------------------------------------------------------------------------------


def exported() -> set[str]:
    """Every function, and every method of every type, that is written in C."""
    from bateau.runtimes import native_transport as transport

    found = {
        f"module.{name}" for name, thing in vars(native).items() if type(thing).__name__ == "builtin_function_or_method"
    }
    for name, kind in {**TYPES, "StreamCore": transport._StreamCore}.items():
        for key, value in vars(kind).items():
            if type(value).__name__ in ("method_descriptor", "wrapper_descriptor", "classmethod_descriptor"):
                found.add(f"{name}.{key}")
    return found


def test_every_native_call_is_gone_through() -> None:
    covered = {f"{name}.{method}" for name, methods in PLAIN.items() for method in methods}
    covered |= {
        f"{name}.{method}" for table in (IN_PROGRAM, ON_LOOP) for name, text in table.items() for method in text.split()
    }
    covered |= {f"{name}.{method}" for name in OPERATIONS for method in OF_OPERATIONS}
    missing = exported() - covered
    assert not missing, (
        f"add {sorted(missing)} to a table of this file, with a call that shows that nothing is left over"
    )
    gone = covered - exported()
    assert not gone, f"{sorted(gone)} are in the tables, and are no more"
