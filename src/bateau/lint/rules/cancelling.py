"""Cancellations that are caught, and not raised again."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ..diagnostic import Diagnostic
from ..flow import always_leaves, block_of, is_suspension, is_true, last, nodes_of, raises, reached_after, suspends
from ..knowledge import CANCELLATIONS
from ..module import Function, Module
from ..resolving import Project
from .base import Rule, async_functions, short

_LOGGING = frozenset("debug info warning error exception critical log print repr str format_exc print_exc type".split())


class SwallowedCancellation(Rule):
    """Who cancelled waits for a task that goes on."""

    name = "swallowed_cancellation"
    title = "A cancellation is swallowed"
    help = "clean up, then raise it again (a bare `raise`); or catch `Exception`, which a cancellation is not"
    why = (
        "A cancelled task that catches its cancellation and waits for something else does not end: timeouts are late, scopes and shutdowns hang. The rule "
        "tells of handlers of cancellations around an await of an operation, where control then comes to another await of the function: behind the handler, or in the "
        "loop's next turn. It keeps quiet where the handler raises on some path, leaves the function, or hands the exception on, and where the function cancels "
        "something itself and awaits it: then it is the other's cancellation that is caught."
    )
    bad = """\
import asyncio


async def poll():
    while True:
        try:
            await asyncio.sleep(1)
        except BaseException:
            print("failed")
"""
    good = """\
import asyncio


async def poll():
    while True:
        try:
            await asyncio.sleep(1)
        except Exception:
            print("failed")
