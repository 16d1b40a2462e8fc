"""The console itself: seven tables that follow a program, and what the keys do. Needs textual (``pip install bateau[console]``).

Snapshots are taken on a thread, one after the other, never two at once: a program that answers slowly is asked less often. The screen
is drawn from the last one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import DescendantFocus
from textual.widget import Widget
from textual.widgets import DataTable, Footer, Header, Input, Static, TabbedContent, TabPane, Tree
from textual.widgets.tree import TreeNode
from textual.worker import Worker, WorkerState

from ..model import InsightError, Snapshot, Want
from . import listing
from .child import Child
from .listing import COLUMNS, Branches, Listing
from .problems import Problem
from .screens import HELP, DetailPage, GraphPage, Question, TextPage
from .sources import Source, Verb
from .trends import Trends
from .work import Ask, Seen, is_large, look, rows_of

TABS = ("tasks", "tree", "resources", "scopes", "runtimes", "problems", "trends")
# What opens when enter is pressed on a line.
KINDS = {"tasks": "task", "resources": "resource", "scopes": "scope"}
# A longer pause between snapshots than this is not asked for, however slow they are.
SLOWEST = 10.0

Table = DataTable[str]


class _Pane(TabPane):
    """A tab that is opened by its key or by a click alone.

    textual's own opens whenever something in it gets the focus, and it hears of that late on a busy screen: when another tab is open,
    which it would shut.
    """

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """In place of the base class's, which would open the tab."""
        event.prevent_default()


