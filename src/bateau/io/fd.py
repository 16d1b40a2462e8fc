"""Waiting for file descriptors: the one layer between everything that has an fd and the running host.

Sockets, pipes and terminals try their non-blocking system call first; when it would block, an ``FdOperation`` parks on one
*side* (reading or writing) of an ``FdWatch`` and tries again when the host says that the fd is ready.

Registrations are left in place between waits: level-triggered readiness makes that harmless, and a loop of reads then costs
no ``epoll_ctl`` per call. A readiness event that finds nobody waiting takes the registration out.

Ownership: an ``FdWatch`` never closes the fd. Whoever owns the fd calls ``FdWatch.close()`` first, which takes out every
registration and wakes the waiters with ``Closed``, and only then closes the fd, once. So no event of an old fd can reach
whoever gets the same number next.
"""

from __future__ import annotations

import select
from _thread import get_ident
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..kernel.cancellation import make_cancelled
from ..kernel.current import foreign_task, tls
from ..kernel.errors import Closed, Stopped, WrongRuntime
from ..kernel.operation import ABORTED, DONE, FIRED, NEW, PARKED, STEP_BUDGET, RetryOperation, yield_once
from ..kernel.resource import OUTSIDE, Resource
from ..kernel.swallowed import check_swallowed
from ..kernel.twin import (
    FdOperationFields,
    FdsOperationFields,
    FdWatchFields,
    SideFields,
    keep,
    slots,
    twinned,
)

if TYPE_CHECKING:
    from ..kernel.host import Host
    from ..kernel.operation import Operation
    from ..kernel.task import Task

T = TypeVar("T")


class Turns:
    """Counts the turns of a loop that looks at the fds once more between waking a task and stepping it (asyncio's family).

    That look finds the data that the woken task is about to take, and reports it again. An event that is handled in the same
    turn in which the side was drained was seen before the draining: it is stale, and a true one will be repeated.
    """

    __slots__ = ("count", "host", "pending")

    def __init__(self, host: Host) -> None:
        self.host = host
        self.count = 0
        self.pending = False

    def mark(self) -> int:
        """The number of this turn. The next one is counted by the first callback of it, before any event of it."""
        if not self.pending:
            self.pending = True
            self.host.call_soon(self._next)
        return self.count

    def _next(self) -> None:
        self.pending = False
        self.count += 1


def turns_of(host: Host) -> Turns | None:
    """The one counter of ``host``, or None where a woken task steps before the next look at the fds."""
    if not hasattr(host, "loop"):
        return None
    found: Turns | None = host.run_vars.get(Turns)
    if found is None:
        found = host.run_vars[Turns] = Turns(host)
    return found


