"""Functions that the tests of parallel iteration send to workers: a worker must be able to import them, and it can import this."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import bateau


def square(x: int) -> int:
    return x * x


def is_even(x: int) -> bool:
    return x % 2 == 0


def half_if_even(x: int) -> int | None:
    return x // 2 if x % 2 == 0 else None


def several(x: int) -> range:
    return range(x % 4)


def nothing(x: object) -> None:
    pass


def add(a: Any, b: Any) -> Any:
    return a + b


def below(limit: int, x: int) -> bool:
    return x < limit


async def square_later(x: int) -> int:
    await bateau.time.sleep(0.0001)
    return x * x


async def several_later(x: int) -> Any:
    for i in range(x % 4):
        await bateau.time.sleep(0)
        yield i


def fail_at_seven(x: int) -> int:
    if x == 7:
        raise LookupError("seven is missing")
    return x


def pid(_: object) -> int:
    return os.getpid()


def busy(seconds: float) -> float:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    return seconds


class Awkward(Exception):
    """Can be pickled, and not made again from its pickle."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def awkward(x: int) -> int:
    raise Awkward(x, x)


def lock_for_three(x: int) -> Any:
    return threading.Lock() if x == 3 else x


def die_at_five(x: int) -> int:
    if x == 5:
        print("something terrible", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def leave_at_five(x: int) -> int:
    if x == 5:
        os._exit(3)
    return x


def write_pid_and_sleep(path: str) -> None:
    """Ends only by SIGKILL."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)


def alone(path: str, x: int) -> int:
    """Fails if it is called anywhere else meanwhile."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    time.sleep(0.003)
    os.unlink(path)
    return x


def say(x: object) -> object:
    print("out", x)
    print("err", x, file=sys.stderr)
    return x


def forking_death(x: int) -> int:
    """Dies, and leaves a child behind that holds all its pipes for a while."""
    if os.fork() == 0:
        os.setpgid(0, 0)
        time.sleep(12)
        os._exit(0)
    os._exit(4)


def read_stdin(_: object) -> str:
    return sys.stdin.read()


def step(key: int, value: float, around: dict[int, float]) -> float:
    return value * 0.5 + sum(around.values()) * 0.24999 + key * 1e-3
