"""Seeing an async program: who waits on what, who could free it, and what happened before it died.

Names are loaded when first used: a program that only starts the agent pays for nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agent import Agent as Agent
    from .agent import init as init
    from .attaching import CannotAttach as CannotAttach
    from .attaching import attach as attach
    from .client import Client as Client
    from .client import NoAgent as NoAgent
    from .client import connect as connect
    from .collect import LiveReader as LiveReader
    from .collect import snapshot as snapshot
    from .dumping import dump_every as dump_every
    from .dumping import dump_on as dump_on
    from .extending import extend as extend
    from .extending import gauge as gauge
    from .extending import macro as macro
    from .extending import note as note
    from .hazards.settings import muted as muted
    from .hazards.settings import thresholds as thresholds
    from .hazards.store import findings as findings
    from .model import InsightError as InsightError
    from .model import Reader as Reader
    from .model import ReadError as ReadError
    from .model import SchemaError as SchemaError
    from .model import Snapshot as Snapshot
    from .model import Want as Want
    from .postmortem.command import read_report as read_report
    from .postmortem.report import Report as Report
    from .recorder.recording import Recording as Recording
    from .recorder.recording import record as record
    from .recorder.recording import recording as recording
    from .schema import from_json as from_json
    from .schema import json_schema as json_schema
    from .schema import to_json as to_json
    from .watching import Watch as Watch
    from .watching import watch as watch

_PUBLIC: dict[str, str] = {
    **dict.fromkeys(("Agent", "init"), ".agent"),
    **dict.fromkeys(("CannotAttach", "attach"), ".attaching"),
    **dict.fromkeys(("Client", "NoAgent", "connect"), ".client"),
    **dict.fromkeys(("dump_every", "dump_on"), ".dumping"),
    **dict.fromkeys(("LiveReader", "snapshot"), ".collect"),
    **dict.fromkeys(("extend", "gauge", "macro", "note"), ".extending"),
    **dict.fromkeys(("InsightError", "ReadError", "Reader", "SchemaError", "Snapshot", "Want"), ".model"),
    **dict.fromkeys(("muted", "thresholds"), ".hazards.settings"),
    "findings": ".hazards.store",
    **dict.fromkeys(("Watch", "watch"), ".watching"),
    "Report": ".postmortem.report",
    "read_report": ".postmortem.command",
    **dict.fromkeys(("Recording", "record", "recording"), ".recorder.recording"),
    **dict.fromkeys(("from_json", "json_schema", "to_json"), ".schema"),
}

# The parts that the documentation names as `bateau.insight.<part>.<thing>`, so that `import bateau` is enough for it.
_MODULES = ("hazards", "model", "tracebacks")

__all__ = [*sorted(_PUBLIC)]  # noqa: PLE0604  # pyright: ignore[reportUnsupportedDunderAll]  # one list, not two


def __getattr__(name: str) -> Any:
    found = _PUBLIC.get(name)
    if found is None:
        if name in _MODULES:
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module 'bateau.insight' has no attribute {name!r}")
    value = getattr(import_module(found, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
