"""Hazards that the library reports where they happen: here are their names, and what to do."""

from __future__ import annotations

from .base import Hazard


class _Reported(Hazard):
    """Nothing is looked for: who meets it, says so."""

    def __init__(self, name: str, title: str, remedy: str) -> None:
        self.name = name
        self.title = title
        self.remedy = remedy


class _NeverWaits(_Reported):
    """Pipelines say it of themselves; of functions see ``insight.unsuspended``, which lists those with that many tasks."""

    threshold = 1000.0
    unit = "tasks"


REPORTED: tuple[Hazard, ...] = (
    _Reported("accept_starved", "A listener can't accept", "close connections sooner, give the listener a `limit=`, or raise `ulimit -n`"),
    _Reported("callback_error", "A callback failed", "mend the callback; catch in it what it can expect"),
    _Reported("cleanup_overrun", "A cleanup took too long", "give it more time, or a timeout of its own to what it waits for"),
    _Reported("dropped_without_close", "Dropped while open", "use `async with`, `contextlib.aclosing`, or `scope.own(...)` where it is made"),
    _Reported("leftover_task", "A task was left over", "spawn it in a scope, or await it"),
    _Reported("lock_held_long", "A lock was held for long", "do the slow waiting before taking the lock, or guard less with it"),
    _Reported("nested_block_on", "block_on inside a task", "make the functions between the task and the call async, and await"),
    _NeverWaits("never_waits", "Async, and never waits", "use plain functions and iterators; for work of the processor `.par(n, on=bateau.iter.processes())`"),
    _Reported("swallowed_cancellation", "A cancellation was swallowed", "clean up, then raise it again (a bare `raise`), or catch `Exception` instead"),
    _Reported("tee_alone", "One part of a tee waits alone", "use up each part in a task of its own, or write `unbounded=True`"),
    _Reported("unclaimed_result", "A result that nobody took", "give the select `on_loser=`, or hand the result back"),
    _Reported("unretrieved_error", "An error that nobody saw", "await the handle, receive the value, or handle the error where it happens"),
)  # fmt: skip
