"""The cancellation tree, and the one place that delivers a cancellation.

Theory of operation. Every scope, timeout, shield and task is a ``CancelNode``. A task's ``node`` is the innermost node
it has entered (itself at first). A node is *effectively* cancelled if it was cancelled itself, or if it is not shielded
and its parent is effectively cancelled; ``effective`` caches the record of that, so an operation checks one attribute.
Cancelling a node walks its unshielded subtree once, iteratively, and delivers to each task whose innermost node it
reached: N tasks cost O(N), and nothing is ever retried by polling.

Delivery has two forms. A task parked in one of our operations has that operation aborted and is woken: no native
cancellation is involved, so there is nothing to take back. Anything else (a foreign await, a running task) is the
host's ``deliver``.

Stopping is the first, gentle phase: a flag that spreads through the same tree, through shields too, and ends only
operations that declare ``ends_on_stop`` (accept loops, iterators).
"""

from __future__ import annotations

import sys
from _thread import get_ident
from collections.abc import Callable
from functools import partial
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from .current import current_task_or_none, foreign_task, tls
from .errors import Cancelled, CancelRecord, ScopeError, WrongRuntime, line_of, user_site
from .twin import CancellableFields, CancelScopeFields, Children, NodeFields, keep, native, slots, twinned

if TYPE_CHECKING:
    from .host import Host
    from .task import Task


_FOREVER = float("inf")


class CancelNode(NodeFields):
    """One node of the tree. Public forms of it are ``Scope``, ``Task`` and the timeouts.

    Invariants:
    - ``effective is not None``  iff  ``record is not None`` or (``not shielded`` and ``parent.effective is not None``).
      On a host with a native tree (``foreign_tree``) it may lag behind a native cancellation.
    - a node is in ``parent.children`` exactly while it is entered (scopes) or alive (tasks).
    - ``task`` is the task whose body runs inside the node; for a task node, the task itself.
    """

    parent: CancelNode | None
    # Insertion-ordered, because the order of deliveries must not depend on hashes. None until there is one.
    children: dict[CancelNode, None] | None
    task: Task[Any] | None
    record: CancelRecord | None
    effective: CancelRecord | None
    stopping: CancelRecord | None
    shielded: bool
    on_stop_calls: list[Callable[[], object]] | None
    deadline_at: float | None
    # What the host's ``arm`` returned, while the deadline is armed.
    timer: Any
    # Native cancellations (asyncio's task.cancel()) sent to ``task`` in this node's name, not yet taken back.
    given: int
    # Whatever the host keeps per node: asyncio the cancelling() count at entry, trio its CancelScope.
    host_data: Any
    cancelled_caught: bool

    if TYPE_CHECKING:
        __slots__ = (
            "__weakref__",
            "cancelled_caught",
            "children",
            "deadline_at",
            "effective",
            "given",
            "host_data",
            "on_stop_calls",
            "parent",
            "record",
            "shielded",
            "stopping",
            "task",
            "timer",
        )
    else:
        # What most nodes never set has its first value in the class, and a slot only in the subclasses that do set it: a slot
        # costs each task a store, a visit by each pass of the collector, and a decrement at its end. Type checkers would want
        # to know which subclass they see.
        __slots__ = slots("__weakref__", "children", "effective", "parent", "record", "stopping", "task")
        shielded = False
        on_stop_calls = None
        deadline_at = None
        timer = None
        given = 0
        host_data = None
        cancelled_caught = False

    def __init__(self) -> None:
        self.parent = None
        self.children = None
        self.task = None
        self.record = None
        self.effective = None
        self.stopping = None

    # -- asking ------------------------------------------------------------------------------------------------------

    def _cancel(self, record: CancelRecord) -> bool:
        """Cancel this node. Returns whether this was news."""
        if self.record is not None:
            return False
        self.record = record
        task = self.task
        if task is not None and task.host.instrument is not None:
            task.host.instrument.cancel(self, record)
        if self.effective is None:
            try:
                _spread(self, record)
            except BaseException:  # memory was short
                if self.effective is None:
                    self.record = None  # nobody has been told: it can be tried again
                raise
        elif self.children:  # reached from above before: who listens here may know better what to do now
            for child in tuple(self.children):
                if child.task is None:
                    child.heard()
        if task is not None:
            task.host.cancel_native(self)
        return True

    def _stop(self, record: CancelRecord) -> None:
        """Ask this subtree to stop: set the flag, call the callbacks, end the stop-aware waits."""
        todo: list[CancelNode] = [self]
        for node in todo:
            if node.stopping is not None:
                continue
            node.stopping = record
            if node.children:
                todo.extend(node.children)
            if calls := node.on_stop_calls:
                node.on_stop_calls = None
                for call in calls:
                    call()
            task = node.task
            if task is not None and task.node is node:
                operation = task.waiting
                if operation is not None and operation.ends_on_stop:
                    operation.end_by_stop()
            elif task is None:
                node.heard()

    def heard(self) -> None:
        """A stop or a cancellation has reached a node that no task has entered; see ``Listener``."""

    def _expire(self) -> None:
        """The deadline has passed. Only what is ``Cancellable`` has one."""

    def _due(self) -> None:
        """What a timer calls."""
        self._expire()


