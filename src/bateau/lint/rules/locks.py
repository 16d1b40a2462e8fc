"""Locks held while a task waits: one for threads over an await, one for tasks over a wait for the outside."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ..diagnostic import Diagnostic
from ..flow import blocks_of, nodes_of, suspends
from ..knowledge import CLIENTS, EXCHANGES, OUTSIDE, SLEEPS, TASK_LOCKS, THREAD_LOCKS
from ..module import Function, Module
from ..resolving import Project
from .base import Rule, async_functions, constant, short


class ThreadLockAcrossAwait(Rule):
    """The next one to want it blocks the loop."""

    name = "thread_lock_across_await"
    title = "Thread lock held across an await"
    help = "use `bateau.sync.Lock` with `async with`, or release the thread's lock before the await"
    why = (
        "A lock for threads that is held while its task is suspended blocks the whole loop as soon as another task of this loop wants it: the "
        "holder, which would release it, can't run either. The rule knows a lock by how it was made or annotated "
        "(`threading` and `multiprocessing`), and keeps quiet where the block releases it before the await."
    )
    bad = """\
import asyncio
import threading

lock = threading.Lock()


async def update(value):
    with lock:
        await asyncio.sleep(1)
"""
    good = """\
import asyncio
import threading

lock = threading.Lock()


async def update(values, value):
    with lock:
        values.append(value)
    await asyncio.sleep(1)
"""

    def check(self, module: Module, project: Project) -> Iterator[Diagnostic]:
        """Blocks of ``with``, and pairs of ``acquire`` and ``release`` in one block."""
        for function in async_functions(module):
            for block in function.withs:
                if isinstance(block, ast.With):
                    yield from self._held(module, project, function, block)
            if ".acquire" not in module.text:
                continue
            for node in nodes_of(function.body):
                for _, statements in blocks_of(node):
                    yield from self._between(module, project, function, statements)
            yield from self._between(module, project, function, function.body)

    def _held(self, module: Module, project: Project, function: Function, block: ast.With) -> Iterator[Diagnostic]:
        for item in block.items:
            kind = project.type_of(item.context_expr, function.scope)
            if kind not in THREAD_LOCKS:
                continue
            lock = ast.unparse(item.context_expr)
            wait = suspends(block.body)
            if wait is not None and not _releases(block.body, lock):
                yield self._tell(module, block, kind, lock, wait)

    def _between(
        self, module: Module, project: Project, function: Function, statements: list[ast.stmt]
    ) -> Iterator[Diagnostic]:
        for index, statement in enumerate(statements):
            receiver = _method(statement, "acquire")
            if receiver is None:
                continue
            kind = project.type_of(receiver, function.scope)
            if kind not in THREAD_LOCKS:
                continue
            lock = ast.unparse(receiver)
            for later in statements[index + 1 :]:
                if _releases([later], lock):
                    wait = (
                        suspends(later.body)
                        if isinstance(later, ast.Try) and _releases(later.finalbody, lock)
                        else None
                    )
                    if wait is not None and not _releases(getattr(later, "body", []), lock):
                        yield self._tell(module, statement, kind, lock, wait)
                    break
                wait = suspends([later])
                if wait is not None:
                    if any(_releases([each], lock) for each in statements[index + 1 :]):
                        yield self._tell(module, statement, kind, lock, wait)
                    break

    def _tell(self, module: Module, node: ast.stmt, kind: str, lock: str, wait: ast.AST) -> Diagnostic:
        what = "await" if isinstance(wait, ast.Await) else "wait"
        line = getattr(wait, "lineno", node.lineno)
        return self.found(
            module,
            node,
            f"`{lock}` ({kind}) is held across the {what} at line {line}: the next task that wants it blocks the loop, and with it the holder",
        )


def _method(statement: ast.stmt, name: str) -> ast.expr | None:
    """``x`` of a statement ``x.name()`` without arguments."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        if isinstance(call.func, ast.Attribute) and call.func.attr == name and not call.args and not call.keywords:
            return call.func.value
    return None


def _releases(statements: list[ast.stmt], lock: str) -> bool:
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("release", "wait", "wait_for", "__exit__")
        and ast.unparse(node.func.value) == lock
        for node in nodes_of(statements)
    )


class LockHeldAcrossIO(Rule):
    """All who want it wait for the outside as well."""

    name = "lock_held_across_io"
    title = "Lock held across I/O"
    help = "do the waiting before taking the lock, or after releasing it; where the lock guards the result, `bateau.sync.OnceMap` makes it once"
    why = (
        "Whoever wants the lock now waits for the network, the disk or the clock as well: one at a time, whatever the number of tasks. The rule "
        "tells of sleeps, connections, processes and whole requests, and of those alone that are made each time: what stands under an `if` (a "
        "value that is fetched once), and reads and writes of a stream, which a lock is there to keep apart, are left alone."
    )
    bad = """\
import asyncio

import httpx

lock = asyncio.Lock()
client = httpx.AsyncClient()


async def fetch(url):
    async with lock:
        return await client.get(url)
"""
    good = """\
import asyncio

import httpx

lock = asyncio.Lock()
client = httpx.AsyncClient()
pages = {}


async def fetch(url):
    page = await client.get(url)
    async with lock:
        pages[url] = page
"""

    def check(self, module: Module, project: Project) -> Iterator[Diagnostic]:
        """Blocks of ``async with lock`` in which something outside is waited for, whatever happens."""
        for function in async_functions(module):
            for block in function.withs:
                if not isinstance(block, ast.AsyncWith):
                    continue
                for item in block.items:
                    kind = project.type_of(item.context_expr, function.scope)
                    if kind in TASK_LOCKS and (wait := self._outside(block, function, project)) is not None:
                        node, what = wait
                        lock = short(item.context_expr)
                        yield self.found(
                            module,
                            node,
                            f"`{lock}` ({kind}, taken at line {block.lineno}) is held while `{short(node)}` {what}: everybody who wants it waits as well",
                        )
                        break

    def _outside(self, block: ast.AsyncWith, function: Function, project: Project) -> tuple[ast.Call, str] | None:
        for call in _always(block.body):
            name = project.name_of(call.func, function.scope)
            if name in OUTSIDE:
                if name in SLEEPS and constant(call.args[0] if call.args else None) == 0:
                    continue
                return call, OUTSIDE[name]
            receiver = call.func.value if isinstance(call.func, ast.Attribute) and call.func.attr in EXCHANGES else None
            if receiver is not None and project.type_of(receiver, function.scope) in CLIENTS:
                return call, "waits for the network"
        return None


def _always(block: list[ast.stmt]) -> Iterator[ast.Call]:
    """The calls that are awaited whenever the block runs; none behind a statement that may leave it before."""
    for statement in block:
        if isinstance(statement, ast.Expr | ast.Assign | ast.AnnAssign | ast.Return | ast.AugAssign):
            for node in nodes_of([statement]):
                if isinstance(node, ast.IfExp | ast.BoolOp):
                    break
                if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
                    yield node.value
        elif isinstance(statement, ast.AsyncWith):
            for item in statement.items:
                if isinstance(item.context_expr, ast.Call):
                    yield item.context_expr
            yield from _always(statement.body)
        elif isinstance(statement, ast.Try | ast.With | ast.For | ast.AsyncFor):
            yield from _always(statement.body)
        elif isinstance(statement, ast.If) and any(
            isinstance(each, ast.Return | ast.Raise) for each in nodes_of([statement])
        ):
            return  # what was there already is not fetched again
