"""Cell: a borrow may not be held over an await, nor meet another (story S38)."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import pytest

import bateau
from bateau import sync
from support.entries import Entry
from support.waiting import until

flavours = pytest.mark.parametrize("flavour", ["local", "shared"])


def here() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


@flavours
def test_borrowing(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        cell = sync.Cell([1], name="rows", flavour=flavour)
        with cell.borrow() as one, cell.borrow() as two:
            assert one is two
            assert "borrowed at" in repr(cell)
            assert cell.holders() == (bateau.current_task(),) * 2
        with cell.borrow_mut() as ref:
            ref.value.append(2)
            ref.value = [*ref.value, 3]
        with cell.borrow() as value:
            assert value == [1, 2, 3]
        assert cell.update(lambda rows: rows[:1]) == [1]
        await bateau.yield_now()

    entry.run(main)


WAITS = {
    "yield_now": lambda: bateau.yield_now(),
    "checkpoint": lambda: bateau.checkpoint(),
    "sleep": lambda: bateau.time.sleep(0),
    "a free lock": lambda: sync.Lock().acquire(),
    "a set event": lambda: sync.Event().wait(),
    "an async def": lambda: sync.Once[int]().run(_one),
}


async def _one() -> int:
    return 1


@pytest.mark.parametrize("kind", ["borrow", "borrow_mut"])
@pytest.mark.parametrize("wait", WAITS)
@flavours
def test_no_await_inside(entry: Entry, wait: str, kind: str, flavour: Any) -> None:
    """Whatever is awaited, ready or not: refused before it has had any effect, naming the borrow's line."""

    async def main() -> None:
        cell = sync.Cell(0, name="count", flavour=flavour)
        for _ in range(3):
            with pytest.raises(sync.BorrowError) as raised:
                with getattr(cell, kind)():
                    line = here() - 1
                    await WAITS[wait]()
            assert f"the borrow of cell 'count' at {__file__}:{line} by task" in str(raised.value)
            assert "is still open at an await" in str(raised.value)
        await bateau.yield_now()  # over: the task goes on as before
        assert repr(cell) == "<cell 'count' (not borrowed)>"

    entry.run(main)


def test_it_had_no_effect(entry: Entry) -> None:
    async def main() -> None:
        cell, lock = sync.Cell(0), sync.Lock()
        with pytest.raises(sync.BorrowError), cell.borrow():
            await lock.acquire()
        assert not lock.locked()

    entry.run(main)


def test_each_await_in_the_block_is_refused(entry: Entry) -> None:
    async def main() -> None:
        cell = sync.Cell(0)
        with cell.borrow():
            for _ in range(3):
                with pytest.raises(sync.BorrowError):
                    await bateau.yield_now()
        budget = bateau.current_task().budget
        with cell.borrow(), cell.borrow():
            pass
        assert bateau.current_task().budget == budget

    entry.run(main)


@flavours
def test_borrows_that_meet(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        cell = sync.Cell(0, name="count", flavour=flavour)
        with cell.borrow():
            line = here() - 1
            with pytest.raises(
                sync.BorrowError, match=rf"(?s)can't be borrowed to change it here.*cell.py:{line} by task"
            ):
                with cell.borrow_mut():
                    pass
            with pytest.raises(sync.BorrowError, match="to change it"):
                cell.update(lambda value: value + 1)
        with cell.borrow_mut() as ref:
            with pytest.raises(sync.BorrowError, match="can't be borrowed here"), cell.borrow():
                pass
            ref.value = 5
        with pytest.raises(sync.BorrowError, match="is over"):
            _ = ref.value
        with pytest.raises(sync.BorrowError, match="is over"):
            ref.value = 6
        borrow = cell.borrow()
        with borrow as value:
            assert value == 5
        with pytest.raises(sync.BorrowError, match="used before"), borrow:
            pass

    entry.run(main)


@flavours
def test_held_over_a_foreign_await_it_shows_where_another_meets_it(entry: Entry, flavour: Any) -> None:
    async def foreign_sleep() -> None:
        if entry.family == "trio":
            import trio

            await trio.sleep(0.001)
        else:
            import asyncio

            await asyncio.sleep(0.001)

    async def main() -> None:
        cell = sync.Cell(0, name="count", flavour=flavour)
        met: list[str] = []

        async def holds() -> None:
            with cell.borrow_mut():
                while not met:
                    await foreign_sleep()

        async def meets() -> None:
            await until(cell.holders)
            with pytest.raises(sync.BorrowError) as raised:
                cell.update(lambda value: value + 1)
            met.append(str(raised.value))

        async with bateau.scope() as scope:
            scope.spawn(holds, name="holder")
            scope.spawn(meets)
        assert "by task 'holder', and that borrow is still open" in met[0]

    entry.run(main)


@flavours
def test_held_over_the_end_of_a_scope_it_shows_at_its_own_end(entry: Entry, flavour: Any) -> None:
    """A scope must end in order, so its wait for the children is not refused: the borrow itself says so at its end."""

    async def main() -> list[str]:
        cell = sync.Cell(0, flavour=flavour)
        ran: list[str] = []

        async def child() -> None:
            await bateau.yield_now()
            ran.append("child")

        with pytest.raises(sync.BorrowError, match="was held while its task waited for the end of a scope"):
            async with bateau.scope() as scope:
                scope.spawn(child)
                stack = cell.borrow()
                stack.__enter__()
            stack.__exit__(None, None, None)
        await bateau.yield_now()
        return ran

    assert entry.run(main) == ["child"]


def test_update(entry: Entry) -> None:
    async def main() -> None:
        cell = sync.Cell(1)
        with pytest.raises(ZeroDivisionError):
            cell.update(lambda value: value // 0)
        assert cell.update(lambda value: value + 1) == 2

        async def not_sync(value: int) -> int:
            return value

        with pytest.raises(TypeError, match="update needs a sync function"):
            cell.update(not_sync)  # type: ignore[arg-type]
        assert cell.update(lambda value: value) == 2

    entry.run(main)


def test_local_is_at_home_on_one_thread() -> None:
    async def main() -> sync.Cell[int]:
        return sync.Cell(1)

    cell = bateau.run(main)
    raised: list[BaseException] = []

    def misuse() -> None:
        try:
            cell.update(lambda value: value + 1)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=misuse)
    thread.start()
    thread.join()
    assert isinstance(raised[0], bateau.WrongRuntime)


def test_shared_among_threads_and_runtimes() -> None:
    cell = sync.Cell(0)
    assert cell.flavour == "shared"

    def add() -> None:
        for _ in range(2000):
            cell.update(lambda value: value + 1)

    async def add_in_tasks() -> None:
        async def adds() -> None:
            for _ in range(200):
                with cell.borrow_mut() as ref:
                    ref.value += 1
                await bateau.yield_now()

        async with bateau.scope() as scope:
            for _ in range(10):
                scope.spawn(adds)

    threads = [threading.Thread(target=add) for _ in range(2)]
    threads += [threading.Thread(target=bateau.run, args=(add_in_tasks,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with cell.borrow() as value:
        assert value == 8000
