"""What users give, looked at before anything runs: each function raises at once, and says what would be right.

Wrong types are ``TypeError``, wrong values ``ValueError``. Whoever calls these is public; inside the simulator nothing is checked twice.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from .faults import Faults, Latency

MODES_OF_THREADS = ("sync", "lines", "opcodes")


def whole(name: str, value: Any, least: int | None = None) -> None:
    """``value`` must be a whole number, ``least`` or more."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number, not {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{name} is a whole number, {least} or more, not {value!r}")


def number(name: str, value: Any, meaning: str = "a number") -> None:
    """``value`` must be a finite number, of any sign."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is {meaning}, not {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {meaning}, not {value!r}")


def seconds(name: str, value: Any) -> None:
    """``value`` must be a finite number of seconds, 0 or more."""
    number(name, value, "a number of seconds, 0 or more")
    if value < 0:
        raise ValueError(f"{name} is a number of seconds, 0 or more, not {value!r}")


def probability(name: str, value: Any) -> None:
    """``value`` must be from 0 to 1."""
    if not isinstance(value, int | float):
        raise TypeError(f"{name} is a probability from 0 to 1, not {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a probability from 0 to 1, not {value!r}")


def name_of(what: str, value: Any) -> None:
    """``value`` must be text, and not empty."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is a name, not {value!r}")
    if not value:
        raise ValueError(f"{what} is a name, not empty")


def function(name: str, value: Any) -> None:
    """``value`` must be callable."""
    if not callable(value):
        raise TypeError(f"{name} is a function, not {value!r}")


def plain_function(name: str, value: Any) -> None:
    """``value`` must be callable without arguments, and not async: it is called where nothing can wait."""
    function(name, value)
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004  # not whether it has one
        raise TypeError(
            f"{name} is called where nothing can wait, and {_called(value)} is async: give a plain function"
        )
    _takes(value, (), f"{name} is called without arguments, and {_called(value)} takes other ones")


def faults(value: Any) -> None:
    """``value`` must be a ``Faults``, or None."""
    if value is not None and not isinstance(value, Faults):
        hint = ": call it" if callable(value) else ""
        raise TypeError(
            f"faults is a sim.Faults, as sim.Faults.some() or sim.Faults(loss=0.1), or None for no faults, not {value!r}{hint}"
        )


def latency(name: str, value: Any) -> Latency:
    """``value``, a ``Latency`` or a number of seconds, as the former."""
    if isinstance(value, Latency):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds(name, value)
        return Latency(value, value, 0)
    raise TypeError(f"{name} is a sim.Latency(least, most) or a number of seconds, not {value!r}")


def threads(value: Any) -> None:
    """``value`` must say how finely threads are interleaved."""
    if value not in MODES_OF_THREADS:
        raise ValueError(f"threads is one of {', '.join(map(repr, MODES_OF_THREADS))}, not {value!r}")


def scenario(value: Any, args: Any, *, with_world: bool) -> None:
    """``value`` must be a function that can be called with ``args`` (and the world before them)."""
    if not callable(value):
        raise TypeError(f"a scenario is a function, not {type(value).__name__}: give main, not main()")
    if inspect.isasyncgenfunction(value):
        raise TypeError(f"a scenario is an async function or a plain one, and {_called(value)} is an async generator")
    if not isinstance(args, tuple | list):
        raise TypeError(f"args is a tuple of the scenario's arguments, as args=({args!r},), not {type(args).__name__}")
    full = (None, *args) if with_world else tuple(args)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # of whatever
    where = (
        "with the world first"
        if with_world
        else "without the world (which is given to a first parameter named 'world')"
    )
    _takes(value, full, f"scenario {_called(value)} is called with args={tuple(args)!r}, {where}, and takes other ones")  # pyright: ignore[reportUnknownArgumentType]  # of whatever


def _takes(fn: Callable[..., Any], args: tuple[Any, ...], otherwise: str) -> None:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # of C: it says so itself
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        raise TypeError(f"{otherwise}: {error}") from None


def _called(fn: Any) -> str:
    return str(getattr(fn, "__qualname__", None) or repr(fn))
