"""Whether a runtime is one: a battery that a third party runs against its own.

    from bateau.testing.conformance import check_runtime
    check_runtime("mine")          # a name, a runtime object, or nothing for the default

Each check is an async function of the list below, run as a program of its own; what a runtime says it does not support is
left out. A failure names the check and what it holds.
"""

from __future__ import annotations

import contextvars
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import bateau
from bateau import net, sync, time, yield_now

from ..runtimes import registry
from ..runtimes.base import CONTRACT_VERSION, Runtime

Check = Callable[[Runtime], Awaitable[None]]


class Failed(AssertionError):
    """A runtime does not do what the contract says."""


_checks: list[tuple[Check, str | None]] = []


def _check(feature: str | None = None) -> Callable[[Check], Check]:
    def add(fn: Check) -> Check:
        _checks.append((fn, feature))
        return fn

    return add


def _hold(condition: object, what: str) -> None:
    if not condition:
        raise Failed(what)


def checks() -> list[str]:
    """The names of the checks."""
    return [fn.__name__ for fn, _ in _checks]


def check_runtime(runtime: str | Runtime | None = None, *, timeout: float = 30.0) -> list[str]:
    """Run every check that applies; returns their names. ``timeout``: seconds for each.

    Raises ``Failed``, naming the check, for the first one that does not hold.
    """
    rt = registry.get(runtime)
    _hold(rt.contract_version == CONTRACT_VERSION, f"contract_version is {CONTRACT_VERSION}")
    _hold(rt.name and rt.name != "?", "a runtime has a name")
    done: list[str] = []
    for fn, feature in _checks:
        if feature is not None and not rt.supports(feature):
            continue

        async def program(fn: Check = fn) -> str:
            async with bateau.timeout(timeout):
                await fn(rt)
            return "done"

        try:
            value = rt.run(program)
        except Exception as error:
            raise Failed(f"runtime {rt.name!r}, check {fn.__name__} ({fn.__doc__}): {error!r}") from error
        _hold(value == "done", f"check {fn.__name__}: run returns the main function's value")
        done.append(fn.__name__)
    _check_errors(rt)
    return done


def _check_errors(rt: Runtime) -> None:
    async def fails() -> None:
        raise LookupError("mine")

    try:
        rt.run(fails)
    except LookupError:
        pass
    else:
        raise Failed("run raises the main function's error")
    _hold(_runs_again(rt), "a runtime object can run one program after the other")


def _runs_again(rt: Runtime) -> bool:
    async def main() -> bool:
        await yield_now()
        return True

    return rt.run(main) and rt.run(main)


# -- tasks and scopes --------------------------------------------------------------------------------------------------


@_check()
async def tasks_run_and_are_awaited(rt: Runtime) -> None:
    """A scope's block ends when its last child has ended, and handles give values"""

    async def child(n: int) -> int:
        await yield_now()
        return n

    async with bateau.scope() as scope:
        tasks = [scope.spawn(child, n) for n in range(50)]
    _hold([task.outcome().unwrap() for task in tasks] == list(range(50)), "every child ended with its value")


@_check()
async def the_current_task_is_known(rt: Runtime) -> None:
    """identify: each task sees itself, and its own context"""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def child(n: int) -> None:
        variable.set(n)
        for _ in range(3):
            await yield_now()
            _hold(bateau.current_task().name == f"child {n}", "current_task() is the running task")
            _hold(variable.get() == n, "context variables belong to the task")

    async with bateau.scope() as scope:
        for n in range(5):
            scope.spawn(child, n, name=f"child {n}")
    _hold(variable.get() == 0, "a child's context is its own")


@_check()
async def failures_cancel_siblings(rt: Runtime) -> None:
    """A failed child cancels its siblings and is raised in a group"""
    ended: list[str] = []

    async def sibling() -> None:
        try:
            await time.sleep_forever()
        finally:
            ended.append("sibling")

    async def fails() -> None:
        await yield_now()
        raise ValueError("mine")

    try:
        async with bateau.scope() as scope:
            scope.spawn(sibling)
            scope.spawn(fails)
    except ExceptionGroup as group:
        _hold([type(error) for error in group.exceptions] == [ValueError], "the group holds the failure")
    else:
        raise Failed("the scope raises")
    _hold(ended == ["sibling"], "the sibling was cancelled and awaited")


# -- waiting and waking --------------------------------------------------------------------------------------------------


@_check()
async def wakes_are_not_lost(rt: Runtime) -> None:
    """A wake between register and park, or before the step, is one step"""
    for _ in range(100):
        event, ready = sync.Event(), sync.Event()

        async def waiter(event: sync.Event = event, ready: sync.Event = ready) -> None:
            ready.set()
            await event.wait()

        async with bateau.scope() as scope:
            scope.spawn(waiter)
            await ready.wait()
            event.set()


@_check()
async def hand_overs_are_fifo(rt: Runtime) -> None:
    """A contended lock goes to whoever waited first"""
    lock, order = sync.Lock(), list[int]()

    async def waiter(n: int) -> None:
        async with lock:
            order.append(n)

    async with bateau.scope() as scope:
        await lock.acquire()
        tasks: list[Any] = []
        for n in range(10):
            tasks.append(scope.spawn(waiter, n))
            while tasks[-1].waiting is None:  # bateau: ignore[self_wakes]
                await yield_now()
        lock.release()
    _hold(order == list(range(10)), f"first come, first served: {order}")


