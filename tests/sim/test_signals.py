"""Signals, exits and the environment of simulated processes."""

from __future__ import annotations

import asyncio
import atexit
import errno
import multiprocessing
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import pytest

import bateau
from bateau import signal as bsignal
from bateau import sim
from bateau.scopes import scope as open_scope
from bateau.time import sleep


def in_a_process(
    program: Any, *steps: tuple[float, Any], watched: bool = True
) -> tuple[sim.Process, sim.World, list[Any]]:
    """Run ``program(log)`` on a host and do ``steps`` to it: after so many seconds, this signal (or function of the process)."""
    log: list[Any] = []
    kept: list[Any] = []

    async def scenario(world: sim.World) -> None:
        process = world.host("a").start(program, log)
        kept.extend((process, world))
        for seconds, step in steps:
            await sleep(seconds)
            if callable(step):
                step(process)
            else:
                process.signal(step)
        try:
            await process
        except bateau.TaskCancelled:
            log.append(f"ended with {process.exit_code} at {world.now:g}")

    sim.run(scenario)
    return kept[0], kept[1], log


# -- handlers ----------------------------------------------------------------------------------------------------------------


def test_a_handler_runs_in_the_main_thread_while_it_sleeps_and_the_sleep_goes_on() -> None:
    def program(log: list[Any]) -> None:
        def handle(signum: int, frame: Any) -> None:
            assert threading.current_thread() is threading.main_thread()
            log.append((signal.Signals(signum).name, time.monotonic(), frame.f_code.co_name))

        assert signal.signal(signal.SIGTERM, handle) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is handle
        time.sleep(10)
        log.append(time.monotonic())

    process, _, log = in_a_process(program, (1, signal.SIGTERM), (2, signal.SIGTERM))
    assert log == [("SIGTERM", 1.0, "program"), ("SIGTERM", 3.0, "program"), 10.0]
    assert process.exit_code == 0


def test_what_a_handler_raises_comes_out_of_the_wait() -> None:
    class Stop(Exception):
        pass

    def program(log: list[Any]) -> None:
        def handle(signum: int, frame: Any) -> None:
            raise Stop

        signal.signal(signal.SIGUSR1, handle)
        event = threading.Event()
        for wait in (
            lambda: time.sleep(100),
            event.wait,
            lambda: event.wait(50),
            threading.Thread(target=event.wait, daemon=True).start,
        ):
            try:
                wait()
                time.sleep(100)
            except Stop:
                log.append(time.monotonic())

    assert in_a_process(program, *[(1, signal.SIGUSR1)] * 4)[2] == [1.0, 2.0, 3.0, 4.0]


def test_handlers_wait_their_turn_and_may_wait_themselves() -> None:
    def program(log: list[Any]) -> None:
        def handle(signum: int, frame: Any) -> None:
            log.append(("begins", signum, time.monotonic()))
            time.sleep(5)
            log.append(("ends", signum, time.monotonic()))

        for signum in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(signum, handle)
        lock = threading.Lock()
        lock.acquire()
        assert lock.acquire(timeout=3) is False  # whose time passes meanwhile
        log.append(time.monotonic())
        time.sleep(3)
        log.append(time.monotonic())

    one, two = signal.SIGUSR1, signal.SIGUSR2
    assert in_a_process(program, (1, one), (1, two), (6, one))[2] == [
        ("begins", one, 1.0), ("begins", two, 2.0), ("ends", two, 7.0), ("ends", one, 7.0), 7.0,
        ("begins", one, 8.0), ("ends", one, 13.0), 13.0,
    ]  # fmt: skip


def test_a_lock_that_is_released_while_a_handler_runs_is_not_missed() -> None:
    def program(log: list[Any]) -> None:
        lock = threading.Lock()
        lock.acquire()

        def handle(signum: int, frame: Any) -> None:
            time.sleep(1)
            lock.release()
            time.sleep(1)

        signal.signal(signal.SIGUSR1, handle)
        lock.acquire()
        log.append(time.monotonic())

    assert in_a_process(program, (1, signal.SIGUSR1))[2] == [3.0]


def test_the_same_signal_twice_before_its_handler_counts_once() -> None:
    def program(log: list[Any]) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: log.append("handled"))
        time.sleep(5)

    def twice(process: sim.Process) -> None:
        process.signal(signal.SIGUSR1)
        process.signal(signal.SIGUSR1)

    assert in_a_process(program, (1, twice), (1, signal.SIGUSR1))[2] == ["handled", "handled"]


