"""One run of a scenario in a world of its own, from its first step to the record of how it ended."""

from __future__ import annotations

import gc
import inspect
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..kernel.current import current_task_or_none
from ..kernel.errors import PACKAGE_DIR, Deadlock, NestedRun
from ..kernel.task import count_from, last_number
from . import given
from .chaos import start as start_chaos
from .doors import opened
from .errors import InvariantBroken, leaves
from .options import require_known, target_of
from .process import awaited, is_async
from .runtime import SimRuntime, begin
from .thread import Killed, here
from .threads.adopting import adopt_from
from .timeline import Record
from .world import DEFAULT_MAX_STEPS, World

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


def require(scenario: Any, args: Any, seed: Any, max_steps: Any, options: dict[str, Any], /, **functions: Any) -> bool:
    """Raise ``TypeError`` or ``ValueError`` for what can't be run; whether the scenario is given the world."""
    _require_free_thread()
    require_known(options)
    given.whole("seed", seed)
    if max_steps is not None:
        given.whole("max_steps", max_steps, 1)
    forgive = functions.pop("forgive", None)
    if forgive is not None and not (isinstance(forgive, type) and issubclass(forgive, BaseException)):
        raise TypeError(f"forgive is a class of exceptions, not {forgive!r}")
    for name, function in functions.items():
        if function is not None:
            (given.plain_function if name == "check" else given.function)(name, function)
    asks = callable(scenario) and wants_world(scenario)
    given.scenario(scenario, args, with_world=asks)
    return asks


def _require_free_thread() -> None:
    """Raise ``NestedRun`` inside a running program: a world runs to its end on the calling thread."""
    task = current_task_or_none()
    events = sys.modules.get("asyncio.events")
    if task is not None:
        held = f"task {task.name!r} is running on it, on {task.host.describe()}"
    elif here.world is not None:
        held = "it belongs to a simulated world already"
    elif events is not None and events._get_running_loop() is not None:
        held = "an asyncio loop is running on it"
    else:
        return
    raise NestedRun(
        f"a simulated run (sim.run, sim.explore, sim.replay...) takes the calling thread to its end, and {held}. Call it from plain code: a "
        "test that is a plain function (or @simulate, which explores an async test itself), a script's last lines. Inside a simulated "
        "world, start a further program with world.host(name).start(main)"
    )


def one_run(
    scenario: Scenario,
    args: tuple[Any, ...] = (),
    *,
    seed: int = 0,
    strategy: Strategy | None = None,
    max_steps: int | None = None,
    detailed: bool = False,
    prepare: Callable[[World], None] | None = None,
    check: Callable[[], object] | None = None,
    forgive: type[BaseException] | None = None,
    **options: Any,
) -> Run:
    """Run ``scenario(*args)`` once. Errors of the scenario are in the result, never raised; what can't be run at all is raised.

    ``prepare`` is called with the world before anything runs in it. ``check`` is called after its end; its error, or a false value, fails
    the run. An error of type ``forgive`` is no failure. ``options`` are those of the parts of the world.
    """
    asks = require(scenario, args, seed, max_steps, options, check=check, forgive=forgive, prepare=prepare)
    if max_steps is None:
        max_steps = DEFAULT_MAX_STEPS
    world = World(seed, strategy, max_steps=max_steps, detailed=detailed, options=options)
    with _apart(), opened():
        args = adopt_from(scenario, args)
        begin(world, getattr(scenario, "__name__", "test"))
        with world.entered():
            end = _lived(world, scenario, (world, *args) if asks else args, prepare)
    error = end.error
    if forgive is not None and error is not None and all(isinstance(leaf, forgive) for leaf in leaves(error)):
        error = None
    if error is None and check is not None:
        error = _checked(check)
    return Run(
        seed,
        world.choices,
        world.asked,
        end.value,
        error,
        world.events,
        end.digest,
        end.steps,
        end.seconds,
        options,
        target_of(scenario),
    )


@contextmanager
def _apart() -> Generator[None]:
    """What a run does to the process is undone when it has ended: the collector is off meanwhile, and tasks are numbered anew."""
    collecting, counter = gc.isenabled(), last_number()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        count_from(max(counter, last_number()))


class _End(NamedTuple):
    """How a world was when its scenario had ended, before it was closed."""

    value: Any
    error: BaseException | None
    digest: str
    steps: int
    seconds: float


def _lived(world: World, scenario: Scenario, args: tuple[Any, ...], prepare: Callable[[World], None] | None) -> _End:
    """Run the scenario to its end in the world, which is closed after it whatever it ends with."""
    value: Any = None
    error: BaseException | None = None
    try:
        start_chaos(world)
        if prepare is not None:
            prepare(world)
        value = SimRuntime().run(scenario, *args) if is_async(scenario) else awaited(scenario(*args))
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
        end = _End(value, world.verdict or error, world.digest(), world.steps, world.now)
        world.close()
    return end


def _checked(check: Callable[[], object]) -> BaseException | None:
    try:
        verdict = check()
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # also SystemExit: it must not end the exploration as if all was well
        return error
    if verdict is not None and not verdict:
        return InvariantBroken(f"check() is false after the run: {getattr(check, '__qualname__', check)}")
    return None
