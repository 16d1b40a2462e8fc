"""asyncio code: `gather` raises the first error while its other tasks go on, and use what the caller has closed by then.

Modelled on the reasons given for `asyncio.TaskGroup` (bpo-46752) and on issues of web frameworks about sessions used after their
request. The story must name the `gather`. Mended by `TaskGroup`.
"""

import asyncio
import random

from support.bugs import Bug

BUG = Bug(seeds=40, says="closed session")


class Session:
    def __init__(self):
        self.closed = False
        self.used_after = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.closed = True

    async def get(self, page):
        await asyncio.sleep(0)
        if self.closed:
            self.used_after.append(page)
            raise AssertionError(f"{page} was asked of a closed session")
        if page == "/missing":
            raise LookupError(page)
        return page


async def fetch(session, page, redirects):
    for _ in range(redirects):
        await session.get(page)
    return await session.get(page)


async def with_gather(session, pages, redirects):
    await asyncio.gather(*(fetch(session, page, redirects) for page in pages))  # <- named


async def with_group(session, pages, redirects):
    async with asyncio.TaskGroup() as group:
        for page in pages:
            group.create_task(fetch(session, page, redirects))


async def scenario(fetch_all):
    session = Session()
    try:
        async with session:
            await fetch_all(session, ["/", "/missing", "/news"], random.choice([0, 1]))
    except (LookupError, ExceptionGroup):
        pass
    for _ in range(4):
        await asyncio.sleep(0)  # the server goes on with other requests
    assert not session.used_after, f"a closed session was asked for {session.used_after}"


async def buggy():
    await scenario(with_gather)


async def mended():
    await scenario(with_group)
