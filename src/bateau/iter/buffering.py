"""Working on several items of a chain at once, within exact bounds: what ``buffered`` and its kin run.

Theory of operation. ``n`` workers at most, each a task of the pipeline. A worker claims the next item (one at a time: the chain
before is asked by one task only), runs the item's function, and puts the result in line: into the place its claim was given
(``buffered``), or behind what is done already (``buffered_unordered``). The consumer takes from the head.

The bound is on what is claimed and not yet taken by the consumer: never more than ``n`` items have left the source, whether they
are being worked on or done. Workers go on while the consumer's body runs, which is the point (S23), until the bound is reached.

What keeps it cheap: a worker goes on claiming as long as it may, and before it runs a function it makes sure that *one* other
worker, the scout, is awake to claim the next item should that function wait. So a function that never waits is run by one
worker, switches are per bound and not per item, and no more tasks exist than there were waits at once. Where one call takes all
items into a list (``drain``), the workers put them there themselves, and the consumer sleeps till the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from types import CoroutineType
from typing import Any, Final

from ..kernel.current import current_task
from ..kernel.errors import Cancelled
from ..kernel.operation import STEP_BUDGET, Checkpoint, Operation
from ..kernel.resource import Resource
from ..kernel.task import Task
from .brief import Brief
from .flow import END, Failure, Flow, Need, Signal, is_cut, look_around, of_the_cut
from .handoff import raised_cancelled, stopped
from .interior import soon
from .stage import PLAIN, is_awaitable

_COROUTINE: Final[Any] = CoroutineType
PENDING: Final[Any] = object()
# What a worker's stages give for an item they have dropped (``filter``).
DROPPED: Final[Any] = object()

# Starts a task for the buffer: an interior's ``spawn``, or that of a scope.
Spawn = Callable[..., Task[Any]]
Work = Callable[[Any], Any]


class Worker:
    """One of the tasks of a buffer. ``place`` is its item's in the line, a list of one element, while it has an unfinished one."""

    __slots__ = ("asking", "awake", "place")

    def __init__(self) -> None:
        # Whether it will look for a claim as soon as it runs.
        self.awake = False
        self.place: list[Any] | None = None
        # Whether it is the one that asks the chain before.
        self.asking = False


class Line(Resource):
    """What one consumer waits at for what several tasks bring. It is told that there is something, and takes it when it runs:
    until then it is not taken, and a wait that is given up has nothing to give back.

    Invariant: a consumer is parked (``_taker``) only while nothing is ``there``.
    """

    __slots__ = ("_taker",)

    def __init__(self) -> None:
        self._taker: Ready | None = None

    def there(self) -> bool:
        """Whether ``take`` has something to give: an item, a ``Failure``, ``END``."""
        raise NotImplementedError

    def take(self) -> Any:
        """Take what is ``there``."""
        raise NotImplementedError

    def tell(self) -> None:
        """Something has come, or nothing will: wake the consumer, if it waits for that."""
        taker = self._taker
        if taker is not None and self.there():
            self._taker = None
            taker.fire(None)

    def ready(self) -> Ready:
        """Await it: until something is there."""
        return Ready(self)

    def items(self) -> Iterator[Any]:
        """The generator of a stage that gives what comes here."""
        need = Need()
        while True:
            if not self.there():
                yield need.of(self.ready)
                if need.error is not None:
                    yield Failure(need.error)
                continue
            item = self.take()
            if item is END:
                return
            yield item


