"""The picture of a run: a lane for each task under its host, in the order in which things happened, as SVG or as a page of HTML.

The horizontal axis counts events, not seconds: virtual time stands still for hundreds of steps and then jumps an hour. The clock
is written where it changes.
"""

from __future__ import annotations

import textwrap
from html import escape
from typing import TYPE_CHECKING

from .story import decisions, headline, place, tell

if TYPE_CHECKING:
    from .running import Run
    from .timeline import Record

# Pixels: of the column for names, of one event, of one lane, of a line of text, of the head with the clock without its title; the least width.
NAMES, CELL, LANE, LINE, HEAD, LEAST = 230, 14, 22, 16, 40, 760
# Pixels that a character of the title takes, and how many lines it may have.
CHARACTER, MOST_TITLE = 7.3, 3
# More events than this are cut at the front: nobody reads a longer one, and browsers choke on it.
MOST_EVENTS = 1500

_COLOURS = {
    "step": "#5b8def",
    "ends": "#2b3a55",
    "fails": "#d64545",
    "choice": "#e0a030",
    "fault": "#d64545",
    "crash": "#d64545",
    "kill": "#d64545",
    "cancel": "#d64545",
    "buggify": "#d64545",
    "start": "#3aa76d",
    "restart": "#3aa76d",
    "exit": "#2b3a55",
    "freeze": "#8a5cd6",
    "thaw": "#8a5cd6",
}
_OTHER = "#9aa5b1"
# What the legend says, if there is such an event in the picture: colour, whether it is a step, and words.
_LEGEND = (
    ("#5b8def", True, "a step"),
    ("#2b3a55", True, "its last step"),
    ("#d64545", True, "it fails"),
    ("#3aa76d", False, "start"),
    ("#2b3a55", False, "exit"),
    ("#e0a030", False, "an order other than usual"),
    ("#d64545", False, "fault, crash, cancellation"),
    ("#8a5cd6", False, "freeze, thaw"),
    ("#9aa5b1", False, "anything else"),
)

_STYLE = (
    "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1c2733}.t{font-size:10px;fill:#5a6878}.h{font-weight:700}"
    ".l{stroke:#e3e8ee}.g{stroke:#c3ccd6;stroke-dasharray:2 3}"
    ".c{stroke:#e3e8ee;stroke-dasharray:1 4}.a{stroke:#5a6878}"
)


def svg(run: Run) -> str:
    """The run as one SVG document. Each event tells what it was when pointed at."""
    events = run.events[-MOST_EVENTS:]
    lanes = _lanes(events)
    width = max(LEAST, NAMES + CELL * (len(events) + 2))
    heading = _heading(run, width)
    head = HEAD + LINE * len(heading)
    bottom = head + LANE * len(lanes)
    legend = _legend(events, width, bottom + LINE)
    height = bottom + LINE * 2 + (LINE * (1 + legend[-1][0]) if legend else 0)
    title = escape(f"seed {run.seed}: {headline(run.error)}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{title}</title><style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    parts += [
        f'<text x="8" y="{18 + LINE * row}" class="h">{escape(line)}<title>{title}</title></text>'
        for row, line in enumerate(heading)
    ]
    parts += _names(lanes, width, head)
    parts += _clock(events, head, bottom)
    for index, event in enumerate(events):
        parts.append(_event(event, NAMES + CELL * index, head + LANE * lanes[_lane(event)]))
    parts += [text for _, text in legend]
    parts.append("</svg>")
    return "\n".join(parts)


def _heading(run: Run, width: int) -> list[str]:
    """The title in lines that fit; it goes on in the tooltip."""
    fits = int((width - 16) / CHARACTER)
    cut = len(run.events) - MOST_EVENTS
    text = f"seed {run.seed}: {headline(run.error)}" + (
        f" (the last {MOST_EVENTS} of {len(run.events)} events)" if cut > 0 else ""
    )
    return textwrap.wrap(text, fits, max_lines=MOST_TITLE, placeholder=" …") or [""]


def _legend(events: list[Record], width: int, y: int) -> list[tuple[int, str]]:
    """What the marks mean, as far as there are such, each with the number of its line."""
    seen = {_mark(event) for event in events}
    parts: list[tuple[int, str]] = []
    x, row = 8.0, 0
    for colour, step, words in _LEGEND:
        if (colour, step) not in seen:
            continue
        room = 20 + len(words) * CHARACTER + 14
        if x + room > width and x > 8:
            x, row = 8.0, row + 1
        top = y + LINE * row
        shape = (
            f'<rect x="{x:.0f}" y="{top}" width="{CELL - 2}" height="12" rx="2" fill="{colour}"/>'
            if step
            else f'<circle cx="{x + 6:.0f}" cy="{top + 6}" r="5" fill="{colour}"/>'
        )
        parts.append((row, f'{shape}<text x="{x + 18:.0f}" y="{top + 10}">{words}</text>'))
        x += room
    return parts


