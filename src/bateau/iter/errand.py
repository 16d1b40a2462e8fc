"""Where somebody's work goes on while the consumer has given up its wait: one task of the pipeline that runs errands.

Theory of operation. What a user's function gave to be awaited must neither be cut in the middle nor begun again because a ``next``
timed out. So it is not awaited by the consumer but by a *runner*, a task of the pipeline's own, and the consumer waits for the
runner's answer. Giving up that wait has no effect; the next ``next`` finds the answer, or waits for it again. The runner lives as
long as the pipeline: an errand costs two switches, not a task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, Final

from ..kernel.current import current_task
from ..kernel.errors import Cancelled
from ..kernel.operation import Operation
from ..kernel.resource import Resource
from ..kernel.task import Task
from .brief import Brief
from .flow import is_cut, of_the_cut
from .handoff import raised_cancelled, stopped
from .interior import Interior

_NONE: Final[Any] = object()


class Errands(Resource):
    """What a runner and its consumer share.

    Invariants: ``job`` is set from ``send`` until the runner takes it, ``answer`` from its end until the consumer takes that.
    One errand at a time: ``busy`` from ``send`` until its answer was taken. ``runner`` is None when there is none (any more).
    """

    __slots__ = ("_idle", "_taker", "answer", "busy", "interior", "job", "runner")
    kind = "errand"

    def __init__(self, interior: Interior) -> None:
        self.interior = interior
        self.job: Awaitable[Any] | None = None
        self.answer: Any = _NONE
        self.busy = False
        self.runner: Task[None] | None = None
        self._idle: Job | None = None
        self._taker: Answer | None = None

    def send(self, job: Awaitable[Any]) -> None:
        """Have ``job`` awaited. There must be none under way. Raises ``ScopeError`` if the pipeline takes no more tasks."""
        idle, self._idle = self._idle, None
        if idle is not None:
            self.busy = True
            idle.fire(job)
            return
        if self.runner is None:
            self.runner = self.interior.spawn(self._run, name=f"work of {self.interior.describe()}")
            self.runner.at_end = {self: self._gone}
        self.busy = True
        self.job = job

    def result(self) -> Answer:
        """Await it: ``(value, error)`` of the errand under way. A cancellation point; cancelled, the errand goes on."""
        return Answer(self)

    def close(self) -> None:
        """Nobody will ask any more: a job that was not begun is closed."""
        job, self.job = self.job, None
        close: Any = getattr(job, "close", None)
        if close is not None:
            close()

    # -- the runner ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            job = await Job(self)
            try:
                self._reply((await job, None))
            except Cancelled as error:
                if is_cut(current_task()):
                    self._reply((None, stopped(self.describe())))
                else:
                    self._reply((None, raised_cancelled(self.describe(), error)))
                raise
            except GeneratorExit:
                raise
            except BaseException as error:
                if of_the_cut(current_task(), error):
                    raise  # who still waits for it hears of the end: see `_gone`
                self._reply((None, error))
            finally:
                del job

    def _reply(self, answer: tuple[Any, BaseException | None]) -> None:
        taker, self._taker = self._taker, None
        if taker is None:
            self.answer = answer
        else:
            self.busy = False
            taker.fire(answer)

    def _gone(self, runner: Task[Any]) -> None:
        """However the runner ended: nobody must wait for it."""
        self.runner = None
        self.close()
        if self.busy and self.answer is _NONE:
            self._reply((None, stopped(self.describe())))

    # -- as a resource -------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        return [op for op in (self._taker, self._idle) if op is not None]

    def satisfiers(self) -> Iterable[Task[Any]]:
        return (self.runner,) if self._taker is not None and self.runner is not None else ()

    def describe(self) -> str:
        return f"work of {self.interior.describe()}"


class Job(Brief[Awaitable[Any]]):
    """The runner's wait for something to do."""

    __slots__ = ()
    resource: Errands

    def poll(self) -> bool:
        errands = self.resource
        if errands.job is None:
            return False
        self.value, errands.job = errands.job, None
        return True

    def register(self) -> None:
        self.resource._idle = self

    def unregister(self) -> None:
        self.resource._idle = None

    def undo(self, value: Any) -> None:
        self.resource.job = value

    def describe(self) -> str:
        return f"wait for {self.resource.describe()}"


class Answer(Brief[tuple[Any, BaseException | None]]):
    """See ``Errands.result``."""

    __slots__ = ()
    resource: Errands

    def poll(self) -> bool:
        errands = self.resource
        if errands.answer is _NONE:
            return False
        self.value, errands.answer = errands.answer, _NONE
        errands.busy = False
        return True

    def register(self) -> None:
        self.resource._taker = self

    def unregister(self) -> None:
        self.resource._taker = None

    def undo(self, value: Any) -> None:
        self.resource.answer = value
        self.resource.busy = True

    def describe(self) -> str:
        return f"result of the {self.resource.describe()}"
