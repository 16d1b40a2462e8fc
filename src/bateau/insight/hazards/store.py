"""Where findings are: the last thousand of this process, whoever was told of them."""

from __future__ import annotations

import sys

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


def amend(finding: Finding, evidence: str) -> None:
    """Something more is known about a finding that was made before."""
    for index, each in enumerate(tuple(recent)):
        if each is finding:
            try:
                if recent[index] is finding:
                    recent[index] = finding._replace(evidence=(*finding.evidence, evidence))
            except IndexError:  # forgotten meanwhile
                return
            return


class LogSink:
    """Sends findings to the logger ``bateau.hazards`` where the program has configured logging; warns where it has not."""

    def __init__(self) -> None:
        self._remove = add_sink(self)

    def __call__(self, finding: Finding) -> None:
        from . import by_name

        logging = sys.modules.get("logging")
        logger = logging.getLogger("bateau.hazards") if logging is not None else None
        if logger is not None and logger.hasHandlers():
            logger.warning("%s\n%s", finding, by_name(finding.name).format(finding), extra={"finding": finding})
            return
        warn(finding)

    def close(self) -> None:
        """From now on, as before."""
        self._remove()
