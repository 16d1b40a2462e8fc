"""The servers and clients of this directory, unchanged, in a world where everything goes wrong, thousands of times over.

    python examples/raft/check.py --seeds 10000            as many processes as there are cores
    python examples/raft/check.py --mistake cuts-always    find a mistake that planted.py makes
    python examples/raft/check.py --replay TOKEN           the run again that a failure has printed (with its --mistake)

``bateau sim explore`` and ``bateau sim replay --step`` take it as well: the scenario is ``examples/raft/check.py:scenario``.

Theory of operation. A run has five machines, of which three to five are members at first, clients that record what they ask and are
answered, somebody who changes the members, and a nemesis: for three virtual seconds it crashes machines (what was not synced is lost),
kills processes, stops them for a while, cuts the network in one direction or both, and makes links slow; it likes leaders. All the
while Raft's properties are checked (``invariants.py``). Then the faults end, and the cluster must come right by itself: answer, and
agree. At last the clients' history must be linearizable.

Each seed has its own weather: which faults there are and how many, because what hides behind many crashes does not show in many
partitions. In some weathers servers die in the moments that matter: when they have voted, or have become leader. Whatever goes wrong is
asked of the world (``world.chance``), so a failing run is shrunk to the faults that it needs.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

if __name__ in ("__main__", "__bateau__"):  # run as a file: the package is where this file's directory is
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bateau
from bateau import sim
from bateau.sim.determinism import pin_hash_seed
from bateau.sim.history import History
from bateau.sim.linear import check_linearizable
from bateau.sim.models import Map
from bateau.sim.story import tell
from raft import consensus
from raft.client import Client
from raft.consensus import Consensus, Role, Timing
from raft.invariants import Invariants
from raft.node import Node
from raft.planted import MISTAKES, with_mistake

NAMES = "abcde"
HOSTS = {name: f"10.1.0.{number}" for number, name in enumerate(NAMES, 1)}
ADDRESSES = {name: f"{host}:9000" for name, host in HOSTS.items()}
TIMING = Timing(election=0.1, heartbeat=0.04, catch_up=0.5)
TROUBLE = 3.0  # virtual seconds until the faults end
PATIENCE = 10.0  # and how many the cluster then has to come right
CLIENTS = 3
# The nemesis' means and how likely each is, every tenth of a virtual second.
RATES = {
    "crash": 0.05,
    "kill": 0.05,
    "freeze": 0.03,
    "cut": 0.08,
    "cut_pair": 0.05,
    "cut_one_way": 0.04,
    "heal": 0.12,
    "slow": 0.03,
}

# What goes wrong with a connection or a disk by itself; the nemesis sees to machines and links.
FAULTS = sim.Faults(
    reset=0.002, retransmit=0.005, split=0.02, refuse=0.01, short_write=0.02, unsynced_lost=0.5, unsynced_torn=0.2
)


class Weather(NamedTuple):
    """What the runs of one seed are like.

    ``early_deaths``: how likely a server dies just when it has voted or become leader. ``batch``: how many entries a message carries; what
    goes wrong between two messages needs two messages. ``changes``: of members, per second. ``drift``: how much clocks differ, as a power
    of two.
    """

    rates: dict[str, float]
    early_deaths: float
    members: int
    batch: int
    changes: float
    drift: float


def weather_of(world: sim.World) -> Weather:
    """Half of the seeds have some of everything, a quarter has leaders that die young, a quarter leaders that are cut off."""
    random = world.random("weather")
    climate = random.choice(["anything", "anything", "young leaders", "lonely leaders"])
    if climate == "young leaders":
        return Weather({}, random.choice([0.4, 0.7]), members=3, batch=1, changes=0.0, drift=0.0)
    if climate == "lonely leaders":
        return Weather(
            {"cut": 0.2, "heal": 0.3},
            0.0,
            members=random.choice([3, 5]),
            batch=64,
            changes=0.0,
            drift=random.choice([0.0, 0.5]),
        )
    return Weather(
        {fault: random.choice([0.0, rate, 3 * rate]) for fault, rate in RATES.items()},
        early_deaths=random.choice([0.0, 0.2, 0.6]),
        members=random.choice([3, 4, 5]),
        batch=random.choice([1, 2, 64]),
        changes=random.choice([0.0, 2.0, 5.0]),
        drift=random.choice([0.0, 0.5]),
    )


class Cluster:
    """The servers of one run, and what is known of them from outside."""

    def __init__(self, world: sim.World, kind: type[Node], weather: Weather) -> None:
        self.world = world
        self.kind = kind
        self.members = dict(list(ADDRESSES.items())[: weather.members])
        self.invariants = Invariants()
        self.nemesis: Nemesis | None = None
        self.nodes: dict[str, Node] = {}
        self._was: dict[str, tuple[str | None, bool]] = {}
        self.processes: dict[str, sim.Process] = {}
        for name, address in HOSTS.items():
            # Raft may not count on clocks: nobody's second is anybody else's.
            world.host(name, address).clock.drift(2 ** world.random("drift").uniform(-weather.drift, weather.drift))
            self.start(name)

    def start(self, name: str) -> None:
        """Switch the machine on, if it is off, and start its server."""
        if name not in self.processes or not self.processes[name].is_alive():
            self.processes[name] = self.world.host(name).start(self._serve, name)

    async def _serve(self, name: str) -> None:
        members = self.members if name in self.members else None
        node = self.kind(name, ADDRESSES[name], "/var/raft", members, TIMING)
        self.invariants.restarted(name)
        self.nodes[name] = node
        await node.run()

    def look(self) -> None:
        """Raft's properties hold. Called after each step of anybody."""
        for node in self.nodes.values():
            if node.running:
                self.invariants.look(node.consensus, node.machine)
                self._note(node.consensus)

    def _note(self, server: Consensus) -> None:
        """Has it voted, or become leader?"""
        now = (server.vote, server.role is Role.LEADER)
        if self._was.get(server.id) != now:
            self._was[server.id] = now
            if now[1]:
                self.world.trace("raft", f"{server.id} leads in term {server.term}", host=server.id, actor=server.id)
            if server.vote is not None and self.nemesis is not None:
                self.nemesis.moment(server.id)

    def alive(self) -> list[str]:
        """Who runs."""
        return [name for name in NAMES if self.processes[name].is_alive()]

    def leaders(self) -> list[str]:
        """Who believes that it leads."""
        running = [name for name in self.alive() if name in self.nodes and self.nodes[name].running]
        return [name for name in running if self.nodes[name].consensus.role is Role.LEADER]

    def agree(self) -> bool:
        """Whether all members, as the newest leader has them, run and have applied the same entries, all that there are."""
        leaders = self.leaders()
        if not leaders:
            return False
        leader = max((self.nodes[name] for name in leaders), key=lambda node: node.consensus.term)
        if not all(name in self.nodes for name in leader.consensus.log.members):
            return False
        members = [self.nodes[name] for name in leader.consensus.log.members]
        return {(node.machine.applied, node.machine.digest) for node in members} == {
            (leader.consensus.log.last, leader.machine.digest)
        }


