"""Doors of ``signal``, and of ``os.kill``: see ``sim/signals``."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterable
from signal import Handlers, Signals
from typing import TYPE_CHECKING, Any

from ..errors import NotSimulated
from ..signals import UNCATCHABLE, SignalTable, SignalWait, check, send, signals_of
from . import door

if TYPE_CHECKING:
    from ..process import Process
    from ..world import World


def _own(world: World) -> SignalTable:
    return signals_of(world.thread.process)


def _main_thread_only(world: World, function: str) -> None:
    if world.thread is not world.thread.process.main:
        raise ValueError(f"{function} only works in main thread of the main interpreter")


def _said(signum: int) -> Any:
    try:
        return Signals(signum)
    except ValueError:  # a real-time signal without a name
        return signum


@door("signal", "signal")
def set_signal(world: World, signalnum: int, handler: Any) -> Any:
    _main_thread_only(world, "signal")
    if handler in {Handlers.SIG_DFL, Handlers.SIG_IGN}:
        handler = Handlers(handler)
    elif not callable(handler):
        raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
    number = check(signalnum, 1)
    if number in UNCATCHABLE:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    before = _own(world).set_handler(number, handler)
    world.before_call(world.thread)
    return before


@door("signal", "getsignal")
def getsignal(world: World, signalnum: int) -> Any:
    return _own(world).handler(check(signalnum, 1))


@door("signal", "set_wakeup_fd")
def set_wakeup_fd(world: World, fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
    _main_thread_only(world, "set_wakeup_fd")
    own = _own(world)
    if fd >= 0 and world.thread.process.fds.get(fd).blocking:
        raise ValueError(f"the fd {fd} must be in non-blocking mode")
    before, own.wakeup_fd = own.wakeup_fd, fd
    return before


@door("signal", "siginterrupt")
def siginterrupt(world: World, signalnum: int, flag: bool) -> None:
    """Calls go on after a handler has run, whatever is said here (PEP 475)."""
    check(signalnum, 1)


@door("signal", "raise_signal")
def raise_signal(world: World, signalnum: int) -> None:
    _send(world, world.thread.process, signalnum)


@door("signal", "pthread_kill")
def pthread_kill(world: World, thread_id: int, signalnum: int) -> None:
    process = world.thread.process
    for thread in process.threads:
        if thread.ident == thread_id:
            send(process, signalnum, thread)
            world.before_call(world.thread)
            return
    raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))


@door("signal", "pthread_sigmask")
def pthread_sigmask(world: World, how: int, mask: Iterable[int]) -> set[Any]:
    own, thread = _own(world), world.thread
    before, wanted = own.mask(thread), {check(signum, 1) for signum in mask}
    if how == signal.SIG_BLOCK:
        after = before | wanted
    elif how == signal.SIG_UNBLOCK:
        after = before - wanted
    elif how == signal.SIG_SETMASK:
        after = frozenset(wanted)
    else:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    own.set_mask(thread, after)
    world.before_call(thread)
    return set(map(_said, before))


@door("signal", "sigpending")
def sigpending(world: World) -> set[Any]:
    return set(map(_said, _own(world).pending))


@door("signal", "pause")
def pause(world: World) -> None:
    own = _own(world)
    handled = own.handled
    own.pausing[world.thread] = None
    try:
        while own.handled == handled:
            world.block(SignalWait("a signal (signal.pause)"))
    finally:
        own.pausing.pop(world.thread, None)


def _wait(world: World, sigset: Iterable[int], timeout: float | None) -> int:
    own, thread = _own(world), world.thread
    wanted = frozenset(check(signum, 1) for signum in sigset)
    for signum in own.pending:
        if signum in wanted:
            del own.pending[signum]
            return signum
    deadline = None if timeout is None else thread.process.host.clock.world_time_after(timeout)
    names = ", ".join(sorted(str(getattr(_said(signum), "name", signum)) for signum in wanted))
    own.waiting[thread] = wanted
    try:
        while thread not in own.taken:
            if not world.block(SignalWait(f"one of the signals {names}", timeout is not None), deadline):
                break
        return own.taken.get(thread, 0)
    finally:
        del own.waiting[thread]
        own.taken.pop(thread, None)


@door("signal", "sigwait")
def sigwait(world: World, sigset: Iterable[int]) -> Any:
    return _said(_wait(world, sigset, None))


def _info(world: World, signum: int) -> signal.struct_siginfo:
    return signal.struct_siginfo((signum, 0, 0, world.thread.process.pid, os.getuid(), 0, 0))


@door("signal", "sigwaitinfo")
def sigwaitinfo(world: World, sigset: Iterable[int], /) -> signal.struct_siginfo:
    return _info(world, _wait(world, sigset, None))


@door("signal", "sigtimedwait")
def sigtimedwait(world: World, sigset: Iterable[int], timeout: float, /) -> signal.struct_siginfo | None:
    if timeout < 0:
        raise ValueError("timeout must be non-negative")
    signum = _wait(world, sigset, timeout)
    return _info(world, signum) if signum else None


# -- timers ----------------------------------------------------------------------------------------------------------------


@door("signal", "alarm")
def alarm(world: World, seconds: int, /) -> int:
    own = _own(world)
    left = own.timer()[0]
    own.set_timer(seconds, 0.0)
    return round(left + 0.5) if left else 0


def _check_timer(which: int) -> None:
    if which != signal.ITIMER_REAL:
        raise NotSimulated(
            "timers of CPU time are not simulated: a program takes none in a world; use signal.ITIMER_REAL"
        )


@door("signal", "setitimer")
def setitimer(world: World, which: int, seconds: float, interval: float = 0.0, /) -> tuple[float, float]:
    _check_timer(which)
    if seconds < 0 or interval < 0:
        raise signal.ItimerError(errno.EINVAL, os.strerror(errno.EINVAL))
    own = _own(world)
    before = own.timer()
    own.set_timer(seconds, interval if seconds else 0.0)
    return before


@door("signal", "getitimer")
def getitimer(world: World, which: int, /) -> tuple[float, float]:
    _check_timer(which)
    return _own(world).timer()


# -- from one process to another -------------------------------------------------------------------------------------------


def _send(world: World, process: Process, signum: int) -> None:
    send(process, signum)
    world.before_call(world.thread)  # to oneself: it comes before the call returns


@door("os", "kill")
def kill(world: World, pid: int, signum: int, /) -> None:
    own = world.thread.process
    try:
        check(signum)
    except ValueError:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
    if pid in {0, own.pid, -own.pid}:
        _send(world, own, signum)
        return
    for process in own.host.processes:
        if process.pid == pid and process.is_alive():
            _send(world, process, signum)
            return
    raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))


@door("os", "killpg")
def killpg(world: World, group: int, signum: int, /) -> None:
    """Each process is a group of its own."""
    kill(world, group, signum)


@door("_thread", "interrupt_main")
def interrupt_main(world: World, signum: int = Signals.SIGINT, /) -> None:
    _send(world, world.thread.process, signum)
