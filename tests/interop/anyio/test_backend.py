"""The backend as anyio and bateau see it: who finds it, what sniffio says, and how the scopes of both nest."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import sniffio

import bateau
import bateau.interop.anyio as backend

LONG = 30.0  # seconds nobody waits out

backend.install()


def run(fn, *args, **options):
    return anyio.run(fn, *args, backend="bateau", backend_options=options)


def test_sniffio_says_bateau_only_where_it_was_asked_for():
    async def main():
        return sniffio.current_async_library()

    assert run(main) == "bateau"
    assert bateau.run(main, runtime="native") == "asyncio"
    assert anyio.run(main) == "asyncio"

    async def asked():
        before = sniffio.current_async_library()
        with backend.use():
            inside = sniffio.current_async_library()
            async with anyio.create_task_group() as group:
                child = group.start_soon(main)
        return before, inside, child.return_value, sniffio.current_async_library()

    assert bateau.run(asked, runtime="native") == ("asyncio", "bateau", "bateau", "asyncio")


def test_no_asyncio_in_between():
    program = """
import sys, anyio, bateau.interop.anyio
bateau.interop.anyio.install()
async def main():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0.001)
    await anyio.to_thread.run_sync(len, "ab")
    with anyio.move_on_after(0.001):
        await anyio.Event().wait()
    print("asyncio" in sys.modules)
anyio.run(main, backend="bateau")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_it_is_unknown_until_installed():
    program = "import anyio\ntry: anyio.run(anyio.sleep, 0, backend='bateau')\nexcept LookupError as e: print(e)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "No such backend: bateau\n"


def test_wrong_options_are_named():
    with pytest.raises(TypeError, match="unknown: debug"):
        run(anyio.sleep, 0, debug=True)
    with pytest.raises(bateau.Unsupported, match="anyio's own backend"):
        run(anyio.sleep, 0, runtime="asyncio")

    async def main():
        with backend.use():
            pass

    with pytest.raises(bateau.Unsupported, match="bateau's own loops"):
        bateau.run(main, runtime="asyncio")
    with pytest.raises(bateau.NotInRuntime), backend.use():
        pass


def test_scopes_of_both_are_one_tree():
    async def main():
        async with bateau.scope() as outer:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, LONG)
                task = outer.spawn(bateau.time.sleep_forever)
                with anyio.CancelScope(shield=True), bateau.move_on_after(0.01) as inner:
                    outer.cancel("enough")
                    assert anyio.current_effective_deadline() != -math.inf
                    await anyio.sleep(LONG)
                assert inner.cancelled_caught
                assert anyio.current_effective_deadline() == -math.inf
                await anyio.sleep(LONG)
        assert group.cancel_scope.cancel_called is False
        return outer.cancelled_caught, task.was_cancelled

    assert run(main) == (True, True)


def test_bateau_calls_work_in_between():
    async def main():
        lock = anyio.Lock()

        async def work(n):
            async with lock:
                await bateau.time.sleep(0.001)
                return await anyio.to_thread.run_sync(lambda: n * 2)

        return await bateau.join(work(1), work(2))

    assert list(run(main)) == [2, 4]


def test_a_wait_that_can_never_end_is_an_error():
    async def main():
        await anyio.Event().wait()

    with pytest.raises(bateau.Deadlock, match="anyio event"):
        run(main)


def test_a_token_keeps_the_door_open():
    """Who has a token may call at any time: waiting for that is no deadlock."""

    async def main():
        event = anyio.Event()
        token = anyio.lowlevel.current_token()
        thread = threading.Thread(target=lambda: anyio.from_thread.run_sync(event.set, token=token))
        thread.start()
        await event.wait()
        await anyio.to_thread.run_sync(thread.join)

    run(main)


def test_ctrl_c_cancels_a_program_that_has_not_heard_of_stopping():
    cleaned = []

    async def main():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep_forever()
        finally:
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert cleaned == [True]


def test_portal_from_a_plain_thread():
    async def double(n):
        await anyio.sleep(0)
        return 2 * n

    with anyio.from_thread.start_blocking_portal("bateau") as portal:
        assert portal.call(double, 4) == 8
        future = portal.start_task_soon(anyio.sleep_forever)
        future.cancel()
        assert future.cancelled()
        with pytest.raises(ZeroDivisionError):
            portal.call(lambda: 1 // 0)


def test_in_the_simulator():
    """Virtual time: an hour passes in no time."""

    async def main():
        begun = anyio.current_time()
        async with anyio.create_task_group() as group:
            for n in range(5):
                group.start_soon(anyio.sleep, 600.0 * n)
        with anyio.move_on_after(3600):
            await anyio.Event().wait()
        return anyio.current_time() - begun

    assert run(main, runtime="sim") == pytest.approx(2400 + 3600)


def test_a_raised_shield_takes_a_cancellation_back_and_a_lowered_one_lets_it_in():
    async def main():
        seen = []
        with anyio.CancelScope() as outer:
            outer.cancel()
            with anyio.CancelScope() as inner:
                inner.shield = True
                await anyio.sleep(0.001)
                seen.append("shielded")

                async def child():
                    try:
                        await anyio.sleep(LONG)
                    finally:
                        seen.append("child")

                async with anyio.create_task_group() as group:
                    group.start_soon(child)
                    await anyio.wait_all_tasks_blocked()
                    inner.shield = False
            seen.append("not reached")
        return seen

    assert run(main) == ["shielded", "child"]