def _spread(top: CancelNode, record: CancelRecord) -> None:
    """Mark the unshielded subtree of ``top`` and deliver to the tasks found. Iterative: trees may be deep.

    Raises for want of memory alone; where the marks could not all be made, none is left.
    """
    todo = [top]
    found: list[Task[Any]] = []
    listeners: list[CancelNode] = []
    try:
        for node in todo:
            node.effective = record
            task = node.task
            if task is None:
                listeners.append(node)
            elif task.node is node:
                found.append(task)
            if node.children:
                todo.extend(child for child in node.children if not child.shielded and child.effective is None)
    except BaseException:
        for node in todo:
            if node.effective is record:
                node.effective = None
        raise
    for task in found:
        deliver(task)
    for node in listeners:
        node.heard()


keep(spread=_spread)
if not TYPE_CHECKING and native is not None:
    _spread = native.spread


class Listener(CancelNode):
    """A leaf that no task enters, told of what reaches its parent: through it a scope's token hears."""

    __slots__ = ()

    def attach(self, parent: CancelNode) -> None:
        """Become a leaf of ``parent``; what has reached the parent already is heard at once."""
        self.parent = parent
        if parent.children is None:
            parent.children = Children()
        parent.children[self] = None
        self.stopping = parent.stopping
        self.effective = parent.effective
        if parent.task is not None:
            parent.task.host.listen(parent)
        if self.stopping is not None or self.effective is not None:
            self.heard()


def deliver(task: Task[Any]) -> None:
    """Bring the cancellation of ``task.node`` to the task. The only caller of ``Host.deliver``."""
    if task.node.effective is None or task.ended:
        return
    operation = task.waiting
    if not task.started and task.scope is not None:
        if task.host.foreign_tree:  # we may be in the middle of the host's own walk over its tree
            task.host.call_soon(partial(task.scope.hurry, task))
        else:
            task.scope.hurry(task)
    elif operation is None or task.host.foreign_tree:  # a native tree aborts our operations itself
        task.host.deliver(task)
    elif not operation.shielded and operation.abort():
        task.host.wake(task)
    # Else the operation has been granted already: its value is delivered, and the next one raises (law 11).


keep(deliver=deliver)
if not TYPE_CHECKING and native is not None:
    deliver = native.deliver


def make_cancelled(task: Task[Any], record: CancelRecord | None = None) -> BaseException:
    """The exception to raise in ``task``: the host's exact type, with our record."""
    if record is None:
        record = task.node.effective
    if record is None:
        record = CancelRecord("cancelled", task_name=task.name)
    exc = task.host.new_cancelled(record)
    note_delivered(task, exc)
    return exc


keep(make_cancelled=make_cancelled)


