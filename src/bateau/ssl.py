"""TLS over any stream, client and server, on any runtime; the async face of Python's ``ssl``, whose other names it hands on.

Theory of operation. An ``ssl.SSLObject`` does the cryptography between two memory buffers and never waits; this module moves
the ciphertext. Reading takes plaintext out of the engine and, when there is none, *fills*: reads the stream below into the
incoming buffer. Writing encrypts and *drains*: sends what the engine has put into the outgoing buffer.

Either direction may need the other one (a handshake both), from two tasks at once. So there is a turn at filling and a turn at
draining. ``_fills`` counts what arrived: a task that waited for its turn at filling looks first whether what it needs has come
meanwhile. A reader never waits for the turn at draining: the writer that has it may be waiting for our peer, and that peer
for us to read.

Cancellation. Ciphertext enters ``_pending`` in the step in which it was made, and leaves it in the step in which the stream
below took it. So a cancelled read, handshake or flush can go on later. A cancelled write whose first bytes are out is torn: half
a message must not be followed by another, and no clean goodbye may follow it either.
"""

from __future__ import annotations

import ssl as _ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .io import guard
from .io.abc import DEFAULT_SIZE, READ, WRITE, AsyncStream, ReadableBuffer
from .io.tls import WANTS, TLSEngine, is_cut_off
from .kernel.errors import Broken, Unsupported, WouldBlock
from .kernel.flow import checkpoint

if TYPE_CHECKING:
    # For type checkers; at run time ``__getattr__`` below hands on these and all others.
    from ssl import CERT_NONE as CERT_NONE
    from ssl import CERT_OPTIONAL as CERT_OPTIONAL
    from ssl import CERT_REQUIRED as CERT_REQUIRED
    from ssl import AlertDescription as AlertDescription
    from ssl import Purpose as Purpose
    from ssl import SSLCertVerificationError as SSLCertVerificationError
    from ssl import SSLContext as SSLContext
    from ssl import SSLError as SSLError
    from ssl import SSLSession as SSLSession
    from ssl import TLSVersion as TLSVersion
    from ssl import create_default_context as create_default_context

# Plaintext bytes that are encrypted in one go: bounds what is on its way below us.
_CHUNK = 65536


