"""Handlers that catch a cancellation, after which the function goes on."""

import asyncio
import contextlib
import logging
from asyncio import CancelledError

import anyio
import trio

import bateau


async def in_a_loop(queue):
    while True:
        try:
            await queue.get()
        except:  # error: swallowed_cancellation
            logging.exception("failed")


async def each(items):
    for item in items:
        try:
            await item.send()
        except BaseException as error:  # error: swallowed_cancellation
            print(f"failed: {error}")
            continue


async def by_name():
    while True:
        try:
            async with bateau.timeout(1):
                await bateau.time.sleep(2)
        except (TimeoutError, bateau.Cancelled):  # error: swallowed_cancellation
            pass


async def behind():
    try:
        await asyncio.sleep(1)
    except CancelledError:  # error: swallowed_cancellation
        pass
    await asyncio.sleep(1)
    await asyncio.sleep(1)


async def anyio_way():
    while True:
        try:
            await anyio.sleep(1)
        except anyio.get_cancelled_exc_class():  # error: swallowed_cancellation
            pass


async def suppressed():
    while True:
        with contextlib.suppress(trio.Cancelled):  # error: swallowed_cancellation
            await trio.sleep(1)


async def after_break():
    while True:
        try:
            await asyncio.sleep(1)
        except BaseException:  # error: swallowed_cancellation
            break
    await asyncio.sleep(1)


async def raises_again():
    while True:
        try:
            await asyncio.sleep(1)
        except BaseException:
            print("over")
            raise


async def sometimes_raises(stopping):
    while True:
        try:
            await asyncio.sleep(1)
        except CancelledError:
            if stopping():
                raise


async def leaves():
    while True:
        try:
            await asyncio.sleep(1)
        except CancelledError:
            return


async def ends():
    try:
        while True:
            await asyncio.sleep(1)
    except CancelledError:
        pass


async def ends_with_its_cleanup(stream):
    try:
        while True:
            await asyncio.sleep(1)
    except CancelledError:
        pass
    await stream.aclose()


async def raised_before():
    while True:
        try:
            await asyncio.sleep(1)
        except CancelledError:
            raise
        except:
            print("failed")


async def somebody_elses(task):
    task.cancel()
    try:
        await task
    except CancelledError:
        pass
    with contextlib.suppress(CancelledError):
        await asyncio.gather(task)
    await asyncio.sleep(1)
    await asyncio.sleep(1)


async def anothers_task(task):
    while True:
        try:
            async with asyncio.timeout(1):
                await task
        except (TimeoutError, CancelledError):
            pass


async def hands_on(future, errors):
    while True:
        try:
            await asyncio.sleep(1)
        except BaseException as error:
            future.set_exception(error)
        try:
            await asyncio.sleep(1)
        except BaseException as error:
            errors.append(error)


async def remembers(lock):
    cancelled = False
    while True:
        try:
            await lock.acquire()
            break
        except CancelledError:
            cancelled = True
    if cancelled:
        raise CancelledError
    await asyncio.sleep(1)


async def only_errors():
    while True:
        try:
            await asyncio.sleep(1)
        except Exception:
            print("failed")


async def nothing_awaited():
    while True:
        try:
            print()
        except BaseException:
            pass
        await asyncio.sleep(1)


class Loop:
    async def until_told(self):
        while self.running:
            try:
                await asyncio.sleep(1)
            except CancelledError:
                pass