def test_signals_to_oneself() -> None:
    def program(log: list[Any]) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: log.append("handled"))
        os.kill(os.getpid(), signal.SIGUSR1)
        log.append("after os.kill")
        signal.raise_signal(signal.SIGUSR1)
        log.append("after raise_signal")
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        worker = threading.Thread(target=os.kill, args=(0, signal.SIGUSR1))
        worker.start()
        worker.join()
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGUSR1)

    assert in_a_process(program)[2] == [
        "handled",
        "after os.kill",
        "handled",
        "after raise_signal",
        "handled",
        "handled",
    ]


def test_signals_between_processes() -> None:
    async def scenario(world: sim.World) -> list[Any]:
        log: list[Any] = []

        def server() -> None:
            signal.signal(signal.SIGHUP, lambda *_: log.append("reload"))
            time.sleep(10)

        def admin(pid: int) -> None:
            os.kill(pid, 0)
            os.kill(pid, signal.SIGHUP)
            for strange in (99999, os.getpid() + 1000):
                try:
                    os.kill(strange, signal.SIGHUP)
                except ProcessLookupError as error:
                    log.append(error.errno)
            with pytest.raises(OSError):
                os.kill(pid, 1000)

        host = world.host("a")
        process = host.start(server)
        await sleep(1)
        await host.start(admin, process.pid)
        with pytest.raises(ProcessLookupError):  # it is another machine's
            os.kill(process.pid, signal.SIGHUP)
        await process
        return log

    assert sorted(map(str, sim.run(scenario))) == [str(errno.ESRCH), str(errno.ESRCH), "reload"]


# -- what the system does by itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGKILL, signal.SIGQUIT])
def test_signals_that_end_a_process(signum: signal.Signals) -> None:
    def program(log: list[Any]) -> None:
        try:
            time.sleep(100)
        finally:
            log.append("cleaned up")  # in ghost mode, after the end of the world: it has no effect there

    process, world, log = in_a_process(program, (2, signum))
    assert process.exit_code == -signum and world.now == 2.0
    assert log[0] == f"ended with {-signum} at 2"


@pytest.mark.parametrize("signum", [signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT, signal.SIGPIPE])
def test_signals_that_do_nothing(signum: signal.Signals) -> None:
    assert in_a_process(lambda log: time.sleep(5), (1, signum))[1].now == 5.0


def test_stop_and_continue() -> None:
    def program(log: list[Any]) -> None:
        signal.signal(signal.SIGCONT, lambda *_: log.append(("continued", time.monotonic())))
        signal.signal(signal.SIGUSR1, lambda *_: log.append(("user", time.monotonic())))
        for _ in range(4):
            time.sleep(1)
            log.append(time.monotonic())

    _, _, log = in_a_process(program, (1.5, signal.SIGSTOP), (2, signal.SIGUSR1), (2, signal.SIGCONT))
    assert log[0] == 1.0 and {log[1][0], log[2][0]} == {"user", "continued"} and log[1][1] == 5.5
    assert log[3:] == [5.5, 6.5, 7.5]


def test_what_would_end_a_stopped_process_waits_until_it_goes_on_except_the_last_resort() -> None:
    stop, go_on = signal.SIGSTOP, signal.SIGCONT
    assert in_a_process(lambda log: time.sleep(100), (1, stop), (1, signal.SIGTERM), (3, go_on))[1].now == 5.0
    assert in_a_process(lambda log: time.sleep(100), (1, stop), (1, signal.SIGKILL))[1].now == 2.0


def test_ctrl_c_without_a_handler_is_a_keyboard_interrupt() -> None:
    def program(log: list[Any]) -> None:
        try:
            time.sleep(100)
        except KeyboardInterrupt:
            log.append(time.monotonic())
            raise

    process, _, log = in_a_process(program, (1, signal.SIGINT))
    assert log == [1.0, "ended with -2 at 1"] and process.exit_code == -2


def test_bateaus_two_phases_of_ctrl_c_in_a_simulated_process() -> None:
    async def program(log: list[Any]) -> None:
        try:
            async with open_scope() as scope:
                scope.spawn(ticking, log)
        finally:
            log.append("left")

    async def ticking(log: list[Any]) -> None:
        while True:
            await sleep(1)
            log.append("tick")

    _, _, log = in_a_process(program, (1.5, signal.SIGINT), (2, signal.SIGINT))
    assert log[:4] == ["tick", "tick", "tick", "left"] and "ended with -2" in log[4]


