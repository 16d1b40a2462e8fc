"""Histories: what clients asked of a thing under test, what they were answered, and when. ``linear`` judges them.

What counts is the order in which calls and answers were recorded; the times are for the reader.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Literal

from ..kernel.current import current_task_or_none
from .given import name_of
from .thread import here

Status = Literal["pending", "answered", "failed", "unknown"]


class Op:
    """One operation of a client. Made by ``History.invoke``; say how it ended by ``respond``, ``fail`` or ``unknown``, once.

    One that was never ended counts as ``unknown``: it may have had its effect at any time since it was invoked, or not at all.
    """

    __slots__ = (
        "_history",
        "args",
        "client",
        "ended",
        "ended_at",
        "invoked",
        "invoked_at",
        "name",
        "note",
        "status",
        "value",
    )

    def __init__(self, history: History, client: str, name: str, args: tuple[Any, ...]) -> None:
        self._history = history
        self.client = client
        self.name = name
        self.args = args
        self.status: Status = "pending"
        self.value: Any = None
        # Why it failed, or why its end is not known.
        self.note = ""
        # Places in the order of all calls and answers, and virtual times in seconds.
        self.invoked, self.invoked_at = history._tick()
        self.ended: int | None = None
        self.ended_at: float | None = None

    def respond(self, value: Any = None) -> None:
        """It was answered with ``value``, so it has had its effect. Raises ``RuntimeError`` if it had ended before."""
        self._end("answered", "")
        self.value = _kept(value)

    def fail(self, why: object = "") -> None:
        """It certainly had no effect (it was refused). Raises ``RuntimeError`` if it had ended before."""
        self._end("failed", str(why))

    def unknown(self, why: object = "") -> None:
        """Nobody knows whether it had its effect, or will have it yet: a timeout, a lost connection."""
        self._end("unknown", str(why))

    def _end(self, status: Status, note: str) -> None:
        if self.status != "pending":
            raise RuntimeError(f"{self} has ended before: an operation is answered once")
        self.status = status
        self.note = note
        self.ended, self.ended_at = self._history._tick()

    def call(self) -> str:
        """The operation as it would be written: ``write('x', 3)``."""
        return f"{self.name}({', '.join(map(repr, self.args))})"

    def __repr__(self) -> str:
        if self.status == "answered":
            return f"{self.call()} -> {self.value!r}"
        return f"{self.call()} {self.status}{f' ({self.note})' if self.note else ''}"


class History:
    """What clients did, in the order in which it was recorded. It may be shared by all the programs of a simulated world.

    Inside a world its times are the world's; outside, those of the running program's clock, else all are 0.
    """

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self._events = 0

    def invoke(self, name: str, *args: Any, client: str | None = None) -> Op:
        """A client calls ``name(*args)`` now. ``client`` is for messages and for models that care (the name of the running task)."""
        name_of("an operation", name)
        if client is None:
            task = current_task_or_none()
            client = task.name if task is not None else "client"
        op = Op(self, client, name, tuple(map(_kept, args)))
        self.ops.append(op)
        return op

    @contextmanager
    def operation(self, name: str, *args: Any, client: str | None = None) -> Generator[Op]:
        """The block is one operation: ``with history.operation("read", "x") as op: op.value = await store.read("x")``.

        It is answered with ``op.value`` at the end of the block, unless the block has ended it in another way. If the block raises,
        nobody knows whether it took effect: it is ``unknown``, and the exception goes on.
        """
        op = self.invoke(name, *args, client=client)
        try:
            yield op
        except BaseException as error:
            if op.status == "pending":
                op.unknown(repr(error))
            raise
        if op.status == "pending":
            op.respond(op.value)

    def _tick(self) -> tuple[int, float]:
        self._events += 1
        world = here.world
        if world is not None:
            return self._events, world.now
        task = current_task_or_none()
        return self._events, task.host.now() if task is not None else 0.0

    def __len__(self) -> int:
        return len(self.ops)

    def __str__(self) -> str:
        return table(self.ops)


def table(ops: list[Op], marks: Mapping[Op, str] | None = None) -> str:
    """Operations as lines for a reader, those in ``marks`` followed by what it says."""
    width = max((len(op.client) for op in ops), default=0)
    lines: list[str] = []
    for op in ops:
        end = f"{op.ended_at:9.4f}" if op.ended_at is not None else " " * 8 + "…"
        mark = f"   <- {marks[op]}" if marks and op in marks else ""
        lines.append(f"  {op.invoked_at:9.4f} to {end} s  {op.client:{width}}  {op!r}{mark}")
    return "\n".join(lines)


def _kept(value: Any) -> Any:
    """``value`` as it is now: a list may be changed later."""
    try:
        hash(value)
    except TypeError:
        return deepcopy(value)
    return value


def frozen(value: Any) -> Hashable:
    """``value`` in a form that can be hashed and compares as it does. Raises ``TypeError`` for what has none."""
    if isinstance(value, list):
        return ("list", *map(frozen, value))  # pyright: ignore[reportUnknownArgumentType]  # of whatever
    if isinstance(value, tuple):
        return tuple(map(frozen, value))  # pyright: ignore[reportUnknownArgumentType]  # of whatever
    if isinstance(value, set | frozenset):
        return frozenset(map(frozen, value))  # pyright: ignore[reportUnknownArgumentType]  # of whatever
    if isinstance(value, Mapping):
        pairs = ((frozen(key), frozen(each)) for key, each in value.items())  # pyright: ignore[reportUnknownVariableType]  # of whatever
        return ("mapping", frozenset(pairs))
    if isinstance(value, bytearray):
        return bytes(value)
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"a history can hold what can be hashed, and lists, sets, mappings and bytearrays of such, not {value!r}"
        ) from None
    hashable: Hashable = value
    return hashable
