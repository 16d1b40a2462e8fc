"""bateau: structured, observable, testable async for Python, on any runtime.

Names are loaded when first used, so that ``import bateau`` stays cheap and imports no runtime.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .kernel.twin import native
from .runtimes import detect

detect.install()  # adopted use must work however a program reaches us

if TYPE_CHECKING:
    from . import channel as channel
    from . import fs as fs
    from . import insight as insight
    from . import io as io
    from . import net as net
    from . import signal as signal
    from . import ssl as ssl
    from . import subprocess as subprocess
    from . import sync as sync
    from . import thread as thread
    from . import time as time
    from .blocking import block_on as block_on
    from .combine import join as join
    from .combine import race as race
    from .interface import Interface as Interface
    from .iter import AsyncIter as AsyncIter
    from .iter import generator as generator
    from .iter import iter as iter  # noqa: A004  # its public name
    from .iter.par import ParIter as ParIter
    from .iter.par.offload import offload as offload
    from .kernel.boxed import boxed as boxed
    from .kernel.cancellation import CancelScope as CancelScope
    from .kernel.current import current_task as current_task
    from .kernel.errors import BateauError as BateauError
    from .kernel.errors import Broken as Broken
    from .kernel.errors import Busy as Busy
    from .kernel.errors import Cancelled as Cancelled
    from .kernel.errors import CancelRecord as CancelRecord
    from .kernel.errors import Closed as Closed
    from .kernel.errors import Deadlock as Deadlock
    from .kernel.errors import EndOfStream as EndOfStream
    from .kernel.errors import HazardWarning as HazardWarning
    from .kernel.errors import NestedRun as NestedRun
    from .kernel.errors import NotInRuntime as NotInRuntime
    from .kernel.errors import ScopeError as ScopeError
    from .kernel.errors import Stopped as Stopped
    from .kernel.errors import TaskCancelled as TaskCancelled
    from .kernel.errors import Unsupported as Unsupported
    from .kernel.errors import WouldBlock as WouldBlock
    from .kernel.errors import WrongRuntime as WrongRuntime
    from .kernel.flow import checkpoint as checkpoint
    from .kernel.flow import now as now
    from .kernel.flow import stopping as stopping
    from .kernel.flow import yield_now as yield_now
    from .kernel.policy import AllMustSucceed as AllMustSucceed
    from .kernel.policy import Collect as Collect
    from .kernel.policy import FirstSuccess as FirstSuccess
    from .kernel.policy import Policy as Policy
    from .kernel.policy import Supervise as Supervise
    from .kernel.runvar import RunVar as RunVar
    from .kernel.scope import Scope as Scope
    from .kernel.starting import Starting as Starting
    from .kernel.task import Outcome as Outcome
    from .kernel.task import Task as Task
    from .kernel.token import Token as Token
    from .kernel.token import token as token
    from .running import main as main
    from .running import run as run
    from .runtimes.runner import Runner as Runner
    from .scopes import cleanup as cleanup
    from .scopes import deadline as deadline
    from .scopes import fail_after as fail_after
    from .scopes import move_on_after as move_on_after
    from .scopes import scope as scope
    from .scopes import shield as shield
    from .scopes import timeout as timeout
    from .selecting import Select as Select
    from .selecting import select as select
    from .serving import WorkersFailed as WorkersFailed
    from .serving import serve as serve

__version__ = "0.1.0"

# Where each public name lives. An empty attribute means the module itself.
_PUBLIC: dict[str, tuple[str, str]] = {
    **{name: (f".{name}", "") for name in ("channel", "fs", "io", "net", "signal", "ssl", "subprocess", "sync")},
    **{name: (f".{name}", "") for name in ("thread", "time", "testing", "insight")},
    **{name: (".kernel.errors", name) for name in ("BateauError", "Broken", "Busy", "Cancelled", "CancelRecord")},
    **{name: (".kernel.errors", name) for name in ("Closed", "Deadlock", "EndOfStream", "HazardWarning", "NestedRun")},
    **{name: (".kernel.errors", name) for name in ("NotInRuntime", "ScopeError", "Stopped", "TaskCancelled")},
    **{name: (".kernel.errors", name) for name in ("Unsupported", "WouldBlock", "WrongRuntime")},
    **{name: (".kernel.flow", name) for name in ("checkpoint", "now", "stopping", "yield_now")},
    **{name: (".kernel.policy", name) for name in ("AllMustSucceed", "Collect", "FirstSuccess", "Policy", "Supervise")},
    **{name: (".kernel.task", name) for name in ("Outcome", "Task")},
    **{name: (".kernel.token", name) for name in ("Token", "token")},
    **{name: (".combine", name) for name in ("join", "race")},
    **{name: (".selecting", name) for name in ("Select", "select")},
    **{name: (".running", name) for name in ("main", "run")},
    **{name: (".serving", name) for name in ("WorkersFailed", "serve")},
    **{name: (".scopes", name) for name in ("cleanup", "deadline", "fail_after", "move_on_after", "scope")},
    **{name: (".scopes", name) for name in ("shield", "timeout")},
    "AsyncIter": (".iter", "AsyncIter"),
    "CancelScope": (".kernel.cancellation", "CancelScope"),
    "Interface": (".interface", "Interface"),
    "ParIter": (".iter.par", "ParIter"),
    "RunVar": (".kernel.runvar", "RunVar"),
    "Runner": (".runtimes.runner", "Runner"),
    "Scope": (".scopes", "Scope"),  # not from the kernel: its spawn_blocking needs what scopes.py sets
    "Starting": (".kernel.starting", "Starting"),
    "block_on": (".blocking", "block_on"),
    "boxed": (".kernel.boxed", "boxed"),
    "generator": (".iter", "generator"),
    "iter": (".iter", "iter"),
    "offload": (".iter.par.offload", "offload"),
    "current_task": (".kernel.current", "current_task"),
}

__all__ = ["__version__", *sorted(_PUBLIC)]  # noqa: PLE0604  # pyright: ignore[reportUnsupportedDunderAll]  # one list, not two


def __getattr__(name: str) -> Any:
    found = _PUBLIC.get(name)
    if found is None:
        raise AttributeError(f"module 'bateau' has no attribute {name!r}")
    module = import_module(found[0], __name__)
    value = getattr(module, found[1]) if found[1] else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


if native is not None:
    # A module with a `__getattr__` is one that CPython's interpreter never makes quick; see `_native/facade.c`.
    sys.modules[__name__].__class__ = native.Facade
