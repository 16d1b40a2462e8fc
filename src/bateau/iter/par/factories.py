"""The executors and the task graph under the names by which programs ask for them: ``bateau.iter.processes(2)``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .cluster import Dask
    from .graph import Graph
    from .interpreters import Interpreters
    from .processes import Processes
    from .tasks import Tasks
    from .threads import Threads

K = TypeVar("K")
V = TypeVar("V")


class Executors:
    """Methods of ``bateau.iter``. Each executor is for ``par(on=...)``, ``offload(on=...)`` and ``graph(...).run(on=...)``, or for
    ``async with executor as pool:``, where several of these share its workers.
    """

    __slots__ = ()

    @staticmethod
    def tasks(n: int | None = None) -> Tasks:
        """Async functions that wait: up to ``n`` items under way in tasks of this thread (16, or what ``par`` was told)."""
        from .tasks import Tasks

        return Tasks(n)

    @staticmethod
    def threads(n: int | None = None) -> Threads:
        """Functions that block: ``n`` worker threads (one per CPU, or what ``par`` was told).

        Cancelled, a function under way is awaited, since a thread can't be killed; ``thread.check_cancelled()`` raises in it.
        """
        from .threads import Threads

        return Threads(n)

    @staticmethod
    def processes(n: int | None = None) -> Processes:
        """Functions that compute: ``n`` worker processes (one per CPU, or what ``par`` was told), started when first needed.

        Functions must be importable by name, items and results picklable; a program of one's own needs
        ``if __name__ == "__main__":``, because workers import it. Cancelled, the workers are ended. What they print comes out here.
        """
        from .processes import Processes

        return Processes(n)

    @staticmethod
    def interpreters(n: int | None = None) -> Interpreters:
        """Functions that compute: ``n`` interpreters inside this process, each with a lock of its own. Python 3.14 and later.

        As for ``processes``, functions must be importable; cancelled, a chunk under way is awaited.
        """
        from .interpreters import Interpreters

        return Interpreters(n)

    @staticmethod
    def dask(where: Any = None, workers: int = 2) -> Dask:
        """A Dask cluster (the extra ``bateau[dask]``): a scheduler's address, a ``distributed.Client``, or a local one of ``workers``
        processes that is set up and taken down with the pipeline.

        With an address or a client, ``workers`` is how many chunks are on the cluster at the same time. Cancelled, the futures are.
        """
        from .cluster import Dask

        return Dask(where, workers)

    @staticmethod
    def graph(values: Mapping[K, V], neighbours: Mapping[K, Iterable[K]] | Callable[[K], Iterable[K]]) -> Graph[K, V]:
        """Work in steps on parts that need their neighbours: see ``Graph``.

        ``values`` has the value of each part at the start; ``neighbours`` says for a part's key which others it needs.
        """
        from .graph import Graph

        return Graph(values, neighbours)
