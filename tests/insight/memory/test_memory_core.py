"""Core files: the same tasks, of a process that is no more."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from struct import Struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bateau.insight.console.sources import find_source
from bateau.insight.memory import CoreMemory, MemoryReadError, read_core, read_process
from support.memory_children import child, read_blocked
from support.sanitizer import needs_plain_memory

PROGRAM = """
import asyncio

async def leaf(lock):
    async with lock: await asyncio.sleep(1000)

async def main():
    lock = asyncio.Lock()
    kept = [asyncio.create_task(leaf(lock), name=f"task {n}") for n in range(5)]
    await asyncio.sleep(0.01)
    tell()
    block()

asyncio.run(main())
"""


@needs_plain_memory
def test_a_core_file_has_the_same_tasks(tmp_path: Path) -> None:
    if shutil.which("gcore") is None:
        pytest.skip("there is no gcore here")
    with child(PROGRAM) as (pid, _):
        read_blocked(pid)
        made = subprocess.run(
            ["gcore", "-o", str(tmp_path / "core"), str(pid)], capture_output=True, text=True, timeout=100
        )
        if made.returncode:
            pytest.skip(f"gcore failed: {made.stderr}")
        live = read_process(pid)
    snapshot = read_core(str(tmp_path / f"core.{pid}"))  # the process has been killed by now
    command = [sys.executable, "-m", "bateau.cli", "dump", "--file", str(tmp_path / f"core.{pid}")]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert "task 'task 0' at" in dumped.stdout, dumped
    assert find_source(command[-1]).read().process.pid == pid
    assert snapshot.process.pid == pid and snapshot.process.python == live.process.python
    assert snapshot.gaps == () and snapshot.exact

    def told(of: object) -> list[object]:
        tasks = sorted(of.tasks, key=lambda task: task.id)  # type: ignore[attr-defined]
        return [
            (
                task.id,
                task.name,
                task.state,
                of.stack(task.stack),
                task.waits and (task.waits.operation, task.waits.resource),
            )  # type: ignore[attr-defined]
            for task in tasks
        ]

    assert told(snapshot) == told(live)
    assert all(task.waits is None or task.waits.left is None for task in snapshot.tasks)
    assert {resource.id: resource.holders for resource in snapshot.resources} == {
        r.id: r.holders for r in live.resources
    }


def test_what_is_no_core_file(tmp_path: Path) -> None:
    with pytest.raises(MemoryReadError, match="can't be read"):
        read_core(str(tmp_path / "absent"))
    (tmp_path / "text").write_text("this is no core file" * 10)
    with pytest.raises(MemoryReadError, match="no core file"):
        read_core(str(tmp_path / "text"))
    (tmp_path / "empty").touch()
    with pytest.raises(MemoryReadError, match="can't be read"):
        read_core(str(tmp_path / "empty"))


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(0, 20), st.integers(0, 500))
def test_a_damaged_core_file(tmp_path_factory: pytest.TempPathFactory, data: bytes, count: int, at: int) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    header = Struct("<16sHHIQQQIHHHHHH").pack(b"\x7fELF\x02\x01", 4, 62, 1, 0, at, 0, 0, 64, 56, count, 0, 0, 0)
    path.write_bytes(header + data)
    try:
        memory = CoreMemory(str(path))
    except MemoryReadError:
        return
    try:
        memory.mappings()
        memory.read(4096, 100)
    finally:
        memory.close()
