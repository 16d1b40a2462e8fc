"""Byte streams on any runtime: the interfaces, buffers around any stream, and what can be done with one.

The interfaces are loaded at once, because everything that streams builds on them; the rest when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .abc import DEFAULT_SIZE as DEFAULT_SIZE
from .abc import READ as READ
from .abc import WRITE as WRITE
from .abc import AsyncBufRead as AsyncBufRead
from .abc import AsyncBufWrite as AsyncBufWrite
from .abc import AsyncRead as AsyncRead
from .abc import AsyncResource as AsyncResource
from .abc import AsyncStream as AsyncStream
from .abc import AsyncWrite as AsyncWrite
from .abc import LimitExceeded as LimitExceeded

if TYPE_CHECKING:
    from .buffered import BufReader as BufReader
    from .buffered import BufStream as BufStream
    from .buffered import BufWriter as BufWriter
    from .copying import copy as copy
    from .copying import copy_bidirectional as copy_bidirectional
    from .halves import ReadHalf as ReadHalf
    from .halves import WriteHalf as WriteHalf
    from .halves import split as split
    from .memory import DuplexStream as DuplexStream
    from .memory import duplex as duplex
    from .stdio import print as print  # noqa: A004  # Python's own name, as everywhere
    from .stdio import stderr as stderr
    from .stdio import stdin as stdin
    from .stdio import stdout as stdout
    from .text import TextReader as TextReader
    from .text import TextWriter as TextWriter
    from .tracing import TracedStream as TracedStream
    from .tracing import TraceEvent as TraceEvent
    from .tracing import traced as traced

# Where each name that is loaded on first use lives.
_LATER: dict[str, str] = {
    **dict.fromkeys(("BufReader", "BufStream", "BufWriter"), "buffered"),
    **dict.fromkeys(("copy", "copy_bidirectional"), "copying"),
    **dict.fromkeys(("DuplexStream", "duplex"), "memory"),
    **dict.fromkeys(("ReadHalf", "WriteHalf", "split"), "halves"),
    **dict.fromkeys(("print", "stderr", "stdin", "stdout"), "stdio"),
    **dict.fromkeys(("TextReader", "TextWriter"), "text"),
    **dict.fromkeys(("TraceEvent", "TracedStream", "traced"), "tracing"),
}

__all__ = [
    "READ",
    "WRITE",
    "DEFAULT_SIZE",
    "AsyncResource",
    "AsyncRead",
    "AsyncWrite",
    "AsyncStream",
    "AsyncBufRead",
    "AsyncBufWrite",
    "LimitExceeded",
    "BufReader",
    "BufStream",
    "BufWriter",
    "copy",
    "copy_bidirectional",
    "DuplexStream",
    "duplex",
    "ReadHalf",
    "WriteHalf",
    "split",
    "print",
    "stderr",
    "stdin",
    "stdout",
    "TextReader",
    "TextWriter",
    "TraceEvent",
    "TracedStream",
    "traced",
]


def __getattr__(name: str) -> Any:
    found = _LATER.get(name)
    if found is None:
        raise AttributeError(f"module 'bateau.io' has no attribute {name!r}")
    value = getattr(import_module(f".{found}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
