"""What a call leaves over when it is repeated: references, blocks of memory, and on a debug build of Python every reference there is."""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bateau.interop.asyncio import is_native
from bateau.kernel import twin

only_native = pytest.mark.skipif(twin.native is None or not is_native(), reason="the kernel is pure here")

ROUNDS = 10_000
# What the interpreter itself may keep meanwhile: free lists, caches, the counters' own integers.
SLACK = 300

# Every reference in the process, where the interpreter counts them (`make test-debug`).
count_all: Callable[[], int] | None = getattr(sys, "gettotalrefcount", None)


class Token:
    """What calls are given, to see whether they keep it."""


def nothing(*_: object) -> None:
    """What is called in vain."""


class Drift:
    """``with Drift(token, rounds):`` around the rounds; it fails if anything is left over by them."""

    def __init__(self, token: Token, rounds: int) -> None:
        self.token = token
        self.rounds = rounds
        self._before = 0, 0, 0

    def __enter__(self) -> None:
        gc.collect()
        self._before = self._now()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            return
        gc.collect()
        references, blocks, everything = (now - before for now, before in zip(self._now(), self._before, strict=True))
        assert blocks < SLACK, f"{blocks} blocks of memory are left over by {self.rounds} rounds"
        assert not references, f"{references} references to what was given are left over by {self.rounds} rounds"
        # Fewer is as bad: what is let go once too often is freed while others have it.
        assert abs(everything) < SLACK, f"{everything} references to anything are left over by {self.rounds} rounds"

    def _now(self) -> tuple[int, int, int]:
        return sys.getrefcount(self.token), sys.getallocatedblocks(), count_all() if count_all is not None else 0


def measure(call: Callable[[], object], token: Token, rounds: int = ROUNDS) -> None:
    """Repeat ``call`` and compare."""

    def repeat(times: int) -> None:
        for _ in range(times):
            call()

    repeat(100)
    with Drift(token, rounds):
        repeat(rounds)


async def measure_in_program(some: Callable[[int], Awaitable[object]], token: Token, rounds: int) -> None:
    """The same of ``some``, which repeats by itself what a program does."""
    await some(100)
    with Drift(token, rounds):
        await some(rounds)


class Calls:
    """What the tests of one file go through: ``covers`` has the methods by the name of their type (``module``: functions)."""

    def __init__(self, **covers: str) -> None:
        self.covers = {owner: tuple(methods.split()) for owner, methods in covers.items()}
        self._makers: dict[str, tuple[Callable[[Token], Callable[[], object]], int]] = {}

    def go_through(self, rounds: int = ROUNDS, **names: str) -> Callable[[Any], Any]:
        """Register a function that makes a call to repeat, and what this call is about."""

        def register(make: Callable[[Token], Callable[[], object]]) -> Any:
            self._makers[make.__name__] = make, rounds
            for owner, methods in names.items():
                self.covers[owner] = (*self.covers.get(owner, ()), *methods.split())
            return make

        return register

    def names(self) -> list[str]:
        """Of the calls that are registered."""
        return sorted(self._makers)

    def measure(self, name: str) -> None:
        """Repeat one of them."""
        make, rounds = self._makers[name]
        token = Token()
        measure(make(token), token, rounds)
