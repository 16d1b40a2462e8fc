"""Standard input, output and error as byte streams, and an async ``print``.

The descriptors are shared with the parent process, the terminal and ``sys.stdin``, so their mode is left as it is: switching
them to non-blocking would switch everybody's. Instead each call waits until the descriptor is ready and then makes one
system call, no larger than what readiness promises. Regular files are always "ready" though a disk may be slow: they are
read and written on a worker thread.
"""

from __future__ import annotations

import builtins
import os
import select
import stat
import sys
from typing import IO, Any

from ..kernel.current import current_host
from ..kernel.errors import Broken, Closed, WouldBlock
from ..kernel.flow import checkpoint
from . import guard
from .abc import DEFAULT_SIZE, READ, WRITE, AsyncRead, AsyncWrite, ReadableBuffer
from .buffered import BufReader
from .fd import FdWatch
from .halves import WriteHalf, sender_of
from .text import TextWriter

# What a pipe that polls as writable takes without blocking.
_PIPE_BUF = getattr(select, "PIPE_BUF", 512)

# Who read stdin last. What it has read ahead and not handed out is for the next run's, which goes on where this one stopped.
_last_stdin: BufReader | None = None

_RUN_VAR = "bateau.io.stdio"


class _Descriptor:
    """What both directions share: an inherited descriptor that is watched, not owned."""

    def __init__(self, fd: int, name: str, verb: str) -> None:
        self.fd = fd
        self._name = name
        self._watch = FdWatch(fd, label=name)
        self._threaded = stat.S_ISREG(os.fstat(fd).st_mode)
        self._slot = guard.Slot(self, verb)

    def close(self) -> None:
        """Stop using the descriptor here. It stays open: the process inherited it, and others use it."""
        self._watch.close()

    @property
    def closed(self) -> bool:
        """Whether this side was closed."""
        return self._watch.closed

    def _check_open(self) -> None:
        if self._watch.closed:
            raise guard.closed(self._name)

    def _polls(self, event: int) -> bool:
        poller = select.poll()
        poller.register(self.fd, event)
        return bool(poller.poll(0))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``"fd"``, and ``"pipe"`` under asyncio's name for the same."""
        return self.fd if name in ("fd", "pipe") else default

    def describe(self) -> str:
        """For messages: its name."""
        return self._name

    def __repr__(self) -> str:
        return f"<{self._name} fd {self.fd}>"


class DescriptorReader(_Descriptor, AsyncRead):
    """An inherited, blocking descriptor for reading; ``stdin()`` has one inside."""

    def __init__(self, fd: int, name: str) -> None:
        super().__init__(fd, name, "read")

    async def read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        guard.check_size(n)
        with self._slot:
            self._check_open()
            if self._threaded:
                from ..thread import run

                return await run(os.read, self.fd, n)
            await self._watch.readable()
            return os.read(self.fd, n)

    def try_read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        guard.check_size(n)
        self._slot.check()
        self._check_open()
        if not self._polls(select.POLLIN):
            raise WouldBlock(f"nothing to read from {self._name} yet; await ready(READ), then try again")
        return os.read(self.fd, n)

    async def ready(self, directions: int = READ, /) -> int:
        with self._slot:
            self._check_open()
            await self._watch.readable()
            return READ


class DescriptorWriter(_Descriptor, AsyncWrite):
    """An inherited, blocking descriptor for writing; ``stdout()`` and ``stderr()`` have one inside."""

    def __init__(self, fd: int, name: str) -> None:
        super().__init__(fd, name, "write")
        self._torn: int | None = None

    async def write(self, data: ReadableBuffer, /) -> None:
        with memoryview(data) as given, given.cast("B") as view, self._slot:
            self._check_writable()
            sent = 0
            try:
                while sent < len(view):
                    await self._watch.writable()
                    sent += self._send(view[sent:]) if not self._threaded else await self._send_on_thread(view[sent:])
            except Broken as error:
                raise Broken(str(error), sent=sent) from error
            except BaseException:
                self._torn = sent or None
                raise

    async def _send_on_thread(self, data: memoryview) -> int:
        from ..thread import run

        return await run(os.write, self.fd, data)

    def _send(self, data: memoryview) -> int:
        try:
            return os.write(self.fd, data[:_PIPE_BUF])
        except BlockingIOError:  # somebody has made it non-blocking
            return 0
        except BrokenPipeError as error:
            raise Broken(f"nobody reads what is written to {self._name} any more", sent=0) from error

    def _check_writable(self) -> None:
        self._check_open()
        if self._torn is not None:
            raise Broken(f"a write to {self._name} was cancelled after {self._torn} bytes", sent=self._torn)

    def try_write(self, data: ReadableBuffer, /) -> int:
        self._slot.check()
        self._check_writable()
        with memoryview(data) as given, given.cast("B") as view:
            if not len(view):
                return 0
            sent = self._send(view) if self._polls(select.POLLOUT) else 0
            if not sent:
                raise WouldBlock(f"no room in {self._name} yet; await ready(WRITE), then try again")
            return sent

    async def ready(self, directions: int = WRITE, /) -> int:
        with self._slot:
            self._check_open()
            await self._watch.writable()
            return WRITE


