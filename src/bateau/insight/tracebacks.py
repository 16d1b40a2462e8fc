"""Tracebacks as a person wants to see them: of an exception at hand, and of a trace that was pasted as text.

``format_exception`` and ``trim`` give the same: the user's frames, groups with one part as one trace, spawn sites (see
``kernel.tracebacks``). A pasted trace may stand in the middle of a log; what is around it is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..kernel.tracebacks import (
    CAUSE,
    CONTEXT,
    LOOPS,
    RUNNERS,
    SPAWNED,
    Line,
    Trace,
    format_exception,
    rendered,
    spawn_line,
)

__all__ = ["format_exception", "trim"]

_FRAME = re.compile(r'^  File "(?P<file>[^"]*)", line \d+(?:, (?:in|spawns task) .*)?$')
_HEADS = ("Traceback (most recent call last", "Exception Group Traceback (most recent call last")
_HEAD = re.compile(
    r"^(?P<prefix>[> \t]*?)(?:Traceback|  \+ Exception Group Traceback|\+ Exception Group Traceback) \(most recent call last"
)
_LINKS = (CAUSE, CONTEXT)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Python's drawing of groups: a bar before each line, a head with a plus, the number of each part.
_PART = re.compile(r"^(?P<indent> *)\+(?:-\+)?-+ (?:\d+|\.\.\.) -+$")
_CLOSE = re.compile(r"^ *\+-+$")
_GROUP = re.compile(r"^(?P<indent> *)\+ (?P<text>Exception Group Traceback \(most recent call last.*)$")
_BAR = re.compile(r"^(?P<indent> *)\| ?(?P<text>.*)$")
# What is machinery wherever it was installed: a package's folder below any site-packages, or a standard library.
_MACHINERY = re.compile(
    r"(?:^|[/\\])(?:(?:site|dist)-packages|src|lib[/\\]python3\.\d+|Lib)[/\\](?:bateau|"
    + "|".join(LOOPS)
    + r")(?:[/\\]|\.py$)"
    r"|^<frozen (?:runpy|importlib)|^uvloop/"
)
_BATEAU = re.compile(r"[/\\](?:(?:site|dist)-packages|src)[/\\]bateau[/\\]")
_CLI = re.compile(r"[/\\]bateau[/\\]cli[/\\]")


def trim(text: str) -> str:
    """``text`` with each traceback in it shown as ``format_exception`` would: for one from an issue, a log, another machine.

    Knows the frames of bateau, asyncio, trio and anyio by where they were installed. A traceback of which nothing would be left is
    left as it is.
    """
    lines = _COLOURS.sub("", text).splitlines()
    out: list[str] = []
    at = 0
    while at < len(lines):
        head = _HEAD.match(lines[at])
        if head is None:
            out.append(lines[at])
            at += 1
            continue
        # Quoted or indented as a whole: what stands before the head stands before each line.
        prefix = head["prefix"]
        end = at
        while end < len(lines) and (lines[end].startswith(prefix) or lines[end] == prefix.rstrip()):
            end += 1
        chain, used = _Parser([line[len(prefix) :] for line in lines[at:end]], 0).chain()
        shown = list(rendered(chain, head="Traceback (most recent call last):"))
        out += [(prefix + line).rstrip() for line in shown] if shown else lines[at : at + used]
        at += used
    return "\n".join(out) + ("\n" if text.endswith("\n") else "")


@dataclass
class _Level:
    """The lines of one exception or chain of them, without the bars; an item that is no line is the parts of the group above it."""

    items: list[str | list[_Level]] = field(default_factory=list["str | list[_Level]"])


class _Parser:
    """Takes the drawing of groups apart, then each exception."""

    def __init__(self, lines: list[str], start: int) -> None:
        self.lines = lines
        self.at = start

    def chain(self) -> tuple[list[Trace], int]:
        """The chain of traces that begins here, and the line after it."""
        level = self._level(-1)
        return _traces(level), self.at

    def _level(self, indent: int) -> _Level:
        """All lines that belong to an exception whose bar stands in column ``indent`` (-1: no bar yet)."""
        level = _Level()
        outermost = indent < 0
        after_message = False
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if (found := _GROUP.match(line)) is not None and (outermost or len(found["indent"]) == indent):
                indent = len(found["indent"])
                level.items.append(found["text"])
            elif (found := _PART.match(line)) is not None:
                if outermost and len(found["indent"]) != indent:
                    break
                if not outermost and len(found["indent"]) < indent:
                    break
                if not outermost and len(found["indent"]) == indent and "+-+" not in line:
                    break  # the next part of the group around
                level.items.append(self._parts(len(found["indent"]) + 2))
                continue
            elif _CLOSE.match(line) is not None and not outermost:
                break
            elif (found := _BAR.match(line)) is not None and len(found["indent"]) == indent:
                level.items.append(found["text"])
            elif outermost and (
                indent < 0 or after_message or not line.strip() or line.startswith(_HEADS) or line in _LINKS
            ):
                if not self._goes_on(level, line):
                    break
                level.items.append(line)
            else:
                break
            self.at += 1
        return level

    def _parts(self, indent: int) -> list[_Level]:
        parts: list[_Level] = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            found = _PART.match(line)
            if found is not None and (not parts or len(found["indent"]) == indent):
                self.at += 1
                parts.append(self._level(indent))
            elif parts and _CLOSE.match(line) is not None:
                self.at += 1
                break
            else:
                break
        return parts

    def _goes_on(self, level: _Level, line: str) -> bool:
        """Of lines without a bar: whether this one belongs to the chain that has begun."""
        if not level.items or line.startswith("  ") or line.startswith(_HEADS) or line in _LINKS:
            return True
        last = level.items[-1]
        if not line.strip():  # between the links of a chain
            following = next((each for each in self.lines[self.at + 1 : self.at + 4] if each.strip()), "")
            return following in _LINKS or (isinstance(last, str) and last in _LINKS)
        if isinstance(last, list):
            return False
        # The message comes right after the frames; notes of ours after it.
        return last.startswith("  ") or SPAWNED.match(line) is not None


def _traces(level: _Level) -> list[Trace]:
    """The chain of exceptions in these lines."""
    chain: list[Trace] = []
    link = ""
    for items in _split(level.items):
        if len(items) == 1 and isinstance(items[0], str) and items[0] in _LINKS:
            link = items[0]
            continue
        trace = _trace(items)
        if trace is not None:
            trace.link = link if chain else ""
            link = ""
            chain.append(trace)
    return chain


def _split(items: list[str | list[_Level]]) -> Iterator[list[str | list[_Level]]]:
    """The items of each exception, and the links between them by themselves."""
    here: list[str | list[_Level]] = []
    for item in items:
        if isinstance(item, str) and item.strip() in _LINKS:
            yield here
            yield [item.strip()]
            here = []
        else:
            here.append(item)
    yield here


def _trace(items: list[str | list[_Level]]) -> Trace | None:
    frames: list[Line] = []
    trace = Trace()
    in_message = False
    for item in items:
        if isinstance(item, list):
            trace.parts += [chain for each in item if (chain := _traces(each))]
        elif item.startswith(_HEADS):
            continue
        elif (found := _FRAME.match(item)) is not None and not in_message:
            frames.append(Line(found["file"], [item]))
        elif item.startswith(("    ", "  [Previous line repeated")) and frames and not in_message:
            frames[-1].text.append(item)
        elif (found := SPAWNED.match(item)) is not None and trace.spawn is None:
            trace.spawn = spawn_line(found, source=False)
        elif item.strip() or in_message:
            in_message = True
            trace.message.append(item)
    while trace.message and not trace.message[-1].strip():
        trace.message.pop()
    if not frames and not trace.message:
        return None
    kept = list(_users(frames))
    while trace.parts and kept and _MACHINERY.search(kept[-1].file):
        kept.pop()  # where a task group raises
    trace.lines = kept or frames
    return trace


def _users(frames: list[Line]) -> Iterator[Line]:
    """The user's frames: without bateau's, and without those of loops that stand above the user's, or between them and the line that
    started the loop. What a library was called for, and failed in, stays.
    """
    start = max((index for index, line in enumerate(frames) if _CLI.search(line.file)), default=-1) + 1
    machinery = True
    running: list[Line] = []  # of a loop that was started, as long as nobody's code has followed
    for line in frames[start:]:
        if _BATEAU.search(line.file):
            machinery = True
        elif _MACHINERY.search(line.file):
            if running or (not machinery and RUNNERS.search(line.file)):
                running.append(line)
            elif not machinery and not line.file.startswith("<frozen "):
                yield line
        else:
            machinery = False
            running.clear()
            if not line.file.startswith("<frozen "):
                yield line
    yield from running
