"""Running a program in a child process, so that somebody is left to tell how it ended.

The parent does nothing but wait: it loads nothing more, runs no thread, and hands signals on. It costs a process's memory, most of
it shared.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..recorder import files

if TYPE_CHECKING:
    from .report import How, Report

# What is handed on to the program. Ctrl-C and its like reach it by themselves: the terminal sends them to both.
_FORWARDED = ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGALRM")


def supervise(program: Callable[[], int]) -> int:
    """Call ``program`` in a child process and wait for its end. Returns its exit status in the child; in the parent the child's, or
    128 and the number of the signal that killed it.

    If it was killed, or left with ``os._exit`` and an error, a report is written beside its recording and told on stderr. Call it
    where no other thread runs: it forks.
    """
    signals = {getattr(signal, name) for name in _FORWARDED if hasattr(signal, name)} | {signal.SIGCHLD}
    witness = Witness()
    sys.stdout.flush()
    sys.stderr.flush()
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        # Handed on by who started us: the system would reap the child by itself, and tell nobody that it ended, nor how.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    pid = os.fork()
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return program()
    witness.begun(pid)
    code = os.waitstatus_to_exitcode(_wait(pid, signals))
    when = time.time()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    witness.ended(code, when)
    return code if code >= 0 else 128 - code


class Witness:
    """Who started the program, sees how it ends, and reports it. Made before the program is started."""

    def __init__(self) -> None:
        self._base = files.base_directory()
        self._killed_before = out_of_memory_kills()
        self._pid = self._started = 0

    def begun(self, pid: int) -> None:
        """It runs, and was not waited for yet."""
        self._pid, self._started = pid, files.started_at(pid)

    def ended(self, code: int, when: float) -> None:
        """It ended with this status (minus the number of the signal that killed it): report that, unless all is well."""
        if code < 0:
            text = _killed(-code, out_of_memory_kills() - self._killed_before)
            _report(self._base, self._pid, self._started, _End("signal", text, when, signal=-code))
        elif code:
            text = f"it left with os._exit({code}), or the like: without ending in order"
            _report(self._base, self._pid, self._started, _End("exit", text, when, status=code))


def _wait(pid: int, signals: set[signal.Signals]) -> int:
    while True:
        info = signal.sigwaitinfo(signals)
        if info.si_signo == signal.SIGCHLD:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found == pid:
                return status
        elif info.si_code <= 0:  # sent by a process, and to us alone; the kernel's came to the child as well
            os.kill(pid, info.si_signo)


class _End(NamedTuple):
    """What the parent saw; ``report.End`` is loaded when it is needed."""

    how: How
    text: str
    at: float
    signal: int | None = None
    status: int | None = None


def _killed(number: int, out_of_memory: int) -> str:
    name = signal.Signals(number).name if number in {one.value for one in signal.Signals} else f"signal {number}"
    text = f"killed by {name}"
    if number == signal.SIGKILL:
        text += (
            ", by the kernel, for want of memory"
            if out_of_memory > 0
            else ", by somebody who may (kill -9, a container's stop)"
        )
    return text


def _report(base: Path, pid: int, started: int, end: _End) -> None:
    from ..model import InsightError
    from ..recorder.reading import read_recording
    from . import death
    from .report import End
    from .saving import report_path, save

    folder = next(iter(base.glob(f"*-{pid}-{started}{files.SUFFIX}")), None)
    if folder is None:
        if end.how == "signal":
            print(f"bateau: the program was {end.text}; it had recorded nothing", file=sys.stderr)
        return
    try:
        seen = End(end.how, end.text, end.at, "the supervisor", end.signal, end.status)
        report = death.report_of(read_recording(folder), end=seen)
        path = report_path(folder)
        save(report, path)
    except (InsightError, OSError) as error:
        print(f"bateau: the program was {end.text}; no report: {error}", file=sys.stderr)
        return
    files.remove_folder(folder)
    print(_summary(report, path), file=sys.stderr)


def _summary(report: Report, path: Path) -> str:
    from .text import tell_end

    lines = [f"bateau: {line}" for line in tell_end(report)]
    return "\n".join(
        [*lines, f"bateau: a crash report is in {path} (cluster {report.cluster}); read it with `bateau postmortem`"]
    )


def out_of_memory_kills() -> int:
    """How many processes of this one's control group (else of this machine) the kernel has killed for want of memory so far."""
    for path, key in _counters():
        try:
            with open(path) as file:
                for line in file:
                    name, _, value = line.partition(" ")
                    if name == key:
                        return int(value)
        except (OSError, ValueError):
            continue
    return 0


def _counters() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    try:
        with open("/proc/self/cgroup") as file:
            for line in file:
                _, controllers, path = line.strip().split(":", 2)
                if not controllers:
                    found.append((f"/sys/fs/cgroup{path}/memory.events", "oom_kill"))
                elif "memory" in controllers.split(","):
                    found.append((f"/sys/fs/cgroup/memory{path}/memory.oom_control", "oom_kill"))
    except (OSError, ValueError):
        found.clear()
    return [*found, ("/sys/fs/cgroup/memory.events", "oom_kill"), ("/proc/vmstat", "oom_kill")]
