"""``copy`` and ``copy_bidirectional``: from stream to stream, with backpressure, without losing a byte silently."""

from __future__ import annotations

from collections.abc import Callable

from ..kernel.errors import Unsupported
from ..kernel.scope import Scope
from .abc import DEFAULT_SIZE, AsyncRead, AsyncStream, AsyncWrite
from .buffered import BufReader, BufStream


async def copy(
    src: AsyncRead,
    dst: AsyncWrite,
    *,
    limit: int | None = None,
    progress: Callable[[int], object] | None = None,
    chunk: int = DEFAULT_SIZE,
) -> int:
    """Copy from ``src`` to ``dst`` until the end, or at most ``limit`` bytes; returns how many. Flushes ``dst`` at the end.

    ``progress(total)`` is called after each piece; ``chunk`` (bytes) bounds how much is on the way. Neither stream is closed.
    A cancellation point. From a ``BufReader`` or ``BufStream`` nothing is lost however it ends: bytes leave its buffer once ``dst``
    has taken them. From any other stream the piece that was read and not written is lost with the failure, and a note on the
    exception says how many bytes that were.
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 byte, not {chunk!r}")
    if limit is not None and limit < 0:
        raise ValueError(f"limit must be 0 or more bytes, or None, not {limit!r}")
    source = src.reader if isinstance(src, BufStream) else src
    total = 0
    while limit is None or total < limit:
        want = chunk if limit is None else min(chunk, limit - total)
        if isinstance(source, BufReader):
            data = (await source.some())[:want]
            await _write_all(dst, data, "still readable from the source")
            source.consume(len(data))
        else:
            data = await source.read(want)
            await _write_all(dst, data, "lost; copy from a BufReader to keep them")
        if not data:
            break
        total += len(data)
        if progress is not None:
            progress(total)
    await dst.flush()
    return total


async def _write_all(dst: AsyncWrite, data: bytes, fate: str) -> None:
    if not data:
        return
    try:
        await dst.write(data)
    except BaseException as exc:
        exc.add_note(f"copy() had read {len(data)} bytes that were not, or not all, written: they are {fate}")
        raise


async def copy_bidirectional(a: AsyncStream, b: AsyncStream) -> tuple[int, int]:
    """Copy both ways at once, as a proxy does, until both directions have ended; returns the bytes a->b and b->a.

    The end of one direction is passed on with ``write_eof`` and the other goes on; where the target can't close one direction
    alone, both end. A failure in one direction cancels the other and is raised. Neither stream is closed. A cancellation
    point.
    """
    counts = [0, 0]

    async def pump(index: int, src: AsyncStream, dst: AsyncStream) -> None:
        def progress(total: int) -> None:
            counts[index] = total

        await copy(src, dst, progress=progress)
        try:
            await dst.write_eof()
        except Unsupported:
            scope.cancel("one direction has ended, and the target can't close one direction alone")

    try:
        async with Scope(name="copy_bidirectional") as scope:
            scope.spawn(pump, 0, a, b, name="copy a to b")
            scope.spawn(pump, 1, b, a, name="copy b to a")
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
    return counts[0], counts[1]
