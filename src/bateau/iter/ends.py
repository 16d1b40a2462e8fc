"""The ends of a chain: what runs it through and gives one result."""

from __future__ import annotations

from typing import TypeVar

from .chain import Chain

T_co = TypeVar("T_co", covariant=True)


class Ends(Chain[T_co]):
    """The ends of this module. Each is a cancellation point; cancelled, everything the chain runs is ended and awaited."""

    __slots__ = ()

    async def collect(self) -> list[T_co]:
        """Every item, in a list."""
        found: list[T_co] = []
        async with self._run("collect") as flow:
            await flow.drain(found.append)
        return found
