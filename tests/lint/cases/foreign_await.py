"""Things of asyncio under trio and back; what is not reached, asked for, or run elsewhere is not accused."""

import asyncio
import sys
from asyncio import Queue, sleep as doze

import anyio
import sniffio
import trio

import bateau
from bateau import main as program


@bateau.main(runtime="trio")
async def first():
    await asyncio.sleep(1)  # error: foreign_await
    await doze(1)  # error: foreign_await
    await bateau.time.sleep(1)
    await helper()
    async with asyncio.timeout(1):  # error: foreign_await
        pass
    await anyio.sleep(1)
    await bateau.thread.run(asyncio.run, asyncio_side())
    await trio.to_thread.run_sync(in_a_thread)


async def helper():
    queue = Queue()
    await queue.get()  # error: foreign_await
    async with asyncio.TaskGroup() as group:  # error: foreign_await
        group.create_task(deeper())
    async with bateau.scope() as scope:
        scope.spawn(passed_on)
        scope.spawn(lambda: Service().serve())


async def deeper():
    await asyncio.gather(passed_on())  # error: foreign_await


async def passed_on():
    await asyncio.to_thread(print)  # error: foreign_await


class Service:
    def __init__(self):
        self.ready = asyncio.Event()

    async def serve(self):
        await self.ready.wait()  # error: foreign_await
        await self.again()

    async def again(self):
        await asyncio.open_connection("localhost", 80)  # error: foreign_await


async def asyncio_side():
    await asyncio.sleep(1)
    await trio.sleep(1)  # error: foreign_await


def in_a_thread():
    async def inner():
        await asyncio.sleep(1)

    asyncio.run(inner())


async def not_reached():
    await asyncio.sleep(1)
    await trio.sleep(1)


async def either():
    if sniffio.current_async_library() == "trio":
        return await trio.sleep(1)
    return await on_asyncio()


async def on_asyncio():
    await asyncio.sleep(1)


async def chosen():
    await {"trio": trio.sleep, "asyncio": on_asyncio}[sniffio.current_async_library()]()


async def both():
    await either()
    await chosen()
    if sniffio.current_async_library() == "trio":
        await trio.sleep(1)
    else:
        await asyncio.sleep(1)


@program(runtime="native")
async def second():
    await both()
    await asyncio.sleep(1)
    with trio.move_on_after(1):  # error: foreign_await
        await trio.lowlevel.checkpoint()  # error: foreign_await
    async with trio.open_nursery():  # error: foreign_await
        pass


async def third():
    await both()
    await asyncio.sleep(1)  # error: foreign_await
    await trio.sleep(1)


async def fourth():
    await trio.sleep(1)  # error: foreign_await


async def fifth():
    await asyncio.sleep(1)
    await trio.sleep(1)


if __name__ == "__main__":
    if sys.argv[1:] == ["third"]:
        bateau.run(third, runtime="trio")
    anyio.run(fourth)
    bateau.run(fifth)  # the environment chooses
    bateau.run(fifth, runtime=sys.argv[1])
