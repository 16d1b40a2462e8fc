"""One client of the agent: its requests, its answers, and how long they may take. See ``agent`` for what bounds it."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from .model import InsightError, Want
from .protocol import MOST_REQUEST, PROTOCOL, Decoder, ProtocolError, pack, pack_result

if TYPE_CHECKING:
    from .agent import Agent

# Seconds: for a client to say hello, to finish a request it has begun, and to take some of an answer.
PATIENCE = 10.0
# Seconds for a loop to come round to what it was asked to do.
LOOP_PATIENCE = 5.0
SHORTEST_INTERVAL = 0.1


class Peer:
    """One connection of an agent's; everything here runs on the agent's thread.

    Invariants: ``_out`` is what is left of the one answer under way; while there is some, or a request is being
    worked on (``_busy``), no request is taken. ``_push_at`` is set while it has subscribed.
    """

    def __init__(self, agent: Agent, connection: socket.socket, trusted: bool) -> None:
        self.agent = agent
        self.connection = connection
        self.closed = False
        self._trusted = trusted
        self._greeted = False
        self._decoder = Decoder(MOST_REQUEST)
        self._out = memoryview(b"")
        self._busy: int | None = None
        self._events = selectors.EVENT_READ
        self._taking = False
        # When it must have said or taken something.
        self._deadline: float | None = time.monotonic() + PATIENCE
        self._loop_deadline: float | None = None
        self._last_words = False
        self._push_at: float | None = None
        self._every = 0.0
        self._push: Callable[[], None] | None = None
        # Set while it wants the tasks' counters to be kept.
        self._stop_counting: Callable[[], None] | None = None

    # -- the socket ------------------------------------------------------------------------------------------------------

    def on_event(self) -> None:
        """It is readable, or writable."""
        self.guarded(self._on_event)

    def guarded(self, work: Callable[[], None]) -> None:
        """Whatever goes wrong with one client is its own misfortune."""
        try:
            work()
        except ProtocolError as error:
            self._refuse(str(error))
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and not self.closed:
                self._fail(f"{type(error).__name__}: {error}")
                return
            self.close()
        except Exception as error:
            self._fail(f"the agent failed: {type(error).__name__}: {error}")

    def _on_event(self) -> None:
        if self._out:
            self._write()
            return
        try:
            data = self.connection.recv(MOST_REQUEST)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self._decoder.feed(data)
        self._next()

    def _next(self) -> None:
        """Take the next requests, as long as nothing is under way."""
        if self._taking:
            return  # an answer was sent at once, further up this very stack
        self._taking = True
        try:
            self._take()
        finally:
            self._taking = False
        self._mind()

    def _take(self) -> None:
        while not self._out and self._busy is None and not self.closed and not self._last_words:
            message = self._decoder.next()
            if message is None:
                self._deadline = time.monotonic() + PATIENCE if self._decoder.partial or not self._greeted else None
                break
            self._deadline = None
            self._request(message)

    def send(self, data: bytes) -> None:
        """Begin to send an answer."""
        if self.closed:
            return
        self._busy = None
        self._loop_deadline = None
        self._out = memoryview(data)
        self._deadline = time.monotonic() + PATIENCE
        self._write()

    def _write(self) -> None:
        try:
            while self._out:
                sent = self.connection.send(self._out[: 1 << 20])
                self._out = self._out[sent:]
                self._deadline = time.monotonic() + PATIENCE
        except BlockingIOError:
            self._mind()
            return
        except OSError:
            self.close()
            return
        self._out = memoryview(b"")
        if self._last_words:
            self.close()
            return
        self._deadline = None
        self._next()

    def _mind(self) -> None:
        """Listen for what is wanted now: room to write, or a request; and nothing while one is being worked on."""
        if self.closed:
            return
        events = selectors.EVENT_WRITE if self._out else selectors.EVENT_READ if self._busy is None else 0
        before, self._events = self._events, events
        if events == before:
            return
        if not events:
            self.agent.selector.unregister(self.connection)
        elif not before:
            self.agent.selector.register(self.connection, events, self.on_event)
        else:
            self.agent.selector.modify(self.connection, events, self.on_event)

    def until(self) -> float | None:
        """When to look after it next."""
        times = [each for each in (self._deadline, self._loop_deadline) if each is not None]
        if self._push_at is not None and self._busy is None and not self._out:
            times.append(self._push_at)
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self._deadline is not None and now >= self._deadline:
            self.close()
        elif self._loop_deadline is not None and now >= self._loop_deadline:
            self._fail("its loop did not come round to it in time: it is blocked; a snapshot shows by what")
        elif self._push_at is not None and now >= self._push_at and self._busy is None and not self._out:
            self._push_at = now + self._every
            if self._push is not None:
                self._busy = -1
                self._mind()
                self.agent.want(self, self._push)

    def close(self) -> None:
        """Throw it out."""
        if self.closed:
            return
        self.closed = True
        self.agent.clients.pop(self.connection.fileno(), None)
        with contextlib.suppress(KeyError, ValueError):
            self.agent.selector.unregister(self.connection)
        self.connection.close()
        self._out = memoryview(b"")
        self._push = self._push_at = None
        if self._stop_counting is not None:
            self._stop_counting()

    # -- requests --------------------------------------------------------------------------------------------------------

    def _request(self, message: dict[str, Any]) -> None:
        number, do = message.get("id"), message.get("do")
        if type(number) is not int or type(do) is not str or not 0 <= number < 1 << 53:
            raise ProtocolError('a request needs "id", a whole number, and "do", a text')
        self._busy = number
        if do == "hello":
            self._hello(number, message)
        elif not self._greeted:
            self._refuse('say hello first, with "protocol" and, on a port, "token"')
        elif do in _REQUESTS:
            try:
                _REQUESTS[do](self, number, message)
            except InsightError as error:
                self._fail(str(error))
        else:
            self._fail(f"there is no request {do!r}; there are: hello, {', '.join(_REQUESTS)}")

    def _hello(self, number: int, message: dict[str, Any]) -> None:
        token = message.get("token")
        if not self._trusted and not (
            type(token) is str
            and hmac.compare_digest(token.encode("utf-8", "replace"), self.agent.token.encode("utf-8", "replace"))
        ):
            self._refuse("the token is wrong: it is what the program printed or was given (BATEAU_INSIGHT_TOKEN)")
            return
        if message.get("protocol") != PROTOCOL:
            self._refuse(f"this agent speaks protocol {PROTOCOL}; use the bateau that the program uses")
            return
        self._greeted = True
        import bateau

        from .model import VERSION

        self._result(
            number,
            {
                "protocol": PROTOCOL, "snapshot": list(VERSION), "pid": os.getpid(), "bateau": bateau.__version__,
                "python": sys.version.split()[0], "control": self.agent.control, "requests": ["hello", *_REQUESTS],
            },
        )  # fmt: skip

    def _ping(self, number: int, message: dict[str, Any]) -> None:
        self._result(number, "pong")

    def _snapshot(self, number: int, message: dict[str, Any]) -> None:
        want = _want_of(message)

        def make() -> None:
            from .schema import to_pieces

            self.send(pack_result(number, to_pieces(self._read(want))))

        self.agent.want(self, make)

    def _text(self, number: int, message: dict[str, Any]) -> None:
        want = _want_of(message)

        def make() -> None:
            from .explain import explain

            self.send(pack_result(number, [json.dumps(explain(self._read(want))).encode()]))

        self.agent.want(self, make)

    def _subscribe(self, number: int, message: dict[str, Any]) -> None:
        every = message.get("every")
        if type(every) not in (int, float) or every is None or not SHORTEST_INTERVAL <= every <= 3600:
            raise InsightError(f'"every" must be from {SHORTEST_INTERVAL:g} to 3600 seconds')
        want = _want_of(message)

        def make() -> None:
            from .schema import to_pieces

            self.send(pack_result(number, to_pieces(self._read(want)), push=True))

        self._every, self._push, self._push_at = float(every), make, time.monotonic()
        self._result(number, "subscribed")

    def _unsubscribe(self, number: int, message: dict[str, Any]) -> None:
        self._push = self._push_at = None
        self._result(number, "unsubscribed")

    def _count(self, number: int, message: dict[str, Any]) -> None:
        """Keep the counters of tasks as long as this client is there."""
        from .counting import count

        if self._stop_counting is None:
            self._stop_counting = count()
        self._result(number, "counting")

    def _read(self, want: Want) -> Any:
        return self.agent.reader.read(want)

    def _cancel(self, number: int, message: dict[str, Any]) -> None:
        from .control import cancel_task

        self._may_control()
        cancel_task(_whole(message, "task"), _text_of(message, "reason", "cancelled by hand"), self._answer(number))

    def _stop(self, number: int, message: dict[str, Any]) -> None:
        from .control import stop_scope

        self._may_control()
        grace = message.get("grace")
        if grace is not None and (type(grace) not in (int, float) or not 0 <= grace < 1e9):
            raise InsightError('"grace" must be a number of seconds, 0 or more, or null')
        stop_scope(
            _whole(message, "scope"), grace, _text_of(message, "reason", "stopped by hand"), self._answer(number)
        )

    def _wake(self, number: int, message: dict[str, Any]) -> None:
        from .control import wake_task

        self._may_control()
        wake_task(_whole(message, "task"), self._answer(number))

    def _may_control(self) -> None:
        if not self.agent.control:
            raise InsightError("this agent was started with control=False: it only shows")

    def _answer(self, number: int) -> Callable[[str | None], None]:
        """For the loop's thread to call: the answer is sent from the agent's own."""
        self._loop_deadline = time.monotonic() + LOOP_PATIENCE

        def answer(problem: str | None) -> None:
            def tell() -> None:
                if self._busy == number:  # else it came too late, and that has been said
                    if problem is None:
                        self._result(number, "done")
                    else:
                        self._fail(problem)

            self.agent.call(tell)

        return answer

    def _result(self, number: int, result: Any) -> None:
        self.send(pack_result(number, [json.dumps(result).encode()]))

    def _fail(self, text: str) -> None:
        number = self._busy if self._busy is not None else 0
        self.send(pack({"id": max(number, 0), "ok": False, "error": text}))

    def _refuse(self, text: str) -> None:
        """Say why, and hang up."""
        self._last_words = True
        self._fail(text)


_REQUESTS: dict[str, Callable[[Peer, int, dict[str, Any]], None]] = {
    "count": Peer._count,
    "ping": Peer._ping,
    "snapshot": Peer._snapshot,
    "text": Peer._text,
    "subscribe": Peer._subscribe,
    "unsubscribe": Peer._unsubscribe,
    "cancel": Peer._cancel,
    "stop": Peer._stop,
    "wake": Peer._wake,
}  # fmt: skip


def _want_of(message: dict[str, Any]) -> Want:
    given = message.get("want", {})
    if type(given) is not dict:
        raise InsightError('"want" must be an object')
    asked = cast("dict[str, Any]", given)
    known: dict[str, bool] = {name: asked[name] for name in ("memory", "context", "threads", "tables") if name in asked}
    if any(type(value) is not bool for value in known.values()):
        raise InsightError('what stands in "want" must be true or false')
    return Want(**known)


def _whole(message: dict[str, Any], name: str) -> int:
    value = message.get(name)
    if type(value) is not int or abs(value) >= 1 << 63:
        raise InsightError(f'"{name}" must be the id of one, a whole number')
    return value


def _text_of(message: dict[str, Any], name: str, default: str) -> str:
    value = message.get(name, default)
    if type(value) is not str or len(value) > 1000:
        raise InsightError(f'"{name}" must be a text of at most 1,000 characters')
    return value
