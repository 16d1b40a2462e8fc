"""The cluster executor on a real one: two worker processes under Dask's own scheduler, shared by the tests of this module."""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bateau
from bateau.iter import WorkerDied
from bateau.iter.par import WorkerTraceback
from support.entries import Entry
from support.leaks import Snapshot
from support.par_functions import alone, awkward, die_at_five, fail_at_seven, square_later

from .test_chain import check_everything

distributed = pytest.importorskip("distributed", reason="the executor for a cluster needs `pip install bateau[dask]`")

once_per_family = pytest.mark.parametrize("entry", ["owned:native", "adopted:asyncio", "owned:trio"], indirect=True)
pytestmark = [
    pytest.mark.no_leak_check("Dask opens and closes its connections and threads when it likes, for all tests of this module"),
    # Its own code warns on new Pythons, and tells of the workers that are killed here.
    pytest.mark.filterwarnings("ignore"),
]  # fmt: skip


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    before = Snapshot()
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            scheduler_kwargs={"allowed_failures": 0},
            silence_logs=50,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client
    # Its loop and its threads stay. Pipes of its workers are closed some time later, and no test that follows shall be blamed.
    deadline = time.monotonic() + 10
    while any("pipe:" in left for left in before.leaks()) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)


@once_per_family
def test_everything_on_a_cluster(entry: Entry, client: Any, tmp_path: Path) -> None:
    async def main() -> None:
        if entry.name == "owned:native":
            await check_everything(bateau.iter.dask(client), n=12)
        # One at a time, though there are two workers.
        taken = functools.partial(alone, str(tmp_path / "taken"))
        assert await bateau.iter(range(4)).par(1, on=bateau.iter.dask(client), chunk=1).map(taken).count() == 4
        # Lambdas go by value: Dask's own pickler takes them.
        two = 2
        assert await bateau.iter(range(5)).par(on=bateau.iter.dask(client)).map(lambda x: x * two).sum() == 20
        address = bateau.iter.dask(client.scheduler.address)
        assert await bateau.iter(range(5)).par(on=address).map(square_later).collect() == [0, 1, 4, 9, 16]
        with pytest.raises(LookupError, match="seven is missing") as info:
            await bateau.iter(range(20)).par(on=bateau.iter.dask(client)).map(fail_at_seven).collect()
        assert isinstance(info.value.__cause__, WorkerTraceback)
        assert "in fail_at_seven" in info.value.__cause__.text
        assert info.value.__notes__[0].startswith("item 7 of par(2, on=dask(<Client: ")
        with pytest.raises(bateau.BateauError, match="Awkward: 3 and 3"):
            await bateau.iter([3]).par(on=bateau.iter.dask(client)).map(awkward).collect()

    entry.run(main)


@once_per_family
def test_cancellation_reaches_the_cluster(entry: Entry, client: Any) -> None:
    async def main() -> None:
        def slow(x: int) -> int:
            time.sleep(0.1)
            return x

        async for _ in bateau.iter(range(100)).par(8, on=bateau.iter.dask(client, workers=8), chunk=1).map(slow):
            break
        await bateau.checkpoint()
        # All futures were cancelled and released: the scheduler knows of no more work than what already runs.
        deadline = time.monotonic() + 10
        while (left := await bateau.thread.run(client.run_on_scheduler, pending)) > 2:
            assert time.monotonic() < deadline, left

    entry.run(main)


def pending(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


def test_a_worker_of_the_cluster_that_dies(client: Any) -> None:
    async def main() -> None:
        with pytest.raises(WorkerDied, match="Dask worker died while it had 4 item") as info:
            await bateau.iter(range(4, 8)).par(1, on=bateau.iter.dask(client), chunk=4).map(die_at_five).collect()
        assert info.value.items == (4, 5, 6, 7)

    bateau.run(main, runtime="native")


def test_an_asynchronous_client_is_refused() -> None:
    class Asynchronous:
        asynchronous = True

        def submit(self) -> None: ...

    with pytest.raises(TypeError, match="not an asynchronous one"):
        bateau.iter.dask(Asynchronous())


def test_nobody_there() -> None:
    async def main() -> None:
        import dask

        with (
            dask.config.set({"distributed.comm.timeouts.connect": "300ms"}),
            pytest.raises(OSError, match="[Tt]imed out"),
        ):
            await bateau.iter(range(4)).par(on=bateau.iter.dask("tcp://127.0.0.1:9")).collect()

    bateau.run(main, runtime="native")
