"""Which kernel runs: pure Python, or its C twin ``bateau._native`` where that was built.

Pure Python defines the behaviour. The twin gives the hot classes their *fields* (a C struct instead of ``__slots__``, under the same
names) and takes the place of single *methods*, those under ``@twinned``; it acts for what is common and calls the pure
method, which it keeps, for everything else: other hosts, scheduling policies, guards, cancellation.

Chosen once, when the kernel is imported. ``BATEAU_PURE=1`` keeps the twin out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

C = TypeVar("C", bound=type)

_WANTED = 18  # the version of what is agreed between these files and those in C; see ``kernel.c``
_NOT_BUILT = "the C extension was not built (a C compiler is needed when bateau is installed)"
# What setup.py wrote beside it, where it tried.
_FAILURE = f"_native.{sys.implementation.cache_tag}.failed.txt"


def _why_not_built() -> str:
    try:
        with open(os.path.join(os.path.dirname(os.path.dirname(__file__)), _FAILURE), encoding="utf-8") as file:
            why = " ".join(file.read().split())
    except OSError:
        return _NOT_BUILT
    return f"building the C extension failed: {why} (installing bateau again with `pip install -v` shows what the compiler said)"


def _load() -> tuple[Any, str]:
    """The extension module or None, and why not."""
    if os.environ.get("BATEAU_PURE") == "1":
        return None, "BATEAU_PURE=1 is set"
    try:
        module: Any = import_module("bateau._native")
    except ModuleNotFoundError:
        return None, _why_not_built()
    except ImportError as error:
        return None, f"the C extension can't be loaded ({error})"
    if not hasattr(module, "claim"):  # a folder of sources without a build imports as an empty namespace package
        return None, _why_not_built()
    if module.VERSION != _WANTED:
        return None, "the C extension was built from other sources than these; build it again"
    try:
        module.claim()
    except RuntimeError as error:
        return None, str(error)
    return module, ""


native, why_pure = _load()


def about() -> str:
    """One line for a person: which kernel this is, and why."""
    return "native (C)" if native is not None else f"pure Python: {why_pure}"


if TYPE_CHECKING or native is None:
    # Nothing to inherit: the fields are the ``__slots__`` of the classes themselves.
    # ruff: noqa: D101  # each class below is only a name for no fields
    class _Nothing:
        __slots__ = ()

    class RunningFields(_Nothing):
        __slots__ = ()

    class NodeFields(_Nothing):
        __slots__ = ()

    class CancellableFields(_Nothing):
        __slots__ = ()

    class ScopeFields(_Nothing):
        __slots__ = ()

    class TaskFields(_Nothing):
        __slots__ = ()

    class OperationFields(_Nothing):
        __slots__ = ()

    class YieldFields(_Nothing):
        __slots__ = ()

    class CheckpointFields(_Nothing):
        __slots__ = ()

    class EngineFields(_Nothing):
        __slots__ = ()

    class PrimitiveFields(_Nothing):
        __slots__ = ()

    class QueueStateFields(_Nothing):
        __slots__ = ()

    class EndFields(_Nothing):
        __slots__ = ()

    class SenderFields(_Nothing):
        __slots__ = ()

    class ReceiverFields(_Nothing):
        __slots__ = ()

    class CancelScopeFields(_Nothing):
        __slots__ = ()

    class SleepFields(_Nothing):
        __slots__ = ()

    class DrainFields(_Nothing):
        __slots__ = ()

    class PassageFields(_Nothing):
        __slots__ = ()

    class JoinFields(_Nothing):
        __slots__ = ()

    class SendFields(_Nothing):
        __slots__ = ()

    class RecvFields(_Nothing):
        __slots__ = ()

    class SyncFields(_Nothing):
        __slots__ = ()

    class PlaceQueueFields(_Nothing):
        __slots__ = ()

    class PlacedFields(_Nothing):
        __slots__ = ()

    class EventFields(_Nothing):
        __slots__ = ()

    class EventWaitFields(_Nothing):
        __slots__ = ()

    class LockFields(_Nothing):
        __slots__ = ()

    class LockAcquireFields(_Nothing):
        __slots__ = ()

    class SemaphoreFields(_Nothing):
        __slots__ = ()

    class SemaphoreAcquireFields(_Nothing):
        __slots__ = ()

    class ConditionFields(_Nothing):
        __slots__ = ()

    class ConditionWaitFields(_Nothing):
        __slots__ = ()

    class SideFields(_Nothing):
        __slots__ = ()

    class FdWatchFields(_Nothing):
        __slots__ = ()

    class FdOperationFields(_Nothing):
        __slots__ = ()

    class FdsOperationFields(_Nothing):
        __slots__ = ()

    class SocketWatchFields(_Nothing):
        __slots__ = ()

    class ListenerFields(_Nothing):
        __slots__ = ()

    class AcceptFields(_Nothing):
        __slots__ = ()

    class NextConnectionFields(_Nothing):
        __slots__ = ()

    class ConnectOneFields(_Nothing):
        __slots__ = ()

    class ReactorFields(_Nothing):
        __slots__ = ()

    class SocketOwnerFields(_Nothing):
        __slots__ = ()

    class UdpSocketFields(_Nothing):
        __slots__ = ()

    class DatagramFields(_Nothing):
        __slots__ = ()

    class SocketStreamFields(_Nothing):
        __slots__ = ()

    class StreamOperationFields(_Nothing):
        __slots__ = ()

    class StreamReadFields(_Nothing):
        __slots__ = ()

    class StreamReadIntoFields(_Nothing):
        __slots__ = ()

    class StreamWriteFields(_Nothing):
        __slots__ = ()

    class SlotFields(_Nothing):
        __slots__ = ()

    class BufReaderFields(_Nothing):
        __slots__ = ()

    class BufWriterFields(_Nothing):
        __slots__ = ()

    class AsyncFileFields(_Nothing):
        __slots__ = ()

    class BinaryFileFields(_Nothing):
        __slots__ = ()

    class NowFileFields(_Nothing):
        __slots__ = ()

    class WorldFields(_Nothing):
        __slots__ = ()

    class ClockFields(_Nothing):
        __slots__ = ()

    # What ``children`` of a node is: the nodes below it, in the order in which they came.
    Children = dict[Any, None]
else:
    Children = native.Children
    RunningFields = native.RunningFields
    NodeFields = native.NodeFields
    CancellableFields = native.CancellableFields
    ScopeFields = native.ScopeFields
    TaskFields = native.TaskFields
    OperationFields = native.OperationFields
    YieldFields = native.YieldFields
    CheckpointFields = native.CheckpointFields
    EngineFields = native.EngineFields
    PrimitiveFields = native.PrimitiveFields
    QueueStateFields = native.QueueStateFields
    EndFields = native.EndFields
    SenderFields = native.SenderFields
    ReceiverFields = native.ReceiverFields
    CancelScopeFields = native.CancelScopeFields
    SleepFields = native.SleepFields
    DrainFields = native.DrainFields
    PassageFields = native.PassageFields
    JoinFields = native.JoinFields
    SendFields = native.SendFields
    RecvFields = native.RecvFields
    SyncFields = native.SyncFields
    PlaceQueueFields = native.PlaceQueueFields
    PlacedFields = native.PlacedFields
    EventFields = native.EventFields
    EventWaitFields = native.EventWaitFields
    LockFields = native.LockFields
    LockAcquireFields = native.LockAcquireFields
    SemaphoreFields = native.SemaphoreFields
    SemaphoreAcquireFields = native.SemaphoreAcquireFields
    ConditionFields = native.ConditionFields
    ConditionWaitFields = native.ConditionWaitFields
    SideFields = native.SideFields
    FdWatchFields = native.FdWatchFields
    FdOperationFields = native.FdOperationFields
    FdsOperationFields = native.FdsOperationFields
    SocketWatchFields = native.SocketWatchFields
    ListenerFields = native.ListenerFields
    AcceptFields = native.AcceptFields
    NextConnectionFields = native.NextConnectionFields
    ConnectOneFields = native.ConnectOneFields
    ReactorFields = native.ReactorFields
    SocketOwnerFields = native.SocketOwnerFields
    UdpSocketFields = native.UdpSocketFields
    DatagramFields = native.DatagramFields
    SocketStreamFields = native.SocketStreamFields
    StreamOperationFields = native.StreamOperationFields
    StreamReadFields = native.StreamReadFields
    StreamReadIntoFields = native.StreamReadIntoFields
    StreamWriteFields = native.StreamWriteFields
    SlotFields = native.SlotFields
    BufReaderFields = native.BufReaderFields
    BufWriterFields = native.BufWriterFields
    AsyncFileFields = native.AsyncFileFields
    BinaryFileFields = native.BinaryFileFields
    NowFileFields = native.NowFileFields
    WorldFields = native.WorldFields
    ClockFields = native.ClockFields


# The pure functions that the twin has taken the place of, by their names (``Scope.spawn``, ``sleep``): who follows a program's steps
# knows what those do.
replaced: dict[str, Any] = {}


def slots(*names: str) -> tuple[str, ...]:
    """``names``, or nothing where the twin has the fields."""
    return names if native is None else ()


def twinned(*names: str, final: bool = False, known_as: str | None = None) -> Callable[[C], C]:
    """Decorate a class whose methods ``names`` the twin has as well: its C base's show through, and it keeps the pure ones.

    ``final``: the class is that of a hot operation, and the twin derives one from it for those that it makes itself, whose
    objects cost next to nothing. ``known_as``: its name there, if others have the same name here.
    """

    def decorate(cls: C) -> C:
        if native is not None:
            for name in names:
                replaced[f"{cls.__name__}.{name}"] = cls.__dict__[name]
                native.keep(f"{known_as or cls.__name__}.{name}", cls.__dict__[name])
                delattr(cls, name)
                native.own(cls, name)
            native.know(known_as or cls.__name__, native.finish(cls) if final else cls)
        return cls

    return decorate


def keep(**functions: Any) -> None:
    """Give the twin functions that it calls where it does not know better."""
    if native is not None:
        for name, function in functions.items():
            replaced[name] = function
            native.keep(name, function)
