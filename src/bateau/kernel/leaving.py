"""How the block of a scope ends: the wait for its children, what was deferred, and what is raised. See ``scope``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from .cleanup import Cleanup
from .errors import Cancelled, CancelRecord
from .operation import NEW, Operation
from .task import Join, Task
from .twin import DrainFields, PassageFields, slots, twinned

if TYPE_CHECKING:
    from .scope import Scope

T = TypeVar("T")

# Why a scope ends its children when its body gets a cancellation that none of our scopes sent. It is not the scope's to absorb.
FROM_OUTSIDE = "the task was cancelled by code outside bateau"


class Drain(DrainFields, Operation[None]):
    """A scope's wait for its children. Shielded: cancellation reaches the children instead."""

    __slots__ = slots("background", "scope")
    shielded = True
    keeps_grant = False

    def __init__(self, scope: Scope, background: bool) -> None:
        # The base's __init__, written out: each scope with children makes one.
        self.resource = scope
        self.state = NEW
        self.value = None
        self.error = None
        self.task = None
        self.watcher = None
        self.scope = scope
        self.background = background

    def satisfied(self) -> bool:
        """Whether the children waited for have ended."""
        scope = self.scope
        return not scope._foreground and not (self.background and scope._background)

    def poll(self) -> bool:
        return self.satisfied()

    def register(self) -> None:
        self.scope._drain = self

    def unregister(self) -> None:
        self.scope._drain = None

    def describe(self) -> str:
        return f"end of the children of {self.scope.describe()}"


@twinned(final=True)  # pure Python has no use for it
class Passage(PassageFields, Drain):
    """The twin's way through a block's door, as one operation: entering, or waiting for the children and leaving."""

    __slots__ = ()


class ShieldedJoin(Join[T]):
    """A join that can't be cancelled."""

    __slots__ = ()
    shielded = True


async def wait_for_children(scope: Scope, cancelled: BaseException | None) -> BaseException | None:
    """Wait for the foreground, cancel the background, wait for it. Returns the native cancellation met, if any."""
    while True:
        try:
            await Drain(scope, False)
            if scope._foreground:
                continue  # a background child has spawned it after the last of the others had ended, and before this step
            if scope._background:
                scope._ending = True
                _cancel_background(scope)
                await Drain(scope, True)
            return cancelled
        except Cancelled as native:
            cancelled = cancelled or native
            if scope.effective is None:
                scope._cancel(CancelRecord(FROM_OUTSIDE))


def others_ended(scope: Scope) -> CancelRecord:
    """Why background children end."""
    return CancelRecord("the scope's other work has ended", site=scope.site)


def _cancel_background(scope: Scope) -> None:
    record = others_ended(scope)
    for child in tuple(scope.children or ()):
        if isinstance(child, Task) and child.background:
            child._cancel(record)


async def run_deferred(scope: Scope, cancelled: BaseException | None) -> BaseException | None:
    """Each runs, whatever the others raise; a cancelled scope gives them ``cleanup_budget`` seconds in all.

    Returns the native cancellation that came first: ``cancelled``, or one from foreign code meanwhile, if any.
    """
    deferred = scope._deferred
    budget = Cleanup(scope.cleanup_budget, site=scope.site)
    async with budget:
        while deferred:
            fn, args = deferred.pop()
            try:
                result = fn(*args)
                if hasattr(result, "__await__"):
                    await result
            except Cancelled as exc:
                # The budget is used up (reported by Cleanup), or foreign code cancelled us: the rest gets its chance.
                if budget.record is None and budget.outer is None and cancelled is None:
                    cancelled = exc
            except BaseException as error:
                scope._errors.append(error)
    return cancelled


def to_raise(scope: Scope, body_error: BaseException | None) -> BaseException | None:
    """What the block ends with, if it ends with errors: see the head of ``scope``."""
    errors = scope._errors
    if body_error is not None and all(error is not body_error for error in errors):
        if not errors:
            return body_error
        errors.insert(0, body_error)
    if not errors:
        return scope.policy.conclude(scope)
    for error in errors:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            others = [repr(other) for other in errors if other is not error]
            if others:
                error.add_note(f"{scope.describe()} also ended with: {', '.join(others)}")
            return error
    return BaseExceptionGroup(f"{scope.describe()}: {_count(errors)}", errors)


def _count(errors: list[BaseException]) -> str:
    return "1 task failed" if len(errors) == 1 else f"{len(errors)} failures"