def note_delivered(task: Task[Any], exc: BaseException) -> None:
    """``exc`` is about to be raised in ``task``. Of several raised during one clean-up, the first is the one to watch."""
    if task.delivered is None:
        task.delivered = exc


# -- entering and leaving ----------------------------------------------------------------------------------------------


def enter(node: Cancellable, task: Task[Any], ahead: float | None = None) -> Task[Any]:
    """The current task, which is ``task``, enters ``node``. Raises ``ScopeError`` if it was entered before.

    ``ahead``: its deadline, if that was worked out just now and is still to come.
    """
    if node.task is not None:
        raise ScopeError(f"this {type(node).__name__} has been entered before; make a new one for each block")
    parent = task.node
    node.task = task
    node.parent = parent
    if parent.children is None:
        parent.children = Children()
    parent.children[node] = None
    node.stopping = parent.stopping
    if node.record is not None:  # cancelled before it was entered
        node.effective = node.record
    elif not node.shielded:
        node.effective = parent.effective
    task.node = node
    host = task.host
    if not host.own_tree:
        host.enter_node(node)
    if node.record is not None:
        host.cancel_native(node)
        deliver(task)
    elif ahead is not None and host.own_tree:
        node.timer = host.set_timer(ahead, node)
    elif node.deadline_at is not None:
        node._arm(host)
    return task


def leave(node: Cancellable, exc: BaseException | None, own: bool = True) -> bool:
    """The current task leaves ``node`` with ``exc``. Returns whether the node absorbs it (a cancellation of its own).

    ``own=False``: the node was cancelled because ``exc``, which foreign code sent, had come; it is not the node's to absorb.
    Raises ``ScopeError`` if the node is not this task's innermost one: some scope was left open inside it.
    """
    task = node.task
    assert task is not None and node.parent is not None
    timer = node.timer
    if timer is not None:
        node.timer = None
        task.host.clear_timer(timer)
    if task.node is not node:
        _left_out_of_order(node, task)
    here = tls.running.task or current_task_or_none()
    parent = node.parent
    task.node = parent
    if parent.children is not None:
        parent.children.pop(node, None)
    if exc is None and here is task and node.record is None and parent.effective is None and task.host.own_tree:
        # Nothing has been cancelled, and the host has no part in it: so it is with nearly every block (measured: a timeout costs
        # a tenth less).
        task.delivered = None
        return False
    if here is not task:
        task.host.leave_node(node, None)
        raise ScopeError(
            f"{_title(node)} was entered by task {task.name!r} and is being left by "
            f"{f'task {here.name!r}' if here is not None else 'code outside any task'}; "
            "enter and leave a scope in the same task (a generator or fixture that yields inside it breaks this)"
        )
    decided = task.host.leave_node(node, exc)
    if decided is None:
        outer = parent.effective
        decided = own and node.record is not None and isinstance(exc, Cancelled) and (outer is None or node.shielded)
    if node.record is not None and decided:
        node.cancelled_caught = True
    if decided or parent.effective is None or (exc is None and node.record is not None):
        # It has come to where it was going; what is outside has not been raised yet. (A block that ends quietly under a
        # cancellation from further out is not where that was going: if it was dropped in there, the next wait says so.)
        task.delivered = None
    elif isinstance(exc, Cancelled):
        task.delivered = (
            exc if exc.record is not None else None
        )  # foreign code's cancellation is for foreign code to catch
    if parent.effective is not None and exc is None:
        # Leaving a shield, or a cancelled scope from which the body returned: what waits outside has not been told yet.
        deliver(task)
    return decided


def _left_out_of_order(node: CancelNode, task: Task[Any]) -> None:
    """Unlink ``node`` from the middle of its task's chain, so that the damage ends here, and raise."""
    blame = task.node
    inner: CancelNode | None = blame
    parent = node.parent
    assert parent is not None
    while inner is not None and inner.parent is not node:
        inner = inner.parent
    if inner is not None:
        inner.parent = parent
        if node.children is not None:
            node.children.pop(inner, None)
        if parent.children is not None:
            parent.children.pop(node, None)
            parent.children[inner] = None
    task.host.leave_node(node, None)
    raise ScopeError(
        f"{_title(node)} is being left while {_title(blame)}, "
        f"entered later by task {task.name!r}, is still open; scopes must be left in the reverse order of entering "
        "(was one opened in a generator that is suspended at a yield?)"
    )


