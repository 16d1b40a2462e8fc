"""Which loop runs, on Python 3.11: asyncio asks by a system call, bateau's loop answers without. The answers are the same."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from asyncio import events
from typing import Any

import pytest

from support.loops import both, needs_native, run

# Not in the stubs: what asyncio's queues, events and locks ask.
_events: Any = events

only_there = pytest.mark.skipif(sys.version_info >= (3, 12), reason="asyncio makes no system call there")


def running() -> Any:
    """What asyncio's parts are told, which must be what its own function says."""
    told = _events._get_running_loop()
    assert told is _events._c__get_running_loop()
    return told


@both
def test_the_running_loop_is_the_one_that_runs(factory: Any) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        assert running() is loop
        await asyncio.sleep(0)
        assert running() is loop
        return loop

    assert running() is None
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(main()) is runner.get_loop()
        assert running() is None
        assert runner.run(main()) is runner.get_loop()
    assert running() is None


@both
def test_who_changes_the_running_loop_is_followed(factory: Any) -> None:
    async def main() -> None:
        loop, other = asyncio.get_running_loop(), factory()
        _events._set_running_loop(None)
        assert running() is None
        _events._set_running_loop(other)
        assert running() is other
        _events._set_running_loop(loop)
        assert running() is loop
        other.close()

    run(factory, main())


@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="asyncio knows one current task of a thread there: no loop runs inside"
)
@both
def test_a_loop_inside_another_ones_run(factory: Any) -> None:
    async def inner(outer: Any) -> None:
        assert running() is asyncio.get_running_loop() is not outer

    async def main() -> None:
        loop = asyncio.get_running_loop()
        other = factory()
        _events._set_running_loop(None)
        try:
            other.run_until_complete(inner(loop))
        finally:
            _events._set_running_loop(loop)
        assert running() is loop
        other.close()

    run(factory, main())


@both
def test_a_loop_driven_by_hand_is_not_the_running_one(factory: Any) -> None:
    async def main() -> None:
        loop, other = asyncio.get_running_loop(), factory()
        other._thread_id = threading.get_ident()
        other._stopping = True
        other._run_once()
        assert running() is loop
        other._thread_id = None
        other.close()
        assert running() is loop

    run(factory, main())


@both
def test_another_thread_has_its_own(factory: Any) -> None:
    seen: list[Any] = []

    async def inner() -> None:
        seen.append(running())
        await asyncio.sleep(0)
        seen.append(asyncio.get_running_loop())

    def other() -> None:
        seen.append(running())
        run(factory, inner())
        seen.append(running())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert running() is loop
        assert seen[0] is seen[3] is None
        assert seen[1] is seen[2] is not loop

    run(factory, main())


@both
def test_a_forked_child_has_none(factory: Any) -> None:
    async def main() -> None:
        assert running() is not None
        if not (pid := os.fork()):
            try:
                os._exit(0 if _events._get_running_loop() is None else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert running() is not None

    run(factory, main())


@only_there
@needs_native
def test_asyncio_is_not_asked_while_our_loop_runs() -> None:
    from bateau._native import running_loop_getter  # type: ignore[import-not-found]
    from bateau.interop.asyncio import new_event_loop

    asked: list[None] = []

    def asyncios() -> None:
        asked.append(None)

    getter = running_loop_getter(asyncios)

    async def main() -> None:
        assert getter() is asyncio.get_running_loop()

    run(new_event_loop, main())
    assert not asked
    assert getter() is None
    assert len(asked) == 1
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:

        async def theirs() -> None:
            assert getter() is None

        runner.run(theirs())
    assert len(asked) == 2


@only_there
@needs_native
def test_a_loop_that_has_run_is_let_go() -> None:
    import gc
    import weakref

    from bateau.interop.asyncio import new_event_loop

    loop = new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None
