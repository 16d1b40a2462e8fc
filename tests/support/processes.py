"""Programs that run in a process of their own: signals that arrive one by one, and what they have to say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

# What asyncio's debug mode says of a step that took 0.1 s: that this machine stood still is not the program's fault.
SLOW_STEP = re.compile(r"^Executing <.*> took \d+\.\d+ seconds\n", re.MULTILINE)


def environment(**changed: str) -> dict[str, str]:
    """This process's environment for a Python that imports what this one can: pytest alone knows where `support` is."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]), **changed}


def interrupt(process: subprocess.Popen[str], signum: int = signal.SIGINT) -> None:
    """Send a signal, and wait until the process has met it: one that is sent while its like is pending is lost."""
    process.send_signal(signum)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None and (1 << (signum - 1)) & pending(status.read_text()):
        time.sleep(0.001)


def pending(status: str) -> int:
    """The set of signals that wait for the process as a whole."""
    found = re.search(r"^ShdPnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else 0


def complaints(stderr: str) -> str:
    """What ``python -X dev`` had to say, without the steps that it found slow."""
    return SLOW_STEP.sub("", stderr)
