"""Laws 8, 15 and 17: a mistake is told with its line: a swallowed cancellation, an await outside any program, a deadlock, a lost coroutine."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import bateau
from bateau import yield_now


@pytest.mark.law(8)
def test_a_swallowed_cancellation_names_the_line(entry: Any) -> None:
    async def main() -> int:
        line = 0
        with bateau.move_on_after(None) as scope:
            scope.cancel()
            try:
                await yield_now()
            except BaseException:  # bateau: ignore[swallowed_cancellation]
                line = _here()  # the except clause stands one line above
            with pytest.raises(bateau.Cancelled):
                await yield_now()
        return line - 1

    with pytest.warns(bateau.HazardWarning, match="swallowed_cancellation") as caught:
        line = entry.run(main)
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, line)]


@pytest.mark.law(8)
def test_cleaning_up_is_not_swallowing(entry: Any) -> None:
    async def main() -> None:
        with bateau.move_on_after(None) as scope:
            scope.cancel()
            try:
                try:
                    await yield_now()
                finally:
                    with pytest.raises(bateau.Cancelled):
                        await yield_now()
            except bateau.Cancelled:
                try:
                    raise KeyError
                except KeyError:
                    with pytest.raises(bateau.Cancelled):
                        await yield_now()
                raise
        # Ending quietly at its own scope is not swallowing either.
        await yield_now()

    entry.run(main)


def _here() -> int:

    return sys._getframe(1).f_lineno


@pytest.mark.law(15)
def test_an_await_outside_any_program_says_so() -> None:
    op = bateau.yield_now()
    with pytest.raises(bateau.NotInRuntime, match=r"bateau.run\(main\)"):
        op.__await__().__next__()


@pytest.mark.law(17)
def test_a_proven_deadlock_is_raised_with_its_explanation() -> None:
    async def main() -> None:
        first, second = bateau.sync.Lock(name="first"), bateau.sync.Lock(name="second")

        async def cross(a: Any, b: Any) -> None:
            async with a:
                await yield_now()
                async with b:
                    pass

        async with bateau.scope() as scope:
            scope.spawn(cross, first, second, name="A")
            scope.spawn(cross, second, first, name="B")

    with pytest.raises(bateau.Deadlock) as caught:
        bateau.run(main, runtime="native")
    text = str(caught.value)
    assert "'A' -> 'B' -> 'A'" in text
    assert "lock 'second'" in text
    assert "held by 'B'" in text
    assert "test_mistakes.py:" in text


def test_never_awaited_operation_is_loud_with_its_line(entry: Any) -> None:
    async def main() -> int:
        bateau.time.sleep(1)  # bateau: ignore[never_awaited]
        return _here() - 1

    with pytest.warns(RuntimeWarning, match="never awaited") as caught:
        line = entry.run(main)
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, line)]


def test_runaway_recursion_is_one_short_error(entry: Any) -> None:
    import traceback

    async def down(n: int) -> int:
        return await down(n + 1)

    async def main() -> None:
        async with bateau.scope(policy=bateau.Collect()) as scope:
            task = scope.spawn(down, 0)
        error = task.outcome().error
        assert isinstance(error, RecursionError)
        text = "".join(traceback.format_exception(error))
        assert len(text.splitlines()) < 40
        assert "bateau.boxed" in text

    entry.run(main)


def test_a_coroutine_never_awaited_is_loud_with_its_line(entry: Any) -> None:
    async def forgotten() -> None: ...

    async def main() -> int:
        forgotten()  # bateau: ignore[never_awaited]
        return _here() - 1

    with pytest.warns(RuntimeWarning, match="forgotten' was never awaited") as caught:
        line = entry.run(main)
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, line)]
