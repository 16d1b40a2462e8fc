"""The other end: ask the agent of a running process."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from .errors import InsightError, ReadError
from .protocol import MOST_ANSWER, PROTOCOL, Decoder, find_socket, pack, parse

if TYPE_CHECKING:
    from .model import Snapshot, Want

# Seconds for which an agent that answers others is waited for.
MOST_PATIENCE = 60.0
# Seconds after which an agent that has not even greeted is asked about elsewhere.
MOMENT = 0.5


class NoAgent(ReadError):
    """The process has no agent, or it does not answer."""


class Client:
    """A connection to an agent; a ``Reader``. ``hello``: what it said of itself. Use from one thread; close it, or use ``with``.

    Every method raises ``NoAgent`` if the agent does not answer in ``timeout`` seconds (a C function may hold the interpreter), and
    ``InsightError`` with its words if it refuses. An agent that rests after a large snapshot, as a newcomer's greeting shows, is given
    longer.
    """

    def __init__(
        self,
        connection: socket.socket,
        token: str | None,
        timeout: float,
        *,
        patient: bool = True,
        is_held: Callable[[], bool] | None = None,
    ) -> None:
        self._socket = connection
        self._token = token
        # A greeting is answered at once by an agent that can answer at all.
        self._patient = False
        # Asked once, when there was no greeting for a moment: whether none will come for a while.
        self._is_held = is_held
        self._timeout = timeout
        self._number = 0
        self._decoder = Decoder(MOST_ANSWER)
        connection.settimeout(min(timeout, MOMENT) if is_held is not None else timeout)
        try:
            self.hello: dict[str, Any] = self._ask("hello", protocol=PROTOCOL, **({"token": token} if token else {}))
        except BaseException:
            connection.close()
            raise
        self._patient = patient
        self._is_held = None
        connection.settimeout(timeout)

    def read(self, want: Want | None = None) -> Snapshot:
        """A snapshot of the program."""
        from .schema import from_data

        return from_data(self._ask("snapshot", want=_wanted(want)))

    def json(self, want: Want | None = None) -> str:
        """A snapshot as the agent wrote it, as JSON."""
        return str(self.json_bytes(want), "utf-8")

    def json_bytes(self, want: Want | None = None) -> memoryview:
        """``json`` as it came, of which nothing is copied: for who hands it on."""
        body = self._exchange("snapshot", {"want": _wanted(want)})
        prefix = f'{{"id":{self._number},"ok":true,"result":'.encode()
        if body.startswith(prefix):
            return memoryview(body)[len(prefix) : -1]
        return memoryview(json.dumps(self._result_of(parse(body))).encode())

    def text(self, want: Want | None = None) -> str:
        """A snapshot in words, told by the agent: nothing large is sent."""
        return cast("str", self._ask("text", want=_wanted(want)))

    def ping(self) -> None:
        """Return if the agent answers."""
        self._ask("ping")

    def cancel(self, task: int, reason: str = "cancelled by hand") -> None:
        """Cancel a task, by its id in a snapshot. Returns when its loop has done so (the task may take longer to end)."""
        self._ask("cancel", task=task, reason=reason)

    def stop(self, scope: int, grace: float | None = None, reason: str = "stopped by hand") -> None:
        """Ask a scope to stop; after ``grace`` seconds it is cancelled (None: never)."""
        self._ask("stop", scope=scope, grace=grace, reason=reason)

    def wake(self, task: int) -> None:
        """Wake a task that waits in an operation of bateau's: it looks again."""
        self._ask("wake", task=task)

    def count(self) -> None:
        """Have the tasks' counters kept (``Task.stats``, see ``counting``) until this connection ends; a microsecond per step."""
        self._ask("count")

    def subscribe(self, every: float, want: Want | None = None) -> Iterator[Snapshot]:
        """Snapshots at an interval in seconds (0.1 or more; the agent takes fewer where they are costly). Nothing else can be asked on
        this connection meanwhile; closing the iterator ends the subscription with it.
        """
        from .schema import from_data

        self._ask("subscribe", every=every, want=_wanted(want))
        number = self._number
        try:
            while True:
                message = parse(self._receive())
                if message.get("push") and message.get("id") == number:
                    yield from_data(message["result"])
        finally:
            self.close()

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- messages --------------------------------------------------------------------------------------------------------

    def _ask(self, do: str, **arguments: Any) -> Any:
        return self._result_of(parse(self._exchange(do, arguments)))

    def _result_of(self, message: dict[str, Any]) -> Any:
        if message.get("ok") is not True:
            raise InsightError(str(message.get("error", "the agent refused, and did not say why")))
        return message.get("result")

    def _exchange(self, do: str, arguments: dict[str, Any]) -> bytearray:
        self._number += 1
        try:
            self._socket.sendall(pack({"id": self._number, "do": do, **arguments}))
        except OSError as error:
            # It may have said why before it hung up.
            try:
                return self._receive()
            except NoAgent:
                raise NoAgent(f"the agent has gone: {error}") from error
        return self._receive()

    def _receive(self) -> bytearray:
        header = self._exactly(4)
        length = int.from_bytes(header, "big")
        if length > MOST_ANSWER:
            raise InsightError(f"what answers is no agent of bateau's: a message of {length:,} bytes")
        return self._exactly(length)

    def _exactly(self, count: int) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        have = 0
        until = time.monotonic() + MOST_PATIENCE
        while have < count:
            try:
                got = self._socket.recv_into(view[have:])
            except TimeoutError:
                is_held, self._is_held = self._is_held, None
                if is_held is not None and self._timeout > MOMENT and not is_held():
                    self._socket.settimeout(self._timeout - MOMENT)
                    continue
                if self._patient and time.monotonic() < until and self._greets():
                    continue
                raise NoAgent(
                    "the agent does not answer: something holds the interpreter, or the process is stopped"
                ) from None
            except OSError as error:
                raise NoAgent(f"the agent has gone: {error}") from error
            if not got:
                raise NoAgent("the agent has hung up: the process has ended, or has too many clients")
            have += got
        return data

    def _greets(self) -> bool:
        """Whether the agent answers another: then it is not our turn yet, since snapshots have only a share of the program's time."""
        with socket.socket(self._socket.family) as other:
            other.settimeout(self._socket.gettimeout())
            try:
                other.connect(self._socket.getpeername())
                Client(other, self._token, self._socket.gettimeout() or 1.0, patient=False)
            except (OSError, InsightError):
                return False
        return True


