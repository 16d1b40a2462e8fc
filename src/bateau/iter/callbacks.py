"""``from_callback``: items that somebody else pushes, from the loop's thread or from any other, as the first stage of a pipeline.

Theory of operation. The pushed items wait in an *inbox*, bounded, with a lock, because a C library's callbacks come on threads of
its own. A background task registers the callback, then holds the registration until the pipeline is left, and takes it back: so
registering and unregistering may wait, and both happen in one task, in the program's thread, however the pipeline ends.

A push can't wait for room: it comes from a callback. So what happens at a full inbox is a policy that its owner states.
"""

from __future__ import annotations

from _thread import RLock
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Literal, TypeVar

from ..kernel.cleanup import DEFAULT_BUDGET, Cleanup
from ..kernel.errors import BateauError
from ..kernel.operation import Operation
from ..kernel.resource import OUTSIDE, Resource
from ..kernel.task import Task
from .flow import END, Failure
from .handoff import items_of, stopped
from .interior import Interior
from .stage import Stage, check_count, check_function, is_awaitable

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

Overflow = Literal["error", "drop_oldest", "drop_newest"]
POLICIES = ("error", "drop_oldest", "drop_newest")

_NOTHING: Any = object()


class Overflowed(BateauError, RuntimeError):
    """A callback pushed more than its inbox holds; ``lost`` items were dropped at this place of the sequence."""

    def __init__(self, message: str, lost: int) -> None:
        super().__init__(message)
        self.lost = lost


class Inbox(Resource):
    """Where pushed items wait for the consumer.

    Invariants, under ``mutex``: ``items`` holds at most ``capacity`` items (``Failure`` objects of a gap are counted in ``gaps``
    instead). ``end`` is set once nothing more may be pushed: ``END``, or the ``Failure`` that comes before it. ``_taker`` is parked
    only while ``items`` is empty and ``end`` is not set.
    """

    __slots__ = (
        "_held",
        "_taker",
        "capacity",
        "dropped",
        "end",
        "gaps",
        "holder",
        "items",
        "label",
        "mutex",
        "overflow",
    )
    kind = "inbox"

    def __init__(self, label: str, capacity: int, overflow: Overflow) -> None:
        self.label = label
        self.capacity = capacity
        self.overflow = overflow
        # RLock: a finaliser that the collector runs inside a transition may push too.
        self.mutex = RLock()
        self.items: deque[Any] = deque()
        self.gaps = 0
        self.dropped = 0
        self.end: Any = None
        self.holder: Task[Any] | None = None
        self._taker: Pushed | None = None
        self._held: Held | None = None

    def put(self, item: Any) -> bool:
        """Leave an item, from any thread. False: it was dropped, or nobody listens any more."""
        with self.mutex:
            if self.end is not None:
                return False
            taker = self._taker
            if taker is not None and taker.claim():
                self._taker = None
                taker.fire(item)
                return True
            items = self.items
            if len(items) - self.gaps < self.capacity:
                items.append(item)
                return True
            self.dropped += 1
            if self.overflow == "drop_oldest":
                items.popleft()
                items.append(item)
                return True
            if self.overflow == "error":
                self._note_gap()
            return False

    def _note_gap(self) -> None:
        """An item is missing here: say so at this place of the sequence, once for neighbours."""
        last = self.items[-1]
        lost = 1
        if isinstance(last, Failure):
            assert isinstance(last.error, Overflowed)
            lost += last.error.lost
            self.items.pop()
            self.gaps -= 1
        error = Overflowed(
            f"{self.label} pushed more than the {self.capacity} items its inbox holds: {lost} lost here; consume faster, "
            "give more capacity=, or say which to lose with overflow='drop_oldest' or 'drop_newest'",
            lost,
        )
        self.items.append(Failure(error))
        self.gaps += 1

    def finish(self, end: Any) -> bool:
        """Nothing more will come, from any thread. What waits is still given, then ``end``. False: it had ended before."""
        with self.mutex:
            if self.end is not None:
                return False
            self.end = end
            taker = self._taker
            if taker is not None and taker.claim():
                self._taker = None
                taker.fire(self.take())
            return True

    def take(self) -> Any:
        """What comes next, or ``_NOTHING``. Under ``mutex``."""
        if self.items:
            item = self.items.popleft()
            if isinstance(item, Failure):
                self.gaps -= 1
            return item
        if self.end is None:
            return _NOTHING
        end, self.end = self.end, END
        return end

    def next(self) -> Pushed:
        """Await it: what comes next."""
        return Pushed(self)

    def waiters(self) -> Iterable[Operation[Any]]:
        return [op for op in (self._taker, self._held) if op is not None]

    def satisfiers(self) -> Literal["outside"]:
        return OUTSIDE

    def describe(self) -> str:
        return f"inbox of {self.label} ({len(self.items)}/{self.capacity})"


