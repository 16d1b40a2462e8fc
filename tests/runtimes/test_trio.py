"""bateau on trio: owned by `bateau.run(runtime="trio")`, and adopted in a plain trio program."""

from __future__ import annotations

import contextvars
import gc
import signal
import sys
import threading
from functools import partial
from typing import Any

import pytest

import bateau
from support.entries import on_owned, on_trio
from support.waiting import until

trio = pytest.importorskip("trio")

from bateau.runtimes import registry  # noqa: E402
from bateau.runtimes.trio import TrioRuntime  # noqa: E402
from bateau.runtimes.trio_helpers import records  # noqa: E402

owned_trio = pytest.mark.parametrize("entry", ["owned:trio"], indirect=True)
adopted_trio = pytest.mark.parametrize("entry", ["adopted:trio"], indirect=True)


# ---- the runtime object --------------------------------------------------------------------------------------------


def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bateau.runtimes.trio.find_spec", lambda name: None)
    with pytest.raises(bateau.Unsupported, match=r"trio is not installed; pip install 'bateau\[trio\]'"):
        bateau.run(trio.sleep, 0, runtime="trio")
    monkeypatch.undo()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.22.2")
    with pytest.raises(bateau.Unsupported, match=r"trio 0\.22\.2 is too old, 0\.27 or later is needed"):
        bateau.run(trio.sleep, 0, runtime="trio")


def test_what_it_supports() -> None:
    rt = registry.get("trio")
    assert rt.supports("trio")
    assert rt.supports("fds")
    assert not rt.supports("asyncio")
    with pytest.raises(bateau.Unsupported, match="runtime 'trio' has no asyncio; use runtime="):
        rt.require("asyncio")


@on_trio
def test_sniffio_says_trio(entry: Any) -> None:
    sniffio = pytest.importorskip("sniffio")

    async def main() -> list[str]:
        async def child() -> str:
            await bateau.yield_now()
            return str(sniffio.current_async_library())

        async with bateau.scope() as scope:
            task = scope.spawn(child)
        return [str(sniffio.current_async_library()), await task]

    assert entry.run(main) == ["trio", "trio"]


@on_trio
def test_nothing_is_kept_of_tasks_that_ended(entry: Any) -> None:
    async def foreign() -> None:
        await bateau.yield_now()

    async def main() -> None:
        async with bateau.scope() as scope, trio.open_nursery() as nursery:
            for _ in range(20):
                scope.spawn(bateau.yield_now)
                nursery.start_soon(foreign)
        gc.collect()
        assert len(records) <= before + 3  # this task, trio's callback task, our services

    gc.collect()
    before = len(records)
    for _ in range(3):
        entry.run(main)
    gc.collect()
    assert len(records) == before


@owned_trio
def test_a_program_starts_none_inside(entry: Any) -> None:
    async def main() -> None:
        with pytest.raises(bateau.NestedRun, match="task 'main' is running on runtime 'trio'"):
            bateau.run(trio.sleep, 0, runtime="trio")

    entry.run(main)


@adopted_trio
def test_a_plain_trio_task_starts_none_inside(entry: Any) -> None:
    async def main() -> None:
        with pytest.raises(bateau.NestedRun, match="await the function instead"):
            bateau.run(trio.sleep, 0)

    entry.run(main)


def test_options_go_to_trio() -> None:
    import trio.testing

    class Counting(trio.abc.Instrument):
        steps = 0

        def before_task_step(self, task: Any) -> None:
            self.steps += 1

    async def main() -> float:
        start = bateau.now()
        async with bateau.scope() as scope:
            for hours in range(3):
                scope.spawn(bateau.time.sleep, hours * 3600)
            with bateau.move_on_after(1800) as block:
                await bateau.time.sleep_forever()
            assert block.cancelled_caught
            assert bateau.now() - start == 1800
        with pytest.raises(TimeoutError):
            async with bateau.timeout(100):
                await trio.sleep(200)
        return bateau.now() - start

    counting = Counting()
    clock = trio.testing.MockClock(autojump_threshold=0)
    assert TrioRuntime(clock=clock, instruments=[counting]).run(main) == 7300
    assert counting.steps > 10


