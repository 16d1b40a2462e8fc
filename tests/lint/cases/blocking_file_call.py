"""Quick calls on files, which hold the loop for as long as the disk takes. The rule runs where it is selected."""

import os
import shutil
import tempfile
from pathlib import Path

import bateau


async def load(path: Path):
    with open(path) as file:  # error: blocking_file_call
        print(file.read())
    path.read_text()  # error: blocking_file_call
    Path("x").write_bytes(b"")  # error: blocking_file_call
    os.stat("x")  # error: blocking_file_call
    os.path.exists("x")  # error: blocking_file_call
    shutil.which("python")  # error: blocking_file_call
    with tempfile.TemporaryDirectory():  # error: blocking_file_call
        pass


async def fine(path: bateau.fs.Path, other):
    await path.read_text()
    other.read_text()
    os.path.join("a", "b")
    Path("a").with_suffix(".b")
    async with bateau.fs.open("x") as file:
        await file.read()


def sync():
    return open("x")
