"""Signals in a world: what a process does with each, and how one comes to its main thread.

As in CPython: a handler runs in the main thread, between two steps of it; a call that waits is interrupted for it and then goes on waiting
(PEP 475); the wake-up descriptor is written to before. A signal that comes again before its handler has begun counts once.

The real Ctrl-C stays the test's: the program of the director sets and asks the real handler of SIGINT.
"""

from __future__ import annotations

import signal as _signal
import sys
from collections.abc import Iterable
from signal import Handlers, Signals
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..kernel.errors import PACKAGE_DIR
from .thread import SimThread
from .threads.waits import Wait

if TYPE_CHECKING:
    from .process import Process
    from .timeline import Event

# What the system does by itself where the program has not said otherwise; everything else ends the process.
_IGNORED = frozenset({Signals.SIGCHLD, Signals.SIGURG, Signals.SIGWINCH, Signals.SIGCONT})
_STOPS = frozenset({Signals.SIGTSTP, Signals.SIGTTIN, Signals.SIGTTOU})
UNCATCHABLE = frozenset({Signals.SIGKILL, Signals.SIGSTOP})
# What Python sets when it starts.
_FIRST: dict[int, Any] = {
    Signals.SIGINT: _signal.default_int_handler,
    Signals.SIGPIPE: Handlers.SIG_IGN,
    Signals.SIGXFSZ: Handlers.SIG_IGN,
}
_SIMULATOR = f"{PACKAGE_DIR}sim/"

real_signal, real_getsignal = _signal.signal, _signal.getsignal


