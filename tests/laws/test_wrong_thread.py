"""Law 15: what belongs to one runtime's thread says so when another thread uses it, at once and with the fix, and goes on working."""

from __future__ import annotations

import threading

import pytest

import bateau
from bateau import channel, io, sync, time


def elsewhere(fn):
    """What `fn()` does on a thread of its own: its error, or None."""
    caught = [None]

    def call():
        try:
            fn()
        except BaseException as error:
            caught[0] = error

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return caught[0]


async def one():
    return 1


def _scope_calls(scope, task, block, select, local):
    return {
        "scope.spawn": lambda: scope.spawn(one),
        "scope.spawn of a coroutine": lambda: scope.spawn(one()),
        "scope.spawn_blocking": lambda: scope.spawn_blocking(print),
        "scope.start": lambda: scope.start(one).send(None),
        "scope.defer": lambda: scope.defer(print),
        "scope.own": lambda: scope.own(local["tx"]),
        "scope.cancel": scope.cancel,
        "scope.stop": scope.stop,
        "scope.reschedule": lambda: scope.reschedule(0),
        "task.cancel": task.cancel,
        "task.stop": task.stop,
        "timeout.cancel": block.cancel,
        "timeout.reschedule": lambda: block.reschedule(0),
        "select.insert": lambda: select.insert("new", one),
        "select.remove": lambda: select.remove("old"),
    }


def _local_calls(local):
    return {
        "try_send": lambda: local["tx"].try_send(1),
        "try_recv": local["rx"].try_recv,
        "sender.close": local["tx"].close,
        "oneshot.send": lambda: local["one_tx"].send(1),
        "watch.send": lambda: local["watch_tx"].send(1),
        "lock.release": local["lock"].release,
        "lock.try_acquire": local["lock"].try_acquire,
        "event.set": local["event"].set,
        "semaphore.release": local["semaphore"].release,
        "notify": local["notify"].notify_one,
        "duplex.try_write": lambda: local["duplex"].try_write(b"x"),
        "duplex.close": local["duplex"].close,
    }


@pytest.mark.law(15)
def test_each_is_refused_naming_both_sides_and_the_fix(entry):
    async def main():
        tx, rx = channel.channel(2, flavour="local")
        one_tx, one_rx = channel.oneshot(flavour="local")
        watch_tx, watch_rx = channel.watch(0, flavour="local")
        near, far = io.duplex(10)
        local = {
            "tx": tx, "rx": rx, "one_tx": one_tx, "watch_tx": watch_tx, "duplex": near,
            "lock": sync.Lock(flavour="local"), "event": sync.Event(flavour="local"),
            "semaphore": sync.Semaphore(1, flavour="local"), "notify": sync.Notify(flavour="local"),
        }  # fmt: skip
        for wait in (rx.recv, one_rx.recv, local["lock"].acquire, local["event"].wait, local["semaphore"].acquire):
            with bateau.move_on_after(0.001):
                await wait()  # from now on they are at home here
        with bateau.move_on_after(0.001):
            await local["notify"].wait()
        async with bateau.scope() as scope:
            task = scope.spawn(time.sleep_forever)
            with bateau.timeout(60) as block:
                async with bateau.Select({"old": time.sleep_forever}) as select:
                    await bateau.yield_now()
                    calls = {**_scope_calls(scope, task, block, select, local), **_local_calls(local)}
                    for name, call in calls.items():
                        error = elsewhere(call)
                        assert isinstance(error, bateau.WrongRuntime), f"{name}: {error!r}"
                        assert str(error).count(" on thread ") + str(error).count("thread ") >= 2, f"{name}: {error}"
            # Nothing has happened.
            assert await scope.spawn(one) == 1
            assert not task.done
            assert not scope.cancel_called
            assert not bateau.stopping()
            assert list(select) == ["old"]
            task.cancel()
        for closable in (tx, rx, one_tx, one_rx, watch_tx, watch_rx, near, far):
            closable.close()

    entry.run(main)


@pytest.mark.law(15)
def test_the_fixes_named_work(entry):
    async def main():
        ran = []

        async def child():
            ran.append(threading.get_ident())

        async with bateau.scope() as scope:
            await bateau.thread.run(lambda: bateau.thread.from_thread.run_sync(scope.spawn, child))
            task = scope.spawn(time.sleep_forever)
            await bateau.thread.run(lambda: bateau.thread.from_thread.run_sync(task.cancel))
        assert ran == [threading.get_ident()]
        assert task.outcome().cancelled
        async with bateau.thread.portal() as portal, bateau.scope() as scope:
            scope.spawn(time.sleep_forever)
            token = scope.token
            await bateau.thread.run(portal.run_sync, scope.spawn, child)
            assert elsewhere(token.cancel) is None
            await time.sleep_forever()
        assert len(ran) == 2

    entry.run(main)


def test_scopes_that_are_over_say_so(entry):
    async def main():
        async with bateau.scope() as scope:
            pass
        unused = bateau.scope()
        for call in (lambda: scope.spawn(one), lambda: scope.spawn(one()), lambda: scope.defer(print)):
            with pytest.raises(bateau.ScopeError, match="it has ended"):
                call()
        for call in (lambda: unused.spawn(one), lambda: unused.defer(print)):
            with pytest.raises(bateau.ScopeError, match="has not been entered"):
                call()

    entry.run(main)
