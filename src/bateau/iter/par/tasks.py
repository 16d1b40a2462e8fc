"""The executor for waiting: each chunk in a task of the pipeline itself."""

from __future__ import annotations

from typing import Any

from ...kernel.hazard import report
from ...kernel.scope import Scope
from ...sync import Semaphore
from .executor import Recipe
from .work import Outcome, Work

# From how many seconds of work on, without a single wait, tasks are said to be the wrong place for it.
BUSY_SECONDS = 0.25


class Tasks(Recipe):
    """``bateau.iter.tasks(n)``: for functions that wait (async functions). Nothing runs in parallel, waits overlap."""

    kind = "tasks"
    chunk_seconds = None
    ahead = 0

    @property
    def workers(self) -> int:
        """How many items are worked on at the same time; 16 unless told."""
        return self.n if self.n is not None else 16

    async def start(self, scope: Scope) -> TaskPool:
        """There is nothing to start: who submits brings the task."""
        return TaskPool(self.workers, self._site)


class TaskPool:
    """See ``Tasks``. ``seconds`` adds up the work while nothing has waited; it ends the count at the first wait."""

    def __init__(self, n: int, site: tuple[str, int]) -> None:
        self._permits = Semaphore(n, name="par tasks")
        self._site = site
        self._seconds = 0.0
        self._waited = False

    async def submit(self, work: Work, items: list[Any]) -> Outcome:
        """Done in the calling task. Cancelled, the functions are cancelled where they wait."""
        async with self._permits:
            outcome = await work.run(items)
        if not self._waited:
            self._waited = outcome.waited
            self._seconds += outcome.seconds
            if not self._waited and self._seconds > BUSY_SECONDS:
                self._waited = True
                report(
                    "never_waits",
                    f"{work!r} worked for {self._seconds:.2f} s in tasks and never waited: tasks run one at a time, so nothing ran in "
                    "parallel and every other task was held up; use on=bateau.iter.processes(), or leave async out of it",
                    self._site,
                )
        return outcome

    async def close(self) -> None:
        """Nothing was started."""
