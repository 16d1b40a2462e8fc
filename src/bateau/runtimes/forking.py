"""After ``os.fork()`` in a program: the child must not go on with a loop that is the parent's.

The child's copy of the loop shares the parent's epoll and wake-up descriptors, so turning it would take the parent's events
away. The child is therefore outside any program from the fork on: it may start one of its own, and a parent's loop that it
comes back to ends with a clear error.
"""

from __future__ import annotations

import os
import signal
from weakref import WeakSet

from ..kernel import current
from ..kernel.current import tls
from ..kernel.host import Host

_hosts: WeakSet[Host] = WeakSet()
_installed = False


def watch(host: Host) -> None:
    """Tell ``host`` when it finds itself in a forked child (``Host.forked``)."""
    global _installed
    _hosts.add(host)
    current.forked = ""
    if not _installed and hasattr(os, "register_at_fork"):
        _installed = True
        os.register_at_fork(after_in_child=_in_child)


def _in_child() -> None:
    if not _hosts:
        return
    tls.running.task = None
    current.forked = (
        "; this process was forked from one with a program, whose loop belongs to the parent: leave with os._exit()"
    )
    try:
        signal.set_wakeup_fd(-1)  # a signal to the child is none of the parent's business
    except ValueError:
        pass  # not the main thread: there is no such fd to give up
    for host in tuple(_hosts):
        host.forked()
    _hosts.clear()


def forked_error() -> RuntimeError:
    """What comes out of a ``run`` that a forked child has come back to."""
    return RuntimeError(
        "this program was started before fork(), and its loop belongs to the parent process; "
        "in the child, leave with os._exit() or start a program of its own with bateau.run()"
    )
