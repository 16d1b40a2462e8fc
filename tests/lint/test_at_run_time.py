"""What lint tells of a program is what the program then does: the hazard is reported at run time, under the same name (stories S11, S12, F01)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bateau
from bateau import insight
from bateau.insight.hazards import store
from bateau.lint import Settings, check_paths
from support import hazard_case

PROGRAMS = Path(__file__).parent / "programs"
# Programs of tests/insight/cases, which are run there: the run-time report names the very line that lint does.
SAME_LINE = ["dropped_without_close", "never_awaited", "scheduling_delay", "self_wakes", "swallowed_cancellation"]


@pytest.fixture
def quiet() -> Iterator[None]:
    """Findings go to the log, and are forgotten after the test."""
    logger = logging.getLogger("bateau.hazards")
    handler = logging.NullHandler()
    logger.addHandler(handler)
    store.forget()
    yield
    logger.removeHandler(handler)
    store.forget()


@pytest.mark.law(19)
@pytest.mark.parametrize("name", SAME_LINE)
def test_the_line_is_that_of_the_report(name: str) -> None:
    path = hazard_case.FOLDER / f"{name}.py"
    found = check_paths([path]).findings
    assert [(each.name, each.line) for each in found] == [(name, hazard_case.line_of(path))]


@pytest.mark.law(19)
@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.py")), ids=lambda path: path.stem)
def test_the_fault_is_reported_when_it_runs(path: Path, quiet: None) -> None:
    name = path.stem
    (marked,) = re.findall(r"# error: (\w+)", path.read_text())
    assert [each.name for each in check_paths([path]).findings] == [marked] == [name]
    hazard_case.run(path, hazard_case.load(path).RUNTIME)
    assert [(each.name, each.filename) for each in insight.findings()] == [(name, str(path))]


FOREIGN = """\
import asyncio
import bateau
import trio


async def helper():
    await {call}


@bateau.main(runtime={runtime!r})
async def main():
    await helper()
"""


@pytest.mark.law(18)
@pytest.mark.parametrize(
    ("on", "call"),
    [
        ("trio", "asyncio.sleep(0.1)"),
        ("trio", "asyncio.Event().wait()"),
        ("native", "trio.sleep(0.1)"),
        ("asyncio", "trio.Event().wait()"),
    ],
)
def test_a_foreign_await_fails_at_its_line(tmp_path: Path, on: str, call: str) -> None:
    pytest.importorskip("trio")
    path = tmp_path / "foreign_program.py"
    path.write_text(FOREIGN.format(runtime=on, call=call))
    (finding,) = check_paths([path], Settings(select=("foreign_await",))).findings
    assert finding.line == 7
    owner = call.partition(".")[0]
    assert f"a thing of {owner}" in finding.message and str(path) in finding.message
    assert "bateau." in finding.suggestion and finding.suggestion in finding.help
    with pytest.raises((RuntimeError, TypeError, AttributeError)) as caught:
        hazard_case.load(path).main()
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = "\n".join([str(error), *getattr(error, "__notes__", ())])
    assert "runs on runtime" in text and f"of {owner}" in text


def test_bateau_has_what_lint_suggests() -> None:
    from bateau.lint.foreign import COUNTERPARTS

    for foreign, ours in COUNTERPARTS.items():
        assert _exists(foreign) and _exists(ours), (foreign, ours)


def _exists(name: str) -> bool:
    first, *rest = name.split(".")
    thing: object = {"bateau": bateau}.get(first) or __import__(first)
    for part in rest:
        if not hasattr(thing, part):
            thing = __import__(f"{getattr(thing, '__name__', first)}.{part}", fromlist=["x"])
        else:
            thing = getattr(thing, part)
    return thing is not None
