"""Python's buffered files for simulated threads.

The real ones hold a real lock while they read or write what they are over. There a simulated thread may block and hand the baton on; whoever
got it and came to the same object would wait for that lock with the baton in its hand, and the world would stand still. So threads
take turns in front of it, by a lock of the world.
"""

from __future__ import annotations

import _io  # whose classes are always the real ones
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from ..thread import here

if TYPE_CHECKING:
    from ..thread import SimThread
    from ..world import World


class Turns:
    """Who may use one buffered file. Invariant: ``depth`` is above 0 exactly while there is an ``owner``."""

    __slots__ = ("depth", "owner", "waiting", "world")

    def __init__(self, world: World) -> None:
        self.world = world
        self.owner: SimThread | None = None
        self.depth = 0
        self.waiting: dict[SimThread, None] = {}

    def take(self, thread: SimThread) -> None:
        """Wait until it is this thread's turn."""
        while self.owner is not None and self.owner is not thread:
            self.waiting[thread] = None
            try:
                self.world.block("a file that another thread is using")
            finally:
                self.waiting.pop(thread, None)
        self.owner = thread
        self.depth += 1

    def give_back(self) -> None:
        """Let the next one in."""
        self.depth -= 1
        if self.depth == 0:
            self.owner = None
            waiting, self.waiting = self.waiting, {}
            for thread in waiting:
                thread.unblock()


def _by_turns(real: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(real)
    def method(self: Any, *args: Any) -> Any:
        turns: Turns = self._turns
        world = turns.world
        thread = world.thread
        # A process of one thread, or what is dropped at the end of the world: nobody to wait for.
        if world.over or here.world is not world or len(thread.process.threads) == 1:
            return real(self, *args)
        turns.take(thread)
        try:
            return real(self, *args)
        finally:
            turns.give_back()

    return method


_LOCKED = (
    "__next__", "close", "detach", "flush", "peek", "read", "read1", "readinto", "readinto1", "readline", "seek", "truncate", "write",
)  # fmt: skip


def _made(base: Any) -> Any:
    """The class over ``base``: to programs it is that."""

    def __new__(cls: type, world: World, *args: Any, **kwargs: Any) -> Any:  # noqa: N807  # it is one
        return base.__new__(cls)

    def __init__(self: Any, world: World, *args: Any, **kwargs: Any) -> None:  # noqa: N807  # as above
        self._turns = Turns(world)
        base.__init__(self, *args, **kwargs)

    def __repr__(self: Any) -> str:  # noqa: N807  # as above
        return str(base.__repr__(self)).replace("<", "<_io.", 1)

    methods: dict[str, Any] = {name: _by_turns(getattr(base, name)) for name in _LOCKED if hasattr(base, name)}
    methods |= {
        "__new__": __new__,
        "__init__": __init__,
        "__repr__": __repr__,
        "__module__": "_io",
        "__doc__": base.__doc__,
    }
    return type(base.__name__, (base,), methods)


BufferedReader = _made(_io.BufferedReader)
BufferedWriter = _made(_io.BufferedWriter)
BufferedRandom = _made(_io.BufferedRandom)
