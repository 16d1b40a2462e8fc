"""Loops that do nothing but let others run."""

import asyncio

import anyio.lowlevel
import trio

import bateau


async def polls(ready, task):
    while not ready:  # error: self_wakes
        await asyncio.sleep(0)
    while not task.done():  # error: self_wakes
        await bateau.yield_now()
    while True:  # error: self_wakes
        await trio.lowlevel.checkpoint()
    while ready():  # error: self_wakes
        await anyio.lowlevel.checkpoint()
        await bateau.time.sleep(0)


async def waits(ready, event):
    while not ready:
        await asyncio.sleep(0.1)
    while ready.pop():
        await asyncio.sleep(0)
        event.set()
    for _ in range(3):
        await asyncio.sleep(0)
    while not ready:
        await event.wait()
    await asyncio.sleep(0)
