"""A sync library over an async client that does not hang. ``python examples/hanging_alarm.py`` (``BATEAU_RUNTIME`` chooses).

``Alarm`` keeps one connection and offers plain sync methods. They work from a script (call after call, on the same connection),
from a thread, from a worker thread of an async program, and inside a running program where the runtime can do that; elsewhere
they fail at once, naming both sides.
"""

from __future__ import annotations

import threading

import bateau
from bateau import net, thread
from bateau.io import BufReader


async def serve_alarms(stream: net.SocketStream) -> None:
    """The other side: answers each line with the number of lines so far."""
    count = 0
    async for _ in BufReader(stream):
        count += 1
        await stream.write(b"%d\n" % count)


class Alarm:
    """The sync facade. Its connection belongs to the loop of whoever made it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stream: net.SocketStream | None = None

    def ring(self) -> int:
        """Ring, and say how often it rang on this connection."""
        return bateau.block_on(self.ring_async)

    def close(self) -> None:
        """Hang up."""
        if self._stream is not None:
            bateau.block_on(self._stream.aclose)

    async def ring_async(self) -> int:
        if self._stream is None:
            self._stream = await net.connect_tcp("127.0.0.1", self._port)
        await self._stream.write(b"ring\n")
        return int(await BufReader(self._stream).readline())


def from_a_script(port: int) -> None:
    alarm = Alarm(port)
    print("script:", alarm.ring(), alarm.ring(), alarm.ring())
    alarm.close()


async def from_a_program(port: int) -> None:
    alarm = Alarm(port)
    await alarm.ring_async()
    print("worker thread of a program:", await thread.run(alarm.ring))
    try:
        print("inside a program:", alarm.ring())
    except bateau.NestedRun as error:
        print("inside a program: refused at once:", str(error).split(";")[0].split(". ")[0])
    await thread.run(alarm.close)


def main() -> None:
    async def start() -> net.Listener:
        return await net.listen_tcp("127.0.0.1", 0)

    with thread.start_portal() as server:
        listener = server.run(start)
        serving = server.spawn(net.serve, serve_alarms, listener)
        port = listener.port

        from_a_script(port)
        plain = threading.Thread(target=from_a_script, args=[port])
        plain.start()
        plain.join()
        bateau.run(from_a_program, port)

        serving.cancel()


if __name__ == "__main__":
    main()
