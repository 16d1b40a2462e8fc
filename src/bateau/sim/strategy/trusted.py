"""bateau's own functions whose effects are known, so that a step which runs through them has a footprint.

Programs under the simulator are made of them: waiting, waking, locks, channels, scopes. Their insides are not followed; each is listed
here with what it may touch, after having been read. Everything that is not listed counts as touching everything.

What they share is the state of a *resource* (lock, channel, task, scope...). A function is listed under

* ``OWN``: it concerns the running task, its operation and new objects alone; or what it does to a resource is accounted for by its caller;
* ``STATE``: besides, it reads or changes the state of the resource that its first argument is, waits on, or belongs to;
* ``FIRST``: besides, it reads or changes the state of the task that its first argument is;
* ``INNER``: it is like ``OWN`` where bateau's own code calls it;
* ``IF``: it is like ``OWN`` if a condition holds.

The order of the ready queue is no state: every order of it is explored anyway. Cancellation (anything that sets ``record`` or ``effective``
of a node) is not listed: it concerns a whole subtree.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import CodeType
from typing import Any

from ...channel.ends import End
from ...kernel.errors import PACKAGE_DIR
from ...kernel.leaving import Drain
from ...kernel.operation import Operation
from ...kernel.resource import Resource
from ...kernel.scope import ALL_MUST_SUCCEED

OWN: dict[str, str] = {
    "kernel/operation.py": """
        Operation.__init__ Operation.__await__ Operation._fired Operation.__del__ Checkpoint.__await__ YieldNow.__await__ _wait yield_once
    """,
    "kernel/resource.py": """
        Resource.check_home Primitive.__init__ Primitive.check_home Primitive.check_thread WaitQueue.__init__ WaitQueue.add
        WaitQueue.discard WaitQueue.pop WaitQueue.__len__ WaitQueue.__bool__ WaitQueue.__contains__
    """,
    "kernel/current.py": "current_task_or_none current_task current_host _ThreadState.task _ThreadState.__init__",
    "kernel/flow.py": "checkpoint yield_now",
    "kernel/task.py": "Task.__await__ Task.join Join.__init__ _settle_now settle",
    "kernel/scope.py": "Scope._set_up Scope.__init__",
    "kernel/coroutines.py": "as_coroutine _awaiting",
    "kernel/cancellation.py": "Cancellable._set_up Cancellable._enter enter leave check_seconds",
    "kernel/leaving.py": "Drain.__init__ to_raise wait_for_children",
    "kernel/policy.py": "Policy.conclude",
    "kernel/engine.py": """
        Engine.wake Engine.start Engine.park Engine.current Engine.enter_node Engine.leave_node Engine._raised
        Engine._trapped Engine._ended Engine.call_at
    """,
    "kernel/timers.py": "EngineTimer.__init__ Timers.set TimersOfAWorld.set Timers._gather",
    "runtimes/native_asyncio.py": """
        AsyncioSide._publish set_current AsyncioSide.__init__.<locals>.<lambda> TaskFace.__init__ TaskFace.ended TaskFace.cancelling
    """,
    "kernel/host.py": "Host.pause Host.current Host.now Host.set_timer Host.watch_end",
    "scopes.py": "scope",
    "time.py": """
        sleep sleep_until sleep_forever Sleep.__init__ Sleep.__await__ Sleep._pass_turn Sleep.begin Sleep.poll Sleep.register _check_time
        monotonic
    """,
    "sync/base.py": """
        Nothing.__await__ _True.__await__ _LocalEntry.__enter__ _LocalEntry.__exit__ SyncPrimitive.__init__ SyncPrimitive._transition
        SyncPrimitive._on_the_spot check_count
    """,
    "sync/places.py": "PlaceQueue.__init__ PlaceQueue.draw PlaceQueue.join",
    "sync/owners.py": "caller owner_of",
    "sync/lock.py": "Lock.__init__ Lock.acquire Lock.__aexit__ _Acquire._fired",
    "sync/semaphore.py": "Semaphore.__init__ BoundedSemaphore.__init__ Semaphore.acquire Semaphore.__aexit__",
    "sync/event.py": "Event.__init__ Event.wait",
    "sync/notify.py": "Notify.__init__ Notify.wait",
    "channel/mpmc.py": "Sender.send Receiver.recv Receiver.__aiter__ Receiver.__anext__ channel.__new__ _new_sender _new_receiver",
    "channel/queue.py": "QueueState.__init__",
    "channel/ends.py": "End.__init__ End.__bool__ End.__enter__ End.__aenter__ End.__exit__ End.__aexit__ check_capacity",
    "channel/seats.py": "Seat.__init__ Seat.note",
    "kernel/errors.py": "user_site",
    "sim/runtime.py": "SimEngine._step_one",
    "sim/host.py": "HostClock.monotonic",
    "sim/asyncio_tasks.py": "ReadyQueue.__len__",
    "sim/timeline.py": "Timeline.chance Timeline._taken",
    "sim/world.py": "World.point World.before_call",
    "sim/strategy/exhaustive.py": "Exhaustive.chance Exhaustive.choose",
    "sim/strategy/frontier.py": "Spent.may_fail Spent.may_yield",
    "sim/strategy/tree.py": "Tree.choice _Choice.__init__",
}  # fmt: skip

STATE: dict[str, str] = {
    "kernel/operation.py": "Operation.begin Operation.fire Operation.claim",
    "kernel/task.py": "Join.poll Join.register",
    "kernel/scope.py": "Scope.spawn Scope._check_open Scope._admit Scope.child_ended Scope.__aenter__ Scope.__aexit__ Scope._launch",
    "kernel/leaving.py": "Drain.satisfied Drain.poll Drain.register",
    "sync/base.py": "QueuedWait.register",
    "sync/lock.py": """
        Lock.try_acquire Lock.__aenter__ Lock.release Lock._pass_on Lock._watch Lock.locked _Acquire.poll _Acquire.register
    """,
    "sync/semaphore.py": """
        Semaphore.try_acquire Semaphore.__aenter__ Semaphore.release Semaphore._give Semaphore._note_taken Semaphore._note_returned
        Semaphore.value Semaphore.locked _Acquire.poll _Acquire.register
    """,
    "sync/event.py": "Event.is_set Event.set Event.clear _Wait.poll",
    "sync/notify.py": "Notify.notify_one Notify.notify_all Notify._notify _Wait.poll _Wait.fire",
    "channel/mpmc.py": """
        Sender.try_send Receiver.try_recv Sender.clone Receiver.clone Sender._gone Receiver._gone Sender.__len__ Receiver.__len__
        Receiver.__del__ Receiver.close
    """,
    "channel/queue.py": """
        QueueState.put QueueState.take QueueState.admit QueueState.sender_gone QueueState.receiver_gone Send.poll Send.register
        Send.__await__ Recv.poll Recv.register Recv.__await__ Recv.at_end
    """,
    "channel/ends.py": "End._come_home End._check End._use End.close End.closed End.__del__ _vacate",
}  # fmt: skip

FIRST: dict[str, str] = {
    "kernel/task.py": "Task._begin Task._not_started Task.finish Task.done",
    "sync/owners.py": "has_ended watch_end unwatch_end",
}

# Like ``OWN``, on a condition: see ``condition_holds``.
IF: dict[str, str] = {
    "kernel/engine.py": "Engine.step Engine._resume",
    "runtimes/native_asyncio.py": "AsyncioSide._yielded",
}

# What bateau's own primitives use of threads, in its simulated form: who runs, and locks. In a process with one thread these order nothing;
# what they guard is the state of a resource. For a program that calls them they are not listed.
INNER: dict[str, str] = {
    "sim/threads/locks.py": """
        Lock.__enter__ Lock.__exit__ Lock._acquire Lock._take Lock.acquire Lock.release Lock._release Lock.state_in State.__init__
        RLock.__enter__ RLock._acquire RLock.release _check
    """,
    "sim/doors/__init__.py": "_entry.<locals>.door",
    "sim/doors/threads.py": "get_ident",
}  # fmt: skip

# A function is known by its file within the package and its qualified name.
Known = tuple[str, str]

_KINDS: dict[Known, str] = {
    (file, name): kind
    for kind, table in (("own", OWN), ("state", STATE), ("first", FIRST), ("inner", INNER), ("if", IF))
    for file, names in table.items()
    for name in names.split()
}


def kind_of(code: CodeType) -> str:
    """``"own"``, ``"state"``, ``"first"``, ``"inner"`` or ``"if"`` for a function listed above; else ``""``. ``code`` must be bateau's."""
    return _KINDS.get((code.co_filename[len(PACKAGE_DIR) :].lstrip("/\\").replace("\\", "/"), code.co_qualname), "")


