"""A plain trio program, with nothing of bateau at its top, that uses the library: ``client_on_trio.py PORT WORD...``."""

import sys

import line_protocol
import trio

import bateau


async def main(port: str, *words: str) -> None:
    async with bateau.scope() as scope:
        client = await line_protocol.connect(scope, f"tcp:127.0.0.1:{port}")
        with trio.move_on_after(0.05):  # trio's own timeout around the library's wait
            await client.ask("slow")
        answers: dict[str, str] = {}

        async def ask(word: str) -> None:
            answers[word] = await client.ask("upper", word, timeout=10)

        async with trio.open_nursery() as nursery:
            for word in words:
                nursery.start_soon(ask, word)
        for word in words:
            print(answers[word])


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
