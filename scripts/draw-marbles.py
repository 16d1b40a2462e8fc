#!/usr/bin/env python
"""Draws the pictures of docs/doing-many-things.md: timelines of pipelines, recorded while they run.

Every mark in a picture is an event that happened: when an item left its source, when a function began and ended with it, when the
consumer got it. Times are real; they are rounded to a tenth of a unit, so that two runs give the same picture on a quiet machine.

    .venv/bin/python scripts/draw-marbles.py [docs/pictures]
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import bateau

# Seconds in a unit of time, and its width in the picture.
UNIT = 0.1
WIDTH = 34
ROW = 34
COLOURS = ("#2f6f9f", "#c2571a", "#4d8b31", "#8a4f9e", "#b02a37", "#5b6770", "#a67c00", "#2a8c82")


@dataclass
class Picture:
    """What happened in one run: marks (an item at a time) and bars (from a time to a time), in rows."""

    name: str
    title: str
    rows: list[str]
    began: float = 0.0
    marks: list[tuple[str, float, Any]] = field(default_factory=list)
    bars: list[tuple[str, float, float, Any, bool]] = field(default_factory=list)

    def now(self) -> float:
        """Units of time since the beginning."""
        return round((bateau.now() - self.began) / UNIT, 1)

    def mark(self, row: str, item: Any) -> None:
        """``item`` is in ``row`` now."""
        self.marks.append((row, self.now(), item))

    def passing(self, row: str) -> Callable[[Any], None]:
        """For ``inspect``: marks what passes."""
        return lambda item: self.mark(row, item)

    async def work(self, item: Any, units: float, row: str) -> Any:
        """Work on ``item`` for so long, in ``row``; a cancelled bar ends where it was cut."""
        start, done = self.now(), False
        try:
            await bateau.time.sleep(units * UNIT)
            done = True
        finally:
            self.bars.append((row, start, self.now(), item, done))
        return item

    def worker(self, seconds: Callable[[Any], float]) -> Callable[[Any], Awaitable[Any]]:
        """A function for ``map``: each call is a bar in a row of its own, the first that is free."""
        busy: dict[str, bool] = {row: False for row in self.rows if row.startswith("call")}

        async def work(item: Any) -> Any:
            row = next(name for name, taken in busy.items() if not taken)
            busy[row] = True
            try:
                return await self.work(item, seconds(item), row)
            finally:
                busy[row] = False

        return work

    def svg(self) -> str:
        """The picture."""
        left = 34 + 7.2 * max(len(row) for row in self.rows)
        end = max([at for _, at, _ in self.marks] + [stop for _, _, stop, _, _ in self.bars]) + 0.8
        width, height = max(left + end * WIDTH + 24, 30 + 8.3 * len(self.title)), 44 + ROW * len(self.rows)
        items: dict[str, str] = {}
        for _, _, item in sorted([(at, row, item) for row, at, item in self.marks], key=lambda one: one[0]):
            for part in item if isinstance(item, (list, tuple)) else (item,):
                items.setdefault(str(part), COLOURS[len(items) % len(COLOURS)])
        for _, _, _, item, _ in self.bars:
            items.setdefault(str(item), COLOURS[len(items) % len(COLOURS)])
        size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
        out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13" role="img">',
            f"<title>{escape(self.title)}</title>",
            f'<rect width="{width:.0f}" height="{height:.0f}" rx="6" fill="#ffffff"/>',
            f'<text x="10" y="20" font-family="monospace" font-weight="bold" fill="#222">{escape(self.title)}</text>',
        ]
        for number, row in enumerate(self.rows):
            y = 50 + ROW * number
            out.append(f'<text x="10" y="{y + 4}" fill="#444">{escape(row)}</text>')
            x = left + end * WIDTH
            out.append(f'<path d="M{left:.0f} {y}H{x:.0f}m-6 -4l6 4l-6 4" fill="none" stroke="#999"/>')
        for row, start, stop, item, done in self.bars:
            y, x = 50 + ROW * self.rows.index(row), left + start * WIDTH
            colour = items[str(item)]
            out.append(
                f'<rect x="{x:.1f}" y="{y - 10}" width="{max(2.0, (stop - start) * WIDTH):.1f}" height="20" rx="4" '
                f'fill="{colour}" fill-opacity="0.25" stroke="{colour}" stroke-dasharray="{"none" if done else "4 3"}"/>'
            )
            out.append(
                f'<text x="{x + 6:.1f}" y="{y + 5}" fill="{colour}">{escape(str(item))}{"" if done else " ✕"}</text>'
            )
        right: dict[str, float] = {}
        for row, at, item in self.marks:
            x = max(left + at * WIDTH, right.get(row, 0.0))  # those of one moment stand side by side
            right[row] = x + 22
            out.extend(self._mark(50 + ROW * self.rows.index(row), x, item, items))
        return "\n".join([*out, "</svg>", ""])

    @staticmethod
    def _mark(y: float, x: float, item: Any, colours: dict[str, str]) -> list[str]:
        text = " ".join(map(str, item)) if isinstance(item, (list, tuple)) else str(item)
        first = str(item[0]) if isinstance(item, (list, tuple)) and item else str(item)
        wide = max(22.0, 8.0 * len(text) + 10)
        fill = colours.get(first, "#333")
        return [
            f'<rect x="{x - wide / 2:.1f}" y="{y - 11}" width="{wide:.1f}" height="22" rx="11" fill="{fill}"/>',
            f'<text x="{x:.1f}" y="{y + 5}" text-anchor="middle" fill="#fff">{escape(text)}</text>',
        ]


def uneven(item: int) -> float:
    """How long the function takes with each item, in units."""
    return (2.0, 4.0, 1.0, 3.0, 1.0, 2.0)[item - 1]


async def arriving(*arrivals: tuple[float, Any]) -> AsyncIterator[Any]:
    """Each item at its time, in units from the beginning."""
    began = bateau.now()
    for at, item in arrivals:
        await bateau.time.sleep_until(began + at * UNIT)
        yield item


CALLS = ["call 1", "call 2", "call 3"]


async def one_at_a_time(p: Picture) -> None:
    """A call for one item at a time."""
    async for item in bateau.iter(range(1, 7)).inspect(p.passing("source")).map(p.worker(uneven)):
        p.mark("loop", item)


async def buffered(p: Picture) -> None:
    """Three at once, in order."""
    async for item in bateau.iter(range(1, 7)).inspect(p.passing("source")).map(p.worker(uneven)).buffered(3):
        p.mark("loop", item)


async def unordered(p: Picture) -> None:
    """Three at once, as they are done."""
    pipeline = bateau.iter(range(1, 7)).inspect(p.passing("source")).map(p.worker(uneven))
    async for item in pipeline.buffered_unordered(3):
        p.mark("loop", item)


async def left(p: Picture) -> None:
    """Left in the middle."""
    async for item in bateau.iter(range(1, 7)).inspect(p.passing("source")).map(p.worker(uneven)).buffered(3):
        p.mark("loop", item)
        if item == 2:
            break
    await bateau.checkpoint()


async def prefetched(p: Picture) -> None:
    """Two items ahead of a slow body."""
    source = bateau.iter(range(1, 6)).map(p.worker(lambda item: 2.0)).inspect(p.passing("fetched"))
    async for item in source.prefetch(2):
        await p.work(item, 2.5, "loop's body")


async def not_prefetched(p: Picture) -> None:
    """Nothing ahead of a slow body."""
    async for item in bateau.iter(range(1, 6)).map(p.worker(lambda item: 2.0)).inspect(p.passing("fetched")):
        await p.work(item, 2.5, "loop's body")


async def merged(p: Picture) -> None:
    """Two sources as one."""
    letters = bateau.iter(arriving((1, "a"), (3, "b"), (7, "c"))).inspect(p.passing("letters"))
    numbers = bateau.iter(arriving((0.5, 1), (2, 2), (5, 3), (6, 4))).inspect(p.passing("numbers"))
    async for item in letters.merge(numbers):
        p.mark("loop", item)


BURSTS = ((0.5, 1), (1, 2), (1.5, 3), (2, 4), (5, 5), (9, 6), (9.5, 7))


def timed(method: Callable[[Any], Any]) -> Callable[[Picture], Awaitable[None]]:
    """A run of one combinator over the same bursts of items."""

    async def run(p: Picture) -> None:
        async for item in method(bateau.iter(arriving(*BURSTS)).inspect(p.passing("source"))):
            p.mark("loop", item)

    return run


PICTURES: list[tuple[Picture, Callable[[Picture], Awaitable[None]]]] = [
    (Picture("map", ".map(fetch)", ["source", "call 1", "loop"]), one_at_a_time),
    (Picture("buffered", ".map(fetch).buffered(3)", ["source", *CALLS, "loop"]), buffered),
    (Picture("unordered", ".map(fetch).buffered_unordered(3)", ["source", *CALLS, "loop"]), unordered),
    (Picture("left", ".map(fetch).buffered(3), and break at 2", ["source", *CALLS, "loop"]), left),
    (Picture("idle", ".map(fetch), and a body that takes time", ["call 1", "fetched", "loop's body"]), not_prefetched),
    (Picture("prefetch", ".map(fetch).prefetch(2)", ["call 1", "fetched", "loop's body"]), prefetched),
    (Picture("merge", "letters.merge(numbers)", ["letters", "numbers", "loop"]), merged),
    (
        Picture("batch", ".batch(3, wait=0.2)   # 0.2 s: two units", ["source", "loop"]),
        timed(lambda it: it.batch(3, wait=2 * UNIT)),
    ),
    (
        Picture("throttle", ".throttle(2, per=0.3)   # two in three units", ["source", "loop"]),
        timed(lambda it: it.throttle(2, per=3 * UNIT)),
    ),
    (
        Picture("debounce", ".debounce(0.1)   # quiet for one unit", ["source", "loop"]),
        timed(lambda it: it.debounce(UNIT)),
    ),
    (
        Picture("sample", ".sample(0.2)   # every two units", ["source", "loop"]),
        timed(lambda it: it.sample(2 * UNIT)),
    ),
]


def main() -> None:
    """Run every pipeline and write its picture."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    for picture, run in PICTURES:

        async def record(picture: Picture = picture, run: Callable[[Picture], Awaitable[None]] = run) -> None:
            picture.began = bateau.now()
            await run(picture)

        bateau.run(record)
        (folder / f"{picture.name}.svg").write_text(picture.svg())
        print(folder / f"{picture.name}.svg")


if __name__ == "__main__":
    main()
