"""An exploration over several processes: each takes every n-th seed; the first failure of the lowest seed is the result.

Workers are forks, so that scenarios need not be importable or picklable. What comes back is counts and, of a failed run, its choices: the
parent makes that run again, shrinks it and tells it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exploring import Exploration
    from .running import Choices

# Runs between two reports of a worker.
REPORT_EVERY = 20

Failure = tuple[int, "Choices"]
Search = Callable[[list[int], Callable[["Exploration"], None]], "Failure | None"]


def search(
    seeds: list[int], jobs: int, look: Search, progress: Callable[[Exploration], None] | None
) -> tuple[Exploration, Failure | None]:
    """Run ``look`` over parts of ``seeds`` in ``jobs`` processes; what all have covered, and the failure of the lowest seed.

    Raises ``RuntimeError`` if a worker dies.
    """
    context = multiprocessing.get_context("fork")
    workers: dict[Connection, Any] = {}
    for number in range(jobs):
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(theirs, seeds[number::jobs], look), daemon=True)
        worker.start()
        theirs.close()
        workers[ours] = worker
    covered: dict[Connection, Exploration] = {}
    failure: Failure | None = None
    try:
        open_ = dict(workers)
        while open_:
            for ready in wait(list(open_)):
                assert isinstance(ready, Connection)
                try:
                    kind, value = ready.recv()
                except EOFError:
                    worker = open_.pop(ready)
                    worker.join()
                    raise RuntimeError(
                        f"a worker of the exploration died (exit code {worker.exitcode}); run with jobs=1 to see why"
                    ) from None
                if kind == "covered":
                    covered[ready] = value
                    if progress is not None:
                        progress(_sum(covered))
                else:
                    open_.pop(ready)
                    if value is not None and (failure is None or value[0] < failure[0]):
                        failure = value
            if failure is not None:
                break
    finally:
        for connection, worker in workers.items():
            worker.terminate()
            worker.join()
            connection.close()
            worker.close()
    return _sum(covered), failure


def _sum(parts: dict[Connection, Exploration]) -> Exploration:
    from .exploring import Exploration

    total = Exploration()
    for part in parts.values():
        total.merge(part)
    return total


def _work(connection: Connection, seeds: list[int], look: Search) -> None:
    """In the worker."""
    last: list[Exploration] = []

    def report(covered: Exploration) -> None:
        last[:] = [covered]
        if covered.runs % REPORT_EVERY == 0:
            connection.send(("covered", covered))

    failure = look(seeds, report)
    if last:
        connection.send(("covered", last[0]))
    connection.send(("end", failure))
    connection.close()
