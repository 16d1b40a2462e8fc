"""What has ended is freed at once, not when the garbage collector comes by."""

import gc

import pytest

import bateau
from bateau.sync import Event


def tasks_alive():
    return sum(isinstance(found, bateau.Task) for found in gc.get_objects())


@pytest.mark.law(10)
@pytest.mark.parametrize("end", ["returned", "cancelled"])
def test_an_ended_task_is_freed_with_its_handle(entry, end):
    """A hundred tasks that end and that nobody holds leave no work for the collector."""
    if end == "cancelled" and entry.name.endswith("trio"):
        pytest.skip("trio's own frames of a delivered cancellation hold its task")

    async def child():
        if end == "cancelled":
            await Event().wait()

    async def batch():
        async with bateau.scope() as scope:
            for _ in range(100):
                scope.spawn(child)
            await bateau.yield_now()
            if end == "cancelled":
                scope.cancel()

    async def main():
        await batch()
        await bateau.yield_now()
        gc.collect()
        before = tasks_alive()
        gc.disable()
        try:
            await batch()
            await bateau.yield_now()  # a loop may hold the last one for one turn more
            return tasks_alive() - before
        finally:
            gc.enable()

    assert entry.run(main) <= 1


def test_a_cancelled_task_still_tells_where_it_waited(entry):
    """What is cut off the traceback is bateau's; the user's line stays."""

    async def patient():
        await Event().wait()

    async def main():
        async with bateau.scope() as scope:
            task = scope.spawn(patient)
            await bateau.yield_now()
            scope.cancel()
        error = task.outcome().error
        names = []
        found = error.__traceback__
        while found is not None:
            names.append(found.tb_frame.f_code.co_name)
            found = found.tb_next
        return names

    assert "patient" in entry.run(main)


def test_what_stands_in_for_a_coroutine_is_still_the_collectors():
    """The twin takes the coroutines of living tasks out of the collector's lists, and puts them back: of others it lets go."""

    async def child():
        return

    class StandIn:
        steps = iter([None, None])
        cr_frame = None

        def send(self, value):
            try:
                return next(self.steps)
            except StopIteration:
                raise StopIteration("done") from None

    async def main():
        async with bateau.scope() as scope:
            task = scope.spawn(child)
            task.coro.close()
            task.coro = stand_in
            return await task

    stand_in = StandIn()
    assert bateau.run(main, runtime="native") == "done"
    assert gc.is_tracked(stand_in)
