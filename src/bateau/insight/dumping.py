"""Dumps without anybody asking from outside: on a signal, or every so many seconds."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import IO, Any

from .collect import LiveReader
from .rendering import Format, prepare, render


def dump_on(signum: int, file: str | IO[str] | None = None, *, form: Format = "text") -> Callable[[], None]:
    """Write what every task is doing whenever the signal comes: ``insight.dump_on(signal.SIGUSR1)``, then ``kill -USR1 PID``.

    ``file``: a path (appended to), a file with a descriptor, or None for standard error. Returns the function that gives the signal
    back to whom it had. Python runs it on the main thread between two of its instructions, so it answers while a loop of Python code
    blocks, and not while a C function does: then ``bateau dump PID`` reads the process from outside. Raises ``ValueError`` off the
    main thread.
    """
    reader = LiveReader()
    prepare(form)  # now: a signal may come where nothing should be imported
    write = _writer(file)

    def on_signal(number: int, frame: FrameType | None) -> None:
        write(_safely(reader, form))

    before = signal.signal(signum, on_signal)

    def undo() -> None:
        if signal.getsignal(signum) is on_signal:
            signal.signal(signum, before)

    return undo


def dump_every(seconds: float, file: str | IO[str] | None = None, *, form: Format = "text") -> Callable[[], None]:
    """Write what every task is doing, every ``seconds``, from a thread of its own. ``file`` as for ``dump_on``.

    Dumps as text have an empty line between them, and each says when it was taken.

    Returns the function that ends it. From the second dump on each wait is told with how long it has lasted at least.
    """
    if not 0.01 <= seconds <= 1e7:
        raise ValueError(f"seconds must be a number from 0.01 to 10,000,000, not {seconds!r}")
    reader = LiveReader()
    write = _writer(file)
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds):
            write(_safely(reader, form))

    thread = threading.Thread(target=run, name="bateau-dump-every", daemon=True)
    thread.start()

    def stop() -> None:
        ended.set()
        thread.join()

    return stop


def _safely(reader: LiveReader, form: Format) -> str:
    """A dump, or why there is none: it must not end the program that is being looked at."""
    try:
        return render(reader.read(), form) + ("\n" if form == "text" else "")
    except Exception as error:
        return f"bateau: no dump: {type(error).__name__}: {error}\n"


def _writer(file: str | IO[str] | None) -> Callable[[str], None]:
    """Writes by descriptor: a signal may have come in the middle of a ``print``, whose buffer is not to be touched."""
    if isinstance(file, str):
        path = os.path.abspath(file)
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))  # an error now, not then

        def append(text: str) -> None:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _write_all(fd, text)
            finally:
                os.close(fd)

        return append
    fd = file.fileno() if file is not None else _stderr()
    return lambda text: _write_all(fd, text)


def _stderr() -> int:
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # replaced by something without a descriptor
        return 2


def _write_all(fd: int, text: str) -> None:
    data: Any = memoryview(text.encode("utf-8", "backslashreplace"))
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            return  # a full pipe that nobody reads: the program goes on
