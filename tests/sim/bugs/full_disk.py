"""A full disk: half a record is in the log when the write fails, and the next record is written behind it.

Modelled on the partial-write findings of "Redundancy Does Not Imply Fault Tolerance" (Ganesan and others, 2017). The story must name
the line that can't read the log. Mended by cutting the log back to the last whole record.
"""

import json
import os

from bateau import sim
from support.bugs import Bug

BUG = Bug(seeds=50, error="JSONDecodeError", options={"faults": sim.Faults(disk_full=0.1, short_write=0.3)})


def append(fd, record, mend):
    data, end = json.dumps(record).encode() + b"\n", os.lseek(fd, 0, os.SEEK_END)
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        if mend:
            os.ftruncate(fd, end)


def write(mend):
    fd = os.open("/log", os.O_CREAT | os.O_RDWR)
    for number in range(10):
        append(fd, {"number": number, "text": "x" * 20}, mend)
    os.close(fd)


def read():
    with open("/log") as log:
        return [json.loads(line)["number"] for line in log]  # <- named


async def scenario(world, mend):
    store = world.host("store")
    await store.start(write, mend)
    numbers = await store.start(read)
    assert numbers == sorted(numbers)


async def buggy(world: sim.World):
    await scenario(world, mend=False)


async def mended(world: sim.World):
    await scenario(world, mend=True)
