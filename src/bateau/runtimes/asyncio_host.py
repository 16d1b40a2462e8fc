"""The host that rides on asyncio's own tasks, for any loop: asyncio's, uvloop's, a third party's.

Theory of operation. Each bateau task is an ``asyncio.Task``. Our operations park on a fresh future of the loop, so waking
is ``set_result``. Cancelling a task parked in one of our operations needs no native cancellation: the operation is aborted
and wakes. Only a wait on something foreign gets ``asyncio.Task.cancel()``, at most once per cancelled scope, and always
from a loop callback, when the task is known to be suspended: then the ``CancelledError`` is thrown at the very point where
it is suspended, and none can be left over to hit something later. What a scope gave is taken back (``uncancel``) when the
scope is left, and a cancellation that came from foreign code meanwhile is never absorbed: ``cancelling()`` tells.
"""

from __future__ import annotations

import asyncio
import os
import sys
from _thread import get_ident
from asyncio import events, tasks
from collections.abc import Callable, Coroutine, Generator
from typing import Any, cast
from weakref import WeakKeyDictionary, proxy, ref

from ..kernel.cancellation import CancelNode
from ..kernel.errors import Cancelled, CancelRecord
from ..kernel.hazard import report
from ..kernel.host import Host, Timer
from ..kernel.task import Task

# For loops without a ``__dict__``; the others carry their host as ``_bateau_host``, and are freed with it.
_hosts: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncioHost] = WeakKeyDictionary()
# For task classes without a ``__dict__``; the others carry their record as ``_bateau``.
_slotted: WeakKeyDictionary[Any, Task[Any]] = WeakKeyDictionary()


def adopt_cancelled_error() -> None:
    """Make ``except bateau.Cancelled`` match asyncio's exact type, which stays what asyncio compares with ``is``."""
    if not issubclass(asyncio.CancelledError, Cancelled):
        asyncio.CancelledError.__bases__ = (Cancelled,)


def host_of(loop: Any) -> AsyncioHost:
    """The one host of ``loop``."""
    try:
        known: AsyncioHost = loop._bateau_host
        return known
    except AttributeError:
        host = _hosts.get(loop)
    if host is None:
        host = AsyncioHost(loop)
        try:
            loop._bateau_host = host
        except AttributeError:
            host.loop = cast("Any", proxy(loop))  # or the entry would keep its own key alive
            _hosts[loop] = host
    return host


def _find_by_asking() -> Task[Any] | None:
    """The record of the asyncio task running on this thread; None outside any."""
    loop = events._get_running_loop()
    if loop is None:
        return None
    native: Any = _native_of(loop)  # Any: ours carry a ``_bateau``
    if native is None:
        return None
    try:
        record: Task[Any] = native._bateau
        return record
    except AttributeError:
        found = _slotted.get(native)
        return found if found is not None else _adopt(loop, native)


# asyncio's private parts, which the stubs don't show.
_tasks: Any = tasks
_native_of: Callable[[Any], Any] = tasks.current_task
# By thread: the loop that was found there last.
_last: dict[int, ref[Any]] = {}


def _find_in_last_loop() -> Task[Any] | None:
    """``_find_by_asking`` for Python 3.11, where asyncio names the running loop by way of a system call.

    Every operation asks. So where the last loop says that it runs on this thread, and a task of it is in the middle of a step,
    that is proof enough. Loops that don't say (uvloop's) are asked for each time.
    """
    thread = get_ident()
    last = _last.get(thread)
    if last is not None:
        loop = last()
        if loop is not None and loop._thread_id == thread:
            native = _native_of(loop)
            if native is not None:
                try:
                    record: Task[Any] = native._bateau
                    return record
                except AttributeError:
                    return _find_by_asking()
    task = _find_by_asking()
    running = events._get_running_loop()
    if task is not None and isinstance(running, asyncio.BaseEventLoop):
        _last[thread] = ref(running, lambda _: _last.pop(thread, None) and None)
    return task


# The record of the asyncio task running on this thread, made when it is first asked for.
if sys.version_info < (3, 12) and hasattr(_tasks, "_current_tasks"):
    _native_of = _tasks._current_tasks.get  # what ``current_task`` returns, without the two calls of Python code
    find_current_task: Callable[[], Task[Any] | None] = _find_in_last_loop
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_last.clear)  # the parent's loop does not run in the child
else:
    find_current_task = _find_by_asking


def _adopt(loop: asyncio.AbstractEventLoop, native: Any) -> Task[Any]:
    task: Task[Any] = Task(host_of(loop), None, name=native.get_name())
    task.started = True
    task.scheduled = True
    _bind(native, task)
    native.add_done_callback(_adopted_ended)
    return task


def _adopted_ended(native: Any) -> None:
    """Tell who waits for the end of an adopted task, and cut the cycle between it and its record, which nobody else would."""
    task: Task[Any] | None = getattr(native, "_bateau", None) or _slotted.pop(native, None)
    if task is not None:
        task.host_task = task.parked = None
        task.finish(None, None)