def test_adopted_under_a_mock_clock() -> None:
    import trio.testing

    async def main() -> float:
        start = trio.current_time()
        async with bateau.scope(timeout=3600) as scope:
            scope.spawn(bateau.time.sleep, 1000)
            await bateau.time.sleep(5000)
        return float(trio.current_time() - start)

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)) == 3600


# ---- tasks ---------------------------------------------------------------------------------------------------------


@on_trio
def test_children_of_foreign_nurseries_are_in_no_scope(entry: Any) -> None:
    seen: list[Any] = []

    async def foreign() -> None:
        task = bateau.current_task()
        seen.append((task.scope, task.parent, task.node is task))
        await bateau.yield_now()
        assert bateau.current_task() is task

    async def main() -> None:
        async with bateau.scope(), trio.open_nursery() as nursery:
            nursery.start_soon(foreign)

    entry.run(main)
    assert seen == [(None, None, True)]


@on_trio
def test_a_foreign_task_is_not_ours_to_cancel(entry: Any) -> None:
    async def foreign(handles: list[Any]) -> None:
        handles.append(bateau.current_task())
        await bateau.time.sleep(0.01)
        handles.append("unharmed")

    async def main() -> None:
        handles: list[Any] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(foreign, handles)
            while not handles:
                await bateau.yield_now()
            with pytest.raises(
                bateau.Unsupported, match=r"was started by trio, not by bateau.*cancel the trio nursery"
            ):
                handles[0].cancel()
        assert handles[1:] == ["unharmed"]

    entry.run(main)


@adopted_trio
def test_awaiting_a_foreign_task_ends_with_it(entry: Any) -> None:
    async def foreign(handles: list[Any]) -> None:
        handles.append(bateau.current_task())
        await bateau.time.sleep(0.01)

    async def main() -> None:
        handles: list[Any] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(foreign, handles)
            while not handles:
                await bateau.yield_now()
            with bateau.timeout(5):
                assert await handles[0] is None

    entry.run(main)


@on_trio
def test_cancelled_before_its_first_step_it_runs_to_its_first_wait(entry: Any) -> None:
    log: list[str] = []

    async def child(wait: Any) -> None:
        log.append("begun")
        await wait()
        log.append("unreachable")

    async def main() -> None:
        async with bateau.scope() as scope:
            for wait in (bateau.time.sleep_forever, trio.sleep_forever, bateau.yield_now, trio.lowlevel.checkpoint):
                task = scope.spawn(child, wait)
                task.cancel("early")
                with pytest.raises(bateau.TaskCancelled, match="early"):
                    await task
        assert not scope.cancelled_caught

    entry.run(main)
    assert log == ["begun"] * 4


@on_trio
def test_the_context_is_that_of_the_spawn(entry: Any) -> None:
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)

    async def child() -> int:
        found = var.get()
        var.set(99)
        await bateau.yield_now()
        assert var.get() == 99
        assert bateau.current_task().context[var] == 99
        return found

    async def main() -> None:
        async with bateau.scope() as scope:
            var.set(1)
            first = scope.spawn(child)
            var.set(2)
            second = scope.spawn(child)
        assert (await first, await second, var.get()) == (1, 2, 2)

    entry.run(main)


@on_trio
def test_tracebacks_and_groups_of_children(entry: Any) -> None:
    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("here")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with bateau.scope() as scope:
                scope.spawn(fails)
                await trio.sleep_forever()
        (error,) = caught.value.exceptions
        assert isinstance(error, LookupError)
        tb = error.__traceback__
        assert tb is not None
        assert tb.tb_frame.f_code.co_name == "fails"  # no frame of ours on top

    entry.run(main)


