"""Operations are used again once they have ended: none may show what the one before it held, or be in two hands."""

import gc
import weakref

import pytest

import bateau
from bateau.channel import Sender, channel
from bateau.kernel.twin import native


def test_more_at_once_than_are_kept():
    async def main():
        tx, rx = channel(1000)
        sends = [tx.send(i) for i in range(200)]
        assert len({id(op) for op in sends}) == 200
        for op in sends:
            await op
        del op, sends
        receives = [rx.recv() for _ in range(200)]
        return [await op for op in receives]

    for _ in range(3):
        assert bateau.run(main) == list(range(200))


def test_an_end_that_went_through_its_own_channel_last():
    """The operation's end and its value are one object, and the last two references to it."""
    gone = []

    async def main():
        tx, rx = channel(1)
        weakref.finalize(rx, gone.append, 1)
        await tx.send(rx)
        op = rx.recv()
        del rx
        assert await op is not None
        del op
        gc.collect()
        with pytest.raises(bateau.Broken):
            await tx.send(1)

    bateau.run(main)
    assert gone == [1]


def test_weak_references_end_with_their_operation():
    async def main():
        tx, rx = channel(1)
        for i in range(3):
            op = tx.send(i)
            seen = weakref.ref(op)
            await op
            del op
            assert seen() is None
            again = rx.recv()
            assert await again == i
            assert seen() is None

    bateau.run(main)


def test_one_that_is_held_is_not_used_again():
    async def main():
        tx, rx = channel(2)
        held = tx.send("held")
        await held
        others = [tx.send(i) for i in range(2)]
        assert all(op is not held for op in others)
        for op in others[:1]:
            await op
        with pytest.raises(RuntimeError):
            await held
        assert await rx.recv() == "held"
        await others[1]
        assert [await rx.recv() for _ in range(2)] == [0, 1]

    bateau.run(main)


def test_what_the_collector_has_finalised_warns_once():
    async def main():
        tx, rx = channel(1)
        cycle = []
        op = tx.send(cycle)
        cycle.append(op)
        del op, cycle
        with pytest.warns(RuntimeWarning, match="never awaited") as told:
            gc.collect()
        assert len(told) == 1
        for i in range(5):
            await tx.send(i)
            assert await rx.recv() == i

    bateau.run(main)


def test_a_method_of_a_class_takes_objects_of_its_subclasses_and_no_others():
    class Mine(Sender):
        pass

    if native is not None:
        with pytest.raises(TypeError):
            Sender.send(object(), 1)
    with pytest.raises(TypeError):
        bateau.yield_now(1)
    with pytest.raises(TypeError):
        bateau.checkpoint(x=1)

    async def main():
        tx, rx = channel(1)
        mine = Mine(tx._state, ("here", 1))
        tx._state.senders[mine._seat] = None
        await mine.send("through a subclass")
        return await rx.recv()

    assert bateau.run(main) == "through a subclass"
