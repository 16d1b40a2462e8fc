"""A plain asyncio program, with nothing of bateau at its top, that uses the library: it prints its port and serves until SIGTERM."""

import asyncio
import signal

import line_protocol

import bateau


async def upper(text: str) -> str:
    await asyncio.sleep(0.001)
    return text.upper()


async def slow(text: str) -> str:
    await asyncio.sleep(60)
    return text


async def main() -> None:
    asked_to_end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked_to_end.set)
    listener = await bateau.net.listen_tcp("127.0.0.1", 0)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(line_protocol.serve({"upper": upper, "slow": slow}, listener))
        print(listener.getsockname()[1], flush=True)
        await asked_to_end.wait()
        serving.cancel()
    print("bye", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
