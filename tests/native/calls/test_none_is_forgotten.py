"""Everything that `bateau._native` exports is gone through by a test of this folder."""

from __future__ import annotations

import ctypes
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from bateau.kernel import twin
from support.drift import ROUNDS, Token, count_all, measure, only_native

pytestmark = only_native
native: Any = twin.native


def exported() -> set[str]:
    """Every function, and every method of every type, that is written in C."""
    from bateau.runtimes import native_transport as transport

    types = {name: kind for name, kind in vars(native).items() if isinstance(kind, type)}
    found = {
        f"module.{name}" for name, thing in vars(native).items() if type(thing).__name__ == "builtin_function_or_method"
    }
    for name, kind in {**types, "StreamCore": transport._StreamCore}.items():
        for key, value in vars(kind).items():
            if type(value).__name__ in ("method_descriptor", "wrapper_descriptor", "classmethod_descriptor"):
                found.add(f"{name}.{key}")
    return found


def covered() -> set[str]:
    """What the files beside this one say that they go through."""
    found: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        calls = runpy.run_path(str(path), run_name=path.stem).get("calls") if path.name != Path(__file__).name else None
        if calls is not None:
            found |= {f"{name}.{method}" for name, methods in calls.covers.items() for method in methods}
    return found


def test_every_native_call_is_gone_through() -> None:
    there, gone_through = exported(), covered()
    missing = there - gone_through
    assert not missing, f"add {sorted(missing)} to a file beside this, with a call that shows that nothing is left over"
    gone = gone_through - there
    assert not gone, f"{sorted(gone)} are in the tables, and are no more"


@pytest.mark.skipif(count_all is None, reason="no debug build of Python, which counts all references")
@pytest.mark.parametrize("count", [ctypes.pythonapi.Py_IncRef, ctypes.pythonapi.Py_DecRef])
def test_a_reference_that_nobody_looks_at_is_found(count: Any) -> None:
    """What is kept or let go once too often, of an object that the call itself found."""
    held = object()
    references = [held] * (ROUNDS + 1000)  # so that it is not freed
    count.argtypes = [ctypes.py_object]
    with pytest.raises(AssertionError, match="references to anything"):
        measure(lambda: count(held), Token())
    undo = ctypes.pythonapi.Py_DecRef if count is ctypes.pythonapi.Py_IncRef else ctypes.pythonapi.Py_IncRef
    undo.argtypes = [ctypes.py_object]
    for _ in range(ROUNDS + 100):
        undo(held)
    assert sys.getrefcount(held) == len(references) + 2