class Console(App[None]):
    """``bateau console``. ``interval``: seconds between snapshots; ``directory``: where graphs are written."""

    TITLE = "bateau console"
    CSS = """
    TabbedContent, ContentSwitcher, TabPane { height: 1fr; }
    TabPane { padding: 0; }
    DataTable, Tree { height: 1fr; }
    #banner { display: none; background: $error; color: $text; padding: 0 1; height: 1; text-style: bold; }
    #banner.shown { display: block; }
    #filter { display: none; dock: bottom; }
    #filter.shown { display: block; }
    #caption { height: 1; padding: 0 1; color: $text-muted; }
    #table-problems { height: auto; max-height: 50%; }
    #explanation { height: 1fr; border-top: solid $primary; padding: 0 1; }
    #text, #text-trends, #text-output { padding: 0 1; }
    Question { align: center middle; }
    #question { width: 70; height: auto; border: heavy $warning; background: $surface; padding: 1 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("question_mark", "help", "help"),
        Binding("P", "tab('problems')", "problems"),
        Binding("D", "graph", "graph"),
        Binding("slash", "filter", "filter"),
        Binding("escape", "clear_filter", "clear", show=False),
        Binding("o", "sort", "sort"),
        Binding("space", "pause", "pause"),
        Binding("c", "act('cancel')", "cancel", show=False),
        Binding("w", "act('wake')", "wake", show=False),
        Binding("s", "act('stop')", "stop", show=False),
        Binding("left_square_bracket", "switch(-1)", "previous program", show=False),
        Binding("right_square_bracket", "switch(1)", "next program", show=False),
        *(Binding(str(at), f"tab('{name}')", name, show=False) for at, name in enumerate((*TABS, "output"), 1)),
    ]

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        interval: float = 1.0,
        directory: Path | None = None,
        child: Child | None = None,
    ) -> None:
        super().__init__()
        if not sources:
            raise ValueError("the console needs something to show: a process id, a socket, host:port or a file")
        self.sources = list(sources)
        self.interval = interval
        self.directory = directory if directory is not None else Path.cwd()
        self.snapshot: Snapshot | None = None
        self.problems: tuple[Problem, ...] = ()
        self.paused = False
        # All of the screen is there. Before that textual can't be told to exit: it would fail with what it was about to mount.
        self.has_begun = False
        # The program that was started for the console, whose output it shows.
        self.child = child
        self._place = 0
        self._match = ""
        self._order = "state"
        self._trends: dict[int, Trends] = {}
        self._trouble = ""
        self._reading: Worker[Seen] | None = None
        # Rows that are being worked out on a thread, what was asked for, and whether that has to be asked for again when they are there.
        self._working: Worker[Listing | Branches] | None = None
        self._asked_for: Ask | None = None
        self._ask_again = False
        # What is shown of the tree: its nodes by task.
        self._branches: dict[int, TreeNode[int]] = {}

    @property
    def source(self) -> Source:
        """The program that is shown."""
        return self.sources[self._place]

    # -- what there is to see ------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Header, banner, the tabs, the filter, the keys."""
        yield Header(show_clock=True)
        yield Static("", id="banner", markup=False)
        with TabbedContent(initial="tasks"):
            for name in (*TABS, *(("output",) if self.child is not None else ())):
                with _Pane(name, id=name):
                    if name == "tree":
                        yield Tree[int]("program", id="the-tree")
                    elif name in ("trends", "output"):
                        with VerticalScroll(id=f"scroll-{name}"):
                            yield Static("", id=f"text-{name}", markup=False)
                    else:
                        yield DataTable[str](id=f"table-{name}", cursor_type="row", zebra_stripes=True)
                    if name == "problems":
                        with VerticalScroll(id="explanation"):
                            yield Static("", id="text", markup=False)
        yield Static("reading...", id="caption", markup=False)
        yield Input(placeholder="words that must occur; -word must not; /regular expression/", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        """The columns, and the first snapshot."""
        for name, columns in COLUMNS.items():
            table = self._table(name)
            for column in columns:
                table.add_column(column, key=column)
        self._table("tasks").focus()
        self._retitle()
        self._take()

    def on_ready(self) -> None:
        """The screen is there."""
        self.has_begun = True

    def _table(self, name: str) -> Table:
        return cast("Table", self.screen_stack[0].query_one(f"#table-{name}", DataTable))

    def _tree(self) -> Tree[int]:
        return cast("Tree[int]", self.screen_stack[0].query_one("#the-tree", Tree))

    def _retitle(self) -> None:
        where = f" [{self._place + 1}/{len(self.sources)}]" if len(self.sources) > 1 else ""
        self.sub_title = self.source.name + where + (" (paused)" if self.paused else "")

    # -- snapshots -------------------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        source = self.source
        self._reading = self.run_worker(
            partial(look, source, Want(context=True, seconds=5.0), self._pages()),
            thread=True,
            exit_on_error=False,
            group="read",
            description="reading",  # else textual makes one, by repr() of the function and all its arguments
        )
        self._asked = time.monotonic()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A snapshot is there, or none can be had; or rows are."""
        worker: Worker[Any] = event.worker  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # textual's event doesn't say
        if not worker.is_finished or worker not in (self._working, self._reading):
            return
        if not self.screen_stack or not self.screen_stack[0].query("#caption"):
            return  # the console was closed meanwhile: there is nowhere to show it
        if worker is self._working:
            self._worked_out(worker, event.state)
            return
        self._reading = None
        took = time.monotonic() - self._asked
        if event.state is WorkerState.SUCCESS:
            self._trouble = ""
            assert worker.result is not None
            if not self.paused:
                self.show(worker.result)
        elif worker.error is not None:
            error = worker.error
            self._trouble = str(error) if isinstance(error, InsightError) else f"{type(error).__name__}: {error}"
            if self.child is not None and self.child.status is not None:
                self._trouble = f"the program has ended with status {self.child.status}"
            self._caption()
        if self.source.live:
            # Never more than a third of the time is spent on reading.
            self.set_timer(min(SLOWEST, max(self.interval, 2 * took)), self._take_next)

    def _take_next(self) -> None:
        if self._reading is None:
            self._take()

    def _pages(self) -> tuple[tuple[str, int], ...]:
        """Of what there are details on the screen."""
        return tuple((screen.kind, screen.number) for screen in self.screen_stack[1:] if isinstance(screen, DetailPage))

    def show(self, seen: Seen) -> None:
        """Draw what was read."""
        self.snapshot = seen.snapshot
        self.problems = seen.problems
        self._trends.setdefault(self._place, Trends()).add(seen.numbers)
        self._banner()
        self._draw()
        for screen in self.screen_stack[1:]:
            if isinstance(screen, DetailPage) and (screen.kind, screen.number) in seen.texts:
                screen.follow(seen.texts[screen.kind, screen.number])

    def _banner(self) -> None:
        banner = self.screen_stack[0].query_one("#banner", Static)
        serious = [problem for problem in self.problems if problem.level != "found"] or list(self.problems)
        banner.set_class(bool(serious), "shown")
        if serious:
            more = f"  (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            banner.update(serious[0].banner() + more)

    # -- drawing -----------------------------------------------------------------------------------------------------------------

    @property
    def tab(self) -> str:
        """The name of the tab that is open."""
        return self.screen_stack[0].query_one(TabbedContent).active

    def on_tabbed_content_tab_activated(self, event: TabbedContent.TabActivated) -> None:
        """Only the open tab is drawn, so one that opens has to be."""
        self._draw()
        self._focus()

    def _focus(self) -> None:
        """The keys go to what the open tab shows, and never to a table that is hidden."""
        tab = self.tab
        widget: Widget
        if tab == "tree":
            widget = self._tree()
        elif tab in COLUMNS:
            widget = self._table(tab)
        else:
            widget = self.screen_stack[0].query_one(f"#scroll-{tab}")
        self.screen_stack[0].set_focus(widget)

    def _draw(self) -> None:
        snapshot, tab = self.snapshot, self.tab
        if snapshot is None:
            return
        if tab == "trends":
            width = max(20, min(120, self.size.width - 60))
            lines = self._trends[self._place].lines(width)
            self.screen_stack[0].query_one("#text-trends", Static).update(Text("\n\n".join(lines)))
            self._caption()
        elif tab == "output":
            assert self.child is not None
            self.screen_stack[0].query_one("#text-output", Static).update(Text(self.child.output()))
            self.screen_stack[0].query_one("#scroll-output").scroll_end(animate=False)
            self._caption()
        else:
            self._ask(snapshot, Ask(tab, self._match, self._order))

    def _ask(self, snapshot: Snapshot, ask: Ask) -> None:
        """Draw these rows: now, where there are few, else when a thread has worked them out. There is one such thread at a time."""
        if not is_large(snapshot):
            self._put(ask, rows_of(snapshot, self.problems, ask))
        elif self._working is not None:
            self._ask_again = True
        else:
            self._asked_for = ask
            self._working = self.run_worker(
                partial(rows_of, snapshot, self.problems, ask),
                thread=True,
                exit_on_error=False,
                group="rows",
                description="rows",  # not its repr(), which has the whole snapshot
            )

    def _worked_out(self, worker: Worker[Listing | Branches], state: WorkerState) -> None:
        ask, self._working = self._asked_for, None
        if state is WorkerState.SUCCESS and ask is not None and worker.result is not None and ask.tab == self.tab:
            self._put(ask, worker.result)
        elif state is WorkerState.ERROR and worker.error is not None:
            raise worker.error
        if self._ask_again:  # something else was wanted, or there is a new snapshot
            self._ask_again = False
            self._draw()

    def _put(self, ask: Ask, rows: Listing | Branches) -> None:
        if isinstance(rows, Branches):
            self._draw_tree(rows)
        else:
            self._draw_table(ask.tab, rows)

    def _draw_table(self, tab: str, found: Listing) -> None:
        """Cells that changed, where the rows are the same; else all of it, with the cursor on the row it was on."""
        table = self._table(tab)
        columns = found.columns or COLUMNS[tab]
        if [key.value for key in table.columns] != [*columns]:
            table.clear(columns=True)
            for column in columns:
                table.add_column(column, key=column)
        keys = [str(row.id) for row in found.rows]
        if keys == [key.value for key in table.rows]:
            for row in found.rows:
                key = str(row.id)
                for column, new, old in zip(columns, row.cells, table.get_row(key), strict=True):
                    if new != old:
                        table.update_cell(key, column, new, update_width=True)
        else:
            here = self._under_cursor(tab)
            offset = table.scroll_y
            table.clear()
            for row in found.rows:
                table.add_row(*row.cells, key=str(row.id))
            if here is not None and str(here) in keys:
                table.move_cursor(row=keys.index(str(here)))
                table.scroll_to(y=offset, animate=False)
        if tab == "problems":
            self._explain()
        self._caption(found.caption(tab))

    def _draw_tree(self, found: Branches) -> None:
        tree = self._tree()
        open_before = {number for number, node in self._branches.items() if node.is_expanded}
        known = set(self._branches)
        tree.clear()
        tree.root.set_label(self.source.name)
        tree.root.expand()
        self._branches = {}
        for one in found.nodes:
            parent = self._branches[one.parent] if one.parent is not None else tree.root
            expand = one.id in open_before or one.id not in known
            label = one.label.replace("[", "\\[")
            self._branches[one.id] = parent.add(label, data=one.id, expand=expand, allow_expand=one.parents_others)
        for one in found.nodes:
            if one.hidden:
                self._branches[one.id].add_leaf(f"and {one.hidden:,} more")
        self._caption(found.caption())

    def _caption(self, first: str = "") -> None:
        snapshot = self.snapshot
        parts = [first] if first else []
        if self.tab == "tasks":
            parts.append(f"by {self._order}")
        if self._match:
            parts.append(f"filter: {self._match}")
        if snapshot is not None:
            age = f"read in {snapshot.took * 1000:.0f} ms"
            parts.append(age if self.source.live else f"{age}, a file: it stands still")
            if snapshot.gaps:
                parts.append(f"not read: {'; '.join(snapshot.gaps)}")
        if self.paused:
            parts.append("PAUSED: space goes on")
        if self._trouble:
            parts.insert(0, f"NO ANSWER: {self._trouble}")
        self.screen_stack[0].query_one("#caption", Static).update("   ".join(parts))

    def _under_cursor(self, tab: str) -> int | None:
        if tab == "tree":
            node = self._tree().cursor_node
            return node.data if node is not None else None
        if tab not in COLUMNS:
            return None
        table = self._table(tab)
        if not table.row_count:
            return None
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        return int(key) if key is not None else None

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """The explanation belongs to the problem under the cursor."""
        if self.tab == "problems":
            self._explain()

    def _problem(self) -> Problem | None:
        at = self._under_cursor("problems")
        return self.problems[at] if at is not None and at < len(self.problems) else None

    def _explain(self) -> None:
        problem = self._problem()
        text = f"{problem.text}\n\nRead on: {problem.chapter}" if problem is not None else "No problem was found."
        self.screen_stack[0].query_one("#explanation #text", Static).update(Text(text))

    # -- keys ------------------------------------------------------------------------------------------------------------------

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter on a line: all about it."""
        self._open(self.tab, self._under_cursor(self.tab))

    def on_tree_node_selected(self, event: Tree.NodeSelected[Any]) -> None:
        """Enter in the tree."""
        self._open("tasks", event.node.data)

    def _open(self, tab: str, number: int | None) -> None:
        if self.snapshot is None or number is None:
            return
        if tab == "problems":
            problem = self._problem()
            if problem is not None:
                self.push_screen(TextPage(problem.name, f"{problem.text}\n\nRead on: {problem.chapter}"))
        elif tab in KINDS:
            try:
                self.push_screen(DetailPage(KINDS[tab], number, self.snapshot))
            except KeyError:
                self.notify("it has just ended")

    def action_help(self) -> None:
        """All keys."""
        self.push_screen(TextPage("help", HELP, markup=True))

    def action_tab(self, name: str) -> None:
        """Open a tab."""
        if name == "output" and self.child is None:
            return
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self.screen.query_one(TabbedContent).active = name
        self._focus()

    def action_graph(self) -> None:
        """The wait graph."""
        if self.snapshot is not None:
            problem = self._problem() if self.tab == "problems" else None
            self.push_screen(GraphPage(self.snapshot, problem, self.directory))

    def action_filter(self) -> None:
        """Ask for a filter."""
        box = self.screen_stack[0].query_one("#filter", Input)
        box.value = self._match
        box.add_class("shown")
        box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self._match = event.value.strip()
        self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """It stays until escape."""
        self._leave_filter()

    def action_clear_filter(self) -> None:
        """No filter."""
        self._match = ""
        self.screen_stack[0].query_one("#filter", Input).value = ""
        self._leave_filter()
        self._draw()

    def _leave_filter(self) -> None:
        self.screen_stack[0].query_one("#filter", Input).remove_class("shown")
        self._focus()

    def action_sort(self) -> None:
        """Sort the tasks by the next thing."""
        sorts = list(listing.SORTS)
        self._order = sorts[(sorts.index(self._order) + 1) % len(sorts)]
        self._draw()

    def action_pause(self) -> None:
        """Stand still, or go on."""
        self.paused = not self.paused
        self._retitle()
        self._caption()

    def action_switch(self, step: int) -> None:
        """Another program."""
        if len(self.sources) > 1:
            self._place = (self._place + step) % len(self.sources)
            self.snapshot, self.problems, self._branches, self._asked_for = None, (), {}, None
            for name in COLUMNS:
                self._table(name).clear()
            self._retitle()
            self._banner()
            self._take()

    def action_act(self, verb: Verb) -> None:
        """Something is to be done to what is under the cursor."""
        number = self._under_cursor(self.tab)
        wanted = ("scopes",) if verb == "stop" else ("tasks", "tree")
        if self.tab not in wanted or number is None:
            self.notify(f"{verb} is for a line of the table of {wanted[0]}")
            return
        self.ask_to_act(verb, number)

    def ask_to_act(self, verb: Verb, number: int) -> None:
        """Ask whether it is meant, and do it."""
        source = self.source
        if not source.acts:
            try:
                source.act(verb, number)
            except InsightError as error:
                self.notify(str(error), severity="warning", timeout=8)
            return
        name = self._name_of(verb, number)

        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(
                    partial(self._act, source, verb, number),
                    thread=True,
                    exit_on_error=False,
                    group="act",
                    description=verb,
                )

        self.push_screen(Question(f"{verb} {name}?"), answered)

    def _name_of(self, verb: Verb, number: int) -> str:
        assert self.snapshot is not None
        if verb == "stop":
            return next(
                (f"{one.kind} {one.name}".strip() for one in self.snapshot.scopes if one.id == number), "this scope"
            )
        return next((f"task {one.name!r}" for one in self.snapshot.tasks if one.id == number), "this task")

    def _act(self, source: Source, verb: Verb, number: int) -> None:
        """On a thread."""
        try:
            said = source.act(verb, number)
        except InsightError as error:
            self.call_from_thread(self.notify, str(error), severity="error", timeout=8)
        else:
            self.call_from_thread(self.notify, said)

    async def action_quit(self) -> None:
        """Let go of the programs, and end."""
        for source in self.sources:
            source.close()
        self.exit()
