"""Law 18: an error leads from the fault back over every spawn to the program's start, by file and line."""

from __future__ import annotations

import re
import sys
import traceback

import pytest

import bateau
from support.entries import Entry, Runtime


def here() -> int:
    return sys._getframe(1).f_lineno


@pytest.mark.law(18)
def test_notes_lead_from_the_fault_over_each_spawn(entry: Entry) -> None:
    lines: list[int] = []

    async def inner() -> None:
        await bateau.yield_now()
        raise LookupError("the fault")

    async def outer() -> None:
        async with bateau.scope() as scope:
            lines.append(here() + 1)
            scope.spawn(inner, name="inner")

    async def main() -> None:
        async with bateau.scope() as scope:
            lines.append(here() + 1)
            scope.spawn(outer, name="outer")

    with pytest.raises(ExceptionGroup) as caught:
        entry.run(main)
    text = "".join(traceback.format_exception(caught.value))
    assert "in inner" in text  # the user's own frame, with the fault
    sites = re.findall(rf"in task '(\w+)', spawned at {re.escape(__file__)}:(\d+)", text)
    assert sorted(sites) == sorted([("outer", str(lines[0])), ("inner", str(lines[1]))])
    assert "scope" in str(caught.value)
    assert f"{__file__}:" in str(caught.value)  # which scope: the line that opened it


@pytest.mark.law(18)
def test_the_programs_own_scope_names_the_line_that_started_it(runtime: Runtime) -> None:
    """Not a line of the host's, under whose frames it is opened."""

    async def spawned_into_the_root() -> None:
        root = bateau.current_task().node
        assert isinstance(root, bateau.Scope)
        root.spawn(broken)
        await bateau.time.sleep(30)

    async def broken() -> None:
        raise LookupError("broken")

    with pytest.raises(ExceptionGroup) as caught:
        line = here() + 1
        bateau.run(spawned_into_the_root, runtime=runtime.name)
    assert f"scope 'program' ({__file__}:{line})" in str(caught.value)
    with bateau.Runner(runtime=runtime.name) as runner, pytest.raises(ExceptionGroup) as caught:
        line = here() + 1
        runner.run(spawned_into_the_root)
    assert f"scope 'program' ({__file__}:{line})" in str(caught.value)
