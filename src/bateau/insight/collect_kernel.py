"""bateau's own tasks, scopes and resources, read from the kernel: exact, because every wait names its resource (law 16).

What is read is the public shape of tasks, nodes and operations, which the kernel's pure and native form share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

from ..kernel.cancellation import CancelNode
from ..kernel.operation import PARKED, Operation
from ..kernel.resource import Resource
from ..kernel.task import Task
from . import model
from .model import make
from .tables import MOST_WAITERS, Tables, describe, failed_description, native_part, steady, steady_copy

# What an operation says of itself unless its class says otherwise.
_DESCRIBE: Any = Operation.__dict__["describe"]
# Chooses, in C, which waits `look_again` has to look at; or None.
_unsteady = native_part("unsteady")


class KernelCollector:
    """Reads the tree below some roots into ``tables``. ``outer_left`` tells of another library's timeout around a task, which
    will end a wait that no timer of bateau's does.
    """

    def __init__(self, tables: Tables, outer_left: Callable[[Task[Any], Any], float | None]) -> None:
        self.tables = tables
        self._outer_left = outer_left
        # Who was waiting, on what: looked at again when all has been read.
        self.waits: list[tuple[dict[str, Any], Task[Any], Operation[Any]]] = []
        # Those in a wait of another library: looked into by who knows that library.
        self.elsewhere: list[tuple[dict[str, Any], Task[Any]]] = []
        self.seen: set[int] = set()
        self._outside: set[int] = set()
        self._nows: dict[int, float] = {}
        # What plain operations say of themselves: the same of all that wait for the same.
        self._texts: dict[tuple[type[Any], int], str] = {}
        # The C form of `task`, which leaves the unusual to that; or None.
        self._look = tables.native_look(self._now)

    # -- the tree ------------------------------------------------------------------------------------------------------

    def read_tree(self, roots: Iterable[CancelNode]) -> None:
        """Every node below ``roots``, parents first. Iterative: a tree may be deep."""
        todo: list[CancelNode] = list(roots)
        look, tasks, seen = self._look, self.tables.tasks, self.seen
        while todo:
            batch, todo = todo, []
            at = 0
            while at < len(batch):
                if look is not None:
                    at = look.read(batch, at, tasks, seen, self.waits, todo)
                    if at == len(batch):
                        break
                # Where it stopped: there is more to tell of this one, or it is the others' turn to have the interpreter.
                self._node(batch[at], todo)
                at += 1

    def _node(self, node: CancelNode, todo: list[CancelNode]) -> None:
        """One node of the tree, whose children are for ``todo``."""
        if id(node) in self.seen:
            return
        self.seen.add(id(node))
        if isinstance(node, Task):
            self.task(node)  # pyright: ignore[reportUnknownArgumentType]  # of whatever
        elif node.task is not None:
            self.scope(node)
        children = node.children
        if children:
            todo.extend(steady_copy(children))

    def scope(self, node: Any) -> None:
        """A scope, timeout, shield or cleanup block."""
        tables = self.tables
        tables.kept.append(node)
        parent, task = node.parent, node.task
        fields: dict[str, Any] = {
            "id": id(node),
            "kind": type(node).__name__,
            "task": task.id if task is not None else None,
        }
        while isinstance(
            parent, Task
        ):  # the outermost block of a task: around it is the scope that the task belongs to
            parent = parent.parent
        if parent is not None:
            fields["parent"] = id(parent)
        if name := getattr(node, "name", ""):
            fields["name"] = name
        site = getattr(node, "site", None)
        if site is not None:
            fields["site"] = tables.site(site[0], site[1])
        if node.shielded:
            fields["shielded"] = True
        if node.deadline_at is not None and isfinite(node.deadline_at) and node.timer is not None and task is not None:
            fields["left"] = round(node.deadline_at - self._now(task.host), 3)
        if node.effective is not None:
            fields["cancelled"] = node.effective.reason
        if node.stopping is not None:
            fields["stopping"] = node.stopping.reason
        if node.children:
            fields["children"] = len(node.children)
        limit = getattr(node, "limit", None)
        if limit is not None:
            queued = len(getattr(node, "_queued", None) or ())
            fields.update(limit=limit, queued=queued, running=getattr(node, "_running", None))
        if getattr(node, "_closing", False):
            fields["closing"] = True
        tables.scopes[id(node)] = fields

    def task(self, task: Task[Any]) -> dict[str, Any] | None:
        """One task. None if it has ended."""
        look = self._look
        coro = task.coro
        fields: dict[str, Any] | None = look.task(task) if look is not None else None
        if fields is None:
            if task.ended:
                return None
            if coro is None:
                coro = foreign_coro(task)
            fields = self._fields(task, coro)
        op = task.waiting
        self.tables.tasks[fields["id"]] = fields
        if op is not None:
            fields["waits"] = self.wait(op, task, coro)
            self.waits.append((fields, task, op))
            fields["state"] = "waiting" if op.state == PARKED else "ready"
        elif not task.started:
            fields["state"] = "new"
        elif getattr(coro, "cr_running", False):
            fields["state"] = "running"
        else:
            self.elsewhere.append((fields, task))
        return fields

    def _fields(self, task: Task[Any], coro: Any) -> dict[str, Any]:
        """What is said of a task, but for what it waits on."""
        fields: dict[str, Any] = {"id": task.id, "name": task.name, "state": "unknown", "runtime": id(task.host)}
        scope, node = task.scope, task.node
        if scope is not None:
            fields["scope"] = id(scope)
            if scope.task is not None:
                fields["parent"] = scope.task.id
        if node is not task:
            fields["entered"] = id(node)
        if node.effective is not None:
            fields["cancelled"] = node.effective.reason
        if node.stopping is not None:
            fields["stopping"] = node.stopping.reason
        if task.background:
            fields["background"] = True
        if (
            getattr(task, "_extra", True) is not None and task.priority
        ):  # the pure kernel keeps it among what few tasks have
            fields["priority"] = task.priority
        if task.coro is not None:
            fields["spawned"] = self._spawned(task)
        stack = self.tables.stack_of(coro)
        if stack is not None:
            fields["stack"] = stack
        return fields

    def _spawned(self, task: Task[Any]) -> int:
        code = getattr(task, "_site_code", None)
        if code is None or isinstance(code, tuple):
            file, line = task.spawn_site
            return self.tables.site(file, line)
        return self.tables.point(code, task._site_offset)

    # -- waits ---------------------------------------------------------------------------------------------------------

    def wait(self, op: Operation[Any], task: Task[Any], coro: Any) -> model.Wait:
        """What one operation waits for."""
        resource = op.resource
        number = id(resource)
        known = self.tables.resources.get(number)
        if known is None:
            self.resource(resource)
            known = self.tables.resources[number]
        kind = type(op)
        text = self._texts.get((kind, number))
        if text is None:
            try:
                if kind.describe is _DESCRIBE:
                    text = self._texts[kind, number] = f"{kind.__name__} on {known['text']}"
                else:
                    text = op.describe()
                    if getattr(kind, "described_alike", False):
                        self._texts[kind, number] = text
            except Exception as error:
                text = failed_description(op, error)
        fields: dict[str, Any] = {"operation": text, "resource": number}
        if number in self._outside:
            # Rounded: a thousandth of a second says all, and is written in half of the time.
            when = getattr(op, "when", None)
            if type(when) is float and isfinite(when):
                fields["left"] = round(when - self._now(task.host), 3)
        elif "freed_by" in known:  # by tasks
            left = self._outer_left(task, coro)
            if left is not None:
                fields["left"] = round(left, 3)
        if op.shielded:
            fields["shielded"] = True
        if known["kind"] == "select":
            fields["operation"] = "select"
            fields["arms"] = self._arms(resource)
        elif self._look is not None:
            outside = number in self._outside or (False if "freed_by" in known else None)
            self._look.learn(kind, resource, number, self._texts.get((kind, number)), outside)
        return make(model.Wait, fields)

    def _arms(self, select: Any) -> tuple[model.Arm, ...]:
        found: list[model.Arm] = []
        for key, arm in steady(select.arms.items)[:MOST_WAITERS]:
            op, task = arm.op, arm.task
            fields: dict[str, Any] = {"name": str(key)}
            if arm.outcome is not None:
                fields["state"] = "ready"
            elif op is not None:
                fields["operation"] = describe(op)
                fields["resource"] = self.resource(op.resource)
                fields["state"] = "waiting" if op.state == PARKED else "idle"
            elif task is not None:
                fields.update(task=task.id, state="running", operation=f"child task {task.name!r}")
            else:
                fields["state"] = "idle"
            if select.last is not None and select.last == key:
                fields["last"] = True
            found.append(make(model.Arm, fields))
        return tuple(found)

    def resource(self, resource: Resource) -> int:
        """The id of a resource, which is entered when it is first met."""
        number = id(resource)
        resources = self.tables.resources
        if number in resources:
            return number
        self.tables.kept.append(resource)
        fields: dict[str, Any] = {"id": number, "kind": resource.kind, "text": describe(resource, resource.kind)}
        resources[number] = fields
        name = getattr(resource, "name", None)
        if isinstance(name, str) and name:
            fields["name"] = name
        try:
            self._relations(resource, fields)
        except Exception as error:  # half changed by its own thread, or a user's own class
            self.tables.gap(f"{fields['text']}: who could free it could not be read ({type(error).__name__}: {error})")
        return number

    def _relations(self, resource: Resource, fields: dict[str, Any]) -> None:
        ops = steady(resource.waiters)
        if ops:
            fields["waiting"] = len(ops)
            fields["waiters"] = tuple(op.task.id for op in ops[:MOST_WAITERS] if op.task is not None)
        holders = steady(resource.holders)
        if holders:
            fields["holders"] = tuple(holder.id for holder in holders)
        owner = getattr(resource, "_owner", None)
        if type(owner) is int:
            fields["holder_threads"] = (owner,)
        satisfiers = resource.satisfiers()
        if isinstance(satisfiers, str):
            fields["freed_by"] = "outside"
            self._outside.add(fields["id"])
        else:
            tasks = tuple(task.id for task in steady_copy(satisfiers))
            if tasks:  # else nobody says that he could: an event can be set by anyone who has it
                fields["freed_by"] = "tasks"
                fields["satisfiers"] = tasks
        if resource.needs_all:
            fields["needs_all"] = True
        self._fill(resource, fields)

    def _fill(self, resource: Any, fields: dict[str, Any]) -> None:
        """How full a channel is, where it says so."""
        capacity, items = getattr(resource, "capacity", None), getattr(resource, "items", None)
        if type(capacity) is int and items is not None and hasattr(items, "__len__"):
            fields["used"] = len(items)
            if 0 <= capacity < 1 << 62:
                fields["capacity"] = capacity

    def _now(self, host: Any) -> float:
        """The host's clock, asked once."""
        found = self._nows.get(id(host))
        if found is None:
            found = self._nows[id(host)] = host.now()
        return found

    # -- the end -------------------------------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Forget the program's objects."""
        self._look = None
        self.waits.clear()
        self.elsewhere.clear()

    def look_again(self) -> bool:
        """Mark who went on while the others were being read. Whether anybody did."""
        moved = False
        for fields, task, op in self.waits if _unsteady is None else _unsteady(self.waits):
            parked = op.state == PARKED
            if task.waiting is not op or parked is not (fields["state"] == "waiting"):
                fields["moved"] = moved = True
        return moved


def foreign_coro(task: Task[Any]) -> Any:
    """The coroutine of a task that bateau adopted: its host's task has it."""
    native: Any = getattr(task, "host_task", None)  # unset where the kernel's own engine drives
    if native is None:
        return None
    if hasattr(native, "get_coro"):
        return native.get_coro()
    native = trio_task(native)
    return getattr(native, "coro", None)


def trio_task(seat: Any) -> Any:
    """The trio task that a host keeps as a seat, or the thing itself."""
    reference = getattr(seat, "ref", None)
    return reference() if reference is not None else seat
