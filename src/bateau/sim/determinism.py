"""Is a run the same each time? Pinning what decides the order of sets, and finding the first place where two runs of one seed differ."""

from __future__ import annotations

import os
import sys
from typing import Any

from .doors import opened
from .errors import InvariantBroken
from .given import whole
from .running import Run, Scenario, one_run
from .story import timeline, without_addresses
from .strategy import Strategy, strategy_of

# In the environment of a process that was started anew: if the hash seed is still not pinned there, trying again won't help.
_TRIED = "BATEAU_PINNED"


def hash_seed_is_pinned() -> bool:
    """Whether sets of strings are in the same order in each process."""
    return not sys.flags.hash_randomization or os.environ.get("PYTHONHASHSEED", "random") != "random"


def pin_hash_seed() -> None:
    """Start this very program anew with ``PYTHONHASHSEED=0``, unless its hash seed is pinned. Call it first of all: what ran before is lost."""
    if hash_seed_is_pinned() or _TRIED in os.environ:
        return
    environment = {**os.environ, "PYTHONHASHSEED": "0", _TRIED: "1"}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def check_determinism(
    scenario: Scenario,
    *,
    args: tuple[Any, ...] = (),
    seed: int = 0,
    strategy: str | Strategy = "random",
    times: int = 2,
    **options: Any,
) -> None:
    """Run ``scenario`` several times with one seed. Raises ``InvariantBroken`` if two runs differ, and says where they first do.

    What it finds: real clocks and generators, real threads, module globals that one run leaves to the next, sets in the order of addresses.
    Sets of strings keep their order within one interpreter: compare the digests that ``bateau sim run`` prints under two values of
    PYTHONHASHSEED as well.
    """
    whole("times, how many runs to compare,", times, 2)
    first: Run | None = None
    with opened():
        for _ in range(times):
            chosen = strategy_of(strategy)
            chosen.begin(seed)
            run = one_run(scenario, args, seed=seed, strategy=chosen, detailed=True, **options)
            if first is None:
                first = run
            else:
                _compare(first, run)


def _compare(one: Run, other: Run) -> None:
    a, b = (
        without_addresses("\n".join(timeline(run.events, most=len(run.events))[1:])).splitlines()
        for run in (one, other)
    )
    for number, (left, right) in enumerate(zip(a, b, strict=False)):
        if left.split() != right.split():
            before = "\n".join(f"    {line}" for line in a[max(0, number - 3) : number])
            raise InvariantBroken(
                f"two runs of seed {one.seed} differ from line {number + 1} of their stories on; after\n{before}\n"
                f"  one went on with\n    {left}\n  the other with\n    {right}\n"
                "what decides there is not under the world's control: a set's order, an object's address, a real clock or thread"
            )
    if len(a) != len(b) or one.digest != other.digest or one.failure() != other.failure():
        raise InvariantBroken(
            f"two runs of seed {one.seed} differ: {len(a)} and {len(b)} lines of story, digests {one.digest} and {other.digest}, "
            f"ends {one.failure() or 'well'} and {other.failure() or 'well'}"
        )
