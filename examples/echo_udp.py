"""A UDP echo server. ``bateau run examples/echo_udp.py [PORT]``. Ctrl-C stops it."""

import sys

import bateau
from bateau import net


@bateau.main
async def main(port: int = 8007) -> None:
    async with await net.udp(local=("127.0.0.1", port)) as sock:
        print(f"listening on 127.0.0.1:{sock.getsockname()[1]}", flush=True)
        async for data, sender in sock:  # ends when asked to stop
            await sock.sendto(data, sender)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
