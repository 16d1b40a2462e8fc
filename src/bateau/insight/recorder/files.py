"""Where recorder files are, and how long they stay.

``$BATEAU_RECORDER_DIR``, else ``$XDG_RUNTIME_DIR/bateau``, else ``bateau-<uid>`` among the temporary files. Only their owner may read
them. Each process that records has a folder there, ``<program>-<pid>-<start>.recording``, with a file per thread that ran tasks and
the text of a fatal signal. It removes the folder when it ends in order; what a kill leaves behind stays for a week, sixteen of them
at most. Crash reports (``<program>-<pid>-<start>.crash.json``) beside them are kept by the same rule.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

SUFFIX = ".recording"
REPORT_SUFFIX = ".crash.json"
RING_SUFFIX = ".ring"
FATAL_NAME = "fatal.txt"
KEPT_SECONDS = 7 * 86400.0
KEPT_NUMBER = 16

_NAME = re.compile(r"(.*)-(\d+)-(\d+)(?:\.recording|\.crash\.json)")


def base_directory() -> Path:
    """The folder of all recordings; made if it is not there. Raises ``OSError`` where it is another user's, or can't be made."""
    given = os.environ.get("BATEAU_RECORDER_DIR")
    if given:
        base = Path(given)
        base.mkdir(parents=True, exist_ok=True)
        return base
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        base = Path(runtime) / "bateau"
    else:
        import tempfile

        base = Path(tempfile.gettempdir()) / f"bateau-{os.getuid()}"
    with suppress(FileExistsError):
        base.mkdir(mode=0o700)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(
            f"{base} is not a folder that only this user can read; remove it, or set BATEAU_RECORDER_DIR to another"
        )
    return base


def started_at(pid: int | str = "self") -> int:
    """When a process was started, in clock ticks since the machine was: tells two processes of one pid apart. 0: not known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def program_name() -> str:
    """What the folder is called after: the script, or the module."""
    script = sys.argv[0] if sys.argv and sys.argv[0] else "python"
    name = Path(script).stem
    if name == "__main__":
        name = Path(script).parent.name
    return re.sub(r"[^\w.]+", "_", name)[:40] or "python"


def is_alive(path: Path) -> bool:
    """Whether the process that a folder or report is named after still runs. One that has ended and was not waited for does not."""
    match = _NAME.fullmatch(path.name)
    return match is not None and started_at(match[2]) == int(match[3]) != 0 and not _is_zombie(match[2])


def _is_zombie(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (OSError, IndexError):
        return True


def remove_folder(path: Path) -> None:
    """Remove a recording. Silent where it is gone, or not all ours."""
    with suppress(OSError):
        for entry in os.scandir(path):
            if entry.name.endswith(RING_SUFFIX) or entry.name == FATAL_NAME:
                os.unlink(entry.path)
        os.rmdir(path)


def prune(base: Path) -> None:
    """Remove what dead processes have left for too long, or too many of them."""
    found: list[tuple[float, Path]] = []
    with suppress(OSError):
        for entry in os.scandir(base):
            if _NAME.fullmatch(entry.name) is not None:
                with suppress(OSError):
                    found.append((entry.stat(follow_symlinks=False).st_mtime, Path(entry.path)))
    found.sort(reverse=True)
    oldest = time.time() - KEPT_SECONDS
    for suffix in (SUFFIX, REPORT_SUFFIX):
        dead = [(when, path) for when, path in found if path.name.endswith(suffix) and not is_alive(path)]
        for index, (when, path) in enumerate(dead):
            if index >= KEPT_NUMBER or when < oldest:
                if suffix == SUFFIX:
                    remove_folder(path)
                else:
                    with suppress(OSError):
                        path.unlink()
