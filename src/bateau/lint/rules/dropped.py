"""What is made and then dropped: coroutines, tasks, and what has to be closed."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ..diagnostic import Diagnostic
from ..flow import breaks, nodes_of
from ..knowledge import CLOSING, COROUTINE_METHODS, COROUTINES, OPENED_BY_AWAIT, OPENED_BY_CALL
from ..module import Function, Module
from ..resolving import Project
from .base import Rule, async_functions, is_expected, scope_of, short


class NeverAwaited(Rule):
    """Nothing happens."""

    name = "never_awaited"
    title = "Never awaited"
    help = "await it, or hand it to `scope.spawn`"
    why = (
        "Calling an async function makes a coroutine and runs nothing of it. As a statement the call does nothing; as a condition it is always "
        "true. The rule knows the async functions of the project (also those imported from its other files, and methods of its classes), unless "
        "they are decorated, and those of asyncio, trio, anyio and bateau."
    )
    bad = """\
async def save(row): ...


async def main():
    save(1)
"""
    good = """\
async def save(row): ...


async def main():
    await save(1)
"""

    def check(self, module: Module, project: Project) -> Iterator[Diagnostic]:
        """Statements and conditions that are a call of an async function."""
        for function in module.functions:
            for call in function.calls:
                parent = module.parents.get(call)
                statement = isinstance(parent, ast.Expr)
                if not statement and not _is_condition(call, parent):
                    continue
                what = self._coroutine(call, function, project)
                if what is None or is_expected(module, call):
                    continue
                if statement:
                    message = f"`{short(call)}` is not awaited: {what}, so nothing of it runs"
                else:
                    message = f"`{short(call)}` is not awaited: {what}, and what it gives is always true"
                await_it = f"await {ast.unparse(call)}"
                fix = await_it if function.is_async and len(await_it) <= 80 and "\n" not in await_it else ""
                yield self.found(module, call, message, suggestion=fix)

    def _coroutine(self, call: ast.Call, function: Function, project: Project) -> str | None:
        scope = scope_of(function, call)
        targets = project.called(call, scope)
        if targets:
            if not all(each.is_async for each in targets) or len(targets) != len(project.meant(call.func, scope)):
                return None
            target = targets[0]
            kind = "async generator" if target.is_generator else "async function"
            line = getattr(target.node, "lineno", 1)
            return f"`{target.name}` is an {kind} ({target.module.shown}:{line})"
        name = project.name_of(call.func, scope)
        if name in COROUTINES:
            return f"`{name}` is awaited"
        if name is None and isinstance(call.func, ast.Attribute):
            of = project.type_of(call.func.value, scope)
            if of is not None and call.func.attr in COROUTINE_METHODS.get(of, ()):
                return f"`{of}.{call.func.attr}` is awaited"
        return None


def _is_condition(call: ast.Call, parent: ast.AST | None) -> bool:
    if isinstance(parent, ast.UnaryOp):
        return isinstance(parent.op, ast.Not)
    if isinstance(parent, ast.If | ast.While | ast.IfExp | ast.Assert):
        return parent.test is call
    return False


class LeftoverTask(Rule):
    """Nobody waits for it, nobody sees its error, and the collector may take it."""

    name = "leftover_task"
    title = "Task made and dropped"
    help = "spawn it in a scope (`scope.spawn(fn)`), or keep it and await it"
    why = (
        "asyncio refers to its tasks weakly: one that nobody keeps may be collected in the middle of its work. Its error is seen by nobody, and at the "
        "program's end it is cancelled, or forgotten. In a scope, a task is kept, awaited, and its error raised."
    )
    bad = """\
import asyncio


async def work(): ...


async def main():
    asyncio.create_task(work())
"""
    good = """\
import asyncio


async def work(): ...


async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(work())
"""

    def check(self, module: Module, project: Project) -> Iterator[Diagnostic]:
        """Statements that are a call of ``create_task`` or ``ensure_future``."""
        for function in module.functions:
            for call in function.calls:
                if not isinstance(module.parents.get(call), ast.Expr):
                    continue
                scope = scope_of(function, call)
                name = project.name_of(call.func, scope)
                if name is None and isinstance(call.func, ast.Attribute) and call.func.attr == "create_task":
                    kind = project.type_of(call.func.value, scope)
                    name = "asyncio.create_task" if kind == "asyncio.AbstractEventLoop" else None
                made = bool(call.args) and isinstance(
                    call.args[0], ast.Call
                )  # a future of somebody else is not made here
                if name == "asyncio.create_task" or (name == "asyncio.ensure_future" and made):
                    yield self.found(
                        module,
                        call,
                        f"the task of `{short(call)}` is dropped: it may be collected while it works, and its error is lost",
                    )


class DroppedWithoutClose(Rule):
    """Closed by the garbage collector at best."""

    name = "dropped_without_close"
    title = "Opened and never closed"
    help = "use `async with`, `contextlib.aclosing`, or `scope.own(...)`"
    why = (
        "Streams, files, clients and processes stay open until the garbage collector comes by, and what they had buffered is lost. The rule tells of what is "
        "opened and dropped in one expression, and of a local name that is only ever read from or written to: never closed, returned, stored, handed to "
        "anybody. An async generator that holds something open (`with`, `finally`) and is left by `break` or `return` keeps it open in the same way."
    )
    bad = """\
