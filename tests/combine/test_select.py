"""``select``: many sources, nothing lost of what was not chosen (law 3)."""

from __future__ import annotations

import pytest

import bateau
from bateau import Select, select

pytestmark = pytest.mark.law(3)


async def value(v, turns=1):
    for _ in range(turns):
        await bateau.yield_now()
    return v


async def fail(error, turns=1):
    await value(None, turns)
    raise error


# -- for one event -----------------------------------------------------------------------------------------------------


def test_one_event(entry):
    async def main():
        token = bateau.token()
        name, got = await select(never=token.wait(), soon=value(3, 2))
        assert (name, got) == ("soon", 3)
        assert not tuple(token.waiters())
        chosen = await select({1: value("x", 9), 2: bateau.time.sleep(0.005)})
        assert chosen.name in (1, 2)

    entry.run(main)


def test_only_the_chosen_operation_has_its_effect(entry):
    async def main():
        tx, rx = bateau.channel.channel[int](4)
        tx2, rx2 = bateau.channel.channel[int](4)
        async with tx, rx, tx2, rx2:
            tx.try_send(1)
            tx2.try_send(2)
            name, got = await select(a=rx.recv(), b=rx2.recv())
            assert (name, got) == ("a", 1)
            assert rx2.try_recv() == 2
            full, _rx3 = bateau.channel.channel[int](1)
            async with full, _rx3:
                full.try_send(0)
                name, _ = await select(late=bateau.time.sleep(0.005), send=full.send(1))
                assert name == "late"
                assert _rx3.try_recv() == 0
                with pytest.raises(bateau.WouldBlock):
                    _rx3.try_recv()

    entry.run(main)


def test_the_others_are_cancelled_and_awaited(entry):
    ended: list[int] = []

    async def slow():
        try:
            await bateau.time.sleep_forever()
        finally:
            async with bateau.cleanup(5):
                await value(0, 3)
            ended.append(1)

    async def main():
        chosen = await select(slow=slow(), quick=value(1, 2))
        assert chosen.name == "quick" and ended == [1] and chosen.also == () and chosen.failed == ()

    entry.run(main)


def test_what_finished_besides_is_handed_back_or_disposed_of(entry):
    disposed: list[tuple[str, object]] = []

    async def main():
        async def stubborn():
            try:
                await bateau.time.sleep_forever()
            except bateau.Cancelled:
                return "connection"

        chosen = await select(a=value(1, 3), b=stubborn())
        assert chosen.name == "a" and [tuple(event) for event in chosen.also] == [("b", "connection")]
        chosen = await select(a=value(1, 3), b=stubborn(), on_loser=lambda *loser: disposed.append(loser))
        assert chosen.also == () and disposed == [("b", "connection")]

    entry.run(main)


def test_an_arm_that_fails(entry):
    async def main():
        with pytest.raises(ValueError, match="broken") as caught:
            await select(slow=bateau.time.sleep_forever(), bad=fail(ValueError("broken")))
        assert any("arm 'bad'" in note and __file__ in note for note in caught.value.__notes__)
        tx, rx = bateau.channel.channel[int](1)
        tx.close()
        with pytest.raises(bateau.EndOfStream):
            await select(rx=rx.recv())
        name, _ = await select(rx=rx.recv(), other=value(1))
        assert name == "other"
        rx.close()

    entry.run(main)


def test_without_arms_and_twice(entry):
    async def main():
        with pytest.raises(ValueError, match="at least one"):
            await select()
        once = select(a=value(1))
        await once
        with pytest.raises(RuntimeError, match="again"):
            await once

    entry.run(main)


def test_never_awaited_is_loud(entry):
    async def main():
        with pytest.warns(RuntimeWarning, match="never awaited"):
            select(a=value(1))

    entry.run(main)


# -- over many events --------------------------------------------------------------------------------------------------


