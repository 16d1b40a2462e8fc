"""What is opened and never closed, and generators that are left with something open."""

import contextlib

import aiohttp
import httpx
import pytest

import bateau
from bateau import net


async def dropped():
    await net.connect_tcp("localhost", 80)  # error: dropped_without_close
    await (await net.connect_tcp("localhost", 80)).sendall(b"")  # error: dropped_without_close
    stream = await net.connect_tcp("localhost", 80)  # error: dropped_without_close
    await stream.sendall(b"x")
    session = aiohttp.ClientSession()  # error: dropped_without_close
    print(await session.get("http://example.org"))
    print(await httpx.AsyncClient().get("http://example.org"))  # error: dropped_without_close


async def kept(scope, sockets):
    async with await net.connect_tcp("localhost", 80) as stream:
        await stream.sendall(b"x")
    closed = await net.connect_tcp("localhost", 80)
    await closed.sendall(b"x")
    closed.close()
    owned = await net.connect_tcp("localhost", 80)
    scope.own(owned)
    await owned.sendall(b"x")
    stored = await net.connect_tcp("localhost", 80)
    sockets["x"] = stored
    deferred = await net.connect_tcp("localhost", 80)
    scope.defer(deferred.aclose)
    bound = await net.connect_tcp("localhost", 80)
    scope.spawn(bound.recv, 10)
    client = httpx.AsyncClient()
    async with client:
        await client.get("http://example.org")
    inner = await net.connect_tcp("localhost", 80)

    def close():
        inner.close()

    scope.defer(close)
    with pytest.raises(OSError):
        await net.connect_tcp("nowhere.invalid", 80)
    return await net.connect_tcp("localhost", 80)


async def lines(path):
    async with bateau.fs.open(path) as file:
        async for line in file:
            yield line


async def numbers():
    for number in range(10):
        yield number


async def first(path):
    async for line in lines(path):  # error: dropped_without_close
        if line:
            return line


async def some(path):
    async for line in lines(path):  # error: dropped_without_close
        for letter in line:
            break
        if line:
            break


async def fine(path):
    async for number in numbers():
        if number:
            break
    async for line in lines(path):
        for letter in line:
            break
    async with contextlib.aclosing(lines(path)) as items:
        async for line in items:
            break
