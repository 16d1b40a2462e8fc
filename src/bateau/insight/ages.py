"""Hazards that were reported, as a snapshot has them: those alike once, with how often, and how long ago first and last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .model import Finding, make

# The year 5138: what is no time at all (a torn one, an infinity, not a number) is not told.
_LATEST = 1e11


def aged(first: float, last: float, taken_at: float) -> dict[str, float]:
    """The fields for a finding seen at these times (seconds since the epoch; 0: not known)."""
    found = {"first_ago": first, "ago": last}
    return {name: round(max(0.0, taken_at - when), 3) for name, when in found.items() if 0 < when < _LATEST}


def alike(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each of those that say the same of the same line once, in the order in which they were seen last."""
    groups: dict[Any, list[Finding]] = {}
    for finding in findings:
        key = finding.hazard, finding.message, finding.site, finding.ext.get("task")
        groups[key] = [*groups.pop(key, ()), finding]
    return tuple(_one(group) for group in groups.values())


def _one(group: list[Finding]) -> Finding:
    last = group[-1]
    if len(group) == 1:
        return last
    fields = {**last.__dict__, "count": sum(one.count for one in group)}
    ago = [one.ago for one in group if one.ago is not None]
    first = [one.first_ago for one in group if one.first_ago is not None]
    if ago:
        fields["ago"] = min(ago)
    if first:
        fields["first_ago"] = max(first)
    return make(Finding, fields)
