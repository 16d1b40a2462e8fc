"""Scopes, shields and nurseries of trio and of bateau, nested in every order of three, each cancelled in turn.

The rule is trio's and ours alike: a wait is cut short iff the cancelled layer is around it with no shield between; then the
cancelled layer absorbs it, and no other. A bateau scope that is left in a cancelled layer raises, as a cancellation point.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import bateau
from support.entries import on_trio

trio = pytest.importorskip("trio")

KINDS = ("trio scope", "trio shield", "trio nursery", "bateau block", "bateau shield", "bateau scope")
SHIELDS = ("trio shield", "bateau shield")


@asynccontextmanager
async def _block(scope: Any) -> Any:
    with scope:
        yield scope


def make(kind: str) -> Any:
    if kind == "trio nursery":
        return trio.open_nursery()
    if kind == "bateau scope":
        return bateau.scope()
    if kind == "bateau block":
        return _block(bateau.move_on_after(None))
    if kind == "bateau shield":
        return _block(bateau.shield())
    return _block(trio.CancelScope(shield=kind == "trio shield"))


def cancel(layer: Any) -> None:
    getattr(layer, "cancel_scope", layer).cancel()


async def nest(
    kinds: tuple[str, ...], entered: list[Any], log: list[Any], inside: Callable[[], Awaitable[None]]
) -> None:
    depth = len(entered)
    if depth == len(kinds):
        await inside()
        log.append("done")
        return
    async with make(kinds[depth]) as layer:
        entered.append(layer)
        await nest(kinds, entered, log, inside)
    log.append(depth)


def sees(kinds: tuple[str, ...], cancelled: int, depth: int) -> bool:
    """Whether code inside ``depth`` layers sees the cancellation of layer ``cancelled``."""
    return cancelled < depth and not any(kind in SHIELDS for kind in kinds[cancelled + 1 : depth])


def expected(kinds: tuple[str, ...], cancelled: int) -> list[Any]:
    raising = sees(kinds, cancelled, len(kinds))
    log: list[Any] = [] if raising else ["done"]
    for depth in reversed(range(len(kinds))):
        if depth == cancelled:
            raising = False
        elif kinds[depth] == "bateau scope" and sees(kinds, cancelled, depth):
            raising = True  # leaving it is a cancellation point
        if not raising:
            log.append(depth)
    return log


def waits() -> dict[str, Callable[[Any], Awaitable[Any]]]:
    """Waits that end by themselves after ``soon`` has run twice."""

    async def own(soon: Callable[[Callable[[], Any]], None]) -> None:
        event = bateau.sync.Event()
        soon(event.set)
        await event.wait()

    async def foreign(soon: Callable[[Callable[[], Any]], None]) -> None:
        event = trio.Event()
        soon(event.set)
        await event.wait()

    async def child(soon: Callable[[Callable[[], Any]], None]) -> None:
        async with bateau.scope() as scope:
            scope.spawn(own, soon)

    async def foreign_child(soon: Callable[[Callable[[], Any]], None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(own, soon)
        await bateau.checkpoint()

    return {"own": own, "foreign": foreign, "child": child, "foreign child": foreign_child}


@on_trio
@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("wait", ["own", "foreign", "child", "foreign child"])
@pytest.mark.law(5)
def test_nested_in_every_order(entry: Any, wait: str, when: str) -> None:
    async def main() -> list[Any]:
        host = bateau.current_task().host
        wrong: list[Any] = []
        for kinds in itertools.product(KINDS, repeat=3):
            for cancelled in range(3):
                entered: list[Any] = []
                log: list[Any] = []

                async def inside(entered: list[Any] = entered, cancelled: int = cancelled) -> None:
                    if when == "before":
                        cancel(entered[cancelled])
                        await waits()[wait](host.call_soon)
                    else:

                        def soon(fn: Callable[[], Any]) -> None:
                            host.call_soon(lambda: (cancel(entered[cancelled]), host.call_soon(fn)))  # type: ignore[func-returns-value]

                        await waits()[wait](soon)

                await nest(kinds, entered, log, inside)
                if log != expected(kinds, cancelled):
                    wrong.append((kinds, cancelled, log, expected(kinds, cancelled)))
        return wrong

    assert entry.run(main) == []


@on_trio
def test_a_failure_beside_a_cancellation_comes_out_alone(entry: Any) -> None:
    """Trio's nursery raises both in one group; the cancelled scope takes its part."""

    async def fails() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while cleaning up")

    async def main() -> Any:
        with pytest.raises(ExceptionGroup) as caught:
            async with bateau.scope(timeout=0.01) as scope, trio.open_nursery() as nursery:
                nursery.start_soon(fails)
                nursery.start_soon(trio.sleep_forever)
        assert scope.cancelled_caught
        return caught.value

    group = entry.run(main)
    assert group.split(ValueError)[1] is None


