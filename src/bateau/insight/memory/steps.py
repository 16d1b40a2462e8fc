"""For how long a running task has been in its step, read from outside: from the recorder's hot words where the process is recorded,
else from what its loop keeps of when it looked outside last. See ``bateau.insight.steps`` for what each proves.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..model import Runtime
from ..recorder import layout as at
from ..recorder.files import RING_SUFFIX
from ..recorder.hot import lasting
from ..steps import Lasted, shorter
from .draft import Draft
from .errors import Fault
from .interpreter import ThreadState


def add_steps(draft: Draft, states: Iterable[ThreadState], runtimes: Iterable[Runtime]) -> None:
    """Say of each running task for how long. Of a live process: a dead one's clock is not ours."""
    running = [fields for fields in draft.tasks.values() if fields["state"] == "running"]
    if not running or not draft.memory.source.live:
        return
    threads = {runtime.id: runtime.thread for runtime in runtimes}
    stacks = {state.ident: state for state in states}
    rings = list(_rings(draft))
    for fields in running:
        state = stacks.get(threads.get(fields["runtime"]) or 0)
        known = [lasting(words, fields["id"], rides=rides) for words, rides in rings]
        if sum(one["runtime"] == fields["runtime"] for one in running) == 1:  # else a loop was entered again in a step
            known += [_turn(draft, state) if state is not None else None, _polled(draft, fields["runtime"])]
        lasted = shorter(known)
        if lasted is not None:
            fields.update(lasted.as_fields())


def _rings(draft: Draft) -> Iterable[tuple[bytes, bool]]:
    """The hot words of each file that the process's recorder writes, and whether it is that of a loop which another drives."""
    source = draft.memory.source
    for mapping in source.mappings():
        if mapping.offset == 0 and mapping.path.removesuffix(" (deleted)").endswith(RING_SUFFIX):
            raw = source.read(mapping.start, at.HEADER_SIZE)  # past what is cached: these words change with every step
            if len(raw) == at.HEADER_SIZE and raw.startswith(at.MAGIC):
                header = at.Header(*at.HEADER.unpack_from(raw))
                if header.version == at.VERSION:
                    yield raw[at.HOT_AT : at.HOT_AT + 32], bool(header.flags & at.RIDES)


def _polled(draft: Draft, runtime: int) -> Lasted | None:
    """Since bateau's own loop has last looked outside."""
    try:
        reactor = draft.objects.path(runtime, "reactor")
        polled = draft.objects.number(reactor, "_polled") if reactor else 0
    except Fault:  # not a host of ours
        return None
    return Lasted(draft.now - polled / 1e9, at_most=True) if polled else None


def _turn(draft: Draft, state: ThreadState) -> Lasted | None:
    """Since the innermost loop on that stack has last looked outside."""
    objects, variable = draft.objects, draft.python.frames.variable
    for link, frame in reversed(state.stack):
        name, file = link.code.name, link.code.file
        try:
            if name == "_run_once" and file.endswith("asyncio/base_events.py"):
                began = variable(link, frame, "end_time")
                return Lasted(draft.now - objects.real(began), at_most=True) if began else None
            if name == "unrolled_run" and file.endswith("trio/_core/_run.py"):
                began = variable(link, frame, "now")
                clock = objects.path(variable(link, frame, "runner"), "clock")
                if not began or objects.type_of(clock).name != "trio._core._run.SystemClock":
                    return None  # another clock counts other seconds
                seconds = draft.now + objects.real(objects.path(clock, "offset")) - objects.real(began)
                return Lasted(seconds, at_most=True)
        except Fault:
            return None
    return None
