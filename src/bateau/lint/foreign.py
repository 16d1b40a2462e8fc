"""What bateau has in the place of things of asyncio and trio: the same under every runtime."""

from __future__ import annotations

# By full name. What is missing here has no counterpart of one name; the page of its library says more.
COUNTERPARTS: dict[str, str] = {
    "asyncio.sleep": "bateau.time.sleep",
    "asyncio.gather": "bateau.join",
    "asyncio.wait": "bateau.select",
    "asyncio.wait_for": "bateau.timeout",
    "asyncio.timeout": "bateau.timeout",
    "asyncio.timeout_at": "bateau.deadline",
    "asyncio.shield": "bateau.shield",
    "asyncio.to_thread": "bateau.thread.run",
    "asyncio.TaskGroup": "bateau.scope",
    "asyncio.create_task": "bateau.Scope.spawn",
    "asyncio.ensure_future": "bateau.Scope.spawn",
    "asyncio.open_connection": "bateau.net.connect_tcp",
    "asyncio.open_unix_connection": "bateau.net.unix.connect",
    "asyncio.start_server": "bateau.net.listen_tcp",
    "asyncio.start_unix_server": "bateau.net.unix.listen",
    "asyncio.create_subprocess_exec": "bateau.subprocess.open_process",
    "asyncio.create_subprocess_shell": "bateau.subprocess.open_process",
    "asyncio.Lock": "bateau.sync.Lock",
    "asyncio.Event": "bateau.sync.Event",
    "asyncio.Condition": "bateau.sync.Condition",
    "asyncio.Semaphore": "bateau.sync.Semaphore",
    "asyncio.BoundedSemaphore": "bateau.sync.BoundedSemaphore",
    "asyncio.Barrier": "bateau.sync.Barrier",
    "asyncio.Queue": "bateau.channel.channel",
    "trio.sleep": "bateau.time.sleep",
    "trio.sleep_until": "bateau.time.sleep_until",
    "trio.sleep_forever": "bateau.time.sleep_forever",
    "trio.open_nursery": "bateau.scope",
    "trio.move_on_after": "bateau.move_on_after",
    "trio.fail_after": "bateau.fail_after",
    "trio.CancelScope": "bateau.CancelScope",
    "trio.open_tcp_stream": "bateau.net.connect_tcp",
    "trio.open_unix_socket": "bateau.net.unix.connect",
    "trio.open_tcp_listeners": "bateau.net.listen_tcp",
    "trio.open_file": "bateau.fs.open",
    "trio.run_process": "bateau.subprocess.run",
    "trio.to_thread.run_sync": "bateau.thread.run",
    "trio.lowlevel.checkpoint": "bateau.checkpoint",
    "trio.Lock": "bateau.sync.Lock",
    "trio.Event": "bateau.sync.Event",
    "trio.Condition": "bateau.sync.Condition",
    "trio.Semaphore": "bateau.sync.Semaphore",
    "trio.CapacityLimiter": "bateau.sync.Limiter",
    "trio.open_memory_channel": "bateau.channel.channel",
}

# What can be done where the thing itself is wanted, by the library whose it is.
WAYS_OUT = {
    "asyncio": "run the program with runtime='native' or 'asyncio', or call it as `await bateau.thread.run(asyncio.run, fn())`",
    "trio": "run the program with runtime='trio', or call it as `await bateau.thread.run(trio.run, fn)`",
}


def counterpart(name: str) -> str | None:
    """What bateau has for a thing, or for of the class whose method is named."""
    return COUNTERPARTS.get(name) or COUNTERPARTS.get(name.rpartition(".")[0])
