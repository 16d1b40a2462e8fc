"""What is compared: each system's name, the family whose code it runs, and how it is started.

A *family* is a public API (asyncio, trio, curio, anyio, bateau); a *system* is a family on a particular loop. Some families are no peers
but measures: ``floor`` is what plain Python or C can do, ``caio``, ``prefork`` and ``threads`` are what people use instead for one workload.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

Main = Callable[[], Coroutine[Any, Any, None]]


def _asyncio(main: Main) -> None:
    import asyncio

    asyncio.run(main())


def _uvloop(main: Main) -> None:
    import uvloop

    uvloop.run(main())


def _loop_of(module: str) -> Callable[[Main], None]:
    """A module with ``new_event_loop``, for Python's own Runner."""

    def start(main: Main) -> None:
        import asyncio
        from importlib import import_module

        with asyncio.Runner(loop_factory=import_module(module).new_event_loop) as runner:
            runner.run(main())

    return start


def _hosted(main: Main) -> None:
    import bateau.interop.asyncio

    bateau.interop.asyncio.run(main())


def _trio(main: Main) -> None:
    import trio

    trio.run(main)


def _curio(main: Main) -> None:
    import curio

    curio.run(main)


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


def _with_asyncio(start: Callable[[Main], None]) -> Callable[[Main], None]:
    """asyncio imported by the program: bateau's tasks then are asyncio's too, and may await its futures."""

    def started(main: Main) -> None:
        import asyncio  # noqa: F401  # that it is imported is all

        start(main)

    return started


def _recorded(start: Callable[[Main], None]) -> Callable[[Main], None]:
    """Under the flight recorder, as ``bateau run`` arms it."""

    def started(main: Main) -> None:
        import tempfile

        from bateau.insight.recorder import recording

        with tempfile.TemporaryDirectory(prefix="bateau-bench-") as folder, recording.record(folder, fatal=False):
            start(main)

    return started


def _no_loop(main: Main) -> None:
    """For code that waits for nobody: driven by hand, and whoever suspends has made a mistake."""
    try:
        main().send(None)
    except StopIteration:
        return
    raise RuntimeError("a measure without a loop has suspended")


@dataclass(frozen=True, slots=True)
class System:
    """One row of every table."""

    name: str
    family: str
    start: Callable[[Main], None]
    requires: tuple[str, ...] = ()
    """Modules that must be importable; without them the system is left out, and said to be."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    default: bool = True
    program: str = ""
    """The shortest program on it: import it and run an empty ``main`` (the workload ``startup``)."""
    without: tuple[str, ...] = ()
    """Modules that must not have been imported when the measurement ends: their presence would make it another system."""
    native: bool = False
    """Whether bateau's C kernel has to be in use, not only there: a stale build falls back to Python, and is told by nothing else."""
    until: tuple[int, int] = (99, 0)
    """The last Python that the library can be imported by."""
    hint: str = ""
    """What to say of a missing module, beyond that it is missing."""


_EMPTY = "async def main(): pass\n"
_RUNNER = "import asyncio, {0}\n" + _EMPTY + "with asyncio.Runner(loop_factory={0}.new_event_loop) as r: r.run(main())"
_ANYIO = "import anyio\n" + _EMPTY + "anyio.run(main, backend={0!r}, backend_options={1!r})"
_BATEAU = "import bateau\n" + _EMPTY + "bateau.run(main, runtime={0!r})"
_RECORDED = (
    "import bateau\nfrom bateau.insight.recorder import recording\n" + _EMPTY
    + "with recording.record(fatal=False): bateau.run(main, runtime='native')"
)  # fmt: skip

_NATIVE = _bateau("native")
_PURE = {"BATEAU_PURE": "1"}

