"""What is told where: thresholds and muting, for the whole process, or for a block and every task spawned in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import Context, ContextVar, Token
from types import TracebackType
from typing import Self

from ...kernel.hazard import muted as _muted

# Thresholds of a block, by hazard; inherited by the tasks that are spawned in it, as all context variables are.
_local: ContextVar[Mapping[str, float]] = ContextVar("bateau hazard thresholds")
_muted_for_process: frozenset[str] = frozenset()
# Those of the process.
_process: dict[str, float] = {}
_nothing: dict[str, float] = {}


def _known(names: Iterable[str]) -> None:
    from . import by_name

    for name in names:
        by_name(name)


class muted:  # noqa: N801  # a context manager, named as the standard library names its own
    """``with muted("name", ...):`` findings of these names are not made in this block, nor in tasks spawned in it.

    With no name: none at all. Not a cancellation point. Raises ``ValueError`` for a name that no hazard has. (The watcher sees what
    asyncio's own tasks have muted from Python 3.12 on; tasks of bateau's on every version.)
    """

    def __init__(self, *names: str) -> None:
        _known(names)
        self._names = frozenset(names) if names else frozenset("*")
        self._token: Token[frozenset[str]] | None = None

    def __enter__(self) -> Self:
        self._token = _muted.set(_muted.get() | self._names)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._token is not None
        _muted.reset(self._token)


class thresholds:  # noqa: N801  # a context manager, as ``muted``
    """``with thresholds(scheduling_delay=0.5):`` other limits in this block, and in tasks spawned in it, than in the process.

    The names are those of hazards, the values in the unit that ``hazards.by_name(name).unit`` says. ``watch(name=value)`` sets them for
    the process. Not a cancellation point. Raises ``ValueError`` for a hazard that has no threshold, or for a negative one.
    """

    def __init__(self, **values: float) -> None:
        self._values = checked(values)
        self._token: Token[Mapping[str, float]] | None = None

    def __enter__(self) -> Self:
        self._token = _local.set({**_local.get(_nothing), **self._values})
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._token is not None
        _local.reset(self._token)


def checked(values: Mapping[str, float]) -> dict[str, float]:
    """The values, if each is a threshold of the hazard that it is named for. Raises ``ValueError`` otherwise."""
    from . import by_name

    for name, value in values.items():
        if by_name(name).threshold is None:
            raise ValueError(f"the hazard {name!r} has no threshold: it is reported wherever it happens")
        if not value >= 0:
            raise ValueError(f"a threshold is 0 or more {by_name(name).unit}, not {value!r}")
    return dict(values)


def set_for_process(values: Mapping[str, float]) -> dict[str, float]:
    """Other thresholds for the whole process; returns what they were."""
    before = dict(_process)
    _process.update(values)
    return before


def restore_for_process(before: Mapping[str, float]) -> None:
    """Put back what ``set_for_process`` returned."""
    _process.clear()
    _process.update(before)


def mute_for_process(names: frozenset[str]) -> None:
    """What the watcher is not to tell at all."""
    global _muted_for_process
    _muted_for_process = names


def limit(name: str, default: float, context: Context | None) -> float:
    """The threshold in force for a task with this context."""
    if context is not None:
        found = context.get(_local)
        if found is not None and name in found:
            return found[name]
    return _process.get(name, default)


def is_muted(name: str, context: Context | None) -> bool:
    """Whether a task with this context does not want to hear of it."""
    if name in _muted_for_process:
        return True
    quiet = context.get(_muted) if context is not None else None
    return quiet is not None and (name in quiet or "*" in quiet)
