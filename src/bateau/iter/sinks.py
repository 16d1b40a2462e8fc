"""Sinks: where the items of a chain go. The interface, its adapters to channels, streams and functions, and ``fan_out``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

from ..combine import join
from ..interface import Interface
from .chain import Chain
from .flow import END, Failure
from .stage import is_awaitable

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
S_contra = TypeVar("S_contra", contravariant=True)


class Sends(Protocol[S_contra]):
    """What has a ``send``: a channel's sender."""

    def send(self, item: S_contra, /) -> Awaitable[Any]:
        """Send one item."""
        ...

    def close(self) -> object:
        """Nothing more will be sent."""
        ...


class Writes(Protocol):
    """What has a ``write`` for bytes: a stream."""

    def write(self, data: bytes, /) -> Awaitable[Any]:
        """Write all of ``data``."""
        ...

    def aclose(self) -> Awaitable[Any]:
        """Flush and close."""
        ...


class Sink(Interface, Generic[T_contra]):
    """Takes items, one at a time, and says by waiting when it is full. To be closed, as a whole, when nothing more comes."""

    __slots__ = ()

    @abstractmethod
    async def send(self, item: T_contra) -> None:
        """Take one item. A cancellation point; waits while the sink is full. Cancelled, the item was not taken, unless the sink
        says otherwise.
        """

    async def flush(self) -> None:
        """Wait until what was sent has gone where it goes. By default nothing is held back."""

    async def aclose(self) -> None:
        """Nothing more will be sent: finish what was, and let go. By default there is nothing to do."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()


class ChannelSink(Sink[T]):
    """Sends into a channel. Cancelled, an item was not sent."""

    __slots__ = ("sender",)

    def __init__(self, sender: Sends[T]) -> None:
        self.sender = sender

    async def send(self, item: T) -> None:
        await self.sender.send(item)

    async def aclose(self) -> None:
        self.sender.close()


class StreamSink(Sink[T]):
    """Writes each item into a byte stream, as ``encode(item)``. A cancelled write may be torn: the stream says so (law 9)."""

    __slots__ = ("encode", "stream")

    def __init__(self, stream: Writes, encode: Callable[[T], bytes]) -> None:
        self.stream = stream
        self.encode = encode

    async def send(self, item: T) -> None:
        await self.stream.write(self.encode(item))

    async def flush(self) -> None:
        flush: Callable[[], Awaitable[None]] | None = getattr(self.stream, "flush", None)
        if flush is not None:
            await flush()

    async def aclose(self) -> None:
        await self.stream.aclose()


class FunctionSink(Sink[T]):
    """Calls a function, sync or async, with each item."""

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[[T], object]) -> None:
        self.fn = fn

    async def send(self, item: T) -> None:
        result = self.fn(item)
        if is_awaitable(result):
            await cast("Awaitable[object]", result)


class FanOut(Sink[T]):
    """Sends each item to all of several sinks at once, and waits for the slowest.

    The first that fails ends the call: the others may or may not have got this item. So may a cancellation.
    """

    __slots__ = ("sinks",)

    def __init__(self, sinks: Iterable[Sink[T]]) -> None:
        self.sinks = tuple(sinks)

    async def send(self, item: T) -> None:
        if len(self.sinks) == 1:
            await self.sinks[0].send(item)
        else:
            await join([one.send(item) for one in self.sinks])

    async def flush(self) -> None:
        await join([one.flush() for one in self.sinks])

    async def aclose(self) -> None:
        """Close all of them, whatever the others raise."""
        errors: list[BaseException] = []
        for one in self.sinks:
            try:
                await one.aclose()
            except Exception as error:
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise BaseExceptionGroup("several sinks of a fan_out could not be closed", errors)


@overload
def sink(target: Sink[T], /) -> Sink[T]: ...
@overload
def sink(target: Sends[T], /) -> Sink[T]: ...
@overload
def sink(target: Writes, /) -> Sink[bytes]: ...
@overload
def sink(target: Writes, /, encode: Callable[[T], bytes]) -> Sink[T]: ...
@overload
def sink(target: Callable[[T], object], /) -> Sink[T]: ...
def sink(target: Any, /, encode: Callable[[Any], bytes] | None = None) -> Sink[Any]:
    """A ``Sink`` out of a channel's sender, a byte stream (items through ``encode``, or bytes as they are), or a function.

    Raises ``TypeError`` for what is none of these.
    """
    if encode is not None and not hasattr(target, "write"):
        raise TypeError(f"encode= is for byte streams; a {type(target).__name__} takes the items as they are")
    if isinstance(target, Sink):
        return target  # pyright: ignore[reportUnknownVariableType]  # a Sink of whatever it was made for
    if hasattr(target, "send") and hasattr(target, "close"):
        return ChannelSink(target)
    if hasattr(target, "write") and hasattr(target, "aclose"):
        return StreamSink(target, encode if encode is not None else bytes)
    if callable(target):
        return FunctionSink(target)
    raise TypeError(
        f"a {type(target).__name__} can't be used as a sink: it takes a channel's sender, a byte stream, a function of one "
        "item, or a bateau.iter.Sink"
    )


def fan_out(*targets: Any) -> Sink[Any]:
    """One sink that sends each item to all of ``targets`` (sinks, or what ``sink`` takes), as fast as the slowest takes them."""
    if not targets:
        raise ValueError("fan_out needs at least one sink")
    return FanOut([sink(target) for target in targets])


class Sinks(Chain[T_co]):
    """The ends of this module."""

    __slots__ = ()

    async def send_all(self, target: Sink[Any] | Sends[Any] | Writes | Callable[[T_co], object]) -> int:
        """Send every item to ``target`` (a sink, or what ``bateau.iter.sink`` takes), flush it, and leave it open.

        Returns how many there were. A cancellation point; waits whenever the target is full. The first failed item is raised,
        after those before it were sent.
        """
        into = sink(cast("Any", target))
        count = 0
        async with self._run("send_all") as flow:
            while (item := await flow.next()) is not END:
                if isinstance(item, Failure):
                    raise item.error
                await into.send(item)
                count += 1
            await into.flush()
        return count

    async def forward(self, target: Sink[Any] | Sends[Any] | Writes | Callable[[T_co], object]) -> int:
        """Like ``send_all``, and close the target then, also if an item failed or the call was cancelled."""
        into = sink(cast("Any", target))
        try:
            return await self.send_all(into)
        finally:
            await into.aclose()
