"""Variables scoped to one run: like ``ContextVar``, but shared by every task of a program and gone when it ends."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, overload

from .current import current_host

T = TypeVar("T")
D = TypeVar("D")

# "No value", where None is a value like any other.
_MISSING: Any = object()


class RunVarToken(Generic[T]):
    """What ``RunVar.set`` gives: the state before it, for ``reset``. Serves once, for its own variable and run."""

    __slots__ = ("_previous", "_values", "used", "var")

    def __init__(self, var: RunVar[T], values: dict[Any, Any], previous: Any) -> None:
        self.var = var
        self.used = False
        self._values = values
        self._previous = previous

    @property
    def old_value(self) -> T | None:
        """The value before the ``set``, or None if there was none."""
        return None if self._previous is _MISSING else self._previous

    def __repr__(self) -> str:
        return f"<RunVarToken of {self.var!r}{', used' if self.used else ''}>"


class RunVar(Generic[T]):
    """A variable with one value per run: a module's way to keep per-program state without a global that outlives it.

    Make it at module level. Two programs, one after the other or in two threads, never see each other's value. All of its
    methods raise ``NotInRuntime`` outside a task. A run lasts as long as its host: a program started by ``bateau.run``, all
    the calls of one ``Runner``, or a foreign loop in which bateau code is awaited.
    """

    __slots__ = ("_default", "name")

    def __init__(self, name: str, *, default: T = _MISSING) -> None:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f"a RunVar's name must be a str, not {type(name).__name__}")
        self.name = name
        self._default = default

    @overload
    def get(self, /) -> T: ...
    @overload
    def get(self, default: D, /) -> T | D: ...
    def get(self, default: Any = _MISSING, /) -> Any:
        """This run's value; else ``default``; else the variable's own default; else raises ``LookupError``."""
        value = current_host().run_vars.get(self, _MISSING)
        if value is not _MISSING:
            return value
        if default is not _MISSING:
            return default
        if self._default is not _MISSING:
            return self._default
        raise LookupError(f"{self!r} has no value in this run; set it first, or give it a default")

    def set(self, value: T, /) -> RunVarToken[T]:
        """Set this run's value, for all its tasks. Returns a token for ``reset``."""
        values = current_host().run_vars
        token: RunVarToken[T] = RunVarToken(self, values, values.get(self, _MISSING))
        values[self] = value
        return token

    def reset(self, token: RunVarToken[T], /) -> None:
        """Back to what it was before the ``set`` that gave ``token``.

        Raises ``ValueError`` for a token of another variable or run, ``RuntimeError`` for one that was used before.
        """
        if token.var is not self:
            raise ValueError(f"{token!r} was not made by {self!r}")
        values = current_host().run_vars
        if token._values is not values:
            raise ValueError(f"{token!r} was made in another run")
        if token.used:
            raise RuntimeError(f"{token!r} has been used before; each set gives a token for one reset")
        token.used = True
        if token._previous is _MISSING:
            values.pop(self, None)
        else:
            values[self] = token._previous

    def __repr__(self) -> str:
        return f"<RunVar {self.name!r}>"