@_check()
async def granted_waits_survive_cancellation(rt: Runtime) -> None:
    """A wait that was granted before the cancellation delivers its value"""
    lock, got = sync.Lock(), list[str]()
    block = bateau.move_on_after(None)

    async def waiter() -> None:
        with block:
            await lock.acquire()
            got.append("lock")
            lock.release()
            await yield_now()
            got.append("not reached")

    async with bateau.scope() as scope:
        await lock.acquire()
        task = scope.spawn(waiter)
        while task.waiting is None:  # bateau: ignore[self_wakes]
            await yield_now()
        lock.release()
        block.cancel()
    _hold(got == ["lock"], f"the value, then the cancellation: {got}")
    _hold(not lock.locked(), "nothing is left held")


# -- cancellation --------------------------------------------------------------------------------------------------------


@_check()
async def cancellation_is_level_triggered(rt: Runtime) -> None:
    """Once a scope is cancelled each operation raises until it is left, except inside a shield"""
    raised = 0
    with bateau.move_on_after(None) as block:
        block.cancel("conformance")
        for _ in range(3):
            try:
                await yield_now()
            except bateau.Cancelled as exc:
                raised += 1
                _hold(exc.reason == "conformance", "a cancellation knows its reason")
                with bateau.shield():
                    await yield_now()
                if raised == 3:
                    raise
                try:
                    await time.sleep(60)
                except bateau.Cancelled:
                    raised += 1
                    raise
    _hold(raised == 2 and block.cancelled_caught, f"raised at each operation, absorbed by its own scope ({raised})")
    await yield_now()


@_check()
async def deadlines_fire(rt: Runtime) -> None:
    """Timeouts cancel, raise and nest; the clock goes forward"""
    before = bateau.now()
    with bateau.move_on_after(0.02) as block:
        await time.sleep(60)
    _hold(block.cancelled_caught and 0.015 <= bateau.now() - before < 30, "move_on_after ends its block")
    try:
        async with bateau.timeout(0.02):
            async with bateau.timeout(60):
                await time.sleep_forever()
    except TimeoutError:
        return
    raise Failed("timeout raises TimeoutError")


@_check()
async def stopping_is_gentle(rt: Runtime) -> None:
    """Stop asks first, and cancels after the grace"""
    async with bateau.scope() as scope:

        async def polite() -> str:
            while not bateau.stopping():
                await time.sleep(0.001)
            return "ended by itself"

        task = scope.spawn(polite)
        scope.spawn(time.sleep_forever)
        await yield_now()
        scope.stop(grace=0.05)
        _hold(await task == "ended by itself", "a task that polls the flag ends")
    _hold(scope.cancelled_caught, "the rest is cancelled after the grace")


# -- time, threads, descriptors --------------------------------------------------------------------------------------------


@_check()
async def sleepers_wake_in_order(rt: Runtime) -> None:
    """Timers fire in the order of their times"""
    order: list[int] = []

    async def sleeper(n: int) -> None:
        await time.sleep(
            n * 0.05
        )  # a machine that stands still for longer makes two due at once, and then either may be first
        order.append(n)

    async with bateau.scope() as scope:
        for n in (3, 1, 2):
            scope.spawn(sleeper, n)
    _hold(order == [1, 2, 3], f"in order: {order}")


@_check()
async def threads_can_wake_it(rt: Runtime) -> None:
    """call_threadsafe interrupts a blocking poll"""
    host, event = bateau.current_task().host, sync.Event()
    thread = threading.Thread(target=lambda: host.call_threadsafe(event.set))
    release = host.hold("a thread")
    try:
        thread.start()
        async with bateau.timeout(10):
            await event.wait()
    finally:
        release()
        thread.join()


@_check()
async def other_threads_can_spawn_into_it(rt: Runtime) -> None:
    """rt.spawn from a plain thread; the handle gives the value there"""
    results: list[int] = []
    host = bateau.current_task().host
    ended = sync.Event(flavour="shared")

    async def work(n: int) -> int:
        await yield_now()
        return n + 1

    def elsewhere() -> None:
        results.append(rt.spawn(work, 41).result(timeout=10))
        host.call_threadsafe(ended.set)

    thread = threading.Thread(target=elsewhere)
    release = host.hold("a thread")
    try:
        thread.start()
        await ended.wait()
    finally:
        release()
        thread.join()
    _hold(results == [42], "the value arrived on the other thread")


@_check("fds")
async def descriptors_wake_it(rt: Runtime) -> None:
    """A socket that becomes readable wakes its reader, and closing leaves nothing behind"""
    async with await net.listen_tcp("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        async with bateau.scope() as scope:

            async def serve() -> None:
                async with await listener.accept() as stream:
                    await stream.write(b"hello " + await stream.read(100))

            scope.spawn(serve)
            async with await net.connect_tcp("127.0.0.1", port) as stream:
                await yield_now()
                await stream.write(b"world")
                received = b""
                while chunk := await stream.read(100):
                    received += chunk
    _hold(received == b"hello world", f"the echo: {received!r}")
    with socket.socket() as probe:  # the port is free again: the listener is really closed
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


@_check("deadlock_detection")
async def deadlocks_are_proven(rt: Runtime) -> None:
    """A program that can never go on ends with Deadlock, not with a hang"""
    seen: list[BaseException] = []

    def elsewhere() -> None:
        async def stuck() -> None:
            await sync.Event(flavour="local").wait()

        try:
            type(rt)().run(stuck)
        except bateau.Deadlock as error:
            seen.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    while thread.is_alive():
        await time.sleep(0.005)
    thread.join()
    _hold(len(seen) == 1 and "event" in str(seen[0]), "the deadlock is raised and explained")
