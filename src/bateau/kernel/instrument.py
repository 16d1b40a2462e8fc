"""What the kernel tells an observer: a task was spawned, stepped, parked, woken, cancelled, has ended.

The flight recorder is one (``bateau.insight.recorder``); traces and profiles are others. A host that nobody observes pays one
test of an attribute (``host.instrument is None``) per event. Where the calls are made:

=========  ===========================================================================================================
``spawn``  ``Scope`` admits a child or starts it again; ``Host.spawn_root``
``step``   ``Engine.turn`` and ``Engine.step``, before the coroutine is resumed. Where another loop drives, its steps are its
           own affair: there it is called when a task begins and when it goes on after one of our waits (``host.resumed``)
``idle``   ``Engine.turn``: nothing is being stepped any more, the loop is about to look at the world outside
``park``   ``Host.park`` (``task.waiting`` is the operation, or None: a wait on something foreign)
``wake``   ``Host.wake``, where it is news
``cancel`` a node is cancelled: a task, or a scope that ``node.task`` has entered
``end``    ``Task.finish``, before the scope hears of it
=========  ===========================================================================================================

A native engine calls the same points. One that knows the recorder's ring (see ``_native/recorder.h``) may write to it directly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from .cancellation import CancelNode
    from .errors import CancelRecord
    from .host import Host
    from .task import Task


class Instrument:
    """An observer of one host: override what is of interest.

    Every method is called on the host's own thread (``end`` of an adopted task of trio's on any) in the middle of the scheduler:
    it must return soon, not raise, and not call back into what it observes.
    """

    __slots__ = ()

    def spawn(self, task: Task[Any]) -> None:
        """``task`` was made, with its name, scope and spawn site."""

    def step(self, task: Task[Any]) -> None:
        """``task`` is about to run."""

    def idle(self) -> None:
        """No task runs any more."""

    def park(self, task: Task[Any]) -> None:
        """``task`` waits for ``task.waiting``, or for something foreign if that is None."""

    def wake(self, task: Task[Any]) -> None:
        """``task`` was put among those that are ready."""

    def cancel(self, node: CancelNode, record: CancelRecord) -> None:
        """``node`` was cancelled, for the reason in ``record``."""

    def end(self, task: Task[Any], error: BaseException | None) -> None:
        """``task`` has ended, with ``error`` unless it returned."""


class Several(Instrument):
    """Tells several observers, in the order in which they came."""

    __slots__ = ("members",)

    def __init__(self, members: tuple[Instrument, ...]) -> None:
        self.members = members

    def spawn(self, task: Task[Any]) -> None:
        for member in self.members:
            member.spawn(task)

    def step(self, task: Task[Any]) -> None:
        for member in self.members:
            member.step(task)

    def idle(self) -> None:
        for member in self.members:
            member.idle()

    def park(self, task: Task[Any]) -> None:
        for member in self.members:
            member.park(task)

    def wake(self, task: Task[Any]) -> None:
        for member in self.members:
            member.wake(task)

    def cancel(self, node: CancelNode, record: CancelRecord) -> None:
        for member in self.members:
            member.cancel(node, record)

    def end(self, task: Task[Any], error: BaseException | None) -> None:
        for member in self.members:
            member.end(task, error)


# Makes the observer of a host, or None where it does not want to observe that one.
Factory = Callable[["Host"], "Instrument | None"]

_factories: list[Factory] = []
# Every host that lives, for those who start to observe later.
hosts: WeakSet[Host] = WeakSet()


def made(host: Host) -> None:
    """``host`` is being made, on its own thread. Called by ``Host.__init__``."""
    hosts.add(host)
    if _factories:
        attach(host)


def attach(host: Host) -> None:
    """Ask every factory anew who observes ``host``."""
    members = tuple(one for factory in _factories if (one := factory(host)) is not None)
    found = None if not members else members[0] if len(members) == 1 else Several(members)
    host.instrument = found
    host.resumed = found.step if found is not None and host.rides else None


def install(factory: Factory) -> Callable[[], None]:
    """Observe every host that lives or will be made. Returns the function that takes ``factory`` out again.

    A host of another thread that is in the middle of a turn goes on unobserved until its next one.
    """
    _factories.append(factory)
    for host in tuple(hosts):
        attach(host)

    def remove() -> None:
        if factory in _factories:
            _factories.remove(factory)
            for host in tuple(hosts):
                attach(host)

    return remove
