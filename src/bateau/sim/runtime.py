"""The ``sim`` runtime: the native engine over a simulated operating system, with its order of tasks chosen by a strategy.

Inside a world it runs one program of one process. Outside any it makes a world of its own with one host, so that
``bateau.run(main, runtime="sim")`` works as on any other runtime (seed: ``BATEAU_SEED``, else 0).
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident, get_native_id
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..kernel.current import tls
from ..kernel.engine import PARK, TURN_BUDGET
from ..kernel.explain import all_tasks, suspended_at
from ..kernel.task import last_number
from ..kernel.timers import Timers, TimersOfAWorld
from ..kernel.twin import twinned
from ..runtimes.base import Runtime
from ..runtimes.native import NativeEngine, NativeSession
from ..runtimes.native_bridge import asyncio_is_ready
from .fds import IN, OUT, Poller
from .thread import Killed, here
from .world import World

if TYPE_CHECKING:
    from ..kernel.task import Task
    from .process import Process

T = TypeVar("T")


class SimReactor(Poller):
    """What ``native.Reactor`` is, over simulated descriptors: the driver of a ``SimEngine``.

    Invariant: ``awake`` is set from ``wake`` until the next poll, which then does not wait.
    """

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self.now = process.host.clock.monotonic
        self.engine: SimEngine | None = None
        self.awake = False
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}

    def wake(self) -> None:
        """End a poll that waits, or make the next one return at once."""
        self.awake = True
        self.became_ready()

    def poll(self, timeout: float | None) -> None:
        """Wait at most ``timeout`` seconds of the host's clock (None: for ever) and call what is ready."""
        if self.awake:
            timeout = 0
        deadline = None
        if timeout:
            # Exactly when the engine's first timer is due, where that is what is waited for: rounding must not wake it early.
            first = self.engine._next_timer() if self.engine is not None else None
            clock = self.process.host.clock
            if first is not None and abs(first - self.now() - timeout) < 1e-9:
                deadline = clock.world_time_at(first)
            else:
                deadline = clock.world_time_after(timeout)
        ready = self.wait("poll", timeout, deadline)
        self.awake = False
        for fd, mask in ready:
            if mask & ~OUT and (reader := self._readers.get(fd)) is not None:
                reader()
            if mask & ~IN and (writer := self._writers.get(fd)) is not None:
                writer()

    def watch(self, table: dict[int, Callable[[], None]], fd: int, fn: Callable[[], None]) -> None:
        """Add or replace the callback of ``fd`` in ``table`` (readers or writers)."""
        new = fd not in table
        table[fd] = fn
        try:
            self._update(fd)
        except BaseException:
            if new:
                del table[fd]
            raise

    def unwatch(self, table: dict[int, Callable[[], None]], fd: int) -> None:
        """Take ``fd`` out of ``table``."""
        if table.pop(fd, None) is not None and fd in self.registered:
            self._update(fd)

    def _update(self, fd: int) -> None:
        interest = (IN if fd in self._readers else 0) | (OUT if fd in self._writers else 0)
        if fd not in self.registered:
            self.register(fd, interest)
        elif interest:
            self.modify(fd, interest)
        else:
            self.unregister(fd)

    def watched(self) -> list[int]:
        """The fds that may still bring something: none is said to, since the world itself knows when nothing can."""
        return sorted(self.registered)

    def is_awaited(self, own: int) -> bool:
        """Whether another fd than ``own`` may still bring something to this process."""
        return any(fd != own for fd in self.registered)


