"""The loops that tasks belong to, which thread each runs on, and what the threads are called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..model import Runtime
from .draft import Draft
from .errors import Fault
from .interpreter import ThreadState
from .objects import WEAKREF_TARGET


def loops(draft: Draft, threads: Iterable[ThreadState]) -> list[Runtime]:
    """The asyncio loops that the tasks in the draft belong to."""
    found: dict[int, None] = {}
    for fields in draft.tasks.values():
        if fields["library"] == "asyncio":
            found[fields["runtime"]] = None
    on_stack = _loops_on_stacks(draft, threads, found)
    return [_loop(draft, loop, on_stack.get(loop)) for loop in found]


def _loop(draft: Draft, loop: int, thread: int | None) -> Runtime:
    objects = draft.objects
    name, ready, timers = "asyncio", None, None
    try:
        name = "uvloop" if objects.type_of(loop).name.startswith("uvloop") else "asyncio"
        queue, heap = objects.attribute(loop, "_ready"), objects.attribute(loop, "_scheduled")
        ready = objects.length(queue) if queue else None
        timers = objects.length(heap) if heap else None
        ident = objects.attribute(loop, "_thread_id")
        if ident and not objects.is_none(ident):
            thread = objects.integer(ident)
    except Fault:
        draft.gap("the state of a loop could not be read")
    return Runtime(loop, name, library="asyncio", thread=thread, ready=ready, timers=timers)


def _loops_on_stacks(draft: Draft, threads: Iterable[ThreadState], known: Iterable[int]) -> dict[int, int]:
    """Loops that don't say on which thread they run (uvloop's): one whose stack has them in a variable."""
    loops_known = set(known)
    found: dict[int, int] = {}
    objects, frames = draft.objects, draft.python.frames
    for thread in threads:
        for link, frame in thread.stack:
            for name in ("self", "loop"):
                value = frames.variable(link, frame, name)
                try:
                    value = value if value in loops_known else objects.attribute(value, "_loop") if value else 0
                except Fault:
                    continue
                if value in loops_known:
                    found.setdefault(value, thread.ident)
    return found


def merged(draft: Draft, native: list[Runtime], ours: list[Runtime]) -> list[Runtime]:
    """The runtimes of both: a loop that bateau has its home on is one with that; a task of asyncio's is then at home there too."""
    known = {runtime.id: runtime for runtime in ours}
    found: list[Runtime] = []
    used = {fields["runtime"] for fields in draft.tasks.values()}
    for runtime in native:
        home = 0
        try:
            for name in ("bateau_domain", "_bateau_host") if runtime.library == "asyncio" else ():
                home = home or draft.objects.path(runtime.id, name)
        except Fault:
            home = 0
        if home not in known:
            home = next((host.id for host in ours if host.ext.get("loop") == runtime.id), 0)
        if home not in known:
            found += [runtime] if runtime.id in used else []
            continue
        host = known[home]
        known[home] = replace(host, ready=host.ready or runtime.ready, timers=host.timers or runtime.timers)
        for fields in draft.tasks.values():
            if fields["runtime"] == runtime.id:
                fields["runtime"] = home
    owned = _owned(draft)
    return [*found, *(replace(runtime, owned=runtime.id in owned) for runtime in known.values())]


def _owned(draft: Draft) -> set[int]:
    """The hosts of the programs that ``bateau.run`` started."""
    try:
        hosts = draft.python.module_dict(draft.modules["bateau.runtimes.forking"])["_hosts"]
        references = draft.objects.set_items(draft.objects.attribute(hosts, "data"))
        return {draft.memory.word(reference + WEAKREF_TARGET) for reference in references}
    except (Fault, KeyError):
        return set()


def thread_names(draft: Draft) -> dict[int, str]:
    """Names by ident, as ``threading`` knows them."""
    found: dict[int, str] = {}
    try:
        active = draft.python.module_dict(draft.modules["threading"])["_active"]
        for ident, thread in draft.objects.dict_items(active, 100_000):
            name = draft.objects.attribute(thread, "_name")
            if name:
                found[draft.objects.integer(ident)] = draft.objects.string(name, 256)
    except (Fault, KeyError, UnicodeDecodeError):
        return found  # a program without the module has no names for its threads
    return found
