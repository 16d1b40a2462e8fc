"""How the tasks of a snapshot are told apart in words: by name; where that is not enough, by runtime and id.

One loop's names are mostly unique. Those of several are not (each has its `main`), nor are trio's, which are the functions'.
"""

from __future__ import annotations

from collections import Counter
from operator import attrgetter

from .model import Snapshot, Task


class Names:
    """The names of one snapshot's tasks."""

    def __init__(self, snapshot: Snapshot) -> None:
        counts = Counter(map(attrgetter("name"), snapshot.tasks))
        # Names that several have; and those that several of one runtime have.
        self._shared = {name for name, number in counts.items() if number > 1}
        pairs = Counter((task.name, task.runtime) for task in snapshot.tasks if task.name in self._shared)
        self._twins = {pair for pair, number in pairs.items() if number > 1}
        self._labels = _labels(snapshot)

    @property
    def several(self) -> bool:
        """Whether there are tasks of more than one runtime."""
        return bool(self._labels)

    def runtime(self, task: Task) -> str:
        """Which runtime a task is of, where there are several: ``native``; ``trio, T-2`` where the name is not enough. Else ""."""
        return self._labels.get(task.runtime, "")

    def short(self, task: Task) -> str:
        """A task among others: ``'a'``, and what tells it from one of the same name."""
        if task.name not in self._shared:
            return repr(task.name)
        twin = (task.name, task.runtime) in self._twins
        more = id_of(task) if twin else self.runtime(task)
        return f"{task.name!r} ({more})" if more else repr(task.name)

    def full(self, task: Task) -> str:
        """A task where it is told of: with its runtime, where there are several."""
        parts = [self.runtime(task)] if self._labels else []
        if (task.name, task.runtime) in self._twins:
            parts.append(id_of(task))
        told = ", ".join(part for part in parts if part)
        return f"{task.name!r} ({told})" if told else repr(task.name)


def id_of(task: Task) -> str:
    """A task's id as people see it, and as ``bateau dump --task`` takes it: ``#12``; of another library's, which has none, its address."""
    return f"#{task.id}" if task.id >= 0 else f"{-task.id:#x}"


def _labels(snapshot: Snapshot) -> dict[int | None, str]:
    """What to call each runtime that has tasks; nothing where there is one at most."""
    used = set(map(attrgetter("runtime"), snapshot.tasks)) - {None}
    if len(used) < 2:
        return {}
    runtimes = [runtime for runtime in snapshot.runtimes if runtime.id in used]
    names = Counter(runtime.name for runtime in runtimes)
    threads = {thread.id: thread.name for thread in snapshot.threads}
    owners = {thread.runtime: thread.name for thread in snapshot.threads if thread.runtime is not None}
    found: dict[int | None, str] = {}
    for runtime in runtimes:
        thread = threads.get(runtime.thread or 0) or owners.get(runtime.id)
        found[runtime.id] = runtime.name if names[runtime.name] == 1 or not thread else f"{runtime.name}, {thread}"
    return found
