"""What every stream must do, as checks that a wrapper's author can run: ``await check_stream(make_pair)``.

Each check gets a fresh pair of connected streams, runs in both directions and has a time limit, so that a stream that hangs
fails like one that lies. All checks are run before the failures are reported, together.
"""

from __future__ import annotations

import inspect
import sys
from array import array
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from ..io.abc import READ, WRITE, AsyncStream
from ..io.guard import Turn
from ..kernel.cancellation import CancelScope, RaisingTimeout
from ..kernel.cleanup import Cleanup
from ..kernel.errors import Broken, Busy, Cancelled, Closed, EndOfStream, Unsupported, WouldBlock
from ..kernel.flow import yield_now
from ..kernel.scope import Scope
from ..kernel.task import Task

Pair: TypeAlias = tuple[AsyncStream, AsyncStream]
MakePair: TypeAlias = Callable[[], "Pair | Awaitable[Pair]"]
Check: TypeAlias = Callable[[AsyncStream, AsyncStream, int], Awaitable[None]]

_CHECKS: list[tuple[str, Check, str | None]] = []


def _check(needs: str | None = None) -> Callable[[Check], Check]:
    """Register a check; its docstring is the rule it holds. ``needs`` names the option that switches it."""

    def register(fn: Check) -> Check:
        _CHECKS.append((getattr(fn, "__name__", "?").strip("_"), fn, needs))
        return fn

    return register


async def check_stream(
    make_pair: MakePair,
    *,
    half_close: bool = True,
    readiness: bool = True,
    busy: bool = True,
    bound: int = 16 * 1024 * 1024,
    seconds: float = 20.0,
    only: str | None = None,
) -> list[str]:
    """Run every check on pairs of connected streams; returns the names of those that ran.

    ``make_pair()`` gives (or, awaited, gives) two connected streams with whatever handshake they need behind them; the kit closes
    them. ``half_close=False`` for streams without ``write_eof``, ``readiness=False`` for those without ``try_read``,
    ``try_write`` and ``ready``, ``busy=False`` for those that let several tasks in by design. ``bound`` (bytes) is how much may be
    on its way, at most, when nobody reads. ``seconds`` is each check's limit. ``only`` runs the checks whose name contains it.
    Raises ``AssertionError`` with every rule that was broken. A cancellation point.
    """
    enabled = {"half_close": half_close, "readiness": readiness, "busy": busy}
    failures: list[tuple[str, BaseException]] = []
    ran: list[str] = []
    for name, check, needs in _CHECKS:
        if (needs is not None and not enabled[needs]) or (only is not None and only not in name):
            continue
        ran.append(name)
        for turned in (False, True):
            label = f"{name} ({'second to first' if turned else 'first to second'}): {inspect.getdoc(check)}"
            error = await _run(make_pair, check, turned, bound, seconds)
            if error is not None:
                failures.append((label, error))
    if failures:
        text = "\n".join(f"  * {label}\n      {type(error).__name__}: {error}" for label, error in failures)
        raise AssertionError(f"{len(failures)} checks of the stream failed:\n{text}") from failures[0][1]
    return ran


async def _run(make_pair: MakePair, check: Check, turned: bool, bound: int, seconds: float) -> Exception | None:
    made = make_pair()
    first, second = await made if inspect.isawaitable(made) else made
    if turned:
        first, second = second, first
    try:
        with RaisingTimeout(seconds=seconds):
            await check(first, second, bound)
    except Exception as error:
        return error
    finally:
        first.close()
        second.close()
    return None


# -- tools of the checks -------------------------------------------------------------------------------------------------


_BLOCK = 1 << 16


