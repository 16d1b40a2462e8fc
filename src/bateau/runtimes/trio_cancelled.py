"""``trio.Cancelled`` under ``bateau.Cancelled``: trio keeps raising its own exact type, and ours matches it.

Trio's class takes a base class without state at run time. What is ours travels in the exception's ``__dict__``.
"""

from __future__ import annotations

from typing import Any, cast

import trio

from ..kernel.errors import Cancelled, CancelRecord


class _TrioCancelled(Cancelled):
    """Stands between ``bateau.Cancelled`` and ``trio.Cancelled``: finds the record of one that a trio call raised."""

    __slots__ = ()

    @property
    def record(self) -> CancelRecord | None:
        found: CancelRecord | None = self.__dict__.get("_bateau_record")
        if found is None:
            from .trio_host import TrioHost, find_current_task

            task = find_current_task()
            if task is not None and isinstance(task.host, TrioHost):
                found = task.host.visible_record(task)
                if found is not None:
                    self.__dict__["_bateau_record"] = found
        return found


def adopt_cancelled() -> None:
    """Make ``except bateau.Cancelled`` match trio's exact type, and its ``reason`` ours where we know one."""
    exact: Any = trio.Cancelled
    if issubclass(exact, Cancelled):
        return
    theirs = exact.__dict__.get("reason")
    exact.__bases__ = (_TrioCancelled,)
    if theirs is None:
        return  # this trio gives no reasons; ours is inherited

    def get(self: Any) -> str | None:
        # While it is being made it has no args yet, and the running task is not the one that will get it.
        record: CancelRecord | None = self.record if self.args else None
        return record.reason if record is not None else cast("str | None", theirs.__get__(self))

    def put(self: Any, reason: str | None) -> None:
        theirs.__set__(self, reason)

    exact.reason = property(get, put, doc="Why, in words, if known.")


def put_record(exc: Any, record: CancelRecord) -> None:
    """Give a cancellation its record, unless it has one."""
    exc.__dict__.setdefault("_bateau_record", record)
