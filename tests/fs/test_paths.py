"""Paths, directories, functions and temporary files, against the real disk and beside Python's own."""

from __future__ import annotations

import inspect
import os
import pathlib
import shutil
import sys
import threading

import pytest

import bateau
from bateau import fs
from support.waiting import until


def tree(root):
    for name in ("a/b/c", "a/d", "e"):
        (root / name).mkdir(parents=True)
        for i in range(3):
            (root / name / f"{i}.txt").write_text(name)
    return root


def test_is_a_pure_path(tmp_path):
    path = fs.Path(tmp_path) / "x" / "y.tar.gz"
    assert type(path) is fs.Path
    assert type(path.parent) is fs.Path
    assert type(path.with_suffix(".zip")) is fs.Path
    assert [type(parent) for parent in path.parents][:2] == [fs.Path, fs.Path]
    assert path.name == "y.tar.gz"
    assert os.fspath(path) == str(tmp_path / "x" / "y.tar.gz")
    assert pathlib.PurePath(path) == path
    assert hash(path) == hash(tmp_path / "x" / "y.tar.gz")
    assert pathlib.Path(path) == tmp_path / "x" / "y.tar.gz"
    assert repr(fs.Path("a")) == "Path('a')"


def test_every_method_of_pathlib_is_there():
    missing = {name for name in dir(pathlib.Path) if not name.startswith("_") and not hasattr(fs.Path, name)}
    # Deprecated there, or younger than the oldest Python that bateau runs on.
    assert missing <= {"link_to", "is_junction", "from_uri", "copy", "copy_into", "move", "move_into", "info"}
    for name, theirs in inspect.getmembers(pathlib.Path, inspect.isfunction):
        ours = inspect.getattr_static(fs.Path, name, None)
        if name.startswith("_") or ours is None or name in dir(pathlib.PurePath):
            continue
        here = list(inspect.signature(ours).parameters)
        there = list(inspect.signature(theirs).parameters)
        if sys.version_info < (3, 13):
            assert [name for name in here if name in there] == there[: len(there)], (name, here, there)


def test_content_and_metadata(entry, tmp_path):
    async def main():
        path = fs.Path(tmp_path) / "file"
        assert not await path.exists()
        assert await path.write_text("zwölf", encoding="utf-8") == 5
        assert await path.read_text("utf-8") == "zwölf"
        assert await path.write_bytes(b"\0\1") == 2
        assert await path.read_bytes() == b"\0\1"
        assert (await path.stat()).st_size == 2
        assert await path.is_file()
        assert not await path.is_dir()
        assert not await path.is_symlink()
        await path.chmod(0o600)
        assert (await path.lstat()).st_mode & 0o777 == 0o600
        link = path.with_name("link")
        await link.symlink_to(path)
        assert await link.is_symlink()
        assert await link.readlink() == path
        assert await link.resolve() == path
        assert await link.samefile(path)
        hard = path.with_name("hard")
        await hard.hardlink_to(path)
        assert (await path.stat()).st_nlink == 2
        await hard.unlink()
        moved = await path.rename(path.with_name("moved"))
        assert type(moved) is fs.Path
        assert not await link.exists()
        assert await link.exists(follow_symlinks=False)
        assert await (await moved.replace(path)).exists()
        await path.touch()
        with pytest.raises(FileExistsError):
            await path.touch(exist_ok=False)
        assert await path.owner() == pathlib.Path(path).owner()
        assert await path.group() == pathlib.Path(path).group()
        assert not any([await path.is_mount(), await path.is_fifo(), await path.is_socket()])
        assert not any([await path.is_block_device(), await path.is_char_device()])
        async with path.open("rb") as file:
            assert await file.read() == b"\0\1"
        with pytest.raises(FileNotFoundError):
            await path.with_name("none").unlink()
        await path.with_name("none").unlink(missing_ok=True)
        assert await fs.Path.cwd() == pathlib.Path.cwd()
        assert await fs.Path.home() == pathlib.Path.home()
        assert await fs.Path("~").expanduser() == pathlib.Path.home()
        assert await fs.Path("x").absolute() == pathlib.Path("x").absolute()

    entry.run(main)


def test_directories(entry, tmp_path):
    tree(tmp_path)

    async def main():
        root = fs.Path(tmp_path)
        found = [path async for path in root.iterdir()]
        assert sorted(found) == sorted(tmp_path.iterdir())
        assert all(type(path) is fs.Path for path in found)
        assert sorted([path async for path in root.glob("*/*.txt")]) == sorted(tmp_path.glob("*/*.txt"))
        assert sorted([path async for path in root.rglob("1.txt")]) == sorted(tmp_path.rglob("1.txt"))
        walked = [(str(at), sorted(dirs), sorted(files)) async for at, dirs, files in root.walk()]
        assert sorted(walked) == sorted((at, sorted(dirs), sorted(files)) for at, dirs, files in os.walk(tmp_path))
        async for _, dirs, _ in fs.walk(tmp_path):
            if "a" in dirs:
                dirs.remove("a")
            assert "b" not in dirs
        async with fs.scandir(tmp_path) as entries:
            async for item in entries:
                assert await item.is_dir()
                assert not await item.is_file()
                assert (await item.stat()).st_ino == item.inode()
                assert os.fspath(item) == str(tmp_path / item.name)
                break
        with pytest.raises(FileNotFoundError):
            async for _ in root.joinpath("none").iterdir():
                pass
        await (root / "new" / "deep").mkdir(parents=True)
        await (root / "new" / "deep").rmdir()
        assert [path async for path in (root / "new").iterdir()] == []

    entry.run(main)


