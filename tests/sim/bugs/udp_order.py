"""UDP taken for ordered: a message in several datagrams is put together in the order of their arrival.

Modelled on the many home-made game and media protocols that work on a local network; RFC 768 promises no order. The story must name
the line that finds the message garbled. Mended by numbers.
"""

from bateau import net, sim
from support.bugs import Bug

BUG = Bug(seeds=10, says="garbled", options={"faults": sim.Faults(reorder=0.1)})

PORT, PARTS = 5000, [b"the ", b"quick ", b"brown ", b"fox"]


async def send(address):
    async with await net.udp() as socket:
        for number, part in enumerate(PARTS):
            await socket.sendto(bytes([number]) + part, (address, PORT))


async def as_they_come(socket):
    return b"".join([(await socket.recv())[1:] for _ in PARTS])


async def by_number(socket):
    return b"".join(data[1:] for data in sorted([await socket.recv() for _ in PARTS]))


async def scenario(world, receive):
    async with await net.udp(("0.0.0.0", PORT)) as socket:
        world.host("sender").start(send, world.host("test").addresses[0])
        message = await receive(socket)
        assert message == b"".join(PARTS), f"the message is garbled: {message}"  # <- named


async def buggy(world: sim.World):
    await scenario(world, as_they_come)


async def mended(world: sim.World):
    await scenario(world, by_number)
