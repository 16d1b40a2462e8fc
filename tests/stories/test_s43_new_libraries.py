"""S43: ``for``, ``async for`` and ``await`` mixed up, with odd messages. Here: three lines, which say what, where, and the fix."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

import bateau
from support.entries import on_asyncio_family, on_native
from support.waiting import until


@bateau.generator
async def rows() -> AsyncIterator[int]:
    for n in range(3):
        await bateau.checkpoint()
        yield n


def parts(message: object) -> tuple[str, str, str]:
    """What, where and fix of a message; there have to be just these three lines."""
    what, where, fix = str(message).splitlines()
    assert where.startswith("  where: ")
    assert fix.startswith("  fix:   ")
    return what, where[9:], fix[9:]


def here(offset: int = 0) -> str:
    return f"{__file__}:{sys._getframe(1).f_lineno + offset}"


@pytest.mark.parametrize("use", [list, sorted, lambda it: [*it], dict, lambda it: next(iter(it))])
def test_a_plain_for(use):
    made, line = rows(), here()
    with pytest.raises(TypeError) as caught:
        use(made)
    what, where, fix = parts(caught.value)
    assert what.startswith("a plain `for`")
    assert where == line
    assert "`async for item in it`" in fix


@on_native
def test_await_of_the_whole(entry):
    async def main():
        with pytest.raises(TypeError) as caught:
            await rows()
        what, where, fix = parts(caught.value)
        assert what == "an iterator was awaited, which has no single result"
        assert where == here(-3)
        assert "await it.collect()" in fix

    entry.run(main)


@pytest.mark.parametrize("call", ["next", "collect", "count", "first"])
def test_a_forgotten_await(entry, call):
    async def main():
        with pytest.warns(RuntimeWarning) as caught:
            getattr(rows(), call)()
        [warning] = caught
        what, where, fix = parts(warning.message)
        assert what == f"it.{call}() was never awaited: nothing happened"
        assert where == here(-4) == f"{warning.filename}:{warning.lineno}"
        assert fix == f"write `await it.{call}()`"

    entry.run(main)


@pytest.mark.parametrize(
    ("misuse", "what", "fix"),
    [
        (lambda call: [n for n in call], "is not a list", "for item in await it.collect()"),  # noqa: C416
        (lambda call: call[0], "was indexed", "(await it.collect())[...]"),
        (len, "asked for its length", "len(await it.collect())"),
        (lambda call: 1 if call else 0, "asked whether it is true", "await it.collect()"),
        (lambda call: call.append(1), "has no 'append'", "(await it.collect()).append"),
    ],
)
def test_a_result_used_before_it_is_awaited(entry, misuse, what, fix):
    async def main():
        call, line = rows().collect(), here()
        with pytest.raises((TypeError, AttributeError)) as caught:
            misuse(call)
        found, where, remedy = parts(caught.value)
        assert what in found
        assert where == line
        assert fix in remedy
        call.close()

    entry.run(main)


def test_reuse_after_the_end(entry):
    async def main():
        made, line = rows(), here()
        assert [n async for n in made] == [0, 1, 2]
        with pytest.raises(RuntimeError) as caught:
            [n async for n in made]
        what, where, fix = parts(caught.value)
        assert "has come to its end before" in what
        assert where == line
        assert "collect()" in fix
        assert await made.next(None) is None  # asked by hand, it is at its end, as any iterator

    entry.run(main)


def test_use_after_it_was_moved(entry):
    async def main():
        made = rows()
        doubled, line = made.map(lambda n: 2 * n), here()
        with pytest.raises(RuntimeError) as caught:
            await made.next()
        what, _, fix = parts(caught.value)
        assert what == f"this iterator was moved into .map() at {line}"
        assert ".tee(n)" in fix
        assert await doubled.collect() == [0, 2, 4]

    entry.run(main)


def test_two_at_once(entry):
    @bateau.generator
    async def silent() -> AsyncIterator[int]:
        await bateau.time.sleep(60)
        yield 1

    async def main():
        async with silent() as made, bateau.scope() as scope:
            first = scope.spawn(made.next, name="first")
            await until(lambda: first.waiting)
            with pytest.raises(bateau.Busy) as caught:
                await made.next()
            what, where, fix = parts(caught.value)
            assert "task 'first' waits for one" in what
            assert __file__ in where
            assert ".tee(2)" in fix
            assert ".share()" in fix
            scope.cancel()

    entry.run(main)


async def no_yield() -> AsyncIterator[int]:
    raise NotImplementedError


def plain_generator():
    yield 1


@pytest.mark.parametrize(
    ("fn", "what", "fix"),
    [
        (no_yield, "which is an async function without `yield`", "`yield` the items"),
        (plain_generator, "which is a plain generator", "write `async def plain_generator`"),
        (len, "needs an `async def` function with `yield`", "bateau.iter(it)"),
    ],
)
def test_decorating_something_else(fn, what, fix):
    with pytest.raises(TypeError) as caught:
        bateau.generator(fn)
    lines = str(caught.value).splitlines()
    assert what in lines[0]
    assert fix in lines[-1]
    if fn is not len:
        assert parts(caught.value)[1] == f"{__file__}:{fn.__code__.co_firstlineno}"


@on_asyncio_family
def test_a_call_is_a_coroutine_to_everybody_else(entry):
    import asyncio

    async def main():
        assert await asyncio.create_task(rows().collect()) == [0, 1, 2]
        assert await asyncio.wait_for(rows().count(), 5) == 3
        assert await asyncio.gather(rows().first(), rows().last()) == [0, 2]
        made = rows().collect()
        assert asyncio.iscoroutine(made)
        await made

    entry.run(main)


def test_a_call_is_a_coroutine_to_bateau(entry):
    async def main():
        async with bateau.scope() as scope:
            tasks = [scope.spawn(rows().collect), scope.spawn(rows().count())]
        assert [await task for task in tasks] == [[0, 1, 2], 3]
        assert await bateau.join(rows().first(), rows().count()) == (0, 3)
        assert (await bateau.race(rows().collect(), bateau.time.sleep(60))).index == 0

    entry.run(main)


PROGRAM = """
import asyncio, bateau

@bateau.generator
async def rows():
    yield 1

async def main():
    for row in rows():
        print(row)

asyncio.run(main())
"""


def test_the_last_lines_of_a_beginners_traceback():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-3:] == [
        "TypeError: a plain `for` (or `list(it)`, `*it`...) over an asynchronous iterator",
        "  where: <string>:9",
        "  fix:   write `async for item in it`, or `await it.collect()` for a list",
    ]
