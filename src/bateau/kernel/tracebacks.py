"""Tracebacks that show the user's frames, from the program's start across spawn sites to the fault (law 18).

Theory of operation. What a person wants to see of a failure is a ``Trace``: the frames of his own code, what was raised, and (of a group)
the traces of its parts. Machinery is left out: bateau's frames, and those of a loop that stand above the user's; what the user
himself called in a library stays. A group with one part is told as one trace: the group's frames, the line that spawned the task,
the task's frames. ``insight.tracebacks`` makes the same of a trace that was pasted as text.

``BATEAU_TRACEBACK=full`` shows everything, in Python's own words.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from .errors import PACKAGE_DIR

if TYPE_CHECKING:
    from traceback import TracebackException

# Packages whose frames are a loop's. Only above the user's: further down, they are what the user called.
LOOPS = ("asyncio", "trio", "anyio", "outcome", "uvloop", "concurrent", "exceptiongroup", "sniffio")
# Where a user's line that starts a loop (``asyncio.run(main())``) leads to: what follows until the user's code is that loop.
RUNNERS = re.compile(
    r"[/\\](?:asyncio[/\\](?:runners|base_events)|trio[/\\]_core[/\\]_run|anyio[/\\](?:_core[/\\]_eventloop|_backends[/\\]_\w+))\.py$"
)
HEAD = "Traceback (most recent call last; BATEAU_TRACEBACK=full shows every frame):"
CAUSE = "The above exception was the direct cause of the following exception:"
CONTEXT = "During handling of the above exception, another exception occurred:"
# What ``Task`` notes on an error that ends it.
SPAWNED = re.compile(r"^in task (?P<task>'.*'|\".*\"), spawned at (?P<file>.+):(?P<line>\d+)$")


@dataclass
class Line:
    """One frame, or one spawn: ``text`` is what Python prints for it, the first line included."""

    file: str
    text: list[str]


@dataclass
class Trace:
    """One exception: its frames, its message and notes, the parts of a group (each a chain), and how it came of the one before it."""

    lines: list[Line] = field(default_factory=list["Line"])
    message: list[str] = field(default_factory=list[str])
    parts: list[list[Trace]] = field(default_factory=list[list["Trace"]])
    link: str = ""
    # Where the task that it ended was spawned; None: in none.
    spawn: Line | None = None
    # How many groups with one part were folded into it.
    folded: int = 0


def wants_full() -> bool:
    """Whether the user has asked for every frame."""
    return os.environ.get("BATEAU_TRACEBACK") == "full"


# -- which frames ----------------------------------------------------------------------------------------------------------


def users_frames(
    tb: TracebackType | None, *, above: Iterable[str] = (), below: bool = False
) -> tuple[TracebackType | None, bool]:
    """The traceback without machinery (None, where nothing else is in it), and whether there was any of bateau's.

    ``above``: more packages that are machinery above the user's frames. ``below``: those of loops are machinery below them as well.
    """
    loops = _folders((*LOOPS, *above))
    kept: list[TracebackType] = []
    ours = False
    machinery = True  # at the top, and wherever bateau's frames lead to a loop's
    running: list[TracebackType] = []  # of a loop that the user started, as long as nobody's code has followed
    at: Any = tb
    while at is not None:
        name: str = at.tb_frame.f_code.co_filename
        if name.startswith(PACKAGE_DIR):
            ours = machinery = True
            if name.startswith(PACKAGE_DIR + "cli"):
                kept.clear()  # the command's own frames, above it, are nobody's program
        elif not name.startswith(loops):
            machinery = False
            running.clear()
            if not name.startswith("<frozen "):
                kept.append(at)
        elif running or (not machinery and RUNNERS.search(name)):
            running.append(at)
        elif not machinery:
            kept.append(at)
        at = at.tb_next
    kept += running
    while below and kept and kept[-1].tb_frame.f_code.co_filename.startswith(loops):
        kept.pop()
    made: TracebackType | None = None
    for at in reversed(kept):
        made = TracebackType(made, at.tb_frame, at.tb_lasti, at.tb_lineno)
    return made, ours


def _folders(packages: Iterable[str]) -> tuple[str, ...]:
    """Where these packages are, of those that have been imported."""
    found: list[str] = ["uvloop/"]  # which was compiled, and says nothing of where it is
    for name in packages:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None) if module is not None else None
        if file:
            found.append(os.path.dirname(file) + os.sep)
    return tuple(found)


# -- an exception as a trace -----------------------------------------------------------------------------------------------


def chain_of(error: BaseException) -> tuple[list[Trace], bool]:
    """The trace of an exception, after those of what it came of; and whether there are frames of bateau's in any of it."""
    return _chain(error, None, set())


