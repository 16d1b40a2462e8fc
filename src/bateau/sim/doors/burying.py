"""What is left of a foreign event loop whose process has died, or whose world has ended: put aside without a word.

Such a loop meets ``Killed`` where it polls. It would then cancel its tasks and complain about each; but after a power cut nobody
cleans up, and nobody complains. So its coroutines go to the world's graveyard, which closes them when nothing can matter any more.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..thread import Killed

if TYPE_CHECKING:
    from ..world import World


def lay_to_rest(world: World) -> None:
    """On the loop's own thread, when it meets ``Killed``."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is not None:
        loop = asyncio.events._get_running_loop()
        if loop is not None:
            rest_asyncio(loop, world)
    trio: Any = sys.modules.get("trio._core._run")
    if trio is not None:
        runner = getattr(trio.GLOBAL_RUN_CONTEXT, "runner", None)
        if runner is not None:
            _rest_trio(runner, world)


def rest_asyncio(loop: Any, world: World) -> None:
    """Put aside what belongs to an asyncio loop, which is not to go on. Nothing, if it is closed."""
    if loop.is_closed():
        return
    asyncio: Any = sys.modules["asyncio"]
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False
        world.graveyard.append(task.get_coro())
    for transport in tuple(getattr(loop, "_transports", {}).values()):
        # Which is what tells a closed one from one to be warned about, also where TLS is on top of it.
        transport._closing = True
        transport._sock = None
        above = getattr(getattr(transport, "_protocol", None), "_app_transport", None)
        if above is not None:
            above._closed = True
    loop._closed = True


def _rest_trio(runner: Any, world: World) -> None:
    for task in tuple(runner.tasks):
        world.graveyard.append(task.coro)
        for nursery in task.child_nurseries:
            nursery._children.clear()  # which it would find to be lost
    # The generator that turns the tasks stands in the frame of ``trio.run``, or of what took its place. It is ended here, since it
    # would complain about being dropped.
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "unrolled_run":
        found: Any = frame.f_locals.get("gen")
        if getattr(found, "__name__", "") == "unrolled_run" and not found.gi_running:
            try:
                found.throw(Killed())
            except BaseException:  # its own, about having been thrown into
                return
        frame = frame.f_back
