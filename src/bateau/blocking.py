"""``block_on``: waiting for async code from sync code, wherever that sync code runs.

Four places, four answers. In plain code, the calling thread's own program: its loop is made at the first call and kept, so
that what one call opened lives on in the next; it is closed when the thread or the interpreter ends. In a function that
``thread.run`` started, the program that started it. Inside a step of a runtime that bateau drives, that runtime's turn is
entered again, so the other tasks go on. Inside a step of a foreign loop (asyncio, trio) there is no way, and the
error says so.
"""

from __future__ import annotations

import os
import sys
from _thread import _local, get_ident
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import Any, TypeVar, TypeVarTuple, overload

from .kernel.cancellation import deliver
from .kernel.coroutines import as_coroutine
from .kernel.current import current_task_or_none
from .kernel.engine import Engine
from .kernel.errors import Cancelled, CancelRecord, Deadlock, NestedRun, user_site
from .kernel.hazard import report
from .kernel.operation import ABORTED, NEW, Operation
from .kernel.task import Task
from .kernel.twin import Children
from .runtimes import registry
from .runtimes.base import Runtime, Session

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@overload
def block_on(fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts, runtime: str | Runtime | None = None) -> T: ...
@overload
def block_on(fn: Awaitable[T], /, *, runtime: str | Runtime | None = None) -> T: ...
def block_on(fn: Any, /, *args: Any, runtime: str | Runtime | None = None) -> Any:  # type: ignore[misc]  # mypy and *Ts
    """Wait, in sync code, for ``await fn(*args)`` (or for an awaitable) and return its value or raise its error.

    In plain code it runs on this thread's own loop, which stays open for the next call (and on ``runtime``, a name or an object; None:
    the default). In a function of ``thread.run`` it runs in the program that started that. In a sync function called by a
    task on a runtime that bateau drives, the other tasks go on meanwhile; where it really had to wait, the hazard
    ``nested_block_on`` is reported, since the calling task can do nothing else until then. Raises ``NestedRun`` inside a
    step of asyncio or trio. Blocks the thread; if the calling task is cancelled, it raises ``Cancelled``.
    """
    site = user_site(sys._getframe(1))
    task = current_task_or_none()
    if task is not None and isinstance(task.host, Engine) and hasattr(task.host, "advance"):
        return _nested(task.host, task, fn, args, runtime, site)
    problem = _foreign_step(task)
    if problem is not None:
        _dispose(fn)
        raise NestedRun(problem)
    if runtime is None:
        jobs = sys.modules.get("bateau.thread.jobs")
        if jobs is not None and jobs.in_worker():
            try:
                return jobs.state.job.ask(lambda: as_coroutine(fn, args))
            finally:
                _dispose(fn)  # if it was refused: its caller has been cancelled
    return _plain(fn, args, runtime)


# -- on a thread of its own ----------------------------------------------------------------------------------------------


class _Sessions:
    """The loops that ``block_on`` keeps open on one thread, by runtime.

    Invariant: an open session is used by its own thread and process only.
    """

    def __init__(self) -> None:
        self.open: dict[Runtime, Session] = {}
        self.busy = False
        self._pid = os.getpid()
        self._thread = get_ident()

    def of(self, runtime: Runtime) -> Session:
        """The open session of ``runtime``, made if there is none."""
        if self._pid != os.getpid():
            self.open.clear()  # a fork: the parent's loops are the parent's
            self._pid = os.getpid()
        session = self.open.get(runtime)
        if session is None:
            session = self.open[runtime] = runtime.open()
            session.keep_leftovers = True
        return session

    def close(self) -> None:
        """Close every loop. From their own thread."""
        if self._pid != os.getpid():
            return
        while self.open:
            _, session = self.open.popitem()
            session.close()

    def __del__(self) -> None:
        """The thread ends, and drops its locals."""
        if not self.open or get_ident() != self._thread:
            return
        active = getattr(sys.modules.get("threading"), "_active", {})
        known = self._thread in active
        self.close()
        if not known:
            # ``threading`` has crossed this thread off already; who asks it for the current one now makes it list a dummy
            # for ever (asyncio's runner asks).
            active.pop(self._thread, None)


class _ThreadState(_local):
    sessions: _Sessions | None = None


_state = _ThreadState()


def close_thread() -> None:
    """Close the loops that ``block_on`` keeps open on this thread, now instead of at its end. Not inside ``block_on``."""
    sessions, _state.sessions = _state.sessions, None
    if sessions is None:
        return
    if sessions.busy:
        _state.sessions = sessions
        raise RuntimeError("close_thread() was called inside block_on, whose loop it would close")
    sessions.close()


def _plain(fn: Any, args: tuple[Any, ...], runtime: str | Runtime | None) -> Any:
    from .runtimes.program import Program

    chosen = registry.get(runtime)
    sessions = _state.sessions
    if sessions is None:
        sessions = _state.sessions = _Sessions()
        _close_at_exit()
    session = sessions.of(chosen)
    outer, sessions.busy = sessions.busy, True
    try:
        return Program(chosen, session.host).run(session, _call, (fn, args))
    finally:
        sessions.busy = outer


async def _call(fn: Any, args: tuple[Any, ...]) -> Any:
    return await as_coroutine(fn, args)


