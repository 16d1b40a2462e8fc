"""What is written on a test: ``@runtimes``, ``@virtual_time``, ``@simulate``, ``@simulate.pin``.

The marks are pytest's marks where pytest looks at them, and need no pytest: ``unittest`` reads them too. They change nothing in what
they are put on, so its signature and its type stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from ..sim import Faults
    from ..sim.strategy import Strategy

T = TypeVar("T")

RUNTIMES = "bateau_runtimes"
SIMULATE = "bateau_simulate"
PIN = "bateau_pin"


class Mark:
    """A decorator for a test function or a test class, also good for ``pytestmark = ...`` in a module.

    Invariant: what it marks has it in ``pytestmark``, where pytest keeps its own (as lists, one for each class).
    """

    __slots__ = ("args", "kwargs", "name")

    def __init__(self, name: str, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.args = args
        self.kwargs = dict(kwargs or {})

    @property
    def mark(self) -> Any:
        """The same as a mark of pytest's: what pytest asks of everything in ``pytestmark``."""
        import pytest

        return getattr(pytest.mark, self.name).with_args(*self.args, **self.kwargs).mark

    def __call__(self, marked: T) -> T:
        thing: Any = marked
        own = thing.__dict__.get("pytestmark", [])
        thing.pytestmark = [*(own if isinstance(own, list) else [own]), self]
        if self.name == SIMULATE:  # for ``bateau sim replay test_x.py:test TOKEN``, which steps through a run
            thing.__bateau_simulate__ = {name: value for name, value in self.kwargs.items() if value is not None}
        return marked

    def __repr__(self) -> str:
        given = [repr(arg) for arg in self.args] + [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"<bateau.testing mark {self.name}({', '.join(given)})>"


def marks_of(thing: Any, name: str) -> Iterator[Any]:
    """The marks of that name on a function, or on a class and its bases: each has ``args`` and ``kwargs``; the nearest first."""
    for holder in thing.__mro__ if isinstance(thing, type) else (thing,):
        found: Any = (
            vars(holder).get("pytestmark", []) if isinstance(holder, type) else getattr(holder, "pytestmark", [])
        )
        marks: Any = list(found) if isinstance(found, list) else [found]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # of whatever
        for each in marks:
            mark = each if isinstance(each, Mark) else getattr(each, "mark", each)
            if getattr(mark, "name", None) == name:
                yield mark


def runtimes(*names: str) -> Mark:
    """Run the marked async tests on each of these runtimes: ``@runtimes("native", "trio", "sim")``.

    Names are those that ``bateau runtimes`` lists. ``sim`` is one run in a simulated world: virtual time, production's order. Raises
    ``TypeError`` for anything but names, ``ValueError`` for none.
    """
    for name in names:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(
                f'runtimes(...) takes names of runtimes, as in @runtimes("native", "trio"), not {type(name).__name__}'
            )
    if not names:
        raise ValueError('runtimes(...) needs the name of at least one runtime, as in @runtimes("native", "trio")')
    return Mark(RUNTIMES, names)


# The marked test runs once in a simulated world: ``sleep(3600)`` takes no time, and everything happens in production's order. The same
# as ``@runtimes("sim")``.
virtual_time = Mark(RUNTIMES, ("sim",))


# What ``sim.explore`` takes, and a test can't say.
_NOT_OF_A_TEST = {
    "args": "a test gets its arguments from fixtures",
    "jobs": "the number of processes is the command line's: --bateau-jobs=4",
    "prepare": "do it in the test, which gets the world by an argument of that name",
    "progress": "pytest shows the progress itself",
    "seed": "give seeds, a number of them or which: seeds=range(44, 45)",
}


class Simulate:
    """The type of ``simulate``."""

    __slots__ = ()

    @overload
    def __call__(self, test: T, /) -> T: ...
    @overload
    def __call__(
        self,
        /,
        *,
        seeds: int | range = 100,
        faults: Faults | None = None,
        strategy: str | Strategy = "random",
        max_steps: int | None = None,
        shrink: bool = True,
        **options: Any,
    ) -> Mark: ...
    def __call__(self, /, test: Any = None, **options: Any) -> Any:
        """Run the marked test in simulated worlds, one for each seed, until one fails.

        ``seeds``: how many (from 0), or which. ``faults``: what the world does to the program (``sim.Faults.some()``...).
        ``strategy``: how order is chosen, as for ``sim.explore``. ``max_steps``: of one run. ``shrink=False`` shows a failure as it
        was found. Further options go to ``sim.explore``. Without parentheses: 100 seeds, no faults.
        """
        if test is not None:
            if not callable(test):
                raise TypeError(
                    f"simulate(...) takes its options by name, as in @simulate(seeds=1000), not {test!r} alone"
                )
            return Mark(SIMULATE)(test)
        for name, instead in _NOT_OF_A_TEST.items():
            if name in options:
                raise TypeError(f"simulate({name}=...): {instead}")
        return Mark(SIMULATE, (), options)

    def pin(self, *tokens: str) -> Mark:
        """Replay these failures, by the tokens that their reports show, before anything else: ``@simulate.pin("...")``.

        Above or below ``@simulate(...)``; alone, the test is run for the tokens only.
        """
        if not tokens or not all(isinstance(token, str) for token in tokens):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError('simulate.pin(...) takes replay tokens, as in @simulate.pin("the token of the report")')
        return Mark(PIN, tokens)

    @property
    def mark(self) -> Any:
        """For ``pytestmark = simulate``."""
        return Mark(SIMULATE).mark

    def __repr__(self) -> str:
        return "bateau.testing.simulate"


simulate = Simulate()
