"""What goes wrong at first with async iterators, and how to say so: what happened, where, and what to write instead.

Three lines each. A ``for`` without ``async``, a forgotten ``await``, two tasks at one iterator: Python's own messages for these
speak of ``__aiter__`` and coroutine objects, at a line that is often not the one to mend.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from inspect import iscoroutinefunction
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from ..kernel.current import current_task
from ..kernel.errors import Busy
from ..kernel.hazard import raise_unraisable

if TYPE_CHECKING:
    from ..kernel.task import Task

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

# Since 3.12: what a function that only looks like a coroutine function says about itself.
_mark: Callable[[Any], Any] = getattr(sys.modules["inspect"], "markcoroutinefunction", lambda fn: fn)


def three_lines(what: str, where: tuple[str, int] | str | None, fix: str) -> str:
    """The text of an error of misuse. ``where`` is a file and line, or says by itself what it names."""
    lines = [what]
    if where is not None:
        lines.append(f"  where: {where if isinstance(where, str) else f'{where[0]}:{where[1]}'}")
    lines.append(f"  fix:   {fix}")
    return "\n".join(lines)


def two_at_once(first: Task[Any], where: tuple[str, int] | None) -> Busy:
    """The error of a second task that asks an iterator for its next item while the first still waits for one."""
    return Busy(
        three_lines(
            f"two tasks ask this iterator for its next item at the same time: task {first.name!r} waits for one, "
            f"and now task {current_task().name!r} asks",
            where,
            "give each task its own iterator with `.tee(2)`, or let them share the items out with `.share()`",
        )
    )


def plain_for(where: tuple[str, int]) -> TypeError:
    """The error of ``for item in it``."""
    return TypeError(
        three_lines(
            "a plain `for` (or `list(it)`, `*it`...) over an asynchronous iterator",
            where,
            "write `async for item in it`, or `await it.collect()` for a list",
        )
    )


def awaited_whole(where: tuple[str, int]) -> TypeError:
    """The error of ``await it``."""
    return TypeError(
        three_lines(
            "an iterator was awaited, which has no single result",
            where,
            "write `async for item in it`; `await it.next()` for one item; `await it.collect()` for all of them",
        )
    )


def at_its_end(where: tuple[str, int]) -> str:
    """The text of the error of a loop over an iterator whose items have all been given."""
    return three_lines(
        "this iterator has come to its end before, and gives its items only once",
        where,
        "make a new one for each loop (call the function again), or keep the items: `items = await it.collect()`",
    )


class Pending(Coroutine[Any, Any, T]):
    """A call that has not been awaited yet, ``it.next()`` say: a coroutine that knows what to say when it is misused.

    Await it once, or hand it to whatever takes a coroutine. Dropped without that, it warns at the line of the call.
    Invariant: ``_coro`` is not started while ``_fresh``.
    """

    __slots__ = ("__weakref__", "_call", "_coro", "_fresh", "_made")

    def __init__(self, coro: Coroutine[Any, Any, T], call: str, made: tuple[Any, int]) -> None:
        self._coro = coro
        self._call = call
        self._made = made
        self._fresh = True

    # -- as a coroutine ------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, Any, T]:
        self._fresh = False
        return self._coro.__await__()

    def send(self, value: Any) -> Any:
        """Resume it, as a coroutine is."""
        self._fresh = False
        return self._coro.send(value)

    def throw(self, kind: Any, value: Any = None, tb: TracebackType | None = None) -> Any:
        """Raise an exception in it, as in a coroutine."""
        self._fresh = False
        if value is None and tb is None:
            return self._coro.throw(kind)
        error = value if isinstance(value, BaseException) else kind(*(() if value is None else (value,)))
        return self._coro.throw(error.with_traceback(tb) if tb is not None else error)

    def close(self) -> None:
        """Give it up without a word."""
        self._fresh = False
        self._coro.close()

    # -- misused -------------------------------------------------------------------------------------------------------

    def __del__(self) -> None:
        if not self._fresh:
            return
        self._coro.close()
        where = self._where()
        text = three_lines(f"{self._call} was never awaited: nothing happened", where, self._fix())
        try:
            warnings.warn_explicit(text, RuntimeWarning, *where)
        except RuntimeWarning as error:
            raise_unraisable(error)

    def _where(self) -> tuple[str, int]:
        code, offset = self._made
        for start, end, line in code.co_lines():
            if start <= offset < end and line is not None:
                return code.co_filename, line
        return code.co_filename, code.co_firstlineno

    def _fix(self) -> str:
        return f"write `await {self._call}`"

    def _refuse(self, what: str, fix: str = "") -> NoReturn:
        self._fresh = False  # one error is enough
        self._coro.close()
        raise TypeError(three_lines(f"{self._call} {what}", self._where(), fix or self._fix()))

    def __iter__(self) -> NoReturn:
        self._refuse("is not a list: it gives its result when it is awaited", f"write `for item in await {self._call}`")

    def __bool__(self) -> NoReturn:  # noqa: PLE0304  # it never returns
        self._refuse("was asked whether it is true before it was awaited: that would always be so")

    def __getitem__(self, key: object) -> NoReturn:
        self._refuse("was indexed before it was awaited", f"write `(await {self._call})[...]`")

    def __len__(self) -> NoReturn:  # noqa: PLE0303  # it never returns
        self._refuse("was asked for its length before it was awaited", f"write `len(await {self._call})`")

    def __getattr__(self, name: str) -> Any:
        # Asking is harmless (``hasattr``): an AttributeError, and it can still be awaited.
        if name.startswith("cr_"):
            return getattr(self._coro, name)
        fix = f"write `(await {self._call}).{name}`"
        raise AttributeError(three_lines(f"{self._call} has no {name!r} before it is awaited", self._where(), fix))

    def __repr__(self) -> str:
        return f"<{self._call}, not awaited yet>" if self._fresh else f"<{self._call}>"


def awaited(fn: F) -> F:
    """Decorate an ``async def`` method so that each call gives a ``Pending``: its misuse names the remedy."""
    call = f"it.{fn.__name__}()"

    @wraps(fn)
    def method(*args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe(1)
        return Pending(fn(*args, **kwargs), call, (frame.f_code, frame.f_lasti))

    return cast("F", _mark(method))


def name_remedies(cls: type) -> None:
    """Do that to every public coroutine method of ``cls`` and its bases."""
    for base in cls.__mro__:
        for name, member in tuple(vars(base).items()):
            if not name.startswith("_") and iscoroutinefunction(member):
                setattr(base, name, awaited(member))
