"""anyio's cancel scopes over the kernel's: each is one node of bateau's cancellation tree.

anyio's scopes can do a few things that bateau's don't offer, and all of them are the node's: the shield may be raised and lowered
while tasks run inside, and the deadline may be set at any time (it means nothing once the scope was cancelled).
"""

from __future__ import annotations

import math
import sys
from types import FrameType, TracebackType

from anyio import CancelScope as BaseCancelScope

from ...kernel.cancellation import Cancellable, CancelNode, leave
from ...kernel.current import current_task, current_task_or_none
from ...kernel.errors import PACKAGE_DIR, Cancelled, ScopeError
from ...kernel.shielding import set_shield

_ANYIO_DIR = str(sys.modules["anyio"].__path__[0])


def outer_site() -> tuple[str, int]:
    """File and line of the user's code that called anyio; anyio's own line where one of its tasks did."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE_DIR):
        frame = frame.f_back
    inner = frame
    while frame is not None and frame.f_code.co_filename.startswith(_ANYIO_DIR):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(PACKAGE_DIR):
        frame = inner  # below that is only the loop
    return (frame.f_code.co_filename, frame.f_lineno) if frame is not None else ("<unknown>", 0)


class CancelScope(BaseCancelScope):
    """See ``anyio.CancelScope``. Invariant: ``_deadline`` is what was asked for; the node has it unless it was cancelled before."""

    __slots__ = ("_deadline", "_node")

    def __new__(
        cls, *, deadline: float = math.inf, shield: bool = False, node: Cancellable | None = None
    ) -> CancelScope:
        return object.__new__(cls)

    def __init__(self, *, deadline: float = math.inf, shield: bool = False, node: Cancellable | None = None) -> None:
        self._deadline = _checked(deadline)
        if node is None:
            at = deadline if deadline != math.inf else None
            node = Cancellable(at=at, shield=bool(shield), site=outer_site())
        self._node = node

    def cancel(self, reason: str | None = None) -> None:
        self._node.cancel(reason if reason is not None else "anyio cancel scope cancelled")

    @property
    def deadline(self) -> float:
        return self._deadline

    @deadline.setter
    def deadline(self, value: float) -> None:
        node = self._node
        self._deadline = _checked(value)
        if node.record is None and not is_left(node):
            node.reschedule(value if value != math.inf else None)

    @property
    def cancel_called(self) -> bool:
        return self._node.record is not None

    @property
    def cancelled_caught(self) -> bool:
        return self._node.cancelled_caught

    @property
    def shield(self) -> bool:
        return self._node.shielded

    @shield.setter
    def shield(self, value: bool) -> None:
        set_shield(self._node, bool(value))

    def __enter__(self) -> CancelScope:
        if self._node.task is not None:
            raise RuntimeError("Each CancelScope may only be used for a single 'with' block")
        self._node._enter()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool:
        check_may_leave(self._node)
        cancelled, rest = split(exc_val)
        absorbed = leave(self._node, cancelled if cancelled is not None else exc_val)
        if absorbed and rest is not None:
            context = rest.__context__
            try:
                raise rest
            finally:
                rest.__context__ = context  # what it was when it was raised first, and not the group it is a part of
                del cancelled, rest, exc_val, context
        return absorbed


def _checked(deadline: float) -> float:
    if math.isnan(deadline):
        raise ValueError("deadline must not be NaN")
    return deadline


def is_left(node: CancelNode) -> bool:
    """Whether ``node`` was entered and has been left."""
    return node.parent is not None and node not in (node.parent.children or {})


def check_may_leave(node: CancelNode) -> None:
    """Raise what anyio raises where ``node`` can't be left here."""
    if node.task is None or is_left(node):
        raise RuntimeError("This cancel scope is not active")
    if current_task_or_none() is not node.task:
        _give_up(node)
        raise RuntimeError("Attempted to exit cancel scope in a different task than it was entered in")
    if node.task.node is not node:
        _give_up(node)
        raise RuntimeError("Attempted to exit a cancel scope that isn't the current tasks's current cancel scope")


def _give_up(node: CancelNode) -> None:
    """Unlink a node that is left in a wrong way, as the kernel does, so that the damage ends here."""
    assert isinstance(node, Cancellable)
    try:
        leave(node, None)
    except ScopeError:
        return


def split(error: BaseException | None) -> tuple[BaseException | None, BaseException | None]:
    """The cancellation in what a block raised, and what else there is. Groups are searched, since anyio's users build some."""
    if not isinstance(error, BaseExceptionGroup):
        return (error, None) if isinstance(error, Cancelled) else (None, error)
    group: BaseExceptionGroup[BaseException] = error  # pyright: ignore[reportUnknownVariableType]  # of what, nobody said
    inside, rest = group.split(Cancelled)
    cancelled: BaseException | None = inside
    while isinstance(cancelled, BaseExceptionGroup):
        cancelled = cancelled.exceptions[0]
    return cancelled, rest


def effective_deadline() -> float:
    """See ``anyio.current_effective_deadline``."""
    task_node = current_task().node
    if task_node.effective is not None:
        return -math.inf
    found = math.inf
    node: CancelNode | None = task_node
    while node is not None:
        if node.deadline_at is not None:
            found = min(found, node.deadline_at)
        node = None if node.shielded else node.parent
    return found
