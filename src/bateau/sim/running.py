"""One run of a scenario in a world of its own, from its first step to the record of how it ended."""

from __future__ import annotations

import gc
import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..kernel.errors import PACKAGE_DIR, Deadlock
from ..kernel.task import count_from, last_number
from .chaos import start as start_chaos
from .doors import opened
from .errors import InvariantBroken, leaves
from .options import require_known, target_of
from .process import awaited, is_async
from .runtime import SimRuntime, begin
from .thread import Killed
from .threads.adopting import adopt_from
from .world import DEFAULT_MAX_STEPS, Record, World

if TYPE_CHECKING:
    from .strategy.base import Strategy

Scenario = Callable[..., Any]
Choices = dict[str, dict[int, int]]


@dataclass
class Run:
    """How one run went: its decisions, its record, and its end."""

    seed: int
    # The non-zero answers by stream and index, and how many questions each stream had.
    choices: Choices
    asked: dict[str, int]
    # What the scenario returned, or what the run ended with.
    value: Any
    error: BaseException | None
    events: list[Record]
    digest: str
    steps: int
    # Virtual time at its end.
    seconds: float
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    # How a command line names the scenario, where it can.
    target: str = ""
    # Of a replay: how it differed from what was recorded, in sentences. Empty where every recorded answer was asked for.
    strayed: list[str] = field(default_factory=list[str])

    @property
    def failed(self) -> bool:
        """Whether it ended with an error."""
        return self.error is not None

    def failure(self) -> str:
        """What tells one failure from another: the kind of error and the user's line it came from."""
        return failure_of(self.error) if self.error is not None else ""


def failure_of(error: BaseException) -> str:
    """See ``Run.failure``. Of a group the first error counts; a deadlock is told by its kind alone."""
    error = leaves(error)[0]
    kind = type(error).__qualname__
    if isinstance(error, Deadlock):
        return kind
    cause = error.__cause__
    if kind == "ProcessFailed" and cause is not None:
        return f"{kind} of {failure_of(cause)}"
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if not frame.f_code.co_filename.startswith(PACKAGE_DIR):
            return f"{kind} at {frame.f_code.co_filename}:{line}"
    return f"{kind}: {str(error).splitlines()[0] if str(error) else ''}"


def wants_world(scenario: Scenario) -> bool:
    """Whether the scenario's first parameter is for the world: it is named ``world``, or annotated ``World``."""
    try:
        parameters = list(inspect.signature(scenario).parameters.values())
    except (TypeError, ValueError):
        return False
    if not parameters:
        return False
    first = parameters[0]
    return first.name == "world" or first.annotation is World or first.annotation in {"World", "sim.World"}


def one_run(
    scenario: Scenario,
    args: tuple[Any, ...] = (),
    *,
    seed: int = 0,
    strategy: Strategy | None = None,
    max_steps: int = DEFAULT_MAX_STEPS,
    detailed: bool = False,
    prepare: Callable[[World], None] | None = None,
    check: Callable[[], object] | None = None,
    forgive: type[BaseException] | None = None,
    **options: Any,
) -> Run:
    """Run ``scenario(*args)`` once. Errors of the scenario are in the result, never raised.

    ``prepare`` is called with the world before anything runs in it. ``check`` is called after its end; its error, or a false value, fails
    the run. An error of type ``forgive`` is no failure. ``options`` are those of the parts of the world.
    """
    require_known(options)
    if not callable(scenario):
        raise TypeError(f"a scenario is a function, not {type(scenario).__name__}: give main, not main()")
    world = World(seed, strategy, max_steps=max_steps, detailed=detailed, options=options)
    value: Any = None
    error: BaseException | None = None
    collecting, counter = gc.isenabled(), last_number()
    gc.disable()
    try:
        with opened():
            args = adopt_from(scenario, args)
            begin(world, getattr(scenario, "__name__", "test"))
            with world.entered():
                try:
                    start_chaos(world)
                    if prepare is not None:
                        prepare(world)
                    full = (world, *args) if wants_world(scenario) else args
                    value = SimRuntime().run(scenario, *full) if is_async(scenario) else awaited(scenario(*full))
                    for must_hold in world.at_end:
                        must_hold()
                except Killed:
                    pass
                except (KeyboardInterrupt, GeneratorExit):
                    world.over = True
                    raise
                except BaseException as raised:
                    error = raised
                finally:
                    error = world.verdict or error
                    digest, steps, seconds = world.digest(), world.steps, world.now
                    world.close()
    finally:
        if collecting:
            gc.enable()
        count_from(max(counter, last_number()))
    if forgive is not None and error is not None and all(isinstance(leaf, forgive) for leaf in leaves(error)):
        error = None
    if error is None and check is not None:
        error = _checked(check)
    return Run(
        seed,
        world.choices,
        world.asked,
        value,
        error,
        world.events,
        digest,
        steps,
        seconds,
        options,
        target_of(scenario),
    )


def _checked(check: Callable[[], object]) -> BaseException | None:
    try:
        verdict = check()
    except Exception as error:
        return error
    if verdict is not None and not verdict:
        return InvariantBroken(f"check() is false after the run: {getattr(check, '__qualname__', check)}")
    return None
