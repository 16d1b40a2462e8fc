"""A barrier used again before all have left it: a fast task enters the next round while a slow one still waits for this one.

Modelled on the "reusable barrier" puzzle of the Little Book of Semaphores (A. B. Downey): one gate is not enough. The explanation
must name the wait at the gate that is shut again. Mended by counting rounds.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=20, error="Deadlock", says="gate", proof=200)

PARTIES, ROUNDS = 2, 3


class Barrier:
    def __init__(self):
        self.arrived = 0
        self.gate = bateau.sync.Event(name="gate")

    async def wait(self):
        self.arrived += 1
        if self.arrived == PARTIES:
            self.gate.set()
        while not self.gate.is_set():
            await self.gate.wait()  # <- named
        await bateau.yield_now()  # leaves
        self.arrived -= 1
        if self.arrived == 0:
            self.gate.clear()


class RoundBarrier(Barrier):
    def __init__(self):
        super().__init__()
        self.round = bateau.sync.Event()

    async def wait(self):
        mine = self.round
        self.arrived += 1
        if self.arrived == PARTIES:
            self.arrived = 0
            self.round = bateau.sync.Event()
            mine.set()
        await mine.wait()
        await bateau.yield_now()


async def scenario(barrier):
    async def work(rounds):
        for number in range(ROUNDS):
            rounds.append(number)
            await barrier.wait()

    async with bateau.scope() as scope:
        first, second = [], []
        scope.spawn(work, first, name="first")
        scope.spawn(work, second, name="second")
    assert first == second == list(range(ROUNDS))


async def buggy():
    await scenario(Barrier())


async def mended():
    await scenario(RoundBarrier())
