"""A partial read taken for the whole: one `read` is expected to give what one `write` has sent.

Modelled on the first paragraph of every guide to socket programming (Python's "Socket Programming HOWTO" among them) and on protocol bugs that
only show with large replies. The story must name the read. Mended by a length in front and `readexactly`.
"""

import json

import bateau
from bateau import net, sim
from bateau.io import BufReader
from support.bugs import Bug

BUG = Bug(seeds=100, error="JSONDecodeError", options={"faults": sim.Faults(split=0.2)})

PORT, ROWS = 6000, [{"number": number, "name": "x" * 40} for number in range(100)]


async def serve():
    async def answer(stream):
        body = json.dumps(ROWS).encode()
        await stream.write(len(body).to_bytes(4, "big") + body)

    async with await net.listen_tcp("0.0.0.0", PORT) as listener:
        await net.serve(answer, listener)


async def in_one_read(stream):
    data = await stream.read(65536)
    return json.loads(data[4:])  # <- named


async def with_its_length(stream):
    reader = BufReader(stream)
    length = int.from_bytes(await reader.readexactly(4), "big")
    return json.loads(await reader.readexactly(length))


async def scenario(world, read):
    world.host("server").start(serve)
    await bateau.time.sleep(0.1)
    async with await net.connect_tcp("server", PORT) as stream:
        assert await read(stream) == ROWS


async def buggy(world: sim.World):
    await scenario(world, in_one_read)


async def mended(world: sim.World):
    await scenario(world, with_its_length)
