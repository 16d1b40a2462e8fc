"""How many functions of one run have a thread at once, and which wait for one.

Kept per run, on the host's thread; the threads themselves are the process's (``pool``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..kernel.host import Host
from ..kernel.operation import PARKED, Operation
from ..kernel.resource import OUTSIDE, Resource
from .pool import submit

if TYPE_CHECKING:
    from .jobs import Job

# How many functions may run at once for one run, unless it says otherwise.
DEFAULT_LIMIT = 40

_WORKERS = object()


class Workers(Resource):
    """The worker threads of one run: how many functions run, how many wait for a thread. Used on the host's thread only.

    Invariant: ``running`` counts the jobs that have a permit: those started, less those that wait for a request of theirs.
    It may exceed ``limit`` when requests return, never when jobs start. ``queued`` is empty unless ``running >= limit``.
    """

    __slots__ = ("host", "jobs", "limit", "queued", "running")
    kind = "worker threads"

    def __init__(self, host: Host) -> None:
        self.host = host
        self.limit = DEFAULT_LIMIT
        self.running = 0
        self.queued: deque[Job] = deque()
        # Those that a task waits for, first come first.
        self.jobs: dict[Job, None] = {}

    def set_limit(self, limit: int) -> None:
        """From now on at most ``limit`` functions of this run have a thread at once. Raises ``ValueError`` below 1."""
        if isinstance(limit, bool) or not isinstance(limit, int):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f"limit must be a whole number of threads, not {type(limit).__name__}")
        if limit < 1:
            raise ValueError(f"limit must be 1 or more threads, not {limit!r}")
        self.limit = limit
        self._start_queued()

    def admit(self, job: Job) -> None:
        """Start the job, or queue it."""
        self.jobs[job] = None
        if job.counted and self.running >= self.limit:
            self.queued.append(job)
        else:
            self._start(job)

    def withdraw(self, job: Job) -> bool:
        """Take back a queued job; False if it has been started."""
        try:
            self.queued.remove(job)
        except ValueError:
            return False
        return True

    def give_back(self, job: Job) -> None:
        """The job has ended, or waits for a request of its own: another may run."""
        if job.counted:
            self.running -= 1
            self._start_queued()

    def retake(self, job: Job) -> None:
        """The request was answered: the job goes on at once, whatever the limit (waiting here could be a deadlock)."""
        if job.counted:
            self.running += 1

    def _start(self, job: Job) -> None:
        if job.counted:
            self.running += 1
        job.started = True
        try:
            submit(job.main)
        except BaseException as error:  # no thread could be started: the waiting task learns it
            job.error = error
            self.host.call_soon(job.ended)

    def _start_queued(self) -> None:
        while self.queued and self.running < self.limit:
            self._start(self.queued.popleft())

    def waiters(self) -> Iterable[Operation[Any]]:
        return [job.op for job in self.jobs if job.op.state is PARKED]

    def satisfiers(self) -> Any:
        return OUTSIDE

    def describe(self) -> str:
        return f"worker threads ({self.running} of {self.limit} busy, {len(self.queued)} queued)"


class Permit:
    """The place of one function under its caller's own limiter; given back while the function waits for a request of its own.

    Invariant: the limiter is entered exactly while ``held``.
    """

    __slots__ = ("held", "limiter")

    def __init__(self, limiter: AbstractAsyncContextManager[Any]) -> None:
        self.limiter = limiter
        self.held = False

    async def __aenter__(self) -> Permit:
        await self.limiter.__aenter__()
        self.held = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        if not self.held:
            return None
        self.held = False
        return await self.limiter.__aexit__(exc_type, exc, tb)


def workers_of(host: Host) -> Workers:
    """The ``Workers`` of a host's run, made when first asked for."""
    found: Workers | None = host.run_vars.get(_WORKERS)
    if found is None:
        found = host.run_vars[_WORKERS] = Workers(host)
    return found
