"""join, race and select under many schedules: every order the engine may choose gives an allowed outcome (laws 3, 11, 20)."""

from __future__ import annotations

import random

import pytest

import bateau
from bateau import join, race, select
from bateau.runtimes.native import NativeRuntime
from bateau.runtimes.program import Program

pytestmark = [pytest.mark.law(3), pytest.mark.law(20)]


def explore(main, seeds=60):
    """Run ``main`` once per seed, each ordering decision drawn from it; gives the outcomes."""
    outcomes = []
    for seed in range(seeds):
        runtime = NativeRuntime()
        session = runtime.open()
        session.engine.choose = random.Random(seed).randrange
        try:
            outcomes.append(Program(runtime, session.host).run(session, main, ()))
        finally:
            session.close()
    return outcomes


async def turns(n):
    for _ in range(n):
        await bateau.yield_now()


def test_select_between_producers_and_cancellations():
    async def main():
        one, two = bateau.channel.channel[int](1), bateau.channel.channel[int](0)
        got: list[int] = []

        async def produce(sender, start):
            async with sender as tx:
                for n in range(start, start + 8):
                    await tx.send(n)

        async def consume():
            while True:
                try:
                    got.append((await select(a=one[1].recv(), b=two[1].recv())).value)
                except bateau.EndOfStream:
                    return

        async def impatient():
            for _ in range(6):
                async with bateau.scope() as scope:
                    scope.spawn(canceller, scope)
                    got.append((await select(a=one[1].recv(), b=two[1].recv())).value)

        async def canceller(scope):
            await turns(2)
            scope.cancel()

        async with bateau.scope() as scope:
            scope.spawn(produce, one[0], 0)
            scope.spawn(produce, two[0], 100)
            other = scope.spawn(ignoring_the_end, impatient)
            scope.spawn(consume)
        await other
        one[1].close()
        two[1].close()
        return sorted(got)

    async def ignoring_the_end(fn):
        try:
            await fn()
        except bateau.EndOfStream:
            return

    for outcome in explore(main):
        assert outcome == [*range(8), *range(100, 108)]


def test_a_lock_and_a_channel_are_never_both_taken():
    async def main():
        lock = bateau.sync.Lock()
        tx, rx = bateau.channel.channel[int](1)
        go = bateau.token()

        async def holder():
            async with lock:
                await go.wait()

        async def sender():
            await go.wait()
            await tx.send(1)

        async with bateau.scope() as scope:
            scope.spawn(holder)
            await turns(2)
            scope.spawn(sender)
            chooser = scope.spawn(choose, lock, rx)
            await turns(2)
            go.cancel()
        name = await chooser
        assert not lock.locked()
        left = len(rx)
        rx.close()
        tx.close()
        return name, left

    async def choose(lock, rx):
        chosen = await select(lock=lock.acquire(), item=rx.recv())
        if chosen.name == "lock":
            assert lock.locked()
            lock.release()
        return chosen.name

    outcomes = set(explore(main))
    assert outcomes <= {("lock", 1), ("item", 0)}
    assert len(outcomes) == 2, "the schedules explored should reach both"


def test_race_has_exactly_one_winner_and_no_survivors():
    async def main():
        alive = 0

        async def arm(n):
            nonlocal alive
            alive += 1
            try:
                await turns(n)
                return n
            finally:
                await_later = n % 2
                if await_later:
                    async with bateau.cleanup(5):
                        await turns(2)
                alive -= 1

        won = await race(arm(3), arm(3), arm(2), arm(4))
        assert alive == 0
        assert all(event.name != won.index for event in won.also)
        return won.index

    outcomes = set(explore(main))
    assert len(outcomes) > 1


def test_join_gives_the_first_errors_and_no_survivors():
    async def main():
        alive = 0

        async def arm(n):
            nonlocal alive
            alive += 1
            try:
                await turns(n)
                if n % 2:
                    raise ValueError(n)
            finally:
                alive -= 1

        try:
            await join(arm(1), arm(3), arm(6))
        except ValueError as error:
            result: object = error.args[0]
        except ExceptionGroup as group:
            result = tuple(sorted(error.args[0] for error in group.exceptions))
        else:
            result = None
        assert alive == 0
        return result

    assert set(explore(main)) <= {1, 3, (1, 3)}


@pytest.mark.law(17)
def test_a_select_nobody_can_satisfy_is_a_deadlock():
    async def main():
        tx, rx = bateau.channel.channel[int](1)
        async with tx, rx:
            await select(item=rx.recv(), never=bateau.time.sleep_forever())

    with pytest.raises(bateau.Deadlock, match=r"select \(.*item: recv on channel"):
        bateau.run(main, runtime="native")
