"""The ciphertext side of TLS: what moves between the engine's buffers and the stream below, and the handshake.

``bateau.ssl`` has the theory of operation, and the plaintext side on top of this.
"""

from __future__ import annotations

import ssl as _ssl
from _thread import allocate_lock

from ..kernel.errors import Broken, Unsupported, WouldBlock
from . import guard
from .abc import DEFAULT_SIZE, READ, WRITE, AsyncStream, AsyncWrite

WANTS = (_ssl.SSLWantReadError, _ssl.SSLWantWriteError)

_IGNORE_EOF = getattr(_ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
# Held while a context is not as its user has it: loops of several threads may share one.
_changing = allocate_lock()


def _wrap_bio(
    context: _ssl.SSLContext,
    incoming: _ssl.MemoryBIO,
    outgoing: _ssl.MemoryBIO,
    server_side: bool,
    server_hostname: str | None,
    session: _ssl.SSLSession | None,
) -> _ssl.SSLObject:
    """An engine that tells data that was cut off from data that ended.

    Every context of Python up to 3.11.2 has OpenSSL 3 take the one for the other. An engine copies the options of its context, which
    gets them back: it is the user's. ``suppress_ragged_eofs`` is how to ask for that here.
    """
    with _changing:
        ignores = context.options & _IGNORE_EOF
        if ignores:
            context.options &= ~_IGNORE_EOF
        try:
            return context.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        finally:
            if ignores:
                context.options |= _IGNORE_EOF


def is_cut_off(error: OSError) -> bool:
    """Whether ``error`` says that the ciphertext ended without a close_notify. Python up to 3.11.2 has no class for what OpenSSL 3 says."""
    return isinstance(error, _ssl.SSLEOFError) or (
        isinstance(error, _ssl.SSLError) and error.reason == "UNEXPECTED_EOF_WHILE_READING"
    )


class TLSEngine(AsyncStream):
    """The base of ``bateau.ssl.TLSStream``: its state, filling, draining, the handshake."""

    # Invariants: ``_pending`` is ciphertext that the engine made and ``raw`` has not taken, in order. ``_plain`` is plaintext
    # that was taken out of the engine before anyone asked. ``_torn`` is how much of a cancelled write went out.
    __slots__ = (
        "__weakref__",
        "_accepted",
        "_closed",
        "_draining",
        "_failure",
        "_filling",
        "_fills",
        "_flushes",
        "_full",
        "_goodbye",
        "_in",
        "_mute",
        "_out",
        "_pending",
        "_plain",
        "_read_end",
        "_reading",
        "_shaken",
        "_shaking",
        "_torn",
        "_tries",
        "_writing",
        "raw",
        "ssl_object",
        "suppress_ragged_eofs",
    )

    def __init__(
        self,
        raw: AsyncStream,
        context: _ssl.SSLContext,
        server_side: bool,
        server_hostname: str | None,
        suppress_ragged_eofs: bool,
        session: _ssl.SSLSession | None,
    ) -> None:
        self._in = _ssl.MemoryBIO()
        self._out = _ssl.MemoryBIO()
        self.ssl_object = _wrap_bio(context, self._in, self._out, server_side, server_hostname, session)
        self.raw = raw
        self.suppress_ragged_eofs = suppress_ragged_eofs
        self._pending = b""
        self._plain = b""
        self._read_end: bytes | BaseException | None = None  # b"" after a clean end, else what every read raises
        self._shaken = False
        self._failure: BaseException | None = None  # of the handshake
        self._torn: int | None = None
        self._goodbye = False  # close_notify is in _pending or out
        self._accepted = False  # _pending holds what try_write took
        self._closed = False
        self._fills = 0
        self._mute = False  # the peer takes nothing any more
        self._full = False  # the last attempt to send met a full stream
        self._tries = True  # until raw says that it has no try_write
        self._flushes = type(raw).flush is not AsyncWrite.flush  # raw may keep what try_write took
        name = self.describe()
        self._filling = guard.Turn(f"filling {name}")
        self._draining = guard.Turn(f"draining {name}")
        self._shaking = guard.Turn(f"the handshake of {name}")
        self._reading = guard.Slot(self, "read")
        self._writing = guard.Slot(self, "write")

    # -- moving ciphertext -----------------------------------------------------------------------------------------------

    def _collect(self) -> bytes:
        """All ciphertext that waits to be sent."""
        if self._out.pending:
            self._pending += self._out.read()
        return self._pending

    def _feed(self, data: bytes) -> None:
        self._fills += 1
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    async def _fill(self, seen: int) -> None:
        """Bring in ciphertext, unless some came since ``_fills`` was ``seen``."""
        if not self._filling.try_acquire():
            await self._filling.acquire()
        try:
            while self._fills == seen:
                if self._tries and not self._mute and self._collect() and self._draining.try_acquire():
                    # A reply of the engine did not go out at once: send it when there is room, but don't wait for that alone.
                    found = 0
                    try:
                        found = await self.raw.ready(READ | WRITE)
                        if found & WRITE:
                            self._send_now()
                    except Unsupported:
                        self._tries = False
                    except OSError:
                        self._mute = (
                            True  # what the peer said before it left is still to be read; a write raises this again
                        )
                    finally:
                        self._draining.release()
                    if not found & READ:
                        continue
                self._feed(await self.raw.read(DEFAULT_SIZE))
        finally:
            self._filling.release()

    def _send_now(self) -> bool:
        """Send what goes without waiting; True if nothing is left. The caller has the turn at draining, or it is free."""
        while data := self._collect():
            if not self._tries:
                return False
            try:
                sent = self.raw.try_write(data)
            except WouldBlock:
                self._full = True
                return False
            except Unsupported:
                self._tries = False
                return False
            self._pending = data[sent:]
        self._accepted = False
        return True

    async def _drain(self) -> None:
        """Send all ciphertext. The caller has the turn. Cancelled, the rest stays for the next time."""
        while not self._send_now():
            if self._tries:
                await self.raw.ready(WRITE)
                self._full = False
            else:
                data = self._pending
                await self.raw.write(data)
                self._pending = self._pending[len(data) :]
        if self._flushes:
            await self.raw.flush()

    async def _send(self) -> None:
        async with self._draining:
            await self._drain()

    def _answer(self) -> None:
        """After reading: the engine may have something to say to the peer (a new key, an alert). Never waits, never fails."""
        if self._out.pending and self._draining.owner is None:
            try:
                self._send_now()
            except OSError:
                return  # it stays in _pending, and the next write will raise this again

    # -- the handshake ---------------------------------------------------------------------------------------------------

    async def do_handshake(self) -> None:
        """Agree on keys and check certificates; nothing to do the second time. A cancellation point; cancelled, it can go on.

        Raises ``ssl.SSLCertVerificationError`` and other ``ssl.SSLError``, or ``Broken`` if the other side goes away meanwhile.
        """
        async with self._shaking:
            while not self._shaken:
                self._check_open()
                if self._failure is not None:
                    raise Broken(f"the handshake of {self.describe()} has failed: {self._failure}") from self._failure
                seen = self._fills
                try:
                    self.ssl_object.do_handshake()
                except WANTS:
                    await self._send()
                    await self._fill(seen)
                except OSError as error:
                    self._failure = error
                    self._answer()  # the alert that tells the peer why
                    if is_cut_off(error):
                        raise Broken(f"the other side of {self.describe()} ended it in mid-handshake") from error
                    raise
                else:
                    self._shaken = True
                    await self._send_finish()

    async def _send_finish(self) -> None:
        """Send what ends the handshake. A server's last words in TLS 1.3 are tickets for later, which nobody waits for.

        So they must not hold up anybody either: a client may write much before it reads, or say all it has to say and leave;
        what it said must be readable. Tickets that find no room go out with what is sent next.
        """
        if self.ssl_object.server_side and self.ssl_object.version() == "TLSv1.3":
            self._answer()
            if self._tries:
                return
        try:
            await self._send()
        except Broken:
            if not self.ssl_object.server_side:
                raise
            self._mute = True

    def _check_open(self) -> None:
        if self._closed:
            raise guard.closed(self.describe())

    def _check_writable(self) -> None:
        self._check_open()
        if self._torn is not None:
            raise Broken(
                f"a write on {self.describe()} was cut off after {self._torn} bytes had gone out, so nothing can follow it; "
                "close the stream, and shield a write that must be whole",
                sent=self._torn,
            )
        if self._goodbye:
            raise guard.closed(f"the sending direction of {self.describe()}")

    async def _start(self) -> None:
        self._check_open()
        if not self._shaken:
            await self.do_handshake()

    def describe(self) -> str:
        """For messages: the side and what it runs over."""
        return f"TLS {'server' if self.ssl_object.server_side else 'client'} over {guard.title(self.raw)}"
