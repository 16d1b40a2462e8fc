"""Runaway recursion as one short error: a thousand equal frames tell less than one line does."""

from __future__ import annotations

from types import TracebackType

_KEEP = 3


def shorten_recursion(error: RecursionError) -> None:
    """Cut the middle out of the traceback, and say in a note what was cut and what helps."""
    entries: list[TracebackType] = []
    tb = error.__traceback__
    while tb is not None:
        entries.append(tb)
        tb = tb.tb_next
    if len(entries) <= 4 * _KEEP:
        return
    counts: dict[str, int] = {}
    for entry in entries:
        where = f"{entry.tb_frame.f_code.co_qualname} ({entry.tb_frame.f_code.co_filename}:{entry.tb_lineno})"
        counts[where] = counts.get(where, 0) + 1
    busiest = max(counts, key=lambda where: counts[where])
    chain: TracebackType | None = None
    for entry in reversed(entries[:_KEEP] + entries[-_KEEP:]):
        chain = TracebackType(chain, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    error.__traceback__ = chain
    # The frames cut are the same few lines again; keep no reference to them through the context either.
    error.__context__ = None
    error.add_note(
        f"{len(entries) - 2 * _KEEP} frames left out; {counts[busiest]} of them are {busiest}. "
        "If this depth is meant, decorate the recursive function with @bateau.boxed"
    )