_ALL = (
    System("asyncio", "asyncio", _asyncio, program=f"import asyncio\n{_EMPTY}asyncio.run(main())"),
    System("uvloop", "asyncio", _uvloop, ("uvloop",), program=f"import uvloop\n{_EMPTY}uvloop.run(main())"),
    System("rloop", "asyncio", _loop_of("rloop"), ("rloop",), program=_RUNNER.format("rloop")),
    System(
        "rsloop", "asyncio", _loop_of("rsloop"), ("rsloop",), program=_RUNNER.format("rsloop"),
        hint="its package is built from source by a nightly Rust",
    ),
    System(
        "zuvloop", "asyncio", _loop_of("zuvloop"), ("zuvloop",), program=_RUNNER.format("zuvloop"),
        hint="it needs Python 3.14",
    ),
    System(
        "bateau-loop", "asyncio", _hosted, ("bateau",), native=True,
        program=f"import bateau.interop.asyncio\n{_EMPTY}bateau.interop.asyncio.run(main())",
    ),
    System("trio", "trio", _trio, ("trio",), program=f"import trio\n{_EMPTY}trio.run(main)"),
    System("curio", "curio", _curio, ("curio",), program=f"import curio\n{_EMPTY}curio.run(main)", until=(3, 11)),
    System("anyio-asyncio", "anyio", _anyio("asyncio"), ("anyio",), program=_ANYIO.format("asyncio", {})),
    System(
        "anyio-uvloop", "anyio", _anyio("asyncio", use_uvloop=True), ("anyio", "uvloop"),
        program=_ANYIO.format("asyncio", {"use_uvloop": True}),
    ),
    System("anyio-trio", "anyio", _anyio("trio"), ("anyio", "trio"), program=_ANYIO.format("trio", {}), default=False),
    System("bateau-native", "bateau", _NATIVE, ("bateau",), native=True, program=_BATEAU.format("native"), without=("asyncio",)),
    System(
        "bateau-native+asyncio", "bateau", _with_asyncio(_NATIVE), ("bateau",), native=True,
        program="import asyncio\n" + _BATEAU.format("native"),
    ),
    System(
        "bateau-native+recorder", "bateau", _recorded(_NATIVE), ("bateau",), native=True, without=("asyncio",),
        program=_RECORDED,
    ),
    System(
        "bateau-native+both", "bateau", _with_asyncio(_recorded(_NATIVE)), ("bateau",), native=True,
        program="import asyncio\n" + _RECORDED,
    ),
    System(
        "bateau-pure", "bateau", _NATIVE, ("bateau",), _PURE, program=_BATEAU.format("native"), without=("asyncio", "bateau._native")
    ),
    System("bateau-asyncio", "bateau", _bateau("asyncio"), ("bateau",), program=_BATEAU.format("asyncio")),
    System("bateau-uvloop", "bateau", _bateau("uvloop"), ("bateau", "uvloop"), program=_BATEAU.format("uvloop")),
    System("bateau-trio", "bateau", _bateau("trio"), ("bateau", "trio"), program=_BATEAU.format("trio")),
    System("caio", "caio", _asyncio, ("caio",)),
    System("prefork", "prefork", _no_loop),
    System("threads", "threads", _no_loop),
    System("floor", "floor", _no_loop, program="pass"),
)  # fmt: skip

SYSTEMS: Mapping[str, System] = {system.name: system for system in _ALL}
DEFAULT_SYSTEMS = tuple(system.name for system in _ALL if system.default)

NOTES: Mapping[str, str] = {
    "asyncio": "Python's own event loop",
    "uvloop": "the asyncio programs on uvloop",
    "rloop": "the asyncio programs on rloop (Rust)",
    "rsloop": "the asyncio programs on rsloop (Rust), where it installs",
    "zuvloop": "the asyncio programs on zuvloop, where it installs",
    "bateau-loop": "the asyncio programs on bateau's asyncio event loop",
    "trio": "trio",
    "curio": "curio",
    "anyio-asyncio": "the anyio programs on asyncio",
    "anyio-uvloop": "the anyio programs on asyncio with uvloop",
    "anyio-trio": "the anyio programs on trio",
    "bateau-native": "the bateau programs on its own runtime, native kernel, nothing else loaded",
    "bateau-native+asyncio": "the same with asyncio imported",
    "bateau-native+recorder": "the same with the flight recorder armed",
    "bateau-native+both": "the same with both",
    "bateau-pure": "the bateau programs on its own runtime, Python kernel (BATEAU_PURE=1)",
    "bateau-asyncio": "the bateau programs on asyncio's loop",
    "bateau-uvloop": "the bateau programs on uvloop",
    "bateau-trio": "the bateau programs on trio",
    "caio": "io_uring for file reads under asyncio, by caio",
    "prefork": "a process per client, forked beforehand (workload crowd)",
    "threads": "a thread per client (workload crowd)",
    "floor": "what plain Python or C can do: no library at all",
}
"""One line each, for the help."""