class Pushed(Operation[Any]):
    """The consumer's wait for a pushed item. Cancelled, it took none."""

    __slots__ = ()
    resource: Inbox

    def poll(self) -> bool:
        self.value = self.resource.take()
        return self.value is not _NOTHING

    def register(self) -> None:
        self.resource._taker = self

    def unregister(self) -> None:
        self.resource._taker = None

    def undo(self, value: Any) -> None:
        inbox = self.resource
        with inbox.mutex:
            if value is not END:
                inbox.items.appendleft(value)
                inbox.gaps += isinstance(value, Failure)

    def describe(self) -> str:
        return f"next item of {self.resource.describe()}"


class Push(Generic[T_contra]):
    """What ``from_callback`` gives to the function that registers it: call it with each item, in any thread. Never waits."""

    __slots__ = ("_inbox",)

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def __call__(self, item: T_contra, /) -> bool:
        """Hand over ``item``. False: it was not taken, because the inbox is full or the pipeline was left."""
        return self._inbox.put(item)

    def end(self) -> bool:
        """No more items will come: the iteration ends after those that wait. False: it had ended before."""
        return self._inbox.finish(END)

    def fail(self, error: Exception) -> bool:
        """No more items will come: ``error`` is raised after those that wait. False: it had ended before."""
        if not isinstance(error, Exception):  # pyright: ignore[reportUnnecessaryIsInstance]  # some callers are C
            raise TypeError(f"push.fail needs an exception object, not {error!r}")
        return self._inbox.finish(Failure(error))

    @property
    def closed(self) -> bool:
        """Whether nothing is taken any more: it was ended, or the pipeline was left."""
        return self._inbox.end is not None

    @property
    def dropped(self) -> int:
        """How many items were lost because the inbox was full."""
        return self._inbox.dropped

    def __repr__(self) -> str:
        return f"<push into {self._inbox.describe()}>"


class FromCallback(Stage):
    """What a registered callback pushes."""

    __slots__ = ("capacity", "overflow", "register")

    def __init__(self, register: Callable[[Push[Any]], Any], capacity: int, overflow: Overflow) -> None:
        check_function(register, "from_callback")
        check_count(capacity, "from_callback", name="capacity")
        if overflow not in POLICIES:
            raise ValueError(f"from_callback needs overflow={' or '.join(map(repr, POLICIES))}, not {overflow!r}")
        self.register = register
        self.capacity = capacity
        self.overflow: Overflow = overflow

    def background(self, resumable: bool) -> bool:
        return True

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        inbox = Inbox(self.describe(), self.capacity, self.overflow)
        inbox.holder = interior.spawn(hold, self.register, inbox, name=self.describe())
        try:
            yield from items_of(inbox.next)
        finally:
            inbox.finish(END)

    def describe(self) -> str:
        return f"from_callback({getattr(self.register, '__qualname__', type(self.register).__name__)})"


class Held(Operation[None]):
    """The registration's wait: until the pipeline is left, which cancels it."""

    __slots__ = ()
    resource: Inbox

    def register(self) -> None:
        self.resource._held = self  # nobody fires it

    def unregister(self) -> None:
        self.resource._held = None

    def describe(self) -> str:
        return f"registration of {self.resource.describe()}"


async def hold(register: Callable[[Push[Any]], Any], inbox: Inbox) -> None:
    """Register, wait until the pipeline is left, unregister. What either raises, the consumer gets."""
    unregister: Any = None
    try:
        unregister = register(Push(inbox))
        if is_awaitable(unregister):
            unregister = await unregister
        if unregister is not None and not callable(unregister):
            raise TypeError(
                "the function of from_callback must return a function that unregisters the callback, or None; "
                f"not {unregister!r}"
            )
        await Held(inbox)
    except Exception as error:
        inbox.finish(Failure(error))
    finally:
        # A consumer that outlives this (its part of the scope was cancelled under it) must not wait for ever.
        inbox.finish(Failure(stopped(inbox.label)))
        if callable(unregister):
            async with Cleanup(DEFAULT_BUDGET):
                done: Any = unregister()
                if is_awaitable(done):
                    await done
