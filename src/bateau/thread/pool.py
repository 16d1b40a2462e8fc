"""The process's idle worker threads, shared by every runtime in it.

A thread that finishes a job waits a while for the next one, then ends. How many jobs may run at once is not decided
here but per run (``bateau.thread.workers``): here a job always gets a thread, so the pool can't wait on itself.
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any

# Seconds a thread waits for its next job.
IDLE_SECONDS = 10.0

Job = Callable[[], None]


class Worker:
    """One thread and its letter box.

    Invariant: ``box`` is locked except between a delivery (``job`` is set, then ``box`` released) and its pick-up.
    """

    __slots__ = ("box", "job")

    def __init__(self, job: Job) -> None:
        self.box = allocate_lock()
        self.box.acquire()
        self.job: Job | None = job

    def main(self) -> None:
        """Run jobs until there has been none for a while."""
        while True:
            job, self.job = self.job, None
            assert job is not None
            job()
            del job  # an idle thread must keep nothing of its last job alive
            _idle.append(self)
            if not self.box.acquire(timeout=IDLE_SECONDS) and not self._is_called():
                return

    def _is_called(self) -> bool:
        """Time is up. Leave the pool, or find that a job is just being delivered and take it."""
        try:
            _idle.remove(self)
        except ValueError:
            self.box.acquire()
            return True
        return False


# Last in, first out, so that the surplus goes idle. ``pop``, ``append`` and ``remove`` are each atomic: whoever takes a
# worker out of the list is the only one to call it or to end it.
_idle: list[Worker] = []
_started = 0


def submit(job: Job) -> None:
    """Run ``job()``, which must not raise, on an idle thread or a new one. Raises ``RuntimeError`` if none can start."""
    global _started
    try:
        worker = _idle.pop()
    except IndexError:
        from threading import Thread

        _started += 1
        worker = Worker(job)
        # Daemon: an idle thread must not hold up the interpreter's exit; a busy one is awaited by who started it.
        Thread(target=worker.main, name=f"bateau-worker-{_started}", daemon=True).start()
        return
    worker.job = job
    worker.box.release()


def idle_workers() -> int:
    """How many threads wait for a job."""
    return len(_idle)


def _forget(*_: Any) -> None:
    """In a forked child the threads are gone."""
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