@twinned("ready")
class Side(SideFields):
    """One direction of an ``FdWatch``: who waits for it, and where it is registered.

    Invariants: ``host`` is not None iff ``fd`` is registered there in this direction. Every operation in ``waiters`` is
    PARKED. ``quiet`` is True only while something will end it (``host`` is set, or ``in_host``): the last attempt left nothing to
    do and no event came since, so that an attempt before the next event would be a wasted system call. ``drained`` is the turn
    in which it became so.
    It does not know its watch, so that there is no reference cycle and what is dropped is freed at once.
    """

    __slots__ = slots("closed", "drained", "fd", "host", "in_host", "quiet", "turns", "waiters", "write")

    def __init__(self, fd: int, write: bool) -> None:
        self.fd = fd
        self.write = write
        self.closed = False
        self.host: Host | None = None
        # Whether waits on it are the host's own (``FdOperation.waits_in``): each ends with ``quiet`` taken back.
        self.in_host = False
        self.quiet = False
        self.turns: Turns | None = None
        self.drained = 0
        self.waiters: list[FdOperation[Any]] = []

    def add(self, op: FdOperation[Any]) -> None:
        """Park ``op`` here. Raises ``Closed``, or ``OSError`` where the fd can't be watched."""
        if self.closed:
            raise Closed(f"{op.resource.describe()} is closed; open a new one")
        if self.host is None:
            self._arm(op)
        self.waiters.append(op)

    def discard(self, op: FdOperation[Any]) -> None:
        """Take ``op`` out, if it is in; the registration stays until an event finds nobody."""
        if op in self.waiters:
            self.waiters.remove(op)

    def _arm(self, op: FdOperation[Any]) -> None:
        task = op.task
        assert task is not None
        host = task.host
        if op.watcher is None and task.foreign and op.waits_in(host):
            return  # the host suspends the task on the fd itself: see FdOperation.wait_hint
        try:
            if self.write:
                host.add_writer(self.fd, self.ready)
            else:
                host.add_reader(self.fd, self.ready)
        except PermissionError:
            # Regular files and some devices can't be watched because they are always ready.
            host.call_soon(self.ready)
        else:
            self.host = host
            self.turns = turns_of(host)

    def drain(self) -> None:
        """The last attempt left nothing to do, so there is no use in another before the next event."""
        if self.host is not None or self.in_host:
            self.quiet = True
            if self.turns is not None:
                self.drained = self.turns.mark()

    def ready(self) -> None:
        """The host says: an attempt may succeed now."""
        if self.quiet:
            turns = self.turns
            if turns is not None and turns.count == self.drained:
                return  # stale
            self.quiet = False
        waiters = self.waiters
        if not waiters:
            self.disarm()
            return
        if len(waiters) == 1:
            op = waiters[0]
            if op.watcher is None and op.lone:  # ``fire`` written out
                waiters.clear()
                op.state = FIRED
                task = op.task
                assert task is not None
                task.host.wake(task)
                return
        for op in tuple(waiters):
            # Firing one may take others back: those of the same select.
            if op.state is PARKED and op.claim():
                self.discard(op)
                op.fire()

    def lost(self) -> None:
        """The fd was closed behind bateau's back, and its number is another's now, who watches it: who waits for the old one is told."""
        self.host = None
        self.quiet = False
        self.closed = True
        waiters, self.waiters = self.waiters, []
        for op in waiters:
            if op.state is PARKED and op.claim():
                op.fail(
                    Closed(
                        f"{op.resource.describe()} was closed behind bateau's back: descriptor {self.fd} is another one's now"
                    )
                )

    def disarm(self) -> None:
        """Take the registration out, if there is one."""
        host, self.host = self.host, None
        self.quiet = False
        if host is not None:
            if self.write:
                host.remove_writer(self.fd)
            else:
                host.remove_reader(self.fd)


