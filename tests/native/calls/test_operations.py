"""Every kind of operation stepped by hand, thrown into, closed, dropped and awaited twice: nothing is left over."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

import bateau
import bateau.time
from bateau import fs, net, sync
from bateau.channel import channel
from bateau.io import BufReader
from bateau.io.fd import FdWatch
from bateau.kernel import twin
from bateau.kernel.current import current_task
from bateau.net._tcp import connect_one
from support.drift import ROUNDS, Calls, Token, measure, only_native
from support.sockets import Hanging

pytestmark = only_native
native: Any = twin.native


def blocking(world: SimpleNamespace) -> dict[str, Callable[[], Any]]:
    """For each kind of operation, one that has to wait."""

    def wait_for_condition() -> Any:
        if not world.condition.locked():  # a wait that was closed by hand could not take it back
            assert world.condition.lock.try_acquire()
        return world.condition.wait()

    return {
        "YieldFields": bateau.yield_now,
        "CheckpointFields": bateau.checkpoint,
        "SleepFields": lambda: bateau.time.sleep(1000),
        "SendFields": lambda: world.full.send(world.token),
        "RecvFields": world.empty.recv,
        "LockAcquireFields": world.held.acquire,
        "SemaphoreAcquireFields": world.taken.acquire,
        "EventWaitFields": world.event.wait,
        "ConditionWaitFields": wait_for_condition,
        "JoinFields": lambda: world.asleep.join(),
        "PassageFields": lambda: world.scope.__aexit__(None, None, None),
        "StreamReadFields": lambda: world.stream.read(100),
        "StreamWriteFields": lambda: world.stuffed.write(world.data),
        "StreamReadIntoFields": lambda: world.stream.readinto(world.buffer),
        "StreamOperationFields": lambda: world.stream.recv_fds(100, 1),
        "FdOperationFields": lambda: world.watch.readable(),
        "FdsOperationFields": lambda: world.stream.ready(1),
        "AcceptFields": world.listener.accept,
        "NextConnectionFields": world.listener.__anext__,
        "ConnectOneFields": lambda: connect_one("nobody answers there", world.unanswered, net.SocketStream, True),
        "Call of a stream": lambda: world.reader.readline(),
        "DatagramFields": lambda: world.datagrams.recvfrom(),
        "Call of a file": lambda: world.file.pread(100, 0),
    }


# Every kind of operation, and what all of them have.
OPERATIONS = sorted(blocking(MagicMock()))
calls = Calls(**{name.split()[0]: "__iter__ __next__ __del__ __await__ send throw close" for name in OPERATIONS})
# As in kernel/operation.py.
DONE = 4


@contextlib.asynccontextmanager
async def world(token: Token) -> Any:
    """Things to wait for, none of which will come."""
    full, keep_receiver = channel(1)
    keep_sender, empty = channel(1)
    await full.send(token)
    made = SimpleNamespace(
        token=token, full=full, empty=empty, held=sync.Lock(), taken=sync.Semaphore(1), event=sync.Event(),
        condition=sync.Condition(),
    )  # fmt: skip
    made.stream, silent = map(net.from_socket, socket.socketpair())
    made.stuffed, deaf = map(net.from_socket, socket.socketpair())
    with contextlib.suppress(bateau.WouldBlock):
        while True:
            made.stuffed.try_write(bytes(1 << 16))
    idle = os.pipe()
    made.watch = FdWatch(idle[0])
    made.data, made.buffer = b"x" * 100, bytearray(10)
    made.reader = BufReader(made.stream)
    made.datagrams = await net.udp(("127.0.0.1", 0))
    made.listener = await net.listen_tcp("127.0.0.1", 0)
    hanging = Hanging()
    (made.unanswered,) = await net.resolve(*hanging.__enter__())
    made.file = await fs.open(__file__, "rb")
    hold = sync.Event()

    async def holder() -> None:
        async with made.held, made.taken:
            await hold.wait()

    async with bateau.scope() as scope, made.condition:
        made.scope, made.asleep = scope, scope.spawn(holder)
        for _ in range(3):
            await bateau.yield_now()
        yield made
        hold.set()
    for end in (
        full,
        keep_receiver,
        keep_sender,
        empty,
        made.stream,
        silent,
        made.stuffed,
        deaf,
        made.watch,
        made.datagrams,
        made.file,
        made.listener,
        *hanging.socks,
    ):
        end.close()
    for fd in idle:
        os.close(fd)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name: str) -> None:
    """Stepped by hand: begun and thrown into, begun and closed, dropped unawaited; awaited twice."""
    token = Token()

    async def main() -> None:
        async with world(token) as things:
            make, task = blocking(things)[name], current_task()

            def call() -> None:
                task.budget = 100
                wait = make().__await__()
                with contextlib.suppress(StopIteration):
                    assert next(wait) is not token
                with pytest.raises((KeyError, RuntimeError)):
                    wait.throw(KeyError(token))
                task.budget = 0  # others come first
                wait = make().__await__()
                assert next(wait) is None
                with pytest.raises(KeyError):
                    wait.throw(KeyError(token))
                task.budget = 100
                op = make()
                with pytest.raises(TypeError, match="just-started"):
                    op.__await__().send(token)
                wait = iter(op) if hasattr(op, "__iter__") else op.__await__()
                with contextlib.suppress(StopIteration):
                    wait.send(None)
                wait.close()
                for again in (lambda: op.__await__().send(None), lambda: wait.send(None), lambda: next(wait)):
                    with contextlib.suppress(RuntimeError, StopIteration):
                        again()
                with contextlib.suppress(RuntimeError, TypeError, KeyError):
                    wait.throw(KeyError)
                wait.close()
                unused = make()
                if hasattr(unused, "state"):
                    unused.state = DONE  # else it says that nobody awaited it
                else:
                    unused.close()

            measure(call, token, ROUNDS // 5)
            wait_again = things.condition.lock
            if not wait_again.locked():
                wait_again.try_acquire()

    bateau.run(main, runtime="native")
