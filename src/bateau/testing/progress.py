"""The progress of a long exploration, behind the name of the test: on a terminal only, and gone when it is over."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..sim import Exploration

# Seconds: nothing is shown before an exploration has taken so long, and then so often.
FIRST, EVERY = 1.0, 0.2


class Progress:
    """Call it with what has been covered. ``with`` takes the last line away."""

    def __init__(self, config: pytest.Config, total: int) -> None:
        self._writer: Any = None
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        if (
            reporter is not None
            and reporter.isatty
            and not hasattr(config, "workerinput")
            and config.option.verbose >= 0
        ):
            self._writer = reporter._tw
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self._total = total
        self._done = 0
        self._began = time.monotonic()
        self._next = self._began + FIRST
        self._shown = 0

    def __call__(self, covered: Exploration) -> None:
        now = time.monotonic()
        if self._writer is None or now < self._next:
            return
        self._next = now + EVERY
        done = self._done + covered.runs
        left = (self._total - done) * (now - self._began) / max(done, 1)
        self._show(f" seed {done}/{self._total}, {covered.steps} steps, about {left:.0f} s left")

    def before(self, covered: Exploration) -> None:
        """What is covered from now on comes on top of this."""
        self._done += covered.runs

    def _show(self, text: str) -> None:
        text = text[: max(0, self._writer.fullwidth - self._writer.width_of_current_line - 1)]
        blank = max(0, self._shown - len(text))
        line = "\b" * self._shown + text + " " * blank + "\b" * blank
        self._shown = len(text)
        file = self._writer._file
        if self._capture is None:
            file.write(line)
            file.flush()
            return
        with self._capture.global_and_fixture_disabled():
            file.write(line)
            file.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._shown:
            self._show("")
