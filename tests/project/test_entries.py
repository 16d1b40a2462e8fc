"""Each way in runs the program where it says it does, gives its value and lets its exception out as it is."""

from __future__ import annotations

import pytest
import sniffio

from support.entries import Entry, Runtime


async def where(value: str) -> tuple[str, str]:
    library = sniffio.current_async_library()
    if library == "asyncio":
        import asyncio

        library = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    return value, library


LOOPS = {"asyncio": "asyncio", "uvloop": "uvloop", "trio": "trio", "native": "bateau"}


def test_an_entry_runs_on_its_runtime(entry: Entry) -> None:
    assert entry.run(where, "value") == ("value", LOOPS[entry.runtime])


def test_a_runtime_runs_on_itself(runtime: Runtime) -> None:
    assert runtime.run(where, "value") == ("value", LOOPS[runtime.name])


def test_an_entry_lets_exceptions_out(entry: Entry) -> None:
    async def fails() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        entry.run(fails)
