"""When something of one async library is called under another: one error naming both runtimes, the line and the way out.

Each library notices only that it is not running, in its own words and late. Those words, and the things that a library's
awaitables yield, are told apart here, where a task ends with such an error; nothing is checked while all is well.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from .errors import PACKAGE_DIR

if TYPE_CHECKING:
    from .host import Host
    from .task import Task

# What to do instead, by the library whose thing was awaited.
_WAYS_OUT = {
    "trio": "run this program with runtime='trio', call it as `await bateau.thread.run(trio.run, fn)`",
    "asyncio": "run this program with runtime='native' or 'asyncio', call it as `await bateau.thread.run(asyncio.run, fn())`",
}
_PORTABLE = "or use bateau's own (bateau.time, sync, channel, net...), which runs on every runtime"

# What is said where something is called under another loop, and whose thing it was, unless the innermost frame says better.
_WORDS = {
    "must be called from async context": "trio",
    "'RunContext' object has no attribute ": "trio",
    "Task got bad yield: ": "another library",
    "no running event loop": "asyncio",
    "'NoneType' object has no attribute 'create_future'": "asyncio",
    "trio.run received unrecognized yield message": "asyncio",
}
_ASYNCIO_FAMILY = ("native", "asyncio", "uvloop")


def foreign_trap_error(host: Host, task: Task[Any], trap: Any) -> TypeError:
    """The error for a task of ours that awaited something which yielded ``trap``."""
    owner = _owner_of(trap)
    return TypeError(
        f"task {task.name!r} runs on runtime {host.name!r} and awaited something of {owner} (it yielded {trap!r}); "
        f"{_way_out(owner, host)}"
    )


def explain_foreign(error: BaseException, task: Task[Any]) -> None:
    """If ``error``, with which ``task`` ends, comes of calling another library's function here: a note that says so."""
    if type(error) not in (RuntimeError, TypeError, AttributeError):
        return
    text = str(error)
    owner = next((owner for words, owner in _WORDS.items() if text.startswith(words)), None)
    if owner is None or any("and called something of" in note for note in getattr(error, "__notes__", ())):
        return
    owner, line = _called(error.__traceback__, owner)
    host = task.host
    if owner == host.name:
        return
    if owner == "asyncio" and host.name in _ASYNCIO_FAMILY and getattr(host, "aio", host) is not None:
        return
    error.add_note(
        f"task {task.name!r} runs on runtime {host.name!r} and called something of {owner}{line}; {_way_out(owner, host)}"
    )


def _owner_of(trap: Any) -> str:
    module: str = getattr(trap if isinstance(trap, type) else type(trap), "__module__", "").split(".")[0]
    return {"_asyncio": "asyncio"}.get(module, module)


def _called(tb: TracebackType | None, owner: str) -> tuple[str, str]:
    """The library whose frame is innermost (``owner`` if there is none), and the user's line that called into it."""
    site = ""
    while tb is not None:
        code = tb.tb_frame.f_code
        package = str(tb.tb_frame.f_globals.get("__name__", "")).split(".")[0]
        if package in _WAYS_OUT:
            owner = package
        elif not code.co_filename.startswith(PACKAGE_DIR):
            site = f" at {code.co_filename}:{tb.tb_lineno}"
        tb = tb.tb_next
    return owner, site


def _way_out(owner: str, host: Host) -> str:
    way = _WAYS_OUT.get(owner)
    if owner == "asyncio" and host.name == "native":
        return (
            "another thread imported asyncio during this very step, too late to be its loop; "
            "import asyncio at the top of the program, or await a bateau.yield_now() between"
        )
    return f"{way}, {_PORTABLE}" if way is not None else f"await it in a program of its own runtime, {_PORTABLE}"
