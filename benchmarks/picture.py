"""The results as one SVG picture: a line per case, a dot per system, on a logarithmic scale of ratios to the baseline.

Written by hand, so that a picture needs no library.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from .report import Row

COLOURS = {
    "asyncio": "#a0a0a0",
    "uvloop": "#d98c00",
    "rloop": "#b3541e",
    "bateau-loop": "#7fb3e6",
    "trio": "#8a4fbf",
    "curio": "#a0a000",
    "anyio-asyncio": "#d1495b",
    "anyio-uvloop": "#e58fa0",
    "bateau-native": "#0057b8",
    "bateau-pure": "#3aa6a6",
    "bateau-asyncio": "#5a9e3d",
    "floor": "#000000",
}
"""The systems that are drawn. The others would only hide these; the tables have them all."""

LEFT, RIGHT, TOP, LINE, RADIUS = 250, 30, 74, 19, 4.5
WIDTH = 1000


def svg(rows: Sequence[Row], baseline: str) -> str:
    """The picture of all rows that have a ratio to the baseline. Left is less CPU time (or memory)."""
    drawn = [row for row in rows if row.ratio is not None and row.ratio > 0 and row.system in COLOURS]
    cases = list(dict.fromkeys((row.workload, row.case) for row in drawn))
    ratios = [row.ratio for row in drawn if row.ratio is not None]
    low = math.floor(math.log10(min(ratios, default=0.1)))
    high = max(math.ceil(math.log10(max(ratios, default=10))), low + 1)

    def x(ratio: float) -> float:
        return LEFT + (math.log10(ratio) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    height = TOP + LINE * len(cases) + 20
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="18" font-size="14">CPU time (or bytes) of one operation, × {escape(baseline)}: left is less</text>',
        *_legend(row.system for row in drawn),
    ]
    for power in range(low, high + 1):
        place = x(10.0**power)
        out.append(f'<line x1="{place:.1f}" y1="{TOP - 6}" x2="{place:.1f}" y2="{height - 14}" stroke="#ddd"/>')
        out.append(f'<text x="{place:.1f}" y="{TOP - 10}" text-anchor="middle" fill="#666">{10.0**power:g}</text>')
    for number, (workload, case) in enumerate(cases):
        y = TOP + LINE * number + LINE / 2
        out.append(f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(f"{workload} / {case}")}</text>')
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#f0f0f0"/>')
        for row in drawn:
            if (row.workload, row.case) == (workload, case) and row.ratio is not None:
                title = escape(
                    f"{row.system}: {row.ratio:.3g} × {baseline}, {row.figure:,.0f} {row.unit} ± {row.spread:.0%}"
                )
                out.append(
                    f'<circle cx="{x(row.ratio):.1f}" cy="{y:.1f}" r="{RADIUS}" fill="{COLOURS[row.system]}" '
                    f'fill-opacity="0.85"><title>{title}</title></circle>'
                )
    return "\n".join([*out, "</svg>", ""])


def _legend(systems: Iterable[str]) -> list[str]:
    present = set(systems)
    out: list[str] = []
    place, y = 10.0, 36
    for name, colour in COLOURS.items():
        if name in present:
            wide = 24 + 7 * len(name)
            if place + wide > WIDTH - RIGHT:
                place, y = 10.0, y + 16
            out.append(f'<circle cx="{place + 5:.0f}" cy="{y - 4}" r="{RADIUS}" fill="{colour}"/>')
            out.append(f'<text x="{place + 14:.0f}" y="{y}">{escape(name)}</text>')
            place += wide
    return out
