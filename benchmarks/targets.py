"""The ratios that bateau promises, and whether a run met them.

A promise compares two measurements of one run: the median over the rounds of the ratio within a round, as everywhere here. "At least
15x asyncio" means that asyncio needs at least 15 times our CPU; "at most 1.25x" that we need at most 1.25 times the other's.

Each promise is made for the native kernel with nothing else loaded. The rows of the scheduler are measured four times (bare, with asyncio
imported, with the flight recorder, with both): the promise holds for the first, the other three are shown beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from .report import aligned, by_cell, markdown_table
from .runner import Key, Outcome, Plan, Sample

NATIVE = "bateau-native"
VARIANTS = ("bateau-native+asyncio", "bateau-native+recorder", "bateau-native+both")


@dataclass(frozen=True, slots=True)
class Target:
    """One promise: a measurement of ours, one of another, and what their ratio has to be."""

    ours: Key
    other: Key
    bound: float
    at_most: bool = False
    """True: ours / other must not be above the bound; False: other / ours must not be below it."""
    variants: tuple[str, ...] = ()
    """Other systems whose ratio is shown beside ours."""

    @property
    def name(self) -> str:
        """What is compared, for a reader."""
        return f"{self.ours[0]} / {self.ours[1]}"

    @property
    def wanted(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {self.bound:g}x"

    def cells(self) -> set[Key]:
        """All that has to be measured for it."""
        return {self.ours, self.other, *((*self.ours[:2], system) for system in self.variants)}


def _scheduling(workload: str, case: str, **peers: float) -> list[Target]:
    return [
        Target((workload, case, NATIVE), (workload, case, peer), bound, variants=VARIANTS if peer == "asyncio" else ())
        for peer, bound in peers.items()
    ]


def _shape(name: str, *, against_protocol: bool) -> list[Target]:
    ours = ("tcp_echo", f"stream_{name}", NATIVE)
    found = [
        Target(ours, ("tcp_echo", f"stream_{name}", "floor"), 1.25, at_most=True),
        Target(ours, ("tcp_echo", f"stream_{name}", "asyncio"), 1.9),
        Target(ours, ("tcp_echo", f"stream_{name}", "uvloop"), 1.4),
    ]
    if against_protocol:
        found.append(Target(ours, ("tcp_echo", f"protocol_{name}", "uvloop"), 1.0, at_most=True))
    return found


SCHEDULING = (
    "switch/one_task", "switch/1000_tasks", "spawn_join/one_scope", "spawn_join/batches_of_100", "channel/ping_pong",
    "timeout/ready_body", "cancel/sleepers",
)  # fmt: skip
"""What the Python kernel has to do at twice asyncio's speed."""

PORTABLE = (
    "switch/one_task", "switch/1000_tasks", "spawn_join/one_scope", "spawn_join/batches_of_100", "channel/ping_pong", "channel/mpsc",
    "lock/free", "lock/contended", "timeout/empty_body", "timeout/ready_body", "timeout/yielding_body", "timeout/waiting_body",
    "timers/10k_sleeps", "cancel/10k_parked", "memory/idle_task", "memory/connection", "startup/empty_main", "files/one", "files/many",
    "offload/one", "offload/many", "tcp_echo/stream_50x64B", "tcp_echo/stream_50x16K", "udp_echo/datagram",
)  # fmt: skip
"""Where bateau on asyncio's loop must cost less than anyio on asyncio's loop."""


def _names(case: str) -> tuple[str, str]:
    workload, _, name = case.partition("/")
    return workload, name


def _all() -> dict[str, list[Target]]:
    """The promises, in groups for the reader."""
    return {
        "The scheduler": [
            *_scheduling("switch", "one_task", asyncio=15, uvloop=8, trio=25),
            *_scheduling("switch", "1000_tasks", asyncio=15, uvloop=8, trio=25),
            *_scheduling("spawn_join", "batches_of_100", asyncio=15, uvloop=8),
            *_scheduling("spawn_join", "one_scope", asyncio=4),
            *_scheduling("channel", "ping_pong", asyncio=20, trio=50),
            *_scheduling("timeout", "ready_body", asyncio=8),
            *_scheduling("cancel", "sleepers", asyncio=8),
            Target(("memory", "idle_task", NATIVE), ("memory", "idle_task", "asyncio"), 0.5, at_most=True),
        ],
        "Sockets and files": [
            *_shape("50x64B", against_protocol=True),
            *_shape("1000x64B", against_protocol=True),
            *_shape("50x16K", against_protocol=True),
            *(
                target
                for case in ("one", "many")
                for target in (
                    Target(("files", case, NATIVE), ("files", case, "floor"), 1.5, at_most=True),
                    Target(("files", case, NATIVE), ("files", case, "anyio-asyncio"), 30),
                    Target(("files", case, NATIVE), ("files", case, "caio"), 1),
                )
            ),
        ],
        "asyncio programs on bateau's loop": [
            Target(("hosted", "queue", "bateau-loop"), ("hosted", "queue", "uvloop"), 1.5),
            Target(("hosted", "future", "bateau-loop"), ("hosted", "future", "uvloop"), 1.5),
            Target(("http", "plaintext", "bateau-loop"), ("http", "plaintext", "uvloop"), 1.15),
        ],
        "The Python kernel": [
            Target((*_names(case), "bateau-pure"), (*_names(case), "asyncio"), 2) for case in SCHEDULING
        ],
        "The portable interface on asyncio's loop, beside anyio's": [
            Target((*_names(case), "bateau-asyncio"), (*_names(case), "anyio-asyncio"), 1, at_most=True)
            for case in PORTABLE
        ],
    }


