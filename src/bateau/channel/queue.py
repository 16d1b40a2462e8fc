"""The channel: many senders, many receivers, bounded, first in, first out.

Theory of operation. The state is a queue of items and two queues of parked operations. Whoever comes has the effect for
whom it meets: a sender hands its item straight to the first parked receiver, a receiver that makes room lets the first
parked sender's item in. So a parked operation never has to look again, and nobody can overtake it (law 12).

Invariants, at the end of every transition:
- a receiver is parked only if no item is there and no sender is parked;
- a sender is parked only if ``len(items) >= capacity`` (an item given back may make it one more);
- with no open sender no receiver is parked; with no open receiver nothing is there and no sender is parked.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, cast

from ..kernel.current import current_task_or_none, tls
from ..kernel.errors import Broken
from ..kernel.operation import ABORTED, DONE, FIRED, NEW, PARKED, STEP_BUDGET, Operation, _thrown
from ..kernel.resource import Flavour, WaitQueue
from ..kernel.twin import QueueStateFields, RecvFields, SendFields, native, slots, twinned
from .ends import State, T, listed
from .seats import Seat, unused, users_of

if TYPE_CHECKING:
    from ..kernel.task import Task
    from .mpmc import Receiver, Sender

UNBOUNDED = sys.maxsize

# The two ``__await__`` below are the base's, written out for the common case, with the same behaviour. Measured on CPython
# 3.11, pure kernel, native runtime: a round trip over two channels 3.8 us instead of 6.4 (asyncio.Queue: 7.9), a send with
# room 0.56 us instead of 0.90, a receive of what is there 0.54 instead of 0.90.

# What ``__await__`` returns when the effect has happened and there is nothing to wait for: an iterator that is at its end.
# A generator that returns at once would do the same, for 0.07 us more.
_AT_END = cast("Generator[Any, Any, Any]", iter(()))
next(_AT_END, None)


class ChannelStatistics(NamedTuple):
    """One look at a channel. ``capacity`` is None if it is unbounded; the rest are counts."""

    capacity: int | None
    items: int
    open_senders: int
    open_receivers: int
    waiting_senders: int
    waiting_receivers: int


class QueueState(QueueStateFields, State, Generic[T]):
    """What the ends of one channel share. See the module's head for the invariants."""

    __slots__ = slots("capacity", "items", "limit", "lost", "receivers", "receiving", "senders", "sending")
    kind = "channel"

    def __init__(self, capacity: int, name: str | None, flavour: Flavour | None) -> None:
        super().__init__(name=name, flavour=flavour)
        self.capacity = capacity
        # The bound in force: the capacity, or -1 once the last receiver is gone and nothing is stored any more.
        self.limit = capacity
        self.items: deque[T] = deque() if native is None else native.Deque()
        self.sending = WaitQueue()
        self.receiving = WaitQueue()
        # The open ends, in the order they were made (a dict for its order).
        self.senders: dict[Seat, None] = {}
        self.receivers: dict[Seat, None] = {}
        # What was still there when the last receiver closed, in words.
        self.lost = ""

    # -- transitions; of a shared channel: under its mutex -------------------------------------------------------------

    def put(self, item: T) -> bool:
        """Hand ``item`` to a receiver, or store it. False if it has to wait."""
        if self.receiving and (receiver := self.receiving.pop()) is not None:
            receiver.fire(item)
            return True
        if len(self.items) < self.limit:
            self.items.append(item)
            return True
        return False

    def take(self) -> tuple[T] | None:
        """The first item, in a tuple, or None if there is none."""
        items = self.items
        if items:
            item = items.popleft()
            if self.sending:
                self.admit()
            return (item,)
        sender: Any = self.sending.pop()
        if sender is None:
            return None
        sender.fire(None)  # capacity 0: from hand to hand
        return (sender.item,)

    def admit(self) -> None:
        """Let parked senders' items in, as far as there is room."""
        while len(self.items) < self.capacity:
            sender: Any = self.sending.pop()
            if sender is None:
                return
            self.items.append(sender.item)
            sender.fire(None)

    def give_back(self, item: T) -> None:
        """An item was taken by an operation that can't deliver it: it is the first again."""
        if self.receiving and (receiver := self.receiving.pop()) is not None:
            receiver.fire(item)
        elif self.receivers:
            self.items.appendleft(item)
        else:
            self.report_lost("a receive was thrown away when its receiver had been closed", (item,), ("<unknown>", 0))

    def sender_gone(self, seat: Seat) -> None:
        """An end was closed or dropped; with the last one, the receivers that wait have come to the end."""
        self.senders.pop(seat, None)
        if not self.senders:
            op: Any = self.receiving.pop()
            while op is not None:
                op.fail(op.at_end())
                op = self.receiving.pop()

    def receiver_gone(self, seat: Seat) -> None:
        """An end was closed or dropped; with the last one, what is there and what waits has nowhere to go."""
        self.receivers.pop(seat, None)
        if not self.receivers:
            self.limit = -1
            if self.items:
                self.lost = f"; lost: {listed(self.items)}"
                self.items.clear()
            while (op := self.sending.pop()) is not None:
                op.fail(self.broken())

    # -- errors --------------------------------------------------------------------------------------------------------

    def broken(self) -> Broken:
        """For a send that nobody will receive."""
        return Broken(f"every receiver of {self.label()} is closed, so this item was not sent{self.lost}")

    # -- as a resource -------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        return (*self.sending, *self.receiving)

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        return users_of(self.receivers if self.sending else self.senders)

    def _fill(self) -> str:
        size = "unbounded" if self.capacity == UNBOUNDED else self.capacity
        return f" ({len(self.items)}/{size})"

    def statistics(self) -> ChannelStatistics:
        """See ``Sender.statistics``."""
        return ChannelStatistics(
            capacity=None if self.capacity == UNBOUNDED else self.capacity,
            items=len(self.items),
            open_senders=len(self.senders),
            open_receivers=len(self.receivers),
            waiting_senders=len(self.sending),
            waiting_receivers=len(self.receiving),
        )


