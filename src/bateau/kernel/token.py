"""Cancel tokens: a request to stop or cancel that can be passed around, nested, polled, awaited, and calls back (law 6).

A token is a flag with two phases, ``stop`` and ``cancel``, and it may be used from any thread. It cancels nothing by
itself: ``with token.bind():`` ties a block of code to it, ``async with token.scope() as s`` a scope with its tasks.

A child follows its parent. It is told by the parent only while somebody listens to it; a child that is merely polled asks
its parent instead, so that a long-lived parent keeps no trace of short-lived children.
"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from .cancellation import Cancellable, CancelScope, Listener
from .current import current_task_or_none
from .errors import CancelRecord, TaskCancelled
from .hazard import report
from .operation import Operation
from .resource import Primitive, WaitQueue
from .scope import Scope

if TYPE_CHECKING:
    from .host import Host
    from .task import Task

Calls = dict[object, Callable[[], object]]


class Token(Primitive):
    """A request to stop or cancel. ``Token(parent)`` makes a child, which follows its parent but not the reverse.

    Nothing here is a cancellation point but ``wait`` and ``wait_stopping``. Everything may be called from any thread;
    callbacks run in the thread that stops or cancels.

    Invariants, under ``mutex``, which a whole tree of tokens shares: ``_cancel_record`` implies ``_stop_record``. A token is
    in its parent's ``_children`` iff it is not cancelled and somebody listens: a callback, a waiter, or a child of its own.
    """

    __slots__ = (
        "_cancel_calls",
        "_cancel_record",
        "_children",
        "_parent",
        "_stop_calls",
        "_stop_record",
        "_stop_waiters",
        "_waiters",
    )
    kind = "token"

    def __init__(self, parent: Token | None = None, *, name: str | None = None) -> None:
        if parent is not None and not isinstance(parent, Token):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f"a token's parent must be a Token or None, not {type(parent).__name__}")
        super().__init__(name=name, flavour="shared")
        self._parent = parent
        if parent is not None:
            self.mutex = parent.mutex
        self._cancel_record: CancelRecord | None = None
        self._stop_record: CancelRecord | None = None
        self._cancel_calls: Calls = {}
        self._stop_calls: Calls = {}
        self._children: dict[Token, None] = {}
        self._waiters = WaitQueue()
        self._stop_waiters = WaitQueue()

    # -- asking ------------------------------------------------------------------------------------------------------

    def cancel(self, reason: str = "token cancelled") -> bool:
        """Cancel this token and its children. Returns whether this was news.

        Every callback runs, whatever the others raise; their errors are raised here, the only one as it is, several in an
        ``ExceptionGroup``.
        """
        return self._ask(_record(reason), cancel=True)

    def stop(self, reason: str = "asked to stop") -> bool:
        """Ask those who use this token and its children to stop, the gentle first phase. Returns whether this was news.

        Errors of callbacks are raised as ``cancel`` does.
        """
        return self._ask(_record(reason), cancel=False)

    def _ask(self, record: CancelRecord, *, cancel: bool) -> bool:
        calls: list[Callable[[], object]] = []
        with self.mutex:
            if self.cancelled or (self.stopping and not cancel):
                return False
            _mark(self, record, cancel, calls)
        _call_all(calls)
        return True

    # -- polling -----------------------------------------------------------------------------------------------------

    @property
    def cancelled(self) -> bool:
        """Whether this token, or one above it, was cancelled."""
        return self.record is not None

    @property
    def stopping(self) -> bool:
        """Whether this token, or one above it, was asked to stop; a cancelled token is stopping as well."""
        return any(token._stop_record is not None for token in self._upwards())

    @property
    def record(self) -> CancelRecord | None:
        """Who cancelled it, where and why; None while it is not cancelled."""
        return next((token._cancel_record for token in self._upwards() if token._cancel_record is not None), None)

    @property
    def reason(self) -> str | None:
        """Why it was cancelled, or else asked to stop; None while neither."""
        records = (token._cancel_record or token._stop_record for token in self._upwards())
        return next((record.reason for record in records if record is not None), None)

    def raise_if_cancelled(self) -> None:
        """Raise ``TaskCancelled`` if it is cancelled. For sync code and threads, which no scope can reach.

        A block that is bound to this very token ends quietly on it, as it does on a ``Cancelled``.
        """
        record = self.record
        if record is not None:
            raise TaskCancelled(f"{self.describe()} was cancelled: {record}", record)

    def _upwards(self) -> Iterator[Token]:
        token: Token | None = self
        while token is not None:
            yield token
            token = token._parent

    # -- being told --------------------------------------------------------------------------------------------------

    def on_cancel(self, fn: Callable[[], object], /) -> Callable[[], None]:
        """Call ``fn()`` when it is cancelled; at once if it is already. Returns the function that takes ``fn`` out again."""
        return self._listen(fn, "_cancel_calls")

    def on_stop(self, fn: Callable[[], object], /) -> Callable[[], None]:
        """Call ``fn()`` when it is asked to stop or cancelled; at once if it is already. Returns the taking out."""
        return self._listen(fn, "_stop_calls")

    def _listen(self, fn: Callable[[], object], table: Literal["_cancel_calls", "_stop_calls"]) -> Callable[[], None]:
        if not callable(fn):
            raise TypeError(f"a token calls a function without arguments, not a {type(fn).__name__}")
        calls: Calls = getattr(self, table)
        key = object()

        def remove() -> None:
            with self.mutex:
                if calls.pop(key, None) is not None:
                    self._unfollow()

        with self.mutex:
            due = self.cancelled if table == "_cancel_calls" else self.stopping
            if not due:
                calls[key] = fn
                self._follow()
        if due:
            fn()
        return remove

    def wait(self) -> WaitToken:
        """Await it: returns the record once the token is cancelled. A cancellation point; cancelled, it had no effect."""
        return WaitToken(self, stop=False)

    def wait_stopping(self) -> WaitToken:
        """Await it: returns the record once the token is asked to stop, or cancelled. A cancellation point."""
        return WaitToken(self, stop=True)

    def _follow(self) -> None:
        """Somebody listens: have the parents tell this token. Under the mutex."""
        token = self
        while (parent := token._parent) is not None and token not in parent._children:
            parent._children[token] = None
            token = parent

    def _unfollow(self) -> None:
        """A listener has gone: leave the parents that have no other reason to keep this token. Under the mutex."""
        token = self
        while (parent := token._parent) is not None and not token._listened_to():
            parent._children.pop(token, None)
            token = parent

    def _listened_to(self) -> bool:
        return bool(self._cancel_calls or self._stop_calls or self._children or self._waiters or self._stop_waiters)

    # -- nesting and binding -------------------------------------------------------------------------------------------

    def child(self, *, name: str | None = None) -> Token:
        """A token that follows this one; cancelling it leaves this one alone."""
        return Token(self, name=name)

    def bind(self) -> BoundBlock:
        """``with token.bind():`` the block is asked to stop, or cancelled, when the token is; then it ends quietly.

        Works in ``with`` and ``async with``; ``cancelled_caught`` tells afterwards whether it was cut short.
        """
        return BoundBlock(self)

    def scope(self, *, name: str | None = None, **options: Any) -> Scope:
        """``async with token.scope() as s:`` a scope that is stopped, or cancelled, when the token is.

        Takes what ``Scope`` takes: ``policy``, ``limit``, ``seconds``, ``shield``, ``cleanup_budget``.
        """
        return BoundScope(self, name=name, **options)

    # -- as a resource -------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        return (*self._waiters, *self._stop_waiters)

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        return "outside"  # whoever has the token

    def _fill(self) -> str:
        return " (cancelled)" if self.cancelled else " (stopping)" if self.stopping else ""


def token(parent: Token | None = None, *, name: str | None = None) -> Token:
    """A new cancel token, to be passed, nested, polled, awaited and bound; with ``parent``, one that follows it."""
    return Token(parent, name=name)


class WaitToken(Operation[CancelRecord]):
    """Waiting for a token."""

    __slots__ = ("stop", "token")

    def __init__(self, token: Token, *, stop: bool) -> None:
        super().__init__(token)
        self.token = token
        self.stop = stop

    def poll(self) -> bool:
        for token in self.token._upwards():
            record = token._stop_record if self.stop else token._cancel_record
            if record is not None:
                self.value = record
                return True
        return False

    def register(self) -> None:
        self._queue().add(self)
        self.token._follow()

    def unregister(self) -> None:
        self._queue().discard(self)
        self.token._unfollow()

    def _queue(self) -> WaitQueue:
        return self.token._stop_waiters if self.stop else self.token._waiters

    def describe(self) -> str:
        return f"{'stop' if self.stop else 'cancellation'} of {self.token.describe()}"


def _record(reason: str) -> CancelRecord:
    task = current_task_or_none()
    return CancelRecord(reason, task_name=task.name if task is not None else None)


def _mark(top: Token, record: CancelRecord, cancel: bool, calls: list[Callable[[], object]]) -> None:
    """Set the flags of ``top`` and its children, fire the waiters, gather the callbacks. Iterative; under the mutex."""
    todo = [top]
    for token in todo:
        if token._stop_record is None:
            token._stop_record = record
            calls.extend(token._stop_calls.values())
            token._stop_calls.clear()
            while (op := token._stop_waiters.pop()) is not None:
                op.fire(record)
        if cancel and token._cancel_record is None:
            token._cancel_record = record
            calls.extend(token._cancel_calls.values())
            token._cancel_calls.clear()
            while (op := token._waiters.pop()) is not None:
                op.fire(record)
        todo.extend(token._children)
    for token in reversed(todo):  # who has been told may have nothing left to listen for
        if cancel:
            token._children.clear()
        token._unfollow()


def _call_all(calls: Iterable[Callable[[], object]]) -> None:
    errors: list[Exception] = []
    for call in calls:
        try:
            call()
        except Exception as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup("callbacks of a token failed", errors)


# -- blocks and scopes that a token can end ----------------------------------------------------------------------------


class _Link:
    """Carries a token's stop and cancel to one node, on the node's own thread, while the block is open."""

    __slots__ = ("_host", "_node", "_open", "_removers", "_token")

    def __init__(self, token: Token, node: Cancellable) -> None:
        self._token = token
        self._node = node
        self._host: Host | None = None
        self._open = False
        self._removers: tuple[Callable[[], None], ...] = ()

    def open(self) -> None:
        """The node was entered."""
        task = self._node.task
        assert task is not None
        self._host = task.host
        self._open = True
        self._removers = (self._token.on_stop(self._stopped), self._token.on_cancel(self._cancelled))

    def close(self) -> None:
        """The node is being left; what is still on its way from another thread comes too late."""
        self._open = False
        for remove in self._removers:
            remove()

    def _stopped(self) -> None:
        self._here(self._stop_now)

    def _cancelled(self) -> None:
        self._here(self._cancel_now)

    def _here(self, fn: Callable[[], None]) -> None:
        host = self._host
        assert host is not None
        if host.thread_id == get_ident():
            fn()
        else:
            try:
                host.call_threadsafe(fn)
            except RuntimeError:
                return  # the run has ended, and the block with it

    def _stop_now(self) -> None:
        record = next((token._stop_record for token in self._token._upwards() if token._stop_record is not None), None)
        if self._open and record is not None:
            self._node._stop(record)

    def _cancel_now(self) -> None:
        record = self._token.record
        if self._open and record is not None:
            self._node._cancel(record)

    def is_ours(self, exc: BaseException | None) -> bool:
        """Whether ``exc`` is this token's own ``raise_if_cancelled``."""
        return isinstance(exc, TaskCancelled) and exc.record is not None and exc.record is self._node.record


