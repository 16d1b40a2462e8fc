"""Calls that hold the loop, and loops inside of loops."""

from __future__ import annotations

import ast
import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from ... import counterparts
from ..diagnostic import Diagnostic
from ..flow import nodes_of
from ..knowledge import PROGRAMS
from ..module import Function, Module
from ..resolving import Project
from .base import Rule, async_functions, constant, is_expected, keyword, scope_of, short

_HTTP = "get options head post put patch delete request".split()
# Calls that wait for the clock, a peer, a process or a person, and what to write instead; "" asks bateau.counterparts.
_WAITS: dict[str, str] = {
    **dict.fromkeys(
        """
        time.sleep builtins.input getpass.getpass os.system os.waitpid subprocess.run subprocess.call subprocess.check_call
        subprocess.check_output subprocess.getoutput subprocess.Popen.wait subprocess.Popen.communicate socket.create_connection
        socket.getaddrinfo socket.getnameinfo socket.gethostbyname urllib.request.urlopen signal.pause signal.sigwait
        threading.Event.wait threading.Condition.wait threading.Condition.wait_for threading.Barrier.wait threading.Thread.join
        queue.Queue.get queue.SimpleQueue.get queue.LifoQueue.get queue.PriorityQueue.get concurrent.futures.Future.result
        concurrent.futures.wait select.select shutil.copy shutil.copy2 shutil.copyfile shutil.copytree shutil.move shutil.rmtree
        """.split(),
        "",
    ),
    "subprocess.getstatusoutput": "await bateau.subprocess.run(..., shell=True)",
    "socket.gethostbyaddr": "await bateau.net.getnameinfo(...)",
    "multiprocessing.Process.join": "await bateau.thread.run(process.join)",
    "threading.Semaphore.acquire": "",
    **{f"requests.{name}": f"await httpx.AsyncClient().{name}(...)" for name in _HTTP},
    **{f"requests.Session.{name}": f"await httpx.AsyncClient().{name}(...)" for name in _HTTP},
    **{f"httpx.{name}": f"await httpx.AsyncClient().{name}(...)" for name in _HTTP},
    **{f"httpx.Client.{name}": f"await httpx.AsyncClient().{name}(...)" for name in _HTTP},
    "urllib3.request": "await httpx.AsyncClient().request(...)",
    "urllib3.PoolManager.request": "await httpx.AsyncClient().request(...)",
    "urllib.request.urlretrieve": "await bateau.thread.run(urllib.request.urlretrieve, ...)",
    "smtplib.SMTP": "await bateau.thread.run(smtplib.SMTP, ...)",
    "smtplib.SMTP_SSL": "await bateau.thread.run(smtplib.SMTP_SSL, ...)",
    "ftplib.FTP.connect": "await bateau.thread.run(ftp.connect, ...)",
}
# Which of these wait for what another thread or process does: after an await of the function that has mostly been done, and been waited for.
_FOR_OTHERS = frozenset(
    """
    threading.Thread.join multiprocessing.Process.join concurrent.futures.Future.result subprocess.Popen.wait subprocess.Popen.communicate
    queue.Queue.get queue.SimpleQueue.get queue.LifoQueue.get queue.PriorityQueue.get
    """.split()
)
# What of these says that the call does not wait, by keyword: the values that say so.
_NOT_WAITING = {"block": (False,), "blocking": (False,), "timeout": (0, 0.0)}
_IN_FILES = ("builtins.open", "io.open", "os.", "os.path.", "pathlib.Path.", "tempfile.", "shutil.")


class _Call(NamedTuple):
    """A blocking call: its name and what to write instead."""

    name: str
    instead: str


def _blocking(call: ast.Call, function: Function, project: Project) -> _Call | None:
    name = project.called_name(call, function)
    if name is None or name not in _WAITS or not _waits(name, call) or _is_numeric(call, function):
        return None
    return _Call(name.removeprefix("builtins."), _WAITS[name] or _advice(name))


def _advice(name: str) -> str:
    found = counterparts.find(
        name.replace("LifoQueue", "Queue").replace("PriorityQueue", "Queue").replace("SimpleQueue", "Queue")
    )
    return found.advice() if found is not None else f"await bateau.thread.run({name}, ...)"


