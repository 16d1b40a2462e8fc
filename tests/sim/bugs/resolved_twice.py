"""Timeout and completion race: the reply and the timer both find the request pending, and both finish it.

Modelled on asyncio's `InvalidStateError: invalid state` in client libraries that complete a future from a reader task after a timer
has done so (aiokafka, asyncpg, discord.py and others have had issues of that name). The story must name the wait after which the request was believed pending.
Mended by taking the request out of the table first: only who gets it may finish it.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=250, strategy="pos", says="finished twice", proof=1000)


class Requests:
    def __init__(self):
        self.pending = {}
        self.log = []

    def finish(self, number, how):
        assert number in self.pending, f"request {number} was finished twice: {self.log}, then {how}"
        del self.pending[number]
        self.log.append(how)

    async def on_reply(self, number):
        if number in self.pending:
            await bateau.yield_now()  # <- named
            self.finish(number, "a reply")

    async def on_timeout(self, number):
        if number in self.pending:
            self.finish(number, "a timeout")


class CarefulRequests(Requests):
    async def on_reply(self, number):
        if self.pending.pop(number, None) is not None:
            await bateau.yield_now()
            self.log.append("a reply")


async def scenario(requests):
    requests.pending[1] = "GET /"

    async def reader():
        for _ in range(2):
            await bateau.yield_now()
        await requests.on_reply(1)

    async def timer():
        for _ in range(6):
            await bateau.yield_now()
        await requests.on_timeout(1)

    async with bateau.scope() as scope:
        scope.spawn(reader, name="reader")
        scope.spawn(timer, name="timer")
    assert len(requests.log) == 1


async def buggy():
    await scenario(Requests())


async def mended():
    await scenario(CarefulRequests())
