"""S16: a tree of files, an unbounded gather that runs out of descriptors, a semaphore held by a parent that deadlocks.

Here: a bounded concurrent map over the tree, within the limit of descriptors; and the deadlock of nested permits is reported.
"""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import bateau
from bateau import fs, sync, time
from bateau.iter import each
from support.entries import on_native

FILES = 150
AT_ONCE = 8


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, str]:
    """Real files in a real tree, and what their digests are."""
    digests: dict[str, str] = {}
    for n in range(FILES):
        folder = tmp_path / f"d{n % 7}" / f"e{n % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        data = os.urandom(n * 100)
        (folder / f"{n}.bin").write_bytes(data)
        digests[str(folder / f"{n}.bin")] = hashlib.sha256(data).hexdigest()
    digests["root"] = str(tmp_path)
    return digests


@bateau.generator
async def files_under(folder: str) -> AsyncIterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield each(files_under(entry.path))
            else:
                yield entry.path


class Peak:
    now = most = 0


async def digest(path: str, peak: Peak, hold: float = 0.001) -> tuple[str, str]:
    async with fs.open(path, "rb") as file:
        peak.now += 1
        peak.most = max(peak.most, peak.now)
        found = hashlib.sha256()
        while data := await file.read(4096):
            found.update(data)
        await time.sleep(hold)
        peak.now -= 1
    return path, found.hexdigest()


@pytest.fixture
def few_descriptors():
    """As with ``ulimit -n``: room for 50 more than are open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = {int(fd) for fd in os.listdir("/proc/self/fd")}
    free = [fd for fd in range(1000) if fd not in taken]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[50], hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_bounded_map_over_a_tree(entry, tree, few_descriptors):
    root = tree.pop("root")

    async def main():
        peak = Peak()
        found = await files_under(root).map(lambda path: digest(path, peak, 0.02)).buffered_unordered(AT_ONCE).collect()
        assert dict(found) == tree
        assert AT_ONCE // 2 <= peak.most <= AT_ONCE

    entry.run(main)


@on_native
def test_without_a_bound_it_runs_out(entry, tree, few_descriptors):
    """Why there is a bound: the same, all at once."""
    root = tree.pop("root")

    async def main():
        peak = Peak()
        await bateau.join([digest(path, peak, 1.0) async for path in files_under(root)])

    with pytest.raises((OSError, BaseExceptionGroup)):
        entry.run(main)


@on_native
def test_a_parent_that_holds_a_permit_its_children_need(entry, tree):
    root = tree.pop("root")

    async def main():
        permits = sync.Semaphore(2, name="open files")

        async def size(folder: str) -> int:
            async with permits:  # held while the folders below are worked on, which need one each
                total = 0
                with os.scandir(folder) as entries:
                    inside = list(entries)
                folders = [entry.path for entry in inside if entry.is_dir()]
                total += sum(entry.stat().st_size for entry in inside if entry.is_file())
                return total + await bateau.iter(folders).map(size).buffered_unordered(4).sum()

        await size(root)

    with pytest.raises(bateau.Deadlock) as caught:
        entry.run(main)
    report = str(caught.value)
    assert "semaphore 'open files' (0 free" in report
    assert "held by " in report
    assert "buffered_unordered(4)" in report
