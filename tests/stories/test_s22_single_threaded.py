"""S22: single-threaded optimisation. Loop-bound primitives beside thread-safe ones, and every library's code twice.

Here a library writes ``Lock()`` once. Made inside a program it takes no mutex; made outside of any it may be used by several
programs and threads at once; and the wrong guess is one error that names both sides.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

import bateau
from bateau import sync


class Counter:
    """The library: written once, with no word about threads."""

    def __init__(self) -> None:
        self.lock = sync.Lock()
        self.value = 0

    async def add(self) -> None:
        async with self.lock:
            before = self.value
            await bateau.yield_now()
            self.value = before + 1


async def add_many(counter: Counter) -> None:
    async with bateau.scope() as scope:
        for _ in range(50):
            scope.spawn(counter.add)


def test_inside_a_program_no_mutex_is_taken(entry: Any) -> None:
    async def main() -> None:
        counter = Counter()
        assert counter.lock.mutex is None
        await add_many(counter)
        assert counter.value == 50

    entry.run(main)


@pytest.mark.real_os("programs in threads of their own")
def test_outside_of_any_the_same_code_is_for_all_of_them() -> None:
    counter = Counter()
    assert counter.lock.mutex is not None
    failed: list[BaseException] = []

    def program(runtime: str) -> None:
        try:
            bateau.run(add_many, counter, runtime=runtime)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=program, args=(name,)) for name in ("native", "asyncio", "trio", "native")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert counter.value == 200


@pytest.mark.real_os("programs in threads of their own")
def test_the_wrong_guess_is_told() -> None:
    """A lock that belongs to one program is used from another one: both are named, and what to write instead."""
    kept: list[Counter] = []

    async def make() -> None:
        kept.append(Counter())
        await kept[0].add()

    async def use() -> None:
        await kept[0].add()

    bateau.run(make, runtime="native")
    with pytest.raises(bateau.WrongRuntime, match=r"(?s)native.*flavour=.shared.|flavour=.shared.*native"):
        bateau.run(use, runtime="asyncio")
