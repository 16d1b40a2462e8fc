"""Interpreters inside this process: Python 3.14 has them, and before that one clear error says so."""

from __future__ import annotations

import os
import sys

import pytest

import bateau
from bateau.iter.par import WorkerTraceback
from support.entries import Entry
from support.par_functions import fail_at_seven, lock_for_three, pid, square

from .test_chain import check_everything

once_per_family = pytest.mark.parametrize("entry", ["owned:native", "adopted:asyncio", "owned:trio"], indirect=True)
before = pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python 3.14 has interpreters")
since = pytest.mark.skipif(sys.version_info < (3, 14), reason="needs Python 3.14")


@before
def test_unsupported_before(entry: Entry) -> None:
    async def main() -> None:
        with pytest.raises(bateau.Unsupported, match=r"needs Python 3.14 or later, this is 3\..*bateau.iter.processes"):
            await bateau.iter(range(3)).par(on=bateau.iter.interpreters(2)).map(square).collect()

    entry.run(main)


@since
@once_per_family
def test_everything_on_interpreters(entry: Entry) -> None:
    async def main() -> None:
        async with bateau.iter.interpreters(2) as pool:
            await check_everything(pool, n=24)
            assert set(await bateau.iter(range(9)).par(on=pool).map(pid).collect()) == {os.getpid()}
            with pytest.raises(LookupError, match="seven is missing") as info:
                await bateau.iter(range(20)).par(on=pool).map(fail_at_seven).collect()
            assert isinstance(info.value.__cause__, WorkerTraceback)
            assert "in fail_at_seven" in info.value.__cause__.text
            with pytest.raises(TypeError, match="can't be sent back"):
                await bateau.iter([3]).par(on=pool).map(lock_for_three).collect()

    entry.run(main)


@since
@once_per_family
def test_leaving_closes_them(entry: Entry) -> None:
    async def main() -> None:
        from concurrent import interpreters  # type: ignore[attr-defined]

        async for x in bateau.iter(range(100)).par(on=bateau.iter.interpreters(2), chunk=1).map(square):
            if x == 16:
                break
        await bateau.checkpoint()
        assert len(interpreters.list_all()) == 1
        with bateau.move_on_after(0.3):
            await bateau.iter(range(10**6)).par(on=bateau.iter.interpreters(2), chunk=1).map(square).collect()
        assert len(interpreters.list_all()) == 1

    entry.run(main)


def test_what_cannot_be_imported_is_named() -> None:
    with pytest.raises(TypeError, match=r"\.map\(\) was given .*<lambda>.*another interpreter"):
        bateau.iter(range(3)).par(on=bateau.iter.interpreters(2)).map(lambda x: x)