@on_trio
def test_blocks_take_their_part_of_a_group(entry: Any) -> None:
    async def fails() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while cleaning up")

    async def main() -> Any:
        with pytest.raises(ExceptionGroup) as caught:
            with bateau.move_on_after(0.01) as block:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(fails)
                    nursery.start_soon(trio.sleep_forever)
        assert block.cancelled_caught
        await bateau.yield_now()
        return caught.value

    assert entry.run(main).split(ValueError)[1] is None


@on_trio
def test_deadlines_are_seen_by_trios_code(entry: Any) -> None:
    async def main() -> None:
        start = trio.current_time()
        assert trio.current_effective_deadline() == float("inf")
        with bateau.timeout(50) as outer:
            assert trio.current_effective_deadline() == outer.deadline
            assert 49 < trio.current_effective_deadline() - start <= 51
            with trio.move_on_after(20):
                async with bateau.scope(timeout=30):
                    assert trio.current_effective_deadline() - start < 21
                with bateau.cleanup(40) as budget:
                    assert trio.current_effective_deadline() == budget.deadline
            outer.reschedule(start + 100)
            assert trio.current_effective_deadline() == start + 100
            outer.reschedule(None)
            assert trio.current_effective_deadline() == float("inf")
            outer.cancel()
            assert trio.current_effective_deadline() == float("-inf")

    entry.run(main)


@on_trio
def test_a_deadline_of_trios_cuts_our_waits(entry: Any) -> None:
    async def main() -> None:
        with trio.move_on_after(0.01) as theirs:
            with pytest.raises(bateau.Cancelled) as caught:
                await bateau.sync.Event().wait()
            assert type(caught.value) is trio.Cancelled
            assert caught.value.record is None  # it is not ours
            raise caught.value
        assert theirs.cancelled_caught
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.01):
            async with bateau.scope() as scope:
                scope.spawn(bateau.time.sleep_forever)
        with trio.move_on_after(0.01) as theirs:
            async with bateau.scope() as scope:
                scope.spawn(bateau.time.sleep_forever)
                await trio.sleep_forever()
        assert theirs.cancelled_caught

    entry.run(main)


