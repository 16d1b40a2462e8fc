"""Split brain: each node takes the lowest one it hears for the leader, so a partition has two.

Modelled on the naive "bully" elections (after Garcia-Molina, "Elections in a Distributed Computing System", 1982) and on outages such
as GitHub's of October 2018, where both sides of a partition took writes. The story must name the line that finds two leaders. Mended by a
majority, and by a leader that gives up sooner than the others take over.
"""

import bateau
from bateau import net, sim
from support.bugs import Bug

BUG = Bug(seeds=1, says="two leaders")

NODES, PORT, BEAT = (1, 2, 3), 4000, 0.2


def lowest(me, silent_for):
    return me == min(node for node in NODES if silent_for(node) < 1)


def lowest_of_a_majority(me, silent_for):
    return sum(silent_for(node) < 1 for node in NODES) >= 2 and me == min(
        node for node in NODES if silent_for(node) < 2
    )


async def node(me, addresses, leaders, elected):
    heard = dict.fromkeys(NODES, bateau.now())

    async def listen(socket):
        async for data, _ in socket:
            heard[int(data)] = bateau.now()

    async with await net.udp(("0.0.0.0", PORT)) as socket, bateau.scope() as scope:
        scope.spawn(listen, socket)
        while True:
            for peer in NODES:
                await socket.sendto(str(me).encode(), (addresses[peer], PORT))
            leaders[me] = elected(me, lambda other: bateau.now() - heard[other])
            assert sum(leaders.values()) <= 1, f"there are two leaders: {leaders}"  # <- named
            await bateau.time.sleep(BEAT)


async def scenario(world, elected):
    hosts = {number: world.host(f"node{number}") for number in NODES}
    addresses = {number: host.addresses[0] for number, host in hosts.items()}
    leaders = dict.fromkeys(NODES, False)
    for number, host in hosts.items():
        host.start(node, number, addresses, leaders, elected)
    await bateau.time.sleep(3)
    assert leaders[1]
    world.partition("node1", "node2")
    world.partition("node1", "node3")
    await bateau.time.sleep(5)
    assert leaders[2]
    world.heal()
    await bateau.time.sleep(5)
    assert leaders[1]


async def buggy(world: sim.World):
    await scenario(world, lowest)


async def mended(world: sim.World):
    await scenario(world, lowest_of_a_majority)
