"""Where control goes: whether a block leaves, and what of it suspends the task that runs it. Nested functions are other code."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Any

_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
Loop = ast.While | ast.For | ast.AsyncFor


def nodes_of(roots: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Every node of some code, without what is in nested functions and classes."""
    stack = list(roots)
    while stack:
        node = stack.pop()
        if isinstance(node, _NESTED):
            continue
        yield node
        stack.extend(ast.iter_child_nodes(node))


def is_suspension(node: ast.AST) -> bool:
    """Whether a task may be suspended there: an await, or what awaits by its syntax."""
    if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
        return True
    return isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp) and any(
        each.is_async for each in node.generators
    )


def suspends(roots: Iterable[ast.AST]) -> ast.AST | None:
    """The first (in the text) suspension in some code, or None."""
    found = [node for node in nodes_of(roots) if is_suspension(node)]
    return min(found, key=lambda node: (getattr(node, "lineno", 0), getattr(node, "col_offset", 0)), default=None)


def raises(roots: Iterable[ast.AST]) -> bool:
    """Whether there is a ``raise`` in it, on whatever path."""
    return any(isinstance(node, ast.Raise) for node in nodes_of(roots))


def last(block: list[ast.stmt]) -> ast.stmt | None:
    """The statement after which control does not come to the end of the block, if there is one; else None."""
    return next((each for each in block if always_leaves(each)), None)


def always_leaves(node: ast.stmt) -> bool:
    """Whether control never reaches what stands behind this statement."""
    if isinstance(node, ast.Return | ast.Raise | ast.Break | ast.Continue):
        return True
    if isinstance(node, ast.If):
        return bool(node.orelse) and last(node.body) is not None and last(node.orelse) is not None
    if isinstance(node, ast.With | ast.AsyncWith):
        return last(node.body) is not None
    if isinstance(node, ast.Try):
        if last(node.finalbody) is not None:
            return True
        whole = last(node.body) is not None or (bool(node.orelse) and last(node.orelse) is not None)
        return whole and all(last(each.body) is not None for each in node.handlers)
    if isinstance(node, ast.While):
        return is_true(node.test) and not any(True for _ in breaks(node))
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _exits(node.value)


def _exits(call: ast.Call) -> bool:
    text = ast.unparse(call.func)
    return text in ("sys.exit", "os._exit", "exit", "quit", "pytest.fail", "pytest.skip") or text.endswith(
        (".exit", "._exit")
    )


def is_true(node: ast.expr) -> bool:
    """Whether a condition is always true, as written."""
    return isinstance(node, ast.Constant) and bool(node.value)


def breaks(loop: Loop) -> Iterator[ast.Break | ast.Return]:
    """The statements that leave this loop early: its own ``break``, and ``return`` anywhere in it."""
    stack: list[tuple[ast.AST, bool]] = [(each, True) for each in loop.body]
    while stack:
        node, own = stack.pop()
        if isinstance(node, _NESTED):
            continue
        if isinstance(node, ast.Return) or (own and isinstance(node, ast.Break)):
            yield node
        inner = own and not isinstance(node, ast.While | ast.For | ast.AsyncFor)
        stack.extend((each, inner) for each in ast.iter_child_nodes(node))


def block_of(node: ast.stmt, parent: ast.AST) -> tuple[str, list[ast.stmt]] | None:
    """The list of statements of ``parent`` in which ``node`` stands, with the field's name."""
    return next(((name, block) for name, block in blocks_of(parent) if any(each is node for each in block)), None)


def blocks_of(node: ast.AST) -> Iterator[tuple[str, list[ast.stmt]]]:
    """The lists of statements that stand in a node, with their fields' names; empty ones left out."""
    for name in ("body", "orelse", "finalbody"):
        block: Any = getattr(node, name, None)
        if block.__class__ is list and block:
            yield name, block


def reached_after(block: list[ast.stmt], node: ast.stmt) -> list[ast.stmt]:
    """The statements of ``block`` behind ``node``, up to the one after which control goes elsewhere (included)."""
    index = next(index for index, each in enumerate(block) if each is node)
    found: list[ast.stmt] = []
    for each in block[index + 1 :]:
        found.append(each)
        if always_leaves(each):
            break
    return found
