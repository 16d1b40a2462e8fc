"""Parallel iteration: ``AsyncIter.par(n, on=executor)`` runs a chain's functions in tasks, threads, processes, interpreters or on a cluster.

Read in this order: ``work`` (what is done for a chunk), ``chunking`` (how items become chunks and results items again), ``executor``
(the interface), ``stage`` (how it is part of a pipeline), ``pariter`` (what users see), then the executors, ``offload`` and ``graph``.
"""

from __future__ import annotations

from .executor import Executor, Pool, Recipe, SharedPool, WorkerDied
from .pariter import Parallel, ParIter
from .remote import RemoteError, WorkerTraceback
from .stage import ParProgress
from .work import Outcome, Work

__all__ = [
    "Executor",
    "Outcome",
    "ParIter",
    "Parallel",
    "Pool",
    "ParProgress",
    "Recipe",
    "RemoteError",
    "SharedPool",
    "Work",
    "WorkerDied",
    "WorkerTraceback",
]