def _close_at_exit() -> None:
    """The main thread's locals are dropped too late for a loop to be closed in order; other threads' are not.

    A worker thread goes on to somebody else's function: there the loop ends with the function that opened it.
    """
    import atexit

    jobs = sys.modules.get("bateau.thread.jobs")
    if jobs is not None and jobs.in_worker():
        jobs.state.at_end = close_thread
        return
    if "threading" in sys.modules and sys.modules["threading"].main_thread().ident != get_ident():
        return
    atexit.unregister(close_thread)
    atexit.register(close_thread)


# -- inside a step -------------------------------------------------------------------------------------------------------


def _nested(
    engine: Any, caller: Task[Any], fn: Any, args: tuple[Any, ...], runtime: str | Runtime | None, site: tuple[str, int]
) -> Any:
    """Turn the engine until a child of ``caller`` has run ``fn``. ``caller`` itself stays in the middle of its step."""
    if runtime is not None and registry.get(runtime).name != engine.name:
        _dispose(fn)
        raise NestedRun(
            f"block_on(runtime={registry.get(runtime).name!r}) inside task {caller.name!r} of {engine.describe()}: "
            "this thread is that runtime's; leave `runtime` out, or run it in a thread: "
            "await bateau.thread.run(bateau.block_on, fn)"
        )
    child: Task[Any] = Task(
        engine, as_coroutine(fn, args), name=f"block_on in {caller.name}", site=site, context=copy_context()
    )
    _adopt(engine, child, caller)
    outer_main, engine.main = engine.main, child
    try:
        with engine.nested(caller):
            _drive(engine, child, caller, site)
    finally:
        engine.main = outer_main
    error = child._error
    child.error_seen = True
    if error is None:
        return child._value
    if isinstance(error, Cancelled) and caller.node.effective is None:
        return child.outcome().unwrap()  # cancelled by itself, not with its caller: raises TaskCancelled
    raise error


def _adopt(engine: Any, child: Task[Any], caller: Task[Any]) -> None:
    """Put the child under the innermost node of its caller, so that cancelling the caller reaches it."""
    node = caller.node
    child.parent = node
    if node.children is None:
        node.children = Children()
    node.children[child] = None
    child.effective = node.effective
    child.stopping = node.stopping
    engine.spawn_root(child)
    if child.effective is not None:
        deliver(child)


def _drive(engine: Any, child: Task[Any], caller: Task[Any], site: tuple[str, int]) -> None:
    reported = False
    deadlock: Deadlock | None = None
    try:
        while not child.ended:
            if not reported and child.waiting is not None:
                reported = True
                _report_wait(engine, child, caller, site)
            try:
                engine.advance()
            except Deadlock as error:
                if deadlock is not None:
                    raise deadlock from None
                deadlock = error
                child._cancel(CancelRecord("deadlock", task_name=child.name, cause=error))
    except BaseException:
        if not child.ended:  # a KeyboardInterrupt in the middle of a turn: the child must not outlive the call
            child._cancel(CancelRecord("block_on was interrupted", task_name=caller.name))
        raise
    if deadlock is not None and (child._error is None or isinstance(child._error, Cancelled)):
        raise deadlock


def _report_wait(engine: Any, child: Task[Any], caller: Task[Any], site: tuple[str, int]) -> None:
    runnable: list[str] = []
    blocked: list[str] = []
    for task in _all_tasks(engine):
        if task is child or task is caller or task.ended:
            continue
        if task.waiting is None:
            runnable.append(task.name)
        else:
            blocked.append(f"{task.name} ({task.waiting.describe()})")
    beside = "; ".join(
        f"{title}: {_some(names)}" for title, names in (("runnable", runnable), ("blocked", blocked)) if names
    )
    assert child.waiting is not None
    report(
        "nested_block_on",
        f"task {caller.name!r} called block_on and waits in it: {child.waiting.describe()}. Other tasks go on, this one and those "
        f"that wait for it can't ({beside or 'no other task'}). Make the function between them async and await it",
        site,
    )


def _all_tasks(engine: Any) -> list[Task[Any]]:
    found: list[Task[Any]] = []
    todo: list[Any] = list(engine.roots)
    for node in todo:
        if isinstance(node, Task) and node not in found:
            found.append(node)  # pyright: ignore[reportUnknownArgumentType]  # of whatever
        todo.extend(node.children or ())
    return found


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# -- where it can't work -------------------------------------------------------------------------------------------------


def _foreign_step(task: Task[Any] | None) -> str | None:
    """Why block_on can't work here: a foreign loop is in the middle of a step on this thread. None if there is none."""
    fix = (
        "Make the calling function async and `await` instead; or call the sync code with `await bateau.thread.run(fn)`, "
        "where block_on works; or use runtime='native'"
    )
    if task is not None:
        return (
            f"block_on would block task {task.name!r} of {task.host.describe()} in the middle of its step, and with it the loop "
            f"that has to do the work. {fix}"
        )
    events = getattr(sys.modules.get("asyncio"), "events", None)
    loop = events._get_running_loop() if events is not None else None
    if loop is not None:
        return f"block_on was called in a callback of the asyncio loop {loop!r} on this thread, which it would block. {fix}"
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    if lowlevel is not None:
        try:
            lowlevel.current_task()
        except RuntimeError:
            return None
        return f"block_on was called inside a trio run on this thread, which it would block. {fix}"
    return None


def _dispose(fn: Any) -> None:
    """The awaitable, if it was not begun, will not be awaited; that is said by the error already."""
    if isinstance(fn, Coroutine):
        fn.close()
    elif isinstance(fn, Operation) and fn.state is NEW:
        fn.state = ABORTED
