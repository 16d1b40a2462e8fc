"""What asyncio's tasks wait on, worked out from where they are suspended.

asyncio does not say who holds a lock, or whether a future is a timer's. Both can mostly be told: the innermost frame is in asyncio's
own code, whose variables are known (``Lock.acquire`` has the lock in ``self``), and who is inside ``async with lock`` has the lock's
exit on its value stack. What is found this way is marked as inferred.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Any

from ..model import FreedBy, Wait
from .draft import Draft
from .errors import Fault
from .frames import FREE_BITS, Chain, Link, struct_of
from .objects import METHOD_SELF


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a wait inside one of asyncio's functions is: words, the variable that has the resource (or the tasks), who ends it."""

    operation: str
    kind: str
    variable: str = ""
    freed_by: FreedBy = "unknown"


# By module of asyncio (its file's name) and qualified name.
RECIPES: dict[tuple[str, str], Recipe] = {
    ("tasks", "sleep"): Recipe("sleep", "timer", "h", "outside"),
    ("tasks", "_wait"): Recipe("wait for tasks", "tasks", "fs"),
    ("tasks", "wait_for"): Recipe("wait_for", "task", "fut"),
    ("locks", "Lock.acquire"): Recipe("acquire", "lock", "self", "tasks"),
    ("locks", "Semaphore.acquire"): Recipe("acquire", "semaphore", "self"),
    ("locks", "Event.wait"): Recipe("wait", "event", "self"),
    ("locks", "Condition.wait"): Recipe("wait", "condition", "self"),
    ("locks", "Barrier._wait"): Recipe("wait", "barrier", "self"),
    ("locks", "Barrier._block"): Recipe("wait", "barrier", "self"),
    ("queues", "Queue.get"): Recipe("get", "queue", "self"),
    ("queues", "Queue.put"): Recipe("put", "queue", "self"),
    ("queues", "Queue.join"): Recipe("join", "queue", "self"),
    ("taskgroups", "TaskGroup.__aexit__"): Recipe("end of its block", "task group", "self", "tasks"),
    ("taskgroups", "TaskGroup._aexit"): Recipe("end of its block", "task group", "self", "tasks"),
    ("streams", "StreamReader._wait_for_data"): Recipe("read from a stream", "stream", "self", "outside"),
    ("streams", "FlowControlMixin._drain_helper"): Recipe("drain of a stream", "stream", "self", "outside"),
    ("threads", "to_thread"): Recipe("a worker thread", "thread", "", "outside"),
    ("base_events", "BaseEventLoop.getaddrinfo"): Recipe("a name look-up in a thread", "thread", "", "outside"),
    ("base_events", "Server.serve_forever"): Recipe("connections", "server", "self", "outside"),
    ("base_subprocess", "BaseSubprocessTransport._wait"): Recipe(
        "the end of a child process", "process", "self", "outside"
    ),
}
# Any other wait inside these is one for a descriptor.
_OUTSIDE_MODULES = {
    "selector_events",
    "proactor_events",
    "unix_events",
    "base_events",
    "sslproto",
    "base_subprocess",
    "subprocess",
}
_DESCRIPTOR = Recipe("input or output", "descriptor", "", "outside")
_BARE = Recipe("a future", "future")


