"""How a reported hazard stands in a recording: as a note, written and read here alone so that both agree.

``hazard deadlock: tasks 'a', 'b' wait for each other ... [app.py:12]``
"""

from __future__ import annotations

import re

from ...kernel.hazard import Finding

# A note has 1 KiB; the line to blame, at its end, must not be what falls off.
_LONGEST = 1000
_WORDS = re.compile(r"hazard (\w+): (.*) \[(.*):(\d+)\]", re.DOTALL)


def to_words(finding: Finding) -> str:
    """The note about a finding: at most 1,000 bytes of UTF-8, with the line to blame whatever else has to be cut."""
    end = f" [{finding.filename}:{finding.lineno}]"
    text = f"hazard {finding.name}: {finding.message}"
    room = _LONGEST - len(end.encode("utf-8", "replace"))
    data = text.encode("utf-8", "replace")
    if len(data) > room:
        text = data[: max(room - 3, 0)].decode("utf-8", "ignore") + "..."
    return text + end


def from_words(words: str) -> tuple[str, str, str, int] | None:
    """The name, the sentence, the file and the line in such a note; None for any other note."""
    found = _WORDS.fullmatch(words)
    return (found[1], found[2], found[3], int(found[4])) if found is not None else None