@twinned("turn", "_run_ahead")
class SimEngine(NativeEngine):
    """The kernel's engine in a simulated process.

    The twin makes its turns, unless the strategy follows what is done inside of steps: then all is pure Python, which it knows.
    """

    name = "sim"
    resumes_directly = False  # what is left of the dead is closed by its coroutines, whole

    def __init__(self, process: Process) -> None:
        self.process = process
        self.world = process.world
        self.clock = process.host.clock
        reactor = self.simulated = SimReactor(process)
        super().__init__(reactor=cast("Any", reactor))  # it has all of the reactor's methods, over other descriptors
        if self.world.strategy is not None and self.world.strategy.watches:
            self.ready = deque()
        self.thread_id = self.world.thread.ident
        reactor.engine = self
        number = f":{len(process.engines) + 1}" if process.engines else ""
        self.stream = f"tasks {process.name}{number}"
        self.yields = f"yields {process.name}{number}"
        process.engines.append(self)
        self.first_id = process.world.first_task_id
        # For stepping through a run: called with the task after each step.
        self.after_step: Callable[[Any], None] | None = self._note_step if self.world.detailed else None

    def make_timers(self) -> Timers:
        return TimersOfAWorld()

    def wall_time(self) -> float:
        return self.process.host.clock.wall()

    def advance(self) -> None:
        if self.aio is not None or asyncio_is_ready():
            super().advance()
        else:
            self._run_ahead()
            self._poll()

    def _run_ahead(self) -> None:
        """A turn; the twin makes more of them, as long as ``_poll`` would do nothing but let time go on to the next timer."""
        self.turn()

    def turn(self, budget: int = TURN_BUDGET) -> None:
        """As the engine's own, with the order chosen, and the world told of each step."""
        self._run_calls()
        self._run_timers()
        ready, world, process = self.ready, self.world, self.process
        strategy, yields = world.strategy, world.yields
        soon, soon_outside = self.now() + world.stall, world.now + world.stall
        while ready and budget:
            budget -= 1
            if strategy is not None:
                n = len(ready)
                timer, events = self._next_timer(), world._heap
                may_wait = bool((timer is not None and timer <= soon) or (events and events[0].when <= soon_outside))
                if n > 1 or may_wait:
                    index = world.choose_step(self.stream, ready, may_wait)
                    if index >= n:
                        world.let_time_pass(self._first_timer())
                        return
                else:
                    index = 0
                    if strategy.follows:
                        strategy.only(self.stream, ready[0])
                if index:
                    task = ready[index]
                    del ready[index]
                else:
                    task = ready.popleft()
            else:
                task = ready.popleft()
            if yields and world.chance(self.yields, yields):
                task.budget = 0
            self._step_one(task)
            if self.after_step is not None:
                self.after_step(task)
            world.stepped(process, task)
            if world.over or process.dead:
                world.before_call(world.thread)

    def _note_step(self, task: Task[Any]) -> None:
        """For the story: what the task did, and where it stands now."""
        if task.ended:
            error = task._error
            text = "ends" if error is None else f"ends with {error!r}"
            site = None
        else:
            site = suspended_at(task)
            waits = task.waiting
            text = (
                waits.describe()
                if waits is not None
                else "lets the others run"
                if task.scheduled
                else "waits outside bateau"
            )
        process = self.process
        self.world.note(
            "step", text, host=process.host.name, actor=f"{process.name}:{task.name}", site=site, task=task.name
        )

    def _step_one(self, task: Any) -> None:
        # ``step`` written out for the common case, as in ``Engine.turn``.
        if (
            task.ended
            or task.throwing is not None
            or self.on_step is not None
            or self._mid_step
            or self.instrument is not None
        ):
            self.step(task)
            del task  # see below
            return
        running = tls.running
        outer, running.task = running.task, task
        task.scheduled = False
        send = task.send
        try:
            if not send:
                send = task.coro.send
            trap = task.context.run(send, None)
        except BaseException as error:
            running.task = outer
            self._raised(task, error)
            del task, send  # from 3.12 on the frames in the traceback lead to this one: a cycle otherwise
            return
        running.task = outer
        task.send = send
        if trap is not PARK or task.throwing is not None:
            self._trapped(task, trap)

    def _first_timer(self) -> float | None:
        when = self._live_timer()
        return self.clock.world_time_at(when) if when is not None else None

    def is_stuck(self) -> bool:
        # A world of one thread is stuck when its only process is; else only the world itself can tell (``World.next_thread``).
        if self.process is not self.world.director or len(self.process.threads) > 1 or self._others_live():
            return False
        return super().is_stuck() and self.world.next_event() is None

    def _others_live(self) -> bool:
        return any(
            process.is_alive()
            for host in self.world.hosts.values()
            for process in host.processes[:]
            if process is not self.process
        )

    def asyncio_side(self) -> Any:
        from .asyncio_side import SimAsyncioSide

        return SimAsyncioSide(self)

    def bury(self) -> None:
        """Its process was killed: no task of it is stepped again, and their coroutines stay as they are until the world has ended."""
        if self._closed:
            return
        self._closed = True
        if self.aio is not None:
            from .doors.burying import rest_asyncio

            rest_asyncio(self.aio.loop, self.world)
        for task in all_tasks(self.roots):
            if task.coro is not None and not task.ended:
                self.world.graveyard.append(task)
        self.world.graveyard.extend(self.roots)
        self.ready.clear()
        self._inbox.clear()
        self._soon.clear()


