"""Temporary files and directories: ``tempfile``'s names, deleted in a thread, also when the task is cancelled."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Generator
from typing import Any

from .. import thread
from ..kernel.errors import user_site
from .files import AsyncFile, Opening
from .offload import finish, mirror

mkstemp = mirror(tempfile.mkstemp, "Make a temporary file; gives its open descriptor and path. The caller deletes it.")
mkdtemp = mirror(tempfile.mkdtemp, "Make a temporary directory and give its path. The caller deletes it.")
gettempdir = mirror(tempfile.gettempdir, "The directory for temporary files.")


def TemporaryFile(  # noqa: N802  # tempfile's name
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | None = None,
    prefix: str | None = None,
    dir: Any = None,
    *,
    errors: str | None = None,
) -> Opening[AsyncFile[Any]]:
    """A file without a name, gone when it is closed: ``async with fs.TemporaryFile() as file``. See ``fs.open``."""
    site = user_site(sys._getframe(1))
    return Opening(
        lambda: tempfile.TemporaryFile(mode, buffering, encoding, newline, suffix, prefix, dir, errors=errors), site
    )


def NamedTemporaryFile(  # noqa: N802  # tempfile's name
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | None = None,
    prefix: str | None = None,
    dir: Any = None,
    delete: bool = True,
    *,
    errors: str | None = None,
) -> Opening[AsyncFile[Any]]:
    """A file with a ``name``, deleted when it is closed (unless ``delete=False``). See ``fs.open``."""
    site = user_site(sys._getframe(1))
    return Opening(
        lambda: tempfile.NamedTemporaryFile(
            mode, buffering, encoding, newline, suffix, prefix, dir, delete, errors=errors
        ),
        site,
    )


def SpooledTemporaryFile(  # noqa: N802  # tempfile's name
    max_size: int = 0,
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | None = None,
    prefix: str | None = None,
    dir: Any = None,
    *,
    errors: str | None = None,
) -> Opening[AsyncFile[Any]]:
    """A file that is kept in memory up to ``max_size`` bytes, and on the disk beyond. See ``fs.open``."""
    site = user_site(sys._getframe(1))
    spooled: Any = tempfile.SpooledTemporaryFile
    return Opening(
        lambda: spooled(max_size, mode, buffering, encoding, newline, suffix, prefix, dir, errors=errors),
        site,
    )


class TemporaryDirectory:
    """``async with fs.TemporaryDirectory() as path``: a directory that is deleted, with all in it, when the block is left.

    Deleting is finished also in a cancelled scope. ``await``ing it gives the object, with ``name`` and ``cleanup()``.
    """

    def __init__(
        self,
        suffix: str | None = None,
        prefix: str | None = None,
        dir: Any = None,
        ignore_cleanup_errors: bool = False,
    ) -> None:
        self._make = lambda: tempfile.TemporaryDirectory(suffix, prefix, dir, ignore_cleanup_errors)
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    @property
    def name(self) -> str:
        """Its path. Raises ``RuntimeError`` before it was made."""
        return self._made().name

    async def cleanup(self) -> None:
        """Delete it with all that is in it. In a cancelled scope too, then raises ``Cancelled``."""
        await finish(self._made().cleanup)

    def _made(self) -> tempfile.TemporaryDirectory[str]:
        if self._directory is None:
            raise RuntimeError("the directory was not made yet: `async with` or `await` the TemporaryDirectory first")
        return self._directory

    async def _open(self) -> TemporaryDirectory:
        if self._directory is None:
            self._directory = await thread.run(self._make)
        return self

    def __await__(self) -> Generator[Any, Any, TemporaryDirectory]:
        return self._open().__await__()

    async def __aenter__(self) -> str:
        return (await self._open()).name

    async def __aexit__(self, *exc_info: object) -> None:
        await self.cleanup()
