"""A recording of this process: opening the files, giving each loop its writer, and what happens at a fork and at the end."""

from __future__ import annotations

import atexit
import mmap as mmap_module
import os
import secrets
import sys
import time
from _thread import get_ident, get_native_id
from contextlib import suppress
from importlib import import_module
from mmap import mmap
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import WeakSet

import bateau

from ...kernel import hazard, instrument
from ...kernel.current import current_task_or_none
from ...kernel.errors import Cancelled
from ...kernel.explain import all_tasks
from ...kernel.host import Host
from ...kernel.task import Task
from ..steps import Lasted
from . import files, layout
from .found import to_words
from .hot import lasting
from .writer import PureRing, about

# How much a file remembers: 6 MiB for each thread that runs tasks.
RECORDS = 1 << 16
TASKS = 1 << 15
TEXTS = 1 << 20
# MADV_POPULATE_WRITE, from Linux 5.14 on; an older one refuses it.
_POPULATE_WRITE = 23
# Threads that are recorded at once; a file stays with its thread's ident, which the next thread may get.
_MOST_FILES = 64


def native_ring() -> Any:
    """The writer in C, or None where it was not built or ``BATEAU_PURE`` is 1."""
    if os.environ.get("BATEAU_PURE") == "1":
        return None
    try:
        return import_module("bateau._native").Ring
    except (ImportError, AttributeError):
        return None


class _Nobody:
    """In place of a host, for what is found in a program that runs nothing of ours."""

    name = "process"
    rides = True
    thread_id = 0


class _File:
    """One open file and its writer."""

    def __init__(self, path: Path, host: Host | _Nobody, sizes: tuple[int, int, int]) -> None:
        records, tasks, texts = sizes
        ring_at = layout.HEADER_SIZE
        tasks_at = ring_at + records * layout.UNIT.size
        texts_at = tasks_at + tasks * layout.SLOT_SIZE
        whole = texts_at + texts
        header = layout.Header(
            layout.MAGIC, layout.VERSION, layout.HEADER_SIZE, whole, os.getpid(), layout.RIDES if host.rides else 0,
            host.thread_id, get_native_id() if host.thread_id == get_ident() else 0, time.monotonic_ns(), time.time_ns(),
            ring_at, records, tasks_at, tasks, texts_at, texts, files.started_at(), layout.UNIT.size, layout.SLOT_SIZE,
            secrets.randbits(64), _boot_id(), sys.version.split()[0].encode(), bateau.__version__.encode(),
            f"{host.name} on {_thread_name(host.thread_id)}".encode()[:64], "\0".join(sys.argv).encode("utf-8", "replace")[:1024],
        )  # fmt: skip
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Really, not only in name: writing to a map of a file on a full disk kills a process.
            os.posix_fallocate(fd, 0, whole)
            self.view = mmap(fd, whole)
        except BaseException:  # an interrupt as well: half a recording is none
            os.unlink(path)
            raise
        finally:
            os.close(fd)
        if sys.platform == "linux":
            with suppress(OSError, ValueError):
                # Once round the ring touches all of it: here at once, instead of a fault every 256 units in the middle of a step.
                self.view.madvise(_POPULATE_WRITE, 0, tasks_at & -mmap_module.PAGESIZE)
        self.path = path
        self.rides = host.rides
        # Until when tasks were entered that ran before: what they wait for they had begun to before.
        self.adopted = 0
        self._word(layout.HOT_TEXTS, 8)  # place 0 is no text
        self._word(layout.HOT_STATE, layout.OPEN)
        self.view[: layout.HOT_AT] = header.packed()
        native = native_ring()
        self.ring: Any = (
            native(self.view, about, Cancelled, _ticks_count()) if native is not None else PureRing(self.view, header)
        )

    def _word(self, index: int, value: int) -> None:
        place = layout.HOT_AT + 8 * index
        self.view[place : place + 8] = value.to_bytes(8, "little")

    def close(self, *, mark: bool) -> None:
        """Let go of the file; ``mark`` it as closed in order."""
        self.ring.close()
        if mark:
            self._word(layout.HOT_STATE, layout.CLOSED)
        try:
            self.view.close()
        except BufferError:
            pass  # the writer is in a call just now (which asked Python for something): the map goes with it


