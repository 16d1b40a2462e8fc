"""The body of an async generator, running in a task of the pipeline that is its own.

Theory of operation. Between two ``yield`` of a generator stands whatever its consumer does meanwhile. Run in the consumer's task,
the generator's open timeouts, scopes and task groups would be the consumer's (PEP 789), and a cancelled ``next`` its death. So a
``Body`` is a task that runs the generator from the first line to the last, and leaves its items in a ``Handoff``, one at a
time and only on demand: it runs between one ``next`` and the other, as in a plain loop.

At a ``yield`` the task waits for the next demand, *inside* the generator's own scopes. What happens then:

- the consumer asks: the generator goes on;
- a scope of the generator's own is cancelled (a timeout around the ``yield``, a failed sibling in a task group): that
  cancellation is raised at the ``yield``, as at any other wait in that block. An item the generator yields in answer was not
  asked for; it waits in its place, and the generator does not run further ahead;
- the consumer has left: ``GeneratorExit`` at the ``yield``, and a cleanup budget for what the generator awaits on its way out.

A consumer that leaves while the generator is in a wait (its own ``next`` was cancelled) ends that wait with ``Cancelled``.
For the two to be told apart, the body stands in a shield; what is cancelled outside comes by a listener. The shield is also
the block of the cleanup budget: it has to be around the scopes of the generator, which are left inside it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import AsyncGeneratorType, TracebackType
from typing import Any, cast

from ..kernel.cancellation import CancelNode, CancelScope, Listener
from ..kernel.cleanup import DEFAULT_BUDGET, Cleanup
from ..kernel.current import current_task
from ..kernel.errors import PACKAGE_DIR, CancelRecord
from ..kernel.hazard import report
from ..kernel.scope import Scope
from .delegating import Each
from .flow import END, Failure, Flow
from .handoff import Handoff, Wanted, _finish
from .misuse import three_lines

_NOTHING: Any = object()

# Seconds a generator that is left has for what it awaits in its ``finally`` blocks.
BUDGET = DEFAULT_BUDGET


class Inside(CancelScope):
    """The shield around a body. Once the consumer has left, it is also its cleanup budget."""

    __slots__ = ("_label",)

    def __init__(self, label: str, site: tuple[str, int]) -> None:
        super().__init__(shield=True, site=site)
        self._label = label

    def close_within(self, seconds: float) -> None:
        """From now on there is only so much time; never more than a budget around leaves."""
        task = self.task
        if self.record is not None or task is None:
            return
        when = task.host.now() + seconds
        node: CancelNode | None = self.parent
        while node is not None:
            if isinstance(node, Cleanup) and node.deadline_at is not None:
                when = min(when, node.deadline_at)
            node = node.parent
        self.reschedule(when)

    def take_time(self) -> None:
        """The closing is over; what is left is to hand over its outcome."""
        if self.record is None:
            self.reschedule(None)

    def _expire(self) -> None:
        task = self.task
        if task is not None and self.record is None:
            waiting = task.waiting.describe() if task.waiting is not None else "running or in a foreign wait"
            report(
                "cleanup_overrun", f"the closing of {self._label} used up its budget; it was at: {waiting}", self.site
            )
        super()._expire()

    def _deadline_record(self) -> CancelRecord:
        return CancelRecord(f"cleanup budget of {self._label} used up", site=self.site)


class _Outside(Listener):
    """Tells the body what reaches the task around its shield."""

    __slots__ = ("body",)

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body

    def heard(self) -> None:
        if self.effective is not None:
            self.body.leave(self.effective)


class AtYield(Wanted):
    """The generator's wait at a ``yield``: until the next item is wanted, or none will ever be."""

    __slots__ = ("body",)

    def __init__(self, body: Body) -> None:
        super().__init__(body.handoff)
        self.body = body

    def poll(self) -> bool:
        return self.resource.wanted or self.body.leaving

    def describe(self) -> str:
        return f"yield of {self.body.label}, until the next item is wanted"


class HoldingAtYield(AtYield):
    """The same, whatever the generator's own scopes say: there is an item to hand over first."""

    __slots__ = ()
    shielded = True


