"""Simulated processes: a program, its threads, its descriptors, and its end."""

from __future__ import annotations

import inspect
import signal
from _thread import get_ident, get_native_id
from collections import deque
from collections.abc import Callable, Generator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ..kernel.errors import Cancelled
from ..kernel.explain import all_tasks, describe_wait, suspended_at, who
from ..runtimes.program import CrossTask
from .errors import ProcessFailed
from .fds import FdTable
from .sites import standing_at
from .thread import BLOCKED, ENDED, IDLE, Carrier, Killed, SimThread, here

if TYPE_CHECKING:
    from .host import SimHost
    from .runtime import SimEngine


class Process:
    """One program on one host. ``await process`` gives what its main function returned, or raises its error.

    Invariants: ``dead`` once it was killed; from then on none of its code runs while the world does. ``frozen`` is None, or
    holds the threads of it that would be ready. ``ended`` once its main thread has ended, or it was killed.
    """

    def __init__(
        self, host: SimHost, fn: Callable[..., Any] | None, args: tuple[Any, ...], title: str, *, starts: bool = True
    ) -> None:
        world = host.world
        self.host = host
        self.world = world
        self.pid = world.next_pid()
        self.title = title
        self.name = host.name if not host.processes else f"{host.name}/{len(host.processes) + 1}"
        self.fds = FdTable(self)
        self.threads: dict[SimThread, None] = {}
        self.dead = False
        self.ended = False
        self.exit_code: int | None = None
        self.frozen: deque[SimThread] | None = None
        # The engines of bateau programs running in it, for explanations.
        self.engines: list[SimEngine] = []
        # What the parts of the world keep for this process (signal handlers, thread pools), by the part's own name.
        self.parts: dict[str, Any] = {}
        self.handle: CrossTask[Any] = CrossTask(f"process {self.name} ({title})")
        # Exactly one thread runs at any time and none is changed over inside the handle; and a process that is killed where one of
        # its own threads stands must still be able to say so, when a simulated lock would not let it.
        self.handle.mutex = nullcontext()
        self._fn = fn
        self._args = args
        self._thread_count = 0
        host.processes.append(self)
        self.main = self.new_thread("main")
        if starts:
            self.start_thread(self.main, self._run_main)

    # -- threads ---------------------------------------------------------------------------------------------------------

    def new_thread(self, name: str) -> SimThread:
        """A thread of this process that has not started."""
        self._thread_count += 1
        thread = SimThread(self, name, self._thread_count)
        self.threads[thread] = None
        return thread

    def start_thread(self, thread: SimThread, fn: Callable[[], None]) -> None:
        """Make it ready to run ``fn`` on an OS thread of its own."""
        world = self.world

        def job() -> None:
            thread.baton.acquire()
            thread.os_ident, thread.os_native_id = get_ident(), get_native_id()
            here.world = world
            world.take_over(thread)
            try:
                if not (self.dead or world.over):
                    fn()
            except Killed:
                pass
            except BaseException as error:
                world.end_with(error)
            finally:
                self._thread_ended(thread)

        thread.carrier = Carrier(job)
        thread.unblock()

    def _thread_ended(self, thread: SimThread) -> None:
        world = self.world
        thread.state = ENDED
        self.threads.pop(thread, None)
        for call in thread.on_end:
            call()
        if thread is self.main and not self.dead:
            self._end()
        if world.stuck is not None:
            here.world = None
            return  # there is no baton to hand on any more
        following = world.next_thread()
        here.world = None
        world.thread = following
        world.ending = thread.carrier
        following.baton.release()

    # -- the program -----------------------------------------------------------------------------------------------------

    def _run_main(self) -> None:
        assert self._fn is not None
        self.world.trace("start", f"{self.title} starts on {self.host.name} as process {self.pid}")
        value: Any = None
        error: BaseException | None = None
        try:
            if is_async(self._fn):
                from ..runtimes.registry import get

                value = get("sim").run(self._fn, *self._args)
            else:
                value = awaited(self._fn(*self._args))
        except Killed:
            raise
        except SystemExit as exit_:
            code = exit_.code
            self.exit_code = code if isinstance(code, int) else 0 if code is None else 1
        except BaseException as raised:
            error = raised
            self.exit_code = 1
        if self._is_over():
            return
        error = self._leave(error)
        if self._is_over():
            return
        if isinstance(error, KeyboardInterrupt):  # which ends the process, and is nobody's but its own
            self.terminate(-signal.SIGINT, "is ended by Ctrl-C")
            return
        self._settle(value, error)

    def _is_over(self) -> bool:
        """Whether nothing that it does counts any more."""
        return self.dead or self.world.over

    def _leave(self, error: BaseException | None) -> BaseException | None:
        """The program's function has ended: let the parts do what the interpreter does before its exit. The error of the process."""
        for part in tuple(self.parts.values()):
            leaving = getattr(part, "process_leaving", None)
            if leaving is not None:
                try:
                    leaving()
                except Killed:
                    raise
                except BaseException as raised:
                    error = error or raised
        return error

    def _settle(self, value: Any, error: BaseException | None) -> None:
        self.exit_code = self.exit_code or 0
        said = f"ends with {error!r}" if error is not None else f"ends ({self.exit_code})"
        self.world.trace("exit", f"{self.title} {said}")
        if error is not None and not self.handle.watched:
            if isinstance(error, Cancelled):
                error = None  # it was asked to stop
            else:
                failed = ProcessFailed(f"process {self.name} ({self.title}) failed and nobody waited for it: {error!r}")
                failed.__cause__ = error
                self.handle.watched = True
                self.world.end_with(failed)
        self.handle.settle(value, error)

    def _end(self) -> None:
        """The main thread has ended, and with it the process: its other threads (daemons) stop where they are."""
        self.ended = True
        self._drop(self.exit_code or 0)

    def _drop(self, code: int) -> None:
        self.exit_code = code
        self.dead = True
        self.ended = True
        for thread in self.threads:
            if thread.state is not ENDED and thread is not self.world.thread:
                thread.state = BLOCKED
                thread.waits_for = "nothing: its process has ended"
                thread.forget()
        ready = self.world.ready
        for thread in [thread for thread in ready if thread.process is self]:
            ready.remove(thread)
        self.fds.close_all()
        for part in self.parts.values():
            ended = getattr(part, "process_ended", None)
            if ended is not None:
                ended()

    def kill(self, *, traced: bool = True) -> None:
        """Stop it as ``kill -9`` does: nothing of its code runs any more, its descriptors are closed by the system.

        Awaiting it raises ``TaskCancelled``.
        """
        if self.ended:
            return
        if traced:
            self.world.trace(
                "kill", f"process {self.name} ({self.title}) is killed", host=self.host.name, actor=self.name
            )
        self._die(-signal.SIGKILL)

    def signal(self, signum: int) -> None:
        """Send it a signal, as ``kill`` of the shell does: its handler runs in its main thread, or the system does what it does by itself
        (end it, stop it, go on, nothing). A process that has ended gets nothing. Raises ``ValueError`` for what is no signal.
        """
        from .signals import send

        if self.is_alive():
            send(self, signum)

    def terminate(self, code: int, said: str) -> None:
        """End it at once with that exit code, without any cleanup of its own. Awaiting it raises ``TaskCancelled`` unless ``code`` is 0
        or more. Does not return in a thread of this process.
        """
        self.world.trace("exit", f"process {self.name} ({self.title}) {said}", host=self.host.name, actor=self.name)
        self._die(code)
        if self.world.thread.process is self and not self.world.in_event:
            self.world.before_call(self.world.thread)

    def _die(self, code: int) -> None:
        if self is self.world.director:
            raise RuntimeError("the test itself can't be killed; end the scenario instead")
        # The system does it, not a thread: where one of its own threads is the one that runs, it must come to the end of this.
        world = self.world
        outer, world.in_event = world.in_event, True
        try:
            for engine in self.engines:
                engine.bury()
            self._drop(code)
            self.handle.watched = True
            self.handle.settle(None, Cancelled() if code < 0 else None)
        finally:
            world.in_event = outer

    def freeze(self) -> None:
        """Stop it as ``SIGSTOP`` does, until ``thaw``."""
        if self.frozen is None and self.is_alive():
            self.world.trace("freeze", f"process {self.name} stands still", host=self.host.name, actor=self.name)
            self.frozen = deque(thread for thread in self.world.ready if thread.process is self)
            for thread in self.frozen:
                self.world.ready.remove(thread)

    def thaw(self) -> None:
        """Let it go on."""
        if self.frozen is not None:
            self.world.trace("thaw", f"process {self.name} goes on", host=self.host.name, actor=self.name)
            frozen, self.frozen = self.frozen, None
            self.world.ready.extend(frozen)
            for part in tuple(self.parts.values()):
                thawed = getattr(part, "process_thawed", None)
                if thawed is not None:
                    thawed()

    def is_alive(self) -> bool:
        """Whether it has neither ended nor been killed."""
        return not self.ended and not self.dead

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.handle.__await__()

    def explain(self) -> list[str]:
        """Who waits on what in it, in lines."""
        lines = [f"process {self.name} ({self.title}) on host {self.host.name}:"]
        for engine in self.engines:
            lines.extend("  " + _told(task) for task in all_tasks(engine.roots) if not task.ended)
        for part in self.parts.values():
            explain = getattr(part, "explain", None)
            if explain is not None:
                lines.extend(explain())
        for thread in self.threads:
            if thread.state is BLOCKED and thread.waits_for not in {"poll", IDLE}:
                site = standing_at(thread.os_ident)
                where = f" at {site[0]}:{site[1]} in {site[2]}" if site is not None else ""
                lines.append(f"  thread {thread.name!r}{where} waits: {thread.waits_for}")
        return lines

    def actor(self, thread: SimThread) -> str:
        """Who ``thread`` is in stories: its process, and its own name unless it is the only one."""
        return self.name if thread is self.main else f"{self.name}:{thread.name}"

    def __repr__(self) -> str:
        state = "dead" if self.dead else "ended" if self.ended else "frozen" if self.frozen is not None else "alive"
        return f"<Process {self.name} {self.title!r} {state}>"


def _told(task: Any) -> str:
    """What a task waits on; or that it is ready, as every task may be where a run is told before its end."""
    if not task.scheduled:
        return describe_wait(task)
    site = suspended_at(task)
    return f"{who(task.name, site)} is ready" + (": it goes on when it is its turn" if site is not None else "")


def awaited(value: Any) -> Any:
    """What a program returned; if that is to be awaited (``lambda: main()``), it is, on the ``sim`` runtime."""
    if not hasattr(value, "__await__"):
        return value
    from .runtime import SimRuntime

    async def program() -> Any:
        return await value

    return SimRuntime().run(program)


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling ``fn`` gives something to be awaited, as far as can be seen from outside."""
    return inspect.iscoroutinefunction(inspect.unwrap(getattr(fn, "func", fn)))
