"""The ways into a bateau program that the suite runs over: every runtime, owned and adopted.

*Owned*: `bateau.run` starts the program. *Adopted*: the function is awaited inside a plain asyncio or trio program that has
no bateau at its top. A law holds on all of them, so a law's test takes the `entry` fixture and is written once:

    def test_x(entry):
        async def main(): ...
        entry.run(main)

A test that belongs to some of them says so with one of the marks below (`@on_asyncio_family`, `@on_trio`, `@on_owned`, ...),
or names them: `@pytest.mark.parametrize("entry", ["owned:trio"], indirect=True)`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import pytest

T = TypeVar("T")
Family = Literal["native", "asyncio", "trio"]

# ---- which kernel --------------------------------------------------------------------------------------------------
# THE place of the kernel's parametrisation. The kernel is chosen once per process, at import (the C twin if it was built,
# else pure Python; BATEAU_PURE=1 forces the latter), and two kernels in one process would be two `Cancelled` classes. So the
# suite is not parametrised over kernels from inside: it is *run* once per kernel, by `make test`; nothing in the tests changes.
KERNEL: Literal["pure", "chosen at import"] = "pure" if os.environ.get("BATEAU_PURE") == "1" else "chosen at import"

# ---- which runtimes ------------------------------------------------------------------------------------------------
RUNTIMES = ("native", "asyncio", "uvloop", "trio")

# What `native` looks like to foreign code: it is an asyncio loop as well, but its tasks are the kernel's own.
FAMILIES: dict[str, Family] = {
    "sim": "native",
    "native": "native",
    "asyncio": "asyncio",
    "uvloop": "asyncio",
    "trio": "trio",
}

# Third-party module that must be there for a runtime to be tested.
NEEDS = {"uvloop": "uvloop", "trio": "trio"}

OWNED = tuple(f"owned:{name}" for name in RUNTIMES)
ADOPTED = ("adopted:asyncio", "adopted:uvloop", "adopted:trio")
ENTRIES = OWNED + ADOPTED

# Folders whose tests run in a simulated world as well (production's order, virtual time), except those marked
# `@pytest.mark.real_os("why")`: what forks, starts programs, or meets threads and files made outside the world.
SIMULATED = ("kernel", "sync", "channel", "combine", "time", "laws", "iter")

# Folders of what is written above the kernel and never meets a loop. uvloop differs from asyncio in its loop alone, so that here its
# rows would say again what asyncio's say; over pure Python the adopted rows too, which differ from the owned ones in the kernel's
# entrance (kernel, laws, runtimes). They were a third of the suite's time. `pytest --every-entry` runs them nevertheless.
ABOVE_THE_LOOP = ("sync", "channel", "combine", "time", "iter", "thread")


def ways_in(names: tuple[str, ...], folder: str) -> tuple[str, ...]:
    """Those of the entries or runtimes over which a folder's tests run."""
    if folder not in ABOVE_THE_LOOP:
        return names
    kept = tuple(name for name in names if not name.endswith("uvloop"))
    return tuple(name for name in kept if not name.startswith("adopted:")) if KERNEL == "pure" else kept


def _named(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("entry", names, indirect=True)


on_owned = _named(*OWNED)
on_adopted = _named(*ADOPTED)
on_native = _named("owned:native")
# asyncio futures, tasks, timeouts are usable in these (native is an asyncio event loop too) ...
on_asyncio_family = _named("owned:native", "owned:asyncio", "owned:uvloop", "adopted:asyncio", "adopted:uvloop")
# ... and in these the tasks *are* asyncio's, with asyncio's own accounting.
on_asyncio_tasks = _named("owned:asyncio", "owned:uvloop", "adopted:asyncio", "adopted:uvloop")
# One entry for each mechanism there is: for exhaustive tests, which would only tell uvloop's loop from asyncio's by their length.
_MECHANISMS = ("owned:native", "owned:asyncio", "owned:trio")
on_each_mechanism = (
    _named(*_MECHANISMS) if KERNEL == "pure" else _named(*_MECHANISMS, "adopted:asyncio", "adopted:trio")
)
on_trio = _named("owned:trio", "adopted:trio")


@dataclass(frozen=True)
class Runtime:
    """An owned program on one runtime, by name."""

    name: str

    @property
    def family(self) -> Family:
        return FAMILIES[self.name]

    def run(self, fn: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        """Run `fn(*args)` with `bateau.run` on this runtime; options go to `bateau.run`."""
        import bateau

        return bateau.run(fn, *args, runtime=self.name, **options)


@dataclass(frozen=True)
class Entry:
    """One way in: `owned:<runtime>` or `adopted:<host>`."""

    name: str

    @property
    def owned(self) -> bool:
        return self.name.startswith("owned:")

    @property
    def runtime(self) -> str:
        """The runtime or host behind the colon."""
        return self.name.partition(":")[2]

    @property
    def family(self) -> Family:
        return FAMILIES[self.runtime]

    def run(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run `fn(*args)` to its end and give its value; what it raises comes out as this way in would show it."""
        if self.owned:
            return Runtime(self.runtime).run(fn, *args)
        if self.runtime == "trio":
            import trio

            return trio.run(functools.partial(fn, *args))
        import asyncio

        factory = None
        if self.runtime == "uvloop":
            import uvloop

            factory = uvloop.new_event_loop

        # Written as an application would: a coroutine under asyncio's runner, no policy touched, nothing of bateau's around it.
        async def program() -> T:
            return await fn(*args)

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(program())


def require(name: str) -> None:
    """Skip the test, saying why, where the third-party runtime is not installed."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"the runtime {name} needs `pip install bateau[{name}]`")