class Body:
    """One run of an async generator (or of any async iterator).

    Invariants: ``at_yield`` is true exactly while the generator is suspended at a ``yield`` and has not been told to go on.
    ``child`` is the body that hands over items in this one's name (``yield each(...)``); then only the innermost runs.
    ``leaving`` is final.
    """

    __slots__ = ("at_yield", "child", "handoff", "items", "label", "leaving", "scope", "site")

    def __init__(self, items: AsyncIterator[Any], handoff: Handoff[Any], label: str, site: tuple[str, int]) -> None:
        self.items: Any = items
        self.handoff = handoff
        self.label = label
        self.site = site
        self.scope = Inside(label, site)
        self.at_yield = True  # it begins with the first demand
        self.leaving = False
        self.child: Body | None = None

    # -- from outside --------------------------------------------------------------------------------------------------

    def leave(self, record: CancelRecord) -> None:
        """Nobody wants the rest: close it where it stands, innermost first."""
        body = self
        body.leaving = True
        while body.child is not None:
            body = body.child
            body.leaving = True
        if not body.at_yield:
            body.scope._cancel(CancelRecord(f"{body.label} was left by its consumer", parent=record, site=self.site))
            return
        giver, body.handoff._giver = body.handoff._giver, None
        if giver is not None:
            giver.fire(None)

    # -- the task ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """What the task of a pipeline's own body runs."""
        try:
            await self._run(self._hand_over)
            if not self.leaving:
                self.handoff.finish(END)
        finally:
            _finish(self.handoff)

    async def _run(self, hand_over: Callable[[list[Exception]], Awaitable[None]]) -> None:
        """From the first line to the close. An error of the generator is handed over, or raised once nobody listens."""
        task = current_task()
        outside = _Outside(self)
        failed: list[Exception] = []  # a list, so that who hands it over can let go of it
        with self.scope:
            try:
                outside.attach(task)
                try:
                    await self._drive()
                except Exception as error:
                    if self.leaving:
                        raise
                    failed.append(error.with_traceback(_users(error.__traceback__)))
                finally:
                    await self._close()
                self.at_yield = True  # as good as: nothing of the generator runs any more
                if failed:
                    await hand_over(failed)
            finally:
                if task.children is not None:
                    task.children.pop(outside, None)

    async def _drive(self) -> None:
        items, handoff = self.items, self.handoff
        held: Any = _NOTHING
        error: BaseException | None = None
        while True:
            if error is None:
                error = await self._wanted(held is not _NOTHING)
            if self.leaving:
                if isinstance(error, Exception):
                    raise error
                return
            if held is not _NOTHING:
                handoff.put(held)
                held = _NOTHING
                continue
            self.at_yield = False
            step = items.__anext__() if error is None else self._throw(error)
            error = None
            try:
                item = await step
            except StopAsyncIteration:
                return
            self.at_yield = True
            if item.__class__ is Each:
                error = await self._delegate(item)
            elif handoff.wanted:
                handoff.put(item)
            else:
                held = item

    async def _wanted(self, holding: bool = False) -> BaseException | None:
        """Wait at a yield for the next demand. Gives what is to be raised at the yield instead, if anything."""
        error: BaseException | None = None
        while not self.leaving:
            try:
                await (HoldingAtYield(self) if holding else AtYield(self))
                break
            except GeneratorExit:
                raise  # the loop is torn down around us
            except BaseException as raised:
                error = raised
                if not holding:
                    break
        return error

    def _throw(self, error: BaseException) -> Any:
        throw = getattr(self.items, "athrow", None)
        if throw is None:
            raise error
        return throw(error)

    async def _close(self) -> None:
        items = self.items
        self.scope.close_within(BUDGET)
        try:
            if isinstance(items, AsyncGeneratorType):
                await self._end(self.items)
            elif (aclose := getattr(items, "aclose", None)) is not None:
                await aclose()
        finally:
            self.scope.take_time()

    async def _end(self, items: AsyncGeneratorType[Any, Any]) -> None:
        """Like ``aclose``, which gives up for good on a generator that yields once more, with all its scopes open."""
        went_on = 0
        # None: it has ended. Its type knows: typeshed does not.
        while cast("Any", items.ag_frame) is not None:
            try:
                await items.athrow(GeneratorExit)
            except (GeneratorExit, StopAsyncIteration):
                break
            except BaseExceptionGroup as group:  # a task group or nursery wraps it
                rest = group.split(GeneratorExit)[1]
                if rest is not None:
                    raise rest from None
                break
            went_on += 1
            if went_on > 100:
                break
        if went_on:
            raise RuntimeError(
                three_lines(
                    f"{self.label} went on to another `yield` after its consumer had left",
                    self.site,
                    "let GeneratorExit pass: no `yield` in a `finally`, nor after an `except BaseException` without `raise`",
                )
            )

    async def _hand_over(self, failed: list[Exception]) -> None:
        """Leave the error to the consumer, in the place of the next item; if it leaves without it, raise it here."""
        handoff = self.handoff
        if not handoff.wanted:
            await self._wanted(True)
        if self.leaving:
            raise failed.pop()
        handoff.put(Failure(failed.pop()))
        await self._wanted(True)
        if isinstance(handoff.item, Failure):
            raise handoff.item.error

    # -- each ----------------------------------------------------------------------------------------------------------

    async def _delegate(self, each: Each) -> BaseException | None:
        """Hand over what ``each`` stands for. Gives what is to be raised at the ``yield``, if anything."""
        from .generators import chain_of

        try:
            chain, stage = chain_of(each.take())
            if stage is not None:
                return await self._run_child(Body(stage.items, self.handoff, stage.describe(), chain._site))
            async with chain._run("each") as flow:
                await self._hand_over_all(flow)
            return None
        except GeneratorExit:
            raise
        except BaseException as error:
            return error
        finally:
            self.at_yield = True

    async def _run_child(self, child: Body) -> BaseException | None:
        """Another generator's body hands over items in our name; it has ended when this returns."""
        failed: list[Exception] = []

        async def keep(errors: list[Exception]) -> None:
            failed.append(errors.pop())

        handoff, own = self.handoff, self.handoff.producer
        self.child = child
        try:
            async with Scope(name=child.label, site=child.site) as scope:
                handoff.producer = scope.spawn(child._run, keep, name=child.label)
        finally:
            self.child = None
            handoff.producer = own
        return failed.pop() if failed else None

    async def _hand_over_all(self, flow: Flow[Any]) -> None:
        while True:
            error = await self._wanted()
            if error is not None:
                raise error
            if self.leaving:
                return
            self.at_yield = False
            item = await flow.next()
            self.at_yield = True
            if item is END:
                return
            if isinstance(item, Failure):
                raise item.error
            self.handoff.put(item)


def _users(tb: TracebackType | None) -> TracebackType | None:
    """A traceback without our own frames at its beginning."""
    found = tb
    while found is not None and found.tb_frame.f_code.co_filename.startswith(PACKAGE_DIR):
        found = found.tb_next
    return found if found is not None else tb
