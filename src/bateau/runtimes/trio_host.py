"""The host that rides on trio's own tasks, nurseries and cancel scopes.

Theory of operation. Trio has a cancellation tree of its own, and it is the truth here (``foreign_tree``): each node of ours
opens a ``trio.CancelScope`` that mirrors its shield and deadline, a task of ours runs in one, and a scope holds a nursery.
So scopes and shields of trio and of bateau nest in any order, and trio's code sees our deadlines. The kernel's tree is kept
beside it for what trio does not know: reasons, origins, stopping.

- Cancelling a node cancels its trio scope; trio then asks ``Seat.abort`` of each task parked in an operation of ours.
- A deadline is trio's alone. Ours learns that it fired (``sync``) when a cancellation arrives somewhere below it, when it is
  asked, or at the latest when the node is left.
- Whether a node absorbs an exception is what the trio scope's ``__exit__`` says.
- Our operations park with trio's own trap. Every wake is a ``reschedule``; whether one is still due is told by
  ``custom_sleep_data``, which trio clears whenever it reschedules, for whatever reason.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakKeyDictionary, ref

import trio

from ..kernel.cancellation import CancelNode, note_delivered
from ..kernel.errors import CancelRecord, ScopeError, Unsupported
from ..kernel.host import Timer
from ..kernel.task import Task
from .trio_cancelled import adopt_cancelled, put_record
from .trio_helpers import records
from .trio_services import Seat, TrioServices

if TYPE_CHECKING:
    from ..kernel.scope import Scope

T = TypeVar("T")

_CANCEL_TAKES_REASON = "reason" in inspect.signature(trio.CancelScope.cancel).parameters
# Trio's own cache of what ``trio.current_effective_deadline() == -inf`` computes by walking up the tree. Asked for at each
# operation, so the cache is read where this trio has it (measured: 45 ns against 400 ns at a depth of five).
_HAS_STATUS = hasattr(trio.lowlevel.Task, "_cancel_status")
_run_host: trio.lowlevel.RunVar[TrioHost] = trio.lowlevel.RunVar("bateau host")
_NEW: Any = object()
_current = trio.lowlevel.current_task
# Absent in older versions. Asked first, because outside of trio (asyncio programs import it by way of anyio) an exception
# at each operation would cost more than the operation.
_in_task: Callable[[], bool] | None = getattr(trio.lowlevel, "in_trio_task", None)


def find_current_task() -> Task[Any] | None:
    """The record of the trio task running on this thread, made when it is first asked for; None outside any.

    Trio's internal task that runs callbacks from other threads, and our own service tasks, count as outside.
    """
    if _in_task is not None:
        if not _in_task():
            return None
        native = _current()
    else:
        try:
            native = _current()
        except RuntimeError:
            return None
    task = records.get(id(native), _NEW)
    return _adopt(native) if task is _NEW else task


def current_run_host() -> TrioHost:
    """The one host of the trio run on this thread. Raises ``RuntimeError`` outside any."""
    try:
        return _run_host.get()
    except LookupError:
        host = TrioHost()
        host.attach()
        return host


def _adopt(native: trio.lowlevel.Task) -> Task[Any] | None:
    if native.name == "<TrioToken.run_sync_soon task>":
        return None  # no record: nobody would take it out, and a task of the next run may get the same ``id``
    if _HAS_STATUS and cast("Any", native)._cancel_status is None:
        return None  # it has ended: trio words the error it ended with, whose reason asks who is running
    host = current_run_host()
    task: Task[Any] = Task(host, None, name=native.name, context=native.context)
    task.started = True
    key = id(native)

    def ended(_: Any) -> None:  # ``key`` can't be another task's yet: the old one is being freed
        records.pop(key, None)
        host.adopted_ended(task)

    host.seat(task, native, ref(native, ended))
    return task


class _NativeRef(ref[trio.lowlevel.Task]):
    """Knows whose record must go when its trio task is freed, even if a crash of trio's kept it from ending."""

    __slots__ = ("key",)
    key: int


def _dropped(reference: ref[trio.lowlevel.Task]) -> None:
    records.pop(cast("_NativeRef", reference).key, None)


class _Deadline:
    """The armed deadline of a node: its trio scope's. ``cancel`` takes it back."""

    __slots__ = ("node", "timer")

    def __init__(self, node: CancelNode) -> None:
        self.node = node
        self.timer: Timer | None = None

    def watch(self, host: TrioHost) -> None:
        """Have the kernel learn at once when it fires: a listener waits for that."""
        when = self.node.deadline_at
        if self.timer is None and when is not None:
            self.timer = host.call_at(when, lambda: host.sync_node(self.node))

    def cancel(self) -> None:
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()
        node = self.node
        native = node.host_data
        if native is None:
            return
        if node.record is None and native.cancel_called:
            node._expire()  # it fired, and nobody had looked yet
        else:
            native.deadline = math.inf


