"""The life of an ``AsyncIter``: made, moved into the next link of a chain, driven, closed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar, cast, overload

from ..kernel.current import current_task, tls
from ..kernel.errors import BateauError, ScopeError, user_site
from ..kernel.hazard import report
from ..kernel.operation import Checkpoint
from .flow import END, Failure, Flow, Need, Signal, look_around
from .interior import Interior
from .misuse import at_its_end, awaited_whole, plain_for, three_lines, two_at_once
from .stage import Stage, depth, gives_up, open_stages

if TYPE_CHECKING:
    from ..kernel.task import Task
    from .asynciter import AsyncIter

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D")

_MISSING: Any = object()

# A pipeline that gives this many items without a single wait is told that it need not be asynchronous (S34).
NEVER_WAITED = 10_000
_told: set[tuple[str, int]] = set()


class Moved(BateauError, RuntimeError):
    """This iterator was moved into another one, which has its items now."""


class Chain(Generic[T_co]):
    """What every ``AsyncIter`` can do, whatever its combinators: be driven, and be closed.

    Invariants: ``_flow`` is set once the first item was asked for. ``_gone`` says where it went when it is no longer ours to
    drive. An interior may be kept only while ``_interior`` is set and ``_entered`` is False.
    """

    __slots__ = ("__weakref__", "_ended", "_entered", "_flow", "_gone", "_interior", "_opening", "_site", "_stages")

    # It has an ``__await__``, which only says what to write instead: an iterator that a function returned is not to be awaited.
    _await_is_misuse: ClassVar[bool] = True
    # Set by the module of ``AsyncIter``, which knows all the combinators.
    _make: ClassVar[Callable[..., Any]]

    def __init__(self, stages: tuple[Stage, ...], site: tuple[str, int]) -> None:
        self._stages = stages
        self._site = site
        self._flow: Flow[T_co] | None = None
        self._interior: Interior | None = None
        # The task that is opening it.
        self._opening: Task[Any] | None = None
        self._entered = False
        self._ended = False
        self._gone: str | None = None
        if (frames := depth(stages)) > (most := sys.getrecursionlimit() // 2):
            raise ValueError(
                three_lines(
                    f"this pipeline is {frames} stages deep (parts of parts counted); Python has room for {most}",
                    site,
                    "do several steps in one function; give .chain() and .merge() all their parts at once; "
                    "or begin the program with sys.setrecursionlimit(...), twice as much as is needed",
                )
            )

    # -- making --------------------------------------------------------------------------------------------------------

    def _then(self, stage: Stage) -> AsyncIter[Any]:
        """This chain with one stage more; this object is spent."""
        return cast("AsyncIter[Any]", self._make((*self._take(stage.describe()), stage), self._site))

    def _take(self, into: str) -> tuple[Stage, ...]:
        """Move the stages out, into something that ``into`` names."""
        self._check_fresh()
        filename, line = user_site(sys._getframe(2))
        self._gone = f"was moved into .{into}() at {filename}:{line}"
        return self._stages

    def _check_fresh(self) -> None:
        if self._gone is not None:
            raise Moved(
                three_lines(
                    f"this iterator {self._gone}",
                    self._site,
                    "go on with what that returned; to read the same items twice, .tee(n); in several tasks, .share()",
                )
            )
        if self._flow is not None:
            raise Moved(
                three_lines(
                    "this iterator is being driven already",
                    self._site,
                    "build the whole chain before the first item is asked for",
                )
            )

    # -- driving by hand -----------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIter[T_co]:
        if self._ended:
            raise Moved(at_its_end(self._site))
        return cast("AsyncIter[T_co]", self)

    async def __anext__(self) -> T_co:
        try:
            task = tls.running.task or current_task()
            if task.node.effective is not None or task.foreign or task.budget <= 0:
                await Checkpoint()
            else:
                task.budget -= 1
            flow = self._flow
            if flow is None:
                flow = await self._open()
            interior = self._interior
            if interior is not None and flow.busy is None:
                interior.consumer = task
            item: Any = None
            if flow.busy or flow.pending is not None:
                item = await flow.next()
            else:
                item = next(flow.gen, END)
                if not isinstance(item, Signal):
                    flow.pulled += 1
                    return cast("T_co", item)
                if isinstance(item, Need):
                    flow.pending = item
                    item = await flow.next()
            if isinstance(item, Failure):
                await look_around(item.error)
                raise item.error
            if item is END:
                await self._end(flow)
                raise StopAsyncIteration
            return cast("T_co", item)
        except ScopeError as error:
            del self
            await look_around(error)
            raise
        except BaseException:
            del self  # a traceback keeps this frame, and must not keep the iterator: it is left when it is dropped
            raise

    @overload
    async def next(self) -> T_co: ...
    @overload
    async def next(self, default: D) -> T_co | D: ...
    async def next(self, default: Any = _MISSING) -> Any:
        """The next item; at the end ``default``, or ``StopAsyncIteration`` without one.

        A cancellation point. Cancelled or timed out, no item is lost: call it again. An item whose function failed raises that
        error in its place, and the call after it goes on with the next one. Raises ``Busy`` if another task waits here.
        """
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            if default is _MISSING:
                raise
            return default
        except BaseException:
            del self  # as above
            raise

    async def _open(self) -> Flow[T_co]:
        if self._gone is not None:
            if self._ended:
                return Flow[T_co](iter(()))
            self._check_fresh()
        if self._opening is not None:
            raise two_at_once(self._opening, self._site)
        self._opening = current_task()
        try:
            return await self._open_now()
        finally:
            self._opening = None

    async def _open_now(self) -> Flow[T_co]:
        interior = self._interior
        if interior is None:
            # Set first: dropped while it opens, or when something later needs a task, this must find its keeper.
            self._interior = interior = Interior(self._site, resumable=True)
        # Again after a wait that was given up here: it left no scope.
        if interior.scope is None and any(stage.background(True) for stage in self._stages):
            await interior.keep()
        self._flow = flow = Flow[T_co](open_stages(self._stages, interior), interior)
        return flow

    async def _end(self, flow: Flow[T_co]) -> None:
        """The last item is through: what ran in the background has ended or ends now."""
        if not self._ended:
            self._ended = True
            _hint(self._site, flow)
        interior = self._interior
        if interior is not None and not self._entered:
            self._interior = None
            await interior.close()

    # -- closing -------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> AsyncIter[T_co]:
        if self._entered or self._interior is not None or self._ended:
            raise Moved("this iterator was entered or driven before; make a new one for each `async with` block")
        self._check_fresh()
        self._entered = True
        interior = Interior(self._site, resumable=True)
        if any(stage.background(True) for stage in self._stages):
            await interior.enter()
        self._interior = interior
        return cast("AsyncIter[T_co]", self)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        interior, self._interior = self._interior, None
        failed: BaseException | None = None
        try:
            self._close_flow()
        except BaseException as error:  # what a stage raised while it was closed; it goes with what the block raised
            failed = error
        absorbed = await interior.leave(failed if failed is not None else exc) if interior is not None else False
        if failed is not None:
            raise failed
        return absorbed

    async def aclose(self) -> None:
        """End it: what runs in the background is cancelled and awaited, generators are closed. Doing it again is harmless.

        Not needed after the end, nor inside ``async with``. In a cancelled scope everything is closed all the same.
        """
        interior = self._interior
        if self._entered:
            self._close_flow()  # the block it was entered by ends the rest
            self._ended = True
            return
        self._interior = None
        try:
            self._close_flow()
        finally:
            self._ended = True  # a loop that it was called from inside of ends
            if interior is not None:
                await interior.close()

    def _close_flow(self) -> None:
        flow, self._flow = self._flow, None
        if self._gone is None:
            self._gone = "was closed"
        if flow is not None and not self._ended:
            flow.close()

    def __del__(self) -> None:
        flow = self._flow
        if flow is not None and flow.pending is not None and flow.pending.first is not None:
            flow.close()  # a coroutine that was made, and not begun because its wait was given up: nobody's mistake
        interior = self._interior
        if interior is not None and not self._entered:
            interior.drop()

    # -- the ends' way: one call runs it through -----------------------------------------------------------------------

    def _run(self, into: str) -> Run[T_co]:
        """For ``async with self._run("collect") as flow``: drive it to the end inside one call."""
        return Run(self._take(into), self._site)

    # -- misuse --------------------------------------------------------------------------------------------------------

    if not TYPE_CHECKING:  # a type checker says it by itself, where there is no such method

        def __iter__(self) -> NoReturn:
            raise plain_for(self._site)

        def __await__(self) -> NoReturn:
            raise awaited_whole(self._site)

    def __repr__(self) -> str:
        steps = ".".join(stage.describe() for stage in self._stages)
        return f"<AsyncIter {steps}>"


class Run(Generic[T]):
    """One call that drives a chain to its end: the interior is entered, and left with the call."""

    __slots__ = ("_flow", "_interior", "_site", "_stages")

    def __init__(self, stages: tuple[Stage, ...], site: tuple[str, int]) -> None:
        self._stages = stages
        self._site = site

    async def __aenter__(self) -> Flow[T]:
        resumable = gives_up(self._stages)
        self._interior = interior = Interior(self._site, resumable=resumable)
        if any(stage.background(resumable) for stage in self._stages):
            await interior.enter()
        self._flow = flow = Flow[T](open_stages(self._stages, interior))
        return flow

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        failed: BaseException | None = None
        try:
            self._flow.close()
        except BaseException as error:
            failed = error
        absorbed = await self._interior.leave(failed if failed is not None else exc)
        if failed is not None:
            raise failed
        if exc is None:
            _hint(self._site, self._flow)
        return absorbed


def _hint(site: tuple[str, int], flow: Flow[Any]) -> None:
    """Say so, once a place, where a plain iterator would have done."""
    if flow.pulled >= NEVER_WAITED and not flow.waits and site not in _told:
        _told.add(site)
        report(
            "never_waits",
            f"this pipeline gave {flow.pulled} items and never waited: a plain iterator would do, and is faster",
            site,
        )
