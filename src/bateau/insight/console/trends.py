"""How numbers went over the last minutes: one ring of samples per number, taken with each snapshot."""

from __future__ import annotations

from collections import deque

from ..model import Snapshot

# Samples kept of each number: five minutes at one a second.
KEPT = 300
_BARS = " ▁▂▃▄▅▆▇█"


class Trends:
    """Samples by name: the tasks, those ready, those waiting, timers, descriptors, memory, and the program's own gauges.

    Invariant: every series has as many samples as there were snapshots since it came up, at most ``KEPT``.
    """

    def __init__(self) -> None:
        self.series: dict[str, deque[float]] = {}

    def add(self, numbers: dict[str, float]) -> None:
        """Take one sample of each. A number that is not there any more is dropped."""
        for name in self.series.keys() - numbers.keys():
            del self.series[name]
        for name, value in numbers.items():
            if name not in self.series:
                self.series[name] = deque(maxlen=KEPT)
            self.series[name].append(float(value))

    def lines(self, width: int) -> list[str]:
        """One line per number: its name, how it went in ``width`` characters, the last value, the least and the greatest."""
        long = max((len(name) for name in self.series), default=0)
        return [
            f"{name:<{long}}  {sparkline(list(samples), width)}  {short(samples[-1])}  (from {short(min(samples))} to {short(max(samples))})"
            for name, samples in self.series.items()
        ]


def short(value: float) -> str:
    """A number in few characters: three digits say how a thing went, and a count is told in full."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def numbers_of(snapshot: Snapshot) -> dict[str, float]:
    """The numbers of a snapshot that are followed, by name."""
    states: dict[str, int] = {}
    for task in snapshot.tasks:
        states[task.state] = states.get(task.state, 0) + 1
    numbers: dict[str, float] = {
        "tasks": len(snapshot.tasks),
        "ready": states.get("ready", 0),
        "waiting": states.get("waiting", 0),
        "timers": sum(runtime.timers or 0 for runtime in snapshot.runtimes),
        "descriptors": sum(runtime.fds or 0 for runtime in snapshot.runtimes),
    }
    if snapshot.process.memory is not None:
        numbers["memory (MiB)"] = snapshot.process.memory / 2**20
    return numbers | dict(snapshot.gauges)


def sparkline(samples: list[float], width: int) -> str:
    """The last ``width`` samples as bars from zero to their greatest."""
    shown = samples[-width:]
    top = max(shown, default=0.0)
    bars = "".join(_BARS[0 if top <= 0 else min(8, max(0, round(value / top * 8)))] for value in shown)
    return bars.rjust(width)


def histogram(stats: dict[str, float], width: int = 40) -> list[str]:
    """The lines of a task's wake-to-run latencies (``late_N``, see ``counting``): bound, bar, number."""
    counts = {int(name[5:]): value for name, value in stats.items() if name.startswith("late_")}
    if not counts:
        return []
    top = max(counts.values())
    lines: list[str] = []
    for bucket in range(min(counts), max(counts) + 1):
        times = counts.get(bucket, 0)
        bar = "█" * max(1 if times else 0, round(times / top * width))
        lines.append(f"  ≤ {_bound(bucket):>6}  {bar:<{width}} {times:.0f}")
    return lines


def _bound(bucket: int) -> str:
    us = 1 << bucket
    return f"{us}us" if us < 1000 else f"{us / 1000:.0f}ms" if us < 1_000_000 else f"{us / 1e6:.0f}s"
