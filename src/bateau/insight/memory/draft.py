"""A snapshot in the making: places, stacks, tasks and resources are collected here and put together at the end."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..model import Frame, Resource, Scope, Task, Wait, Whose, make
from .errors import Fault
from .frames import Chain, Link
from .interpreter import Python, ThreadState

# At most so many waiters are listed of one resource (the model's limit).
MAX_LISTED = 1000


class Draft:
    """What is known so far of one process. Tasks and resources are kept by address until all have been seen.

    Invariants: ``ids`` has the public id of every task in ``tasks``; a resource that anybody waits on is in ``resources``.
    """

    def __init__(self, python: Python, now: float, modules: dict[str, int]) -> None:
        self.python = python
        # ``sys.modules`` of the interpreter that is being read.
        self.modules = modules
        self.objects = python.objects
        self.memory = python.memory
        # The target's ``time.monotonic()``, which is the machine's.
        self.now = now
        self.frames: list[Frame] = []
        self._frame_index: dict[tuple[str, int, str], int] = {}
        self.stacks: list[tuple[int, ...]] = []
        self._stack_index: dict[tuple[int, ...], int] = {}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.ids: dict[int, int] = {}
        self.scopes: dict[int, dict[str, Any]] = {}
        self.resources: dict[int, dict[str, Any]] = {}
        self.waiting: dict[int, list[int]] = {}
        self.holders: dict[int, dict[int, None]] = {}
        self.satisfiers: dict[int, dict[int, None]] = {}
        self.gaps: dict[str, int] = {}
        # Tasks of other libraries that turned out to be bateau's: the id they had at first, and the one they have.
        self.renamed: dict[int, int] = {}
        # Waits that another library said, of tasks whose own wait is known better: (resource, task).
        self._forgotten: set[tuple[int, int]] = set()
        # Running frames by the address of their variables: the thread's stack they are on, and how far from its outermost.
        self.on_stacks: dict[int, tuple[list[Link], int]] = {}
        # Resources of bateau's that are held: their text before that was added, and after.
        self._held: dict[int, tuple[str, str]] = {}
        self._names: dict[int, str] = {}
        self._roots: list[tuple[str, Whose]] = []
        self._know_constants()
        self._know_modules()

    # -- where the code is from ----------------------------------------------------------------------------------------

    def _know_constants(self) -> None:
        """Learn where None, True and False are, which are told by their addresses from then on."""
        try:
            names = self.python.module_dict(self.modules["builtins"])
            self.objects.is_none(names["None"])
            self.objects.is_true(names["True"])
            self.objects.is_true(names["False"])
        except (Fault, KeyError) as error:
            self.gap(f"the built-in constants could not be found: {error}")

    def _know_modules(self) -> None:
        """Learn from ``sys.modules`` where the standard library and bateau lie in this process."""
        places: tuple[tuple[str, Whose], ...] = (("bateau", "bateau"), ("os", "stdlib"))
        for name, whose in places:
            try:
                file = self.objects.string(self.python.module_dict(self.modules[name])["__file__"])
            except (Fault, KeyError):
                continue
            self._roots.append((os.path.dirname(file) + "/", whose))

    def whose(self, file: str) -> Whose:
        """Whose code a file is."""
        for root, whose in self._roots:
            if file.startswith(root):
                if whose == "stdlib" and ("/site-packages/" in file or "/dist-packages/" in file):
                    return "package"
                return whose
        if "/site-packages/" in file or "/dist-packages/" in file:
            return "package"
        return "stdlib" if file.startswith("<frozen ") else "user"

    def place(self, file: str, line: int, function: str) -> int:
        """The index of a frame in the snapshot."""
        key = (file, line, function)
        found = self._frame_index.get(key)
        if found is None:
            found = self._frame_index[key] = len(self.frames)
            self.frames.append(Frame(file, line, function, self.whose(file)))
        return found

    def stack(self, links: Iterable[Link]) -> int:
        """The index of a stack in the snapshot."""
        key = tuple([link.index if link.index >= 0 else self._number(link) for link in links])
        found = self._stack_index.get(key)
        if found is None:
            found = self._stack_index[key] = len(self.stacks)
            self.stacks.append(key)
        return found

    def stack_of(self, chain: Chain) -> int:
        """The index of a chain's stack: the same for all who stand there, so it is looked up once."""
        path = chain.path
        if path.index < 0:
            path.index = self.stack(path.links)
        return path.index

    def _number(self, link: Link) -> int:
        code = link.code
        link.index = self.place(code.file, link.line, code.qualname)
        return link.index

    def threads(self, threads: Iterable[ThreadState]) -> None:
        """The threads' stacks, which running tasks are on."""
        for thread in threads:
            links = [link for link, _ in thread.stack]
            for index, (_, frame) in enumerate(thread.stack):
                self.on_stacks[frame] = links, index

    def running(self, chain: Chain) -> int:
        """The stack of a running task: its coroutine, and what that has called, which only the thread's stack tells."""
        links, index = self.on_stacks.get(chain.frames[-1], (chain.links, len(chain.links) - 1))
        return self.stack([*chain.links[:-1], *links[index:]])

    # -- collecting ----------------------------------------------------------------------------------------------------

    def gap(self, what: str) -> None:
        """Something could not be read. Said once, with how often."""
        self.gaps[what] = self.gaps.get(what, 0) + 1

    def task(self, address: int, fields: dict[str, Any]) -> None:
        """A task, by the address of its object; ``fields`` are those of ``model.Task``."""
        self.tasks[address] = fields
        self.ids[address] = fields["id"]

    def waits(self, task: int, operation: str, resource: int = 0, **more: Any) -> Wait:
        """A wait of the task with the id ``task``."""
        if resource:
            found = self.waiting.get(resource)
            if found is None:
                self.waiting[resource] = [task]
            else:
                found.append(task)
            more["resource"] = resource
        more["operation"] = operation
        return make(Wait, more)

    def resource(self, address: int, kind: str, text: str, **more: Any) -> dict[str, Any]:
        """A resource, by the address of its object: new, or as it was described before."""
        found = self.resources.get(address)
        if found is None:
            found = self.resources[address] = {"id": address, "kind": kind, "text": text, **more}
        return found

    def hold(self, resource: int, holder: int) -> None:
        """The task whose object is at ``holder`` has the resource."""
        self.holders.setdefault(resource, {})[holder] = None

    def could_free(self, resource: int, task: int) -> None:
        """The task whose object is at ``task`` could end a wait on the resource."""
        self.satisfiers.setdefault(resource, {})[task] = None

    def rename(self, address: int, new: int) -> None:
        """The task at ``address`` is known by another id as well, which is the one to show."""
        self.renamed[self.ids[address]] = new
        self.ids[address] = new

    def drop(self, address: int) -> None:
        """A task that is not to be shown, with its scopes and its wait."""
        fields = self.tasks.pop(address, None)
        if fields is None:
            return
        number = self.ids.pop(address)
        for scope in [scope for scope, about in self.scopes.items() if about.get("task") == number]:
            del self.scopes[scope]
        wait = fields.get("waits")
        if wait is not None and number in self.waiting.get(wait.resource, ()):
            self.waiting[wait.resource].remove(number)

    def forget_wait(self, task: int, resource: int) -> None:
        """Another library's view of a wait that bateau knows better; ``task`` is the id it had there."""
        self._forgotten.add((resource, task))

    # -- the end -------------------------------------------------------------------------------------------------------

    def forget_clock(self) -> None:
        """The process's clock is not ours (it is dead): how long anything has left is not known."""
        for fields in self.tasks.values():
            wait = fields.get("waits")
            if wait is not None and wait.left is not None:
                fields["waits"] = replace(wait, left=None)
        for fields in self.scopes.values():
            fields.pop("left", None)

    def finished_tasks(self) -> tuple[Task, ...]:
        """The tasks."""
        for fields in self.tasks.values() if self.renamed else ():
            if fields.get("parent") in self.renamed:
                fields["parent"] = self.renamed[fields["parent"]]
        return tuple([make(Task, fields) for fields in self.tasks.values()])

    def finished_scopes(self) -> tuple[Scope, ...]:
        """The scopes."""
        for fields in self.scopes.values() if self.renamed else ():
            if fields.get("task") in self.renamed:
                fields["task"] = self.renamed[fields["task"]]
        return tuple(make(Scope, fields) for fields in self.scopes.values())

    def finished_resources(self) -> tuple[Resource, ...]:
        """The resources that anybody waits on, with who does and who holds them."""
        found = [self._finish(address, fields) for address, fields in self.resources.items()]
        for fields in self.tasks.values() if self._held else ():
            wait = fields.get("waits")
            if wait is not None and wait.resource in self._held:  # who holds it was not known when the wait was worded
                fields["waits"] = replace(wait, operation=wait.operation.replace(*self._held[wait.resource]))
        return tuple(resource for resource in found if resource.waiting)

    def _finish(self, address: int, fields: dict[str, Any]) -> Resource:
        renamed = self.renamed
        waiting = self.waiting.get(address, [])
        if renamed:
            gone = self._forgotten
            waiting = [renamed.get(task, task) for task in waiting if (address, task) not in gone]
        holders = self._known(self.holders.get(address, ()))
        satisfiers = self._known(self.satisfiers.get(address, ())) or holders
        fields["waiters"] = tuple(waiting[:MAX_LISTED])
        fields["waiting"] = len(waiting)
        fields["holders"] = holders
        fields["satisfiers"] = satisfiers
        if satisfiers and "freed_by" not in fields:
            fields["freed_by"] = "tasks"
        if holders and "library" not in fields:  # bateau's own, which say so themselves where they can be asked
            names = ", ".join(f"task {self._name(holder)!r}" for holder in holders[:3])
            held = f"{fields['text']} (held by {names}, {len(waiting)} waiting)"
            self._held[address] = fields["text"], held
            fields["text"] = held
        return make(Resource, fields)

    def _known(self, addresses: Iterable[int]) -> tuple[int, ...]:
        return tuple(self.ids[address] for address in addresses if address in self.ids)

    def _name(self, task: int) -> str:
        if not self._names:
            self._names = {fields["id"]: fields["name"] for fields in self.tasks.values()}
        return self._names.get(task, "?")
