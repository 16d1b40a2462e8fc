"""Knots, chains and pictures over snapshots that were written down: what is stuck is stuck, and nothing else is."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bateau.insight.drawing import to_dot, to_mermaid
from bateau.insight.explain import explain, explain_task
from bateau.insight.model import Arm, Frame, Process, Resource, Scope, Snapshot, Task, Wait
from bateau.insight.waitgraph import WaitGraph, find_knots, find_timed


def waits(number, *resources, **fields):
    """A task that waits on one resource, or on any of several."""
    arms = tuple(Arm(str(at), "op", resource=one) for at, one in enumerate(resources)) if len(resources) > 1 else ()
    wait = Wait("op", resource=None if arms else resources[0], arms=arms, **fields.pop("wait", {}))
    return Task(number, f"t{number}", "waiting", stack=0, waits=wait, **fields)


def lock(number, *holders, **fields):
    return Resource(number, "lock", f"lock {number}", holders=holders, satisfiers=holders, freed_by="tasks", **fields)


def snap(tasks, resources, scopes=()):
    return Snapshot(
        1.0, Process(1), tasks=tuple(tasks), resources=tuple(resources), scopes=tuple(scopes),
        frames=(Frame("app.py", 3, "main"),), stacks=((0,),),
    )  # fmt: skip


AB_BA = snap([waits(1, 11), waits(2, 12), waits(3, 11)], [lock(11, 2), lock(12, 1)])


def test_a_ring_and_who_stands_behind_it():
    (knot,) = find_knots(AB_BA)
    assert knot.ring == (1, 2)
    assert knot.behind == (3,)
    assert knot.exact
    text = explain(AB_BA)
    assert "DEADLOCK: 2 tasks wait for each other" in text
    assert "the ring: 't1' -> lock -> 't2' -> lock -> 't1'" in text
    assert "behind it: 't3'" in text
    assert "same order everywhere" in text
    assert "nobody can free it any more" in explain_task(AB_BA, 3)


def test_a_task_that_waits_for_itself():
    snapshot = snap([waits(1, 11)], [Resource(11, "channel", "channel (2/2)", satisfiers=(1,), freed_by="tasks")])
    (knot,) = find_knots(snapshot)
    assert knot.ring == (1,)
    assert "waits for itself" in explain(snapshot)


def test_a_ring_with_a_way_out_is_none():
    for out in (
        snap(
            [waits(1, 11), waits(2, 12), Task(3, "t3", "running")], [lock(11, 2), lock(12, 1, 3)]
        ),  # any holder will do
        snap(
            [waits(1, 11), waits(2, 12, 13)], [lock(11, 2), lock(12, 1), Resource(13, "fd", "fd 3", freed_by="outside")]
        ),
        snap([waits(1, 11, wait={"left": 3.0}), waits(2, 12)], [lock(11, 2), lock(12, 1)]),  # a timer
        snap([waits(1, 11, moved=True), waits(2, 12)], [lock(11, 2), lock(12, 1)]),
        snap([waits(1, 11, cancelled="why"), waits(2, 12)], [lock(11, 2), lock(12, 1)]),
        snap(
            [waits(1, 11, entered=21), waits(2, 12)],
            [lock(11, 2), lock(12, 1)],
            [Scope(21, "T", parent=22), Scope(22, "T", left=2.0)],
        ),
        snap(
            [waits(1, 11), waits(2, 12)], [lock(11, 2), Resource(12, "event", "event", satisfiers=(1,))]
        ),  # not all are known
        snap([waits(1, 11)], [lock(11, 99)]),  # its holder has ended since
    ):
        assert find_knots(out) == ()


def test_a_ring_that_a_timeout_will_cut():
    scopes = [Scope(21, "T", parent=22), Scope(22, "T", left=2.0)]
    snapshot = snap(
        [waits(1, 11, entered=21), waits(2, 12), waits(3, 11, wait={"left": 9.0})], [lock(11, 2), lock(12, 1)], scopes
    )
    assert find_knots(snapshot) == ()
    (knot,) = find_timed(snapshot)
    assert (knot.ring, knot.behind, knot.until) == ((1, 2), (3,), 2.0)
    assert "IN EACH OTHER'S WAY: 2 tasks can only be freed by each other, or by a timeout in 2 s" in explain(snapshot)
    assert find_timed(AB_BA) == ()


def test_a_deadline_does_not_reach_through_a_shield():
    scopes = [Scope(21, "Shield", shielded=True, parent=22), Scope(22, "Timeout", left=2.0)]
    assert find_knots(snap([waits(1, 11, entered=21), waits(2, 12, entered=21)], [lock(11, 2), lock(12, 1)], scopes))


def test_a_cancelled_task_in_a_shielded_wait_is_still_stuck():
    tasks = [waits(1, 11, cancelled="why", wait={"shielded": True}), waits(2, 12)]
    assert find_knots(snap(tasks, [lock(11, 2), lock(12, 1)]))


def test_all_are_needed_where_all_are_needed():
    scope = Resource(13, "scope", "scope", satisfiers=(1, 4), freed_by="tasks", needs_all=True)
    tasks = [waits(1, 11), waits(2, 12), waits(3, 13), Task(4, "t4", "running")]
    (knot,) = find_knots(snap(tasks, [lock(11, 2), lock(12, 1), scope]))
    assert knot.behind == (3,)  # one child can move, but the scope waits for both


def test_a_knot_that_is_no_ring():
    """Each of two waits for either of two others, which wait for them: a ring does not show it, and nobody has a way out."""
    tasks = [waits(1, 11, 12), waits(2, 11, 12), waits(3, 13), waits(4, 14)]
    snapshot = snap(tasks, [lock(11, 3), lock(12, 4), lock(13, 1, 2), lock(14, 2)])
    assert set(WaitGraph(snapshot).stuck()) == {1, 2, 3, 4}
    (knot,) = find_knots(snapshot)
    assert {*knot.ring, *knot.behind} == {1, 2, 3, 4}


def test_what_is_inferred_is_said_to_be_likely():
    queue = Resource(12, "asyncio Queue", "queue", library="asyncio", satisfiers=(1,), freed_by="tasks", inferred=True)
    snapshot = snap([waits(1, 11), waits(2, 12)], [lock(11, 2), queue])
    (knot,) = find_knots(snapshot)
    assert not knot.exact
    assert "PROBABLY A DEADLOCK" in explain(snapshot)


def test_the_chain_leads_to_who_can_move():
    tasks = [waits(1, 11), waits(2, 12), Task(3, "t3", "running", stack=0)]
    graph = WaitGraph(snap(tasks, [lock(11, 2), lock(12, 3)]))
    assert [(step.task, step.resource, step.by) for step in graph.chain(1)] == [(1, 11, 2), (2, 12, 3)]
    assert "so in the end it waits for: 't3', which is running at app.py:3 in main" in explain(graph.snapshot)
    assert WaitGraph(AB_BA).chain(3)[-1].by in (1, 2)


def test_the_pictures_show_the_ring():
    dot, mermaid = to_dot(AB_BA), to_mermaid(AB_BA)
    for line in ("t1 -> r11", "r11 -> t2", "t2 -> r12", "r12 -> t1"):
        assert line in dot
    assert dot.count('color="red"') == 2
    assert 't1 -->|"waits"| r11' in mermaid
    assert "class t1,t2 stuck" in mermaid


def test_names_can_not_break_a_picture():
    task = Task(1, 'a"]; evil [label="|>\\', "waiting", waits=Wait("op", resource=11))
    snapshot = snap([task], [Resource(11, "lock", 'say "hi" <b>|\\', freed_by="outside")])
    assert '\\"]; evil' in to_dot(snapshot)
    assert '"]; evil' not in to_mermaid(snapshot)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_who_can_move_is_what_a_plain_fixpoint_says(data):
    count = data.draw(st.integers(1, 7))
    numbers = range(1, count + 1)
    resources = [
        Resource(
            10 + at, "r", "r", freed_by=data.draw(st.sampled_from(["tasks", "tasks", "tasks", "outside"])),
            satisfiers=tuple(data.draw(st.lists(st.sampled_from(numbers), min_size=1, max_size=3, unique=True))),
            needs_all=data.draw(st.booleans()),
        )
        for at in range(count)
    ]  # fmt: skip
    ids = [resource.id for resource in resources]
    tasks = [
        Task(number, "t", "running") if data.draw(st.integers(0, 6)) == 0
        else waits(number, *data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=2, unique=True)))
        for number in numbers
    ]  # fmt: skip
    snapshot = snap(tasks, resources)
    graph = WaitGraph(snapshot)
    by_id = {resource.id: resource for resource in resources}
    alive = {task.id for task in tasks if task.state == "running"}
    while True:
        more = {
            task.id
            for task in tasks
            for number in graph.alternatives(task)
            if by_id[number].freed_by == "outside"
            or (all if by_id[number].needs_all else any)(one in alive for one in by_id[number].satisfiers)
        }
        if more <= alive:
            break
        alive |= more
    assert set(graph.stuck()) == set(numbers) - alive
    members = [number for knot in graph.knots() for number in (*knot.ring, *knot.behind)]
    assert sorted(members) == sorted(set(numbers) - alive)
    for number in numbers:
        graph.chain(number)
    explain(snapshot)
    to_dot(snapshot)
