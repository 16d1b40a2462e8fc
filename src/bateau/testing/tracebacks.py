"""What a person should see of a failure: the frames of their own code.

Between the runner's frames and the test stand those of a loop, and below it those of bateau. Both are taken out of the traceback, of
the causes and of the parts of groups as well; ``BATEAU_TRACEBACK=full`` keeps everything.
"""

from __future__ import annotations

from typing import cast

from ..kernel.errors import BateauError
from ..kernel.tracebacks import users_frames, wants_full
from .running import TestTimeout

# Whose frames stand above a test's, besides those of loops.
_RUNNERS = ("_pytest", "pluggy", "unittest")


def trimmed(error: BaseException) -> BaseException:
    """``error``, with the machinery taken out of every traceback in it."""
    if wants_full():
        return error
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    for each in todo:
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        shown, _ = users_frames(each.__traceback__, above=_RUNNERS, below=isinstance(each, TestTimeout))
        if shown is not None or isinstance(each, BateauError | BaseExceptionGroup):  # whose text says where
            each.__traceback__ = shown
        todo += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            todo += cast("BaseExceptionGroup[BaseException]", each).exceptions
    return error
