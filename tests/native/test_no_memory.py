"""Memory runs out, at each allocation in turn: a ``MemoryError``, nothing worse, and the program after it is whole.

CPython's test module refuses the n-th allocation of the process, for every n that a call makes. Each kind of call is gone through in a
process of its own: what goes wrong here ends as a signal, a hang, or something that stays.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import bateau
from bateau.kernel import twin

pytestmark = [
    pytest.mark.skipif(twin.native is None, reason=f"the C part is not in use: {twin.why_pure}"),
    # 3.12.1 and 3.13.0 end in `_PyEval_EvalFrameDefault` and in the warning of a coroutine, also with BATEAU_PURE=1.
    pytest.mark.skipif(sys.version_info >= (3, 12), reason="these Pythons do not survive it themselves"),
    pytest.mark.skipif(
        hasattr(sys, "gettotalrefcount"), reason="CPython's own assertions do not hold then (STACK_LEVEL)"
    ),
    pytest.mark.skipif(not importlib.util.find_spec("_testcapi"), reason="this Python comes without its test modules"),
]

PRELUDE = """
import faulthandler, gc, sys, warnings
import _testcapi
import bateau, bateau.time
from bateau.channel import channel
from bateau.sync import Condition, Event, Lock, Semaphore

warnings.simplefilter("ignore")  # operations that were made and then could not be spawned
async def nothing(): pass
async def answer(): return 42
"""

CASES = {
    "spawn and join": """
async def case():
    async with bateau.scope() as scope:
        scope.spawn(nothing)
        scope.spawn(bateau.yield_now, name="named")
        assert await scope.spawn(answer) == 42
""",
    "a crowd": """
async def case():
    async with bateau.scope() as scope:
        for _ in range(20):
            scope.spawn(bateau.time.sleep, 1e-6)
""",
    "sleep": """
async def case():
    await bateau.time.sleep(1e-6)
    await bateau.time.sleep(0)
""",
    "timeouts": """
async def case():
    with bateau.timeout(100):
        await bateau.yield_now()
    with bateau.move_on_after(0):
        await bateau.time.sleep(1)
    with bateau.move_on_after(1e-5):
        await bateau.time.sleep(1)
""",
    "a channel": """
async def case():
    sender, receiver = channel(2)
    async with sender, receiver, bateau.scope() as scope:
        await sender.send(1)
        assert await receiver.recv() == 1
        scope.spawn(receiver.recv)
        await bateau.yield_now()
        await sender.send(2)
        await bateau.yield_now()
        await sender.send(1)
        await sender.send(2)
        scope.spawn(sender.send, 3)
        await bateau.yield_now()
        assert [await receiver.recv() for _ in range(3)] == [1, 2, 3]
""",
    "a lock": """
async def case():
    lock = Lock()
    async def contend():
        async with lock:
            await bateau.yield_now()
    async with bateau.scope() as scope:
        for _ in range(3):
            scope.spawn(contend)
""",
    "a semaphore and an event": """
async def case():
    permits, flag = Semaphore(1), Event()
    async def contend():
        async with permits:
            await flag.wait()
    async with bateau.scope() as scope:
        for _ in range(3):
            scope.spawn(contend)
        await bateau.yield_now()
        flag.set()
""",
    "a condition": """
async def case():
    changed = Condition()
    async def waiting():
        async with changed:
            await changed.wait()
    async with bateau.scope() as scope:
        for _ in range(2):
            scope.spawn(waiting)
        await bateau.yield_now()
        async with changed:
            changed.notify_all()
""",
    "cancelling": """
async def case():
    async with bateau.scope() as scope:
        for _ in range(3):
            scope.spawn(bateau.time.sleep, 1000)
        await bateau.yield_now()
        scope.cancel()
""",
}

# A scope whose `__aexit__` can't even be begun is not left, and whoever leaves the one around it hears of that. Python's own code is no
# better there: what it then leaves in the heap is not counted.
NOT_LEFT = {"cancelling"}

EACH = """
def leaves(error):
    if isinstance(error, BaseExceptionGroup):
        return [kind for inner in error.exceptions for kind in leaves(inner)]
    return [type(error)]

def refuse(n):
    async def main():
        await case()
        _testcapi.set_nomemory(n, n + 1)
        try:
            await case()
        finally:
            _testcapi.remove_mem_hooks()
        await case()

    try:
        bateau.run(main, runtime="native")
    except BaseException as error:
        _testcapi.remove_mem_hooks()
        kinds = set(leaves(error)) - {MemoryError} - allowed
        assert not kinds, f"allocation {n}: {kinds}, {error}"
        refused = True
    else:
        refused = False
    bateau.run(case, runtime="native")
    return refused

def each():
    n = quiet = refused = 0
    while quiet < 30:
        faulthandler.dump_traceback_later(60, exit=True)
        if refuse(n):
            refused += 1
            quiet = 0
        else:
            quiet += 1
        n += 1
    faulthandler.cancel_dump_traceback_later()
    return refused

faulthandler.enable()
sys.unraisablehook = lambda unraisable: None  # what a destructor could not do for want of memory
each(), each()
gc.collect()
before = sys.getallocatedblocks()
refused = each()
gc.collect()
print(refused, sys.getallocatedblocks() - before)
"""


@pytest.mark.parametrize("name", CASES)
def test_each_allocation_is_refused_once(name: str) -> None:
    allowed = "allowed = {bateau.ScopeError}\n" if name in NOT_LEFT else "allowed = set()\n"
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(CASES[name]) + allowed + EACH],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(Path(bateau.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    refused, more = map(int, done.stdout.split())
    assert refused > 3  # `sleep` makes the fewest
    if name not in NOT_LEFT:
        assert more < 4 * refused, f"{more} blocks are left over by {refused} refusals"


def run_alone(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PRELUDE + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(bateau.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_no_permit_is_lost_for_the_report_of_who_holds_it() -> None:
    """A permit that could not be noted was taken from the semaphore and given to nobody, and a waiter was dropped from the queue."""
    out = run_alone("""
