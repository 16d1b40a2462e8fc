"""Systematic faults: cancel at every suspension point, crash at every step, one per run (and pairs of cancellations).

Theory of operation. Each point asks the world a question (stream ``cancel-at NAME`` or ``crash-at HOST SECONDS``), and ``_At`` answers
yes at one of them and no at all others: so a run with such a fault is a list of choices like any other, and its token replays it. A first
run, which answers no, counts the points; each further run is the same up to its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..kernel.cancellation import CancelNode
from ..kernel.errors import Cancelled
from ..kernel.scope import Scope
from .doors import opened
from .exploring import Exploration, Found, found
from .given import name_of, seconds, whole
from .running import Run, Scenario, one_run
from .strategy import Strategy, strategy_of
from .world import World

if TYPE_CHECKING:
    from .process import Process
    from .thread import SimThread

CANCEL, CRASH = "cancel-at ", "crash-at "
NEVER = "never"

Points = tuple[int, ...]


def cancel_everywhere(
    scenario: Scenario,
    *,
    scope: str | None = None,
    args: tuple[Any, ...] = (),
    check: Callable[[], object] | None = None,
    pairs: bool = False,
    seed: int = 0,
    strategy: str | Strategy = "fifo",
    most: int = 10_000,
    **options: Any,
) -> Exploration:
    """Run ``scenario`` once for each point at which a task in ``scope`` suspends, and cancel the scope there.

    ``scope`` is the name of the scope (of ``bateau.scope(name=...)``) or task to cancel; None: the whole program, whose cancellation
    is then the expected end of a run. After each run ``check()`` is called, if given: an error of it (or a false value), or of the
    scenario (other than the cancellation), raises ``Found``. ``pairs`` also cancels at two points in one run, the second during
    what the first led to. Raises ``ValueError`` where no such scope ever suspends, and where there are more than ``most`` runs to make.
    """
    if scope is not None:
        name_of("scope", scope)
    whole("most", most, 1)
    title = f"scope {scope!r}" if scope is not None else "the program"
    search = _Search(CANCEL + (scope or ""), title, scenario, args, check, seed, strategy, options)
    return search.run(most, pairs=pairs)


def crash_everywhere(
    scenario: Scenario,
    host: str,
    *,
    args: tuple[Any, ...] = (),
    check: Callable[[], object] | None = None,
    restart_after: float | None = 0.0,
    seed: int = 0,
    strategy: str | Strategy = "fifo",
    most: int = 10_000,
    **options: Any,
) -> Exploration:
    """Run ``scenario`` once for each step of a task, and each blocking call, of a program on ``host``, and crash that host right
    there, as a power cut would.

    ``restart_after`` seconds later its programs are started again (None: it stays down). ``check`` and the errors are as in
    ``cancel_everywhere``. A point is the end of a task's step, or the moment when a thread blocks in the system (a disk's latency, a
    lock); what runs between two of them happens whole, or (at a disk) as its faults say.
    """
    name_of("host", host)
    whole("most", most, 1)
    if restart_after is not None:
        seconds("restart_after", restart_after)
    if host == "test":
        raise ValueError(
            "host 'test' is the scenario itself, which can't be crashed: start programs on hosts of other names"
        )
    later = NEVER if restart_after is None else f"{restart_after:g}"
    search = _Search(f"{CRASH}{host} {later}", f"host {host!r}", scenario, args, check, seed, strategy, options)
    return search.run(most)


class _Search:
    """The runs of one systematic search."""

    def __init__(
        self,
        stream: str,
        title: str,
        scenario: Scenario,
        args: tuple[Any, ...],
        check: Callable[[], object] | None,
        seed: int,
        strategy: str | Strategy,
        options: dict[str, Any],
    ) -> None:
        self.stream = stream
        self.title = title
        self.scenario = scenario
        self.args = args
        self.seed = seed
        self.strategy = strategy_of(strategy)
        self.options = dict(options, check=check)
        if stream.startswith(CANCEL):
            self.options["forgive"] = Cancelled
        self.covered = Exploration()
        self.points = 0

    def run(self, most: int, *, pairs: bool = False) -> Exploration:
        """All of them. Raises ``Found`` for the first that fails."""
        with opened():
            self.points = self.attempt(())
            if not self.points:
                raise ValueError(self._nowhere())
            if self.points > most:
                raise ValueError(
                    f"{self.title} has {self.points} points, more than most={most}: make the scenario smaller, or raise it"
                )
            for first in range(self.points):
                seen = self.attempt((first,))
                if pairs:
                    for second in range(first + 1, seen):
                        self.attempt((first, second))
        self.covered.exhausted = True
        return self.covered

    def _nowhere(self) -> str:
        if self.stream == CANCEL:
            return "the program never waits: there is no point to cancel it at"
        return f"{self.title} never came to a point to do it at: is that its name in the scenario?"

    def attempt(self, at: Points) -> int:
        """One run with the fault at these points; how many points it had. Raises ``Found``."""
        chosen = _At(self.strategy, self.stream, at)
        chosen.begin(self.seed)
        watch = watcher((self.stream,))
        assert watch is not None
        run = one_run(self.scenario, self.args, seed=self.seed, strategy=chosen, prepare=watch, **self.options)
        chosen.end(run)
        self.covered.add(run)
        if run.failed:
            raise self.report(run, at) from run.error
        return chosen.asked

    def report(self, run: Run, at: Points) -> Found:
        """What a failed run is reported as."""
        made = found(self.scenario, self.args, run, self.covered, shrink=False, prepare=None, options=self.options)
        where = " and ".join(f"point {number}" for number in at) or "no fault at all"
        head = f"{self.stream.partition('-')[0]} everywhere in {self.title}: fails with {where} (of {self.points})"
        return Found(made.run, made.token, f"{head}\n{made.story}", self.covered)


class _At(Strategy):
    """Says yes at some questions of one stream; everything else is answered by another strategy."""

    name = "everywhere"

    def __init__(self, inner: Strategy, stream: str, at: Points) -> None:
        self.inner = inner
        self.stream = stream
        self.at = at
        self.asked = 0
        self.follows = inner.follows
        self.watches = inner.watches
        self.yields = inner.yields
        self.step = inner.step  # type: ignore[method-assign]  # asked without a detour: it runs for each step
        self.only = inner.only  # type: ignore[method-assign]  # as above
        self.choose = inner.choose  # type: ignore[method-assign]  # as above

    def begin(self, seed: int) -> bool:
        self.asked = 0
        return self.inner.begin(seed)

    def chance(self, stream: str, p: float) -> int:
        if stream != self.stream:
            return self.inner.chance(stream, p)
        self.asked += 1
        return 1 if self.asked - 1 in self.at else 0

    def end(self, run: Run) -> None:
        self.inner.end(run)


def watcher(streams: Sequence[str]) -> Callable[[World], None] | None:
    """What has to be attached to a world (``prepare=``) that is asked these streams' questions; None if there are no such streams."""
    cancels = [stream for stream in streams if stream.startswith(CANCEL)]
    crashes = [stream for stream in streams if stream.startswith(CRASH)]
    if not cancels and not crashes:
        return None

    def prepare(world: World) -> None:
        outer = world.after_step

        def stepped(process: Process, task: Any) -> None:
            if outer is not None:
                outer(process, task)
            for stream in cancels:
                _ask_cancel(world, stream, task)
            for stream in crashes:
                _ask_crash(world, stream, process, lambda: f"after a step of task {getattr(task, 'name', None)!r}")

        def blocks(thread: SimThread, what: object) -> None:
            if what != "poll":  # a poll is where the steps of tasks have led to, and those were asked about
                for stream in crashes:
                    _ask_crash(world, stream, thread.process, lambda: f"where thread {thread.key} waits: {what}")

        world.after_step = stepped
        if crashes:
            world.at_block = blocks

    return prepare


