"""Functions that never wait, and loops that wait for nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ..diagnostic import Diagnostic
from ..flow import nodes_of
from ..knowledge import SLEEPS, YIELDS
from ..module import Function, Module
from ..resolving import Project
from .base import Rule, async_functions, constant, scope_of, short


class NeverWaits(Rule):
    """Async, and nothing in it ever suspends."""

    name = "never_waits"
    title = "Async, and never waits"
    help = "make it a plain function, or a callback's adapter where one must be async"
    why = (
        "An async function without an await gives others no chance to run, and costs a coroutine for each call. That is legal, and often asked for by an "
        "interface, so the rule is a list to look through and runs only where it is selected. Left out: methods of classes with bases, decorated functions, "
        "functions that are handed to somebody, generators, stubs and tests."
    )
    bad = """\
async def double(x):
    return 2 * x


async def main():
    return await double(2)
"""
    good = """\
def double(x):
    return 2 * x


def main():
    return double(2)
"""
    default = False

    def check(self, module: Module, project: Project) -> Iterator[Diagnostic]:
        """Async functions without an await, whose being async nothing in sight asks for."""
        handed = self._handed_on(module)
        for function in async_functions(module):
            node = function.node
            assert isinstance(node, ast.AsyncFunctionDef)
            if function.suspensions or function.yields or node.decorator_list or node.name in handed:
                continue
            if node.name.startswith(("test_", "__")) or _is_stub(function):
                continue
            if function.cls is not None and (function.cls.node.bases or function.cls.node.keywords):
                continue
            if any(
                isinstance(each, ast.GeneratorExp) and any(part.is_async for part in each.generators)
                for each in nodes_of(node.body)
            ):
                continue
            yield self.found(module, node, f"async function `{function.name}` never waits: there is no await in it")

    def _handed_on(self, module: Module) -> set[str]:
        """The names of functions that are used in the file otherwise than by calling them."""
        found: set[str] = set()
        for function in module.functions:
            for node in function.loads:
                parent = module.parents.get(node)
                if not (isinstance(parent, ast.Call) and parent.func is node):
                    found.add(node.attr if isinstance(node, ast.Attribute) else node.id)
        return found


def _is_stub(function: Function) -> bool:
    body = [each for each in function.body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))]
    return not body or all(isinstance(each, ast.Pass | ast.Raise) for each in body)


class SelfWakes(Rule):
    """All it does is to be run again."""

    name = "self_wakes"
    title = "A loop that polls"
    help = "wait for what it polls for: an `Event`, a `Condition`, a channel"
    why = (
        "A loop that only lets others run, until something has changed, keeps the processor busy for as long as it lasts, and the loop from sleeping. "
        "The rule tells of `while` loops with nothing in them but such a yield; one that sleeps for some time between is not told."
    )
    bad = """\
import asyncio

ready = []


async def consume():
    while not ready:
        await asyncio.sleep(0)
    return ready.pop()
"""
    good = """\
import asyncio

ready = asyncio.Queue(10)


async def consume():
    return await ready.get()
"""

    def check(self, module: Module, project: Project) -> Iterator[Diagnostic]:
        """Loops whose whole body is a yield."""
        for function in async_functions(module):
            for loop in function.loops:
                if not isinstance(loop, ast.While):
                    continue
                body = [each for each in loop.body if not isinstance(each, ast.Pass)]
                waits = [self._yield(each, function, project) for each in body]
                if body and all(each is not None for each in waits):
                    yield self.found(
                        module,
                        loop,
                        f"`while {short(loop.test)}` polls: `{short(body[0])}` only lets others run, and it is run again at once",
                    )

    def _yield(self, statement: ast.stmt, function: Function, project: Project) -> str | None:
        if not (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Await)
            and isinstance(statement.value.value, ast.Call)
        ):
            return None
        call = statement.value.value
        name = project.name_of(call.func, scope_of(function, call))
        if name in YIELDS or (name in SLEEPS and len(call.args) == 1 and constant(call.args[0]) == 0):
            return name
        return None
