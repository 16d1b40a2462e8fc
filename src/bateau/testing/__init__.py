"""Tools for those who test what they built on bateau.

``runtimes``, ``virtual_time`` and ``simulate`` say how a test runs; the pytest plugin and ``AsyncTestCase`` (for ``unittest``) do it.
``conformance`` and ``streams`` are batteries for those who write a runtime or a stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .marks import runtimes as runtimes
from .marks import simulate as simulate
from .marks import virtual_time as virtual_time

if TYPE_CHECKING:
    from .unittest import AsyncTestCase as AsyncTestCase

__all__ = ["AsyncTestCase", "runtimes", "simulate", "virtual_time"]


def __getattr__(name: str) -> Any:
    if name == "AsyncTestCase":
        from .unittest import AsyncTestCase

        return AsyncTestCase
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