def test_a_loop_over_events(entry):
    async def main():
        tx, rx = bateau.channel.channel[int](2)
        seen: dict[str, list[object]] = {"item": [], "job": [], "done": []}

        async def produce():
            async with tx:
                for n in range(20):
                    await tx.send(n)

        jobs = 0

        async def job():
            nonlocal jobs
            jobs += 1
            await bateau.yield_now()
            return jobs

        async with bateau.scope() as scope:
            producer = scope.spawn(produce)
            async with select(item=rx.recv, job=job, done=producer) as events:
                async for name, got in events:
                    seen[name].append(got)
                    if len(seen["item"]) == 20 and seen["done"]:
                        break
        rx.close()
        assert seen["item"] == list(range(20))
        assert seen["done"] == [None]
        assert seen["job"] == list(range(1, len(seen["job"]) + 1))

    entry.run(main)


def test_it_ends_with_its_last_arm(entry):
    async def main():
        async def numbers(n):
            for i in range(n):
                await bateau.yield_now()
                yield i

        got = []
        async with select(a=numbers(3), b=numbers(2), c=value("single")) as events:
            async for event in events:
                got.append(event)
            assert len(events) == 0
            with pytest.raises(bateau.EndOfStream, match="no arm"):
                await events.next()
        assert [e.value for e in got if e.name == "a"] == [0, 1, 2]
        assert [e.value for e in got if e.name == "b"] == [0, 1]
        assert [e.value for e in got if e.name == "c"] == ["single"]

    entry.run(main)


def test_on_end_raise(entry):
    async def main():
        async def numbers():
            yield 1

        with pytest.raises(bateau.EndOfStream, match="arm 'a'"):
            async with select(a=numbers(), on_end="raise") as events:
                async for _ in events:
                    pass

    entry.run(main)


def test_children_go_on_while_the_body_runs_and_hold_one_result(entry):
    async def main():
        started = 0

        async def work():
            nonlocal started
            started += 1
            await bateau.yield_now()
            return started

        async with select(work=work, tick=lambda: value("t")) as events:
            first = await events.next()
            for _ in range(20):
                await bateau.yield_now()
            # One of them was delivered and not begun again; the other ended during the "body" and holds its result.
            assert started == 1
            second = await events.next()
            assert {first.name, second.name} == {"work", "tick"}
        assert events.unclaimed == () or len(events.unclaimed) <= 1

    entry.run(main)


def test_unclaimed_results_are_kept(entry):
    disposed: list[object] = []

    async def main():
        async with select(a=lambda: value("a"), b=lambda: value("b", 3)) as events:
            assert (await events.next()).name == "a"
            for _ in range(9):
                await bateau.yield_now()
        assert [tuple(event) for event in events.unclaimed] == [("b", "b")]
        async with select(
            a=lambda: value("a"), b=lambda: value("b", 3), on_loser=lambda name, v: disposed.append(v)
        ) as events:
            await events.next()
            for _ in range(9):
                await bateau.yield_now()
        assert disposed == ["b"] and events.unclaimed == ()

    entry.run(main)


def test_a_failed_arm_is_dropped_and_its_error_raised(entry):
    async def main():
        async with select(good=lambda: value(1, 5), bad=lambda: fail(ValueError("broken"))) as events:
            with pytest.raises(ValueError, match="broken"):
                await events.next()
            assert list(events) == ["good"]
            assert (await events.next()).value == 1

    entry.run(main)


def test_an_error_nobody_waited_for_is_raised_at_the_end(entry):
    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            async with select(a=lambda: value(1), bad=lambda: fail(ValueError("broken"), 3)) as events:
                await events.next()
                for _ in range(9):
                    await bateau.yield_now()
        assert caught.group_contains(ValueError, match="broken")

    entry.run(main)


def test_a_factory_that_fails(entry):
    async def main():
        async with select(bad=lambda: int("x")) as events:
            with pytest.raises(ValueError):
                await events.next()
        async with select(bad=lambda: 3) as events:
            with pytest.raises(TypeError, match="gave a int"):
                await events.next()

    entry.run(main)


def test_no_busy_arm_starves_the_others(entry):
    async def main():
        tx, rx = bateau.channel.channel[int](1000)
        tx2, rx2 = bateau.channel.channel[int](1000)
        async with tx, rx, tx2, rx2:
            for n in range(100):
                tx.try_send(n)
                tx2.try_send(n)
            order = []
            async with select(a=rx.recv, b=rx2.recv) as events:
                for _ in range(20):
                    order.append((await events.next()).name)
            assert order == ["a", "b"] * 10
            order = []
            async with select(a=rx.recv, b=rx2.recv, biased=True) as events:
                for _ in range(20):
                    order.append((await events.next()).name)
            assert order == ["a"] * 20

    entry.run(main)


