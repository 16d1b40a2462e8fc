"""Sending work where objects do not go by themselves: to another process or interpreter, as bytes.

Errors are objects of the user's classes: they are sent as such where they can be pickled, with the text of their traceback, which stands
as their cause on the other side. What can't be sent is an error of its item, never of the whole.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from traceback import TracebackException
from typing import Any, NamedTuple, cast

from ...kernel.errors import BateauError
from .chunking import shown
from .work import Outcome, Trouble, Work, name_of

_HERE = os.path.dirname(__file__)
_THREAD = os.path.join(os.path.dirname(os.path.dirname(_HERE)), "thread")


class RemoteError(BateauError):
    """An error that can't be sent from its worker as what it is; the message has its type and text."""


class WorkerTraceback(Exception):
    """The traceback of an error in its worker, as text: the error's ``__cause__``."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class Packed(NamedTuple):
    """An error on its way."""

    blob: bytes | None
    summary: str
    text: str


class Answer(NamedTuple):
    """What comes back for a chunk: its outcome, with packed errors, or what kept the worker from beginning."""

    outcome: Outcome | None
    failure: Packed | None


# -- in the worker -----------------------------------------------------------------------------------------------------


def answer(load: Callable[[], Work], items: bytes) -> bytes:
    """Do the work and give its ``Answer`` as bytes."""
    try:
        outcome = load()(pickle.loads(items))
    except Exception as error:
        return pickle.dumps(Answer(None, pack(error)))
    outcome.troubles = [trouble._replace(error=cast("Any", pack(trouble.error))) for trouble in outcome.troubles]
    try:
        return pickle.dumps(Answer(outcome, None), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:
        return pickle.dumps(Answer(_sendable(outcome), None), protocol=pickle.HIGHEST_PROTOCOL)


def run(work: bytes, items: bytes) -> bytes:
    """``answer`` for work that comes as bytes each time."""
    return answer(lambda: pickle.loads(work), items)


def _sendable(outcome: Outcome) -> Outcome:
    """The same, with a trouble in place of each result that can't be pickled."""
    clean = Outcome()
    clean.seconds, clean.waited = outcome.seconds, outcome.waited
    waiting = list(outcome.troubles)
    for number, result in enumerate(outcome.results):
        while waiting and waiting[0].at <= number:
            clean.troubles.append(waiting.pop(0)._replace(at=len(clean.results)))
        try:
            pickle.dumps(result)
        except Exception as error:
            problem = TypeError(f"the result {shown(result, 80)} can't be sent back from its worker: {error}")
            packed: Any = pack(problem)
            clean.troubles.append(Trouble(len(clean.results), -1, "par", packed))
        else:
            clean.results.append(result)
    clean.troubles += [trouble._replace(at=len(clean.results)) for trouble in waiting]
    return clean


def pack(error: BaseException) -> Packed:
    """An error as something that can always be sent."""
    text = "".join(TracebackException(type(error), error, _users(error.__traceback__)).format())
    blob: bytes | None
    try:
        blob = pickle.dumps(error)
        pickle.loads(blob)  # exceptions with arguments of their own often can't be made again
    except Exception:
        blob = None
    return Packed(blob, f"{type(error).__qualname__}: {error}", text)


def _users(tb: Any) -> Any:
    """The part of a traceback that begins in the user's code."""
    begin = tb
    while begin is not None and begin.tb_frame.f_code.co_filename.startswith((_HERE, _THREAD)):
        begin = begin.tb_next
    return begin if begin is not None else tb


# -- on this side ------------------------------------------------------------------------------------------------------


def pack_items(items: list[Any], who: str) -> bytes:
    """The items of a chunk as bytes; raises ``TypeError`` where they can't be."""
    try:
        return pickle.dumps(items, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise TypeError(f"items can't be sent to {who}: {error}; the first of them is {shown(items[0])}") from error


def receive(blob: bytes) -> Outcome:
    """The outcome in an answer; raises what kept the worker from beginning."""
    given: Answer = pickle.loads(blob)
    if given.failure is not None:
        raise unpack(given.failure)
    outcome = given.outcome
    assert outcome is not None
    outcome.troubles = [trouble._replace(error=unpack(cast("Any", trouble.error))) for trouble in outcome.troubles]
    return outcome


def unpack(packed: Packed) -> BaseException:
    """The error again, with the worker's traceback as its cause."""
    error: Any = None
    if packed.blob is not None:
        try:
            error = pickle.loads(packed.blob)
        except Exception:
            error = None  # its class can't be imported here
    if not isinstance(error, BaseException):
        error = RemoteError(packed.summary)
    error.__cause__ = WorkerTraceback(packed.text)
    return cast("BaseException", error)


def check_importable(fn: object, method: str, who: str) -> None:
    """Raise ``TypeError``, naming it, for a function that another process or interpreter can't import."""
    try:
        pickle.dumps(fn)
    except Exception as error:
        raise TypeError(
            f".{method}() was given {_named(fn)}, which can't be sent to {who}: {error}. Define it with `def` at the top level of a module "
            "(arguments can be bound with functools.partial), or use bateau.iter.threads() or tasks(), which take any function"
        ) from error
    if _module_of(fn) == "__main__" and not _main_can_be_imported():
        raise TypeError(
            f".{method}() was given {_named(fn)}, defined in a program that was typed in or piped and has no file: {who} can't import it. "
            "Put it into a module"
        )


def _named(fn: object) -> str:
    inner = getattr(fn, "func", fn)
    code = getattr(inner, "__code__", None)
    place = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
    return f"{name_of(fn)}{place}"


def _module_of(fn: object) -> str | None:
    inner = getattr(fn, "func", fn)
    return getattr(inner, "__module__", None)


def _main_can_be_imported() -> bool:
    main = sys.modules.get("__main__")
    return main is not None and (getattr(main, "__spec__", None) is not None or hasattr(main, "__file__"))
