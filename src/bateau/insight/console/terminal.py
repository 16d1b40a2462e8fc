"""A terminal may be closed while the console draws on it: what is written after that is nobody's loss."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any, TextIO


class _Lasting:
    """A text file whose writes don't fail. ``lost`` is called once, when the first one would have, on a thread of its own."""

    def __init__(self, file: TextIO, lost: Callable[[], None]) -> None:
        self._file = file
        self._lost: Callable[[], None] | None = lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        with self._told():
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with self._told():
            self._file.flush()

    @contextlib.contextmanager
    def _told(self) -> Generator[None, None, None]:
        try:
            yield
        except OSError:
            # What the file still holds would fail again when Python ends.
            with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._file.fileno())
            lost, self._lost = self._lost, None
            if lost is not None:
                threading.Thread(target=lost, name="bateau-console-lost", daemon=True).start()


@contextlib.contextmanager
def lasting(lost: Callable[[], None]) -> Generator[None, None, None]:
    """Inside the block textual can draw on though its terminal is gone, and ``lost`` is told once that it is.

    Textual writes to ``sys.__stderr__`` on a thread that ends with the first error; then its queue fills, and the console would wait for
    room in it for ever. For the block in which the console is made and run.
    """
    before = sys.__stderr__
    if before is not None:
        setattr(sys, "__stderr__", _Lasting(before, lost))  # noqa: B010  # it is typed as final
    try:
        yield
    finally:
        setattr(sys, "__stderr__", before)  # noqa: B010  # as above
