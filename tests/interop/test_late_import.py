"""asyncio imported by another thread, in the middle of a native program's step: no hang, no lost wake-up, and one clear error."""

from __future__ import annotations

import subprocess
import sys
import textwrap

START = """
    import sys, threading
    import bateau

    assert "asyncio" not in sys.modules

    def import_it():
        import asyncio

    def in_another_thread():
        thread = threading.Thread(target=import_it)
        thread.start()
        thread.join()
"""


def run(program: str) -> str:
    code = textwrap.dedent(START) + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_next_step_has_its_loop_even_in_the_same_turn():
    program = """
        async def first():
            in_another_thread()
            await bateau.yield_now()
            import asyncio
            await asyncio.sleep(0.001)
            print("first")

        async def second():
            import asyncio
            assert asyncio.current_task() is not None
            await asyncio.sleep(0.002)
            print("second")

        async def main():
            async with bateau.scope() as scope:
                scope.spawn(first)
                scope.spawn(second)

        bateau.run(main, runtime="native")
    """
    assert sorted(run(program).split()) == ["first", "second"]  # which is first is not the subject


def test_the_step_under_way_is_told_why_it_has_none():
    program = """
        import traceback

        async def main():
            in_another_thread()
            import asyncio
            await asyncio.sleep(0.001)

        try:
            bateau.run(main, runtime="native")
        except RuntimeError as error:
            print("".join(traceback.format_exception(error)))
    """
    text = run(program)
    assert "no running event loop" in text
    assert "another thread imported asyncio during this very step" in text


def test_waits_begun_before_go_on_and_wakes_from_threads_arrive():
    """A loop that blocks in its poll turns into asyncio's, with what it had: timers, parked tasks, calls from threads, fds."""
    program = """
        from bateau import net, thread

        async def main():
            event = bateau.sync.Event(flavour="shared")
            log = []

            async def waits():
                await event.wait()
                log.append("event")

            async def sleeps():
                await bateau.time.sleep(0.05)
                log.append("timer")

            async def reads(stream):
                log.append((await stream.read(10)).decode())

            async with bateau.scope() as scope:
                ours, theirs = net.unix.pair()
                scope.spawn(waits)
                scope.spawn(sleeps)
                scope.spawn(reads, ours)
                assert await thread.run(import_and_set, event) == "set"
                import asyncio
                await asyncio.sleep(0.001)
                await theirs.sendall(b"data")
            ours.close()
            theirs.close()
            print(sorted(log))

        def import_and_set(event):
            import asyncio
            event.set()
            return "set"

        for _ in range(3):
            bateau.run(main, runtime="native")
    """
    assert run(program).splitlines() == ["['data', 'event', 'timer']"] * 3


def test_two_native_programs_import_it_at_the_same_time():
    program = """
        import importlib

        ready = threading.Barrier(2)

        async def main():
            ready.wait()
            importlib.import_module("asyncio")
            await bateau.yield_now()  # it may have been the other thread's import
            import asyncio
            await asyncio.sleep(0.001)
            return asyncio.current_task() is not None

        results = []
        threads = [threading.Thread(target=lambda: results.append(bateau.run(main, runtime="native"))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(results)
    """
    for _ in range(5):
        assert run(program).strip() == "[True, True]"
