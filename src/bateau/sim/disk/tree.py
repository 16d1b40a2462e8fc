"""The names on a simulated disk: how a path is followed, what changes names, and which changes survive a power cut.

The model of names: each change (create, link, unlink, rename, mkdir, rmdir, symlink) is *pending* until one of the directories it
touches is synced; syncing a file says nothing about its name, as POSIX has it. At a power cut each pending change is there or not,
whole (a rename never loses both names), and only if the earlier ones that it rests on are there: those of the same names, and for
moved directories all. With ``journal`` it is as ext4 and XFS do in practice: changes survive in order, and any sync commits them all.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from .inode import MOST_PENDING, Directory, File, Inode, Link, Special

if TYPE_CHECKING:
    from .disk import Disk

# What to do with a symbolic link at the end of a path: follow it; only if a slash comes after it; never.
FOLLOW, LAST, NEVER = 0, 1, 2

MOST_LINKS = 40
LONGEST_NAME = 255
LONGEST_PATH = 4096


def fail(number: int) -> NoReturn:
    """Raise the ``OSError`` of that number. Whoever knows the path adds it."""
    raise OSError(number, os.strerror(number))


class NameChange:
    """One pending change: the entries it sets (a node, or None for a name that is gone)."""

    __slots__ = ("barrier", "entries", "text")

    def __init__(self, text: str, entries: tuple[tuple[Directory, str, Inode | None], ...], barrier: bool) -> None:
        self.text = text
        self.entries = entries
        # It moves a directory: it rests on everything before it.
        self.barrier = barrier

    def keys(self) -> list[tuple[int, str]]:
        """Which names it touches."""
        return [(directory.number, name) for directory, name, _ in self.entries]

    def apply(self) -> None:
        """It is on the drive."""
        for directory, name, node in self.entries:
            if node is None:
                directory.safe.pop(name, None)
            else:
                directory.safe[name] = node


class Tree:
    """The names of one disk.

    Invariant: the root's ``safe`` tree with all of ``pending`` applied is its ``entries`` tree.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.root = Directory(disk, 0o755, None)
        self.root.nlink = 1
        self.pending: list[NameChange] = []

    # -- following a path --------------------------------------------------------------------------------------------------

    def locate(self, start: Directory, path: str, links: int = FOLLOW) -> tuple[Directory, str, Inode | None]:
        """The directory that a path leads into, the last name, and what is there. The last name may be "" (the root), "." or ".."."""
        if not path:
            fail(errno.ENOENT)
        if len(path) > LONGEST_PATH // 4 and len(os.fsencode(path)) >= LONGEST_PATH:
            fail(errno.ENAMETOOLONG)
        rest = path.split("/")
        here = self.root if path[0] == "/" else start
        slash = rest[-1] == ""  # then it must be a directory
        while len(rest) > 1 and rest[-1] == "":
            rest.pop()
        rest.reverse()
        followed = 0
        checked = self.disk.uid != 0
        while True:
            name = rest.pop()
            if checked and not here.allows(1):
                fail(errno.EACCES)
            node = here.entries.get(name)
            if node is None:
                if name == "" or name == ".":
                    node = here
                elif name == "..":
                    node = here.parent
                elif rest or links != NEVER:
                    check_length(name)
                    if rest:
                        fail(errno.ENOENT)
            if rest:
                if type(node) is Directory:
                    here = node
                    continue
                if not isinstance(node, Link):
                    fail(errno.ENOTDIR)
            elif not isinstance(node, Link) or links == NEVER or (links == LAST and not slash):
                if slash and links != NEVER and node is not None and not isinstance(node, Directory):
                    fail(errno.ENOTDIR)
                return here, name, node
            followed += 1
            if followed > MOST_LINKS:
                fail(errno.ELOOP)
            target = node.target.split("/")
            if target[0] == "":
                here = self.root
            while len(target) > 1 and target[-1] == "":
                target.pop()
                slash = slash or not rest
            rest.extend(reversed(target))

    def find(self, start: Directory, path: str, links: int = FOLLOW) -> Inode:
        """What a path leads to. Raises ``OSError``."""
        node = self.locate(start, path, links)[2]
        if node is None:
            fail(errno.ENOENT)
        return node

    def last(self, start: Directory, path: str) -> tuple[Directory, str, Inode | None]:
        """What ``locate`` gives for a name that is to be made or deleted: a link there is not followed."""
        found = self.locate(start, path, NEVER)
        check_length(found[1])
        return found

    def path_of(self, directory: Directory) -> str:
        """Where a directory is. Raises ``OSError`` (ENOENT) where it was removed."""
        names: list[str] = []
        while directory is not self.root:
            parent = directory.parent
            name = next((name for name, node in parent.entries.items() if node is directory), None)
            if name is None:
                fail(errno.ENOENT)
            names.append(name)
            directory = parent
        return "/" + "/".join(reversed(names))

    # -- changing names ----------------------------------------------------------------------------------------------------

    def enter(self, directory: Directory, name: str, node: Inode, text: str) -> None:
        """Give ``node`` a name that was free."""
        self._may_change(directory)
        if isinstance(node, Directory):
            self._take_space(node)
        directory.entries[name] = node
        node.nlink += 1
        directory.written()
        self._note(NameChange(text, ((directory, name, node),), False))

    def make(self, start: Directory, path: str, build: Callable[[Directory], Inode], text: str) -> Inode:
        """Make a new inode under a name that must be free. Raises ``OSError`` (EEXIST)."""
        directory, name, node = self.last(start, path)
        if node is not None:
            fail(errno.EEXIST)
        self._may_change(directory)
        made = build(directory)
        if path[-1] == "/" and not isinstance(made, Directory):
            fail(errno.ENOENT)
        self.enter(directory, name, made, f"{text} {path}")
        return made

    def mkdir(self, start: Directory, path: str, mode: int) -> None:
        """Make a directory. Raises ``OSError``, as all these do with Linux's number for it."""
        self.make(start, path, lambda parent: Directory(self.disk, mode, parent), "mkdir")

    def symlink(self, start: Directory, target: str, path: str) -> None:
        """Make a symbolic link ``path`` to ``target``, which is only text."""
        if not target:
            fail(errno.ENOENT)
        self.make(start, path, lambda _: Link(self.disk, target), "symlink")

    def mknod(self, start: Directory, path: str, mode: int, kind: str) -> Inode:
        """A name for a device or a Unix socket. Raises ``OSError`` (EEXIST)."""
        return self.make(start, path, lambda _: Special(self.disk, mode, kind), f"make {kind}")

    def link(
        self, start: Directory, source: str, target_start: Directory, target: str, *, follow: bool = False
    ) -> None:
        """Give what is at ``source`` another name."""
        node = self.find(start, source, FOLLOW if follow else LAST)
        directory, name, found = self.last(target_start, target)
        if found is not None:
            fail(errno.EEXIST)
        if target[-1] == "/":
            fail(errno.ENOENT)
        if isinstance(node, Directory):
            fail(errno.EPERM)
        self.enter(directory, name, node, f"link {source} to {target}")
        node.changed()

    def unlink(self, start: Directory, path: str) -> None:
        """Take away a name of anything but a directory."""
        directory, name, node = self.last(start, path)
        if node is None:
            fail(errno.ENOENT)
        if isinstance(node, Directory):
            fail(errno.EISDIR)
        if path[-1] == "/":
            fail(errno.ENOTDIR)
        self._drop(directory, name, node, f"unlink {path}")

    def rmdir(self, start: Directory, path: str) -> None:
        """Take away an empty directory."""
        directory, name, node = self.last(start, path)
        if name == "" or node is self.root:
            fail(errno.EBUSY)
        if name == ".":
            fail(errno.EINVAL)
        if name == "..":
            fail(errno.ENOTEMPTY)
        if node is None:
            fail(errno.ENOENT)
        if not isinstance(node, Directory):
            fail(errno.ENOTDIR)
        if node.entries:
            fail(errno.ENOTEMPTY)
        self._drop(directory, name, node, f"rmdir {path}")

    def rename(self, start: Directory, source: str, target_start: Directory, target: str) -> None:
        """Move a name, over whatever has the new name already, in one step."""
        old, old_name, node = self.locate(start, source, NEVER)
        new, new_name, victim = self.locate(target_start, target, NEVER)
        if old_name in {"", ".", ".."} or new_name in {"", ".", ".."}:
            fail(errno.EBUSY)
        check_length(old_name)
        if node is None:
            fail(errno.ENOENT)
        check_length(new_name)
        moves_directory = isinstance(node, Directory)
        if not moves_directory and (source[-1] == "/" or target[-1] == "/"):
            fail(errno.ENOTDIR)
        self._check_move(node, new, victim, old)
        if node is victim:
            return
        self._may_change(old)
        self._may_change(new)
        if isinstance(node, Directory) and new is not old and not node.allows(2):  # its ".." changes
            fail(errno.EACCES)
        if victim is not None:
            self._gone(victim)
        del old.entries[old_name]
        new.entries[new_name] = node
        if isinstance(node, Directory):
            node.parent = new
        old.written()
        new.written()
        node.changed()
        entries = ((old, old_name, None), (new, new_name, node))
        self._note(NameChange(f"rename {source} to {target}", entries, moves_directory))

    def _check_move(self, node: Inode, new: Directory, victim: Inode | None, old: Directory) -> None:
        if isinstance(node, Directory) and node.contains(new):
            fail(errno.EINVAL)
        if isinstance(victim, Directory) and victim.contains(old):
            fail(errno.ENOTEMPTY)
        if victim is None or victim is node:
            return
        if isinstance(node, Directory):
            if not isinstance(victim, Directory):
                fail(errno.ENOTDIR)
            if victim.entries:
                fail(errno.ENOTEMPTY)
        elif isinstance(victim, Directory):
            fail(errno.EISDIR)

    def _drop(self, directory: Directory, name: str, node: Inode, text: str) -> None:
        self._may_change(directory)
        del directory.entries[name]
        self._gone(node)
        directory.written()
        self._note(NameChange(text, ((directory, name, None),), False))

    def _note(self, change: NameChange) -> None:
        self.pending.append(change)
        if len(self.pending) > MOST_PENDING:
            for old in self.pending[: MOST_PENDING // 2]:
                old.apply()
            del self.pending[: MOST_PENDING // 2]

    def _gone(self, node: Inode) -> None:
        node.nlink -= 1
        node.changed()
        self.free(node)

    def free(self, node: Inode) -> None:
        """Give back the space of what has neither names nor open files."""
        if node.nlink <= 0 and node.opened <= 0:
            self.disk.used -= node.used()

    def _may_change(self, directory: Directory) -> None:
        if not directory.nlink:  # it was removed, and somebody stands in it
            fail(errno.ENOENT)
        if not directory.allows(3):
            fail(errno.EACCES)

    def _take_space(self, node: Inode) -> None:
        disk = self.disk
        if disk.used + node.used() > disk.capacity:
            fail(errno.ENOSPC)
        disk.used += node.used()

    # -- durability --------------------------------------------------------------------------------------------------------

    def sync(self, directory: Directory | None = None, name: str | None = None) -> None:
        """Every pending change, or those that touch ``directory`` (one name in it) and what they rest on, is on the drive."""

        def is_wanted(change: NameChange) -> bool:
            return any(entry[0] is directory and name in {None, entry[1]} for entry in change.entries)

        wanted = self.pending if directory is None else self._resting(is_wanted)
        for change in wanted:
            change.apply()
        if directory is None:
            self.pending.clear()
        elif wanted:
            done = set(map(id, wanted))
            self.pending = [change for change in self.pending if id(change) not in done]

    def _resting(self, asked: Callable[[NameChange], bool]) -> list[NameChange]:
        """The pending changes that are asked for, with all those that they rest on; in order."""
        keys: set[tuple[int, str]] = set()
        everything = False
        found: list[NameChange] = []
        for change in reversed(self.pending):
            own = change.keys()
            if everything or asked(change) or not keys.isdisjoint(own):
                keys.update(own)
                everything = everything or change.barrier
                found.append(change)
        found.reverse()
        return found

    def crash(self, lost: Callable[[NameChange], bool], journal: bool) -> None:
        """The power is cut: pending changes are there or not."""
        gone: set[tuple[int, str]] = set()
        for change in self.pending:
            # Asked in any case, so that one answer does not shift the meaning of the next.
            if lost(change) or not gone.isdisjoint(change.keys()) or ((journal or change.barrier) and gone):
                gone.update(change.keys())
            else:
                change.apply()
        self.pending.clear()

    def walk(self, *, safe: bool = False) -> list[tuple[str, Inode]]:
        """Every path and what is there, from the root down, in the order of the paths."""
        found: list[tuple[str, Inode]] = [("/", self.root)]
        seen = {self.root.number}
        stack: list[tuple[str, Directory]] = [("/", self.root)]
        while stack:
            above, directory = stack.pop()
            for name, node in (directory.safe if safe else directory.entries).items():
                found.append((above + name, node))
                if isinstance(node, Directory) and node.number not in seen:
                    seen.add(node.number)
                    stack.append((f"{above}{name}/", node))
        found.sort(key=_path)
        return found

    def recount(self) -> None:
        """After a power cut: what is there is what is on the drive. Counts names and space anew."""
        reached = self.walk(safe=True)
        for _, node in reached:
            node.nlink = node.opened = 0
            node.locks = None
        self.root.nlink = 1
        self.disk.used = 0
        for _, node in reached:
            if isinstance(node, Directory):
                node.entries = dict(node.safe)
                for child in node.entries.values():
                    child.nlink += 1
                    if isinstance(child, Directory):
                        child.parent = node
        counted: set[int] = set()
        for _, node in reached:
            if node.number not in counted:
                counted.add(node.number)
                self.disk.used += node.used()


def check_length(name: str) -> None:
    """Raise ``OSError`` (ENAMETOOLONG) for a name that no directory can hold."""
    if len(name) > LONGEST_NAME // 4 and len(os.fsencode(name)) > LONGEST_NAME:
        fail(errno.ENAMETOOLONG)


def _path(item: tuple[str, Inode]) -> str:
    return item[0]


def regular(node: Inode) -> File:
    """The regular file that it must be. Raises ``OSError`` (EISDIR, EINVAL)."""
    if isinstance(node, Directory):
        fail(errno.EISDIR)
    if not isinstance(node, File):
        fail(errno.EINVAL)
    return node
