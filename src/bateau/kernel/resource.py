"""Resources: what an operation waits on, and the queues of those who wait (law 16).

Every wait names a ``Resource``, which knows its waiters, its holders and who could satisfy it. Tools, deadlock reports
and error messages are built on these three questions alone.
"""

from __future__ import annotations

from _thread import RLock, get_ident
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from .current import current_task_or_none
from .errors import WrongRuntime
from .twin import PrimitiveFields, native, slots

if TYPE_CHECKING:
    from .host import Host
    from .operation import Operation
    from .task import Task

Flavour = Literal["local", "shared"]

# What could satisfy a wait when it is not a task: a timer, an fd, a thread, a signal.
OUTSIDE: Final = "outside"


class Resource:
    """Something a task can wait on. Subclasses say what they are and override the three questions."""

    __slots__ = ()
    kind: ClassVar[str] = "resource"
    # The name of the attribute with the one task that holds it, beside whose `holders` it stands; what is no task there is a holder
    # that is none. It can be read for less than `holders` costs, which matters to who writes down every wait.
    held_by: ClassVar[str | None] = None
    # Whether one satisfier is not enough: every child of a scope must end, every reader must leave a lock for readers and writers.
    needs_all: ClassVar[bool] = False
    # The lock of the ``shared`` flavour; None for ``local`` resources and those of the kernel itself.
    mutex: Any = None

    def waiters(self) -> Iterable[Operation[Any]]:
        """The operations parked on this resource, first come first."""
        return ()

    def holders(self) -> Iterable[Task[Any]]:
        """The tasks that hold it (a lock's owner), if that is known."""
        return ()

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        """The tasks that could end a wait on it (by default its holders), or ``OUTSIDE``."""
        return self.holders()

    def describe(self) -> str:
        """One line for a person: kind, name, fill."""
        return f"{self.kind} at {id(self):#x}"

    def check_home(self, host: Host) -> None:
        """Raise ``WrongRuntime`` if ``host`` may not wait here. Kernel resources are checked elsewhere."""


class Primitive(PrimitiveFields, Resource):
    """The base of the portable primitives: a resource with a name and a flavour.

    Flavour: ``local`` (one runtime, no lock) or ``shared`` (several runtimes and plain threads at once, each transition
    under ``mutex``). Unless told, what is made inside a running task is ``local`` and what is made outside any (a module's
    global, say) is ``shared``.

    Invariant: ``mutex is None`` iff the flavour is ``local``; a local primitive has a ``_home`` from its first use on.
    """

    __slots__ = slots("__weakref__", "_home", "_thread", "mutex", "name")
    kind: ClassVar[str] = "primitive"

    def __init__(self, *, name: str | None = None, flavour: Flavour | None = None) -> None:
        if flavour not in (None, "local", "shared"):
            raise ValueError(f"flavour must be 'local', 'shared' or None (by context), not {flavour!r}")
        self.name = name
        task = current_task_or_none() if flavour != "shared" else None
        self._home: Host | None = None
        self._thread = 0
        if task is not None:
            self._home = task.host
            self._thread = get_ident()
        # RLock: a finaliser that the collector runs inside a transition may touch the same primitive.
        self.mutex = RLock() if flavour == "shared" or (flavour is None and task is None) else None

    @property
    def flavour(self) -> Flavour:
        """``"local"`` or ``"shared"``."""
        return "local" if self.mutex is None else "shared"

    def check_home(self, host: Host) -> None:
        """Raise ``WrongRuntime`` if this local primitive belongs to another runtime than ``host``."""
        home = self._home
        if home is None:
            self._home = host
            self._thread = get_ident()
        elif home.domain is not host.domain:
            self._wrong(host.describe())

    def check_thread(self) -> None:
        """For sync methods (release, set, try_send): raise ``WrongRuntime`` off the home thread of a local primitive."""
        if self._home is None:
            return
        if get_ident() != self._thread:
            self._wrong(f"thread {get_ident()}")

    def _wrong(self, here: str) -> None:
        home = self._home
        assert home is not None
        raise WrongRuntime(
            f"this {self.describe()} is local to {home.describe()} and is being used from {here}; "
            f"make it with flavour='shared' to use it from several runtimes or threads"
        )

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        """Unless the primitive knows better: its holders, or for a shared one anybody, on any thread."""
        return self.holders() if self.mutex is None else OUTSIDE

    def describe(self) -> str:
        label = f"{self.kind} {self.name!r}" if self.name else f"{self.kind} at {id(self):#x}"
        return label + self._fill()

    def _fill(self) -> str:
        """For ``describe``: how full or held it is, with a leading space."""
        return ""

    def __repr__(self) -> str:
        return f"<{self.describe()}>"


class WaitQueue:
    """The operations parked on one resource, first in, first out; removal from the middle is O(1).

    Invariant: every operation in it is PARKED, so that firing what ``pop`` returns always succeeds.
    """

    __slots__ = ("_ops",)

    def __init__(self) -> None:
        self._ops: OrderedDict[Operation[Any], None] = OrderedDict()

    def add(self, op: Operation[Any]) -> None:
        """Append a parked operation."""
        self._ops[op] = None

    def add_first(self, op: Operation[Any]) -> None:
        """Put a parked operation at the head: it keeps a place it had before."""
        self._ops[op] = None
        self._ops.move_to_end(op, last=False)

    def discard(self, op: Operation[Any]) -> None:
        """Take an operation out, if it is in."""
        self._ops.pop(op, None)

    def pop(self) -> Operation[Any] | None:
        """Take out the first operation that may still be granted, or return None. The caller must fire it."""
        ops = self._ops
        while ops:
            op, _ = ops.popitem(last=False)
            if op.claim():
                return op
        return None

    def peek(self) -> Operation[Any] | None:
        """The first operation, left in place."""
        return next(iter(self._ops), None)

    def __len__(self) -> int:
        return len(self._ops)

    def __bool__(self) -> bool:
        return bool(self._ops)

    def __iter__(self) -> Iterator[Operation[Any]]:
        return iter(tuple(self._ops))

    def __contains__(self, op: object) -> bool:
        return op in self._ops


if not TYPE_CHECKING and native is not None:
    WaitQueue = native.WaitQueue