class Buffer(Line):
    """What the workers and the consumer of one ``buffered`` share.

    Invariants: ``claimed`` counts the items taken from the chain before and not yet taken by the consumer, the one just being
    asked for included; it never exceeds ``bound``. ``claiming`` is true while a worker is asking. ``line`` holds what the
    consumer gets next, in lists of one element: the result, or ``PENDING``; of an ordered buffer it has one for each claim.
    ``awake`` counts the workers that will look for a claim as soon as they run. If there is none, nothing may be claimed, or the
    consumer's next question wakes or makes one.
    """

    __slots__ = (
        "_sink",
        "awake",
        "bound",
        "claimed",
        "claiming",
        "ended",
        "flow",
        "idle",
        "label",
        "line",
        "make_work",
        "most",
        "ordered",
        "plain_work",
        "spawn",
        "where",
        "workers",
    )
    kind = "buffer"

    def __init__(
        self,
        flow: Flow[Any],
        spawn: Spawn,
        bound: int,
        label: str,
        where: str,
        *,
        ordered: bool,
        make_work: Callable[[], Work] | None,
        plain_work: bool = False,
    ) -> None:
        self.flow = flow
        self.spawn = spawn
        self.bound = bound
        self.label = label
        self.where = where
        self.ordered = ordered
        # Makes what a worker does with an item; None: nothing is left to do, one worker fetches them ahead.
        self.make_work = make_work
        # Whether that is one function of the user's, whose result is just that: neither ``DROPPED`` nor a ``Failure``.
        self.plain_work = plain_work
        self.most = bound if make_work is not None else 1
        self.claimed = 0
        self.claiming = False
        self.ended = False
        self.line: deque[list[Any]] = deque()
        self.workers: dict[Task[Any], Worker] = {}
        # The workers that are parked. A dict for its order, the youngest are woken first.
        self.idle: dict[Idle, None] = {}
        self.awake = 0
        super().__init__()
        self._sink: Callable[[Any], object] | None = None

    # -- claiming ------------------------------------------------------------------------------------------------------

    def invite(self) -> None:
        """Something has changed: see that a worker is awake to claim, if one may."""
        if self.awake or self.ended or self.claiming or self.claimed >= self.bound:
            return
        if self.idle:
            op, _ = self.idle.popitem()
            self._wake(op.worker)
            op.fire(None)
        elif len(self.workers) < self.most:
            worker = Worker()
            try:
                task = self.spawn(self._work, worker, name=f"{self.label} worker {len(self.workers) + 1}")
            except (
                Exception
            ) as error:  # the scope takes no more tasks: the end of the items, and an error in the next one's place
                self._broken(worker, error)
                return
            self.workers[task] = worker
            self._wake(worker)
            task.at_end = {self: self._gone}

    def _wake(self, worker: Worker) -> None:
        worker.awake = True
        self.awake += 1

    def end(self) -> None:
        """Nothing more is to be claimed: idle workers go home."""
        self.ended = True
        while self.idle:
            self.idle.popitem()[0].fire(None)
        self.tell()

    # -- the workers ---------------------------------------------------------------------------------------------------

    async def _work(self, worker: Worker) -> None:
        """A worker's life: born as the scout. Whatever ends it, ``_gone`` is told."""
        task = current_task()
        flow, line, ordered = self.flow, self.line, self.ordered
        work = self.make_work() if self.make_work is not None else None
        item: Any = None
        try:
            while True:
                if worker.awake:
                    worker.awake = False
                    self.awake -= 1
                if self.claiming or self.ended or self.claimed >= self.bound:
                    if self.ended:
                        return
                    await Idle(self, worker)
                    continue
                self.claiming = worker.asking = True
                self.claimed += 1
                worker.place = place = [PENDING]
                if ordered:
                    line.append(place)
                item = flow.poll()
                if item.__class__ is Need:
                    item = await flow.next()
                self.claiming = worker.asking = False
                if item is END:
                    self._unclaim(worker)
                    self.end()
                    return
                result = item
                if not self.awake:
                    self.invite()
                if work is not None and not isinstance(item, Signal):
                    try:
                        result = work(item)
                        if type(result) is _COROUTINE or (type(result) not in PLAIN and is_awaitable(result)):
                            result = await result
                    except Exception as error:
                        if of_the_cut(task, error):
                            raise
                        result = Failure(error, item)
                worker.place = None
                place[0] = result
                if not ordered:
                    line.append(place)
                if result is DROPPED and line[0 if ordered else -1] is place:
                    _ = line.popleft() if ordered else line.pop()
                    self.claimed -= 1
                    self.tell()
                elif line[0] is place:
                    self.tell()
                    if self._sink is not None and not self.claimed and work is not None and not self.ended:
                        await self._alone(worker, work)
                        task.budget = 0
                task.budget -= 1
                if task.budget <= 0:
                    self._wake(worker)
                    await Checkpoint()
        except Cancelled as error:
            self._cancelled(worker, error, task, item)
            raise
        except GeneratorExit:
            raise
        except BaseException as error:
            if of_the_cut(task, error):
                self.ended = True
                raise  # in its place the consumer, if it is still there, finds that it was ended: see `_gone`
            self._broken(worker, error)

    async def _alone(self, worker: Worker, work: Work) -> None:
        """While no other worker has an item, results go straight into the sink: for a number of items, as long as nobody comes.

        A place in the line is held all the time, for whichever item is the current one.
        """
        sink, place, item = self._sink, [PENDING], None
        assert sink is not None
        self.claimed = 1
        worker.place = place
        if self.ordered:
            self.line.append(place)
        self.invite()
        result: Any = None
        coroutine, plain = _COROUTINE, self.plain_work
        try:
            for item in islice(self.flow.gen, STEP_BUDGET):
                if isinstance(item, Signal):
                    if item.__class__ is not Need:
                        result = item
                        break
                    assert isinstance(item, Need)
                    self.flow.pending = item  # the next claim awaits it
                    self._unclaim(worker)
                    return
                result = work(item)
                if type(result) is coroutine or type(result) not in PLAIN and is_awaitable(result):
                    result = await result
                if self.claimed != 1 or not (plain or (result is not DROPPED and result.__class__ is not Failure)):
                    break
                sink(result)
            else:
                self._unclaim(worker)
                return
        except Exception as error:
            if of_the_cut(current_task(), error):
                raise
            result = Failure(error, item)
        worker.place = None
        place[0] = result
        if not self.ordered:
            self.line.append(place)
        if self.line[0] is place:
            self.tell()

    def _unclaim(self, worker: Worker) -> None:
        """A claim comes to nothing: no item was there. Its place is the last one, since nobody else could claim meanwhile."""
        worker.place = None
        worker.asking = False
        self.claimed -= 1
        if self.ordered:
            self.line.pop()

    def _cancelled(self, worker: Worker, error: Cancelled, task: Task[Any], item: object) -> None:
        """A worker ends by a cancellation: of the pipeline, by foreign code, or one that its function came upon and let out."""
        if is_cut(task):
            if not self.ended and worker.place is None:
                self._broken(worker, stopped(self.label))  # what comes after it was not reached: that is no end
            self.ended = True
        elif worker.asking:  # only this task was cancelled; what it asked for is still pending, for the next one to ask
            self.claiming = False
            self._unclaim(worker)
        elif worker.place is not None:
            self._fill(worker, Failure(raised_cancelled(self.label, error), item))

    def _broken(self, worker: Worker, error: BaseException) -> None:
        """Something worse than an ``Exception``, or a defect in the chain before: the consumer gets it, in its place."""
        self.ended = True
        if worker.place is None:
            worker.place = place = [PENDING]
            self.claimed += 1
            if self.ordered:
                self.line.append(place)
        self._fill(worker, Failure(error))

    def _fill(self, worker: Worker, result: Any) -> None:
        place, worker.place = worker.place, None
        assert place is not None
        if worker.asking:
            self.claiming = worker.asking = False
        place[0] = result
        if not self.ordered:
            self.line.append(place)
        self.tell()

    def _gone(self, task: Task[Any]) -> None:
        """A worker has ended, in whatever way: nobody must wait for it any more."""
        worker = self.workers.pop(task)
        if worker.awake:
            self.awake -= 1
        if worker.place is not None:
            self._fill(worker, Failure(stopped(self.label)))
        if self.ended:
            self.end()
        else:
            self.invite()

    # -- the consumer --------------------------------------------------------------------------------------------------

    def there(self) -> bool:
        line, sink = self.line, self._sink
        while line and (result := line[0][0]) is not PENDING:
            if result is not DROPPED and (sink is None or result.__class__ is Failure):
                return True
            line.popleft()
            self.claimed -= 1
            if result is not DROPPED and sink is not None:
                sink(result)
        if not self.awake:
            self.invite()
        return self.ended and not self.claimed

    def take(self) -> Any:
        if not self.line:
            return END
        result = self.line.popleft()[0]
        self.claimed -= 1
        if not self.awake:
            self.invite()
        return result

    def items(self) -> Iterator[Any]:
        need, line = Need(), self.line
        while True:
            while (
                line and (result := line[0][0]) is not PENDING and result is not DROPPED
            ):  # the most frequent way, written out
                line.popleft()
                self.claimed -= 1
                if not self.awake:
                    self.invite()
                yield result
            if not self.there():
                yield need.of(self.ready)
                if need.error is not None:
                    yield Failure(need.error)
            elif not line:
                return

    async def drain(self, sink: Callable[[Any], object]) -> None:
        """Everything into ``sink``, which the workers call; the first failure is raised. A cancellation point."""
        self._sink = sink
        try:
            self.invite()
            await Ready(self)
        finally:
            self._sink = None
        result = self.take()
        if result is not END:
            await look_around(result.error)
            raise result.error

    def close(self, *, cancel: bool = False) -> None:
        """The consumer has left. What runs is ended by the pipeline's scope, or else now (``cancel``)."""
        self.ended = True
        try:
            self.flow.close()
        finally:
            if cancel:
                for task in self.workers:
                    soon(task.host, partial(task.cancel, "its iterator was left"))

    def cancel(self) -> None:
        """End the workers."""
        self.ended = True
        for task in tuple(self.workers):
            task.cancel("its iterator was left")

    # -- as a resource -------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        found: list[Operation[Any]] = list(self.idle)
        return [*found, self._taker] if self._taker is not None else found

    def satisfiers(self) -> Iterable[Task[Any]]:
        return [task for task in self.workers if not task.ended] if self._taker is not None else ()

    def describe(self) -> str:
        return f"{self.label} of the pipeline ({self.where}): {self.claimed} of {self.bound} claimed"


class Idle(Brief[None]):
    """A worker's wait until there may be something to claim: it looks for itself then."""

    __slots__ = ("worker",)
    resource: Buffer

    def __init__(self, buffer: Buffer, worker: Worker) -> None:
        super().__init__(buffer)
        self.worker = worker

    def poll(self) -> bool:
        return self.resource.ended

    def register(self) -> None:
        self.resource.idle[self] = None

    def unregister(self) -> None:
        self.resource.idle.pop(self, None)

    def describe(self) -> str:
        return f"claim of an item by {self.resource.describe()}"


class Ready(Brief[None]):
    """The consumer's wait until something is there."""

    __slots__ = ()
    resource: Line

    def poll(self) -> bool:
        return self.resource.there()

    def register(self) -> None:
        self.resource._taker = self

    def unregister(self) -> None:
        self.resource._taker = None

    def describe(self) -> str:
        return f"next item of {self.resource.describe()}"
