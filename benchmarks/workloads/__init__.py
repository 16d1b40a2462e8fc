"""The workloads by name. One file each, every family's code in it side by side; its head says where semantics differ."""

from __future__ import annotations

from importlib import import_module

from ..model import Workload

NAMES = (
    "spawn_join",
    "switch",
    "channel",
    "event",
    "lock",
    "timeout",
    "timers",
    "cancel",
    "memory",
    "startup",
    "files",
    "offload",
    "tcp_echo",
    "udp_echo",
    "connections",
    "crowd",
    "hosted",
    "http",
)
"""In the order in which they are run and shown."""


def load(name: str) -> Workload:
    """Import one workload; raises ValueError for an unknown name."""
    if name not in NAMES:
        raise ValueError(f"there is no workload {name!r}; choose from {', '.join(NAMES)}")
    workload = import_module(f".{name}", __name__).WORKLOAD
    assert isinstance(workload, Workload)
    return workload
