"""A link: the connection that a node keeps to one peer, to ask and to hear the answers.

Theory of operation. Raft expects messages to be lost and says everything again, so a link never waits on anybody's behalf: what it
can't send soon, it drops. It connects when there is something to say. A connection that has answered nothing for a while is closed
and made anew, because a machine that lost its power, or a network that lost its way, doesn't say so: the bytes would wait in this
machine's buffers, for minutes.
"""

from __future__ import annotations

import logging
import random

import bateau
from bateau import net
from bateau.channel import Sender, channel

from .messages import AppendReply, Connection, Hello, Message, ProtocolError, VoteReply

log = logging.getLogger("raft")

# Messages that wait for the connection. More than a few would be old when they arrive.
WAITING = 8


class Heard:
    """A message that came in, and where its answer goes: None if it is an answer."""

    __slots__ = ("answers", "message")

    def __init__(self, message: Message, answers: Sender[Message] | None = None) -> None:
        self.message = message
        self.answers = answers


class Link:
    """See the module's head. ``patience``: seconds in which a peer must have answered."""

    def __init__(self, sender: str, receiver: str, address: str, inbox: Sender[Heard], patience: float) -> None:
        self.address = address
        self._hello = Hello(sender, receiver)
        self._inbox = inbox
        self._patience = patience
        self._outgoing, self._waiting = channel[Message](WAITING, name=f"link {sender} to {receiver}")
        # When the first message was sent after which nothing has come back; None if something has.
        self._unanswered: float | None = None

    def send(self, message: Message) -> None:
        """Send ``message``, soon or never. Not a cancellation point."""
        try:
            self._outgoing.try_send(message)
        except bateau.WouldBlock:
            log.debug("%s to %s: dropped a message", *self._hello)

    async def run(self) -> None:
        """Keep the connection, until cancelled."""
        async with self._waiting, self._inbox.clone() as inbox:
            while True:
                message = await self._waiting.recv()
                try:
                    await self._talk(message, inbox)
                except* (OSError, ProtocolError) as errors:
                    log.debug("%s to %s: %s", *self._hello, errors.exceptions[0])
                await bateau.time.sleep(random.uniform(0.05, 0.1) * self._patience)
                while len(self._waiting):
                    await self._waiting.recv()  # it is old

    async def _talk(self, message: Message, inbox: Sender[Heard]) -> None:
        self._unanswered = None
        with bateau.timeout(self._patience):
            stream = await net.connect_tcp(*split_address(self.address))
        async with Connection(stream) as connection, bateau.scope(name="link") as scope:
            scope.spawn(self._listen, connection, inbox, background=True)
            await self._say(connection, self._hello, message)
            while True:
                await self._say(connection, await self._waiting.recv())

    async def _say(self, connection: Connection, *messages: Message) -> None:
        now = bateau.now()
        if self._unanswered is None:
            self._unanswered = now
        elif now > self._unanswered + self._patience:
            raise TimeoutError(f"{self.address} has not answered for {self._patience:g} s")
        with bateau.timeout(self._patience):
            await connection.send(*messages)

    async def _listen(self, connection: Connection, inbox: Sender[Heard]) -> None:
        while (message := await connection.receive()) is not None:
            self._unanswered = None
            if not isinstance(message, VoteReply | AppendReply):
                raise ProtocolError(f"{type(message).__name__} is no answer")
            await inbox.send(Heard(message))
        raise ConnectionResetError(f"{self.address} closed the connection")


def split_address(address: str) -> tuple[str, int]:
    """``"host:port"`` as a host and a port. Raises ``ValueError``."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise ValueError(f"an address is host:port (or [host]:port for IPv6), not {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)
