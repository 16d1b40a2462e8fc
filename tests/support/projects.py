"""Small projects on disk, and pytest run on them in a process of its own, with this suite's settings nowhere in sight."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Plugins that may be installed here; a project gets those that it is about.
OTHER_PLUGINS = ("asyncio", "trio", "anyio", "detangle", "simloom", "hypothesispytest")
# What this suite's surroundings say, which is not meant for a project's own pytest.
OURS = ("PYTEST", "BATEAU_RUNTIME", "CI", "BUILD_NUMBER", "NO_COLOR", "FORCE_COLOR", "PY_COLORS")


@dataclass
class Done:
    """What pytest printed, and its exit status."""

    text: str
    status: int

    def outcomes(self) -> dict[str, str]:
        """The outcome of each test by its name (`test_x[native]`), in lower case; an error in teardown counts last."""
        return {
            name: outcome.lower() for name, outcome in re.findall(r"^\S+?::(\S+) ([A-Z]+)", self.text, re.MULTILINE)
        }

    def counts(self) -> dict[str, int]:
        """The numbers of the last line: passed, failed, error, skipped..."""
        last = re.findall(r"^=+ (.*) in [\d.]+s.*=+$", self.text, re.MULTILINE)
        return {
            kind.rstrip("s") if kind == "errors" else kind: int(n) for n, kind in re.findall(r"(\d+) (\w+)", last[-1])
        }

    def passed(self, *names: str) -> None:
        """Assert that exactly these tests ran, and that all passed."""
        assert self.outcomes() == dict.fromkeys(names, "passed"), self.text
        assert self.status == 0, self.text

    def has(self, *parts: str) -> None:
        """Assert that every part was printed, in this order."""
        at = 0
        for part in parts:
            found = self.text.find(part, at)
            assert found >= 0, f"no {part!r} (after the parts before it) in:\n{self.text}"
            at = found + len(part)


class Project:
    """A directory with tests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, **files: str) -> Project:
        """Write `test_a="..."` as test_a.py; `ini="..."` as the section of pytest.ini."""
        self.ini(files.pop("ini", ""))
        for name, text in files.items():
            (self.directory / f"{name}.py").write_text(text)
        return self

    def ini(self, text: str) -> None:
        """The settings of the project."""
        (self.directory / "pytest.ini").write_text(f"[pytest]\n{text}\n")

    def command(self, *options: str, plugins: tuple[str, ...] = ()) -> list[str]:
        """How pytest is started."""
        off = [part for name in OTHER_PLUGINS if name not in plugins for part in ("-p", f"no:{name}")]
        return [sys.executable, "-m", "pytest", "-v", "-rA", "-p", "no:cacheprovider", *off, *options]

    def run(self, *options: str, plugins: tuple[str, ...] = (), **environment: str) -> Done:
        """Run pytest there; `plugins` are those of the others that are loaded."""
        done = subprocess.run(
            self.command(*options, plugins=plugins),
            check=False,
            capture_output=True,
            text=True,
            timeout=100,
            cwd=self.directory,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
        )
        return Done(done.stdout + done.stderr, done.returncode)

    def environment(self, **changed: str) -> dict[str, str]:
        """The environment of that pytest: what it prints doesn't depend on where this suite runs.

        Under `CI` or `BUILD_NUMBER` pytest no longer cuts the lines of its summary, so that whatever a message says is there twice.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        return {**kept, "BATEAU_TEST_SETTLE": "0.3", "COLUMNS": "200", **changed}
