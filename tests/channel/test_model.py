"""The channel against a plain model: any sequence of calls, cancellations and closings leaves both in the same state.

The model says what must come of it: a list of items, a list of waiting senders, a list of waiting receivers.
"""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bateau
from bateau.channel import channel

COMMANDS = st.one_of(
    st.sampled_from(["send", "recv", "try_send", "try_recv", "settle"]),
    st.tuples(st.sampled_from(["cancel_send", "cancel_recv"]), st.integers(0, 5)),
)


class Model:
    """What a channel should be: everything in the open."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.items: deque[int] = deque()
        self.senders: deque[tuple[int, int]] = deque()  # (who, item)
        self.receivers: deque[int] = deque()
        self.sent: list[int] = []
        self.received: dict[int, int] = {}

    def can_send(self) -> bool:
        return bool(self.receivers) or len(self.items) < self.capacity

    def send(self, who: int, item: int) -> None:
        if self.receivers:
            self.received[self.receivers.popleft()] = item
        elif len(self.items) < self.capacity:
            self.items.append(item)
        else:
            self.senders.append((who, item))
            return
        self.sent.append(who)

    def recv(self, who: int) -> None:
        if self.items:
            self.received[who] = self.items.popleft()
            if self.senders:
                sender, item = self.senders.popleft()
                self.items.append(item)
                self.sent.append(sender)
        elif self.senders:
            sender, self.received[who] = self.senders.popleft()
            self.sent.append(sender)
        else:
            self.receivers.append(who)


@pytest.mark.law(12)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(capacity=st.integers(0, 3), commands=st.lists(COMMANDS, max_size=40))
@pytest.mark.parametrize("entry", ["owned:native", "owned:asyncio"], indirect=True)
def test_any_sequence_is_as_the_model_says(entry, capacity, commands):
    entry.run(_play, capacity, commands)


async def _play(capacity, commands):
    tx, rx = channel[int](capacity)
    model = Model(capacity)
    sent: list[int] = []
    received: dict[int, int] = {}
    tasks: dict[int, bateau.Task] = {}

    async def send(who):
        await tx.send(who)
        sent.append(who)

    async def recv(who):
        received[who] = await rx.recv()

    async def settle():
        for _ in range(3):
            await bateau.yield_now()

    async with bateau.scope() as scope:
        for who, command in enumerate(commands):
            if command in ("send", "recv"):
                tasks[who] = scope.spawn(send if command == "send" else recv, who)
                await settle()
                model.send(who, who) if command == "send" else model.recv(who)
            elif command == "try_send":
                if model.can_send():
                    tx.try_send(who)
                    model.send(-1, who)
                    model.sent.pop()
                else:
                    with pytest.raises(bateau.WouldBlock):
                        tx.try_send(who)
            elif command == "try_recv":
                if model.items or model.senders:
                    model.recv(-1)
                    assert rx.try_recv() == model.received.pop(-1)
                else:
                    with pytest.raises(bateau.WouldBlock):
                        rx.try_recv()
            elif command == "settle":
                await settle()
            else:
                _cancel(command, model, tasks)
            stats = tx.statistics()
            assert (stats.items, stats.waiting_senders, stats.waiting_receivers) == (
                len(model.items),
                len(model.senders),
                len(model.receivers),
            )
        await settle()
        assert received == model.received
        assert sorted(sent) == sorted(model.sent)
        for task in tasks.values():
            task.cancel()
    assert [rx.try_recv() for _ in model.items] == list(model.items)


def _cancel(command, model, tasks):
    """Cancel one of those that wait: it leaves no trace."""
    kind, index = command
    waiting = model.senders if kind == "cancel_send" else model.receivers
    if not waiting:
        return
    chosen = waiting[index % len(waiting)]
    waiting.remove(chosen)
    tasks[chosen[0] if kind == "cancel_send" else chosen].cancel()
