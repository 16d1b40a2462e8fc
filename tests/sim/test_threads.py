"""Real threading code in a world: the same programs give the same results as outside it, and what can go wrong does in some schedule."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import datetime as dt
import functools
import linecache
import logging
import os
import queue
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import bateau
from bateau import blocking, sim, sync, thread
from bateau.channel import channel
from bateau.runtimes import registry
from bateau.sim import watchdog
from bateau.sim.threads import locks
from bateau.time import fail_after, sleep

# -- the same program outside and inside a world -----------------------------------------------------------------------------


def producers_and_consumers() -> Any:
    box: queue.Queue[int | None] = queue.Queue(maxsize=2)
    seen: list[int] = []
    guard = threading.Lock()

    def consume() -> None:
        while (item := box.get()) is not None:
            with guard:
                seen.append(item)
            box.task_done()

    consumers = [threading.Thread(target=consume) for _ in range(2)]
    for each in consumers:
        each.start()
    for item in range(10):
        box.put(item)
    box.join()
    for _ in consumers:
        box.put(None)
    for each in consumers:
        each.join()
    return sorted(seen)


def priorities_and_stacks() -> Any:
    ordered: queue.PriorityQueue[int] = queue.PriorityQueue()
    stack: queue.LifoQueue[int] = queue.LifoQueue()
    for item in (3, 1, 2):
        ordered.put(item)
        stack.put(item)
    with pytest.raises(queue.Empty):
        queue.Queue[int]().get(timeout=0.01)
    return [ordered.get() for _ in range(3)], [stack.get() for _ in range(3)]


def events() -> Any:
    go, done = threading.Event(), threading.Event()
    log: list[str] = []

    def wait() -> None:
        log.append(f"go {go.wait()}")
        log.append(f"again {go.wait()}")
        done.set()

    threading.Thread(target=wait).start()
    log.append(f"early {go.wait(0.01)} {go.is_set()}")
    go.set()
    assert done.wait()
    return log


def conditions() -> Any:
    condition = threading.Condition()
    turn = 0
    log: list[int] = []

    def take(number: int) -> None:
        nonlocal turn
        with condition:
            assert condition.wait_for(lambda: turn == number)
            log.append(number)
            turn += 1
            condition.notify_all()

    workers = [threading.Thread(target=take, args=(number,)) for number in reversed(range(5))]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    with condition:
        assert condition.wait(0.01) is False
    with pytest.raises(RuntimeError, match="un-acquired"):
        condition.wait()
    with pytest.raises(RuntimeError, match="un-acquired"):
        condition.notify()
    return log


def semaphores() -> Any:
    places = threading.BoundedSemaphore(2)
    inside, most = 0, 0
    guard = threading.Lock()

    def enter() -> None:
        nonlocal inside, most
        with places:
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with guard:
                inside -= 1

    workers = [threading.Thread(target=enter) for _ in range(5)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    with pytest.raises(ValueError, match="too many"):
        places.release()
    taken = [places.acquire(blocking=False) for _ in range(3)]
    return most, taken, places.acquire(timeout=0.01)


def barriers() -> Any:
    ran: list[str] = []
    barrier = threading.Barrier(3, action=lambda: ran.append("action"))
    places: list[int] = []
    workers = [threading.Thread(target=lambda: places.append(barrier.wait())) for _ in range(3)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    alone = threading.Barrier(2)
    with pytest.raises(threading.BrokenBarrierError):
        alone.wait(0.01)
    return sorted(places), ran, alone.broken


def timers() -> Any:
    rang: list[str] = []
    timer = threading.Timer(0.01, rang.append, args=["timer"])
    cancelled = threading.Timer(60, rang.append, args=["never"])
    timer.start()
    cancelled.start()
    cancelled.cancel()
    timer.join()
    cancelled.join()
    return rang


def local_state() -> Any:
    local = threading.local()
    local.value = "main"
    seen: list[object] = []

    def look() -> None:
        seen.append(getattr(local, "value", None))
        local.value = "other"

    for _ in range(2):
        worker = threading.Thread(target=look)
        worker.start()
        worker.join()
    return seen, local.value


def identities() -> Any:
    seen: list[Any] = []

    def look() -> None:
        me = threading.current_thread()
        seen.append(
            (me.name, me.daemon, me.is_alive(), me.ident == threading.get_ident(), me is threading.main_thread())
        )

    workers = [threading.Thread(target=look, name="named"), threading.Thread(target=look, daemon=True)]
    before = [each.is_alive() for each in workers]
    for each in workers:
        each.start()
        each.join()
    assert workers[1].name.endswith("(look)")
    seen[1] = seen[1][1:]
    after = [each.is_alive() for each in workers]
    assert len({each.ident for each in (*workers, threading.current_thread())}) >= 2
    return before, seen, after, [each.name for each in workers[:1]]


def misuse() -> Any:
    worker = threading.Thread(target=int)
    said: list[str] = []
    for call in (worker.join, worker.start, worker.start, worker.join, threading.current_thread().join, threading.Lock().release,
                 threading.RLock().release):  # fmt: skip
        try:
            call()
        except RuntimeError as error:
            said.append(str(error))
    for arguments in ((False, 1), (True, -2)):
        try:
            threading.Lock().acquire(*arguments)
        except ValueError:
            said.append(str(arguments))
    return said


def reentrant() -> Any:
    lock = threading.RLock()
    with lock, lock:
        taken: list[bool] = []
        other = threading.Thread(target=lambda: taken.append(lock.acquire(timeout=0.01)))
        other.start()
        other.join()
    with lock:
        return taken


def executors() -> Any:
    with concurrent.futures.ThreadPoolExecutor(max_workers=3, thread_name_prefix="pool") as pool:
        squares = list(pool.map(lambda number: number * number, range(6)))
        failing = pool.submit(lambda: 1 / 0)
        done, _ = concurrent.futures.wait([pool.submit(time.sleep, 0.01) for _ in range(4)])
        begun, go_on = threading.Event(), threading.Event()
        slow = pool.submit(lambda: (begun.set(), go_on.wait()))
        begun.wait()
        with pytest.raises(concurrent.futures.TimeoutError):
            slow.result(timeout=0.01)
        go_on.set()
    with pytest.raises(RuntimeError, match="cannot schedule new futures"):
        pool.submit(int)
    return squares, type(failing.exception()), len(done)


def executor_that_is_dropped() -> Any:
    pool = concurrent.futures.ThreadPoolExecutor(1)
    worker = pool.submit(threading.current_thread).result()
    watch = weakref.ref(pool)
    del pool
    worker.join()
    return watch() is None, worker.is_alive()


PROGRAMS: list[Callable[[], Any]] = [
    producers_and_consumers, priorities_and_stacks, events, conditions, semaphores, barriers, timers, local_state, identities,
    misuse, reentrant, executors, executor_that_is_dropped,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_programs_do_what_they_do_outside(program: Callable[[], Any]) -> None:
    outside = program()
    assert sim.run(program) == outside
    for seed in range(10):
        for strategy in ("random", "pct"):
            assert sim.run(program, seed=seed, strategy=strategy) == outside


# -- what only some schedules show -------------------------------------------------------------------------------------------


def found(scenario: Callable[..., Any], **options: Any) -> sim.Found:
    with pytest.raises(sim.Found) as caught:
        sim.explore(scenario, **{"seeds": 200, **options})
    return caught.value


class Account:
    def __init__(self) -> None:
        self.balance = 0

    def add(self) -> None:
        self.balance += 1

    def add_in_two_lines(self) -> None:
        balance = self.balance
        self.balance = balance + 1


def adding(add: Callable[[Account], None]) -> Callable[[], None]:
    def scenario() -> None:
        account = Account()
        workers = [threading.Thread(target=lambda: (time.sleep(1), add(account))) for _ in range(2)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        assert account.balance == 2

    return scenario


def test_lines_of_threads_are_choices_where_that_is_asked_for() -> None:
    racy = adding(Account.add_in_two_lines)
    assert sim.explore(racy, seeds=50).runs == 50
    story = found(racy, threads="lines").story
    assert "test_threads.py" in story


def test_opcodes_of_threads_are_choices_where_that_is_asked_for() -> None:
    racy = adding(Account.add)
    assert sim.explore(racy, seeds=50, threads="lines").runs == 50
    failed = found(racy, threads="opcodes")
    assert sim.replay(racy, failed.token, threads="opcodes").failure() == failed.run.failure()


def test_what_threads_can_be_is_said() -> None:
    with pytest.raises(ValueError, match="not 'words'"):
        sim.run(adding(Account.add), threads="words")


def test_a_traced_main_thread_is_no_longer_traced_after_the_run() -> None:
    before = sys.gettrace()
    sim.run(adding(Account.add), threads="lines", strategy="random")
    assert sys.gettrace() is before


def opposite_orders() -> None:
    a, b = threading.Lock(), threading.Lock()

    def one() -> None:
        with a:
            time.sleep(0)
            with b:
                pass

    def other() -> None:
        with b:
            with a:
                pass

    workers = [threading.Thread(target=one, name="one"), threading.Thread(target=other, name="other")]
    for each in workers:
        each.start()
    for each in workers:
        each.join()


def lines_of(function: Callable[..., Any], text: str) -> list[int]:
    import inspect

    source, first = inspect.getsourcelines(function)
    return [first + number for number, line in enumerate(source) if text in line]


def test_threads_that_wait_for_each_other_are_named_with_both_lines() -> None:
    failed = found(opposite_orders)
    assert isinstance(failed.error, sim.Stuck)
    said = str(failed.error)
    for line in (*lines_of(opposite_orders, "with b:"), *lines_of(opposite_orders, "with a:")):
        assert f"test_threads.py:{line}" in said, said
    assert "thread 'test:one'" in said and "held by thread 'test:other'" in said
    assert "lock made at" in said and "ring" in said


def test_a_ring_of_threads_is_seen_although_the_world_goes_on() -> None:
    async def scenario(world: sim.World) -> None:
        async def beats() -> None:
            while True:
                await sleep(1)

        world.host("heart").start(beats)
        await world.host("server").start(opposite_orders)

    assert isinstance(found(scenario).error, sim.Stuck)


def test_a_lock_that_is_waited_for_twice_is_explained() -> None:
    def scenario() -> None:
        lock = threading.Lock()
        with lock:
            with lock:
                pass

    with pytest.raises(sim.Stuck, match=rf"lock made at .*test_threads.py:{lines_of(scenario, 'Lock()')[0]}"):
        sim.run(scenario)


def test_joining_what_waits_for_oneself_is_a_ring() -> None:
    def scenario() -> None:
        lock = threading.RLock()
        with lock:
            worker = threading.Thread(target=lock.acquire, name="worker")
            worker.start()
            worker.join()

    with pytest.raises(sim.Stuck, match="the end of thread 'test:worker'"):
        sim.run(scenario)


def test_locks_are_taken_by_whoever_comes_first() -> None:
    """CPython's locks are handed to nobody: a thread that has waited may be overtaken by one that has just come."""

    def scenario() -> None:
        lock = threading.Lock()
        order: list[str] = []

        def take(name: str) -> None:
            with lock:
                order.append(name)

        with lock:
            patient = threading.Thread(target=take, args=("patient",))
            patient.start()
            time.sleep(1)  # it waits by now
        hasty = threading.Thread(target=take, args=("hasty",))
        hasty.start()
        patient.join()
        hasty.join()
        assert order == ["patient", "hasty"]

    sim.run(scenario)
    found(scenario)


