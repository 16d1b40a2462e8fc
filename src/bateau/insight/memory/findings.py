"""The hazards that a process has reported, read from where its kernel keeps the last thousand."""

from __future__ import annotations

from typing import Any

from ...kernel.hazard import KEPT
from ..ages import aged, alike
from ..model import Finding, make
from .draft import Draft
from .errors import Fault

# Characters of one text: an explanation, not a novel.
_LONGEST = 4096
_MOST_EVIDENCE = 100


def findings(draft: Draft, taken_at: float) -> tuple[Finding, ...]:
    """The findings of a process that has bateau's kernel, those alike once, oldest first; none, and perhaps a gap, for one that has not."""
    module = draft.modules.get("bateau.kernel.hazard")
    if module is None:
        return ()
    found: list[Finding] = []
    try:
        recent = draft.python.module_dict(module)["recent"]
        addresses = draft.objects.deque_items(recent, KEPT)
    except (Fault, KeyError) as error:
        draft.gap(f"the hazards that were reported could not be read: {error}")
        return ()
    for address in addresses:
        try:
            found.append(_finding(draft, address, taken_at))
        except (Fault, ValueError):  # forgotten while it was read
            draft.gap("a hazard that was reported could not be read")
    return alike(found)


def _finding(draft: Draft, address: int, taken_at: float) -> Finding:
    """One ``kernel.hazard.Finding``: a tuple, in the order of its fields."""
    objects = draft.objects
    name, message, file, line, task, _, evidence, remedy, *times = objects.tuple_items(address, 16)
    ext: dict[str, Any] = {
        "task": objects.string(task, 256),
        "evidence": [objects.string(each, _LONGEST) for each in objects.tuple_items(evidence, _MOST_EVIDENCE)],
        "remedy": objects.string(remedy, _LONGEST),
    }
    fields: dict[str, Any] = {
        "hazard": objects.string(name, 256),
        "message": objects.string(message, _LONGEST),
        "site": draft.place(objects.string(file), objects.integer(line), ""),
    }
    if ext := {key: value for key, value in ext.items() if value}:
        fields["ext"] = ext
    if taken_at and len(times) == 2:
        fields.update(aged(objects.real(times[0]), objects.real(times[1]), taken_at))
    return make(Finding, fields)
