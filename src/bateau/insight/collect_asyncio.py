"""asyncio's tasks: what they await, and what can be worked out about who could free them.

asyncio keeps no record of who holds a lock or who will put into a queue. What it does keep are frames: a task that is inside
``async with lock`` has the lock's ``__aexit__`` on its stack, and a task that will use a queue has it in a local variable. What is
inferred in this way is marked so. Nothing is known of a plain future: somebody may have it, and a wait on one is never called
hopeless.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import MethodType
from typing import Any, cast

from ..runtimes import forking
from . import model
from .model import make
from .tables import Tables, chain_of, exits, referents, steady, steady_copy

# Functions of asyncio in which a task waits for the world outside: descriptors, threads, processes.
_OUTSIDE = (
    "sock_",
    "_wait_for_data",
    "_drain_helper",
    "readline",
    "start_serving",
    "getaddrinfo",
    "_make_subprocess",
    "SubprocessTransport._wait",
)
# Where the classes of loops and of what belongs to them come from.
_LOOPS = ("asyncio", "uvloop", "bateau._native")
_LOCKS = (
    "Lock",
    "Semaphore",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Barrier",
    "Queue",
    "PriorityQueue",
    "LifoQueue",
)
# How many tasks are searched for what others wait on.
MOST_SEARCHED = 20_000


class AsyncioCollector:
    """Reads tasks of asyncio loops into ``tables``. ``id_of`` gives the id of a task that bateau knows as its own, else None."""

    def __init__(self, tables: Tables, known: Callable[[Any], int | None]) -> None:
        self.tables = tables
        self._known = known
        # The task's fields, it, and the future it was seen waiting on.
        self.waits: list[tuple[dict[str, Any], Any, Any]] = []
        # What somebody waits on, whose holders or users have to be searched for: by address, the thing and its fields.
        self._sought: dict[int, tuple[Any, dict[str, Any]]] = {}
        self.coros: list[tuple[int, Any]] = []

    def id_of(self, native: Any) -> int:
        """The id of an asyncio task in this snapshot."""
        known = self._known(native)
        return known if known is not None else -id(native)

    def task(self, native: Any, runtime: int) -> None:
        """A task that is asyncio's alone."""
        if native.done():
            return
        tables = self.tables
        tables.kept.append(native)
        number = -id(native)
        coro = native.get_coro()
        fields: dict[str, Any] = {
            "id": number, "name": native.get_name(), "state": "unknown", "library": "asyncio", "runtime": runtime
        }  # fmt: skip
        tables.tasks[number] = fields
        stack = tables.stack_of(coro)
        if stack is not None:
            fields["stack"] = stack
        self.fill(fields, native, coro)

    def fill(self, fields: dict[str, Any], native: Any, coro: Any) -> None:
        """State and wait of a task that is in no operation of bateau's."""
        if getattr(native, "cancelling", int)() and "cancelled" not in fields:
            fields["cancelled"] = "cancelled by asyncio"
        waiter: Any = getattr(native, "_fut_waiter", None)
        if coro is not None and getattr(coro, "cr_running", getattr(coro, "gi_running", False)):
            fields["state"] = "running"
            return
        self.coros.append((fields["id"], coro))
        if waiter is None or waiter.done():
            fields["state"] = "ready"
            return
        fields["state"] = "waiting"
        fields["waits"] = self._wait(native, coro, waiter)
        self.waits.append((fields, native, waiter))

    # -- one wait ------------------------------------------------------------------------------------------------------

    def _wait(self, native: Any, coro: Any, waiter: Any) -> model.Wait:
        chain = coroutines_of(coro)
        inner = chain[-1] if chain else coro
        name = getattr(inner, "__qualname__", "")
        module = _module_of(inner)
        found = self._in_asyncio(native, inner, name, waiter) if module.startswith("asyncio") else None
        if found is None:
            found = self._on_future(waiter)
        if found.left is None:
            left = timeout_left(chain, native.get_loop())
            if left is not None:
                found = replace(found, left=left)
        return found

    def _in_asyncio(self, native: Any, inner: Any, name: str, waiter: Any) -> model.Wait | None:
        """A wait inside one of asyncio's own functions, by what that function is for."""
        values = referents(inner)
        if name == "sleep":
            return self._sleep(native, values)
        if name.startswith("TaskGroup."):
            group = _find(values, ("TaskGroup",))
            children = steady(lambda: group._tasks) if group is not None else []
            return self._tasks("leave an asyncio task group", group, "asyncio task group", children, needs_all=True)
        if name == "wait_for":  # until 3.11 it waits for a future of its own
            inner_task = next((value for value in values if hasattr(value, "get_coro")), None)
            if inner_task is not None:
                return self._tasks(f"wait_for task {inner_task.get_name()!r}", waiter, "asyncio.wait_for", [inner_task])
        if name in ("wait", "_wait"):
            awaited = next((value for value in values if type(value) in (set, frozenset) and value), ())
            return self._tasks(
                "asyncio.wait", waiter, "asyncio.wait", [one for one in awaited if hasattr(one, "get_coro")]
            )
        resource = _find(values, _LOCKS)
        if resource is not None:
            verb = name.rpartition(".")[2]
            return make(
                model.Wait,
                {
                    "operation": f"{verb} of {_text(resource)}",
                    "resource": self._sync(resource, waiter),
                    "foreign": True,
                },
            )
        if any(part in name for part in _OUTSIDE):
            return self._plain(name, waiter, "outside")
        return None

    def _sleep(self, native: Any, values: list[Any]) -> model.Wait:
        fields: dict[str, Any] = {"operation": "asyncio.sleep", "foreign": True}
        handle = _find(values, ("TimerHandle",))
        if handle is not None:
            fields["left"] = handle.when() - native.get_loop().time()
        fields["resource"] = self._entry(
            1, {"kind": "the clock", "text": "the clock", "library": "asyncio", "freed_by": "outside"}
        )
        return make(model.Wait, fields)

    def _on_future(self, waiter: Any) -> model.Wait:
        """A bare future: another task, a gathering of them, or something that anybody may complete."""
        if hasattr(waiter, "get_coro"):
            return self._tasks(f"the end of task {waiter.get_name()!r}", waiter, "task", [waiter])
        children = getattr(waiter, "_children", None)
        if children is not None:
            pending = [child for child in steady(lambda: children) if not child.done()]
            tasks = [child for child in pending if hasattr(child, "get_coro")]
            wait = self._tasks("asyncio.gather", waiter, "asyncio.gather", tasks, needs_all=True)
            if len(tasks) < len(pending):
                self.tables.resources[id(waiter)]["freed_by"] = "unknown"
            return wait
        for callback in steady(lambda: getattr(waiter, "_callbacks", None) or ()):
            call: Any = callback[0]  # with its context
            if "_chain_future" in getattr(call, "__qualname__", ""):
                return self._plain("a future of concurrent.futures (a worker thread or process)", waiter, "outside")
        return self._plain("an asyncio future", waiter, "unknown")

    def _plain(self, text: str, waiter: Any, freed_by: str) -> model.Wait:
        self.tables.kept.append(waiter)
        resource = self._entry(
            id(waiter), {"kind": "asyncio future", "text": text, "library": "asyncio", "freed_by": freed_by}
        )
        return make(model.Wait, {"operation": text, "resource": resource, "foreign": True})

    def _tasks(self, text: str, thing: Any, kind: str, natives: Iterable[Any], needs_all: bool = False) -> model.Wait:
        """A wait that the end of these tasks ends."""
        ids = tuple(self.id_of(native) for native in natives if not native.done())
        key = id(thing)
        if kind == "task" and ids and ids[0] > 0:
            text = f"the end of task {thing.get_name()!r}"
        self.tables.kept.append(thing)
        fields: dict[str, Any] = {
            "kind": kind,
            "text": text,
            "library": "asyncio",
            "satisfiers": ids,
            "freed_by": "tasks",
        }
        if needs_all:
            fields["needs_all"] = True
        return make(model.Wait, {"operation": text, "resource": self._entry(key, fields), "foreign": True})

    def _sync(self, resource: Any, waiter: Any) -> int:
        """One of asyncio's primitives: its waiters are counted, its holders searched for later."""
        kind = f"asyncio {type(resource).__name__}"
        waiting = len(getattr(resource, "_waiters", None) or getattr(resource, "_getters", None) or ())
        fields: dict[str, Any] = {"kind": kind, "text": _text(resource), "library": "asyncio", "inferred": True}
        if waiting:
            fields["waiting"] = waiting
        if hasattr(resource, "_maxsize"):
            fields["used"] = len(getattr(resource, "_queue", ()))
            fields["waiting"] = len(resource._getters) + len(resource._putters)
            if resource._maxsize > 0:
                fields["capacity"] = resource._maxsize
        number = self._entry(id(resource), fields)
        self._sought.setdefault(number, (resource, self.tables.resources[number]))
        return number

    def _entry(self, number: int, fields: dict[str, Any]) -> int:
        self.tables.resources.setdefault(number, {"id": number, **fields})
        return number

    # -- who holds, who could --------------------------------------------------------------------------------------------

    def spread_timeouts(self) -> None:
        """What ``asyncio.wait_for`` waits for is a task of its own until 3.11, and is cancelled when the time is over: its wait has an
        end as well.
        """
        for fields, _, _ in self.waits:
            wait: model.Wait = fields["waits"]
            resource = self.tables.resources.get(wait.resource or 0)
            if wait.left is None or resource is None or resource["kind"] != "asyncio.wait_for":
                continue
            for number in resource["satisfiers"]:
                inner = self.tables.tasks.get(number, {})
                inner_wait: model.Wait | None = inner.get("waits")
                if inner_wait is not None and (inner_wait.left is None or inner_wait.left > wait.left):
                    inner["waits"] = replace(inner_wait, left=wait.left)

    def search(self) -> None:
        """Look through all suspended tasks for those that hold, or will use, what others wait on."""
        if not self._sought:
            return
        if len(self.coros) > MOST_SEARCHED:
            self.tables.gap(f"who holds asyncio's locks was not searched for: more than {MOST_SEARCHED} tasks")
            return
        sought = self._sought
        for number, coro in self.coros:
            for link in chain_of(coro):
                if not hasattr(link, "cr_frame"):
                    continue
                values = referents(link)
                for value in exits(values, "__aexit__"):
                    if id(value) in sought:
                        _note(sought[id(value)][1], "holders", number)
                for value in values:
                    if id(value) in sought and sought[id(value)][0] is value:
                        _note(sought[id(value)][1], "satisfiers", number)
        waiting_on: dict[int, set[int]] = {}
        for fields, _, _ in self.waits:
            wait = fields["waits"]
            waiting_on.setdefault(wait.resource, set()).add(fields["id"])
        for number, (resource, fields) in sought.items():
            _judge(resource, fields, waiting_on.get(number, set()))

    def sought(self) -> Iterable[tuple[Any, dict[str, Any]]]:
        """What somebody waits on of which the library does not know who could free it, each with its fields."""
        return self._sought.values() if len(self.coros) <= MOST_SEARCHED else ()

    def let_go(self) -> None:
        """Forget the program's objects."""
        self.waits.clear()
        self.coros.clear()
        self._sought.clear()

    def look_again(self) -> bool:
        """Mark who went on meanwhile. Whether anybody did."""
        moved = False
        for fields, native, waiter in self.waits:
            now: Any = getattr(native, "_fut_waiter", None)
            if now is None or now is not waiter or now.done():
                fields["moved"] = moved = True
        return moved


