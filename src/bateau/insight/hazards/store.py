"""Where findings are: the last thousand of this process, whoever was told of them."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

from ...kernel.hazard import Finding, add_sink, recent, warn


def findings(name: str | None = None) -> list[Finding]:
    """The last findings of this process (a thousand at most), oldest first; of one hazard, if ``name`` is given.

    From any thread; not a cancellation point. Raises ``ValueError`` for a name that no hazard has.
    """
    if name is not None:
        from . import by_name

        by_name(name)
    return [each for each in tuple(recent) if name is None or each.name == name]


def forget() -> None:
    """Forget all findings so far."""
    recent.clear()


def amend(finding: Finding, *evidence: str) -> Finding:
    """A finding that was made before is still true now, and perhaps something more is known. Returns what it has become."""
    new = finding._replace(evidence=(*finding.evidence, *evidence), last=time.time())
    for index, each in enumerate(tuple(recent)):
        if each is finding:
            with suppress(IndexError):  # forgotten meanwhile
                if recent[index] is finding:
                    recent[index] = new
            break
    return new


class LogSink:
    """Sends findings to the logger ``bateau.hazards`` where the program has configured logging; warns where it has not."""

    def __init__(self) -> None:
        self._remove = add_sink(self)

    def __call__(self, finding: Finding) -> None:
        from . import by_name

        logging = sys.modules.get("logging")
        logger = logging.getLogger("bateau.hazards") if logging is not None else None
        if logger is not None and logger.hasHandlers():
            logger.warning("%s: %s", finding.name, by_name(finding.name).format(finding), extra={"finding": finding})
            return
        warn(finding)

    def close(self) -> None:
        """From now on, as before."""
        self._remove()