class SimRuntime(Runtime):
    """A simulated world whose time, order and faults are decided by a seed; for tests (see the module's head)."""

    name = "sim"
    features = frozenset({"asyncio", "deadlock_detection", "nested_block_on", "fds"})
    _program: Any = None

    def __getattribute__(self, name: str) -> Any:
        # The program that ``spawn`` spawns into. There is one runtime object, and a program of it in each process.
        if name == "_program" and here.world is not None:
            found = here.world.thread.process.parts.get("program")
            if found is not None:
                return found
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_program" and here.world is not None:
            here.world.thread.process.parts["program"] = value
        else:
            super().__setattr__(name, value)

    def open(self) -> SimSession:
        world = here.world
        if world is not None:
            return SimSession(SimEngine(world.thread.process))
        given = os.environ.get("BATEAU_SEED", "0")
        try:
            seed = int(given)
        except ValueError:
            raise ValueError(f"BATEAU_SEED is a whole number, not {given!r}") from None
        return SimSession(None, seed=seed)


class SimSession(NativeSession):
    """One program in a process; or, where there is no world, one with a world of its own."""

    def __init__(self, engine: SimEngine | None, *, seed: int = 0) -> None:
        self._own: World | None = None
        if engine is None:
            self._own = World(seed)
            process = begin(self._own)
            # What is made outside its runs, and used in them, must take them for the same thread and process.
            process.main.ident, process.pid = get_ident(), os.getpid()
            engine = SimEngine(process)
        self.world = engine.world
        self.simulated = engine
        super().__init__(engine)

    def run(self, root: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._own is None:
            return self._run(root)
        from .doors import opened

        with opened(), self._own.entered():
            return self._run(root)

    def _run(self, root: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return super().run(root)
        except Killed:
            self.simulated.bury()
            raise

    def close(self) -> None:
        engine = self.simulated
        if self._own is None:
            self._close()
        elif not self._own.closed:
            from .doors import opened

            with opened(), self._own.entered():
                try:
                    self._close()
                finally:
                    self._own.close()
        if engine in engine.process.engines:
            engine.process.engines.remove(engine)

    def _close(self) -> None:
        engine = self.simulated
        if engine.process.dead or self.world.over:
            engine.bury()
            if engine.aio is not None:
                self.world.graveyard.extend(engine.aio.discard())
        else:
            super().close()


def begin(world: World, title: str = "test", host: str = "test") -> Process:
    """Make the director: the process of the test, whose main thread is the calling one."""
    from .process import Process
    from .thread import RUNNING

    world.first_task_id = last_number()
    director = world.director = Process(world.host(host), None, (), title, starts=False)
    director.main.state = RUNNING
    director.main.os_ident, director.main.os_native_id = get_ident(), get_native_id()
    world.thread = director.main
    logging: Any = sys.modules.get("logging")
    if logging is not None:
        # Which levels are enabled is remembered under a lock, by the first who asks: that must be somebody of each run.
        logging.Logger.manager._clear_cache()
    return director