def resource_of(thing: Any) -> Any:
    """The resource whose state a ``STATE`` function touches, by its first argument."""
    if isinstance(thing, Operation):
        return thing.resource
    if isinstance(thing, End):
        return thing._state
    if isinstance(thing, Resource):
        return thing
    raise TypeError(f"{type(thing).__name__} belongs to no resource")


def condition_holds(code: CodeType, values: Mapping[str, Any]) -> bool:
    """Whether a function under ``IF`` concerns the running task alone this time; ``values`` are its arguments."""
    if code.co_qualname in ("Engine.step", "Engine._resume"):
        return values["task"].throwing is None  # else the coroutine gets an exception thrown in
    return not values["self"]._private._ready  # else asyncio's callbacks go first, which may do anything


def ends_the_program(task: Any) -> bool:
    """Whether the end of ``task`` concerns everybody: it belongs to no scope that waits for others."""
    return task.scope is None


def ends_quietly(code: CodeType, values: Mapping[str, Any]) -> bool:
    """Whether this call is part of a child's end that its scope only counts: which child ends first makes no difference to it then.

    ``values`` are the arguments of a ``STATE`` function.
    """
    scope: Any = values.get("self")
    if code.co_qualname == "Scope.child_ended":
        task = values["task"]
        quiet = task._error is None and task.starting is None and scope.policy is ALL_MUST_SUCCEED
        return quiet and scope.limit is None and not task.background and scope._queued is None
    # The last child finds that it is, and wakes who waits for all. (The wait itself begins and polls: that is no end.)
    return isinstance(scope, Drain) and code.co_qualname in ("Drain.satisfied", "Operation.fire")
