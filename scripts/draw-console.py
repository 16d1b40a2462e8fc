#!/usr/bin/env python
"""Draws the pictures of docs/console.md: the console on a real process, ``examples/stuck_exchange.py`` with some clients.

.venv/bin/python scripts/draw-console.py [docs/pictures]
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from textual.pilot import Pilot

from bateau.insight.console.app import Console
from bateau.insight.console.sources import Source, find_source
from bateau.insight.model import Snapshot, Want

ROOT = Path(__file__).resolve().parents[1]
# The picture, the keys that lead to it from the table of tasks, and what it shows.
PICTURES = (
    ("console-tasks", ["home"]),
    ("console-problem", ["P"]),
    ("console-resource", ["3", "home", "enter"]),
    ("console-task", ["escape", "1", "slash", *"south", "enter", "home", "enter"]),
    ("console-tree", ["escape", "escape", "2"]),
)


class Relative:
    """A source whose lines are shown as seen from the project: where it stands on this machine is nobody's business."""

    def __init__(self, source: Source) -> None:
        self.name = "stuck_exchange.py"
        self.acts = source.acts
        self.live = True
        self.act = source.act
        self.close = source.close
        self._read = source.read

    def read(self, want: Want | None = None) -> Snapshot:
        """A snapshot with other paths."""
        found = self._read(want)
        here = f"{ROOT}/"
        return replace(
            found, frames=tuple(replace(frame, file=frame.file.removeprefix(here)) for frame in found.frames)
        )


@contextlib.contextmanager
def exchange() -> Generator[int]:
    """The program with six clients, until the block ends; its pid."""
    with (
        subprocess.Popen(
            [sys.executable, "examples/stuck_exchange.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as program,
        contextlib.ExitStack() as clients,
    ):
        try:
            assert program.stdout is not None
            found = re.search(r"port (\d+)", program.stdout.readline())
            assert found is not None
            for _ in range(6):
                clients.enter_context(socket.create_connection(("127.0.0.1", int(found[1]))))
            yield program.pid
        finally:
            program.kill()


async def draw(pid: int, directory: Path) -> None:
    """One picture after the other."""
    source = Relative(find_source(str(pid)))
    with tempfile.TemporaryDirectory() as graphs:
        app = Console([source], interval=0.5, directory=Path(graphs))
        async with app.run_test(size=(132, 34)) as pilot:
            await until(pilot, app)
            await asyncio.sleep(1.5)  # so that they have been waiting for a while
            for name, keys in PICTURES:
                await pilot.press(*keys)
                shown = app.snapshot
                while app.snapshot is shown:
                    await pilot.pause(0.05)
                await pilot.pause(0.3)
                app.save_screenshot(str(directory / f"{name}.svg"))
                print(directory / f"{name}.svg")
    source.close()


async def until(pilot: Pilot[None], app: Console) -> None:
    """The clients have been accepted."""
    while app.snapshot is None or sum(task.name.startswith("client-") for task in app.snapshot.tasks) < 6:
        await pilot.pause(0.05)


def main() -> None:
    """Draw them all."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures"
    with exchange() as pid:
        asyncio.run(draw(pid, directory))


if __name__ == "__main__":
    main()