"""

    def check(self, module: Module, project: Project) -> Iterator[Diagnostic]:
        """Handlers of cancellations that go on."""
        for function in async_functions(module):
            if not function.tries and not function.withs:
                continue
            for each in function.tries:
                handler = self._catching(each, function, project)
                wait = _awaited(each.body)
                if wait is None or handler is None:
                    continue
                if self._swallows(each, handler, wait, function, module, project):
                    caught = "a bare `except`" if handler.type is None else f"`except {short(handler.type)}`"
                    yield self.found(
                        module,
                        handler,
                        f"{caught} also catches the cancellation of `{short(wait)}`, and `{function.name.rpartition('.')[2]}` goes on",
                    )
            yield from self._suppressed(module, project, function)

    def _catching(self, node: ast.Try, function: Function, project: Project) -> ast.ExceptHandler | None:
        """The handler that a cancellation comes to."""
        for handler in node.handlers:
            if handler.type is None or any(_is_cancellation(each, function, project) for each in _types(handler.type)):
                return handler
        return None

    def _swallows(
        self,
        node: ast.Try,
        handler: ast.ExceptHandler,
        wait: ast.AST,
        function: Function,
        module: Module,
        project: Project,
    ) -> bool:
        if raises(handler.body) or raises(node.finalbody) or _hands_on(handler) or _remembers(handler, function):
            return False
        by_name = handler.type is not None and not _is_any(handler.type, function, project)
        if _cancels_others(function, wait, by_name=by_name):
            return False
        leaving = last(handler.body)
        if leaving is not None and not isinstance(leaving, ast.Continue | ast.Break):
            return False  # by return, by exit
        if last(node.finalbody) is not None:
            return False
        return _goes_on(node, leaving, function, module, by_name=by_name)

    def _suppressed(self, module: Module, project: Project, function: Function) -> Iterator[Diagnostic]:
        for block in function.withs:
            if not isinstance(block, ast.With) or len(block.items) != 1:
                continue
            call = block.items[0].context_expr
            if not isinstance(call, ast.Call) or project.name_of(call.func, function.scope) != "contextlib.suppress":
                continue
            wait = _awaited(block.body)
            caught = [each for each in call.args if _is_cancellation(each, function, project)]
            if wait is None or not caught:
                continue
            by_name = not any(_is_any(each, function, project) for each in caught)
            if not _cancels_others(function, wait, by_name=by_name) and _goes_on(
                block, None, function, module, by_name=by_name
            ):
                yield self.found(
                    module,
                    block,
                    f"`{short(call)}` also suppresses the cancellation of `{short(wait)}`, and `{function.name.rpartition('.')[2]}` goes on",
                )


def _types(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


def _is_cancellation(node: ast.expr, function: Function, project: Project) -> bool:
    if isinstance(node, ast.Call):
        return project.name_of(node.func, function.scope) == "anyio.get_cancelled_exc_class"
    return project.name_of(node, function.scope) in CANCELLATIONS


def _is_any(node: ast.expr, function: Function, project: Project) -> bool:
    return any(project.name_of(each, function.scope) == "builtins.BaseException" for each in _types(node))


def _awaited(body: list[ast.stmt]) -> ast.AST | None:
    """The first suspension of the block; None where a name is awaited in it, which may be a task that was cancelled, and not this one."""
    if any(isinstance(node, ast.Await) and not isinstance(node.value, ast.Call) for node in nodes_of(body)):
        return None
    return suspends(body)


def _cancels_others(function: Function, wait: ast.AST, *, by_name: bool) -> bool:
    """Whether the cancellation that is caught may be one that the function itself sent, or takes back."""
    for node in nodes_of(function.body):
        if isinstance(node, ast.Attribute) and node.attr in ("uncancel", "exc_info"):
            return True
        if (
            isinstance(node, ast.Attribute)
            and by_name
            and node.attr in ("cancel", "cancelled", "cancelling", "cancel_called", "gather")
        ):
            return True
    if not by_name or not isinstance(wait, ast.Await) or not isinstance(wait.value, ast.Call):
        return False
    # `await asyncio.wait_for(task, 1)`, `await asyncio.shield(task)`: the cancellation may be the task's
    called = wait.value.func
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name in ("wait_for", "shield", "wrap_future", "join", "wait") and any(
        not isinstance(each, ast.Call) for each in wait.value.args
    )


def _hands_on(handler: ast.ExceptHandler) -> bool:
    """Whether the handler gives the exception to somebody: to a future, a list, a function that is not a log."""
    if any(
        isinstance(node, ast.Attribute) and node.attr in ("set_exception", "throw", "__exit__", "__aexit__")
        for node in nodes_of(handler.body)
    ):
        return True
    if not handler.name:
        return False
    told: set[ast.AST] = set()
    for node in nodes_of(handler.body):
        if isinstance(node, ast.Call):
            called = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else node.func.id
                if isinstance(node.func, ast.Name)
                else ""
            )
            if called in _LOGGING:
                told.update(
                    each
                    for argument in (*node.args, *(word.value for word in node.keywords))
                    for each in ast.walk(argument)
                )
    return any(
        isinstance(node, ast.Name) and node.id == handler.name and node not in told for node in nodes_of(handler.body)
    )


def _remembers(handler: ast.ExceptHandler, function: Function) -> bool:
    """Whether the handler notes what happened in a name or an attribute that some condition of the function asks for."""
    noted: set[str] = set()
    for node in nodes_of(handler.body):
        if isinstance(node, ast.Assign):
            noted.update(ast.unparse(target) for target in node.targets if isinstance(target, ast.Name | ast.Attribute))
    if not noted:
        return False
    for node in nodes_of(function.body):
        if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Match):
            test = node.subject if isinstance(node, ast.Match) else node.test
            asked = {ast.unparse(each) for each in ast.walk(test) if isinstance(each, ast.Name | ast.Attribute)}
            if asked & noted:
                return True
    return False


def _goes_on(node: ast.stmt, leaving: ast.stmt | None, function: Function, module: Module, *, by_name: bool) -> bool:
    """Whether control comes to another wait of the function after the handler of ``node`` (which ended with ``leaving``, or at its end)."""
    current: ast.stmt = node
    jump = leaving
    while True:
        parent = module.parents.get(current)
        if parent is None:
            return False
        place = block_of(current, parent)
        if place is None and isinstance(parent, ast.ExceptHandler | ast.match_case):
            place = "body", parent.body
        if place is not None and jump is None:
            after = reached_after(place[1], current)
            waits = [each for each in nodes_of(after) if is_suspension(each)]
            # by name it was caught on purpose: one wait more is the clean-up with which the function ends
            if len(waits) > (1 if by_name else 0) or any(
                isinstance(each, ast.While | ast.AsyncFor) for each in nodes_of(after) if waits
            ):
                return True
            if after and always_leaves(after[-1]):
                if not isinstance(after[-1], ast.Continue | ast.Break):
                    return False
                jump = after[-1]
        if isinstance(parent, ast.While | ast.For | ast.AsyncFor) and place is not None and place[0] == "body":
            if isinstance(jump, ast.Break):
                jump = None
            elif not by_name or not isinstance(parent, ast.While) or is_true(parent.test):
                return True
            else:
                jump = None  # `while self.running`: who cancelled may have ended the loop by it
        if parent is function.node or not isinstance(parent, ast.stmt | ast.ExceptHandler | ast.match_case):
            return False
        if isinstance(parent, ast.ExceptHandler | ast.match_case):
            outer = module.parents.get(parent)
            if not isinstance(outer, ast.stmt):
                return False
            current = outer
        else:
            current = parent
