"""What a test may not leave behind, and how to find it: descriptors, threads, child processes, and what nobody ever looked at.

``Snapshot`` compares the process before a test and after it. What is on its way out (a thread that has finished its work but not yet
its exit) gets a short time to settle; what is still there then is a leak, and the report says what it is. ``Unseen`` collects what would
only be printed: hazards, coroutines that were never awaited, errors that nobody retrieved or could catch. ``residue`` lists what stands
on a loop: tasks and timers. Descriptors and child processes are seen where there is a ``/proc`` (Linux).
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..kernel.errors import HazardWarning
from ..kernel.host import Host
from .waits import asyncio_tasks, loop_of

# Threads that outlive a run on purpose, by the start of their name: idle workers wait for the next job.
IDLE_POOLS = (
    "bateau-worker",  # bateau's own pool
    "Trio thread",  # trio's thread cache: they end after ten idle seconds
)
# Processes that Python's own library keeps until the end, by a word of their command line.
KEPT_PROCESSES = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")

SETTLE_SECONDS = float(os.environ.get("BATEAU_TEST_SETTLE", "2"))


def make_process_globals() -> None:
    """Let libraries open now what they open once per process and keep, so that no test is blamed for it."""
    try:
        import uvloop
    except ImportError:
        return
    uvloop.new_event_loop().close()  # libuv's pipe for signals


def open_descriptors() -> dict[int, str]:
    """Each open descriptor and what it refers to (``socket:[123]``, a path, ``anon_inode:[eventpoll]``)."""
    found: dict[int, str] = {}
    kept = _kept_descriptors()
    for name in _listed("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of the listing itself, gone by now
        if int(name) not in kept:
            found[int(name)] = what
    return found


def _kept_descriptors() -> set[int]:
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    fd = getattr(getattr(tracker, "_resource_tracker", None), "_fd", None)
    return set() if fd is None else {fd}


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def child_processes() -> dict[int, str]:
    """Each child process, zombies included, with its command line or state."""
    found: dict[int, str] = {}
    for thread in _listed("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                pids = file.read().split()
        except FileNotFoundError:
            continue  # the thread ended while we were looking
        for pid in pids:
            try:
                with open(f"/proc/{pid}/cmdline") as file:
                    line = file.read().replace("\0", " ").strip() or "zombie: nobody waited for it"
            except FileNotFoundError:
                continue
            if not any(word in line for word in KEPT_PROCESSES):
                found[int(pid)] = line
    return found


def live_threads() -> set[threading.Thread]:
    """The threads that are no idle workers."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith(IDLE_POOLS)}


class ErrorLog(logging.Handler):
    """Collects what asyncio only logs: exceptions never retrieved, tasks destroyed while pending, callbacks that raised."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            message += f"\n      {record.exc_info[1]!r}"
        self.messages.append(message)

    def __enter__(self) -> ErrorLog:
        logging.getLogger("asyncio").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("asyncio").removeHandler(self)


@dataclass
class Snapshot:
    """The process before a test."""

    descriptors: dict[int, str] = field(default_factory=open_descriptors)
    threads: set[threading.Thread] = field(default_factory=live_threads)
    children: dict[int, str] = field(default_factory=child_processes)

    def leaks(self) -> list[str]:
        """What is there now and was not before, and descriptors that a test closed though they were not its own."""
        now = open_descriptors()
        found = [f"descriptor {fd}: {what}" for fd, what in sorted(now.items()) if self.descriptors.get(fd) != what]
        found += [
            f"descriptor {fd} was closed, and was not the test's to close: {what}"
            for fd, what in sorted(self.descriptors.items())
            if fd not in now
        ]
        found += [f"thread {thread.name!r} (daemon={thread.daemon})" for thread in live_threads() - self.threads]
        found += [f"child process {pid}: {what}" for pid, what in child_processes().items() if pid not in self.children]
        return found

    def settled_leaks(self, seconds: float = SETTLE_SECONDS) -> list[str]:
        """The leaks that are still there after garbage collection and a short wait, in seconds."""
        return settled(self.leaks, seconds)

    def allow(self, before: Snapshot) -> None:
        """What has come (and gone) since ``before`` is not the test's: a fixture that outlives it was set up meanwhile."""
        now = Snapshot()
        self.descriptors |= {fd: what for fd, what in now.descriptors.items() if before.descriptors.get(fd) != what}
        for fd in before.descriptors.keys() - now.descriptors.keys():
            self.descriptors.pop(fd, None)
        self.threads |= now.threads - before.threads
        self.children |= {pid: line for pid, line in now.children.items() if pid not in before.children}


