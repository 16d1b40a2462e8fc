"""The executor for a cluster: Dask's ``distributed`` scheduler, which exists, and is not ours (the extra ``bateau[dask]``).

Dask's client has threads of its own; nothing of it runs on the runtime's thread, so it works on every runtime. Work is sent as bytes made
by ``cloudpickle``, which comes with Dask: lambdas and functions of the main program may be used. The workers need bateau installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ... import thread
from ...kernel.cancellation import CancelScope
from ...kernel.cleanup import Cleanup
from ...kernel.errors import Unsupported
from ...kernel.scope import Scope
from ...sync import Semaphore
from ...thread import CallbackFuture
from .chunking import shown
from .executor import Recipe, WorkerDied
from .remote import pack_items, receive, run
from .work import Outcome, Work

# Seconds to set a cluster of our own up, or to take it down.
CLEANUP_SECONDS = 30.0


class Dask(Recipe):
    """``bateau.iter.dask(where, workers=2)``: a scheduler's address, a ``distributed.Client``, or None for a local cluster."""

    kind = "dask"
    # A task costs Dask's scheduler about a millisecond.
    chunk_seconds = 0.05

    def __init__(self, where: Any = None, workers: int = 2) -> None:
        super().__init__(workers)
        if where is not None and not isinstance(where, str) and not hasattr(where, "submit"):
            raise TypeError(f"dask() takes a scheduler's address, a distributed.Client or None, not {where!r}")
        if getattr(where, "asynchronous", False):
            raise TypeError("dask() needs a plain distributed.Client, not an asynchronous one: its loop is not ours")
        self.where = where

    async def start(self, scope: Scope) -> DaskPool:
        """Connect, or set up a local cluster of worker processes. Raises ``Unsupported`` where Dask is not installed."""
        opened = Opened(self.where, self.workers)
        # Whoever is cancelled meanwhile still gets to know what was opened, and closes it with the scope.
        scope.defer(opened.aclose)
        await thread.run(opened.open)
        return DaskPool(opened, self.workers)

    def __repr__(self) -> str:
        return f"dask({'' if self.where is None else shown(self.where, 60)})"


class Opened:
    """A client, and the cluster behind it if we made it. Everything here runs on worker threads."""

    def __init__(self, where: Any, workers: int) -> None:
        self.where = where
        self.workers = workers
        self.client: Any = None
        self.cluster: Any = None

    def open(self) -> None:
        """Connect."""
        try:
            distributed: Any = import_module("distributed")
        except ImportError as error:
            raise Unsupported(
                "bateau.iter.dask() needs Dask's distributed scheduler: pip install 'bateau[dask]'"
            ) from error
        if self.where is None:
            self.cluster = distributed.LocalCluster(
                n_workers=self.workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                # What has killed one worker is not given to the next one: it is an error, as on every executor.
                scheduler_kwargs={"allowed_failures": 0},
            )
            self.client = distributed.Client(self.cluster, set_as_default=False)
        elif isinstance(self.where, str):
            self.client = distributed.Client(self.where, set_as_default=False)
        else:
            self.client = self.where

    def close(self) -> None:
        """Close what we opened: a client that was given stays open."""
        client, self.client = self.client, None
        cluster, self.cluster = self.cluster, None
        try:
            if client is not None and client is not self.where:
                client.close()
        finally:
            if cluster is not None:
                cluster.close()

    async def aclose(self) -> None:
        """``close``, also in a cancelled scope."""
        if self.client is not None or self.cluster is not None:
            async with Cleanup(CLEANUP_SECONDS):
                await thread.run(self.close)


class DaskPool:
    """See the module's head."""

    def __init__(self, opened: Opened, n: int) -> None:
        self._opened = opened
        self._permits = Semaphore(n, name="par dask")
        self._pickled: tuple[Work | None, bytes] = (None, b"")

    async def submit(self, work: Work, items: list[Any]) -> Outcome:
        """Cancelled, its future is: what is queued on the cluster is not run. What runs there already can't be interrupted by Dask; it
        goes on unheard, unless the cluster is ours and ends with the pipeline.
        """
        async with self._permits:
            future: Any = await thread.run(self._send, work, items)
            try:
                done: CallbackFuture[None] = CallbackFuture("a Dask future")
                future.add_done_callback(lambda future: done.set_result(None))  # pyright: ignore[reportUnknownLambdaType]  # Dask has no types
                await done
                blob = await thread.run(_result, future, items)
            except BaseException:
                with CancelScope(shield=True):
                    await thread.run(future.cancel)
                raise
            finally:
                with CancelScope(shield=True):
                    await thread.run(future.release)
        return receive(blob)

    def _send(self, work: Work, items: list[Any]) -> Any:
        cloudpickle: Any = import_module("cloudpickle")
        if self._pickled[0] is not work:
            self._pickled = (work, cloudpickle.dumps(work))
        # ``pure=False``: two equal chunks are two pieces of work.
        return self._opened.client.submit(run, self._pickled[1], pack_items(items, "the cluster"), pure=False)

    async def close(self) -> None:
        """Close the client and the cluster, where they are ours."""
        await self._opened.aclose()


def _result(future: Any, items: list[Any]) -> bytes:
    killed: Any = import_module("distributed.scheduler").KilledWorker
    try:
        results: bytes = future.result()
        return results
    except killed as error:
        raise WorkerDied(
            f"a Dask worker died while it had {len(items)} item(s): {shown(items)}\n{error}", items
        ) from error
