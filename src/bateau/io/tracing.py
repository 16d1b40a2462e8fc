"""``traced``: see what goes over a stream, call by call, without changing the program around it."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from ..kernel.current import current_task_or_none
from ..kernel.errors import WouldBlock, user_site
from ..kernel.hazard import report
from . import guard
from .abc import DEFAULT_SIZE, READ, WRITE, AsyncStream, ReadableBuffer, WritableBuffer

T = TypeVar("T")

# Bytes of the data that a printed line shows.
SHOWN = 40


class TraceEvent(NamedTuple):
    """One finished call on a traced stream.

    ``at`` is when it began, in seconds since the stream was wrapped, ``seconds`` how long it took. ``size`` is in bytes, None
    for calls that move none. ``data`` is what was moved. ``error`` is what the call raised, cancellations included.
    """

    stream: str
    action: str
    at: float
    seconds: float
    task: str | None
    size: int | None
    data: bytes
    error: BaseException | None

    def __str__(self) -> str:
        text = f"{self.stream} +{self.at:.6f}s {self.action}"
        if self.size is not None:
            text += f" {self.size} bytes"
        text += f" in {self.seconds * 1e3:.3f} ms"
        if self.task is not None:
            text += f" by {self.task!r}"
        if self.data:
            text += f": {self.data[:SHOWN]!r}{'...' if len(self.data) > SHOWN else ''}"
        if self.error is not None:
            text += f" -> {type(self.error).__name__}: {self.error}"
        return text


def _to_stderr(event: TraceEvent) -> None:
    sys.stderr.write(f"{event}\n")


def _now() -> float:
    task = current_task_or_none()
    return task.host.now() if task is not None else time.monotonic()


class TracedStream(AsyncStream):
    """The stream that ``traced`` returns; ``raw`` is the one it wraps and owns."""

    __slots__ = ("__weakref__", "_name", "_sink", "_site", "_start", "raw")

    def __init__(self, raw: AsyncStream, sink: Callable[[TraceEvent], object], name: str) -> None:
        self.raw = raw
        self._sink = sink
        self._name = name
        self._start = _now()
        self._site = user_site(sys._getframe(2))

    def _tell(self, action: str, began: float, data: bytes, size: int | None, error: BaseException | None) -> None:
        task = current_task_or_none()
        name = task.name if task is not None else None
        event = TraceEvent(self._name, action, began - self._start, _now() - began, name, size, data, error)
        try:
            self._sink(event)
        except Exception as exc:
            # Raising would lose the bytes that were just read: the stream matters more than what watches it.
            report("callback_error", f"the sink of traced stream {self._name!r} raised {exc!r}", self._site)

    async def _call(
        self, action: str, waiting: Awaitable[T], moved: Callable[[T], bytes] | None = None, given: bytes | None = None
    ) -> T:
        began = _now()
        try:
            result = await waiting
        except BaseException as exc:
            self._tell(action, began, b"", None, exc)
            raise
        data = moved(result) if moved is not None else given
        self._tell(action, began, data or b"", None if data is None else len(data), None)
        return result

    def _try(self, action: str, call: Callable[[], T], moved: Callable[[T], bytes]) -> T:
        began = _now()
        try:
            result = call()
        except WouldBlock:
            raise  # nothing happened
        except BaseException as exc:
            self._tell(action, began, b"", None, exc)
            raise
        data = moved(result)
        self._tell(action, began, data, len(data), None)
        return result

    async def read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        return await self._call("read", self.raw.read(n), bytes)

    async def readinto(self, buffer: WritableBuffer, /) -> int:
        return await self._call(
            "readinto", self.raw.readinto(buffer), lambda n: bytes(memoryview(buffer).cast("B")[:n])
        )

    def try_read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        return self._try("try_read", lambda: self.raw.try_read(n), bytes)

    async def write(self, data: ReadableBuffer, /) -> None:
        await self._call("write", self.raw.write(data), None, bytes(data))

    def try_write(self, data: ReadableBuffer, /) -> int:
        return self._try("try_write", lambda: self.raw.try_write(data), lambda n: bytes(memoryview(data).cast("B")[:n]))

    def ready(self, directions: int = READ, /) -> Awaitable[int]:
        words = {READ: "ready(READ)", WRITE: "ready(WRITE)"}
        return self._call(words.get(directions, "ready(READ | WRITE)"), self.raw.ready(directions))

    async def flush(self) -> None:
        await self._call("flush", self.raw.flush())

    async def write_eof(self) -> None:
        await self._call("write_eof", self.raw.write_eof())

    def close(self) -> None:
        if not self.raw.closed:
            began = _now()
            self.raw.close()
            self._tell("close", began, b"", None, None)

    async def aclose(self) -> None:
        await self._call("aclose", self.raw.aclose())

    @property
    def closed(self) -> bool:
        return self.raw.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.raw.get_extra_info(name, default)

    def describe(self) -> str:
        """For messages: what is traced."""
        return f"traced {guard.title(self.raw)}"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"


def traced(
    stream: AsyncStream, sink: Callable[[TraceEvent], object] | None = None, *, name: str | None = None
) -> TracedStream:
    """Wrap ``stream`` so that every call on it is told to ``sink(event)`` when it has ended: sizes, times, data, errors.

    Without a sink each event is one line on stderr. ``name`` labels the events (default: what the stream says of itself). A sink
    that raises is reported as the hazard ``callback_error`` and does not disturb the stream.
    """
    return TracedStream(stream, sink if sink is not None else _to_stderr, name or guard.title(stream))
