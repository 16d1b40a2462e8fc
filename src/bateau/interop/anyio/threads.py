"""anyio's worker threads over bateau's: ``to_thread``, ``from_thread`` and the calls of portals.

A function that ``to_thread`` started calls back into the very task that waits for it, under that task's scopes. Calls that come
with a token (a portal's) come from anywhere; they become tasks outside every scope. So do those of a function that may be
abandoned: what it has begun goes on when the task that started it has left.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

from anyio import CapacityLimiter as BaseCapacityLimiter
from anyio import NoEventLoopError, RunFinishedError
from anyio._core._eventloop import claim_worker_thread

from ...kernel.cancellation import CancelScope as KernelScope
from ...kernel.current import current_host
from ...kernel.errors import Cancelled
from ...kernel.host import Host
from ...kernel.task import Task
from ...thread.jobs import Job, JobCancelled, ThreadRun, state
from .library import NAME, mark_context, variable
from .sync import CapacityLimiter, check_cancelled_here

T = TypeVar("T")

# How many functions have a thread at once, unless the caller brings a limiter of its own. anyio's number.
DEFAULT_TOKENS = 40


class Token:
    """What lets other threads call into one run. Handed out, it may be used at any time: no deadlock can be proven from then on."""

    __slots__ = ("__weakref__", "host")

    def __init__(self, host: Host) -> None:
        self.host = host


def token() -> Token:
    """The token of the running program; always the same."""
    host = current_host()
    found: Token | None = host.run_vars.get(Token)
    if found is None:
        found = host.run_vars[Token] = Token(host)
        host.hold("an anyio token, through which other threads may call")
    return found


def default_limiter() -> CapacityLimiter:
    """The limiter of this run, for those who bring none."""
    host = current_host()
    found: CapacityLimiter | None = host.run_vars.get(CapacityLimiter)
    if found is None:
        found = host.run_vars[CapacityLimiter] = CapacityLimiter(DEFAULT_TOKENS)
    return found


async def run_in_thread(
    backend: Any, fn: Callable[..., T], args: tuple[Any, ...], abandon: bool, limiter: BaseCapacityLimiter | None
) -> T:
    """``fn(*args)`` on a worker thread. See ``anyio.to_thread.run_sync``."""
    await check_cancelled_here()
    host = current_host()

    def call() -> T:
        with claim_worker_thread(backend, Token(host)):
            try:
                return fn(*args)
            except StopIteration as error:
                raise RuntimeError("coroutine raised StopIteration") from error

    label = str(getattr(fn, "__qualname__", None) or fn)
    borrower = object()
    limiter = limiter if limiter is not None else default_limiter()
    await limiter.acquire_on_behalf_of(borrower)
    if not abandon:
        try:
            return await ThreadRun(call, label, abandon_on_cancel=False, counted=False)
        finally:
            limiter.release_on_behalf_of(borrower)
    return await _abandonable(host, call, label, limiter, borrower)


async def _abandonable(
    host: Host, call: Callable[[], T], label: str, limiter: BaseCapacityLimiter, borrower: object
) -> T:
    """The token of an abandoned function is given back when the function ends, not when its caller leaves."""
    let_go = host.hold(f"worker thread running {label}")

    def release() -> None:
        let_go()
        limiter.release_on_behalf_of(borrower)

    def outcome() -> tuple[Any, BaseException | None]:
        # As a value, so that the failure of a function that nobody waits for is no lost error: anyio drops it.
        try:
            return call(), None
        except BaseException as error:
            return None, error
        finally:
            try:
                host.call_threadsafe(release)
            except RuntimeError:
                pass  # its run has ended, and the limiter with it

    run = ThreadRun(outcome, label, abandon_on_cancel=True, counted=False)
    try:
        value, error = await run
    finally:
        if run.fn is not None:
            release()  # it has never begun
    if error is not None:
        raise error
    result: T = value
    return result


# -- calling back ------------------------------------------------------------------------------------------------------


def check_cancelled() -> None:
    """See ``anyio.from_thread.check_cancelled``."""
    job = _job()
    if job.cancelled is not None:
        raise JobCancelled(job.cancelled)


def call_async(fn: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...], given: object) -> T:
    """``await fn(*args)`` in the program, from another thread; blocks until it is done."""
    if given is None:
        job = _job()
        if not job.op.abandon_on_cancel:
            answer: T = job.ask(lambda: _marked(fn, args))
            return answer
        host = job.host
    else:
        host = _host(given)
    future: Future[T] = Future()
    context = copy_context()
    mark_context(context)

    async def call() -> None:
        try:
            with KernelScope() as scope:
                future.add_done_callback(lambda done: _cancel_if(done, host, scope))
                result = await fn(*args)
        except BaseException as error:
            if isinstance(error, Cancelled):
                future.cancel()
            elif not future.cancelled():
                future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        if scope.cancelled_caught:
            return
        if not future.cancelled():
            future.set_result(result)

    def begin() -> None:
        host.spawn_root(
            Task(host, call(), name=str(getattr(fn, "__qualname__", "call from a thread")), context=context)
        )

    _post(host, begin)
    return future.result()


def call_sync(fn: Callable[..., T], args: tuple[Any, ...], given: object) -> T:
    """``fn(*args)`` on the program's thread, from another one; blocks until it is done."""
    if given is None:
        job = _job()
        if not job.op.abandon_on_cancel:
            boxed: tuple[T] = job.ask(lambda: _boxed(fn, args))
            return boxed[0]
        host = job.host
    else:
        host = _host(given)
    future: Future[T] = Future()
    context = copy_context()
    mark_context(context)

    def call() -> None:
        try:
            future.set_result(context.run(fn, *args))
        except BaseException as error:
            future.set_exception(error)
            if not isinstance(error, Exception):
                raise

    _post(host, call)
    return future.result()


def call_soon(fn: Callable[..., object], args: tuple[Any, ...], given: object) -> None:
    """``fn(*args)`` on the program's thread, without waiting for it."""
    context = copy_context()
    mark_context(context)
    _post(_host(given), lambda: _run(context, fn, args))


def _run(context: Any, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
    context.run(fn, *args)


def _cancel_if(future: Future[Any], host: Host, scope: KernelScope) -> None:
    if future.cancelled():
        _post(host, lambda: scope.cancel("the future was cancelled"))


def _marked(fn: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...]) -> Coroutine[Any, Any, T]:
    """Called in the thread's context, in which no library runs; what is awaited in it runs on this backend."""
    variable.set(NAME)
    return _awaited(fn, args)


async def _awaited(fn: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...]) -> T:
    return await fn(*args)


def _boxed(fn: Callable[..., T], args: tuple[Any, ...]) -> tuple[T]:
    """In a tuple, so that a coroutine that a sync function returns is not awaited."""
    variable.set(NAME)
    return (fn(*args),)


def _job() -> Job:
    job = state.job
    if job is None:
        raise NoEventLoopError("This function can only be called inside an AnyIO worker thread")
    return job


def _host(given: object) -> Host:
    if not isinstance(given, Token):
        raise TypeError(f"this is no token of the bateau backend: {given!r}")
    return given.host


def _post(host: Host, call: Callable[[], None]) -> None:
    try:
        host.call_threadsafe(call)
    except RuntimeError:
        raise RunFinishedError from None
