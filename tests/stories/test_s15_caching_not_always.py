"""S15: a cancellation between two awaits skips the second effect. Here: found by cancelling everywhere, mended by one word.

The proxy of the story counts each request that it sends on, waits for the answer, and then stores it: the two belong together.
"""

from __future__ import annotations

import pytest

import bateau
from bateau import sim


class Proxy:
    """Answers from its cache, or asks the origin. ``asked`` and ``cached`` are kept in a store that takes a while."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cached: dict[str, str] = {}

    async def origin(self, page: str) -> str:
        await bateau.time.sleep(0.05)
        return page.upper()

    async def note(self, page: str) -> None:
        await bateau.time.sleep(0.01)
        self.asked.append(page)

    async def store(self, page: str, text: str) -> None:
        await bateau.time.sleep(0.01)
        self.cached[page] = text

    async def get(self, page: str) -> str:
        if page not in self.cached:
            text = await self.origin(page)
            await self.note(page)
            await self.store(page, text)
        return self.cached[page]


class CarefulProxy(Proxy):
    async def get(self, page: str) -> str:
        if page not in self.cached:
            text = await self.origin(page)
            async with bateau.cleanup(1):  # both, whoever hangs up meanwhile
                await self.note(page)
                await self.store(page, text)
        return self.cached[page]


async def a_client_hangs_up(proxy: Proxy) -> None:
    async with bateau.scope(name="request"):
        await proxy.get("front page")


def consistent(proxy: Proxy) -> None:
    assert sorted(proxy.asked) == sorted(proxy.cached), (
        f"asked for {proxy.asked}, but only {[*proxy.cached]} are cached"
    )


def scenario(kind: type[Proxy]):
    async def hang_up() -> None:
        proxy = kind()
        try:
            await a_client_hangs_up(proxy)
        finally:
            consistent(proxy)

    return hang_up


@pytest.mark.law(7)
def test_cancelling_everywhere_finds_the_skipped_effect() -> None:
    with pytest.raises(sim.Found) as caught:
        sim.cancel_everywhere(scenario(Proxy), scope="request")
    assert "asked for ['front page'], but only [] are cached" in caught.value.story
    assert "await self.store(page, text)" in caught.value.story or "await bateau.time.sleep(0.01)" in caught.value.story


@pytest.mark.law(7)
def test_a_must_complete_section_mends_it() -> None:
    covered = sim.cancel_everywhere(scenario(CarefulProxy), scope="request", pairs=True)
    assert covered.exhausted
    assert covered.runs > 4