TARGETS = _all()


def cells() -> set[Key]:
    """All measurements that the promises need."""
    return {key for group in TARGETS.values() for target in group for key in target.cells()}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run says about one promise."""

    group: str
    target: Target
    ratio: float | None
    """None: one of the two was not measured."""
    least: float = 0.0
    most: float = 0.0
    beside: dict[str, float] = field(default_factory=dict[str, float])
    """The ratios of the variants."""

    @property
    def word(self) -> str:
        """Met or not; "hardly" where the rounds themselves disagree."""
        if self.ratio is None:
            return "not measured"
        bound = self.target.bound
        met = self.ratio <= bound if self.target.at_most else self.ratio >= bound
        disputed = self.least < bound < self.most
        return ("met" if met else "NOT MET") + (", rounds differ" if disputed else "")


def judge(outcome: Outcome, plan: Plan) -> list[Verdict]:
    """The verdict on each promise of which at least one side was to be measured."""
    found = by_cell(outcome.samples)
    planned = {cell.key for cell in plan.cells}
    verdicts: list[Verdict] = []
    for group, members in TARGETS.items():
        for target in members:
            if target.ours in planned or target.other in planned:
                verdicts.append(_verdict(group, target, found))
    return verdicts


def _ratios(target: Target, ours: Sequence[Sample], other: Sequence[Sample]) -> list[float]:
    theirs = {sample.round: sample.figure for sample in other}
    pairs = [(sample.figure, theirs[sample.round]) for sample in ours if sample.round in theirs]
    return [mine / his if target.at_most else his / mine for mine, his in pairs]


def _verdict(group: str, target: Target, found: dict[Key, list[Sample]]) -> Verdict:
    other = found.get(target.other, [])
    ratios = _ratios(target, found.get(target.ours, []), other)
    if not ratios:
        return Verdict(group, target, None)
    beside: dict[str, float] = {}
    for system in target.variants:
        if variant := _ratios(target, found.get((*target.ours[:2], system), []), other):
            beside[system] = median(variant)
    return Verdict(group, target, median(ratios), min(ratios), max(ratios), beside)


HEADINGS = ("what", "ours", "other", "target", "measured", "rounds", "+asyncio", "+recorder", "+both", "")


def _line(verdict: Verdict) -> tuple[str, ...]:
    target = verdict.target
    same = target.ours[:2] == target.other[:2]
    return (
        target.name,
        target.ours[2],
        target.other[2] if same else f"{target.other[2]} {target.other[1]}",
        target.wanted,
        "-" if verdict.ratio is None else f"{verdict.ratio:.2f}x",
        "-" if verdict.ratio is None else f"{verdict.least:.2f} to {verdict.most:.2f}",
        *(f"{verdict.beside[one]:.2f}x" if one in verdict.beside else "" for one in VARIANTS),
        verdict.word,
    )


def text(verdicts: Sequence[Verdict]) -> str:
    """The table for a terminal."""
    lines = aligned([HEADINGS, *map(_line, verdicts)], left=4)
    met = sum(verdict.word.startswith("met") for verdict in verdicts)
    return "\n".join([*lines, "", f"{met} of {len(verdicts)} targets met"])


def markdown(verdicts: Sequence[Verdict]) -> list[str]:
    """The tables for a page, one for each group that has verdicts."""
    out: list[str] = []
    for group in TARGETS:
        members = [verdict for verdict in verdicts if verdict.group == group]
        if not members:
            continue
        lines = [HEADINGS, *map(_line, members)]
        if not any(verdict.beside for verdict in members):
            lines = [(*line[:6], line[-1]) for line in lines]
        out += ["", f"## {group}: targets", "", *markdown_table(lines, left=4)]
    return out
