"""A handler blocked on its own full queue: work makes more work, and the only one who takes it out is putting it in.

Modelled on "Alan wishes for insights" and "Barbara's AB-BA deadlock" of Rust's async vision document and on self-posting event
loops with bounded queues. The explanation must name the send and say that the queue's reader is the same task. Mended: what is new goes to a list of its own first.
"""

import bateau
from bateau.channel import channel
from support.bugs import Bug

BUG = Bug(seeds=1, error="Deadlock", says="pages", proof=5)

LINKS = {"/": ["/a", "/b", "/c"], "/a": ["/d", "/e"], "/b": [], "/c": [], "/d": [], "/e": []}


async def crawl(outbox, inbox):
    seen = {"/"}
    await outbox.send("/")
    done = 0
    while done < len(seen):
        page = await inbox.recv()
        done += 1
        for link in LINKS[page]:
            if link not in seen:
                seen.add(link)
                await outbox.send(link)  # <- named
    return seen


async def crawl_with_a_list(outbox, inbox):
    seen, waiting = {"/"}, ["/"]
    while waiting:
        await outbox.send(waiting.pop(0))
        for link in LINKS[await inbox.recv()]:
            if link not in seen:
                seen.add(link)
                waiting.append(link)
    return seen


async def scenario(crawl):
    outbox, inbox = channel[str](2, name="pages")
    async with bateau.scope() as scope:
        crawler = scope.spawn(crawl, outbox, inbox, name="crawler")
    assert crawler.outcome().unwrap() == set(LINKS)


async def buggy():
    await scenario(crawl)


async def mended():
    await scenario(crawl_with_a_list)
