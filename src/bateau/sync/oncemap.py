"""OnceMap: a map whose values are computed once each, however many ask at once and whoever of them gives up.

A computation is a background task of the scope that the map was made with, not of who asked first: so no requester's
cancellation can end it. A requester only waits on the *entry* of its key. Invariant: an entry is in ``_computing`` from
its first request until its task has ended or its key was evicted; evicted entries still serve those who wait on them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, cast, overload

from ..kernel.errors import Cancelled, TaskCancelled
from ..kernel.hazard import report
from ..kernel.operation import PARKED, Operation
from ..kernel.resource import OUTSIDE, Flavour, Resource, WaitQueue
from ..kernel.scope import Scope
from .base import SyncPrimitive

if TYPE_CHECKING:
    from ..kernel.task import Task

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")


class OnceMapStatistics(NamedTuple):
    """The state of a ``OnceMap`` at one moment: keys with a value (or a kept error), keys being computed, and who waits."""

    cached: int
    computing: int
    tasks_waiting: int


class OnceMap(SyncPrimitive, Generic[K, V]):
    """``await cache.get(key)`` gives ``fn(key)``, computed once, for all who ask at once and all who ask later.

    ``fn`` is an async function; it runs in a background task of ``scope``, which must be open. A requester that is cancelled or
    times out neither ends the computation nor loses its result. An error of ``fn`` goes to all who wait at that moment, and the
    next who asks computes anew; with ``cache_errors=True`` it is kept like a value. An error that nobody waits for any more is
    reported as the hazard ``unretrieved_error``. ``del cache[key]``, ``discard`` and ``clear`` evict: who waits still gets
    the result under way, who asks later computes anew.
    """

    __slots__ = ("_cached", "_computing", "_errors", "_fn", "_scope", "cache_errors")
    kind = "once map"

    def __init__(
        self,
        scope: Scope,
        fn: Callable[[K], Awaitable[V]],
        *,
        cache_errors: bool = False,
        name: str | None = None,
        flavour: Flavour | None = None,
    ) -> None:
        super().__init__(name=name, flavour=flavour)
        if not isinstance(scope, Scope):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(
                f"scope must be an open bateau.Scope, not {type(scope).__name__}: its tasks do the computing"
            )
        if not callable(fn):
            raise TypeError(f"fn must be an async function of one key, not {type(fn).__name__}")
        self._scope = scope
        self._fn = fn
        self.cache_errors = cache_errors
        self._cached: dict[K, V] = {}
        self._errors: dict[K, BaseException] = {}
        self._computing: dict[K, _Entry] = {}

    # -- asking --------------------------------------------------------------------------------------------------------

    def get(self, key: K) -> Operation[V]:
        """Wait for the value of ``key``, which is computed if nobody has before. A cancellation point.

        Cancelled, it has no effect on the computation, which goes on. Raises what the computation raised; ``TaskCancelled`` if
        its scope was cancelled; ``ScopeError`` if its scope has ended; ``RuntimeError`` if the computation of ``key`` itself
        (or of a key it waits for) asks for it.
        """
        return _Get(self, key)

    def _entry_for(self, key: K) -> _Entry:
        """The entry of a key that is not cached; its computation is begun if it is new."""
        entry = self._computing.get(key)
        if entry is None:
            entry = _Entry(self, key)
            self._begin(entry)
            self._computing[key] = entry
        return entry

    def _begin(self, entry: _Entry) -> None:
        from _thread import get_ident

        host = self._scope._host
        if host is None or host.thread_id == get_ident():
            entry.spawn(self._scope)
            return

        def begin() -> None:
            try:
                entry.spawn(self._scope)
            except BaseException as error:
                self._finish(entry, None, error)

        host.call_threadsafe(begin)

    def _finish(self, entry: _Entry, value: Any, error: BaseException | None) -> None:
        """The computation has ended. Without an error its value is cached, unless its key was evicted meanwhile."""
        key = entry.key
        with self.mutex if self.mutex is not None else entry:
            current = self._computing.get(key) is entry
            if current:
                del self._computing[key]
                if error is None:
                    self._cached[key] = value
                elif self.cache_errors and isinstance(error, Exception) and not isinstance(error, TaskCancelled):
                    self._errors[key] = error
            told = False
            while (op := entry.queue.pop()) is not None:
                told = True
                if error is None:
                    op.fire(value)
                else:
                    op.fail(error)
        if error is not None and not told and key not in self._errors and not isinstance(error, TaskCancelled):
            code = getattr(self._fn, "__code__", None)
            site = (code.co_filename, code.co_firstlineno) if code is not None else self._scope.site
            report("unretrieved_error", f"{entry.describe()} failed, and nobody waits for it any more: {error!r}", site)

    # -- as a map ------------------------------------------------------------------------------------------------------

    @overload
    def peek(self, key: K) -> V | None: ...
    @overload
    def peek(self, key: K, default: D) -> V | D: ...
    def peek(self, key: K, default: Any = None) -> Any:
        """The value of ``key`` if there is one, else ``default``. Computes nothing, never waits."""
        return self._cached.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._cached

    def __len__(self) -> int:
        return len(self._cached)

    def __iter__(self) -> Iterator[K]:
        return iter(tuple(self._cached))

    def __setitem__(self, key: K, value: V) -> None:
        with self._transition():
            self._evict(key)
            self._cached[key] = value

    def __delitem__(self, key: K) -> None:
        with self._transition():
            if not self._evict(key):
                raise KeyError(key)

    def discard(self, key: K) -> None:
        """Evict ``key``, if it is there. Who waits for it still gets the result under way. Never suspends."""
        with self._transition():
            self._evict(key)

    def clear(self) -> None:
        """Evict every key, as ``discard`` does. Never suspends."""
        with self._transition():
            self._cached.clear()
            self._errors.clear()
            self._computing.clear()

    def _evict(self, key: K) -> bool:
        missing = self
        found = self._cached.pop(key, missing) is not missing
        found = self._errors.pop(key, missing) is not missing or found
        return self._computing.pop(key, missing) is not missing or found

    # -- seeing --------------------------------------------------------------------------------------------------------

    def statistics(self) -> OnceMapStatistics:
        """Keys cached, keys being computed, and how many tasks wait."""
        computing = tuple(self._computing.values())
        waiting = sum(len(entry.queue) for entry in computing)
        return OnceMapStatistics(len(self._cached) + len(self._errors), len(computing), waiting)

    def waiters(self) -> Iterable[Operation[Any]]:
        return [op for entry in tuple(self._computing.values()) for op in entry.queue]

    def holders(self) -> tuple[Task[Any], ...]:
        """The tasks that compute."""
        return tuple(entry.task for entry in tuple(self._computing.values()) if entry.task is not None)

    def _fill(self) -> str:
        return f" ({len(self._cached)} cached, {len(self._computing)} being computed)"


class _Entry(Resource):
    """The computation of one key: what its requesters wait on. Shares its map's mutex."""

    __slots__ = ("key", "map", "mutex", "queue", "task")
    kind = "computation"
    held_by = "task"

    def __init__(self, owner: OnceMap[Any, Any], key: Any) -> None:
        self.map = owner
        self.mutex = owner.mutex
        self.key = key
        self.queue = WaitQueue()
        self.task: Task[Any] | None = None

    def spawn(self, scope: Scope) -> None:
        """Begin. On the thread of the scope."""
        name = f"{self.map.name or 'oncemap'}[{self.key!r}]"
        self.task = scope.spawn(self.compute, name=name, background=True)

    async def compute(self) -> None:
        """The body of the computing task."""
        owner = self.map
        try:
            value = await owner._fn(self.key)
        except Cancelled as exc:
            error = TaskCancelled(f"{self.describe()} was cancelled with its scope: {exc}", exc.record)
            error.__cause__ = exc
            owner._finish(self, None, error)
            raise
        except Exception as error:
            owner._finish(self, None, error)
        except BaseException as error:  # KeyboardInterrupt and the like end the program; who waits is told all the same
            owner._finish(self, None, error)
            raise
        else:
            owner._finish(self, value, None)

    def waiters(self) -> Iterable[Operation[Any]]:
        return self.queue

    def holders(self) -> tuple[Task[Any], ...]:
        return (self.task,) if self.task is not None else ()

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        return (self.task,) if self.task is not None else OUTSIDE

    def describe(self) -> str:
        label = f"once map {self.map.name!r}" if self.map.name else f"once map at {id(self.map):#x}"
        return f"{self.kind} of {self.key!r} in {label}"

    def __enter__(self) -> None:
        """Stands for the mutex of a local map."""

    def __exit__(self, *exc_info: object) -> None:
        """Nothing to give back."""


