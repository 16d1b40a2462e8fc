"""The console on a screen (textual's, without a terminal), following a real program: what the keys do, and what is shown."""

from __future__ import annotations

import asyncio
import threading

import pytest

pytest.importorskip("textual")

from bateau import insight
from bateau.insight.console import listing, screens, work
from bateau.insight.console.app import Console
from bateau.insight.console.screens import DetailPage, GraphPage, Question, TextPage
from bateau.insight.console.sources import FileReader, ReaderSource, find_source
from bateau.insight.model import Frame, InsightError, Process, ReadError, Resource, Snapshot, Task, Wait
from support.console_program import running


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A snapshot of the program, in a file."""
    path = tmp_path_factory.mktemp("console") / "program.json"
    with running():
        path.write_text(insight.to_json(insight.snapshot()))
    return path


class Acting(ReaderSource):
    """A source that notes what is asked of it."""

    acts = True

    def __init__(self, reader):
        super().__init__("a program", reader)
        self.asked = []

    def act(self, verb, number):
        self.asked.append((verb, number))
        if verb == "wake":
            raise InsightError("it would not")
        return f"{verb} done"


def drive(source, script, **options):
    """Run the console on `source` and let `script(app, pilot)` press its keys."""

    async def main():
        app = Console([source] if not isinstance(source, list) else source, interval=0.2, **options)
        async with app.run_test(size=(160, 45)) as pilot:
            await until(pilot, lambda: app.snapshot is not None)
            await pilot.pause()
            await script(app, pilot)

    asyncio.run(asyncio.wait_for(main(), 60))


async def until(pilot, condition):
    while not condition():
        await pilot.pause(0.01)


def text_of(app, selector, screen=None):
    return str((screen or app.screen).query_one(selector).render())


def rows(app, name):
    table = app._table(name)
    return [table.get_row(key) for key in table.rows]


def test_tables_and_banner(file):
    async def script(app, pilot):
        assert {"upstream", "downstream", "migration"} <= {row[2] for row in rows(app, "tasks")}
        assert "deadlock cycle detected, 2 tasks wait for each other: press P" in text_of(app, "#banner")
        await pilot.press("P")
        await pilot.pause()
        assert app.tab == "problems"
        explained = text_of(app, "#explanation #text")
        assert "DEADLOCK: 2 tasks wait for each other" in explained
        assert "Read on: docs/hazards.md#deadlock" in explained
        for key, name in (("3", "resources"), ("4", "scopes"), ("5", "runtimes")):
            await pilot.press(key)
            await pilot.pause()
            assert app.tab == name
            assert rows(app, name)
        await pilot.press("2")
        await pilot.pause()
        labels = {str(node.label) for node in app._branches.values()}
        assert any(label.startswith("pump [1]") for label in labels)
        await pilot.press("7")
        await pilot.pause()
        assert "tasks" in text_of(app, "#text-trends")

    drive(find_source(str(file)), script)


def test_filter_and_sort(file):
    async def script(app, pilot):
        await pilot.press("slash", *"request-", "enter")
        await pilot.pause()
        assert {row[2] for row in rows(app, "tasks")} == {f"request-{n}" for n in range(5)}
        assert "filter: request-" in text_of(app, "#caption")
        await pilot.press("escape")
        await pilot.pause()
        assert len(rows(app, "tasks")) > 5
        await pilot.press("o")
        await pilot.pause()
        assert "by busy" in text_of(app, "#caption")

    drive(find_source(str(file)), script)


def test_details_graph_and_help(file, tmp_path):
    async def script(app, pilot):
        await pilot.press("slash", *"request-3", "enter", "enter")
        await pilot.pause()
        assert isinstance(app.screen, DetailPage)
        assert "held by 'migration'" in text_of(app, "#text")
        await pilot.press("question_mark")
        await pilot.pause()
        assert "the wait graph" in text_of(app, "#text")
        await pilot.press("escape", "escape")
        await pilot.press("P", "D")
        await pilot.pause()
        assert isinstance(app.screen, GraphPage)
        (dot,) = tmp_path.glob("*.dot")
        (mermaid,) = tmp_path.glob("*.mmd")
        assert "upstream" in dot.read_text()
        assert "upstream" in mermaid.read_text()
        assert str(dot) in text_of(app, "#text")
        await pilot.press("escape", "enter")
        await pilot.pause()
        assert isinstance(app.screen, TextPage)

    drive(find_source(str(file)), script, directory=tmp_path)


def test_actions_are_asked_about(file):
    source = Acting(FileReader(file))

    async def script(app, pilot):
        await pilot.press("slash", *"migration", "enter")
        await pilot.pause()
        number = app._under_cursor("tasks")
        await pilot.press("c")
        await pilot.pause()
        assert isinstance(app.screen, Question)
        await pilot.press("n")
        await pilot.pause()
        assert source.asked == []
        await pilot.press("c", "y")
        await until(pilot, lambda: source.asked)
        await pilot.press("w", "y")
        await until(pilot, lambda: len(source.asked) == 2)
        await pilot.press("s")  # not in this table
        await pilot.press("escape", "4", "s")
        await pilot.pause()
        assert isinstance(app.screen, Question)
        await pilot.press("y")
        await until(pilot, lambda: len(source.asked) == 3)
        assert source.asked[:2] == [("cancel", number), ("wake", number)]
        assert source.asked[2][0] == "stop"

    drive(source, script)


def test_it_follows_a_living_program_and_can_stand_still():
    async def script(app, pilot):
        first = app.snapshot
        await until(pilot, lambda: app.snapshot is not first)
        await pilot.press("slash", *"migration", "enter", "enter")
        await pilot.pause()
        before = app.snapshot
        await until(pilot, lambda: app.snapshot is not before)
        assert "sleep of 1000 s" in text_of(app, "#text")
        await pilot.press("escape", "space")
        await until(pilot, lambda: app.paused)
        still = app.snapshot
        await pilot.pause(0.3)
        assert app.snapshot is still
        await pilot.press("space")
        await until(pilot, lambda: app.snapshot is not still)

    with running():
        drive(ReaderSource("this process", insight.LiveReader()), script)


def test_a_program_that_does_not_answer(file):
    class Gone:
        def __init__(self):
            self.times = 0

        def read(self, want=None):
            self.times += 1
            if self.times > 1:
                raise ReadError("process 1 has ended")
            return FileReader(file).read(want)

    async def script(app, pilot):
        await until(pilot, lambda: "NO ANSWER: process 1 has ended" in text_of(app, "#caption"))
        assert rows(app, "tasks")  # what was seen last stays
        await pilot.press("bracketright")
        await pilot.pause()

    drive(ReaderSource("gone", Gone()), script)


def test_several_programs(file):
    sources = [ReaderSource(name, FileReader(file), live=False) for name in ("one", "two")]

    async def script(app, pilot):
        assert app.sub_title == "one [1/2]"
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: app.snapshot is not None)
        assert app.sub_title == "two [2/2]"
        await until(pilot, lambda: rows(app, "tasks"))

    drive(sources, script)


def test_what_is_no_program(tmp_path):
    with pytest.raises(ReadError, match="name one of these"):
        find_source(str(tmp_path / "nothing"))
    with pytest.raises(ReadError, match="no process 4194305"):
        find_source("4194305")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(InsightError):
        find_source(str(broken)).read()
    with pytest.raises(InsightError, match="can only be looked at"):
        find_source(str(broken)).act("cancel", 1)
    with pytest.raises(ValueError, match="something to show"):
        Console([])


def test_keys_go_to_the_tab_that_is_open(file):
    """A hidden table that kept the focus had textual open its tab again."""

    async def script(app, pilot):
        for keys, tab, focused in (
            (["P", "2"], "tree", "the-tree"),
            (["P", "7"], "trends", "scroll-trends"),
            (["P", "3", "2"], "tree", "the-tree"),
            (["2", "P"], "problems", "table-problems"),
        ):
            await pilot.press(*keys)
            await pilot.pause()
            for _ in range(20):
                await pilot.pause(0)
            assert (app.tab, app.focused.id) == (tab, focused)

    drive(find_source(str(file)), script)


MANY = 100_000


@pytest.fixture(scope="module")
def crowd():
    """A snapshot of 100,000 tasks in a few scopes, two of which are deadlocked."""
    frames = (Frame("server.py", 12, "handle"), Frame("server.py", 30, "main"))
    lock = {number: Resource(number, "lock", "lock", holders=(holder,), satisfiers=(holder,), freed_by="tasks")
            for number, holder in ((-1, 3), (-2, 2))}  # fmt: skip
    tasks = [Task(1, "main", "running", stack=1)]
    tasks += [
        Task(number, f"request-{number}", "waiting", parent=1, stack=0, waits=Wait("read", -3))
        for number in range(4, MANY + 1)
    ]
    tasks += [Task(2, "a", "waiting", parent=1, stack=0, waits=Wait("acquire", -1))]
    tasks += [Task(3, "b", "waiting", parent=1, stack=0, waits=Wait("acquire", -2))]
    socket = Resource(-3, "socket", "socket", freed_by="outside")
    return Snapshot(
        0.0, Process(1), frames=frames, stacks=((0,), (1,)), tasks=tuple(tasks), resources=(*lock.values(), socket)
    )


class Gate:
    """Lets a function begin when it may, and counts its calls and the threads they are made on."""

    def __init__(self, monkeypatch, module, name):
        self.open = threading.Event()
        self.threads = []
        original = getattr(module, name)

        def gated(*args, **options):
            self.threads.append(threading.get_ident())
            assert self.open.wait(60)
            return original(*args, **options)

        monkeypatch.setattr(module, name, gated)


async def until_slowly(pilot, condition):
    """With room for the threads, which compute."""
    while not condition():
        await pilot.pause(0.2)


def test_keys_are_answered_while_a_hundred_thousand_tasks_are_worked_on(crowd, monkeypatch, tmp_path):
    """Everything whose cost grows with their number is done on a thread, and once for however many keys; 500 rows reach the screen."""
    rows_gate = Gate(monkeypatch, listing, "task_rows")
    tree_gate = Gate(monkeypatch, listing, "branches")
    problem_gate = Gate(monkeypatch, work, "find_problems")
    graph_gate = Gate(monkeypatch, screens, "graph_of")

    class Still:
        def read(self, want=None):
            return crowd

    async def main():
        app = Console([ReaderSource("many", Still(), live=False)], directory=tmp_path)
        async with app.run_test(size=(160, 45)) as pilot:
            await until_slowly(pilot, lambda: problem_gate.threads)
            await pilot.press("question_mark")  # answered while the first snapshot is being looked at
            assert isinstance(app.screen, TextPage)
            await pilot.press("escape")
            problem_gate.open.set()
            await until_slowly(pilot, lambda: rows_gate.threads)
            await pilot.press("slash", *"7777", "enter", "o")  # and while its rows are
            assert app._match == "7777"
            assert len(rows_gate.threads) == 1
            rows_gate.open.set()
            await until_slowly(pilot, lambda: len(rows(app, "tasks")) == 19)
            assert len(rows_gate.threads) == 2  # for seven keys
            await pilot.press("escape")
            await until_slowly(pilot, lambda: len(rows(app, "tasks")) == listing.MOST_ROWS)
            assert "the first 500 of 100,000 tasks" in text_of(app, "#caption")
            assert "deadlock cycle detected" in text_of(app, "#banner")
            await pilot.press("enter")
            assert isinstance(app.screen, DetailPage)
            await until_slowly(pilot, lambda: text_of(app, "#text") != screens.WORKING)
            await pilot.press("escape", "2")
            await until_slowly(pilot, lambda: tree_gate.threads)
            await pilot.press("question_mark")  # and while the tree is
            assert isinstance(app.screen, TextPage)
            await pilot.press("escape")
            tree_gate.open.set()
            await until_slowly(pilot, lambda: app._branches)
            assert len(app._branches) == 1 + listing.MOST_CHILDREN
            await pilot.press("D")
            await until_slowly(pilot, lambda: graph_gate.threads)
            await pilot.press("question_mark", "escape", "escape")  # and while the graph is
            assert not isinstance(app.screen, TextPage)
            graph_gate.open.set()
            here = threading.get_ident()
            gates = (rows_gate, tree_gate, problem_gate, graph_gate)
            assert not any(here in gate.threads for gate in gates)

    asyncio.run(asyncio.wait_for(main(), 100))