def test_a_check_before_the_act_is_caught() -> None:
    def scenario() -> None:
        box: queue.Queue[int] = queue.Queue()
        box.put(1)

        def take() -> None:
            if not box.empty():
                box.get(timeout=1)

        workers = [threading.Thread(target=take) for _ in range(2)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()

    failed = found(scenario)
    assert isinstance(failed.error, sim.ProcessFailed)
    assert isinstance(failed.error.__cause__, queue.Empty)


def test_the_same_seed_runs_threads_in_the_same_order() -> None:
    def scenario() -> list[int]:
        order: list[int] = []
        workers = [threading.Thread(target=lambda n=n: (time.sleep(0), order.append(n))) for n in range(6)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        return order

    for strategy in ("random", "pct", "pos", "surw"):
        for seed in range(5):
            assert sim.run(scenario, seed=seed, strategy=strategy) == sim.run(scenario, seed=seed, strategy=strategy)
    assert len({tuple(sim.run(scenario, seed=seed, strategy="random")) for seed in range(20)}) > 5


@pytest.mark.parametrize("strategy", ["fifo", "random", "pct"])
def test_a_thread_that_polls_lets_others_run_in_the_end(strategy: str) -> None:
    def scenario() -> None:
        ready = threading.Event()
        began = time.monotonic()
        worker = threading.Thread(target=ready.set)
        worker.start()
        while not ready.is_set():
            pass
        while time.monotonic() < began + 0.1:
            pass
        worker.join()

    sim.run(scenario, strategy=strategy)


def test_a_livelock_of_threads_is_told() -> None:
    def scenario() -> None:
        never = threading.Event()
        worker = threading.Thread(target=never.wait, daemon=True)
        worker.start()
        while not never.is_set():
            time.sleep(0)

    with pytest.raises(sim.NoProgress):
        sim.run(scenario, max_steps=5000)


# -- ends --------------------------------------------------------------------------------------------------------------------


def test_an_error_in_a_thread_fails_the_run() -> None:
    def scenario() -> None:
        worker = threading.Thread(target=lambda: 1 / 0, name="divider")
        worker.start()
        worker.join()

    with pytest.raises(sim.ProcessFailed, match="thread 'test:divider' failed and nobody caught it") as caught:
        sim.run(scenario)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_excepthook_of_the_program_gets_it_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    def scenario() -> list[Any]:
        seen: list[Any] = []
        monkeypatch.setattr(threading, "excepthook", lambda args: seen.append((args.exc_type, args.thread.name)))
        worker = threading.Thread(target=lambda: 1 / 0, name="divider")
        worker.start()
        worker.join()
        return seen

    assert sim.run(scenario) == [(ZeroDivisionError, "divider")]


def test_exiting_a_thread_ends_nothing_else() -> None:
    def scenario() -> bool:
        worker = threading.Thread(target=sys.exit, args=(3,))
        worker.start()
        worker.join()
        return worker.is_alive()

    assert sim.run(scenario) is False


def test_a_process_waits_for_its_threads_and_leaves_its_daemons() -> None:
    log: list[str] = []

    async def scenario(world: sim.World) -> None:
        def program() -> None:
            def work() -> None:
                time.sleep(5)
                log.append("worked")

            def serve() -> None:
                while True:
                    time.sleep(2)
                    log.append("served")

            pool = concurrent.futures.ThreadPoolExecutor(1)
            pool.submit(time.sleep, 6.5).add_done_callback(lambda _: log.append("executed"))
            threading.Thread(target=work).start()
            threading.Thread(target=serve, daemon=True).start()
            log.append("main ends")

        await world.host("a").start(program)
        log.append("process has ended")
        await sleep(10)

    sim.run(scenario)
    assert log == ["main ends", "served", "served", "worked", "served", "executed", "process has ended"]


def test_a_killed_process_leaves_its_lock_locked_to_nobody_else() -> None:
    async def scenario(world: sim.World) -> int:
        def program() -> None:
            with MODULES_LOCK:
                time.sleep(100)

        def other() -> int:
            with MODULES_LOCK:
                return 7

        process = world.host("a").start(program)
        await sleep(1)
        process.kill()
        return await world.host("a").start(other)

    assert sim.run(scenario) == 7


def test_nothing_is_left_of_threads_that_did_not_end() -> None:
    cleaned: list[str] = []

    def scenario() -> None:
        def work() -> None:
            try:
                threading.Event().wait()
            finally:
                cleaned.append("finally")

        threads = [threading.Thread(target=work) for _ in range(3)]
        for each in threads:
            each.start()
        time.sleep(1)
        alive.extend(threads)

    alive: list[threading.Thread] = []
    before = threading.active_count()
    sim.run(scenario)
    assert len(cleaned) == 3  # in ghost mode, when it can't matter
    assert threading.active_count() == before
    assert not any(each.is_alive() for each in alive) and all("stopped" in repr(each) for each in alive)
    for each in alive:
        each.join()


def test_code_that_swallows_everything_does_not_keep_a_world_from_ending() -> None:
    def scenario() -> None:
        def stubborn() -> None:
            while True:
                try:
                    time.sleep(1)
                except BaseException:
                    continue

        threading.Thread(target=stubborn, daemon=True).start()
        time.sleep(3)

    with pytest.warns(sim.StubbornThread, match="stubborn"):
        sim.run(scenario)


def test_the_warning_about_stubborn_threads_is_shown_from_outside_the_world(capfd: pytest.CaptureFixture[str]) -> None:
    def program() -> None:
        while True:
            try:
                time.sleep(1)
            except BaseException:
                continue

    async def scenario(world: sim.World) -> None:
        world.host("a").start(program)
        await bateau.time.sleep(3)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # As outside pytest, whose own catcher never formats one: that reads source files.
        warnings.showwarning = lambda *args: sys.stderr.write(warnings.formatwarning(*args[:4]))
        linecache.clearcache()
        sim.run(scenario)
    assert "StubbornThread" in capfd.readouterr().err


# -- what was made outside ---------------------------------------------------------------------------------------------------

MODULES_LOCK = threading.Lock()


class Cache:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.queue: queue.Queue[int] = queue.Queue()
        self.simple: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.event = threading.Event()
        self.shared = sync.Semaphore(1)

    @functools.cached_property
    def slow(self) -> int:
        time.sleep(1)
        return 1


CACHE = Cache()
POOL = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="modules")


def contend(lock: Any) -> float:
    def work() -> None:
        with lock:
            time.sleep(1)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    return time.monotonic()


def test_locks_of_modules_are_the_worlds_inside() -> None:
    for lock in (MODULES_LOCK, CACHE.lock, CACHE.changed):
        assert sim.run(contend, lock) == 3.0
    assert type(MODULES_LOCK) is type(threading.Lock()) and type(CACHE.lock) is type(threading.RLock())
    with MODULES_LOCK, CACHE.lock, CACHE.changed:
        CACHE.changed.notify_all()


def test_locks_that_a_scenario_refers_to_are_the_worlds_inside() -> None:
    own = Cache()

    def scenario() -> float:
        return contend(own.changed)

    assert sim.run(scenario) == 3.0
    assert type(own.lock) is type(threading.RLock())


def test_queues_and_events_of_modules() -> None:
    def scenario() -> list[Any]:
        got: list[Any] = []
        threads = [
            threading.Thread(target=lambda: got.append(CACHE.queue.get())),
            threading.Thread(target=lambda: got.append(CACHE.simple.get() + 1)),
            threading.Thread(target=lambda: got.append(CACHE.event.wait())),
        ]
        for each in threads:
            each.start()
        time.sleep(1)
        CACHE.queue.put(1)
        CACHE.simple.put(1)
        CACHE.event.set()
        for each in threads:
            each.join()
        CACHE.event.clear()
        return sorted(got)

    for seed in range(5):
        assert sim.run(scenario, seed=seed, strategy="random") == [1, True, 2]
    assert CACHE.simple.empty()


def test_an_executor_of_a_module_is_one_for_each_process() -> None:
    async def scenario(world: sim.World) -> list[Any]:
        def program() -> list[Any]:
            names = POOL.map(lambda _: (time.sleep(1), threading.current_thread().name)[1], range(3))
            return [*names, time.monotonic()]

        return [await world.host("a").start(program), await world.host("b").start(program)]

    expected = sim.run(scenario)
    assert expected == [["modules_0", "modules_1", "modules_0", 2.0], ["modules_0", "modules_1", "modules_0", 4.0]]
    assert sim.run(scenario) == expected
    assert not POOL._threads  # and outside it is what it was


def test_a_lock_held_over_a_cached_property_stops_nobody_else() -> None:
    """3.11's holds one real lock for all instances while it computes a value."""

    def scenario() -> float:
        caches = [Cache() for _ in range(2)]
        workers = [threading.Thread(target=lambda each=each: each.slow) for each in caches]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        return time.monotonic()

    assert sim.run(scenario) in {1.0, 2.0}


def test_a_real_thread_can_not_be_waited_for() -> None:
    go = threading.Event()
    worker = threading.Thread(target=go.wait, name="outsider")
    worker.start()
    try:
        with pytest.raises(sim.NotSimulated, match="'outsider' was started outside"):
            sim.run(lambda: worker.join())
    finally:
        go.set()
        worker.join()
    sim.run(lambda: worker.join())


def test_a_real_lock_that_was_not_found_ends_the_world_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "PERIOD", 0.05)

    def scenario(hidden: tuple[Any, ...]) -> None:
        contend(hidden[0])

    with pytest.raises(
        sim.StoodStill, match=rf"test_threads.py:{lines_of(contend, 'with lock')[0]} in .*work waits for a real lock"
    ):
        sim.run(scenario, (threading.Lock(),))


