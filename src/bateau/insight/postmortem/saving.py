"""Making the report of an exception, and putting reports where they belong. Loaded when there is one to write."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from ..collect import snapshot
from ..model import InsightError, Snapshot
from ..recorder import files
from ..recorder.reading import read_recording
from ..recorder.recording import Recording
from .cluster import cluster_of
from .death import report_of
from .errors import describe_error
from .report import End, Report, to_json


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