def connect(
    pid: int | None = None,
    *,
    path: str | None = None,
    port: int | None = None,
    token: str | None = None,
    timeout: float = 10.0,
    is_held: Callable[[], bool] | None = None,
) -> Client:
    """Connect to the agent of a process: by PID, by the path of its socket, or by port (with the token, by default the
    environment's ``BATEAU_INSIGHT_TOKEN``). ``timeout``: seconds for each answer. ``is_held``: asked when
    the agent has not greeted within half a second; if it says that something holds the interpreter, nobody waits for the agent.

    Raises ``NoAgent`` if there is none or it does not answer, ``InsightError`` if it refuses.
    """
    if sum(each is not None for each in (pid, path, port)) != 1:
        raise ValueError("name the process by one of pid, path and port")
    if pid is not None:
        path = find_socket(pid)
        if path is None:
            raise NoAgent(
                f"process {pid} has no agent (or is not yours); start one in it with bateau.insight.init(), or run it with `bateau run`"
            )
    where = path if path is not None else f"127.0.0.1:{port}"
    connection = socket.socket(socket.AF_UNIX if path is not None else socket.AF_INET, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        _reach(connection, path if path is not None else ("127.0.0.1", port), timeout)
    except OSError as error:
        connection.close()
        raise NoAgent(f"nobody answers at {where}: {error.strerror or error}") from error
    if port is not None and token is None:
        token = os.environ.get("BATEAU_INSIGHT_TOKEN")
    return Client(connection, token, timeout, is_held=is_held)


def _reach(connection: socket.socket, address: Any, timeout: float) -> None:
    """Connect. A Unix socket whose queue is full says so at once instead of waiting."""
    patience = time.monotonic() + timeout
    while True:
        try:
            connection.connect(address)
            return
        except BlockingIOError:
            if time.monotonic() > patience:
                raise
            time.sleep(0.01)


def _wanted(want: Want | None) -> dict[str, bool]:
    """What is asked for, in the protocol's words; what is left out has the agent's own default, which is ``Want``'s."""
    return (
        {name: getattr(want, name) for name in ("memory", "context", "threads", "tables")} if want is not None else {}
    )
