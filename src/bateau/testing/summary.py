"""The end of pytest's report: what the explorations covered, and what a test was waiting for when Ctrl-C came."""

from __future__ import annotations

from typing import Any

from . import running

# Answers in these streams are orders, not faults.
ORDERS = ("tasks", "threads", "yields", "events")


def write(terminal: Any, covered: list[tuple[str, dict[str, Any]]]) -> None:
    """Write the sections that have something to say."""
    if running.interrupted:
        terminal.section("interrupted while waiting")
        terminal.line(running.interrupted.pop())
    if covered:
        terminal.section("simulated worlds")
        for nodeid, one in covered:
            terminal.line(f"{nodeid}: {line(one)}")


def line(one: dict[str, Any]) -> str:
    """What one test covered, in a line."""
    parts: list[str] = []
    if one["pinned"]:
        parts.append(f"{one['pinned']} pinned")
    if one["runs"]:
        all_of_them = ", which is all there is" if one["exhausted"] else ""
        parts.append(f"{one['runs']} run{'s' if one['runs'] != 1 else ''} ({one['different']} schedules{all_of_them})")
        asked, answered = sum(one["asked"].values()), sum(one["answered"].values())
        parts.append(f"{asked} choice points, {answered} taken otherwise")
        faults = {kind: count for kind, count in one["answered"].items() if kind not in ORDERS and count}
        if faults:
            parts.append("faults " + ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items())))
        speed = f"{one['virtual']:.1f} s simulated in {one['real']:.1f} s"
        parts.append(f"{one['steps']} steps, {speed}")
    return "; ".join(parts)
