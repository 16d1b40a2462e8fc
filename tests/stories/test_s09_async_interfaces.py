"""S09: an abstract async method that is overridden by a sync one is refused when the class is made; one library, four
implementations, on any runtime."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

import bateau
from bateau import fs, io, net, sync, thread
from support.entries import Entry

if TYPE_CHECKING:
    from somewhere import Unknowable  # a name that exists for type checkers only

T = TypeVar("T")


# -- one library, four implementations -------------------------------------------------------------------------------------


class Store(bateau.Interface):
    """Pairs of words and bytes, wherever they are kept."""

    @abstractmethod
    async def put(self, key: str, value: bytes) -> None: ...

    @abstractmethod
    async def get(self, key: str) -> bytes:
        """Raises KeyError."""
        raise NotImplementedError

    @abstractmethod
    def words(self) -> AsyncIterator[str]: ...

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[None]: ...

    @abstractmethod
    def describe(self) -> str: ...


class Locking(Store):
    """What three of them share."""

    def __init__(self) -> None:
        self.lock = sync.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self.lock:
            yield


class InMemory(Locking):
    def __init__(self) -> None:
        super().__init__()
        self.pairs: dict[str, bytes] = {}

    def put(self, key: str, value: bytes) -> Awaitable[None]:  # no `async def`, but awaitable as declared
        self.pairs[key] = value
        return bateau.checkpoint()

    async def get(self, key: str) -> bytes:
        await bateau.checkpoint()
        return self.pairs[key]

    async def words(self) -> AsyncIterator[str]:
        for key in sorted(self.pairs):
            yield key

    def describe(self) -> str:
        return "a dict"


class InFolder(Locking):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = fs.Path(folder)

    async def put(self, key: str, value: bytes) -> None:
        await (self.folder / key).write_bytes(value)

    async def get(self, key: str) -> bytes:
        try:
            return await (self.folder / key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None

    async def words(self) -> AsyncIterator[str]:
        for name in sorted(await fs.listdir(str(self.folder))):
            yield name

    def describe(self) -> str:
        return "a folder"


class InDatabase(Locking):
    """Over a library that only blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.database = sqlite3.connect(":memory:", check_same_thread=False)
        self.database.execute("create table pairs (key primary key, value)")

    def ask(self, *query: Any) -> list[Any]:
        return self.database.execute(*query).fetchall()

    async def put(self, key: str, value: bytes) -> None:
        await thread.run(self.ask, "insert or replace into pairs values (?, ?)", (key, value))

    async def get(self, key: str) -> bytes:
        for (value,) in await thread.run(self.ask, "select value from pairs where key = ?", (key,)):
            return value
        raise KeyError(key)

    async def words(self) -> AsyncIterator[str]:
        for (key,) in await thread.run(self.ask, "select key from pairs order by key"):
            yield key

    def describe(self) -> str:
        return "a database"


class Remote(Locking):
    """Over the network: another store's pairs, by lines."""

    def __init__(self, stream: io.AsyncStream) -> None:
        super().__init__()
        self.stream = io.BufStream(stream)

    async def ask(self, *words: str) -> list[bytes]:
        await self.stream.write(" ".join(words).encode() + b"\n")
        await self.stream.flush()
        return (await self.stream.readline()).split()

    async def put(self, key: str, value: bytes) -> None:
        await self.ask("put", key, value.hex())

    async def get(self, key: str) -> bytes:
        found = await self.ask("get", key)
        if not found:
            raise KeyError(key)
        return bytes.fromhex(found[0].decode())

    async def words(self) -> AsyncIterator[str]:
        for key in await self.ask("words"):
            yield key.decode()

    def describe(self) -> str:
        return "a server"


async def answer(store: Store, stream: io.AsyncStream) -> None:
    """The other end of `Remote`."""
    async with io.BufStream(stream) as lines:
        async for line in lines:
            verb, *rest = line.decode().split()
            reply = ""
            if verb == "put":
                await store.put(rest[0], bytes.fromhex(rest[1]))
            elif verb == "get":
                try:
                    reply = (await store.get(rest[0])).hex()
                except KeyError:
                    reply = ""
            else:
                reply = " ".join([key async for key in store.words()])
            await lines.write(reply.encode() + b"\n")
            await lines.flush()


async def library(store: Store) -> list[str]:
    """What a library does with any of them."""
    log = [store.describe()]
    async with store.transaction():
        for number, word in enumerate(["ash", "birch", "cedar"]):
            await store.put(word, bytes([number + 1]))
    log.extend([f"{key}={(await store.get(key))!r}" async for key in store.words()])
    with pytest.raises(KeyError):
        await store.get("oak")
    return log


def test_s09_one_library_four_implementations(entry: Entry, tmp_path: Path) -> None:
    async def main() -> list[list[str]]:
        database = InDatabase()
        logs: list[list[str]] = []
        try:
            for store in (InMemory(), InFolder(tmp_path), database):
                logs.append(await library(store))
            async with await net.listen_tcp("127.0.0.1", 0) as listener, bateau.scope() as scope:

                async def serve() -> None:
                    await answer(InMemory(), await listener.accept())

                scope.spawn(serve)
                async with await net.connect_tcp("127.0.0.1", listener.port) as stream:
                    logs.append(await library(Remote(stream)))
        finally:
            database.database.close()
        return logs

    logs = entry.run(main)
    assert [log[0] for log in logs] == ["a dict", "a folder", "a database", "a server"]
    assert all(log[1:] == ["ash=b'\\x01'", "birch=b'\\x02'", "cedar=b'\\x03'"] for log in logs)


# -- what is refused ---------------------------------------------------------------------------------------------------------


