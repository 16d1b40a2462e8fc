"""Budgets inside budgets (law 7): whatever is moved while they run, the inner one never outlasts the outer one."""

from __future__ import annotations

import pytest

import bateau
from bateau.kernel.hazard import add_sink

pytestmark = pytest.mark.law(7)

LONG = 30.0  # seconds nobody waits out


@pytest.fixture
def findings():
    found = []
    remove = add_sink(found.append)
    yield found
    remove()


def test_the_outer_budget_moved_nearer_ends_the_inner_one(entry, findings):
    async def main():
        outer = bateau.cleanup(LONG)

        async def hurry():
            outer.reschedule(bateau.now() + 0.02)

        async with bateau.scope() as scope:
            async with outer:
                async with bateau.cleanup(LONG / 2):
                    scope.spawn(hurry)
                    await bateau.time.sleep(LONG)
                pytest.fail("the inner budget is over with the outer one")
            return outer.cancelled_caught

    assert entry.run(main)
    assert [finding.name for finding in findings] == ["cleanup_overrun"]


def test_the_outer_budget_moved_away_gives_the_inner_one_its_own_time_back(entry, findings):
    async def main():
        outer = bateau.cleanup(0.1)

        async def relax():
            outer.reschedule(bateau.now() + LONG)

        log = []
        async with bateau.scope() as scope:
            async with outer:
                async with bateau.cleanup(0.5) as inner:
                    scope.spawn(relax)
                    await bateau.time.sleep(0.15)
                    log.append("had the time")
                    await bateau.time.sleep(LONG)
                log.append(inner.cancelled_caught)
                await bateau.checkpoint()
                log.append(outer.cancel_called)
        return log

    assert entry.run(main) == ["had the time", True, False]
    assert [finding.name for finding in findings] == ["cleanup_overrun"]


def test_three_deep(entry, findings):
    async def main():
        outer = bateau.cleanup(LONG)

        async def hurry():
            outer.reschedule(bateau.now() + 0.02)

        async with bateau.scope() as scope:
            async with outer:
                async with bateau.cleanup(LONG):
                    with bateau.shield():
                        async with bateau.cleanup(LONG):
                            scope.spawn(hurry)
                            await bateau.time.sleep(LONG)
                        pytest.fail("unreachable")
                pytest.fail("unreachable")
            return outer.cancelled_caught

    assert entry.run(main)
    assert len(findings) == 1


def test_an_end_on_the_outer_ones_account_leaves_no_timer(entry, findings):
    """Both are due at once, and which of their timers comes first is the host's affair."""

    async def main():
        log = []
        for _ in range(5):
            async with bateau.cleanup(0.01) as outer:
                async with bateau.cleanup(LONG):
                    await bateau.time.sleep(LONG)
                pytest.fail("unreachable")
            log.append((outer.cancelled_caught, outer.timer))
        host = bateau.current_task().host
        if hasattr(host, "pending_timers"):
            log.append(host.pending_timers())
        return log

    log = entry.run(main)
    assert log[:5] == [(True, None)] * 5
    assert log[5:] in ([], [[]])
    assert len(findings) == 5


def test_a_budget_can_be_moved_but_not_taken_away(entry):
    async def main():
        async with bateau.cleanup(LONG) as budget:
            with pytest.raises(TypeError, match="a budget without an end is no budget"):
                budget.reschedule(None)

    entry.run(main)


def test_an_inner_budget_moved_into_the_past_is_used_up_alone(entry, findings):
    async def main():
        async with bateau.cleanup(LONG / 2) as outer:
            async with bateau.cleanup(LONG) as inner:
                assert inner.deadline == outer.deadline
                inner.reschedule(bateau.now() - 1)
                await bateau.time.sleep(LONG)
            assert inner.cancelled_caught
            await bateau.checkpoint()
            assert not outer.cancel_called
            with pytest.raises(bateau.ScopeError):
                inner.reschedule(bateau.now())

    entry.run(main)
    assert len(findings) == 1


def test_a_budget_moved_beyond_the_one_around_it_ends_with_that(entry, findings):
    async def main():
        async with bateau.cleanup(0.02) as outer:
            async with bateau.cleanup(0.01) as inner:
                inner.reschedule(bateau.now() + LONG)
                assert inner.deadline == outer.deadline
                await bateau.time.sleep(LONG)
            pytest.fail("unreachable")
        assert outer.cancelled_caught

    entry.run(main)
    assert len(findings) == 1
