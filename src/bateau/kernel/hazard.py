"""Where the kernel reports what is not an error but should not happen silently.

A hazard has one name, shared by lint, report, console and book. By default it is a ``HazardWarning`` at the line to
blame, so ``python -W error`` and test suites turn it into a failure; ``add_sink`` lets a tool take it instead.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple
from weakref import ref

from .errors import HazardWarning


class Finding(NamedTuple):
    """One sighting of a hazard: its shared name, the sentence, and the line to blame."""

    name: str
    message: str
    filename: str
    lineno: int

    def __str__(self) -> str:
        return f"{self.name}: {self.message} [{self.filename}:{self.lineno}]"


Sink = Callable[[Finding], None]

_sinks: list[Sink] = []


def add_sink(sink: Sink) -> Callable[[], None]:
    """Send findings to ``sink`` instead of warnings. Returns the function that takes it out again."""
    _sinks.append(sink)

    def remove() -> None:
        _sinks.remove(sink)

    return remove


def report(name: str, message: str, site: tuple[str, int]) -> None:
    """Report a hazard. Where warnings are errors it is printed by the unraisable hook: the kernel goes on."""
    finding = Finding(name, message, *site)
    if _sinks:
        for sink in tuple(_sinks):
            try:
                sink(finding)
            except Exception as error:
                raise_unraisable(error, f"a sink of hazards failed on {finding}")
        return
    try:
        warnings.warn_explicit(f"{name}: {message}", HazardWarning, site[0] or "<unknown>", site[1])
    except HazardWarning as error:
        # Reports come from the middle of the scheduler, where raising would break the program that is being told about.
        raise_unraisable(error, f"bateau hazard: {message}")


class _Unraisable(NamedTuple):
    """What ``sys.unraisablehook`` wants to see."""

    exc_type: type[BaseException]
    exc_value: BaseException | None
    exc_traceback: TracebackType | None
    err_msg: str | None
    object: object


class _Target:
    """Something to be dropped."""


class _Raising:
    """Raises ``error`` when called; its ``repr`` is what the interpreter's hook prints before the traceback."""

    def __init__(self, error: BaseException, message: str | None) -> None:
        self.error = error
        self.message = message

    def __call__(self, _: object) -> None:
        raise self.error

    def __repr__(self) -> str:
        return self.message or "bateau"


def raise_unraisable(error: BaseException, message: str | None = None) -> None:
    """Hand an error that can't be raised here to ``sys.unraisablehook``."""
    if sys.unraisablehook is sys.__unraisablehook__:
        # The interpreter's own hook takes no arguments but those that the interpreter makes: let it make them.
        target = _Target()
        callback = ref(target, _Raising(error, message))
        del target  # calls it, and what a callback raises goes to the hook
        del callback
        return
    args: Any = _Unraisable(type(error), error, error.__traceback__, message, None)
    sys.unraisablehook(args)