# -- operations --------------------------------------------------------------------------------------------------------


@twinned("__await__", final=True)
class Send(SendFields, Operation[None], Generic[T]):
    """One send. Cancelled, it had no effect: the item was not sent."""

    __slots__ = slots("end", "item")
    resource: QueueState[T]

    if TYPE_CHECKING:
        end: Sender[T]
        item: T

        def __init__(self) -> None: ...
    else:
        # ``Sender.send`` sets every field itself. Measured: making one costs half of what it costs with an ``__init__``.
        __init__ = object.__init__

    def poll(self) -> bool:
        seat = self.end._seat
        state = self.resource
        if seat is None:
            self.error = self.end._closed_error()
            return True
        task = self.task
        if task is not None and seat.user_id != task.id:
            seat.note(task)
        if state.put(self.item):
            return True
        if not state.receivers:
            self.error = state.broken()
            return True
        return False

    def register(self) -> None:
        state = self.resource
        state.sending.add(self)
        # The collector may have dropped the last receiver since ``poll``; it has not seen this operation then.
        if not state.receivers and self in state.sending:
            state.sending.discard(self)
            self.fail(state.broken())

    def unregister(self) -> None:
        self.resource.sending.discard(self)

    def describe(self) -> str:
        return f"send on {self.resource.describe()}" + unused(self, self.resource.receivers, "receiver")

    def __await__(self) -> Generator[Any, Any, None]:
        """The base's, with a short way for a local channel where the item need not wait."""
        task = tls.running.task or current_task_or_none()
        end = self.end
        if (
            task is not None
            and (end._at_home == task.id or end._come_home(task))
            and self.state is NEW
            and task.node.effective is None
            and task.budget > 0
        ):
            state = self.resource
            waiting: Any = state.receiving._ops
            while waiting:
                op, _ = waiting.popitem(last=False)
                if op.watcher is None:
                    op.value = self.item
                    op.state = FIRED
                    op.task.host.wake(op.task)
                elif op.claim():
                    op.fire(self.item)
                else:
                    continue
                task.budget -= 1
                self.state = DONE
                return _AT_END
            items = state.items
            if len(items) < state.limit:
                items.append(self.item)
                task.budget -= 1
                self.state = DONE
                return _AT_END
        return super().__await__()


@twinned("__await__", final=True)
class Recv(RecvFields, Operation[T]):
    """One receive. Cancelled, it had no effect: no item was taken."""

    __slots__ = slots("end")
    resource: QueueState[T]

    if TYPE_CHECKING:
        end: Receiver[T]

        def __init__(self) -> None: ...
    else:
        __init__ = object.__init__  # as in Send: by ``Receiver.recv``

    def poll(self) -> bool:
        seat = self.end._seat
        state = self.resource
        if seat is None:
            self.error = self.end._closed_error()
            return True
        task = self.task
        if task is not None and seat.user_id != task.id:
            seat.note(task)
        if (taken := state.take()) is not None:
            self.value = taken[0]
            return True
        if not state.senders:
            self.error = self.at_end()
            return True
        return False

    def register(self) -> None:
        state = self.resource
        state.receiving.add(self)
        # The collector may have dropped the last sender since ``poll``; it has not seen this operation then.
        if not state.senders and self in state.receiving:
            state.receiving.discard(self)
            self.fail(self.at_end())

    def unregister(self) -> None:
        self.resource.receiving.discard(self)

    def undo(self, value: T) -> None:
        state = self.resource
        if state.mutex is None:
            state.give_back(value)
        else:
            with state.mutex:
                state.give_back(value)

    def at_end(self) -> Exception:
        """How this operation says that nothing will come any more."""
        return self.end._end_error()

    def describe(self) -> str:
        return f"recv on {self.resource.describe()}" + unused(self, self.resource.senders, "sender")

    def __await__(self) -> Generator[Any, Any, T]:
        """The base's, written out for a local channel."""
        task = tls.running.task or current_task_or_none()
        end = self.end
        if (
            task is None
            or not (end._at_home == task.id or end._come_home(task))
            or self.state is not NEW
            or task.node.effective is not None
            or task.budget <= 0
        ):
            return (yield from super().__await__())
        state = self.resource
        items = state.items
        if items:
            task.budget -= 1
            self.state = DONE
            item = items.popleft()
            if state.sending._ops:
                state.admit()
            return item
        if state.sending._ops or not state.senders:
            return (yield from super().__await__())
        host = task.host
        self.task = task
        self.state = PARKED
        state.receiving._ops[self] = None
        if not state.senders:  # dropped in between by the collector: told as ``register`` tells it
            self.unregister()
            self.register()
        task.waiting = self
        try:
            while True:
                sent = yield host.park(task)
                if host.resumed is not None:
                    host.resumed(task)
                if self.state is FIRED:
                    self.state = DONE
                    break
                if self.state is ABORTED:
                    host.resume_aborted(task, sent)
        except BaseException as exc:
            _thrown(self, task, exc)
        finally:
            task.waiting = None
            task.budget = STEP_BUDGET
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        value: T = self.value
        return value


@twinned(final=True)
class Next(Recv[T]):
    """A receive for ``async for``, which has its own way to say that it is over."""

    __slots__ = ()

    def at_end(self) -> Exception:
        return StopAsyncIteration()