class FdWatch(FdWatchFields, Resource):
    """The readiness of one file descriptor, which should be non-blocking. It belongs to the runtime that first waits on it.

    ``label`` is what messages call it, a text or a function that makes one.
    """

    __slots__ = slots("__weakref__", "_home", "_label", "_thread", "closed", "fd", "reading", "writing")
    kind: ClassVar[str] = "fd"

    def __init__(self, fd: int, *, label: str | Callable[[], str] | None = None) -> None:
        if fd < 0:
            raise ValueError(f"a file descriptor is 0 or more, not {fd}; was it closed?")
        self.fd = fd
        self.closed = False
        self.reading = Side(fd, False)
        self.writing = Side(fd, True)
        self._label = label
        self._home: Host | None = None
        self._thread = 0

    def readable(self) -> Ready:
        """Await it: until a read would not block (data, end of stream, or an error to be told).

        A cancellation point; cancelled, it had no effect. Raises ``Closed`` if the watch is closed meanwhile.
        """
        return Ready(self, self.reading)

    def writable(self) -> Ready:
        """Await it: until a write of at least one byte would not block. See ``readable``."""
        return Ready(self, self.writing)

    def close(self) -> None:
        """Stop watching: every waiter wakes with ``Closed``. The fd stays open; its owner closes it next. Idempotent.

        Raises ``WrongRuntime`` from another thread than that of the runtime it is used in.
        """
        if self.closed:
            return
        if self.must_close_elsewhere():
            assert self._home is not None
            raise WrongRuntime(
                f"{self.describe()} is used by {self._home.describe()} and is being closed from thread {get_ident()}; "
                "close it there (from a worker thread: by bateau.thread.from_thread)"
            )
        home = self._home
        self.closed = True
        parked = False
        for side in (self.reading, self.writing):
            side.closed = True
            side.disarm()
            waiters, side.waiters = side.waiters, []
            for op in waiters:
                if op.claim():
                    parked = True
                    op.fail(self.closed_error())
        notify = getattr(home, "notify_closing", None)
        if parked and notify is not None:
            notify(self.fd)

    def must_close_elsewhere(self) -> bool:
        """Whether there is something to take out or to wake, and it lives on another thread than the running one."""
        home = self._home
        if home is None or get_ident() == self._thread or getattr(home, "_closed", False):
            return False
        return self.reading.host is not None or self.writing.host is not None or bool(self.waiters())

    def closed_error(self) -> Closed:
        """The error of using it after ``close``."""
        return Closed(f"{self.describe()} is closed; open a new one")

    # -- as a resource -------------------------------------------------------------------------------------------------

    def check_home(self, host: Host) -> None:
        """Raise ``WrongRuntime`` if this belongs to another runtime than ``host``."""
        home = self._home
        if home is host:
            return
        if home is None or home.domain is host.domain:
            self._home = host
            self._thread = get_ident()
            return
        raise WrongRuntime(
            f"{self.describe()} belongs to {home.describe()} and is being used from {host.describe()}; "
            "open one in each, or hand the data over through a channel"
        )

    def waiters(self) -> Iterable[Operation[Any]]:
        return (*self.reading.waiters, *self.writing.waiters)

    def satisfiers(self) -> Any:
        return OUTSIDE

    def describe(self) -> str:
        label = self._label
        if label is None:
            return f"fd {self.fd}"
        return label if isinstance(label, str) else label()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.describe()}{', closed' if self.closed else ''}>"


@twinned("__await__")
class FdOperation(FdOperationFields, RetryOperation[T]):
    """Base of every wait on an fd: a subclass's ``poll`` tries the system call; this class parks on the side.

    A subclass that keeps something while it waits gives it up in ``given_up``.
    """

    __slots__ = slots("side")
    # Whether it waits on one side only, so that there is no other to leave when it is fired.
    lone = True

    def __init__(self, watch: Resource, side: Side) -> None:
        super().__init__(watch)
        self.side = side

    def register(self) -> None:
        self.side.add(self)

    def unregister(self) -> None:
        self.side.discard(self)
        self.given_up()

    def given_up(self) -> None:
        """The wait ends without success. Called at least once in that case, and never after success."""

    def __await__(self) -> Generator[Any, Any, T]:
        # ``RetryOperation.__await__`` with ``begin`` and ``wait_hint`` written out: this is every read and write.
        if self.state is not NEW:
            raise RuntimeError(
                f"this {type(self).__name__} was awaited before; each call gives a single-use awaitable, so call again"
            )
        task = tls.running.task or foreign_task()
        host = task.host
        self.state = ABORTED
        if task.node.effective is not None or task.foreign and host.is_cancelled(task):
            check_swallowed(task)
            yield from host.raise_cancelled(task)
        if self.ends_on_stop and task.node.stopping is not None:
            raise Stopped("the scope was asked to stop")
        task.budget -= 1
        if task.budget < 0:
            task.budget = STEP_BUDGET
            yield from yield_once(task)
        self.task = task
        self.resource.check_home(host)
        waited = False
        while not (self._poll_again() if waited else self.poll()):
            if waited:  # a cancellation or stop that came after the hint found nothing parked to abort
                self.state = ABORTED
                if task.node.effective is not None or task.foreign and host.is_cancelled(task):
                    try:
                        yield from host.raise_cancelled(task)  # behind a shield of trio's it raises nothing
                    except BaseException:  # mostly the cancellation: the place goes to the next
                        self.given_up()
                        raise
                elif self.ends_on_stop and task.node.stopping is not None:
                    self.given_up()
                    raise Stopped("the scope was asked to stop")
            waited = True
            self.state = PARKED
            try:
                self.register()
                if task.foreign and self.waits_in(host):
                    yield from self._wait_in_host(task)
                else:
                    task.waiting = self
                    while True:
                        sent = yield host.park(task)
                        if host.resumed is not None:
                            host.resumed(task)
                        if self.state is FIRED:
                            break
                        if self.state is ABORTED:
                            host.resume_aborted(task, sent)
            except BaseException:  # whatever comes out of the wait, it is over
                if self.state is PARKED:
                    self.abort()
                elif self.state is FIRED:
                    self.given_up()  # ``abort`` has nothing to take out of the queue any more
                raise
            finally:
                task.waiting = None
                task.budget = STEP_BUDGET
            if self.error is not None:
                self.given_up()
                error, self.error = self.error, None
                raise error
        self.state = DONE
        return self.value  # type: ignore[no-any-return]  # set by poll, which is typed

    def _poll_again(self) -> bool:
        try:
            return self.poll()
        except BaseException:  # whatever it was (no memory, say): nobody waits here any more
            self.state = ABORTED
            self.given_up()
            raise

    def waits_in(self, host: Host) -> bool:
        """Whether ``host`` suspends a task on an fd by a means of its own (trio does), instead of calling back."""
        return getattr(host, "wait_fd", None) is not None

    def _wait_in_host(self, task: Task[Any]) -> Generator[Any, Any, None]:
        task.waiting = self
        host: Any = task.host
        side = self.side
        side.in_host = True
        try:
            yield from host.wait_fd(side.fd, side.write)
            if host.resumed is not None:
                host.resumed(task)
        except PermissionError:
            pass  # a regular file: always ready
        except BaseException:
            if self.state is not FIRED or self.error is None:
                raise
            # Closed while it waited: the error that says so replaces the host's own.
        side.quiet = False
        if self.state is ABORTED:
            yield from host.raise_cancelled(task)
            raise make_cancelled(task)
        if self.state is PARKED:
            side.discard(self)
            self.state = FIRED