def _title(node: CancelNode) -> str:
    return f"{type(node).__name__} {getattr(node, 'name', '')!r}"


# -- the light nodes: timeouts, shields --------------------------------------------------------------------------------


class Cancellable(CancellableFields, CancelNode):
    """What a scope and a timeout have in common: they can be cancelled, and have a deadline that can be moved."""

    __slots__ = slots(
        "_site_code",
        "_site_offset",
        "cancelled_caught",
        "deadline_at",
        "given",
        "host_data",
        "on_stop_calls",
        "relative",
        "shielded",
        "timer",
    )

    def __init__(
        self,
        *,
        seconds: float | None = None,
        at: float | None = None,
        shield: bool = False,
        site: tuple[str, int] | None = None,
    ) -> None:
        self._set_up(seconds, at, shield, site if site is not None else user_site(sys._getframe(1)))

    if TYPE_CHECKING:
        # The line on which it was made.
        site: tuple[str, int]
    elif native is None:  # the twin has this as well
        site = property(lambda self: line_of(self._site_code, self._site_offset))

    def _set_up(self, seconds: float | None, at: float | None, shield: bool, site: tuple[str, int] | FrameType) -> None:
        """What ``__init__`` does: written to be called without keywords, from one Python function to the next.

        ``site``: a file and a line, or the frame of who makes it.
        """
        # The fields of CancelNode, set here and not by its __init__: a call less per scope.
        self.parent = None
        self.children = None
        self.task = None
        self.record = None
        self.effective = None
        self.stopping = None
        self.on_stop_calls = None
        self.timer = None
        self.given = 0
        self.host_data = None
        self.cancelled_caught = False
        self.shielded = shield
        # The usual types are told apart here, for a call less.
        if (type(seconds) is float or type(seconds) is int) and seconds >= 0:
            self.relative: float | None = seconds
        else:
            self.relative = check_seconds(seconds)
        self.deadline_at = _check_when(at) if at is not None else None
        if native is not None:
            self.site = site if isinstance(site, tuple) else (site.f_code.co_filename, site.f_lineno)
        elif isinstance(site, tuple):
            self._site_code: CodeType | tuple[str, int] = site
            self._site_offset = 0
        else:
            self._site_code = site.f_code
            self._site_offset = site.f_lasti

    @property
    def deadline(self) -> float | None:
        """When this scope expires, on the runtime's clock (``bateau.now()``), or None. Known once entered."""
        return self.deadline_at

    @property
    def cancel_called(self) -> bool:
        """Whether this scope itself was cancelled, by its deadline or by ``cancel``."""
        self._sync()
        return self.record is not None

    def _sync(self) -> None:
        """Where deadlines are the host's own: learn whether this one has fired."""
        if self.timer is not None and self.task is not None:
            self.task.host.sync_node(self)

    def cancel(self, reason: str = "scope cancelled") -> None:
        """Cancel what runs inside. Not a cancellation point. From the runtime's thread only: use a token elsewhere."""
        self.check_thread("cancel")
        task = current_task_or_none()
        self._cancel(CancelRecord(reason, task_name=task.name if task is not None else None))

    def check_thread(self, verb: str) -> None:
        """Raise ``WrongRuntime`` off the thread of the task that entered this scope."""
        task = self.task
        if task is not None and task.host.thread_id != get_ident():
            raise WrongRuntime(
                f"can't {verb} {_title(self)} from thread {get_ident()}: it lives in {task.host.describe()}; "
                "use a token of it (`scope.token`), which works from any thread"
            )

    def reschedule(self, when: float | None) -> None:
        """Move the deadline to ``when`` on the runtime's clock; None takes it away. Raises once expired or left."""
        self.check_thread("reschedule")
        self._sync()
        if self.record is not None:
            raise ScopeError("this scope has been cancelled already; its deadline can't be moved any more")
        if self.task is not None and self.parent is not None and self not in (self.parent.children or {}):
            raise ScopeError("this scope has been left; its deadline can't be moved any more")
        self.deadline_at = _check_when(when)
        self.relative = None
        self._disarm()
        if self.task is not None:
            self._arm(self.task.host)

    # -- deadlines ---------------------------------------------------------------------------------------------------

    def _arm(self, host: Host) -> None:
        """Start the timer of an entered node. There is none before something could be waiting for it (law 10)."""
        if self.deadline_at is not None and self.deadline_at != _FOREVER and self.timer is None and self.record is None:
            if self.deadline_at <= host.now():
                self._expire()
            else:
                self.timer = host.arm(self)

    def _disarm(self) -> None:
        timer, self.timer = self.timer, None
        if timer is not None and self.task is not None:
            self.task.host.clear_timer(timer)

    def _expire(self) -> None:
        self.timer = None
        self._cancel(self._deadline_record())

    def _enter(self) -> Task[Any]:
        task = tls.running.task or foreign_task()
        relative = self.relative
        if relative is None:
            return enter(self, task)
        self.deadline_at = when = task.host.now() + relative
        return enter(self, task, when if 0 < relative < _FOREVER else None)

    def _deadline_record(self) -> CancelRecord:
        name = self.task.name if self.task is not None else None
        text = "deadline passed" if self.relative is None else f"timeout of {self.relative:g} s passed"
        return CancelRecord(text, task_name=name, site=self.site)