@on_trio
def test_trios_own_primitives_between_our_tasks(entry: Any) -> None:
    async def produce(sender: Any) -> None:
        async with sender:
            for i in range(5):
                await sender.send(i)
                await bateau.yield_now()

    async def main() -> list[int]:
        sender, receiver = trio.open_memory_channel(1)
        limiter = trio.CapacityLimiter(1)
        async with bateau.scope(timeout=5) as scope:
            scope.spawn(produce, sender)
            got = []
            async for item in receiver:
                async with limiter:
                    got.append(item)
        assert await trio.to_thread.run_sync(threading.get_ident) != threading.get_ident()
        with trio.CancelScope() as block:
            await _started_in_nursery(block, got)
        return got

    assert entry.run(main) == [0, 1, 2, 3, 4, 42]


async def _started_in_nursery(scope: Any, got: list[int]) -> None:
    async def server(task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async with bateau.scope() as inner:
            inner.spawn(bateau.time.sleep_forever)
            task_status.started(42)
            await bateau.time.sleep_forever()

    async with trio.open_nursery() as nursery:
        got.append(await nursery.start(server))
        scope.cancel()


@on_trio
def test_a_task_moved_by_nursery_start_keeps_its_scopes(entry: Any) -> None:
    """`started()` re-parents the trio task in the middle of a bateau scope."""

    async def server(log: list[str], task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async with bateau.scope() as inner:
            task_status.started()
            inner.spawn(bateau.time.sleep, 0.001)
            with bateau.move_on_after(0.01):
                await bateau.time.sleep_forever()
            await until(lambda: log)
            log.append("served")

    async def main() -> list[str]:
        log: list[str] = []
        async with trio.open_nursery() as nursery:
            await nursery.start(server, log)
            log.append("started")
        return log

    assert entry.run(main) == ["started", "served"]


@on_trio
def test_wakes_are_not_doubled_and_none_is_lost(entry: Any) -> None:
    async def main() -> None:
        event = bateau.sync.Event()
        async with bateau.scope() as scope:

            async def waits() -> str:
                await event.wait()
                return "set"

            task = scope.spawn(waits)
            await bateau.yield_now()
            for _ in range(3):  # spurious ones
                task.host.wake(task)
                task.host.wake(task)
                await bateau.yield_now()
            assert not task.done
            event.set()
            task.host.wake(task)
            task.cancel()  # after the grant: the value counts (law 11)
            assert await task == "set"
            task.host.wake(task)  # after the end: nothing

    entry.run(main)


@on_trio
def test_woken_from_a_thread(entry: Any) -> None:
    async def main() -> None:
        event = bateau.sync.Event(flavour="shared")
        for _ in range(20):
            event = bateau.sync.Event(flavour="shared")
            thread = threading.Thread(target=event.set)
            thread.start()
            with bateau.timeout(5):
                await event.wait()
            thread.join()

    entry.run(main)


@on_trio
def test_asyncio_under_trio_says_where_one_is(entry: Any) -> None:
    import asyncio

    loop = asyncio.new_event_loop()

    async def future() -> None:
        await loop.create_future()

    async def main() -> None:
        for call in (partial(asyncio.sleep, 0.01), future):
            with pytest.raises(ExceptionGroup) as caught:
                async with bateau.scope() as scope:
                    scope.spawn(call)
            (error,) = caught.value.exceptions
            assert any("runs on runtime 'trio'" in note and "runtime='native'" in note for note in error.__notes__)

    try:
        entry.run(main)
    finally:
        loop.close()


@on_trio
def test_deep_trees_are_cancelled(entry: Any) -> None:
    async def nested(depth: int) -> None:
        async with bateau.scope() as scope:
            if depth:
                scope.spawn(nested, depth - 1)
            await bateau.time.sleep_forever()

    async def main() -> bool:
        async with bateau.scope(timeout=0.05) as scope:
            scope.spawn(nested, 100)
        return scope.cancelled_caught

    assert entry.run(main)


# ---- Ctrl-C --------------------------------------------------------------------------------------------------------


@adopted_trio
@pytest.mark.parametrize("wait", ["own", "scope", "loop"])
def test_ctrl_c_in_a_plain_trio_program(entry: Any, wait: str) -> None:
    async def main() -> None:
        bateau.current_task().host.call_soon(lambda: signal.raise_signal(signal.SIGINT))
        if wait == "own":
            await bateau.time.sleep_forever()
        elif wait == "loop":
            while True:
                await bateau.checkpoint()
        async with bateau.scope() as scope:
            scope.spawn(bateau.time.sleep_forever)
            scope.spawn(trio.sleep_forever)

    with pytest.raises(KeyboardInterrupt):
        entry.run(main)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@owned_trio
def test_ctrl_c_asks_then_cancels(entry: Any) -> None:
    log: list[str] = []

    async def main() -> None:
        signal.raise_signal(signal.SIGINT)
        while not bateau.stopping():
            await bateau.time.sleep(0.001)
        log.append("asked")
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        entry.run(main)
    assert log == ["asked"]


# ---- sessions ------------------------------------------------------------------------------------------------------


async def _one(n: int) -> int:
    async with bateau.scope() as scope:
        task = scope.spawn(bateau.time.sleep, 0.001)
        await trio.sleep(0.001)
    await task
    return n


async def _fails() -> None:
    raise ValueError("told")


def test_a_session_runs_many_times_on_one_loop() -> None:
    session = TrioRuntime().open()
    hosts = set()

    async def main() -> None:
        hosts.add(bateau.current_task().host)

    try:
        for n in range(3):
            assert session.run(lambda n=n: _one(n)) == n  # type: ignore[misc]
            session.run(main)
        with pytest.raises(ValueError, match="told"):
            session.run(_fails)
        assert session.run(lambda: _one(7)) == 7
        assert hosts == {session.host}
    finally:
        session.close()
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        session.run(main)


def test_a_paused_session_is_out_of_the_way() -> None:
    import asyncio

    hooks = sys.get_asyncgen_hooks()
    first, second = TrioRuntime().open(), TrioRuntime().open()
    try:
        for n in range(3):
            assert first.run(lambda n=n: _one(n)) == n  # type: ignore[misc]
            with pytest.raises(RuntimeError):
                trio.current_time()  # outside of any run
            assert sys.get_asyncgen_hooks() == hooks
            assert trio.run(_one, n) == n
            assert second.run(lambda n=n: _one(n)) == n  # type: ignore[misc]
            assert bateau.run(_one, n, runtime="trio") == n
            asyncio.run(asyncio.sleep(0))
    finally:
        first.close()
        second.close()
    assert sys.get_asyncgen_hooks() == hooks


def test_calls_from_threads_wait_for_the_next_run() -> None:
    session = TrioRuntime().open()
    log: list[str] = []
    try:
        session.host.call_threadsafe(lambda: log.append("before the first"))
        session.run(lambda: _one(0))
        assert log == ["before the first"]
        thread = threading.Thread(target=lambda: session.host.call_threadsafe(lambda: log.append("in between")))
        thread.start()
        thread.join()
        session.run(lambda: _one(0))
        assert log == ["before the first", "in between"]
    finally:
        session.close()
    with pytest.raises(RuntimeError):
        session.host.call_threadsafe(lambda: None)


def test_sessions_see_the_callers_context() -> None:
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)

    async def main() -> int:
        return var.get()

    session = TrioRuntime().open()
    try:
        for n in range(3):
            var.set(n)
            assert session.run(main) == n
    finally:
        session.close()


def test_ctrl_c_in_a_session_without_a_program() -> None:
    log: list[str] = []

    async def main() -> None:
        signal.raise_signal(signal.SIGINT)
        try:
            await bateau.time.sleep_forever()
        finally:
            log.append("cleaned up")

    session = TrioRuntime().open()
    try:
        with pytest.raises(KeyboardInterrupt):
            session.run(main)
        assert log == ["cleaned up"]
        assert session.run(lambda: _one(1)) == 1
    finally:
        session.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_async_generators_live_over_runs_and_end_with_the_session() -> None:
    log: list[str] = []

    async def numbers() -> Any:
        try:
            yield 1
            yield 2
        finally:
            log.append("closed")

    agen = numbers()

    async def step() -> int:
        return int(await agen.__anext__())

    session = TrioRuntime().open()
    try:
        assert session.run(step) == 1
        assert session.run(step) == 2
        assert log == []
    finally:
        session.close()
    assert log == ["closed"]


@on_owned
def test_spawn_into_a_running_program_from_a_thread(entry: Any) -> None:
    rt = registry.get(entry.runtime)
    results: list[Any] = []

    async def double(n: int) -> int:
        await bateau.yield_now()
        return n * 2

    async def main() -> None:
        done = bateau.sync.Event(flavour="shared")

        def outside() -> None:
            results.append(rt.spawn(double, 21).result(5))
            done.set()

        thread = threading.Thread(target=outside)
        thread.start()
        await done.wait()
        thread.join()

    entry.run(main)
    assert results == [42]


# ---- libraries -----------------------------------------------------------------------------------------------------


@on_trio
def test_anyio_and_bateau_in_one_program(entry: Any) -> None:
    anyio = pytest.importorskip("anyio")

    async def main() -> list[str]:
        log: list[str] = []
        async with anyio.create_task_group() as group, bateau.scope() as scope:
            group.start_soon(anyio.sleep, 0.001)
            scope.spawn(anyio.sleep, 0.001)
            with anyio.move_on_after(0.01) as theirs:
                await bateau.time.sleep_forever()
            with bateau.move_on_after(0.01) as ours:
                await anyio.sleep_forever()
            assert theirs.cancelled_caught
            assert ours.cancelled_caught
            with anyio.CancelScope(shield=True), bateau.move_on_after(None) as inner:
                inner.cancel()
                await anyio.sleep(1)
            log.append("all")
        return log

    assert entry.run(main) == ["all"]


@on_trio
def test_httpx_in_a_bateau_scope(entry: Any) -> None:
    httpx = pytest.importorskip("httpx")
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow":
                hang.wait(5)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: Any) -> None:
            """No noise in the test's output."""

    hang = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}"

    async def main() -> None:
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:

            async def get(path: str) -> str:
                return str((await client.get(path)).text)

            async with bateau.scope() as scope:
                tasks = [scope.spawn(get, f"/{i}") for i in range(5)]
            assert [await task for task in tasks] == ["ok"] * 5
            with pytest.raises(TimeoutError):
                with bateau.timeout(0.05):
                    await get("/slow")
            hang.set()
            assert await get("/again") == "ok"

    try:
        entry.run(main)
    finally:
        hang.set()
        server.shutdown()
        server.server_close()
        thread.join()