def _ask_cancel(world: World, stream: str, task: Any) -> None:
    """A task has made a step: if it is suspended inside the scope, cancel that here?"""
    node = None if task is None or task.ended else _node_of(task, stream[len(CANCEL) :])
    if node is not None and world.chance(stream, 1.0):
        world.trace("cancel", f"cancelled here: after a step of task {getattr(task, 'name', None)!r}")
        target: Any = node  # a scope or a task, which both have it
        target.cancel("cancelled everywhere")


def _ask_crash(world: World, stream: str, process: Process, where: Callable[[], str]) -> None:
    name, _, later = stream[len(CRASH) :].rpartition(" ")
    if process.host.name == name and process.is_alive() and world.chance(stream, 1.0):
        world.trace("crash", f"crashed here: {where()}")
        if later != NEVER:
            world.after(float(later), process.host.restart)
        process.host.crash()  # last: what runs may be the victim itself, which goes no further


def _node_of(task: Any, name: str) -> Any:
    """The node to cancel, if ``task`` is suspended inside it: the scope or task of that name; without a name the outermost scope."""
    outermost: Any = None
    for node in _nodes_around(task):
        if isinstance(node, Scope):
            outermost = node
            if name and node.name == name:
                return node
        elif name and node is task and task.name == name:
            return node
    return None if name else outermost


def _nodes_around(task: Any) -> Iterator[Any]:
    node: CancelNode | None = task.node
    while node is not None:
        yield node
        node = node.parent