def test_a_sleep_is_not_started_over_by_other_events(entry):
    async def main():
        start = bateau.now()
        async with select(late=lambda: bateau.time.sleep(0.1), busy=lambda: bateau.time.sleep(0.02)) as events:
            async for name, _ in events:
                if name == "late":
                    break
                assert bateau.now() - start < 5
        assert bateau.now() - start >= 0.099  # uvloop counts in milliseconds

    entry.run(main)


# -- the growable form -------------------------------------------------------------------------------------------------


def test_growing_and_shrinking(entry):
    async def main():
        async with Select[object, int]() as sel:
            with pytest.raises(bateau.EndOfStream):
                await sel.next()
            sel.insert("a", value(1))
            sel.insert(("b", 2), lambda: value(2, 2))
            assert len(sel) == 2 and "a" in sel and ("b", 2) in sel
            with pytest.raises(ValueError, match="already"):
                sel.insert("a", bateau.time.sleep_forever)
            assert (await sel.next()).value == 1
            assert "a" not in sel
            assert (await sel.next()) == (("b", 2), 2)
            assert (await sel.next()) == (("b", 2), 2)
            sel.remove(("b", 2))
            assert len(sel) == 0
            with pytest.raises(KeyError):
                sel.remove("zz")
            with pytest.raises(TypeError, match="it must be a function"):
                sel.insert("n", 3)

    entry.run(main)


def test_a_wait_takes_in_what_is_inserted_meanwhile(entry):
    async def main():
        async with Select[str, str]() as sel:
            sel.insert("never", bateau.time.sleep_forever)

            async def later():
                await bateau.yield_now()
                await bateau.yield_now()
                sel.insert("new", value("x"))

            async with bateau.scope() as scope:
                scope.spawn(later)
                assert await sel.next() == ("new", "x")

            async def emptied():
                await bateau.yield_now()
                await bateau.yield_now()
                sel.remove("never")

            async with bateau.scope() as scope:
                scope.spawn(emptied)
                with pytest.raises(bateau.EndOfStream):
                    await sel.next()

    entry.run(main)


def test_a_timed_out_next_loses_nothing(entry):
    async def main():
        tx, rx = bateau.channel.channel[int](0)
        got: list[int] = []

        async def produce():
            async with tx:
                for n in range(30):
                    await tx.send(n)
                    if n % 3 == 0:
                        await bateau.time.sleep(0.003)

        async with bateau.scope() as scope, rx:
            scope.spawn(produce)
            async with select(rx=rx.recv) as events:
                timeouts = 0
                while len(got) < 30:
                    with bateau.move_on_after(0.001) as limit:
                        got.append((await events.next()).value)
                    timeouts += limit.cancelled_caught
        assert got == list(range(30))

    entry.run(main)


def test_a_removed_child_is_cancelled(entry):
    ended: list[int] = []

    async def slow():
        try:
            await bateau.time.sleep_forever()
        finally:
            ended.append(1)

    async def main():
        async with Select[str, None]() as sel:
            sel.insert("slow", slow)
            await bateau.yield_now()
            await bateau.yield_now()
            sel.remove("slow")
        assert ended == [1]

    entry.run(main)


def test_many_arms_come_one_by_one(entry):
    async def main():
        async with Select[int, int]() as sel:
            for n in range(500):
                sel.insert(n, value(n, n % 7))
            got = [event.value async for event in sel]
        assert sorted(got) == list(range(500))

    entry.run(main)


def test_a_select_in_a_select(entry):
    async def main():
        tx, rx = bateau.channel.channel[int](4)
        async with tx, rx, Select[str, int]() as inner:
            inner.insert("rx", rx.recv)
            async with select(inner=inner.next, late=lambda: bateau.time.sleep(0.01)) as outer:
                assert (await outer.next()).name == "late"
                tx.try_send(5)
                name, event = await outer.next()
                assert name == "inner" and event == ("rx", 5)
            tx.try_send(6)
            assert await inner.next() == ("rx", 6)

    entry.run(main)


