"""The native loop's scheduling, and what it leaves to the collector; most of it beside asyncio's own loop."""

from __future__ import annotations

import asyncio
import functools
import gc
import resource
import socket
import sys
import time
import weakref
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from bateau.interop.asyncio import new_event_loop
from support.loops import Problems, Recorder, both, needs_native, once, pair, run
from support.sanitizer import UNDER_ASAN


@both
def test_order_arguments_and_contexts(factory: Any) -> None:
    var: ContextVar[int] = ContextVar("var", default=0)
    seen: list[Any] = []

    def note(*args: Any) -> None:
        seen.append((*args, var.get()))
        var.set(99)  # in the handle's own copy

    async def main() -> None:
        loop = asyncio.get_running_loop()
        var.set(1)
        for count in range(6):
            loop.call_soon(note, *range(count))
        context = copy_context()
        context.run(var.set, 7)
        loop.call_soon(note, "given", context=context)
        loop.call_soon(note, "none given", context=None)
        await asyncio.sleep(0)
        assert var.get() == 1
        assert context[var] == 99

    run(factory, main())
    assert seen == [(*range(count), 1) for count in range(6)] + [("given", 7), ("none given", 1)]


@both
def test_bad_arguments(factory: Any) -> None:
    loop = factory()
    try:
        for wrong in (
            lambda: loop.call_soon(),
            lambda: loop.call_soon(print, contexts=None),
            lambda: loop.call_later(None, print),
            lambda: loop.call_at(None, print),
            lambda: loop.call_later("1", print),
            lambda: loop.call_at(1.0),
        ):
            with pytest.raises(TypeError):
                wrong()
        for file in (-1, "x", object()):
            with pytest.raises((ValueError, TypeError)):
                loop.add_reader(file, print)
    finally:
        loop.close()
    for closed in (loop.call_soon, loop.call_soon_threadsafe):
        with pytest.raises(RuntimeError, match="closed"):
            closed(print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_later(1, print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_reader(0, print)
    assert loop.remove_reader(0) is False
    loop.close()


@both
def test_a_handle(factory: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: list[int] = []
        handle = loop.call_soon(seen.append, 1)
        other = loop.call_soon(seen.append, 2)
        timer = loop.call_later(1000.0, seen.append, 3)
        assert abs(timer.when() - loop.time() - 1000.0) < 100.0
        assert not handle.cancelled()
        assert "append" in repr(handle)
        handle.cancel()
        handle.cancel()
        timer.cancel()
        assert handle.cancelled()
        assert "cancelled" in repr(handle)
        assert timer.cancelled()
        await asyncio.sleep(0)
        assert seen == [2]
        assert not other.cancelled()
        other.cancel()  # too late, and harmless

    run(factory, main())


@both
def test_a_handle_cancelled_by_its_own_callback(factory: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen = []

        class Owner:
            def fire(self, value: list[int]) -> None:
                holder.pop().cancel()
                gc.collect()
                seen.append((value, self))

        holder = [loop.call_soon(Owner().fire, [1])]
        timers = [loop.call_later(0, Owner().fire, [2])]
        await asyncio.sleep(0)
        holder.append(timers.pop())
        await asyncio.sleep(0.001)
        assert [value for value, _ in seen] == [[1], [2]]

    run(factory, main())


@both
def test_a_callback_lives_while_it_runs(factory: Any) -> None:
    """Also one that was cancelled meanwhile, and that only its handle refers to."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        alive = []

        def fire() -> None:
            holder[0].cancel()
            gc.collect()
            alive.append(reference() is not None)

        callback = functools.partial(fire)
        reference = weakref.ref(callback)
        holder = [loop.call_soon(callback)]
        del callback
        await asyncio.sleep(0)
        gc.collect()
        assert alive == [True]
        assert reference() is None

    run(factory, main())


@both
def test_timers_come_in_order_also_after_many_cancellations(factory: Any) -> None:
    import random

    draw = random.Random(5)
    seen: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        delays = [draw.randrange(1000) / 1e5 for _ in range(3000)]
        handles = [loop.call_at(now + delay, seen.append, delay) for delay in delays]
        kept = []
        for i, (delay, handle) in enumerate(zip(delays, handles, strict=True)):
            if i % 3:
                handle.cancel()
            else:
                kept.append(delay)
        await asyncio.sleep(0.02)
        assert seen == sorted(kept)

    run(factory, main())


@needs_native
def test_a_cancelled_timer_is_gone_at_once(loop: Any) -> None:
    class Thing:
        def call(self) -> None: ...

    things = [Thing() for _ in range(50)]
    references = [weakref.ref(thing) for thing in things]
    handles = [loop.call_later(1000 + i, thing.call) for i, thing in enumerate(things)]
    del things
    for handle in handles:
        handle.cancel()
    assert loop._scheduled == []
    assert [reference() for reference in references] == [None] * 50


@needs_native
def test_a_timer_with_no_end_and_one_that_is_no_number(loop: Any) -> None:
    loop.call_later(float("inf"), print)
    with pytest.raises(ValueError, match="NaN"):
        loop.call_later(float("nan"), print)
    loop.call_later(-5, loop.stop)
    loop.run_forever()


@both
def test_an_exception_in_a_callback(factory: Any) -> None:
    problems = Problems()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(problems)

        def fails(a: int) -> None:
            raise ZeroDivisionError

        handle = loop.call_soon(fails, 5)
        loop.call_later(0, fails, 6)
        r, w = socket.socketpair()
        loop.add_writer(w, fails, 7)
        await asyncio.sleep(0.001)
        loop.remove_writer(w)
        r.close()
        w.close()
        assert problems[0]["handle"] is handle
        assert "fails" in problems[0]["message"]

    run(factory, main())
    assert len(problems) >= 3
    assert {type(problem["exception"]) for problem in problems} == {ZeroDivisionError}


@both
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_loop_leaves_the_rest_queued(factory: Any, kind: type[BaseException]) -> None:
    loop = factory()
    seen: list[int] = []

    def ends() -> None:
        raise kind

    loop.call_soon(seen.append, 1)
    loop.call_soon(ends)
    loop.call_soon(seen.append, 2)
    with pytest.raises(kind):
        loop.run_forever()
    assert seen == [1]
    once(loop)
    assert seen == [1, 2]
    loop.close()


@both
def test_what_ends_the_loop_from_a_protocol(factory: Any) -> None:
    class Ends(Recorder):
        def data_received(self, data: bytes) -> None:
            raise KeyboardInterrupt

    loop = factory()

    async def main() -> None:
        protocol, there = await pair(Ends)
        there.send(b"x")
        kept.extend((protocol, there))
        await asyncio.Event().wait()

    kept: list[Any] = []
    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    protocol, there = kept
    protocol.transport.abort()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    there.close()
    loop.close()


@both
def test_a_destructor_that_calls_the_loop(factory: Any) -> None:
    """Arguments die while their handle is given up, and may do anything meanwhile."""
    loop = factory()
    seen: list[str] = []

    class Dies:
        def __del__(self) -> None:
            loop.call_soon(seen.append, "died")
            loop.call_later(0, seen.append, "later").cancel()
            gc.collect()

    for _ in range(200):
        loop.call_soon(lambda thing: None, Dies())
        loop.call_later(1000, lambda thing: None, Dies()).cancel()
    once(loop)
    once(loop)
    assert seen == ["died"] * 400
    loop.close()


@needs_native
def test_garbage_collection_in_every_step() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def echo(reader: Any, writer: Any) -> None:
            while data := await reader.read(100):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
            ended.set()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for i in range(20):
            writer.write(b"%d\n" % i)
            assert await reader.readline() == b"%d\n" % i
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(1000, print, i).cancel()
        writer.close()
        await writer.wait_closed()
        await ended.wait()
        server.close()
        await server.wait_closed()

    threshold = gc.get_threshold()
    gc.set_threshold(3, 1, 1)
    try:
        run(new_event_loop, main())
    finally:
        gc.set_threshold(*threshold)


@needs_native
def test_a_loop_in_a_cycle_is_collected() -> None:
    """With queued calls, timers, readers and a stream that refer to it."""
    loop = new_event_loop()
    here, there = socket.socketpair()

    class Marker:
        pass

    marker = Marker()
    marker.loop = loop
    gone = weakref.ref(marker)
    loop.call_soon(print, marker)
    loop.call_later(1000, print, marker, loop)
    loop.add_reader(here, print, marker)
    # Without close(), as careless programs leave it; asyncio's own warnings are not what is tested.
    loop._ssock.close()
    loop._csock.close()
    loop._closed = True
    del loop, marker
    gc.collect()
    assert gone() is None
    here.close()
    there.close()


@both
def test_debug_mode(factory: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert loop.get_debug()
        with pytest.raises(TypeError, match="callable"):
            loop.call_soon(5)
        with pytest.raises(TypeError, match="coroutines cannot be used"):
            loop.call_later(1, asyncio.sleep)
        handle = loop.call_soon(print)
        assert f"created at {__file__}:" in repr(handle)
        handle.cancel()
        assert "cancelled" in repr(handle)
        loop.slow_callback_duration = 0.001
        loop.call_soon(time.sleep, 0.003)
        await asyncio.sleep(0.01)
        wrong = []

        def elsewhere() -> None:
            try:
                loop.call_soon(print)
            except RuntimeError as error:
                wrong.append(str(error))
            loop.call_soon_threadsafe(str)

        await asyncio.to_thread(elsewhere)
        assert "Non-thread-safe operation" in wrong[0]

    run(factory, main(), debug=True)
    assert "Executing" in caplog.text
    assert "took" in caplog.text


@needs_native
def test_what_others_may_look_at(loop: Any) -> None:
    here, there = socket.socketpair()
    loop.add_reader(here, print)
    selector = loop._selector
    assert selector.get_key(here).events == 1
    assert here.fileno() in selector.get_map()
    with pytest.raises(KeyError):
        selector.get_key(there)
    with pytest.raises(RuntimeError, match="add_reader"):
        selector.select()
    handle = loop.call_soon(print)
    assert loop._ready == [handle]
    loop.remove_reader(here)
    here.close()
    there.close()


def current_size() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_nothing_leaks() -> None:
    """Each native call many times over: no reference is kept, and no memory."""
    from bateau.interop.asyncio import is_native

    if not is_native():
        pytest.skip("bateau's C part was not built, or BATEAU_PURE is set")

    class Token:
        pass

    token = Token()
    context = copy_context()

    async def calls(count: int) -> None:
        loop: Any = asyncio.get_running_loop()
        here, there = socket.socketpair()
        for i in range(count):
            loop.call_soon(id, token)
            loop.call_soon(lambda *_: None, token, token, token, token, context=context)
            loop.call_soon(id, token).cancel()
            loop.call_soon_threadsafe(id, token)
            loop.call_later(0, id, token)
            loop.call_later(100, id, token).cancel()
            loop.add_reader(here, id, token)
            loop.add_writer(here, id, token)
            loop.add_writer(here, id, token)
            loop.remove_reader(here)
            loop.remove_writer(here)
            for wrong in (lambda: loop.call_soon(id, token, wrong=token), lambda: loop.call_later("x", id, token)):
                with pytest.raises(TypeError):
                    wrong()
            loop.create_future().cancel()
            repr(loop.call_soon(id, token))
            if not i % 20:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        here.close()
        there.close()

    async def streams(count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            protocol, there = await pair()
            protocol.token = token
            transport = protocol.transport
            transport.write(b"1" * 300_000)
            transport.write(bytearray(10))
            transport.writelines([b"1", b"2"])
            with pytest.raises(TypeError):
                transport.write(5)
            transport.set_protocol(protocol)
            transport.pause_reading()
            transport.resume_reading()
            await loop.sock_sendall(there, b"x")
            repr(transport)
            await protocol.until(lambda protocol=protocol: protocol.data)
            transport.abort()
            await protocol.lost
            there.close()

    async def both_parts(count: int) -> None:
        await calls(count)
        await streams(count // 10)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(both_parts(200))
        gc.collect()
        references, size, objects = sys.getrefcount(token), current_size(), len(gc.get_objects())
        runner.run(both_parts(2000))
        gc.collect()
        assert sys.getrefcount(token) == references
        assert len(gc.get_objects()) - objects < 100
        if not UNDER_ASAN:  # the address sanitizer keeps what was freed
            assert current_size() - size < 8 << 20
