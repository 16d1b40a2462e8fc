"""Doors of randomness: ``os.urandom`` and everything on it (``uuid``, ``secrets``), the ``random`` module's own generator, and generators
without a seed.

Each process draws from generators of its own: what one of them asks for does not move the others.
"""

from __future__ import annotations

import random
import sys
import uuid
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..thread import here
from . import at_opening, at_shutting, door, importing
from .clock import wall_ns

if TYPE_CHECKING:
    from ..world import World


@door("os", "urandom")
def urandom(world: World, size: int) -> bytes:
    if size < 0:
        raise ValueError("negative argument not allowed")
    return world.random(f"urandom {world.thread.process.name}").randbytes(size)


@door("os", "getrandom")
def getrandom(world: World, size: int, flags: int = 0) -> bytes:
    return urandom(world, size)


@door("random", "_urandom")
def urandom_of_random(world: World, size: int) -> bytes:
    """What ``random.SystemRandom`` (and so ``secrets``) took by name."""
    return urandom(world, size)


# -- random ----------------------------------------------------------------------------------------------------------------


def _own_generator(function: str) -> None:
    @door("random", function)
    def inside(world: World, *args: Any, **kwargs: Any) -> Any:
        return getattr(world.random(f"random {world.thread.process.name}"), function)(*args, **kwargs)


for _name in (
    "betavariate", "binomialvariate", "choice", "choices", "expovariate", "gammavariate", "gauss", "getrandbits", "getstate",
    "lognormvariate", "normalvariate", "paretovariate", "randbytes", "randint", "random", "randrange", "sample", "seed",
    "setstate", "shuffle", "triangular", "uniform", "vonmisesvariate", "weibullvariate",
):  # fmt: skip
    _own_generator(_name)

_seed = random.Random.seed


@door("random:Random", "seed")
def seed(world: World, generator: random.Random, a: Any = None, version: int = 2) -> None:
    """Of generators: without a seed, C would ask the machine for one."""
    if a is None and world.thread is not None:  # pyright: ignore[reportUnnecessaryComparison]  # None until the world begins
        a = world.random(f"seeds {world.thread.process.name}").getrandbits(256)
    _seed(generator, a, version)


# -- uuid ------------------------------------------------------------------------------------------------------------------

# Between the calendar's reform and the epoch, in units of 100 ns.
_SINCE_1582 = 0x01B21DD213814000


@door("uuid", "getnode")
def getnode(world: World) -> int:
    """The address of the host's network card: one that is said to be administered locally."""
    return 0x02_00_00_00_00_00 | world.thread.process.host.number


@door("uuid", "uuid1")
def uuid1(world: World, node: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
    process = world.thread.process
    timestamp = wall_ns(world) // 100 + _SINCE_1582
    timestamp = max(timestamp, process.parts.get("uuid1", 0) + 1)
    process.parts["uuid1"] = timestamp
    if clock_seq is None:
        clock_seq = world.random(f"uuid1 {process.name}").getrandbits(14)
    fields = (
        timestamp & 0xFFFFFFFF,
        timestamp >> 32 & 0xFFFF,
        timestamp >> 48 & 0x0FFF,
        clock_seq >> 8 & 0x3F,
        clock_seq & 0xFF,
        getnode(world) if node is None else node,
    )
    return uuid.UUID(fields=fields, version=1)


# -- ssl, where a program uses it (TLS itself draws from OpenSSL's own generator, which no door reaches) ----------------------

_rand_bytes: Any = None


def _ssl_rand_bytes(size: int, /) -> bytes:
    world = here.world
    return _rand_bytes(size) if world is None else urandom(world, size)


def _open_ssl(module: ModuleType | None = None) -> None:
    global _rand_bytes
    ssl: Any = sys.modules.get("ssl")
    if ssl is not None and _rand_bytes is None:
        _rand_bytes, ssl.RAND_bytes = ssl.RAND_bytes, _ssl_rand_bytes


def _shut_ssl() -> None:
    global _rand_bytes
    if _rand_bytes is not None:
        ssl: Any = sys.modules["ssl"]
        ssl.RAND_bytes, _rand_bytes = _rand_bytes, None


at_opening(_open_ssl)
at_shutting(_shut_ssl)
importing.executed["ssl"] = _open_ssl
