"""What a test of this suite may not leave behind: the leak check of `bateau.testing`, as the fixtures in conftest use it."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass, field

from bateau.testing.leaks import (
    IDLE_POOLS,
    SETTLE_SECONDS,
    ErrorLog,
    Snapshot,
    child_processes,
    live_threads,
    make_process_globals,
    open_descriptors,
)

__all__ = [
    "IDLE_POOLS",
    "SETTLE_SECONDS",
    "ErrorLog",
    "ProcessState",
    "Snapshot",
    "child_processes",
    "live_threads",
    "make_process_globals",
    "open_descriptors",
]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@dataclass
class ProcessState:
    """What a test finds in its process and the next one must find there too: a test that changes it and does not change it back
    makes others fail, far away and in some orders only.
    """

    directory: str = field(default_factory=os.getcwd)
    environment: dict[str, str] = field(default_factory=_environment)
    collecting: bool = field(default_factory=gc.isenabled)

    def restore(self) -> list[str]:
        """What has changed, in words; it is changed back, so that one test is blamed and not all that follow."""
        found: list[str] = []
        try:
            directory = os.getcwd()
        except FileNotFoundError:
            directory = "a directory that is gone"
        if directory != self.directory:
            found.append(f"the working directory {directory}")
            os.chdir(self.directory)
        now = _environment()
        for name in sorted(now.keys() | self.environment.keys()):
            before = self.environment.get(name)
            if now.get(name) != before:
                found.append(f"the environment variable {name}={now.get(name)!r}, which was {before!r}")
                if before is None:
                    del os.environ[name]
                else:
                    os.environ[name] = before
        if gc.isenabled() is not self.collecting:
            found.append(f"the garbage collector {'off' if self.collecting else 'on'}")
            (gc.enable if self.collecting else gc.disable)()
        return found
