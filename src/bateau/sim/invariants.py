"""What must hold in every run: ``always``, ``eventually`` and ``unchanged``, checked by the world itself between the steps.

Each is called inside a scenario (or handed a world), and from then on belongs to that run. The function it is given must only look:
it is called after every task step, in no task, and must not wait. Outside a simulated world the calls raise ``NotInRuntime``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..kernel.errors import NotInRuntime
from .errors import InvariantBroken
from .given import plain_function, seconds
from .process import is_async
from .thread import here
from .world import World


def always(holds: Callable[[], object], what: str | None = None) -> None:
    """From now on ``holds()`` must be true (and not raise) after every step of every task; else the run ends with ``InvariantBroken``.

    ``what`` names it in the report (default: the function's name and line). Not a cancellation point.
    """
    world = _world("always")
    _check_sync(holds)
    title = what or describe(holds)

    def check() -> None:
        try:
            held = holds()
        except AssertionError as error:
            raise InvariantBroken(f"does not always hold: {title}: {error}{_when(world)}") from error
        if held is not None and not held:  # a function of asserts returns None
            raise InvariantBroken(f"does not always hold: {title}{_when(world)}")

    check()
    world.checks.append(check)


def unchanged(value: Callable[[], object], what: str | None = None) -> None:
    """From now on ``value()`` must stay equal to what it is now; else the run ends with ``InvariantBroken``.

    The value is compared, not copied: return something immutable (``tuple(items)``), or a change in place is not seen.
    """
    world = _world("unchanged")
    _check_sync(value)
    title = what or describe(value)
    first = value()

    def check() -> None:
        now = value()
        if now != first:
            raise InvariantBroken(f"changed: {title}: from {first!r} to {now!r}{_when(world)}")

    world.checks.append(check)


def eventually(holds: Callable[[], object], within: float | None = None, what: str | None = None) -> None:
    """``holds()`` must become true: within so many virtual seconds from now, or (None) before the scenario ends.

    Once it was true it is not asked again. Else the run ends with ``InvariantBroken``.
    """
    if within is not None:
        seconds("within", within)
    world = _world("eventually")
    _check_sync(holds)
    title = what or describe(holds)
    if holds():
        return
    came = False

    def look() -> None:
        nonlocal came
        if holds():
            came = True
            world.checks.remove(look)

    def late() -> None:
        if not (came or holds()):
            limit = f"within {within:g} s" if within is not None else "before the scenario ended"
            error = InvariantBroken(f"did not come true {limit}: {title}{_when(world)}\n{world.explain()}")
            if within is None:
                raise error
            world.end_with(error)

    world.checks.append(look)
    if within is not None:
        world.after(within, late)
    world.at_end.append(late if within is None else lambda: None)


def _check_sync(fn: Callable[[], object]) -> None:
    if is_async(fn):
        raise TypeError(f"{describe(fn)} is async: an invariant is looked at between the steps, and can't wait")
    plain_function("an invariant", fn)


def describe(fn: Callable[..., Any]) -> str:
    """Name, file and line of a function, for messages."""
    code = getattr(fn, "__code__", None)
    name = getattr(fn, "__qualname__", repr(fn))
    return f"{name} at {code.co_filename}:{code.co_firstlineno}" if code is not None else str(name)


def _when(world: World) -> str:
    thread = world.thread
    return f" (at {world.now:.6f} s, after a step of process {thread.process.name})"


def _world(name: str) -> World:
    world = here.world
    if world is None:
        raise NotInRuntime(f"sim.{name} watches a simulated run: call it inside a scenario of sim.run or sim.explore")
    return world
