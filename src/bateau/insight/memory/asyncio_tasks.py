"""asyncio's tasks, of any loop: found in asyncio's own registers, which work without debug mode and without preparation."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from struct import Struct
from typing import Any

from ..model import Wait
from .asyncio_waits import AsyncioWaits
from .cache import MASK, SHIFT, WORD, native_part
from .draft import Draft
from .errors import Fault
from .frames import struct_of
from .objects import WEAKREF_TARGET

_PENDING = 0
_LINKS = Struct("<QQ")
MAX_TASKS = 10_000_000


class AsyncioTasks:
    """Reads every pending task of one interpreter into a draft."""

    def __init__(self, draft: Draft, interpreter: int, modules: dict[str, int]) -> None:
        self.draft = draft
        self.python = draft.python
        self.objects = draft.objects
        self.memory = draft.memory
        self.layout = draft.python.layout
        self.interpreter = interpreter
        self._chain = draft.python.frames.chain
        self.names = self.python.module_dict(modules["asyncio.tasks"])
        self.waits = AsyncioWaits(draft)
        # bateau keeps a record on each task of asyncio's that it drives: those are told by the record.
        self.with_records = "bateau.runtimes.asyncio_host" in modules
        self.records: dict[int, int] = {}
        layout = self.layout
        # In this order in every version: type, loop, first callback, state, waiter, coroutine, name.
        self._task = struct_of([
            (8, "Q"), (16, "Q"), (layout.future_callback0, "Q"), (layout.future_state, "i"),
            (layout.task_waiter, "Q"), (layout.task_coro, "Q"), (layout.task_name, "Q"),
        ])  # fmt: skip
        # The C form of `_read` for tasks that wait in a usual way, at stacks where one was read before; or None.
        self._quick: Any = None
        # Type address -> where a task written in C has its instance dictionary, 0 without one; None for one written in Python.
        self._kinds: dict[int, int | None] = {}

    # -- where they are ------------------------------------------------------------------------------------------------

    def addresses(self) -> list[int]:
        """Every task that asyncio knows of, each once."""
        found: dict[int, None] = {}
        for name in ("_scheduled_tasks", "_all_tasks"):  # 3.12 and later; 3.11
            if name in self.names:
                self._collect(found, f"asyncio's {name}", lambda at=self.names[name]: self._weak_set(at))
        if "_eager_tasks" in self.names:
            self._collect(found, "asyncio's eager tasks", lambda: self.objects.set_items(self.names["_eager_tasks"]))
        if self.layout.interpreter_tasks is not None and self.layout.thread_tasks is not None:
            heads = [self.interpreter + self.layout.interpreter_tasks]
            heads += [thread + self.layout.thread_tasks for thread in self.python.thread_addresses(self.interpreter)]
            for head in heads:
                self._collect(found, "asyncio's list of tasks", lambda head=head: self._linked(head))
        return list(found)

    def _collect(self, found: dict[int, None], what: str, read: Any) -> None:
        try:
            for address in read():
                found[address] = None
        except Fault as fault:
            self.draft.gap(f"{what} could not be read: {fault}")

    def _weak_set(self, address: int) -> Iterator[int]:
        chunks, unpack, word, window = self.memory.chunks, WORD.unpack_from, self.memory.word, self.memory.window
        references = self.objects.set_items(self.objects.attribute(address, "data"))
        targets: list[int] | None = window.words(references, WEAKREF_TARGET) if window is not None else None
        if targets is not None:
            yield from filter(None, targets)
            return
        for reference in references:
            place = reference + WEAKREF_TARGET
            try:
                try:
                    (target,) = unpack(chunks[place >> SHIFT], place & MASK)
                except struct.error:
                    target = word(place)
            except Fault:
                continue
            if target:
                yield target

    def _linked(self, head: int) -> Iterator[int]:
        """The C list of tasks (3.14 and later): a ring through the head, which may be torn."""
        node_at = self.layout.task_node
        assert node_at is not None
        seen: set[int] = set()
        here, _ = self.memory.unpack(_LINKS, head)
        while here and here != head:
            if here in seen or len(seen) > MAX_TASKS:
                self.draft.gap("asyncio's list of tasks changed while it was read")
                return
            seen.add(here)
            yield here - node_at
            try:
                here, _ = self.memory.unpack(_LINKS, here)
            except Fault:
                self.draft.gap("asyncio's list of tasks changed while it was read")
                return

    # -- one task ------------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Put all pending tasks into the draft."""
        broken = 0
        self._quick = quick = self._quick_reader()
        for address in self.addresses():
            try:
                if quick is None or not quick(address):
                    self._read(address)
            except (Fault, UnicodeDecodeError):
                broken += 1
        if broken:
            self.draft.gap(f"{broken} of asyncio's tasks could not be read")

    def _quick_reader(self) -> Any:
        made, chains, layout, draft = native_part("UsualTasks"), self.python.frames.native, self.layout, self.draft
        if made is None or chains is None or self.with_records:
            return None
        names = self.python.module_dict(draft.modules["builtins"])
        offsets = (
            8, 16, layout.future_callback0, layout.future_state, layout.task_waiter, layout.task_coro, layout.task_name
        )  # fmt: skip
        tables = (draft.tasks, draft.ids, self._kinds, *self.waits.tables())
        return made(
            chains, names["str"], names["float"], layout.string_ascii_size, layout.future_state, draft.now, offsets,
            tables, Wait, self.waits.name,
        ).task  # fmt: skip

    def _read(self, address: int) -> None:
        kind, loop, callback, state, waiter, coro, name = self.memory.unpack(self._task, address)
        table_at = self._kinds[kind] if kind in self._kinds else self._kind(kind)
        if table_at is None:
            state, waiter, coro, name, loop, callback = self._python_task(address)
        if state != _PENDING or not coro:
            return
        chain = self._chain(coro)
        path = chain.path
        if self.with_records:
            record = self._record(address, table_at)
            if record:
                self.records[record] = address
        stack = path.index if path.index >= 0 else self.draft.stack_of(chain)
        fields: dict[str, Any] = {
            "id": -address,
            "name": self.waits.name(name),
            "state": "waiting",
            "runtime": loop,
            "library": "asyncio",
            "stack": stack,
        }
        self.draft.tasks[address] = fields
        self.draft.ids[address] = -address
        if chain.partial:
            fields["moved"] = True
        if path.running:
            fields["state"] = "running"
            fields["stack"] = self.draft.running(chain)
        elif waiter and (wait := self.waits.of(-address, chain, waiter, stack)) is not None:
            fields["waits"] = wait
        else:
            fields["state"] = "new" if path.created else "ready"
        if not self.waits.is_plain(stack):
            self.waits.blocks(address, chain, stack)
        if self._quick is not None:
            self.waits.remember(stack)
        if callback and (parent := self.waits.parent(callback)):
            fields["parent"] = -parent

    def _kind(self, kind: int) -> int | None:
        info = self.objects.type_at(kind)
        found: int | None = None
        if "_asyncio.Task" in info.names:
            found = self.objects.dictionary_at(info)
        self._kinds[kind] = found
        return found

    def _python_task(self, address: int) -> tuple[int, int, int, int, int, int]:
        """The same fields of a task written in Python (``asyncio.tasks._PyTask``, a third party's)."""
        get = self.objects.attribute
        state = get(address, "_state")  # only the class has one while it is pending
        pending = not state or self.objects.string(state, 16) == "PENDING"
        waiter, coro, name, loop = (get(address, field) for field in ("_fut_waiter", "_coro", "_name", "_loop"))
        return (_PENDING if pending else 1), waiter, coro, name, loop, 0

    def _record(self, address: int, table_at: int | None) -> int:
        try:
            if table_at is None or table_at < 0:  # (from 3.13 on it may have its values without a dictionary)
                return self.objects.attribute(address, "_bateau")
            if not table_at:
                return 0
            table = self.memory.word(address + table_at)
            return self.objects.dict_get(table, "_bateau") if table else 0
        except Fault:
            return 0
