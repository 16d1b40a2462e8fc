"""What a hazard is: a name, a meaning, a remedy, and a check of what a look at a loop has shown."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from ...kernel.hazard import Finding
from .settings import is_muted, limit

if TYPE_CHECKING:
    from ..watch_look import Look, Seen


class Found(NamedTuple):
    """A finding, and what it is about: while that stays, it is not told again."""

    key: Hashable
    finding: Finding


class Hazard:
    """One hazard. Subclasses give the texts and, where nobody reports it by himself, ``check``.

    ``threshold`` (in ``unit``) is the default one: ``insight.thresholds(name=...)`` changes it for a block, ``watch(name=...)`` for the
    process. None: there is nothing to set. ``deep``: checked only by ``watch(deep=True)``, since it costs the program something.
    """

    name: str
    title: str
    remedy: str
    threshold: ClassVar[float | None] = None
    unit: ClassVar[str] = "seconds"
    deep: ClassVar[bool] = False

    def check(self, look: Look) -> Iterable[Found]:
        """What this look at a loop shows of it. Called on the watcher's thread, while the loop goes on: what it reads may change."""
        return ()

    def limit(self, seen: Seen | None) -> float:
        """The threshold in force for that task."""
        assert self.threshold is not None
        return limit(self.name, self.threshold, seen.context if seen is not None else None)

    def found(
        self,
        key: Hashable,
        seen: Seen | None,
        message: str,
        site: tuple[str, int] | None = None,
        *,
        sites: tuple[tuple[str, str, int], ...] = (),
        evidence: Iterable[str] = (),
    ) -> Iterable[Found]:
        """The finding about ``seen``, at ``site`` or else at the line where it waits; nothing where it is muted there."""
        if seen is not None and is_muted(self.name, seen.context):
            return
        if site is None:
            assert seen is not None
            site = seen.site[:2]
        if seen is not None and seen.spawn_site is not None:
            sites = (("spawned", *seen.spawn_site), *sites)
        now = time.time()
        yield Found(
            (self.name, key),
            Finding(
                self.name,
                message,
                *site,
                task=seen.name if seen is not None else "",
                sites=sites,
                evidence=tuple(evidence),
                remedy=self.remedy,
                first=now,
                last=now,
            ),
        )

    def summary(self, finding: Finding) -> str:
        """One line."""
        return f"{self.title}: {finding.message} ({finding.filename}:{finding.lineno})"

    def format(self, finding: Finding) -> str:
        """Everything that a finding says, for a person: what, where, why it is believed, what to do, where to read on."""
        lines = [self.title, f"  {finding.message}", f"  at {finding.filename}:{finding.lineno}"]
        lines += [f"  {what} at {filename}:{lineno}" for what, filename, lineno in finding.sites]
        lines += [f"    {each}" for each in finding.evidence]
        lines += [f"  what to do: {finding.remedy or self.remedy}", f"  more: {finding.chapter}"]
        return "\n".join(lines)
