"""The console's pages beside the tables: details of one thing, the wait graph, help, and a question before an action."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Header, Static

from ..model import Snapshot
from .details import TEXTS
from .problems import Problem, graph_of
from .sources import Verb
from .work import is_large

if TYPE_CHECKING:
    from .app import Console

GONE = "It is gone."
WORKING = "..."

BACK = Binding("escape,q", "app.pop_screen", "back")
HELP_KEY = Binding("question_mark", "app.help", "help")

HELP = """\
[b]What you see[/b]
  Each line of [b]tasks[/b] is a task of the program: its state, for how long it ran (busy), was ready and had to wait for its turn
  (sched), waited (idle), what it waits on, and the line it is at. [b]tree[/b] shows who spawned whom, [b]resources[/b] what is waited for,
  who has it, and for how long at least (>), [b]problems[/b] what can never go on, and hazards that were found, each with its explanation.

[b]Keys[/b]
  enter  all about the line under the cursor: its stack, what it waits on, the chain to who could free it
  P      the problems; a banner says when there are some
  D      the wait graph (of the problem under the cursor): as text, and written to files for Graphviz (.dot) and Mermaid (.mmd)
  /      filter: words that must occur; -word must not; /re/ is a regular expression.  escape clears it
  o      sort the tasks by something else
  space  stand still, and go on
  c      cancel the task (in its details, or under the cursor).  It ends as if its scope had been cancelled.
  w      wake the task: harmless, whatever it waits for (it looks again, and waits on)
  s      stop the scope: loops end, running work goes on, then it is cancelled
  [ ]    the program before, the next one, where several are shown
  1..7   tasks, tree, resources, scopes, runtimes, problems, trends; 8 the program's output, under `bateau run --console`
  ?      this page, on every page          q  back, and quit

[b]What it costs the program[/b]
  Nothing in a process that is read from outside. An agent's thread takes a snapshot a second: about 5 us per task; counters (busy, sched, idle,
  wakes) cost a microsecond per step as long as the console is open.

[b]Read on[/b]
  docs/insight.md tells how to read what is shown, docs/hazards.md has a chapter for each problem."""


class TextPage(Screen[None]):
    """A page of text that can be scrolled."""

    BINDINGS: ClassVar[list[BindingType]] = [BACK, HELP_KEY]

    def __init__(self, title: str, text: str | Callable[[], str], *, markup: bool = False, slow: bool = False) -> None:
        """``text`` may be what makes it, on a thread if that is ``slow``."""
        super().__init__()
        self._title = title
        self._make = text if slow and callable(text) else None
        self._text = WORKING if self._make is not None else text() if callable(text) else text
        self._markup = markup

    def compose(self) -> ComposeResult:
        """Header, text, footer."""
        yield Header()
        with VerticalScroll():
            yield Static(self._text if self._markup else Text(self._text), id="text")
        yield Footer()

    def on_mount(self) -> None:
        """Its title in the header; its text, if it has to be made first."""
        self.sub_title = self._title
        if self._make is not None:
            self.run_worker(self._work, thread=True, exit_on_error=False, description=self._title)

    def _work(self) -> None:
        """On a thread."""
        assert self._make is not None
        try:
            text = self._make()
        except KeyError:
            text = GONE
        if self.is_attached:  # else it was left meanwhile
            self.app.call_from_thread(self.put, text)  # pyright: ignore[reportUnknownMemberType]  # a screen doesn't know its app's type

    def put(self, text: str) -> None:
        """Show another text, if it is another."""
        if text != self._text:
            self._text = text
            self.query_one("#text", Static).update(Text(text))


class DetailPage(TextPage):
    """All about one task, resource or scope; it follows the snapshots, and says so when the thing is gone."""

    BINDINGS: ClassVar[list[BindingType]] = [
        BACK,
        HELP_KEY,
        Binding("c", "act('cancel')", "cancel task"),
        Binding("w", "act('wake')", "wake task"),
        Binding("s", "act('stop')", "stop scope"),
        Binding("D", "app.graph", "graph"),
    ]

    def __init__(self, kind: str, number: int, snapshot: Snapshot) -> None:
        """Raises ``KeyError`` if there is no such thing (which shows later, where the snapshot is large)."""
        self.kind = kind
        self.number = number
        super().__init__(kind, partial(TEXTS[kind], snapshot, number), slow=is_large(snapshot))

    def follow(self, text: str | None) -> None:
        """Show what it says now; None: it is gone."""
        if text is not None:
            self.put(text)
        elif not self._text.startswith(GONE):
            self.put(f"{GONE} This was the last that was seen of it:\n\n{self._text}")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what can be done to this kind of thing, in a program that can be acted upon."""
        if action != "act":
            return True
        wanted = "scope" if parameters == ("stop",) else "task"
        return self.kind == wanted and _console(self).source.acts

    def action_act(self, verb: Verb) -> None:
        """Ask, and do it."""
        _console(self).ask_to_act(verb, self.number)


class GraphPage(TextPage):
    """The wait graph as text; its files are written when it opens."""

    def __init__(self, snapshot: Snapshot, problem: Problem | None, directory: Path) -> None:
        super().__init__("wait graph", partial(_written, snapshot, problem, directory), slow=is_large(snapshot))


def _written(snapshot: Snapshot, problem: Problem | None, directory: Path) -> str:
    """The text of the graph's page, when its files are written."""
    dot, mermaid = graph_of(snapshot, problem)
    stem = f"bateau-{snapshot.process.pid}-waits"
    lines = [problem.text if problem is not None else "Who waits on whom, all tasks.", ""]
    for suffix, text, use in (
        (".dot", dot, "dot -Tsvg FILE > waits.svg"),
        (".mmd", mermaid, "in Markdown: ```mermaid"),
    ):
        path = directory / (stem + suffix)
        try:
            path.write_text(text)
            lines.append(f"written: {path}  ({use})")
        except OSError as error:
            lines.append(f"not written: {path}: {error}")
    return "\n".join([*lines, "", dot])


class Question(ModalScreen[bool]):
    """Yes or no, before something is done to the program."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q", "answer(False)", "no"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """A box in the middle."""
        with Vertical(id="question"):
            yield Static(f"{self._text}\n\ny  yes      n  no", markup=False)

    def action_answer(self, yes: bool) -> None:
        """It was answered."""
        self.dismiss(yes)


def _console(screen: Screen[None]) -> Console:
    from .app import Console

    app = cast("App[object]", screen.app)  # pyright: ignore[reportUnknownMemberType]  # a screen doesn't know its app's type
    assert isinstance(app, Console)
    return app
