"""Async functions in which nothing ever suspends. The rule is a list, and runs where it is selected."""

import abc
import asyncio


async def add(a, b):  # error: never_waits
    return a + b


async def nested():  # error: never_waits
    async def inner():
        await asyncio.sleep(1)

    return inner


class Plain:
    async def get(self):  # error: never_waits
        return 1

    async def __aenter__(self):
        return self

    async def todo(self):
        """Not yet."""
        raise NotImplementedError


class Derived(Plain):
    async def get(self):
        return 2


class Base(abc.ABC):
    @abc.abstractmethod
    async def get(self): ...


async def waits():
    await asyncio.sleep(1)


async def loops(items):
    async for _ in items:
        pass


async def comprehends(items):
    return [item async for item in items]


async def enters(thing):
    async with thing:
        pass


async def generates():
    yield 1


async def callback(event):
    print(event)


@print
async def decorated():
    return 1


async def test_of_something():
    assert True


def register(handlers):
    handlers.append(callback)
