"""A snapshot as what is shown or written: text, JSON, a picture of the wait graph. Each form's module is loaded when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Literal

from .pausing import collector_paused

if TYPE_CHECKING:
    from .model import Snapshot

Format = Literal["text", "json", "dot", "mermaid"]


def render(snapshot: Snapshot, form: Format) -> str:
    """A snapshot as text, JSON, ``.dot`` or Mermaid."""
    if form == "json":
        from .schema import to_json

        return to_json(snapshot) + "\n"
    if form == "text":
        from .explain import explain

        with collector_paused():
            return explain(snapshot)
    from .drawing import to_dot, to_mermaid

    return to_dot(snapshot) if form == "dot" else to_mermaid(snapshot)


def prepare(form: Format) -> None:
    """Load what ``render`` will need."""
    name = {"json": "schema", "text": "explain"}.get(form, "drawing")
    import_module(f".{name}", __package__)
