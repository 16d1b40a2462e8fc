"""trio's own primitives inside bateau tasks, and ours inside trio's, with cancellation from both sides (law 5)."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import bateau
from support.entries import on_trio

trio = pytest.importorskip("trio")
pytest.importorskip("trio.testing")

LONG = 30.0  # seconds nobody waits out
SHORT = 0.01

pytestmark = on_trio


async def clean() -> None:
    """No cancellation is pending."""
    await trio.lowlevel.checkpoint()
    await bateau.checkpoint()
    await bateau.yield_now()


async def _sleep() -> None:
    await trio.sleep(LONG)


async def _nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, LONG)
        nursery.start_soon(_ours)


async def _nursery_with_a_body() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ours)
        await bateau.time.sleep(LONG)


async def _event() -> None:
    await trio.Event().wait()


async def _lock() -> None:
    lock = trio.Lock()
    async with trio.open_nursery() as nursery:

        async def hold() -> None:
            async with lock:
                await bateau.time.sleep(LONG)

        nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        await lock.acquire()


async def _channel() -> None:
    send, receive = trio.open_memory_channel(0)
    async with send, receive:
        await receive.receive()


async def _thread() -> None:
    release = threading.Event()
    try:
        await trio.to_thread.run_sync(release.wait, 10, abandon_on_cancel=True)
    finally:
        release.set()


async def _process() -> None:
    await trio.run_process([sys.executable, "-c", "import time; time.sleep(60)"])


async def _ours() -> None:
    async with bateau.scope() as scope:
        scope.spawn(bateau.time.sleep, LONG)
        scope.spawn(trio.sleep, LONG)


async def _our_join() -> None:
    await bateau.join(_sleep(), _ours())


async def _our_channel() -> None:
    tx, rx = bateau.channel.channel[int](1)
    async with tx, rx:
        await rx.recv()


WAITS = [
    _sleep,
    _nursery,
    _nursery_with_a_body,
    _event,
    _lock,
    _channel,
    _thread,
    _process,
    _ours,
    _our_join,
    _our_channel,
]


@pytest.mark.law(5)
@pytest.mark.parametrize("wait", WAITS)
def test_cancelled_from_both_sides(entry: Any, wait: Any) -> None:
    async def main() -> None:
        with bateau.move_on_after(SHORT) as ours:
            await wait()
        assert ours.cancelled_caught
        await clean()
        with trio.move_on_after(SHORT) as theirs:
            await wait()
        assert theirs.cancelled_caught
        await clean()
        with pytest.raises(TimeoutError):
            with bateau.timeout(SHORT):
                await wait()
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(SHORT):
                await wait()
        await clean()
        async with bateau.scope() as scope:
            child = scope.spawn(wait)
            await trio.sleep(SHORT)
            child.cancel("by hand")
        assert child.outcome().cancelled
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await bateau.time.sleep(SHORT)
            nursery.cancel_scope.cancel()
        await clean()

    entry.run(main)


@pytest.mark.law(5)
def test_both_at_one_instant(entry: Any) -> None:
    async def main() -> None:
        for _ in range(3):
            with trio.move_on_after(SHORT), bateau.move_on_after(SHORT):
                time.sleep(2 * SHORT)
                await bateau.time.sleep(LONG)
            await clean()
            with bateau.move_on_after(SHORT), trio.move_on_after(SHORT):
                time.sleep(2 * SHORT)
                await _ours()
            await clean()

    entry.run(main)


@pytest.mark.law(7)
def test_shields_of_both_kinds_inside_and_around(entry: Any) -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def careful(shield: Any) -> None:
            try:
                await trio.sleep(LONG)
            finally:
                with shield:
                    await bateau.time.sleep(0.001)
                    await trio.sleep(0.001)
                    async with trio.open_nursery() as nursery, bateau.scope() as scope:
                        nursery.start_soon(trio.sleep, 0.001)
                        scope.spawn(bateau.time.sleep, 0.001)
                    log.append("closed")

        for cancel in (bateau.move_on_after, trio.move_on_after):
            for shield in (
                bateau.shield,
                lambda: trio.CancelScope(shield=True),
                lambda: trio.move_on_after(10, shield=True),
            ):
                with cancel(SHORT):
                    async with bateau.scope() as scope:
                        scope.spawn(careful, shield())
                with cancel(SHORT):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(careful, shield())
        await clean()
        return log

    assert entry.run(main) == ["closed"] * 12


def test_failures_cross(entry: Any) -> None:
    async def fail() -> None:
        await trio.sleep(0.001)
        raise ValueError("child")

    async def main() -> None:
        for inner_is_ours in (True, False):
            with pytest.raises(ExceptionGroup) as caught:
                if inner_is_ours:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_ours)
                        async with bateau.scope() as scope:
                            scope.spawn(_event)
                            scope.spawn(fail)
                else:
                    async with bateau.scope() as scope:
                        scope.spawn(_ours)
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(_event)
                            nursery.start_soon(fail)
            assert caught.value.subgroup(ValueError)
            await clean()

    entry.run(main)


def test_a_process_of_trios(entry: Any) -> None:
    async def main() -> bytes:
        async with bateau.scope() as scope:
            task = scope.spawn(_upper)
        return task.outcome().unwrap()

    async def _upper() -> bytes:
        code = "import sys; sys.stdout.write(sys.stdin.read().upper())"
        done = await trio.run_process([sys.executable, "-c", code], stdin=b"a pipe", capture_stdout=True)
        assert isinstance(done, subprocess.CompletedProcess)
        return done.stdout

    assert entry.run(main) == b"A PIPE"
