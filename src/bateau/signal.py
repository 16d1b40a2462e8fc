"""Operating system signals as an async iterator, on every runtime: ``with signal.open(SIGTERM) as signals``.

The names of Python's ``signal`` module (``SIGTERM``, ``Signals``...) are here too.

A Python-level handler runs in the main thread between two bytecodes, wherever that is; it only notes the signal and posts to the
host, which is the one thing that is safe on every loop. Python's own wake-up descriptor is left to the loop that owns it.
"""

from __future__ import annotations

import signal as _signal
from collections.abc import Callable, Iterable
from signal import Signals
from types import FrameType, TracebackType
from typing import Any

from .kernel.current import current_host
from .kernel.errors import Closed, Stopped
from .kernel.host import Host
from .kernel.operation import Operation
from .kernel.resource import OUTSIDE, Resource, WaitQueue


class SignalStream(Resource):
    """The signals that arrive while its ``with`` block is open; made by ``signal.open``.

    Iterate over it, or await ``wait()``. Invariant: ``_pending`` is empty while anybody waits. It is ordered by first arrival.
    """

    __slots__ = ("_host", "_pending", "_previous", "_waiters", "signals")
    kind = "signals"

    def __init__(self, signals: tuple[Signals, ...]) -> None:
        self.signals = signals
        self._host: Host | None = None
        self._previous: dict[Signals, Any] = {}
        self._pending: dict[Signals, None] = {}
        self._waiters = WaitQueue()

    def __enter__(self) -> SignalStream:
        if self._previous:
            raise RuntimeError("these signals are open already; call signal.open again for a second block")
        self._host = current_host()
        for signum in self.signals:
            try:
                self._previous[signum] = _signal.signal(signum, self._handle)
            except BaseException as error:
                self._restore()
                raise _clearer(error, signum) from error
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._restore()
        while (op := self._waiters.pop()) is not None:
            op.fail(_closed(self))
        # What came and was taken by nobody goes to whoever handled it before: a SIGTERM must not vanish.
        pending, self._pending = self._pending, {}
        for signum in pending:
            _signal.raise_signal(signum)

    async def __aenter__(self) -> SignalStream:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, tb)

    def wait(self) -> Operation[Signals]:
        """Await it: the next signal, at once if one is pending. A cancellation point; cancelled, the signal stays pending.

        Raises ``Closed`` when the block has ended.
        """
        return _Next(self)

    def __aiter__(self) -> SignalStream:
        return self

    async def __anext__(self) -> Signals:
        try:
            return await _NextUntilStop(self)
        except Stopped:
            raise StopAsyncIteration from None

    # -- arriving --------------------------------------------------------------------------------------------------------

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """In the main thread, in the middle of anything."""
        host = self._host
        assert host is not None
        arrived = Signals(signum)
        try:
            host.call_threadsafe(lambda: self._arrived(arrived))
        except RuntimeError:  # the loop ended with the block still open: as if there were no block
            self._restore()
            _signal.raise_signal(arrived)

    def _arrived(self, signum: Signals) -> None:
        if not self._previous:  # the block ended meanwhile
            _signal.raise_signal(signum)
            return
        op = self._waiters.pop()
        if op is not None:
            op.fire(signum)
        else:
            self._pending[signum] = None

    def _restore(self) -> None:
        previous, self._previous = self._previous, {}
        for signum, handler in previous.items():
            if _signal.getsignal(signum) == self._handle:
                _signal.signal(signum, handler if handler is not None else _signal.SIG_DFL)

    # -- as a resource -----------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        return self._waiters

    def satisfiers(self) -> Any:
        return OUTSIDE

    def describe(self) -> str:
        return f"signals {', '.join(signum.name for signum in self.signals)}"


def open(*signals: int) -> SignalStream:
    """Catch these signals while a ``with`` block is open: ``with signal.open(SIGTERM, SIGHUP) as stream: async for sig in stream``.

    Signals arrive in order; the same signal arriving again before it was taken counts once, as in the operating system.
    The loop ends when its scope is asked to stop. The handlers that were there before are put back at the end, and given
    what nobody has taken. The innermost block gets a signal that several have opened. Entering and leaving never suspend.
    Raises ``ValueError`` without signals, for what is no signal, and outside the main thread.
    """
    if not signals:
        raise ValueError("signal.open needs at least one signal, such as signal.SIGTERM")
    return SignalStream(tuple(dict.fromkeys(Signals(signum) for signum in signals)))


class _Next(Operation[Signals]):
    """Waiting for a signal."""

    __slots__ = ("release", "stream")

    def __init__(self, stream: SignalStream) -> None:
        super().__init__(stream)
        self.stream = stream
        self.release: Callable[[], None] | None = None

    def poll(self) -> bool:
        stream = self.stream
        pending = stream._pending
        if pending:
            self.value = next(iter(pending))
            del pending[self.value]
            return True
        if not stream._previous:
            raise _closed(stream)
        return False

    def register(self) -> None:
        self.stream._waiters.add(self)
        assert self.task is not None
        self.release = self.task.host.hold(self.stream.describe())

    def unregister(self) -> None:
        self.stream._waiters.discard(self)
        self._let_go()

    def undo(self, value: Any) -> None:
        self.stream._arrived(value)

    def _fired(self) -> None:
        super()._fired()
        self._let_go()

    def _let_go(self) -> None:
        release, self.release = self.release, None
        if release is not None:
            release()

    def describe(self) -> str:
        return f"wait for {self.stream.describe()}"


class _NextUntilStop(_Next):
    """The form that iteration uses."""

    __slots__ = ()
    ends_on_stop = True


def _closed(stream: SignalStream) -> Closed:
    return Closed(f"{stream.describe()}: the `with signal.open(...)` block has ended or was not entered")


def _clearer(error: BaseException, signum: Signals) -> BaseException:
    if isinstance(error, ValueError):
        return ValueError(
            f"signal.open({signum.name}) works in the main thread only, where Python delivers signals: open them in a program that "
            "runs there, and hand them on (bateau.channel, or thread.portal)"
        )
    if isinstance(error, OSError):
        return ValueError(f"{signum.name} can't be caught: {error.strerror}")
    return error


def __getattr__(name: str) -> Any:
    """Whatever Python's ``signal`` has: signal numbers, ``Signals``, ``strsignal``..."""
    try:
        return getattr(_signal, name)
    except AttributeError:
        raise AttributeError(f"module 'bateau.signal' has no attribute {name!r}") from None
