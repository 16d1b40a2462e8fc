"""The public way to scopes and timeouts: what ``bateau.scope``, ``timeout`` and their kin make."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from sys import _getframe
from typing import TYPE_CHECKING, Any

from .kernel import scope as _kernel_scope
from .kernel.cancellation import CancelScope, RaisingTimeout
from .kernel.cleanup import DEFAULT_BUDGET, Cleanup
from .kernel.policy import Policy
from .kernel.scope import Scope
from .kernel.twin import keep, native

if TYPE_CHECKING:
    from types import FrameType


def _run_blocking(fn: Callable[..., Any], *args: Any) -> Coroutine[Any, Any, Any]:
    """``Scope.spawn_blocking`` is the kernel's, worker threads are not: this is where they meet, on first use."""
    from .thread import run

    return run(fn, *args)


_kernel_scope.run_blocking = _run_blocking


def _site() -> tuple[str, int]:
    frame = _getframe(2)
    return frame.f_code.co_filename, frame.f_lineno


def scope(
    *,
    name: str | None = None,
    policy: Policy | None = None,
    limit: int | None = None,
    timeout: float | None = None,
    deadline: float | None = None,
    shield: bool = False,
    cleanup_budget: float = DEFAULT_BUDGET,
) -> Scope:
    """A place for tasks: ``async with bateau.scope() as s: s.spawn(fn, *args)``. It ends when its last child has.

    ``policy`` says what children's ends mean (default: the first failure cancels the rest and is raised in an
    ``ExceptionGroup``); ``limit`` bounds how many children run at once (others queue; background children don't count); ``timeout`` (seconds from entering)
    or ``deadline`` (on ``bateau.now()``'s clock) cancels the scope, which then ends quietly with ``cancelled_caught`` set;
    ``shield`` keeps outer cancellations out; ``cleanup_budget`` is how many seconds deferred cleanup may take.
    Raises ``ValueError`` for a negative time or a limit below 1.
    """
    made: Scope = Scope.__new__(Scope)
    made._set_up(name, policy, limit, timeout, deadline, shield, cleanup_budget, _getframe(1))
    return made


_new_timeout: Callable[[type[RaisingTimeout]], RaisingTimeout] = RaisingTimeout.__new__


def timeout(seconds: float | None) -> RaisingTimeout:
    """A block that may take ``seconds`` (None: for ever) from entering, then is cancelled and raises ``TimeoutError``.

    For ``with`` or ``async with``; leaving it never suspends. ``reschedule(when)`` moves the deadline.
    """
    # ``_raising`` written out, a call less.
    made: RaisingTimeout = _new_timeout(RaisingTimeout)
    made._set_up(seconds, None, False, _getframe(1))
    made.expired = False
    return made


def _raising(seconds: float | None, frame: FrameType) -> RaisingTimeout:
    """``RaisingTimeout(...)`` as plain calls from one Python function to the next, which CPython 3.11 makes without leaving its loop."""
    made: RaisingTimeout = _new_timeout(RaisingTimeout)
    made._set_up(seconds, None, False, frame)
    made.expired = False
    return made


def fail_after(seconds: float | None) -> RaisingTimeout:
    """The same as ``timeout``, under trio's and anyio's name for it."""
    return _raising(seconds, _getframe(1))


def deadline(when: float | None) -> RaisingTimeout:
    """Like ``timeout``, with an absolute time on ``bateau.now()``'s clock."""
    return RaisingTimeout(at=when, site=_site())


def move_on_after(seconds: float | None) -> CancelScope:
    """Like ``timeout``, but it ends quietly: ``cancelled_caught`` tells whether the block was cut short."""
    return CancelScope(seconds=seconds, site=_site())


def shield() -> CancelScope:
    """A block that cancellations from outside can't reach; they come when it is left. Give it an end: prefer ``cleanup``."""
    return CancelScope(shield=True, site=_site())


def cleanup(seconds: float) -> Cleanup:
    """Time for what must be finished: shielded from cancellation for ``seconds``, then cancelled, and reported.

    ``async with bateau.cleanup(5): await connection.aclose()``. Nested budgets never extend the outer one.
    ``await bateau.cleanup(5).run(fn, *args)`` also holds against native ``task.cancel()`` from foreign code.
    """
    return Cleanup(seconds, site=_site())


keep(scope=scope, timeout=timeout, fail_after=fail_after, move_on_after=move_on_after)
if not TYPE_CHECKING and native is not None:
    scope, timeout, fail_after, move_on_after = native.scope, native.timeout, native.fail_after, native.move_on_after