def _waits(name: str, call: ast.Call) -> bool:
    """Whether the arguments leave it a call that waits."""
    for word, values in _NOT_WAITING.items():
        value = keyword(call, word)
        if isinstance(value, ast.Constant) and any(
            value.value is each or (value.value == each and not isinstance(value.value, bool)) for each in values
        ):
            return False
    first = constant(call.args[0] if call.args else None)
    if name == "time.sleep":
        return first != 0
    if name.startswith("queue.") or name.endswith(".acquire"):
        return first is not False
    if name in ("threading.Thread.join", "concurrent.futures.Future.result", "threading.Event.wait"):
        return first != 0
    if name == "select.select":
        return len(call.args) < 4 or constant(call.args[3]) != 0
    if name in ("socket.getaddrinfo", "socket.getnameinfo"):
        given = [*call.args, *(each.value for each in call.keywords)]
        return not any("NUMERIC" in ast.unparse(each) for each in given) and not (
            name.endswith("addrinfo") and _is_address(first)
        )
    if name == "os.waitpid":
        return len(call.args) < 2 or "NOHANG" not in ast.unparse(call.args[1])
    return True


def _is_numeric(call: ast.Call, function: Function) -> bool:
    """Whether the call stands behind a question for flags under which no server is asked for a name."""
    outer = function.module.ancestors(call)
    return any(isinstance(each, ast.If) and "NUMERIC" in ast.unparse(each.test) for each in outer)


def _is_address(host: object) -> bool:
    """Whether a host is written as a number, for which nobody is asked."""
    if not isinstance(host, str):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class SchedulingDelay(Rule):
    """Nobody else runs meanwhile."""

    name = "scheduling_delay"
    title = "Blocking call in an async function"
    help = "await the async counterpart, or run it elsewhere: `await bateau.thread.run(fn, ...)`"
    why = (
        "A call that waits without an await holds the loop's thread: no other task runs, no timeout fires, no connection is accepted until it "
        "returns. The rule follows calls of the project's own functions to those that block in any case, and knows methods by the type of "
        "what they are called on. Code in lambdas and nested functions runs elsewhere or later, and is left alone; so are quick calls on "
        "files, which `blocking_file_call` lists."
    )
    bad = """\
import time


async def poll():
    time.sleep(1)
"""
    good = """\
import bateau


async def poll():
    await bateau.time.sleep(1)
"""

    def check(self, module: Module, project: Project) -> Iterator[Diagnostic]:
        """Calls in async functions that block, by themselves or in the function that they call."""
        for function in async_functions(module):
            for call in function.calls:
                if isinstance(module.parents.get(call), ast.Await):
                    continue
                direct = _blocking(call, function, project)
                if direct is not None and self._was_awaited(direct, call, function):
                    continue
                if direct is not None:
                    yield self._tell(module, call, function, f"`{short(call)}` blocks the loop", direct, ())
                    continue
                yield from self._through(module, project, function, call)

    def _through(self, module: Module, project: Project, function: Function, call: ast.Call) -> Iterator[Diagnostic]:
        targets = project.called(call, scope_of(function, call))
        if len(targets) != 1 or targets[0].is_async or targets[0].is_generator:
            return
        chain = _chain(targets[0], project, set())
        if chain is None:
            return
        blocking, places = chain
        if self._was_awaited(blocking, call, function):
            return
        yield self._tell(
            module,
            call,
            function,
            f"`{short(call)}` calls `{blocking.name}`, which blocks the loop",
            blocking,
            tuple(places),
        )

    def _was_awaited(self, blocking: _Call, call: ast.Call, function: Function) -> bool:
        """Whether the function waited before in a way that lets others run, so that what the call waits for may be there."""
        return blocking.name in _FOR_OTHERS and any(each.lineno < call.lineno for each in function.suspensions)

    def _tell(
        self, module: Module, call: ast.Call, function: Function, message: str, blocking: _Call, notes: tuple[str, ...]
    ) -> Diagnostic:
        name = function.name.rpartition(".")[2]
        return self.found(
            module,
            call,
            f"{message} in async function `{name}`: nothing else runs meanwhile",
            help=blocking.instead if blocking.instead.startswith("use ") else f"use `{blocking.instead}`",
            notes=notes,
        )


