"""trio's tasks: found through the run of each thread, with their nurseries and what they are parked on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..model import FreedBy, Runtime, Wait
from .asyncio_waits import Recipe
from .draft import Draft
from .errors import Fault
from .frames import Chain, Link
from .interpreter import ThreadState

# By file of trio and qualified name; ``self`` has the resource unless another variable is named.
RECIPES: dict[tuple[str, str], Recipe] = {
    ("_sync", "Event.wait"): Recipe("wait on event", "event", "self"),
    ("_sync", "CapacityLimiter.acquire_on_behalf_of"): Recipe("acquire of limiter", "limiter", "self", "tasks"),
    ("_sync", "Semaphore.acquire"): Recipe("acquire of semaphore", "semaphore", "self"),
    ("_sync", "_LockImpl.acquire"): Recipe("acquire of lock", "lock", "self", "tasks"),
    ("_sync", "Condition.wait"): Recipe("wait on condition", "condition", "self"),
    ("_channel", "MemorySendChannel.send"): Recipe("send on channel", "channel", "self"),
    ("_channel", "MemoryReceiveChannel.receive"): Recipe("receive on channel", "channel", "self"),
    ("_timeouts", "sleep_until"): Recipe("sleep", "timer", "deadline", "outside"),
    ("_timeouts", "sleep_forever"): Recipe("sleep_forever", "timer", "", "tasks"),
    ("_run", "Nursery._nested_child_finished"): Recipe("end of its nursery", "nursery", "self", "tasks"),
    ("_run", "Runner.init"): Recipe("the end of the run", "run", "", "tasks"),
    ("_threads", "to_thread_run_sync"): Recipe("a worker thread", "thread", "", "outside"),
    ("_io_epoll", "EpollIOManager._epoll_wait"): Recipe("a descriptor", "descriptor", "fd", "outside"),
    ("_entry_queue", "EntryQueue.task"): Recipe("calls from other threads", "threads", "", "outside"),
    ("_wakeup_socketpair", "WakeupSocketpair.wait_woken"): Recipe("calls from other threads", "threads", "", "outside"),
}
_PARKED = Recipe("wait_task_rescheduled", "park", "")


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
        for task in tasks:
            try:
                self._read(task, runner, offset)
            except (Fault, UnicodeDecodeError):
                broken += 1
        if broken:
            self.draft.gap(f"{broken} of trio's tasks could not be read")

    def _read(self, address: int, runner: int, offset: float) -> None:
        objects, draft = self.objects, self.draft
        chain = self.frames.chain(objects.attribute(address, "coro"))
        stack = draft.stack(chain.links)
        fields: dict[str, Any] = {
            "id": -address,
            "name": objects.string(objects.attribute(address, "name"), 1024),
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
            "kind": "nursery",
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
        if recipe.kind == "timer":
            if not value:
                draft.resource(2, "nothing", "nothing: it sleeps for ever", library="trio", freed_by="tasks")
                return draft.waits(task, recipe.operation, 2, foreign=True)
            draft.resource(1, "timer", "the clock", library="trio", freed_by="outside")
            left = round(self.objects.real(value) - offset - draft.now, 3)
            return draft.waits(task, "sleep", 1, foreign=True, left=left)
        if recipe.kind == "descriptor":
            words = self._descriptor(value)
            draft.resource(address, "descriptor", words, library="trio", freed_by="outside")
            return draft.waits(task, f"wait on {words}", address, foreign=True)
        if not value:
            value = self.objects.path(address, "custom_sleep_data") or address
            draft.resource(
                value, recipe.kind, recipe.operation, library="trio", freed_by=recipe.freed_by, inferred=True
            )
            return draft.waits(task, recipe.operation, value, foreign=True)
        resource = self._describe(value, recipe)
        return draft.waits(task, f"{recipe.operation} at {resource:#x}", resource, foreign=True)

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
                if recipe.variable or not recipe.operation.startswith("sleep"):
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
        if recipe.kind == "channel":
            resource = objects.attribute(resource, "_state") or resource
        if resource in draft.resources:
            return resource
        freed_by: FreedBy = recipe.freed_by
        text = f"{recipe.kind} at {resource:#x}"
        more: dict[str, Any] = {}
        try:
            if recipe.kind == "lock":
                owner = objects.path(resource, "_owner")
                if owner:
                    draft.hold(resource, owner)
            elif recipe.kind == "limiter":
                borrowers = objects.set_items(objects.attribute(resource, "_borrowers"))
                more["used"] = len(borrowers)
                for borrower in borrowers:
                    draft.hold(resource, borrower)
            elif recipe.kind == "nursery":
                children = objects.set_items(objects.attribute(resource, "_children"))
                text = f"nursery of {len(children)} tasks"
                for child in children:
                    draft.could_free(resource, child)
            elif recipe.kind == "channel":
                more["used"] = objects.length(objects.attribute(resource, "data"))
                capacity = objects.real(objects.attribute(resource, "max_buffer_size"))
                if capacity < 1 << 60:
                    more["capacity"] = int(capacity)
                text += f" ({more['used']}/{more.get('capacity', 'unbounded')})"
        except Fault:
            draft.gap(f"the state of a {recipe.kind} could not be read")
        draft.resource(resource, recipe.kind, text, library="trio", freed_by=freed_by, **more)
        return resource
