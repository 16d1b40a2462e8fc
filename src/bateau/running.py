"""Starting programs: ``run``, ``main`` and ``block_on``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar, TypeVarTuple, overload

from .runtimes import registry
from .runtimes.base import Runtime

T = TypeVar("T")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")


def run(fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts, runtime: str | Runtime | None = None) -> T:
    """Run ``await fn(*args)`` as a program, to its end; returns its value or raises its error.

    ``runtime``: a name (``bateau runtimes`` lists them) or a runtime object; None takes ``BATEAU_RUNTIME``, else the
    platform's default. Ctrl-C asks the program to stop, a second one cancels it, a third raises at once.
    Raises ``NestedRun`` where a program is running on this thread, ``Deadlock`` where it can never end.
    """
    return registry.get(runtime).run(fn, *args)


@overload
def main(fn: Callable[P, Awaitable[T]], /) -> Callable[P, T]: ...
@overload
def main(*, runtime: str | Runtime | None = None) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, T]]: ...
def main(
    fn: Callable[P, Awaitable[T]] | None = None, /, *, runtime: str | Runtime | None = None
) -> Callable[P, T] | Callable[[Callable[P, Awaitable[T]]], Callable[P, T]]:
    """Decorate an async function: ``@bateau.main`` or ``@bateau.main(runtime="trio")``. Calling it runs the program.

    The runtime is looked up when it is called, so ``BATEAU_RUNTIME`` can still choose.
    """

    def decorate(fn: Callable[P, Awaitable[T]]) -> Callable[P, T]:
        from functools import wraps

        @wraps(fn)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return registry.get(runtime).main(fn)(*args, **kwargs)

        return call

    return decorate if fn is None else decorate(fn)
