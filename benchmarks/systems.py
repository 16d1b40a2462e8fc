"""What is compared: each system's name, the family whose code it runs, and how it is started.

A *family* is a public API (asyncio, trio, anyio, bateau); a *system* is a family on a particular loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Main = Callable[[], Awaitable[None]]


def _asyncio(main: Main) -> None:
    import asyncio

    async def coroutine() -> None:
        await main()

    asyncio.run(coroutine())


def _uvloop(main: Main) -> None:
    import uvloop

    async def coroutine() -> None:
        await main()

    uvloop.run(coroutine())


def _hosted(main: Main) -> None:
    import bateau.interop.asyncio

    async def coroutine() -> None:
        await main()

    bateau.interop.asyncio.run(coroutine())


def _trio(main: Main) -> None:
    import trio

    trio.run(main)


def _anyio(backend: str, **options: Any) -> Callable[[Main], None]:
    def start(main: Main) -> None:
        import anyio

        anyio.run(main, backend=backend, backend_options=options)

    return start


def _bateau(runtime: str) -> Callable[[Main], None]:
    def start(main: Main) -> None:
        import bateau

        bateau.run(main, runtime=runtime)

    return start


@dataclass(frozen=True, slots=True)
class System:
    """One row of every table."""

    name: str
    family: str
    start: Callable[[Main], None]
    requires: tuple[str, ...]
    """Modules that must be importable; without them the system is left out, and said to be."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    default: bool = True


_ALL = (
    System("asyncio", "asyncio", _asyncio, ()),
    System("uvloop", "asyncio", _uvloop, ("uvloop",)),
    System("bateau-loop", "asyncio", _hosted, ("bateau._native",)),
    System("trio", "trio", _trio, ("trio",)),
    System("anyio-asyncio", "anyio", _anyio("asyncio"), ("anyio",)),
    System("anyio-uvloop", "anyio", _anyio("asyncio", use_uvloop=True), ("anyio", "uvloop"), default=False),
    System("anyio-trio", "anyio", _anyio("trio"), ("anyio", "trio")),
    System("bateau-native", "bateau", _bateau("native"), ("bateau",)),
    System("bateau-native-pure", "bateau", _bateau("native"), ("bateau",), {"BATEAU_PURE": "1"}, default=False),
    System("bateau-asyncio", "bateau", _bateau("asyncio"), ("bateau",)),
    System("bateau-uvloop", "bateau", _bateau("uvloop"), ("bateau", "uvloop"), default=False),
    System("bateau-trio", "bateau", _bateau("trio"), ("bateau", "trio")),
)

SYSTEMS: Mapping[str, System] = {system.name: system for system in _ALL}
DEFAULT_SYSTEMS = tuple(system.name for system in _ALL if system.default)
