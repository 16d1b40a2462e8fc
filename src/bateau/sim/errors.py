"""What a simulated run may end with, besides the program's own errors."""

from __future__ import annotations

from typing import cast

from ..kernel.errors import Deadlock


class Stuck(Deadlock):
    """Nothing can ever happen again in the whole simulated world: no thread is ready, and no event is outstanding."""


class NoProgress(AssertionError):
    """A run made more steps than it may (``max_steps``): a livelock, or a limit that is too low for the program."""


class InvariantBroken(AssertionError):
    """What was said to hold always (``always``, ``unchanged``), or to come in time (``eventually``), did not."""


class StoodStill(RuntimeError):
    """A simulated thread waited for something real, which nobody in the world could give it."""


class StubbornThread(RuntimeWarning):
    """A thread of a world that has ended goes on whatever is raised in it (``except BaseException`` in a loop): it was left behind."""


class ProcessFailed(AssertionError):
    """A simulated process ended with an error that nobody waited for; the error is its ``__cause__``."""


class NotSimulated(NotImplementedError):
    """The simulated world has no such thing; the message says what to use instead."""


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group of groups, in order; of any other error itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    inner = cast("tuple[BaseException, ...]", error.exceptions)  # pyright: ignore[reportUnknownMemberType]  # of what, nobody said
    return [leaf for one in inner for leaf in leaves(one)]
