"""``concurrent.futures.ThreadPoolExecutor`` in a world: real code on simulated threads, one set of workers for each process.

An executor that was made elsewhere (a module's global, from its import) is to each process as if that process had made it: its own threads
and its own queue, under the same settings.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import thread as _module
from typing import TYPE_CHECKING, Any

from .queues import SimpleQueue

if TYPE_CHECKING:
    from .table import ThreadTable

_Executor: Any = _module.ThreadPoolExecutor
real_init, real_submit, real_shutdown = _Executor.__init__, _Executor.submit, _Executor.shutdown

# The process that an executor belongs to.
_HOME = "_bateau_home"


class Ordered(set[Any]):
    """The workers of an executor, which joins them one by one: in the order of their start, not of their addresses."""

    def __init__(self) -> None:
        super().__init__()
        self._order: dict[Any, None] = {}

    def add(self, element: Any, /) -> None:
        """Append it, unless it is in."""
        super().add(element)
        self._order[element] = None

    def __iter__(self) -> Iterator[Any]:
        return iter(tuple(self._order))


def prepare(table: ThreadTable, executor: Any, *, named: bool) -> None:
    """A new executor of this process: what would differ from run to run is made anew."""
    setattr(executor, _HOME, table.process)
    executor._threads = Ordered()
    if not named:
        executor._thread_name_prefix = f"ThreadPoolExecutor-{table.next('ThreadPoolExecutor') - 1}"


def own(table: ThreadTable, executor: Any) -> Any:
    """What ``executor`` is to this process: itself, or one like it."""
    if getattr(executor, _HOME, None) is table.process:
        return executor
    found = table.executors.get(executor)
    if found is None:
        found = table.executors[executor] = _Executor.__new__(type(executor))
        found.__dict__.update(executor.__dict__)
        found._work_queue = SimpleQueue()
        found._idle_semaphore = threading.Semaphore(0)
        found._shutdown_lock = threading.Lock()
        found._broken = found._shutdown = False
        prepare(table, found, named=True)
    return found


def shut_down(table: ThreadTable) -> None:
    """The process leaves: let its workers end when they have done what was submitted."""
    mine = set(table.known.values())
    for thread, queue in tuple(_module._threads_queues.items()):
        if thread in mine:
            # The first of a worker's arguments is a weak reference to its executor; they are deleted when it ends.
            arguments = getattr(thread, "_args", None)
            executor = arguments[0]() if arguments else None
            if executor is not None:
                executor._shutdown = True
            queue.put(None)
