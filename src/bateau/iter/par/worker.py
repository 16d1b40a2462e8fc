"""The inside of a worker process: prepare as a program started by ``multiprocessing`` would, then do chunks until there are no more.

Requests come by the standard input, answers go to a pipe of their own; so what the user's functions print goes where the program's output
goes, and reading the standard input finds its end. Frames in both directions are a length of eight bytes and a pickle.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from io import FileIO
from typing import Any, cast

from .remote import Packed, answer, pack
from .work import Work

LENGTH = 8

# True while the main module is imported: it must not start workers of its own (see ``check_not_preparing``).
preparing = False


def frame(payload: bytes) -> bytes:
    """A payload with its length before it."""
    return len(payload).to_bytes(LENGTH, "big") + payload


def prepare(data: dict[str, Any]) -> Packed | None:
    """Make ``__main__``, ``sys.path`` and the directory those of the parent. Gives the error of an import that failed."""
    global preparing
    from multiprocessing import spawn

    preparing = True
    try:
        spawn.prepare(data)
    except (Exception, SystemExit) as error:
        return pack(error)
    finally:
        preparing = False
    return None


def preparation() -> dict[str, Any]:
    """In the parent: what ``prepare`` needs, for ``pickle``."""
    from multiprocessing import spawn

    data: dict[str, Any] = dict(spawn.get_preparation_data("bateau worker"))
    data.pop("authkey", None)  # may only be pickled by multiprocessing itself, and nobody here needs it
    return data


def check_not_preparing() -> None:
    """Raise ``RuntimeError`` where a worker, importing the main module, would start workers."""
    if preparing:
        raise RuntimeError(
            "this program starts its work when it is imported, and a worker has to import it: "
            'put the call that starts the program under `if __name__ == "__main__":`'
        )


def main(answers: int) -> None:
    """The life of a worker process; ``answers`` is the descriptor of the pipe back."""
    os.set_inheritable(answers, False)
    source = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    with source, FileIO(answers, "wb") as sink:
        _end_with_parent(source.fileno())
        data = _read(source)
        if data is None:
            return
        problem = prepare(pickle.loads(data))
        _write(sink, pickle.dumps(problem))
        if problem is None:
            _serve(source, sink)


def _serve(source: Any, sink: FileIO) -> None:
    work: Work | None = None
    while (request := _read(source)) is not None:
        # The work is sent once, and again only when it is another one.
        given, items = pickle.loads(request)
        if given is not None:
            work = None

        def load(given: bytes | None = given) -> Work:
            nonlocal work
            if work is None:
                assert given is not None
                work = cast("Work", pickle.loads(given))
            return work

        reply = answer(load, items)
        _flush()
        _write(sink, reply)


def _flush() -> None:
    """What was printed must be out before the answer is: the worker may be ended at any time."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # closed, or replaced by something else: the user's own affair


def _read(source: Any) -> bytes | None:
    head = source.read(LENGTH)
    if len(head) < LENGTH:
        return None
    size = int.from_bytes(head, "big")
    payload: bytes = source.read(size)
    return payload if len(payload) == size else None


def _write(sink: FileIO, payload: bytes) -> None:
    view = memoryview(frame(payload))
    while view:
        view = view[sink.write(view) :]


def _end_with_parent(requests: int) -> None:
    """A worker whose parent was killed must not compute for nobody: a thread waits for the far end of the pipe to close."""
    from select import POLLERR, POLLHUP, poll
    from threading import Thread, main_thread

    def watch() -> None:
        ends = poll()
        ends.register(requests, POLLHUP | POLLERR)
        ends.poll()
        # Idle, the worker reads the end by itself and leaves in order; in the middle of a chunk it never would.
        main_thread().join(LEAVING_SECONDS)
        _exit(1)

    Thread(target=watch, name="bateau-parent-watch", daemon=True).start()


# Seconds that a worker has to leave after its parent closed the pipe.
LEAVING_SECONDS = 1.0
_exit: Callable[[int], Any] = os._exit
