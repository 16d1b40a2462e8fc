"""`bateau trim`: from standard input or a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TRACE = (
    "Traceback (most recent call last):\n"
    '  File "/usr/lib/python3.11/asyncio/runners.py", line 190, in run\n    return runner.run(main)\n'
    '  File "/srv/app.py", line 3, in main\n    await x()\n'
    '  File "/srv/venv/lib/python3.11/site-packages/bateau/sync/lock.py", line 9, in y\n    raise z\n'
    "ValueError: 1\n"
)
SHOWN = 'Traceback (most recent call last):\n  File "/srv/app.py", line 3, in main\n    await x()\nValueError: 1\n'


def bateau(*args: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bateau.cli", "trim", *args], input=text, capture_output=True, text=True, timeout=60
    )


def test_standard_input_and_a_file_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "issue.txt"
    path.write_text("before\n" + TRACE)
    assert bateau(str(path)).stdout == "before\n" + SHOWN
    done = bateau(text=TRACE)
    assert (done.returncode, done.stdout, done.stderr) == (0, SHOWN, "")


def test_a_file_that_is_not_there() -> None:
    done = bateau("/nowhere/issue.txt")
    assert done.returncode == 2
    assert done.stderr == "bateau trim: can't read /nowhere/issue.txt: No such file or directory\n"


def test_text_of_any_encoding_is_read() -> None:
    """A log in Latin-1 is a log as well."""
    text = b'caf\xe9\nTraceback (most recent call last):\n  File "/srv/a.py", line 1, in main\n    1 / 0\nZeroDivisionError: division by zero\n'
    done = subprocess.run([sys.executable, "-m", "bateau", "trim"], input=text, capture_output=True, check=True)
    assert done.stdout == text.replace(b"\xe9", "\N{REPLACEMENT CHARACTER}".encode())