class AsyncioWaits:
    """Says what a suspended task waits on, and what it holds."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.objects = draft.objects
        self.frames = draft.python.frames
        self.memory = draft.memory
        # By stack: the recipe and how far from the innermost frame its own is; whether any frame has blocks open.
        self._recipes: dict[int, tuple[Recipe, int]] = {}
        self._blocks: dict[int, list[int]] = {}
        self._groups: dict[int, int] = {}
        self._words: dict[tuple[int, str], str] = {}
        # Type address -> what a thing awaited is: "future", "task", "gather" (those in C), "none", "other".
        self._roles: dict[int, str] = {}
        self._head = struct_of([(8, "Q"), (draft.python.layout.future_state, "i")])
        # By stack: the slot of the timer's handle. By type of handle: how to read its type and when it is due.
        self._handles: dict[int, int] = {}
        self._due: dict[int, Struct | None] = {}

    # -- waits ---------------------------------------------------------------------------------------------------------

    def of(self, task: int, chain: Chain, waiter: int, stack: int) -> Wait | None:
        """The wait of a suspended task; None if what it waited for has come (it will run soon)."""
        kind, state = self.memory.unpack(self._head, waiter)
        role = self._roles.get(kind) or self._role(kind)
        if role == "none" or (state and role != "other"):
            return None
        recipe, depth = self._recipes.get(stack) or self._recipe(chain, stack)
        if recipe.kind == "timer":
            return self._timer(task, chain, stack, depth)
        if recipe is _BARE or recipe.kind in ("tasks", "task"):
            return self._awaited(task, chain, waiter, recipe, depth)
        resource = self._variable(chain, depth, recipe.variable) if recipe.variable else 0
        if not resource:
            return (
                self.draft.waits(task, recipe.operation, waiter, foreign=True) if self._plain(waiter, recipe) else None
            )
        words = self._words.get((resource, recipe.operation))
        if words is None:
            self._describe(resource, recipe)
            words = self._words[resource, recipe.operation] = self._word(resource, recipe)
        return self.draft.waits(task, words, resource, foreign=True)

    def _role(self, kind: int) -> str:
        info = self.objects.type_at(kind)
        role = "other"
        if "_asyncio.Task" in info.names:
            role = "task"
        elif "_asyncio.Future" in info.names:
            role = "gather" if "asyncio.tasks._GatheringFuture" in info.names else "future"
        elif info.name == "NoneType":
            role = "none"
        self._roles[kind] = role
        return role

    @staticmethod
    def _word(resource: int, recipe: Recipe) -> str:
        words = (
            f"{recipe.operation} of {recipe.kind}" if recipe.kind in ("lock", "semaphore") else f"{recipe.operation}"
        )
        if recipe.kind in ("event", "condition", "barrier", "queue"):
            words = f"{recipe.operation} on {recipe.kind}"
        return f"{words} at {resource:#x}" if words != recipe.operation else words

    def _recipe(self, chain: Chain, stack: int) -> tuple[Recipe, int]:
        found = _BARE, 0
        for depth, link in enumerate(reversed(chain.links)):
            recipe = self._recipe_at(link)
            if recipe is not None:
                found = recipe, depth
                break
            if not self._asyncio_module(link):
                break
        self._recipes[stack] = found
        return found

    def _recipe_at(self, link: Link) -> Recipe | None:
        module = self._asyncio_module(link)
        if not module:
            return None
        recipe = RECIPES.get((module, link.code.qualname))
        return recipe if recipe is not None or module not in _OUTSIDE_MODULES else _DESCRIPTOR

    @staticmethod
    def _asyncio_module(link: Link) -> str:
        file = link.code.file
        head, _, name = file.rpartition("/")
        return name.removesuffix(".py") if head.endswith("/asyncio") else ""

    def _variable(self, chain: Chain, depth: int, name: str) -> int:
        steps = chain.links[-1 - depth], chain.frames[-1 - depth]
        value = self.frames.variable(*steps, name)
        try:
            return value if value and not self.objects.is_none(value) else 0
        except Fault:
            return 0

    def _plain(self, future: int, recipe: Recipe) -> bool:
        self.draft.resource(
            future,
            recipe.kind,
            f"{recipe.kind} at {future:#x}",
            library="asyncio",
            freed_by=recipe.freed_by,
            inferred=True,
        )
        return True

    def _timer(self, task: int, chain: Chain, stack: int, depth: int) -> Wait:
        self.draft.resource(1, "timer", "the clock", library="asyncio", freed_by="outside")
        slot = self._handles.get(stack)
        if slot is None:
            variables = chain.links[-1 - depth].code.variables
            slot = self._handles[stack] = variables.index("h") if "h" in variables else -1
        left = None
        try:
            if slot >= 0:
                left = self._left(self.memory.word(chain.frames[-1 - depth] + 8 * slot))
        except Fault:
            left = None
        if left is None:
            return self.draft.waits(task, "sleep", 1, foreign=True)
        return self.draft.waits(task, "sleep", 1, foreign=True, left=left)

    def _left(self, handle: int) -> float | None:
        """Seconds until the timer with that handle is due; None if it does not say (uvloop's)."""
        handle &= FREE_BITS
        kind = self.memory.word(handle + 8)
        if kind not in self._due:
            slot = self.objects.type_at(kind).slots.get("_when")
            self._due[kind] = Struct(f"<{slot}xQ") if slot else None
        layout = self._due[kind]
        if layout is None:
            return None
        return round(self.objects.real(self.memory.unpack(layout, handle)[0]) - self.draft.now, 3)

    def _awaited(self, task: int, chain: Chain, waiter: int, recipe: Recipe, depth: int) -> Wait:
        """A wait on a future itself: another task, several, or one that anybody may complete."""
        info = self.objects.type_of(waiter)
        if recipe.kind == "task":
            inner = self._variable(chain, depth, recipe.variable)
            waiter = inner or waiter
            info = self.objects.type_of(waiter)
        if recipe.kind == "tasks":
            members = self._variable(chain, depth, recipe.variable)
            self._several(waiter, "tasks", self.objects.set_items(members) if members else [])
            return self.draft.waits(task, recipe.operation, waiter, foreign=True)
        if any(name.endswith("._GatheringFuture") for name in info.names):
            self._several(waiter, "gather", self.objects.list_items(self.objects.attribute(waiter, "_children")))
            return self.draft.waits(task, "gather", waiter, foreign=True)
        if any(name.endswith(".Task") for name in info.names):
            self.draft.resource(waiter, "task", f"task at {waiter:#x}", library="asyncio", freed_by="tasks")
            self.draft.could_free(waiter, waiter)
            words = recipe.operation if recipe.kind == "task" else "await of a task"
            return self.draft.waits(task, words, waiter, foreign=True)
        self._plain(waiter, recipe)
        return self.draft.waits(task, f"await of {recipe.operation}", waiter, foreign=True)

    def _several(self, resource: int, kind: str, members: list[int] | tuple[int, ...]) -> None:
        self.draft.resource(
            resource, kind, f"{kind} of {len(members)} at {resource:#x}", library="asyncio", freed_by="tasks"
        )
        for member in members:
            self.draft.could_free(resource, member)

    def _describe(self, resource: int, recipe: Recipe) -> None:
        if resource in self.draft.resources:
            return
        more: dict[str, Any] = {"library": "asyncio", "freed_by": recipe.freed_by, "inferred": True}
        text = f"{recipe.kind} at {resource:#x}"
        try:
            if recipe.kind == "queue":
                used = self.objects.length(self.objects.attribute(resource, "_queue"))
                capacity = self.objects.integer(self.objects.attribute(resource, "_maxsize"))
                more["used"] = used
                if capacity > 0:
                    more["capacity"] = capacity
                text += f" ({used}/{capacity if capacity > 0 else 'unbounded'})"
            elif recipe.kind == "semaphore":
                text += f" ({self.objects.integer(self.objects.attribute(resource, '_value'))} left)"
            elif recipe.kind == "task group":
                members = self.objects.set_items(self.objects.attribute(resource, "_tasks"))
                text += f" of {len(members)} tasks"
                for member in members:
                    self.draft.could_free(resource, member)
        except Fault:
            self.draft.gap(f"the state of a {recipe.kind} could not be read")
        self.draft.resource(resource, recipe.kind, text, **more)

    # -- what it holds -------------------------------------------------------------------------------------------------

    def is_plain(self, stack: int) -> bool:
        """Whether nobody at that stack is known to be in a block that holds something."""
        return self._blocks.get(stack) == []

    def blocks(self, task: int, chain: Chain, stack: int) -> None:
        """Note the locks and semaphores inside whose blocks the task is."""
        places = self._blocks.get(stack)
        if places is None:
            places = [
                index
                for index, (link, frame) in enumerate(zip(chain.links, chain.frames, strict=True))
                if self.frames.entered(link, frame)
            ]
            self._blocks[stack] = places
        for index in places:
            entered = self.frames.entered(chain.links[index], chain.frames[index])
            inner = chain.links[index + 1].code.name if index + 1 < len(chain.links) else ""
            if inner == "__aenter__":
                entered = entered[:-1]  # it is only on its way in
            for resource in entered:
                if any(
                    name in ("asyncio.locks.Lock", "asyncio.locks.Semaphore", "asyncio.locks.Condition")
                    for name in self._names(resource)
                ):
                    self.draft.hold(self._held(resource), task)

    def _held(self, resource: int) -> int:
        """What a block on ``resource`` holds: of a condition, its lock."""
        if "asyncio.locks.Condition" in self._names(resource):
            return self.objects.attribute(resource, "_lock") or resource
        return resource

    def _names(self, address: int) -> frozenset[str]:
        try:
            return self.objects.type_of(address).names
        except Fault:
            return frozenset()

    def parent(self, callback: int) -> int:
        """The task in whose task group the task with this done callback is; 0 if it is in none."""
        try:
            if self.objects.type_of(callback).name != "method":
                return 0
            group = self.memory.word(callback + METHOD_SELF)
            found = self._groups.get(group)
            if found is None:
                found = 0
                if self.objects.is_a(group, "asyncio.taskgroups.TaskGroup"):
                    found = self.objects.path(group, "_parent_task")
                self._groups[group] = found
        except Fault:
            return 0
        return found

    def finish(self) -> None:
        """All tasks are known: give those that are waited for their names."""
        for address, resource in self.draft.resources.items():
            fields = self.draft.tasks.get(address)
            if fields is not None and resource["kind"] == "task":
                resource["text"] = f"task {fields['name']!r}"
                resource["name"] = fields["name"]
