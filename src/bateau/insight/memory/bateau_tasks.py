"""bateau's own tasks: every host that lives, its tasks and scopes, what each waits on, who holds that and could free it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Any

from ..model import Runtime, Wait
from .asyncio_waits import AsyncioWaits
from .cache import native_part
from .draft import Draft
from .errors import Fault
from .fields import Fields
from .frames import Chain, Path
from .objects import WEAKREF_TARGET, Objects, TypeInfo

TASK, SCOPE, RESOURCE, HOST = (
    "bateau.kernel.task.Task",
    "bateau.kernel.scope.Scope",
    "bateau.kernel.resource.Resource",
    "bateau.kernel.host.Host",
)
NATIVE_DEQUES = {"bateau._native.Deque", "bateau._native.Ring"}
_NATIVE_SIZE = Struct("<32xq")  # behind the items and the head
_PARKED = 1
# The coroutine of `kernel.coroutines` that awaits whatever else was spawned, such as `time.sleep(5)`. In every CPython from 3.11 on, a coroutine has
# its qualified name so many bytes before its frame.
_ANY_AWAITABLE = "_awaiting"
_BEFORE_FRAME = 40
_ASYNCIOS = frozenset(("_asyncio.Future", "_asyncio.Task", "asyncio.futures.Future", "asyncio.tasks.Task"))
# What is read of a task in C, in the order that it is expected: pointers, then numbers.
_QUICK = (
    "children", "host", "coro", "_name", "scope", "node", "effective", "stopping", "_site_code", "waiting",
    "id", "_site_offset", "ended", "background",
)  # fmt: skip
MAX_NODES = 10_000_000
CHILDREN = "bateau._native.Children"
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
        self._scope_tasks: dict[int, int] = {}
        # None: each has a name of its own.
        self._bases: dict[Path, str | None] = {}
        self._sites: dict[tuple[int, int], int | None] = {}
        self._texts: dict[tuple[int, int], tuple[str, int, bool]] = {}
        self._fields = Fields(
            self.objects,
            ("children", "host", "coro", "_name", "scope", "node", "effective", "stopping", "_site_code", "waiting"),
            ("id", "_site_offset"),
            ("ended", "background", "started", "scheduled"),
        )
        self._operation = Fields(self.objects, ("resource", "when"), ("state",))
        # For what tasks of ours await of asyncio's, on the native runtime.
        self._asyncio = AsyncioWaits(draft) if "asyncio.tasks" in modules else None
        # By host: what its clock says now.
        self._clocks: dict[int, float] = {}
        # The C form of `_task` and `_state` for tasks with nothing rare about them, once one task has shown how they are laid out; and by
        # type of operation where its resource, its time (-1: nowhere) and its state are, for that.
        self._quick: Any = None
        self._looked_for_quick = False
        self._qualname_at = self.objects.layout.generator_frame - _BEFORE_FRAME
        self._places: dict[int, tuple[int, int, int]] = {}

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
        waits: list[tuple[int, dict[str, Any], Chain | None, list[Any] | None]] = []
        for task, values in self._walk(nodes, waits):
            try:
                found = self._task(task, values)
            except (Fault, UnicodeDecodeError):
                self.draft.gap("a task could not be read")
                continue
            if found is not None:
                waits.append(found)
        for address, fields, chain, given in waits:  # once all have their ids
            try:
                if given is None and self._quick.wait(address, fields):
                    if self._asyncio is None or self._asyncio.is_plain(fields["stack"]):
                        continue
                    chain = self._chain_of(address)
                else:
                    if given is None:
                        chain = self._chain_of(address)
                    self._state(address, fields, chain, given or self._fields.read(address))
                if chain is not None and self._asyncio is not None and not self._asyncio.is_plain(fields["stack"]):
                    self._asyncio.blocks(address, chain, fields["stack"])
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
        self._hosts[host] = objects.number(host, "first_id")
        ready = objects.attribute(host, "ready")
        timers = objects.attribute(host, "_timers")
        label = objects.string(name, 64) if name else "?"
        if label == "engine":  # the kernel's own host, whose driver gives it its name
            label = "native"
        loop = objects.path(host, "loop")
        self.runtimes.append(
            Runtime(
                host,
                label,
                thread=objects.number(host, "thread_id") or None,
                ready=self._size(ready) if ready else None,
                timers=self._size(timers) or None if timers else None,
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
                else:  # a helper of ours, which no program wrote
                    self.draft.drop(self.objects.integer(key))
        except (Fault, KeyError) as error:
            self.draft.gap(f"bateau's records of trio's tasks could not be read: {error}")

    def _chain_of(self, address: int) -> Chain:
        """The chain of a task that was read in C, which has a coroutine."""
        return self.draft.python.frames.chain(self._fields.read(address)[2])

    def _walk(self, nodes: list[int], read: list[Any]) -> Iterator[tuple[int, list[Any]]]:
        """Every task below ``nodes`` with its fields, parents before children; scopes go straight into the draft, and so do tasks that
        could be read in C: those are appended to ``read``, as ``_task`` would have returned them, but without their fields.
        """
        objects, word = self.objects, self.memory.word
        quick = None
        seen: set[int] = set()
        kinds: dict[int, bool] = {}
        for node in nodes:  # which grows meanwhile
            if node in seen or len(seen) > MAX_NODES:
                continue
            seen.add(node)
            try:
                if quick is not None and (known := quick(node)) is not None:
                    read.append((node, known, None, None))
                    continue
                kind = word(node + 8)
                is_task = kinds.get(kind)
                if is_task is None:
                    is_task = kinds[kind] = TASK in objects.type_at(kind).names
                if is_task:
                    values = self._fields.read(node)
                    yield node, values
                    children = values[0]
                    if quick is None and not self.natives and not self._looked_for_quick:
                        quick = self._quick_reader(kind)
                else:
                    self._scope(node)
                    children = objects.path(node, "children")
                if children:
                    nodes.extend(self._nodes_in(children))
            except (Fault, UnicodeDecodeError):
                self.draft.gap("a part of the tree of scopes could not be read")

    def _quick_reader(self, kind: int) -> Any:
        """What reads plain tasks of that type in C; None where there is none."""
        self._looked_for_quick = True
        made, chains, info = native_part("PlainTasks"), self.draft.python.frames.native, self.objects.type_at(kind)
        layout: list[tuple[int, str]] = []
        for name in _QUICK:
            number = info.numbers.get(name)
            if number is not None:
                form = number.format.lstrip("<0123456789x")
                layout.append((number.size - Struct(f"<{form}").size, form))
            elif name in info.slots:
                layout.append((info.slots[name], "Q"))
        forms = "".join(form for _, form in layout)
        if (
            made is None
            or chains is None
            or len(forms) != len(_QUICK)
            or forms[:10] != "Q" * 10
            or set(forms[10:]) - set("bBiq")
        ):
            return None  # not the native kernel's
        draft = self.draft
        tables = (
            draft.tasks, draft.ids, self._hosts, self._bases, self._scope_tasks, self._sites, self._places, self._texts,
            draft.waiting, self._clocks,
        )  # fmt: skip
        self._quick = made(
            chains, kind, self.objects.none, self._builtin("float"), tuple(layout), tables, Wait, self._builtin("str"),
            self.objects.layout.string_ascii_size, self._qualname_at,
        )  # fmt: skip
        return self._quick.task

    def _builtin(self, name: str) -> int:
        """Where that type is; 0 if it can't be told."""
        try:
            return self.draft.python.module_dict(self.modules["builtins"])[name]
        except (Fault, KeyError):
            return 0

    # -- one task ------------------------------------------------------------------------------------------------------

    def _task(self, address: int, values: list[Any]) -> tuple[int, dict[str, Any], Chain | None, list[Any]] | None:
        draft = self.draft
        _, host, coro, name, scope, node, effective, stopping, site, _, number, offset, ended, background, _, _ = values
        if ended:
            return None
        fields: dict[str, Any] = {"id": number, "name": "", "state": "waiting", "runtime": host}
        native = self.natives.get(address) if self.natives else None
        below = draft.tasks.pop(native, None) if native is not None else None
        if below is not None and native is not None:
            chain: Chain | None = None
            fields["state"] = below["state"]
            fields.update({key: below[key] for key in ("stack", "waits", "moved") if key in below})
            draft.rename(native, number)
        else:
            chain = draft.python.frames.chain(coro)
            fields["stack"] = draft.running(chain) if chain.running else draft.stack_of(chain)
            if chain.partial:
                fields["moved"] = True
        if name:
            fields["name"] = self.objects.string(name, 1024)
        else:
            base = self._base(chain.path, coro) if chain is not None else "task"
            fields["name"] = f"{base}-{number - self._hosts.get(host, 0)}"
        if scope:
            fields["scope"] = scope
            parent = self._task_of(scope)
            if parent:
                fields["parent"] = parent
        if node and node != address:
            fields["entered"] = node
        if background:
            fields["background"] = True
        if effective or stopping:
            self._reasons(fields, effective, stopping)
        spawned = self._site(site, offset) if site else None
        if spawned is not None:
            fields["spawned"] = spawned
        draft.task(address, fields)
        return address, fields, chain, values

    def _base(self, path: Path, coro: int) -> str:
        """What tasks without a name are called that stand there: their outermost function."""
        found = self._bases.get(path)
        if found is None:
            found = path.links[0].code.qualname if path.links else "task"
            if found == _ANY_AWAITABLE:
                # What was spawned is no async function; its name was given to the coroutine that awaits it.
                self._bases[path] = None
                return self._named(coro, found)
            self._bases[path] = found
        return found

    def _named(self, coro: int, otherwise: str) -> str:
        """A coroutine's own ``__qualname__``, which need not be that of its code."""
        try:
            return self.objects.string(self.memory.word(coro + self._qualname_at), 1024)
        except (Fault, UnicodeDecodeError):
            return otherwise

    def _task_of(self, scope: int) -> int:
        """The id of the task whose block a scope is; 0 without one."""
        found = self._scope_tasks.get(scope)
        if found is None:
            task = self.objects.path(scope, "task")
            found = self._scope_tasks[scope] = self.objects.number(task, "id") if task else 0
        return found

    def _reasons(self, fields: dict[str, Any], cancelled: int, stopping: int) -> None:
        """Why it is being cancelled, or asked to stop."""
        for field, record in (("cancelled", cancelled), ("stopping", stopping)):
            reason = self.objects.path(record, "reason") if record else 0
            if reason:
                fields[field] = self.objects.string(reason, 1024)

    def _site(self, site: int, offset: int) -> int | None:
        """The frame that a spawn site names: a (file, line) pair, or a code object and an offset into it."""
        key = (site, offset)
        if key in self._sites:
            return self._sites[key]
        objects = self.objects
        found: int | None = None
        if objects.type_of(site).name == "tuple":
            file, line = objects.tuple_items(site, 2)
            name = objects.string(file, 4096)
            if name != "<unknown>":
                found = self.draft.place(name, objects.integer(line), "")
        else:
            code = self.draft.python.frames.code(site)
            if code is not None:
                found = self.draft.place(code.file, code.line(offset), code.qualname)
        self._sites[key] = found
        return found

    def _state(self, address: int, fields: dict[str, Any], chain: Chain | None, values: list[Any]) -> None:
        draft = self.draft
        operation, started, scheduled = values[9], values[14], values[15]
        if operation:
            resource, when, state = self._operation.read(operation)
            if state == _PARKED:
                below = fields.get("waits")
                if below is not None and below.resource is not None:
                    draft.forget_wait(-self.natives[address], below.resource)
                fields["waits"] = self._wait(address, fields, operation, resource, when)
                fields["state"] = "waiting"
                return
        if fields["state"] == "running" or (chain is not None and chain.running):
            fields["state"] = "running"
        elif fields["state"] == "new" or not started or (chain is not None and chain.created):
            fields["state"] = "new"
        elif operation:
            fields["state"] = "ready"  # granted or aborted: it has only to run
        elif "waits" in fields:
            return  # on something of asyncio's or trio's, which was read there
        elif scheduled or chain is None or not chain.leaf:
            fields["state"] = "ready"
        elif self._asyncio is not None and _ASYNCIOS & self.objects.type_of(chain.leaf).names:
            wait = self._asyncio.of(fields["id"], chain, chain.leaf, fields["stack"])
            if wait is None:
                fields["state"] = "ready"  # the future is done
            else:
                fields["waits"] = wait
        else:
            kind = self.objects.type_of(chain.leaf).name
            draft.resource(chain.leaf, "future", f"{kind} at {chain.leaf:#x}", library="other", inferred=True)
            fields["waits"] = draft.waits(fields["id"], f"await of {kind}", chain.leaf, foreign=True)

    # -- waits ---------------------------------------------------------------------------------------------------------

    def _clock(self, task: int, host: int) -> float:
        """What the clock of a task's host says now: trio's runs at an offset of its own."""
        now = self._clocks.get(host)
        if now is None:
            native = self.natives.get(task)
            clock = self.objects.path(native, "_runner", "clock", "offset") if native is not None else 0
            now = self._clocks[host] = self.draft.now + (self.objects.real(clock) if clock else 0.0)
        return now

    def _wait(self, address: int, fields: dict[str, Any], operation: int, resource: int, when: int) -> Wait:
        kind = self.memory.word(operation + 8)
        key = (kind, resource)
        found = self._texts.get(key)
        if found is None:
            info = self.objects.type_at(kind)
            found = self._texts[key] = self._words(info, resource)
            if (
                "resource" in info.slots
                and "state" in info.numbers
                and info.numbers["state"].format.endswith(("b", "B"))
            ):
                when_at = -1 if not info.has_own_dict() and "when" not in info.slots else info.slots.get("when", -2)
                if when_at != -2:
                    self._places[kind] = info.slots["resource"], when_at, info.numbers["state"].size - 1
        text, resource, shielded = found
        more: dict[str, Any] = {"shielded": True} if shielded else {}
        if when:
            left = self.objects.real(when) - self._clock(address, fields["runtime"])
            if abs(left) < 1e12:
                more["left"] = round(left, 3)
        return self.draft.waits(fields["id"], text, resource, **more)

    def _words(self, info: TypeInfo, resource: int) -> tuple[str, int, bool]:
        """A wait in words, the resource (which may be the class's), and whether it is shielded."""
        objects = self.objects
        resource = resource or objects.class_attribute(info, "resource")
        verb = _words(info.name)
        described = self._resource(resource, verb)["text"]
        text = verb if verb in ("sleep", "checkpoint") else f"{verb} on {described}"
        if verb == "join":
            text = f"await of {described}"
        elif verb.endswith("acquire"):
            text = f"acquire of {described}"
        elif verb in ("drain", "passage"):
            text = f"end of the children of {described}"
        return text, resource, objects.is_true(objects.class_attribute(info, "shielded"))

    def _resource(self, address: int, verb: str) -> dict[str, Any]:
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
        site: int | None = draft.scopes.get(address, {}).get("site")
        if site is not None:
            frame = draft.frames[site]
            label = f"{kind} {name!r}" if name else kind
            label += f" ({frame.file}:{frame.line})"
        found = draft.resource(address, kind, label)
        if name:
            found["name"] = name
        try:
            self._fill(address, found)
            self._who(address, found, verb, info.names)
        except Fault:
            draft.gap(f"who holds a {kind} could not be read")
        if SCOPE in info.names or kind == "rwlock":
            found["needs_all"] = True  # every child must end, every reader must leave
        if "freed_by" not in found and address not in draft.holders and address not in draft.satisfiers:
            outside = _OUTSIDE.search(kind) or objects.path(address, "mutex")
            found["freed_by"] = "outside" if outside else "unknown"
        return found

    def _fill(self, address: int, found: dict[str, Any]) -> None:
        """How full a channel is."""
        objects = self.objects
        info = objects.type_of(address)
        if "capacity" not in info.slots and "capacity" not in info.numbers:
            return
        items, bound = objects.path(address, "items"), objects.number(address, "capacity")
        used = self._size(items) if items else None
        if used is not None:
            found["used"] = used
            if bound < 1 << 60:
                found["capacity"] = bound
            found["text"] += f" ({found['used']}/{found.get('capacity', 'unbounded')})"

    def _size(self, items: int) -> int | None:
        """How many things a queue has: a list, a deque, or one of the native kernel's; None of a kind that is not known."""
        objects = self.objects
        try:
            if objects.type_of(items).name in NATIVE_DEQUES:
                size: int = objects.memory.unpack(_NATIVE_SIZE, items)[0]
                return size
            return objects.length(items)
        except Fault:
            return None

    def _who(self, address: int, found: dict[str, Any], verb: str, names: frozenset[str]) -> None:
        """Who holds the resource, and who could end a wait on it."""
        draft, objects = self.draft, self.objects
        if TASK in names:
            draft.could_free(address, address)
            return
        if SCOPE in names:
            for child in self._children(address):
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
            self._channel(address, found, verb.startswith("send"))

    def _children(self, scope: int) -> list[int]:
        children = self.objects.path(scope, "children")
        if not children:
            return []
        objects, window = self.objects, self.memory.window
        nodes = list(self._nodes_in(children))
        types: list[int] | None = window.words(nodes, 8) if window is not None else None
        if types is None:
            return [node for node in nodes if objects.is_a(node, TASK)]
        tasks = {kind: TASK in objects.type_at(kind).names for kind in set(types)}
        return [node for node, kind in zip(nodes, types, strict=True) if tasks[kind]]

    def _nodes_in(self, children: int) -> Iterable[int]:
        """The nodes below a node: the keys of a dictionary, or, in the twin's kernel, a list whose links are in the nodes."""
        objects = self.objects
        if objects.type_of(children).name != CHILDREN:
            return [key for key, _ in objects.dict_items(children)]
        node = objects.path(children, "_first")
        if not node:
            return []
        after = objects.type_of(node).slots["_after"]  # of the class that all nodes have in common
        window = self.memory.window
        nodes: list[int] | None = window.linked(node, after, MAX_NODES) if window is not None else None
        return nodes if nodes is not None else self._linked(node, after)

    def _linked(self, node: int, after: int) -> Iterator[int]:
        """The nodes of such a list, from one on."""
        for _ in range(MAX_NODES):  # a list that changes under the reader's eyes may lead anywhere
            yield node
            node = self.memory.word(node + after)
            if not node:
                return

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

    def _channel(self, address: int, found: dict[str, Any], sending: bool) -> None:
        """A full channel is freed by those who use its receivers, an empty one by those who use its senders."""
        objects = self.objects
        side = "receivers" if sending else "senders"
        known = True
        for seat, _ in objects.dict_items(objects.attribute(address, side)):
            users = self._users(objects, seat)
            known = known and bool(users) and not objects.truth(seat, "by_threads")
            for user in users:
                self.draft.could_free(address, user)
        found["freed_by"] = "tasks" if known else "outside"

    @staticmethod
    def _users(objects: Objects, seat: int) -> list[int]:
        users = objects.path(seat, "users")
        found: list[int] = []
        for _, reference in objects.dict_items(users) if users else ():
            task = objects.memory.word(reference + WEAKREF_TARGET)
            if task and objects.is_a(task, TASK) and not objects.truth(task, "ended"):
                found.append(task)
        return found

    # -- scopes --------------------------------------------------------------------------------------------------------

    def _scope(self, address: int) -> None:
        objects, draft = self.objects, self.draft
        info = objects.type_of(address)
        is_scope = SCOPE in info.names
        fields: dict[str, Any] = {"id": address, "kind": info.name.rpartition(".")[2]}
        name = objects.path(address, "name")
        if name:
            fields["name"] = objects.string(name, 1024)
        task = objects.path(address, "task")
        if task:
            fields["task"] = objects.number(task, "id")
        parent = objects.path(address, "parent")
        if parent and not objects.is_a(parent, TASK):
            fields["parent"] = parent
        fields["shielded"] = objects.truth(address, "shielded")
        deadline = objects.path(address, "deadline_at")
        if deadline:
            left = objects.real(deadline) - (self._clock(task, objects.attribute(task, "host")) if task else draft.now)
            if abs(left) < 1e12:
                fields["left"] = round(left, 3)
        self._reasons(fields, objects.path(address, "effective"), objects.path(address, "stopping"))
        site = objects.path(address, "site") or objects.path(address, "_site") or objects.path(address, "_site_code")
        if site:
            fields["site"] = self._site(site, objects.number(address, "_site_offset"))
        if is_scope:
            fields["children"] = len(self._children(address))
            fields["closing"] = objects.truth(address, "_closing")
            limit = objects.path(address, "limit")
            if limit:
                fields["limit"] = objects.integer(limit)
                fields["running"] = objects.number(address, "_running")
        draft.scopes[address] = fields


def _words(name: str) -> str:
    """A class's name in words: ``bateau.channel.queue.SendMany`` is "send many"."""
    plain = name.rpartition(".")[2].strip("_")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).lower()
