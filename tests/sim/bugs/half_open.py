"""Half open: the other machine has lost its power, says nothing, and whoever waits for its answer waits for ever.

Modelled on the half-open connections of RFC 9293 (3.5.1) and on clients without a read timeout, which is the default of many libraries. Found
by crashing the server at each of its steps. The explanation must name the read. Mended by a limit to patience.
"""

import bateau
from bateau import net, sim
from support.bugs import Bug

PORT = 6001


def everywhere(scenario, **options):
    return sim.crash_everywhere(scenario, "server", restart_after=None, **options)


BUG = Bug(seeds=50, error="Deadlock", says="", explore=everywhere)


async def serve():
    async def answer(stream):
        question = await stream.read(100)
        await bateau.time.sleep(0.1)
        await stream.write(question.upper())

    async with await net.listen_tcp("0.0.0.0", PORT) as listener:
        await net.serve(answer, listener)


async def ask(stream):
    await stream.write(b"question")
    return await stream.read(100)  # <- named


async def ask_with_patience(stream):
    with bateau.fail_after(5):
        return await ask(stream)


async def scenario(world, ask):
    world.host("server").start(serve)
    await bateau.time.sleep(0.1)
    try:
        with bateau.fail_after(30):
            stream = await net.connect_tcp("server", PORT)
        async with stream:
            answer = await ask(stream)
    except (OSError, TimeoutError):
        return
    assert answer in (b"QUESTION", b"")


async def buggy(world: sim.World):
    await scenario(world, ask)


async def mended(world: sim.World):
    await scenario(world, ask_with_patience)
