"""How long the console takes from a key to the redraw that answers it, following a program with 100,000 tasks.

A real program runs in a process of its own, with an agent; the console runs here without a terminal (textual's pilot), takes snapshots of
the program as fast as it ever does, and is sent keys. Counted is the time from the key to the end of the first redraw that shows its effect,
the terminal's control sequences included; what the terminal then takes to show them is not.

    python benchmarks/insight/console_latency.py [--tasks 100000] [--rounds 10]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static, Tree

from bateau.insight.console.app import Console
from bateau.insight.console.screens import TextPage
from bateau.insight.console.sources import Source, find_source

PROGRAM = """
import bateau, sys

async def main(tasks):
    async with bateau.scope(name="crowd") as scope:
        lock, event = bateau.sync.Lock(name="db"), bateau.sync.Event(name="never")
        async def holder():
            async with lock:
                await bateau.time.sleep(3600)
        async def worker(number):
            if number % 100 == 0:
                async with lock:
                    pass
            await event.wait()
        scope.spawn(holder, name="holder")
        for number in range(tasks - 3):
            scope.spawn(worker, number, name=f"worker-{number}")
        bateau.insight.init()
        await bateau.time.sleep(0.1)
        print("ready", flush=True)
        while True:
            await bateau.time.sleep(0.1)

bateau.run(main, int(sys.argv[1]))
"""


class Watched(Console):
    """The console, which takes the time when it has drawn what is waited for."""

    def __init__(self, source: Source, directory: Path) -> None:
        super().__init__([source], directory=directory)
        self.wanted: list[tuple[str, Callable[[], bool]]] = []
        self.seen: dict[str, float] = {}

    def _display(self, screen: Any, renderable: Any) -> None:
        if hasattr(renderable, "render_segments"):  # what is left out where there is no terminal
            renderable.render_segments(self.console)
        super()._display(screen, renderable)
        while self.wanted and self.wanted[0][1]():
            self.seen[self.wanted.pop(0)[0]] = time.perf_counter()


async def answered(
    app: Watched, pilot: Pilot[None], key: str, *effects: tuple[str, Callable[[], bool]]
) -> dict[str, float]:
    """Seconds from the key to the redraws after which each of the effects holds, one after the other."""
    assert not effects[0][1](), key
    app.wanted = list(effects)
    began = time.perf_counter()
    await pilot.press(key)  # which waits for more than the redraw
    while app.wanted:
        await pilot.pause(0.01)
    return {what: app.seen[what] - began for what, _ in effects}


async def measure(pid: int, rounds: int) -> dict[str, list[float]]:
    """By what is done, the time of each round."""
    source = find_source(str(pid))
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        app = Watched(source, Path(directory))
        async with app.run_test(size=(160, 45)) as pilot:
            tasks: DataTable[Any] = app.query_one("#table-tasks", DataTable)
            resources: DataTable[Any] = app.query_one("#table-resources", DataTable)
            tree: Tree[Any] = app.query_one("#the-tree", Tree)
            caption, box = app.query_one("#caption", Static), app.query_one("#filter", Input)
            while not tasks.row_count:
                await pilot.pause(0.1)

            def number_shown() -> str:
                found = re.search(r"the first [\d,]+ of [\d,]+ tasks", str(caption.render()))
                return found[0] if found is not None else ""

            async def timed(key: str, *effects: tuple[str, Callable[[], bool]]) -> None:
                for what, took in (await answered(app, pilot, key, *effects)).items():
                    found.setdefault(what, []).append(took)
                await pilot.pause(0.13)  # another phase of the snapshots each time

            for _ in range(rounds):
                row = tasks.cursor_row
                await timed("down", ("down: the next row", lambda row=row: tasks.cursor_row == row + 1))
                await timed("question_mark", ("?: the help", lambda: isinstance(app.screen, TextPage)))
                await timed("escape", ("escape: back", lambda: not isinstance(app.screen, TextPage)))
                await timed(
                    "3",
                    ("3: the tab of the resources", lambda: app.tab == "resources"),
                    ("3: its rows", lambda: resources.row_count > 0),
                )
                await timed("1", ("1: the tab of the tasks", lambda: app.tab == "tasks"))
                await timed(
                    "2",
                    ("2: the tab of the tree", lambda: app.tab == "tree"),
                    ("2: its branches", lambda: bool(tree.root.children)),
                )
                await pilot.press("1")
                while not number_shown():  # the tree's may still be there
                    await pilot.pause(0.05)
                await pilot.press("slash")
                before = number_shown()
                await timed(
                    "7",
                    ("a letter of a filter: typed", lambda: box.value == "7"),
                    ("a letter of a filter: its rows", lambda before=before: number_shown() != before),
                )
                await pilot.press("escape")
                while number_shown() != before:
                    await pilot.pause(0.05)
                resources.clear()
                tree.clear()
    source.close()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(options.tasks)], stdout=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.stdout is not None
            assert re.match("ready", program.stdout.readline())
            found = asyncio.run(measure(program.pid, options.rounds))
        finally:
            program.kill()
    print(f"{options.tasks:,} tasks, {options.rounds} rounds; milliseconds from the key to the redraw")
    for what, times in found.items():
        print(f"{what:40} median {statistics.median(times) * 1e3:6.0f}   longest {max(times) * 1e3:6.0f}")


if __name__ == "__main__":
    main()
