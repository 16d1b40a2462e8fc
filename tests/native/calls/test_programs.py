"""What programs do with tasks, timers, channels and locks, and with asyncio: repeated, and nothing is left over."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import bateau
import bateau.time
from bateau import sync
from bateau.channel import channel
from bateau.kernel import cancellation, twin
from bateau.kernel.current import current_host, current_task
from support.drift import ROUNDS, Calls, Token, measure, measure_in_program, only_native

pytestmark = only_native
native: Any = twin.native

calls = Calls(
    LoopFaceFields="wake_up",
    LoopSideFields="__call__ _is_waiting _iterate _publish _rest _spin _unpublish",
    EngineFields="wake start call_at timeout _run_timers _pending_timers _has_timer turn",
    TaskFields="_begin finish join __await__ __setattr__ __delattr__",
    ScopeFields="spawn child_ended __aenter__ __aexit__",
    CancelScopeFields="__enter__ __exit__",
    SenderFields="send",
    ReceiverFields="recv __anext__",
    EventFields="is_set set clear wait",
    LockFields="acquire release __aenter__ __aexit__",
    SemaphoreFields="acquire release __aenter__ __aexit__",
    ConditionFields="wait notify notify_all __aenter__ __aexit__",
    Nothing="__iter__ __next__ __await__",
    _True="__iter__ __next__ __await__",
    OperationFields="__del__",
    PlacedFields="__del__",
    DrainFields="__del__",
    module="yield_now checkpoint finish timeout fail_after move_on_after sleep deliver spread scope",
)


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
        await measure_in_program(some, token, ROUNDS // 5)

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
        await measure_in_program(some, token, 1000)

    bateau.run(main, runtime="native")
    measure(lambda: bateau.run(some, 1, runtime="native"), token, 150)
