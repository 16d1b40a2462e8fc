"""Locks of simulated threads: ``threading.Lock`` and ``RLock`` as CPython has them, with the order left to the world.

As in CPython, who releases a lock hands it to nobody: those who wait become ready, and whoever runs first takes it, be it a newcomer
(barging).

A lock lives in the world in which it was made, whose processes share it as they share all objects. One that was made outside any (by a
module when it was imported, say) is a real lock there, and in a world each process has one of its own, as each has its own memory. If it
is held outside at that moment, it is held inside as well: by the test's own thread, if that has it and it is reentrant, else by nobody
who could give it back.
"""

from __future__ import annotations

import re
import sys
from _thread import TIMEOUT_MAX
from _thread import RLock as _RealRLock
from _thread import allocate_lock as _real_lock
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from ...kernel.errors import PACKAGE_DIR
from ..sites import site_of
from ..thread import SimThread, here
from .waits import Wait, report_ring

if TYPE_CHECKING:
    from ..world import World


# Real seconds after which a lock that a real thread holds is no longer thought to be held for a moment only.
LONGEST_MOMENT = 1.0


class _Real(Protocol):
    """A lock of the interpreter's own. What begins with an underscore is asked of reentrant ones only."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    def _is_owned(self) -> bool: ...
    def _recursion_count(self) -> int: ...
    def _release_save(self) -> Any: ...
    def _acquire_restore(self, saved: Any) -> None: ...


class State:
    """A lock in one world, or in one process of it.

    Invariants: ``count`` is how often ``holder`` has taken it, 0 if nobody has. ``waiters`` are blocked on it, first come first.
    """

    __slots__ = ("at", "count", "holder", "in_block", "waiters")

    def __init__(self) -> None:
        self.count = 0
        self.holder: SimThread | None = None
        # Where it was taken, and whether by ``with``: then it will be given back by its holder and by nobody else.
        self.at: tuple[str, int] | None = None
        self.in_block = False
        self.waiters: dict[SimThread, None] = {}


class Lock:
    """See the module's head. ``quiet``: taking and releasing it is no choice point (a lock that only ever passes a message on)."""

    __slots__ = ("__weakref__", "_home", "_real", "_state", "made_at", "quiet")
    kind = "lock"

    def __init__(
        self, home: World | None, made_at: tuple[str, int] | None = None, *, quiet: bool = False, real: Any = None
    ) -> None:
        self._home = home
        self._state = State()
        self._real: _Real | None = real
        self.made_at = made_at
        self.quiet = quiet

    # -- where it is -----------------------------------------------------------------------------------------------------

    def _make_real(self) -> Any:
        return _real_lock()

    def real(self) -> _Real:
        """The lock that threads outside any world see."""
        found = self._real
        if found is None:
            found = self._real = self._make_real()
        return found

    def state_in(self, world: World) -> State:
        """What it is to the running thread."""
        if world is self._home:
            return self._state
        parts = world.thread.process.parts
        states: dict[Lock, State] | None = parts.get("locks")
        if states is None:
            states = parts["locks"] = {}
        state = states.get(self)
        if state is None:
            state = states[self] = State()
            if self._real is not None and self._is_held(self._real):
                state.count = 1
                state.holder = self._holder_outside(world)
        return state

    def _is_held(self, real: Any) -> bool:
        """Whether somebody outside the world holds it, and not only for the moment of an ``append``."""
        if not real.locked() or not real.acquire(True, LONGEST_MOMENT):
            return bool(real.locked())
        real.release()
        return False

    def _holder_outside(self, world: World) -> SimThread | None:
        """The simulated thread that has it from before the world, where that is known."""
        return None

    # -- what programs call ----------------------------------------------------------------------------------------------

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As ``threading.Lock.acquire``: ``timeout`` in seconds of the host's clock, -1 for none."""
        world = here.world
        if world is None:
            return self.real().acquire(blocking, timeout)
        return self._acquire(world, blocking, timeout)

    def _acquire(self, world: World, blocking: bool, timeout: float) -> bool:
        _check(blocking, timeout)
        state = self.state_in(world)
        if not self.quiet:
            world.point()
        if state.count and not (blocking and timeout and self._wait(world, state, timeout)):
            return False
        self._take(world, state)
        return True

    def _take(self, world: World, state: State, count: int = 1) -> None:
        thread = world.thread
        state.count = count
        state.holder = thread
        state.in_block = False
        if len(thread.process.threads) > 1:
            site = site_of(sys._getframe(3))
            state.at = site[:2] if site is not None else None
        else:
            state.at = None

    def _wait(self, world: World, state: State, timeout: float) -> bool:
        """Block until nobody holds it; False if that took too long."""
        thread = world.thread
        deadline = None if timeout < 0 else thread.process.host.clock.world_time_after(timeout)
        what = LockWait(self, state, deadline is not None)
        while state.count:
            if deadline is None:
                report_ring(world, thread, what)
            state.waiters[thread] = None
            try:
                in_time = world.block(what, deadline)
            finally:
                state.waiters.pop(thread, None)
            if not in_time and state.count:
                return False
        return True

    def release(self) -> None:
        """As ``threading.Lock.release``: by any thread. Raises ``RuntimeError`` where nobody holds it."""
        world = here.world
        if world is None:
            self.real().release()
            return
        state = self.state_in(world)
        if not state.count and not world.closed:
            raise RuntimeError("release unlocked lock")
        self._release(world, state)

    def _release(self, world: World, state: State) -> None:
        if not self.quiet and not world.closed:
            world.point()
        state.count = 0
        state.holder = None
        for waiter in tuple(state.waiters):
            waiter.unblock()

    def locked(self) -> bool:
        """Whether somebody holds it."""
        world = here.world
        if world is None:
            return self.real().locked()
        if not self.quiet:
            world.point()
        return self.state_in(world).count > 0

    def __enter__(self) -> bool:
        world = here.world
        if world is None:
            return self.real().acquire()
        taken = self._acquire(world, True, -1)
        self.state_in(world).in_block = True
        return taken

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.release()

    acquire_lock = acquire
    release_lock = release
    locked_lock = locked

    # -- for ``threading.Condition`` -------------------------------------------------------------------------------------

    def _is_owned(self) -> bool:
        world = here.world
        return self.real().locked() if world is None else self.state_in(world).count > 0

    def _release_save(self) -> Any:
        world = here.world
        in_block = world is not None and self.state_in(world).in_block
        self.release()
        return 1, in_block

    def _acquire_restore(self, saved: Any) -> None:
        world = here.world
        if world is None:
            self.real().acquire()
        elif not world.closed:  # what is left of a world that has ended unwinds through here
            self._acquire(world, True, -1)
            state = self.state_in(world)
            state.count, state.in_block = saved

    def _at_fork_reinit(self) -> None:
        self._real = None

    # -- for people ------------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """What it is called in explanations."""
        return f"{self.kind} made at {self.made_at[0]}:{self.made_at[1]}" if self.made_at is not None else self.kind

    def __repr__(self) -> str:
        world = here.world
        if world is None:
            return repr(self.real())
        return f"<{'locked' if self.state_in(world).count else 'unlocked'} {self.describe()}>"