class Source(bateau.Interface):
    """One method of each form."""

    @abstractmethod
    async def fetch(self) -> bytes: ...

    @abstractmethod
    def wait(self) -> Awaitable[int]: ...

    @abstractmethod
    def items(self) -> AsyncIterator[int]: ...

    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[int]: ...

    @abstractmethod
    def size(self) -> int: ...

    @abstractmethod
    def unknown(self) -> Any: ...

    @abstractmethod
    def parts(self): ...  # without an annotation

    async def extra(self) -> None:
        """Not abstract: it may be overridden, and then in kind."""


def refused(name: str, method: Any, base: type = Source) -> str:
    with pytest.raises(TypeError) as caught:
        type("Impl", (base,), {name: method})
    text = str(caught.value)
    inner = getattr(method, "fget", None) or getattr(method, "__func__", method)
    line = f"{__file__}:{inner.__code__.co_firstlineno}"
    assert text.startswith(f"Impl.{name} ({line}) can't override {base.__qualname__}.{name} ({__file__}:")
    return text


@pytest.mark.parametrize("name", ["fetch", "wait", "extra"])
def test_s09_a_sync_override_of_an_async_method(name: str) -> None:
    def plain(self: Any) -> bytes:
        return b""

    def unannotated(self):
        return b""

    def generator(self: Any) -> Iterator[bytes]:
        yield b""

    async def iterates(self: Any) -> AsyncIterator[bytes]:
        yield b""

    for method in (plain, unannotated):
        text = refused(name, method)
        assert "callers use it with `await`, but the override is a plain `def`" in text
        assert "make it `async def`, or annotate what it returns: `-> Awaitable[...]`" in text
    assert "the override is a sync generator" in refused(name, generator)
    text = refused(name, iterates)
    assert "the override is an async generator" in text
    assert "declare it as `def ... -> AsyncIterator[...]`, without `async`" in text


def test_s09_the_other_forms() -> None:
    def a_list(self: Any) -> list[int]:
        return []

    async def coroutine(self: Any) -> AsyncIterator[int]:
        raise NotImplementedError

    async def number(self: Any) -> int:
        return 1

    assert "make it an async generator" in refused("items", a_list)
    assert "callers use it with `async for`, but the override is `async def`" in refused("items", coroutine)
    assert "contextlib.asynccontextmanager" in refused("opened", a_list)
    for name in ("size", "parts"):
        text = refused(name, number)
        assert "callers don't await it, but the override is `async def`" in text
        assert "make it a plain `def`, or the declaration async" in text


def test_s09_all_mistakes_are_told_at_once_and_inherited_ones_too() -> None:
    class Mixin:
        def fetch(self) -> bytes:
            return b""

        def wait(self) -> int:
            return 1

    with pytest.raises(TypeError) as caught:

        class Impl(Mixin, Source):
            pass

    first, second = str(caught.value).splitlines()
    assert "Impl.fetch" in first
    assert "Impl.wait" in second

    class Narrower(Source):
        @abstractmethod
        async def fetch(self) -> bytes: ...

    def plain(self: Any) -> bytes:
        return b""

    with pytest.raises(TypeError, match="can't override Source.fetch"):
        type("Impl", (Narrower,), {"fetch": plain})


def test_s09_what_is_not_a_function_of_the_class_alone_is_seen_through() -> None:
    class Factory(bateau.Interface):
        @staticmethod
        @abstractmethod
        async def make() -> int: ...

        @classmethod
        @abstractmethod
        async def build(cls) -> int: ...

        @property
        @abstractmethod
        def ready(self) -> Awaitable[int]: ...

    def plain(*args: Any) -> int:
        return 1

    def awaitable(*args: Any) -> Awaitable[int]:
        raise NotImplementedError

    for name, wrap in (("make", staticmethod), ("build", classmethod), ("ready", property)):
        assert "is a plain `def`" in refused(name, wrap(plain), Factory)
        type("Impl", (Factory,), {name: wrap(awaitable)})


# -- what is allowed ---------------------------------------------------------------------------------------------------------


def logged(fn: Callable[..., T]) -> Callable[..., T]:
    """A decorator that knows nothing of async."""

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> T:
        return fn(*args, **kwargs)

    return call


def test_s09_every_way_of_keeping_the_word() -> None:
    class Other(bateau.Interface):
        @abstractmethod
        def lock(self) -> sync.Lock: ...

        @abstractmethod
        def either(self) -> bytes | Awaitable[bytes]: ...

        @abstractmethod
        def some(self) -> int | None: ...

    class Impl(Source, Other):
        @logged
        async def fetch(self) -> bytes:
            return b""

        def wait(self) -> bateau.Task[int]:
            raise NotImplementedError

        async def items(self) -> AsyncIterator[int]:
            yield 1

        @asynccontextmanager
        async def opened(self) -> AsyncIterator[int]:
            yield 1

        def size(self) -> int:
            return 1

        async def unknown(self) -> int:
            return 1

        def parts(self):
            return []

        def extra(self) -> Unknowable:
            raise NotImplementedError

        def lock(self) -> sync.Lock:
            return sync.Lock()

        async def either(self) -> bytes:
            return b""

        def some(self) -> None: ...

    Impl()

    class Again(Impl):
        async def wait(self) -> int:  # type: ignore[override]
            return 1

        def items(self) -> Items:
            return Items()

    Again()


class Items:
    """An async iterator of one's own."""

    def __aiter__(self) -> Items:
        return self

    async def __anext__(self) -> int:
        raise StopAsyncIteration


def test_s09_what_is_missing_is_still_abcs_own_error() -> None:
    class Half(Source):
        async def fetch(self) -> bytes:
            return b""

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]
