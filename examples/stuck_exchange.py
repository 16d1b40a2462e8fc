"""A server that goes on accepting while two of its tasks wait for each other for ever: something to look at.

    bateau run examples/stuck_exchange.py          and in another terminal, with the number it prints:
    bateau console PID                             (P shows the problem, D draws it)
    bateau dump PID                                the same as text

Two banks clear payments over two bounded channels. Each sends all it owes before it takes in what it is owed, so as soon as both owe more than
a channel holds, each waits for the other to receive. Meanwhile the server answers, so nothing looks wrong from outside. The cure is to
receive while one waits to send: a second task in each bank, or a ``select`` over both.
"""

from __future__ import annotations

import os
import sys

import bateau
from bateau import insight, net, sync
from bateau.channel import Receiver, Sender, channel


async def bank(owed: Sender[int], owing: Receiver[int], payments: int) -> None:
    """Hello first, then all that is owed, then all that is due: the mistake."""
    async with owed, owing:
        await owed.send(0)
        await owing.recv()
        for payment in range(payments):
            await owed.send(payment)
        async for _ in owing:
            pass


async def answer(stream: net.TcpStream, ledger: sync.Lock) -> None:
    """Each client asks once for the ledger."""
    async with stream, ledger:
        await stream.write(b"open\n")


async def audit(ledger: sync.Lock) -> None:
    """Keeps the ledger for an hour: those who ask for it have to wait, and that is no mistake."""
    async with ledger:
        await bateau.time.sleep(3600)  # bateau: ignore[lock_held_across_io]


async def main() -> None:
    """Serve until Ctrl-C."""
    insight.init()
    ledger = sync.Lock(name="ledger")
    to_north, from_south = channel[int](8, name="south to north")
    to_south, from_north = channel[int](8, name="north to south")
    async with await net.listen_tcp("127.0.0.1", 0) as listener, bateau.scope(name="exchange") as scope:
        scope.spawn(bank, to_south, from_south, 20, name="north")
        scope.spawn(bank, to_north, from_north, 20, name="south")
        scope.spawn(audit, ledger, name="audit")
        print(f"process {os.getpid()} serves on port {listener.port}", flush=True)
        async for number, stream in bateau.iter(listener).enumerate():
            scope.spawn(answer, stream, ledger, name=f"client-{number}")


if __name__ == "__main__":
    sys.exit(bateau.run(main))
