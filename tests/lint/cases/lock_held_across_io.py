"""Locks of tasks that are held while the outside is waited for. What a lock is there to keep apart is left alone."""

import asyncio

import aiohttp
import anyio
import httpx
import trio

import bateau

lock = bateau.sync.Lock()


async def sleeps():
    async with lock:
        await bateau.time.sleep(1)  # error: lock_held_across_io


async def in_trio():
    guard = trio.Lock()
    async with guard:
        await trio.run_process("true")  # error: lock_held_across_io


async def in_anyio(guard: anyio.Lock):
    async with guard:
        for host in ("one", "two"):
            await anyio.connect_tcp(host, 80)  # error: lock_held_across_io


class Client:
    def __init__(self):
        self.lock = asyncio.Lock()
        self.http = httpx.AsyncClient()
        self.session: aiohttp.ClientSession | None = None
        self.reader, self.writer = None, None
        self.stream = None
        self.pages = {}

    async def fetch(self, url):
        async with self.lock:
            page = await self.http.get(url)  # error: lock_held_across_io
            self.pages[url] = page
        async with self.lock:
            async with self.session.get(url) as response:  # error: lock_held_across_io
                return response

    async def once(self, url):
        async with self.lock:
            if url not in self.pages:
                self.pages[url] = await self.http.get(url)
            return self.pages[url]

    async def checked_again(self, url):
        async with self.lock:
            if url in self.pages:
                return self.pages[url]
            self.pages[url] = await self.http.get(url)

    async def send(self, frame: bytes):
        async with self.lock:
            self.writer.write(frame)
            await self.writer.drain()

    async def connect(self):
        async with self.lock:
            if self.stream is None:
                self.stream = await bateau.net.connect_tcp("localhost", 80)

    async def before(self, url):
        page = await self.http.get(url)
        async with self.lock:
            self.pages[url] = page
            await asyncio.sleep(0)

    async def rate_limited(self, wait):
        async with self.lock:
            if wait > 0:
                await asyncio.sleep(wait)

    async def many_at_once(self, limit: asyncio.Semaphore, url):
        async with limit:
            await self.http.get(url)
