"""What can't be read says why; what changes or lies under the reader's hands never breaks it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from bateau.insight.memory import (
    MemoryReader,
    MemoryReadError,
    NotPermitted,
    NotPython,
    ProcessEnded,
    UnsupportedVersion,
    read_process,
)
from bateau.insight.memory.process import ProcessMemory
from bateau.insight.memory.source import Mapping
from bateau.insight.model import ReadError
from support.memory_children import child

WAITS = """
import asyncio

async def leaf(lock, n):
    async with lock: await asyncio.sleep(1000)

async def main():
    lock, queue = asyncio.Lock(), asyncio.Queue()
    kept = [asyncio.create_task(leaf(lock, n), name=f"task {n}") for n in range(30)]
    kept += [asyncio.create_task(queue.get()) for n in range(30)]
    await asyncio.sleep(0.01)
    tell()
    block()

asyncio.run(main())
"""


def test_there_is_no_such_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(ProcessEnded, match=f"no process {process.pid}") as caught:
        read_process(process.pid)
    assert isinstance(caught.value, ReadError) and isinstance(caught.value, ProcessLookupError)


def test_a_zombie_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        with pytest.raises(ProcessEnded, match="has ended"):
            read_process(process.pid)
    finally:
        process.wait()


def test_a_program_that_is_not_python() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    try:
        deadline = time.monotonic() + 30
        while b"sleep" not in _bytes(f"/proc/{process.pid}/cmdline").split(b"\0")[0]:
            assert time.monotonic() < deadline
        with pytest.raises(NotPython, match="no CPython program"):
            read_process(process.pid)
    finally:
        process.kill()
        process.wait()


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def test_somebody_elses_process_is_refused_with_what_to_do() -> None:
    if os.geteuid():
        pytest.skip("only root has processes that are not its child's to read")
    code = f"""
import os, sys
from bateau.insight.memory import NotPermitted, read_process
os.setgid(65534); os.setuid(65534)
try:
    read_process({os.getpid()})
except NotPermitted as error:
    assert isinstance(error, PermissionError)
    print(error)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "CAP_SYS_PTRACE" in answer.stdout, answer.stderr
    assert issubclass(NotPermitted, PermissionError)


def test_an_interpreter_that_is_too_old() -> None:
    from pathlib import Path

    found = sorted(Path.home().glob(".pyenv/versions/3.[89].*/bin/python3.[89]")) + sorted(
        Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10")
    )
    if not found:
        pytest.skip("there is no old Python here")
    process = subprocess.Popen(
        [found[-1], "-c", "print(1, flush=True); import time; time.sleep(1000)"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"1\n"
        with pytest.raises(UnsupportedVersion, match=r"3\.11 to 3\.15"):
            read_process(process.pid)
    finally:
        process.kill()
        process.communicate()


class Lying:
    """A source that changes some of what it reads, as a process that runs on would."""

    def __init__(self, source: ProcessMemory, change: Callable[[bytes], bytes]) -> None:
        self.source, self.pid, self.change = source, source.pid, change
        self.live, self.stopped = source.live, source.stopped
        self.arguments, self.executable = source.arguments, source.executable

    def mappings(self) -> list[Mapping]:
        return self.source.mappings()

    def read(self, address: int, size: int) -> bytes:
        data = self.source.read(address, size)
        return self.change(data)

    def open_mapped(self, mapping: Mapping) -> Any:
        return self.source.open_mapped(mapping)


@pytest.mark.parametrize("rate", [2e-5, 5e-4, 1e-2])
def test_torn_memory_never_breaks_the_reader(rate: float) -> None:
    """Words replaced by other words, by zero and by noise: whatever is read, it is a snapshot or a ``ReadError``, and soon."""
    with child(WAITS) as (pid, _):
        snapshots = 0
        for seed in range(12):
            chance = random.Random(seed)

            def change(data: bytes, chance: random.Random = chance) -> bytes:
                changed = bytearray(data)
                for _ in range(int(len(data) / 8 * rate) + (chance.random() < 0.2)):
                    at = chance.randrange(max(len(data) // 8, 1)) * 8
                    other = chance.randrange(max(len(data) // 8, 1)) * 8
                    new = chance.choice(
                        [bytes(8), data[other : other + 8], chance.randbytes(8), chance.randbytes(2) + bytes(6)]
                    )
                    changed[at : at + 8] = new
                return bytes(changed[: len(data)])

            started = time.monotonic()
            try:
                snapshots += bool(MemoryReader(Lying(ProcessMemory(pid), change)).read().tasks)
            except MemoryReadError:
                pass
            assert time.monotonic() - started < 60
        assert snapshots or rate > 1e-4


def test_memory_that_ends_anywhere() -> None:
    with child(WAITS) as (pid, _):
        for seed in range(8):
            chance = random.Random(seed)

            def change(data: bytes, chance: random.Random = chance) -> bytes:
                return data if chance.random() < 0.9 else data[: chance.randrange(len(data) + 1)]

            try:
                MemoryReader(Lying(ProcessMemory(pid), change)).read()
            except MemoryReadError:
                continue


def test_the_end_of_the_process_under_the_readers_hands() -> None:
    with child(WAITS) as (pid, _):
        source = ProcessMemory(pid)
        reads = 0

        def change(data: bytes) -> bytes:
            nonlocal reads
            reads += 1
            if reads == 40:
                os.kill(pid, 9)
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            return data

        with pytest.raises(ProcessEnded):
            MemoryReader(Lying(source, change)).read()


def test_it_is_only_read() -> None:
    """The process is not stopped, and goes on as if nothing had been."""
    program = """
import asyncio, threading

async def main():
    tell()
    while True:
        await asyncio.sleep(0)

asyncio.run(main())
"""
    with child(program) as (pid, _):
        for _ in range(5):
            read_process(pid)
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        assert status["TracerPid"] == "0" and status["State"][0] in "RS"
