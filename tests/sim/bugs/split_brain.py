"""Split brain: a candidate counts a majority of the nodes it hears, and not of all there are, so each side of a partition elects its own.

Modelled on the naive repairs of the bully algorithm (Garcia-Molina, "Elections in a Distributed Computing System", 1982) and on
clusters whose quorum follows the visible members, such as Elasticsearch's before version 7 with the wrong `minimum_master_nodes`. The
story must name the line that finds two leaders in one term. Mended by a majority of all.
"""

import random

import bateau
from bateau import net, sim
from support.bugs import Bug

NODES, PORT, BEAT = (1, 2, 3), 4000, 0.2

BUG = Bug(seeds=5, says="two leaders")


class Node:
    def __init__(self, me, addresses, leaders, quorum):
        self.me, self.addresses, self.leaders, self.quorum = me, addresses, leaders, quorum
        self.term, self.leads, self.voted, self.votes = 0, False, {}, set()
        self.heard = dict.fromkeys(NODES, bateau.now())
        self.renew()

    def renew(self):
        self.patience = bateau.now() + random.uniform(1, 2)

    async def tell(self, nodes, kind):
        for node in nodes:
            await self.socket.sendto(f"{kind} {self.term} {self.me}".encode(), (self.addresses[node], PORT))

    def win(self):
        if len(self.votes) >= self.quorum(self) and not self.leads:
            self.leads = True
            first = self.leaders.setdefault(self.term, self.me)
            assert first == self.me, f"two leaders in term {self.term}: {first} and {self.me}"  # <- named

    async def listen(self):
        async for data, _ in self.socket:
            kind, term, who = data.decode().split()
            term, who = int(term), int(who)
            self.heard[who] = bateau.now()
            if term > self.term:
                self.term, self.leads, self.votes = term, False, set()
            if kind == "beat" and term == self.term:
                self.renew()
            elif kind == "ask" and term == self.term and self.voted.setdefault(term, who) == who:
                self.renew()
                await self.tell([who], "vote")
            elif kind == "vote" and term == self.term and self.voted.get(term) == self.me:
                self.votes.add(who)
                self.win()

    async def run(self):
        async with await net.udp(("0.0.0.0", PORT)) as self.socket, bateau.scope() as scope:
            scope.spawn(self.listen, name="listener")
            while True:
                await bateau.time.sleep(BEAT)
                if bateau.now() > self.patience and not self.leads:
                    self.term += 1
                    self.voted[self.term], self.votes = self.me, {self.me}
                    self.renew()
                    self.win()
                    await self.tell(NODES, "ask")
                await self.tell(NODES, "beat" if self.leads else "alive")


def majority_of_the_visible(node):
    return sum(bateau.now() - at < 3 * BEAT for at in node.heard.values()) // 2 + 1


def majority_of_all(node):
    return len(NODES) // 2 + 1


async def start(*args):
    await Node(*args).run()


async def scenario(world, quorum):
    names = {number: f"node{number}" for number in NODES}
    addresses, leaders = {number: world.host(name).addresses[0] for number, name in names.items()}, {}
    for number, name in names.items():
        world.host(name).start(start, number, addresses, leaders, quorum)
    await bateau.time.sleep(5)
    assert leaders
    for number, name in names.items():
        world.partition(name, [names[other] for other in NODES if other != number])
    await bateau.time.sleep(5)
    world.heal()
    await bateau.time.sleep(10)


async def buggy(world: sim.World):
    await scenario(world, majority_of_the_visible)


async def mended(world: sim.World):
    await scenario(world, majority_of_all)
