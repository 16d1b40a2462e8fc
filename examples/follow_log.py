"""Follow a growing log as ``tail -f`` does, and print it in batches: ``bateau run examples/follow_log.py LOG [WORD [LINES]]``.

``follow`` is written as one would write it first: no callback, no class, no timeout parameter, nothing to close. What the
consumer does with it (filter, give up after a while, collect for half a second at a time, leave in the middle) is the consumer's.
"""

import sys
from collections.abc import AsyncIterator

import bateau
from bateau import fs, time


@bateau.generator
async def follow(path: str, every: float = 0.05) -> AsyncIterator[str]:
    """The lines of the file at ``path``, then those that are appended to it; it never ends by itself."""
    async with fs.open(path) as file:
        begun = ""
        while True:
            part = await file.readline()
            if not part:
                await time.sleep(every)  # the end, so far
                continue
            begun += part
            if begun.endswith("\n"):  # else the writer is in the middle of a line
                yield begun.rstrip("\n")
                begun = ""


@bateau.main
async def main(path: str, word: str = "", lines: str = "1000") -> None:
    found = follow(path).filter(lambda line: word in line).take(int(lines))
    async for batch in found.batch(100, 0.5):
        print(f"-- {len(batch)} at {bateau.now():.1f}", *batch, sep="\n", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