def html(run: Run, token: str) -> str:
    """The run as a page of its own: what went wrong, the picture, and every event in a table."""
    rows = "\n".join(
        f"<tr><td>{event.at:.6f}<td>{escape(event.actor)}<td>{escape(event.kind)}<td>{escape(event.text)}<td>{escape(_site(event))}"
        for event in run.events
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{escape(headline(run.error))}</title>
<style>
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 2rem; color: #1c2733; }}
pre, td {{ font: 12px ui-monospace, Menlo, Consolas, monospace; }}
pre {{ background: #f5f7fa; padding: 1rem; overflow-x: auto; }}
.picture {{ overflow-x: auto; border: 1px solid #e3e8ee; }}
table {{ border-collapse: collapse; }} td {{ border-top: 1px solid #e3e8ee; padding: .15rem .6rem; vertical-align: top; }}
</style>
<h1>{escape(headline(run.error))}</h1>
<p>Seed {run.seed}, {run.steps} steps, {run.seconds:.6f} simulated seconds; {escape(decisions(run))}.</p>
<div class="picture">{svg(run)}</div>
<h2>The story</h2><pre>{escape(tell(run, token))}</pre>
<h2>Every event</h2><table>{rows}</table>
</html>
"""


def _lane(event: Record) -> tuple[str, str]:
    return event.host, event.actor


def _lanes(events: list[Record]) -> dict[tuple[str, str], int]:
    """A row for each actor, those of one host together, in the order of their first events."""
    hosts: dict[str, list[tuple[str, str]]] = {}
    for event in events:
        mine = hosts.setdefault(event.host, [])
        if _lane(event) not in mine:
            mine.append(_lane(event))
    return {lane: row for row, lane in enumerate(lane for mine in hosts.values() for lane in mine)}


def _names(lanes: dict[tuple[str, str], int], width: int, head: int) -> list[str]:
    parts: list[str] = []
    last = None
    for (host, actor), row in lanes.items():
        y = head + LANE * row
        if host != last:
            parts.append(f'<line x1="0" x2="{width}" y1="{y}" y2="{y}" class="g"/>')
            last = host
        middle = y + LANE / 2
        shown = actor if len(actor) <= 30 else f"{actor[:13]}…{actor[-16:]}"
        parts.append(f'<line x1="{NAMES}" x2="{width}" y1="{middle}" y2="{middle}" class="l"/>')
        parts.append(f'<text x="8" y="{middle + 4}">{escape(shown)}<title>{escape(actor)}</title></text>')
    return parts


def _clock(events: list[Record], head: int, bottom: int) -> list[str]:
    """The axis: a line wherever the time changes, and what it is then where there is room to say so."""
    end = NAMES + CELL * len(events)
    parts = [
        f'<text x="8" y="{head - 10}" class="t">virtual time, one column per event →</text>',
        f'<line x1="{NAMES}" x2="{end}" y1="{head - 4}" y2="{head - 4}" class="a"/>',
    ]
    shown = None
    free = 0.0
    for index, event in enumerate(events):
        if event.at == shown:
            continue
        shown = event.at
        x = NAMES + CELL * index
        text = f"{event.at:.4f}".rstrip("0").rstrip(".") + " s"
        told = x >= free
        parts.append(f'<line x1="{x}" x2="{x}" y1="{head - 4}" y2="{bottom}" class="{"g" if told else "c"}"/>')
        parts.append(f'<line x1="{x}" x2="{x}" y1="{head - (8 if told else 6)}" y2="{head - 4}" class="a"/>')
        if told:
            free = x + len(text) * 6.2 + 8
            parts.append(f'<text x="{x}" y="{head - 11}" class="t">{text}</text>')
    return parts


def _mark(event: Record) -> tuple[str, bool]:
    """Its colour, and whether it is a step (a box) or something that happens (a dot)."""
    kind = event.kind
    if kind == "step" and event.text.startswith("ends"):
        kind = "ends" if event.text == "ends" else "fails"
    return _COLOURS.get(kind, _OTHER), kind in {"step", "ends", "fails"}


def _event(event: Record, x: int, y: int) -> str:
    colour, step = _mark(event)
    said = f"{event.at:.6f} s  {event.actor}\n{event.kind}: {event.text}"
    site = _site(event)
    if site:
        said += f"\n{site}"
    title = f"<title>{escape(said)}</title>"
    middle = y + LANE / 2
    if step:
        return f'<rect x="{x + 1}" y="{y + 4}" width="{CELL - 2}" height="{LANE - 8}" rx="2" fill="{colour}">{title}</rect>'
    return f'<circle cx="{x + CELL / 2}" cy="{middle}" r="5" fill="{colour}">{title}</circle>'


def _site(event: Record) -> str:
    site = event.data.get("site")
    return place(site[0], site[1]) if site is not None else ""
