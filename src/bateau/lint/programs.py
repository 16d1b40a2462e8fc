"""Which library drives which async functions: the entries of programs, and what is reached from them.

An entry is a call (`trio.run(main)`, `bateau.run(main, runtime="trio")`), a decorator (`@bateau.main(runtime="trio")`, `@pytest.mark.trio`). From its
function the search follows what is called, passed on or entered; what is handed to a thread runs elsewhere, and what is handed to
another library's `run` is an entry of its own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from .flow import nodes_of
from .knowledge import ANYIO_BACKENDS, ELSEWHERE, PROGRAMS, RUNTIMES
from .module import Class, Function, Module
from .resolving import Project


@dataclass(frozen=True, eq=False)
class Entry:
    """The start of a program. ``library`` drives it: ``asyncio`` or ``trio``. ``written``: how it is started, and ``where``: ``path:line``."""

    library: str
    written: str
    where: str
    functions: tuple[Function, ...]


@dataclass(frozen=True, eq=False)
class Reached:
    """A function of a program, and by which call (``path:line``) the search came to it; "" for the entry's own."""

    function: Function
    entry: Entry
    by: str


def entries(module: Module, project: Project) -> Iterator[Entry]:
    """The entries that are written in a file."""
    for function in module.functions:
        for call in function.calls:
            yield from _started_by(call, function, project)
        outer = function.scope.parent
        for decorator in function.decorators if outer is not None else ():
            library = _of_decorator(decorator, function, project)
            if library is not None:
                where = f"{module.shown}:{decorator.lineno}"
                yield Entry(library, f"@{ast.unparse(decorator)}", where, (function,))


def _started_by(call: ast.Call, function: Function, project: Project) -> Iterator[Entry]:
    name = project.called_name(call, function)
    arguments = call.args
    if name in ELSEWHERE and arguments:
        # `await bateau.thread.run(trio.run, fn, ...)`: a program of its own, on a thread
        inner = project.name_of(arguments[0], function.scope)
        name, arguments = inner, arguments[1:]
    if name not in PROGRAMS or not arguments:
        return
    library = PROGRAMS[name] or _chosen(name, call)
    if library is None:
        return
    functions = _functions(arguments[0], function, project)
    if functions:
        module = function.module
        yield Entry(library, ast.unparse(call), f"{module.shown}:{call.lineno}", functions)


def _chosen(name: str, call: ast.Call) -> str | None:
    """The library that is chosen by an argument; None where the environment may choose."""
    word, table = ("backend", ANYIO_BACKENDS) if name == "anyio.run" else ("runtime", RUNTIMES)
    value = next((each.value for each in call.keywords if each.arg == word), None)
    if value is None:
        return "asyncio" if name == "anyio.run" and not any(each.arg is None for each in call.keywords) else None
    return table.get(str(value.value)) if isinstance(value, ast.Constant) else None


def _of_decorator(node: ast.expr, function: Function, project: Project) -> str | None:
    outer = function.scope.parent
    assert outer is not None
    if isinstance(node, ast.Call):
        return _chosen("bateau.run", node) if project.name_of(node.func, outer) == "bateau.main" else None
    name = project.name_of(node, outer)
    return {"pytest.mark.trio": "trio", "pytest.mark.asyncio": "asyncio"}.get(name or "")


def _functions(node: ast.expr, function: Function, project: Project) -> tuple[Function, ...]:
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Lambda):
        return tuple(each for each in function.inner if each.node is node)
    return tuple(project.meant(node, function.scope))


def reached(entry: Entry, project: Project) -> Iterator[Reached]:
    """Every function of the project that an entry's program may run on its own loop."""
    seen: set[Function] = set(entry.functions)
    waiting = [Reached(each, entry, "") for each in entry.functions]
    while waiting:
        current = waiting.pop(0)
        yield current
        for target, line in _edges(current.function, project):
            if target not in seen:
                seen.add(target)
                waiting.append(Reached(target, entry, f"{current.function.module.shown}:{line}"))


# What is asked for by a function that runs under several libraries.
_TELLING = (
    "sniffio",
    "async_library",
    "backend",
    "runtime",
    "event_loop",
    "is_trio",
    "is_asyncio",
    "in_trio",
    "in_asyncio",
)


def asks(function: Function) -> bool:
    """Whether a function asks which library drives it, and does the one thing or the other."""
    for node in nodes_of(function.body):
        test: ast.AST | None = None
        if isinstance(node, ast.If | ast.IfExp):
            test = node.test
        elif isinstance(node, ast.Match):
            test = node.subject
        elif isinstance(node, ast.Dict) and any(_names_one(key) for key in node.keys):
            return True  # one function for each, by name
        if test is not None:
            text = ast.unparse(test).lower()
            if any(word in text for word in (*_TELLING, "'trio'", "'asyncio'")):
                return True
    return False


def _names_one(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value in ("trio", "asyncio")


def _edges(function: Function, project: Project) -> Iterator[tuple[Function, int]]:
    """What a function calls, passes on or enters, as far as that is of the project."""
    if asks(function):
        return
    module = function.module
    away: set[ast.AST] = set()
    for call in function.calls:
        name = project.called_name(call, function)
        others = (*call.args, *(each.value for each in call.keywords))
        if name in ELSEWHERE or name in PROGRAMS:
            away.update(node for each in (call.func, *others) for node in ast.walk(each))
    for node in function.loads:
        if node in away:
            continue
        parent = module.parents.get(node)
        if isinstance(parent, ast.Attribute) and parent.value is node:
            continue  # part of a longer name
        for target in project.meant(node, function.scope):
            yield target, node.lineno
    for inner in function.inner:
        if isinstance(inner.node, ast.Lambda) and inner.node not in away:
            yield inner, inner.node.lineno
    for block in function.withs:
        for item in block.items:
            cls = project.class_of(item.context_expr, function.scope)
            if isinstance(cls, Class):
                for name in ("__aenter__", "__aexit__", "__enter__", "__exit__"):
                    for target in project.method(cls, name):
                        yield target, item.context_expr.lineno
