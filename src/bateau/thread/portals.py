"""An explicit way into a running program, for threads that are not bateau's."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from ..kernel.errors import Cancelled, Closed, ScopeError, TaskCancelled
from ..kernel.host import Host
from ..kernel.policy import Policy
from ..kernel.scope import Scope
from ..kernel.task import Task
from .futures import CallbackFuture

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..runtimes.base import Runtime

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _AnswersGoBack(Policy):
    """Errors go to the thread that asked, never to the scope."""

    def child_ended(self, scope: Scope, task: Task[Any]) -> bool:
        return True


class Portal:
    """Calls from any thread into the program that opened it: ``async with thread.portal() as portal``.

    What is called runs as tasks of the block, which ends when they have ended. Cancelling the block cancels them; the
    threads then get ``TaskCancelled``. After the block every call raises ``Closed``.
    """

    def __init__(self) -> None:
        self._scope = Scope(name="portal", policy=_AnswersGoBack())
        self._host: Host | None = None
        self._release: Callable[[], None] | None = None

    async def __aenter__(self) -> Portal:
        await self._scope.__aenter__()
        assert self._scope.task is not None
        self._host = self._scope.task.host
        self._release = self._host.hold("an open portal for other threads")
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        self._host = None
        if self._release is not None:
            self._release()
        return await self._scope.__aexit__(exc_type, exc, tb)

    def run(self, fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts) -> T:
        """Run ``await fn(*args)`` in the program; block this thread until it is done. Returns its value or raises its error.

        Raises ``TaskCancelled`` if it was cancelled, ``Closed`` when the portal is closed, ``RuntimeError`` on the program's own
        thread. An exception that interrupts the wait (Ctrl-C) cancels the call.
        """
        self._check_thread()
        return _take(self.spawn(fn, *args))

    def run_sync(self, fn: Callable[[*Ts], T], /, *args: *Ts) -> T:
        """Call the sync ``fn(*args)`` on the program's thread, inside one of its tasks; block until it is done."""
        self._check_thread()

        async def call() -> T:
            return fn(*args)

        return _take(self.spawn(call))

    def spawn(self, fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts, name: str | None = None) -> Future[T]:
        """Start ``fn(*args)`` in the program and return at once a ``concurrent.futures.Future`` for its end.

        The future's ``cancel()`` cancels the task (and says True if that was possible). From any thread, the program's too.
        """
        if not callable(fn):
            raise TypeError(f"a portal needs an async function, not {type(fn).__name__}; pass its arguments separately")
        host = self._host
        if host is None:
            raise _closed()
        made: Any = _future_type()()
        made.portal_host = host
        future: Future[T] = made
        if host.thread_id == get_ident():
            self._begin(future, fn, args, name)
            return future
        try:
            host.call_threadsafe(lambda: self._begin(future, fn, args, name))
        except RuntimeError:
            raise _closed() from None
        return future

    def _begin(self, future: Any, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], name: str | None) -> None:
        if future.cancelled():
            future.set_running_or_notify_cancel()
            return
        try:
            future.portal_task = self._scope.spawn(
                _answer, future, fn, args, name=name or getattr(fn, "__qualname__", None)
            )
        except ScopeError:
            future.set_exception(_closed())
        except BaseException as error:
            future.set_exception(error)

    def _check_thread(self) -> None:
        host = self._host
        if host is not None and host.thread_id == get_ident():
            raise RuntimeError(
                "portal.run and portal.run_sync would block the program's own thread; "
                "await the function here, or use portal.spawn"
            )


def portal() -> Portal:
    """A handle for calling into this program from any thread: ``async with thread.portal() as portal``, then give it away.

    Leaving the block waits for the calls that run; it is a cancellation point, as leaving a scope is.
    """
    return Portal()


@contextmanager
def start_portal(*, runtime: str | Runtime | None = None) -> Generator[Portal, None, None]:
    """For sync programs: run a program in a thread of its own, and call into it: ``with thread.start_portal() as portal``.

    ``runtime`` is a name or an object, as for ``bateau.run``. The program lives until the block is left, which waits for the calls
    that still run; leaving it by an exception cancels them. Blocks its thread, at the start and at the end only.
    """
    from concurrent.futures import Future as _Future
    from threading import Thread

    from ..runtimes import registry

    opened: _Future[Portal] = _Future()
    leaving: CallbackFuture[bool] = CallbackFuture("end of start_portal's block")

    async def main() -> None:
        async with portal() as entered:
            opened.set_result(entered)
            if await leaving:
                entered._scope.cancel("the block of start_portal failed")

    ended: _Future[None] = _Future()

    def run() -> None:
        try:
            registry.get(runtime).run(main)
        except BaseException as error:
            for future in (opened, ended):
                if not future.done():
                    future.set_exception(error)
        else:
            ended.set_result(None)

    thread = Thread(target=run, name="bateau-portal")
    thread.start()
    failed = True
    try:
        yield opened.result()
        failed = False
    finally:
        leaving.set_result(failed)
        thread.join()
    ended.result()


async def _answer(future: Any, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
    """The task of one call: its end is the future's."""
    try:
        value = await fn(*args)
    except Cancelled as error:
        future.portal_task = None
        future.settle(None, TaskCancelled(f"the call was cancelled: {error.reason}", error.record))
        raise
    except BaseException as error:
        future.settle(None, error)
        if not isinstance(error, Exception):
            raise
    else:
        future.settle(value, None)


def _closed() -> Closed:
    return Closed("this portal is closed: its `async with thread.portal()` block has ended, or was not entered yet")


def _take(future: Future[T]) -> T:
    try:
        return future.result()
    except BaseException:
        if not future.done():
            future.cancel()
        raise


_made: Any = None


def _future_type() -> Any:
    """The future class, made on first use so that importing this module imports no ``concurrent.futures``."""
    global _made
    if _made is None:
        from concurrent.futures import Future as _Future

        class PortalFuture(_Future[Any]):
            """A future whose ``cancel`` reaches the task."""

            portal_task: Task[Any] | None = None
            portal_host: Host | None = None

            def settle(self, value: Any, error: BaseException | None) -> None:
                """The task's end."""
                self.portal_task = None
                if error is not None:
                    self.set_exception(error)
                else:
                    self.set_result(value)

            def cancel(self) -> bool:
                """Cancel the call, begun or not; it is done once the task has ended."""
                host = self.portal_host
                if self.done() or host is None:
                    return False
                try:
                    host.call_threadsafe(self._cancel_task)
                except RuntimeError:
                    return False
                return True

            def _cancel_task(self) -> None:
                if self.portal_task is not None:
                    self.portal_task.cancel("its future was cancelled")

        _made = PortalFuture
    return _made
