"""S20, the chapter on testing: mocks threaded through the program, tests that sleep, failures nobody can reproduce.

Here the program is the real one: it takes no clock, no transport and no dice as arguments. The test makes the world around it.
"""

from __future__ import annotations

import random
import time

import pytest

import bateau
from bateau import net, sim

PORT = 8000
PATIENCE = 2.0

# -- the service: nothing in it knows of tests -----------------------------------------------------------------------------


async def price_service(prices: dict[str, int], pace: float = 0.05) -> None:
    async def answer(stream: net.SocketStream) -> None:
        async with stream:
            name = (await stream.read(100)).decode()
            await bateau.time.sleep(pace)
            await stream.write(str(prices[name]).encode())

    async with await net.listen_tcp("0.0.0.0", PORT) as listener:
        await net.serve(answer, listener, on_error=lambda *_: None)


class Shop:
    """Asks for prices; falls back to the last one it has seen when no answer comes, with a growing pause between attempts."""

    def __init__(self, attempts: int = 4) -> None:
        self.attempts = attempts
        self.last_seen: dict[str, int] = {}

    async def ask(self, name: str) -> int:
        async with await net.connect_tcp("prices", PORT) as stream:
            await stream.write(name.encode())
            answer = await stream.read(100)
            if not answer:
                raise ConnectionResetError("the price service hung up")
            return int(answer)

    async def price(self, name: str) -> int:
        for attempt in range(self.attempts):
            try:
                with bateau.fail_after(PATIENCE):
                    self.last_seen[name] = await self.ask(name)
                    break
            except (OSError, TimeoutError):
                await bateau.time.sleep(random.uniform(0.5, 1) * 2**attempt)
        return self.last_seen[name]


# -- its tests -------------------------------------------------------------------------------------------------------------


def test_timeouts_take_no_time() -> None:
    """Four attempts with two seconds of patience and growing pauses: a quarter of a minute of the world's, none of ours."""

    async def scenario(world: sim.World) -> float:
        world.host("prices").start(price_service, {"tea": 3}, 3600.0)
        await bateau.time.sleep(0.1)
        shop = Shop()
        shop.last_seen["tea"] = 2
        began = bateau.now()
        assert await shop.price("tea") == 2
        return bateau.now() - began

    began = time.perf_counter()
    took = sim.run(scenario)
    assert 4 * PATIENCE + 0.5 * 15 <= took <= 4 * PATIENCE + 15 + 1
    assert time.perf_counter() - began < 5


def test_a_partition_is_one_line() -> None:
    async def scenario(world: sim.World) -> None:
        world.host("prices").start(price_service, {"tea": 3})
        await bateau.time.sleep(0.1)
        shop = Shop(attempts=8)
        world.partition("test", "prices")
        async with bateau.scope() as scope:
            answer = scope.spawn(shop.price, "tea")
            await bateau.time.sleep(10)
            assert not answer.done
            world.heal("test", "prices")
        assert answer.outcome().unwrap() == 3

    sim.run(scenario)


async def under_faults(world: sim.World) -> None:
    world.host("prices").start(price_service, {"tea": 3, "milk": 1})
    await bateau.time.sleep(0.1)
    shop = Shop()
    shop.last_seen.update(tea=2, milk=1)
    tea, milk = await bateau.join(shop.price("tea"), shop.price("milk"))
    assert tea in (2, 3) and milk == 1


def test_the_shop_survives_resets_and_refusals() -> None:
    covered = sim.explore(under_faults, seeds=60, faults=sim.Faults(reset=0.1, refuse=0.2))
    assert covered.runs == 60
    assert covered.answered.get("reset", 0) + covered.answered.get("refuse", 0) > 0


def test_a_failure_comes_back_from_its_token() -> None:
    """What failed once on somebody's machine fails here, at the same line, as often as it is wanted."""

    class HastyShop(Shop):
        async def price(self, name: str) -> int:
            return await self.ask(name)

    async def scenario(world: sim.World) -> None:
        world.host("prices").start(price_service, {"tea": 3})
        await bateau.time.sleep(0.1)
        assert await HastyShop().price("tea") == 3

    resets = sim.Faults(reset=0.1)
    with pytest.raises(sim.Found) as caught:
        sim.explore(scenario, seeds=200, faults=resets)
    first = caught.value
    assert isinstance(first.error, OSError)
    assert "self.ask(name)" in first.story
    runs = [sim.replay(scenario, first.token, faults=resets) for _ in range(3)]
    assert {run.digest for run in runs} == {first.run.digest}
    assert {run.failure() for run in runs} == {first.run.failure()}
