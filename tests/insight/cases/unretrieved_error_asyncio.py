"""A task of asyncio's fails, and nobody asks it: all that is left of its error is a line in a log."""

import asyncio
import gc
import logging

RUNTIMES = ("plain", "native", "asyncio")


async def fails():
    raise KeyError("lost")  # <- found


async def main():
    logging.getLogger("asyncio").addFilter(silent)
    try:
        task = asyncio.create_task(fails())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()
    finally:
        logging.getLogger("asyncio").removeFilter(silent)


def silent(record):
    return False
