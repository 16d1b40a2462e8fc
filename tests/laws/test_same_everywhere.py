"""Law 20: the same program has the same outcome on every runtime, and an async function the same as its sync counterpart.

Programs are made up by a generator that uses only forms whose outcome no schedule can change. What the outcome must be is
worked out beside it by plain recursion, without any of bateau.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import bateau
from bateau import channel, fs, net, sync
from support.entries import Entry

# A form is ("name", argument, ...); an outcome is made of numbers, strings and tuples.
Form = tuple[Any, ...]
LEAVES = ("value", "nap", "fail")
BRANCHES = (
    "spawned joined limited nested raced timed_out in_time expired cancelled shielded cleaned locked piped stopped caught collected kept"
).split()


def make(rng: random.Random, depth: int) -> Form:
    kind = rng.choice(BRANCHES if depth else LEAVES)
    number = rng.randrange(10)
    if kind in LEAVES:
        return kind, number
    return kind, number, *(make(rng, depth - 1) for _ in range(rng.randint(1, 3)))


class Failed(Exception):
    """What `fail` raises."""


# -- what must come out ------------------------------------------------------------------------------------------------------


def expected(form: Form) -> Any:
    """The outcome, or `Failed`."""
    kind, number, *rest = form
    if kind in ("value", "nap"):
        return number
    if kind == "fail":
        raise Failed(number)
    if kind == "expired":
        return "TimeoutError"
    if kind == "cancelled":
        return "cancelled", f"reason {number}"
    if kind == "timed_out":
        return "moved on"
    if kind == "locked":
        return number * len(rest)
    if kind == "piped":
        return sum(range(number)) * len(rest)
    if kind == "stopped":
        return "stopped", len(rest)
    if kind == "caught":
        return tuple(outcome(one) for one in rest)
    if kind == "collected":
        return tuple(outcome(one) for one in rest)
    if kind == "raced":
        return outcome(rest[0]) if not fails(rest[0]) else ("failed", "all")
    # The others give what their parts give; if any part fails, that is what comes out. Which of several is a matter of
    # time, so only that it failed is told.
    if any(fails(one) for one in rest):
        raise Failed("a part")
    return (kind, *(expected(one) for one in rest))


def outcome(form: Form) -> Any:
    try:
        return expected(form)
    except Failed:
        return "failed"


def fails(form: Form) -> bool:
    return outcome(form) == "failed"


# -- the same in bateau ------------------------------------------------------------------------------------------------------


async def play(form: Form) -> Any:
    kind, number, *rest = form
    return await PLAYERS[kind](number, rest)


async def settled(form: Form) -> Any:
    """The outcome as a value."""
    try:
        return await play(form)
    except Failed:
        return "failed"
    except ExceptionGroup as group:
        matching, others = group.split(Failed)
        assert matching is not None
        assert others is None, others
        return "failed"


PLAYERS: dict[str, Callable[[int, list[Form]], Awaitable[Any]]] = {}


def player(fn: Callable[[int, list[Form]], Awaitable[Any]]) -> Any:
    PLAYERS[fn.__name__] = fn
    return fn


@player
async def value(number: int, rest: list[Form]) -> Any:
    return number


@player
async def nap(number: int, rest: list[Form]) -> Any:
    if number < 3:
        await bateau.time.sleep(number * 0.0003)
    else:
        for _ in range(number):
            await bateau.yield_now()
    return number


@player
async def fail(number: int, rest: list[Form]) -> Any:
    if number % 2:
        await bateau.yield_now()
    raise Failed(number)


@player
async def spawned(number: int, rest: list[Form]) -> Any:
    async with bateau.scope() as scope:
        tasks = [scope.spawn(play, one) for one in rest]
    return ("spawned", *(task.outcome().unwrap() for task in tasks))


@player
async def joined(number: int, rest: list[Form]) -> Any:
    return ("joined", *(await bateau.join(*(play(one) for one in rest))))


@player
async def limited(number: int, rest: list[Form]) -> Any:
    async with bateau.scope(limit=1) as scope:
        tasks = [scope.spawn(play, one) for one in rest]
    return ("limited", *(task.outcome().unwrap() for task in tasks))


@player
async def nested(number: int, rest: list[Form]) -> Any:
    """Scopes in scopes, each with a background child that never ends by itself."""
    values: list[Any] = []
    for one in rest:
        async with bateau.scope() as scope:
            scope.spawn(bateau.time.sleep_forever, background=True)
            async with bateau.scope() as inner:
                inner.spawn(bateau.time.sleep_forever, background=True)
                values.append(await play(one))
    return ("nested", *values)


@player
async def raced(number: int, rest: list[Form]) -> Any:
    """Only the first can end."""
    if fails(rest[0]):
        return "failed", "all"
    return (await bateau.race(play(rest[0]), bateau.time.sleep_forever(), bateau.time.sleep_forever())).value


@player
async def timed_out(number: int, rest: list[Form]) -> Any:
    with bateau.move_on_after(0.001 * number) as limit:
        await bateau.time.sleep_forever()
    assert limit.cancelled_caught
    return "moved on"


@player
async def in_time(number: int, rest: list[Form]) -> Any:
    async with bateau.timeout(60):
        return ("in_time", *[await play(one) for one in rest])


@player
async def expired(number: int, rest: list[Form]) -> Any:
    with pytest.raises(TimeoutError):
        async with bateau.timeout(0.001 * number):
            async with bateau.scope() as scope:
                for _ in rest:
                    scope.spawn(bateau.time.sleep_forever)
    return "TimeoutError"


@player
async def cancelled(number: int, rest: list[Form]) -> Any:
    begun = sync.Event()

    async def endless() -> None:
        begun.set()
        await bateau.time.sleep_forever()

    async with bateau.scope() as scope:
        task = scope.spawn(endless)
        await begun.wait()
        task.cancel(f"reason {number}")
        try:
            await task
        except bateau.TaskCancelled as error:
            return "cancelled", getattr(error.record, "reason", None)
    return "not cancelled"


@player
async def shielded(number: int, rest: list[Form]) -> Any:
    values: list[Any] = []
    with bateau.move_on_after(None) as limit:
        limit.cancel()
        with bateau.shield():
            values.extend([await play(one) for one in rest])
        await bateau.checkpoint()
        values.append("went on")
    return ("shielded", *values)


@player
async def cleaned(number: int, rest: list[Form]) -> Any:
    values: list[Any] = []
    async with bateau.scope() as scope:
        scope.cancel()
        try:
            await bateau.time.sleep_forever()
        finally:
            async with bateau.cleanup(60):
                values.extend([await settled(one) for one in rest])
    if "failed" in values and any(fails(one) for one in rest):
        raise Failed("a part")
    return ("cleaned", *values)


@player
async def locked(number: int, rest: list[Form]) -> Any:
    lock, count = sync.Lock(), 0

    async def add() -> None:
        nonlocal count
        for _ in range(number):
            async with lock:
                before = count
                await bateau.yield_now()
                count = before + 1

    await bateau.join(*(add() for _ in rest))
    return count


@player
async def piped(number: int, rest: list[Form]) -> Any:
    tx, rx = channel.channel[int](1 + number % 3)
    total = 0

    async def produce(tx: channel.Sender[int]) -> None:
        with tx:
            for item in range(number):
                await tx.send(item)

    async def consume(rx: channel.Receiver[int]) -> None:
        nonlocal total
        with rx:
            async for item in rx:
                total += item

    async with bateau.scope() as scope:
        for _ in rest:
            scope.spawn(produce, tx.clone())
        tx.close()
        for _ in range(2):
            scope.spawn(consume, rx.clone())
        rx.close()
    return total


@player
async def stopped(number: int, rest: list[Form]) -> Any:
    ended = 0

    async def polite() -> None:
        nonlocal ended
        while not bateau.stopping():
            await bateau.time.sleep(0.0005)
        ended += 1

    async with bateau.scope() as scope:
        for _ in rest:
            scope.spawn(polite)
        await bateau.yield_now()
        scope.stop(grace=60)
    return "stopped", ended


@player
async def caught(number: int, rest: list[Form]) -> Any:
    return tuple([await settled(one) for one in rest])


@player
async def collected(number: int, rest: list[Form]) -> Any:
    async with bateau.scope(policy=bateau.Collect()) as scope:
        tasks = [scope.spawn(settled, one) for one in rest]
    return tuple(task.outcome().unwrap() for task in tasks)


@player
async def kept(number: int, rest: list[Form]) -> Any:
    """What a cancelled waiter leaves behind is whole."""
    lock = sync.Lock()
    await lock.acquire()
    with bateau.move_on_after(0):
        await lock.acquire()
    lock.release()
    async with lock:
        return ("kept", *[await play(one) for one in rest])


def test_every_form_is_played() -> None:
    assert sorted(PLAYERS) == sorted([*LEAVES, *BRANCHES])


@pytest.mark.law(20)
@pytest.mark.parametrize("seed", range(12))
def test_a_program_has_one_outcome(entry: Entry, seed: int) -> None:
    rng = random.Random(seed)
    forms = [make(rng, 1 + n % 3) for n in range(12)]
    for form in forms:

        async def main(form: Form = form) -> Any:
            async with bateau.timeout(30):
                return await settled(form)

        assert entry.run(main) == outcome(form), form


# -- sync and async ----------------------------------------------------------------------------------------------------------


def ended(error: BaseException) -> tuple[Any, ...]:
    """How a call failed: the built-in type that a handler names, and what it can ask of it."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ in ("builtins", "subprocess", "socket"))
    if isinstance(error, subprocess.CalledProcessError):
        return kind, error.returncode, error.output
    if isinstance(error, OSError):
        return kind, error.errno, error.filename
    return (kind,)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