class Recording:
    """The flight recorder of this process, from ``record()`` on until ``close()``.

    ``directory`` is where its files are; a forked child gets one of its own as soon as it runs tasks. Use it in a ``with`` block, or
    let it go on to the end of the program.
    """

    def __init__(self, base: Path | None, sizes: tuple[int, int, int], *, keep: bool, fatal: bool) -> None:
        self._base = base
        self._sizes = sizes
        self._keep = keep
        self._fatal = fatal
        self._fatal_file: Any = None
        self._files: dict[int, _File] = {}
        self._closed = False
        self._failed = False
        # Tells apart the recordings of one process.
        self._serial = 0
        self.directory = self._open_directory()
        self._remove = instrument.install(self._ring_for)
        hazard.listeners.append(self._found)
        _open.add(self)
        atexit.register(self.close)

    # -- the files -----------------------------------------------------------------------------------------------------------

    def _open_directory(self) -> Path:
        base = self._base if self._base is not None else files.base_directory()
        base.mkdir(parents=True, exist_ok=True)
        files.prune(base)
        name = f"{files.program_name()}-{os.getpid()}-{files.started_at()}{files.SUFFIX}"
        directory = base / name
        directory.mkdir(mode=0o700, exist_ok=True)
        self._pid = os.getpid()
        if self._fatal:
            self._catch_fatal(directory)
        return directory

    def _catch_fatal(self, directory: Path) -> None:
        """The stacks of all threads, written by the interpreter when a signal kills it. Who had asked for that keeps it."""
        import faulthandler

        if self._fatal_file is None and faulthandler.is_enabled():
            return
        self._fatal_file = open(directory / files.FATAL_NAME, "w", opener=_private)  # noqa: SIM115  # closed by close()
        faulthandler.enable(self._fatal_file, all_threads=True)

    def _ring_for(self, host: Host) -> Any:
        """The writer for a host: that of its thread. None where there can't be one, which is told once."""
        if self._closed or _has_ended(host):
            return None
        file = self._files.get(host.thread_id)
        if file is None:
            if len(self._files) >= _MOST_FILES:
                return None
            try:
                file = self._new_file(host)
            except OSError as error:
                if not self._failed:
                    self._failed = True
                    print(f"bateau: the flight recorder is off for {host.describe()}: {error}", file=sys.stderr)
                return None
            self._files[host.thread_id] = file
        if host.thread_id == get_ident():
            for task in all_tasks(getattr(host, "roots", None) or ()):
                if not task.ended:
                    file.ring.adopt(task)
            file.adopted = time.monotonic_ns()
        return file.ring

    def _new_file(self, host: Host | _Nobody) -> _File:
        if self._pid != os.getpid():
            self.directory = self._open_directory()
        while True:
            self._serial += 1
            try:
                return _File(self.directory / f"{self._serial}{files.RING_SUFFIX}", host, self._sizes)
            except FileExistsError:
                continue  # another recording of this process has it

    def forked(self) -> None:
        """This process is the child of a fork: the files are the parent's."""
        for file in self._files.values():
            file.close(mark=False)
        self._files.clear()
        for host in tuple(instrument.hosts):
            host.instrument = None
            host.resumed = None
        if self._fatal_file is not None:
            import faulthandler

            faulthandler.disable()
            self._fatal_file.close()
            self._fatal_file = None

    # -- for the program --------------------------------------------------------------------------------------------------------

    def note(self, words: str) -> None:
        """Write ``words`` (at most 1 KiB) into the timeline, as said by the task that is running. Not a cancellation point.

        On a thread that runs no tasks it does nothing.
        """
        file = self._files.get(get_ident())
        if file is not None:
            task = current_task_or_none()
            file.ring.note(task.id if task is not None else 0, words)

    def waited(self, task: Task[Any]) -> tuple[float, bool] | None:
        """For how many seconds a task has been waiting, if it is, and whether that is only the least: its wait had begun before it was
        recorded. From any thread.
        """
        file = self._files.get(task.host.thread_id)
        since = file.ring.since(task) if file is not None else 0
        if file is None or not since:
            return None
        return round((time.monotonic_ns() - since) / 1e9, 3), since <= file.adopted

    def running_for(self, number: int, thread: int) -> Lasted | None:
        """For how long the step of that task has lasted, if it is under way on that thread. From any thread."""
        file = self._files.get(thread)
        try:
            return lasting(file.view[layout.HOT_AT : layout.HOT_AT + 32], number, rides=file.rides) if file else None
        except ValueError:  # closed just now
            return None

    def alive(self) -> None:
        """Write down that the process is alive now: of one whose tasks all wait, nothing else would say so. From any thread."""
        now = time.monotonic_ns()
        for file in tuple(self._files.values()):
            with suppress(ValueError):  # closed just now
                file._word(layout.HOT_ALIVE, now)

    def _found(self, finding: hazard.Finding) -> None:
        """A hazard was reported, perhaps by a thread that only watches: it goes to its own thread's file, or else to the first."""
        file = self._files.get(get_ident()) or next(iter(self._files.values()), None)
        if file is None and not self._failed and not self._closed and self._pid == os.getpid():
            try:
                file = self._files[0] = self._new_file(_Nobody())  # no thread has this ident
            except OSError as error:
                self._failed = True
                print(f"bateau: the flight recorder is off: {error}", file=sys.stderr)
        if file is not None:
            task = current_task_or_none()
            file.ring.note(task.id if task is not None else 0, to_words(finding))

    def close(self) -> None:
        """Stop recording, and remove the files unless they were to be kept. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._remove()
        _open.discard(self)
        hazard.listeners.remove(self._found)
        atexit.unregister(self.close)
        for file in self._files.values():
            file.close(mark=True)
        self._files.clear()
        if self._fatal_file is not None:
            import faulthandler

            faulthandler.disable()
            self._fatal_file.close()
        if not self._keep and self._pid == os.getpid():
            files.remove_folder(self.directory)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Recording in {str(self.directory)!r}, {'closed' if self._closed else 'open'}>"


_open: WeakSet[Recording] = WeakSet()


def recording() -> Recording | None:
    """The recording of this process that is open, if any."""
    return next(iter(_open), None)


def note(words: str) -> None:
    """Write ``words`` (at most 1 KiB) into the flight recorder's timeline. Does nothing where nothing is recorded."""
    for one in tuple(_open):
        one.note(words)


