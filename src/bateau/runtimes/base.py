"""The runtime contract: what a third party implements, and what users call.

A runtime is an object with a name that can ``open`` a *session*: one loop on one thread, with the host that the kernel
talks to. There are two easy ways to write one:

- you have your own way to wait for the outside world: subclass ``bateau.kernel.engine.Engine`` (or reuse
  ``runtimes.native.NativeEngine``), give it a driver (``now``, ``poll``, ``wake``) and return an ``EngineSession``;
- you ride on a loop with tasks of its own: subclass ``Host`` and return a session that runs a coroutine on that loop.

Register under the entry-point group ``bateau.runtimes`` and prove it with ``bateau.testing.conformance``. Everything else
here (``run``, ``main``, ``spawn``, ``supports``) comes with the base class.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, TypeVarTuple

from ..kernel.current import current_task_or_none
from ..kernel.errors import NestedRun, Unsupported
from ..kernel.host import Host

if TYPE_CHECKING:
    from .program import CrossTask, Program

T = TypeVar("T")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")

CONTRACT_VERSION = 1

# Every feature a runtime may have, and what to use where it has not.
FEATURES: dict[str, str] = {
    "asyncio": "use runtime='native', 'asyncio' or 'uvloop' to await asyncio's own objects",
    "trio": "use runtime='trio' to await trio's own objects",
    "deadlock_detection": "use runtime='native' to have a proven deadlock raised",
    "nested_block_on": "use runtime='native', or make the calling function async",
    "scheduling_policy": "use runtime='native'",
    "fds": "use runtime='native', 'asyncio' or 'trio' for sockets",
    "fork": "run the child with a fresh interpreter (subprocess)",
}


class Session:
    """One loop on one thread, open until ``close``. ``host`` is set while it is open."""

    host: Host
    # Set where several runs share the session (``block_on``): what foreign ``create_task`` made lives on until ``close``.
    keep_leftovers: bool = False

    def run(self, root: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``root()`` to its end as the session's main task, and return its value or raise its error."""
        raise NotImplementedError

    def close(self) -> None:
        """End everything that is left and free the loop. Idempotent."""
        raise NotImplementedError


class Runtime:
    """Base class of every runtime. Subclasses set ``name`` and ``features`` and implement ``open``."""

    name: str = "?"
    contract_version: int = CONTRACT_VERSION
    features: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._program: Program | None = None

    # -- what a subclass provides ----------------------------------------------------------------------------------------

    def open(self) -> Session:
        """Make the loop on the calling thread."""
        raise NotImplementedError

    def unavailable(self) -> str | None:
        """Why this runtime can't run here (and what to install), or None if it can."""
        return None

    @property
    def ext(self) -> Any:
        """What only this runtime has; raises ``Unsupported`` if it has nothing to add."""
        raise Unsupported(f"runtime {self.name!r} has no extensions")

    # -- what users call -------------------------------------------------------------------------------------------------

    def supports(self, feature: str) -> bool:
        """Whether this runtime has ``feature``; an unknown name is a ``ValueError`` that lists the known ones."""
        if feature not in FEATURES:
            raise ValueError(f"unknown feature {feature!r}; known: {', '.join(sorted(FEATURES))}")
        return feature in self.features

    def require(self, feature: str) -> None:
        """Raise ``Unsupported``, naming this runtime and an alternative, unless it has ``feature``."""
        if not self.supports(feature):
            raise Unsupported(f"runtime {self.name!r} has no {feature}; {FEATURES[feature]}")

    def run(self, fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts) -> T:
        """Run ``await fn(*args)`` as a program on this runtime, to its end; returns its value or raises its error.

        Ctrl-C asks the program to stop, a second one cancels it, a third raises ``KeyboardInterrupt`` on the spot if the
        program's own code holds the thread, else cancels what is shielded as well.
        Raises ``NestedRun`` on a thread where a program is running already.
        """
        from .program import Program

        self.check_not_running()
        session = self.open()
        try:
            return Program(self, session.host).run(session, fn, args)
        finally:
            session.close()

    def main(self, fn: Callable[P, Awaitable[T]]) -> Callable[P, T]:
        """Decorate an async function: calling it runs it as a program on this runtime."""

        @wraps(fn)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            async def with_arguments() -> T:
                return await fn(*args, **kwargs)

            return self.run(with_arguments)

        return call

    def spawn(self, fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts, name: str | None = None) -> CrossTask[T]:
        """Spawn into this runtime's running program, from any thread or runtime; the handle can be awaited there.

        Raises ``RuntimeError`` if no program runs on this runtime object.
        """
        program = self._program
        if program is None:
            raise RuntimeError(
                f"no program is running on this {self.name!r} runtime object; start one with rt.run(main) first"
            )
        return program.spawn(fn, args, name)

    def check_not_running(self) -> None:
        """Raise ``NestedRun``, naming both sides, if this thread is inside a program already."""
        task = current_task_or_none()
        if task is not None:
            raise NestedRun(
                f"can't start a program on runtime {self.name!r} here: task {task.name!r} is running on "
                f"{task.host.describe()}; await the function instead, or use bateau.block_on from sync code"
            )
        events = sys.modules.get("asyncio.events")
        if events is not None and events._get_running_loop() is not None:
            raise NestedRun(
                f"can't start a program on runtime {self.name!r} here: an asyncio loop is running on this thread (this is "
                "one of its callbacks); make it a task of that loop instead"
            )

    def __repr__(self) -> str:
        return f"<bateau runtime {self.name!r}>"
