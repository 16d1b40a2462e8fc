"""Writing one recorder file, in Python: what an event becomes. The twin in C (``_native/recorder.c``) is ten times as fast.

Nothing is kept of a task but its slot in the file, and no frame outlives its event. A call of this writer is not one transition, so
an event that another thread tells (a collector that ends an adopted task of trio's) may meet another one: what they spoil is seen by
its checksum and left out.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from mmap import mmap
from time import monotonic_ns
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from ...kernel.errors import Cancelled
from ...kernel.instrument import Instrument
from ...kernel.operation import Operation
from ...kernel.resource import Resource
from . import layout as at
from .layout import IDENTITY, STATE, UNIT, WAIT, identity_check, state_check, text_entry, unit_tag, wait_check

if TYPE_CHECKING:
    from ...kernel.cancellation import CancelNode
    from ...kernel.errors import CancelRecord
    from ...kernel.task import Task

# Slots of tasks that have ended are kept for reading until so many have.
_KEPT = 256
_GENERATOR = 0x20 | 0x80 | 0x200  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR
_LONGEST = 1024

_Place = tuple[CodeType, int]


def about(cls: type[Any]) -> tuple[str, str | None, bool, str | None]:
    """Of an operation's class: its name in words. Of a resource's: its kind, the attribute that names or numbers one, whether its
    holders are known, and the attribute with the holder where there can be but one.
    """
    if issubclass(cls, Operation):
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", cls.__name__.strip("_")).lower(), None, False, None
    kind = str(getattr(cls, "kind", cls.__name__))
    named = "id" if kind == "task" else next((name for name in ("fd", "name") if hasattr(cls, name)), None)
    known = getattr(cls, "holders", Resource.holders) is not Resource.holders
    # The attribute is the word of the class that says who holds it: one that says otherwise has not spoken of it.
    owner = next((base.__dict__.get("held_by") for base in cls.__mro__ if "holders" in base.__dict__), None)
    return kind, named, known, owner


class PureRing(Instrument):
    """The writer of one file, whose header has been written into ``view``."""

    __slots__ = ("_abouts", "_clock", "_freed", "_hot", "_seed", "_slots", "_texts", "_units", "_view", "header")

    def __init__(self, view: mmap, header: at.Header) -> None:
        self._view: mmap | None = view
        self._hot = memoryview(view)[at.HOT_AT : at.HOT_AT + 8 * at.HOT_COUNT].cast("Q")
        self.header = header
        self._units = 0
        self._seed = header.seed
        # The slots of the tasks that live; those that are free again, longest first; texts by what they say.
        self._slots: dict[int, int] = {}
        self._freed: deque[int] = deque()
        self._texts: dict[Any, int] = {}
        self._abouts: dict[type[Any], tuple[int, str | None, bool, str | None]] = {}
        self._clock = monotonic_ns

    # -- what it is told -----------------------------------------------------------------------------------------------------

    def spawn(self, task: Task[Any]) -> None:
        if self._view is None:
            return
        time = self._clock()
        if task.id in self._slots:  # it waited for its place, or starts again
            self._change(task.id, {"state": at.READY, "since": time})
            return
        slot = self._enter(task, time)
        name, site = (slot["name"], slot["site"]) if slot is not None else (0, 0)
        self._put(time, at.SPAWN, task.id, name, site)

    def step(self, task: Task[Any]) -> None:
        if self._view is None:
            return
        time = self._clock()
        hot = self._hot
        hot[at.HOT_TASK] = task.id
        hot[at.HOT_STEP] = time & ~1
        hot[at.HOT_IDLE] = 0
        self._put(time, at.STEP, task.id, 0, 0)

    def idle(self) -> None:
        if self._view is not None and self._hot[at.HOT_TASK]:
            time = self._clock()
            self._rest(time)
            self._put(time, at.IDLE, 0, 0, 0)

    def park(self, task: Task[Any]) -> None:
        if self._view is None:
            return
        operation = task.waiting
        stack = self._stack(_running() or _suspended(task.coro)) if operation is not None else 0
        self._parked(task, operation, stack or self._stack(_suspended(task.coro)))

    def adopt(self, task: Task[Any]) -> None:
        """A task that ran before it was recorded."""
        if self._view is None or task.id in self._slots:
            return
        if task.waiting is not None:
            self._parked(task, task.waiting, self._stack(_suspended(task.coro)))
        else:
            self._enter(task, self._clock())

    def wake(self, task: Task[Any]) -> None:
        if self._view is None:
            return
        time = self._clock()
        self._change(task.id, {"state": at.READY, "since": time})
        self._put(time, at.WAKE, task.id, self._hot[at.HOT_TASK] & 0xFFFFFFFF, 0)

    def cancel(self, node: CancelNode, record: CancelRecord) -> None:
        task = node.task
        if self._view is None or task is None:
            return
        words = self._text(record.reason, lasting=False)
        if task is node:
            self._change(task.id, {"reason": words})
        self._put(self._clock(), at.CANCEL, task.id, words, int(task is not node))

    def end(self, task: Task[Any], error: BaseException | None) -> None:
        if self._view is None:
            return
        time = self._clock()
        outcome, kind = at.RETURNED, 0
        if error is not None:
            outcome = at.CANCELLED if isinstance(error, Cancelled) else at.FAILED
            kind = self._text(type(error).__qualname__, lasting=True)
        slot = self._change(task.id, {"state": at.ENDED | outcome << at.OUTCOME_SHIFT, "since": time})
        if slot is not None:
            del self._slots[task.id]
            self._freed.append(slot)
        if self._hot[at.HOT_TASK] == task.id:
            self._rest(time)
        self._put(time, at.END, task.id, outcome, kind)

    def since(self, task: Task[Any]) -> int:
        """When the task began to wait, by the monotonic clock in nanoseconds; 0 if it does not, or that is not known."""
        index = self._slots.get(task.id)
        view = self._view
        if index is None or view is None:
            return 0
        since, _, state, _ = STATE.unpack_from(view, self.header.tasks_at + index * at.SLOT_SIZE)
        return int(since) if state in (at.WAITING, at.FOREIGN) else 0

    def note(self, task: int, words: str) -> None:
        """Words of the program's, about a task (its id, or 0)."""
        if self._view is not None:
            self._put(self._clock(), at.NOTE, task, self._text(words, lasting=False), 0)

    def close(self) -> None:
        """Write no more, and let go of the map."""
        self._view = None
        self._hot.release()

    # -- records and slots ---------------------------------------------------------------------------------------------------

    def _put(self, time: int, kind: int, task: int, a: int, b: int) -> None:
        view = self._view
        if view is None:
            return
        number = self._units + 1
        long = a or b or task >> 32
        self._units += 2 if long else 1  # first: another thread's collector may end a task in here
        if long:
            self._unit(view, number, time, task & 0xFFFFFFFF, kind << 28 | at.LONG)
            self._unit(view, number + 1, a | b << 32, task >> 32, at.TAIL << 28)
        else:
            self._unit(view, number, time, task, kind << 28)
        self._hot[at.HOT_HEAD] = self._units

    def _unit(self, view: mmap, number: int, x: int, y: int, top: int) -> None:
        header = self.header
        tag = unit_tag(self._seed, x, y, top, number, header.ring_count)
        UNIT.pack_into(view, header.ring_at + ((number - 1) & (header.ring_count - 1)) * UNIT.size, x, y, tag)

    def _rest(self, time: int) -> None:
        self._hot[at.HOT_TASK] = 0
        self._hot[at.HOT_IDLE] = time

    def _parked(self, task: Task[Any], operation: Operation[Any] | None, stack: int) -> None:
        time = self._clock()
        if task.id not in self._slots:
            self._enter(task, time)
        fields = {"state": at.FOREIGN, "since": time, "stack": stack, "operation": 0, "kind": 0, "label": 0}
        fields |= {"address": 0, "number": 0, "holder": 0}
        if operation is not None:
            fields["state"] = at.WAITING
            fields |= self._wait(operation)
        self._change(task.id, fields)
        if self._hot[at.HOT_TASK] == task.id:
            self._rest(time)
        self._put(time, at.PARK, task.id, fields["operation"], stack)

    def _wait(self, operation: Operation[Any]) -> dict[str, int]:
        resource = operation.resource
        words, attribute, holders, owner = self._about(type(resource))
        found = {"operation": self._about(type(operation))[0], "kind": words, "address": id(resource)}
        value = getattr(resource, attribute, None) if attribute is not None else None
        if isinstance(value, str):
            found["label"] = self._text(value, lasting=False)
        elif isinstance(value, int):
            found["number"] = value & at.MASK
        if holders:
            holder = getattr(resource, owner) if owner is not None else next(iter(resource.holders()), None)
            found["holder"] = getattr(holder, "id", 0)  # a thread, which may hold it too, has none
        return found

    def _about(self, cls: type[Any]) -> tuple[int, str | None, bool, str | None]:
        known = self._abouts.get(cls)
        if known is None:
            words, attribute, holders, owner = about(cls)
            known = self._abouts[cls] = self._text(words, lasting=True), attribute, holders, owner
        return known

    def _enter(self, task: Task[Any], time: int) -> dict[str, int] | None:
        """Give a task a slot, made from what it says of itself."""
        if len(self._freed) > _KEPT or (self._freed and self._hot[at.HOT_SLOTS] == self.header.task_count):
            index = self._freed.popleft()
        elif self._hot[at.HOT_SLOTS] < self.header.task_count:
            index = self._hot[at.HOT_SLOTS]
            self._hot[at.HOT_SLOTS] = index + 1
        else:
            self._hot[at.HOT_LOST_TASKS] += 1
            return None
        self._slots[task.id] = index
        flags = 0
        name = self._text(task._name, lasting=False) if task._name is not None else 0
        if not name:
            name = self._text(getattr(task.coro, "__qualname__", None) or "task", lasting=True)
            flags |= at.AUTO_NAME
        code = task._site_code
        site = self._stack([(code, task._site_offset)]) if isinstance(code, CodeType) else self._pair(code)
        parent = task.scope.task.id if task.scope is not None and task.scope.task is not None else 0
        slot = {"id": task.id, "state": at.NEW, "flags": flags, "since": time, "spawned": time, "parent": parent}
        slot |= {"name": name, "site": site}
        self._write(index, slot)
        return slot

    def _change(self, task: int, fields: dict[str, int]) -> int | None:
        """Set fields of a task's slot; returns which slot that is, None if it has none."""
        view = self._view
        index = self._slots.get(task)
        if view is None or index is None:
            return None
        place = self.header.tasks_at + index * at.SLOT_SIZE
        values = dict(zip(_FIELDS, _parts(view, place), strict=True))
        self._write(index, values | fields)
        return index

    def _write(self, index: int, fields: dict[str, int]) -> None:
        view = self._view
        assert view is not None
        place = self.header.tasks_at + index * at.SLOT_SIZE
        since, holder, state, *others = [fields.get(field, 0) for field in _FIELDS]
        wait = WAIT.pack(*others[:6], 0, 0)
        identity = IDENTITY.pack(*others[6:], 0)
        checks = wait_check(self._seed, wait), identity_check(self._seed, identity)
        # The state goes first and comes last: without it the rest is nothing.
        view[place + 20 : place + 24] = bytes(255 - byte for byte in view[place + 20 : place + 24])
        WAIT.pack_into(view, place + at.WAIT_AT, *others[:6], checks[0], 0)
        IDENTITY.pack_into(view, place + at.IDENTITY_AT, *others[6:], checks[1])
        STATE.pack_into(view, place, since, holder, state, state_check(self._seed, since, holder, state, *checks))

    # -- texts -----------------------------------------------------------------------------------------------------------------

    def _append(self, kind: int, content: bytes, *, lasting: bool = True) -> int:
        view = self._view
        used = self._hot[at.HOT_TEXTS]
        entry = text_entry(kind, content)
        if view is None or used + len(entry) > self.header.texts_size // (1 if lasting else 2):
            self._hot[at.HOT_LOST_TEXTS] += 1
            return 0
        place = self.header.texts_at + used
        view[place : place + len(entry)] = entry
        self._hot[at.HOT_TEXTS] = used + len(entry)
        return used // 8

    def _text(self, words: Any, *, lasting: bool) -> int:
        """The place of a text. ``lasting``: it comes from the program's code; else from its data, which may use half of the room."""
        if not isinstance(words, str):
            return 0
        if type(words) is not str:
            words = str.__str__(words)  # without a hash of its own, which may fail
        found = self._texts.get(words)
        if found is None:
            content = words.encode("utf-8", "backslashreplace")
            if len(content) > _LONGEST:
                content = content[:_LONGEST].decode("utf-8", "ignore").encode()
            found = self._append(at.WORDS, content, lasting=lasting)
            if found:
                self._texts[words] = found
        return found

    def _frame(self, file: str, function: str, line: int) -> int:
        key = (file, function, line)
        found = self._texts.get(key)
        if found is None:
            entry = at.FRAME_ENTRY.pack(self._text(file, lasting=True), self._text(function, lasting=True), line, 0)
            found = self._texts[key] = self._append(at.FRAME, entry)
        return found

    def _stack(self, places: list[_Place]) -> int:
        """The place of a stack, given innermost first."""
        if not places:
            return 0
        key = tuple(places)
        found = self._texts.get(key)
        if found is None:
            frames = [self._frame(code.co_filename, code.co_qualname, _line(code, offset)) for code, offset in places]
            content = b"".join(frame.to_bytes(4, "little") for frame in frames)
            found = self._texts.get(content)  # two calls in one line are one stack
            if found is None:
                found = self._texts[content] = self._append(at.STACK, content)
            self._texts[key] = found
        return found

    def _pair(self, site: tuple[str, int]) -> int:
        found = self._texts.get(site)
        if found is None:
            frame = self._append(at.FRAME, at.FRAME_ENTRY.pack(self._text(site[0], lasting=True), 0, site[1], 0))
            found = self._texts[site] = self._append(at.STACK, frame.to_bytes(4, "little"))
        return found


