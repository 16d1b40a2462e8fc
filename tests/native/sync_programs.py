"""Programs made at random over the primitives of bateau.sync, and what they did, line by line: ``python sync_programs.py FROM TO``.

The same seeds give the same lines on both kernels: run queue, step budget and hand-overs are laws, not accidents.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import bateau
from bateau.kernel.cancellation import CancelScope
from bateau.sync import AbandonedLock, Condition, Event, Lock, OwnershipError, Semaphore

TASKS = 5
STEPS = 40


class Program:
    """One program: its primitives, its tasks, and its log."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.log: list[str] = []
        self.tasks: list[bateau.Task[None]] = []
        self.reapable: list[CancelScope] = []

    def note(self, who: int, what: str) -> None:
        self.log.append(f"{who} {what}")

    def until_reaped(self) -> CancelScope:
        scope = bateau.move_on_after(None)
        self.reapable.append(scope)
        return scope

    async def reap(self) -> None:
        """Cut waits short by counting turns: a clock would not do so twice in the same way."""
        while True:
            for _ in range(7):
                await bateau.yield_now()
            if self.reapable:
                self.reapable.pop(0).cancel()

    async def locked(self, who: int, draw: random.Random) -> None:
        lock = draw.choice(self.locks)
        async with lock:
            self.note(who, "has the lock")
            for _ in range(draw.randrange(3)):
                await bateau.yield_now()
            if draw.random() < 0.1:
                try:
                    await lock.acquire()
                except OwnershipError:
                    self.note(who, "would wait for itself")
        self.note(who, f"released it: {lock.statistics().tasks_waiting} wait")

    async def acquired(self, who: int, draw: random.Random) -> None:
        lock = draw.choice(self.locks)
        if draw.random() < 0.2:
            self.note(who, f"tries: {lock.try_acquire()}")
        else:
            with lock.ticket() as ticket:
                while not ticket.used:
                    with self.until_reaped():
                        await ticket
                    await bateau.yield_now()
            self.note(who, "acquired by ticket")
        try:
            lock.release()
        except OwnershipError:
            self.note(who, "is not its owner")

    async def permitted(self, who: int, draw: random.Random) -> None:
        async with self.permits:
            self.note(who, f"has a permit; {self.permits.value} are left")
            await bateau.yield_now()
        if draw.random() < 0.2:
            try:
                self.permits.release(draw.randrange(1, 3))
            except ValueError:
                self.note(who, "released too often")
            else:
                self.note(who, "released what nobody acquired")
                with self.until_reaped():
                    await self.permits.acquire()

    async def signalled(self, who: int, draw: random.Random) -> None:
        event = draw.choice(self.events)
        what = draw.randrange(3)
        if what == 0:
            event.set()
            self.note(who, "set it")
        elif what == 1:
            event.clear()
            self.note(who, "cleared it")
        else:
            with self.until_reaped():  # nobody may ever set it
                self.note(who, f"waited for it: {await event.wait()}")

    async def changed(self, who: int, draw: random.Random) -> None:
        async with self.condition:
            if draw.random() < 0.5:
                self.condition.notify(draw.randrange(3))
                self.note(who, "notified some")
            elif draw.random() < 0.3:
                self.condition.notify_all()
                self.note(who, "notified all")
            else:
                with self.until_reaped():
                    self.note(who, f"was notified: {await self.condition.wait()}")
                self.note(who, f"holds its lock: {self.condition.locked()}")

    async def busy(self, who: int, draw: random.Random) -> None:
        lock = draw.choice(self.locks)
        for _ in range(100):  # more than a step budget
            async with lock:
                pass
            await self.set_event.wait()
        self.note(who, "was busy")

    async def cancels(self, who: int, draw: random.Random) -> None:
        draw.choice(self.tasks).cancel()
        self.note(who, "cancelled somebody")

    async def task(self, who: int) -> None:
        draw = random.Random(self.seed * 1000 + who)
        kinds: list[Callable[[int, random.Random], Coroutine[Any, Any, None]]] = [
            self.locked, self.locked, self.acquired, self.permitted, self.signalled, self.changed, self.busy,
        ]  # fmt: skip
        try:
            for step in range(STEPS):
                await (self.cancels if step > 10 and draw.random() < 0.01 else draw.choice(kinds))(who, draw)
        except AbandonedLock as error:
            self.note(who, f"met {type(error).__name__}")
        except bateau.Cancelled:
            self.note(who, "was cancelled")
            raise
        if draw.random() < 0.1:
            try:
                self.note(who, f"ends with the lock: {self.locks[0].try_acquire()}")
            except AbandonedLock:
                self.note(who, "finds it abandoned")

    async def run(self) -> None:
        self.locks = [Lock(), Lock()]
        self.permits = Semaphore(2, max_value=3)
        self.events = [Event(), Event()]
        self.set_event = Event()
        self.set_event.set()
        self.condition = Condition(self.locks[1] if self.seed % 2 else None)
        try:
            async with bateau.scope() as scope:
                scope.spawn(self.reap, background=True)
                self.tasks = [scope.spawn(self.task, who) for who in range(TASKS)]
        except* OwnershipError:
            self.note(-1, "a lock was not given back by its owner")
        for lock in self.locks:
            self.note(-1, f"locked: {lock.locked()}, waiting: {lock.statistics().tasks_waiting}")
        self.note(-1, f"{self.permits.statistics()} {[event.statistics() for event in self.events]}")


def main() -> None:
    for seed in range(int(sys.argv[1]), int(sys.argv[2])):
        program = Program(seed)
        bateau.run(program.run, runtime="native")
        print(seed, *program.log, sep="\n")


if __name__ == "__main__":
    main()
