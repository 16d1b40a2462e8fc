"""Many runs of one scenario: until one fails, which is then shrunk, replayed and told; or until all have passed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .doors import opened
from .running import Choices, Run, Scenario, one_run
from .strategy import Replay, Strategy, by_name
from .world import World


@dataclass
class Exploration:
    """What an exploration has covered."""

    runs: int = 0
    steps: int = 0
    # Virtual seconds, of all runs together.
    seconds: float = 0.0
    # Questions asked and non-zero answers given, by kind of stream ("tasks", "loss"...).
    asked: dict[str, int] = field(default_factory=dict[str, int])
    answered: dict[str, int] = field(default_factory=dict[str, int])
    # Different runs, by their digests.
    digests: set[str] = field(default_factory=set[str])
    # Whether the strategy has nothing left to try.
    exhausted: bool = False

    def add(self, run: Run) -> None:
        """Count one run."""
        self.runs += 1
        self.steps += run.steps
        self.seconds += run.seconds
        self.digests.add(run.digest)
        for stream, count in run.asked.items():
            kind = stream.partition(" ")[0]
            self.asked[kind] = self.asked.get(kind, 0) + count
        for stream, answers in run.choices.items():
            kind = stream.partition(" ")[0]
            self.answered[kind] = self.answered.get(kind, 0) + len(answers)

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {self.answered.get(kind, 0)}/{count}" for kind, count in sorted(self.asked.items()))
        return (
            f"{self.runs} runs ({len(self.digests)} different), {self.steps} steps, {self.seconds:.1f} simulated seconds; "
            f"choices taken: {kinds or 'none'}"
        )


class Found(AssertionError):
    """A run failed. ``token`` replays it, ``story`` tells it, ``run`` is its record, ``error`` (also ``__cause__``) its error."""

    def __init__(self, run: Run, token: str, story: str, exploration: Exploration) -> None:
        super().__init__(story)
        self.run = run
        self.token = token
        self.story = story
        self.error = run.error
        self.exploration = exploration


def explore(
    scenario: Scenario,
    *,
    args: tuple[Any, ...] = (),
    seeds: int | Iterable[int] = 100,
    strategy: str | Strategy = "random",
    shrink: bool = True,
    progress: Callable[[Exploration], None] | None = None,
    prepare: Callable[[World], None] | None = None,
    **options: Any,
) -> Exploration:
    """Run ``scenario`` once for each seed and raise ``Found`` for the first run that fails.

    ``seeds`` is a number of seeds, from 0, or the seeds themselves. ``strategy`` decides order and faults: ``"fifo"`` (what
    production does), ``"random"``, ``"pct"``, ``"pos"``, ``"surw"``, ``"exhaustive"``, or an object. ``shrink=False`` tells the run as
    it was found. ``progress`` is called after each run. ``prepare(world)`` is called before anything runs in it. Further options are
    those of ``World`` and of the parts of the world.
    """
    chosen = by_name(strategy) if isinstance(strategy, str) else strategy
    covered = Exploration()
    with opened():
        for seed in range(seeds) if isinstance(seeds, int) else seeds:
            if not chosen.begin(seed):
                covered.exhausted = True
                break
            run = one_run(scenario, args, seed=seed, strategy=chosen, prepare=prepare, **options)
            chosen.end(run)
            covered.add(run)
            if progress is not None:
                progress(covered)
            if run.failed:
                raise found(
                    scenario, args, run, covered, shrink=shrink, prepare=prepare, options=options
                ) from run.error
    return covered


def found(
    scenario: Scenario,
    args: tuple[Any, ...],
    run: Run,
    covered: Exploration,
    *,
    shrink: bool,
    prepare: Callable[[World], None] | None,
    options: dict[str, Any],
) -> Found:
    """Make the report of a failed run: the smallest list of choices that still fails so, its token and its story."""
    from .shrinking import shrink as shrunk
    from .story import tell
    from .token import encode

    def again(choices: Choices, detailed: bool = False) -> Run:
        return one_run(
            scenario, args, seed=run.seed, strategy=Replay(choices), detailed=detailed, prepare=prepare, **options
        )

    wanted = run.failure()
    choices = run.choices
    if shrink:
        choices = shrunk(choices, lambda tried: again(tried).failure() == wanted)
    told = again(choices, detailed=True)
    if told.failure() != wanted:  # it does not replay: say so, and show what was seen
        told = run
    token = encode(told)
    return Found(told, token, tell(told, token, covered, replays=told is not run), covered)


def run(scenario: Scenario, *args: Any, seed: int = 0, strategy: Strategy | str | None = None, **options: Any) -> Any:
    """Run ``scenario(*args)`` once in a simulated world; returns its value or raises its error.

    A scenario whose first parameter is named ``world`` (or annotated ``World``) is given the world first.
    """
    chosen = by_name(strategy) if isinstance(strategy, str) else strategy
    if chosen is not None:
        chosen.begin(seed)
    done = one_run(scenario, args, seed=seed, strategy=chosen, **options)
    if done.error is not None:
        raise done.error
    return done.value
