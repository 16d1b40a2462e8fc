"""Files: ``fs.open`` and the objects it gives, which mirror Python's file objects method by method.

What holds for each: one operation at a time (a second task gets ``Busy``, naming the first; but see ``pread``); one hop to a worker thread per
operation, not per system call, and none for what stands in memory already (``now``); an operation that a thread has begun is finished and its result returned even if the task is
cancelled meanwhile (the cancellation comes at the next wait), so neither data nor the position is ever lost.
"""

from __future__ import annotations

import builtins
import io
import os
import sys
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import IO, TYPE_CHECKING, Any, AnyStr, Generic, TypeVar, cast, overload

from .. import thread
from ..io.abc import AsyncRead, AsyncWrite
from ..kernel.current import current_task
from ..kernel.errors import Busy, Closed, user_site
from ..kernel.flow import checkpoint, passes
from ..kernel.hazard import report
from ..kernel.twin import AsyncFileFields, BinaryFileFields, keep, twinned
from .now import MOST, CannotAsk, NotNow, NowFile, now_file, open_now, positional, pread_now, prepared
from .offload import finish

if TYPE_CHECKING:
    from typing import Self

    from _typeshed import FileDescriptorOrPath, OpenBinaryMode, OpenTextMode, ReadableBuffer, WriteableBuffer

    from ..kernel.task import Task

T = TypeVar("T")

# Iterating over a regular file fetches about this many bytes (or characters) of lines per hop.
LINE_BATCH = 65536
# What is tried on the spot, where the file can be asked.
READING = frozenset({"read", "read1", "readinto", "readline", "readlines", "peek", "iteration", "seek", "tell"})


