"""Writing a report when an exception ends the program, or one of its threads."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ...kernel.hazard import raise_unraisable
from ..collect import snapshot
from ..model import InsightError, Snapshot
from ..recorder import files
from ..recorder.reading import read_recording
from ..recorder.recording import Recording
from .cluster import cluster_of
from .death import report_of
from .errors import describe_error
from .report import End, Report, to_json


def catch(recording: Recording, wanted: Sequence[str] = ()) -> Callable[[], None]:
    """Write a report beside ``recording`` for each exception that nobody handles, and say on stderr where it is.

    ``wanted``: patterns of local variables whose values are written down (see ``errors``). What shows exceptions goes on showing
    them. Returns the function that undoes it.
    """
    outer = sys.excepthook

    def on_exception(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
        outer(kind, error, tb)
        if not isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            write_report(recording, error, wanted)

    sys.excepthook = on_exception
    undo_threads = _catch_in_threads(recording, wanted)

    def undo() -> None:
        if sys.excepthook is on_exception:
            sys.excepthook = outer
        undo_threads()

    return undo


def _catch_in_threads(recording: Recording, wanted: Sequence[str]) -> Callable[[], None]:
    import threading

    outer = threading.excepthook

    def on_exception(args: Any) -> None:
        outer(args)
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            name = args.thread.name if args.thread is not None else ""
            write_report(recording, args.exc_value, wanted, thread=name)

    threading.excepthook = on_exception

    def undo() -> None:
        if threading.excepthook is on_exception:
            threading.excepthook = outer

    return undo


def write_report(
    recording: Recording, error: BaseException, wanted: Sequence[str] = (), *, thread: str = "MainThread"
) -> Path | None:
    """Write the report of an exception that ends the program (or a thread); returns where. What fails is told, never raised."""
    try:
        report = report_error(recording, error, wanted, thread=thread)
        path = report_path(recording.directory)
        save(report, path)
    except Exception as problem:
        raise_unraisable(problem, "no crash report could be written")
        return None
    print(
        f"bateau: a crash report is in {path} (cluster {report.cluster}); read it with `bateau postmortem`",
        file=sys.stderr,
    )
    return path


def report_error(
    recording: Recording, error: BaseException, wanted: Sequence[str] = (), *, thread: str = "MainThread"
) -> Report:
    """The report of an exception: with the recording's timeline, and a snapshot of what is left of the program."""
    found = describe_error(error, wanted)
    end = End(
        "exception",
        f"an exception that nobody handled: {found.type}: {found.message}"[:300],
        time.time(),
        "the program",
    )
    try:
        before = report_of(read_recording(recording.directory))
        timeline, last = before.timeline, before.snapshot
    except InsightError:  # no task has run yet
        timeline, last = (), None
    report = Report(end, _whole(last), timeline, error=found, thread=thread)
    return Report(end, report.snapshot, timeline, found, thread, "", cluster_of(report))


def _whole(last: Snapshot | None) -> Snapshot:
    """The process is still there: what it says of itself is more than what was recorded, unless its loops have been torn down."""
    live = snapshot()
    return live if last is None or len(live.tasks) >= len(last.tasks) else last


def report_path(folder: Path) -> Path:
    """Where the report of a recording is put: beside it, under its name. A second one of the process gets a number."""
    stem = folder.name.removesuffix(files.SUFFIX)
    path = folder.parent / f"{stem}{files.REPORT_SUFFIX}"
    number = 1
    while path.exists():
        number += 1
        path = folder.parent / f"{stem}.{number}{files.REPORT_SUFFIX}"
    return path


def save(report: Report, path: Path) -> None:
    """Write a report: whole, or not at all, readable by its owner alone. Raises ``OSError``."""
    part = path.with_name(path.name + ".part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(to_json(report))
    os.replace(part, path)