class _Streams:
    """The standard streams of one run: made once, so that all its tasks share their turns and their buffer."""

    def __init__(self) -> None:
        self.input: BufReader | None = None
        self.outputs: dict[int, WriteHalf] = {}


def _streams() -> _Streams:
    run_vars = current_host().run_vars
    found: _Streams | None = run_vars.get(_RUN_VAR)
    if found is None:
        found = run_vars[_RUN_VAR] = _Streams()
    return found


def stdin() -> BufReader:
    """Standard input, buffered: ``async for line in bateau.io.stdin()``. One per run; don't mix it with ``input()``.

    What was read ahead is kept for the next run in the same process. Closing it leaves the descriptor open. Raises ``Closed`` in
    a program that was started without one.
    """
    global _last_stdin
    _check_given(0, "stdin", sys.__stdin__)
    streams = _streams()
    if streams.input is None or streams.input.closed:
        reader = BufReader(DescriptorReader(0, "stdin"))
        if _last_stdin is not None:
            reader.adopt(_last_stdin)
        streams.input = _last_stdin = reader
    return streams.input


def stdout() -> WriteHalf:
    """Standard output as bytes. Many tasks may write: each write goes out whole, first come first served.

    Nothing is buffered here. Text goes through ``bateau.io.print``. Closing it leaves the descriptor open.
    """
    return _output(1, "stdout")


def stderr() -> WriteHalf:
    """Standard error as bytes; see ``stdout``."""
    return _output(2, "stderr")


def _check_given(fd: int, name: str, given: IO[str] | None) -> None:
    """Python's own object is None if the descriptor was closed when it started: the number may be anybody's file by now."""
    if given is None:
        raise Closed(
            f"this program was started with its {name} closed (descriptor {fd}); start it with `/dev/null` there"
        )


def _output(fd: int, name: str) -> WriteHalf:
    _check_given(fd, name, sys.__stdout__ if fd == 1 else sys.__stderr__)
    outputs = _streams().outputs
    sender = outputs.get(fd)
    if sender is None:
        sender = outputs[fd] = sender_of(DescriptorWriter(fd, name))
    return sender.clone()


async def print(
    *values: object,
    sep: str | None = " ",
    end: str | None = "\n",
    file: AsyncWrite | TextWriter | IO[str] | None = None,
    flush: bool = False,
) -> None:
    """``print`` that waits, without holding up the others, while the terminal or pipe is full.

    Arguments are those of Python's ``print``. ``file`` may be an ``AsyncWrite`` (which gets UTF-8), a ``TextWriter``, or an object
    with a sync ``write``; by default it is ``sys.stdout``, also where that was replaced. Values printed by several tasks don't mix
    within a call. A cancellation point: cancelled before the first byte, nothing is printed; later, the rest comes out before
    what is printed next.
    """
    text = (" " if sep is None else sep).join(map(str, values)) + ("\n" if end is None else end)
    if isinstance(file, AsyncWrite):
        await file.write(text.encode())
        if flush:
            await file.flush()
    elif isinstance(file, TextWriter):
        await file.write(text)
        if flush:
            await file.flush()
    else:
        await _print_sync(text, sys.stdout if file is None else file, flush)


async def _print_sync(text: str, file: IO[str] | None, flush: bool) -> None:
    """To a file of Python's: by descriptor where it is the process's own stdout or stderr."""
    fd = 1 if file is sys.__stdout__ else 2 if file is sys.__stderr__ else None
    if file is None:  # no console at all: as in Python's print
        await checkpoint()
    elif fd is None or not _is_fd(file, fd):
        await checkpoint()
        builtins.print(text, end="", file=file, flush=flush)
    else:
        file.flush()  # what was printed before comes first
        sender = stdout() if fd == 1 else stderr()
        try:
            encoding, errors = getattr(file, "encoding", None), getattr(file, "errors", None)
            await sender.write(text.encode(encoding or "utf-8", errors or "strict"))
        finally:
            sender.close()


def _is_fd(file: IO[str], fd: int) -> bool:
    try:
        return file.fileno() == fd
    except (OSError, ValueError):
        return False
