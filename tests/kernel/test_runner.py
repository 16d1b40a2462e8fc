"""A Runner: many programs on one live loop; wrong use; fork (behaves or raises)."""

from __future__ import annotations

import contextvars
import os
import sys
import threading
import traceback

import pytest

import bateau
from bateau import Runner

var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)


async def bump():
    await bateau.yield_now()
    var.set(var.get() + 1)
    return var.get()


async def add(a, b):
    await bateau.yield_now()
    return a + b


async def fail():
    await bateau.yield_now()
    raise ValueError("no")


def test_many_runs_on_one_loop(runtime):
    hosts = []

    async def note():
        hosts.append(bateau.current_task().host)

    with Runner(runtime=runtime.name) as runner:
        assert runner.run(add, 1, 2) == 3
        runner.run(note)
        with pytest.raises(ValueError, match="no"):
            runner.run(fail)
        runner.run(note)
        assert runner.run(add, "a", "b") == "ab"
    assert hosts[0] is hosts[1]
    assert "closed" in repr(runner)


def test_context_variables_persist(runtime):
    with Runner(runtime=runtime.name) as runner:
        assert [runner.run(bump) for _ in range(3)] == [1, 2, 3]
    assert var.get() == 0
    context = contextvars.copy_context()
    context.run(var.set, 10)
    with Runner(runtime=runtime.name, context=context) as runner:
        assert runner.run(bump) == 11
    assert context[var] == 10


def test_run_variables_persist(runtime):
    kept: bateau.RunVar[int] = bateau.RunVar("kept", default=0)

    async def main():
        kept.set(kept.get() + 1)
        return kept.get()

    with Runner(runtime=runtime.name) as runner:
        assert [runner.run(main), runner.run(main)] == [1, 2]


def test_an_interrupted_run_leaves_it_usable(runtime):
    import signal

    async def main():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        await bateau.token().wait()

    with Runner(runtime=runtime.name) as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(main)
        assert runner.run(add, 1, 1) == 2


def test_closed(runtime):
    runner = Runner(runtime=runtime.name)
    runner.close()
    with pytest.raises(RuntimeError, match="closed"):
        runner.run(add, 1, 2)
    runner = Runner(runtime=runtime.name)
    assert runner.run(add, 1, 2) == 3
    runner.close()
    runner.close()
    with pytest.raises(RuntimeError, match="closed"):
        runner.run(add, 1, 2)
    with pytest.raises(RuntimeError, match="closed"):
        runner.__enter__()


def test_nested(runtime):
    with Runner(runtime=runtime.name) as runner:

        async def main():
            with pytest.raises(bateau.NestedRun):
                runner.run(add, 1, 2)
            with pytest.raises(bateau.NestedRun):
                Runner(runtime=runtime.name).run(add, 1, 2)
            with pytest.raises(RuntimeError, match="from inside its own run"):
                runner.close()
            return 7

        assert runner.run(main) == 7


def test_wrong_thread(runtime):
    errors = []

    def elsewhere():
        for call in (lambda: runner.run(add, 1, 2), runner.close):
            try:
                call()
            except bateau.WrongRuntime as error:
                errors.append(str(error))

    with Runner(runtime=runtime.name) as runner:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert runner.run(add, 1, 2) == 3
    assert len(errors) == 2 and "belongs to thread" in errors[0]


def test_not_a_function(runtime):
    with Runner(runtime=runtime.name) as runner:
        with pytest.raises(TypeError, match=r"run\(main\)"):
            runner.run(3)
        with pytest.raises(TypeError, match="async function"):
            runner.run(lambda: 3)


def test_unknown_runtime():
    with pytest.raises(ValueError, match="unknown runtime"):
        Runner(runtime="nothing")


def test_dropped_without_close():
    """Told where it was made, and what to write instead: shown by default, which a ResourceWarning is not."""
    runner = Runner(runtime="native")
    line = sys._getframe().f_lineno - 1
    runner.run(add, 1, 2)
    session = runner._session
    with pytest.warns(bateau.HazardWarning, match=r"dropped_without_close.*with bateau.Runner\(\) as runner") as caught:
        del runner
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)
    session.close()


# -- fork --------------------------------------------------------------------------------------------------------------


def in_child(fn):
    """Run ``fn`` in a forked child; returns its exit status (0: ``fn`` returned, 9: it raised) and what it wrote."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 9
        try:
            os.close(read)
            try:
                os.write(write, str(fn()).encode())
                status = 0
            except BaseException as error:
                os.write(write, "".join(traceback.format_exception_only(error)).encode())
        finally:
            os._exit(status)
    os.close(write)
    with open(read, "rb") as file:
        text = file.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


@pytest.mark.real_os("it forks")
def test_a_child_of_a_program_starts_its_own(runtime):
    async def main():
        result = in_child(lambda: runtime.run(add, 2, 3))
        assert await add(1, 1) == 2  # the parent goes on as before
        return result

    assert runtime.run(main) == (0, "5")


@pytest.mark.real_os("it forks")
def test_a_child_that_goes_on_with_the_parents_program_is_told(runtime):
    async def main():
        pid = os.fork()
        if pid == 0:
            await bateau.yield_now()
            await bateau.yield_now()
            os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def program():
        parent = os.getpid()
        try:
            return runtime.run(main)
        except RuntimeError as error:
            if os.getpid() == parent:
                raise
            os._exit(7 if "started before fork()" in str(error) else 8)

    assert program() == 7


@pytest.mark.real_os("it forks")
def test_a_wait_in_a_forked_child_names_the_fork(runtime):
    async def main():
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                await bateau.yield_now()
            except BaseException as error:
                os.write(write, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(0)
        os.close(write)
        with open(read, "rb") as file:
            text = file.read().decode()
        os.waitpid(pid, 0)
        assert text.startswith("NotInRuntime: ") and "forked from one with a program" in text, text

    runtime.run(main)


def test_a_runner_in_a_forked_child(runtime):
    with Runner(runtime=runtime.name) as runner:
        assert runner.run(add, 1, 2) == 3
        status, text = in_child(lambda: runner.run(add, 1, 2))
        assert status == 9 and "opened before fork()" in text
        assert in_child(runner.close)[0] == 0
        assert in_child(lambda: Runner(runtime=runtime.name).run(add, 4, 5)) == (0, "9")
        assert runner.run(add, 1, 2) == 3
