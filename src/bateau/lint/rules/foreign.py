"""Things of asyncio in a program of trio's, and back."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ..diagnostic import Diagnostic
from ..foreign import WAYS_OUT, counterpart
from ..knowledge import ON_ASYNCIO, ON_TRIO
from ..module import Function, Module
from ..programs import Entry, Reached, asks, entries, reached
from ..resolving import Project
from .base import Rule, short

# What waits without an `await` being written in front of it.
_STARTS = frozenset(
    {"asyncio.create_task", "asyncio.ensure_future", "trio.move_on_after", "trio.fail_after", "trio.CancelScope"}
)


class ForeignAwait(Rule):
    """It fails at its first wait, and says something else."""

    name = "foreign_await"
    title = "Awaits another library's things"
    help = "use bateau's own, which runs on every runtime"
    why = (
        "asyncio's futures mean nothing to trio, and trio's to asyncio: the call fails when it first waits, mostly with words about yields and missing loops. The rule "
        "starts where a program says what drives it (`asyncio.run`, `trio.run`, `bateau.run(..., runtime=)`, `@bateau.main(runtime=)`, `anyio.run`, pytest's "
        "marks) and follows the calls within the package; what is not reached from there, what runs in a thread, and what stands behind a question for the "
        "running library is not accused."
    )
    bad = """\
import asyncio

import bateau


@bateau.main(runtime="trio")
async def main():
    await asyncio.sleep(1)
"""
    good = """\
import bateau


@bateau.main(runtime="trio")
async def main():
    await bateau.time.sleep(1)
"""

    def __init__(self) -> None:
        self._reached: dict[int, dict[Function, list[Reached]]] = {}

    def check(self, module: Module, project: Project) -> Iterator[Diagnostic]:
        """Foreign waits in functions that a program reaches."""
        programs = self._programs(project)
        for function in module.functions:
            told: set[tuple[ast.AST, str]] = set()
            for found in programs.get(function, ()):
                foreign = ON_ASYNCIO if found.entry.library == "trio" else ON_TRIO
                for call, name in _foreign(function, project, foreign):
                    if (call, found.entry.library) not in told:
                        told.add((call, found.entry.library))
                        yield self._tell(module, call, name, found)

    def _programs(self, project: Project) -> dict[Function, list[Reached]]:
        """Which programs each function is of; worked out once for a project."""
        known = self._reached.get(id(project))
        if known is None:
            known = dict[Function, list[Reached]]()
            # what entries reach may be in files that only they import, which have entries of their own
            starts = [each for module in list(project.modules()) for each in entries(module, project)]
            for entry in starts:
                for found in reached(entry, project):
                    known.setdefault(found.function, []).append(found)
            self._reached = {id(project): known}
        return known

    def _tell(self, module: Module, call: ast.Call, name: str, found: Reached) -> Diagnostic:
        entry: Entry = found.entry
        library = name.partition(".")[0]
        owner = "trio" if library in ON_TRIO else "asyncio"
        ours = counterpart(name)
        way = WAYS_OUT[owner]
        return self.found(
            module,
            call,
            f"`{short(call)}` is a thing of {owner}, and this runs on {entry.library}: the program is started by `{_one_line(entry.written)}` ({entry.where})",
            help=f"use `{ours}`, which runs on every runtime; or {way}" if ours else way,
            suggestion=ours or "",
            notes=(f"{found.by}: from here it is reached",) if found.by else (),
        )


def _one_line(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _foreign(function: Function, project: Project, libraries: frozenset[str]) -> Iterator[tuple[ast.Call, str]]:
    """The calls of those libraries' things that a function waits for."""
    module = function.module
    if module.name.partition(".")[0] in libraries or asks(function):
        return  # the library itself, or who asks first: they know what they do
    if not function.is_async and not isinstance(function.node, ast.Lambda):
        return
    for call in function.calls:
        name = project.called_name(call, function)
        if name is None or name.partition(".")[0] not in libraries or "." not in name:
            continue
        parent = module.parents.get(call)
        waited = isinstance(parent, ast.Await)
        if isinstance(parent, ast.withitem):
            waited = isinstance(module.parents.get(parent), ast.AsyncWith) or name in _STARTS
        elif isinstance(parent, ast.AsyncFor):
            waited = parent.iter is call
        elif name in _STARTS and name.startswith("asyncio."):
            waited = True
        elif isinstance(function.node, ast.Lambda) and function.node.body is call:
            waited = False
        if waited:
            yield call, name
