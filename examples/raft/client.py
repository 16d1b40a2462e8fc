"""A client of the cluster, as a class and as a program.

    bateau run examples/raft/client.py --servers 127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003 put key value
    ... get key | delete key | swap key expected new | add id host:port | remove id | status

Theory of operation. A question is asked until it is answered: servers are tried in turn, beginning with the one that was said to lead.
A change carries the session and a number, so that asking again does not do it again. Whoever wants an end of the trying sets one:
``with bateau.timeout(5): await client.put(...)``; then it isn't known whether the change has happened or still will.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ in ("__main__", "__bateau__"):  # run as a file: the package is where this file's directory is
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bateau
from bateau import net, sync
from raft.link import split_address
from raft.messages import Answer, Ask, Connection, ProtocolError


class SessionExpired(Exception):
    """The cluster has forgotten this client's session. Whether its last change has happened is not known."""


class Refused(ValueError):
    """The cluster says that the question makes no sense."""


class Client:
    """For any number of tasks, whose questions are asked one after the other: ``async with Client(addresses) as client``.

    ``patience`` is how many seconds one server has for an answer before another one is asked.
    """

    def __init__(self, servers: Sequence[str], *, patience: float = 1.0) -> None:
        if not servers:
            raise ValueError("name at least one server")
        self._servers = list(servers)
        self._patience = patience
        self._turn = sync.Lock(name="raft client")
        self._connection: Connection | None = None
        self._address = ""  # whom to ask next; empty: anybody
        self._asked = 0
        self._session = 0
        self._number = 0

    # -- the store ---------------------------------------------------------------------------------------------------------

    async def put(self, key: str, value: str) -> None:
        """Set ``key``. A cancellation point; cancelled, it may have happened, may still happen, but not after a later change."""
        await self._do("put", key, value)

    async def delete(self, key: str) -> bool:
        """Remove ``key``; gives whether it was there. Cancelled: as ``put``."""
        return bool(await self._do("delete", key))

    async def swap(self, key: str, expected: str | None, new: str) -> bool:
        """Set ``key`` if its value is ``expected`` (None: if it has none); gives whether it was so. Cancelled: as ``put``."""
        return bool(await self._do("swap", key, new, expected))

    async def get(self, key: str) -> str | None:
        """The value of ``key``, at some moment between the call and its end. A cancellation point without effect."""
        found: str | None = await self._ask("get", key)
        return found

    async def _do(self, *command: str | None) -> Any:
        async with self._turn:
            if not self._session:
                self._session = await self._until_answered("open")
            self._number += 1
            return await self._until_answered("do", self._session, self._number, *command)

    # -- the cluster -------------------------------------------------------------------------------------------------------

    async def add_server(self, id: str, address: str) -> None:
        """Make a server, which is running without members, a member. Returns when it is committed. A cancellation point."""
        await self._ask("add", id, address)

    async def remove_server(self, id: str) -> None:
        """Make a member none. Returns when that is committed; then its process can be ended. A cancellation point."""
        await self._ask("remove", id)

    async def status(self, server: str) -> dict[str, Any]:
        """What ``server`` (an address) knows. Raises ``OSError`` if it can't be reached. A cancellation point."""
        with bateau.timeout(self._patience):
            stream = await net.connect_tcp(*split_address(server))
            async with Connection(stream) as connection:
                await connection.send(Ask(1, "status", []))
                answer = await connection.receive()
        if not isinstance(answer, Answer):
            raise ConnectionResetError(f"{server} closed the connection")
        found: dict[str, Any] = answer.value
        return found

    # -- asking ------------------------------------------------------------------------------------------------------------

    async def _ask(self, verb: str, *arguments: Any) -> Any:
        async with self._turn:
            return await self._until_answered(verb, *arguments)

    async def _until_answered(self, verb: str, *arguments: Any) -> Any:
        """Ask until there is an answer. Raises ``SessionExpired`` and ``Refused``. The caller has the turn."""
        while True:
            try:
                answer = await self._once(verb, list(arguments))
            except (OSError, ProtocolError):
                await self._move_on("")
                continue
            if answer.status == "ok":
                return answer.value
            if answer.status == "expired":
                self._session = self._number = 0
                raise SessionExpired(answer.value)
            if answer.status == "error":
                raise Refused(answer.value)
            await self._move_on(answer.value if answer.status == "moved" else "")

    async def _once(self, verb: str, arguments: list[Any]) -> Answer:
        """Ask one server, once. Raises ``OSError``, ``ProtocolError``. Cut short in any way, it drops the connection."""
        self._asked += 1
        ask = Ask(self._asked, verb, arguments)
        connection, self._connection = self._connection, None
        try:
            with bateau.timeout(self._patience):
                if connection is None:
                    self._address = self._address or random.choice(self._servers)
                    connection = Connection(await net.connect_tcp(*split_address(self._address)))
                await connection.send(ask)
                answer = await connection.receive()
            if not isinstance(answer, Answer) or answer.number != ask.number:
                raise ConnectionResetError(f"{self._address} ended the connection without an answer")
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        self._connection = connection
        return answer

    async def _move_on(self, address: str) -> None:
        """The next attempt goes to ``address``, at once, or after a moment to anybody."""
        self.close()
        self._address = address
        if not address:
            await bateau.time.sleep(random.uniform(0.05, 0.2) * self._patience)

    def close(self) -> None:
        """Close the connection, at once. A later question makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


# -- the program ---------------------------------------------------------------------------------------------------------


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ask a raft cluster.")
    parser.add_argument("--servers", required=True, help="host:port of each, separated by commas")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds until it is given up (default: 10)")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, operands in {
        "put": ["key", "value"],
        "get": ["key"],
        "delete": ["key"],
        "swap": ["key", "expected", "new"],
        "add": ["id", "address"],
        "remove": ["id"],
        "status": [],
    }.items():
        command = commands.add_parser(name)
        for operand in operands:
            command.add_argument(operand)
    return parser.parse_args()


async def _status(client: Client, servers: Sequence[str]) -> None:
    for server in servers:
        try:
            print(f"{server}: {await client.status(server)}")
        except OSError as error:
            print(f"{server}: {error}")


@bateau.main
async def main() -> int:
    args = _arguments()
    servers = args.servers.split(",")
    try:
        with bateau.timeout(args.timeout):
            async with Client(servers) as client:
                if args.command == "status":
                    await _status(client, servers)
                elif args.command == "get":
                    value = await client.get(args.key)
                    print("(no value)" if value is None else value)
                elif args.command == "put":
                    await client.put(args.key, args.value)
                elif args.command == "delete":
                    print("deleted" if await client.delete(args.key) else "there was none")
                elif args.command == "swap":
                    print("swapped" if await client.swap(args.key, args.expected, args.new) else "it has another value")
                elif args.command == "add":
                    await client.add_server(args.id, args.address)
                elif args.command == "remove":
                    await client.remove_server(args.id)
    except (TimeoutError, SessionExpired, Refused) as error:
        print(f"{args.command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
