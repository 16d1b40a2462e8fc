"""A cancelled request leaves its reply in the connection, and the next one who borrows it from the pool reads another's.

Modelled on CVE-2023-28858 of redis-py, which in March 2023 showed users of a chat service each other's titles. Found by cancelling a request
at each of its suspensions. The story must name the read that was cut off. Mended: a connection that was cut off is not used again.
"""

import contextlib

import bateau
from bateau import sim
from bateau.channel import channel
from support.bugs import Bug


def everywhere(scenario, **options):
    return sim.cancel_everywhere(scenario, scope="ada", **options)


BUG = Bug(seeds=20, says="was given", explore=everywhere)


class Connection:
    """Requests go in, replies come out in the same order; the server is a task."""

    def __init__(self, scope):
        self.requests, incoming = channel[str](4)
        outgoing, self.replies = channel[str](4)

        async def server():
            async for who in incoming:
                await bateau.yield_now()
                with contextlib.suppress(bateau.Broken):  # whoever asked has closed the connection
                    await outgoing.send(f"the page of {who}")

        scope.spawn(server, background=True, name="server")


async def page_of(who, pool, scope):
    connection = pool.pop() if pool else Connection(scope)
    try:
        await connection.requests.send(who)
        return await connection.replies.recv()  # <- named
    finally:
        pool.append(connection)


async def page_of_or_drop(who, pool, scope):
    connection = pool.pop() if pool else Connection(scope)
    try:
        await connection.requests.send(who)
        page = await connection.replies.recv()
    except BaseException:
        connection.replies.close()  # a reply may be in it, or come: it is not wanted any more
        raise
    pool.append(connection)
    return page


async def scenario(page_of):
    async with bateau.scope() as scope:
        pool = []
        with contextlib.suppress(bateau.TaskCancelled):
            await scope.spawn(page_of, "ada", pool, scope, name="ada")
        page = await page_of("grace", pool, scope)
        assert page == "the page of grace", f"grace was given {page}"


async def buggy():
    await scenario(page_of)


async def mended():
    await scenario(page_of_or_drop)
