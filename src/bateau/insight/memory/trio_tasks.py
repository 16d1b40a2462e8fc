"""trio's tasks: found through the run of each thread, with their nurseries and what they are parked on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ..model import Runtime, Wait
from .asyncio_waits import CLOCK, Recipe
from .draft import Draft
from .errors import Fault
from .frames import Chain, Link
from .interpreter import ThreadState

# By file of trio and qualified name; ``self`` has the resource unless another variable is named.
RECIPES: dict[tuple[str, str], Recipe] = {
    ("_sync", "Event.wait"): Recipe("wait of", "trio Event", "self"),
    ("_sync", "CapacityLimiter.acquire_on_behalf_of"): Recipe("acquire of", "trio CapacityLimiter", "self"),
    ("_sync", "Semaphore.acquire"): Recipe("acquire of", "trio Semaphore", "self"),
    ("_sync", "_LockImpl.acquire"): Recipe("acquire of", "trio Lock", "self"),
    ("_sync", "Condition.wait"): Recipe("wait of", "trio Condition", "self"),
    ("_channel", "MemorySendChannel.send"): Recipe("send of", "trio memory channel", "self"),
    ("_channel", "MemoryReceiveChannel.receive"): Recipe("receive of", "trio memory channel", "self"),
    ("_timeouts", "sleep_until"): Recipe("trio.sleep", CLOCK, "deadline", "outside"),
    ("_timeouts", "sleep_forever"): Recipe("trio.sleep_forever", CLOCK),
    ("_run", "Nursery._nested_child_finished"): Recipe("leave a", "trio nursery", "self", "tasks"),
    ("_threads", "to_thread_run_sync"): Recipe("a worker thread", "a worker thread", "", "outside"),
    ("_io_epoll", "EpollIOManager._epoll_wait"): Recipe("a descriptor", "descriptor", "fd", "outside"),
}
# Where trio itself is, wherever it was installed.
_IN_TRIO = re.compile(r"[/\\]trio[/\\]_core[/\\]")
_PARKED = Recipe("something of trio's", "something of trio's")


class TrioTasks:
    """Reads every task of every trio run of one interpreter into a draft."""

    def __init__(self, draft: Draft, modules: dict[str, int], threads: Iterable[ThreadState]) -> None:
        self.draft = draft
        self.objects = draft.objects
        self.memory = draft.memory
        self.frames = draft.python.frames
        self.run_module = draft.python.module_dict(modules["trio._core._run"])
        self.threads = list(threads)
        self.runtimes: list[Runtime] = []
        self._recipes: dict[int, tuple[Recipe, int]] = {}

    def runners(self) -> dict[int, int | None]:
        """The runs that are going on, and the thread of each where it is known."""
        found: dict[int, int | None] = {}
        for thread in self.threads:
            for link, frame in thread.stack:
                if link.code.name in ("run", "unrolled_run") and link.code.file.endswith("trio/_core/_run.py"):
                    runner = self.frames.variable(link, frame, "runner")
                    if runner:
                        found[runner] = thread.ident
        context = self.run_module.get("GLOBAL_RUN_CONTEXT", 0)
        for table in self.objects.thread_local_dicts(context) if context else ():
            runner = self.objects.dict_get(table, "runner")
            if runner:
                found.setdefault(runner, None)
        return found

    def read(self) -> None:
        """Put all tasks into the draft."""
        for runner, thread in self.runners().items():
            try:
                self._read_run(runner, thread)
            except Fault as fault:
                self.draft.gap(f"a trio run could not be read: {fault}")

    def _read_run(self, runner: int, thread: int | None) -> None:
        objects = self.objects
        tasks = objects.set_items(objects.attribute(runner, "tasks"))
        try:
            offset = objects.real(objects.path(runner, "clock", "offset"))
            ready: int | None = len(objects.deque_items(objects.attribute(runner, "runq")))
        except Fault:
            offset, ready = 0.0, None
        self.runtimes.append(Runtime(runner, "trio", library="trio", thread=thread, ready=ready))
        broken = 0
        helpers: list[int] = []
        for task in tasks:
            try:
                self._read(task, runner, offset, helpers)
            except (Fault, UnicodeDecodeError):
                broken += 1
        for number in [number for number, scope in self.draft.scopes.items() if scope.get("task") in helpers]:
            del self.draft.scopes[number]
        if broken:
            self.draft.gap(f"{broken} of trio's tasks could not be read")

    def _read(self, address: int, runner: int, offset: float, helpers: list[int]) -> None:
        objects, draft = self.objects, self.draft
        chain = self.frames.chain(objects.attribute(address, "coro"))
        stack = draft.stack_of(chain)
        name = objects.string(objects.attribute(address, "name"), 1024)
        if name.startswith("<") and chain.links and _IN_TRIO.search(chain.links[0].code.file):
            helpers.append(-address)  # trio's own, which no program wrote
            return
        fields: dict[str, Any] = {
            "id": -address,
            "name": name,
            "state": "waiting",
            "runtime": runner,
            "library": "trio",
            "stack": stack,
        }
        draft.task(address, fields)
        if chain.partial:
            fields["moved"] = True
        if chain.running:
            fields["state"] = "running"
            fields["stack"] = draft.running(chain)
        elif chain.created:
            fields["state"] = "new"
        elif objects.path(address, "_abort_func"):
            fields["waits"] = self._wait(-address, address, chain, stack, offset)
        else:
            fields["state"] = "ready"
        nursery = objects.path(address, "_parent_nursery")
        if nursery:
            parent = objects.path(nursery, "_parent_task")
            fields["scope"] = nursery
            if parent:
                fields["parent"] = -parent
            self._nursery(nursery, parent)

    def _nursery(self, nursery: int, parent: int) -> None:
        if nursery in self.draft.scopes:
            return
        children = self.objects.set_items(self.objects.attribute(nursery, "_children"))
        self.draft.scopes[nursery] = {
            "id": nursery,
            "kind": "Nursery",
            "library": "trio",
            "task": -parent if parent else None,
            "children": len(children),
        }

    # -- waits ---------------------------------------------------------------------------------------------------------

    def _wait(self, task: int, address: int, chain: Chain, stack: int, offset: float) -> Wait:
        recipe, depth = self._recipes.get(stack) or self._recipe(chain, stack)
        draft = self.draft
        value = 0
        if recipe.variable:
            value = self.frames.variable(chain.links[-1 - depth], chain.frames[-1 - depth], recipe.variable)
        if recipe.kind == CLOCK:
            if not value:
                never = "nothing: it sleeps for ever"
                draft.resource(2, never, never, library="trio", freed_by="unknown")
                return draft.waits(task, recipe.operation, 2, foreign=True)
            draft.resource(1, CLOCK, CLOCK, library="trio", freed_by="outside")
            left = round(self.objects.real(value) - offset - draft.now, 3)
            return draft.waits(task, recipe.operation, 1, foreign=True, left=left)
        if recipe.kind == "descriptor":
            words = self._descriptor(value)
            draft.resource(address, "descriptor", words, library="trio", freed_by="outside")
            return draft.waits(task, words, address, foreign=True)
        if not value:
            value = self.objects.path(address, "custom_sleep_data") or address
            draft.resource(
                value, recipe.kind, recipe.operation, library="trio", freed_by=recipe.freed_by, inferred=True
            )
            return draft.waits(task, recipe.operation, value, foreign=True)
        resource = self._describe(value, recipe)
        return draft.waits(task, f"{recipe.operation} {draft.resources[resource]['text']}", resource, foreign=True)

    def _descriptor(self, value: int) -> str:
        """A file descriptor in words: a number, or of a socket object what kind of object it is."""
        if not value:
            return "a descriptor"
        info = self.objects.type_of(value)
        return f"descriptor {self.objects.integer(value)}" if info.name == "int" else f"descriptor of a {info.name}"

    def _recipe(self, chain: Chain, stack: int) -> tuple[Recipe, int]:
        found = _PARKED, 0
        for depth, link in enumerate(reversed(chain.links)):
            name = self._trio_file(link)
            recipe = RECIPES.get((name, link.code.qualname)) if name else None
            if recipe is not None:
                # ``sleep`` is told by the function around ``sleep_forever``, which knows until when.
                found = recipe, depth
                if recipe.variable or recipe.kind != CLOCK:
                    break
            elif not name:
                break
        self._recipes[stack] = found
        return found

    @staticmethod
    def _trio_file(link: Link) -> str:
        head, _, name = link.code.file.rpartition("/")
        return name.removesuffix(".py") if "/trio" in head else ""

    def _describe(self, resource: int, recipe: Recipe) -> int:
        """Note the resource and who holds it; returns its address: of a channel, what both of its ends share."""
        objects, draft = self.objects, self.draft
        if recipe.kind == "trio memory channel":
            resource = objects.attribute(resource, "_state") or resource
        if resource in draft.resources:
            return resource
        text = f"{recipe.kind} at {resource:#x}"
        more: dict[str, Any] = {"freed_by": recipe.freed_by} if recipe.freed_by != "unknown" else {}
        try:
            if recipe.kind == "trio Lock":
                owner = objects.path(resource, "_owner")
                if owner:
                    draft.hold(resource, owner)
            elif recipe.kind == "trio CapacityLimiter":
                borrowers = objects.set_items(objects.attribute(resource, "_borrowers"))
                more["used"] = len(borrowers)
                for borrower in borrowers:
                    draft.hold(resource, borrower)
            elif recipe.kind == "trio nursery":
                children = objects.set_items(objects.attribute(resource, "_children"))
                text, more["needs_all"] = f"trio nursery ({len(children)} children)", True
                for child in children:
                    draft.could_free(resource, child)
            elif recipe.kind == "trio memory channel":
                self._channel(resource, more)
                text += f" ({more['used']}/{more.get('capacity', 'unbounded')})"
        except Fault:
            draft.gap(f"the state of a {recipe.kind} could not be read")
        draft.resource(resource, recipe.kind, text, library="trio", **more)
        return resource

    def _channel(self, state: int, more: dict[str, Any]) -> None:
        """How full a channel is; its capacity is an ``int``, or infinite."""
        objects = self.objects
        more["used"] = objects.length(objects.attribute(state, "data"))
        capacity = objects.real(objects.attribute(state, "max_buffer_size"))
        if capacity < 1 << 60:
            more["capacity"] = int(capacity)
        more["inferred"] = True
