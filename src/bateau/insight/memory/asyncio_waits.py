"""What asyncio's tasks wait on, worked out from where they are suspended.

asyncio does not say who holds a lock, or whether a future is a timer's. Both can mostly be told: the innermost frame is in asyncio's
own code, whose variables are known (``Lock.acquire`` has the lock in ``self``), and who is inside ``async with lock`` has the lock's
exit on its value stack. What is found this way is marked as inferred.
"""

from __future__ import annotations

from collections.abc import Iterable
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


_REAL = Struct("<d")
CLOCK, FUTURE = "the clock", "asyncio future"

# By module of asyncio (its file's name) and qualified name.
RECIPES: dict[tuple[str, str], Recipe] = {
    ("tasks", "sleep"): Recipe("asyncio.sleep", CLOCK, "h", "outside"),
    ("tasks", "_wait"): Recipe("asyncio.wait", "asyncio.wait", "fs", "tasks"),
    ("tasks", "wait_for"): Recipe("wait_for", "task", "fut", "tasks"),
    ("locks", "Lock.acquire"): Recipe("acquire of", "asyncio Lock", "self"),
    ("locks", "Semaphore.acquire"): Recipe("acquire of", "asyncio Semaphore", "self"),
    ("locks", "Event.wait"): Recipe("wait of", "asyncio Event", "self"),
    ("locks", "Condition.wait"): Recipe("wait of", "asyncio Condition", "self"),
    ("locks", "Barrier._wait"): Recipe("wait of", "asyncio Barrier", "self"),
    ("locks", "Barrier._block"): Recipe("wait of", "asyncio Barrier", "self"),
    ("queues", "Queue.get"): Recipe("get of", "asyncio Queue", "self"),
    ("queues", "Queue.put"): Recipe("put of", "asyncio Queue", "self"),
    ("queues", "Queue.join"): Recipe("join of", "asyncio Queue", "self"),
    ("taskgroups", "TaskGroup.__aexit__"): Recipe("leave an", "asyncio task group", "self", "tasks"),
    ("taskgroups", "TaskGroup._aexit"): Recipe("leave an", "asyncio task group", "self", "tasks"),
    ("streams", "StreamReader._wait_for_data"): Recipe("read of", "asyncio stream", "self", "outside"),
    ("streams", "FlowControlMixin._drain_helper"): Recipe("drain of", "asyncio stream", "self", "outside"),
    ("threads", "to_thread"): Recipe("a worker thread", FUTURE, "", "outside"),
    ("base_events", "BaseEventLoop.getaddrinfo"): Recipe("a name look-up in a thread", FUTURE, "", "outside"),
    ("base_events", "Server.serve_forever"): Recipe("connections to", "asyncio Server", "self", "outside"),
    ("base_subprocess", "BaseSubprocessTransport._wait"): Recipe("the end of a child process", FUTURE, "", "outside"),
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
_DESCRIPTOR = Recipe("input or output", FUTURE, "", "outside")
_BARE = Recipe("an asyncio future", FUTURE)


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
        self._shared: dict[tuple[int, str], Wait] = {}
        # Type address -> what a thing awaited is: "future", "task", "gather" (those in C), "none", "other".
        self._roles: dict[int, str] = {}
        self._head = struct_of([(8, "Q"), (draft.python.layout.future_state, "i")])
        # By stack: the slot of the variable that the recipe names. By type of a timer's handle: where it says when it is due (0:
        # nowhere; negative: where the number itself is).
        self._slots: dict[int, int] = {}
        self._due: dict[int, int] = {}
        # By stack at which a wait is told by one variable of the innermost frame alone, and nobody is in a block: that variable's slot, and
        # how the wait is worded (None: as a sleep). For who reads such tasks in C.
        self._usual: dict[int, tuple[int, str | None]] = {}

    # -- waits ---------------------------------------------------------------------------------------------------------

    def of(self, task: int, chain: Chain, waiter: int, stack: int) -> Wait | None:
        """The wait of a suspended task; None if what it waited for has come (it will run soon)."""
        kind, state = self.memory.unpack(self._head, waiter)
        role = self._roles.get(kind) or self._role(kind)
        if role == "none" or (state and role != "other"):
            return None
        recipe, depth = self._recipes.get(stack) or self._recipe(chain, stack)
        if recipe.kind == CLOCK:
            return self._timer(task, chain, stack, depth)
        if recipe is _BARE or recipe.kind in ("asyncio.wait", "task"):
            return self._awaited(task, chain, waiter, recipe, depth)
        slot = self._slots.get(stack)
        if slot is None:
            variables = chain.links[-1 - depth].code.variables
            slot = self._slots[stack] = variables.index(recipe.variable) if recipe.variable in variables else -1
        resource = self.memory.word(chain.frames[-1 - depth] + 8 * slot) & FREE_BITS if slot >= 0 else 0
        shared = self._shared.get((resource, recipe.operation))
        if shared is not None:  # all who wait there wait alike
            self.draft.waiting[resource].append(task)
            return shared
        if not resource or self.objects.is_none(resource):
            return self._plain(task, waiter, recipe)
        wait = self.draft.waits(task, f"{recipe.operation} {self._describe(resource, recipe)}", resource, foreign=True)
        self._shared[resource, recipe.operation] = wait
        return wait

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

    def _plain(self, task: int, future: int, recipe: Recipe) -> Wait:
        """A wait on a future of which nothing is known but where it is awaited."""
        self.draft.resource(future, FUTURE, recipe.operation, library="asyncio", freed_by=recipe.freed_by)
        return self.draft.waits(task, recipe.operation, future, foreign=True)

    def _timer(self, task: int, chain: Chain, stack: int, depth: int) -> Wait:
        if 1 not in self.draft.resources:
            self.draft.resource(1, CLOCK, CLOCK, library="asyncio", freed_by="outside")
        slot = self._slots.get(stack)
        if slot is None:
            variables = chain.links[-1 - depth].code.variables
            slot = self._slots[stack] = variables.index("h") if "h" in variables else -1
        left = None
        try:
            if slot >= 0:
                left = self._left(self.memory.word(chain.frames[-1 - depth] + 8 * slot))
        except Fault:
            left = None
        return self.draft.waits(task, "asyncio.sleep", 1, foreign=True, left=left)

    def _left(self, handle: int) -> float | None:
        """Seconds until the timer with that handle is due; None if it does not say (uvloop's)."""
        handle &= FREE_BITS
        kind = self.memory.word(handle + 8)
        slot = self._due.get(kind)
        if slot is None:
            info = self.objects.type_at(kind)
            slot = self._due[kind] = info.slots.get("_when", 0) or -info.reals.get("_when", 0)
        if slot < 0:  # the native loop's, which has the number itself
            when: float = self.memory.unpack(_REAL, handle - slot)[0]
        elif slot:
            when = self.objects.real(self.memory.word(handle + slot))
        else:
            return None
        left = when - self.draft.now
        if not abs(left) < 1e12:  # for ever, which JSON has no number for; or no number
            return None
        return round(left, 3)  # a thousandth of a second says all, and is written in half of the time

    def _awaited(self, task: int, chain: Chain, waiter: int, recipe: Recipe, depth: int) -> Wait:
        """A wait on a future itself: another task, several, or one that anybody may complete."""
        info = self.objects.type_of(waiter)
        if recipe.kind == "task":
            inner = self._variable(chain, depth, recipe.variable)
            waiter = inner or waiter
            info = self.objects.type_of(waiter)
        if recipe.kind == "asyncio.wait":
            members = self._variable(chain, depth, recipe.variable)
            self._several(waiter, "asyncio.wait", self.objects.set_items(members) if members else [])
            return self.draft.waits(task, "asyncio.wait", waiter, foreign=True)
        if any(name.endswith("._GatheringFuture") for name in info.names):
            children = self.objects.list_items(self.objects.attribute(waiter, "_children"))
            self._several(waiter, "asyncio.gather", children, needs_all=True)
            return self.draft.waits(task, "asyncio.gather", waiter, foreign=True)
        if any(name.endswith(".Task") for name in info.names):
            name = self._task_name(waiter)
            self.draft.resource(
                waiter, "task", f"the end of task {name!r}", name=name, library="asyncio", freed_by="tasks"
            )
            self.draft.could_free(waiter, waiter)
            words = f"wait_for task {name!r}" if recipe.kind == "task" else f"the end of task {name!r}"
            return self.draft.waits(task, words, waiter, foreign=True)
        return self._plain(task, waiter, recipe if recipe.kind != "task" else _BARE)

    def _several(self, resource: int, kind: str, members: Iterable[int], **more: Any) -> None:
        self.draft.resource(resource, kind, kind, library="asyncio", freed_by="tasks", **more)
        for member in members:
            if any(name.endswith(".Task") for name in self._names(member)):
                self.draft.could_free(resource, member)
            else:
                self.draft.resources[resource]["freed_by"] = "unknown"

    def _describe(self, resource: int, recipe: Recipe) -> str:
        """Note the resource and its state; returns what it is called."""
        more: dict[str, Any] = {"library": "asyncio", "inferred": True}
        if recipe.freed_by != "unknown":
            more["freed_by"] = recipe.freed_by
        text = f"{recipe.kind} at {resource:#x}"
        try:
            if recipe.kind == "asyncio Queue":
                used = self.objects.length(self.objects.attribute(resource, "_queue"))
                capacity = self.objects.integer(self.objects.attribute(resource, "_maxsize"))
                more["used"] = used
                if capacity > 0:
                    more["capacity"] = capacity
                text += f" ({used}/{capacity if capacity > 0 else 'unbounded'})"
            elif recipe.kind == "asyncio task group":
                text, more["needs_all"] = recipe.kind, True
                for member in self.objects.set_items(self.objects.attribute(resource, "_tasks")):
                    self.draft.could_free(resource, member)
        except Fault:
            self.draft.gap(f"the state of an {recipe.kind} could not be read")
        self.draft.resource(resource, recipe.kind, text, **more)
        return text

    def _task_name(self, task: int) -> str:
        try:
            if "_asyncio.Task" in self._names(task):
                name = self.memory.word(task + self.draft.python.layout.task_name)
            else:
                name = self.objects.attribute(task, "_name")
            return self.name(name)
        except Fault:
            return f"at {task:#x}"

    def name(self, name: int) -> str:
        """A task's name, from the object that asyncio keeps it as."""
        try:
            return self.objects.string(name, 1024)
        except Fault:  # 3.12 and later keep the number of a task without a name until somebody asks for it
            return f"Task-{self.objects.integer(name)}"

    def tables(self) -> tuple[dict[Any, Any], ...]:
        """What is known so far, and grows: for who reads tasks in C."""
        return self._usual, self._roles, self._shared, self.draft.waiting, self._due

    def remember(self, stack: int) -> None:
        """A task at that stack was read: say how others there can be, if they are of the usual kind."""
        recipe, depth = self._recipes.get(stack, (_BARE, 0))
        slot = self._slots.get(stack, -1)
        if depth or slot < 0 or not self.is_plain(stack) or recipe is _BARE or recipe.kind in ("asyncio.wait", "task"):
            return
        self._usual[stack] = slot, None if recipe.kind == CLOCK else recipe.operation

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
