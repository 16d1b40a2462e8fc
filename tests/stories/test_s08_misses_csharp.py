"""S08: forgotten await, serial awaits, no token to pass. Here: a forgotten await is loud, `join`, tokens passed, nested, polled."""

from __future__ import annotations

import pytest

import bateau
from bateau import sim


async def download(page, token):
    """Library code as a C# programmer writes it: a token comes in, is polled, and goes on to what it calls."""
    parts = []
    for part in range(3):
        token.raise_if_cancelled()
        parts.append(f"{page}.{part}")
        await bateau.time.sleep(0.001)
    return parts


def test_a_forgotten_await_is_loud(entry):
    async def main():
        with pytest.warns(RuntimeWarning, match=r"sleep of 1 s was never awaited") as caught:
            bateau.time.sleep(1)
        assert caught[0].filename == __file__
        with pytest.warns(RuntimeWarning, match=r"'download' was never awaited"):
            download("forgotten", bateau.token())

    entry.run(main)


def test_two_downloads_take_the_time_of_one(entry):
    async def main():
        token = bateau.token()
        met = bateau.sync.Barrier(2)
        with bateau.fail_after(30):  # each waits for the other: one after the other they would wait for ever
            await bateau.join(met.wait(), met.wait())
        first, second = await bateau.join(download("a", token), download("b", token))
        assert first[0] == "a.0" and second[0] == "b.0"
        return await bateau.join([download(page, token) for page in "abc"])

    assert [parts[0] for parts in entry.run(main)] == ["a.0", "b.0", "c.0"]


def test_a_token_is_passed_nested_and_polled(entry):
    """The request's token cancels every download below it; a download's own token only that one."""

    async def main():
        request = bateau.token(name="request")
        one, two = request.child(name="one"), request.child(name="two")
        one.cancel("not wanted any more")
        with pytest.raises(bateau.TaskCancelled, match="not wanted any more"):
            await download("a", one)
        assert len(await download("b", two)) == 3
        request.cancel("client went away")
        with pytest.raises(bateau.TaskCancelled, match="client went away"):
            await download("b", two)
        assert one.reason == "not wanted any more"

    entry.run(main)


def test_what_takes_no_token_is_bound_to_it(entry):
    async def knows_no_token():
        await bateau.time.sleep_forever()

    async def main():
        request = bateau.token()
        async with bateau.scope() as scope:

            async def client_goes_away():
                await bateau.time.sleep(0.005)
                request.cancel("client went away")

            scope.spawn(client_goes_away)
            with request.bind() as block:
                await knows_no_token()
        assert block.cancelled_caught and block.record.reason == "client went away"

    entry.run(main)


def test_in_simulated_time_two_downloads_take_exactly_the_time_of_one():
    async def main():
        start = bateau.now()
        await bateau.join(bateau.time.sleep(0.2), bateau.time.sleep(0.2))
        return bateau.now() - start

    assert sim.run(main) == pytest.approx(0.2, abs=1e-9)


def test_whenever_the_token_is_cancelled_every_download_below_it_ends():
    """The client goes away at any moment, before the first part or after the last: each download is complete, or says why not."""

    async def scenario(when):
        request = bateau.token(name="request")
        results = []

        async def one(page):
            try:
                with request.bind():
                    results.append(await download(page, request))
            except bateau.TaskCancelled:
                results.append([])

        async with bateau.scope() as scope:
            for page in "abc":
                scope.spawn(one, page)
            await bateau.time.sleep(when)
            request.cancel("client went away")
        assert all(len(parts) in (0, 3) for parts in results)
        assert request.reason == "client went away"

    for when in (0, 0.0005, 0.001, 0.002, 0.0025, 0.003, 1):
        sim.explore(scenario, args=(when,), seeds=50)
