"""Torn write: a file is written, renamed over the old one, and after a power cut it is there and empty.

Modelled on the zero-length files of ext4's delayed allocation (Ubuntu bug 317781, 2009) and on "All File Systems Are Not Created Equal" (Pillai
and others, 2014). Found by crashing the machine at each of its steps. The story must name the line that reads what is left. Mended
by `fsync` of the file before, and of its directory after the renaming.
"""

import contextlib
import os

import bateau
from bateau import sim
from support.bugs import Bug

SEEDS = 8


def everywhere(scenario, **options):
    for seed in range(SEEDS):  # each loses other writes at the crash
        sim.crash_everywhere(scenario, "machine", restart_after=None, seed=seed, **options)


BUG = Bug(seeds=SEEDS, says="neither", explore=everywhere)

OLD, NEW = "old settings\n" * 10, "new settings\n" * 10


def save(text):
    with open("/settings.new", "w") as file:
        file.write(text)
    os.replace("/settings.new", "/settings")


def save_durably(text):
    with open("/settings.new", "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace("/settings.new", "/settings")
    directory = os.open("/", os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read():
    with open("/settings") as file:
        text = file.read()
    assert text in (OLD, NEW), f"the settings are neither the old nor the new ones: {text[:40]!r}"  # <- named


async def scenario(world, save):
    machine = world.host("machine")
    try:
        await machine.start(save_durably, OLD)
    except bateau.TaskCancelled:
        return  # there is nothing yet that could get torn
    with contextlib.suppress(bateau.TaskCancelled):
        await machine.start(save, NEW)
    with contextlib.suppress(bateau.TaskCancelled):
        await machine.start(read)


async def buggy(world: sim.World):
    await scenario(world, save)


async def mended(world: sim.World):
    await scenario(world, save_durably)