# -- cancellation, stopping, misuse ------------------------------------------------------------------------------------


@pytest.mark.law(5)
def test_cancelled_while_parked(entry):
    ended: list[int] = []

    async def slow():
        try:
            await bateau.time.sleep_forever()
        finally:
            ended.append(1)

    async def main():
        token = bateau.token()
        with bateau.move_on_after(0.02) as limit:
            async with select(a=slow, b=token.wait) as events:
                async for _ in events:
                    raise AssertionError
        assert limit.cancelled_caught and ended == [1] and not tuple(token.waiters())
        with bateau.move_on_after(0.01) as limit:
            await select(a=token.wait(), b=bateau.time.sleep_forever())
        assert limit.cancelled_caught and not tuple(token.waiters())

    entry.run(main)


@pytest.mark.law(6)
def test_stop_ends_the_arms_that_end_on_it(entry):
    async def main():
        ticks = 0
        async with bateau.scope() as scope:
            ticker = bateau.time.interval(0.005)

            async def stop_soon():
                await bateau.time.sleep(0.03)
                scope.stop()

            scope.spawn(stop_soon)
            async with select(tick=ticker.tick) as events:
                async for _ in events:
                    ticks += 1
            async with select(tick=ticker.tick) as events:  # stopped before it began
                assert [event async for event in events] == []
        assert ticks >= 1

    entry.run(main)


def test_two_waiters_at_once(entry):
    async def main():
        async with Select[str, None]() as sel:
            sel.insert("a", bateau.time.sleep_forever)

            async def wait():
                await sel.next()

            async with bateau.scope() as scope:
                scope.spawn(wait)
                await bateau.yield_now()
                await bateau.yield_now()
                with pytest.raises(bateau.Busy, match="being waited on"):
                    await sel.next()
                scope.cancel()

    entry.run(main)


def test_misuse(entry):
    async def main():
        sel = Select[str, int]()
        sel.insert("a", lambda: value(1))
        with pytest.raises(bateau.ScopeError, match="has not been entered"):
            await sel.next()
        async with sel:
            assert (await sel.next()).value == 1
        with pytest.raises(bateau.ScopeError, match="has been left"):
            await sel.next()
        with pytest.raises(bateau.ScopeError, match="entered before"):
            async with sel:
                pass
        with pytest.raises(ValueError, match="on_end"):
            select(on_end="x")
        with pytest.raises(TypeError, match="on_loser"):
            select(on_loser=3)

    entry.run(main)


def test_an_operation_serves_once(entry):
    async def main():
        operation = bateau.time.sleep(0)
        await select(a=operation)
        with pytest.raises(RuntimeError, match="single-use"):
            await select(a=operation)

    entry.run(main)


def test_a_failing_on_loser_is_not_hidden(entry):
    def refuse(name, v):
        raise KeyError(name)

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            async with select(a=lambda: value(1), b=lambda: value(2, 2), on_loser=refuse) as events:
                await events.next()
                await value(0, 9)
        assert caught.group_contains(KeyError)

    entry.run(main)


@pytest.mark.law(16)
def test_the_wait_is_on_the_select_and_its_arms_are_the_satisfiers(entry):
    async def main():
        async with Select[str, None]() as sel:
            sel.insert("child", forever)

            async def wait():
                await sel.next()

            async with bateau.scope() as scope:
                waiter = scope.spawn(wait)
                await value(0, 4)
                operation = waiter.waiting
                assert operation is not None and operation.resource is sel
                assert tuple(sel.waiters()) == (operation,)
                (satisfier,) = sel.satisfiers()
                assert "child" in satisfier.name
                assert "child" in operation.describe() and __file__ in operation.describe()
                sel.insert("token", bateau.token().wait)
                await value(0, 3)
                assert sel.satisfiers() == "outside"
                scope.cancel()

    async def forever():
        await bateau.time.sleep_forever()

    entry.run(main)


def test_which_arm_came_last(entry):
    async def main():
        async with select(a=lambda: value(1)) as events:
            assert events.last is None
            await events.next()
            assert events.last == "a"

    entry.run(main)
