"""Unmodified programs on simulated disks: the standard library's, with the same results as in a real folder; and ``bateau.fs``'s."""

# ruff: noqa: SIM115  # how files are opened and left is the subject

from __future__ import annotations

import bz2
import configparser
import csv
import filecmp
import fileinput
import glob
import gzip
import importlib
import io
import json
import linecache
import logging
import logging.handlers
import lzma
import os
import pathlib
import pickle
import shelve
import shutil
import sys
import tarfile
import tempfile
import textwrap
import zipfile

import pytest

import bateau
from bateau import fs, sim

# -- what is written to the real machine -------------------------------------------------------------------------------

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
    "os.utime", "os.setxattr", "os.removexattr", "sqlite3.connect", "mmap.__new__", "fcntl.flock", "fcntl.lockf",
}  # fmt: skip
touched = None


def _is_bytecode(path):
    """What Python keeps of the modules that it imports for real: beside them, or under ``PYTHONPYCACHEPREFIX``."""
    if isinstance(path, int):  # a file object over what is open already (its opening was seen)
        return True
    return ".pyc" in str(path) or "__pycache__" in str(path) or "/.pytest_cache/" in str(path)


def audit(event, args):
    if touched is None:
        return
    if event == "open":
        path, _, flags = args
        if flags & WRITES and not _is_bytecode(path):
            touched.append((event, args))
    elif event in CHANGES and not _is_bytecode(args[0]) and args[0] not in {-1, ":memory:"}:
        touched.append((event, args))


sys.addaudithook(audit)  # for ever, says Python; it looks only while ``watched`` runs


def watched(fn):
    """Run it and assert that nothing of the real machine was changed."""
    global touched
    touched = []
    try:
        return fn()
    finally:
        found, touched = touched, None
        assert found == []


def on_disk(program, **options):
    """What a program gives on a simulated host, which must not touch the real machine."""
    results = []

    def start():
        os.mkdir("/home/play")
        os.chdir("/home/play")
        results.append(program())

    def scenario(world):
        process = world.host("machine").start(start)
        while process.is_alive():
            world.block("the program", world.now + 1)

    watched(lambda: sim.run(scenario, **options))
    return results[0]


# -- programs of the standard library ----------------------------------------------------------------------------------


def read(path):
    return pathlib.Path(path).read_text(encoding="utf-8")


def paths():
    top = pathlib.Path("top")
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "one.txt").write_text("eins\nzwei\n", encoding="utf-8")
    (top / "a" / "b" / "two.bin").write_bytes(b"\x00\x01")
    (top / "link").symlink_to("a")
    (top / "a" / "three.txt").touch(exist_ok=False)
    (top / "a" / "one.txt").rename(top / "a" / "uno.txt")
    with pytest.raises(FileExistsError):
        (top / "a").mkdir()
    with pytest.raises(FileNotFoundError):
        (top / "none").read_text()
    (top / "a" / "three.txt").unlink()
    return (
        sorted(map(str, top.rglob("*"))), sorted(map(str, top.glob("*/*.txt"))), (top / "link" / "uno.txt").read_text(),
        (top / "link").is_symlink(), (top / "link").readlink(), top.exists(), top.is_dir(), (top / "a").samefile(top / "link"),
        (top / "link" / "b").resolve().relative_to(pathlib.Path.cwd().resolve()), (top / "a" / "uno.txt").stat().st_size,
        sorted(path.name for path in top.iterdir()), pathlib.Path.cwd().name, (top / "a").owner() == (top / "a").owner(),
    )  # fmt: skip


def trees():
    os.makedirs("source/inner/deep")
    for number, name in enumerate(("source/a", "source/inner/b", "source/inner/deep/c")):
        with open(name, "w") as file:
            file.write(name * (number + 1) * 1000)
    os.symlink("a", "source/link")
    os.chmod("source/a", 0o640)
    os.utime("source/a", (1e9, 1e9))
    shutil.copytree("source", "copy", symlinks=True)
    shutil.copy2("source/a", "a2")
    shutil.move("copy/inner", "moved")
    shutil.copyfile("source/inner/b", "b2")
    usage = shutil.disk_usage(".")
    assert usage.total >= usage.free
    found = sorted((root, sorted(dirs), sorted(files)) for root, dirs, files in os.walk("."))
    for *where, fd in os.fwalk("source"):
        found.append((*where[:1], sorted(where[1]), sorted(where[2]), os.fstat(fd).st_nlink))
    found.sort()
    kept = os.stat("a2").st_mode, os.path.getmtime("a2"), os.readlink("copy/link"), read("b2")
    shutil.rmtree("copy")
    shutil.rmtree("moved")
    assert filecmp.cmp("source/a", "a2", shallow=False)
    assert not filecmp.dircmp("source", "source").diff_files
    archive = shutil.make_archive("all", "zip", "source")
    shutil.unpack_archive(archive, "again")
    return found, kept, sorted(os.listdir()), sorted(glob.glob("**/*", recursive=True)), shutil.which("a2", path=".")


