"""The cancellation matrix over join, race and select: whatever cancels, whatever the arms wait on, all have ended (laws 3, 5)."""

from __future__ import annotations

import pytest

import bateau
from bateau import join, race, select
from support.entries import on_asyncio_family
from support.waiting import until

pytestmark = [pytest.mark.law(3), pytest.mark.law(5)]


async def foreign_forever(entry):
    if entry.family == "trio":
        import trio

        await trio.sleep_forever()
    else:
        import asyncio

        await asyncio.get_running_loop().create_future()


class Arms:
    """Arms that note their beginning and their end."""

    def __init__(self, entry, where):
        self.entry = entry
        self.where = where
        self.begun = 0
        self.ended = 0

    async def arm(self):
        self.begun += 1
        try:
            if self.where == "own park":
                await bateau.time.sleep_forever()
            elif self.where == "foreign park":
                await foreign_forever(self.entry)
            else:
                while True:
                    await bateau.yield_now()
        finally:
            async with bateau.cleanup(20):
                await bateau.yield_now()
            self.ended += 1

    async def combined(self, how):
        if how == "join":
            await join(self.arm, self.arm(), self.arm)
        elif how == "race":
            await race(self.arm, self.arm(), x=self.arm)
        elif how == "select":
            await select(a=self.arm, b=self.arm(), c=self.arm)
        else:
            async with select(a=self.arm, b=self.arm(), c=self.arm) as events:
                async for _ in events:
                    raise AssertionError


combinations = pytest.mark.parametrize("how", ["join", "race", "select", "select loop"])
places = pytest.mark.parametrize("where", ["own park", "foreign park", "running"])


@combinations
@places
@pytest.mark.parametrize("what", ["scope", "deadline", "task"])
def test_cancelled_by_bateau(entry, how, where, what):
    async def main():
        arms = Arms(entry, where)
        after = False

        async def caller():
            nonlocal after
            await arms.combined(how)
            after = True

        async with bateau.scope() as outer:
            if what == "deadline":
                with bateau.move_on_after(None) as limit:

                    async def due():
                        await until(lambda: arms.begun == 3)
                        limit.reschedule(bateau.now())

                    outer.spawn(due)
                    await caller()
                assert limit.cancelled_caught
            else:
                async with bateau.scope() as scope:
                    task = scope.spawn(caller)
                    await until(lambda: arms.begun == 3)
                    (scope if what == "scope" else task).cancel("enough")
                assert task.was_cancelled
            assert not outer.tasks
        assert (arms.begun, arms.ended, after) == (3, 3, False)

    entry.run(main)


@combinations
@places
def test_shielded(entry, how, where):
    """A cancellation from outside does not reach arms behind a shield; that of the shielded block itself does."""

    async def main():
        arms = Arms(entry, where)
        async with bateau.scope() as scope:

            async def caller():
                with bateau.shield() as shield:
                    shields.append(shield)
                    await arms.combined(how)

            shields: list[bateau.CancelScope] = []
            scope.spawn(caller)
            await until(lambda: arms.begun == 3)
            scope.cancel()
            with bateau.shield():
                for _ in range(5):
                    await bateau.yield_now()
                assert arms.ended == 0
            shields[0].cancel()
        assert arms.ended == 3

    entry.run(main)


@combinations
@places
@on_asyncio_family
def test_cancelled_natively(entry, how, where):
    import asyncio

    async def main():
        arms = Arms(entry, where)
        task = asyncio.ensure_future(arms.combined(how))
        await until(lambda: arms.begun == 3)
        task.cancel("native")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled() and task.cancelling() == 1
        assert arms.ended == 3

    entry.run(main)


@combinations
def test_woken_but_not_stepped(entry, how):
    """The arms' waits are granted and, before they have stepped, everything is cancelled: nothing hangs, nothing is lost."""

    async def main():
        tx, rx = bateau.channel.channel[int](0)
        got: list[int] = []

        async def arm():
            got.append(await rx.recv())

        async def caller():
            if how == "join":
                await join(arm)
            elif how == "race":
                await race(arm)
            elif how == "select":
                await select(a=arm)
            else:
                async with select(a=arm) as events:
                    await events.next()

        async with tx, rx:
            async with bateau.scope() as scope:
                scope.spawn(caller)
                await until(lambda: tuple(rx._state.waiters()))
                tx.try_send(7)
                scope.cancel()
            left = len(rx)
            assert got == [7] or left == 1

    entry.run(main)
