"""Raising and lowering the shield of a node that has been entered: for libraries whose scopes allow that (anyio, trio).

Bateau's own scopes are shielded from their beginning to their end, or not at all.
"""

from __future__ import annotations

from .cancellation import Cancellable, CancelNode, _spread


def set_shield(node: Cancellable, value: bool) -> None:
    """Shield ``node`` from the cancellations outside it, or let them in. Not a cancellation point.

    Raised over a cancellation that has reached the inside already: what is not cancelled by itself in there is as if it had not
    been, from its next wait on. Lowered: what waits outside is delivered at once. On the host's thread only.
    """
    if node.shielded == value:
        return
    node.shielded = value
    parent = node.parent
    if parent is None or node not in (parent.children or {}):
        return  # not entered yet, or left
    if value:
        if node.record is None and node.effective is not None:
            _lift(node)
    elif node.effective is None and parent.effective is not None:
        _spread(node, parent.effective)


def _lift(top: CancelNode) -> None:
    """Take back what ``top`` and its unshielded subtree have from above; what is cancelled by itself stays so."""
    todo = [top]
    for node in todo:
        node.effective = None
        for child in node.children or ():
            if child.shielded:
                continue
            if child.record is None:
                todo.append(child)
            else:
                _hand_down(child)


def _hand_down(top: CancelNode) -> None:
    """``top`` is cancelled by itself: its unshielded subtree is so by its record, and no longer by that of an outer node."""
    record = top.record
    todo = [top]
    for node in todo:
        node.effective = record
        todo.extend(child for child in node.children or () if not child.shielded and child.record is None)