def _chain(function: Function, project: Project, seen: set[Function]) -> tuple[_Call, list[str]] | None:
    """The blocking call that a sync function makes in any case, itself or through others, and the lines on the way."""
    if function in seen or len(seen) > 20:
        return None
    seen.add(function)
    for call in _unconditional(function.body):
        where = f"{function.module.shown}:{call.lineno}"
        blocking = _blocking(call, function, project)
        if blocking is not None:
            return blocking, [f"{where}: {short(call)}"]
        targets = project.called(call, scope_of(function, call))
        if len(targets) == 1 and not targets[0].is_async and not targets[0].is_generator:
            inner = _chain(targets[0], project, seen)
            if inner is not None:
                return inner[0], [f"{where}: {short(call)}", *inner[1]]
    return None


def _unconditional(block: list[ast.stmt]) -> Iterator[ast.Call]:
    """The calls that are made whenever a block is run, up to the first statement that may leave it."""
    for statement in block:
        if isinstance(statement, ast.With):
            for item in statement.items:
                yield from _calls(item.context_expr)
            yield from _unconditional(statement.body)
        elif isinstance(statement, ast.Try):
            yield from _unconditional(statement.body)
        elif isinstance(statement, ast.For):
            yield from _calls(statement.iter)
        elif isinstance(statement, ast.Expr | ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return):
            yield from _calls(statement)
        if any(isinstance(node, ast.Return | ast.Raise | ast.Yield) for node in nodes_of([statement])):
            return


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    stack = [node]
    while stack:
        each = stack.pop()
        if isinstance(each, ast.Lambda | ast.GeneratorExp | ast.IfExp | ast.BoolOp):
            continue
        if isinstance(each, ast.Call):
            yield each
        stack.extend(ast.iter_child_nodes(each))


class BlockingFileCall(Rule):
    """Mostly quick, and sometimes not."""

    name = "blocking_file_call"
    title = "Blocking call on a file in an async function"
    help = "use its counterpart of `bateau.fs`, which does not hold the loop while the disk is slow"
    why = (
        "Files answer at once as long as they stand in the page cache, and hold the loop for as long as the disk (or the network, where the "
        "file system is on it) takes when they do not. Whether that matters, only you know: so the rule is not among those that run by default."
    )
    bad = """\
async def load(path):
    with open(path) as file:
        return file.read()
"""
    good = """\
import bateau


async def load(path):
    async with await bateau.fs.open(path) as file:
        return await file.read()
"""
    default = False

    def check(self, module: Module, project: Project) -> Iterator[Diagnostic]:
        """Calls of functions on files that have a counterpart."""
        for function in async_functions(module):
            for call in function.calls:
                name = project.called_name(call, function)
                if name is None or name in _WAITS or not name.startswith(_IN_FILES):
                    continue
                found = counterparts.find(name)
                if found is not None and found.bateau.startswith("bateau.fs"):
                    yield self.found(
                        module,
                        call,
                        f"`{short(call)}` holds the loop for as long as the disk takes",
                        help=found.advice(),
                    )


class NestedBlockOn(Rule):
    """A program in a task of a program."""

    name = "nested_block_on"
    title = "A program is run inside an async function"
    help = "await the coroutine; a sync function in between has to become async"
    why = (
        "`asyncio.run`, `trio.run` and `bateau.run` start a program of their own. Called by a task they raise, or hold the loop of the task until "
        "the other program has ended. Handed to a thread (`await bateau.thread.run(trio.run, fn)`) they are fine."
    )
    bad = """\
import asyncio


async def fetch():
    await asyncio.sleep(1)


async def main():
    asyncio.run(fetch())
"""
    good = """\
import asyncio


async def fetch():
    await asyncio.sleep(1)


async def main():
    await fetch()
"""

    def check(self, module: Module, project: Project) -> Iterator[Diagnostic]:
        """Calls that start a program, in async functions."""
        for function in async_functions(module):
            for call in function.calls:
                name = project.called_name(call, function)
                if name is None or name not in PROGRAMS or name == "trio.lowlevel.start_guest_run":
                    continue
                if (
                    name in ("asyncio.Runner.run", "asyncio.AbstractEventLoop.run_until_complete")
                    and "new_event_loop" in module.text
                ):
                    continue  # a loop of its own: whose thread this is can't be seen here
                if is_expected(module, call):
                    continue
                yield self.found(
                    module,
                    call,
                    f"`{short(call)}` starts a program inside async function `{function.name.rpartition('.')[2]}`, which is run by one already",
                )
