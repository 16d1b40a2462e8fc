"""Every field of every native type read, set, deleted, and dropped with its owner: nothing is left over."""

from __future__ import annotations

import contextlib
from types import ModuleType
from typing import Any

import pytest

from bateau.kernel import twin
from support.drift import Token, measure, only_native

pytestmark = only_native
native: Any = twin.native


TYPES = {name: kind for name, kind in vars(native or object).items() if isinstance(kind, type)}
# As in kernel/operation.py.
DONE = 4
FIELDS = {"member_descriptor", "getset_descriptor"}
# What is made by its maker alone; their fields are gone through with their calls.
MADE_ELSEWHERE = frozenset(
    "Ring EngineTimer WorldEvent Handle TimerHandle LoopCore LoopFaceFields Stacks Look Window Record Chains PlainTasks UsualTasks Call NowFileFields".split()
)
# What may not be set to anything: a program that does has its queue taken away (test_misuse.py).
ANYTHING = sorted(TYPES.keys() - MADE_ELSEWHERE)


@pytest.mark.parametrize("name", ANYTHING)
def test_fields(name: str) -> None:
    """Each field read, set, deleted, and dropped with its owner."""
    kind, token = TYPES[name], Token()
    fields = [key for each in kind.__mro__ for key, value in vars(each).items() if type(value).__name__ in FIELDS]
    values = (token, 1, 1.5, "x", None, True)

    def call() -> None:
        thing = kind("made") if issubclass(kind, ModuleType) else kind()
        for field in fields:
            for value in values:
                with contextlib.suppress(TypeError, AttributeError, ValueError, OverflowError):
                    setattr(thing, field, value)
            with contextlib.suppress(AttributeError):
                getattr(thing, field)
            with contextlib.suppress(TypeError, AttributeError):
                delattr(thing, field)
            with contextlib.suppress(TypeError, AttributeError, ValueError):
                setattr(thing, field, token)
        if issubclass(kind, native.OperationFields):
            thing.state = DONE  # else it says that nobody awaited it

    measure(call, token, 500)