PORT = unused_port()
FAILING = ["sh", "-c", "echo out; exit 3"]

# Each pair: called with a folder that has `file` (3 lines) and `folder` (empty) in it.
PAIRS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Awaitable[Any]]]] = {
    "sleep, negative": (lambda at: time.sleep(-1), lambda at: bateau.time.sleep(-1)),
    "sleep, no number": (lambda at: time.sleep("1"), lambda at: bateau.time.sleep("1")),  # type: ignore[arg-type]
    "listdir": (lambda at: sorted(os.listdir(at)), lambda at: awaited_sorted(fs.listdir(at))),
    "listdir, missing": (lambda at: os.listdir(at / "none"), lambda at: fs.listdir(at / "none")),
    "listdir, a file": (lambda at: os.listdir(at / "file"), lambda at: fs.listdir(at / "file")),
    "stat": (lambda at: os.stat(at / "file").st_size, lambda at: awaited_size(fs.stat(at / "file"))),
    "stat, missing": (lambda at: os.stat(at / "none"), lambda at: fs.stat(at / "none")),
    "mkdir, exists": (lambda at: os.mkdir(at / "folder"), lambda at: fs.mkdir(at / "folder")),
    "rmdir, a file": (lambda at: os.rmdir(at / "file"), lambda at: fs.rmdir(at / "file")),
    "unlink, missing": (lambda at: os.unlink(at / "none"), lambda at: fs.unlink(at / "none")),
    "rename, missing": (lambda at: os.rename(at / "none", at / "x"), lambda at: fs.rename(at / "none", at / "x")),
    "copyfile onto itself": (lambda at: shutil.copyfile(at / "file", at / "file"),
                             lambda at: fs.copyfile(at / "file", at / "file")),
    "rmtree, missing": (lambda at: shutil.rmtree(at / "none"), lambda at: fs.rmtree(at / "none")),
    "read_bytes": (lambda at: (at / "file").read_bytes(), lambda at: fs.Path(at / "file").read_bytes()),
    "read_text, a folder": (lambda at: (at / "folder").read_text(), lambda at: fs.Path(at / "folder").read_text()),
    "read_text, undecodable": (lambda at: (at / "raw").read_text("utf-8"), lambda at: fs.Path(at / "raw").read_text("utf-8")),
    "resolve, missing": (lambda at: (at / "none").resolve(strict=True), lambda at: fs.Path(at / "none").resolve(strict=True)),
    "open, missing": (lambda at: plainly(at / "none", "r"), lambda at: reading(at / "none", "r")),
    "open, unknown mode": (lambda at: plainly(at / "file", "y"), lambda at: reading(at / "file", "y")),
    "open, x on a file": (lambda at: plainly(at / "file", "x"), lambda at: reading(at / "file", "x")),
    "open and read": (lambda at: plainly(at / "file", "r"), lambda at: reading(at / "file", "r")),
    "run, exit code": (lambda at: subprocess.check_output(FAILING), lambda at: bateau.subprocess.check_output(FAILING)),
    "run, output": (lambda at: subprocess.check_output(["echo", "x"]), lambda at: bateau.subprocess.check_output(["echo", "x"])),
    "run, missing": (lambda at: subprocess.run(["/no/such/program"]), lambda at: bateau.subprocess.run(["/no/such/program"])),
    "connect, refused": (lambda at: socket.create_connection(("127.0.0.1", PORT)), lambda at: net.connect_tcp("127.0.0.1", PORT)),
    "mkdtemp, missing": (lambda at: tempfile.mkdtemp(dir=at / "none", prefix="x"),
                         lambda at: fs.mkdtemp(dir=str(at / "none"), prefix="x")),
}  # fmt: skip


async def awaited_sorted(names: Awaitable[list[str]]) -> list[str]:
    return sorted(await names)


async def awaited_size(found: Awaitable[os.stat_result]) -> int:
    return (await found).st_size


def plainly(path: Path, mode: str) -> Any:
    with open(path, mode) as file:
        return file.read()


async def reading(path: Path, mode: str) -> Any:
    async with fs.open(path, mode) as file:
        return await file.read()


@pytest.mark.law(20)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("what", PAIRS)
@pytest.mark.real_os("it compares with real files and processes")
def test_made_async_it_gives_the_same_value_and_the_same_error(entry: Entry, what: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one\ntwo\nthree\n")
    (tmp_path / "raw").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "folder").mkdir()
    plain, made_async = PAIRS[what]

    async def main() -> Any:
        return await made_async(tmp_path)

    results: list[Any] = []
    for call in (lambda: plain(tmp_path), lambda: entry.run(main)):
        try:
            results.append(("value", call()))
        except Exception as error:
            results.append(("error", *ended(error)))
    if "mkdtemp" in what:  # the name in it is random
        results = [result[:3] for result in results]
    assert results[0] == results[1]
