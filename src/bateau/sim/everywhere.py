"""Systematic faults: cancel at every suspension point, crash at every step, one per run (and pairs of cancellations).

Nothing is random here. A first run counts the points; each further run is the same up to one of them, where the fault happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from ..kernel.cancellation import CancelNode
from ..kernel.scope import Scope
from .doors import opened
from .exploring import Exploration, Found, found
from .running import Run, Scenario, one_run
from .strategy import Strategy, by_name
from .world import World

if TYPE_CHECKING:
    from .process import Process
    from .thread import SimThread

Points = tuple[int, ...]


def cancel_everywhere(
    scenario: Scenario,
    *,
    scope: str | None = None,
    args: tuple[Any, ...] = (),
    check: Callable[[], object] | None = None,
    pairs: bool = False,
    seed: int = 0,
    strategy: str | Strategy | None = None,
    most: int = 10_000,
    **options: Any,
) -> Exploration:
    """Run ``scenario`` once for each point at which a task in ``scope`` suspends, and cancel the scope there.

    ``scope`` is the name of the scope (of ``bateau.scope(name=...)``) or task to cancel; None: the whole program, whose cancellation
    is then the expected end of a run. After each run ``check()`` is called, if given: an error of it, or of the scenario (other
    than the cancellation), raises ``Found``. ``pairs`` also cancels at two points in one run, the second during what the first
    led to. Raises ``ValueError`` where no such scope ever suspends, and where there are more than ``most`` runs to make.
    """
    plan = _Everywhere("cancel", scope, _cancel, scenario, args, check, seed, strategy, most, options)
    return plan.run(pairs)


def crash_everywhere(
    scenario: Scenario,
    host: str,
    *,
    args: tuple[Any, ...] = (),
    check: Callable[[], object] | None = None,
    restart_after: float | None = 0.0,
    seed: int = 0,
    strategy: str | Strategy | None = None,
    most: int = 10_000,
    **options: Any,
) -> Exploration:
    """Run ``scenario`` once for each step of a task, and each blocking call, of a program on ``host``, and crash that host right
    there, as a power cut would.

    ``restart_after`` seconds later its programs are started again (None: it stays down). ``check`` and the errors are as in
    ``cancel_everywhere``. A point is the end of a task's step, or the moment when a thread blocks in the system (a disk's latency, a
    lock); what runs between two of them happens whole, or (at a disk) as its faults say.
    """

    def crash(world: World, process: Process) -> None:
        process.host.crash()
        if restart_after is not None:
            world.after(restart_after, process.host.restart)

    plan = _Everywhere("crash", host, crash, scenario, args, check, seed, strategy, most, options)
    return plan.run(False)


def _cancel(world: World, process: Process, node: CancelNode | None = None) -> None:
    assert node is not None
    node.cancel("cancelled everywhere")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # scopes and tasks have it


class _Everywhere:
    """The runs of one systematic search."""

    def __init__(
        self,
        kind: str,
        name: str | None,
        act: Callable[..., None],
        scenario: Scenario,
        args: tuple[Any, ...],
        check: Callable[[], object] | None,
        seed: int,
        strategy: str | Strategy | None,
        most: int,
        options: dict[str, Any],
    ) -> None:
        self.kind = kind
        self.name = name
        self.act = act
        self.scenario = scenario
        self.args = args
        self.checking = check
        self.seed = seed
        self.strategy = by_name(strategy) if isinstance(strategy, str) else strategy
        self.most = most
        self.options = options
        self.covered = Exploration()

    def run(self, pairs: bool) -> Exploration:
        """All of them. Raises ``Found`` for the first that fails."""
        with opened():
            points = self.attempt(())
            if not points:
                what = f"scope {self.name!r}" if self.kind == "cancel" else f"host {self.name!r}"
                raise ValueError(f"{what} never came to a point to {self.kind} at: is that its name in the scenario?")
            if points > self.most:
                raise ValueError(
                    f"there are {points} points to {self.kind} at, more than most={self.most}: make the scenario smaller, or raise it"
                )
            for first in range(points):
                seen = self.attempt((first,))
                if pairs:
                    for second in range(first + 1, seen):
                        self.attempt((first, second))
        self.covered.exhausted = True
        return self.covered

    def attempt(self, at: Points) -> int:
        """One run with the fault at these points; how many points it had. Raises ``Found``."""
        seen = [0]
        if self.strategy is not None:
            self.strategy.begin(self.seed)

        def prepare(world: World) -> None:
            seen[0] = 0
            world.after_step = lambda process, task: self.stepped(world, process, task, at, seen)
            if self.kind == "crash":
                world.at_block = lambda thread, what: self.blocks(world, thread, what, at, seen)

        run = one_run(self.scenario, self.args, seed=self.seed, strategy=self.strategy, prepare=prepare, **self.options)
        run = self.judge(run, bool(at))
        self.covered.add(run)
        if run.failed:
            where = " and ".join(f"point {number}" for number in at) or "no point"
            report = found(
                self.scenario,
                self.args,
                run,
                self.covered,
                shrink=False,
                prepare=prepare,
                options=self.options,
            )
            raise Found(
                report.run,
                report.token,
                f"{self.kind} everywhere: fails with the {self.kind} at {where} of {seen[0]}\n{report.story}",
                self.covered,
            ) from run.error
        return seen[0]

    def judge(self, run: Run, faulty: bool) -> Run:
        """The run with its verdict: a cancelled program ends with its cancellation, and that is right."""
        from ..kernel.errors import Cancelled

        error = run.error
        if faulty and self.kind == "cancel" and isinstance(error, Cancelled):
            error = None
        if error is None and self.checking is not None:
            try:
                verdict = self.checking()
                if verdict is not None and not verdict:
                    raise AssertionError("check() returned a false value")
            except Exception as raised:
                error = raised
        return replace(run, error=error)

    def stepped(self, world: World, process: Process, task: Any, at: Points, seen: list[int]) -> None:
        """A task has made a step: is this a point, and the one?"""
        if self.kind == "crash":
            if process.host.name == self.name:
                self.point(world, process, at, seen, f"after a step of task {task.name!r}")
            return
        node = None if task.ended else self.node_of(task)
        if node is not None:
            self.point(world, process, at, seen, f"after a step of task {task.name!r}", node)

    def blocks(self, world: World, thread: SimThread, what: str, at: Points, seen: list[int]) -> None:
        """A thread is about to block in the simulated system; a poll is what the steps of its tasks lead to, and no point."""
        if what != "poll" and thread.process.host.name == self.name:
            self.point(world, thread.process, at, seen, f"where thread {thread.key} waits for {what}")

    def point(self, world: World, process: Process, at: Points, seen: list[int], where: str, *more: Any) -> None:
        """Count a point, and act where it is the one."""
        number = seen[0]
        seen[0] += 1
        if number in at:
            world.trace(self.kind, f"{self.kind} here (point {number}): {where}")
            self.act(world, process, *more)

    def node_of(self, task: Any) -> CancelNode | None:
        """The node to cancel, if ``task`` is suspended inside it."""
        if self.name is None:
            return _outermost(task)
        for node in _nodes_around(task):
            name = getattr(node, "name", None) if isinstance(node, Scope) or node is task else None
            if name == self.name:
                return node
        return None


def _nodes_around(task: Any) -> Iterator[CancelNode]:
    node: CancelNode | None = task.node
    for _ in count():
        if node is None:
            return
        yield node
        node = node.parent


def _outermost(task: Any) -> CancelNode | None:
    found: CancelNode | None = None
    for node in _nodes_around(task):
        if isinstance(node, Scope):
            found = node
    return found