def coroutines_of(coro: Any) -> list[Any]:
    """The coroutines of a chain of awaits, outermost first."""
    return [link for link in chain_of(coro) if hasattr(link, "cr_frame")]


def timeout_left(chain: Iterable[Any], loop: Any) -> float | None:
    """Seconds until the nearest timeout of asyncio's around a suspended task; None without one.

    A task inside ``async with asyncio.timeout(...)`` has its ``__aexit__`` on its stack; one in ``wait_for`` a timer's handle.
    """
    nearest: float | None = None
    for link in chain:
        for found in referents(link):
            value: Any = cast("Any", found.__self__) if type(found) is MethodType else found
            name, module = type(value).__name__, type(value).__module__
            when: float | None = None
            if name == "Timeout" and module in ("asyncio.timeouts", "async_timeout"):
                when = value.when() if hasattr(value, "when") else getattr(value, "deadline", None)
            elif name == "TimerHandle" and module.startswith(_LOOPS) and not value.cancelled():
                when = value.when()
            if type(when) in (int, float) and when is not None and (nearest is None or when < nearest):
                nearest = when
    return nearest - loop.time() if nearest is not None else None


def _judge(resource: Any, fields: dict[str, Any], waiting: set[int]) -> None:
    """What the search means. Those that wait for it stand inside ``async with`` as well, and don't hold it."""
    holders = tuple(number for number in fields.pop("holders", ()) if number not in waiting)
    users = tuple(number for number in fields.pop("satisfiers", ()) if number not in waiting)
    kind = type(resource).__name__
    if kind in ("Lock", "Semaphore", "BoundedSemaphore") and holders:
        fields["holders"] = fields["satisfiers"] = holders
        # A lock has one holder, so this is who; of a semaphore's permits others may have been taken without a block.
        fields["freed_by"] = "tasks" if kind == "Lock" else "unknown"
    elif users or holders:
        fields["satisfiers"] = tuple(dict.fromkeys((*holders, *users)))


