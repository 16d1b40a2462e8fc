"""How a pipeline moves: each stage is a plain generator, and what passes between stages is an item or a ``Signal``.

Theory of operation. The stages of a chain run inside each other, as synchronous generators: pulling the last one pulls the
one before, down to the source. A stage that has to wait yields a ``Need`` (something to await, and how to ask again); the
stages after it hand it on untouched, and the *driver* on top awaits it, puts the answer in, and pulls again. An item whose
function failed travels as a ``Failure`` in its place, so that what comes after it is not lost; the driver raises it.

That gives a chain of ten stages the cost of ten generator resumes and no coroutine (measured: 0.1 us a stage), and it makes
waiting safe to cancel: nothing but the driver ever awaits, and a ``Need`` that was not answered is still there at the next pull,
with every stage suspended around it. What it asked for is asked again if that was an operation of ours, which a cancellation
leaves without effect; what a user's function gave goes on in a task of the pipeline, and the next pull waits for that task
(nobody's function is called twice, or cut in the middle, because its consumer lost patience). Where nobody can come back,
inside ``collect`` and its like, it is awaited in place. So a timed-out ``next`` loses no item (law 9 for pipelines).

The rule for a stage: hand every ``Signal`` on as it is; hold an item until its successor has been asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ..kernel.current import current_task, tls
from ..kernel.errors import Cancelled, ScopeError, TaskCancelled
from ..kernel.operation import ABORTED, Checkpoint, Operation
from .misuse import two_at_once

if TYPE_CHECKING:
    from ..kernel.task import Task
    from .errand import Errands
    from .interior import Interior

T = TypeVar("T")


class Signal:
    """What a stage must hand on instead of treating it as an item."""

    __slots__ = ()


class End(Signal):
    """The generator is over. There is one, ``END``; no stage ever yields it."""

    __slots__ = ()


END: Final = End()


class Failure(Signal):
    """An item that failed, in the place where it would have been; ``item`` is what the failed function was given."""

    __slots__ = ("error", "item")

    def __init__(self, error: BaseException, item: object = None) -> None:
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            # Raised by a driver it would be taken for the end, and what comes after it would be lost without a word.
            name = type(error).__name__
            stop, error = error, RuntimeError(f"{name} was raised inside a pipeline, where it would pass for its end")
            error.__cause__ = stop
        self.error = error
        self.item = item


class Need(Signal):
    """A stage needs something awaited. It yields the need and finds, when resumed, ``value`` or ``error`` filled in.

    A stage may use one need again and again: it has one open wait at a time. Two forms: ``of(again)`` for a wait that a
    cancellation leaves without effect, so that it can be asked again; ``of(again, first)`` for ``first``, which is somebody's
    work and is awaited once.
    """

    __slots__ = ("again", "error", "first", "value")

    def __init__(self) -> None:
        # What to await the first time, if it has been made already; and how to make it anew after a cancelled wait.
        self.first: Awaitable[Any] | None = None
        self.again: Callable[[], Awaitable[Any]] | None = None
        self.value: Any = None
        self.error: BaseException | None = None

    def of(self, again: Callable[[], Awaitable[Any]], first: Awaitable[Any] | None = None) -> Need:
        """Ask for ``first``, if given, else for what ``again`` makes each time it is asked."""
        self.again = again
        self.first = first
        return self


class Over:
    """In the place of what was thrown away: who asks for it after all hears that the pipeline has ended."""

    def __await__(self) -> Generator[Any, Any, Any]:
        raise ScopeError("the pipeline has ended: the scope in which it was first driven is over")


class ItemTimeout(TimeoutError):
    """An item took longer than ``.timeout(seconds)`` allows. The iteration can go on with the next one."""


class EndedUnderIt(TaskCancelled):
    """The pipeline was ended under its consumer: see ``handoff.stopped``."""


def is_cut(task: Task[Any]) -> bool:
    """Whether ``task``, of a pipeline, is being ended from outside, most often since the consumer has left."""
    return task.node.effective is not None or (task.foreign and task.host.is_cancelled(task))


def of_the_cut(task: Task[Any], error: BaseException) -> bool:
    """Whether ``error`` is what somebody's code made of its being ended: raised in a ``finally``, most often.

    It is no item's, and there is no consumer who would find it: the task raises it, so that the scope it runs in does. (An item
    that fails by itself, before or after the consumer has left, is dropped with the other results that nobody took.)
    """
    if not is_cut(task):
        return False
    found: BaseException | None = error if task.delivered is None else task.delivered
    while found is not None and not isinstance(found, Cancelled):
        found = found.__context__
    return found is not None


async def look_around(error: BaseException) -> None:
    """Before ``error`` goes to the consumer: if it says that the work was ended under it, it may be that the consumer is, too."""
    if isinstance(error, (EndedUnderIt, ScopeError)):
        await Checkpoint()


class Flow(Generic[T]):
    """A generator of items and signals, and whoever drives it. One task at a time may be inside ``next``.

    Invariants: ``pending`` is the need whose answer the generator waits for, or None; it is pulled only when there is none.
    ``errands`` has the pending need's ``first`` under way if its ``busy`` is true; it is made when first needed.
    """

    __slots__ = ("_drain", "busy", "errands", "gen", "interior", "pending", "pulled", "waits")

    def __init__(self, gen: Iterator[T | Signal], interior: Interior | None = None) -> None:
        # A last stage that can be driven to its end in a better way than item by item says so by a ``drain`` of its own.
        self._drain: Callable[[Callable[[T], object]], Awaitable[None]] | None = getattr(gen, "drain", None)
        self.gen: Iterator[T | Signal] = iter(gen)
        # Where somebody's work goes on while the consumer has given up a wait; None where nobody can come back.
        self.interior = interior
        self.errands: Errands | None = None
        self.pending: Need | None = None
        self.busy: Task[Any] | None = None
        # How many items came, and how many waits they took: a pipeline that never waits need not be asynchronous.
        self.pulled = 0
        self.waits = 0

    def poll(self) -> T | Failure | Need | End:
        """Pull without waiting: an item, a ``Failure``, ``END``, or the ``Need`` to be answered first."""
        if self.pending is not None:
            return self.pending
        item: Any = next(self.gen, END)
        if item.__class__ is Need:
            self.pending = item
        else:
            self.pulled += 1
        return item  # type: ignore[no-any-return]  # told apart by __class__, which mypy can't follow

    async def next(self) -> T | Failure | End:
        """Pull, and wait where a stage needs it. A cancellation point only where it waits; cancelled, nothing is lost."""
        if self.busy is not None:
            raise two_at_once(self.busy, self.interior.site if self.interior is not None else None)
        self.busy = tls.running.task or current_task()
        try:
            while True:
                need = self.pending
                if need is None:
                    item: Any = next(self.gen, END)
                    if item.__class__ is not Need:
                        self.pulled += 1
                        if isinstance(item, Failure):
                            await look_around(item.error)
                        return item  # type: ignore[no-any-return]  # see poll
                    self.pending = need = item
                if need.first is not None or self.errands is not None or need.again is None:
                    await self.answer()
                    continue
                self.waits += 1  # ``answer``, written out for the most frequent case
                try:
                    need.value = await need.again()
                    need.error = None
                except Exception as error:
                    self._failed(need, error)
                self.pending = None
        except ScopeError as error:  # a stage found no scope to work in any more
            await look_around(error)
            raise
        finally:
            self.busy = None

    async def answer(self) -> None:
        """Await what is pending. An error of it goes to the stage that asked; a cancellation leaves it pending."""
        need = self.pending
        assert need is not None and need.again is not None
        self.waits += 1
        try:
            errands = self.errands
            if self.interior is not None and (need.first is not None or (errands is not None and errands.busy)):
                if errands is None or not errands.busy:
                    errands = await self._send(need, self.interior)
                need.value, need.error = await errands.result()
            else:
                first, need.first = need.first, None
                need.value = await (first if first is not None else need.again())
                need.error = None
        except Exception as error:
            self._failed(need, error)
        self.pending = None

    def _failed(self, need: Need, error: Exception) -> None:
        """Give an error of what was awaited to the stage that asked. Where nobody comes back, one ``of_the_cut`` is raised
        here instead: a stage would try again, or leave it to a consumer who has left.
        """
        if self.interior is None and of_the_cut(current_task(), error):
            raise error
        need.error = error

    async def _send(self, need: Need, interior: Interior) -> Errands:
        """Have what ``need.first`` is awaited in a task that goes on if the wait for it is cancelled."""
        errands = self.errands
        if errands is None:
            from .errand import Errands  # which is made of what is made of this

            errands = self.errands = Errands(interior)
        if interior.scope is None:
            try:
                await interior.keep()
            except Cancelled:
                interior.when_ended(partial(self._nobody_comes_back, need))
                raise
        first = need.first
        assert first is not None
        try:
            errands.send(first)
        except BaseException:
            self._throw_away(need)
            raise
        need.first = None
        interior.consumer = tls.running.task or current_task()
        return errands

    async def drain(self, take: Callable[[T], object], *, anywhere: bool = False) -> None:
        """Pull everything and give each item to ``take``; the first failure is raised. A cancellation point.

        What needs no wait lets the others run whenever the step budget is used up (law 13). ``anywhere``: ``take`` runs no code
        of the user's and cannot fail, so that other tasks of the pipeline may call it too.
        """
        if anywhere and self._drain is not None:
            await self._drain(take)
            return
        try:
            await self._drain_here(take)
        except ScopeError as error:
            await look_around(error)
            raise

    async def _drain_here(self, take: Callable[[T], object]) -> None:
        task = tls.running.task or current_task()
        gen = self.gen
        while True:
            for item in gen:
                if isinstance(item, Signal):
                    if not isinstance(item, Need) or self.interior is not None:
                        break
                    first, item.first = item.first, None
                    assert item.again is not None
                    self.waits += 1
                    try:  # as `answer` does, without what it needs for one who may come back: half the time of a short wait
                        item.value = await (first if first is not None else item.again())
                        item.error = None
                    except Exception as error:
                        self._failed(item, error)
                    continue
                self.pulled += 1
                take(item)
                task.budget -= 1
                if task.budget <= 0:
                    await Checkpoint()
            else:
                return
            if isinstance(item, Need):
                self.pending = item
                await self.answer()
            else:
                assert isinstance(item, Failure)
                await look_around(item.error)
                raise item.error

    def close(self) -> None:
        """Close the generators, the last stage's first. Their ``finally`` blocks run; they can't wait."""
        if self.pending is not None:
            self._throw_away(self.pending)
        if self.errands is not None:
            self.errands.close()
        gen: Any = self.gen
        # Left from within one of its own functions, it ends when that returns.
        if not getattr(gen, "gi_running", False):
            gen.close()

    @classmethod
    def _nobody_comes_back(cls, need: Need) -> None:
        """The scope around has ended while ``need.first`` was not begun, since the wait for it was given up. It is not left to
        finalisers: where a cycle is collected, a coroutine's may come before that of the iterator, and would complain.
        """
        if need.first is not None:
            cls._throw_away(need)
            need.first = Over()

    @staticmethod
    def _throw_away(need: Need) -> None:
        """What was made to be awaited never will be; nobody's mistake."""
        first, need.first = need.first, None
        if isinstance(first, Operation):
            first.state = ABORTED
        close: Any = getattr(first, "close", None)
        if close is not None:
            close()