def _bind(native: Any, task: Task[Any]) -> None:
    task.host_task = native
    try:
        native._bateau = task
    except AttributeError:
        _slotted[native] = task


def _must_cancel(native: Any) -> bool:
    """Whether a cancellation is on its way to a task that waits for no future."""
    return bool(getattr(native, "_must_cancel", False))


class AsyncioHost(Host):
    """See the module's head. On this host ``task.scheduled`` means: its first step has begun."""

    name = "asyncio"
    rides = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        adopt_cancelled_error()
        self.loop = loop
        self.thread_id = get_ident()
        self.name = "uvloop" if type(loop).__module__.startswith("uvloop") else "asyncio"
        # A native engine that is also an asyncio loop says so, and shares its home.
        self.domain = getattr(loop, "bateau_domain", self)
        self._to_poke: dict[Task[Any], None] = {}

    # -- the five operations -------------------------------------------------------------------------------------------

    def current(self) -> Task[Any] | None:
        return find_current_task()

    def park(self, task: Task[Any]) -> Any:
        future = self.loop.create_future()
        future._asyncio_future_blocking = True  # what ``await future`` would set; we yield it ourselves
        task.parked = future
        if self.instrument is not None:
            self.instrument.park(task)
        return future

    def wake(self, task: Task[Any]) -> None:
        future = task.parked
        if future is not None and not future.done():
            if self.instrument is not None:
                self.instrument.wake(task)
            future.set_result(None)

    def deliver(self, task: Task[Any]) -> None:
        if not self._to_poke:
            self.loop.call_soon(self._poke)
        self._to_poke[task] = None

    def enter_node(self, node: CancelNode) -> None:
        assert node.task is not None
        node.host_data = node.task.host_task.cancelling()

    def leave_node(self, node: CancelNode, exc: BaseException | None) -> bool | None:
        assert node.task is not None
        native = node.task.host_task
        if native is None:
            return None  # its task has ended, and left it open
        while node.given:
            node.given -= 1
            native.uncancel()
        if isinstance(exc, Cancelled) and native.cancelling() > node.host_data:
            return False
        return None

    # -- native cancellation -------------------------------------------------------------------------------------------

    def _poke(self) -> None:
        """Runs as a loop callback: every task is suspended (or has ended)."""
        pending, self._to_poke = self._to_poke, {}
        for task in pending:
            if task.ended or task.waiting is not None or task.node.effective is None:
                continue  # ended, cancelled by way of our own operation, or out of the cancelled scope already
            waiter = getattr(task.host_task, "_fut_waiter", None)
            if not task.scheduled or (waiter.done() if waiter is not None else _must_cancel(task.host_task)):
                # Its next step stands in the loop's queue before this callback's next turn. That step gets what it waited for
                # (a value, or another's cancellation, which must keep its own message for who sent it to know it).
                self.deliver(task)
                continue
            holder = outermost_cancelled(task)
            if holder is not None and not holder.given:
                holder.given += 1
                task.host_task.cancel(msg=task.node.effective)

    def cancelled_type(self) -> type[BaseException]:
        return asyncio.CancelledError

    def cancel_native(self, node: CancelNode) -> None:
        """There is no native tree to mirror in."""

    def rearm(self, task: Task[Any], exc: BaseException) -> None:
        if not isinstance(exc, asyncio.CancelledError):
            raise exc
        # Not ``cancel()`` at once: before 3.13 that stays pending even if it is taken back, and would hit what comes next.
        self.loop.call_soon(self._throw_again, task, exc, task.host_task.cancelling())

    @staticmethod
    def _throw_again(task: Task[Any], exc: BaseException, count: int) -> None:
        """Runs as a loop callback: the task is suspended (or has ended). The count stays the same; where it has gone down,
        who cancelled has taken it back (a timeout whose block was left meanwhile), and nothing is due.
        """
        native = task.host_task
        if native is not None and not native.done() and native.cancelling() >= count > 0:
            native.uncancel()
            native.cancel(*exc.args[:1])

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def start(self, task: Task[Any]) -> None:
        assert task.coro is not None
        main = _main(task, task.coro)
        main.send(None)
        _bind(NativeTask(main, loop=self.loop, name=task.name, context=task.context), task)

    # -- services ------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self.loop.time()

    def call_at(self, when: float, fn: Callable[[], None]) -> Timer:
        return self.loop.call_at(when, fn)

    def call_soon(self, fn: Callable[[], None]) -> None:
        self.loop.call_soon(fn)

    def call_threadsafe(self, fn: Callable[[], None]) -> None:
        self.loop.call_soon_threadsafe(fn)

    def add_reader(self, fd: int, fn: Callable[[], None]) -> None:
        self.loop.add_reader(fd, fn)

    def remove_reader(self, fd: int) -> None:
        if not self.loop.is_closed():
            self.loop.remove_reader(fd)

    def add_writer(self, fd: int, fn: Callable[[], None]) -> None:
        self.loop.add_writer(fd, fn)

    def remove_writer(self, fd: int) -> None:
        if not self.loop.is_closed():
            self.loop.remove_writer(fd)


