"""F03: a runtime of one's own replaces the default by one line; two runtimes in one process, with tasks that are spawned on and
awaited from either."""

from __future__ import annotations

import gc
import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bateau
from bateau import channel, sync
from bateau.runtimes import registry
from bateau.runtimes.base import Runtime
from support.entries import require
from support.waiting import until

TOY = Path(__file__).parents[2] / "examples" / "toy_runtime" / "toy_runtime.py"
PAIRS = [("native", "trio"), ("native", "asyncio"), ("native", "native"), ("asyncio", "trio"), ("uvloop", "asyncio")]


def fresh(name: str) -> Runtime:
    """A runtime object of its own: one per program."""
    require(name)
    return type(registry.get(name))()


@contextmanager
def running(rt: Runtime) -> Iterator[None]:
    """A program on `rt` in a thread of its own, which serves whoever spawns into it."""
    begun, end = threading.Event(), sync.Event(flavour="shared")
    failures: list[BaseException] = []

    async def serve() -> None:
        begun.set()
        await end.wait()

    def program() -> None:
        try:
            rt.run(serve)
        except BaseException as error:
            failures.append(error)

    worker = threading.Thread(target=program)
    worker.start()
    assert begun.wait(20)
    try:
        yield
    finally:
        end.set()
        worker.join(20)
        assert not worker.is_alive()
        assert failures == []


async def where() -> tuple[int, str]:
    await bateau.time.sleep(0.001)
    return threading.get_ident(), bateau.current_task().host.describe()


@pytest.mark.law(15)
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_f03_tasks_spawned_on_and_awaited_from_either(pair: tuple[str, str]) -> None:
    here, there = map(fresh, pair)

    async def main() -> None:
        mine = await where()
        theirs = await there.spawn(where)
        assert mine != theirs
        assert mine[0] == threading.get_ident() != theirs[0]

        async def back() -> tuple[tuple[int, str], tuple[int, str]]:
            """Over there; it spawns into the program here, and waits for it."""
            return await where(), await here.spawn(where)

        assert await there.spawn(back) == (theirs, mine)

        # Many at once, in both directions.
        async def double(n: int) -> int:
            await bateau.yield_now()
            return n * 2

        async def ask(n: int) -> int:
            return await (there if n % 2 else here).spawn(double, n)

        assert await bateau.join(*(ask(n) for n in range(50))) == tuple(range(0, 100, 2))

    with running(there):
        here.run(main)


@pytest.mark.law(5)
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_f03_errors_and_cancellation_cross_over(pair: tuple[str, str]) -> None:
    here, there = map(fresh, pair)

    async def main() -> None:
        async def fail() -> None:
            await bateau.yield_now()
            raise LookupError("over there")

        with pytest.raises(LookupError, match="over there"):
            await there.spawn(fail)

        ended: list[str] = []

        async def endless() -> None:
            try:
                await bateau.time.sleep_forever()
            except bateau.Cancelled as exc:
                ended.append(exc.reason)
                raise

        task = there.spawn(endless, name="endless")
        await there.spawn(where)  # it has begun
        with bateau.move_on_after(0.01) as limit:  # giving up the wait is not ending the task
            await task
        assert limit.cancelled_caught
        assert not task.ended
        task.cancel("enough")
        with pytest.raises(bateau.TaskCancelled, match="'endless' was cancelled: enough"):
            await task
        assert ended == ["enough"]

    with running(there):
        here.run(main)


@pytest.mark.law(11)
def test_f03_a_cancellation_that_comes_before_the_task_is_not_lost(runtime: Any) -> None:
    rt = fresh(runtime.name)
    spawned, told = threading.Event(), threading.Event()
    tasks: list[Any] = []

    async def main() -> None:
        assert spawned.wait(20)  # this runtime can't do what it is asked for meanwhile
        with pytest.raises(bateau.TaskCancelled, match="too late"):
            await tasks[0]

    def outside() -> None:
        while rt._program is None or rt._program.root is None:
            told.wait(0.001)
        tasks.append(rt.spawn(bateau.time.sleep_forever))
        tasks[0].cancel("too late")
        spawned.set()

    worker = threading.Thread(target=outside)
    worker.start()
    with_timeout: list[str] = []

    async def program() -> None:
        async with bateau.timeout(10):
            await main()
        with_timeout.append("ended")

    rt.run(program)
    worker.join()
    assert with_timeout == ["ended"]


@pytest.mark.law(15)
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_f03_primitives_made_for_both_work_in_both(pair: tuple[str, str]) -> None:
    """And those made for one say so at once, naming both sides and the fix."""
    here, there = map(fresh, pair)
    tx, rx = channel.channel[int](2)  # made outside any program: shared

    async def main() -> None:
        async def produce() -> None:
            for n in range(100):
                await tx.send(n)
            tx.close()

        made = there.spawn(produce)
        assert [item async for item in rx] == list(range(100))
        await made

        local = sync.Lock(name="mine")

        async def intrude() -> None:
            await local.acquire()

        with pytest.raises(bateau.WrongRuntime, match=r"lock 'mine'.* is local to .*used from .*flavour='shared'"):
            await there.spawn(intrude)
        assert not local.locked()

    with running(there):
        here.run(main)
    rx.close()


@pytest.mark.law(15)
def test_f03_a_sync_wait_on_a_runtimes_own_thread_is_refused(runtime: Any) -> None:
    here = fresh(runtime.name)

    async def main() -> None:
        task = here.spawn(where)
        with pytest.raises(RuntimeError, match="would block this thread's own runtime; await the handle instead"):
            task.result()
        await task

    here.run(main)


@pytest.mark.law(15)
def test_f03_no_program_runs_there(runtime: Any) -> None:
    here = fresh(runtime.name)
    with pytest.raises(RuntimeError, match="no program is running"):
        here.spawn(where)


def toy() -> type[Runtime]:
    spec = importlib.util.spec_from_file_location("toy_runtime", TOY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: type[Runtime] = module.ToyRuntime
    return found


def test_f03_a_runtime_of_ones_own_by_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> str:
        await where()
        return bateau.current_task().host.describe()

    own = toy()
    assert "toy" in bateau.run(main, runtime=own())  # the line: an object of it ...
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_made", {})
    registry.register(own)  # ... or its name, from here on,
    assert "toy" in bateau.run(main, runtime="toy")
    monkeypatch.setenv("BATEAU_RUNTIME", "toy")  # ... or without touching the program at all
    assert "toy" in bateau.run(main)

    @own().main
    async def decorated() -> str:
        return await main()

    assert "toy" in decorated()


def test_f03_ones_own_beside_ours() -> None:
    there = toy()()

    async def main() -> None:
        assert "toy" in (await there.spawn(where))[1]

    with running(there):
        bateau.run(main, runtime="native")


@pytest.mark.law(19)
def test_f03_an_error_that_nobody_looked_at_is_told_and_harms_nobody(runtime: Any) -> None:
    here = fresh(runtime.name)

    async def main() -> str:
        async def fail() -> None:
            raise LookupError("unseen")

        handles = [here.spawn(fail, name="forgotten")]
        await until(lambda: handles[0].ended)
        with pytest.warns(bateau.HazardWarning, match=r"unretrieved_error: .*'forgotten' .*unseen") as caught:
            handles.clear()
            gc.collect()
        assert caught[0].filename == __file__
        return "goes on"

    assert here.run(main) == "goes on"
