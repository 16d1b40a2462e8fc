"""A crash report: how a program ended, its last snapshot, the time before, the exception. One JSON document.

``{"schema": "bateau.crash", "version": [1, 0], ...}`` with the fields of ``Report``; ``snapshot`` is a document of its own (see
``bateau.insight.schema``). A new minor version only adds fields, a new major one is refused.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast, get_args

from ..model import SchemaError, Snapshot
from ..schema import from_data, to_data

NAME = "bateau.crash"
VERSION = (1, 0)

# ``exception``: the program raised it. ``signal``: one that kills. ``exit``: it left, with a status. ``gone``: it ended without a
# trace: killed with SIGKILL (also for want of memory), ``os._exit``, or the machine stopped. ``running``: it has not ended.
How = Literal["exception", "signal", "exit", "gone", "running", "closed"]


@dataclass(frozen=True)
class End:
    """How it ended, in words (``text``), and when (``at``: seconds since the epoch, of the last sign of life). ``by``: who says so."""

    how: How
    text: str
    at: float
    by: str
    signal: int | None = None
    status: int | None = None


@dataclass(frozen=True)
class Happening:
    """One event of the timeline, ``at`` seconds since the epoch."""

    at: float
    kind: str
    text: str
    task: int | None = None
    thread: str = ""


@dataclass(frozen=True)
class ErrorFrame:
    """A line of a traceback. ``locals``: those that were asked for, as text."""

    file: str
    line: int
    function: str
    locals: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Error:
    """An exception: with its cause or context (``because``), and the members of a group."""

    type: str
    message: str
    notes: tuple[str, ...] = ()
    frames: tuple[ErrorFrame, ...] = ()
    because: Error | None = None
    direct: bool = False  # ``because`` is the cause that the program named
    members: tuple[Error, ...] = ()
    cut: int = 0  # members that are not shown


@dataclass(frozen=True)
class Report:
    """Everything that is known of one end. ``fatal``: what the interpreter wrote on a signal. ``cluster``: see ``cluster``."""

    end: End
    snapshot: Snapshot
    timeline: tuple[Happening, ...] = ()
    error: Error | None = None
    thread: str = ""  # where the exception was
    fatal: str = ""
    cluster: str = ""


def to_json(report: Report) -> str:
    """The report as one JSON document."""
    data: dict[str, Any] = {
        "schema": NAME,
        "version": list(VERSION),
        "cluster": report.cluster,
        "end": asdict(report.end),
    }
    if report.error is not None:
        data |= {"error": _error_data(report.error), "thread": report.thread}
    data |= {"timeline": [asdict(event) for event in report.timeline], "fatal": report.fatal}
    data["snapshot"] = to_data(report.snapshot)
    return json.dumps(data, indent=1, allow_nan=False)


def _error_data(error: Error) -> dict[str, Any]:
    data: dict[str, Any] = {"type": error.type, "message": error.message, "notes": list(error.notes)}
    data["frames"] = [asdict(frame) for frame in error.frames]
    if error.because is not None:
        data |= {"because": _error_data(error.because), "direct": error.direct}
    if error.members:
        data |= {"members": [_error_data(member) for member in error.members], "cut": error.cut}
    return data


def from_json(text: str | bytes) -> Report:
    """Read a document of ``to_json``. Raises ``SchemaError`` for anything else."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"not a crash report: not JSON ({error})") from None
    document = cast("dict[str, Any]", data)
    if type(data) is not dict or document.get("schema") != NAME:
        raise SchemaError(f'not a crash report: a document with "schema": "{NAME}" was expected')
    version: Any = document.get("version")
    if not isinstance(version, list) or len(version) != 2 or version[0] != VERSION[0]:  # pyright: ignore[reportUnknownArgumentType]  # JSON
        raise SchemaError(f"version: this bateau reads crash reports of version {VERSION[0]}, not {version!r}")
    snapshot = from_data(document.get("snapshot"))
    try:
        return _report(document, snapshot)
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError) as error:
        raise SchemaError(f"not a crash report: {type(error).__name__}: {error}") from None


def _report(data: dict[str, Any], snapshot: Snapshot) -> Report:
    end = data["end"]
    how = _str(end["how"])
    if how not in get_args(How):
        raise ValueError(f"end.how is {how!r}")
    error: Any = data.get("error")
    return Report(
        End(cast("How", how), _str(end["text"]), float(end["at"]), _str(end["by"]), _int(end.get("signal")), _int(end.get("status"))),
        snapshot,
        tuple(
            Happening(float(one["at"]), _str(one["kind"]), _str(one["text"]), _int(one.get("task")), _str(one.get("thread", "")))
            for one in data.get("timeline", ())
        ),
        _error(error) if error is not None else None,
        _str(data.get("thread", "")),
        _str(data.get("fatal", "")),
        _str(data.get("cluster", "")),
    )  # fmt: skip


def _error(data: dict[str, Any]) -> Error:
    because: Any = data.get("because")
    return Error(
        _str(data["type"]),
        _str(data["message"]),
        tuple(_str(note) for note in data.get("notes", ())),
        tuple(
            ErrorFrame(_str(one["file"]), int(one["line"]), _str(one["function"]), _texts(one.get("locals", {})))
            for one in data.get("frames", ())
        ),
        _error(because) if because is not None else None,
        bool(data.get("direct", False)),
        tuple(_error(member) for member in data.get("members", ())),
        int(data.get("cut", 0)),
    )


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {_str(name): _str(value) for name, value in values.items()}


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text was expected, not {value!r:.50}")
    return value


def _int(value: Any) -> int | None:
    if value is not None and type(value) is not int:
        raise TypeError(f"a whole number was expected, not {value!r:.50}")
    return value
