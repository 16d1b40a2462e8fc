"""The hangs that people have, told in words: S12 (locks), S14 (a hang), S37 (a handler and its own queue), S41 (after the end), S42 (a
foreign callback), F04 and F06 (two channels in a server that still accepts).
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

import bateau
from bateau import insight
from bateau.insight.drawing import to_mermaid
from bateau.insight.explain import explain, explain_task
from bateau.insight.waitgraph import find_knots
from bateau.kernel import hazard

pytestmark = pytest.mark.real_os("another thread looks at the running program")


async def until(condition):
    """Until it holds, and everybody who was woken meanwhile has had his turns."""
    while not condition():
        await bateau.yield_now()
    for _ in range(50):
        await bateau.yield_now()


def close(*ends):
    for end in ends:
        end.close()


async def look():
    return await bateau.thread.run(insight.snapshot)


def test_s37_a_handler_and_its_own_full_channel(entry):
    """It sends to the channel that only itself receives from: nobody else can make room."""

    async def handler(sender, receiver):
        async for number in receiver:
            for _ in range(3):
                await sender.send(number + 1)

    async def main():
        sender, receiver = bateau.channel.channel(2, name="C")
        async with bateau.scope() as scope:
            await sender.send(1)
            task = scope.spawn(handler, sender.clone(), receiver, name="handler")
            sender.close()
            await until(
                lambda: task.waiting is not None and sender is not None and task.waiting.describe().startswith("send")
            )
            snapshot = await look()
            scope.cancel()
        return snapshot

    text = explain(entry.run(main))
    assert "DEADLOCK: task 'handler' waits for itself, and nobody else can free it" in text
    assert "send on channel 'C' (2/2)" in text
    assert "give the channel more room" in text


@pytest.mark.law(17)
def test_f04_two_channels_in_a_server_that_still_accepts(entry):
    """Each of two tasks fills the other's channel; the listener lives on, so no runtime could call it a deadlock of the program."""

    async def pump(sender, receiver):
        for number in range(5):
            await sender.send(number)
        await receiver.recv()

    async def main():
        left_in, left_out = bateau.channel.channel(2, name="to alice")
        right_in, right_out = bateau.channel.channel(2, name="to bob")
        async with await bateau.net.listen_tcp("127.0.0.1", 0) as listener, bateau.scope() as scope:
            accepting = scope.spawn(listener.accept, name="server")
            alice = scope.spawn(pump, right_in, left_out, name="alice")
            bob = scope.spawn(pump, left_in, right_out, name="bob")
            await until(lambda: all(task.waiting is not None for task in (accepting, alice, bob)))
            before = await look()
            # Who will receive is known once they have: before that, an end that nobody has used is in anybody's hands.
            scope.cancel()
        close(left_in, left_out, right_in, right_out)
        return before

    snapshot = entry.run(main)
    names = {task.id: task.name for task in snapshot.tasks}
    server = next(task for task in snapshot.tasks if task.name == "server")
    assert not any(server.id in (*knot.ring, *knot.behind) for knot in find_knots(snapshot))
    text = explain(snapshot)
    assert "send on channel 'to bob' (2/2)" in text
    for knot in find_knots(snapshot):
        assert {names[one] for one in knot.ring} == {"alice", "bob"}


def test_f04_is_proven_once_both_have_received(entry):
    async def pump(sender, receiver, first):
        if first:
            await sender.send(0)
        await receiver.recv()
        if not first:
            await sender.send(0)
        else:
            await receiver.recv()
        for number in range(5):
            await sender.send(number)

    async def main():
        left_in, left_out = bateau.channel.channel(2, name="to alice")
        right_in, right_out = bateau.channel.channel(2, name="to bob")
        async with await bateau.net.listen_tcp("127.0.0.1", 0) as listener, bateau.scope() as scope:
            scope.spawn(listener.accept, name="server")
            alice = scope.spawn(pump, right_in, left_out, True, name="alice")
            bob = scope.spawn(pump, left_in, right_out, False, name="bob")
            await until(
                lambda: all(task.waiting is not None and "(2/2)" in task.waiting.describe() for task in (alice, bob))
            )
            snapshot = await look()
            scope.cancel()
        close(left_in, left_out, right_in, right_out)
        return snapshot

    snapshot = entry.run(main)
    (knot,) = find_knots(snapshot)
    assert knot.exact
    assert {task.name for task in snapshot.tasks if task.id in knot.ring} == {"alice", "bob"}
    assert "let one of them receive while it waits to send" in explain(snapshot)


