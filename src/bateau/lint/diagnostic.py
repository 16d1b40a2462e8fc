"""What lint says: one finding at one place in a file, and what to write instead."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from .flow import blocks_of


def chapter_of(name: str) -> str:
    """Where the documentation explains what ``name`` names."""
    page = "linting" if name in OWN_NAMES else "hazards"
    return f"docs/{page}.md#{name}"


# What is about the text that lint reads, and not a hazard of the program.
OWN_NAMES = {
    "syntax_error": "The file is not Python of the version that runs lint, so nothing in it was looked at.",
    "unused_ignore": "A comment `# bateau: ignore[name]` names no rule, or stands where that rule finds nothing.",
}


@dataclass(frozen=True, order=True, slots=True)
class Diagnostic:
    """One finding. Lines and columns count from 1; ``end_line`` is the last line on which a comment can ignore it.

    ``help``: what to do, in general or at this place. ``suggestion``: the text to write instead of the code at fault, where that
    is known; "" otherwise. ``notes``: further places that have a part in it, in words that begin with ``path:line``.
    """

    path: str
    line: int
    column: int
    name: str
    message: str
    help: str = ""
    suggestion: str = ""
    notes: tuple[str, ...] = ()
    end_line: int = 0

    @property
    def chapter(self) -> str:
        """Where the documentation explains it."""
        return chapter_of(self.name)


def position(node: ast.expr | ast.stmt | ast.excepthandler) -> tuple[int, int, int]:
    """First line, column (from 1) and last line of the code that a finding about ``node`` is about: of a block, its header."""
    end = node.end_lineno or node.lineno
    if isinstance(node, ast.stmt | ast.excepthandler):
        first = next((line for _, block in blocks_of(node) for line in (block[0].lineno,)), end + 1)
        end = max(node.lineno, first - 1)
    return node.lineno, node.col_offset + 1, end
