"""A replicated register whose reads ask a majority and keep to themselves what they saw: a later read may see an older value.

Modelled on Attiya, Bar-Noy and Dolev, "Sharing Memory Robustly in Message-Passing Systems" (1995), whose reads write back for that
reason; Jepsen found the like in several stores. The story must name the line that judges the history. Mended by the writing back.
"""

import random

import bateau
from bateau import sim
from bateau.sim import models
from support.bugs import Bug

BUG = Bug(seeds=50, error="NotLinearizable", says="read()")


class Replicated:
    def __init__(self, scope):
        self.scope = scope
        self.replicas = [(0, "old")] * 3

    async def majority(self, act, slowest=0.002):
        """`act` on each replica, some of them slow; the first two answers."""
        answers, two = [], bateau.sync.Event()

        async def on(number):
            await bateau.time.sleep(random.choice([0.001, slowest]))
            answers.append(act(number))
            if len(answers) == 2:
                two.set()

        for number in range(3):
            self.scope.spawn(on, number, name=f"replica {number}")
        await two.wait()
        return answers[:2]

    async def store(self, version, value):
        def act(number):
            self.replicas[number] = max(self.replicas[number], (version, value))

        await self.majority(act, slowest=0.1)

    async def write(self, value):
        await self.store(1, value)

    async def read(self):
        _, value = max(await self.majority(lambda number: self.replicas[number]))
        return value


class WritingBack(Replicated):
    async def read(self):
        version, value = max(await self.majority(lambda number: self.replicas[number]))
        await self.store(version, value)
        return value


async def scenario(kind):
    history = sim.History()

    async def write():
        with history.operation("write", "new"):
            await register.write("new")

    async def read_again_and_again():
        for _ in range(5):
            with history.operation("read") as op:
                op.value = await register.read()

    async with bateau.scope() as scope:
        register = kind(scope)
        scope.spawn(write, name="writer")
        scope.spawn(read_again_and_again, name="reader")
    sim.check_linearizable(history, models.Register("old"))  # <- named


async def buggy():
    await scenario(Replicated)


async def mended():
    await scenario(WritingBack)
