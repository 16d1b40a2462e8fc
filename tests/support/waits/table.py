"""The table of waits: what a case is, and the world it is made in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import bateau
from bateau import time
from support.waiting import until

Names = list[str] | Literal["outside"]
ANYBODY: Any = None  # depends on who has used it so far; not checked


@dataclass
class Case:
    """A wait of the task `waiter`, and what it must answer."""

    wait: Callable[[], Awaitable[Any]]
    describe: str  # a regular expression for the operation's own line
    satisfiers: Names = "outside"
    holders: list[str] = field(default_factory=list)
    # Clocks and the like have too many waiters to keep a list of their own.
    knows_waiters: bool = True


Setup = Callable[["World"], Awaitable[Case]]
TABLE: dict[str, Setup] = {}


def case(fn: Setup) -> Setup:
    TABLE[fn.__name__] = fn
    return fn


class World:
    """What a case is made in: `holder` tasks that sit on things, and things that are closed at the end."""

    def __init__(self, scope: bateau.Scope, stack: AsyncExitStack) -> None:
        self.scope = scope
        self.stack = stack

    async def task(self, fn: Callable[[], Awaitable[Any]], name: str = "holder") -> bateau.Task[Any]:
        """A task that does `fn` and then stays."""
        done = False

        async def stay() -> None:
            nonlocal done
            await fn()
            done = True
            await time.sleep_forever()

        task = self.scope.spawn(stay, name=name)
        await until(lambda: done)
        return task

    async def open(self, manager: Any) -> Any:
        return await self.stack.enter_async_context(manager)
