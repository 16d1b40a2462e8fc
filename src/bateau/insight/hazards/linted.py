"""Names of what ``bateau lint`` tells of before the run, and nothing reports during it: there it is an error of its own, or too quick to be seen."""

from __future__ import annotations

from .base import Hazard


class _Linted(Hazard):
    """Nothing is looked for."""

    def __init__(self, name: str, title: str, remedy: str) -> None:
        self.name = name
        self.title = title
        self.remedy = remedy


LINTED: tuple[Hazard, ...] = (
    _Linted("blocking_file_call", "A file is waited for on the loop", "use the counterpart in `bateau.fs`"),
    _Linted(
        "foreign_await",
        "Another library's things are awaited",
        "use bateau's own, or run the program on the runtime that they are of",
    ),
)