def cancel_leftovers(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    """The program has ended: cancel and report the tasks of foreign ``create_task``, which are roots outside every scope.

    Returns them; the caller drives them to their end. The children of our scopes inside them are ended by their scopes.
    """
    found: list[asyncio.Task[Any]] = []
    for native in asyncio.all_tasks(loop):
        if native is tasks.current_task(loop):
            continue
        ours: Task[Any] | None = getattr(native, "_bateau", None) or _slotted.get(native)
        if ours is not None and ours.scope is not None:
            continue
        code = getattr(native.get_coro(), "cr_code", None)
        if (
            ours is None or not ours.background
        ):  # a root of ours in the background (what a pipeline was left with) is as it should be
            report(
                "leftover_task",
                f"the program ended while asyncio task {native.get_name()!r} was still running; it is cancelled now. "
                "Spawn it in a scope, or await it",
                (code.co_filename, code.co_firstlineno) if code is not None else ("<unknown>", 0),
            )
        native.cancel("the program has ended")
        found.append(native)
    return found


def report_leftovers(ended: list[asyncio.Task[Any]]) -> None:
    """They have ended. Nobody awaits them, so their failures are told here."""
    for native in ended:
        error = None if native.cancelled() else native.exception()
        if error is not None:
            code = getattr(native.get_coro(), "cr_code", None)
            site = (code.co_filename, code.co_firstlineno) if code is not None else ("<unknown>", 0)
            report("unretrieved_error", f"the leftover asyncio task {native.get_name()!r} failed with {error!r}", site)


class NativeTask(asyncio.Task[None]):
    """What a task of ours is to asyncio.

    While the loop runs, ``cancel`` is asyncio's: its timeouts and task groups need that. Called while it does not run, it comes from
    who ends the program (``asyncio.run`` and its like cancel all that is left, once, and wait for it). A ``CancelledError`` at
    wherever each task happens to be would cut cleanups that are shielded. So the children of our scopes are cancelled as by their
    scope: for good, but not through a shield. Who holds that shield is cancelled as well, and ends them, within its budget.
    """

    __slots__ = ()

    def cancel(self, msg: Any = None) -> bool:
        """As ``asyncio.Task.cancel``; see above."""
        if events._get_running_loop() is None:
            task: Task[Any] | None = getattr(self, "_bateau", None) or _slotted.get(self)
            if task is not None and not task.ended and task.scope is not None and _is_held(task):
                if not _is_shielded(task):
                    task._cancel(CancelRecord("the asyncio program has ended"))
                return True
        return super().cancel(msg)


def _is_held(task: Task[Any]) -> bool:
    """Whether the blocks around ``task`` will be left. Not if one's task has ended without leaving it."""
    node: CancelNode | None = task.parent
    while node is not None:
        if node.task is None or node.task.ended:
            return False
        node = node.parent
    return True


def _is_shielded(task: Task[Any]) -> bool:
    """Whether a shield stands around ``task``: it is a part of what that shield is for."""
    node: CancelNode | None = task.parent
    while node is not None and not node.shielded:
        node = node.parent
    return node is not None


async def _main(task: Task[Any], coro: Coroutine[Any, Any, Any]) -> None:
    """What the asyncio task of one of our children runs: errors go to the scope, never to asyncio's logger.

    Sent to its first await before asyncio gets it, so that it hears of a cancellation before the task's first step, by foreign
    code: a coroutine that has not begun would hear nothing of it.
    """
    try:
        await _BEGINNING
    except GeneratorExit:  # the loop was closed before that step
        coro.close()
        raise
    except BaseException as error:
        coro.close()
        task.host_task = None
        task.finish(None, error)
        return
    task.scheduled = True
    if task.host.resumed is not None:
        task.host.resumed(task)
    try:
        value = await coro
    except BaseException as error:
        tb = error.__traceback__
        error.__traceback__ = tb.tb_next if tb is not None else None
        del tb  # it holds this frame
        task.host_task = task.parked = None  # cuts the cycle between the two tasks
        task.finish(None, error)
        # From 3.12 on the traceback's frames refer to this one, which must not keep the task that keeps the error.
        del task, coro
    else:
        task.host_task = task.parked = None
        task.finish(value, None)


class _Beginning:
    """Suspends once; what the await yields is seen by ``AsyncioHost.start`` alone."""

    def __await__(self) -> Generator[None, None, None]:
        yield


_BEGINNING = _Beginning()


def outermost_cancelled(task: Task[Any]) -> CancelNode | None:
    """The outermost node of this task's own through which the cancellation reaches its innermost one."""
    found: CancelNode | None = None
    node: CancelNode | None = task.node
    while node is not None and node.effective is not None:
        found = node
        if node is task or node.shielded:
            break
        node = node.parent
    return found