def test_s14_who_holds_what_a_handler_waits_for(entry):
    """The chain from a handler over a lock to the thread that is in no hurry."""
    release = threading.Event()

    async def slow(lock):
        async with lock:
            await bateau.thread.run(release.wait)

    async def handler(lock):
        async with lock:
            pass

    async def main():
        lock = bateau.sync.Lock(name="db")
        async with bateau.scope() as scope:
            holder = scope.spawn(slow, lock, name="slow")
            await until(lambda: holder.waiting is not None)
            handlers = [scope.spawn(handler, lock, name=f"handler-{number}") for number in range(50)]
            await until(lambda: all(task.waiting is not None for task in handlers))
            snapshot = await look()
            release.set()
        return snapshot, handlers[0].id

    snapshot, number = entry.run(main)
    text = explain(snapshot)
    assert "50 tasks like 'handler-0'" in text
    assert "held by 'slow', which waits at " in text
    assert "so in the end it waits for: worker threads" in text
    one = explain_task(snapshot, number)
    assert "'handler-0' waits on lock 'db' (held by task 'slow', 50 waiting)" in one
    assert "could be freed by somebody outside" in one
    assert find_knots(snapshot) == ()


MODULE_LOCK = threading.Lock()


@pytest.mark.parametrize("runtime", ["native", "trio"])
def test_s12_a_thread_lock_over_an_await_is_told_by_its_name_and_with_what_to_do(runtime):
    name = f"update of {runtime}"

    def found():
        return [finding for finding in insight.findings("thread_lock_across_await") if finding.task == name]

    async def update(event):
        with MODULE_LOCK:  # bateau: ignore[thread_lock_across_await]
            await event.wait()

    async def main():
        event = bateau.sync.Event()
        async with bateau.timeout(30), bateau.scope() as scope:
            scope.spawn(update, event, name=name)
            while not found():
                await bateau.time.sleep(0.01)
            event.set()

    with insight.watch():
        bateau.run(main, runtime=runtime)
    (finding,) = found()
    with pytest.warns(bateau.HazardWarning) as told:
        hazard.warn(finding)
    text = str(told[0].message)
    assert f"task {name!r} is suspended inside `with MODULE_LOCK`" in text
    assert "what to do: use `bateau.sync.Lock`" in text


def test_s42_the_bridge_that_the_report_names_cannot_lose_a_wake_up(entry):
    assert "bateau.thread.CallbackFuture()" in insight.hazards.by_name("lost_wakeup").remedy

    async def main():
        future = bateau.thread.CallbackFuture()
        task = bateau.current_task()

        def foreign():
            while task.waiting is None:
                time.sleep(0.001)
            future.set_result(42)

        thread = threading.Thread(target=foreign, daemon=True)
        thread.start()
        try:
            async with bateau.timeout(30):
                return await future
        finally:
            thread.join(30)

    assert entry.run(main) == 42


def test_s14_a_task_that_is_inside_bateau_alone_is_drawn_at_the_line_that_spawned_it(entry):
    async def main():
        async with await bateau.net.listen_tcp("127.0.0.1", 0) as listener, bateau.scope() as scope:
            server = scope.spawn(listener.accept, name="server")
            await until(lambda: server.waiting is not None)
            snapshot = await look()
            scope.cancel()
        return snapshot

    (line,) = [line for line in to_mermaid(entry.run(main)).splitlines() if '"server<br/>' in line]
    assert "test_stories.py:" in line and "coroutines.py" not in line


KILLED = """
import os, sys
import bateau
from bateau import insight

async def main():
    async with await bateau.net.listen_tcp("127.0.0.1", 0) as listener, bateau.scope() as scope:
        scope.spawn(listener.accept, name="server")
        await bateau.time.sleep(0)
        scope.spawn_blocking(os.kill, os.getpid(), 9)

insight.record(sys.argv[1])
bateau.run(main, runtime="native")
"""


def test_s41_after_a_kill_the_words_are_those_of_the_live_tools(tmp_path):
    """No operation's inner name, and no line of bateau's; ``python -m bateau`` is the command."""
    program = tmp_path / "program.py"
    program.write_text(KILLED)
    done = subprocess.run([sys.executable, str(program), str(tmp_path / "left")], timeout=60, check=False)
    assert done.returncode == -9
    (recording,) = (tmp_path / "left").iterdir()
    told = subprocess.run(
        [sys.executable, "-m", "bateau", "postmortem", str(recording)],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert "'server' had waited for " in told
    assert "passage" not in told
    assert "coroutines.py" not in told
    assert f"spawned in main at {program}:8" in told


def test_a_macro_and_a_runtimes_own_state():
    from bateau.insight.extending import run_macro

    name = "count of test_stories"
    remove = insight.macro(name)(lambda snapshot: len(snapshot.tasks))
    assert remove is not None

    async def main():
        host = bateau.current_task().host
        host.insight_state = lambda: {"turns": 3}
        return insight.snapshot()

    snapshot = bateau.run(main, runtime="native")
    assert snapshot.runtimes[0].ext == {"turns": 3}
    assert run_macro(name, snapshot) == 1
    assert run_macro("operator:index", True) == 1
    with pytest.raises(insight.InsightError, match="no macro 'nobody'; known: .*count of test_stories"):
        run_macro("nobody", snapshot)
    with pytest.raises(insight.InsightError, match="no macro 'operator:nothing'"):
        run_macro("operator:nothing", snapshot)
