"""The supervisor: a plain process that forks the workers, watches them, and passes on what it is told by signals.

It runs no loop of bateau's, so that a child forked from it inherits none. Everything it waits for ends one ``select``: a signal (by
Python's wake-up descriptor), a worker's first word or its end (by a pipe).
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

from ..kernel.policy import Supervise
from .errors import WorkersFailed
from .sockets import Opened
from .worker import Job, work

# Seconds that a worker gets beyond its grace to end by itself, until it is killed.
MARGIN = 5.0

_TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_log = logging.getLogger("bateau.serve")


class _Slot:
    """The place of one worker. Invariant: ``worker`` is the one that is to serve; ``due`` is set while there is none yet."""

    def __init__(self, number: int, socks: list[socket.socket]) -> None:
        self.number = number
        self.socks = socks
        self.worker: _Worker | None = None
        self.due: float | None = None
        self.ends: list[float] = []


class _Worker:
    """One process."""

    def __init__(self, pid: int, slot: _Slot, pipe: int) -> None:
        self.pid = pid
        self.slot = slot
        self.pipe = pipe
        self.ready = False
        # Asked to end: when it is killed if it has not.
        self.kill_at: float | None = None

    def tell(self, signum: signal.Signals) -> None:
        """Send it a signal; nobody gets one if somebody else has reaped it (an ``os.wait()`` in ``on_ready``), which ``_reap`` will find."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def __str__(self) -> str:
        return f"worker {self.slot.number} (process {self.pid})"


