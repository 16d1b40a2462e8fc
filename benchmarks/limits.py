"""What this machine lets one process have, and how a workload is cut down to it: said in a note, never in silence."""

from __future__ import annotations

import os
import resource

CLIENTS = "BATEAU_BENCH_CLIENTS"
"""Environment variable with the number of clients that the command line asks for, or unset."""
SPARE = 200
"""Descriptors that a process needs besides its connections."""


def page_bytes() -> int:
    """Bytes of memory that this process has resident now."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def connections(wanted: int) -> tuple[int, str]:
    """How many connections this process may have of those wanted, and a note if they are fewer. Raises its limit as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard - SPARE)
    return most, "" if most == wanted else f"{most:,} instead of {wanted:,} (limit of {hard:,} open files)"


def clients(wanted: int) -> tuple[int, str]:
    """The same for the clients of the workload ``crowd``, whose number the command line may change."""
    asked = os.environ.get(CLIENTS)
    count, note = connections(int(asked) if asked else wanted)
    return count, note or (f"{count:,} clients, as asked" if asked and count != wanted else "")
