"""Models: what an object does when it is used by one client at a time. ``check_linearizable`` compares a history with one of them.

A model is immutable. Its states are values that can be hashed; for each operation ``name`` there is a method ``do_name(state, op)`` that
returns what the operation gives and the state after it, or ``IMPOSSIBLE``. Write your own in the same way.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from .history import Op, frozen


class _Word:
    def __init__(self, word: str) -> None:
        self._word = word

    def __repr__(self) -> str:
        return self._word


# What an operation gives of which nothing is checked.
ANYTHING: Final = _Word("anything")
# What ``do_...`` returns where the operation can't happen in that state at all.
IMPOSSIBLE: Final = (_Word("impossible"), None)
# The key of an operation that concerns the whole object.
WHOLE: Final = _Word("whole")


@dataclass(frozen=True)
class IfSaid:
    """What an operation gives, of a client that may leave it open: an answer of None is no answer."""

    value: Any


class Model:
    """The base of models; see the module's head."""

    name: ClassVar[str] = "object"
    initial: Hashable = None

    def key(self, op: Op) -> Hashable:
        """Operations with different keys do not concern each other, and are judged apart, which is much faster. ``WHOLE``: all."""
        return WHOLE

    def apply(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        """What ``op`` gives in ``state`` and the state after it, or ``IMPOSSIBLE``."""
        method = getattr(self, f"do_{op.name}", None)
        if method is None:
            known = sorted(name.removeprefix("do_") for name in dir(self) if name.startswith("do_"))
            raise ValueError(f"a {self.name} has no operation {op.name!r}; it has {', '.join(known)}")
        judged: tuple[Any, Hashable] = method(state, op)
        return judged

    def after(self, state: Any, op: Op) -> Iterable[Hashable]:
        """The states in which ``op`` can leave the object if it takes effect in ``state``, and gives what the client says it got.

        Override this instead of ``apply`` where several are possible.
        """
        result, following = self.apply(state, op)
        if result is IMPOSSIBLE[0]:
            return ()
        return (following,) if op.status != "answered" or agrees(result, op.value) else ()


def agrees(result: Any, said: Any) -> bool:
    """Whether a client that says it got ``said`` can have been given ``result``."""
    if result is ANYTHING:
        return True
    if isinstance(result, IfSaid):
        return said is None or frozen(result.value) == frozen(said)
    return bool(frozen(result) == frozen(said))


class Register(Model):
    """One value: ``write(value)``, ``read() -> value``."""

    name = "register"

    def __init__(self, initial: Any = None) -> None:
        self.initial = frozen(initial)

    def do_write(self, state: Hashable, op: Op) -> tuple[Any, Hashable]:
        """``write(value)``; what it gives is not checked."""
        return ANYTHING, frozen(op.args[0])

    def do_read(self, state: Hashable, op: Op) -> tuple[Any, Hashable]:
        """``read() -> value``."""
        return state, state


class CASRegister(Register):
    """A register with ``cas(old, new) -> bool``: write ``new`` if it holds ``old``."""

    name = "cas-register"

    def do_cas(self, state: Hashable, op: Op) -> tuple[Any, Hashable]:
        """``cas(old, new) -> bool``."""
        old, new = op.args
        return (True, frozen(new)) if state == frozen(old) else (False, state)


class Counter(Model):
    """A number: ``add(n=1)``, which may give the new value, and ``read() -> value``."""

    name = "counter"

    def __init__(self, initial: float = 0) -> None:
        self.initial = initial

    def do_add(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        """``add(n=1)``; if it gives something, then the new value."""
        following = state + (op.args[0] if op.args else 1)
        return IfSaid(following), following

    def do_read(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        """``read() -> value``."""
        return state, state


class Queue(Model):
    """First in, first out: ``put(item)``, and ``get() -> item``, which gives ``empty`` where there is none."""

    name = "queue"
    initial = ()

    def __init__(self, *, empty: Any = None) -> None:
        self.empty = empty

    def do_put(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        """``put(item)``; what it gives is not checked."""
        return ANYTHING, (*state, frozen(op.args[0]))

    def do_get(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        """``get() -> item``."""
        return (state[0], state[1:]) if state else (self.empty, state)


class Set(Model):
    """``add(item)``, ``remove(item)``: both may give whether that changed something; ``contains(item) -> bool``; ``read() -> set``."""

    name = "set"
    initial = frozenset[Hashable]()

    def key(self, op: Op) -> Hashable:
        return frozen(op.args[0]) if op.name != "read" else WHOLE

    def do_add(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        """``add(item)``; if it gives something, then whether the item is new."""
        item = frozen(op.args[0])
        return IfSaid(item not in state), state | {item}

    def do_remove(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        """``remove(item)``; if it gives something, then whether the item was there."""
        item = frozen(op.args[0])
        return IfSaid(item in state), state - {item}

    def do_contains(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        """``contains(item) -> bool``."""
        return frozen(op.args[0]) in state, state

    def do_read(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        """``read() -> set``; a list or tuple of its items may be recorded as well."""
        said = op.value
        if isinstance(said, list | tuple):
            items: list[Any] = [*said]
            if len(items) == len(state) and frozenset(map(frozen, items)) == state:
                return items if isinstance(said, list) else tuple(items), state
        return state, state


class Map(Model):
    """Values by key: ``get(key) -> value`` (``missing`` where there is none), ``put(key, value)``, ``delete(key)``, which may give
    whether it was there, and ``cas(key, old, new) -> bool``. The keys are judged apart.
    """

    name = "map"
    initial = frozenset[tuple[Hashable, Hashable]]()

    def __init__(self, *, missing: Any = None) -> None:
        self.missing = missing

    def key(self, op: Op) -> Hashable:
        return frozen(op.args[0])

    def do_get(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        """``get(key) -> value``."""
        return dict(state).get(frozen(op.args[0]), self.missing), state

    def do_put(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        """``put(key, value)``; what it gives is not checked."""
        return ANYTHING, self._with(state, op.args[0], op.args[1])

    def do_delete(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        """``delete(key)``; if it gives something, then whether there was a value."""
        key = frozen(op.args[0])
        left = frozenset(pair for pair in state if pair[0] != key)
        return IfSaid(len(left) < len(state)), left

    def do_cas(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        """``cas(key, old, new) -> bool``; ``old`` may be ``missing``."""
        key, old, new = op.args
        if dict(state).get(frozen(key), frozen(self.missing)) != frozen(old):
            return False, state
        return True, self._with(state, key, new)

    def _with(self, state: Any, key: Any, value: Any) -> Hashable:
        changed = dict(state)
        changed[frozen(key)] = frozen(value)
        return frozenset(changed.items())


class Mutex(Model):
    """``acquire()``, ``try_acquire() -> bool``, and ``release()`` by the client that holds it."""

    name = "mutex"

    def do_acquire(self, state: Hashable, op: Op) -> tuple[Any, Hashable]:
        """``acquire()``: possible only while nobody holds it."""
        return (ANYTHING, op.client) if state is None else IMPOSSIBLE

    def do_try_acquire(self, state: Hashable, op: Op) -> tuple[Any, Hashable]:
        """``try_acquire() -> bool``."""
        return (True, op.client) if state is None else (False, state)

    def do_release(self, state: Hashable, op: Op) -> tuple[Any, Hashable]:
        """``release()``: possible only for the client that holds it."""
        return (ANYTHING, None) if state == op.client else IMPOSSIBLE