@twinned("read", "readline", "seek", "tell")
class AsyncFile(AsyncFileFields, Generic[AnyStr]):
    """An open file. Made by ``fs.open``; close it with ``async with`` or ``await file.aclose()``.

    Invariants: ``_user`` has the operation that goes on, and its task. ``_beside`` has the positional ones that go on, which disturb
    neither it nor each other; only closing has to find both empty. ``_lines`` (next one last) are lines that iteration has
    fetched and not given out; the sync file stands behind them, and ``_rewind`` takes it back before any other operation.
    ``_asks`` says that ``_now`` can be asked for what is in memory; it never becomes true again.
    """

    def __init__(self, file: IO[AnyStr], *, site: tuple[str, int] | None = None) -> None:
        self._file: Any = file
        self._site = site if site is not None else user_site(sys._getframe(1))
        self._user: tuple[str, Task[Any]] | None = None
        self._beside: list[tuple[str, Task[Any]]] = []
        self._now = now_file(file)
        self._asks = self._now is not None
        self._lines: list[Any] = []
        # How to get back to where the fetched lines begin: a position, and how many were given out since.
        self._lines_start: Any = None
        self._lines_given = 0
        self._batching: bool | None = None

    # -- reading ---------------------------------------------------------------------------------------------------------

    def read(self, size: int | None = -1, /) -> Awaitable[AnyStr]:
        """Up to ``size`` bytes (or characters); all that is left if negative or None. Empty at the end. A cancellation point."""
        return self._do("read", size)

    def readline(self, size: int | None = -1, /) -> Awaitable[AnyStr]:
        """The next line with its end, at most ``size`` bytes or characters of it; empty at the end. A cancellation point."""
        return self._do("readline", -1 if size is None else size)

    def readlines(self, hint: int = -1, /) -> Awaitable[list[AnyStr]]:
        """The lines that are left, or about ``hint`` bytes (characters) of them. A cancellation point."""
        return self._do("readlines", hint)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnyStr:
        if self._lines:
            self._check_open()
            await checkpoint()
        else:
            await self._call("iteration", self._fetch_lines)
            if not self._lines:
                raise StopAsyncIteration
        self._lines_given += 1
        return cast("AnyStr", self._lines.pop())

    def _fetch_lines(self) -> None:
        """In the thread: the next lines of a regular file; of anything else one, because a second may be long in coming."""
        file = self._file
        if self._batching is None:
            self._batching = file.seekable()
        self._lines_given = 0
        self._lines_start = file.tell() if self._batching else None
        lines: list[Any] = []
        size = 0
        while size < LINE_BATCH:
            line = file.readline()
            if not line:
                break
            lines.append(line)
            size += len(line)
            if not self._batching:
                break
        lines.reverse()
        self._lines = lines

    def _rewind(self) -> None:
        """In the thread: go back to where iteration stands, as the user sees it."""
        if not self._lines:
            return
        self._lines.clear()
        self._file.seek(self._lines_start)
        for _ in range(self._lines_given):
            self._file.readline()

    # -- writing -----------------------------------------------------------------------------------------------------------

    def write(self, data: Any, /) -> Awaitable[int]:
        """Write ``data`` (bytes-like, or a string in text mode) and return its length. A cancellation point.

        As with Python's files it may stay in the buffer until ``flush`` or the end. Raises ``TypeError`` for the other kind.
        """
        return self._do("write", data)

    def writelines(self, lines: Iterable[Any], /) -> Awaitable[None]:
        """Write each of ``lines``; no line ends are added. The iterable runs in the worker thread. A cancellation point."""
        return self._do("writelines", lines)

    def flush(self) -> Awaitable[None]:
        """Hand what is buffered to the operating system. A cancellation point."""
        return self._do("flush")

    def fsync(self) -> Awaitable[None]:
        """Flush, and wait until the data is on the disk (``os.fsync``). A cancellation point."""
        return self._call("fsync", self._fsync)

    def _fsync(self) -> None:
        self._rewind()
        self._file.flush()
        os.fsync(self._file.fileno())

    def truncate(self, size: int | None = None, /) -> Awaitable[int]:
        """Cut or extend the file to ``size`` bytes (None: to the current position); returns the size. A cancellation point."""
        return self._do("truncate", size)

    # -- the position ------------------------------------------------------------------------------------------------------

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> Awaitable[int]:
        """Move to ``offset`` from the start, the position or the end (``whence`` 0, 1, 2); returns the new position."""
        return self._do("seek", offset, whence)

    def tell(self) -> Awaitable[int]:
        """The position, also in the middle of an iteration. A cancellation point."""
        return self._do("tell")

    # -- the end -----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Flush and close at once, on this thread (a moment of blocking); ``aclose`` does not block. Harmless when closed.

        Raises ``Busy`` while an operation runs in its thread.
        """
        if not self._file.closed:
            self._check_free("close")
            self._check_alone("close")
            self._file.close()

    async def aclose(self) -> None:
        """Flush and close, in a thread where that may block; harmless when closed. In a cancelled scope too, then raises ``Cancelled``.

        Raises ``Busy`` while another task's operation goes on.
        """
        if self._file.closed:
            await checkpoint()
            return
        self._check_alone("close")
        self._enter("close")
        try:
            if self._asks:  # only read, and local: there is nothing to write that could wait
                self._file.close()
                await checkpoint()
            else:
                await finish(self._file.close)
        finally:
            self._user = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is None or file.closed or self._user is not None or self._beside:
            return
        report(
            "dropped_without_close",
            f"{self!r} was dropped while open; use `async with fs.open(...)`, or `await file.aclose()`",
            self._site,
        )
        file.close()

    # -- what needs no thread ----------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return bool(self._file.closed)

    @property
    def name(self) -> Any:
        """The path or descriptor it was opened with."""
        return self._file.name

    @property
    def mode(self) -> str:
        """The mode it was opened with."""
        return str(self._file.mode)

    @property
    def wrapped(self) -> IO[AnyStr]:
        """The sync file object behind it. Its methods block; don't use it while an operation here is running."""
        return cast("IO[AnyStr]", self._file)

    def fileno(self) -> int:
        """The descriptor. Raises ``OSError`` where there is none."""
        return int(self._file.fileno())

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return bool(self._file.isatty())

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return bool(self._file.readable())

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return bool(self._file.writable())

    def seekable(self) -> bool:
        """Whether ``seek`` works."""
        return bool(self._file.seekable())

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``"fd"``, or ``default``: what streams answer, so that a file can stand where a stream is expected."""
        return self.fileno() if name == "fd" else default

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self._file, 'name', '?')!r}{' closed' if self._file.closed else ''}>"

    # -- how ---------------------------------------------------------------------------------------------------------------

    def _do(self, method: str, *args: Any, ask: bool = True) -> Awaitable[Any]:
        """One method of the sync file, behind whatever iteration has fetched ahead."""

        def call() -> Any:
            self._rewind()
            return getattr(self._file, method)(*args)

        return self._call(method, call, ask)

    async def _call(self, verb: str, fn: Callable[[], T], ask: bool = True) -> T:
        self._enter(verb)
        try:
            # While lines wait that iteration has fetched, ``fn`` begins by going back, which can't be left half-way.
            if ask and self._asks and verb in READING and not self._lines:
                if not passes():
                    await checkpoint()
                assert self._now is not None
                try:
                    return self._at_once(self._now, fn)
                except NotNow:
                    self._asks = self._now.can
            return await thread.run(fn)
        finally:
            self._user = None

    def _at_once(self, raw: NowFile, fn: Callable[[], T]) -> T:
        """Do it here if it need not wait for the disk; else ``NotNow``, and nothing has happened."""
        place = self._file.tell()
        raw.left = MOST
        raw.trying = True
        try:
            return fn()
        except NotNow:
            self._file.seek(place)
            raise
        finally:
            raw.trying = False

    def _enter(self, verb: str) -> None:
        self._check_open()
        self._check_free(verb)
        self._user = verb, current_task()

    def _check_open(self) -> None:
        if self._file.closed:
            raise Closed(f"{self!r}: the file was closed; open it again")

    def _check_free(self, verb: str) -> None:
        if self._user is not None:
            raise self._busy(verb, *self._user)

    def _check_alone(self, verb: str) -> None:
        """Whoever reads at a position of its own needs the descriptor until it has done so."""
        if self._beside:
            raise self._busy(verb, *self._beside[0])

    def _busy(self, verb: str, other: str, task: Task[Any] | None) -> Busy:
        who = f"task {task.name!r}" if task is not None else "another task"
        remedy = (
            "close it when its tasks have ended (put their scope inside `async with fs.open(...)`)"
            if verb == "close"
            else "use one file object per task, or a bateau.sync.Lock around them"
        )
        return Busy(f"{self!r} is busy with a {other} by {who}, and {verb} can't run beside it; {remedy}")


@twinned("peek", "pread", "read1", "readinto")
class BinaryFile(BinaryFileFields, AsyncFile[bytes]):
    """A file opened in binary mode. It can stand where a byte stream is expected (``io.copy``, ``BufReader``...)."""

    def readinto(self, buffer: WriteableBuffer, /) -> Awaitable[int]:
        """Read into ``buffer`` and return how many bytes were put there; 0 at the end. A cancellation point.

        Nothing touches the buffer after the call has returned or raised.
        """
        return self._do("readinto", buffer)

    def read1(self, size: int = -1, /) -> Awaitable[bytes]:
        """Up to ``size`` bytes with at most one read of the file itself. A cancellation point."""
        return self._do("read1", size)

    def peek(self, size: int = 0, /) -> Awaitable[bytes]:
        """Bytes ahead of the position, without moving it; as many as the buffer holds. A cancellation point."""
        return self._do("peek", size)

    def pread(self, size: int, offset: int, /) -> Awaitable[bytes]:
        """Up to ``size`` bytes at ``offset``; the position stays. A cancellation point. POSIX only.

        On a file that is opened for reading alone, or unbuffered, any number of tasks may do this at once, and beside another
        operation; closing it meanwhile raises ``Busy``.
        """
        return self._positional("pread", size, offset)

    def pwrite(self, data: ReadableBuffer, offset: int, /) -> Awaitable[int]:
        """Write ``data`` at ``offset`` past the buffer; the position stays. Returns how much was written. POSIX only.

        A cancellation point. On an unbuffered file any number of tasks may do this at once, as ``pread``.
        """
        return self._positional("pwrite", data, offset)

    async def _positional(self, verb: str, what: Any, offset: int, ask: bool = True) -> Any:
        # Fetched lines would be old ones after a write, and going back for them moves the position.
        if not positional(self._file) or (verb == "pwrite" and self._lines):
            return await self._call(verb, lambda: self._past_the_buffer(verb, what, offset))
        self._check_open()
        if self._user is not None and self._user[0] == "close":
            self._check_free(verb)
        mark = verb, current_task()
        self._beside.append(mark)
        try:
            if ask and self._asks and verb == "pread":
                if not passes():
                    await checkpoint()
                try:
                    return pread_now(self._file.fileno(), what, offset)
                except CannotAsk:
                    self._asks = False
                except NotNow:
                    pass
            return await thread.run(getattr(os, verb), self._file.fileno(), what, offset)
        finally:
            self._beside.remove(mark)

    def _past_the_buffer(self, verb: str, what: Any, offset: int) -> Any:
        """In the thread."""
        self._rewind()
        if self._file.writable():
            self._file.flush()
        return getattr(os, verb)(self._file.fileno(), what, offset)


def _file_call(file: Any, verb: str, *args: Any, ask: bool = True) -> Awaitable[Any]:
    """What the twin leaves to the pure code."""
    call = file._positional if verb == "pread" else file._do
    return cast("Awaitable[Any]", call(verb, *args, ask=ask))


def _file_later(file: Any, verb: str, *args: Any) -> Awaitable[Any]:
    """The same, where the twin has asked, in vain."""
    return _file_call(file, verb, *args, ask=False)


keep(file_call=_file_call, file_later=_file_later)


class TextFile(AsyncFile[str]):
    """A file opened in text mode."""

    @property
    def encoding(self) -> str:
        """The name of its encoding."""
        return str(self._file.encoding)

    @property
    def errors(self) -> str | None:
        """How coding errors are handled."""
        return cast("str | None", self._file.errors)

    @property
    def newlines(self) -> Any:
        """The kinds of line ends met so far: None, a string or a tuple of them."""
        return self._file.newlines

    @property
    def line_buffering(self) -> bool:
        """Whether each line is flushed."""
        return bool(self._file.line_buffering)


AsyncRead.register(BinaryFile)
AsyncWrite.register(BinaryFile)

F_co = TypeVar("F_co", bound="AsyncFile[Any]", covariant=True)


class Opening(Generic[F_co]):
    """What ``fs.open`` gives: ``async with`` it, or ``await`` it and close the file yourself. Nothing is opened before that."""

    def __init__(self, make: Callable[[], Any], site: tuple[str, int], now: Callable[[], Any] | None = None) -> None:
        self._make = make
        self._now = now
        self._site = site
        self._opened: F_co | None = None

    async def _open(self) -> F_co:
        if self._now is not None and passes():
            file = self._now()
            if file is not None:
                return cast("F_co", wrap_file(file, site=self._site))
        # The file is wrapped in the thread: whatever happens to the task, it then has an owner that closes it.
        return await thread.run(lambda: cast("F_co", wrap_file(self._make(), site=self._site)))

    def __await__(self) -> Generator[Any, Any, F_co]:
        return self._open().__await__()

    async def __aenter__(self) -> F_co:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(self, *exc_info: object) -> None:
        opened, self._opened = self._opened, None
        assert opened is not None
        await opened.aclose()


@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenTextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
) -> Opening[TextFile]: ...
@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenBinaryMode,
    buffering: int = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
) -> Opening[BinaryFile]: ...
@overload
def open(
    file: FileDescriptorOrPath,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
) -> Opening[AsyncFile[Any]]: ...
def open(
    file: FileDescriptorOrPath,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
) -> Opening[Any]:
    """Open a file, as Python's ``open`` does: ``async with fs.open(path) as file``, or ``file = await fs.open(path)``.

    The arguments and errors are those of ``open``. A cancellation point; cancelled, nothing stays open.
    """
    simple = mode == "rb" and not isinstance(file, int) and opener is None and closefd
    return Opening(
        lambda: prepared(builtins.open(file, mode, buffering, encoding, errors, newline, closefd, opener), buffering),
        user_site(sys._getframe(1)),
        (lambda: open_now(file, buffering)) if simple and encoding is errors is newline is None else None,
    )


def wrap_file(file: IO[AnyStr], *, site: tuple[str, int] | None = None) -> AsyncFile[AnyStr]:
    """The async form of a sync file object, which it then owns: closing the one closes the other."""
    if not hasattr(file, "read") and not hasattr(file, "write"):
        raise TypeError(f"wrap_file needs an open file object, not {type(file).__name__}; use fs.open for a path")
    inner: Any = getattr(file, "file", file)  # tempfile's wrapper hides what it wraps
    chosen: Any = TextFile if isinstance(inner, io.TextIOBase) else BinaryFile
    return cast("AsyncFile[AnyStr]", chosen(file, site=site or user_site(sys._getframe(1))))
