"""Cancel tokens: passed, nested, polled, awaited, calling back, bound to blocks and scopes, from any thread (law 6, S08)."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest

import bateau
from bateau import Token

pytestmark = pytest.mark.law(6)


def test_polling_and_reasons():
    token = bateau.token(name="job")
    assert not token.cancelled and not token.stopping and token.record is None and token.reason is None
    token.raise_if_cancelled()
    assert token.stop("closing time")
    assert token.stopping and not token.cancelled and token.reason == "closing time"
    assert not token.stop()
    assert token.cancel("enough")
    assert not token.cancel("again") and not token.stop("again")
    assert token.cancelled and token.stopping and token.reason == "enough"
    assert token.record is not None and __file__ in token.record.origin
    with pytest.raises(bateau.TaskCancelled, match=r"token 'job'.*enough") as caught:
        token.raise_if_cancelled()
    assert caught.value.record is token.record
    assert "cancelled" in repr(token)


def test_cancel_says_stop_too():
    token = Token()
    token.cancel()
    assert token.stopping


def test_children_follow_their_parent():
    top = bateau.token()
    child = bateau.token(top)
    grandchild = child.child(name="g")
    calls: list[str] = []
    grandchild.on_cancel(lambda: calls.append("cancel"))
    grandchild.on_stop(lambda: calls.append("stop"))
    other = top.child()
    child.stop("just us")
    assert calls == ["stop"] and grandchild.stopping and not top.stopping and not other.stopping
    top.cancel("all")
    assert calls == ["stop", "cancel"]
    assert child.cancelled and grandchild.cancelled and other.cancelled
    assert grandchild.reason == "all"
    late = bateau.token(grandchild)
    assert late.cancelled
    late.on_cancel(lambda: calls.append("late"))
    assert calls[-1] == "late"


def test_a_parent_keeps_no_trace_of_its_children():
    top = Token()
    for _ in range(1000):
        child = top.child()
        remove = child.on_cancel(lambda: None)
        grandchild = child.child()
        remove_more = grandchild.on_stop(lambda: None)
        remove()
        remove_more()
        remove()  # harmless
    assert not top._children
    ref = weakref.ref(child)
    del child, grandchild, remove, remove_more
    gc.collect()
    assert ref() is None


def test_who_was_told_to_stop_is_let_go():
    top = Token()
    told = []
    child = top.child()
    child.on_stop(lambda: told.append("stop"))
    both = top.child()
    both.on_stop(lambda: told.append("both stop"))
    both.on_cancel(lambda: told.append("both cancel"))
    top.stop()
    assert told == ["stop", "both stop"] and list(top._children) == [both]
    top.cancel()
    assert told[2:] == ["both cancel"] and not top._children


def test_a_listening_child_is_kept():
    top = Token()
    calls: list[int] = []
    top.child().child().on_cancel(lambda: calls.append(1))
    gc.collect()
    top.cancel()
    assert calls == [1]
    assert not top._children


def test_deep_nesting_is_iterative():
    token = top = Token()
    for _ in range(5000):
        token = token.child()
    calls: list[int] = []
    token.on_cancel(lambda: calls.append(1))
    top.cancel()
    assert calls == [1] and token.cancelled


def test_every_callback_runs_and_errors_come_out_of_cancel():
    token = Token()
    calls: list[int] = []

    def fails(n):
        calls.append(n)
        raise ValueError(n)

    token.on_cancel(lambda: fails(1))
    token.on_cancel(lambda: calls.append(2))
    token.on_stop(lambda: fails(3))
    with pytest.raises(ExceptionGroup) as caught:
        token.cancel()
    assert sorted(calls) == [1, 2, 3] and len(caught.value.exceptions) == 2
    one = Token()
    one.on_stop(lambda: fails(4))
    with pytest.raises(ValueError):
        one.stop()
    assert one.stopping


def test_bad_input():
    with pytest.raises(TypeError, match="parent must be a Token"):
        Token("x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="calls a function"):
        Token().on_cancel(3)  # type: ignore[arg-type]


def test_awaiting(entry):
    async def main():
        top = Token()
        token = top.child()
        got: list[str] = []

        async def wait(operation, label):
            record = await operation
            got.append(f"{label}: {record.reason}")

        async with bateau.scope() as scope:
            scope.spawn(wait, token.wait(), "cancel")
            scope.spawn(wait, token.wait_stopping(), "stop")
            await bateau.yield_now()
            await bateau.yield_now()
            assert len(tuple(token.waiters())) == 2
            top.stop("soon")
            await bateau.yield_now()
            await bateau.yield_now()
            assert got == ["stop: soon"]
            top.cancel("now")
        assert got == ["stop: soon", "cancel: now"]
        assert (await token.wait()).reason == "now"
        with bateau.move_on_after(30) as limit:
            await Token(token.child()).wait_stopping()
        assert not limit.cancelled_caught
        fresh = Token()
        with bateau.move_on_after(0.01) as limit:
            await fresh.child().wait()
        assert limit.cancelled_caught
        assert not fresh._children

    entry.run(main)


def test_from_another_thread(entry):
    token = Token()

    def later():
        time.sleep(0.02)
        token.cancel("by the thread")

    async def main():
        thread = threading.Thread(target=later)
        thread.start()
        record = await token.child().wait()
        thread.join()
        return record.reason

    assert entry.run(main) == "by the thread"


def test_a_bound_block_ends_quietly(entry):
    async def main():
        token = Token()
        async with bateau.scope() as scope:
            scope.spawn(cancel_soon, token)
            with token.bind() as block:
                await Token().wait()
            assert block.cancelled_caught and block.record is token.record
            with token.bind() as block:  # cancelled before it was entered
                await bateau.checkpoint()
                raise AssertionError("unreached")
            assert block.cancelled_caught
        assert not token._cancel_calls and not token._stop_calls

    async def cancel_soon(token):
        await bateau.yield_now()
        token.cancel("enough")

    entry.run(main)


def test_a_block_that_ends_first_is_unbound(entry):
    async def main():
        token = Token()
        async with token.child().bind() as block:
            await bateau.yield_now()
        assert not block.cancelled_caught
        assert not token._children
        token.cancel()
        await bateau.checkpoint()

    entry.run(main)


def test_stop_reaches_a_bound_block(entry):
    async def main():
        token = Token()
        with token.bind():
            assert not bateau.stopping()
            token.stop("wind down")
            assert bateau.stopping()
            await bateau.checkpoint()
        assert not bateau.stopping()

    entry.run(main)


def test_raise_if_cancelled_inside_its_own_block(entry):
    async def main():
        token = Token()
        with token.bind() as block:
            token.cancel()
            token.raise_if_cancelled()
        assert block.cancelled_caught
        with pytest.raises(bateau.TaskCancelled):
            with Token().bind():
                token.raise_if_cancelled()

    entry.run(main)


def test_a_thread_cancels_a_bound_block(entry):
    token = Token()

    def later():
        time.sleep(0.02)
        token.stop("first")
        token.cancel("then")

    async def main():
        hold = bateau.current_task().host.hold("thread of the test")
        thread = threading.Thread(target=later)
        thread.start()
        with token.bind() as block:
            await Token().wait()
        thread.join()
        hold()
        assert block.cancelled_caught and block.record.reason == "then"

    entry.run(main)


def test_a_scope_of_a_token(entry):
    ended: list[str] = []

    async def work(name):
        try:
            await Token().wait()
        finally:
            ended.append(name)

    async def main():
        token = Token()
        async with token.scope(name="jobs") as scope:
            scope.spawn(work, "a")
            scope.spawn(work, "b")
            await bateau.yield_now()
            await bateau.yield_now()
            token.cancel()
        assert scope.cancelled_caught and sorted(ended) == ["a", "b"]
        assert not token._cancel_calls

    entry.run(main)


def test_the_token_of_a_scope(entry):
    async def main():
        calls: list[str] = []
        async with bateau.scope(name="s") as outer:
            token = outer.token
            assert outer.token is token
            token.on_stop(lambda: calls.append("stop"))
            token.on_cancel(lambda: calls.append("cancel"))
            outer.stop(reason="wind down")
            assert token.stopping and not token.cancelled and calls == ["stop"]
            outer.cancel("enough")
            assert token.cancelled and token.reason == "enough" and calls == ["stop", "cancel"]
        with pytest.raises(bateau.ScopeError):
            assert bateau.scope().token
        async with bateau.scope() as outer:
            async with bateau.scope() as inner:
                token = inner.token
                outer.cancel()
                assert token.cancelled  # what cancels the scope from outside counts
                await bateau.checkpoint()
        async with bateau.scope() as scope:
            scope.token.child().cancel()
            assert not scope.cancel_called
            scope.token.cancel("by the token")
            assert scope.cancel_called
            await bateau.checkpoint()
        assert scope.cancelled_caught
        scope.token.cancel()

    entry.run(main)


def test_a_thread_cancels_a_scope_by_its_token(entry):
    async def main():
        async with bateau.scope() as scope:
            hold = bateau.current_task().host.hold("thread of the test")
            thread = threading.Thread(target=scope.token.cancel, args=("from outside",))
            thread.start()
            try:
                await Token().wait()
            finally:
                thread.join()
                hold()
        assert scope.cancelled_caught and scope.record.reason == "from outside"

    entry.run(main)


def test_a_failing_callback_of_a_scopes_token_is_reported(entry):
    async def main():
        async with bateau.scope() as scope:
            scope.token.on_cancel(lambda: int("x"))
            with pytest.warns(bateau.HazardWarning, match=r"callback_error.*ValueError"):
                scope.cancel()

    entry.run(main)
