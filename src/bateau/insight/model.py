"""The snapshot: what an async program was doing at one moment, as plain values.

Every reader (the agent in a live process, another process's memory, a crash report) makes one, every tool (the text, the
graph, the console) takes one, and nothing in between knows which. Things refer to each other by id, never by reference, so a
snapshot can be written down (``schema``), sent, and compared.

The classes are frozen, and keep a ``__dict__`` on purpose: a snapshot of 100,000 tasks has to be made, written and read
within a second, and ``make`` fills one in a single step, leaving what has its default to the class.

Times are seconds. A duration counts back from ``Snapshot.taken_at``; ``left`` counts on from there. Ids are whole numbers: a task
of bateau has the ``id`` it has in the program; what belongs to another library has minus its address; scopes, resources and
runtimes have their address. An id is good for as long as the thing lives.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

from .errors import InsightError as InsightError  # their names have always been here
from .errors import ReadError as ReadError
from .errors import SchemaError as SchemaError

T = TypeVar("T")

# The version of the snapshot, and of its JSON form: see ``schema`` for what a change of either number promises.
VERSION = (1, 2)

Library = Literal["bateau", "asyncio", "trio", "other"]
# ``new``: not started (it waits for its place under a limit, or for its first step). ``ready``: it will run when its turn comes.
# ``running``: in the middle of a step, on its runtime's thread. ``waiting``: suspended until something happens. ``unknown``: the
# reader can't tell.
TaskState = Literal["new", "ready", "running", "waiting", "ended", "unknown"]
# Whose code a frame is in: the user's own, an installed package's, the standard library's, bateau's.
Whose = Literal["user", "package", "stdlib", "bateau"]
# Who could end a wait on a resource: exactly its ``satisfiers``; somebody outside (a timer, a descriptor, a thread); not known.
FreedBy = Literal["tasks", "outside", "unknown"]
ArmState = Literal["waiting", "running", "ready", "idle"]


class _Empty(dict[str, Any]):
    """The one empty mapping that stands for "nothing was added"; hashable, because a dataclass takes it for a default then."""

    def __hash__(self) -> int:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]  # a dict has None there
        return 0

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError("this mapping belongs to every snapshot; make one of your own")


EMPTY: Mapping[str, Any] = _Empty()


@dataclass(frozen=True)
class Frame:
    """One line of a stack. Frames stand in ``Snapshot.frames``, each once, and are referred to by their index there."""

    file: str
    line: int
    function: str
    whose: Whose = "user"


@dataclass(frozen=True)
class Process:
    """The process that was read. ``started_at``: seconds since the epoch. ``stopped``: by a signal (``SIGSTOP``) or a debugger."""

    pid: int
    argv: tuple[str, ...] = ()
    executable: str = ""
    python: str = ""
    platform: str = ""
    bateau: str = ""
    started_at: float | None = None
    memory: int | None = None
    stopped: bool = False


@dataclass(frozen=True)
class Runtime:
    """One loop on one thread. ``name`` as in ``bateau runtimes``; a plain asyncio or trio program has a runtime as well.

    ``owned``: started by ``bateau.run``. ``running``: the task in the middle of a step. ``ready``, ``timers``, ``fds``: how many
    tasks are ready to run, timers are set, descriptors are watched (None: not known). ``holds``: what else may still call back
    (threads, child processes), in words. ``ext``: a runtime's own state, under names of its own.
    """

    id: int
    name: str
    library: Library = "bateau"
    thread: int | None = None
    owned: bool = False
    running: int | None = None
    ready: int | None = None
    timers: int | None = None
    fds: int | None = None
    holds: tuple[str, ...] = ()
    ext: Mapping[str, Any] = EMPTY


@dataclass(frozen=True)
class Arm:
    """One arm of a select: an operation, or a child task that goes on working (``task``). ``last``: it was served last."""

    name: str
    operation: str = ""
    state: ArmState = "waiting"
    resource: int | None = None
    task: int | None = None
    last: bool = False


@dataclass(frozen=True)
class Wait:
    """What a task waits for. ``operation`` in words: ``send on channel 'jobs' (2/2)``.

    ``waited``: for how long, in seconds, if it is known; with ``at_least`` it is only known to be longer than that. ``left``:
    seconds until a timer ends this very wait. ``arms``: of a select, whose own ``resource`` is the select. ``foreign``: the wait is
    not bateau's, and what is said of it was inferred. ``shielded``: a cancellation does not end it.
    """

    operation: str
    resource: int | None = None
    waited: float | None = None
    at_least: bool = False
    left: float | None = None
    arms: tuple[Arm, ...] = ()
    foreign: bool = False
    shielded: bool = False


@dataclass(frozen=True)
class Event:
    """Something that happened to a task, noted by the program (``insight.note``): ``ago`` seconds before the snapshot."""

    text: str
    ago: float
    data: Mapping[str, Any] = EMPTY


@dataclass(frozen=True)
class Task:
    """A task, of bateau, asyncio or trio.

    ``stack``: index into ``Snapshot.stacks``: where it is suspended (or runs), outermost frame first. ``spawned``: index into
    ``Snapshot.frames``: the line that made it. ``parent``: the task whose scope (nursery) it belongs to; ``scope``: that scope;
    ``entered``: the innermost scope or timeout it is in. ``cancelled``: why, if it is being cancelled. ``stats``: counters that a
    recorder keeps (``steps``, ``busy``, ``scheduled``, ``idle``, ``wakes``, ``self_wakes``: see the protocol). ``memory``: bytes
    of its suspended frames; ``context``: its context variables; both only on request. ``moved``: it went on while the snapshot was
    being taken, so what is said of it holds for one moment only. ``ran``: for how many seconds the step has lasted that a running
    task is in (None: not known); with ``ran_at_most`` it is only known to be no longer than that.
    """

    id: int
    name: str
    state: TaskState
    runtime: int | None = None
    library: Library = "bateau"
    parent: int | None = None
    scope: int | None = None
    entered: int | None = None
    stack: int | None = None
    spawned: int | None = None
    waits: Wait | None = None
    cancelled: str | None = None
    stopping: str | None = None
    background: bool = False
    priority: int = 0
    moved: bool = False
    ran: float | None = None
    ran_at_most: bool = False
    stats: Mapping[str, float] = EMPTY
    events: tuple[Event, ...] = ()
    memory: int | None = None
    context: Mapping[str, str] = EMPTY
    ext: Mapping[str, Any] = EMPTY


@dataclass(frozen=True)
class Scope:
    """A scope, timeout, shield or nursery that is entered. ``task``: the task whose block it is; ``parent``: the scope around it.

    ``site``: index into ``Snapshot.frames``. ``left``: seconds until its deadline. ``closing``: its body has ended, and it waits
    for its children. ``limit``, ``running``, ``queued``: how many children may run at once, do, and wait for their place.
    """

    id: int
    kind: str
    name: str = ""
    library: Library = "bateau"
    task: int | None = None
    parent: int | None = None
    site: int | None = None
    left: float | None = None
    shielded: bool = False
    cancelled: str | None = None
    stopping: str | None = None
    closing: bool = False
    children: int = 0
    limit: int | None = None
    running: int | None = None
    queued: int | None = None
    ext: Mapping[str, Any] = EMPTY


@dataclass(frozen=True)
class Resource:
    """Something tasks wait on. ``text`` in words, with its fill: ``lock 'db' (held by task 'a', 2 waiting)``.

    ``waiters``: tasks, first come first (at most the first 1,000; ``waiting`` is their number). ``holders``: the tasks that have
    it; ``holder_threads``: plain threads that do; ``held``: for how many seconds each of the ``holders``, and then of the ``holder_threads``,
    has had it, at least (empty: not known). ``satisfiers``: the tasks that could end a wait on it; ``freed_by`` says whether
    these are all there are, and ``needs_all`` whether one of them is not enough (a scope waits for every child). ``inferred``: worked out from another library's insides, hence likely and not proven.
    ``used`` of ``capacity`` (None: unbounded or without one).
    """

    id: int
    kind: str
    text: str
    name: str | None = None
    library: Library = "bateau"
    waiters: tuple[int, ...] = ()
    waiting: int = 0
    holders: tuple[int, ...] = ()
    holder_threads: tuple[int, ...] = ()
    held: tuple[float, ...] = ()
    satisfiers: tuple[int, ...] = ()
    freed_by: FreedBy = "unknown"
    needs_all: bool = False
    inferred: bool = False
    used: int | None = None
    capacity: int | None = None
    ext: Mapping[str, Any] = EMPTY

    def held_for(self, at: int) -> float | None:
        """For how long the ``at``-th of the holders (the tasks, then the threads) has had it, at least; None if that is not known."""
        return (self.held[at] or None) if at < len(self.held) else None


@dataclass(frozen=True)
class Thread:
    """A thread of the process. ``id``: Python's ident; ``native_id``: the kernel's. ``runtime``: the one it runs, if any."""

    id: int
    name: str = ""
    native_id: int | None = None
    stack: int | None = None
    runtime: int | None = None
    daemon: bool | None = None


@dataclass(frozen=True)
class Timer:
    """A pending call of a runtime. ``left`` seconds from now (negative: overdue). At most the next 1,000 of each runtime."""

    runtime: int
    left: float
    what: str = ""
    task: int | None = None


@dataclass(frozen=True)
class Fd:
    """A descriptor that a runtime watches. ``target``: what the system says it is (``socket:[7113]``)."""

    fd: int
    runtime: int
    reading: bool = False
    writing: bool = False
    target: str = ""


@dataclass(frozen=True)
class Offload:
    """A function handed to a worker thread. ``state``: ``queued`` for a thread, ``running``, or ``cancelled`` and still running."""

    runtime: int
    what: str
    state: Literal["queued", "running", "cancelled"] = "running"
    task: int | None = None
    thread: int | None = None
    site: int | None = None


@dataclass(frozen=True)
class Finding:
    """A hazard that was reported: its shared name, the sentence, the line to blame (``site``: a frame), and the tasks concerned.

    ``count``: how often. ``ago``: when it was seen last, in seconds before the snapshot; ``first_ago``: when first (None: not known).
    """

    hazard: str
    message: str
    site: int | None = None
    tasks: tuple[int, ...] = ()
    ago: float | None = None
    first_ago: float | None = None
    count: int = 1
    ext: Mapping[str, Any] = EMPTY


@dataclass(frozen=True)
class Snapshot:
    """Everything, at one moment. ``taken_at``: seconds since the epoch; ``took``: seconds it took.

    ``source``: what kind of reader made it (``live``, ``memory``, ``recorder``, ``report``...). ``exact``: nothing moved while it was
    taken; else tasks that did are marked (``Task.moved``). ``gaps``: what could not be read, in words: an empty list of tasks and an
    unreadable one are not the same. ``gauges``: numbers the program gave a name (``insight.gauge``), and readers' own.
    ``ext``: what extensions added, each under its own name.
    """

    taken_at: float
    process: Process
    source: str = "live"
    took: float = 0.0
    exact: bool = False
    frames: tuple[Frame, ...] = ()
    stacks: tuple[tuple[int, ...], ...] = ()
    runtimes: tuple[Runtime, ...] = ()
    tasks: tuple[Task, ...] = ()
    scopes: tuple[Scope, ...] = ()
    resources: tuple[Resource, ...] = ()
    threads: tuple[Thread, ...] = ()
    timers: tuple[Timer, ...] = ()
    fds: tuple[Fd, ...] = ()
    offloads: tuple[Offload, ...] = ()
    findings: tuple[Finding, ...] = ()
    gauges: Mapping[str, float] = EMPTY
    gaps: tuple[str, ...] = ()
    ext: Mapping[str, Any] = EMPTY

    def stack(self, index: int | None) -> tuple[Frame, ...]:
        """The frames of a stack, outermost first; none for None."""
        if index is None:
            return ()
        frames = self.frames
        return tuple(frames[at] for at in self.stacks[index])

    def frame(self, index: int | None) -> Frame | None:
        """The frame of that index; None for None."""
        return None if index is None else self.frames[index]

    def at(self, stack: int | None) -> Frame | None:
        """The line of a stack to show its user: the innermost of their own, else of a package's, else of the standard library's."""
        best: Frame | None = None
        frames = self.frames
        for index in reversed(self.stacks[stack]) if stack is not None else ():
            frame = frames[index]
            if frame.whose == "user":
                return frame
            if best is None or _RANK[frame.whose] < _RANK[best.whose]:
                best = frame
        return best

    def place(self, task: Task) -> Frame | None:
        """The line to show for a task: that of its stack; of one that is inside bateau from its first frame on, the line that spawned it."""
        frame = self.at(task.stack)
        if frame is None or frame.whose == "bateau":
            return self.frame(task.spawned) or frame
        return frame


_RANK: dict[str, int] = {"user": 0, "package": 1, "stdlib": 2, "bateau": 3}


@dataclass(frozen=True)
class Want:
    """What a reader is asked for beyond the tasks and what they wait on.

    ``memory``: bytes per suspended task; ``context``: context variables (their ``repr``, cut at 200 characters); ``threads``: the
    threads' stacks; ``tables``: the lists of timers, descriptors and offloads, not only their number. ``seconds``: for a reader that
    can't get everything at once, how long it may take before it gives what it has and names the gap.
    """

    memory: bool = False
    context: bool = False
    threads: bool = True
    tables: bool = True
    seconds: float = 10.0


@runtime_checkable
class Reader(Protocol):
    """Where snapshots come from: this process, an agent in another one, another process's memory, a file."""

    def read(self, want: Want | None = None) -> Snapshot:
        """Take a snapshot. Raises ``ReadError``, which says what to do, where nothing can be read."""
        ...


def make(cls: type[T], fields: dict[str, Any]) -> T:
    """An instance of one of these classes with ``fields``, which it takes over; what is left out has its default.

    For readers of many tasks: a fraction of the time of calling the class. ``fields`` must have every field without a default.
    """
    new = object.__new__(cls)
    _set(new, "__dict__", fields)
    return new


_set = object.__setattr__
if not TYPE_CHECKING and os.environ.get("BATEAU_PURE") != "1":
    try:
        make = import_module("bateau._native").make
    except (ImportError, AttributeError):
        pass  # nothing was compiled (in a clone, the name leads to a folder of C files): it stays as it is
