"""``fs.Path``: ``pathlib.Path`` with its disk-touching methods made async.

It is a pure path of the platform's kind: joining, naming, comparing and hashing are plain sync operations, and equal to
those of ``pathlib``. Whatever touches the disk is awaited, or iterated with ``async for``, and gives ``fs.Path`` back where
``pathlib`` gives ``Path``. Each method is one hop to a worker thread (iterations: one per few entries) and a cancellation point:
cancelled before a thread has begun, nothing happened; later, it is finished first and its result returned.
"""

from __future__ import annotations

import io
import os
import pathlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .. import thread
from ..kernel.errors import user_site
from ..kernel.flow import passes
from .files import AsyncFile, Opening
from .now import OPEN, content_now, open_now, prepared
from .offload import Batches

if TYPE_CHECKING:
    from typing import Self

    from _typeshed import ReadableBuffer, StrPath

    _Base = pathlib.PurePath
else:
    _Base = pathlib.PureWindowsPath if os.name == "nt" else pathlib.PurePosixPath

T = TypeVar("T")

# Python's own, of which ``Path._content_now`` is a short cut.
UNTOUCHED: dict[str, Any] = {name: getattr(pathlib.Path, name) for name in ("open", "read_bytes", "read_text")}


class Path(_Base):
    """See the module's head."""

    __slots__ = ()

    # -- making ------------------------------------------------------------------------------------------------------------

    @classmethod
    async def cwd(cls) -> Self:
        """The current directory."""
        return cls(await thread.run(pathlib.Path.cwd))

    @classmethod
    async def home(cls) -> Self:
        """The user's home directory."""
        return cls(await thread.run(pathlib.Path.home))

    async def absolute(self) -> Self:
        """This path below the current directory; links are not followed."""
        return await self._path(lambda path: path.absolute())

    async def resolve(self, strict: bool = False) -> Self:
        """The absolute path with its links followed. With ``strict``, raises ``FileNotFoundError`` if it leads nowhere."""
        return await self._path(lambda path: path.resolve(strict))

    async def expanduser(self) -> Self:
        """This path with ``~`` and ``~user`` expanded."""
        return await self._path(lambda path: path.expanduser())

    async def readlink(self) -> Self:
        """What the link points to."""
        return await self._path(lambda path: path.readlink())

    # -- asking ------------------------------------------------------------------------------------------------------------

    async def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size, times, owner and kind."""
        return await self._call(lambda path: path.stat(follow_symlinks=follow_symlinks))

    async def lstat(self) -> os.stat_result:
        """``stat`` of the link itself."""
        return await self._call(lambda path: path.lstat())

    async def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is something; with ``follow_symlinks=False`` a broken link counts."""
        return await self._call(lambda path: path.exists() if follow_symlinks else os.path.lexists(path))

    async def is_file(self) -> bool:
        """Whether it is a regular file, or a link to one."""
        return await self._call(lambda path: path.is_file())

    async def is_dir(self) -> bool:
        """Whether it is a directory, or a link to one."""
        return await self._call(lambda path: path.is_dir())

    async def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return await self._call(lambda path: path.is_symlink())

    async def is_mount(self) -> bool:
        """Whether it is a mount point."""
        return await self._call(lambda path: path.is_mount())

    async def is_block_device(self) -> bool:
        """Whether it is a block device."""
        return await self._call(lambda path: path.is_block_device())

    async def is_char_device(self) -> bool:
        """Whether it is a character device."""
        return await self._call(lambda path: path.is_char_device())

    async def is_fifo(self) -> bool:
        """Whether it is a FIFO."""
        return await self._call(lambda path: path.is_fifo())

    async def is_socket(self) -> bool:
        """Whether it is a Unix socket."""
        return await self._call(lambda path: path.is_socket())

    async def samefile(self, other_path: StrPath) -> bool:
        """Whether both lead to the same file."""
        return await self._call(lambda path: path.samefile(os.fspath(other_path)))

    async def owner(self) -> str:
        """The name of the file's owner. POSIX only."""
        return await self._call(lambda path: path.owner())

    async def group(self) -> str:
        """The name of the file's group. POSIX only."""
        return await self._call(lambda path: path.group())

    # -- content -----------------------------------------------------------------------------------------------------------

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Opening[AsyncFile[Any]]:
        """Open the file: ``async with path.open() as file``. See ``fs.open``."""
        path = pathlib.Path(self)
        simple = mode == "rb" and encoding is errors is newline is None and _untouched("open")
        return Opening(
            lambda: prepared(path.open(mode, buffering, encoding, errors, newline), buffering),
            user_site(sys._getframe(1)),
            (lambda: open_now(path, buffering)) if simple else None,
        )

    async def read_bytes(self) -> bytes:
        """The whole content. A small file that stands in memory is read on the spot, without a thread, where Linux can be asked."""
        data = self._content_now("read_bytes")
        return await self._call(lambda path: path.read_bytes()) if data is None else data

    async def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """The whole content as text. As ``read_bytes``."""
        data = self._content_now("read_text")
        if data is None:
            return await self._call(lambda path: path.read_text(encoding, errors))
        return io.TextIOWrapper(io.BytesIO(data), io.text_encoding(encoding), errors).read()

    def _content_now(self, method: str) -> bytes | None:
        """What needs no wait, and may come now; else None, and the hop to a thread is the cancellation point that it would have been."""
        return content_now(self) if _untouched(method) and passes() else None

    async def write_bytes(self, data: ReadableBuffer) -> int:
        """Replace the content; returns how many bytes were written."""
        return await self._call(lambda path: path.write_bytes(data))

    async def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        """Replace the content; returns how many characters were written."""
        return await self._call(lambda path: path.write_text(data, encoding, errors, newline))

    async def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make an empty file, or set the times of the one that is there."""
        await self._call(lambda path: path.touch(mode, exist_ok))

    # -- directories -------------------------------------------------------------------------------------------------------

    async def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory."""
        await self._call(lambda path: path.mkdir(mode, parents, exist_ok))

    async def rmdir(self) -> None:
        """Delete an empty directory."""
        await self._call(lambda path: path.rmdir())

    def iterdir(self) -> Batches[pathlib.Path, Self]:
        """``async for path in directory.iterdir()``: what is in it, in no order."""
        return Batches(lambda: pathlib.Path(self).iterdir(), type(self))

    def glob(self, pattern: str, *, case_sensitive: bool | None = None) -> Batches[pathlib.Path, Self]:
        """``async for`` over what matches ``pattern`` below this path. ``case_sensitive`` needs Python 3.12."""
        options = _options(case_sensitive=case_sensitive)
        return Batches(lambda: pathlib.Path(self).glob(pattern, **options), type(self))

    def rglob(self, pattern: str, *, case_sensitive: bool | None = None) -> Batches[pathlib.Path, Self]:
        """``glob`` in this directory and all below it. ``case_sensitive`` needs Python 3.12."""
        options = _options(case_sensitive=case_sensitive)
        return Batches(lambda: pathlib.Path(self).rglob(pattern, **options), type(self))

    def walk(
        self,
        top_down: bool = True,
        on_error: Callable[[OSError], object] | None = None,
        follow_symlinks: bool = False,
    ) -> AsyncIterator[tuple[Self, list[str], list[str]]]:
        """``async for root, dirs, files in path.walk()``: every directory of the tree. As ``pathlib`` has it since 3.12."""

        def convert(item: tuple[str, list[str], list[str]]) -> tuple[Self, list[str], list[str]]:
            return type(self)(item[0]), item[1], item[2]

        return Batches(lambda: os.walk(str(self), top_down, on_error, follow_symlinks), convert, size=1)

    # -- changing ----------------------------------------------------------------------------------------------------------

    async def rename(self, target: StrPath) -> Self:
        """Rename to ``target``, and give the new path."""
        return await self._path(lambda path: path.rename(target))

    async def replace(self, target: StrPath) -> Self:
        """Rename over whatever ``target`` is, in one step, and give the new path."""
        return await self._path(lambda path: path.replace(target))

    async def unlink(self, missing_ok: bool = False) -> None:
        """Delete the file or link."""
        await self._call(lambda path: path.unlink(missing_ok))

    async def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Change the permission bits."""
        await self._call(lambda path: path.chmod(mode, follow_symlinks=follow_symlinks))

    async def lchmod(self, mode: int) -> None:
        """``chmod`` of the link itself, where the system can."""
        await self._call(lambda path: path.lchmod(mode))

    async def symlink_to(self, target: StrPath, target_is_directory: bool = False) -> None:
        """Make this path a symbolic link to ``target``."""
        await self._call(lambda path: path.symlink_to(target, target_is_directory))

    async def hardlink_to(self, target: StrPath) -> None:
        """Make this path a hard link to ``target``."""
        await self._call(lambda path: path.hardlink_to(target))

    # -- how ---------------------------------------------------------------------------------------------------------------

    async def _call(self, fn: Callable[[pathlib.Path], T]) -> T:
        path = pathlib.Path(self)
        return await thread.run(lambda: fn(path))

    async def _path(self, fn: Callable[[pathlib.Path], pathlib.Path]) -> Self:
        return type(self)(await self._call(fn))


def _untouched(method: str) -> bool:
    """Whether it is Python's own still: who has put another in its place (a file system for tests, say) means this class, too."""
    return io.open is OPEN and getattr(pathlib.Path, method) is UNTOUCHED[method]


def _options(**options: Any) -> dict[str, Any]:
    """Only what was asked for, so that older versions of Python aren't given what they don't know."""
    return {name: value for name, value in options.items() if value is not None}