class RLock(Lock):
    """``threading.RLock``: its holder may take it again, and has to release it as often. Taking it again is no choice point."""

    __slots__ = ()
    kind = "reentrant lock"

    def _make_real(self) -> Any:
        return _RealRLock()

    def _is_held(self, real: Any) -> bool:
        if not repr(real).startswith("<locked"):
            return False
        if real._is_owned() or not real.acquire(True, LONGEST_MOMENT):
            return True
        real.release()
        return False

    def _holder_outside(self, world: World) -> SimThread | None:
        owner = re.search(r" owner=(\d+) ", repr(self._real))  # all that it tells of itself
        director = world.director
        if owner is None or director is None or world.thread.process is not director:
            return None
        return director.main if int(owner[1]) == director.main.os_ident else None

    def _acquire(self, world: World, blocking: bool, timeout: float) -> bool:
        state = self.state_in(world)
        if state.holder is world.thread:
            _check(blocking, timeout)
            state.count += 1
            return True
        return super()._acquire(world, blocking, timeout)

    def release(self) -> None:
        """As ``threading.RLock.release``. Raises ``RuntimeError`` in a thread that does not hold it."""
        world = here.world
        if world is None:
            self.real().release()
            return
        state = self.state_in(world)
        if state.holder is not world.thread:
            if world.closed:
                return
            raise RuntimeError("cannot release un-acquired lock")
        if state.count > 1:
            state.count -= 1
        else:
            self._release(world, state)

    def __enter__(self) -> bool:
        world = here.world
        if world is None:
            return self.real().acquire()
        taken = self._acquire(world, True, -1)
        state = self.state_in(world)
        if state.count == 1:
            state.in_block = True
        return taken

    def _is_owned(self) -> bool:
        world = here.world
        if world is None:
            return self.real()._is_owned()
        return self.state_in(world).holder is world.thread

    def _release_save(self) -> Any:
        world = here.world
        if world is None:
            return self.real()._release_save()
        state = self.state_in(world)
        saved = state.count, state.in_block
        if state.holder is not world.thread and not world.closed:
            raise RuntimeError("cannot release un-acquired lock")
        self._release(world, state)
        return saved

    def _acquire_restore(self, saved: Any) -> None:
        if here.world is None:
            self.real()._acquire_restore(saved)
        else:
            super()._acquire_restore(saved)

    def _recursion_count(self) -> int:
        world = here.world
        if world is None:
            return self.real()._recursion_count()
        state = self.state_in(world)
        return state.count if state.holder is world.thread else 0


