"""What ``os``, ``os.path`` and ``shutil`` do with paths, under the same names, each in a worker thread."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from typing import Any, AnyStr

from ..thread import from_thread
from .offload import Batches, mirror

access = mirror(os.access, "Whether this process may use ``path`` in that way.")
chmod = mirror(os.chmod, "Change the permission bits of ``path``.")
getcwd = mirror(os.getcwd, "The current directory.")
link = mirror(os.link, "Make a hard link ``dst`` to ``src``.")
listdir = mirror(os.listdir, "The names in a directory, in no order.")
lstat = mirror(os.lstat, "``stat`` of a link itself.")
makedirs = mirror(os.makedirs, "Make a directory and those above it.")
mkdir = mirror(os.mkdir, "Make a directory.")
readlink = mirror(os.readlink, "What a symbolic link points to.")
remove = mirror(os.remove, "Delete a file.")
removedirs = mirror(os.removedirs, "Delete an empty directory, and those above it as long as they are empty.")
rename = mirror(os.rename, "Rename a file or directory.")
renames = mirror(os.renames, "Rename, making and removing directories as needed.")
replace = mirror(os.replace, "Rename over whatever is there, in one step.")
rmdir = mirror(os.rmdir, "Delete an empty directory.")
stat = mirror(os.stat, "Size, times, owner and kind of a path or descriptor.")
symlink = mirror(os.symlink, "Make a symbolic link ``dst`` that points to ``src``.")
truncate = mirror(os.truncate, "Cut or extend a file to a length in bytes.")
unlink = mirror(os.unlink, "Delete a file.")
utime = mirror(os.utime, "Set the access and modification times.")

exists = mirror(os.path.exists, "Whether there is something at ``path``.")
getmtime = mirror(os.path.getmtime, "When it was last modified, in seconds since 1970.")
getsize = mirror(os.path.getsize, "Its size in bytes.")
isdir = mirror(os.path.isdir, "Whether it is a directory.")
isfile = mirror(os.path.isfile, "Whether it is a regular file.")
islink = mirror(os.path.islink, "Whether it is a symbolic link.")
lexists = mirror(os.path.lexists, "Whether there is something at ``path``, be it a broken link.")
realpath = mirror(os.path.realpath, "The path with its links followed.")
samefile = mirror(os.path.samefile, "Whether two paths lead to the same file.")

copy = mirror(shutil.copy, "Copy a file with its permission bits, into a directory or to a path.")
copy2 = mirror(shutil.copy2, "Copy a file with its metadata.")
copyfile = mirror(shutil.copyfile, "Copy a file's content.")
copymode = mirror(shutil.copymode, "Copy the permission bits.")
copystat = mirror(shutil.copystat, "Copy permission bits and times.")
disk_usage = mirror(shutil.disk_usage, "Total, used and free bytes of a path's file system.")
move = mirror(shutil.move, "Move a file or tree, across file systems too.")
rmtree = mirror(shutil.rmtree, "Delete a whole tree.")
which = mirror(shutil.which, "The path of a command.")


def _copytree(
    src: Any,
    dst: Any,
    symlinks: bool = False,
    ignore: Callable[..., Any] | None = None,
    copy_function: Callable[[str, str], object] = shutil.copy2,
    ignore_dangling_symlinks: bool = False,
    dirs_exist_ok: bool = False,
) -> Any:
    """In the thread. Between two files it looks whether it was cancelled; what was copied until then stays."""

    def copy_one(source: str, target: str) -> object:
        from_thread.check_cancelled()
        return copy_function(source, target)

    return shutil.copytree(src, dst, symlinks, ignore, copy_one, ignore_dangling_symlinks, dirs_exist_ok)


_copytree.__module__, _copytree.__qualname__ = "shutil", "copytree"
copytree = mirror(_copytree, "Copy a whole tree. Cancelled, it stops between two files; what was copied stays.")


def walk(
    top: AnyStr | os.PathLike[AnyStr],
    topdown: bool = True,
    onerror: Callable[[OSError], object] | None = None,
    followlinks: bool = False,
) -> AsyncIterator[tuple[AnyStr, list[AnyStr], list[AnyStr]]]:
    """``async for root, dirs, files in fs.walk(top)``: every directory of a tree, one hop to a thread for each.

    The arguments are ``os.walk``'s; with ``topdown`` the loop may edit ``dirs``. ``onerror`` runs in the worker thread. A
    cancellation point per directory.
    """
    return Batches(lambda: os.walk(top, topdown, onerror, followlinks), _same, size=1)


class DirEntry:
    """One entry of ``fs.scandir``: ``name`` and ``path`` at once; the rest may have to ask the disk."""

    def __init__(self, entry: os.DirEntry[Any]) -> None:
        self._entry = entry
        self.name: Any = entry.name
        self.path: Any = entry.path
        self.is_dir = mirror(entry.is_dir, "Whether it is a directory.")
        self.is_file = mirror(entry.is_file, "Whether it is a regular file.")
        self.is_symlink = mirror(entry.is_symlink, "Whether it is a symbolic link.")
        self.stat = mirror(entry.stat, "Its ``stat``.")

    def inode(self) -> int:
        """The inode number. Does not ask the disk."""
        return self._entry.inode()

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


def scandir(path: Any = ".") -> Batches[Any, DirEntry]:
    """``async for entry in fs.scandir(path)``, or ``async with`` it to leave early: the entries of a directory.

    A cancellation point per entry; a hop to a thread per 64.
    """
    return Batches(lambda: os.scandir(path), DirEntry)


def _same(item: Any) -> Any:
    return item
