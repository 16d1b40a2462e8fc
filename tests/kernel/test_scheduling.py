"""Scheduling policies: priorities as the worked example; a policy of one's own (S26)."""

from __future__ import annotations

from collections import deque

import pytest

import bateau
from bateau.kernel.operation import STEP_BUDGET
from bateau.runtimes.native import NativeRuntime
from bateau.scheduling import PriorityPolicy


async def steps(order, name, n=2):
    for _ in range(n):
        order.append(name)
        await bateau.yield_now()


def test_the_highest_priority_runs_first_and_equals_are_fifo():
    order: list[str] = []

    async def main():
        async with bateau.scope() as scope:
            for name, priority in (("low", -1), ("normal", 0), ("high", 5), ("high2", 5)):
                scope.spawn(steps, order, name, priority=priority)

    bateau.run(main, runtime=NativeRuntime(policy=PriorityPolicy))
    assert order == ["high", "high2", "high", "high2", "normal", "normal", "low", "low"]


def test_without_a_policy_priorities_mean_nothing():
    order: list[str] = []

    async def main():
        async with bateau.scope() as scope:
            scope.spawn(steps, order, "low", priority=-1)
            scope.spawn(steps, order, "high", priority=5)

    bateau.run(main, runtime="native")
    assert order == ["low", "high", "low", "high"]


def test_each_run_has_a_queue_of_its_own():
    runtime = NativeRuntime(policy=PriorityPolicy)

    async def main():
        async with bateau.scope() as scope:
            scope.spawn(steps, [], "a")
            scope.cancel()
        return 1

    assert [bateau.run(main, runtime=runtime) for _ in range(3)] == [1, 1, 1]


def test_a_policy_of_ones_own():
    class LastInFirstOut:
        def __init__(self):
            self.tasks = deque()

        def push(self, task):
            self.tasks.append(task)

        def pop(self):
            return self.tasks.pop()

        def __len__(self):
            return len(self.tasks)

    order: list[str] = []

    async def main():
        async with bateau.scope() as scope:
            for name in "abc":
                scope.spawn(steps, order, name)

    bateau.run(main, runtime=NativeRuntime(policy=LastInFirstOut))
    assert order == ["c", "c", "b", "b", "a", "a"]


def test_waits_timers_and_cancellation_work_under_it():
    async def main():
        token = bateau.token()
        async with bateau.scope() as scope:
            waiter = scope.spawn(token.wait, priority=3)
            with bateau.move_on_after(0.01):
                await bateau.token().wait()
            token.cancel("done")
        return (await waiter).reason

    assert bateau.run(main, runtime=NativeRuntime(policy=PriorityPolicy)) == "done"


@pytest.mark.parametrize("end", ["well", "deferred", "failed", "cancelled", "background"])
def test_the_wait_for_the_children_leaves_a_whole_step_budget(end: str):
    async def child():
        await bateau.yield_now()
        if end == "failed":
            raise ValueError

    async def main():
        try:
            async with bateau.scope() as scope:
                scope.spawn(child)
                if end == "deferred":
                    scope.defer(int)
                if end == "cancelled":
                    scope.cancel()
                if end == "background":
                    scope.spawn(bateau.time.sleep, 1000, background=True)
        except* ValueError:
            pass
        return bateau.current_task().budget

    assert bateau.run(main, runtime="native") == STEP_BUDGET
