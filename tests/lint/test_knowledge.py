"""What the rules know by name exists, in the libraries that are installed here; what is said to be awaited is."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterable

import pytest

from bateau import counterparts
from bateau.lint import knowledge
from bateau.lint.rules import blocking
from bateau.lint.settings import _NEVER

NAMES: dict[str, Iterable[str]] = {
    "results": [*knowledge.RESULTS, *knowledge.RESULTS.values()],
    "awaited": [*knowledge.AWAITED_RESULTS, *knowledge.AWAITED_RESULTS.values()],
    "thread locks": knowledge.THREAD_LOCKS,
    "task locks": knowledge.TASK_LOCKS,
    "outside": knowledge.OUTSIDE,
    "clients": knowledge.CLIENTS,
    "elsewhere": knowledge.ELSEWHERE,
    "programs": knowledge.PROGRAMS,
    "coroutines": knowledge.COROUTINES,
    "methods": [f"{cls}.{name}" for cls, names in knowledge.COROUTINE_METHODS.items() for name in names],
    "yields": knowledge.YIELDS,
    "cancellations": knowledge.CANCELLATIONS,
    "opened": [*knowledge.OPENED_BY_AWAIT, *knowledge.OPENED_BY_CALL],
    "blocking": blocking._WAITS,
}


def found(name: str) -> object:
    """The thing of that name; None where its package is not installed. Raises where it has no such thing."""
    first, *rest = name.split(".")
    if importlib.util.find_spec(first) is None:
        return None
    thing: object = importlib.import_module(first)
    for index, part in enumerate(rest):
        if not hasattr(thing, part):
            thing = importlib.import_module(".".join([first, *rest[: index + 1]]))
        else:
            thing = getattr(thing, part)
    return thing


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("table", NAMES)
def test_every_name_exists(table: str) -> None:
    missing = []
    for name in sorted(NAMES[table]):
        try:
            found(name)
        except (ImportError, AttributeError):
            if name != "asyncio.Condition.acquire":  # its lock's, set on each instance
                missing.append(name)
    assert missing == []


def test_what_is_awaited_is_a_coroutine_function_or_an_operation() -> None:
    wrong = []
    for name in sorted(knowledge.COROUTINES):
        thing = found(name)
        if name.startswith("bateau.") or thing is None:
            continue  # operations are made by plain functions: whether they can be awaited is their own tests' subject
        if not inspect.iscoroutinefunction(thing):
            wrong.append(name)
    assert wrong == []


def test_every_blocking_call_has_an_advice() -> None:
    for name, instead in blocking._WAITS.items():
        assert (
            instead
            or counterparts.find(
                name.replace("LifoQueue", "Queue").replace("PriorityQueue", "Queue").replace("SimpleQueue", "Queue")
            )
            or "thread.run" in blocking._advice(name)
        )


def test_folders_that_hold_no_source_are_named_once() -> None:
    assert len(set(_NEVER)) == len(_NEVER)
