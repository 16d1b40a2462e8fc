"""An asyncio event loop for programs that are written for asyncio: drop-in, and fast where bateau's C part is built.

    import bateau.interop.asyncio
    bateau.interop.asyncio.run(main())                                        # as asyncio.run

    with asyncio.Runner(loop_factory=bateau.interop.asyncio.new_event_loop) as runner: ...

    $ uvicorn --loop bateau.interop.asyncio:new_event_loop app:app

Everything of asyncio works on it as on its own loop; without the C part, or with ``BATEAU_PURE=1``, it *is* asyncio's own
selector loop. Programs of bateau need none of this: bateau's runtimes are asyncio loops already.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ..runtimes.native_bridge import is_simulated

__all__ = ["EventLoopPolicy", "is_native", "loop_factory", "new_event_loop", "run"]

T = TypeVar("T")

_events: Any = asyncio.events


def _loop_class() -> type[asyncio.SelectorEventLoop]:
    if not os.environ.get("BATEAU_PURE"):
        try:
            from ..runtimes.native_loop import NativeEventLoop
        except ImportError:  # no C part: see `is_native`
            pass
        else:
            return NativeEventLoop
    return asyncio.SelectorEventLoop


_Loop = _loop_class()
_is_native = _Loop is not asyncio.SelectorEventLoop


def is_native() -> bool:
    """Whether the loops made here run on bateau's C part, rather than being asyncio's own selector loop."""
    return _is_native


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop, which the caller runs and closes. It is not set as the current one.

    In a simulated world (``bateau.sim``) it is asyncio's own: a loop in C would wait for real descriptors by a real clock.
    """
    if is_simulated():
        return asyncio.SelectorEventLoop()
    return _Loop()


# The name that asyncio gives the parameter it is passed for.
loop_factory = new_event_loop


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run ``main`` to its end on a new loop and return its result, as ``asyncio.run`` does.

    ``debug``: asyncio's debug mode (None: as the environment says). Raises what ``main`` raises, and ``RuntimeError`` where a
    loop runs in this thread already. Ctrl-C cancels ``main``, and raises ``KeyboardInterrupt`` when it has ended.
    """
    if _events._get_running_loop() is not None:
        raise RuntimeError(
            "bateau.interop.asyncio.run() cannot be called from a running event loop: await the coroutine there"
        )
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)


if TYPE_CHECKING or sys.version_info < (3, 14):

    class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
        """For programs that choose their loop by ``asyncio.set_event_loop_policy``.

        Python deprecates policies from 3.14 on, and drops them in 3.16: pass ``new_event_loop`` as ``loop_factory`` instead.
        """

        def _loop_factory(self) -> asyncio.AbstractEventLoop:
            return new_event_loop()

else:

    def __getattr__(name: str) -> Any:
        """``EventLoopPolicy``, made on first use: naming its base class warns."""
        if name != "EventLoopPolicy":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if not hasattr(asyncio, "DefaultEventLoopPolicy"):
            raise AttributeError("this Python has no event loop policies; pass new_event_loop as loop_factory")

        class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
            """See above."""

            def _loop_factory(self) -> asyncio.AbstractEventLoop:
                return new_event_loop()

        globals()["EventLoopPolicy"] = EventLoopPolicy
        return EventLoopPolicy