class Nemesis:
    """What goes wrong in one run, by the weather of its seed."""

    def __init__(self, cluster: Cluster, weather: Weather) -> None:
        self.cluster = cluster
        self.weather = weather
        self.world = cluster.world
        self.random = self.world.random("nemesis")

    async def rage(self) -> None:
        """Until it is cancelled."""
        while True:
            await bateau.time.sleep(0.1)
            for fault, rate in self.weather.rates.items():
                if self.world.chance(fault, rate):
                    getattr(self, fault)()

    def moment(self, name: str) -> None:
        """A server has voted or become leader: it may die before anybody hears of it, or right after."""
        if self.world.chance("early_death", self.weather.early_deaths):
            self.world.after(self.random.uniform(0, 0.01), self._crash, name, self.random.uniform(0.02, 0.3))

    def victim(self) -> str | None:
        """Somebody who runs: mostly a leader."""
        leaders, alive = self.cluster.leaders(), self.cluster.alive()
        if not alive:
            return None
        return self.random.choice(leaders if leaders and self.random.random() < 0.6 else alive)

    def crash(self) -> None:
        """A power cut, and after a while the power comes back."""
        if (name := self.victim()) is not None:
            self._crash(name, self._while())

    def _crash(self, name: str, downtime: float) -> None:
        if self.cluster.processes[name].is_alive():
            self.world.host(name).crash()
            self.world.after(downtime, self.cluster.start, name)

    def kill(self) -> None:
        """kill -9: what was written stays, synced or not."""
        if (name := self.victim()) is not None:
            self.cluster.processes[name].kill()
            self._later(self.cluster.start, name)

    def freeze(self) -> None:
        """A process stands still, and does not know it afterwards."""
        if (name := self.victim()) is not None:
            process = self.cluster.processes[name]
            process.freeze()
            self._later(process.thaw)

    def cut(self) -> None:
        """A part is cut off from the rest."""
        part = self._part()
        self.world.partition(part, [name for name in NAMES if name not in part])

    def cut_pair(self) -> None:
        """Two don't hear each other, and everybody else hears both."""
        one, other = self.random.sample(NAMES, 2)
        self.world.partition(one, other)

    def cut_one_way(self) -> None:
        """What a part says is not heard, though it hears the others; or the other way round."""
        part = self._part()
        rest = [name for name in NAMES if name not in part]
        one, other = self.random.choice([(part, rest), (rest, part)])
        self.world.partition(one, other, one_way=True)

    def heal(self) -> None:
        """All cuts end."""
        self.world.heal()

    def slow(self) -> None:
        """A link is slow for a while."""
        one, other = self.random.sample(NAMES, 2)
        self.world.link(one, other, latency=sim.Latency(0.01, 0.3, 0.05))
        self._later(self._quick, one, other)

    def _quick(self, one: str, other: str) -> None:
        self.world.link(one, other, latency=sim.Latency())

    def _part(self) -> list[str]:
        first = self.victim() or "a"
        return list(dict.fromkeys([first, *self.random.sample(NAMES, self.random.randrange(2))]))

    def _while(self) -> float:
        return self.random.choice([0.02, 0.1, 0.5]) * (1 + self.random.random())

    def _later(self, fn: Any, *args: Any) -> None:
        self.world.after(self._while(), fn, *args)


