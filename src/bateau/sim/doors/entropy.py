"""Doors of randomness: ``os.urandom`` and everything on it (``uuid``, ``secrets``), and the ``random`` module's own generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import door

if TYPE_CHECKING:
    from ..world import World


@door("os", "urandom")
def urandom(world: World, size: int) -> bytes:
    return world.random(f"urandom {world.thread.process.name}").randbytes(size)


def _own_generator(function: str) -> None:
    """Each process draws from a generator of its own: what one of them asks for does not move the others."""

    @door("random", function)
    def inside(world: World, *args: Any, **kwargs: Any) -> Any:
        return getattr(world.random(f"random {world.thread.process.name}"), function)(*args, **kwargs)


for _name in (
    "betavariate", "binomialvariate", "choice", "choices", "expovariate", "gammavariate", "gauss", "getrandbits", "getstate",
    "lognormvariate", "normalvariate", "paretovariate", "randbytes", "randint", "random", "randrange", "sample", "seed",
    "setstate", "shuffle", "triangular", "uniform", "vonmisesvariate", "weibullvariate",
):  # fmt: skip
    _own_generator(_name)


@door("random", "_urandom")
def urandom_of_random(world: World, size: int) -> bytes:
    """What ``random.SystemRandom`` (and so ``secrets``) took by name."""
    return urandom(world, size)