class TLSStream(TLSEngine):
    """An encrypted stream over ``raw``, which it owns. Made by ``wrap``.

    The handshake happens in ``do_handshake``, or in the first call that needs it; how long it may take is the caller's scope to
    say. A cancelled handshake goes on with the next call. ``ssl_object`` is the engine, for what has no method here.
    """

    __slots__ = ()

    # -- reading ---------------------------------------------------------------------------------------------------------

    def _take(self, n: int) -> bytes | None:
        """Plaintext that is there, ``b""`` at the end; None if more ciphertext is needed first."""
        if self._plain:
            data, self._plain = self._plain[:n], self._plain[n:]
            return data
        end = self._read_end
        if end is not None:
            if isinstance(end, BaseException):
                raise end
            return end
        if not self._in.pending and not self._in.eof and not self.ssl_object.pending():
            return None  # the engine would say the same, by an exception
        parts: list[bytes] = []
        room = n
        while room > 0:
            data = self._decrypt(room)
            if not data:
                break
            parts.append(data)
            room -= len(data)
            if not self._in.pending and not self.ssl_object.pending():
                break
        self._answer()
        if parts:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        return self._take(n) if self._read_end is not None else None

    def _decrypt(self, n: int) -> bytes:
        """One record's plaintext; ``b""`` if there is none, with the reason in ``_read_end`` unless it is yet to come."""
        try:
            data = self.ssl_object.read(n)
            if not data:
                self._read_end = b""
            return data
        except WANTS:
            return b""
        except _ssl.SSLZeroReturnError:
            self._read_end = b""
        except _ssl.SSLError as error:
            cut_off = is_cut_off(error)
            self._read_end = b"" if cut_off else error
            if cut_off and not self.suppress_ragged_eofs:
                self._read_end = Broken(
                    f"{self.describe()} ended without a close_notify: the data may have been cut off on the way. If the "
                    "protocol above knows where its messages end, wrap(..., suppress_ragged_eofs=True) takes this as an end"
                )
                self._read_end.__cause__ = error
        return b""

    async def read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        guard.check_size(n)
        with self._reading:
            if not self._shaken or self._closed:
                await self._start()
            await checkpoint()
            while n:
                self._check_open()
                seen = self._fills
                data = self._take(n)
                if data is not None:
                    return data
                await self._fill(seen)
            return b""

    def try_read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        guard.check_size(n)
        self._reading.check()
        self._check_open()
        while n:
            if not self._shaken or self._filling.owner is not None:
                raise WouldBlock(f"the handshake of {self.describe()} comes first; await ready(READ), then try again")
            data = self._take(n)
            if data is not None:
                return data
            self._feed(self.raw.try_read(DEFAULT_SIZE))
        return b""

    # -- writing ---------------------------------------------------------------------------------------------------------

    async def write(self, data: ReadableBuffer, /) -> None:
        with memoryview(data) as given, given.cast("B") as view, self._writing:
            self._check_writable()
            if not self._shaken:
                await self._start()
            encrypted = sent = 0
            if not self._draining.try_acquire():
                await self._draining.acquire()
            try:
                await checkpoint()
                if self._pending or self._out.pending or self._flushes:
                    await self._drain()  # what was left over
                while encrypted < len(view):
                    if self._full and self._tries:
                        await self.raw.ready(WRITE)  # so that a cancelled wait for room has not begun to write
                        self._full = False
                    encrypted += await self._encrypt(view[encrypted : encrypted + _CHUNK])
                    if not self._send_now() or self._flushes:
                        await self._drain()
                    sent = encrypted
            except BaseException as error:
                if encrypted:
                    self._torn = sent
                if isinstance(error, Broken):
                    raise Broken(f"{self.describe()} broke in mid-write: {error}", sent=sent) from error
                raise
            finally:
                self._draining.release()

    async def _encrypt(self, chunk: memoryview) -> int:
        while True:
            seen = self._fills
            try:
                return self.ssl_object.write(chunk)
            except WANTS:  # the peer asked for new keys
                await self._drain()
                await self._fill(seen)

    def try_write(self, data: ReadableBuffer, /) -> int:
        """As on any stream; what the stream below did not take at once is sent by ``flush`` and by every later call."""
        self._writing.check()
        self._check_writable()
        if not self._shaken or self._draining.owner is not None:
            raise WouldBlock(f"the handshake of {self.describe()} comes first; await ready(WRITE), then try again")
        if not self._send_now():
            if not self._tries:
                raise Unsupported(f"{guard.title(self.raw)} can't write without waiting; use `await write(data)`")
            raise WouldBlock(f"no room for more on {self.describe()} yet; await ready(WRITE), then try again")
        with memoryview(data) as given, given.cast("B") as view:
            if not len(view):
                return 0
            try:
                sent = self.ssl_object.write(view[:_CHUNK])
            except WANTS as want:
                raise WouldBlock(
                    f"{self.describe()} must read first; await ready(READ), read, then try again"
                ) from want
            self._accepted = True
            self._send_now()
            return sent

    async def flush(self) -> None:
        self._check_open()
        await self._send()

    async def ready(self, directions: int = READ, /) -> int:
        slots = [s for flag, s in ((READ, self._reading), (WRITE, self._writing)) if directions & flag]
        with slots[0], slots[-1] if len(slots) > 1 else _NO_SLOT:
            await self._start()
            await checkpoint()
            while True:
                self._check_open()
                if directions & READ and self._look():
                    return READ
                if directions & WRITE and not self._send_now():
                    await self._send()
                async with self._filling:
                    found = await self.raw.ready(directions)
                if found & WRITE:
                    return WRITE
                if found & READ:
                    try:
                        self._feed(self.raw.try_read(DEFAULT_SIZE))
                    except WouldBlock:
                        continue

    def _look(self) -> bool:
        """Whether a read would return or raise at once."""
        if not self._plain and self._read_end is None:
            self._plain = self._take_ahead()
        return bool(self._plain) or self._read_end is not None

    def _take_ahead(self) -> bytes:
        data = b""
        while part := self._decrypt(DEFAULT_SIZE):
            data += part
        self._answer()
        return data

    # -- the end ---------------------------------------------------------------------------------------------------------

    def _say_goodbye(self) -> None:
        """Put close_notify into the outgoing buffer; reading goes on."""
        if self._goodbye:
            return
        # The engine's shutdown looks at what came in and takes data there for an error, so that is taken out first.
        if self._read_end is None:
            self._plain += self._take_ahead()
        self._goodbye = True
        try:
            self.ssl_object.unwrap()
        except WANTS:
            return
        except _ssl.SSLError as error:
            if self._read_end is None:
                self._read_end = error

    async def write_eof(self) -> None:
        with self._writing:
            if not self._goodbye:
                self._check_writable()
            await self._start()
            await checkpoint()
            self._say_goodbye()
            await self._send()

    async def unwrap(self) -> tuple[AsyncStream, bytes]:
        """End TLS in both directions and give back the stream below, for protocols that go on in plain text.

        Sends close_notify and waits for the peer's. Returns ``raw``, which is the caller's from now on, and the bytes that had
        already come after the end of TLS. A cancellation point; cancelled, it can be called again. Raises ``Broken`` if there is
        data that nobody has read, or if the peer leaves without its close_notify.
        """
        with self._reading, self._writing:
            if not self._goodbye:
                self._check_writable()
            await self._start()
            await checkpoint()
            self._say_goodbye()
            await self._send()
            while True:
                seen = self._fills
                data = self._take(DEFAULT_SIZE)
                if data == b"":
                    break
                if data:
                    self._plain = data + self._plain
                    raise Broken(f"{self.describe()} still has data to read; read to the end before unwrap()")
                await self._fill(seen)
            self._closed = True
            return self.raw, self._in.read()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._plain = b""
            self.raw.close()

    async def aclose(self) -> None:
        """Say goodbye (close_notify) and close; the peer's goodbye is not waited for: see ``unwrap``.

        After a torn write or a failed handshake there is no goodbye, so that the peer can tell. A cancellation point; it is closed
        in any case.
        """
        if self._closed:
            await checkpoint()
            return
        owing = self._accepted
        try:
            if self._shaken and self._torn is None:
                with self._writing:
                    self._say_goodbye()
                    await self._send()
            self._closed = True
            await self.raw.aclose()
        except Broken:
            self._closed = True
            self.raw.close()
            if owing:
                raise  # data that try_write had taken is lost with it
            # Else nobody is left to say goodbye to.
        except BaseException:
            self._closed = True
            self.raw.close()
            raise

    # -- what is known ---------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self._closed

    def selected_alpn_protocol(self) -> str | None:
        """The protocol agreed on by ALPN, or None. Known after the handshake."""
        return self.ssl_object.selected_alpn_protocol()

    def getpeercert(self, binary_form: bool = False) -> Any:
        """The peer's certificate as ``ssl.SSLSocket.getpeercert`` gives it: a dict, DER bytes, or None."""
        return self.ssl_object.getpeercert(binary_form)

    def version(self) -> str | None:
        """``"TLSv1.3"`` and the like; None before the handshake."""
        return self.ssl_object.version()

    def cipher(self) -> tuple[str, str, int] | None:
        """Name, protocol version and secret bits of the cipher in use; None before the handshake."""
        return self.ssl_object.cipher()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        engine = self.ssl_object
        answers: dict[str, Callable[[], Any]] = {
            "ssl_object": lambda: engine,
            "sslcontext": lambda: engine.context,
            "peercert": engine.getpeercert,
            "cipher": engine.cipher,
            "compression": engine.compression,
        }
        answer = answers.get(name)
        return answer() if answer is not None else self.raw.get_extra_info(name, default)

    def __repr__(self) -> str:
        return f"<{self.describe()}{' closed' if self._closed else ''}>"


