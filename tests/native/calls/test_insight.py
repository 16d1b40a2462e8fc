"""The flight recorder, and what looks at tasks and at the memory of another process: each repeated, and nothing is left over."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import bateau
import bateau.time
from bateau.insight.model import Wait
from bateau.kernel import twin
from bateau.kernel.current import current_task
from support.drift import ROUNDS, Calls, Token, only_native

pytestmark = only_native
native: Any = twin.native
calls = Calls()


quiet = contextlib.suppress(Exception)


@calls.go_through(Ring="spawn step idle park wake cancel end adopt since note close")
def ring(token: Token) -> Callable[[], object]:
    from bateau.insight.recorder.writer import about
    from bateau.kernel.errors import Cancelled

    class Task:
        scope = coro = None
        _name = "x"

        def __init__(self) -> None:
            self.id, self.waiting, self.held = 5, SimpleNamespace(resource=token), token

    def make() -> tuple[Any, Any]:
        records, tasks, texts = 64, 64, 1 << 16
        tasks_at = 4096 + records * 32
        texts_at = tasks_at + tasks * 96
        memory = mmap.mmap(-1, (texts_at + texts + 4095) // 4096 * 4096)
        memory[:8] = b"BATEAUFR"
        memory[64:112] = struct.pack("<6Q", 4096, records, tasks_at, tasks, texts_at, texts)
        memory[2080:2088] = (8).to_bytes(8, "little")
        return memory, native.Ring(memory, about, Cancelled, False)

    memory, written = make()
    error = ValueError(token)
    node = SimpleNamespace(task=None, record=SimpleNamespace(reason="why"), token=token)
    count = 0

    def call() -> None:
        nonlocal memory, written, count
        task = Task()
        for method in ("spawn", "step", "park", "since", "wake", "adopt"):
            getattr(written, method)(task)
            with contextlib.suppress(TypeError):
                getattr(written, method)()
        written.idle()
        with quiet:
            written.cancel(node, 1)
        written.end(task, error)
        written.note(5, "words")
        with contextlib.suppress(TypeError):
            written.note(5, token)
        count += 1
        if not count % 100:
            written.close()
            written.close()
            memory.close()
            memory, written = make()

    return call


@calls.go_through(Stacks="of")
def stacks(token: Token) -> Callable[[], object]:
    async def waits(held: object) -> None:
        await asyncio.sleep(0)

    def call() -> None:
        looked = native.Stacks("waiting")
        waiting = waits(token)
        looked.of(waiting)
        waiting.send(None)
        looked.of(waiting)
        looked.of(waiting)
        waiting.close()
        looked.of(waiting)
        with contextlib.suppress(TypeError):
            looked.of(token)
        with contextlib.suppress(TypeError):
            native.Stacks(token)

    return call


@calls.go_through(rounds=ROUNDS // 20, Look="task learn read", module="make dated unsteady")
def look(token: Token) -> Callable[[], object]:
    class Row:
        pass

    async def waits(held: object) -> None:
        async with bateau.scope(name="inner"):
            await bateau.time.sleep_forever()

    known: list[object] = []
    tables = native.Stacks("waiting")

    def stack_of(coro: object) -> int:
        known.append(len(known))
        return known[-1]  # type: ignore[return-value]

    async def main() -> None:
        async with bateau.scope() as scope:
            tasks = [scope.spawn(waits, token), scope.spawn(waits, token, name="named")]
            await bateau.yield_now()
            for stacks in (tables, None):
                reader = native.Look(stacks, known, stack_of, lambda code, offset: offset)
                for task in (*tasks, token, current_task()):
                    fields = reader.task(task)
                    if fields is not None:
                        native.make(Row, fields)
            known.clear()
            reader = native.Look(tables, known, stack_of, lambda code, offset: offset, Wait, lambda host: 0.0)
            for outside in (True, False, None):
                for text in ("asleep", None):
                    op = tasks[0].waiting
                    reader.learn(type(op), op.resource, 7, text, outside)
                    found: dict[int, dict[str, object]] = {}
                    rows: list[tuple[dict[str, object], object, object]] = []
                    read = reader.read([*tasks, token], 0, found, set(), rows, [])
                    assert read == len(rows) == len(found)
                    # A task that has a counterpart of asyncio's is left to Python, where that may have a timeout around it.
                    assert read == 2 or outside is False
                    assert native.unsteady(rows) == []
                    seen, since = native.dated(tuple(rows), {}, {}, 1.0, 9)
                    native.dated(tuple(rows), seen, since, 2.0, 9)
            failing = native.Look(None, known, token, token)
            for broken in (
                lambda: failing.task(tasks[0]),
                lambda: native.make(int, {}),
                lambda: native.make(Row, token),
                lambda: failing.read(tasks, 0, {}, set(), [], []),
                lambda: failing.learn(token, token, token, token, token),
                lambda: native.unsteady(token),
                lambda: native.dated((token,), {}, {}, 1.0, 9),
                lambda: native.Look(None, known, token, token, token),
            ):
                with contextlib.suppress(TypeError, ValueError):
                    broken()
            with contextlib.suppress(TypeError):
                native.Look(token, known, token, token)
            scope.cancel()
        assert reader.task(tasks[0]) is None  # ended

    return lambda: bateau.run(main)


@calls.go_through(module="rows")
def rows(token: Token) -> Callable[[], object]:
    class Row:
        def __init__(self, **fields: object) -> None:
            vars(self).update(fields)

    usual = Row(text="x", odd='"\n\u20ac', whole=-(1 << 63), large=1 << 70, real=1.5, none=None, yes=True, no=False)
    things = (usual, Row(inner=usual, other=token, a=1, b=2, c=3, d=4, e=5, f=6, g=7, h=8), token)
    fields = {Row: 10, Token: 5}

    def lean(row: object) -> object:
        return {"inner": usual, "other": token} if type(row) is Row else token

    def call() -> None:
        assert native.rows(things, 0, 2, {Row: 10}, lean, lambda value: '"..."').count(b'"..."') == 5
        assert native.rows(things, 2, 1, fields, lean, repr) == b""
        for wrong in ("ten", 1 << 70, token):  # no number of fields: it is told, whatever the objects are
            with pytest.raises((TypeError, OverflowError)):
                native.rows(things, 0, 1, {Row: wrong}, lean, repr)
        for broken in (
            lambda: native.rows(things, 0, 3, fields, lean, repr), lambda: native.rows(things, 0, 2, {Row: 0}, token, repr),
            lambda: native.rows((float("inf"),), 0, 1, {}, lean, repr), lambda: native.rows((token,), 0, 1, {}, lean, lambda value: token),
            lambda: native.rows(things, -1, 2, {}, lean, repr), lambda: native.rows(token, 0, 1, {}, lean, repr),
            lambda: native.rows((token,), 0, 1, {Token: 0}, lean, repr),
        ):  # fmt: skip
            with contextlib.suppress(TypeError, ValueError):
                broken()

    return call


@calls.go_through(
    Window="word text linked words", Record="read", Chains="of", PlainTasks="task wait", UsualTasks="task"
)
def memory(token: Token) -> Callable[[], object]:
    """A made-up address space of one chunk: two coroutines (type 1) of which the first awaits the second, which awaits an end (type 2)."""
    size = 1 << 12
    chunk = bytearray(size)

    def put(at: int, *words: int) -> None:
        struct.pack_into(f"<{len(words)}Q", chunk, at, *words)

    put(64, 1, 1, 0, 100, 200)  # references, type, state, code, instruction
    put(64 + 40, size + 256)  # its first variable
    put(64 + 56, size + 1024)  # its name
    put(256, 1, 1, 0, 300, 400)
    put(256 + 40, size + 512)
    put(512, 1, 2)
    put(1024, 1, 9, 5)
    put(1024 + 32, 0x60)
    chunk[1024 + 40 : 1024 + 45] = b"hello"

    class Chunks(dict[int, Any]):
        def __missing__(self, number: int) -> bytes:
            if number == 3:
                raise ProcessLookupError("gone")
            return b""

    class Path:
        index, running, created = 3, False, False

        def __init__(self, slot: int) -> None:
            self.after: dict[tuple[int, ...], Path] = {}
            self.slot = slot

    class Found(tuple[Any, ...]):
        __slots__ = ()

    # A task of bateau's (type 77) that waits with an operation (88) for a resource until a time (99); and two of asyncio's (66), of which
    # one waits for the end above, and the other's name is Python's to read.
    put(1536, 1, 77, 0, 5000, size + 64, 0, 6000, size + 1536, 0, 0, 7000, size + 2048, 42, 3 | 1 << 40)
    put(2048, 1, 88, 9000, size + 2200, 1)
    put(2200, 1, 99)
    put(2560, 1, 66, 5000, 0, 0, size + 2816, size + 64, size + 1024)
    put(2688, 1, 66, 5000, 0, 0, size + 2816, size + 64, 64)
    put(2816, 1, 55, 0, 0, 0)
    put(3072, size + 3080, size + 3088, 0)  # a list
    chunks = Chunks({1: bytes(chunk), 2: token})
    root, first, second = Path(0), Path(5), Path(5)
    root.after[1, 0, 100, 200] = first
    first.after[1, 0, 300, 400] = second

    class Wait:
        pass

    def tasks_of(chains: Any) -> None:
        tasks: dict[int, Any] = {}
        layout = tuple((16 + 8 * n, "Q") for n in range(10)) + ((96, "q"), (104, "i"), (108, "B"), (109, "B"))
        tables = (
            tasks, {}, {5000: 10}, {second: "work"}, {6000: 9}, {(7000, 3): 2}, {88: (16, 24, 32)},
            {(88, 9000): ("words", 9000, True)}, {9000: []}, {5000: 1.5},
        )  # fmt: skip
        plain = native.PlainTasks(chains, 77, 0, 99, layout, tables, Wait, 9, 40, 56)
        named = native.PlainTasks(
            chains, 77, 0, 99, layout, (*tables[:3], {second: None}, *tables[4:]), Wait, 9, 40, 56
        )
        assert named.task(size + 1536)["name"] == "hello-32"  # as its coroutine is
        fields = plain.task(size + 1536)
        assert fields["name"] == "work-32" and fields["spawned"] == 2 and tasks[size + 1536] is fields
        assert plain.wait(size + 1536, fields) is True and vars(fields["waits"])["left"] == -1.5
        assert plain.task(size + 64) is None and plain.wait(size + 64, fields) is False
        for words in ("w", None):
            shared, waiting = {(size + 512, "w"): Wait()}, {size + 512: [], 1: []}
            usual_tables = (tasks, {}, {66: 0}, {3: (0, words)}, {55: "future"}, shared, waiting, {2: -24})
            offsets = (8, 16, 24, 32, 40, 48, 56)
            usual = native.UsualTasks(chains, 9, 99, 40, 32, 1.0, offsets, usual_tables, Wait, lambda address: token)
            assert usual.task(size + 2560) is True and tasks[size + 2560]["name"] == "hello"
            assert usual.task(size + 2688) is True and tasks[size + 2688]["name"] is token
            assert usual.task(size + 64) is False
        for broken in (
            lambda: native.PlainTasks(chains, 77, 0, 99, layout, tables, int, 9, 40, 56), lambda: native.PlainTasks(chains, 77, 0, 99, (), tables, Wait, 9, 40, 56),
            lambda: native.PlainTasks(chains, 77, 0, 99, layout, (token,) * 10, Wait, 9, 40, 56), lambda: plain.wait(token, fields), lambda: plain.task(token),
            lambda: native.UsualTasks(chains, 9, 99, 4, 0, 1.0, offsets, usual_tables, Wait, token), lambda: usual.task(token),
            lambda: native.UsualTasks(chains, 9, 99, 40, 0, 1.0, offsets, (token,) * 8, Wait, token), lambda: usual.task(3 * size),
        ):  # fmt: skip
            with contextlib.suppress(TypeError, ValueError, ProcessLookupError):
                broken()

    def call() -> None:
        window = native.Window(chunks, 12, lambda address: token)
        assert (
            window.linked(size + 3072, 0, 9) == [size + 3072, size + 3080, size + 3088]
            and window.linked(64, 0, 9) is None
        )
        assert window.words([size + 3072, size + 3080], 8) == [size + 3088, 0] and window.words([64], 0) is None
        assert window.word(size + 64 + 8) == 1 and window.word(0) is token and window.word(1 << 70) is token
        assert window.text(size + 1024, 9, 40) == "hello" and window.text(size, 9, 40) is None
        record = native.Record(window, ((0, "Q"), (8, "i"), (12, "b"), (13, "B"), (14, "h"), (16, "q")))
        assert record.read(size + 64, 1) == [0, 1, 0, 0, 0, 0] and record.read(64, 0) is None
        chains = native.Chains(window, root, {2: "end"}, Found, 16, 24, 32, 40, False)
        for _ in range(2):
            assert chains.of(size + 64) == (second, [size + 104, size + 296], size + 512, False)
        assert chains.of(64) is None
        tasks_of(chains)
        for broken in (
            lambda: window.word(token), lambda: window.word(3 * size), lambda: record.read(3 * size, 0), lambda: chains.of(3 * size),
            lambda: native.Window(chunks, 1, token), lambda: native.Record(window, ((0, "x"),)), lambda: native.Record(token, ()),
            lambda: native.Chains(window, root, {}, Path, 0, 0, 0, 0, False), lambda: window.text(token, 0, 0),
            lambda: window.linked(3 * size, 0, 9), lambda: window.words([3 * size], 0), lambda: window.words([token], 0),
        ):  # fmt: skip
            with contextlib.suppress(TypeError, ValueError, ProcessLookupError):
                broken()

    return call


@pytest.mark.parametrize("name", calls.names())
def test_calls(name: str) -> None:
    calls.measure(name)