def test_even_where_it_is_the_tests_own_thread_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "PERIOD", 0.05)

    def scenario(hidden: tuple[Any, ...]) -> None:
        lock = hidden[0]

        def work() -> None:
            with lock:
                time.sleep(100)

        threading.Thread(target=work).start()
        time.sleep(1)
        with lock:
            pass
        time.sleep(1)

    with pytest.raises(sim.StoodStill, match="thread 'test' at"):
        sim.run(scenario, (threading.Lock(),))


# -- logging -----------------------------------------------------------------------------------------------------------------


def test_logging_from_threads_to_a_handler_that_waits() -> None:
    """Its locks were made when it was imported, and are held while a record is written."""
    lines: list[str] = []

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            time.sleep(1)
            lines.append(f"{record.threadName} {record.getMessage()} {record.created - sim_epoch():.0f}")

    def sim_epoch() -> float:
        return 1767225600.0

    logger = logging.getLogger("bateau.tests.sim")
    handler = Slow()

    def scenario() -> float:
        workers = [threading.Thread(target=logger.warning, args=("hello",), name=f"w{n}") for n in range(3)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        return time.monotonic()

    logger.addHandler(handler)
    logger.propagate = False
    try:
        assert sim.run(scenario) == 3.0
        assert sorted(lines) == ["w0 hello 0", "w1 hello 0", "w2 hello 0"]
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    assert type(handler.lock) is type(threading.RLock())


# -- async programs and threads ----------------------------------------------------------------------------------------------


def test_thread_run_takes_virtual_time_and_its_workers_are_reused() -> None:
    async def scenario() -> list[Any]:
        names: list[Any] = []
        for _ in range(2):
            names.append(await thread.run(lambda: (time.sleep(1), threading.current_thread().name)[1]))
        async with bateau.scope() as scope:
            for _ in range(3):
                scope.spawn(thread.run, time.sleep, 1)
        return [*names, time.monotonic()]

    assert sim.run(scenario) == ["bateau-worker-1", "bateau-worker-1", 3.0]
    assert sim.run(scenario) == ["bateau-worker-1", "bateau-worker-1", 3.0]


def test_from_thread_and_cancellation() -> None:
    async def scenario() -> list[str]:
        log: list[str] = []

        def work() -> None:
            log.append(thread.from_thread.run(answer, 2))
            while True:
                time.sleep(1)
                thread.check_cancelled()

        async def answer(n: int) -> str:
            await sleep(n)
            return f"answered at {time.monotonic()}"

        with pytest.raises(bateau.TaskTimeout if hasattr(bateau, "TaskTimeout") else TimeoutError):
            with fail_after(5):
                await thread.run(work)
        log.append(f"cancelled at {time.monotonic()}")
        return log

    assert sim.run(scenario) == ["answered at 2.0", "cancelled at 5.0"]


def test_a_portal_from_a_simulated_thread() -> None:
    async def scenario() -> int:
        async def double(n: int) -> int:
            await sleep(1)
            return 2 * n

        async with thread.portal() as portal:
            results: list[int] = []
            worker = threading.Thread(target=lambda: results.append(portal.run(double, 21)))
            worker.start()
            while worker.is_alive():
                await sleep(0.1)
            return results[0]

    assert sim.run(scenario) == 42


def test_spawning_into_the_program_of_ones_own_process() -> None:
    async def scenario(world: sim.World) -> list[str]:
        async def program(name: str) -> str:
            async def answer() -> str:
                await sleep(1)
                return f"{name} {world.thread.process.name}"

            await sleep(1)
            return await thread.run(lambda: registry.get("sim").spawn(answer).result())

        processes = [world.host(name).start(program, name) for name in "ab"]
        return [await process for process in processes]

    assert sim.run(scenario) == ["a a", "b b"]


def test_block_on_in_simulated_threads() -> None:
    async def doubled(n: int) -> int:
        await sleep(n)
        return 2 * n

    def scenario() -> list[Any]:
        results: list[int] = []

        def work(n: int) -> None:
            results.append(bateau.block_on(doubled, n))
            results.append(bateau.block_on(doubled, n))

        workers = [threading.Thread(target=work, args=(n,)) for n in (1, 3)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        return [results, bateau.block_on(doubled, 1), time.monotonic()]

    assert sim.run(scenario) == [[2, 2, 6, 6], 2, 7.0]
    assert bateau.block_on(doubled, 0) == 0
    assert sim.run(scenario) == [[2, 2, 6, 6], 2, 7.0]  # and it does not mix with the loop that is open outside
    assert bateau.block_on(doubled, 0) == 0
    blocking.close_thread()


def test_shared_primitives_between_a_loop_and_threads() -> None:
    async def scenario() -> list[int]:
        sending, receiving = channel[int](1, flavour="shared")
        got: list[int] = []

        def produce() -> None:
            for n in range(5):
                sync.wait_in_thread(sending.send(n))
            sending.close()

        worker = threading.Thread(target=produce)
        worker.start()
        async for item in receiving:
            got.append(item)
        worker.join()
        return got

    for seed in range(20):
        for strategy in ("random", "pct", None):
            assert sim.run(scenario, seed=seed, strategy=strategy) == [0, 1, 2, 3, 4]


def test_asyncio_to_thread_and_its_executor() -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        one = await asyncio.to_thread(lambda: (time.sleep(1), threading.current_thread().name)[1])
        two = await asyncio.gather(*(loop.run_in_executor(None, time.sleep, 1) for _ in range(3)))
        return [one, two, time.monotonic()]

    expected = ["asyncio_0", [None] * 3, 2.0]

    def with_asyncios_own_loop() -> list[Any]:
        return asyncio.run(main())

    assert sim.run(main) == expected
    assert sim.run(with_asyncios_own_loop) == expected
    for seed in range(10):
        assert sim.run(main, seed=seed, strategy="random")[:2] == expected[:2]


def test_a_worker_of_an_exploration_that_stands_still_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "PERIOD", 0.05)

    def scenario(hidden: tuple[Any, ...]) -> None:
        contend(hidden[0])

    with pytest.raises(sim.Found, match="StoodStill"):
        sim.explore(scenario, args=((threading.Lock(),),), seeds=4, jobs=2, shrink=False)


# -- what was taken by value ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Entry:
    made: float = dataclasses.field(default_factory=time.time)
    on: dt.datetime = dataclasses.field(default_factory=dt.datetime.now)
    lock: Any = dataclasses.field(default_factory=threading.Lock)


class Bucket:
    tick = time.monotonic
    tock = staticmethod(time.perf_counter)
    pause = functools.partial(time.sleep, 2)

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.clock = clock
        self.sleep = sleep


BUCKET = Bucket()
CLOCKS = {"wall": time.time, "list": [time.monotonic]}


def closure(clock: Callable[[], float]) -> Callable[[], float]:
    return lambda: clock()


TICK = closure(time.monotonic)


def test_clocks_and_factories_that_were_taken_by_value_are_the_worlds() -> None:
    def scenario() -> list[Any]:
        BUCKET.sleep(3)
        Bucket().sleep(1)
        Bucket.pause()
        clocks = [
            BUCKET.clock,
            Bucket().clock,
            BUCKET.tick,
            Bucket.tick,
            Bucket.tock,
            BUCKET.tock,
            TICK,
            CLOCKS["list"][0],
        ]
        entry = Entry()
        return [
            *(clock() for clock in clocks),
            CLOCKS["wall"]() - 1767225600.0,
            entry.made - 1767225600.0,
            entry.on.year,
            contend(entry.lock),
        ]

    for _ in range(2):
        assert sim.run(scenario) == [6.0] * 10 + [2026, 9.0]
    assert (
        BUCKET.clock is time.monotonic
        and Bucket.__init__.__defaults__ == (time.monotonic,)
        and CLOCKS["wall"] is time.time
    )
    assert (
        vars(Bucket)["tick"] is time.monotonic
        and abs(Entry().made - time.time()) < 60
        and BUCKET.tick() == pytest.approx(time.monotonic(), abs=60)
    )
    assert type(Entry().lock) is type(threading.Lock())


def test_what_its_owner_has_changed_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    sim.run(lambda: None)
    fixed = lambda: 7.0  # noqa: E731
    monkeypatch.setattr(BUCKET, "clock", fixed)
    monkeypatch.setitem(CLOCKS, "wall", fixed)
    listed = CLOCKS["list"]

    def scenario() -> list[float]:
        listed.clear()  # it was there when the doors opened
        return [BUCKET.clock(), CLOCKS["wall"]()]

    try:
        assert sim.run(scenario) == [7.0, 7.0]
        assert BUCKET.clock is fixed
        assert CLOCKS["wall"] is fixed
        assert listed == []
    finally:
        listed[:] = [time.monotonic]


HELD, HELD_AGAIN = threading.Lock(), threading.RLock()


def test_a_lock_that_is_held_outside_is_held_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    def scenario() -> list[bool]:
        return [HELD.locked(), HELD.acquire(timeout=1), HELD_AGAIN.acquire(timeout=1)]

    def other_thread() -> bool:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return pool.submit(HELD_AGAIN.acquire, timeout=1).result()

    def for_ever() -> None:
        with HELD:
            pass

    assert sim.run(scenario) == [False, True, True]
    with monkeypatch.context() as patched, HELD, HELD_AGAIN:
        patched.setattr(locks, "LONGEST_MOMENT", 0.01)
        assert sim.run(scenario) == [True, False, True]  # the test's own thread has the reentrant one already
        assert sim.run(other_thread) is False
        with pytest.raises(sim.Stuck, match="held outside the simulated world"):
            sim.run(for_ever)
    assert not HELD.locked()
    # A real thread that holds it for a moment changes nothing.
    HELD.acquire()
    threading.Timer(0.05, HELD.release).start()
    assert sim.run(scenario) == [False, True, True]


def test_the_standard_librarys_scheduler_waits_in_virtual_time() -> None:
    import sched

    def scenario() -> list[float]:
        rang: list[float] = []
        scheduler = sched.scheduler()
        for delay in (3, 1, 2):
            scheduler.enter(delay, 1, lambda: rang.append(time.monotonic()))
        scheduler.run()
        return rang

    assert sim.run(scenario) == [1.0, 2.0, 3.0]


def test_no_thread_of_the_system_is_left() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/task"))

    def scenario() -> None:
        def endless() -> None:
            while True:
                time.sleep(1)

        for _ in range(5):
            threading.Thread(target=endless, daemon=True).start()
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            list(pool.map(time.sleep, [1] * 6))
        raise KeyError("the scenario fails")

    before = count()
    for seed in range(10):
        with pytest.raises(KeyError):
            sim.run(scenario, seed=seed, strategy="random")
    for _ in range(100):  # the last one may be on its way out of the kernel
        if count() <= before:
            break
        time.sleep(0.01)
    assert count() <= before