class _NoSlot:
    """In place of a second ``Slot``."""

    def __enter__(self) -> None:
        return

    def __exit__(self, *exc: object) -> None:
        return


_NO_SLOT = _NoSlot()


def wrap(
    stream: AsyncStream,
    context: _ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    suppress_ragged_eofs: bool = False,
    session: _ssl.SSLSession | None = None,
) -> TLSStream:
    """TLS over ``stream``, whichever it is: a socket, a ``duplex``, another ``TLSStream``. Returns at once.

    The handshake comes with the first use, or with ``await tls.do_handshake()``. A client names the host whose certificate it
    expects in ``server_hostname``. ``suppress_ragged_eofs=True`` takes an end without close_notify for a clean one: an attacker
    can then cut the data short unseen. ``session`` resumes an earlier connection. Raises ``ValueError`` where the context needs
    a host name and there is none, ``TypeError`` for what is no context. The stream belongs to the result.
    """
    if not isinstance(context, _ssl.SSLContext):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TypeError(
            f"context must be an ssl.SSLContext (say, from bateau.ssl.create_default_context()), not {type(context).__name__}"
        )
    if context.check_hostname and not server_side and not server_hostname:
        raise ValueError("the context checks host names: say in server_hostname whose certificate is expected")
    return TLSStream(stream, context, server_side, server_hostname, suppress_ragged_eofs, session)


def __getattr__(name: str) -> Any:
    """Every other name of Python's ``ssl``: contexts, errors, constants."""
    try:
        return getattr(_ssl, name)
    except AttributeError:
        raise AttributeError(f"neither module 'bateau.ssl' nor Python's 'ssl' has an attribute {name!r}") from None
