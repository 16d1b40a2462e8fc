"""What no program should do to the C part, and what must then not take the interpreter along: each in a process of its own.

Some run Python where C does not expect it (a destructor, a method that closes what is being used), some make chains that are freed at
one stroke, some hand over the wrong thing. An exception is a fine answer; a signal is none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from bateau.kernel import twin

pytestmark = pytest.mark.skipif(twin.native is None, reason=f"the C part is not in use: {twin.why_pure}")

RING = """
import mmap, struct
import bateau._native as N
from bateau.insight.recorder.writer import about as real_about
from bateau.kernel.errors import Cancelled

def ring(about=real_about, records=1024, tasks=64, texts=1 << 16):
    tasks_at = 4096 + records * 32
    texts_at = tasks_at + tasks * 96
    m = mmap.mmap(-1, (texts_at + texts + 4095) // 4096 * 4096)
    m[:8] = b"BATEAUFR"
    m[64:112] = struct.pack("<6Q", 4096, records, tasks_at, tasks, texts_at, texts)
    m[2080:2088] = (8).to_bytes(8, "little")
    return m, N.Ring(m, about, Cancelled, False)

class T:
    scope = coro = None
    _name = "x"
    def __init__(self, id, waiting=None):
        self.id, self.waiting = id, waiting
"""
LOOP = "from bateau.runtimes.native_loop import NativeEventLoop\nloop = NativeEventLoop()\n"

PROGRAMS = {
    "a destructor schedules while the queue is being copied": LOOP
    + """
import gc
class D:
    def __init__(self): self.me = self
    def __del__(self):
        for _ in range(20000): loop.call_soon(print)
for _ in range(3): loop.call_soon(print)
gc.disable()
hold = [[] for _ in range(2000)]
D()
gc.set_threshold(1)
gc.enable(); found = loop._ready; gc.disable()
""",
    "a handle is told where it was made": LOOP
    + """
handle = loop.call_soon(print)
for where in ((), (1,), None, "x"):
    try: handle._source_traceback = where
    except Exception: pass
    repr(handle), handle._source_traceback
""",
    "handles in a chain": """
import asyncio
from bateau.interop import asyncio as ours
async def main():
    loop, handle = asyncio.get_running_loop(), None
    for _ in range(200_000): handle = loop.call_soon(lambda *args: None, handle)
    await asyncio.sleep(0.1)
    await asyncio.sleep(0.1)
    handle = None
ours.run(main())
""",
    "operations in a chain": """
import warnings; warnings.simplefilter("ignore")
import bateau.channel, bateau._native as N
sender, op = N.SenderFields(), None
for _ in range(300_000):
    op = sender.send(op)
    op.state = 4
del op
""",
    "queues in a chain": """
import bateau._native as N
queue = None
for _ in range(300_000):
    outer = N.Deque()
    outer.append(queue)
    queue = outer
del queue, outer
""",
    "a descriptor that nobody has": LOOP
    + """
import resource
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try: loop.add_reader(5_000_000, print)
except OSError: pass
else: raise AssertionError("it is not open")
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
""",
    "futures of a class that can't be made": LOOP
    + """
import bateau._native as N
loop._core_future_type = N.Handle
try: loop.create_future()
except Exception: pass
""",
    "a recording is closed while it asks who holds": """
import threading, time, bateau, bateau.time
from bateau.insight.recorder.recording import record
from bateau.sync import Lock
recording, closing = record(), threading.Event()
class Slow(Lock):
    def holders(self):
        closing.set()
        time.sleep(0.2)
        return super().holders()
closer = threading.Thread(target=lambda: (closing.wait(), recording.close()))
closer.start()
async def child(lock):
    async with lock: pass
async def main():
    lock = Slow()
    async with lock, bateau.scope() as scope:
        scope.spawn(child, lock)
        await bateau.time.sleep(0.5)
        scope.cancel()
bateau.run(main)
closer.join()
""",
    "a ring is closed by what it asks": RING
    + """
def about(cls):
    r.close(); m.close()
    return "x", None, False
m, r = ring(about)
class Op: resource = None
r.park(T(1, Op()))
""",
    "a ring that is asked while it asks": RING
    + """
def about(cls):
    if getattr(cls, "deep", 0): r.park(T(2, type("In", (), {"resource": None})()))
    return "x", None, False
m, r = ring(about)
for n in range(63): r.park(T(1, type(f"O{n}", (), {"resource": None})()))
r.park(T(1, type("Deep", (), {"resource": None, "deep": 1})()))
del r
""",
    "a coroutine ends while its stack is read": """
import bateau._native as N
from types import CodeType

def once():
    space = {}
    exec("async def outer(f): await inner(f)\\nasync def inner(f): await f", space)
    class Foreign:
        def __await__(self): return self
        __iter__ = __await__
        def __next__(self): pass
        def __getattr__(self, name):
            if name == "cr_frame":  # the second coroutine goes, and its code with it
                coro.close()
                space.clear()
                kept.extend(bytes(size) for size in range(100, 600))
            raise AttributeError(name)
    kept = []
    coro = space["outer"](Foreign())
    coro.send(None)
    table = N.Stacks("waiting")
    table.of(coro)
    return table.stacks

for _ in range(20):
    [stack] = once()
    if [code.co_name for code, _ in stack] != ["outer", "inner"]:
        raise SystemExit("Fatal: " + repr(stack)[:200])
""",
    "a slot of another class": RING
    + """
class A: __slots__ = ("p", "q", "r", "s", "t", "u", "v", "w", "id")
class B:
    __slots__ = ()
    id = A.id
m, r = ring()
for _ in range(1000):
    for each in [B() for _ in range(20)]: r.step(each)
""",
    "tasks without a number": RING
    + """
m, r = ring(tasks=2048)
class No: pass
r.spawn(No())
for _ in range(18): r.end(No(), None)
for n in range(1, 18): r.spawn(T(n))
""",
    "a thread's state is dropped by another": """
import threading, bateau, bateau.kernel, bateau._native as N
box, go, made = [], threading.Event(), threading.Event()
def run():
    box.append(N.RunningFields()); made.set(); go.wait()
    filler = [bytearray(40) for _ in range(100)]
    N.yield_now().send(None)
thread = threading.Thread(target=run)
thread.start(); made.wait(); box.clear(); go.set(); thread.join()
""",
    "a destructor uses the lock that is handed over": """
import bateau
from bateau.sync import Condition, Event, Lock, Semaphore
class Last:
    def __init__(self, *calls): self.calls = calls
    def __del__(self):
        for call in self.calls:
            try: call()
            except Exception: pass
async def main():
    lock, event, permits, changed = Lock(), Event(), Semaphore(1), Condition()
    async def child(n):
        last = Last(lock.release, event.set, permits.release, changed.notify_all, lambda: setattr(event, "_queue", None))
        async with lock:
            await bateau.yield_now()
        async with permits:
            await event.wait()
        async with changed:
            await changed.wait()
    for _ in range(20):
        with bateau.move_on_after(0.02):
            async with bateau.scope() as scope:
                for n in range(5): scope.spawn(child, n)
                await bateau.yield_now()
                del lock._owner
bateau.run(main, runtime="native")
""",
    "queues, owners and counts of another kind": """
import bateau, itertools
from bateau.sync import Condition, Event, Lock, Semaphore
things = None, 1, "x", [], {}, object(), Lock(), Event(), (bateau.kernel.resource.WaitQueue)()
async def use(made):
    async with bateau.scope() as scope:
        for name in ("acquire", "wait", "release", "set", "clear", "notify", "notify_all", "is_set", "__aenter__"):
            method = getattr(made, name, None)
            if method is None: continue
            async def call():
                try: await method()
                except (Exception, SystemError): pass
            scope.spawn(call)
        await bateau.yield_now(); await bateau.yield_now()
        scope.cancel()
async def main():
    for kind, thing in itertools.product((Condition, Event, Lock, Semaphore), things):
        for field in ("_queue", "_owner", "_value", "_held", "max_value", "lock", "_home", "mutex", "_watched", "patience"):
            made = kind()
            try: setattr(made, field, thing)
            except Exception: continue
            try: await use(made)
            except BaseException: pass
bateau.run(main, runtime="native")
""",
    "fields without a kernel's object around them": """
import bateau, bateau.sync, bateau._native as N
def each():
    for name in ("Sync", "PlaceQueue", "Placed", "Event", "EventWait", "Lock", "LockAcquire", "Semaphore", "SemaphoreAcquire",
                 "Condition", "ConditionWait"):
        yield getattr(N, name + "Fields")()
async def main():
    for one in each():
        for method in dir(one):
            if method in ("__class__", "__new__", "__init__", "__reduce__", "__reduce_ex__"): continue
            for args in ((), (None,), (1,), (None, None, None)):
                try:
                    made = getattr(one, method)(*args)
                    if hasattr(type(made), "__await__"): await made
                except BaseException: pass
    for one in each():
        try:
            lock = bateau.sync.Lock()
            await lock.acquire()
            lock._queue.add(one)
            lock.release()
        except Exception: pass
bateau.run(main, runtime="native")
""",
    "a select's arm is asked while the lock is handed over": """
import bateau
from bateau.sync import Event, Lock
async def main():
    lock, event = Lock(), Event()
    async def both():
        async with bateau.Select({"lock": lock.acquire, "event": event.wait}) as select:
            async for name, _ in select:
                if name == "lock": lock.release()
                break
    for _ in range(50):
        async with bateau.scope() as scope:
            await lock.acquire()
            for _ in range(3): scope.spawn(both)
            for _ in range(3): await bateau.yield_now()
            event.set(); lock.release(); event.clear()
            for _ in range(3): await bateau.yield_now()
            scope.cancel()
        assert not lock.locked()
bateau.run(main, runtime="native")
""",
    "an engine gets another queue": """
import bateau
async def main():
    bateau.current_task().host.ready = []
    async with bateau.scope() as scope:
        scope.spawn(bateau.yield_now)
try: bateau.run(main, runtime="native")
except BaseException as error: print(repr(error))
""",
    "destructors act while a crowd is being cancelled": """
import gc
import bateau, bateau.time
from bateau.sync import Event

seen = 0
class Local:
    def __init__(self, scope, number): self.scope, self.number = scope, number
    def __del__(self):
        global seen
        seen += 1
        if self.number % 50 == 0: gc.collect()
        for task in self.scope.tasks[:3]: task.cancel("by a destructor")
        self.scope.cancel("again")
        if self.number % 7 == 0:
            try: self.scope.spawn(bateau.time.sleep, 100)
            except RuntimeError: pass

async def sleeper(local, event):
    try:
        if local.number % 2: await bateau.time.sleep(1000)
        elif local.number % 3: await event.wait()
        else:
            with bateau.move_on_after(1000):
                async with bateau.scope() as inner:
                    await inner.spawn(bateau.time.sleep, 1000)
    finally:
        del local

async def main():
    for _ in range(3):
        async with bateau.scope() as scope:
            event = Event()
            for number in range(1000): scope.spawn(sleeper, Local(scope, number), event)
            await bateau.yield_now()
            await bateau.yield_now()
            scope.cancel("all")
        assert scope.cancelled_caught
bateau.run(main)
gc.collect()
assert seen == 3000, seen
""",
    "what living tasks are made of is taken from them": """
import gc
import bateau, bateau.time
from bateau.sync import Event

async def sleeper(event): await event.wait()

async def main():
    event = Event()
    async with bateau.scope() as scope:
        tasks = [scope.spawn(sleeper, event) for _ in range(400)]
        await bateau.yield_now()
        for number, task in enumerate(tasks):
            coro, context = task.coro, task.context
            if number % 4 == 0: task.context = None
            if number % 4 == 1: task.coro = None
            if number % 4 == 2: del task.coro, task.context
            gc.collect(0)
            task.coro, task.context = coro, context
            del coro, context
        gc.collect()
        event.set()
    assert all(task.done for task in tasks)
    engine = bateau.current_task().host
    async with bateau.scope() as scope:
        kept = [scope.spawn(bateau.time.sleep, 1000) for _ in range(400)]
        await bateau.yield_now()
        scope.cancel()
        kept[0]._value = kept  # a cycle
    del kept, tasks
    gc.collect()
bateau.run(main)
""",
    "tasks and nodes in chains": """
import bateau
import bateau._native as N

async def last(value): return value

async def main():
    handle = None
    async with bateau.scope() as scope:
        for _ in range(100_000):
            handle = scope.spawn(last, handle)
            if _ % 1000 == 0: await handle
    handle = None
bateau.run(main)

node = None
for _ in range(200_000):
    outer = N.NodeFields()
    outer.children = N.Children()
    if node is not None: outer.children[node] = None
    node = outer
node = outer = None
""",
    "a block's door without a scope": """
import bateau
import bateau._native as N

async def main():
    for kind, field, things in ((N.PassageFields, "scope", (None, 1, object(), N.ScopeFields(), bateau.scope())),
                                (N.JoinFields, "target", (None, 1, object(), N.TaskFields(), bateau.current_task()))):
        for thing in things:
            for act in ("send", "throw", "close"):
                op = kind()
                setattr(op, field, thing)
                op.resource = thing
                for _ in range(3):
                    try:
                        if act == "send": op.send(None)
                        elif act == "throw": op.throw(KeyError)
                        else: op.close()
                    except (Exception, SystemError): pass
                bateau.current_task().waiting = None
                op.state = 4
    scope = N.ScopeFields()
    for call in (lambda: scope.__aenter__(), lambda: scope.__aexit__(None, None, None), lambda: scope.__aexit__(),
                 lambda: scope.spawn(main), lambda: scope.child_ended(bateau.current_task()), lambda: N.spread(scope, 1)):
        try: call().close()
        except Exception: pass
    node = N.NodeFields()
    node.children = {}
    try: N.spread(node, 1)
    except TypeError: pass
    children = N.Children()
    bateau.current_task().children = children
    children[N.NodeFields()] = None
    with bateau.move_on_after(1000): pass
    list(children).clear()
bateau.run(main)
""",
    "those who await a task are no queue": """
import bateau
async def main():
    async with bateau.scope() as scope:
        scope.spawn(bateau.time.sleep, 0).joiners = []
bateau.run(main)
""",
    "a file with anything for its fields": """
import bateau, bateau._native as N, gc, io, sys
from bateau import fs
from bateau.fs.now import NowFile
class Evil:
    def __getattr__(self, name):
        for field in ("_file", "_now", "_lines", "_user", "_beside"):
            try: setattr(victim, field, None)
            except Exception: pass
        raise KeyError(name)
class Reader(io.BufferedReader):
    def tell(self): return "here"
class Buffer(bytearray):
    armed = True
    def __del__(self):
        try: self.armed and victim.close()
        except Exception: pass
async def attempt(call):
    try: await call()
    except (Exception, SystemError): pass
def calls(file):
    return [lambda: file.pread(10, 0), lambda: file.read(), lambda: file.read(3), lambda: file.readline(), lambda: file.readinto(Buffer(4)),
            lambda: file.read1(4), lambda: file.peek(), lambda: file.seek(0), lambda: file.seek(0, 5), lambda: file.tell(),
            lambda: file.pread(-1, 1 << 70), lambda: file.pread(1 << 70, 0), lambda: file.pread(True, 2)]
async def main():
    global victim
    for field in ("_file", "_now", "_lines", "_user", "_beside", "_asks"):
        for value in (None, 1, "x", [], (), (1, 2), io.BytesIO(b"abc"), Evil(), NowFile.__new__(NowFile), io.BufferedReader(io.BytesIO(b"abc")), object()):
            for deleted in (False, True):
                victim = await fs.open(sys.executable, "rb")
                kept = victim._file
                if deleted:
                    try: delattr(victim, field)
                    except Exception: pass
                try: setattr(victim, field, value)
                except Exception: pass
                for call in calls(victim): await attempt(call)
                try: victim._file = kept; victim._user = None; victim._beside = []; victim.close()
                except Exception: pass
    for bare in (N.AsyncFileFields, N.BinaryFileFields, fs.BinaryFile):
        victim = bare.__new__(bare)
        for call in calls(victim): await attempt(call)
        victim._asks = True
        for call in calls(victim): await attempt(call)
        victim._asks = False
    Buffer.armed = False
    victim = await fs.open(sys.executable, "rb")
    for act in ("send", "throw", "close", "again", "reenter"):
        op = victim.pread(10, 0)
        try:
            if act == "send": op.send(None); op.send(None)
            elif act == "throw": op.throw(KeyError); op.throw(KeyError)
            elif act == "close": op.close(); op.send(None)
            elif act == "reenter": gc.collect(); next(iter(op)); iter(op)
            else: op.__await__(); op.__await__().send(None); await op
        except (KeyError, RuntimeError, StopIteration): pass
    for call in calls(victim): call()  # dropped
    ops = [call() for call in calls(victim) for _ in range(50)]
    del ops
    victim, chain = await fs.open(sys.executable, "rb"), None
    for _ in range(300_000):
        chain = victim.readinto(chain) if chain is not None else victim.tell()
    del chain
    victim.close()
bateau.run(main)
raw = NowFile(sys.executable)
raw.read(3), raw.readinto(bytearray(3)), raw.close()
for call in (raw.read, raw.readall, lambda: raw.readinto(bytearray(1)), lambda: raw.read(1, 2), lambda: N.NowFileFields.read(1), lambda: N.NowFileFields.readinto(raw, 1)):
    try: call()
    except Exception: pass
""",
    "a world without its fields": """
import bateau, bateau._native as N
calls = ("after(1, print)", "after(-1, print)", "at(-1, print)", "at(0.0, print)", "run_due()", "jump(1.0)", "next_event()", "next_thread()",
         "look()", "chance('a', 0.5)", "choose_step('a', [1], True)")
for fields in ({}, {"_heap": []}, {"_heap": [], "now": 0.0}, {"_heap": [], "now": 0.0, "strategy": 1}):
    for call in calls:
        world = N.WorldFields()
        for name, value in fields.items(): setattr(world, name, value)
        try: eval("world." + call)
        except Exception: pass
world = N.WorldFields()
world._heap, world.now, world.ready = [], 0.0, ()
event = world.at(1.0, print)
event.when = None
for call in ("next_event()", "next_thread()"):
    del event.when
    try: eval("world." + call)
    except Exception: pass
""",
}


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", textwrap.dedent(program)],
        check=False, capture_output=True, text=True, timeout=100,
        env={**os.environ, "PYTHONMALLOC": "debug", **environment},
    )  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_survives(name: str) -> None:
    done = run(PROGRAMS[name])
    assert done.returncode >= 0, done.stderr[-4000:]
    assert "Fatal" not in done.stderr


def test_before_the_kernel_is_there() -> None:
    """The twin's functions say so, where they need the pure ones."""
    calls = (
        "deliver(1)", "sleep(1)", "timeout(None)", "SendFields().send(None)", "RecvFields().send(None)",
        "SleepFields().send(None)", "YieldFields().send(None)", "ScopeFields().spawn(print)",
        "AsyncFileFields().read(1)", "BinaryFileFields().pread(1, 2)", "CancelScopeFields().__enter__()", "EngineFields().timeout()", "TaskFields()._begin(1, 2, 3, 4, 5)",
    )  # fmt: skip
    program = "import bateau, bateau._native as N\nfor call in %r:\n    try: eval('N.' + call)\n    except Exception as error: print(error)\n"
    done = run(program % (calls,), BATEAU_PURE="1")
    assert done.returncode == 0, done.stderr
    assert "has not been imported" in done.stdout


def test_a_subinterpreter_does_not_take_the_twin() -> None:
    # From 3.13 on `_interpreters`, which makes one with a GIL of its own unless told otherwise: the import is refused either way.
    name = "_xxsubinterpreters" if sys.version_info < (3, 13) else "_interpreters"
    pytest.importorskip(name)
    done = run(
        f"""
        import {name} as interpreters
        one = interpreters.create()
        try: interpreters.run_string(one, "import bateau._native")
        except Exception as error: print(error)
        interpreters.destroy(one)
        import bateau.kernel.twin as twin
        print(twin.about())
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("native (C)")
