"""What a test may not leave behind: descriptors, threads, child processes, errors nobody saw.

A snapshot is taken before a test and compared after it. What is on its way out (a thread that has finished its work but not yet
its exit) gets a short time to settle; what is still there then is a leak, and the report says what it is.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from dataclasses import dataclass, field

# Threads that outlive a run on purpose, by the start of their name: idle workers wait for the next job.
IDLE_POOLS = (
    "bateau-worker",  # bateau's own pool
    "Trio thread",  # trio's thread cache: they end after ten idle seconds
)

SETTLE_SECONDS = float(os.environ.get("BATEAU_TEST_SETTLE", "2"))


def make_process_globals() -> None:
    """Let libraries open now what they open once per process and keep, so that no test is blamed for it."""
    try:
        import uvloop
    except ImportError:
        return
    uvloop.new_event_loop().close()  # libuv's pipe for signals


def open_descriptors() -> dict[int, str]:
    """Each open descriptor and what it refers to (`socket:[123]`, a path, `anon_inode:[eventpoll]`)."""
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # the descriptor of the listing itself, gone by now
    return found


def child_processes() -> dict[int, str]:
    """Each child process, zombies included, with its command line or state."""
    found: dict[int, str] = {}
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                pids = file.read().split()
        except FileNotFoundError:
            continue  # the thread ended while we were looking
        for pid in pids:
            try:
                with open(f"/proc/{pid}/cmdline") as file:
                    found[int(pid)] = file.read().replace("\0", " ").strip() or "zombie: nobody waited for it"
            except FileNotFoundError:
                continue
    return found


def live_threads() -> set[threading.Thread]:
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
        gc.collect()
        deadline = time.monotonic() + seconds
        pause = 0.001
        while leaks := self.leaks():
            if time.monotonic() > deadline:
                return leaks
            time.sleep(pause)
            pause = min(pause * 2, 0.1)
            gc.collect()
        return []
