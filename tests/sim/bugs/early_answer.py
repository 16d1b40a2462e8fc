"""The answer comes before the data is durable: a store says "saved", its machine loses power, and the value is gone.

Modelled on "fsyncgate" (PostgreSQL's list, 2018) and on the findings of the Jepsen tests against stores with lazy syncing. Found by crashing the
machine at each of its steps. The story must name the line that finds the saved value missing. Mended by `fsync` before the answer.
"""

import contextlib
import os

import bateau
from bateau import sim
from support.bugs import Bug


def everywhere(scenario, **options):
    return sim.crash_everywhere(scenario, "store", restart_after=None, **options)


BUG = Bug(seeds=50, says="are gone", explore=everywhere, options={"faults": sim.Faults(unsynced_lost=0.9)})


def append(values, saved, sync):
    with open("/log", "a") as log:
        for value in values:
            log.write(f"{value}\n")
            log.flush()
            if sync:
                os.fsync(log.fileno())
            saved.append(value)  # the answer
    if sync:
        directory = os.open("/", os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


def check(saved):
    found = []
    if os.path.exists("/log"):
        with open("/log") as log:
            found = [line for line in log.read().split("\n") if line]
    gone = [value for value in saved if value not in found]
    assert not gone, f"{gone} are gone, although they were saved"  # <- named


def create():
    with open("/log", "x") as log:
        os.fsync(log.fileno())
    directory = os.open("/", os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


async def scenario(world, sync):
    store, saved = world.host("store"), []
    try:
        await store.start(create)
    except bateau.TaskCancelled:
        return  # nothing is saved yet
    with contextlib.suppress(bateau.TaskCancelled):
        await store.start(append, ["one", "two", "three"], saved, sync)
    with contextlib.suppress(bateau.TaskCancelled):
        await store.start(check, saved)


async def buggy(world: sim.World):
    await scenario(world, sync=False)


async def mended(world: sim.World):
    await scenario(world, sync=True)