_FIELDS = (
    "since", "holder", "state",
    "address", "number", "stack", "operation", "kind", "label",
    "id", "spawned", "parent", "name", "site", "reason", "flags",
)  # fmt: skip


def _parts(view: mmap, place: int) -> list[int]:
    """A slot's fields, as in ``_FIELDS``."""
    state = STATE.unpack_from(view, place)[:3]
    wait = WAIT.unpack_from(view, place + at.WAIT_AT)[:6]
    return [*state, *wait, *IDENTITY.unpack_from(view, place + at.IDENTITY_AT)[:7]]


def _line(code: CodeType, offset: int) -> int:
    return next((line for start, end, line in code.co_lines() if start <= offset < end and line is not None), 0)


def _running() -> list[_Place]:
    """The coroutines and generators that run inside each other, innermost first: behind the plain functions that have called us,
    up to the plain function that drives them.
    """
    places: list[_Place] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and len(places) < at.DEPTH:
        if frame.f_code.co_flags & _GENERATOR:
            places.append((frame.f_code, frame.f_lasti))
        elif places:
            break
        frame = frame.f_back
    return places


def _suspended(coro: Any) -> list[_Place]:
    """The same for a suspended coroutine, from what it says of itself."""
    places: list[_Place] = []
    while coro is not None and len(places) < at.DEPTH:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None) or getattr(coro, "ag_frame", None)
        if frame is None:
            break
        places.append((frame.f_code, frame.f_lasti))
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None) or getattr(coro, "ag_await", None)
    return places[::-1]
