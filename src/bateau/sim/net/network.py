"""The network of a world: which names lead to which hosts, what lies between any two of them, and what is cut.

Everything between a host and itself (``localhost``, its own addresses) is delivered at once and never goes wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from ..faults import Latency
from ..given import latency
from ..host import SimHost
from .addresses import LOOPBACK4, LOOPBACK6, canonical, is_any, is_loopback
from .links import Link, Quality
from .stack import Stack

if TYPE_CHECKING:
    from ..process import Process
    from ..world import World

# After so many calls that would have blocked in a row, at the same moment, a thread is taken to be waiting in a loop.
MOST_REFUSED = 100

Place: TypeAlias = str | SimHost
Places: TypeAlias = str | SimHost | Iterable[str | SimHost]


class Network:
    """One per world, as ``world.network``.

    ``default`` is the quality of links that nothing else was said about. ``names`` are the names that are no host's: what they
    lead to, or the ``OSError`` that asking for them raises. ``lookup`` is how long a name server takes.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        given = world.options.get("latency")
        self.default = Quality(Latency() if given is None else latency("latency", given))
        self.names: dict[str, list[str] | OSError] = {}
        self.lookup: Latency | None = self.default.latency
        self._links: dict[tuple[str, str], Link] = {}
        # How often the same thread was told at the same moment that it would have to wait, and did not.
        self._refused: tuple[float, Any, int] = (0.0, None, 0)
        self._owners: dict[str, SimHost] = {}
        self._known = 0

    # -- who is where ----------------------------------------------------------------------------------------------------

    def stack(self, host: SimHost) -> Stack:
        """The host's own end of the network."""
        found: Stack | None = host.parts.get("net")
        if found is None:
            found = host.parts["net"] = Stack(self, host)
        return found

    def of(self, process: Process) -> Stack:
        """The stack of the host that ``process`` runs on."""
        return self.stack(process.host)

    def owner(self, ip: str) -> SimHost | None:
        """The host that has this address."""
        if self._known != sum(len(host.addresses) for host in self.world.hosts.values()):
            self._learn()
        return self._owners.get(ip)

    def _learn(self) -> None:
        """Hosts may be made, and given addresses, at any time."""
        self._owners.clear()
        self._known = 0
        for host in self.world.hosts.values():
            self._known += len(host.addresses)
            for address in host.addresses:
                ip = canonical(address)
                if ip is None:
                    raise ValueError(f"host {host.name!r}: {address!r} is no IP address")
                other = self._owners.setdefault(ip, host)
                if other is not host:
                    raise ValueError(f"hosts {other.name!r} and {host.name!r} have the same address {ip}")

    def reach(self, src: SimHost, ip: str) -> SimHost | None:
        """The host that ``src`` reaches at ``ip``; None: nobody answers there."""
        return src if is_loopback(ip) or is_any(ip) else self.owner(ip)

    def addresses_of(self, host: SimHost) -> list[str]:
        """The host's addresses, canonical, without the loopback ones."""
        return [ip for ip in map(canonical, host.addresses) if ip is not None]

    def find(self, name: str) -> list[str] | OSError | None:
        """What a name leads to: addresses, the error that asking raises, or None where nobody knows it."""
        name = name.rstrip(".").lower()
        if name in self.names:
            return self.names[name]
        if name == "localhost" or name.endswith(".localhost"):
            return [LOOPBACK6, LOOPBACK4]
        for host in self.world.hosts.values():
            if host.name.lower() == name:
                return self.addresses_of(host)
        return None

    def name(self, name: str, *addresses: Place, error: OSError | None = None) -> None:
        """Let ``name`` lead to these addresses (or hosts), in this order; or let each lookup of it raise ``error``."""
        found: list[str] = []
        for address in addresses:
            if isinstance(address, SimHost):
                found.extend(self.addresses_of(address))
                continue
            ip = canonical(address)
            if ip is not None:
                found.append(ip)
            elif address in self.world.hosts:
                found.extend(self.addresses_of(self.world.hosts[address]))
            else:
                raise ValueError(f"{address!r} is neither an IP address nor a host of this world")
        if bool(found) == (error is not None):
            raise TypeError("give either addresses (or hosts), or error=")
        self.names[name.rstrip(".").lower()] = error if error is not None else found

    def name_at(self, ip: str) -> str | None:
        """The host's name for an address, as a reverse lookup finds it."""
        if is_loopback(ip):
            return "localhost"
        host = self.owner(ip)
        return host.name if host is not None else None

    # -- what lies between -----------------------------------------------------------------------------------------------

    def link(self, src: SimHost, dst: SimHost) -> Link:
        """The direction from ``src`` to ``dst``."""
        key = (src.name, dst.name)
        found = self._links.get(key)
        if found is None:
            found = self._links[key] = Link(self.world, src, dst, self.default)
        return found

    def set(self, a: Place, b: Place, *, one_way: bool = False, **changed: Any) -> None:
        """See ``World.link``."""
        if "latency" in changed:
            changed["latency"] = latency("latency", changed["latency"])
        unknown = [name for name in changed if name not in QUALITIES]
        if unknown:
            raise TypeError(f"a link has no {unknown[0]!r}; it has {', '.join(QUALITIES)}")
        for src, dst in self._pairs([self._host(a)], [self._host(b)], one_way):
            if src is dst:
                raise ValueError(f"{src.name!r} to itself: a host's own traffic never leaves it")
            link = self.link(src, dst)
            link.quality = replace(link.quality, **changed)

    def calm(self) -> None:
        """From here on nothing is cut, and no link has faults of its own."""
        self.heal()
        for link in self._links.values():
            if not link.local:
                link.quality = replace(PLAIN, latency=link.quality.latency, bandwidth=link.quality.bandwidth)

    # -- what is cut -----------------------------------------------------------------------------------------------------

    def partition(self, a: Places, b: Places, *, one_way: bool = False) -> None:
        """See ``World.partition``."""
        left, right = self._hosts(a), self._hosts(b)
        both = [host.name for host in left if host in right]
        if both:
            raise ValueError(f"{', '.join(both)} can't be on both sides of a partition")
        for src, dst in self._pairs(left, right, one_way):
            self.link(src, dst).cut = True
        arrow = "to" if one_way else "and"
        names = f"{_listed(left)} {arrow} {_listed(right)}"
        self._tell(f"{names} are cut off from each other" if not one_way else f"nothing from {names} comes through")
        for host in left + right:
            self.stack(host).path_changed()

    def isolate(self, *places: Place) -> None:
        """See ``World.isolate``."""
        alone = [self._host(place) for place in places]
        others = [host for host in self.world.hosts.values() if host not in alone]
        if others:
            self.partition(alone, others)

    def heal(self, a: Places | None = None, b: Places | None = None) -> None:
        """See ``World.heal``."""
        everyone = list(self.world.hosts.values())
        left = self._hosts(a) if a is not None else everyone
        right = self._hosts(b) if b is not None else everyone
        healed = [link for link in self._links.values() if link.cut and _joins(link, left, right)]
        for link in healed:
            link.cut = False
        if healed:
            self._tell("healed: " + ", ".join(link.name for link in healed))

    def reset(self, a: Place, b: Place) -> int:
        """Reset every TCP connection between two hosts now, as a middlebox that lost its table does; how many there were."""
        one, two = self._host(a), self._host(b)
        count = self.stack(one).reset_connections(two)
        self._tell(f"{count} connections between {one.name} and {two.name} are reset")
        return count

    # -- programs that don't wait ----------------------------------------------------------------------------------------

    def would_block(self) -> None:
        """The running thread is told that it would have to wait. One that asks again and again lets the others run, and time pass."""
        world = self.world
        now, thread, count = self._refused
        if now != world.now or thread is not world.thread:
            self._refused = (world.now, world.thread, 1)
            return
        self._refused = (now, thread, count + 1)
        if count >= MOST_REFUSED:
            world.thread_stepped()
            if count % MOST_REFUSED == 0:
                world.pass_on()

    # -- for all of these ------------------------------------------------------------------------------------------------

    def _host(self, place: Place) -> SimHost:
        if isinstance(place, SimHost):
            return place
        if not isinstance(place, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f"a host, its name, or a list of those is meant, not {place!r}")
        found = self.world.hosts.get(place)
        if found is None:
            known = ", ".join(map(repr, self.world.hosts)) or "none"
            raise ValueError(
                f"there is no host {place!r} in this world (there are: {known}); world.host({place!r}) makes it"
            )
        return found

    def _hosts(self, places: Places) -> list[SimHost]:
        if isinstance(places, str | SimHost):
            return [self._host(places)]
        if not isinstance(places, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f"a host, its name, or a list of those is meant, not {places!r}")
        return [self._host(place) for place in places]

    def _pairs(self, left: list[SimHost], right: list[SimHost], one_way: bool) -> Iterator[tuple[SimHost, SimHost]]:
        for src in left:
            for dst in right:
                yield src, dst
                if not one_way:
                    yield dst, src

    def _tell(self, text: str) -> None:
        self.world.trace("net", text, host="", actor="network")


QUALITIES = tuple(each.name for each in fields(Quality))
PLAIN = Quality(Latency(), None, 0, 0, 0, 0, 0, 0, 0)


def _joins(link: Link, left: list[SimHost], right: list[SimHost]) -> bool:
    return (link.src in left and link.dst in right) or (link.src in right and link.dst in left)


def _listed(hosts: list[SimHost]) -> str:
    return ", ".join(host.name for host in hosts)
