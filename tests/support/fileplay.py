"""Random programs over files, to be played on a real folder and on a simulated disk: what they return, raise and leave must be equal."""

from __future__ import annotations

import errno
import functools
import io
import os
import random
import stat
import tempfile

NAMES = ["a", "b", "d", "e", "l"]
LONG = "n" * 256
FLAGS = [
    os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_RDWR | os.O_APPEND, os.O_RDONLY | os.O_DIRECTORY, os.O_RDONLY | os.O_NOFOLLOW,
    os.O_WRONLY | os.O_CREAT | os.O_APPEND, os.O_RDONLY | os.O_CREAT, os.O_TMPFILE | os.O_RDWR, os.O_RDWR | os.O_TRUNC,
    os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW,
]  # fmt: skip


def of(kind):
    """The operation is on one of the open "fds" or "files", where there is one."""

    def decorate(operation):
        @functools.wraps(operation)
        def call(self):
            things = getattr(self, kind)
            return operation(self, self.random.choice(things)) if things else None

        return call

    return decorate


class Player:
    """One sequence of operations, decided by a seed and by nothing that the file system says. Played below the current directory,
    so far down that no ``..`` leads out of it.
    """

    def __init__(self, seed, most_files=4):
        self.random = random.Random(seed)
        self.fds = []
        self.files = []
        self.most = most_files

    def path(self):
        choose = self.random
        parts = [choose.choice(NAMES) for _ in range(choose.choice([1, 1, 1, 2, 2, 3]))]
        if choose.random() < 0.05:
            parts.insert(choose.randrange(len(parts) + 1), choose.choice([".", "..", ""]))
        path = "/".join(parts) or "."
        if path.startswith("/"):
            path = "." + path
        if choose.random() < 0.05:
            path += choose.choice(["/", "//", "/."])
        if choose.random() < 0.01:
            path = choose.choice(["", LONG, "/".join(["d"] * 3000), "a\0b"])
        return path

    def some(self, things):
        return self.random.choice(things) if things else None

    def data(self):
        return self.random.randbytes(self.random.choice([0, 1, 10, 100, 600, 5000]))

    def step(self):
        """One operation: its name, and what came of it."""
        kinds = [name for name in dir(self) if name.startswith("do_")]
        name = self.random.choice(kinds)
        operation = getattr(self, name)
        try:
            return name, operation()
        except OSError as error:
            where = "a descriptor" if isinstance(error.filename, int) else error.filename
            if isinstance(where, str) and where.startswith("/"):  # tempfile's
                where = "a path from the root"
            return name, type(error).__name__, errno.errorcode.get(error.errno), where, error.filename2
        except (ValueError, TypeError, OverflowError) as error:
            return name, type(error).__name__

    def play(self, steps):
        """All of it, and what is left."""
        before = os.umask(0o027)
        deep = "/".join(["deep"] * 12)
        os.makedirs(deep)
        os.chdir(deep)
        try:
            happened = [self.step() for _ in range(steps)]
            happened.append(("left", self.left(".")))
        finally:
            os.umask(before)
            for fd in self.fds:
                os.close(fd)
            for file in self.files:
                file.close()
        return happened

    def left(self, top):
        found = []
        for root, dirs, files in os.walk(top):
            dirs.sort()
            for name in sorted(files):
                path = os.path.join(root, name)
                content = None
                if os.path.isfile(path) and os.access(path, os.R_OK):
                    with open(path, "rb") as file:
                        content = file.read()
                found.append((path, self.facts_of(path), content))
            found.extend((os.path.join(root, name), self.facts_of(os.path.join(root, name))) for name in dirs)
        return found

    def facts_of(self, path):
        try:
            return self.facts(os.lstat(path))
        except PermissionError:
            return "not to be seen"

    @staticmethod
    def facts(found):
        """What of a ``stat`` is the same on each file system, and at each time."""
        size = found.st_size if not stat.S_ISDIR(found.st_mode) else None
        return found.st_mode, found.st_nlink, size, found.st_uid, found.st_gid, found.st_blksize

    # -- paths -----------------------------------------------------------------------------------------------------------

    def do_stat(self):
        return self.facts(os.stat(self.path()))

    def do_lstat(self):
        return self.facts(os.lstat(self.path()))

    def do_exists(self):
        path = self.path()
        return [
            check(path)
            for check in (
                os.path.exists,
                os.path.lexists,
                os.path.isfile,
                os.path.isdir,
                os.path.islink,
                os.path.ismount,
            )
        ]

    def do_realpath(self):
        path = self.path()
        return os.path.relpath(os.path.realpath(path))

    def do_samefile(self):
        return os.path.samefile(self.path(), self.path())

    def do_access(self):
        return [os.access(self.path(), mode) for mode in (os.F_OK, os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.W_OK)]

    def do_mkdir(self):
        os.mkdir(self.path(), self.random.choice([0o777, 0o755, 0o700]))

    def do_mkdir_again(self):
        os.mkdir(self.random.choice(NAMES))

    def do_makedirs(self):
        path, again = self.path(), self.random.random() < 0.5
        if len(path) < 1000:  # it calls itself for each directory above
            os.makedirs(path, exist_ok=again)

    def do_rmdir(self):
        os.rmdir(self.path())

    def do_removedirs(self):
        path = self.path()
        if not path.startswith((".", "/")) and ".." not in path:
            os.rmdir(path)

    def do_unlink(self):
        os.unlink(self.path())

    def do_rename(self):
        os.rename(self.path(), self.path())

    def do_replace(self):
        os.replace(self.path(), self.path())

    def do_link(self):
        os.link(self.path(), self.path())

    def do_symlink(self):
        os.symlink(self.random.choice([*NAMES, "d/a", "../a", "d/", ".", "..", "l"]), self.path())

    def do_readlink(self):
        return os.readlink(self.path())

    def do_listdir(self):
        return sorted(os.listdir(self.path()))

    def do_listdir_bytes(self):
        return sorted(os.listdir(os.fsencode(self.path())))

    def do_scandir(self):
        with os.scandir(self.path()) as entries:
            return [
                (
                    entry.name, entry.path, entry.is_dir(), entry.is_file(), entry.is_symlink(),
                    entry.is_dir(follow_symlinks=False), self.facts(entry.stat(follow_symlinks=False)),
                )
                for entry in sorted(entries, key=lambda entry: entry.name)
            ]  # fmt: skip

    def do_walk(self):
        return sorted((root, sorted(dirs), sorted(files)) for root, dirs, files in os.walk("."))

    def do_chmod(self):
        os.chmod(self.path(), self.random.choice([0o644, 0o600, 0o755, 0o400, 0o000, 0o777]))

    def do_utime(self):
        path, ns = self.path(), (self.random.randrange(10**18), self.random.randrange(10**18))
        os.utime(path, ns=ns)
        return os.stat(path).st_mtime_ns

    def do_utime_seconds(self):
        path = self.path()
        os.utime(path, times=(1.5, 1234567890.123456))
        return os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns, os.path.getmtime(path)

    def do_truncate(self):
        os.truncate(self.path(), self.random.choice([0, 1, 50, 700, 5000, -1]))

    def do_getsize(self):
        path = self.path()
        return os.path.getsize(path) if os.path.isfile(path) else None

    # -- descriptors -----------------------------------------------------------------------------------------------------

    def do_open(self):
        fd = os.open(self.path(), self.random.choice(FLAGS), self.random.choice([0o666, 0o600]))
        if len(self.fds) >= self.most:
            os.close(self.fds.pop(0))
        self.fds.append(fd)

    def do_close(self):
        if self.fds:
            os.close(self.fds.pop(self.random.randrange(len(self.fds))))

    @of("fds")
    def do_read(self, fd):
        return os.read(fd, self.random.choice([0, 1, 100, 10000]))

    @of("fds")
    def do_write(self, fd):
        return os.write(fd, self.data())

    @of("fds")
    def do_pread(self, fd):
        return os.pread(fd, self.random.choice([0, 1, 100, 10000]), self.random.choice([0, 5, 600, -1]))

    @of("fds")
    def do_pwrite(self, fd):
        return os.pwrite(fd, self.data(), self.random.choice([0, 5, 600, 6000, -1]))

    @of("fds")
    def do_preadv(self, fd):
        buffers = [bytearray(7), bytearray(300)]
        return os.preadv(fd, buffers, self.random.choice([0, 9])), buffers

    @of("fds")
    def do_pwritev(self, fd):
        return os.pwritev(fd, [self.data(), self.data()], self.random.choice([0, 9]))

    @of("fds")
    def do_lseek(self, fd):
        offset, whence = self.random.choice([0, 10, 700, -5]), self.random.choice([0, 1, 2])
        # Positions in directories are each file system's own.
        return None if stat.S_ISDIR(os.fstat(fd).st_mode) else os.lseek(fd, offset, whence)

    @of("fds")
    def do_ftruncate(self, fd):
        os.ftruncate(fd, self.random.choice([0, 1, 50, 700, 5000, -1]))

    @of("fds")
    def do_fstat(self, fd):
        return self.facts(os.fstat(fd))

    @of("fds")
    def do_fsync(self, fd):
        os.fsync(fd)
        os.fdatasync(fd)

    @of("fds")
    def do_list_fd(self, fd):
        return sorted(os.listdir(fd))

    @of("fds")
    def do_at(self, fd):
        """Relative to a directory that is open."""
        name, other = self.random.choice(NAMES), self.random.choice(NAMES)
        kinds = [
            lambda: self.facts(os.stat(name, dir_fd=fd, follow_symlinks=False)),
            lambda: os.unlink(name, dir_fd=fd),
            lambda: os.rmdir(name, dir_fd=fd),
            lambda: os.mkdir(name, dir_fd=fd),
            lambda: os.rename(name, other, src_dir_fd=fd, dst_dir_fd=fd),
            lambda: os.symlink(other, name, dir_fd=fd),
            lambda: os.readlink(name, dir_fd=fd),
            lambda: os.close(os.open(name, os.O_CREAT | os.O_RDWR, 0o644, dir_fd=fd)),
        ]
        return self.random.choice(kinds)()

    @of("fds")
    def do_sendfile(self, out):
        source, offset = self.some(self.fds), self.random.choice([0, 5])
        # What a file that is copied into itself holds is nobody's promise.
        return None if os.path.sameopenfile(out, source) else os.sendfile(out, source, offset, 200)

    @of("fds")
    def do_fallocate(self, fd):
        return os.posix_fallocate(fd, self.random.choice([0, 100]), self.random.choice([1, 3000]))

    # -- Python's file objects -------------------------------------------------------------------------------------------

    def do_open_file(self):
        mode = self.random.choice(
            ["r", "w", "a", "x", "r+", "w+", "a+", "rb", "wb", "ab", "xb", "r+b", "w+b", "a+b", "x+b"]
        )
        buffering = self.random.choice([-1, -1, 0 if "b" in mode else -1, 1 if "b" not in mode else 10, 100])
        options = (
            {} if "b" in mode else {"encoding": "latin-1", "newline": self.random.choice([None, "", "\n", "\r\n"])}
        )
        path = self.path()
        file = open(path, mode, buffering, **options)  # noqa: SIM115  # it stays open from one move to the next
        if len(self.files) >= self.most:
            self.files.pop(0).close()
        self.files.append(file)
        raw = file if buffering == 0 else file.raw if "b" in mode else file.buffer.raw
        return (
            repr(file).replace(str(file.fileno()), "N"), file.name, file.mode, raw.mode, raw.closefd, isinstance(raw, io.FileIO),
            type(file).__name__, file.readable(), file.writable(), file.seekable(), file.isatty(), file.tell(),
        )  # fmt: skip

    def do_file_close(self):
        if self.files:
            self.files.pop(self.random.randrange(len(self.files))).close()

    @of("files")
    def do_file_read(self, file):
        return file.read(self.random.choice([-1, 0, 1, 100, 5000]))

    @of("files")
    def do_file_readline(self, file):
        return file.readline()

    @of("files")
    def do_file_readlines(self, file):
        return file.readlines()

    @of("files")
    def do_file_write(self, file):
        data = self.data()
        return file.write(data if "b" in file.mode else data.decode("latin-1"))

    @of("files")
    def do_file_seek(self, file):
        return file.seek(self.random.choice([0, 3, 500]))

    @of("files")
    def do_file_end(self, file):
        return file.seek(0, 2)

    @of("files")
    def do_file_tell(self, file):
        return file.tell()

    @of("files")
    def do_file_flush(self, file):
        return file.flush()

    @of("files")
    def do_file_truncate(self, file):
        return file.truncate(self.random.choice([None, 0, 10, 900]))

    def do_temporary(self):
        with tempfile.NamedTemporaryFile(dir=".", suffix=".tmp") as file, tempfile.TemporaryFile(dir=".") as other:
            data = self.data()
            file.write(data)
            file.flush()
            other.write(data)
            other.seek(0)
            assert os.path.getsize(file.name) == len(data) == len(other.read())
        assert not os.path.exists(file.name)
        with tempfile.TemporaryDirectory(dir=".") as directory:
            os.mkdir(os.path.join(directory, "inner"))
            open(os.path.join(directory, "inner", "file"), "w").close()
        assert not os.path.exists(directory)
