r"""A line protocol, client and server. It imports only bateau, and runs wherever it is awaited: asyncio, trio, native...

On the wire, in UTF-8, one line each: ``NUMBER VERB TEXT`` asks, ``NUMBER ok TEXT`` or ``NUMBER error TEXT`` answers. Many
requests may be in flight on one connection, and are answered in the order in which they are done.

    async with bateau.scope() as scope:
        client = await line_protocol.connect(scope, "tcp:localhost:7000")
        print(await client.ask("upper", "hello"))
        scope.cancel("done")

Nothing here runs outside a scope: a client's driver belongs to the scope it was connected in, a server's connections
to ``serve``. So none can be forgotten, and none dies because one who asked was cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import bateau
from bateau.channel import OneSender, Receiver, Sender, channel, oneshot
from bateau.io import BufStream, TraceEvent, traced
from bateau.net import Listener

# In bytes; a longer line ends the connection.
LONGEST_LINE = 65536

Handler = Callable[[str], Awaitable[str]]


class RequestFailed(Exception):
    """The server answered with an error; its text is the message."""


class ConnectionLost(OSError):
    """The connection ended before the answer came. Whether the server did what was asked is not known."""


# -- the client ----------------------------------------------------------------------------------------------------------


class Client:
    """One connection, for any number of tasks at once. Made by ``connect``.

    Invariant: a number is in ``_waiting`` exactly while somebody waits for its answer.
    """

    def __init__(self, stream: BufStream, outgoing: Sender[str]) -> None:
        self._stream = stream
        self._outgoing = outgoing
        self._waiting: dict[int, OneSender[str]] = {}
        self._last = 0
        self._lost: ConnectionLost | None = None

    async def ask(self, verb: str, text: str = "", *, timeout: float | None = None) -> str:
        """Send a request and wait for its answer, at most ``timeout`` seconds (then ``TimeoutError``).

        A cancellation point; cancelled, the connection goes on and the answer is dropped. Raises ``RequestFailed``,
        ``ConnectionLost``, or ``ValueError`` for a line that can't be sent.
        """
        if not verb or " " in verb or "\n" in verb + text:
            raise ValueError(f"the verb must be one word and the text one line, not {verb!r} and {text!r}")
        self._last = number = self._last + 1
        answer, waiting = oneshot[str](name=f"answer {number}")
        async with answer, waiting:
            if self._lost is not None:
                raise self._lost
            self._waiting[number] = answer
            try:
                with bateau.timeout(timeout):
                    await self._outgoing.send(f"{number} {verb} {text}\n")
                    return await waiting
            finally:
                self._waiting.pop(number, None)

    async def _drive(self, outgoing: Receiver[str]) -> None:
        """Both directions, until the connection ends or the scope is cancelled. Requesters never touch the stream, so
        none of them can tear a line or leave the others without a reader.
        """
        try:
            async with outgoing, self._stream, bateau.scope(name="line protocol client") as scope:
                scope.spawn(_send_lines, self._stream, outgoing, background=True)
                async for line in self._stream:
                    self._answered(line.decode())
        except* (OSError, ValueError) as errors:  # the connection, or what came over it
            self._lose(str(errors.exceptions[0]))
        finally:
            self._lose("the server closed it")

    def _answered(self, line: str) -> None:
        number, _, rest = line.rstrip("\n").partition(" ")
        status, _, text = rest.partition(" ")
        answer = self._waiting.pop(int(number), None)
        if answer is None:
            return  # who asked does not wait any more
        if status == "ok":
            answer.send(text)
        else:
            answer.fail(RequestFailed(text))

    def _lose(self, why: str) -> None:
        if self._lost is None:
            self._lost = ConnectionLost(f"the connection was lost: {why}")
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.fail(self._lost)


async def connect(
    scope: bateau.Scope, address: str, *, trace: Callable[[TraceEvent], object] | None = None, **options: Any
) -> Client:
    """Connect to ``"tcp:host:port"`` or ``"unix:/path"``; the connection lives as long as ``scope``.

    With ``trace`` every call on the stream is told to it. ``options`` go to ``bateau.net.connect``. A cancellation point.
    """
    raw = await bateau.net.connect(address, **options)
    stream = BufStream(raw if trace is None else traced(raw, trace))
    tx, rx = channel[str](16, name="requests")
    client = Client(stream, tx)
    scope.defer(tx.close)
    scope.spawn(client._drive, rx, name=f"line protocol client of {address}", background=True)
    return client


# -- the server ----------------------------------------------------------------------------------------------------------


async def serve(handlers: Mapping[str, Handler], *listeners: Listener, at_once: int = 16) -> None:
    """Answer requests: ``await handlers[verb](text)`` gives the text of the answer; an exception is answered as an error.

    ``at_once`` bounds how many requests of one connection are worked on; further ones stay unread, so that the client
    waits. Asked to stop, it accepts nothing more, answers what it has read, and returns. A cancellation point.
    """

    async def converse(raw: Any) -> None:
        await _Conversation(BufStream(raw), handlers, at_once).run()

    await bateau.net.serve(converse, *listeners)


class _Conversation:
    """One connection of a server."""

    def __init__(self, stream: BufStream, handlers: Mapping[str, Handler], at_once: int) -> None:
        self._stream = stream
        self._handlers = handlers
        self._places = bateau.sync.Semaphore(at_once)

    async def run(self) -> None:
        """Until the client has sent its last line, or the program is asked to stop; and all is answered."""
        tx, rx = channel[str](1, name="answers")
        async with bateau.scope(name="conversation") as scope:
            scope.spawn(self._write, rx)
            reading = scope.spawn(self._read, scope, tx)
            scope.token.on_stop(lambda: reading.cancel("the server stops"))

    async def _write(self, answers: Receiver[str]) -> None:
        async with answers:
            await _send_lines(self._stream, answers)

    async def _read(self, scope: bateau.Scope, answers: Sender[str]) -> None:
        async with answers:  # closed when the last line has come: the writer ends with the last answer
            while line := await self._stream.readline(LONGEST_LINE):
                await self._places.acquire()
                scope.spawn(self._answer, line.decode().rstrip("\n"), answers.clone())

    async def _answer(self, line: str, answers: Sender[str]) -> None:
        async with answers:
            try:
                number, _, request = line.partition(" ")
                verb, _, text = request.partition(" ")
                await answers.send(f"{number} {await self._result(verb, text)}\n")
            finally:
                self._places.release()

    async def _result(self, verb: str, text: str) -> str:
        handler = self._handlers.get(verb)
        if handler is None:
            return f"error unknown verb {verb!r}"
        try:
            return "ok " + _one_line(await handler(text))
        except Exception as error:
            return "error " + _one_line(f"{type(error).__name__}: {error}")


def _one_line(text: str) -> str:
    return text.replace("\n", " ")


# -- both ----------------------------------------------------------------------------------------------------------------


async def _send_lines(stream: BufStream, lines: Receiver[str]) -> None:
    """Send what comes, in as few pieces as it comes in."""
    async for line in lines:
        await stream.write(line.encode())
        if not len(lines):
            await stream.flush()