def test_trio_as_the_guest_of_asyncio() -> None:
    """Two loops on one thread, bateau adopted in both; a shared primitive joins them."""
    import asyncio

    log: list[str] = []

    async def in_trio(event: Any, back: Any) -> str:
        assert bateau.current_task().host.name == "trio"
        async with bateau.scope(timeout=5) as scope:
            scope.spawn(bateau.time.sleep, 0.001)
            await event.wait()
        log.append("trio heard")
        back.set()
        return "done"

    async def main() -> Any:
        event, back = (bateau.sync.Event(flavour="shared") for _ in range(2))
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            in_trio,
            event,
            back,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            run_sync_soon_not_threadsafe=loop.call_soon,
            done_callback=ended.set_result,
            host_uses_signal_set_wakeup_fd=True,
        )
        assert bateau.current_task().host.name == "asyncio"
        async with bateau.scope(timeout=5):
            await bateau.time.sleep(0.01)
            event.set()
            await back.wait()
            log.append("asyncio heard")
        return (await ended).unwrap()

    assert asyncio.run(main()) == "done"
    assert log == ["trio heard", "asyncio heard"]


def test_one_loop_per_thread() -> None:
    """Records are kept by task, whichever thread and loop it is of."""
    failures: list[BaseException] = []

    async def main(n: int) -> None:
        async def child(k: int) -> int:
            for _ in range(5):
                await bateau.yield_now()
            return n * 100 + k

        for _ in range(10):
            async with bateau.scope() as scope:
                tasks = [scope.spawn(child, k) for k in range(10)]
            assert [await task for task in tasks] == [n * 100 + k for k in range(10)]

    def run(n: int) -> None:
        try:
            bateau.run(main, n, runtime="trio")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
