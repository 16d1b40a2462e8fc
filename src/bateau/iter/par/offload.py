"""``offload``: small work stays on the loop, big work leaves it; what is small is measured, not guessed (story S28).

Theory of operation. Calling a function in a worker costs some 50 us to 1 ms. Calling it on the loop costs every other task its whole run time. So a
call is made on the loop only if it is known to be short. Known means measured: per function the seconds per unit of ``size``. The
first calls, and those whose size is far beyond any that was measured, go to the worker. A run that took longer than expected counts in
full at once, a shorter one by half, so that the estimate errs towards leaving the loop alone.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, Literal, NamedTuple, TypeVar, TypeVarTuple, cast
from weakref import WeakKeyDictionary

from ... import thread
from ...kernel.flow import checkpoint
from ...kernel.scope import Scope
from ..stage import is_awaitable
from .executor import Executor, check_executor
from .reducing import Spread
from .work import MAP, Step, Work, name_of

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Place = Literal["loop", "worker"]

# Seconds that a call may hold the loop.
INLINE_SECONDS = 0.0005
# How many times the largest measured size an estimate is trusted for: cost need not grow in proportion.
TRUSTED_GROWTH = 4.0


class Decision(NamedTuple):
    """Where a call goes: on the ``"loop"`` or to a ``"worker"``; the estimated seconds (None: unknown), and why in words."""

    place: Place
    seconds: float | None
    reason: str


class OffloadStats(NamedTuple):
    """What is known of a function: calls made on the loop and in workers, seconds per unit of size, largest size measured, last decision."""

    inline: int
    offloaded: int
    seconds_per_unit: float | None
    largest: float
    last: Decision | None


class Model:
    """What was measured of one function."""

    __slots__ = ("inline", "largest", "last", "offloaded", "unit")

    def __init__(self) -> None:
        self.inline = 0
        self.offloaded = 0
        self.unit: float | None = None
        self.largest = 0.0
        self.last: Decision | None = None

    def learn(self, size: float, seconds: float) -> None:
        """A call of ``size`` took ``seconds``."""
        unit = seconds / max(size, 1e-9)
        self.unit = unit if self.unit is None or unit > self.unit else (self.unit + unit) / 2
        self.largest = max(self.largest, size)

    def decide(self, size: float, limit: float) -> Decision:
        """Where a call of ``size`` goes."""
        if self.unit is None:
            return Decision("worker", None, "not measured yet")
        seconds = self.unit * size
        if seconds > limit:
            return Decision("worker", seconds, f"about {seconds * 1000:.3g} ms, more than {limit * 1000:.3g} ms")
        if size > self.largest * TRUSTED_GROWTH:
            return Decision("worker", seconds, f"size {size:g} is far beyond the largest measured, {self.largest:g}")
        return Decision("loop", seconds, f"about {seconds * 1000:.3g} ms, at most {limit * 1000:.3g} ms")


class Offload:
    """The type of ``bateau.offload``."""

    def __init__(self) -> None:
        self._models: WeakKeyDictionary[Any, Model] = WeakKeyDictionary()

    async def __call__(
        self,
        fn: Callable[[*Ts], T],
        /,
        *args: *Ts,
        size: float = 1.0,
        on: Executor | None = None,
        limit: float = INLINE_SECONDS,
    ) -> T:
        """Run the sync ``fn(*args)`` where it belongs: on the loop if it is measured to take no more than ``limit`` seconds, else in a
        worker of ``on`` (a thread, unless told: an entered ``bateau.iter.processes(n)`` for computing).

        ``size``: how much work it is, in any unit that the time is about proportional to (``len(data)``), so that small calls of a function
        stay on the loop and big ones leave it. ``stats(fn)`` and ``decide(fn)`` show what was measured.

        Returns its value or raises its error. A cancellation point before it begins, and while it is in a worker: a thread is told and
        awaited (see ``thread.run``), a process is ended, each as its executor says.
        """
        if not callable(fn):
            raise TypeError(f"offload needs a function, not {type(fn).__name__}; pass fn and its arguments separately")
        _check_size(size)
        if on is not None:
            check_executor(on, "offload")
        model = self._model(fn)
        model.last = decision = model.decide(size, limit)
        await checkpoint()
        if decision.place == "worker":
            model.offloaded += 1
            return await self._away(fn, args, size, on, model)
        model.inline += 1
        began = perf_counter()
        try:
            return _sync(fn, fn(*args))
        finally:
            model.learn(size, perf_counter() - began)

    async def _away(
        self, fn: Callable[[*Ts], T], args: tuple[*Ts], size: float, on: Executor | None, model: Model
    ) -> T:
        if on is None:
            timed = _Timed(fn, args)
            try:
                return cast("T", _sync(fn, await thread.run(timed)))
            finally:
                if timed.seconds is not None:
                    model.learn(size, timed.seconds)
        check: Callable[[object, str], None] | None = getattr(on, "check", None)
        if check is not None:
            check(fn, "offload")
        work = Work([Step(MAP, "offload", Spread(fn))])
        async with Scope(name="offload") as scope:
            pool = await on.start(scope)
            outcome = await pool.submit(work, [args])
            await pool.close()
        model.learn(size, outcome.seconds)
        for trouble in outcome.troubles:
            raise trouble.error
        result: T = outcome.results[0]
        return result

    def decide(self, fn: Callable[..., object], *, size: float = 1.0, limit: float = INLINE_SECONDS) -> Decision:
        """Where a call of ``fn`` with this ``size`` would go now, and why. Runs nothing."""
        _check_size(size)
        return self._model(fn).decide(size, limit)

    def stats(self, fn: Callable[..., object]) -> OffloadStats:
        """What was measured of ``fn`` so far, and how often it was run where."""
        model = self._model(fn)
        return OffloadStats(model.inline, model.offloaded, model.unit, model.largest, model.last)

    def forget(self, fn: Callable[..., object]) -> None:
        """Measure ``fn`` anew."""
        self._models.pop(_key(fn), None)

    def _model(self, fn: Callable[..., object]) -> Model:
        key = _key(fn)
        try:
            found = self._models.get(key)
            if found is None:
                found = self._models[key] = Model()
        except TypeError:  # can't be kept as a key: nothing is remembered, and it always goes to a worker
            return Model()
        return found


def _key(fn: Any) -> Any:
    """What stands for a function: bound methods and partials are made anew for each call, what they wrap is not."""
    while True:
        inner = getattr(fn, "__func__", None) or getattr(fn, "func", None)
        if inner is None:
            return fn
        fn = inner


def _check_size(size: object) -> None:
    if isinstance(size, bool) or not isinstance(size, (int, float)):
        raise TypeError(f"size must be a number, how much work this call is, not {size!r}")
    if not size >= 0:
        raise ValueError(f"size must not be negative, and not {size!r}")


def _sync(fn: object, value: T) -> T:
    if is_awaitable(value):
        close: Any = getattr(value, "close", None)
        if close is not None:
            close()
        raise TypeError(
            f"{name_of(fn)} is async: it does not hold the loop, so await it; offload is for sync functions"
        )
    return value


class _Timed:
    """A call that measures itself, in its thread."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.fn = fn
        self.args = args
        self.seconds: float | None = None

    def __call__(self) -> Any:
        began = perf_counter()
        try:
            return self.fn(*self.args)
        finally:
            self.seconds = perf_counter() - began

    def __repr__(self) -> str:
        return name_of(self.fn)


offload = Offload()