def temporary():
    with tempfile.TemporaryDirectory() as directory:
        inner = os.path.join(directory, "inner")
        os.mkdir(inner)
        with tempfile.NamedTemporaryFile("w+", dir=inner, suffix=".txt") as named:
            named.write("text")
            named.flush()
            first = read(named.name), os.path.basename(named.name).endswith(".txt")
        second = os.listdir(inner)
        fd, path = tempfile.mkstemp(dir=inner)
        os.write(fd, b"bytes")
        os.close(fd)
        third = read(path), os.stat(path).st_mode
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789")
        file.seek(3)
        fourth = file.read(4), os.fstat(file.fileno()).st_nlink
    with tempfile.SpooledTemporaryFile(max_size=10) as file:
        file.write(b"x" * 100)
        file.seek(0)
        fifth = len(file.read()), isinstance(file.fileno(), int)
    dropped = tempfile.NamedTemporaryFile(delete=True)
    name = dropped.name
    dropped.close()
    return os.path.exists(directory), first, second, third, fourth, fifth, os.path.exists(name)


def documents():
    with open("data.json", "w") as file:
        json.dump({"ä": [1, 2.5, None]}, file)
    with open("data.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["a", "b,c"], ["d\ne", 'f"g']])
    with open("data.pickle", "wb") as file:
        pickle.dump({"key": {1, 2}}, file)
    config = configparser.ConfigParser()
    config["section"] = {"key": "value"}
    with open("data.ini", "w") as file:
        config.write(file)
    again = configparser.ConfigParser()
    again.read("data.ini")
    with open("data.json") as one, open("data.csv", newline="") as two, open("data.pickle", "rb") as three:
        return (
            json.load(one),
            list(csv.reader(two)),
            pickle.load(three),
            again["section"]["key"],
            os.path.getsize("data.csv"),
        )


def archives():
    content = bytes(range(256)) * 500
    found = []
    for opener, name in ((gzip.open, "a.gz"), (bz2.open, "a.bz2"), (lzma.open, "a.xz")):
        with opener(name, "wb") as file:
            file.write(content)
        with opener(name, "rb") as file:
            file.seek(1000)
            found.append(file.read(10))
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("inner/name", content)
        archive.write("a.gz", "b.gz")
    with zipfile.ZipFile("a.zip", "a") as archive:
        archive.writestr("more", b"x")
    with zipfile.ZipFile("a.zip") as archive:
        assert archive.testzip() is None
        found.append(archive.namelist())
        archive.extractall("out")
    with tarfile.open("a.tar.gz", "w:gz") as archive:
        archive.add("out")
    with tarfile.open("a.tar.gz") as archive:
        found.append(sorted(archive.getnames()))
        archive.extractall("untarred", filter="data")
    with open("untarred/out/inner/name", "rb") as file:
        assert file.read() == content
    return found, zipfile.is_zipfile("a.zip"), tarfile.is_tarfile("a.zip")


def logs():
    handler = logging.handlers.RotatingFileHandler("app.log", maxBytes=200, backupCount=2)
    logger = logging.Logger("of the program")  # noqa: LOG001  # no other program's
    logger.addHandler(handler)
    for number in range(20):
        logger.warning("message number %d", number)
    handler.close()
    plain = logging.FileHandler("plain.log", delay=True)
    logger.handlers = [plain]
    logger.error("only this")
    plain.close()
    return {name: read(name) for name in sorted(os.listdir())}


def lines():
    with open("text", "w", newline="") as file:
        file.write("one\r\ntwo\nthree\rfour")
    found = []
    for newline in (None, "", "\n"):
        with open("text", newline=newline) as file:
            found.append(list(file))
    with fileinput.input("text", inplace=True) as changing:
        for line in changing:
            print(line.upper(), end="")
    found.append(read("text"))
    with open("text", "r+") as file:
        file.seek(4)
        file.write("XX")
        file.seek(0)
        found.append(file.read())
        position = file.tell()
        file.truncate(3)
        found.append((position, os.path.getsize("text")))
    with io.open("text", "ab", buffering=0) as raw:  # noqa: UP020
        raw.write(b"!")
        found.append((type(raw).__name__, raw.tell()))
    with io.FileIO("text", "r+") as raw:
        found.append((isinstance(raw, io.FileIO), raw.readall(), raw.mode))
    with os.fdopen(os.open("text", os.O_RDONLY)) as file:
        found.append((file.read(), file.name == file.fileno()))
    with open("made by opener", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        found.append(os.fstat(file.fileno()).st_mode)
    found.append(linecache.getline(os.path.abspath("text"), 1))
    linecache.clearcache()
    return found


def keys():
    with shelve.Shelf(importlib.import_module("dbm.dumb").open("shelf", "c")) as shelf:
        shelf["a"] = [1, 2]
        shelf["b"] = {"c": 3}
    with shelve.Shelf(importlib.import_module("dbm.dumb").open("shelf", "r")) as shelf:
        return dict(shelf), sorted(os.listdir())


PROGRAMS = [paths, trees, temporary, documents, archives, logs, lines, keys]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
@pytest.mark.parametrize("faults", [None, sim.Faults(short_read=0.5)], ids=["fine", "short reads"])
def test_the_standard_library(tmp_path, monkeypatch, program, faults):
    (tmp_path / "play").mkdir()
    monkeypatch.chdir(tmp_path / "play")
    mask = os.umask(0o022)
    try:
        expected = program()
    finally:
        os.umask(mask)
    before = sorted(tmp_path.rglob("*"))
    # Short writes are dealt with by Python's buffers, short reads by those who read on.
    assert on_disk(program, faults=faults, strategy="fifo") == expected
    assert sorted(tmp_path.rglob("*")) == before


# -- imports and the rest of the real machine --------------------------------------------------------------------------


def test_modules_are_imported_in_a_world_as_ever(tmp_path, monkeypatch):
    (tmp_path / "imported_in_a_world.py").write_text(
        "import os\nwith open(os.path.dirname(__file__) + '/data.txt') as file: DATA = file.read()\n"
    )
    (tmp_path / "data.txt").write_text("read on the real machine")
    monkeypatch.syspath_prepend(tmp_path)

    def program():
        module = importlib.import_module("imported_in_a_world")
        there = os.path.dirname(module.__file__)
        with pytest.raises(OSError, match="Read-only file system"):
            open(os.path.join(there, "new.txt"), "w")
        with pytest.raises(OSError, match="Read-only file system"):
            os.unlink(os.path.join(there, "data.txt"))
        with pytest.raises(OSError, match="Read-only file system"):
            os.mkdir(os.path.join(there, "directory"))
        with pytest.raises(OSError, match="Read-only file system"):
            open(os.path.join(there, "data.txt"), "r+")
        status = os.stat(module.__file__)
        return module.DATA, status.st_size, sorted(os.listdir(there)), pathlib.Path(there, "data.txt").read_text()

    before = sorted(os.listdir(tmp_path))
    data, size, names, again = on_disk(program)
    assert data == again == "read on the real machine"
    assert size == (tmp_path / "imported_in_a_world.py").stat().st_size
    assert {"data.txt", "imported_in_a_world.py"} <= set(names)
    assert set(os.listdir(tmp_path)) - {"__pycache__"} == set(before) - {"__pycache__"}


def test_what_the_disk_has_hides_the_real_thing(tmp_path, monkeypatch):
    (tmp_path / "data.txt").write_text("real")
    monkeypatch.syspath_prepend(tmp_path)

    def program():
        seen = (tmp_path / "data.txt").read_text()
        os.chdir(tmp_path)  # it becomes a directory of the disk
        pathlib.Path("data.txt").write_text("simulated")
        return seen, (tmp_path / "data.txt").read_text(), os.getcwd() == str(tmp_path)

    assert on_disk(program) == ("real", "simulated", True)
    assert (tmp_path / "data.txt").read_text() == "real"


def test_the_rest_of_the_real_machine_is_not_to_be_seen(tmp_path):
    (tmp_path / "secret").write_text("real")

    def program():
        with pytest.raises(FileNotFoundError):
            open(tmp_path / "secret")
        return os.path.exists(tmp_path), os.path.exists("/proc/self/stat"), sorted(os.listdir("/"))

    assert on_disk(program) == (False, False, ["dev", "home", "tmp"])


def test_tracebacks_certificates_and_time_zones_are_there():
    def program():
        import ssl
        import traceback
        import zoneinfo

        try:
            raise ValueError("shown")
        except ValueError:
            text = traceback.format_exc()
        context = ssl.create_default_context()
        return 'raise ValueError("shown")' in text, context.check_hostname, str(zoneinfo.ZoneInfo("Europe/Berlin"))

    assert on_disk(program) == (True, True, "Europe/Berlin")


def test_devices_are_there():
    def program():
        with open("/dev/null", "w") as null:
            null.write("gone")
        with open("/dev/urandom", "rb", buffering=0) as random:
            some = random.read(16)
        with pytest.raises(OSError, match="No space left"), open("/dev/full", "w", buffering=1) as full:
            full.write("line\n")
        return read("/dev/null"), len(some), os.path.exists("/dev/tty")

    assert on_disk(program) == ("", 16, False)


def test_what_is_not_simulated_says_what_to_do():
    def program():
        import mmap
        import sqlite3

        with open("file", "w+b") as file:
            file.write(b"x" * 100)
            file.flush()
            with pytest.raises(sim.NotSimulated, match="read and write it"):
                mmap.mmap(file.fileno(), 100)
        with pytest.raises(sim.NotSimulated, match="real files"):
            sqlite3.connect("data.db")
        connection = sqlite3.connect(":memory:")
        connection.execute("create table t (a)")
        connection.close()
        with pytest.raises(sim.NotSimulated, match="pipe"):
            os.mkfifo("fifo")
        with mmap.mmap(-1, 10) as memory:
            assert isinstance(memory, mmap.mmap)
        return sorted(os.listdir())

    assert on_disk(program) == ["file"]


def test_functions_of_os_still_say_what_they_can():
    def program():
        return (
            os.stat in os.supports_follow_symlinks, os.open in os.supports_dir_fd, {os.unlink, os.rmdir} <= os.supports_dir_fd,
            os.scandir in os.supports_fd, os.getcwd in os.supports_dir_fd,
        )  # fmt: skip

    assert on_disk(program) == program() == (True, True, True, True, False)


def test_home_and_temporary_places_are_the_hosts_own(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def program():
        said = os.path.expanduser("~/x"), str(pathlib.Path.home()), tempfile.gettempdir()
        monkeypatch.setenv("HOME", "/elsewhere")
        return *said, os.path.expanduser("~")

    assert on_disk(program) == ("/home/x", "/home", "/tmp", "/elsewhere")


# -- bateau.fs ---------------------------------------------------------------------------------------------------------


def run_async(program, **options):
    async def scenario(world):
        return await world.host("machine").start(program)

    return watched(lambda: sim.run(scenario, **options))


def test_bateau_fs_reads_and_writes_simulated_files():
    async def program():
        path = fs.Path("/home/data/file.txt")
        await path.parent.mkdir(parents=True)
        async with fs.open(path, "w") as file:
            await file.write("one\ntwo\nthree\n")
            await file.fsync()
        async with fs.open(path) as file:
            lines = [line async for line in file]
        async with fs.open(path, "r+b") as file:
            await file.pwrite(b"TWO", 4)
            middle = await file.pread(3, 4)
            await file.seek(0)
            whole = await file.read()
        await fs.copy(path, "/home/copy.txt")
        await fs.rename("/home/copy.txt", "/home/moved.txt")
        names = sorted([entry.name async for entry in fs.scandir("/home")])
        walked = [(root, sorted(files)) async for root, _, files in fs.walk("/home")]
        async with fs.TemporaryDirectory() as directory:
            assert await fs.exists(directory)
        async with fs.NamedTemporaryFile("w") as file:
            await file.write("x")
        return (
            lines, middle, whole, names, walked, await fs.exists(directory), await fs.exists(file.name), (await path.stat()).st_size,
            (await fs.disk_usage("/")).free > 0, [str(found) async for found in fs.Path("/home").rglob("*.txt")],
        )  # fmt: skip

    lines, middle, whole, names, walked, *rest = run_async(program)
    assert lines == ["one\n", "two\n", "three\n"]
    assert (middle, whole) == (b"TWO", b"one\nTWO\nthree\n")
    assert names == ["data", "moved.txt"]
    assert sorted(walked) == [("/home", ["moved.txt"]), ("/home/data", ["file.txt"])]
    assert rest[:4] == [False, False, 14, True]
    assert sorted(rest[4]) == ["/home/data/file.txt", "/home/moved.txt"]


def test_every_function_of_bateau_fs_acts_on_the_simulated_disk():
    async def program():
        await fs.makedirs("/d/e")
        await fs.mkdir("/d/f")
        path = "/d/file"
        async with fs.open(path, "wb") as file:
            await file.write(b"12345")
        await fs.symlink("file", "/d/link")
        await fs.link(path, "/d/hard")
        await fs.chmod(path, 0o600)
        await fs.truncate(path, 3)
        await fs.utime(path, (1, 2))
        await fs.copytree("/d", "/copy", symlinks=True)
        await fs.move("/copy", "/moved")
        await fs.replace("/moved/hard", "/moved/file")
        await fs.copyfile(path, "/d/c1")
        await fs.copy2(path, "/d/c2")
        await fs.copymode(path, "/d/c1")
        await fs.copystat(path, "/d/c1")
        await fs.renames("/d/f", "/g/h/f")
        facts = [
            await fs.access(path, os.R_OK), (await fs.stat("/d/link")).st_size, (await fs.lstat("/d/link")).st_size, await fs.getmtime(path),
            await fs.getsize(path), await fs.isdir("/d"), await fs.isfile(path), await fs.islink("/d/link"), await fs.lexists("/d/no"),
            await fs.readlink("/d/link"), await fs.realpath("/d/link"), await fs.samefile(path, "/d/hard"), sorted(await fs.listdir("/d")),
            await fs.getcwd(), await fs.gettempdir(), await fs.which("no such command"),
        ]  # fmt: skip
        await fs.unlink("/d/hard")
        await fs.remove("/d/c1")
        await fs.rmdir("/d/e")
        await fs.removedirs("/g/h/f")
        await fs.rmtree("/moved")
        fd, name = await fs.mkstemp()
        os.close(fd)
        directory = await fs.mkdtemp()
        return (
            facts,
            sorted(await fs.listdir("/d")),
            sorted(await fs.listdir("/")),
            name.startswith("/tmp/"),
            directory[:5],
        )

    facts, left, top, *made = run_async(program)
    assert facts == [
        True, 3, 4, 2.0, 3, True, True, True, False, "file", "/d/file", True, ["c1", "c2", "e", "file", "hard", "link"],
        "/home", "/tmp", None,
    ]  # fmt: skip
    assert left == ["c2", "file", "link"]
    assert top == ["d", "dev", "home", "tmp"]
    assert made == [True, "/tmp/"]


def test_two_tasks_of_a_program_race_for_a_file_and_the_race_is_found():
    async def take(name, holders):
        if not await fs.exists("/lock"):
            async with fs.open("/lock", "w") as file:
                await file.write(name)
            holders.append(name)

    async def program():
        holders = []
        async with bateau.scope() as scope:
            scope.spawn(take, "one", holders)
            scope.spawn(take, "two", holders)
        assert len(holders) == 1, holders

    async def scenario(world):
        await world.host("machine").start(program)

    with pytest.raises(sim.Found):
        sim.explore(scenario, seeds=50)


def test_asyncio_programs_reach_the_disk_through_threads():
    def program():
        import asyncio

        def save():
            with open("/tmp/file", "w") as file:
                file.write("by a thread")

        async def main():
            await asyncio.to_thread(save)
            return await asyncio.to_thread(pathlib.Path("/tmp/file").read_text)

        return asyncio.run(main())

    assert on_disk(program) == "by a thread"


def test_pythons_files_over_pipes_wait_for_the_other_end():
    def program():
        import threading
        import time

        reading, writing = os.pipe()

        def late():
            with os.fdopen(writing, "w") as pipe:
                for line in ("one\n", "two\n", "x" * 100_000):
                    time.sleep(1)
                    pipe.write(line)
                    pipe.flush()

        thread = threading.Thread(target=late)
        thread.start()
        with os.fdopen(reading) as pipe:
            lines = [(line, round(time.monotonic())) for line in pipe]
        thread.join()
        return lines

    assert on_disk(program) == [("one\n", 1), ("two\n", 2), ("x" * 100_000, 3)]


def test_code_that_was_loaded_before_keeps_its_functions(tmp_path):
    """What a module has taken by name, also as a default, is a door while worlds are open; outside it is the real thing."""
    source = """
        from os import stat, unlink
        from builtins import open as my_open
        from os.path import exists
        def write(path):
            with my_open(path, "w") as file:
                file.write("x")
            size = stat(path).st_size
            unlink(path)
            return size, exists(path)
    """
    namespace = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("took_names", None))
    sys.modules["took_names"] = namespace
    try:
        exec(textwrap.dedent(source), vars(namespace))
        assert on_disk(lambda: namespace.write("/tmp/name")) == (1, False)
        assert namespace.write(tmp_path / "name") == (1, False)
    finally:
        del sys.modules["took_names"]
