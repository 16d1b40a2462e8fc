"""``duplex``: a connection in memory, for tests, for layers over layers, for talking to a task as to a peer.

It behaves as a socket does, so that what works on one works on the other: a bounded buffer per direction with
backpressure, half-close, readiness, ``Broken`` for the writer whose reader has gone, torn writes.

Theory of operation. A ``Pipe`` is one direction: a buffer, at most one parked reader and one parked writer. Every change
ends in ``_settle``, which moves bytes from the writer into the buffer and grants whom it can. So at rest: a parked reader
means an empty buffer, a parked writer a full one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeVar, TypeVarTuple

from ..kernel.current import current_task_or_none
from ..kernel.errors import Broken, WouldBlock
from ..kernel.operation import Operation
from ..kernel.resource import Flavour, Primitive
from . import guard
from .abc import DEFAULT_SIZE, READ, WRITE, AsyncStream, ReadableBuffer

if TYPE_CHECKING:
    from ..kernel.task import Task

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_UNLOCKED = nullcontext()


class Pipe(Primitive):
    """One direction of a duplex. Internal: its ends are ``DuplexStream``.

    Invariants: ``len(buffer) <= capacity``. ``reader`` (``writer``) is a parked operation: a read, a write, or a wait for
    readiness. ``torn`` is how many bytes of a cancelled write went out; from then on nothing may follow them.
    """

    __slots__ = ("buffer", "capacity", "eof", "last_reader", "last_writer", "no_reader", "reader", "torn", "writer")
    kind = "duplex pipe"

    def __init__(self, capacity: int, name: str, flavour: Flavour | None) -> None:
        super().__init__(name=name, flavour=flavour)
        self.capacity = capacity
        self.buffer = bytearray()
        self.eof = False  # the writing end was closed
        self.no_reader = False  # the reading end was closed
        self.torn: int | None = None
        self.reader: Operation[Any] | None = None
        self.writer: Operation[Any] | None = None
        # Who used the ends last: the best guess at who could end a wait here.
        self.last_reader: Task[Any] | None = None
        self.last_writer: Task[Any] | None = None

    # -- transitions (under the mutex, where there is one) ----------------------------------------------------------------

    def readable(self) -> bool:
        """Whether a read would not wait."""
        return self.eof or len(self.buffer) > 0

    def writable(self) -> bool:
        """Whether a write would not wait: there is room, or an error to be told."""
        return len(self.buffer) < self.capacity or self.no_reader or self.eof or self.torn is not None

    def take(self, n: int) -> bytes:
        """Up to ``n`` bytes from the buffer; the caller settles afterwards."""
        buffer = self.buffer
        if n >= len(buffer):
            data = bytes(buffer)
            buffer.clear()
        else:
            with memoryview(buffer) as view:
                data = bytes(view[:n])
            del buffer[:n]
        return data

    def put(self, data: memoryview) -> int:
        """As much of ``data`` as there is room for; the caller settles afterwards."""
        room = self.capacity - len(self.buffer)
        if room <= 0:
            return 0
        part = data[:room]
        self.buffer += part
        return len(part)

    def check_writable(self) -> None:
        """Raise what a write now deserves."""
        if self.torn is not None:
            raise Broken(
                f"a write on {self.describe()} was cancelled after {self.torn} bytes had gone out, so nothing can follow it; "
                "close the stream, and shield a write that must be whole",
                sent=self.torn,
            )
        if self.eof:
            raise guard.closed(f"the sending direction of {self.describe()}")
        if self.no_reader:
            raise Broken(f"the other side of {self.describe()} is closed: nobody will read this", sent=0)

    def settle(self) -> None:
        """Restore the invariants after a change: grant the parked operations that can go on."""
        moved = True
        while moved:
            moved = False
            writer = self.writer
            if isinstance(writer, _Write):
                moved = writer.advance()
            elif writer is not None and self.writable():
                _grant_ready(writer)
            reader = self.reader
            if isinstance(reader, _Read):
                if self.readable() and reader.claim():
                    self.reader = None
                    reader.fire(self.take(reader.n))
                    moved = True
            elif reader is not None and self.readable():
                _grant_ready(reader)

    # -- as a resource ---------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        return tuple(op for op in (self.reader, self.writer) if op is not None)

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        if self.mutex is not None:
            return "outside"  # plain threads may use it too
        other = self.last_writer if self.reader is not None else self.last_reader
        return (other,) if other is not None and not other.ended else ()

    def _fill(self) -> str:
        return f" ({len(self.buffer)}/{self.capacity} bytes)"


class _Read(Operation[bytes]):
    """``DuplexStream.read``."""

    __slots__ = ("n", "stream")
    resource: Pipe

    def __init__(self, stream: DuplexStream, n: int) -> None:
        super().__init__(stream._in)
        self.stream = stream
        self.n = n

    def poll(self) -> bool:
        pipe = self.resource
        self.stream._check_reading()
        pipe.last_reader = self.task
        if not self.n:
            self.value = b""
        elif pipe.buffer:
            self.value = pipe.take(self.n)
            pipe.settle()
        elif pipe.eof:
            self.value = b""
        else:
            return False
        return True

    def register(self) -> None:
        self.resource.reader = self

    def unregister(self) -> None:
        self.resource.reader = None

    def undo(self, value: bytes) -> None:
        pipe = self.resource
        with pipe.mutex or _UNLOCKED:
            # May exceed the capacity for a moment: the writer may have filled the place of these bytes.
            pipe.buffer[:0] = value
            pipe.settle()

    def describe(self) -> str:
        return f"read of {self.resource.describe()}"


class _Write(Operation[None]):
    """``DuplexStream.write``: parked while the buffer is full and some of its data is left."""

    __slots__ = ("data", "sent", "size", "stream")
    selectable = False  # it moves its data in pieces
    resource: Pipe

    def __init__(self, stream: DuplexStream, data: memoryview) -> None:
        super().__init__(stream._out)
        self.stream = stream
        self.data = data
        self.size = len(self.data)
        self.sent = 0

    def poll(self) -> bool:
        pipe = self.resource
        self.stream._check_writing()
        pipe.last_writer = self.task
        while True:  # a parked reader may empty the buffer at once
            moved = pipe.put(self.data[self.sent :])
            self.sent += moved
            pipe.settle()
            if self.sent == self.size:
                self.data.release()
                return True
            if not moved:
                return False

    def register(self) -> None:
        self.resource.writer = self

    def unregister(self) -> None:
        pipe = self.resource
        pipe.writer = None
        if self.sent:
            pipe.torn = self.sent
        self.data.release()

    def advance(self) -> bool:
        """Move on what there is room for; grant it when all is out, or when it has failed. True: something moved."""
        pipe = self.resource
        if pipe.no_reader or pipe.eof:
            if self.claim():
                pipe.writer = None
                self.fail(
                    guard.closed(f"the sending direction of {pipe.describe()}")
                    if pipe.eof
                    else Broken(f"the other side of {pipe.describe()} was closed in mid-write", sent=self.sent)
                )
            return False
        rest = self.data[self.sent :]
        moved = pipe.put(rest)
        self.sent += moved
        if self.sent == self.size and self.claim():
            pipe.writer = None
            self.data.release()
            self.fire()
        return moved > 0

    def describe(self) -> str:
        return f"write of {self.size} bytes to {self.resource.describe()}"


class _Ready(Operation[int]):
    """``DuplexStream.ready``: takes the reader's place, the writer's, or both."""

    __slots__ = ("directions", "stream")

    def __init__(self, stream: DuplexStream, directions: int) -> None:
        super().__init__(stream._in if directions & READ else stream._out)
        self.stream = stream
        self.directions = directions

    def now(self) -> int:
        """Those of the directions that are ready."""
        stream = self.stream
        found = READ if self.directions & READ and stream._in.readable() else 0
        return found | (WRITE if self.directions & WRITE and stream._out.writable() else 0)

    def poll(self) -> bool:
        stream = self.stream
        if self.directions & READ:
            stream._check_reading()
            stream._in.last_reader = self.task
        if self.directions & WRITE:
            stream._check_writing(errors=False)
            stream._out.last_writer = self.task
        found = self.value = self.now()
        return found != 0

    def register(self) -> None:
        if self.directions & READ:
            self.stream._in.reader = self
        if self.directions & WRITE:
            self.stream._out.writer = self

    def unregister(self) -> None:
        stream = self.stream
        if stream._in.reader is self:
            stream._in.reader = None
        if stream._out.writer is self:
            stream._out.writer = None

    def describe(self) -> str:
        return f"readiness of {self.resource.describe()}"


def _grant_ready(op: Operation[Any]) -> None:
    assert isinstance(op, _Ready)
    if op.claim():
        op.unregister()
        op.fire(op.now())


class DuplexStream(AsyncStream):
    """One end of a ``duplex`` pair."""

    __slots__ = ("__weakref__", "_closed", "_in", "_out", "name")

    def __init__(self, name: str, incoming: Pipe, outgoing: Pipe) -> None:
        self.name = name
        self._in = incoming
        self._out = outgoing
        self._closed = False

    def read(self, n: int = DEFAULT_SIZE, /) -> Operation[bytes]:
        return _Read(self, guard.check_size(n))

    def try_read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        guard.check_size(n)
        return self._locked(self._try_read, n)

    def _try_read(self, n: int) -> bytes:
        pipe = self._in
        self._check_reading()
        pipe.last_reader = current_task_or_none()
        if n and not pipe.readable():
            raise WouldBlock(f"nothing to read from {pipe.describe()} yet; await ready(READ), then try again")
        data = pipe.take(n)
        pipe.settle()
        return data

    def write(self, data: ReadableBuffer, /) -> Operation[None]:
        return _Write(self, memoryview(data).cast("B"))

    def try_write(self, data: ReadableBuffer, /) -> int:
        with memoryview(data) as view, view.cast("B") as raw:
            return self._locked(self._try_write, raw)

    def _try_write(self, data: memoryview) -> int:
        pipe = self._out
        self._check_writing()
        pipe.last_writer = current_task_or_none()
        sent = pipe.put(data)
        if len(data) and not sent:
            raise WouldBlock(f"no room in {pipe.describe()} yet; await ready(WRITE), then try again")
        pipe.settle()
        return sent

    def ready(self, directions: int = READ, /) -> Operation[int]:
        if not directions or directions & ~(READ | WRITE):
            raise ValueError(f"ask for READ, WRITE or READ | WRITE, not {directions!r}")
        return _Ready(self, directions)

    async def write_eof(self) -> None:
        from ..kernel.flow import checkpoint

        await checkpoint()
        if self._closed:
            raise guard.closed(self.describe())
        self._locked(self._end_writing)

    def _end_writing(self) -> None:
        pipe = self._out
        if pipe.writer is not None:
            raise guard.busy(self.describe(), "write", pipe.writer.task)
        if pipe.torn is None:  # after a torn write a clean end would be a lie
            pipe.eof = True
            pipe.settle()

    def close(self) -> None:
        if not self._closed:
            self._locked(self._close)

    def _close(self) -> None:
        self._closed = True
        self._fail(self._in.reader)
        self._fail(self._out.writer)
        self._out.eof = True
        self._in.no_reader = True
        self._in.buffer.clear()
        self._out.settle()
        self._in.settle()

    def _fail(self, op: Operation[Any] | None) -> None:
        if op is not None and op.claim():
            op.unregister()
            op.fail(guard.closed(self.describe()))

    @property
    def closed(self) -> bool:
        return self._closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.name if name == "sockname" else default

    def describe(self) -> str:
        """For messages: the name given to the pair, and which end this is."""
        return f"duplex stream {self.name!r}"

    def __repr__(self) -> str:
        return f"<{self.describe()}{' closed' if self._closed else ''}>"

    def _locked(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call ``fn`` as one transition: under the mutex of the shared flavour, on the home thread of the local one."""
        mutex = self._in.mutex
        if mutex is None:
            self._in.check_thread()
            return fn(*args)
        with mutex:
            return fn(*args)

    def _check_reading(self) -> None:
        if self._closed:
            raise guard.closed(self.describe())
        reader = self._in.reader
        if reader is not None:
            raise guard.busy(self.describe(), "read", reader.task)

    def _check_writing(self, errors: bool = True) -> None:
        if self._closed:
            raise guard.closed(self.describe())
        pipe = self._out
        if pipe.writer is not None:
            raise guard.busy(self.describe(), "write", pipe.writer.task)
        if errors:
            pipe.check_writable()


def duplex(
    capacity: int = DEFAULT_SIZE, *, name: str = "duplex", flavour: Flavour | None = None
) -> tuple[DuplexStream, DuplexStream]:
    """Two connected streams in memory: what is written to one is read from the other.

    ``capacity`` (bytes, at least 1) bounds what is on its way in each direction; a writer waits while it is full. ``flavour``
    is that of every primitive: by default local to the runtime it is made in, shared when made outside a running program.
    Raises ``ValueError`` for a capacity below 1.
    """
    if capacity < 1:
        raise ValueError(f"the capacity of a duplex must be at least 1 byte, not {capacity!r}")
    there = Pipe(capacity, f"{name} a->b", flavour)
    back = Pipe(capacity, f"{name} b->a", flavour)
    back.mutex = there.mutex  # a wait for readiness stands in both queues: its moves must be one transition
    return DuplexStream(f"{name} a", back, there), DuplexStream(f"{name} b", there, back)
