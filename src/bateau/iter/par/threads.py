"""The executor for functions that block: files, sockets of other libraries, C code that releases the interpreter's lock."""

from __future__ import annotations

from typing import Any

from ... import thread
from ...kernel.scope import Scope
from ...sync import Semaphore
from .executor import Recipe
from .work import Outcome, Work


class Threads(Recipe):
    """``bateau.iter.threads(n)``: on the process's worker threads."""

    kind = "threads"

    async def start(self, scope: Scope) -> ThreadPool:
        """There is nothing to start: the worker threads are the process's."""
        return ThreadPool(self.workers)


class ThreadPool:
    """See ``Threads``."""

    def __init__(self, n: int) -> None:
        self._permits: Any = Semaphore(n, name="par threads")

    async def submit(self, work: Work, items: list[Any]) -> Outcome:
        """Cancelled, it ends after the item under way: a thread can't be killed. The function can help, by ``check_cancelled()``."""
        return await thread.run(work, items, limiter=self._permits)

    async def close(self) -> None:
        """Nothing was started."""
