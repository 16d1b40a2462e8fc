"""Double close: two tasks find a handle open, and both close it; the second closes whoever got the number next.

Modelled on the class of bugs where a file descriptor is closed twice in a threaded program and another's file goes with it (CWE-1341;
Ruby and CPython have both had one in their socket code). The story must name the wait before the close. Mended by
marking first and waiting afterwards.
"""

import bateau
from support.bugs import Bug

BUG = Bug(seeds=800, says="closed under")


class Table:
    """Hands out the lowest free number, as an operating system does."""

    def __init__(self):
        self.owners = {}

    def open(self, owner):
        number = next(n for n in range(100) if n not in self.owners)
        self.owners[number] = owner
        return number

    def close(self, number):
        self.owners.pop(number, None)


class Handle:
    def __init__(self, table, owner):
        self.table = table
        self.number = table.open(owner)
        self.closed = False

    async def aclose(self):
        if self.closed:
            return
        await bateau.yield_now()  # <- named
        self.table.close(self.number)
        self.closed = True


class CarefulHandle(Handle):
    async def aclose(self):
        if self.closed:
            return
        self.closed = True
        await bateau.yield_now()
        self.table.close(self.number)


async def scenario(kind):
    table = Table()
    shared = kind(table, "the connection")

    async def finish(steps):
        for _ in range(steps):
            await bateau.yield_now()
        await shared.aclose()

    async def opens_another():
        for _ in range(4):
            await bateau.yield_now()
        number = table.open("a file")
        for _ in range(4):
            await bateau.yield_now()
        assert table.owners.get(number) == "a file", "the file was closed under its owner"
        table.close(number)

    async with bateau.scope() as scope:
        scope.spawn(finish, 1, name="reader")
        scope.spawn(finish, 4, name="writer")
        scope.spawn(opens_another, name="another")


async def buggy():
    await scenario(Handle)


async def mended():
    await scenario(CarefulHandle)