class _Nursery:
    """What a scope holds here."""

    __slots__ = ("manager", "nursery")

    def __init__(self, manager: Any, nursery: trio.Nursery) -> None:
        self.manager = manager
        self.nursery = nursery


class TrioHost(TrioServices):
    """See the module's head.

    Invariant: ``_nodes`` maps the trio scope of every node that is entered, and of every task of ours that runs, to it.
    """

    name = "trio"
    foreign_tree = True
    rides = True

    def __init__(self) -> None:
        super().__init__()
        adopt_cancelled()
        self._nodes: dict[trio.CancelScope, CancelNode] = {}
        # By trio's cancel status: the cancelled node found above it. Each task of a deep tree asks, and walks to where the last
        # one has been. As in our own tree, the first cancellation that reached a status is the one it keeps. Weak on both sides:
        # a record leads, over the error that caused it, to the trio task whose status is the key.
        self._found: WeakKeyDictionary[Any, ref[CancelNode]] = WeakKeyDictionary()
        # Whether a scope's token was ever asked for: only then does a deadline cost a timer of ours beside trio's.
        self._listening = False

    def attach(self) -> None:
        """Become the host of the trio run on this thread."""
        _run_host.set(self)
        self.attach_services()

    def seat(self, task: Task[Any], native: trio.lowlevel.Task, reference: ref[trio.lowlevel.Task]) -> None:
        """``native`` is the trio task of ``task``."""
        task.host_task = Seat(self, task, reference)
        records[id(native)] = task

    def adopted_ended(self, task: Task[Any]) -> None:
        """A trio task that was not ours has ended. This may run in the garbage collector, on any thread."""
        seat, task.host_task = task.host_task, None
        seat.unseat()
        if task.joiners or task.at_end:
            with suppress(RuntimeError):  # the run is over, and so are those who waited
                self.call_threadsafe(lambda: task.finish(None, None))
        else:
            task.ended = True
            if self.instrument is not None:
                self.instrument.end(task, None)

    # -- the five operations -------------------------------------------------------------------------------------------

    def current(self) -> Task[Any] | None:
        return find_current_task()

    def park(self, task: Task[Any]) -> Any:
        return task.host_task.sit()

    def wake(self, task: Task[Any]) -> None:
        seat = task.host_task
        if seat is not None:
            seat.wake()

    def deliver(self, task: Task[Any]) -> None:
        """Trio delivers: ``cancel_native`` has told it."""

    def enter_node(self, node: CancelNode) -> None:
        native = trio.CancelScope(shield=node.shielded)
        native.__enter__()
        node.host_data = native
        self._nodes[native] = node

    def leave_node(self, node: CancelNode, exc: BaseException | None) -> bool | None:
        native, task = node.host_data, node.task
        if native is None or task is None:
            return None
        node.host_data = None
        self._nodes.pop(native, None)
        seat: Seat | None = task.host_task
        if seat is None:
            return None  # its task has ended, and has left it
        if find_current_task() is not task or task.node is not node.parent:
            # The kernel's error says so. Trio's tree would break if it were left here and now: its task does that in time.
            seat.abandoned.append(native)
            return None
        self._leave_abandoned(seat)
        try:
            absorbed = native.__exit__(type(exc) if exc is not None else None, exc, None) and exc is not None
        except RuntimeError as error:
            if "stack corrupted" in str(error):
                raise ScopeError(f"a trio scope was left open inside {type(node).__name__}: {error}") from exc
            raise
        finally:
            if native.cancelled_caught:
                node.cancelled_caught = True
                task.delivered = None
            self._leave_abandoned(seat)
        return absorbed

    @staticmethod
    def _leave_abandoned(seat: Seat) -> None:
        """Leave what was to be left out of order or by another task, as soon as it is the innermost."""
        native: Any = seat.ref() if seat.abandoned else None
        while seat.abandoned:
            if _HAS_STATUS and native._cancel_status._scope is not seat.abandoned[-1]:
                return
            with suppress(RuntimeError):
                seat.abandoned.pop().__exit__(None, None, None)

    def _leave_open(self, task: Task[Any]) -> None:
        """``task`` has ended: leave the blocks that it has left open, for its trio scope to be the innermost."""
        node: CancelNode | None = task.node
        self._leave_abandoned(task.host_task)
        while node is not None and node is not task:
            native, node.host_data = node.host_data, None
            if native is not None:
                self._nodes.pop(native, None)
                with suppress(RuntimeError):
                    native.__exit__(None, None, None)
            self._leave_abandoned(task.host_task)
            node = node.parent

    async def open_scope(self, scope: Scope) -> None:
        manager = trio.open_nursery()
        scope.native = _Nursery(manager, await manager.__aenter__())

    async def close_scope(self, scope: Scope, cancelled: BaseException | None) -> BaseException | None:
        native, scope.native = scope.native, None
        if scope.task is not None:
            self._leave_abandoned(scope.task.host_task)
        try:
            await native.manager.__aexit__(None, None, None)
        except RuntimeError:
            if scope.task is not None and scope.task.node is scope:
                raise
            # Another scope is still open inside: leaving this one, next, says which.
        except BaseException as error:
            _, rest = self.split_cancelled(error)
            if rest is not None:
                scope._errors.append(rest)
        return cancelled

    # -- cancellation --------------------------------------------------------------------------------------------------

    def cancelled_type(self) -> type[BaseException]:
        return trio.Cancelled

    def new_cancelled(self, record: CancelRecord) -> BaseException:
        create = cast("Any", trio.Cancelled)._create
        try:
            exc = create(source="explicit", reason=record.reason)
        except TypeError:  # a trio that gives no reasons
            exc = create()
        put_record(exc, record)
        return cast("BaseException", exc)

    def cancel_native(self, node: CancelNode) -> None:
        native, record = node.host_data, node.record
        if native is None:
            if isinstance(node, Task) and node.scope is None and node.started:
                self._refuse(node)  # pyright: ignore[reportUnknownArgumentType]  # of whatever
            return  # not started: ``start`` looks at the record
        if _CANCEL_TAKES_REASON and record is not None:
            native.cancel(reason=record.reason)
        else:
            native.cancel()

    def _refuse(self, task: Task[Any]) -> None:
        record, task.record = task.record, None
        todo: list[CancelNode] = [task]
        for node in todo:
            if node.effective is record:
                node.effective = None
                todo.extend(node.children or ())
        raise Unsupported(
            f"task {task.name!r} was started by trio, not by bateau, and trio has no way to cancel a single task from "
            "outside: cancel the trio nursery or cancel scope it runs in, or a bateau scope opened inside it"
        )

    def arm(self, node: CancelNode) -> Timer:
        node.host_data.deadline = node.deadline_at
        deadline = _Deadline(node)
        if self._listening:
            deadline.watch(self)
        return deadline

    def listen(self, node: CancelNode) -> None:
        self._listening = True
        found: CancelNode | None = node
        while found is not None:
            if not isinstance(found, Task) and isinstance(found.timer, _Deadline):
                found.timer.watch(self)
            found = found.parent

    def sync_node(self, node: CancelNode) -> None:
        if (
            node.timer is not None
            and node.record is None
            and node.host_data is not None
            and node.host_data.cancel_called
        ):
            node._expire()

    def sync(self, task: Task[Any]) -> None:
        """Learn which deadlines around ``task`` have fired. Where it is known to be cancelled, those further out change nothing:
        going on to the top, each task of a deep tree would make its cancellation quadratic (law 10).
        """
        node: CancelNode | None = task.node
        while node is not None and node.effective is None:
            if not isinstance(node, Task):  # a task has no deadline
                self.sync_node(node)
            node = node.parent

    def is_cancelled(self, task: Task[Any]) -> bool:
        if not _HAS_STATUS:
            return trio.current_effective_deadline() == -math.inf
        seat = task.host_task
        native = seat.ref() if seat is not None else None
        if native is None or native._cancel_status is None:
            return task.node.effective is not None  # it has ended
        if native._cancel_status.effectively_cancelled:
            return True
        runner = native._runner
        return runner.ki_pending and native is runner.main_task

    def raise_cancelled(self, task: Task[Any]) -> Generator[Any, Any, None]:
        """Does nothing where trio sees no cancellation: a shield of trio's may stand between."""
        if self.is_cancelled(task):
            sent = yield task.host_task.at_once()
            self.resume_aborted(task, sent)

    def resume_aborted(self, task: Task[Any], sent: Any) -> None:
        try:
            sent.unwrap()
        except trio.Cancelled as exc:
            self.tag(task, exc)
            raise
        raise self.new_cancelled(task.node.effective or CancelRecord("cancelled", task_name=task.name))

    def tag(self, task: Task[Any], exc: BaseException) -> None:
        """Put the record on a cancellation raised in ``task``, if one of our nodes is what cancelled it."""
        record = self.visible_record(task)
        if record is not None:
            put_record(exc, record)
            if task.node.effective is not None:
                note_delivered(task, exc)

    def visible_record(self, task: Task[Any]) -> CancelRecord | None:
        """The record of the innermost node of ours whose cancellation ``task`` sees. None: it is cancelled by trio code."""
        self.sync(task)
        seat = task.host_task
        native = seat.ref() if seat is not None else None
        if not _HAS_STATUS or native is None:
            return task.node.effective
        status: Any = native._cancel_status
        passed: list[Any] = []
        found: CancelNode | None = None
        while status is not None and status.effectively_cancelled:
            known = self._found.get(status)
            found = known() if known is not None else None
            if found is not None:
                break
            passed.append(status)
            scope = status._scope
            node = self._nodes.get(scope)
            if node is not None and scope.cancel_called:
                found = node
                break
            if scope.shield:
                break
            status = status._parent
        if found is None:
            return None
        reference: ref[CancelNode] = ref(found)
        if not isinstance(found, Task):
            self.sync_node(found)  # a foreign child task is below it, but not in our tree
        for status in passed:
            self._found[status] = reference
        return found.record

    def split_cancelled(self, error: BaseException) -> tuple[BaseException | None, BaseException | None]:
        """``error`` taken apart: a cancellation in it, and the rest. Trio's nurseries raise theirs in groups."""
        if isinstance(error, trio.Cancelled):
            return error, None
        if not isinstance(error, BaseExceptionGroup):
            return None, error
        group = cast("BaseExceptionGroup[BaseException]", error)
        matched, rest = group.split(trio.Cancelled)
        if matched is None:
            return None, group
        leaf: BaseException = matched
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        return leaf, rest

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def spawn_root(self, task: Task[Any]) -> None:
        task.started = True
        if self.instrument is not None:
            self.instrument.spawn(task)
        self._open_task(task)
        # Until the end of the run: trio cancels its system tasks then.
        trio.lowlevel.spawn_system_task(self.run_task, task, name=task.name, context=task.context)

    def start(self, task: Task[Any]) -> None:
        assert task.scope is not None and task.context is not None
        self._open_task(task)
        # start_soon copies the context it is called in: this way the task gets the one made for it.
        task.context.run(task.scope.native.nursery.start_soon, self.run_task, task, name=task.name)

    def _open_task(self, task: Task[Any]) -> None:
        native = task.host_data = trio.CancelScope()
        self._nodes[native] = task
        if task.record is not None:
            self.cancel_native(task)

    async def run_task(self, task: Task[Any]) -> None:
        """What the trio task of one of ours runs. Errors go to the scope, never to the nursery.

        Nor do cancellations: trio repeats them at each checkpoint, so the scope's own task raises them once all have ended.
        """
        native = trio.lowlevel.current_task()
        reference = _NativeRef(native, _dropped)
        reference.key = id(native)
        self.seat(task, native, reference)
        task.context = native.context
        if self.resumed is not None:
            self.resumed(task)
        value, error = await self._in_scope(task)
        records.pop(id(native), None)
        self._nodes.pop(task.host_data, None)
        seat, task.host_task, task.host_data = task.host_task, None, None
        seat.unseat()
        task.finish(value, error)
        if isinstance(error, GeneratorExit):
            raise error

    async def _in_scope(self, task: Task[T]) -> tuple[T | None, BaseException | None]:
        """The outcome of the task's coroutine inside its trio scope, with the traceback of its own frames only."""
        assert task.coro is not None
        value: T | None = None
        caught: BaseException | None = None
        try:
            with task.host_data:
                try:
                    value = await task.coro
                except BaseException as error:
                    tb = error.__traceback__
                    error.__traceback__ = tb.tb_next if tb is not None else None
                    del tb  # it holds this frame
                    cancelled, caught = self.split_cancelled(error)
                    if caught is None and cancelled is not None:
                        caught = cancelled
                        self.tag(task, cancelled)  # it may come from a wait of trio's own
                self._leave_open(task)
        except RuntimeError as error:  # a scope of trio's was left open inside
            error.__context__ = caught
            error.__traceback__ = None
            caught = error
        return value, caught

    async def run_main(self, coro: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
        """Run ``coro`` in the current trio task as a program's main task; returns its value or its error."""
        task: Task[T] = Task(self, coro, name="main")
        task.started = True
        if self.instrument is not None:
            self.instrument.spawn(task)
        self._open_task(task)
        await self.run_task(task)
        task.error_seen = True
        return task._value, task._error
