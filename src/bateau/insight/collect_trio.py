"""Trio's tasks, nurseries and primitives, read from trio's run state.

Trio knows more than asyncio does: who owns a lock, who borrowed a token, which nursery waits for which children. What it does
not know (who will set an event, who will send) is inferred from local variables, as in ``collect_asyncio``, and marked.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import isfinite
from time import monotonic
from typing import Any
from weakref import ref

from . import model
from .model import make
from .tables import MOST_WAITERS, Tables, chain_of, referents, steady

_PRIMITIVES = (
    "Lock", "StrictFIFOLock", "Semaphore", "CapacityLimiter", "Event", "Condition", "MemoryReceiveChannel", "MemorySendChannel",
    "ParkingLot", "Nursery",
)  # fmt: skip
_OUTSIDE = ("wait_readable", "wait_writable", "to_thread_run_sync", "wait_child_exiting", "_epoll_wait", "getaddrinfo")
MOST_SEARCHED = 20_000

# A guest run stands between two calls of its host, so no thread's stack shows it, and only the collector knows. That is asked at
# most every so many seconds, because it takes a look at every object there is.
_PATIENCE = 5.0
_asked = -_PATIENCE
_guests: list[ref[Any]] = []


class TrioCollector:
    """Reads tasks of trio runs into ``tables``. ``known`` gives the id of a task that bateau knows as its own, else None."""

    def __init__(self, tables: Tables, known: Callable[[Any], int | None]) -> None:
        self.tables = tables
        self._known = known
        self.waits: list[tuple[dict[str, Any], Any, Any]] = []
        self._sought: dict[int, tuple[Any, dict[str, Any]]] = {}
        self.coros: list[tuple[int, Any]] = []

    def id_of(self, native: Any) -> int:
        """The id of a trio task in this snapshot."""
        known = self._known(native)
        return known if known is not None else -id(native)

    def task(self, native: Any, runtime: int) -> None:
        """A task that is trio's alone."""
        tables = self.tables
        tables.kept.append(native)
        number = -id(native)
        fields: dict[str, Any] = {
            "id": number, "name": native.name, "state": "unknown", "library": "trio", "runtime": runtime
        }  # fmt: skip
        tables.tasks[number] = fields
        nursery = native.parent_nursery
        if nursery is not None:
            fields["parent"] = self.id_of(nursery.parent_task)
            fields["scope"] = self._nursery(nursery)
        stack = tables.stack_of(native.coro)
        if stack is not None:
            fields["stack"] = stack
        self.fill(fields, native)

    def _nursery(self, nursery: Any) -> int:
        scope = nursery.cancel_scope
        fields = self.tables.scopes.get(id(nursery))
        if fields is None:
            self.tables.kept.append(nursery)
            fields = self.tables.scopes[id(nursery)] = {"id": id(nursery), "kind": "Nursery", "library": "trio"}
            fields["task"] = self.id_of(nursery.parent_task)
            fields["children"] = len(nursery.child_tasks)
            if getattr(scope, "_cancel_called", False):  # not the property, which would cancel a scope that is overdue
                fields["cancelled"] = "its cancel scope was cancelled"
            if getattr(scope, "_shield", False):
                fields["shielded"] = True
        return id(nursery)

    def fill(self, fields: dict[str, Any], native: Any) -> None:
        """State and wait of a task that is in no operation of bateau's."""
        coro = native.coro
        if getattr(coro, "cr_running", False):
            fields["state"] = "running"
            return
        self.coros.append((fields["id"], coro))
        status = getattr(native, "_cancel_status", None)
        if status is not None and status.effectively_cancelled and "cancelled" not in fields:
            fields["cancelled"] = "cancelled by a trio cancel scope"
        abort = getattr(native, "_abort_func", None)
        if abort is None:
            fields["state"] = "ready"  # trio clears it when it reschedules
            return
        fields["state"] = "waiting"
        wait = self._wait(native, coro)
        left = effective_left(native)
        fields["waits"] = wait if left is None or wait.left is not None else replace(wait, left=left)
        self.waits.append((fields, native, abort))

    # -- one wait ------------------------------------------------------------------------------------------------------

    def _wait(self, native: Any, coro: Any) -> model.Wait:
        """By the innermost of trio's functions that says what is waited on: a lock parks in a parking lot."""
        chain = [link for link in chain_of(coro) if hasattr(link, "cr_frame") and link.cr_frame is not None]
        best: Any = None
        for link in reversed(chain):
            frame = link.cr_frame
            module = str(frame.f_globals.get("__name__", ""))
            if not module.startswith(("trio", "outcome")):
                break
            name = link.__qualname__
            short = name.rpartition(".")[2]
            if short in ("sleep_until", "sleep", "sleep_forever"):
                return self._sleep(chain)
            if short in _OUTSIDE:
                return self._plain(short, native, "outside")
            found = _find(referents(link))
            if found is not None:
                best = name, found
        if best is None:
            return self._plain("something of trio's", native, "unknown")
        name, resource = best
        if type(resource).__name__ == "Nursery":
            return make(
                model.Wait,
                {"operation": "leave a trio nursery", "resource": self._children(resource), "foreign": True},
            )
        text = _text(resource)
        verb = name.rpartition(".")[2]
        return make(model.Wait, {"operation": f"{verb} of {text}", "resource": self._sync(resource), "foreign": True})

    def _sleep(self, chain: list[Any]) -> model.Wait:
        forever = any(link.__qualname__.endswith("sleep_forever") for link in chain)
        text = "trio.sleep_forever" if forever else "trio.sleep"
        fields: dict[str, Any] = {"operation": text, "foreign": True}
        # The sleep itself is a deadline of trio's, and the nearest.
        number, kind = (2, "nothing: it sleeps for ever") if forever else (1, "the clock")
        freed_by = "unknown" if forever else "outside"
        fields["resource"] = self._entry(number, {"kind": kind, "text": kind, "library": "trio", "freed_by": freed_by})
        return make(model.Wait, fields)

    def _plain(self, text: str, native: Any, freed_by: str) -> model.Wait:
        number = -id(native)
        resource = self._entry(number, {"kind": text, "text": text, "library": "trio", "freed_by": freed_by})
        return make(model.Wait, {"operation": text, "resource": resource, "foreign": True})

    def _children(self, nursery: Any) -> int:
        self.tables.kept.append(nursery)
        children = tuple(self.id_of(child) for child in steady(lambda: nursery.child_tasks))
        fields = {
            "kind": "trio nursery", "text": f"trio nursery ({len(children)} children)", "library": "trio",
            "satisfiers": children, "freed_by": "tasks", "needs_all": True,
        }  # fmt: skip
        return self._entry(id(nursery), fields)

    def _sync(self, resource: Any) -> int:
        kind = type(resource).__name__
        fields: dict[str, Any] = {"kind": f"trio {kind}", "text": _text(resource), "library": "trio"}
        lot = getattr(resource, "_lot", None)
        if lot is not None:
            waiting = steady(lambda: lot._parked)
            fields["waiting"] = len(waiting)
            fields["waiters"] = tuple(self.id_of(task) for task in waiting[:MOST_WAITERS])
        owner, borrowers = getattr(resource, "_owner", None), getattr(resource, "_borrowers", None)
        if owner is not None:
            fields["holders"] = fields["satisfiers"] = (self.id_of(owner),)
            fields["freed_by"] = "tasks"
        elif borrowers is not None:
            natives = [one for one in steady(lambda: borrowers) if hasattr(one, "coro")]
            fields["holders"] = fields["satisfiers"] = tuple(self.id_of(one) for one in natives)
            fields["freed_by"] = "tasks" if len(natives) == len(borrowers) else "unknown"
        else:
            fields["inferred"] = True
        state = getattr(resource, "_state", None)
        if state is not None and hasattr(state, "max_buffer_size"):
            fields["used"] = len(state.data)
            if state.max_buffer_size != float("inf"):
                fields["capacity"] = int(state.max_buffer_size)
        number = self._entry(id(resource), fields)
        if "freed_by" not in fields:
            self.tables.kept.append(resource)
            # Who could send stands at the other end: the two ends know each other by the state they share.
            thing = state if state is not None else resource
            self._sought.setdefault(id(thing), (thing, self.tables.resources[number]))
        return number

    def _entry(self, number: int, fields: dict[str, Any]) -> int:
        self.tables.resources.setdefault(number, {"id": number, **fields})
        return number

    # -- who could ---------------------------------------------------------------------------------------------------------

    def search(self) -> None:
        """Look through all suspended tasks for those that have, in a local variable, what others wait on."""
        if not self._sought:
            return
        if len(self.coros) > MOST_SEARCHED:
            self.tables.gap(f"who could set trio's events was not searched for: more than {MOST_SEARCHED} tasks")
            return
        waiting_on: dict[int, set[int]] = {}
        for fields, _, _ in self.waits:
            waiting_on.setdefault(fields["waits"].resource, set()).add(fields["id"])
        for number, coro in self.coros:
            for link in chain_of(coro):
                if not hasattr(link, "cr_frame"):
                    continue
                for value in referents(link):
                    key = (
                        id(getattr(value, "_state", value)) if type(value).__module__.startswith("trio") else id(value)
                    )
                    entry = self._sought.get(key)
                    if entry is not None and number not in waiting_on.get(entry[1]["id"], ()):
                        found = entry[1].get("satisfiers", ())
                        if number not in found:
                            entry[1]["satisfiers"] = (*found, number)

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
        for fields, native, abort in self.waits:
            if getattr(native, "_abort_func", None) is not abort:
                fields["moved"] = moved = True
        return moved


