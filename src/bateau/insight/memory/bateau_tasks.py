"""bateau's own tasks: every host that lives, its tasks and scopes, what each waits on, who holds that and could free it."""

from __future__ import annotations

import re
from typing import Any

from ..model import Runtime, Wait
from .draft import Draft
from .errors import Fault
from .frames import Chain
from .objects import WEAKREF_TARGET, Objects

TASK, SCOPE, RESOURCE, HOST = (
    "bateau.kernel.task.Task",
    "bateau.kernel.scope.Scope",
    "bateau.kernel.resource.Resource",
    "bateau.kernel.host.Host",
)
_PARKED = 1
MAX_NODES = 10_000_000
# Attributes that name who has a resource: a task, or a set, dictionary or list of them.
_HOLDERS = ("_owner", "_maker", "holder", "_writer", "_readers", "_held", "_borrowers", "task")
# And who could end a wait on it, who does not hold it.
_SATISFIERS = ("child", "producer", "consumer", "runner", "workers", "lanes")
_OUTSIDE = re.compile(
    r"clock|turn|worker|thread|signal|socket|listener|connection|fd|file|pipe|process|name|inbox|descriptor|token"
)


class BateauTasks:
    """Reads every task of bateau's in one interpreter into a draft."""

    def __init__(self, draft: Draft, modules: dict[str, int], asyncio_records: dict[int, int]) -> None:
        self.draft = draft
        self.objects = draft.objects
        self.memory = draft.memory
        self.modules = modules
        # Records on tasks of asyncio's and trio's: the record's address to the native task's.
        self.natives = dict(asyncio_records)
        self.runtimes: list[Runtime] = []
        self._hosts: dict[int, int] = {}
        # By host: how far its clock is ahead of ours.
        self._offsets: dict[int, float] = {}

    # -- where they are ------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Put all tasks and scopes into the draft."""
        self._hosts_alive()
        self._trio_records()
        nodes = list(self.natives)
        for host in self._hosts:
            try:
                roots = self.objects.attribute(host, "roots")
                nodes += [key for key, _ in self.objects.dict_items(roots)] if roots else []
            except Fault as fault:
                self.draft.gap(f"the tasks of a runtime could not be read: {fault}")
        tasks = self._walk(nodes)
        waits: list[tuple[int, dict[str, Any], Chain]] = []
        for task in tasks:
            try:
                found = self._task(task)
            except (Fault, UnicodeDecodeError):
                self.draft.gap("a task could not be read")
                continue
            if found is not None:
                waits.append(found)
        for address, fields, chain in waits:  # once all have their ids
            try:
                self._state(address, fields, chain)
            except (Fault, UnicodeDecodeError):
                fields["state"] = "unknown"
                self.draft.gap("what a task waits on could not be read")

    def _hosts_alive(self) -> None:
        objects = self.objects
        found: list[int] = []
        try:
            hosts = self.draft.python.module_dict(self.modules["bateau.kernel.instrument"])["hosts"]
            references = objects.set_items(objects.attribute(hosts, "data"))
            found = [self.memory.word(reference + WEAKREF_TARGET) for reference in references]
        except (Fault, KeyError) as error:
            self.draft.gap(f"bateau's runtimes could not be found: {error}")
        for host in filter(None, found):
            try:
                self._host(host)
            except (Fault, UnicodeDecodeError):
                self.draft.gap("a runtime could not be read")

    def _host(self, host: int) -> None:
        objects = self.objects
        name = objects.attribute(host, "name") or objects.class_attribute(objects.type_of(host), "name")
        first = objects.attribute(host, "first_id")
        self._hosts[host] = objects.integer(first) if first else 0
        ready = objects.attribute(host, "ready")
        timers = objects.attribute(host, "_timers")
        thread = objects.attribute(host, "thread_id")
        label = objects.string(name, 64) if name else "?"
        if label == "engine":  # the kernel's own host, whose driver gives it its name
            label = "native"
        loop = objects.path(host, "loop")
        self.runtimes.append(
            Runtime(
                host,
                label,
                thread=objects.integer(thread) if thread else None,
                ready=objects.length(ready) if ready else None,
                timers=objects.length(timers) if timers else None,
                ext={"loop": loop} if loop else {},
            )
        )

    def _trio_records(self) -> None:
        """On trio the records are in a dictionary by ``id`` of the trio task, which is its address."""
        if "bateau.runtimes.trio_helpers" not in self.modules:
            return
        try:
            records = self.draft.python.module_dict(self.modules["bateau.runtimes.trio_helpers"])["records"]
            for key, record in self.objects.dict_items(records):
                if not self.objects.is_none(record):
                    self.natives[record] = self.objects.integer(key)
        except (Fault, KeyError) as error:
            self.draft.gap(f"bateau's records of trio's tasks could not be read: {error}")

    def _walk(self, nodes: list[int]) -> list[int]:
        """Every task below ``nodes``, parents before children; scopes go straight into the draft."""
        objects = self.objects
        tasks: list[int] = []
        seen: set[int] = set()
        for node in nodes:  # which grows meanwhile
            if node in seen or len(seen) > MAX_NODES:
                continue
            seen.add(node)
            try:
                names = objects.type_of(node).names
                if TASK in names:
                    tasks.append(node)
                else:
                    self._scope(node, SCOPE in names)
                children = objects.path(node, "children")
                if children:
                    nodes.extend(key for key, _ in objects.dict_items(children))
            except (Fault, UnicodeDecodeError):
                self.draft.gap("a part of the tree of scopes could not be read")
        return tasks

    # -- one task ------------------------------------------------------------------------------------------------------

    def _task(self, address: int) -> tuple[int, dict[str, Any], Chain] | None:
        objects, draft = self.objects, self.draft
        get = objects.attribute
        if objects.is_true(get(address, "ended")):
            return None
        number = objects.integer(get(address, "id"))
        host = get(address, "host")
        native = self.natives.get(address)
        fields: dict[str, Any] = {"id": number, "name": "", "state": "waiting", "runtime": host}
        below = draft.tasks.pop(native, None) if native is not None else None
        if below is not None and native is not None:
            chain = Chain([], [], 0, running=below["state"] == "running", created=below["state"] == "new")
            fields.update({key: below[key] for key in ("stack", "waits", "moved") if key in below})
            draft.rename(native, number)
        else:
            coro = objects.path(address, "coro")
            chain = self.draft.python.frames.chain(coro) if coro else Chain([], [], 0)
            fields["stack"] = draft.running(chain) if chain.running else draft.stack(chain.links)
            if chain.partial:
                fields["moved"] = True
        fields["name"] = self._name(address, number, host, chain)
        self._place(address, fields)
        draft.task(address, fields)
        return address, fields, chain

    def _name(self, address: int, number: int, host: int, chain: Chain) -> str:
        name = self.objects.path(address, "_name")
        if name:
            return self.objects.string(name, 1024)
        base = chain.links[0].code.qualname if chain.links else "task"
        return f"{base}-{number - self._hosts.get(host, 0)}"

    def _place(self, address: int, fields: dict[str, Any]) -> None:
        """Its place in the tree, and where it was spawned."""
        objects = self.objects
        scope = objects.path(address, "scope")
        if scope:
            fields["scope"] = scope
            parent = objects.path(scope, "task")
            if parent:
                fields["parent"] = objects.integer(objects.attribute(parent, "id"))
        node = objects.path(address, "node")
        if node and node != address:
            fields["entered"] = node
        if objects.is_true(objects.attribute(address, "background")):
            fields["background"] = True
        for field, attribute in (("cancelled", "effective"), ("stopping", "stopping")):
            reason = objects.path(address, attribute, "reason")
            if reason:
                fields[field] = objects.string(reason, 1024)
        site = objects.path(address, "_site_code")
        spawned = self._site(site, objects.path(address, "_site_offset")) if site else None
        if spawned is not None:
            fields["spawned"] = spawned

    def _site(self, site: int, offset: int) -> int | None:
        """The frame that a spawn site names: a (file, line) pair, or a code object and an offset into it."""
        objects = self.objects
        if objects.type_of(site).name == "tuple":
            file, line = objects.tuple_items(site, 2)
            name = objects.string(file, 4096)
            return None if name == "<unknown>" else self.draft.place(name, objects.integer(line), "")
        code = self.draft.python.frames.code(site)
        if code is None:
            return None
        return self.draft.place(code.file, code.line(objects.integer(offset) if offset else 0), code.qualname)

    def _state(self, address: int, fields: dict[str, Any], chain: Chain) -> None:
        objects, draft = self.objects, self.draft
        operation = objects.path(address, "waiting")
        if operation and objects.integer(objects.attribute(operation, "state")) == _PARKED:
            below = fields.get("waits")
            if below is not None and below.resource is not None:
                draft.forget_wait(-self.natives[address], below.resource)
            fields["waits"] = self._wait(fields["id"], operation, self._clock(address, fields["runtime"]))
            return
        if chain.running:
            fields["state"] = "running"
        elif chain.created or not objects.is_true(objects.attribute(address, "started")):
            fields["state"] = "new"
        elif operation:
            fields["state"] = "ready"  # granted or aborted: it has only to run
        elif "waits" in fields:
            return  # on something of asyncio's or trio's, which was read there
        elif objects.is_true(objects.attribute(address, "scheduled")) or not chain.leaf:
            fields["state"] = "ready"
        else:
            kind = objects.type_of(chain.leaf).name
            draft.resource(chain.leaf, "future", f"{kind} at {chain.leaf:#x}", library="other", inferred=True)
            fields["waits"] = draft.waits(fields["id"], f"await of {kind}", chain.leaf, foreign=True)

    # -- waits ---------------------------------------------------------------------------------------------------------

    def _clock(self, task: int, host: int) -> float:
        """What the clock of a task's host says now: trio's runs at an offset of its own."""
        offset = self._offsets.get(host)
        if offset is None:
            native = self.natives.get(task)
            clock = self.objects.path(native, "_runner", "clock", "offset") if native is not None else 0
            offset = self._offsets[host] = self.objects.real(clock) if clock else 0.0
        return self.draft.now + offset

    def _wait(self, task: int, operation: int, now: float) -> Wait:
        objects, draft = self.objects, self.draft
        resource = objects.attribute(operation, "resource") or objects.class_attribute(
            objects.type_of(operation), "resource"
        )
        info = objects.type_of(operation)
        verb = _words(info.name)
        more: dict[str, Any] = {}
        if objects.is_true(objects.class_attribute(info, "shielded")):
            more["shielded"] = True
        if info.name.endswith("time.Sleep"):
            when = objects.path(operation, "when")
            if when:
                left = objects.real(when) - now
                if left < 1e12:
                    more["left"] = round(left, 3)
        fields = self._resource(resource)
        text = verb if verb in ("sleep", "checkpoint") else f"{verb} on {fields['text']}"
        if info.name.endswith("kernel.task.Join"):
            text = f"await of {fields['text']}"
        elif info.name.endswith("Acquire"):
            text = f"acquire of {fields['text']}"
        elif info.name.endswith("leaving.Drain"):
            text = f"end of the children of {fields['text']}"
        return draft.waits(task, text, resource, **more)

    def _resource(self, address: int) -> dict[str, Any]:
        draft, objects = self.draft, self.objects
        found = draft.resources.get(address)
        if found is not None:
            return found
        info = objects.type_of(address)
        kind_at = objects.class_attribute(info, "kind")
        kind = objects.string(kind_at, 64) if kind_at else _words(info.name)
        name_at = objects.path(address, "_name" if TASK in info.names else "name")
        name = objects.string(name_at, 1024) if name_at else None
        if TASK in info.names and address in draft.tasks:
            name = draft.tasks[address]["name"]
        label = (
            f"{kind} {name!r}" if name else kind if kind.startswith(("the ", "nothing")) else f"{kind} at {address:#x}"
        )
        found = draft.resource(address, kind, label)
        if name:
            found["name"] = name
        try:
            self._fill(address, found)
            self._who(address, found, TASK in info.names, SCOPE in info.names)
        except Fault:
            draft.gap(f"who holds a {kind} could not be read")
        if "freed_by" not in found and address not in draft.holders and address not in draft.satisfiers:
            outside = _OUTSIDE.search(kind) or objects.path(address, "mutex")
            found["freed_by"] = "outside" if outside else "tasks" if kind.startswith("nothing") else "unknown"
        return found

    def _fill(self, address: int, found: dict[str, Any]) -> None:
        """How full a channel is."""
        objects = self.objects
        items, capacity = objects.path(address, "items"), objects.path(address, "capacity")
        if items and capacity:
            found["used"] = objects.length(items)
            bound = objects.integer(capacity)
            if bound < 1 << 60:
                found["capacity"] = bound
            found["text"] += f" ({found['used']}/{found.get('capacity', 'unbounded')})"

    def _who(self, address: int, found: dict[str, Any], is_task: bool, is_scope: bool) -> None:
        """Who holds the resource, and who could end a wait on it."""
        draft, objects = self.draft, self.objects
        if is_task:
            draft.could_free(address, address)
            return
        if is_scope:
            for child, _ in self._children(address):
                draft.could_free(address, child)
            return
        slots = objects.type_of(address).slots
        for name in _HOLDERS:
            if name in slots:
                for holder in self._members(objects.attribute(address, name)):
                    draft.hold(address, holder)
        for name in _SATISFIERS:
            if name in slots:
                for satisfier in self._members(objects.attribute(address, name)):
                    draft.could_free(address, satisfier)
        if "senders" in slots and "receivers" in slots:
            self._channel(address, found)

    def _children(self, scope: int) -> list[tuple[int, int]]:
        children = self.objects.path(scope, "children")
        if not children:
            return []
        return [pair for pair in self.objects.dict_items(children) if self.objects.is_a(pair[0], TASK)]

    def _members(self, value: int) -> list[int]:
        """The tasks in an attribute: itself, or what a container has."""
        objects = self.objects
        if not value:
            return []
        name = objects.type_of(value).name
        if name == "dict":
            members = [key for key, _ in objects.dict_items(value, 10_000)]
        elif name in ("set", "frozenset"):
            members = objects.set_items(value, 10_000)
        elif name in ("list", "tuple"):
            members = list(objects.list_items(value, 10_000) if name == "list" else objects.tuple_items(value, 10_000))
        else:
            members = [value]
        return [member for member in members if objects.is_a(member, TASK)]

    def _channel(self, address: int, found: dict[str, Any]) -> None:
        """A full channel is freed by those who use its receivers, an empty one by those who use its senders."""
        objects = self.objects
        sending = objects.path(address, "sending", "_ops")
        side = "receivers" if sending and objects.dict_length(sending) else "senders"
        known = True
        for seat, _ in objects.dict_items(objects.attribute(address, side)):
            users = self._users(objects, seat)
            known = known and bool(users) and not objects.is_true(objects.path(seat, "by_threads"))
            for user in users:
                self.draft.could_free(address, user)
        found["freed_by"] = "tasks" if known else "outside"

    @staticmethod
    def _users(objects: Objects, seat: int) -> list[int]:
        users = objects.path(seat, "users")
        found: list[int] = []
        for _, reference in objects.dict_items(users) if users else ():
            task = objects.memory.word(reference + WEAKREF_TARGET)
            if task and objects.is_a(task, TASK) and not objects.is_true(objects.attribute(task, "ended")):
                found.append(task)
        return found

    # -- scopes --------------------------------------------------------------------------------------------------------

    def _scope(self, address: int, is_scope: bool) -> None:
        objects, draft = self.objects, self.draft
        info = objects.type_of(address)
        words = _words(info.name)
        kind = "scope" if is_scope else "timeout" if "timeout" in words else words
        fields: dict[str, Any] = {"id": address, "kind": kind}
        name = objects.path(address, "name")
        if name:
            fields["name"] = objects.string(name, 1024)
        task = objects.path(address, "task")
        if task:
            fields["task"] = objects.integer(objects.attribute(task, "id"))
        parent = objects.path(address, "parent")
        if parent and not objects.is_a(parent, TASK):
            fields["parent"] = parent
        fields["shielded"] = objects.is_true(objects.attribute(address, "shielded"))
        deadline = objects.path(address, "deadline_at")
        if deadline:
            left = objects.real(deadline) - (self._clock(task, objects.attribute(task, "host")) if task else draft.now)
            if left < 1e12:
                fields["left"] = round(left, 3)
        for field, attribute in (("cancelled", "effective"), ("stopping", "stopping")):
            reason = objects.path(address, attribute, "reason")
            if reason:
                fields[field] = objects.string(reason, 1024)
        site = objects.path(address, "site")
        if site:
            fields["site"] = self._site(site, 0)
        if is_scope:
            fields["children"] = len(self._children(address))
            fields["closing"] = objects.is_true(objects.attribute(address, "_closing"))
            limit = objects.path(address, "limit")
            if limit:
                fields["limit"] = objects.integer(limit)
                fields["running"] = objects.integer(objects.attribute(address, "_running"))
        draft.scopes[address] = fields


def _words(name: str) -> str:
    """A class's name in words: ``bateau.channel.queue.SendMany`` is "send many"."""
    plain = name.rpartition(".")[2].strip("_")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).lower()