def test_misuse() -> None:
    def program(log: list[Any]) -> None:
        with pytest.raises(OSError):
            signal.signal(signal.SIGKILL, lambda *_: None)
        with pytest.raises(ValueError, match="out of range"):
            signal.signal(1000, lambda *_: None)
        with pytest.raises(TypeError, match="must be signal.SIG_IGN"):
            signal.signal(signal.SIGTERM, "no")  # type: ignore[arg-type]
        with pytest.raises(ProcessLookupError):
            signal.pthread_kill(12345, signal.SIGTERM)

        def elsewhere() -> None:
            with pytest.raises(ValueError, match="main thread"):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with pytest.raises(ValueError, match="main thread"):
                signal.set_wakeup_fd(-1)
            log.append("checked")

        worker = threading.Thread(target=elsewhere)
        worker.start()
        worker.join()

    assert in_a_process(program)[2] == ["checked"]
    with pytest.raises(ValueError, match="out of range"):
        in_a_process(lambda log: time.sleep(1), (0, 1000))


# -- masks, waits, timers ----------------------------------------------------------------------------------------------------


def test_masks_and_pending() -> None:
    def program(log: list[Any]) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: log.append("handled"))
        assert signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM}) == set()
        time.sleep(3)
        log.append(sorted(signal.sigpending()))
        log.append(signal.sigwait({signal.SIGTERM}))
        assert signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1}) == {signal.SIGUSR1, signal.SIGTERM}
        log.append("end")

    _, _, log = in_a_process(program, (1, signal.SIGUSR1), (1, signal.SIGTERM))
    assert log == [[signal.SIGUSR1, signal.SIGTERM], signal.SIGTERM, "handled", "end"]