def _stopped(op: FdOperation[Any]) -> None:
    """For the twin: its scope was asked to stop while ``op`` made another attempt in vain."""
    if op.ends_on_stop:
        op.given_up()
        raise Stopped("the scope was asked to stop")


keep(fd_stopped=_stopped)


class FdsOperation(FdsOperationFields, FdOperation[T]):
    """A wait on several sides at once, of one fd or of many: the first that is ready leads to another ``poll``.

    ``sides`` may change from one ``poll`` to the next; it is never empty (``side`` is the first).
    """

    __slots__ = slots("sides")
    lone = False

    def __init__(self, resource: Resource, sides: tuple[Side, ...]) -> None:
        super().__init__(resource, sides[0])
        self.sides = sides

    def waits_in(self, host: Host) -> bool:
        return False  # no host suspends a task on several fds

    def register(self) -> None:
        try:
            for side in self.sides:
                side.add(self)
        except BaseException:
            self._leave()
            raise

    def unregister(self) -> None:
        self._leave()
        self.given_up()

    def _fired(self) -> None:
        self._leave()
        super()._fired()

    def _leave(self) -> None:
        for side in self.sides:
            side.discard(self)


class Ready(FdOperation[None]):
    """``FdWatch.readable()`` and ``writable()``."""

    __slots__ = ()

    def poll(self) -> bool:
        side, watch = self.side, self.resource
        if side.closed:
            raise Closed(f"{watch.describe()} is closed; open a new one")
        poller = select.poll()
        poller.register(side.fd, select.POLLOUT if side.write else select.POLLIN)
        for _fd, mask in poller.poll(0):
            if mask & select.POLLNVAL:
                raise Closed(
                    f"{watch.describe()} was closed behind bateau's back: its descriptor is not valid any more"
                )
            return True
        return False

    def describe(self) -> str:
        return f"{'writability' if self.side.write else 'readability'} of {self.resource.describe()}"