def _chain(error: BaseException, words: TracebackException | None, seen: set[int]) -> tuple[list[Trace], bool]:
    """``words`` is what Python says of the same exception. It is made once for all: each contains those of its causes and parts."""
    seen.add(id(error))
    if words is None:
        from traceback import TracebackException

        words = TracebackException.from_exception(error, limit=0, lookup_lines=False, compact=True)  # frames are ours
    before, told, link = error.__cause__, words.__cause__, CAUSE
    if before is None and not error.__suppress_context__:
        before, told, link = error.__context__, words.__context__, CONTEXT
    chain: list[Trace] = []
    ours = False
    if before is not None and id(before) not in seen:
        chain, ours = _chain(before, told, seen)
    trace, here = _trace(error, words, seen)
    trace.link = link if chain else ""
    return [*chain, trace], ours or here


def _trace(error: BaseException, words: TracebackException, seen: set[int]) -> tuple[Trace, bool]:
    # A group is raised where a task group ends, which is machinery; other errors of a library come of what the user called.
    tb, ours = users_frames(error.__traceback__, below=isinstance(error, BaseExceptionGroup))
    trace = Trace(
        [Line(frame.filename, text) for frame, text in _formatted(tb if tb is not None else error.__traceback__)]
    )
    for text in words.format_exception_only():
        trace.message += text.rstrip("\n").split("\n")
    _take_spawn(trace)
    if isinstance(error, BaseExceptionGroup):
        parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
        told_of: Sequence[TracebackException | None] = words.exceptions or (None,) * len(parts)
        for part, told in zip(parts, told_of, strict=True):
            if id(part) not in seen:
                chain, inside = _chain(part, told, seen)
                trace.parts.append(chain)
                ours |= inside
    return trace, ours


def _formatted(tb: TracebackType | None) -> Iterator[tuple[Any, list[str]]]:
    """Each frame, and what Python prints for it."""
    import traceback

    for frame in traceback.extract_tb(tb):
        text = "".join(traceback.StackSummary.from_list([frame]).format())
        yield frame, text.rstrip("\n").split("\n")


def _take_spawn(trace: Trace) -> None:
    """Make a line of the last note that says where the error's task was spawned."""
    for index, text in enumerate(trace.message):
        found = SPAWNED.match(text)
        if found is not None:
            trace.spawn = spawn_line(found)
            del trace.message[index]
            return


def spawn_line(found: re.Match[str], *, source: bool = True) -> Line:
    """The note about a spawn as a line of a trace, with its source where that can be read."""
    import linecache

    file, number = found["file"], int(found["line"])
    text = [f'  File "{file}", line {number}, spawns task {found["task"]}']
    code = linecache.getline(file, number).strip() if source else ""
    return Line(file, [*text, f"    {code}"] if code else text)


# -- folding and printing --------------------------------------------------------------------------------------------------


def folded(trace: Trace) -> list[Trace]:
    """A group with one part, as one trace (after what that part came of); anything else, as it is."""
    if len(trace.parts) != 1:
        return [trace]
    *before, last = trace.parts[0]
    spawn = [last.spawn] if last.spawn is not None else []
    inner = Trace(
        [*trace.lines, *spawn, *last.lines], last.message, last.parts, last.link, trace.spawn, trace.folded + 1
    )
    chain = [*before, *folded(inner)]
    chain[0].link = trace.link
    return chain


def rendered(chain: list[Trace], indent: str = "", head: str = HEAD) -> Iterator[str]:
    """The lines of a chain of traces, each group with one part as one trace."""
    for trace in [each for one in chain for each in folded(one)]:
        if trace.link:
            yield from ("", indent + trace.link, "")
        if trace.lines or trace.spawn is not None:
            yield indent + head
        for line in ([trace.spawn] if trace.spawn is not None else []) + trace.lines:
            yield from (indent + text for text in line.text)
        yield from (indent + text for text in trace.message)
        if trace.folded and not trace.parts:
            yield f"{indent}(in {'a group' if trace.folded == 1 else f'{trace.folded} nested groups'}: `except*` catches it)"
        for number, part in enumerate(trace.parts, 1):
            yield f"{indent}  [{number} of {len(trace.parts)}]"
            yield from rendered(part, indent + "    ", "Traceback:")


def format_exception(error: BaseException) -> str:
    """The text of a traceback: the user's frames, groups folded; everything under ``BATEAU_TRACEBACK=full``."""
    import traceback

    if wants_full():
        return "".join(traceback.format_exception(error))
    return "\n".join(rendered(chain_of(error)[0])) + "\n"


# -- where a program ends with an error ------------------------------------------------------------------------------------


def show_at_the_end() -> None:
    """An error is leaving a program of bateau's: should nobody catch it, it is shown like this. Other errors are shown as ever."""
    if sys.excepthook is sys.__excepthook__ and not wants_full():
        sys.excepthook = _hook


def _hook(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    try:
        chain, ours = chain_of(error.with_traceback(tb))
        text = "\n".join(rendered(chain)) + "\n" if ours and not wants_full() else ""
        if text and sys.stderr is not None:  # there is none under pythonw
            sys.stderr.write(text)
            return
    except Exception:  # the error itself must not be lost behind one of ours: Python shows it
        pass
    sys.__excepthook__(kind, error, tb)
