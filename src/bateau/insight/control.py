"""Doing something to a running program from another thread: cancel a task, stop a scope, wake a task by hand.

Nothing is touched from here: the request is handed to the loop's own thread, and answered when that has come round to it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ..kernel.cancellation import CancelNode
from ..kernel.errors import CancelRecord
from ..kernel.instrument import hosts
from ..kernel.task import Task
from . import collect_asyncio, collect_trio
from .model import InsightError
from .tables import steady_copy

Answer = Callable[[str | None], None]


def _roots() -> Iterator[CancelNode]:
    """Where every tree of bateau's begins."""
    for host in steady_copy(hosts):
        yield from steady_copy(getattr(host, "roots", None) or ())
    for loop, _ in collect_asyncio.loops():
        for native in collect_asyncio.tasks_of(loop):
            record = getattr(native, "_bateau", None)
            if isinstance(record, Task):
                yield record
    module = sys.modules.get("bateau.runtimes.trio_helpers")
    if module is not None:
        yield from (record for record in steady_copy(module.records.values()) if record is not None)


def _find(wanted: Callable[[CancelNode], bool]) -> CancelNode | None:
    seen: set[int] = set()
    todo = list(_roots())
    for node in todo:
        if id(node) in seen:
            continue
        seen.add(id(node))
        if wanted(node):
            return node
        if node.children:
            todo.extend(steady_copy(node.children))
    return None


def _find_task(number: int) -> Task[Any]:
    node = _find(lambda node: isinstance(node, Task) and node.id == number)
    if not isinstance(node, Task) or node.ended:
        raise InsightError(f"there is no task {number} any more; take a new snapshot")
    return node  # pyright: ignore[reportUnknownVariableType]  # of whatever


def cancel_task(number: int, reason: str, answer: Answer) -> None:
    """Cancel the task of that id. ``answer(None)`` is called on its thread once it is done, ``answer(text)`` if it could not be.

    Raises ``InsightError`` at once if there is no such task, or it is one that only its own library could cancel.
    """
    if number < 0:
        _cancel_native(-number, reason, answer)
        return
    task = _find_task(number)
    _hand_over(task.host.call_threadsafe, lambda: task._cancel(CancelRecord(reason)), answer)


def _cancel_native(address: int, reason: str, answer: Answer) -> None:
    for loop, _ in collect_asyncio.loops():
        for native in collect_asyncio.tasks_of(loop):
            if id(native) == address:
                _hand_over(loop.call_soon_threadsafe, partial(native.cancel, reason), answer)
                return
    for runner, _ in collect_trio.runs():
        if any(id(native) == address for native in steady_copy(runner.tasks)):
            raise InsightError(
                "trio has no way to cancel a single task from outside; cancel the nursery it runs in, in its code"
            )
    raise InsightError(f"there is no task {-address} any more; take a new snapshot")


def stop_scope(number: int, grace: float | None, reason: str, answer: Answer) -> None:
    """Ask the scope of that id to stop, and after ``grace`` seconds (None: never) cancel it. As ``cancel_task`` otherwise."""
    node: Any = _find(lambda node: id(node) == number and not isinstance(node, Task))
    if node is None or node.task is None:
        raise InsightError(f"there is no scope {number} any more; take a new snapshot")
    if not hasattr(node, "stop"):
        raise InsightError(
            f"{type(node).__name__} {number} is no scope with tasks of its own, and can't be stopped; stop the scope around it"
        )
    _hand_over(node.task.host.call_threadsafe, lambda: node.stop(grace=grace, reason=reason), answer)


def wake_task(number: int, answer: Answer) -> None:
    """Wake a task that waits in an operation of bateau's. Harmless: it looks, and waits again if there is nothing (law 11)."""
    if number < 0:
        raise InsightError("only tasks of bateau can be woken by hand: what another library makes of it is not known")
    task = _find_task(number)

    def wake() -> None:
        if task.waiting is None:
            raise InsightError(f"task {task.name!r} is in no wait of bateau's now, so there is nothing to wake it from")
        task.host.wake(task)

    _hand_over(task.host.call_threadsafe, wake, answer)


def _hand_over(call: Callable[[Callable[[], None]], object], do: Callable[[], object], answer: Answer) -> None:
    def run() -> None:
        try:
            do()
        except Exception as error:  # it belongs to who asked, not to the loop
            answer(f"{type(error).__name__}: {error}" if not isinstance(error, InsightError) else str(error))
        else:
            answer(None)

    try:
        call(run)
    except RuntimeError as error:
        raise InsightError(f"its loop has ended: {error}") from error
