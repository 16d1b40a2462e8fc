"""The tables of the console, worked out from snapshots of a real program."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bateau import insight
from bateau.insight.console import listing
from bateau.insight.console.details import resource_text, scope_text, task_text
from bateau.insight.console.problems import find_problems, graph_of
from bateau.insight.console.trends import KEPT, Trends, histogram, numbers_of, short, sparkline
from bateau.insight.counting import count
from bateau.insight.model import Event, Finding, Frame, Process, Snapshot, Task
from support.console_program import running
from support.waiting import wait_until


@pytest.fixture(scope="module")
def snapshot():
    stop = count()
    with running():
        reader = insight.LiveReader()

        def pumped():
            found = reader.read()
            return any(task.stats.get("wakes", 0) >= 3 for task in found.tasks if task.name == "pump [1]") and found

        try:
            yield wait_until(pumped)
        finally:
            stop()


def row_of(found, name, column=2):
    return next(row for row in found.rows if row.cells[column] == name)


def test_tasks(snapshot):
    found = listing.task_rows(snapshot)
    cells = dict(zip(listing.TASK_COLUMNS, row_of(found, "request-3").cells, strict=True))
    assert cells["state"] == "waiting"
    assert cells["waits on"].startswith("acquire of lock 'db' (held by task 'migration'")
    assert cells["at"].startswith("console_program.py:")
    assert cells["at"].endswith(" in request")
    assert cells["busy"].endswith(("us", "ms"))
    assert int(dict(zip(listing.TASK_COLUMNS, row_of(found, "pump [1]").cells, strict=True))["wakes"]) >= 3
    assert found.caption("tasks") == f"{found.total} tasks"


@pytest.mark.parametrize(
    ("match", "names"),
    [
        ("request-", {f"request-{n}" for n in range(5)}),
        ("REQUEST-1 lock", {"request-1"}),
        ("lock 'db' -request-0 -request-4", {"request-1", "request-2", "request-3"}),
        ("/^\\d+ (up|down)stream/", {"upstream", "downstream"}),
        ("/(/", set()),
        ("nothing of the kind", set()),
    ],
)
def test_filters(snapshot, match, names):
    found = listing.task_rows(snapshot, match=match)
    assert {row.cells[2] for row in found.rows} == names
    assert found.matching == len(names)


def test_sorts(snapshot):
    by_name = [row.cells[2] for row in listing.task_rows(snapshot, sort="name").rows]
    assert by_name == sorted(by_name)
    wakes = [row.cells[2] for row in listing.task_rows(snapshot, sort="wakes").rows]
    assert wakes.index("pump [1]") < wakes.index("request-0")
    with pytest.raises(KeyError):
        listing.task_rows(snapshot, sort="colour")


def test_more_than_a_screen_holds(snapshot):
    found = listing.task_rows(snapshot, most=3)
    assert len(found.rows) == 3
    assert found.caption("tasks") == f"the first 3 of {found.total} tasks: / filters, o sorts"


def test_resources(snapshot):
    found = listing.resource_rows(snapshot)
    assert found.rows[0].cells[:2] == ("lock", "db")
    cells = dict(zip(listing.RESOURCE_COLUMNS, found.rows[0].cells, strict=True))
    assert (cells["waiting"], cells["held by"]) == ("5", "migration")
    channel = dict(zip(listing.RESOURCE_COLUMNS, row_of(found, "there", 1).cells, strict=True))
    assert (channel["used"], channel["freed by"]) == ("2/2", "downstream")


def test_scopes_and_runtimes(snapshot):
    found = listing.scope_rows(snapshot, match="server")
    assert "server" in {row.cells[1] for row in found.rows}
    (runtime,) = [row for row in listing.runtime_rows(snapshot).rows if row.cells[0] == "native"]
    assert int(runtime.cells[2]) >= 10


def test_tree(snapshot):
    names = {task.id: task.name for task in snapshot.tasks}
    roots, children = listing.tree(snapshot)
    (main,) = [
        number for number in roots if {"upstream", "migration"} <= {names[one] for one in children.get(number, ())}
    ]
    assert [names[one] for one in children[main]][:2] == ["upstream", "downstream"]


def test_details(snapshot):
    numbers = {task.name: task.id for task in snapshot.tasks}
    text = task_text(snapshot, numbers["request-2"])
    assert "held by 'migration'" in text
    assert "inside scope 'server' (" in text
    assert "woken 0 times" in text
    assert "from being woken to running:" in task_text(snapshot, numbers["pump [1]"])
    assert "holds lock 'db'" in task_text(snapshot, numbers["migration"])
    assert ", for which 5 tasks wait" in task_text(snapshot, numbers["migration"])
    lock = next(one.id for one in snapshot.resources if one.name == "db")
    text = resource_text(snapshot, lock)
    assert "waiting: 5" in text
    assert "'migration' at console_program.py:" in text
    scope = next(one.id for one in snapshot.scopes if one.name == "server")
    assert "'request-4' at console_program.py:" in scope_text(snapshot, scope)
    for gone in (task_text, resource_text, scope_text):
        with pytest.raises(KeyError):
            gone(snapshot, -1)


def test_notes_are_told_once_with_their_data():
    events = tuple(Event(f"note {n}", 9.0 - n, {"rows": n}) for n in range(5))
    text = task_text(Snapshot(0.0, Process(1), tasks=(Task(1, "noted", "ready", events=events),)), 1)
    assert [text.count(f"note {n} (rows={n})") for n in range(5)] == [1] * 5
    assert text.index("note 4") < text.index("noted by the program before:") < text.index("note 0")


def test_a_running_task_says_for_how_long():
    tasks = (Task(1, "exact", "running", ran=2.0), Task(2, "bound", "running", ran=2.0, ran_at_most=True))
    found = listing.task_rows(Snapshot(0.0, Process(1), tasks=tasks))
    at = listing.TASK_COLUMNS.index("waits on")
    assert [row_of(found, name).cells[at] for name in ("exact", "bound")] == ["runs for 2 s", "runs for at most 2 s"]


def test_a_task_inside_bateau_is_shown_where_it_was_spawned():
    frames = (Frame("app.py", 3, "main"), Frame("bateau/kernel/coroutines.py", 41, "_awaiting", "bateau"))
    task = Task(1, "sleep-1", "waiting", stack=0, spawned=0)
    found = listing.task_rows(Snapshot(0.0, Process(1), frames=frames, stacks=((1,),), tasks=(task,)))
    assert row_of(found, "sleep-1").cells[-1] == "app.py:3 in main"


def test_a_reported_deadlock_is_told_once(snapshot):
    ring = [task for task in snapshot.tasks if task.name in ("upstream", "downstream")]
    said = " and ".join(repr(task.name) for task in ring)
    reported = Finding("deadlock", f"{said} wait for each other", ago=1.0)
    gone = Finding("deadlock", "tasks 'x', 'y' wait for each other", ago=1.0)
    found = find_problems(replace(snapshot, findings=(reported, gone)))
    assert [(problem.name, problem.level) for problem in found] == [("deadlock", "proven"), ("deadlock", "found")]
    assert found[1].seen == "1 s ago"
    assert "'x', 'y'" in found[1].text


def test_problems(snapshot):
    problem = find_problems(snapshot)[0]
    assert problem.level == "proven"
    assert problem.banner() == "deadlock cycle detected, 2 tasks wait for each other: press P"
    assert "send on channel 'there' (2/2)" in problem.text
    assert "to free it: " in problem.text
    dot, mermaid = graph_of(snapshot, problem)
    assert dot.startswith("digraph")
    assert "request-0" not in dot
    assert mermaid.startswith("flowchart")
    assert "request-0" in graph_of(snapshot, None)[0]


def test_trends(snapshot):
    trends = Trends()
    for _ in range(KEPT + 20):
        trends.add(numbers_of(snapshot))
    assert len(trends.series["tasks"]) == KEPT
    assert any(line.startswith("tasks") and f" {len(snapshot.tasks)} " in line for line in trends.lines(20))
    assert sparkline([0, 1, 2, 4, 8], 6) == "  ▁▂▄█"
    assert sparkline([], 3) == "   "
    assert [short(value) for value in (28, 60.9492, 0.123456, 1234.5, 20000000)] == [
        "28",
        "60.9",
        "0.123",
        "1,234",
        "20,000,000",
    ]


def test_histogram():
    assert histogram({"late_0": 2, "late_2": 4, "busy": 1.0}, 4) == [
        "  ≤    1us  ██   2",
        "  ≤    2us       0",
        "  ≤    4us  ████ 4",
    ]
    assert histogram({"busy": 1.0}) == []


def test_a_hazards_explanation_has_its_line_and_what_to_do_and_a_strange_one_is_told_all_the_same() -> None:
    frames = (Frame("app.py", 7, ""),)
    found = [Finding("self_wakes", "it polls", 0), Finding("of_another_version", "something", 0)]
    strange, known = find_problems(Snapshot(0.0, Process(1), frames=frames, findings=tuple(found)))
    assert known.text.startswith("it polls\n  at app.py:7\n  what to do: wait for what it polls for")
    assert strange.text == "something\n  at app.py:7"