def test_waiting_for_signals() -> None:
    def program(log: list[Any]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        log.append((signal.sigwait([signal.SIGUSR1]), time.monotonic()))
        log.append((signal.sigtimedwait([signal.SIGUSR1], 3), time.monotonic()))
        info = signal.sigwaitinfo([signal.SIGUSR1])
        log.append((info.si_signo, time.monotonic()))
        signal.signal(signal.SIGUSR2, lambda *_: log.append("second"))
        signal.pause()
        log.append(time.monotonic())

    _, _, log = in_a_process(program, (1, signal.SIGUSR1), (4, signal.SIGUSR1), (1, signal.SIGUSR2))
    assert log == [(signal.SIGUSR1, 1.0), (None, 4.0), (signal.SIGUSR1, 5.0), "second", 6.0]


def test_alarms_and_timers() -> None:
    def program(log: list[Any]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: log.append(time.monotonic()))
        assert signal.alarm(2) == 0
        time.sleep(0.5)
        assert signal.alarm(3) == 2
        time.sleep(5)
        assert signal.setitimer(signal.ITIMER_REAL, 0.5, 1.0) == (0.0, 0.0)
        time.sleep(2.25)
        assert signal.getitimer(signal.ITIMER_REAL) == (pytest.approx(0.25), 1.0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        time.sleep(5)
        with pytest.raises(sim.NotSimulated):
            signal.setitimer(signal.ITIMER_VIRTUAL, 1)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(1)
        time.sleep(100)

    _, _, log = in_a_process(program)
    assert log == [3.5, 6.0, 7.0, f"ended with {-signal.SIGALRM} at 13.75"]


# -- async programs ----------------------------------------------------------------------------------------------------------


def test_bateau_signal_in_a_simulated_process() -> None:
    async def program(log: list[Any]) -> None:
        with bsignal.open(signal.SIGTERM, signal.SIGHUP) as signals:
            async for signum in signals:
                log.append((signum.name, time.monotonic()))
                if signum == signal.SIGTERM:
                    break

    _, world, log = in_a_process(program, (1, signal.SIGHUP), (2, signal.SIGTERM))
    assert log == [("SIGHUP", 1.0), ("SIGTERM", 3.0)] and world.now == 3.0


def asyncio_server(log: list[Any]) -> None:
    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: log.append(("reload", loop.time())))
        await stop.wait()
        log.append(("stopped", loop.time()))
        assert loop.remove_signal_handler(signal.SIGTERM)

    asyncio.run(main())


def test_asyncio_signal_handlers_over_the_wakeup_descriptor() -> None:
    assert in_a_process(asyncio_server, (1, signal.SIGHUP), (2, signal.SIGTERM))[2] == [
        ("reload", 1.0),
        ("stopped", 3.0),
    ]


def test_asyncio_run_turns_ctrl_c_into_cancellation() -> None:
    def program(log: list[Any]) -> None:
        async def main() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                log.append(("cleaned up", time.monotonic()))

        asyncio.run(main())

    assert in_a_process(program, (1, signal.SIGINT))[2] == [("cleaned up", 1.0), "ended with -2 at 1"]


def test_the_wakeup_descriptor_is_checked_and_written() -> None:
    def program(log: list[Any]) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with pytest.raises(ValueError, match="non-blocking"):
                signal.set_wakeup_fd(theirs.fileno())
            theirs.setblocking(False)
            assert signal.set_wakeup_fd(theirs.fileno()) == -1
            signal.signal(signal.SIGUSR1, lambda *_: log.append("handled"))
            log.append(ours.recv(10))
            assert signal.set_wakeup_fd(-1) == theirs.fileno()

    assert in_a_process(program, (1, signal.SIGUSR1))[2] == ["handled", bytes([signal.SIGUSR1])]


# -- the real Ctrl-C ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_the_real_ctrl_c_ends_the_run(kind: str) -> None:
    async def endless() -> None:
        threading.Thread(target=time.sleep, args=(1e9,)).start()
        posix.kill(real_pid, signal.SIGINT)  # by its module, which has no doors
        for _ in range(10**9):
            await sleep(1)

    def sync() -> None:
        posix.kill(real_pid, signal.SIGINT)  # by its module, which has no doors
        for _ in range(10**9):
            time.sleep(1)

    import posix

    real_pid = os.getpid()
    before = signal.getsignal(signal.SIGINT)
    if kind == "async":
        with pytest.raises((KeyboardInterrupt, bateau.Cancelled, sim.NoProgress)):
            sim.run(endless, max_steps=20_000)
    else:
        with pytest.raises(KeyboardInterrupt):
            sim.run(sync)
    assert signal.getsignal(signal.SIGINT) is before


INTERRUPTED = """
import _thread, os, posix, signal, sys, time
from bateau import sim
from bateau.time import sleep as sleep_async

sleep, kill, pid, mode = time.sleep, posix.kill, os.getpid(), sys.argv[1]
begun, heard = [], []

def interrupts():
    # A second signal that comes before Python has seen the first one counts once, and one that comes just before a thread falls asleep is
    # seen with the next: so each is repeated until it was heard.
    for number in range(1, 3 if mode != "sync" else 2):
        while not begun or len(heard) < number:
            if begun:
                kill(pid, signal.SIGINT)
            sleep(0.1)

def hear(signum, frame):
    if len(heard) < (2 if mode != "sync" else 1):
        heard.append(1)
        raise KeyboardInterrupt

def polite():
    begun.append(1)
    while True:
        sum(range(1000))
        time.sleep(0.001)

def stubborn():
    begun.append(1)
    while True:
        sum(range(1000))

def sync(world):
    for name in "ab":
        world.host(name).start(stubborn if mode == "stubborn" else polite)
    time.sleep(1e9)

async def in_tasks(world):
    own = signal.getsignal(signal.SIGINT)  # bateau's: the first asks, the second cancels
    def count(signum, frame):
        heard.append(1)
        if len(heard) <= 2:
            own(signum, frame)
    signal.signal(signal.SIGINT, count)
    try:
        for name in "ab":
            world.host(name).start(polite)
        await sleep_async(1e9)
    finally:
        signal.signal(signal.SIGINT, own)

if mode != "async":
    signal.signal(signal.SIGINT, hear)
before = signal.getsignal(signal.SIGINT)
_thread.start_new_thread(interrupts, ())
try:
    sim.run(in_tasks if mode == "async" else sync, max_steps=10**9)
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGINT) is before, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("mode", ["sync", "async", "stubborn"])
def test_the_real_ctrl_c_while_others_have_the_baton(mode: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, mode], capture_output=True, text=True, timeout=60, env=os.environ
    )
    assert done.stdout == "interrupted True\n", done.stderr


AT_ONCE = """
import os, sys, time
from bateau import sim

class Baton:
    # A signal's handler runs at the end of the call in which the signal came.
    def __init__(self, real, moment):
        self.real, self.moment, self.raised = real, moment, False
    def acquire(self, *args):
        taken = self.real.acquire(*args)
        self.interrupt("taken")
        return taken
    def release(self):
        self.real.release()
        self.interrupt("given")
    def interrupt(self, moment):
        if moment == self.moment and not self.raised:
            self.raised = True
            raise KeyboardInterrupt

def other():
    for _ in range(5):
        time.sleep(0.001)

def scenario(world):
    process = world.host("a").start(other)
    thread = process.main if sys.argv[1] == "given" else world.director.main
    thread.baton = Baton(thread.baton, sys.argv[1])
    time.sleep(1)

try:
    sim.run(scenario)
except KeyboardInterrupt:
    print("interrupted", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("moment", ["given", "taken"])
def test_a_real_ctrl_c_just_as_the_baton_changes_hands(moment: str) -> None:
    """It was waited for the baton that had been taken already; or the world was closed while another had it."""
    done = subprocess.run([sys.executable, "-c", AT_ONCE, moment], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


# -- exits, the environment, other programs ----------------------------------------------------------------------------------


def test_exit_codes() -> None:
    async def scenario(world: sim.World) -> list[Any]:
        codes: list[Any] = []
        for program in (lambda: None, lambda: sys.exit(3), lambda: sys.exit("message"), lambda: os._exit(4), sys.exit):
            process = world.host("a").start(program)
            await process
            codes.append(process.exit_code)
        process = world.host("a").start(lambda: os.abort())
        with pytest.raises(bateau.TaskCancelled):
            await process
        return [*codes, process.exit_code]

    assert sim.run(scenario) == [0, 3, 1, 4, 0, -signal.SIGABRT]


def test_exit_at_once_runs_no_cleanup_and_atexit_runs_last_first() -> None:
    def orderly(log: list[Any]) -> None:
        atexit.register(log.append, "first registered")
        atexit.register(log.append, "second registered")
        gone = atexit.register(log.append, "unregistered")
        assert gone == log.append
        worker = threading.Thread(target=lambda: (time.sleep(1), log.append("thread")))
        worker.start()

    def at_once(log: list[Any]) -> None:
        atexit.register(log.append, "never")
        os._exit(0)

    log = in_a_process(orderly)[2]
    assert log == ["thread", "unregistered", "second registered", "first registered"]
    assert in_a_process(at_once)[2] == []


def test_what_the_interpreter_registers_stays_the_interpreters() -> None:
    class Thing:
        pass

    kept: list[Any] = []

    def program(log: list[Any]) -> None:
        thing = Thing()
        kept.append(thing)
        weakref.finalize(thing, log.append, "finalized")

    log = in_a_process(program)[2]
    assert log == []
    kept.clear()
    assert log == ["finalized"]


def test_each_process_has_an_environment_and_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATEAU_TEST_VARIABLE", "from the test")

    async def scenario(world: sim.World) -> list[Any]:
        def program() -> Any:
            before = os.environ["BATEAU_TEST_VARIABLE"], os.getenv("ONLY_HERE")
            os.environ["BATEAU_TEST_VARIABLE"] = "changed"
            os.environ.pop("ONLY_HERE", None)
            assert os.environb[b"BATEAU_TEST_VARIABLE"] == b"changed"
            with pytest.raises(KeyError):
                del os.environ["BATEAU_NO_SUCH"]
            return before, os.getpid(), os.getppid(), os.uname().nodename, platform.node(), os.cpu_count()

        world.host("b").environ["ONLY_HERE"] = "b"
        seen = [await world.host(name).start(program) for name in "ab"]
        assert os.environ["BATEAU_TEST_VARIABLE"] == "from the test"
        return seen

    expected = [
        (("from the test", None), 102, 1, "a", "a", 4),
        (("from the test", "b"), 103, 1, "b", "b", 4),
    ]
    assert sim.run(scenario) == expected and sim.run(scenario) == expected
    assert os.environ["BATEAU_TEST_VARIABLE"] == "from the test" and "ONLY_HERE" not in os.environ


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run(["true"]),
        lambda: subprocess.Popen("true", shell=True),
        lambda: os.system("true"),
        lambda: os.popen("true"),
        lambda: os.fork(),
        lambda: os.execv("/bin/true", ["true"]),
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
        lambda: multiprocessing.get_context("fork").Process(target=int).start(),
        lambda: asyncio.run(asyncio.create_subprocess_exec("true")),
    ],
    ids=["run", "Popen", "system", "popen", "fork", "exec", "spawn", "multiprocessing", "asyncio"],
)
def test_starting_real_programs_is_refused(start: Any) -> None:
    with pytest.raises(sim.NotSimulated, match="host"):
        sim.run(start)


def test_there_are_no_children_to_wait_for() -> None:
    with pytest.raises(ChildProcessError):
        sim.run(lambda: os.wait())


def test_a_signal_shows_in_the_story() -> None:
    _, world, _ = in_a_process(lambda log: time.sleep(5), (1, signal.SIGTERM))
    assert any(event.kind == "signal" and "SIGTERM" in event.text for event in world.events)