class SignalTable:
    """The signals of one process; kept in ``process.parts["signals"]``.

    Invariants: ``tripped`` are those whose handler is about to run in the main thread, each with one call for it outstanding. ``pending``
    are those that came while they were blocked (by the mask of the threads they were for), or while the process stood still.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.world = process.world
        self.handlers: dict[int, Any] = dict(_FIRST)
        self.tripped: dict[int, None] = {}
        self.pending: dict[int, None] = {}
        self.masks: dict[SimThread, frozenset[int]] = {}
        self.wakeup_fd = -1
        # How many handlers have run, and who waits for one to have.
        self.handled = 0
        self.pausing: dict[SimThread, None] = {}
        # Who waits in ``sigwait``, for which, and what has come to each.
        self.waiting: dict[SimThread, frozenset[int]] = {}
        self.taken: dict[SimThread, int] = {}
        self.alarm: Event | None = None
        self.interval = 0.0

    # -- what programs say -----------------------------------------------------------------------------------------------

    def is_real(self, signum: int) -> bool:
        """Whether the real table is meant: that of Ctrl-C, for the program of the test."""
        return signum == Signals.SIGINT and self.process is self.world.director

    def handler(self, signum: int) -> Any:
        """What ``signal.getsignal`` returns."""
        if self.is_real(signum):
            return real_getsignal(signum)
        return self.handlers.get(signum, Handlers.SIG_DFL)

    def set_handler(self, signum: int, handler: Any) -> Any:
        """``signal.signal``, its arguments checked: the handler before. Raises ``ValueError`` where the real one does."""
        before = self.handler(signum)
        if self.is_real(signum):
            real_signal(signum, handler)
        else:
            self.handlers[signum] = handler
        return before

    def mask(self, thread: SimThread) -> frozenset[int]:
        """Which signals ``thread`` blocks."""
        return self.masks.get(thread, frozenset())

    def set_mask(self, thread: SimThread, mask: Iterable[int]) -> None:
        """Block these in ``thread``, and no others. What is no longer blocked and came meanwhile is delivered."""
        self.masks[thread] = frozenset(mask) - UNCATCHABLE
        self.deliver_pending()

    # -- arriving --------------------------------------------------------------------------------------------------------

    def arrive(self, signum: int, thread: SimThread | None = None) -> None:
        """One for the process, or for one thread of it."""
        for waiter, wanted in self.waiting.items():
            if signum in wanted and waiter not in self.taken and thread in {None, waiter}:
                self.taken[waiter] = signum
                waiter.unblock()
                return
        handler = self.handler(signum)
        if handler == Handlers.SIG_IGN or (handler == Handlers.SIG_DFL and signum in _IGNORED):
            return
        process = self.process
        threads = process.threads if thread is None else (thread,)
        stands = process.frozen is not None and handler == Handlers.SIG_DFL
        if stands or all(signum in self.mask(each) for each in threads):
            self.pending[signum] = None
        elif handler == Handlers.SIG_DFL:
            self._default(signum)
        elif signum not in self.tripped:
            self.tripped[signum] = None
            process.main.call(lambda: self._handle(signum))

    def deliver_pending(self) -> None:
        """Something has changed: what was kept may be due."""
        pending, self.pending = self.pending, {}
        for signum in pending:
            if self.process.is_alive():
                self.arrive(signum)

    process_thawed = deliver_pending

    def _default(self, signum: int) -> None:
        process = self.process
        if signum in _STOPS:
            process.freeze()
        else:
            process.terminate(-signum, f"is ended by {Signals(signum).name}")

    def _handle(self, signum: int) -> None:
        """In the main thread, where it stands."""
        self.tripped.pop(signum, None)
        self.handled += 1
        handler = self.handler(signum)
        self._wake_up(signum)
        if callable(handler):  # else it was set otherwise meanwhile
            handler(signum, _interrupted_frame())
        for thread in self.pausing:
            thread.unblock()

    def _wake_up(self, signum: int) -> None:
        if self.wakeup_fd < 0:
            return
        try:
            self.process.fds.get(self.wakeup_fd).write(bytes([signum]))
        except OSError:  # full, or closed by now: as in CPython, the handler runs all the same
            return

    def process_ended(self) -> None:
        """Nothing comes any more."""
        self.set_timer(0.0, 0.0)

    # -- timers ----------------------------------------------------------------------------------------------------------

    def timer(self) -> tuple[float, float]:
        """Seconds until the alarm (0: there is none), and between one and the next."""
        left = self.alarm.when - self.world.now if self.alarm is not None else 0.0
        return left * self.process.host.clock.rate, self.interval

    def set_timer(self, seconds: float, interval: float) -> None:
        """Ring (SIGALRM) in so many seconds, and then every ``interval`` seconds; 0: never."""
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        self.interval = interval
        if seconds > 0:
            self.alarm = self.world.at(self.process.host.clock.world_time_after(seconds), self._ring)

    def _ring(self) -> None:
        self.alarm = None
        if self.interval > 0:
            self.set_timer(self.interval, self.interval)
        send(self.process, Signals.SIGALRM)


class SignalWait(Wait):
    """Waiting in ``sigwait`` or ``pause``."""

    __slots__ = ("text",)

    def __init__(self, text: str, timed: bool = False) -> None:
        super().__init__(timed)
        self.text = text

    def __str__(self) -> str:
        return self.text


def signals_of(process: Process) -> SignalTable:
    """The signals of that process."""
    found: SignalTable | None = process.parts.get("signals")
    if found is None:
        found = process.parts["signals"] = SignalTable(process)
    return found


def send(process: Process, signum: int, thread: SimThread | None = None) -> None:
    """Deliver a signal to a living process, or to one thread of it. Raises ``ValueError`` for what is no signal."""
    signum = check(signum)
    if signum == 0:
        return
    name = Signals(signum).name if signum in _KNOWN else str(signum)
    process.world.trace("signal", f"{name} comes to process {process.name}", host=process.host.name, actor=process.name)
    if signum == Signals.SIGKILL:
        process.kill(traced=False)
    elif signum == Signals.SIGSTOP:
        process.freeze()
    else:
        if signum == Signals.SIGCONT:
            process.thaw()
        signals_of(process).arrive(signum, thread)


_KNOWN = frozenset(map(int, Signals))


def check(signum: Any, least: int = 0) -> int:
    """``signum`` as a number, if it is a signal's. Raises ``ValueError``."""
    number = int(signum)
    if not least <= number < _signal.NSIG:
        raise ValueError("signal number out of range")
    return number


def _interrupted_frame() -> FrameType | None:
    """The frame in which the main thread was when the signal came: the innermost outside the simulator."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_SIMULATOR):
        frame = frame.f_back
    return frame
