"""The options of a world as text, so that a token can bring them along; and the scenario's own name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from . import given
from .faults import Faults, Latency

# Options of ``one_run`` that are not the world's: a run does not depend on them.
NOT_OF_THE_WORLD = ("check", "forgive", "max_steps")

# Those of the parts of the world: each is read by its part.
OF_THE_WORLD = ("disk_latency", "faults", "latency", "stall", "sync_latency", "threads")

_KINDS: dict[str, type[Any]] = {"Faults": Faults, "Latency": Latency}


# Where None is a value (it takes no time at all), and not the same as leaving it out.
NONE_IS_A_VALUE = ("disk_latency", "sync_latency")


def require_known(options: Mapping[str, Any]) -> None:
    """Raise ``TypeError`` for an option that no part of the world reads (a misspelt ``faults`` would be a world without any), and this
    or ``ValueError`` for a value that it can't have.
    """
    for name, value in options.items():
        if name not in OF_THE_WORLD:
            raise TypeError(
                f"a simulated world has no option {name!r}; it has {', '.join((*OF_THE_WORLD, *NOT_OF_THE_WORLD))}"
            )
        if value is None:
            continue
        if name == "faults":
            given.faults(value)
        elif name == "threads":
            given.threads(value)
        elif name == "stall":
            given.seconds(name, value)
        else:
            given.latency(name, value)


def of_the_world(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a run depends on."""
    return {
        name: value
        for name, value in options.items()
        if name not in NOT_OF_THE_WORLD and (value is not None or name in NONE_IS_A_VALUE)
    }


def to_text(options: Mapping[str, Any]) -> str:
    """The options of a world as JSON; "" where there are none, or where one of them can't be written (a function)."""
    chosen = of_the_world(options)
    if not chosen:
        return ""
    try:
        return json.dumps({name: _written(value) for name, value in sorted(chosen.items())}, separators=(",", ":"))
    except TypeError:
        return ""


def from_text(text: str) -> dict[str, Any]:
    """What ``to_text`` wrote. Raises ``ValueError`` for anything else."""
    found: Any = json.loads(text) if text else {}
    if not isinstance(found, dict):
        raise ValueError("options are a JSON object")  # bad input, not a bad call
    return {str(name): _read(value) for name, value in found.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # JSON


def _written(value: Any) -> Any:
    for name, kind in _KINDS.items():
        if isinstance(value, kind):
            changed = {
                each.name: getattr(value, each.name)
                for each in fields(kind)
                if getattr(value, each.name) != each.default
            }
            return {name: changed}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{value!r} can't be written into a token")


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        [(name, changed)] = value.items()  # pyright: ignore[reportUnknownVariableType]  # JSON
        if name not in _KINDS:
            raise ValueError(f"unknown kind of option: {name}")
        return _KINDS[name](**changed)
    return value


def target_of(scenario: Callable[..., Any]) -> str:
    """How a command line names the scenario (``file.py:function``), or "" where it can't: it is no function of a module."""
    code = getattr(scenario, "__code__", None)
    name = str(getattr(scenario, "__qualname__", "<none>"))
    if code is None or "<" in name or "." in name or not code.co_filename.endswith(".py"):
        return ""
    filename = str(code.co_filename)
    try:
        relative = os.path.relpath(filename)
    except ValueError:  # another drive
        relative = filename
    return f"{relative if not relative.startswith('..') else filename}:{name}"