class Supervisor:
    """See the module's head. Invariants: ``_workers`` has every child that was not reaped; ``_next`` is the successor that the rolling
    restart waits for, and no slot's worker.
    """

    def __init__(
        self, job: Job, opened: Opened, policy: Supervise, on_ready: Callable[[list[str]], object] | None
    ) -> None:
        self.job = job
        self.opened = opened
        self.policy = policy
        self.on_ready = on_ready
        self._slots = [_Slot(number, socks) for number, socks in enumerate(opened.by_worker, 1)]
        self._workers: dict[int, _Worker] = {}
        self._selector = selectors.DefaultSelector()
        self._rolling: deque[_Slot] = deque()
        self._next: _Worker | None = None
        self._begun = False
        self._stopping = 0
        self._failure: WorkersFailed | None = None
        self._life = os.pipe()
        self._wake_in, self._wake_out = socket.socketpair()

    def run(self) -> None:
        """Until every worker has ended."""
        with self._signals():
            try:
                for slot in self._slots:
                    slot.worker = self._fork(slot)
                while self._workers or not self._stopping:
                    self._turn()
            finally:
                self._end_all()
        if self._failure is not None:
            raise self._failure

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._timeout()):
            if key.data is None:
                for signum in self._wake_out.recv(4096):
                    self._told(signal.Signals(signum))
            else:
                self._spoken(key.data)
        self._reap()
        self._do_what_is_due()

    def _timeout(self) -> float | None:
        times = [slot.due for slot in self._slots if slot.due is not None]
        times += [worker.kill_at for worker in self._workers.values() if worker.kill_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    # -- signals ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Generator[None]:
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        try:
            before_fd = signal.set_wakeup_fd(self._wake_in.fileno())
        except ValueError:
            self._close()
            raise RuntimeError("serve must be called in the main thread: it is told by signals what to do") from None
        before: dict[signal.Signals, Any] = {}
        try:
            for signum in _TOLD:
                before[signum] = signal.signal(signum, _heard)
            self._selector.register(self._wake_out, selectors.EVENT_READ, None)
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
            signal.set_wakeup_fd(before_fd)
            self._close()

    def _close(self) -> None:
        self._selector.close()
        for fd in self._life:
            os.close(fd)
        self._wake_in.close()
        self._wake_out.close()

    def _told(self, signum: signal.Signals) -> None:
        if signum in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif signum == signal.SIGHUP and self._begun and not self._stopping and not self._rolling:
            _log.info("SIGHUP: replacing %d workers one after the other", len(self._slots))
            self._rolling.extend(self._slots)

    def _stop(self) -> None:
        """Ask every worker to stop; the second time, to stop at once."""
        self._stopping += 1
        self._rolling.clear()
        # First of all: whoever connects from now on is refused, instead of waiting for nobody.
        self.opened.close()
        for slot in self._slots:
            slot.due = None
        for worker in tuple(self._workers.values()):
            self._ask_to_end(worker)

    def _ask_to_end(self, worker: _Worker) -> None:
        worker.kill_at = time.monotonic() + (self.job.grace if self._stopping < 2 else 0.0) + MARGIN
        worker.tell(signal.SIGTERM)

    # -- workers ---------------------------------------------------------------------------------------------------------

    def _fork(self, slot: _Slot) -> _Worker:
        pipe, ready = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)
        try:
            pid = os.fork()
            if pid == 0:
                self._be_worker(slot, ready)  # does not return
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
        os.close(ready)
        worker = self._workers[pid] = _Worker(pid, slot, pipe)
        self._selector.register(pipe, selectors.EVENT_READ, worker)
        return worker

    def _be_worker(self, slot: _Slot, ready: int) -> None:
        """In the child, whatever happens: never come back to the supervisor's code."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for signum, handler in zip(
                _TOLD, (signal.SIG_DFL, signal.SIG_IGN, signal.SIG_IGN, signal.SIG_DFL), strict=True
            ):
                signal.signal(signum, handler)  # Ctrl-C goes to the whole group: the supervisor says what to do
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD))
            self._selector.close()
            for worker in self._workers.values():
                if worker.pipe >= 0:
                    os.close(worker.pipe)
            os.close(self._life[1])
            self._wake_in.close()
            self._wake_out.close()
            for other in self._slots:
                for sock in other.socks:
                    if sock not in slot.socks:
                        sock.close()
            work(self.job, slot.socks, ready, self._life[0])
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
                logging.shutdown()
            finally:
                os._exit(status)

    def _spoken(self, worker: _Worker) -> None:
        """Its pipe is readable: it is ready, or has ended before that (which ``_reap`` will find)."""
        worker.ready = os.read(worker.pipe, 1) == b"R"
        self._forget_pipe(worker)
        if not worker.ready:
            return
        if worker is self._next:
            self._next = None
            old, worker.slot.worker = worker.slot.worker, worker
            if old is not None and old.pid in self._workers:
                self._ask_to_end(old)
        elif not self._begun and all(slot.worker is not None and slot.worker.ready for slot in self._slots):
            self._begun = True
            if self.on_ready is not None:
                self.on_ready(list(self.opened.addresses))

    def _forget_pipe(self, worker: _Worker) -> None:
        if worker.pipe >= 0:
            self._selector.unregister(worker.pipe)
            os.close(worker.pipe)
            worker.pipe = -1

    def _reap(self) -> None:
        for worker in tuple(self._workers.values()):
            try:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has reaped it
                pid, status = worker.pid, 0
            if pid:
                if worker.pipe >= 0 and not worker.ready:
                    self._spoken(worker)  # its last word may have been that it is ready
                self._forget_pipe(worker)
                del self._workers[pid]
                self._ended(worker, _how(status))

    def _ended(self, worker: _Worker, how: str) -> None:
        slot = worker.slot
        if worker is self._next:
            self._next = None
            self._rolling.clear()
            _log.error("rolling restart given up: %s %s before it was ready; the old ones go on", worker, how)
        elif slot.worker is worker and worker.kill_at is None:
            slot.worker = None
            if not self._stopping:
                self._restart(slot, worker, how)
        elif how != _WELL:
            _log.error("%s %s while it was stopping", worker, how)

    def _restart(self, slot: _Slot, worker: _Worker, how: str) -> None:
        """The supervise policy, for processes."""
        if not self._begun:
            self._fail(f"{worker} {how} before it was ready; its error is above")
            return
        now = time.monotonic()
        policy = self.policy
        slot.ends = [end for end in slot.ends if now - end < policy.within]
        if len(slot.ends) >= policy.max_restarts:
            self._fail(
                f"{worker} {how}; it has been restarted {len(slot.ends)} times within {policy.within:g} s; giving up"
            )
            return
        slot.ends.append(now)
        slot.due = now + policy.backoff
        _log.error("%s %s; starting another", worker, how)

    def _fail(self, problem: str) -> None:
        if self._failure is None:
            self._failure = WorkersFailed(problem)
        self._stop()

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.due is not None and slot.due <= now:
                slot.due = None
                slot.worker = self._fork(slot)
        for worker in self._workers.values():
            if worker.kill_at is not None and worker.kill_at <= now:
                _log.error("%s did not end in time; it is killed", worker)
                worker.kill_at = None if self._stopping > 1 else now + MARGIN
                worker.tell(signal.SIGKILL)
        if self._rolling and self._next is None and not self._stopping:
            self._next = self._fork(self._rolling.popleft())

    def _end_all(self) -> None:
        """On the way out by an error of the supervisor's own: no worker is left behind."""
        for worker in self._workers.values():
            worker.tell(signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(worker.pid, 0)
            self._forget_pipe(worker)
        self._workers.clear()


def _heard(signum: int, frame: Any) -> None:
    """The wake-up descriptor has told it."""


_WELL = "ended with status 0"


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
