"""What a host gives the kernel: identify, park, wake, deliver, shield; and the services around them.

A host is one running loop (or kernel engine) on one thread. Everything here is called on the host's own thread, except
``call_threadsafe``. Primitives never see a host: they fire operations, and ``operation`` and ``cancellation`` talk to it.
"""

from __future__ import annotations

from _thread import get_ident
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from . import instrument
from .cancellation import make_cancelled
from .errors import Cancelled

if TYPE_CHECKING:
    from .cancellation import CancelNode
    from .errors import CancelRecord
    from .instrument import Instrument
    from .scope import Scope
    from .task import Task
    from .timers import Waiter


class Timer(Protocol):
    """A pending call; ``cancel`` is idempotent and immediate."""

    def cancel(self) -> None: ...


class Host:
    """The base of every host. The five operations have no default; the services may have one."""

    name: str = "?"
    # The thread it runs on, for telling a local wake from a foreign one.
    thread_id: int = 0
    # True where cancellation may come from a native tree that ours does not see (trio): operations then ask
    # ``is_cancelled`` as well as the node. Each task keeps a copy, as ``foreign``.
    foreign_tree: bool = False
    # The number of the last task before its run began, where names are to be the same in each run: the simulator's hosts set it.
    first_id: int = 0
    # True where entering and leaving a node of the tree is the kernel's affair alone: ``enter_node`` and ``leave_node`` have nothing to
    # do there, and are not called for the usual block.
    own_tree: bool = False
    # Whether a task that was spawned becomes ready by being put last in ``ready``; else ``start`` has more to do.
    fifo: bool = False
    ready: deque[Task[Any]]
    # Memory was short when a task became ready: it is not in ``ready``, and must be put there later.
    starved: bool = False
    # True where another loop drives: its steps are not ours to see.
    rides: bool = False
    # Whether a coroutine of a task may be resumed without those that await it; see ``direct``.
    resumes_directly: bool = False
    # Who observes this host; see ``instrument``, which sets both.
    instrument: Instrument | None = None
    # On a host that rides: told of each task that goes on after a wait of ours.
    resumed: Callable[[Task[Any]], None] | None = None

    def __init__(self) -> None:
        # Where ``local`` primitives are at home: hosts that share one thread and loop share one domain.
        self.domain: object = self
        # Read for each new task: from the instance that takes a tenth of the time that it takes from the class.
        self.foreign_tree = type(self).foreign_tree
        # Values of run-scoped variables; they live as long as this run.
        self.run_vars: dict[Any, Any] = {}
        self.thread_id = get_ident()
        # Read at each wait and each wake, so here too and not only in the class (measured: 12 ns instead of 25).
        self.instrument = None
        self.resumed = None
        instrument.made(self)

    # -- the five ------------------------------------------------------------------------------------------------

    def current(self) -> Task[Any] | None:
        """Identify: the task running now on this host, or None."""
        raise NotImplementedError

    def park(self, task: Task[Any]) -> Any:
        """Park: the object an operation yields to suspend ``task`` until ``wake``."""
        raise NotImplementedError

    def wake(self, task: Task[Any]) -> None:
        """Wake: make a parked task run. Doubled wakes are one; waking a running or ended task is harmless."""
        raise NotImplementedError

    def deliver(self, task: Task[Any]) -> None:
        """Deliver: the innermost node of ``task`` is cancelled and it is not parked in one of our operations.

        Where it awaits something foreign, that await gets one native cancellation per cancelled scope; a running
        task gets it once it has suspended in something foreign.
        """
        raise NotImplementedError

    def enter_node(self, node: CancelNode) -> None:
        """Shield (and scope): ``node`` was entered by its task; mirror it in the native tree if there is one."""

    def leave_node(self, node: CancelNode, exc: BaseException | None) -> bool | None:
        """The node is being left with ``exc``. Take back native cancellations given in its name.

        Returns None to let the kernel's tree decide whether the node absorbs ``exc``; a bool where the host decided.
        """
        return None

    async def open_scope(self, scope: Scope) -> None:
        """``scope`` was entered; hosts with a native tree open their nursery. Awaited only with ``foreign_tree``."""

    async def close_scope(self, scope: Scope, cancelled: BaseException | None) -> BaseException | None:
        """All children have ended; close the nursery. Returns the cancellation that leaves the block, if any."""
        return cancelled

    # -- cancellation's native side ----------------------------------------------------------------------------------

    def cancelled_type(self) -> type[BaseException]:
        """The exact exception type a cancelled task of this host sees; a subclass of (or) ``bateau.Cancelled``."""
        raise NotImplementedError

    def new_cancelled(self, record: CancelRecord) -> BaseException:
        """An exception of the exact type, carrying ``record``."""
        return self.cancelled_type()(record)

    def arm(self, node: CancelNode) -> Any:
        """Make the deadline of an entered node cancel it; returns a timer, for ``clear_timer``. Hosts whose native scopes have deadlines let those do it."""
        assert node.deadline_at is not None
        return self.set_timer(node.deadline_at, node)

    def sync_node(self, node: CancelNode) -> None:
        """The state of an armed node is being asked: hosts with deadlines of their own look whether it fired."""

    def listen(self, node: CancelNode) -> None:
        """A listener was attached to ``node``: from now on it must hear of deadlines when they pass, not when asked."""

    def sync(self, task: Task[Any]) -> None:
        """Like ``sync_node``, for every node around ``task``."""

    def split_cancelled(self, error: BaseException) -> tuple[BaseException | None, BaseException | None]:
        """What a body raised, taken apart: its cancellation, and its failure. Some hosts raise both in one group."""
        return (error, None) if isinstance(error, Cancelled) else (None, error)

    def cancel_native(self, node: CancelNode) -> None:
        """``node`` itself was cancelled; hosts with a native tree cancel their mirror of it."""

    def is_cancelled(self, task: Task[Any]) -> bool:
        """Whether the next operation of ``task`` must raise. Only asked where ``foreign_tree`` is true."""
        return task.node.effective is not None

    def raise_cancelled(self, task: Task[Any]) -> Any:
        """An iterator for ``yield from`` that raises the pending cancellation (without suspending)."""
        raise make_cancelled(task)

    def resume_aborted(self, task: Task[Any], sent: Any) -> None:
        """A parked operation was aborted by a cancellation and now resumes with ``sent``: raise."""
        raise make_cancelled(task)

    def rearm(self, task: Task[Any], exc: BaseException) -> None:
        """A native cancellation arrived at a wait that had already been granted: give it back, for the next wait."""
        raise exc

    # -- tasks -------------------------------------------------------------------------------------------------------

    def start(self, task: Task[Any]) -> None:
        """Make ``task`` (with its coroutine and context set) runnable; call ``task.finish(...)`` when it ends."""
        raise NotImplementedError

    def spawn_root(self, task: Task[Any]) -> None:
        """Start a task that belongs to no scope. For the kernel's and the library's own helpers, whose end somebody awaits."""
        task.started = True
        if self.instrument is not None:
            self.instrument.spawn(task)
        self.start(task)

    def pause(self, task: Task[Any]) -> Any:
        """The object an operation yields to let the others run once."""
        return None

    def watch_end(self, task: Task[Any]) -> None:
        """Somebody needs to know when ``task`` ends. Hosts that adopt foreign tasks arrange for ``task.finish`` then."""

    # -- time, threads, fds ------------------------------------------------------------------------------------------

    def now(self) -> float:
        """This host's clock, in seconds; monotonic, with an arbitrary start."""
        raise NotImplementedError

    def wall_time(self) -> float:
        """Seconds since the epoch; hosts with a virtual clock have a virtual one of these too."""
        from time import time

        return time()

    def call_at(self, when: float, fn: Callable[[], None]) -> Timer:
        """Call ``fn`` on this host's thread once ``now() >= when``."""
        raise NotImplementedError

    def set_timer(self, when: float, waiter: Waiter) -> Any:
        """The same for the kernel's own waits: tell ``waiter`` by its ``_due()``. Returns what ``clear_timer`` takes back."""
        return self.call_at(when, waiter._due)

    def clear_timer(self, timer: Any) -> None:
        """Take back what ``set_timer`` or ``arm`` has given, at once; harmless once it was due."""
        timer.cancel()

    def call_soon(self, fn: Callable[[], None]) -> None:
        """Call ``fn`` on this host's thread, after what is now running, before any poll that blocks."""
        raise NotImplementedError

    def call_threadsafe(self, fn: Callable[[], None]) -> None:
        """Like ``call_soon``, from any thread; interrupts a blocking poll. Raises ``RuntimeError`` if the host ended."""
        raise NotImplementedError

    def add_reader(self, fd: int, fn: Callable[[], None]) -> None:
        """Call ``fn`` each time ``fd`` is readable, until ``remove_reader``. One reader per fd."""
        raise NotImplementedError

    def remove_reader(self, fd: int) -> None:
        """Undo ``add_reader``; harmless where there is none. Must come before the fd is closed."""
        raise NotImplementedError

    def add_writer(self, fd: int, fn: Callable[[], None]) -> None:
        """Call ``fn`` each time ``fd`` is writable, until ``remove_writer``. One writer per fd."""
        raise NotImplementedError

    def remove_writer(self, fd: int) -> None:
        """Undo ``add_writer``; harmless where there is none. Must come before the fd is closed."""
        raise NotImplementedError

    def hold(self, what: str) -> Callable[[], None]:
        """Something outside (a thread, a child process) will call back: no deadlock can be proven until the returned
        function is called.
        """
        return _nothing

    def forked(self) -> None:
        """This process is the child of a fork, and the host the parent's: from now on, refuse to go on."""

    def wake_threadsafe(self, task: Task[Any]) -> None:
        """``wake`` from any thread. A host that has ended swallows it: its tasks have ended too."""
        try:
            self.call_threadsafe(lambda: self.wake(task))
        except RuntimeError:
            return

    def describe(self) -> str:
        """For messages: the runtime's name and thread."""
        return f"runtime {self.name!r} on thread {self.thread_id}"


def _nothing() -> None:
    """The release of a hold on a host that keeps no count."""
