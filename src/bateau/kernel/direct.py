"""Awaiting a coroutine that the engine then resumes by itself, without the coroutines above it.

Theory of operation. Each resume of a task walks its chain of awaits, from the task's coroutine down to what is suspended, and each
coroutine on the way costs (20 ns on CPython 3.11). The program's root scope is such a coroutine, above every main function. So the
one that awaits ``resumed_directly(coro)`` is put aside with all that is above it: ``coro`` becomes the task's coroutine, and when it has
ended, the engine puts the others back and resumes them with what it returned or raised, in the same step. Its first step and
whatever that awaits are made as by any ``await``, so nothing is scheduled that would not have been.

Who puts what aside: ``task.aside`` is set exactly while the task's coroutine is one that is resumed directly. Then its coroutine and
``aside.above`` belong together: closing the task is closing both, inner one first (``close_coroutines``).
"""

from __future__ import annotations

from collections.abc import Generator
from types import CoroutineType, coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from .current import tls

if TYPE_CHECKING:
    from .task import Task

T = TypeVar("T")


class Aside:
    """The coroutines above one that is resumed directly, and how that has ended."""

    __slots__ = ("above", "error", "value")

    def __init__(self) -> None:
        # The task's coroutine before, suspended in ``resumed_directly``; None when it is put back.
        self.above: Any = None
        self.value: Any = None
        self.error: BaseException | None = None


@coroutine
def resumed_directly(coro: CoroutineType[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await it, in a task of an engine: what ``await coro`` returns or raises, without being resumed meanwhile.

    A cancellation point if ``coro`` has one: what is cancelled is ``coro``.
    """
    task: Any = tls.running.task  # asked first: asyncio's eager tasks clear it (see ``runtimes.native_asyncio``)
    aside = Aside()
    resume: Any = coro.send
    thrown: BaseException | None = None
    try:
        while True:
            try:
                trap = resume(thrown)
                aside.above = task.coro
                task.aside = aside
                task.coro, task.send = coro, None
                yield trap
                break
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]  # a StopIteration has no type for its value: it is coro's
            except GeneratorExit:
                if task.aside is aside:  # all is closed from above: the inner one first
                    coro.close()
                raise
            except BaseException as error:
                if coro.cr_frame is None:  # it has ended
                    raise
                # It is suspended, and a signal's handler has raised before the engine knew: let that arrive inside, as in any `await`.
                resume, thrown = coro.throw, error
            _take_back(task, aside)
        if aside.error is not None:
            raise aside.error
        return aside.value  # type: ignore[no-any-return]  # what coro returned, by way of the engine
    finally:
        _take_back(task, aside)
        del aside, thrown  # a frame that holds the exception that holds the frame would live until the collector comes


def _take_back(task: Task[Any], aside: Aside) -> None:
    """What is above is resumed by the engine again, if it was not already."""
    if task.aside is aside:
        if aside.above is not None:
            task.coro, task.send = aside.above, None
        aside.above = task.aside = None


def put_back(task: Task[Any], aside: Aside, value: Any, error: BaseException | None) -> None:
    """The task's coroutine has ended: the next one to be resumed is that which awaits it."""
    aside.value, aside.error = value, error
    task.coro, task.send = aside.above, None
    aside.above = task.aside = None


def close_coroutines(task: Task[Any]) -> None:
    """Close the coroutine of a task that will not be stepped any more, and what is above it. Raises what their cleanup raises."""
    try:
        if task.coro is not None:
            task.coro.close()
    finally:
        aside = task.aside
        if aside is not None:
            put_back(task, aside, None, GeneratorExit())
            task.coro.close()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # it was there before