class _Get(Operation[Any]):
    """Waiting for a value. Once it is known that the value is not cached, the resource is the key's entry."""

    __slots__ = ("key", "map")
    resource: OnceMap[Any, Any] | _Entry

    def __init__(self, owner: OnceMap[Any, Any], key: Any) -> None:
        super().__init__(owner)
        self.map = owner
        self.key = key

    def poll(self) -> bool:
        owner, key = self.map, self.key
        try:
            self.value = owner._cached[key]
            return True
        except KeyError:
            pass
        error = owner._errors.get(key)
        if error is not None:
            raise error
        entry = owner._computing.get(key)
        if entry is not None:
            self._check_ring(entry)
        return False

    def register(self) -> None:
        entry = self.map._entry_for(self.key)
        self.resource = entry
        entry.queue.add(self)

    def unregister(self) -> None:
        cast("_Entry", self.resource).queue.discard(self)

    def _check_ring(self, entry: _Entry) -> None:
        """Raise if the computation asked for waits, directly or through other keys, for the task that asks."""
        keys = [repr(self.key)]
        seen: set[int] = set()
        here: Any = entry
        while isinstance(here, _Entry) and here.task is not None and id(here) not in seen:
            seen.add(id(here))
            if here.task is self.task:
                ring = " needs ".join([*keys, keys[0]])
                raise RuntimeError(f"once map: the computation of {ring}: it would wait for itself")
            op = here.task.waiting
            here = op.resource if op is not None and op.state == PARKED else None
            if isinstance(here, _Entry):
                keys.append(repr(here.key))

    def describe(self) -> str:
        return f"get of {self.key!r} from {self.map.describe()}"
