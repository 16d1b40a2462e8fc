"""Forgotten rollback: a transfer that is cancelled between its two halves leaves the money nowhere.

Modelled on "Barbara writes a cache, but not always" of Rust's async vision document and on the asyncio guides' advice to guard
against cancellation at every await. Found by cancelling the transfer at each of its suspensions, one per run. The story must name
the wait where it was cut off. Mended by undoing in `except`.
"""

import contextlib

import bateau
from bateau import sim
from support.bugs import Bug


def everywhere(scenario, **options):
    return sim.cancel_everywhere(scenario, scope="transfer", **options)


BUG = Bug(seeds=10, says="money is missing", explore=everywhere)


async def transfer(accounts):
    await bateau.yield_now()  # authenticates
    accounts["alice"] -= 10
    await bateau.time.sleep(0.01)  # <- named
    accounts["bob"] += 10
    await bateau.yield_now()  # writes a line to the journal


async def transfer_or_undo(accounts):
    await bateau.yield_now()
    accounts["alice"] -= 10
    try:
        await bateau.time.sleep(0.01)
    except BaseException:
        accounts["alice"] += 10
        raise
    accounts["bob"] += 10
    await bateau.yield_now()


async def scenario(transfer):
    accounts = {"alice": 50, "bob": 50}
    async with bateau.scope() as scope:
        with contextlib.suppress(bateau.TaskCancelled):
            await scope.spawn(transfer, accounts, name="transfer")
    assert sum(accounts.values()) == 100, f"money is missing: {accounts}"


async def buggy():
    await scenario(transfer)


async def mended():
    await scenario(transfer_or_undo)
