"""What a rule is: a hazard's name, a check of one file, and the words to tell of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import ClassVar

from ..diagnostic import Diagnostic, position
from ..module import Function, Module, Scope
from ..resolving import Project


class Rule:
    """One rule. ``name`` is the hazard's that it finds before the run.

    ``title``: the fault in a few words. ``help``: what to do, unless the place says better. ``why``: for ``--explain``, why it is a fault and
    when the rule keeps quiet. ``bad`` and ``good``: a small file each, in which it finds something, and the same mended.
    ``default``: whether it is among the rules that run unless others are selected.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    help: ClassVar[str]
    why: ClassVar[str]
    bad: ClassVar[str]
    good: ClassVar[str]
    default: ClassVar[bool] = True

    def check(self, module: Module, project: Project) -> Iterator[Diagnostic]:
        """What it finds in a file."""
        raise NotImplementedError

    def found(
        self,
        module: Module,
        node: ast.expr | ast.stmt | ast.excepthandler,
        message: str,
        *,
        help: str = "",
        suggestion: str = "",
        notes: tuple[str, ...] = (),
    ) -> Diagnostic:
        """The finding that ``node`` is at fault."""
        line, column, end = position(node)
        return Diagnostic(module.shown, line, column, self.name, message, help or self.help, suggestion, notes, end)


def async_functions(module: Module) -> Iterator[Function]:
    """The functions of a file that are written ``async def``."""
    return (each for each in module.functions if each.is_async)


def scope_of(function: Function, call: ast.Call) -> Scope:
    """The names that a call of this function sees."""
    return function.scopes.get(call, function.scope)


def short(node: ast.AST, limit: int = 60) -> str:
    """Code as one line for a message."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """The argument of that name, if it is written out."""
    return next((each.value for each in call.keywords if each.arg == name), None)


def constant(node: ast.expr | None) -> object:
    """The value of a literal; None for anything else."""
    return node.value if isinstance(node, ast.Constant) else None


_EXPECTING = frozenset(
    "raises warns RaisesGroup assertRaises assertRaisesRegex assertWarns assertWarnsRegex deprecated_call".split()
)


def is_expected(module: Module, node: ast.AST) -> bool:
    """Whether a test says that the code fails (`with pytest.raises(...)`): then nothing comes of it that could be dropped."""
    for outer in module.ancestors(node):
        if isinstance(outer, ast.With | ast.AsyncWith):
            for item in outer.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute | ast.Name):
                    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
                    if name in _EXPECTING:
                        return True
    return False