@twinned("__enter__", "__exit__")
class CancelScope(CancelScopeFields, Cancellable):
    """A block of code that can be cancelled as one: a deadline, a shield, or both. Works in ``with`` and ``async with``.

    Leaving it never suspends. ``cancelled_caught`` tells afterwards whether the block was cut short by this scope.
    """

    __slots__ = ()

    def __enter__(self) -> CancelScope:
        self._enter()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        absorbed = leave(self, exc)
        if absorbed:
            self._after_absorbing(exc)
        return absorbed

    async def __aenter__(self) -> CancelScope:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        return self.__exit__(exc_type, exc, tb)

    def _after_absorbing(self, exc: BaseException | None) -> None:
        """A hook for the forms that raise."""


@twinned()
class RaisingTimeout(CancelScope):
    """A ``CancelScope`` that turns its own expiry into ``TimeoutError``; an explicit ``cancel`` is only absorbed."""

    __slots__ = slots("expired")

    def __init__(
        self, *, seconds: float | None = None, at: float | None = None, site: tuple[str, int] | None = None
    ) -> None:
        self._set_up(seconds, at, False, site or user_site(sys._getframe(1)))
        self.expired = False

    def _expire(self) -> None:
        if self.record is None:  # trio tells of it once more while it is asked for it
            self.expired = True
        super()._expire()

    def _after_absorbing(self, exc: BaseException | None) -> None:
        if self.expired:
            record = self.record
            assert record is not None
            raise TimeoutError(f"{record.reason} [{record.filename}:{record.lineno}]") from exc


def check_seconds(seconds: float | None, what: str = "seconds") -> float | None:
    """``seconds`` if it is a duration; raises ``TypeError`` or ``ValueError`` that say what was given."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TypeError(f"{what} must be a number of seconds or None, not {type(seconds).__name__}")
    if not seconds >= 0:  # also catches NaN
        raise ValueError(f"{what} must be 0 or more, not {seconds!r}")
    return seconds


def _check_when(when: float | None) -> float | None:
    """``when`` if it is a point in time: a NaN among the timers would put all of them out of order."""
    if when is not None:
        if isinstance(when, bool) or not isinstance(when, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f"a deadline must be a time on bateau.now()'s clock or None, not {type(when).__name__}")
        if when != when:
            raise ValueError("a deadline must be a time on bateau.now()'s clock, not nan")
    return when
