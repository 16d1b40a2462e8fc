"""What ``bateau postmortem`` does."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from ..model import InsightError, ReadError
from ..recorder import files
from ..recorder.reading import read_recording
from . import death, report, text
from .cluster import marks_of


def main(args: argparse.Namespace) -> int:
    """Tell what is asked for; 2 for what can't be read."""
    if args.cluster is not None:
        return _cluster(Path(args.cluster))
    if not args.files:
        return _list()
    status = 0
    for number, name in enumerate(args.files):
        try:
            found = read_report(
                Path(name), seconds=args.seconds, events=max(args.events, 1) if not args.json else death.EVENTS
            )
        except InsightError as error:
            print(f"bateau postmortem: {error}", file=sys.stderr)
            status = 2
            continue
        if args.json:
            print(report.to_json(found))
        else:
            print(("\n" if number else "") + text.tell(found, tasks=args.tasks, events=args.events))
    return status


def read_report(path: str | Path, *, seconds: float = death.SECONDS, events: int = death.EVENTS) -> report.Report:
    """The crash report in a file (``*.json``), or the one that a recording gives (its folder, or a file in it).

    ``seconds``, ``events``: how much of the time before the end is told of a recording. Raises ``InsightError``, which says why there
    is no report. Not a cancellation point.
    """
    path = Path(path)
    if path.is_file() and path.suffix == ".json":
        try:
            return report.from_json(path.read_bytes())
        except OSError as error:
            raise ReadError(f"can't read {path}: {error.strerror or error}") from None
        except InsightError as error:
            raise ReadError(f"{path}: {error}") from None
    return death.report_of(read_recording(path), seconds=seconds, events=events)


def _found(base: Path) -> list[Path]:
    """The reports and recordings in a folder, the newest first."""
    paths = [path for suffix in (files.SUFFIX, files.REPORT_SUFFIX) for path in base.glob(f"*{suffix}")]
    return sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)


def _list() -> int:
    try:
        base = files.base_directory()
    except OSError as error:
        print(f"bateau postmortem: {error}", file=sys.stderr)
        return 2
    paths = _found(base)
    if not paths:
        print(f"nothing has been left in {base}")
        return 0
    for path in paths:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime))
        running = "  (still running)" if path.name.endswith(files.SUFFIX) and files.is_alive(path) else ""
        print(f"{when}  {path}{running}")
    return 0


def _cluster(base: Path) -> int:
    if not base.is_dir():
        print(f"bateau postmortem: no folder {str(base)!r}", file=sys.stderr)
        return 2
    groups: dict[str, list[tuple[Path, report.Report]]] = {}
    status = 0
    for path in _found(base):
        if path.name.endswith(files.SUFFIX) and files.is_alive(path):
            continue
        try:
            found = read_report(path)
        except InsightError as error:
            print(f"bateau postmortem: {error}", file=sys.stderr)
            status = 2
            continue
        groups.setdefault(found.cluster, []).append((path, found))
    for cluster, members in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        print(f"{cluster}  {len(members)} time{'s' * (len(members) != 1)}: {members[0][1].end.text}")
        for line in marks_of(members[0][1]):
            print(f"    {line}")
        for path, found in members:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.end.at))
            print(f"    {when}  {os.fspath(path)}")
    if not groups:
        print(f"nothing to group in {base}")
    return status
