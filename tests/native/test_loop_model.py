"""Random programs run on asyncio's own loop and on the native one: what the first one does is right for the second.

A program is drawn from a seed and leaves a trace; the two traces have to be equal. Where asyncio promises no order (of two descriptors
that are ready at once, of timers due at the same time, of how data is cut), the trace has none.
``BATEAU_FUZZ=SECONDS`` runs it for as long, with seeds of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import random
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from bateau.interop.asyncio import new_event_loop
from support.loops import needs_native

pytestmark = [needs_native, pytest.mark.no_leak_check("connections are dropped on purpose")]

SECONDS = float(os.environ.get("BATEAU_FUZZ", "0"))

variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
Trace = list[Any]


# ---- handles: what is called, in which order, in which context --------------------------------------------------------------


def handles(draw: random.Random, trace: Trace, make: Callable[[], Any]) -> None:
    loop = make()
    loop.set_exception_handler(lambda loop, context: trace.append(("told", type(context.get("exception")).__name__)))
    made: list[Any] = []
    left = draw.randrange(20, 150)
    asked: list[int] = []

    def act(name: int) -> None:
        nonlocal left
        trace.append((name, variable.get()))
        for _ in range(draw.randrange(4)):
            if left <= 0:
                return
            left -= 1
            match draw.randrange(12):
                case 0 | 1 | 2 | 3:
                    made.append(loop.call_soon(act, left))
                case 4:
                    context = contextvars.copy_context()
                    context.run(variable.set, left)
                    made.append(loop.call_soon(act, left, context=context))
                case 5:
                    made.append(loop.call_soon_threadsafe(act, left))
                case 6 | 7:
                    asked.append(left)
                    loop.call_later(3600, trace.append, "an hour has passed").cancel()
                case 8:
                    if made:
                        handle = draw.choice(made)
                        trace.append(("cancelled", handle.cancelled()))
                        handle.cancel()
                        handle.cancel()
                case 9:
                    variable.set(left)
                case 10:
                    loop.call_soon((1).__truediv__, 0)
                    if draw.random() < 0.3:
                        raise ZeroDivisionError
                case 11:
                    loop.stop()
                    trace.append("stop")

    first = contextvars.copy_context()
    for name in (-1, -2, -3):
        loop.call_soon(act, name, context=first)
    for _ in range(30):
        loop.call_soon(loop.stop)
        loop.run_forever()
        trace.append("round")
    # All set before any can be due, no two for the same time: so their order is that of their times, however long it takes.
    began, times = loop.time(), draw.sample(range(1, 400), len(asked))
    timers = [loop.call_at(began + at * 1e-5, trace.append, name) for at, name in zip(times, asked, strict=True)]
    for timer in draw.sample(timers, len(timers) // 3):
        timer.cancel()
    loop.call_at(began + 0.005, loop.stop)
    loop.run_forever()
    loop.close()
    for wrong in (lambda: loop.call_soon(act), lambda: loop.call_later(1, act), loop.run_forever):
        with pytest.raises(RuntimeError) as caught:
            wrong()
        trace.append(str(caught.value))


# ---- tasks: what waits, is woken and cancelled, in which order ---------------------------------------------------------------


def tasks(draw: random.Random, trace: Trace, make: Callable[[], Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[int] = asyncio.Queue(2)
        lock, event, condition, semaphore = asyncio.Lock(), asyncio.Event(), asyncio.Condition(), asyncio.Semaphore(2)
        futures = [loop.create_future() for _ in range(5)]
        alive: list[asyncio.Task[Any]] = []

        async def worker(name: int, depth: int) -> int:
            for step in range(draw.randrange(1, 8)):
                trace.append((name, step, variable.get()))
                try:
                    match draw.randrange(16):
                        case 0 | 1:
                            await asyncio.sleep(0)
                        case 2:
                            await queue.put(name)
                        case 3:
                            trace.append(("got", await queue.get()))
                        case 4:
                            async with lock:
                                await asyncio.sleep(0)
                        case 5:
                            async with semaphore:
                                await asyncio.sleep(0)
                        case 6:
                            event.set()
                            event.clear() if draw.random() < 0.5 else None
                        case 7:
                            await event.wait()
                        case 8:
                            async with condition:
                                condition.notify_all() if draw.random() < 0.6 else await condition.wait()
                        case 9:
                            future = draw.choice(futures)
                            if not future.done():
                                future.set_result(name) if draw.random() < 0.7 else future.cancel()
                        case 10:
                            trace.append(("future", await asyncio.shield(draw.choice(futures))))
                        case 11:
                            draw.choice(alive).cancel()
                        case 12 if depth < 3:
                            child = asyncio.create_task(worker(name * 10 + step, depth + 1))
                            alive.append(child)
                            if draw.random() < 0.5:
                                trace.append(("child", await child))
                        case 13 if depth < 3:
                            found = await asyncio.gather(
                                *(worker(name * 10 + n, depth + 1) for n in range(2)), return_exceptions=True
                            )
                            trace.append(("gathered", [repr(each) for each in found]))
                        case 14:
                            variable.set(name)
                        case 15:
                            loop.call_soon(trace.append, ("called", name))
                            await asyncio.sleep(0)
                except asyncio.CancelledError:
                    trace.append((name, "cancelled", asyncio.current_task().cancelling()))  # type: ignore[union-attr]
                    if draw.random() < 0.5:
                        raise
            return name

        for name in range(1, 9):
            alive.append(asyncio.create_task(worker(name, 0)))
        for _ in range(draw.randrange(200)):
            await asyncio.sleep(0)
        for _ in range(200):
            if all(task.done() for task in alive):
                break
            for task in tuple(alive):
                task.cancel()
            await asyncio.sleep(0)
        trace.append([task.done() for task in alive])
        for future in futures:
            if future.done() and not future.cancelled():
                future.exception()

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(main())


# ---- connections ---------------------------------------------------------------------------------------------------------------


class Noting(asyncio.Protocol):
    def __init__(self, trace: Trace, name: int, keeps_open: bool) -> None:
        self.trace, self.name, self.keeps_open = trace, name, keeps_open
        self.got = 0
        self.lost = self.ended = False

    def connection_made(self, transport: Any) -> None:
        self.trace.append((self.name, "made"))

    def data_received(self, data: bytes) -> None:
        self.got += len(data)

    def eof_received(self) -> bool:
        if not self.ended:  # asyncio's own tells it again after a pause, the native loop once
            self.trace.append((self.name, "eof", self.got))
        self.ended = True
        return self.keeps_open

    def pause_writing(self) -> None:
        self.trace.append((self.name, "pause"))

    def resume_writing(self) -> None:
        self.trace.append((self.name, "resume"))

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost = True
        self.trace.append((self.name, "lost", type(exc).__name__, self.got))


async def settle() -> None:
    """Until what was done has had its effect, and what follows from that."""
    for _ in range(75):  # the native loop may leave as many as 64 callbacks between two looks at its descriptors
        await asyncio.sleep(0)


def connections(draw: random.Random, trace: Trace, make: Callable[[], Any]) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: trace.append(("told", repr(context.get("exception")))))
        ends: list[tuple[Any, Noting, socket.socket]] = []
        read = 0
        for name in range(3):
            here, there = socket.socketpair()
            here.setblocking(False)
            there.setblocking(False)
            keeps_open = draw.random() < 0.5
            transport, protocol = await loop.create_connection(
                lambda name=name, keeps_open=keeps_open: Noting(trace, name, keeps_open), sock=here
            )
            ends.append((transport, protocol, there))
        for _ in range(draw.randrange(10, 60)):
            transport, protocol, there = draw.choice(ends)
            action = draw.randrange(15)
            if protocol.lost and action <= 10:
                continue  # what asyncio's own does after the end is not the same in all versions, and sometimes an AttributeError
            try:
                match action:
                    case 0 | 1 | 2:
                        transport.write(bytes(draw.choice([0, 1, 1000, 100_000, 400_000])))
                    case 3 if not transport.is_closing():  # else asyncio's own breaks, from 3.12 on
                        transport.writelines([b"x" * draw.randrange(1, 100) for _ in range(draw.randrange(1, 5))])
                    case 4:
                        transport.pause_reading()
                    case 5 | 6:
                        transport.resume_reading()
                    case 7:
                        transport.set_write_buffer_limits(draw.choice([0, 1000, 200_000]))
                    case 8 if draw.random() < 0.2:
                        transport.write_eof()
                    case 9 if draw.random() < 0.3:
                        transport.close()
                    case 10 if draw.random() < 0.2:
                        transport.abort()
                    case 11 | 12:
                        there.send(bytes(draw.choice([1, 1000, 50_000])))
                    case 13:
                        while True:
                            got = len(there.recv(1 << 20))
                            read += got
                            if not got:
                                trace.append("peer sees the end")
                                break
                            await settle()
                    case 14 if draw.random() < 0.15:
                        there.close()
                    case _:
                        pass
            except (OSError, RuntimeError, TypeError) as error:
                trace.append((action, type(error).__name__))
            await settle()
            trace.append((action, protocol.got, read, transport.is_closing(), transport.get_write_buffer_size() > 0))
        for transport, protocol, there in ends:
            if not protocol.lost:
                transport.abort()
            await settle()
            there.close()

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(main())


# ---- readers and writers --------------------------------------------------------------------------------------------------------


def descriptors(draw: random.Random, trace: Trace, make: Callable[[], Any]) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        pairs = [list(socket.socketpair()) for _ in range(3)]
        for pair in pairs:
            for sock in pair:
                sock.setblocking(False)
        ready: set[Any] = set()
        for step in range(draw.randrange(10, 60)):
            at = draw.randrange(len(pairs))
            here, there = pairs[at]
            action = draw.randrange(13)
            answer: Any = None
            try:
                match action:
                    case 0 | 1 | 2:
                        loop.add_reader(here, ready.add, ("reads", at, step))
                    case 3 | 4:
                        loop.add_writer(here, ready.add, ("writes", at, step))
                    case 5:
                        answer = loop.remove_reader(here)
                    case 6:
                        answer = loop.remove_writer(here)
                    case 7 | 8:
                        there.send(b"x" * draw.choice([1, 100]))
                    case 9:
                        answer = here.recv(50)
                    case 10:
                        while True:
                            here.send(bytes(100_000))
                    case 11:
                        while there.recv(1 << 20):
                            pass
                    case 12:  # properly: out of the loop first, so that the number can be another's
                        loop.remove_reader(here)
                        loop.remove_writer(here)
                        here.close()
                        there.close()
                        pairs[at] = list(socket.socketpair())
                        for sock in pairs[at]:
                            sock.setblocking(False)
            except OSError as error:
                answer = type(error).__name__
            await settle()
            ready.clear()
            await settle()
            trace.append((action, answer, sorted(ready)))
        for here, there in pairs:
            loop.remove_reader(here)
            loop.remove_writer(here)
            here.close()
            there.close()

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(main())


PROGRAMS = {
    "handles": (handles, 40),
    "tasks": (tasks, 25),
    "connections": (connections, 8),
    "descriptors": (descriptors, 8),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_does_what_asyncio_does(name: str) -> None:
    program, count = PROGRAMS[name]
    began, seed = time.monotonic(), 0
    while seed < count or time.monotonic() - began < SECONDS / len(PROGRAMS):
        traces: list[Trace] = []
        for make in (asyncio.SelectorEventLoop, new_event_loop):
            trace: Trace = []
            program(random.Random(seed), trace, make)
            traces.append(trace)
        if traces[0] != traces[1]:
            at = next((i for i, (a, b) in enumerate(zip(*traces, strict=False)) if a != b), min(map(len, traces)))
            pytest.fail(
                f"seed {seed} of {name}: after {traces[0][max(0, at - 5) : at]}\n"
                f"asyncio: {traces[0][at : at + 5]}\nnative:  {traces[1][at : at + 5]}",
                pytrace=False,
            )
        seed += 1