async def main():
    for n in range(12):
        free = Semaphore(1000)
        _testcapi.set_nomemory(n, n + 1)
        try:
            free.__aenter__()
        except MemoryError:
            _testcapi.remove_mem_hooks()
            assert free.value == 1000, n
        _testcapi.remove_mem_hooks()

        taken = Semaphore(0)
        async with bateau.scope() as scope:
            waiting = scope.spawn(taken.acquire)
            await bateau.yield_now()
            _testcapi.set_nomemory(n, n + 1)
            try:
                taken.release()
            except MemoryError:
                _testcapi.remove_mem_hooks()
                taken.release()
            _testcapi.remove_mem_hooks()
            assert await waiting, n
            assert taken.value == 0

bateau.run(main, runtime="native")
print("whole")
""")
    assert out == "whole\n"


def test_who_can_not_be_made_ready_can_be_cancelled() -> None:
    """The queue of ready tasks is full when more are woken. Refused once, it grows by little; refused always, they wait on and can be cancelled."""
    out = run_alone("""
async def main(times):
    flags = [Event() for _ in range(80)]
    async with bateau.scope() as scope:
        tasks = []
        for number, flag in enumerate(flags):
            tasks.append(scope.spawn(flag.wait))
            if number % 8 == 7:  # so that the queue stays small
                await bateau.yield_now()
        await bateau.yield_now()
        refused = 0
        for flag in flags:
            _testcapi.set_nomemory(0, times)
            try:
                flag.set()
            except MemoryError:
                _testcapi.remove_mem_hooks()
                refused += 1
            _testcapi.remove_mem_hooks()
        for _ in range(3):
            await bateau.yield_now()
        assert sum(not task.done for task in tasks) == refused
        scope.cancel()
    return refused

print(bateau.run(main, 1, runtime="native"), bateau.run(main, 4, runtime="native") > 0)
""")
    assert out == "0 True\n"


def test_a_connection_that_can_not_be_made_a_stream_is_closed_and_the_next_is_accepted() -> None:
    """Refused at each allocation of an accept and of a connect in turn: a ``MemoryError``, no descriptor left, the other end is told."""
    out = run_alone("""
import os, socket
from bateau import net
from bateau.net._tcp import connect_one

async def refused(make, n):
    operation = make()
    bateau.current_task().budget = 100  # else others come first, and the rest is the pure code's
    _testcapi.set_nomemory(n, n + 1)
    try:
        stream = await operation
    except MemoryError:
        _testcapi.remove_mem_hooks()
        return None
    _testcapi.remove_mem_hooks()
    return stream

async def accept(listener, make, n):
    with socket.create_connection(listener.getsockname(), 20) as client:
        stream = await refused(make, n)
        if stream is not None:
            stream.close()
            return 0
        try:
            listener.try_accept().close()  # refused before it was accepted: it waits still
        except bateau.WouldBlock:
            assert client.recv(1) == b""
        return 1

async def connect(listener, row, n):
    stream = await refused(lambda: connect_one("it", row, net.SocketStream, True), n)
    try:
        other = listener.try_accept()
    except bateau.WouldBlock:
        assert stream is None  # refused before it was begun
        return 1
    async with other:
        if stream is None:
            assert await other.read() == b""
            return 1
        stream.close()
        return 0

async def main():
    async with await net.listen_tcp("127.0.0.1", 0) as listener:
        (row,) = await net.resolve("127.0.0.1", listener.port)
        fds, count = len(os.listdir("/proc/self/fd")), 0
        for n in range(40):
            for make in (listener.accept, listener.__anext__):
                count += await accept(listener, make, n)
            count += await connect(listener, row, n)
        assert len(os.listdir("/proc/self/fd")) == fds
        assert listener.open_count == 0
        print(count > 10, "whole")

bateau.run(main, runtime="native")
""")
    assert out == "True whole\n"


EACH_CALL = """
import runpy
sys.path[:0] = [{tests!r}]
from support.drift import Token

token = Token()
make, _ = runpy.run_path({path!r}, run_name="calls")["calls"]._makers[{name!r}]
call = make(token)

def refuse(n):
    _testcapi.set_nomemory(n, n + 1)
    try:
        call()
    except MemoryError:
        return True
    except SystemError as error:  # 3.11's own, of a frame that it has no memory for
        assert "without" in str(error), error
        return True
    finally:
        _testcapi.remove_mem_hooks()
        call()  # whole again
    return False

def each():
    n = quiet = refused = 0
    while quiet < 30:
        quiet = 0 if refuse(n) else quiet + 1
        refused += not quiet
        n += 1
    return refused

each()
gc.collect()
before = sys.getallocatedblocks(), sys.getrefcount(token)
refused = each()
gc.collect()
print(refused, sys.getallocatedblocks() - before[0], sys.getrefcount(token) - before[1])
"""


@pytest.mark.parametrize("name", ["memory", "ring", "rows", "stacks"])
def test_what_looks_at_tasks_and_memory_can_be_refused_memory(name: str) -> None:
    """The calls of ``calls/test_insight.py``: an answer or an error, never another answer; and nothing stays."""
    here = Path(__file__).parent
    code = EACH_CALL.format(tests=str(here.parent), path=str(here / "calls" / "test_insight.py"), name=name)
    refused, blocks, references = map(int, run_alone(code).split())
    assert refused > 20
    assert references == 0
    assert blocks < refused, f"{blocks} blocks are left over by {refused} refusals"
