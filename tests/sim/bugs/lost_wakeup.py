"""Lost wake-up: a task sees that nothing is there, does something else, and then waits for a signal that has come meanwhile.

Modelled on the textbook's race of sleep and wakeup (Lampson and Redell, "Experience with Processes and Monitors in Mesa", 1980) and
on the documentation of tokio's `Notify`, where `notify_waiters` stores nothing. The explanation must name the wait that nobody ends.
Mended by a signal that is stored.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=150, error="Deadlock", says="word of work", proof=100)


class Mailbox:
    def __init__(self):
        self.items = []
        self.word = bateau.sync.Notify(name="word of work")

    def put(self, item):
        self.items.append(item)
        self.word.notify_all()  # nothing is stored for those who do not wait yet

    async def take(self):
        while not self.items:
            await bateau.yield_now()  # writes a line to its log
            await self.word.wait()  # <- named
        return self.items.pop(0)


class StoringMailbox(Mailbox):
    def put(self, item):
        self.items.append(item)
        self.word.notify_one()


async def scenario(mailbox):
    async def produce():
        for _ in range(4):
            await bateau.yield_now()
        mailbox.put("a letter")

    async with bateau.scope() as scope:
        scope.spawn(produce, name="producer")
        taken = scope.spawn(mailbox.take, name="consumer")
    assert taken.outcome().unwrap() == "a letter"


async def buggy():
    await scenario(Mailbox())


async def mended():
    await scenario(StoringMailbox())
