"""Each task has context variables of its own, copied from its spawner's: also where the twin lets tasks share a copy until one sets something."""

import contextvars
import gc
import sys
import threading
import weakref

import pytest

import bateau
from bateau.sync import Event

var: contextvars.ContextVar[object] = contextvars.ContextVar("var", default="unset")
MANY = 250  # beyond what a scope hides from the collector at once


def test_what_a_task_sets_is_its_own(runtime):
    """Those that set it, in whatever step, and those that do not, in turns; a child has what its spawner had when it was spawned."""

    async def child(expected):
        assert var.get() == expected
        await bateau.yield_now()
        assert var.get() == expected

    async def one(number):
        seen = "root"
        for step in range(4):
            assert var.get() == seen
            if number % 3 == step:
                seen = (number, step)
                var.set(seen)
            assert var.get() == seen
            await bateau.yield_now()
        async with bateau.scope() as scope:
            for _ in range(2):
                scope.spawn(child, seen)
            var.set("later")
            scope.spawn(child, "later")

    async def main():
        var.set("root")
        async with bateau.scope() as scope:
            for number in range(MANY):
                scope.spawn(one, number)
        return var.get()

    assert runtime.run(main) == "root"


def test_a_token_serves_only_the_task_that_has_it(runtime):
    """Also a set that put there what was there already, and left nothing but the token."""
    tokens = {}

    async def one(number):
        spent = var.set("for a moment")
        var.reset(spent)
        tokens[number] = var.set(number)
        for _ in range(2):
            await bateau.yield_now()
        if number % 2:
            with pytest.raises(ValueError, match="Context"):
                var.reset(tokens[number - 1])
            var.reset(tokens[number])
            assert var.get() == "root"
        else:
            await bateau.yield_now()
            assert var.get() == number

    async def changes_nothing(number):
        tokens[number] = var.set(var.get())
        for _ in range(2):
            await bateau.yield_now()
        if number % 2:
            with pytest.raises(ValueError, match="Context"):
                var.reset(tokens[number - 1])
            var.reset(tokens[number])
        await bateau.yield_now()
        assert var.get() == "root"

    async def main():
        var.set("root")
        async with bateau.scope() as scope:
            for number in range(20):
                scope.spawn(one, number)
                scope.spawn(changes_nothing, 100 + number)

    runtime.run(main)


def test_a_task_s_context_stays_the_one_that_was_asked_for(runtime):
    """Asked for by itself in a step, by another, and from another thread in the middle of its step."""
    found = {}

    async def asks_itself():
        await bateau.yield_now()
        context = bateau.current_task().context
        var.set("set after asking")
        assert context[var] == "set after asking"
        with pytest.raises(RuntimeError, match="entered"):
            context.run(int)
        await bateau.yield_now()
        assert bateau.current_task().context is context
        assert context[var] == var.get() == "set after asking"

    async def asked_by_a_thread():
        await bateau.yield_now()
        task = bateau.current_task()
        thread = threading.Thread(target=lambda: found.update(thread=task.context))
        thread.start()
        thread.join()
        var.set("set in the same step")
        assert found["thread"][var] == "set in the same step"
        await bateau.yield_now()
        assert task.context is found["thread"]
        assert var.get() == "set in the same step"

    async def asked_by_another(event):
        await event.wait()
        assert var.get() == "set from outside"

    async def main():
        var.set("root")
        event = Event()
        async with bateau.scope() as scope:
            for _ in range(5):
                scope.spawn(asks_itself)
            scope.spawn(asked_by_a_thread)
            waiting = [scope.spawn(asked_by_another, event) for _ in range(5)]
            await bateau.yield_now()
            await bateau.yield_now()
            for task in waiting:
                assert task.context is task.context
                task.context.run(var.set, "set from outside")
            event.set()
        return var.get()

    assert runtime.run(main) == "root"


def test_a_loop_within_a_step_runs_the_siblings_in_their_own(runtime):
    """A blocking call that runs the other tasks meanwhile, in the middle of a step of one that has their context."""
    if runtime.name != "native":
        pytest.skip("only native has nested block_on")

    async def sibling(number):
        for step in range(4):
            assert var.get() == ("root" if step < 2 else number)
            if step == 1:
                var.set(number)
            await bateau.yield_now()

    async def some_steps():
        for _ in range(3):
            await bateau.yield_now()
        var.set("of block_on")

    async def blocks():
        await bateau.yield_now()
        bateau.block_on(some_steps())
        assert var.get() == "root"
        var.set("after it")
        await bateau.yield_now()
        assert var.get() == "after it"

    async def main():
        var.set("root")
        async with bateau.scope() as scope:
            for number in range(10):
                scope.spawn(sibling, number)
                if number == 5:
                    scope.spawn(blocks)
        return var.get()

    assert runtime.run(main) == "root"


def test_what_a_destructor_sets_between_steps_reaches_no_task(runtime):
    """The last reference to an object goes with the handle of an ended task."""

    class Leaves:
        def __del__(self):
            var.set("left")

    async def returns():
        return Leaves()

    async def one():
        for _ in range(5):
            assert var.get() == "root"
            await bateau.yield_now()

    async def main():
        var.set("root")
        async with bateau.scope() as scope:
            for _ in range(10):
                scope.spawn(one)
                scope.spawn(returns)

    runtime.run(main)


def test_values_go_with_the_last_task_that_sees_them(runtime):
    """Nothing keeps the variables of tasks that have ended: not the scope, and not the engine."""

    class Value:
        pass

    async def one():
        await bateau.yield_now()

    async def batch():
        value = Value()
        var.set(value)
        async with bateau.scope() as scope:
            for _ in range(3):
                scope.spawn(one)
        var.set(None)
        return weakref.ref(value)

    async def main():
        async with bateau.scope() as scope:
            reference = await scope.spawn(batch)
        await bateau.yield_now()
        gc.collect()
        return reference() is None

    assert runtime.run(main)


def test_a_destructor_may_take_the_siblings_contexts_while_one_is_asked_for(runtime):
    """Making the copy that is handed out runs the collector (3.11). The address sanitizer saw the copied variables freed meanwhile."""
    todo = []

    class Late:
        def __init__(self):
            self.itself = self

        def __del__(self):
            if todo:
                first, second = todo
                todo.clear()
                second.context.run(var.set, "second's")
                assert first.context is not second.context
                first.context = contextvars.Context()
                var.set("main's")
                gc.disable()

    async def main():
        var.set(object())
        async with bateau.scope() as scope:
            first, second = scope.spawn(bateau.yield_now), scope.spawn(bateau.yield_now)
            # CPython keeps 255 for the next ones: those are in use now.
            others = [contextvars.copy_context() for _ in range(400)]
            for other in others:
                other.run(var.set, None)
            Late()
            todo.extend((first, second))
            gc.set_threshold(1)
            gc.enable()
            context = first.context
            gc.disable()
            context.run(var.set, "first's")
            if sys.version_info < (
                3,
                12,
            ):  # there the collector runs between two bytecodes: after the context was handed out as well
                assert first.context is context
            assert second.context.run(var.get) in ("second's", var.get())

    thresholds, enabled = gc.get_threshold(), gc.isenabled()
    gc.disable()
    try:
        runtime.run(main)
    finally:
        todo.clear()
        gc.set_threshold(*thresholds)
        if enabled:
            gc.enable()
