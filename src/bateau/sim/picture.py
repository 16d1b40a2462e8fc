"""The picture of a run: a lane for each task under its host, in the order in which things happened, as SVG or as a page of HTML.

The horizontal axis counts events, not seconds: virtual time stands still for hundreds of steps and then jumps an hour. The clock
is written where it changes.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from .story import decisions, headline, place, tell

if TYPE_CHECKING:
    from .running import Run
    from .world import Record

# Pixels: of the column for names, of one event, of one lane, of the head with the clock.
NAMES, CELL, LANE, HEAD = 230, 14, 22, 44
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

_STYLE = (
    "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1c2733}.t{font-size:10px;fill:#5a6878}.h{font-weight:700}"
    ".l{stroke:#e3e8ee}.g{stroke:#c3ccd6;stroke-dasharray:2 3}"
)


def svg(run: Run) -> str:
    """The run as one SVG document. Each event tells what it was when pointed at."""
    events = run.events[-MOST_EVENTS:]
    lanes = _lanes(events)
    width = NAMES + CELL * (len(events) + 2)
    height = HEAD + LANE * (len(lanes) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(headline(run.error))}</title><style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="18" class="h">seed {run.seed}: {escape(headline(run.error)[:120])}</text>',
    ]
    parts += _names(lanes, width)
    parts += _clock(events, height)
    for index, event in enumerate(events):
        parts.append(_event(event, NAMES + CELL * index, HEAD + LANE * lanes[_lane(event)]))
    parts.append("</svg>")
    return "\n".join(parts)


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


def _names(lanes: dict[tuple[str, str], int], width: int) -> list[str]:
    parts: list[str] = []
    last = None
    for (host, actor), row in lanes.items():
        y = HEAD + LANE * row
        if host != last:
            parts.append(f'<line x1="0" x2="{width}" y1="{y}" y2="{y}" class="g"/>')
            last = host
        middle = y + LANE / 2
        shown = actor if len(actor) <= 30 else actor[:29] + "…"
        parts.append(f'<line x1="{NAMES}" x2="{width}" y1="{middle}" y2="{middle}" class="l"/>')
        parts.append(f'<text x="8" y="{middle + 4}">{escape(shown)}</text>')
    return parts


def _clock(events: list[Record], height: int) -> list[str]:
    """The time, where it changes, if there is room for it."""
    parts: list[str] = []
    shown = -1.0
    free = 0
    for index, event in enumerate(events):
        if event.at != shown and index >= free:
            shown, free = event.at, index + 6
            x = NAMES + CELL * index
            parts.append(f'<line x1="{x}" x2="{x}" y1="{HEAD - 6}" y2="{height}" class="g"/>')
            parts.append(f'<text x="{x}" y="{HEAD - 10}" class="t">{event.at:.4f} s</text>')
    return parts


def _event(event: Record, x: int, y: int) -> str:
    kind = event.kind
    if kind == "step" and event.text.startswith("ends"):
        kind = "ends" if event.text == "ends" else "fails"
    colour = _COLOURS.get(kind, _OTHER)
    said = f"{event.at:.6f} s  {event.actor}\n{event.kind}: {event.text}"
    site = _site(event)
    if site:
        said += f"\n{site}"
    title = f"<title>{escape(said)}</title>"
    middle = y + LANE / 2
    if kind in {"step", "ends", "fails"}:
        return f'<rect x="{x + 1}" y="{y + 4}" width="{CELL - 2}" height="{LANE - 8}" rx="2" fill="{colour}">{title}</rect>'
    return f'<circle cx="{x + CELL / 2}" cy="{middle}" r="5" fill="{colour}">{title}</circle>'


def _site(event: Record) -> str:
    site = event.data.get("site")
    return place(site[0], site[1]) if site is not None else ""
