"""Who waits on what, for a test that did not end: bateau's tasks, and those of asyncio and trio beside them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from ..kernel.host import Host

if TYPE_CHECKING:
    from ..insight import model
    from ..insight.model import Snapshot


# The kind of what the runner itself waits for: a fixture for its tests to end, the main task for one of them.
RUNNERS: Final = "event of the tests' runner"


def who_waits(host: Host) -> str:
    """What every task on ``host`` waits for, a line or more for each: what a dump of this process says of them."""
    from ..insight.collect import LiveReader
    from ..insight.explain import explain_waits
    from ..insight.model import Want

    snapshot = LiveReader(remember=0).read(Want(threads=False, tables=False))
    homes = {id(host), id(host.domain), id(loop_of(host))}
    idle = {resource.id for resource in snapshot.resources if resource.kind == RUNNERS}
    chosen = [
        task.id
        for task in snapshot.tasks
        if task.runtime in homes
        and not (task.waits is not None and task.waits.resource in idle)
        and not (task.library != "bateau" and _is_ours_inside(snapshot, task))
    ]
    return "\n".join(f"  {line}" for line in explain_waits(snapshot, chosen).splitlines())


def _is_ours_inside(snapshot: Snapshot, task: model.Task) -> bool:
    """Whether it is a helper of bateau's in another library: its outermost function is ours."""
    stack = snapshot.stack(task.stack)
    return bool(stack) and stack[0].whose == "bateau"


def loop_of(host: Host) -> Any:
    """The asyncio loop that ``host`` rides on or is, or None."""
    aio = getattr(host, "aio", None)
    return getattr(host, "loop", None) if aio is None else aio.loop


def asyncio_tasks(host: Host) -> list[Any]:
    """The tasks that foreign code made on the host's asyncio loop, and that have not ended."""
    asyncio = sys.modules.get("asyncio")
    loop = loop_of(host)
    if asyncio is None or loop is None:
        return []
    found = [task for task in asyncio.all_tasks(loop) if isinstance(task, asyncio.Task)]
    # Children of our scopes are asyncio's tasks as well, where asyncio drives.
    return [task for task in found if not _is_ours(task)]


def _is_ours(native: Any) -> bool:
    ours: Any = getattr(native, "_bateau", None)
    return ours is not None and (ours.scope is not None or ours.background)
