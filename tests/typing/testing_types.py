"""Marks keep the types of what they mark."""

from __future__ import annotations

from typing import assert_type

from bateau import sim
from bateau.testing import AsyncTestCase, runtimes, simulate, virtual_time
from bateau.testing.marks import Mark


@runtimes("native", "trio")
async def on_both(n: int, *, name: str = "") -> str:
    return name * n


@simulate
async def simulated(world: sim.World) -> int:
    return world.seed


@simulate.pin("sim-token")
@simulate(seeds=range(5, 10), faults=sim.Faults(loss=0.1), strategy="pct", max_steps=1000)
async def with_options(n: int) -> int:
    return n


@virtual_time
def plain(n: int) -> int:
    return n


@runtimes("native")
class Marked:
    x = 3


class Case(AsyncTestCase):
    runtime = "trio"

    async def asyncSetUp(self) -> None:
        import bateau

        scope = await self.enterAsyncContext(bateau.scope())
        assert_type(scope, bateau.Scope)


async def types(world: sim.World) -> None:
    assert_type(await on_both(1, name="a"), str)
    assert_type(await simulated(world), int)
    assert_type(await with_options(3), int)
    assert_type(plain(3), int)
    assert_type(Marked().x, int)
    await on_both("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(runtimes("native"), Mark)
    assert_type(simulate(seeds=3), Mark)


simulate(seeds="many")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
runtimes(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
