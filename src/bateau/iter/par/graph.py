"""Work in steps on parts that need their neighbours: a grid in blocks, a mesh, a network (story S48).

Theory of operation. The value of part ``k`` at step ``t`` is ``fn(k, its value at t-1, the values of its neighbours at t-1)``. Each of these
is a node; a node is ready when what it needs is there, so that parts far from each other may be some steps apart: there is no barrier, and
no worker waits for the slowest of all. Ready nodes, earliest steps first, are sent to the executor in chunks. A node's value depends on
nothing but its inputs, so it is the same, bit for bit, wherever and in which order they are computed.

Invariants: ``_values[k]`` holds those steps of ``k`` that somebody still needs: its own next, and those of the parts that have it as a
neighbour. ``_missing[k, t]`` counts the inputs that node still lacks; a node leaves it when it becomes ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from time import perf_counter
from typing import Any, Generic, TypeVar, cast

from ...kernel.current import current_host
from ...kernel.scope import Scope
from ...sync import Event
from ..stage import check_count, check_function
from .chunking import Sizes
from .executor import Executor, Pool, check_executor, sized
from .reducing import Spread
from .stage import ParProgress
from .tasks import Tasks
from .work import MAP, Step, Work

K = TypeVar("K")
V = TypeVar("V")


class Graph(Generic[K, V]):
    """The parts and who needs whom. Made by ``bateau.iter.graph(values, neighbours)``; may be run any number of times.

    Raises ``ValueError`` for a neighbour that is no part.
    """

    def __init__(self, values: Mapping[K, V], neighbours: Mapping[K, Iterable[K]] | Callable[[K], Iterable[K]]) -> None:
        self.values = dict(values)
        ask: Any = neighbours
        if hasattr(neighbours, "__getitem__"):
            ask = ask.__getitem__
        check_function(ask, "graph")
        # For each part the keys whose values it is given, in the order in which it gets them.
        self.needs: dict[K, tuple[K, ...]] = {}
        self.needed_by: dict[K, list[K]] = {key: [] for key in self.values}
        for key in self.values:
            self.needs[key] = around = tuple(dict.fromkeys(ask(key)))
            for other in around:
                if other not in self.values:
                    raise ValueError(f"part {key!r} has {other!r} as a neighbour, which is no part of this graph")
                if other != key:
                    self.needed_by[other].append(key)

    async def run(
        self,
        fn: Callable[[K, V, dict[K, V]], V],
        steps: int,
        *,
        on: Executor | None = None,
        n: int | None = None,
        chunk: int | None = None,
        progress: Callable[[ParProgress], object] | None = None,
    ) -> dict[K, V]:
        """Every part's value after ``steps`` steps of ``fn(key, value, neighbours)``, where ``neighbours`` maps keys to values.

        ``on``, ``n``, ``chunk``, ``progress``: as in ``par``. The result is the same, bit for bit, on every executor, if ``fn`` depends
        on nothing but its arguments (and changes none of them). A part that fails ends the run with its error. A cancellation point;
        cancelled, the workers have ended.
        """
        check_function(fn, "run")
        check_count(steps, "run", 0, "steps")
        if n is not None:
            check_count(n, "run")
        if chunk is not None:
            check_count(chunk, "run", name="chunk")
        if on is None:
            on = Tasks()
        check_executor(on, ".run()")
        on = sized(on, n)
        check: Callable[[object, str], None] | None = getattr(on, "check", None)
        if check is not None:
            check(fn, "run")
        work = Work([Step(MAP, "run", Spread(fn))], runtime=current_host().name)
        sizes = Sizes(chunk, getattr(on, "chunk_seconds", 0.005))
        running = Run(self, work, steps, n if n is not None else on.workers, sizes, progress)
        async with Scope(name="graph") as scope:
            pool = await on.start(scope)
            await running.drive(pool)
            await pool.close()
        if running.error is not None:
            raise running.error
        return running.results()


class Run(Generic[K, V]):
    """One run of a graph. See the module's head for its invariants."""

    def __init__(
        self,
        graph: Graph[K, V],
        work: Work,
        steps: int,
        n: int,
        sizes: Sizes,
        progress: Callable[[ParProgress], object] | None,
    ) -> None:
        self.graph = graph
        self.work = work
        self.steps = steps
        self.n = n
        self.sizes = sizes
        self.progress = progress
        self.error: BaseException | None = None
        self._values: dict[K, dict[int, V]] = {key: {0: value} for key, value in graph.values.items()}
        # How many nodes still need a value: the part's own next step, and one for each that has it as a neighbour.
        self._users: dict[tuple[K, int], int] = {}
        self._missing: dict[tuple[K, int], int] = {}
        self._place = {key: number for number, key in enumerate(graph.values)}
        self._keys = list(graph.values)
        self._ready: list[tuple[int, int]] = []
        self._flying = 0
        self._done = 0
        self._chunks = 0
        self._began = perf_counter()
        self._changed = Event()

    async def drive(self, pool: Pool) -> None:
        """Submit what is ready until nothing is left, or a part has failed."""
        if not self.steps:
            return
        total = self.steps * len(self._keys)
        for key in self._keys:
            self._arrived(key, 0)
        async with Scope(name="graph steps") as scope:
            while self._done < total and self.error is None:
                while self._ready and self._flying < self.n:
                    self._flying += 1
                    scope.spawn(self._send, pool, self._chunk(), name="graph chunk")
                self._changed.clear()
                await self._changed.wait()
            if self.error is not None:
                scope.cancel("a part of the graph has failed")

    def results(self) -> dict[K, V]:
        """The values after the last step."""
        return {key: values[self.steps] for key, values in self._values.items()}

    def _chunk(self) -> list[tuple[K, int]]:
        """The nodes to send next: the earliest, and no more than leave something to every idle worker."""
        fair = -(-len(self._ready) // (self.n - self._flying + 1))
        count = self.sizes.size if self.sizes.fixed else min(self.sizes.size, fair)
        nodes: list[tuple[K, int]] = []
        while self._ready and len(nodes) < count:
            step, place = heappop(self._ready)
            nodes.append((self._keys[place], step))
        return nodes

    async def _send(self, pool: Pool, nodes: list[tuple[K, int]]) -> None:
        try:
            outcome = await pool.submit(self.work, [self._inputs(*node) for node in nodes])
            self._chunks += 1
            self.sizes.learn(len(nodes), outcome.seconds)
            for trouble in outcome.troubles:
                key, step = nodes[trouble.number]
                trouble.error.add_note(f"part {key!r} of the graph, at step {step}")
                raise trouble.error
            for (key, step), value in zip(nodes, outcome.results, strict=True):
                self._computed(key, step, cast("V", value))
            if self.progress is not None:
                seconds = perf_counter() - self._began
                self.progress(
                    ParProgress(self._done, 0, self._chunks, seconds, self.sizes.size, self.sizes.cost or 0.0)
                )
        except Exception as error:
            if self.error is None:
                self.error = error
        finally:
            self._flying -= 1
            self._changed.set()

    def _inputs(self, key: K, step: int) -> tuple[K, V, dict[K, V]]:
        around = {other: self._values[other][step - 1] for other in self.graph.needs[key]}
        return key, self._values[key][step - 1], around

    def _computed(self, key: K, step: int, value: V) -> None:
        self._done += 1
        self._values[key][step] = value
        for used in dict.fromkeys((key, *self.graph.needs[key])):
            left = self._users[used, step - 1] - 1
            if left:
                self._users[used, step - 1] = left
            else:  # nobody needs it any more
                del self._users[used, step - 1], self._values[used][step - 1]
        self._arrived(key, step)

    def _arrived(self, key: K, step: int) -> None:
        """A value is there: who waited for it may be ready."""
        if step == self.steps:
            return
        users = self.graph.needed_by[key]
        self._users[key, step] = len(users) + 1
        for user in (key, *users):
            node = (user, step + 1)
            left = self._missing.get(node)
            if left is None:
                left = len({user, *self.graph.needs[user]})
            if left > 1:
                self._missing[node] = left - 1
            else:
                self._missing.pop(node, None)
                heappush(self._ready, (step + 1, self._place[user]))
