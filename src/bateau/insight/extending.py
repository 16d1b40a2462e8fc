"""What a program and other packages add to a snapshot: gauges, notes on tasks, state of their own, macros over the whole.

None of it costs anything until a snapshot is taken, except ``note``, which keeps the last few texts of a task while it lives.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from collections import deque
from collections.abc import Callable, Mapping
from math import isfinite
from time import monotonic
from typing import Any, TypeVar, cast

from ..kernel.current import current_task_or_none
from ..kernel.task import Task
from . import model
from .model import InsightError, Snapshot, make
from .tables import Tables

F = TypeVar("F", bound=Callable[..., Any])

# Texts kept for one task; older ones make room.
MOST_NOTES = 16
LONGEST_NOTE = 400

_gauges: dict[str, Callable[[], float]] = {}
_extensions: dict[str, Callable[[], Any]] = {}
_macros: dict[str, Callable[[Snapshot], Any]] = {}
# By task id; an entry goes when its task ends.
_notes: dict[int, deque[tuple[float, str, dict[str, Any]]]] = {}
_KEY = object()


def gauge(name: str, read: Callable[[], float]) -> Callable[[], None]:
    """Show a number in every snapshot: ``insight.gauge("connections", pool.size)``. Returns the function that takes it out.

    ``read`` is called on the thread that takes the snapshot, while the program may be running: it should only look. What it raises
    is named among the snapshot's gaps. Raises ``ValueError`` if the name is taken.
    """
    return _add(_gauges, "gauge", name, read)


def extend(name: str, read: Callable[[], Any]) -> Callable[[], None]:
    """Add state of your own to every snapshot, under ``ext[name]``: anything that JSON can hold. As ``gauge`` otherwise."""
    return _add(_extensions, "extension", name, read)


def macro(name: str) -> Callable[[F], F]:
    """Decorate a function of a ``Snapshot``: ``bateau dump --macro NAME PID`` prints what it returns.

    Macros run where the snapshot is read, not in the program that was looked at; a package offers its own under the entry-point
    group ``bateau.macros``.
    """

    def decorate(fn: F) -> F:
        _add(_macros, "macro", name, fn)
        return fn

    return decorate


def run_macro(name: str, snapshot: Snapshot) -> Any:
    """Call a macro by name, or by ``module:function``. Raises ``InsightError`` if there is none of that name, or it fails."""
    found = _macros.get(name)
    if found is None and ":" in name:
        from importlib import import_module

        module, _, attribute = name.partition(":")
        try:
            found = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise InsightError(f"no macro {name!r}: {error}") from error
        except Exception as error:
            raise InsightError(f"no macro {name!r}: importing {module} failed: {_failure(error)}") from error
    if found is None:
        from importlib.metadata import entry_points

        points = {point.name: point for point in entry_points(group="bateau.macros")}
        if name not in points:
            known = ", ".join(sorted({*_macros, *points})) or "none"
            raise InsightError(f"no macro {name!r}; known: {known}; or name a function as module:function")
        try:
            found = cast("Callable[[Snapshot], Any]", points[name].load())
        except Exception as error:
            raise InsightError(f"no macro {name!r}: loading {points[name].value} failed: {_failure(error)}") from error
    try:
        return found(snapshot)
    except InsightError:
        raise
    except Exception as error:
        raise InsightError(f"macro {name!r} failed: {_failure(error)}") from error


def _failure(error: Exception) -> str:
    """An error of somebody else's code in a line: what it is, and the innermost line that it came through."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    place = f", at {at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at is not None else ""
    return f"{type(error).__name__}: {error}{place}"


def note(text: str, **data: Any) -> None:
    """Note an event on the running task, for snapshots: ``insight.note("query sent", rows=3)``. Not a cancellation point.

    The last 16 of a task are kept, until it ends. Does nothing outside a task.
    """
    task = current_task_or_none()
    if task is None or task.ended:
        return
    notes = _notes.get(task.id)
    if notes is None:
        notes = _notes[task.id] = deque(maxlen=MOST_NOTES)
        if task.at_end is None:
            task.at_end = {}
        task.at_end[_KEY] = _forget
        if task.coro is None and task.host.thread_id == get_ident():  # adopted: its host has to be asked
            task.host.watch_end(task)
    notes.append((monotonic(), text[:LONGEST_NOTE], data))
    recorder = sys.modules.get("bateau.insight.recorder.recording")
    if recorder is not None:
        recorder.note(text)


def _forget(task: Task[Any]) -> None:
    _notes.pop(task.id, None)


def _add(table: dict[str, Any], what: str, name: str, value: Any) -> Callable[[], None]:
    if not name or not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise ValueError(f"a {what} needs a name, not {name!r}")
    if not callable(value):
        raise TypeError(f"{what} {name!r} must be a function, not {type(value).__name__}")
    if name in table:
        raise ValueError(f"there is a {what} {name!r} already; take it out first, or choose another name")
    table[name] = value

    def remove() -> None:
        if table.get(name) is value:
            del table[name]

    return remove


# -- for the collector ---------------------------------------------------------------------------------------------------


def read_gauges(tables: Tables) -> dict[str, float]:
    """What the gauges say now."""
    found: dict[str, float] = {}
    for name, read in tuple(_gauges.items()):
        try:
            value = float(read())
            if not isfinite(value):
                raise ValueError(f"{value} can't be shown")
            found[name] = value
        except Exception as error:
            tables.gap(f"gauge {name!r} failed: {type(error).__name__}: {error}")
    return found


def read_extensions(tables: Tables) -> dict[str, Any]:
    """What the extensions add."""
    found: dict[str, Any] = {}
    for name, read in tuple(_extensions.items()):
        try:
            found[name] = read()
        except Exception as error:
            tables.gap(f"extension {name!r} failed: {type(error).__name__}: {error}")
    return found


def add_notes(tables: Tables) -> None:
    """Give each task its notes, oldest first."""
    now = monotonic()
    for number, notes in tuple(_notes.items()):
        fields = tables.tasks.get(number)
        if fields is not None:
            events: list[model.Event] = []
            for when, text, data in tuple(notes):
                event: dict[str, Any] = {"text": text, "ago": now - when}
                if data:
                    event["data"] = data
                events.append(make(model.Event, event))
            fields["events"] = tuple(events)


def memory_of(coro: Any) -> int:
    """Bytes of a suspended coroutine: its frames, and those of all it awaits. Not what its variables refer to."""
    from .tables import chain_of

    total = 0
    for link in chain_of(coro):
        total += sys.getsizeof(link, 0)
        frame = getattr(link, "cr_frame", None) or getattr(link, "gi_frame", None)
        if frame is not None:
            total += sys.getsizeof(frame, 0)
    return total


def context_of(context: Any) -> Mapping[str, str]:
    """The context variables of a task by name, each as a text of at most 200 characters."""
    found: dict[str, str] = {}
    for variable in context or ():
        try:
            found[variable.name] = repr(context[variable])[:200]
        except Exception as error:
            found[variable.name] = f"<repr failed: {type(error).__name__}>"
    return found