import bateau


async def head(host):
    stream = await bateau.net.connect_tcp(host, 80)
    await stream.sendall(b"HEAD / HTTP/1.0")
    print(await stream.recv(100))
"""
    good = """\
import bateau


async def head(host):
    async with await bateau.net.connect_tcp(host, 80) as stream:
        await stream.sendall(b"HEAD / HTTP/1.0")
        print(await stream.recv(100))
"""

    def check(self, module: Module, project: Project) -> Iterator[Diagnostic]:
        """Openings whose result is dropped, and async generators that are left early."""
        for function in async_functions(module):
            uses: dict[str, list[ast.Name]] | None = None
            for call in function.calls:
                opened = self._opened(call, function, project)
                if opened is None:
                    continue
                parent = module.parents.get(opened)
                if isinstance(parent, ast.Expr):
                    if is_expected(module, call):
                        continue
                    yield self.found(module, call, f"`{short(call)}` is opened, and dropped open")
                elif isinstance(parent, ast.Attribute) and parent.attr not in CLOSING:
                    yield self.found(
                        module, call, f"`{short(call)}` is opened for `.{parent.attr}` alone, and stays open"
                    )
                elif (
                    isinstance(parent, ast.Assign)
                    and len(parent.targets) == 1
                    and isinstance(parent.targets[0], ast.Name)
                ):
                    name = parent.targets[0].id
                    if uses is None:
                        uses = _uses(function)
                    if self._stays_open(name, function, module, uses):
                        yield self.found(module, call, f"`{name}` is opened here, and nothing closes it")
            yield from self._generators(module, project, function)

    def _opened(self, call: ast.Call, function: Function, project: Project) -> ast.expr | None:
        """The expression that is the open thing, if the call opens one."""
        name = project.name_of(call.func, scope_of(function, call))
        if name in OPENED_BY_CALL:
            return call
        parent = function.module.parents.get(call)
        return parent if name in OPENED_BY_AWAIT and isinstance(parent, ast.Await) else None

    def _stays_open(self, name: str, function: Function, module: Module, uses: dict[str, list[ast.Name]]) -> bool:
        bindings = function.scope.names.get(name)
        if bindings is None or len(bindings) != 1 or name in function.scope.elsewhere:
            return False
        for node in uses.get(name, ()):
            parent = module.parents.get(node)
            if not isinstance(parent, ast.Attribute) or parent.attr in CLOSING:
                return False
            grand = module.parents.get(parent)
            if not (isinstance(grand, ast.Call) and grand.func is parent):
                return False  # an attribute of it is handed on
        return not any(
            name in {each.id for each in ast.walk(inner.node) if isinstance(each, ast.Name)} for inner in function.inner
        )

    def _generators(self, module: Module, project: Project, function: Function) -> Iterator[Diagnostic]:
        for loop in function.loops:
            if not isinstance(loop, ast.AsyncFor) or not isinstance(loop.iter, ast.Call):
                continue
            targets = project.called(loop.iter, function.scope)
            if len(targets) != 1 or not (targets[0].is_async and targets[0].is_generator) or not _holds(targets[0]):
                continue
            left = next(breaks(loop), None)
            if left is not None:
                word = "break" if isinstance(left, ast.Break) else "return"
                yield self.found(
                    module,
                    loop.iter,
                    f"`{short(loop.iter)}` is left by `{word}` at line {left.lineno}, and what it holds stays open until the garbage collector comes by",
                    help=f"use `async with contextlib.aclosing({short(loop.iter)}) as items:` and loop over `items`",
                )


def _uses(function: Function) -> dict[str, list[ast.Name]]:
    found: dict[str, list[ast.Name]] = {}
    for node in function.loads:
        if isinstance(node, ast.Name):
            found.setdefault(node.id, []).append(node)
    return found


def _holds(function: Function) -> bool:
    """Whether a generator is suspended at some ``yield`` with something to do at its end."""
    for node in nodes_of(function.body):
        inside = node.body if isinstance(node, ast.With | ast.AsyncWith) else []
        if isinstance(node, ast.Try) and node.finalbody:
            inside = node.body
        if any(isinstance(each, ast.Yield) for each in nodes_of(inside)):
            return True
    return False