def effective_left(native: Any) -> float | None:
    """Seconds until the nearest deadline of trio's around this task; None without one."""
    status = getattr(native, "_cancel_status", None)
    nearest = float("inf")
    while status is not None:
        scope = status._scope
        nearest = min(nearest, getattr(scope, "_deadline", nearest))
        if getattr(scope, "_shield", False):
            break
        status = status._parent
    return nearest - native._runner.clock.current_time() if isfinite(nearest) else None


def _find(values: Iterable[Any]) -> Any:
    for value in values:
        if type(value).__name__ in _PRIMITIVES and type(value).__module__.startswith("trio"):
            return value
    return None


def _text(resource: Any) -> str:
    name = f"trio {type(resource).__name__} at {id(resource):#x}"
    state = getattr(resource, "_state", None)
    if state is not None and hasattr(state, "max_buffer_size"):
        name += f" ({len(state.data)}/{state.max_buffer_size})"
    return name


def runs() -> list[tuple[Any, int | None]]:
    """Trio's runs in this process, each with its thread if that is known."""
    module: Any = sys.modules.get("trio._core._run")
    if module is None:
        return []
    found: dict[int, tuple[Any, int | None]] = {}
    for thread, top in sys._current_frames().items():
        frame: Any = top
        while frame is not None:
            # Between two of its steps only ``run`` is on the stack; in guest mode, and in a step, ``unrolled_run``.
            if frame.f_code.co_name in ("run", "unrolled_run") and frame.f_globals.get("__name__") == "trio._core._run":
                runner = frame.f_locals.get("runner")
                if runner is not None:
                    found.setdefault(id(runner), (runner, thread))
            frame = frame.f_back
    if not found:
        for runner in _guest_runs(module.Runner):
            found[id(runner)] = runner, None
    return list(found.values())


def _guest_runs(cls: type[Any]) -> list[Any]:
    """Runs embedded in another loop."""
    global _asked
    alive = [runner for runner in (reference() for reference in _guests) if runner is not None]
    if not alive and monotonic() - _asked >= _PATIENCE:
        alive = [thing for thing in gc.get_objects() if type(thing) is cls and thing.is_guest]
        _guests[:] = [ref(runner) for runner in alive]
        _asked = monotonic()
    return [runner for runner in alive if runner.main_task_outcome is None]
