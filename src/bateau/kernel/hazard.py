"""Where the kernel reports what is not an error but should not happen silently.

A hazard has one name, shared by lint, report, console and book. By default it is a ``HazardWarning`` at the line to
blame, so ``python -W error`` and test suites turn it into a failure; ``add_sink`` lets a tool take it instead. Whoever takes
them, the last thousand are kept, for ``bateau.insight.findings()``. What each name means, and what watches for those that nobody
reports by himself, is ``bateau.insight``.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from .current import tls
from .errors import HazardWarning

if TYPE_CHECKING:
    from .task import Task

# How many findings are kept.
KEPT = 1000


class Finding(NamedTuple):
    """One sighting of a hazard: its shared name, the sentence, and the line to blame.

    ``task``: the name of the task it is about, or "". ``sites``: further lines that have a part in it, each as (what it is, file,
    line). ``evidence``: what was seen, a line each. ``remedy``: what to do, where the sentence does not say so. ``first`` and ``last``:
    when it was seen first, and last (seconds since the epoch; 0: not known).
    """

    name: str
    message: str
    filename: str
    lineno: int
    task: str = ""
    sites: tuple[tuple[str, str, int], ...] = ()
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    first: float = 0.0
    last: float = 0.0

    @property
    def chapter(self) -> str:
        """Where the documentation explains it."""
        return f"docs/hazards.md#{self.name}"

    def __str__(self) -> str:
        return f"{self.name}: {self.message} [{self.filename}:{self.lineno}]"


Sink = Callable[[Finding], None]

_sinks: list[Sink] = []
# Told of each finding as well, whoever takes it: recorders.
listeners: list[Sink] = []
# The last findings, oldest first, whoever was told.
recent: deque[Finding] = deque(maxlen=KEPT)
# The names that nobody wants to hear of here: in this task, and in those that are spawned from it. ``"*"`` stands for all.
_NONE: frozenset[str] = frozenset()
muted: ContextVar[frozenset[str]] = ContextVar("bateau hazards muted", default=_NONE)


def add_sink(sink: Sink) -> Callable[[], None]:
    """Send findings to ``sink`` instead of warnings. Returns the function that takes it out again."""
    _sinks.append(sink)

    def remove() -> None:
        _sinks.remove(sink)

    return remove


def report(name: str, message: str, site: tuple[str, int], task: Task[Any] | None = None) -> None:
    """Report a hazard. Where warnings are errors it is printed by the unraisable hook: the kernel goes on.

    ``task``: whom it is about, if that is not the running one; what it has muted counts.
    """
    if task is None:
        task = tls.running.task
    context = task.context if task is not None else None
    quiet = muted.get() if context is None else context.get(muted, _NONE)
    if name in quiet or "*" in quiet:
        return
    now = time.time()
    publish(Finding(name, message, *site, task=task.name if task is not None else "", first=now, last=now))


def note(name: str, message: str, site: tuple[str, int]) -> None:
    """Keep a finding that is told in other words already (a warning of Python's own kind)."""
    quiet = muted.get()
    if name not in quiet and "*" not in quiet:
        now = time.time()
        keep(Finding(name, message, *site, first=now, last=now))


def keep(finding: Finding) -> None:
    """Keep a finding, for ``recent`` and for recorders, and tell nobody else."""
    recent.append(finding)
    for listener in tuple(listeners):
        listener(finding)


def publish(finding: Finding) -> None:
    """Keep a finding, and tell the sinks of it, or else warn."""
    keep(finding)
    if _sinks:
        for sink in tuple(_sinks):
            try:
                sink(finding)
            except Exception as error:
                raise_unraisable(error, f"a sink of hazards failed on {finding}")
        return
    warn(finding)


def warn(finding: Finding) -> None:
    """What is done with a finding that no tool takes: a ``HazardWarning`` at its line."""
    advice = f"; what to do: {finding.remedy}" if finding.remedy else ""
    try:
        warnings.warn_explicit(
            f"{finding.name}: {finding.message}{advice}", HazardWarning, finding.filename or "<unknown>", finding.lineno
        )
    except HazardWarning as error:
        # Reports come from the middle of the scheduler, where raising would break the program that is being told about.
        raise_unraisable(error, f"bateau hazard: {finding.message}")


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