class BoundBlock(CancelScope):
    """What ``token.bind()`` gives."""

    __slots__ = ("_link",)

    def __init__(self, token: Token) -> None:
        super().__init__()
        self._link = _Link(token, self)

    def __enter__(self) -> BoundBlock:
        self._enter()
        self._link.open()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        self._link.close()
        absorbed = super().__exit__(exc_type, exc, tb)
        if not absorbed and self._link.is_ours(exc):
            self.cancelled_caught = absorbed = True
        return absorbed

    async def __aenter__(self) -> BoundBlock:
        return self.__enter__()


class BoundScope(Scope):
    """What ``token.scope()`` gives."""

    __slots__ = ("_link",)

    def __init__(self, token: Token, **options: Any) -> None:
        super().__init__(**options)
        self._link = _Link(token, self)

    async def __aenter__(self) -> Scope:
        await super().__aenter__()
        self._link.open()
        return self

    async def __aexit__(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # the twin's argument is for a Scope itself
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        try:
            return await super().__aexit__(exc_type, exc, tb)
        finally:
            self._link.close()


# -- a scope's own token -----------------------------------------------------------------------------------------------


class ScopeToken(Token):
    """The token view of a scope: it fires when the scope is stopped or cancelled, and cancelling it cancels the scope."""

    __slots__ = ("_ear", "_host", "_scope")
    kind = "token of a scope"

    def __init__(self, scope: Scope, host: Host) -> None:
        super().__init__(name=scope.name or None)
        self._scope = scope
        self._host = host
        self._ear = _Ear(self)
        self._ear.attach(scope)

    def _ask(self, record: CancelRecord, *, cancel: bool) -> bool:
        news = super()._ask(record, cancel=cancel)
        if news:

            def forward() -> None:
                if self._scope.parent is not None:
                    self._scope._stop(record)
                    if cancel:
                        self._scope._cancel(record)

            if self._host.thread_id == get_ident():
                forward()
            else:
                try:
                    self._host.call_threadsafe(forward)
                except RuntimeError:
                    return news  # the run has ended, and the scope with it
        return news

    def heard(self, record: CancelRecord, *, cancel: bool) -> None:
        """The scope was stopped or cancelled. Errors of callbacks can't be raised in the middle of that: reported."""
        try:
            super()._ask(record, cancel=cancel)
        except Exception as error:
            report(
                "callback_error", f"a callback of {self.describe()} failed: {error!r}", (record.filename, record.lineno)
            )


class _Ear(Listener):
    """The leaf of the cancellation tree through which a scope's token hears."""

    __slots__ = ("_token",)

    def __init__(self, token: ScopeToken) -> None:
        super().__init__()
        self._token = token

    def heard(self) -> None:
        if self.stopping is not None:
            self._token.heard(self.stopping, cancel=False)
        if self.effective is not None:
            self._token.heard(self.effective, cancel=True)
