"""What goes wrong when another process's memory is read, and what to do about it."""

from __future__ import annotations

from pathlib import Path

from ..model import ReadError


class MemoryReadError(ReadError):
    """The process (or core file) could not be read; the text says why."""


class Fault(MemoryReadError):
    """An address that is not mapped, or a structure that makes no sense: a pointer was torn or stale.

    Decoders raise it and readers of whole objects catch it: it ends one object, never a snapshot.
    """


class NotPython(MemoryReadError):
    """No CPython interpreter was found in the process."""


class UnsupportedVersion(MemoryReadError):
    """A CPython whose structures this reader has no offsets for."""


class ProcessEnded(MemoryReadError, ProcessLookupError):
    """The process has ended, before or while it was read."""


class NotPermitted(MemoryReadError, PermissionError):
    """The kernel does not let us read the process."""


def not_permitted(pid: int) -> NotPermitted:
    """The error for a process whose memory the kernel won't show, with the reasons that apply on this machine."""
    reasons = [
        f"not permitted to read the memory of process {pid}: run as the same user, or with CAP_SYS_PTRACE (sudo)"
    ]
    try:
        scope = Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip()
    except OSError:
        scope = "0"
    if scope == "1":
        reasons.append(
            "kernel.yama.ptrace_scope is 1, so that only a parent may read its children: sysctl kernel.yama.ptrace_scope=0, "
            "or let the process allow it with prctl(PR_SET_PTRACER)"
        )
    elif scope in {"2", "3"}:
        reasons.append(
            f"kernel.yama.ptrace_scope is {scope}: "
            + ("only root may" if scope == "2" else "nobody may until a reboot")
        )
    if Path("/.dockerenv").exists():
        reasons.append("in a container: start it with --cap-add=SYS_PTRACE")
    return NotPermitted("; ".join(reasons))