def _pattern(size: int, seed: int = 0) -> bytes:
    """Bytes in which every four tell their own position, so that a lost or doubled one shows."""
    count = (size + 3) // 4
    if count < _BLOCK:
        return array("I", range(seed, seed + count)).tobytes()[:size]
    # Megabytes are made a block at a time: an int object for each four bytes takes minutes where allocations are checked.
    lower, made = array("H", range(_BLOCK)), array("H", bytes(4 * _BLOCK))
    first, second = (0, 1) if sys.byteorder == "little" else (1, 0)
    made[first::2] = lower
    blocks: list[bytes] = []
    for upper in range(seed // _BLOCK, (seed + count) // _BLOCK + 1):
        made[second::2] = array("H", [upper]) * _BLOCK
        blocks.append(made.tobytes())
    begin = 4 * (seed % _BLOCK)
    return b"".join(blocks)[begin : begin + size]


async def _send(stream: AsyncStream, data: bytes) -> None:
    await stream.write(data)
    await stream.flush()


async def _exactly(stream: AsyncStream, n: int) -> bytes:
    parts: list[bytes] = []
    while n:
        part = await stream.read(min(n, 65536))
        if not part:
            raise EndOfStream(f"the stream ended with {n} bytes missing", partial=b"".join(parts))
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


async def _rest(stream: AsyncStream) -> bytes:
    """Everything up to the end, be it clean or not."""
    parts: list[bytes] = []
    try:
        while part := await stream.read():
            parts.append(part)
    except Broken:
        pass
    return b"".join(parts)


def _same(got: bytes, expected: bytes) -> None:
    """Compare, without pouring megabytes into a message."""
    if got == expected:
        return
    at = next((i for i, (x, y) in enumerate(zip(got, expected, strict=False)) if x != y), min(len(got), len(expected)))
    raise AssertionError(
        f"got {len(got)} bytes, expected {len(expected)}; they differ from byte {at} on: "
        f"{got[at : at + 16]!r} instead of {expected[at : at + 16]!r}"
    )


async def _settle(progress: Callable[[], Any]) -> None:
    """Wait until ``progress()`` has not changed for a while: what could go on has gone on."""
    quiet = 0
    last = progress()
    while quiet < 3:
        await _pause(0.003)
        quiet = quiet + 1 if progress() == last else 0
        last = progress()


async def _pause(seconds: float) -> None:
    turn = Turn("a pause of the stream checks")
    turn.try_acquire()
    with CancelScope(seconds=seconds):
        await turn.acquire()  # it never comes


async def _expect(error: type[BaseException], waiting: Awaitable[Any], what: str) -> Any:
    try:
        result = await waiting
    except error as exc:
        return exc
    raise AssertionError(f"{what}: it returned {result!r} and raised no {error.__name__}")


async def _stuck_writer(scope: Scope, stream: AsyncStream, bound: int) -> Task[None]:
    """A task in the middle of a write that nobody reads."""

    async def write() -> None:
        await _send(stream, _pattern(bound))

    task = scope.spawn(write, name="stuck writer")
    await _settle(lambda: repr(task.waiting))
    if task.done:
        raise AssertionError(f"{bound} bytes were written though nobody reads: nothing slows the writer down")
    return task


# -- the checks ----------------------------------------------------------------------------------------------------------


@_check()
async def _arrives(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """What is written arrives, in order and whole, whatever bytes-like type it was given as."""
    await _send(a, b"one ")
    await a.write(bytearray(b"two "))
    await a.write(memoryview(b"three"))
    await a.write(b"")
    await a.flush()
    _same(await _exactly(b, 13), b"one two three")
    await _send(b, b"back")
    _same(await _exactly(a, 4), b"back")


@_check()
async def _sizes(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """``read(n)`` gives at least one byte and at most n; ``read(0)`` gives none; a negative n is a ``ValueError``."""
    await _send(a, b"abcdef")
    first = await b.read(2)
    assert 1 <= len(first) <= 2, f"read(2) gave {first!r}"
    assert await b.read(0) == b"", "read(0) gave something"
    _same(first + await _exactly(b, 6 - len(first)), b"abcdef")

    async def negative() -> bytes:
        return await b.read(-1)

    await _expect(ValueError, negative(), "read(-1)")


@_check()
async def _types(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """Text is refused with ``TypeError``, and does no harm."""

    async def text() -> None:
        await a.write("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the mistake that is tried

    await _expect(TypeError, text(), "write('text')")
    await _send(a, b"fine")
    _same(await _exactly(b, 4), b"fine")


@_check()
async def _into(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """``readinto`` fills the front of the buffer, says how much, and leaves the rest alone."""
    await _send(a, b"hello")
    buffer = bytearray(b"." * 8)
    got = 0
    while got < 5:
        n = await b.readinto(memoryview(buffer)[got:])
        assert n, "readinto returned 0 before the end"
        got += n
    assert got == 5, f"readinto gave {got} bytes of 5"
    _same(bytes(buffer), b"hello...")


@_check()
async def _end(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    r"""After ``aclose`` the other side reads what was sent, then ``b""``, again and again."""
    await _send(a, b"last words")

    async def leave() -> None:
        await a.aclose()

    async with Scope() as scope:
        scope.spawn(leave)
        _same(await _exactly(b, 10), b"last words")
        for _ in range(3):
            assert await b.read() == b"", "no clean end"
    assert a.closed, "aclose left it open"


@_check("half_close")
async def _half_close(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """After ``write_eof`` the other side sees the end and can still answer; writing raises ``Closed``."""
    await a.write(b"question")  # not flushed: write_eof does that
    await a.write_eof()
    _same(await _exactly(b, 8), b"question")
    assert await b.read() == b"", "write_eof did not end the stream"
    data = _pattern(100_000)

    async def answer() -> None:
        await _send(b, data)
        await b.write_eof()

    async with Scope() as scope:
        scope.spawn(answer)
        _same(await _rest(a), data)
    await a.write_eof()

    async def more() -> None:
        await _send(a, b"more")

    await _expect(Closed, more(), "write after write_eof")


@_check()
async def _big_both_ways(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """Megabytes go both ways at once, each direction with a reader and a writer of its own."""
    there, back = _pattern(1_500_000), _pattern(1_200_000, 7)

    async def send(stream: AsyncStream, data: bytes) -> None:
        for at in range(0, len(data), 100_000):
            await stream.write(data[at : at + 100_000])
        await stream.flush()

    async with Scope() as scope:
        scope.spawn(send, a, there)
        scope.spawn(send, b, back)
        got_there = scope.spawn(_exactly, b, len(there))
        got_back = scope.spawn(_exactly, a, len(back))
        _same(await got_there, there)
        _same(await got_back, back)


@_check()
async def _backpressure(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """A writer whose reader does not read is slowed down, and nothing is lost when the reader comes back."""
    size = 50_000
    written = 0
    stop: list[bool] = []

    async def write() -> None:
        nonlocal written
        while not stop and written <= bound:
            await _send(a, _pattern(size, written))
            written += size

    async with Scope() as scope:
        task = scope.spawn(write)
        await _settle(lambda: written)
        assert not task.done, f"{written} bytes went out though nobody reads: the bound is {bound}"
        stop.append(True)
        for got in range(0, written + size, size):  # it is in the middle of one more
            _same(await _exactly(b, size), _pattern(size, got))
        await task


@_check()
async def _cancelled_read(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """A cancelled read loses no byte, also when the data comes in the same step as the cancellation."""
    got: list[bytes] = []

    async def read() -> None:
        got.append(await b.read(3))

    async with Scope() as scope:
        for round_ in range(8):
            task = scope.spawn(read)
            for _ in range(round_ % 4 + 1):
                await yield_now()
            if round_ % 2:
                await _send(a, b"xyz%d" % round_)
            task.cancel()
            while not task.done:
                await yield_now()
    await _send(a, b"end")
    expected = b"xyz1xyz3xyz5xyz7end"
    so_far = b"".join(got)
    _same(so_far + await _exactly(b, len(expected) - len(so_far)), expected)


@_check()
async def _cancelled_write(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """A cancelled write either tore nothing, or broke the stream and says in ``Broken.sent`` how much went out."""
    async with Scope() as scope:
        task = await _stuck_writer(scope, a, bound)
        task.cancel()
    rest = b"after"

    async def again() -> Broken | None:
        try:
            await _send(a, rest)
        except Broken as exc:
            return exc
        finally:
            a.close()
        return None

    async with Scope() as scope:
        second = scope.spawn(again)
        got = await _rest(b)
        failure = await second
        if failure is None:
            assert got.endswith(rest) or _pattern(bound).startswith(got), "bytes were lost in the middle"
            got = got.removesuffix(rest)
        else:
            assert failure.sent is not None, "Broken does not say how much was sent"
            assert failure.sent <= bound, f"Broken says {failure.sent} bytes of {bound} were sent"
        _same(got, _pattern(bound)[: len(got)])


@_check("busy")
async def _two_readers(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """A second reader gets ``Busy``, which names both tasks; the first one is not disturbed."""
    async with Scope() as scope:
        task = scope.spawn(b.read, 5, name="first reader")
        await _settle(lambda: repr(task.waiting))

        async def second() -> bytes:
            return await b.read(5)

        other = scope.spawn(_expect, Busy, second(), "a second read", name="second reader")
        error = await other
        for name in ("first reader", "second reader"):
            assert name in str(error), f"the message does not name {name!r}: {error}"
        await _send(a, b"hello")
        first = await task
        _same(first + await _exactly(b, 5 - len(first)), b"hello")


@_check("busy")
async def _two_writers(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """A second writer gets ``Busy``, which names both tasks; the first one is not disturbed."""
    async with Scope() as scope:
        await _stuck_writer(scope, a, bound)

        async def second() -> None:
            await _send(a, b"in between")

        other = scope.spawn(_expect, Busy, second(), "a second write", name="second writer")
        error = await other
        for name in ("stuck writer", "second writer"):
            assert name in str(error), f"the message does not name {name!r}: {error}"
        _same(await _exactly(b, bound), _pattern(bound))


@_check()
async def _closed(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """``close`` may be called again; every later call raises ``Closed``."""
    states = [a.closed]
    a.close()
    a.close()
    await a.aclose()
    states.append(a.closed)
    assert states == [False, True], f"closed says {states} before and after close()"

    async def read() -> None:
        await a.read()

    async def write() -> None:
        await _send(a, b"x")

    await _expect(Closed, read(), "read after close")
    await _expect(Closed, write(), "write after close")


@_check()
async def _close_wakes(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """Tasks that wait on the stream get ``Closed`` when it is closed."""

    async def read() -> Any:
        return await _expect(Closed, a.read(), "a read that was waiting when the stream was closed")

    async def write() -> Any:
        return await _expect(Closed, _send(a, _pattern(bound)), "a write that was waiting when the stream was closed")

    async with Scope() as scope:
        tasks = [scope.spawn(read), scope.spawn(write)]
        await _settle(lambda: [repr(task.waiting) for task in tasks])
        a.close()


@_check()
async def _peer_gone(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """Writing to a side that has been closed raises ``Broken`` before ``bound`` bytes have gone nowhere."""
    b.close()

    async def write() -> None:
        for _ in range(0, bound, 65536):
            await _send(a, bytes(65536))

    await _expect(Broken, write(), "writing to a closed peer")


@_check("readiness")
async def _readiness(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """``try_read`` and ``try_write`` never wait, and ``ready`` waits until they need not."""
    try:
        early = b.try_read(10)
    except WouldBlock:
        pass
    else:
        raise AssertionError(f"try_read gave {early!r} before anything was sent")
    sent = a.try_write(b"hello")
    assert 1 <= sent <= 5, f"try_write says {sent} of 5 bytes"
    await a.flush()
    _same(await _try_exactly(b, sent), b"hello"[:sent])

    async with Scope() as scope:
        task = scope.spawn(_ready, b, READ)
        await _settle(lambda: repr(task.waiting))
        await _send(a, b"more")
        assert await task == READ, "ready(READ) returned something else"
    _same(await _try_exactly(b, 4), b"more")
    assert await a.ready(WRITE) == WRITE, "ready(WRITE) returned something else"
    assert await a.ready(READ | WRITE) & WRITE, "ready(READ | WRITE) does not see that it is writable"


async def _ready(stream: AsyncStream, directions: int) -> int:
    return await stream.ready(directions)


async def _try_exactly(stream: AsyncStream, n: int) -> bytes:
    got = b""
    while len(got) < n:
        assert await stream.ready(READ) == READ, "ready(READ) returned something else"
        try:
            part = stream.try_read(n - len(got))
        except WouldBlock:
            continue
        assert part, "try_read says the stream has ended"
        got += part
    return got


@_check("readiness")
async def _try_backpressure(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """``try_write`` raises ``WouldBlock`` when there is no room; what it took arrives, and there is room again."""
    sent = 0
    data = _pattern(bound + 65536)
    while sent <= bound:
        try:
            sent += a.try_write(data[sent : sent + 65536])
        except WouldBlock:
            break
    assert sent <= bound, f"try_write took {sent} bytes though nobody reads"

    async def flush() -> None:
        await a.flush()

    async with Scope() as scope:
        scope.spawn(flush)
        _same(await _exactly(b, sent), data[:sent])
    with RaisingTimeout(seconds=5):
        assert await a.ready(WRITE) == WRITE, "ready(WRITE) returned something else"
    assert a.try_write(b"x") == 1, "no room after everything was read"


@_check()
async def _cancelled_aclose(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """``aclose`` in a cancelled scope closes at once, then raises ``Cancelled``."""
    with CancelScope() as scope:
        scope.cancel("the check")
        await _expect(Cancelled, a.aclose(), "aclose in a cancelled scope")
    assert a.closed, "it was left open"


@_check()
async def _cleanup(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """``async with stream`` closes it, also when the block fails, and within a cleanup budget in a cancelled scope."""
    try:
        async with a:
            raise KeyError("the block's own error")
    except KeyError:
        pass
    assert a.closed, "it was left open"
    with CancelScope() as scope:
        scope.cancel("the check")
        async with Cleanup(5.0):
            await b.aclose()
    assert b.closed, "it was left open"


@_check("readiness")
async def _supported(a: AsyncStream, b: AsyncStream, bound: int) -> None:
    """Readiness is offered in full or not at all (then say ``readiness=False``)."""
    try:
        a.try_read(1)
    except WouldBlock:
        pass
    except Unsupported as exc:
        raise AssertionError(f"try_read: {exc}") from exc
