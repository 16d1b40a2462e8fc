"""`bateau run` looks for hazards while the program runs, unless told not to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """\
import threading
import time
import bateau
from bateau import insight

async def main():
    watched = any(thread.name == "bateau watcher" for thread in threading.enumerate())
    print("watched" if watched else "alone")
    end = time.monotonic() + 20
    while watched and not insight.findings("scheduling_delay") and time.monotonic() < end:
        time.sleep(0.01)

bateau.run(main)
"""


def run(path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    path.write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, "-m", "bateau.cli", "run", *args, str(path)], capture_output=True, text=True, timeout=60
    )


def test_a_blocked_loop_is_told_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    done = run(path)
    assert (done.stdout, done.returncode) == ("watched\n", 0)
    assert f"{path}:11: HazardWarning: scheduling_delay: task 'main' has held the bateau loop for" in done.stderr


def test_on_request_nobody_looks(tmp_path: Path) -> None:
    done = run(tmp_path / "app.py", "--no-watch")
    assert (done.stdout, done.stderr, done.returncode) == ("alone\n", "", 0)