def settled(
    leaks: Callable[[], list[str]],
    seconds: float = SETTLE_SECONDS,
    pause_for: Callable[[float], object] = time.sleep,
) -> list[str]:
    """What ``leaks()`` still finds after garbage collection and a short wait, in seconds; ``pause_for`` does the waiting."""
    gc.collect()
    deadline = time.monotonic() + seconds
    pause = 0.001
    while found := leaks():
        if time.monotonic() > deadline:
            return found
        pause_for(pause)
        pause = min(pause * 2, 0.1)
        gc.collect()
    return []


class Unseen:
    """Collects, from ``start`` to ``stop``, what nobody would see: the list of ``stop`` has a line for each.

    Hazards and coroutines never awaited are warnings: those that the test itself catches (``pytest.warns``) or filters out are not
    collected, and all other warnings go on to where they would have gone. Invariant: the hooks of the process are ours in between.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._warnings: list[warnings.WarningMessage] = []
        self._log = ErrorLog()
        self._errors: list[str] = []

    def start(self) -> None:
        """Begin. Not re-entrant; innermost first out."""
        stack = self._stack
        self._warnings = stack.enter_context(warnings.catch_warnings(record=True))
        stack.enter_context(self._log)
        depth = sys.get_coroutine_origin_tracking_depth()
        sys.set_coroutine_origin_tracking_depth(max(depth, 1))  # so that the warning has the line
        stack.callback(sys.set_coroutine_origin_tracking_depth, depth)
        stack.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = self._unraisable
        stack.callback(setattr, threading, "excepthook", threading.excepthook)
        threading.excepthook = self._thread_failed

    def stop(self) -> list[str]:
        """End; what was collected."""
        gc.collect()
        self._stack.close()
        found = [f"asyncio logged: {message}" for message in self._log.messages] + self._errors
        for each in self._warnings:
            text = str(each.message)
            if issubclass(each.category, HazardWarning):
                found.append(f"hazard {text} [{each.filename}:{each.lineno}]")
            elif issubclass(each.category, RuntimeWarning) and "was never awaited" in text:
                found.append(f"{text} [{each.filename}:{each.lineno}]" if "\n" not in text else text)
            else:
                warnings.showwarning(each.message, each.category, each.filename, each.lineno, each.file, each.line)
        return found

    def _unraisable(self, args: Any) -> None:
        where = f" in {args.object!r}" if args.object is not None else ""
        error = args.exc_value if args.exc_value is not None else args.exc_type
        self._errors.append(f"error that nobody could catch{where}: {error!r}{_site(error)}")

    def _thread_failed(self, args: Any) -> None:
        name = args.thread.name if args.thread is not None else "?"
        self._errors.append(f"thread {name!r} failed: {args.exc_value!r}{_site(args.exc_value)}")


def _site(error: Any) -> str:
    """Where an error was raised, in brackets."""
    tb = getattr(error, "__traceback__", None)
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return f" [{tb.tb_frame.f_code.co_filename}:{tb.tb_lineno}]" if tb is not None else ""


# -- what stands on a loop -----------------------------------------------------------------------------------------------


def residue(host: Host) -> dict[int, str]:
    """The tasks of foreign code and the timers that stand on ``host``, by identity. uvloop shows no timers."""
    found: dict[int, str] = {}
    for task in asyncio_tasks(host):
        coro = task.get_coro()
        found[id(task)] = f"asyncio task {task.get_name()!r}{_of(coro)}"
    for timer in _timers(host):
        callback = getattr(timer, "fn", None) or getattr(timer, "_callback", None)
        if callback is not None and not _is_internal(callback):
            found[-getattr(timer, "number", -id(timer))] = (
                f"timer that will call {_name(callback)}{_of(_plain(callback))}"
            )
    return found


def _timers(host: Host) -> list[Any]:
    scheduled = getattr(loop_of(host), "_scheduled", None) or ()
    found = [timer for timer in scheduled if not timer.cancelled()]
    pending = getattr(host, "pending_timers", None)
    timers = pending() if pending is not None else getattr(host, "_timers", ())
    return [*found, *(timer for timer in timers if getattr(timer, "fn", None) is not None)]


def _plain(callback: Callable[..., Any]) -> Any:
    while isinstance(callback, partial):
        callback = callback.func
    return getattr(callback, "__func__", callback)


def _name(callback: Callable[..., Any]) -> str:
    plain = _plain(callback)
    return str(getattr(plain, "__qualname__", plain))


def _is_internal(callback: Callable[..., Any]) -> bool:
    """Timers of the kernel's and of loops' own: they belong to scopes and tasks, which are looked at themselves."""
    module = str(getattr(_plain(callback), "__module__", "") or "")
    return module.startswith(("bateau.", "asyncio.", "trio.")) or module in {"asyncio", "trio"}


def _of(thing: Any) -> str:
    code = getattr(thing, "cr_code", None) or getattr(thing, "__code__", None)
    return f" [{code.co_filename}:{code.co_firstlineno}]" if code is not None else ""
