"""Writing a report when an exception ends the program, or one of its threads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ...kernel.hazard import raise_unraisable
from ..recorder.recording import Recording

# Address space that is given back before a report is written: the program may have died for want of any. It is never touched, and so
# costs no memory.
_RESERVE = 32 << 20
_reserve: list[bytearray] = []


def catch(recording: Recording, wanted: Sequence[str] = ()) -> Callable[[], None]:
    """Write a report beside ``recording`` for each exception that nobody handles, and say on stderr where it is.

    ``wanted``: patterns of local variables whose values are written down (see ``errors``). What shows exceptions goes on showing
    them. Returns the function that undoes it.
    """
    outer = sys.excepthook
    _reserve[:] = [bytearray(_RESERVE)]

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
    _reserve.clear()
    try:
        from .saving import report_error, report_path, save

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
