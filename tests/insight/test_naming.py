"""Tasks of one name, and of several runtimes: every tool says which is meant."""

from __future__ import annotations

from bateau.insight.console import listing
from bateau.insight.explain import explain, explain_task
from bateau.insight.model import Process, Resource, Runtime, Snapshot, Task, Thread, Wait
from bateau.insight.naming import Names, id_of
from bateau.insight.postmortem import text
from bateau.insight.postmortem.report import End, Report

ONE = (Runtime(1, "native", thread=10),)
THREE = (*ONE, Runtime(2, "trio", thread=20), Runtime(3, "trio", thread=30))
THREADS = (Thread(10, "MainThread", runtime=1), Thread(20, "T-1", runtime=2), Thread(30, "T-2", runtime=3))


def snapshot(*tasks: Task, runtimes: tuple[Runtime, ...] = THREE, resources: tuple[Resource, ...] = ()) -> Snapshot:
    return Snapshot(0.0, Process(1), runtimes=runtimes, threads=THREADS, tasks=tasks, resources=resources)


def mains() -> Snapshot:
    return snapshot(*(Task(number, "main", "waiting", runtime=number, waits=Wait("sleep")) for number in (1, 2, 3)))


def test_a_dump_of_several_runtimes_says_of_each_task_which_is_its_and_folds_none_of_two() -> None:
    told = explain(mains())
    for label in ("native", "trio, T-1", "trio, T-2"):
        assert f"task 'main' ({label}) waits: sleep" in told
    many = [Task(number, f"w-{number}", "waiting", runtime=number % 2 + 1, waits=Wait("sleep")) for number in range(8)]
    told = explain(snapshot(*many))
    assert "4 tasks like 'w-0' (native) wait: sleep" in told
    assert "4 tasks like 'w-1' (trio) wait: sleep" in told  # the other trio has no tasks: the name is enough


def test_with_one_runtime_nothing_is_added() -> None:
    alone = snapshot(Task(1, "main", "waiting", runtime=1, waits=Wait("sleep")), runtimes=ONE)
    assert "  task 'main' waits: sleep\n" in explain(alone)
    assert listing.task_rows(alone).columns == ()


def test_the_console_has_a_column_for_the_runtime_where_there_are_several_and_filters_by_it() -> None:
    found = listing.task_rows(mains(), sort="id")
    assert found.columns[:4] == ("id", "state", "name", "runtime")
    assert [row.cells[3] for row in found.rows] == ["native", "trio, T-1", "trio, T-2"]
    assert all(len(row.cells) == len(found.columns) for row in found.rows)
    assert [row.id for row in listing.task_rows(mains(), match="T-2").rows] == [3]
    roots = [node.label for node in listing.branches(mains()).nodes]
    assert roots[1] == "main  (waiting, trio, T-1)  waits: sleep"


def test_a_post_mortem_of_several_runtimes_says_whose_each_task_was() -> None:
    told = text.tell(Report(End("gone", "it ended", 0.0, "the recorder"), mains(), ()))
    assert "\n  'main' (trio, T-1) waited: sleep" in told


def test_two_tasks_of_one_name_in_a_ring_are_told_apart_by_what_their_own_library_shows() -> None:
    ids = -0x7F10, -0x7F20
    locks = tuple(
        Resource(
            number,
            "trio Lock",
            f"trio Lock {number}",
            holders=(holder,),
            satisfiers=(holder,),
            freed_by="tasks",
            library="trio",
        )
        for number, holder in zip((1, 2), ids, strict=True)
    )
    tasks = tuple(
        Task(one, "take", "waiting", runtime=2, library="trio", waits=Wait("acquire of trio Lock", lock))
        for one, lock in zip(ids, (2, 1), strict=True)
    )
    found = snapshot(*tasks, resources=locks)
    told = explain(found)
    assert "trio task 'take' (0x7f10) waits" in told
    assert "held by 'take' (0x7f20), which waits" in told
    assert "'take' (0x7f10) -> trio Lock -> 'take' (0x7f20)" in told
    assert "'take' (0x7f10) waits on trio Lock 2, which could be freed by 'take' (0x7f20)" in explain_task(
        found, ids[0]
    )
    assert [id_of(task) for task in tasks] == ["0x7f10", "0x7f20"]


def test_one_name_in_two_runtimes_is_told_apart_by_the_runtime() -> None:
    found = mains()
    assert [Names(found).short(task) for task in found.tasks] == [
        "'main' (native)",
        "'main' (trio, T-1)",
        "'main' (trio, T-2)",
    ]
    twice = snapshot(*(Task(n, name, "ready", runtime=1) for n, name in ((4, "a"), (5, "a"), (6, "b"))), runtimes=ONE)
    assert [Names(twice).full(task) for task in twice.tasks] == ["'a' (#4)", "'a' (#5)", "'b'"]


def test_what_time_will_end_is_not_said_to_have_nobody_who_could_free_it() -> None:
    event = Resource(1, "trio Event", "trio Event", freed_by="unknown", library="trio")
    tasks = [
        Task(n, f"t{n}", "waiting", runtime=1, waits=Wait("wait", 1, left=left)) for n, left in ((1, 5.0), (2, None))
    ]
    timed, for_ever = (explain(snapshot(task, resources=(event,))) for task in tasks)
    assert "(5 s left)" in timed
    assert "is not known" not in timed
    assert "who could free it is not known" in for_ever
