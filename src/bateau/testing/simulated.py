"""A test in simulated worlds: one run, pinned failures again, or an exploration."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pytest

from .in_world import Scenario
from .marks import PIN, SIMULATE
from .options import hash_seed_is_pinned
from .progress import Progress

if TYPE_CHECKING:
    from ..sim import Exploration, Run
    from .suite import ItemState, Suite

DEFAULT_SEEDS = 100
# What ``sim.explore`` takes, and a single run or a replay does not.
_OF_THE_EXPLORATION = ("seeds", "strategy", "shrink", "jobs", "progress")


def run_test(suite: Suite, item: Any, call: Callable[..., Any], kwargs: dict[str, Any]) -> None:
    """Run the test of ``item`` in simulated worlds, as its marks and the command line say. Raises what a run ends with."""
    __tracebackhide__ = True
    mark = item.get_closest_marker(SIMULATE)
    pins = [token for each in item.iter_markers(PIN) for token in each.args]
    written: dict[str, Any] = mark.kwargs if mark is not None else {}
    given = {name: value for name, value in written.items() if value is not None}
    exploring = _Exploring(suite, item, Scenario(item, call, kwargs, suite.settings.timeout_of(item)), given)
    if suite.settings.token is not None:
        exploring.replay(suite.settings.token)
    elif mark is None and not pins:
        exploring.run_once()
    else:
        for token in () if suite.settings.only_seeds else pins:
            exploring.replay_pinned(token)
        if mark is not None:
            exploring.explore()


class _Exploring:
    """What is done for one test; ``state`` gets the story of a failure and what was covered."""

    def __init__(self, suite: Suite, item: Any, scenario: Scenario, given: dict[str, Any]) -> None:
        self.settings = suite.settings
        self.item = item
        self.state: ItemState = suite.state(item)
        self.scenario = scenario
        self.given = given
        self.fn = scenario.function()
        # What the world is made with: a token holds for these alone.
        self.of_the_world = {name: value for name, value in given.items() if name not in _OF_THE_EXPLORATION}

    # -- one run ---------------------------------------------------------------------------------------------------------

    def run_once(self) -> None:
        """Production's order, the first seed."""
        __tracebackhide__ = True
        from ..sim import run

        seeds = self.settings.seeds
        seed = seeds[0] if seeds else 0
        try:
            run(self.fn, seed=seed, prepare=self.scenario.prepare, **self.of_the_world)
        except BaseException:
            self.state.sections.append(("simulated run", f"seed {seed}, production's order"))
            raise
        self.scenario.raise_outcome()

    def replay_pinned(self, token: str) -> None:
        """Replay a pinned failure, unless another Python or bateau made it: there it would be another run.

        A run that passes and goes another way than the token records is a warning: so does the program that was mended, whose test must
        not fail for that; but who reads it learns that the pin no longer shows what it did.
        """
        __tracebackhide__ = True
        from ..sim.token import TokenError, decode

        try:
            other = decode(token).mismatches()
        except TokenError as error:
            pytest.fail(f"@simulate.pin({token!r}): {error}", pytrace=False)
        if other:
            self._warn(f"pinned run not replayed: {'; '.join(other)}")
            return
        done = self.replay(token, strict=False)
        if done.strayed:
            self._warn(f"pinned run passed, but {decode(token).astray(done)}, or take the pin out")

    def _warn(self, text: str) -> None:
        warnings.warn_explicit(text, pytest.PytestWarning, str(self.item.path), self._line())

    def _line(self) -> int:
        return (self.item.location[1] or 0) + 1

    def replay(self, token: str, *, strict: bool = True) -> Run:
        """Make the run of ``token`` again; raises its error. Fails where it passes and ``strict`` and goes another way than the token."""
        __tracebackhide__ = True
        from ..sim import replay
        from ..sim.story import tell
        from ..sim.token import TokenError

        try:
            done = replay(self.fn, token, strict=strict, prepare=self.scenario.prepare, **self.of_the_world)
        except TokenError as error:
            pytest.fail(f"{self.item.nodeid}: {error}", pytrace=False)
        self.scenario.raise_outcome()
        self._cover(pinned=1)
        if done.error is not None:
            self._tell(f"pinned run, seed {done.seed}", tell(done, token), token)
            raise done.error
        return done

    # -- many runs -------------------------------------------------------------------------------------------------------

    def explore(self) -> None:
        """Run it for each seed, until one fails."""
        __tracebackhide__ = True
        from ..sim.exploring import seeds_of

        wanted = self.settings.seeds if self.settings.seeds is not None else self.given.get("seeds", DEFAULT_SEEDS)
        seeds = seeds_of(wanted)
        jobs = self._jobs() if len(seeds) > 1 else 1
        with Progress(self.settings.config, len(seeds)) as progress:
            if jobs > 1:
                # The first one here: what skips itself does so in this process.
                self._explore(seeds[:1], 1, progress)
                seeds = seeds[1:]
            self._explore(seeds, jobs, progress)

    def _explore(self, seeds: Iterable[int], jobs: int, progress: Progress) -> None:
        __tracebackhide__ = True
        from ..sim import Found, explore

        began = time.monotonic()

        def after_run(covered: Exploration) -> None:
            self.scenario.raise_outcome()
            progress(covered)

        options: dict[str, Any] = {
            **self.given,
            "seeds": seeds,
            "jobs": jobs,
            "progress": after_run,
            "prepare": self.scenario.prepare,
        }
        error: BaseException | None = None
        try:
            with warnings.catch_warnings():
                # A worker begins with a fork, of a process in which nobody but this thread is doing anything.
                warnings.filterwarnings("ignore", ".*use of fork\\(\\) may lead to deadlocks", DeprecationWarning)
                covered = explore(self.fn, **options)
        except Found as found:
            covered, error = found.exploration, found.error
            self._tell(f"simulated run, seed {found.run.seed}", found.story, found.token)
        progress.before(covered)
        self._cover(covered, seconds=time.monotonic() - began)
        if error is not None:
            raise error

    def _jobs(self) -> int:
        """As many processes as were asked for, where the strategy lets runs be made side by side."""
        from ..sim.strategy import strategy_of
        from ..sim.strategy.base import Seeded

        chosen = strategy_of(self.given.get("strategy", "random"))
        return self.settings.jobs if isinstance(chosen, Seeded) else 1

    # -- telling ---------------------------------------------------------------------------------------------------------

    def _tell(self, title: str, story: str, token: str) -> None:
        replay = f"replay: pytest '{self.item.nodeid}' --bateau-replay {token}"
        story = re.sub("^replay: .*$", lambda _: replay, story, flags=re.MULTILINE)
        if not hash_seed_is_pinned():
            story += (
                "\nnote:   the hash seed of this Python is not pinned: where the order of a set decides, this run comes again only with "
                "PYTHONHASHSEED set alike (ini: `bateau_pin_hash_seed = true`)"
            )
        self.state.sections.append((title, story))

    def _cover(self, covered: Exploration | None = None, *, pinned: int = 0, seconds: float = 0.0) -> None:
        """Add to what the report of this test says it covered."""
        total: dict[str, Any] | None = self.state.covered
        if total is None:
            total = {
                "runs": 0,
                "different": 0,
                "steps": 0,
                "virtual": 0.0,
                "real": 0.0,
                "pinned": 0,
                "exhausted": False,
            }
            total |= {"asked": {}, "answered": {}}
            self.state.covered = total
        total["pinned"] += pinned
        total["real"] += seconds
        if covered is None:
            return
        total["runs"] += covered.runs
        total["different"] += len(covered.digests)
        total["steps"] += covered.steps
        total["virtual"] += covered.seconds
        total["exhausted"] = covered.exhausted
        for name in ("asked", "answered"):
            for kind, count in getattr(covered, name).items():
                total[name][kind] = total[name].get(kind, 0) + count
