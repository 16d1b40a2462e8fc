"""Comments that ignore a finding: ``# bateau: ignore[name, other]`` behind the code, or on a line of its own before it."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from .diagnostic import OWN_NAMES, Diagnostic

_COMMENT = re.compile(r"#\s*bateau:\s*ignore\b(?:\[(?P<names>[^\]]*)\])?")


@dataclass(slots=True)
class Ignore:
    """One comment. ``line``: the line of the code that it is about, ``at`` the comment's own."""

    at: int
    column: int
    line: int
    names: tuple[str, ...]
    used: set[str] = field(default_factory=set[str])


def ignores(text: str) -> list[Ignore]:
    """The comments of a file, which is Python (strings that look like one are none)."""
    if "bateau:" not in text:
        return []
    found: list[Ignore] = []
    waiting: list[Ignore] = []  # alone on their lines: the next code is meant
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            match = _COMMENT.search(token.string)
            if match is None:
                continue
            names = tuple(each.strip() for each in (match["names"] or "").split(",") if each.strip())
            line, column = token.start
            ignore = Ignore(line, column + match.start() + 1, line, names)
            found.append(ignore)
            if not token.line[:column].strip():
                waiting.append(ignore)
        elif token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            for each in waiting:
                each.line = token.start[0]
            waiting.clear()
    return found


def applied(found: list[Diagnostic], comments: list[Ignore]) -> list[Diagnostic]:
    """The findings that no comment ignores; the comments are marked as used."""
    if not comments:
        return found
    left: list[Diagnostic] = []
    for each in found:
        hits = [
            comment
            for comment in comments
            if each.name in comment.names and each.line <= comment.line <= max(each.line, each.end_line)
        ]
        for comment in hits:
            comment.used.add(each.name)
        if not hits:
            left.append(each)
    return left


def useless(path: str, comments: list[Ignore], known: Collection[str], ran: Collection[str]) -> Iterator[Diagnostic]:
    """A finding for each name in a comment that is no rule, or ignores nothing. Rules that did not run have no say."""
    for comment in comments:
        if not comment.names:
            yield _told(
                path, comment, "this comment names nothing that is to be ignored", "write `# bateau: ignore[name]`"
            )
        for name in comment.names:
            if name not in known and name not in OWN_NAMES:
                yield _told(path, comment, f"no rule is called `{name}`", f"there are: {', '.join(sorted(known))}")
            elif name in ran and name not in comment.used:
                yield _told(path, comment, f"there is no `{name}` here to be ignored", "remove the comment")


def _told(path: str, comment: Ignore, message: str, help: str) -> Diagnostic:
    return Diagnostic(path, comment.at, comment.column, "unused_ignore", message, help, end_line=comment.at)
