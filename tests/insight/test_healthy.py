"""A load with nothing wrong in it has no findings, on any runtime; `tests/support/healthy_load.py` runs it for longer, by hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from bateau import insight
from bateau.insight.hazards import store
from support import healthy_load


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    handler = logging.NullHandler()
    logging.getLogger("bateau.hazards").addHandler(handler)
    store.forget()
    yield
    store.forget()
    logging.getLogger("bateau.hazards").removeHandler(handler)


def test_a_healthy_load_has_no_findings(runtime) -> None:
    # What is lowered is told of far sooner than in production; what depends on the machine's pace is left as it is, or higher.
    with insight.watch(every=0.05, deadlock=0.2, unreachable_waker=0.3, deep=True, scheduling_delay=2, starvation=2):
        done = runtime.run(healthy_load.main, 1.0)
    assert done > 0
    assert [str(finding) for finding in insight.findings()] == []


def test_a_healthy_program_of_asyncios_alone_has_no_findings() -> None:
    with insight.watch(every=0.05, deadlock=0.2, scheduling_delay=2, starvation=2):
        done = asyncio.run(healthy_load.plain(1.0))
    assert done > 0
    assert [str(finding) for finding in insight.findings()] == []
