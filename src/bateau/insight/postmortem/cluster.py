"""One id for all crashes of one cause, so that a hundred reports are seen to be three problems.

It is made of what stays the same from one crash to the next, and of nothing else: no addresses, numbers, line numbers, message texts,
nor the order of what happened at once. Of an exception: its type, the functions of the user's own frames that it went through, and the
same for its cause or the members of its group. Of a signal: which, and the functions on the stack. Of an end without a trace: what was
running, or if nothing was, which functions' tasks waited for which kind of thing.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable

from .report import Error, Report

# The functions that are told apart, from the innermost.
_DEPTH = 8
# Lines that tell a person what one is about.
_MARKS = 4


def cluster_of(report: Report) -> str:
    """The id: twelve hexadecimal digits."""
    parts: list[str] = [report.end.how if report.error is None else "exception"]
    if report.error is not None:
        parts += _of_error(report.error)
    elif report.fatal:
        parts += [f"signal {report.end.signal}", *_of_fatal(report.fatal)]
    else:
        if report.end.signal is not None:
            parts.append(f"signal {report.end.signal}")
        parts += _of_tasks(report)
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()[:12]


def marks_of(report: Report) -> list[str]:
    """What tells the crashes of its cluster from others, for a person: at most a few lines, with the lines of this one."""
    from .text import fatal_place

    if report.error is not None:
        found = list(dict.fromkeys(_leaves(report.error)))
    elif (place := fatal_place(report.fatal)) is not None:
        found = [place]
    else:
        found = _last_known(report)
    return found if len(found) <= _MARKS else [*found[: _MARKS - 1], f"and {len(found) - _MARKS + 1} others"]


def _leaves(error: Error) -> Iterable[str]:
    """The errors that were raised first, each with the user's innermost line."""
    from .death import whose

    if error.members:
        for member in error.members:
            yield from _leaves(member)
        return
    if error.because is not None and error.direct:
        yield from _leaves(error.because)
        return
    own = [frame for frame in error.frames if whose(frame.file) == "user"] or list(error.frames)
    yield error.type + (f" in {own[-1].function} at {own[-1].file}:{own[-1].line}" if own else "")


def _last_known(report: Report) -> list[str]:
    snapshot = report.snapshot
    running = {runtime.running for runtime in snapshot.runtimes if runtime.running is not None}
    found: dict[str, None] = {}
    for task in snapshot.tasks:
        if (running and task.id not in running) or task.state == "ended":
            continue
        frame = snapshot.place(task)
        where = f" at {frame.file}:{frame.line}" + (f" in {frame.function}" if frame.function else "") if frame else ""
        if running:
            words = f"{_plain(task.name)!r} was running, {'last seen' if task.stack is not None else 'spawned'}{where}"
        elif task.waits is not None:
            words = f"{_plain(task.name)!r} waited{where}: {_plain(task.waits.operation)}"
        else:
            words = f"{_plain(task.name)!r} was {task.state}{where}"
        found[words] = None
    return list(found) or ["no task was alive"]


def _plain(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\d+", "#", text)


def _function(file: str, function: str) -> str:
    return f"{os.path.basename(file)}:{function}"


def _of_error(error: Error) -> Iterable[str]:
    from .death import whose

    yield error.type
    own = [frame for frame in error.frames if whose(frame.file) == "user"] or list(error.frames)
    yield from (_function(frame.file, frame.function) for frame in own[-_DEPTH:])
    if error.members:
        yield from sorted({"|".join(_of_error(member)) for member in error.members})
    if error.because is not None and error.direct:
        yield "because"
        yield from _of_error(error.because)


_FATAL_FRAME = re.compile(r'^  File "(.*)", line \d+ in (.*)$', re.MULTILINE)


def _of_fatal(fatal: str) -> Iterable[str]:
    threads = re.split(r"^(?=Current thread |Thread )", fatal, flags=re.MULTILINE)
    current = next((part for part in threads if part.startswith("Current thread")), fatal)
    return [_function(file, function) for file, function in _FATAL_FRAME.findall(current)[:_DEPTH]]


def _of_tasks(report: Report) -> Iterable[str]:
    snapshot = report.snapshot
    running = {runtime.running for runtime in snapshot.runtimes if runtime.running is not None}
    found: set[str] = set()
    for task in snapshot.tasks:
        if running and task.id not in running:
            continue
        frame = snapshot.at(task.stack)
        spawned = snapshot.frame(task.spawned)
        parts = [_plain(task.name)]
        if not running:
            parts.append(_plain(task.waits.operation) if task.waits is not None else task.state)
        parts += [_function(one.file, one.function) if one is not None else "" for one in (frame, spawned)]
        found.add("|".join(parts))
    return sorted(found)
