"""Time of check, time of use: a program looks whether the lock file is there, and then makes it.

Modelled on CWE-367 and on the pid files of many daemons; `O_EXCL` exists for it. The story must name the line where both hold the
lock. Mended by opening with "x".
"""

import os

import bateau
from bateau import sim
from support.bugs import Bug

BUG = Bug(seeds=5, says="two programs hold")


def take(path):
    if os.path.exists(path):
        return False
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    return True


def take_exclusively(path):
    try:
        with open(path, "x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def daemon(take, holders):
    if take("/daemon.pid"):
        holders.append(os.getpid())
        assert len(holders) == 1, f"two programs hold the lock: {holders}"  # <- named


async def scenario(world, take):
    machine, holders = world.host("machine"), []
    first = machine.start(daemon, take, holders)
    second = machine.start(daemon, take, holders)
    await bateau.join(first, second)
    assert len(holders) == 1


async def buggy(world: sim.World):
    await scenario(world, take)


async def mended(world: sim.World):
    await scenario(world, take_exclusively)
