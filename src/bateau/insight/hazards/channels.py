"""``channel_stayed_full`` and ``never_started_consumer``: a channel whose senders wait, because of who receives, or because nobody does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..words import duration
from .base import Found, Hazard

if TYPE_CHECKING:
    from ..watch_look import Look, Seen


class ChannelStayedFull(Hazard):
    """Full at every look, with senders that wait."""

    name = "channel_stayed_full"
    title = "Channel stayed full"
    threshold = 5.0
    remedy = (
        "send less (batch, sample, refuse), receive more (more receivers, or faster ones), or give it more capacity "
        "if what comes in bursts is worked off between them"
    )

    def check(self, look: Look) -> Iterable[Found]:
        for channel, senders, since in _full(look, self.name):
            if look.now - since < self.limit(senders[0]) or not is_used(channel):
                continue
            receivers = [task for seat in tuple(channel.receivers) for task in seat.alive()]
            yield from self.found(
                id(channel),
                senders[0],
                f"{channel.describe()} has been full for {duration(look.now - since)}, and {len(senders)} "
                f"{'task waits' if len(senders) == 1 else 'tasks wait'} to send",
                evidence=[_doing(look, task) for task in receivers],
            )


class NeverStartedConsumer(Hazard):
    """Full, and nobody has ever received from it."""

    name = "never_started_consumer"
    title = "A consumer was never started"
    threshold = 2.0
    remedy = "spawn the task that receives before (or beside) those that send, and hand it the receiver"

    def check(self, look: Look) -> Iterable[Found]:
        for channel, senders, since in _full(look, self.name):
            if look.now - since < self.limit(senders[0]) or is_used(channel):
                continue
            made = [("receiver made", *seat.site) for seat in tuple(channel.receivers)]
            yield from self.found(
                id(channel),
                senders[0],
                f"{channel.describe()} is full, and no task has ever received from it",
                sites=tuple(made),
            )


def is_used(channel: Any) -> bool:
    """Whether somebody has received from it, or what receives can't be known (a plain thread)."""
    return any(seat.users or seat.by_threads for seat in tuple(channel.receivers))


def _full(look: Look, name: str) -> list[tuple[Any, list[Seen], float]]:
    """Channels that somebody waits to send to, with those who do, and since when that has been so at each look."""
    knotted: set[int] = look.memory.get("knotted", set())
    senders: dict[int, list[Seen]] = {}
    channels: dict[int, Any] = {}
    for seen in look:
        op = seen.op
        if not seen.is_parked or op is None or op.resource.kind != "channel" or seen.key in knotted:
            continue
        channel: Any = op.resource
        if hasattr(op, "item") and len(channel.items) >= channel.capacity:
            channels[id(channel)] = channel
            senders.setdefault(id(channel), []).append(seen)
    first: dict[int, float] = look.memory.get(name, {})
    since = look.memory[name] = {key: first.get(key, look.now) for key in channels}
    return [(channels[key], senders[key], since[key]) for key in channels]


def _doing(look: Look, task: Any) -> str:
    """What a receiver does instead of receiving."""
    seen = look.of(task)
    if seen is None:
        return f"received by task {task.name!r}"
    doing = f"waits: {seen.op.describe()}" if seen.op is not None else "runs, or waits on something outside bateau"
    return f"received by task {task.name!r}, which {doing} at {seen.site[0]}:{seen.site[1]}"