def _note(fields: dict[str, Any], key: str, number: int) -> None:
    found = fields.setdefault(key, [])
    if number not in found:
        found.append(number)


def _find(values: Iterable[Any], names: tuple[str, ...]) -> Any:
    """The first value whose class (or a base of it) is asyncio's class of one of these names."""
    for value in values:
        for cls in type(value).__mro__:
            if cls.__name__ in names and cls.__module__.startswith(_LOOPS):
                return value
    return None


def _module_of(coro: Any) -> str:
    frame = getattr(coro, "cr_frame", None)
    return str(frame.f_globals.get("__name__", "")) if frame is not None else ""


def _text(resource: Any) -> str:
    name = f"asyncio {type(resource).__name__} at {id(resource):#x}"
    if hasattr(resource, "_maxsize"):
        size = resource._maxsize if resource._maxsize > 0 else "unbounded"
        name += f" ({len(getattr(resource, '_queue', ()))}/{size})"
    return name


def loops() -> list[tuple[Any, int | None]]:
    """The asyncio loops that have tasks, or that run on some thread now, each with that thread."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None or not hasattr(asyncio, "tasks"):
        return []
    found: dict[int, tuple[Any, int | None]] = {}
    for thread, top in sys._current_frames().items():
        frame: Any = top
        while frame is not None:
            loop = _loop_run_by(frame)
            if loop is not None:
                found.setdefault(id(loop), (loop, thread))
            frame = frame.f_back
    here = asyncio.events._get_running_loop()
    if here is not None:
        found[id(here)] = here, get_ident()
    # From Python 3.14 on the tables below don't have asyncio's tasks in C, and our own loop leaves no frame of asyncio's on the stack.
    for host in steady_copy(forking._hosts):
        loop = getattr(getattr(host, "aio", None), "loop", None)
        if loop is not None:
            found.setdefault(id(loop), (loop, host.thread_id))
    for table in ("_all_tasks", "_scheduled_tasks", "_eager_tasks"):
        for native in steady_copy(getattr(asyncio.tasks, table, ())):
            if not native.done():
                loop = native.get_loop()
                found.setdefault(id(loop), (loop, getattr(loop, "_thread_id", None)))
    return [(loop, thread) for loop, thread in found.values() if not loop.is_closed()]


def _loop_run_by(frame: Any) -> Any:
    """The loop that a function of asyncio's on some thread's stack is running. uvloop's own functions leave no frame."""
    name = frame.f_code.co_name
    if name in ("run_forever", "_run_once", "run_until_complete"):
        loop = frame.f_locals.get("self")
    elif name == "run" and frame.f_globals.get("__name__") == "asyncio.runners" and "self" in frame.f_locals:
        loop = getattr(frame.f_locals["self"], "_loop", None)
    else:
        return None
    return loop if hasattr(loop, "call_soon_threadsafe") else None


def tasks_of(loop: Any) -> list[Any]:
    """The tasks of a loop that have not ended."""
    asyncio: Any = sys.modules["asyncio"]
    return steady(lambda: asyncio.all_tasks(loop))