@pytest.mark.law(9)
def test_a_cancelled_iteration_loses_no_item(entry, tmp_path):
    for i in range(200):
        (tmp_path / str(i)).touch()

    async def main():
        found = []
        entries = fs.Path(tmp_path).iterdir()
        wait = 0.0
        while True:
            try:
                with bateau.move_on_after(wait):
                    found.append(await anext(entries))
            except StopAsyncIteration:
                break
            wait = (wait + 0.00002) % 0.0005
        assert len(found) == 200
        assert {path.name for path in found} == {str(i) for i in range(200)}

    entry.run(main)


def test_functions(entry, tmp_path):
    async def main():
        await fs.makedirs(tmp_path / "x" / "y")
        await fs.mkdir(tmp_path / "z")
        async with fs.open(tmp_path / "x" / "f", "wb") as file:
            await file.write(b"abc")
        assert (await fs.stat(tmp_path / "x" / "f")).st_size == 3
        assert await fs.getsize(tmp_path / "x" / "f") == 3
        assert await fs.copyfile(tmp_path / "x" / "f", tmp_path / "g") == tmp_path / "g"
        await fs.copy2(tmp_path / "x" / "f", tmp_path / "h")
        assert sorted(await fs.listdir(tmp_path)) == ["g", "h", "x", "z"]
        await fs.rename(tmp_path / "g", tmp_path / "i")
        await fs.replace(tmp_path / "i", tmp_path / "h")
        await fs.truncate(tmp_path / "h", 1)
        assert await fs.getsize(tmp_path / "h") == 1
        await fs.remove(tmp_path / "h")
        await fs.rmdir(tmp_path / "z")
        assert await fs.copytree(tmp_path / "x", tmp_path / "copy") == tmp_path / "copy"
        assert (tmp_path / "copy" / "f").read_bytes() == b"abc"
        await fs.move(tmp_path / "copy", tmp_path / "moved")
        await fs.rmtree(tmp_path / "moved")
        assert await fs.exists(tmp_path / "x")
        assert await fs.isdir(tmp_path / "x")
        assert not await fs.isfile(tmp_path / "x")
        assert await fs.which("sh") == shutil.which("sh")
        assert await fs.getcwd() == os.getcwd()
        assert (await fs.disk_usage(tmp_path)).total == shutil.disk_usage(tmp_path).total
        with pytest.raises(FileNotFoundError):
            await fs.stat(tmp_path / "none")

    entry.run(main)


def test_copytree_stops_between_two_files(entry, tmp_path):
    tree(tmp_path / "from")
    started, cancelled = threading.Event(), threading.Event()

    def slow(source, target):
        started.set()
        cancelled.wait(20)
        return shutil.copy2(source, target)

    async def tell(block):
        await until(lambda: block.cancel_called)
        cancelled.set()

    async def main():
        async with bateau.scope() as scope:
            with bateau.move_on_after(0.02) as block:
                scope.spawn(tell, block)
                await fs.copytree(tmp_path / "from", tmp_path / "to", copy_function=slow)
        assert block.cancelled_caught
        copied = list((tmp_path / "to").rglob("*.txt"))
        assert len(copied) == started.is_set() <= 1

    entry.run(main)


def test_temporary(entry):
    async def main():
        async with fs.TemporaryFile() as file:
            await file.write(b"data")
            await file.seek(0)
            assert await file.read() == b"data"
        async with fs.NamedTemporaryFile("w+", suffix=".txt") as file:
            assert file.name.endswith(".txt")
            assert await fs.exists(file.name)
            await file.write("lines\nof text\n")
            await file.seek(0)
            assert [line async for line in file] == ["lines\n", "of text\n"]
        assert not await fs.exists(file.name)
        async with fs.SpooledTemporaryFile(10) as file:
            await file.write(b"x" * 100)
            assert await file.tell() == 100
        with bateau.move_on_after(None) as block:
            async with fs.TemporaryDirectory(prefix="boat") as name:
                assert os.path.basename(name).startswith("boat")
                (pathlib.Path(name) / "inside").touch()
                block.cancel()
                await bateau.checkpoint()
        assert block.cancelled_caught
        assert not os.path.exists(name)
        directory = await fs.TemporaryDirectory()
        assert os.path.isdir(directory.name)
        await directory.cleanup()
        fd, path = await fs.mkstemp()
        os.close(fd)
        await fs.remove(path)
        await fs.rmdir(await fs.mkdtemp())
        with pytest.raises(RuntimeError, match="not made yet"):
            _ = fs.TemporaryDirectory().name

    entry.run(main)