def _forked() -> None:
    for one in tuple(_open):
        one.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def record(
    directory: str | Path | None = None,
    *,
    records: int = RECORDS,
    tasks: int = TASKS,
    texts: int = TEXTS,
    keep: bool = False,
    fatal: bool = True,
) -> Recording:
    """Record what every task of this process does, in files that survive it: the flight recorder. Returns the recording.

    ``directory``: where its folder is made; None takes ``BATEAU_RECORDER_DIR``, else the user's runtime folder. Each thread that runs
    tasks gets a file that remembers the last ``records`` steps (rounded up to a power of two; 16 bytes each; other events take the room
    of two), ``tasks`` living tasks (128 bytes each; further ones are counted), and ``texts`` bytes of names and stacks. All of it is allocated at once. ``keep``:
    leave the files there when the program ends in order. ``fatal``: have the interpreter write all threads' stacks beside them when a
    signal kills it, unless ``faulthandler`` is in use already.

    Tasks that run already are recorded from their next wait on. Raises ``OSError`` where the files can't be made, ``RuntimeError`` if
    this process is being recorded, ``ValueError`` for a size that makes no sense. Not a cancellation point.
    """
    if recording() is not None:
        raise RuntimeError("this process is being recorded already; close that recording first (insight.recording())")
    if not (16 <= records <= 1 << 26 and 16 <= tasks <= 1 << 24 and 4096 <= texts <= 1 << 30):
        raise ValueError(
            "sizes of a recording: records from 16 to 2**26, tasks from 16 to 2**24, texts from 4096 to 2**30 bytes, not "
            f"{records}, {tasks}, {texts}"
        )
    sizes = 1 << (records - 1).bit_length(), tasks, texts & ~7
    return Recording(Path(directory) if directory is not None else None, sizes, keep=keep, fatal=fatal)


def _has_ended(host: Host) -> bool:
    """Whether a host that is still there will never run anything again. It may be half made."""
    loop = getattr(host, "loop", None)
    return bool(getattr(host, "_closed", False)) or (loop is not None and loop.is_closed())


def _ticks_count() -> bool:
    """Whether the system keeps its own time by the processor's tick counter: then that can be read instead, for a third of the cost."""
    try:
        with open("/sys/devices/system/clocksource/clocksource0/current_clocksource") as file:
            return file.read().strip() == "tsc"
    except OSError:
        return False


def _boot_id() -> bytes:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


def _thread_name(ident: int) -> str:
    threading = sys.modules.get("threading")
    thread = threading._active.get(ident) if threading is not None else None
    return thread.name if thread is not None else f"thread {ident}" if ident else "no thread"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