# Where programs look for it: trio makes sure that the lock it got is the interpreter's own.
RLock.__module__ = "_thread"


class LockWait(Wait):
    """What a thread waits for that is blocked on a lock."""

    __slots__ = ("lock", "state")

    def __init__(self, lock: Lock, state: State, timed: bool) -> None:
        super().__init__(timed)
        self.lock = lock
        self.state = state

    def certain(self) -> SimThread | None:
        # A plain lock that was taken without ``with`` may be meant as a signal, which another thread gives.
        state = self.state
        return state.holder if state.in_block or isinstance(self.lock, RLock) else None

    def __str__(self) -> str:
        state = self.state
        holder = state.holder
        if state.count and holder is None:
            return f"{self.lock.describe()}, held outside the simulated world, where nobody can give it back while this run lasts"
        if holder is None or not state.count:
            return f"{self.lock.describe()}, which nobody holds"
        since = f" since {state.at[0]}:{state.at[1]}" if state.at is not None else ""
        return f"{self.lock.describe()}, held by thread {holder.process.actor(holder)!r}{since}"


def _check(blocking: bool, timeout: float) -> None:
    if timeout == -1:
        return
    if not blocking:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if timeout < 0:
        raise ValueError("timeout value must be a non-negative number")
    if timeout > TIMEOUT_MAX:
        raise OverflowError("timeout value is too large")


# -- making them -----------------------------------------------------------------------------------------------------------


def new_lock(world: World | None, real: Any = None) -> Lock:
    """What ``threading.Lock()`` gives in a world; and outside, while worlds are open, where it is ``real`` as well."""
    site, quiet = _circumstances(sys._getframe(1))
    return Lock(world, site, quiet=quiet, real=real)


def new_rlock(world: World | None, real: Any = None) -> RLock:
    """What ``threading.RLock()`` gives."""
    site, quiet = _circumstances(sys._getframe(1))
    return RLock(world, site, quiet=quiet, real=real)


# The part of bateau whose locks guard what its users share between threads: taking those is a choice.
_PRIMITIVES = f"{PACKAGE_DIR}kernel/resource.py"
_HERE = f"{PACKAGE_DIR}sim/"


def _circumstances(frame: FrameType | None) -> tuple[tuple[str, int] | None, bool]:
    """Of a new lock: where it is made, and whether it is quiet."""
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    if frame is None:
        return None, False
    code = frame.f_code
    filename = code.co_filename
    quiet = filename.startswith("<frozen") or (filename.startswith(PACKAGE_DIR) and filename != _PRIMITIVES)
    if filename.endswith("threading.py") and code.co_qualname == "Condition.wait":
        quiet = True
    site = site_of(frame)
    return site[:2] if site is not None else None, quiet
