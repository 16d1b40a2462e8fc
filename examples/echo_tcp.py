"""A TCP echo server. ``bateau run examples/echo_tcp.py [PORT]``; try it with ``nc 127.0.0.1 8007``. Ctrl-C stops it."""

import sys

import bateau
from bateau import net


async def echo(stream: net.SocketStream) -> None:
    while chunk := await stream.read():
        await stream.write(chunk)  # waits while the peer does not read: nothing piles up


@bateau.main
async def main(port: int = 8007) -> None:
    async with await net.listen_tcp("127.0.0.1", port) as listener:
        print(f"listening on 127.0.0.1:{listener.port}", flush=True)
        await net.serve(echo, listener)  # a task per connection; ends when asked to stop


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
