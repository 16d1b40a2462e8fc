"""Many runs of one scenario: until one fails, which is then shrunk, replayed and told; or until all have passed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .doors import opened
from .given import whole
from .options import NOT_OF_THE_WORLD, of_the_world
from .running import Choices, Run, Scenario, one_run, require
from .strategy import Replay, Strategy, strategy_of
from .strategy.base import Seeded
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
    # Different runs, by their digests; looked up, never iterated.
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

    def merge(self, other: Exploration) -> None:
        """Add what another has covered."""
        self.runs += other.runs
        self.steps += other.steps
        self.seconds += other.seconds
        self.digests |= other.digests
        for mine, theirs in ((self.asked, other.asked), (self.answered, other.answered)):
            for kind, count in theirs.items():
                mine[kind] = mine.get(kind, 0) + count

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
    jobs: int = 1,
    progress: Callable[[Exploration], None] | None = None,
    prepare: Callable[[World], None] | None = None,
    **options: Any,
) -> Exploration:
    """Run ``scenario`` once for each seed and raise ``Found`` for the first run that fails.

    ``seeds`` is a number of seeds, from 0, or the seeds themselves. ``strategy`` decides order and faults: ``"fifo"`` (what
    production does), ``"random"``, ``"pct"``, ``"pos"``, ``"surw"``, ``"exhaustive"``, or an object. ``shrink=False`` tells the run as
    it was found. ``check()`` is called after each run; its error, or a false value, fails the run. ``jobs`` processes share the seeds.
    ``progress`` is called now and then with what was covered. ``prepare(world)`` is called before anything runs in it. Further
    options are those of ``World`` and of the parts of the world.
    """
    chosen = strategy_of(strategy)
    wanted = seeds_of(seeds)
    whole("jobs, the number of processes,", jobs, 1)
    of_world = {name: value for name, value in options.items() if name not in NOT_OF_THE_WORLD}
    functions = {"prepare": prepare, "progress": progress, "check": options.get("check")}
    require(scenario, args, wanted[0], options.get("max_steps"), of_world, forgive=options.get("forgive"), **functions)
    if jobs > 1 and not isinstance(chosen, Seeded):
        raise ValueError(
            f"strategy {chosen.name!r} goes from one run to the next: it can't share them with jobs={jobs}"
        )

    def look(part: list[int], tell: Callable[[Exploration], None] | None) -> tuple[Exploration, Run | None]:
        return _look(scenario, args, part, chosen, tell, prepare, options)

    with opened():
        if jobs == 1 or len(wanted) < 2:
            covered, failed = look(wanted, progress)
        else:
            covered, failed = _look_in_parallel(scenario, args, wanted, jobs, look, progress, prepare, options)
        if failed is not None:
            raise found(
                scenario, args, failed, covered, shrink=shrink, prepare=prepare, options=options
            ) from failed.error
    return covered


def seeds_of(given: Any) -> list[int]:
    """The seeds that are meant by a number of them, or by themselves."""
    meaning = f"seeds is how many runs to make, 1 or more, or the seeds themselves, not {given!r}"
    if isinstance(given, int) and not isinstance(given, bool):
        if given < 1:
            raise ValueError(meaning)
        return list(range(given))
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise TypeError(meaning)
    seeds: list[Any] = list(given)  # pyright: ignore[reportUnknownArgumentType]  # of whatever
    if not seeds:
        raise ValueError(f"{meaning}: there is none in it")
    for seed in seeds:
        whole("a seed", seed)
    return seeds


def _look(
    scenario: Scenario,
    args: tuple[Any, ...],
    seeds: list[int],
    strategy: Strategy,
    progress: Callable[[Exploration], None] | None,
    prepare: Callable[[World], None] | None,
    options: dict[str, Any],
) -> tuple[Exploration, Run | None]:
    """One run for each seed, until one fails."""
    covered = Exploration()
    for seed in seeds:
        if not strategy.begin(seed):
            covered.exhausted = True
            break
        # A strategy that goes from one run to the next compares them: they may differ by its answers alone, not by their randomness.
        own = seed if isinstance(strategy, Seeded) else seeds[0]
        run = one_run(scenario, args, seed=own, strategy=strategy, prepare=prepare, **options)
        strategy.end(run)
        covered.add(run)
        if progress is not None:
            progress(covered)
        if run.failed:
            return covered, run
    return covered, None


def _look_in_parallel(
    scenario: Scenario,
    args: tuple[Any, ...],
    seeds: list[int],
    jobs: int,
    look: Callable[[list[int], Callable[[Exploration], None] | None], tuple[Exploration, Run | None]],
    progress: Callable[[Exploration], None] | None,
    prepare: Callable[[World], None] | None,
    options: dict[str, Any],
) -> tuple[Exploration, Run | None]:
    """The same in several processes. A failed run is made again here, since an error with its frames can't be sent over."""
    from .parallel import Failure, search

    def in_worker(part: list[int], report: Callable[[Exploration], None]) -> Failure | None:
        _, failed = look(part, report)
        return (failed.seed, failed.choices) if failed is not None else None

    covered, failure = search(seeds, jobs, in_worker, progress)
    if failure is None:
        return covered, None
    seed, choices = failure
    run = _again(scenario, args, seed, choices, False, prepare, options)
    if not run.failed:
        raise RuntimeError(
            f"seed {seed} failed in a worker process and does not fail again here: something in the scenario is not under the "
            "world's control; bateau.sim.check_determinism finds where"
        )
    return covered, run


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
        return _again(scenario, args, run.seed, choices, detailed, prepare, options)

    wanted = run.failure()
    choices = run.choices
    if shrink:
        choices = shrunk(choices, lambda tried: again(tried).failure() == wanted)
    told = again(choices, detailed=True)
    if told.failure() != wanted:  # it does not replay: say so, and show what was seen
        told = run
    token = encode(told)
    return Found(told, token, tell(told, token, covered, replays=told is not run), covered)


