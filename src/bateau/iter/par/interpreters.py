"""The executor for computing without processes: interpreters of their own inside this one (Python 3.14 and later).

Each worker is an interpreter with its own lock and modules, used by one worker thread at a time. What passes between them is bytes.
"""

from __future__ import annotations

import pickle
import sys
from collections import deque
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ... import thread
from ...kernel.errors import Unsupported
from ...kernel.scope import Scope
from ...sync import Semaphore
from . import work as settling
from .executor import Recipe
from .remote import check_importable, pack_items, receive, run, unpack
from .work import Outcome, Work
from .worker import check_not_preparing, preparation, prepare


class Interpreters(Recipe):
    """``bateau.iter.interpreters(n)``: parallel computing in this process. Functions must be importable; so must C modules they use,
    in an interpreter of their own.
    """

    kind = "interpreters"

    def check(self, fn: object, method: str) -> None:
        check_importable(fn, method, "another interpreter")

    async def start(self, scope: Scope) -> InterpreterPool:
        """Interpreters are made when they are first needed. Raises ``Unsupported`` before Python 3.14."""
        if find_spec("concurrent.interpreters") is None:
            raise Unsupported(
                f"bateau.iter.interpreters() needs Python 3.14 or later, this is {sys.version.split()[0]}; "
                "bateau.iter.processes() runs the same chain"
            )
        check_not_preparing()
        pool = InterpreterPool(self.workers)
        scope.defer(pool.close)
        return pool


class InterpreterPool:
    """See the module's head. Invariant: an interpreter is in ``idle`` iff no thread is inside it."""

    def __init__(self, n: int) -> None:
        self._permits: Any = Semaphore(n, name="par interpreters")
        self._n = n
        self._idle: deque[Any] = deque()
        self._closed = False
        self._pickled: tuple[Work | None, bytes] = (None, b"")

    async def submit(self, work: Work, items: list[Any]) -> Outcome:
        """Cancelled, it is awaited: an interpreter can't be interrupted. Keep chunks short where that matters."""
        if self._pickled[0] is not work:
            self._pickled = (work, pickle.dumps(work, protocol=pickle.HIGHEST_PROTOCOL))
        blob, fn = pack_items(items, "another interpreter"), self._pickled[1]
        return receive(await thread.run(lambda: self._call(fn, blob), limiter=self._permits))

    def _call(self, fn: bytes, items: bytes) -> bytes:
        """On a worker thread."""
        interpreter = self._idle.pop() if self._idle else _make()
        try:
            results: bytes = interpreter.call(run, fn, items)
            return results
        finally:
            self._idle.append(interpreter)
            if self._closed:
                self._end()

    async def close(self) -> None:
        """End the interpreters. Nothing runs in them any more."""
        self._closed = True
        await thread.run(self._end)

    def _end(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _make() -> Any:
    """An interpreter that has our path and our main module."""
    module: Any = import_module("concurrent.interpreters")
    interpreter = module.create()
    try:
        interpreter.exec(f"import sys; sys.path[:] = {sys.path!r}")
        problem = pickle.loads(interpreter.call(_prepared, pickle.dumps(preparation())))
        if problem is not None:
            raise RuntimeError(
                f"another interpreter could not import the program's main module: {problem.summary}"
            ) from unpack(problem)
    except BaseException:
        interpreter.close()
        raise
    return interpreter


def _prepared(data: bytes) -> bytes:
    """Inside the new interpreter."""
    settling.one_run_each = True
    return pickle.dumps(prepare(pickle.loads(data)))