@on_trio
def test_the_record_reaches_trios_waits_and_foreign_children(entry: Any) -> None:
    records: list[Any] = []

    async def waits(wait: Callable[[], Awaitable[Any]]) -> None:
        try:
            await wait()
        except bateau.Cancelled as error:
            records.append((type(error) is trio.Cancelled, error.reason, error.record))
            raise

    async def main() -> None:
        async with bateau.scope(name="mine") as scope, trio.open_nursery() as nursery:
            nursery.start_soon(waits, trio.sleep_forever)
            nursery.start_soon(waits, bateau.time.sleep_forever)
            scope.spawn(waits, trio.sleep_forever)
            scope.spawn(waits, bateau.time.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel("enough")
        assert len(records) == 4
        assert set(records) == {(True, "enough", scope.record)}

    import trio.testing

    entry.run(main)


@on_trio
def test_the_record_of_a_deadline(entry: Any) -> None:
    async def main() -> None:
        for wait in (trio.sleep_forever, bateau.time.sleep_forever):
            with bateau.move_on_after(0.01) as block:
                with pytest.raises(bateau.Cancelled) as caught:
                    await wait()
                assert caught.value.record is block.record
                assert caught.value.reason == "timeout of 0.01 s passed"
                raise caught.value
            assert block.cancelled_caught

    entry.run(main)


@on_trio
def test_own_and_foreign_cancellation_at_once(entry: Any) -> None:
    """The outermost cancelled one takes it; nothing is left over for what comes after."""

    async def main() -> None:
        for first in ("ours", "theirs"):
            with trio.CancelScope() as theirs:
                async with bateau.scope() as ours:
                    for who in (ours, theirs) if first == "ours" else (theirs, ours):
                        who.cancel()
                    await bateau.time.sleep(1)
            assert theirs.cancelled_caught
            with bateau.move_on_after(None) as block:
                with trio.CancelScope() as theirs:
                    block.cancel()
                    theirs.cancel()
                    await trio.sleep(1)
            assert block.cancelled_caught
            assert not theirs.cancelled_caught
            await bateau.yield_now()
            await trio.lowlevel.checkpoint()

    entry.run(main)


@on_trio
def test_a_shield_of_trios_around_cleanup_is_not_swallowing(entry: Any) -> None:
    """What HTTP libraries do on trio: close under ``CancelScope(shield=True)`` with a limit of their own."""

    async def main() -> list[str]:
        log: list[str] = []
        async with bateau.scope() as scope:
            scope.cancel()
            try:
                await bateau.yield_now()
            finally:
                with trio.move_on_after(0.01, shield=True) as limit:
                    await bateau.time.sleep(5)
                assert limit.cancelled_caught
                with trio.CancelScope(shield=True):
                    await bateau.time.sleep(0.001)
                    log.append("closed")
        return log

    assert entry.run(main) == ["closed"]


@on_trio
def test_out_of_order_is_one_named_error(entry: Any) -> None:
    """The damage ends there: trio's own tree is left in order."""

    async def main() -> str:
        around, outer, inner = (bateau.move_on_after(None) for _ in range(3))
        with around:
            outer.__enter__()
            inner.__enter__()
            with pytest.raises(bateau.ScopeError, match="still open"):
                outer.__exit__(None, None, None)
            await bateau.yield_now()
            inner.__exit__(None, None, None)
            await trio.lowlevel.checkpoint()
            outer = bateau.move_on_after(0.001)
            with outer:
                await trio.sleep_forever()
            assert outer.cancelled_caught
        async with bateau.scope() as scope:
            scope.spawn(bateau.yield_now)
        return "went on"

    assert entry.run(main) == "went on"


@on_trio
def test_a_trio_scope_left_open_inside_is_told(entry: Any) -> None:
    async def main() -> None:
        with pytest.raises(bateau.ScopeError, match="a trio scope was left open inside CancelScope"):
            with bateau.move_on_after(None):
                trio.CancelScope().__enter__()

    entry.run(main)


@on_trio
def test_left_from_another_task(entry: Any) -> None:
    async def main() -> None:
        block = bateau.move_on_after(None)
        block.__enter__()

        async def leaves() -> None:
            with pytest.raises(bateau.ScopeError, match="entered by task"):
                block.__exit__(None, None, None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leaves)

    entry.run(main)


@on_trio
def test_a_token_hears_of_a_deadline_when_it_passes(entry: Any) -> None:
    """Also where trio has nobody to tell: all that runs in the scope is shielded."""

    async def main() -> tuple[float, float]:
        tokens: list[Any] = []
        heard: list[float] = []

        async def owner(late: bool) -> None:
            for seconds in (0.02, 0.2, 2):
                try:
                    async with bateau.scope(timeout=seconds) as scope:
                        if late:
                            scope.reschedule(bateau.now() + seconds + 0.03)
                        tokens.append(scope.token)
                        with trio.CancelScope(shield=True), trio.fail_after(30):
                            while len(heard) < 2:
                                await trio.sleep(0.001)
                    return
                except bateau.ScopeError:  # the machine stood still until it was too late to move the deadline
                    continue

        async def watcher(index: int) -> None:
            while len(tokens) <= index:
                await bateau.yield_now()
            await tokens[index].wait()
            heard.append(bateau.now() - start)

        start = bateau.now()
        async with bateau.scope() as scope:
            scope.spawn(owner, False)
            scope.spawn(owner, True)
            for index in range(2):
                scope.spawn(watcher, index)
        return min(heard), max(heard)

    first, second = entry.run(main)
    assert first > 0.015
    assert second > 0.045