def replay(
    scenario: Scenario,
    token: str,
    *,
    args: tuple[Any, ...] = (),
    detailed: bool = True,
    strict: bool = True,
    prepare: Callable[[World], None] | None = None,
    **options: Any,
) -> Run:
    """Make the run of ``token`` again, the same in every step, and return its record (its error is in it, not raised).

    The options of the world come with the token; those given here must be the same. Raises ``TokenError`` for a token that is damaged,
    was made by another version of Python or bateau, or with other options than those given; and for a run that does not fail and
    went another way than the token records: it is the token of another scenario, or the program has changed since. ``strict=False``
    is for the latter (does the mended program pass?): then ``strayed`` of the record says so, as it does beside a failure.
    """
    from .token import TokenError, decode

    read = decode(token)
    if not of_the_world(options):
        options = {**options, **read.world_options()}
    read.require(options)
    with opened():
        run = _again(scenario, args, read.seed, read.choices, detailed, prepare, options)
    run.strayed += read.other_scenario(run)
    if strict and run.strayed and not run.failed:
        raise TokenError(f"nothing failed, but {read.astray(run)}")
    return run


def _again(
    scenario: Scenario,
    args: tuple[Any, ...],
    seed: int,
    choices: Choices,
    detailed: bool,
    prepare: Callable[[World], None] | None,
    options: dict[str, Any],
) -> Run:
    """The run with these choices."""
    from .everywhere import watcher

    watch = watcher(tuple(choices))

    def both(world: World) -> None:
        if prepare is not None:
            prepare(world)
        if watch is not None:
            watch(world)

    strategy = Replay(choices)
    strategy.begin(seed)
    made = one_run(scenario, args, seed=seed, strategy=strategy, detailed=detailed, prepare=both, **options)
    made.strayed = strategy.strayed()
    return made


def run(scenario: Scenario, *args: Any, seed: int = 0, strategy: Strategy | str | None = None, **options: Any) -> Any:
    """Run ``scenario(*args)`` once in a simulated world; returns its value or raises its error.

    A scenario whose first parameter is named ``world`` (or annotated ``World``) is given the world first.
    """
    chosen = strategy_of(strategy) if strategy is not None else None
    if chosen is not None:
        chosen.begin(seed)
    done = one_run(scenario, args, seed=seed, strategy=chosen, **options)
    if done.error is not None:
        raise done.error
    return done.value