async def use(history: History, number: int) -> None:
    """A client, until it is cancelled."""
    name = f"client {number}"
    written = 0
    # Who asks elsewhere soon finds a new leader while who is patient still talks to the old one.
    async with Client(list(ADDRESSES.values()), patience=random.choice([0.04, 0.2])) as client:
        while True:
            key = random.choice("xy")
            written += 1
            value = f"{number}.{written}"
            try:
                with bateau.timeout(0.6):
                    match random.choice(["put", "get", "get", "get", "delete", "cas"]):
                        case "put":
                            with history.operation("put", key, value, client=name):
                                await client.put(key, value)
                        case "delete":
                            with history.operation("delete", key, client=name) as op:
                                op.value = await client.delete(key)
                        case "cas":
                            with history.operation("get", key, client=name) as op:
                                op.value = old = await client.get(key)
                            with history.operation("cas", key, old, value, client=name) as op:
                                op.value = await client.swap(key, old, value)
                        case _:
                            with history.operation("get", key, client=name) as op:
                                op.value = await client.get(key)
            except TimeoutError:
                pass  # its end is unknown, and the history says so
            await bateau.time.sleep(random.uniform(0, 0.1))


async def change_members(rate: float) -> None:
    """Somebody who adds and removes servers, until he is cancelled."""
    async with Client(list(ADDRESSES.values()), patience=0.2) as client:
        while True:
            await bateau.time.sleep(random.expovariate(rate))
            name = random.choice(NAMES)
            with bateau.move_on_after(1):
                try:
                    if random.random() < 0.5:
                        await client.add_server(name, ADDRESSES[name])
                    else:
                        await client.remove_server(name)
                except ValueError:
                    pass  # the last member can't be removed


async def scenario(world: sim.World, mistake: str | None = None) -> None:
    """One run."""
    world.faults = FAULTS
    weather = weather_of(world)
    consensus.BATCH = weather.batch
    cluster = Cluster(world, with_mistake(mistake), weather)
    sim.always(cluster.look, "Raft's safety properties")
    history = History()
    async with bateau.scope(name="users") as users:
        for number in range(CLIENTS):
            users.spawn(use, history, number)
        if weather.changes:
            users.spawn(change_members, weather.changes)
        cluster.nemesis = Nemesis(cluster, weather)
        with bateau.move_on_after(TROUBLE):
            await cluster.nemesis.rage()
        cluster.nemesis = None
        world.calm()
        for name in NAMES:
            cluster.start(name)
        await bateau.time.sleep(0.5)
        users.cancel("the run is over")
    async with Client(list(ADDRESSES.values())) as client:
        with bateau.timeout(PATIENCE):
            await client.put("z", "the end")
            while not cluster.agree():
                await bateau.time.sleep(0.1)
    check_linearizable(history, Map())


# -- the program ---------------------------------------------------------------------------------------------------------


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check raft in a simulated world.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many runs (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    parser.add_argument("--mistake", choices=MISTAKES, help="one that planted.py makes")
    parser.add_argument("--replay", metavar="TOKEN", help="what a failure has printed")
    return parser.parse_args()


def _explore(args: argparse.Namespace) -> int:
    began = time.monotonic()

    def progress(covered: sim.Exploration) -> None:
        if sys.stderr.isatty():
            print(
                f"\r{covered.runs} of {args.seeds} runs, {time.monotonic() - began:.0f} s ",
                end="",
                file=sys.stderr,
                flush=True,
            )

    seeds = range(args.first, args.first + args.seeds)
    try:
        covered = sim.explore(scenario, args=(args.mistake,), seeds=seeds, jobs=args.jobs, progress=progress)
    except sim.Found as found:
        print(f"\n{found.story}")
        print(
            f"seed {found.run.seed} fails; {found.exploration.runs} runs and the shrinking took {time.monotonic() - began:.0f} s"
        )
        return 1
    print(f"\nnothing found: {covered}, in {time.monotonic() - began:.0f} s")
    return 0


def _replay(args: argparse.Namespace) -> int:
    run = sim.replay(scenario, args.replay, args=(args.mistake,))
    print(tell(run, args.replay) if run.error is not None else "this run does not fail")
    return 1 if run.error is not None else 0


if __name__ == "__main__":
    pin_hash_seed()
    arguments = _arguments()
    sys.exit(_replay(arguments) if arguments.replay else _explore(arguments))
