"""What is known of libraries, as data: which calls give which things, wait, block, lock, open. Full names everywhere.

Beside this stands ``bateau.counterparts``, which says what to write instead of a blocking call; ``tests/lint/test_knowledge.py`` holds that
what is named here exists.
"""

from __future__ import annotations

# Functions that give an instance of a class whose name is not theirs; methods stand under the name of their class.
RESULTS: dict[str, str] = {
    "asyncio.get_running_loop": "asyncio.AbstractEventLoop",
    "asyncio.get_event_loop": "asyncio.AbstractEventLoop",
    "asyncio.new_event_loop": "asyncio.AbstractEventLoop",
    "concurrent.futures.ThreadPoolExecutor.submit": "concurrent.futures.Future",
    "concurrent.futures.ProcessPoolExecutor.submit": "concurrent.futures.Future",
    "requests.session": "requests.Session",
    "threading.Semaphore": "threading.Semaphore",
    "multiprocessing.Process": "multiprocessing.Process",
}

# What awaiting a call gives.
AWAITED_RESULTS: dict[str, str] = {
    "bateau.fs.open": "bateau.fs.AsyncFile",
    "bateau.net.connect": "bateau.net.SocketStream",
    "bateau.net.connect_tcp": "bateau.net.SocketStream",
    "bateau.net.listen_tcp": "bateau.net.Listener",
    "bateau.net.unix.connect": "bateau.net.SocketStream",
    "bateau.net.udp": "bateau.net.UdpSocket",
    "bateau.subprocess.open_process": "bateau.subprocess.Process",
    "trio.open_tcp_stream": "trio.SocketStream",
    "anyio.connect_tcp": "anyio.abc.SocketStream",
    "asyncio.create_subprocess_exec": "asyncio.subprocess.Process",
    "asyncio.create_subprocess_shell": "asyncio.subprocess.Process",
}

# Locks for threads: while one is held over an await, whoever wants it next blocks the loop.
THREAD_LOCKS = frozenset(
    f"{module}.{name}"
    for module in ("threading", "multiprocessing")
    for name in ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore")
)

# Locks for tasks that one holds at a time.
TASK_LOCKS = frozenset(
    """
    asyncio.Lock asyncio.Condition trio.Lock trio.StrictFIFOLock trio.Condition anyio.Lock anyio.Condition bateau.sync.Lock bateau.sync.Condition
    """.split()
)

# Functions whose whole work is to wait for something outside the program; awaited, or entered by `async with`.
_SLEEPS = "asyncio.sleep trio.sleep anyio.sleep bateau.time.sleep"
_CONNECTS = """
asyncio.open_connection asyncio.open_unix_connection trio.open_tcp_stream trio.open_unix_socket trio.open_ssl_over_tcp_stream
anyio.connect_tcp anyio.connect_unix bateau.net.connect bateau.net.connect_tcp bateau.net.resolve bateau.net.getaddrinfo
aiohttp.request asyncpg.connect websockets.connect
"""
_PROCESSES = "asyncio.create_subprocess_exec asyncio.create_subprocess_shell trio.run_process anyio.run_process bateau.subprocess.run bateau.subprocess.check_output bateau.subprocess.check_call bateau.subprocess.call"
_FILES = "bateau.fs.rmtree bateau.fs.copytree bateau.fs.copyfile bateau.fs.copy bateau.fs.copy2 bateau.fs.move"
SLEEPS = frozenset(_SLEEPS.split())
OUTSIDE: dict[str, str] = {
    **dict.fromkeys(_SLEEPS.split(), "sleeps"),
    **dict.fromkeys(_CONNECTS.split(), "waits for the network"),
    **dict.fromkeys(_PROCESSES.split(), "waits for a process"),
    **dict.fromkeys(_FILES.split(), "waits for the disk"),
}
# Clients each of whose methods is a whole exchange with a peer.
CLIENTS = frozenset(
    {"httpx.AsyncClient", "aiohttp.ClientSession", "asyncpg.Connection", "asyncpg.Pool", "redis.asyncio.Redis"}
)
EXCHANGES = frozenset(
    "get post put patch delete head options request send execute fetch fetchrow fetchval executemany stream ws_connect".split()
)

# Functions that run another, given to them, in a thread or a process: what they are given may block.
ELSEWHERE = frozenset(
    """
    asyncio.to_thread trio.to_thread.run_sync anyio.to_thread.run_sync anyio.to_process.run_sync anyio.to_interpreter.run_sync
    bateau.thread.run bateau.offload asyncio.AbstractEventLoop.run_in_executor threading.Thread threading.Timer multiprocessing.Process
    concurrent.futures.ThreadPoolExecutor.submit concurrent.futures.ProcessPoolExecutor.submit
    starlette.concurrency.run_in_threadpool fastapi.concurrency.run_in_threadpool asgiref.sync.sync_to_async
    """.split()
)  # fmt: skip

# Functions that start a program: the library that then drives it. `bateau.run` and `anyio.run` are told by their arguments.
PROGRAMS: dict[str, str] = {
    "asyncio.run": "asyncio",
    "uvloop.run": "asyncio",
    "trio.run": "trio",
    "trio.lowlevel.start_guest_run": "trio",
    "asyncio.AbstractEventLoop.run_until_complete": "asyncio",
    "asyncio.Runner.run": "asyncio",
    "bateau.run": "",
    "anyio.run": "",
    "bateau.block_on": "",
}
# bateau's runtimes, by what of others' awaits works in them.
RUNTIMES = {"native": "asyncio", "asyncio": "asyncio", "uvloop": "asyncio", "trio": "trio"}
ANYIO_BACKENDS = {"asyncio": "asyncio", "trio": "trio"}

# Libraries that await asyncio's futures, whatever they are called under.
ON_ASYNCIO = frozenset("asyncio aiohttp asyncpg aiomysql aiopg aiokafka aioredis aio_pika uvloop".split())
ON_TRIO = frozenset({"trio"})

# Coroutine functions of libraries: a call alone does nothing. Every other name of these modules is not said to be one.
_COROUTINES = """
asyncio.sleep asyncio.wait asyncio.wait_for asyncio.to_thread asyncio.open_connection asyncio.open_unix_connection asyncio.start_server
asyncio.start_unix_server asyncio.create_subprocess_exec asyncio.create_subprocess_shell
trio.sleep trio.sleep_until trio.sleep_forever trio.open_tcp_stream trio.open_unix_socket trio.serve_tcp trio.open_tcp_listeners
trio.open_file trio.run_process trio.to_thread.run_sync trio.lowlevel.checkpoint trio.lowlevel.cancel_shielded_checkpoint
anyio.sleep anyio.sleep_until anyio.sleep_forever anyio.connect_tcp anyio.connect_unix anyio.create_tcp_listener anyio.open_file
anyio.run_process anyio.open_process anyio.getaddrinfo anyio.to_thread.run_sync anyio.to_process.run_sync anyio.lowlevel.checkpoint
bateau.time.sleep bateau.time.sleep_until bateau.time.sleep_forever bateau.checkpoint bateau.yield_now bateau.join bateau.race
bateau.net.connect bateau.net.connect_tcp bateau.net.listen_tcp bateau.net.resolve bateau.net.getaddrinfo bateau.fs.open
bateau.thread.run bateau.subprocess.run bateau.subprocess.call bateau.subprocess.check_call bateau.subprocess.check_output
"""
COROUTINES = frozenset(_COROUTINES.split())
# Methods that are awaited, by the class of what they are called on.
COROUTINE_METHODS: dict[str, frozenset[str]] = {
    **{f"asyncio.{name}": frozenset({"acquire"}) for name in ("Lock", "Semaphore", "BoundedSemaphore")},
    "asyncio.Event": frozenset({"wait"}),
    "asyncio.Condition": frozenset({"acquire", "wait", "wait_for"}),
    "asyncio.Barrier": frozenset({"wait"}),
    **{f"asyncio.{name}": frozenset({"get", "put", "join"}) for name in ("Queue", "LifoQueue", "PriorityQueue")},
    "trio.Event": frozenset({"wait"}),
    **{f"{lib}.{name}": frozenset({"acquire"}) for lib in ("trio", "anyio") for name in ("Lock", "Semaphore", "CapacityLimiter")},
    "anyio.Event": frozenset({"wait"}),
    **{f"bateau.sync.{name}": frozenset({"acquire"}) for name in ("Lock", "Semaphore", "BoundedSemaphore", "Limiter")},
    "bateau.sync.Event": frozenset({"wait"}),
    "bateau.sync.Condition": frozenset({"acquire", "wait", "wait_for"}),
    "bateau.sync.Barrier": frozenset({"wait"}),
    "bateau.net.SocketStream": frozenset({"recv", "read", "readinto", "sendall", "write"}),
    "bateau.net.Listener": frozenset({"accept"}),
    "bateau.subprocess.Process": frozenset({"wait", "communicate"}),
    "httpx.AsyncClient": frozenset({"get", "post", "put", "patch", "delete", "head", "options", "request", "send", "aclose"}),
}  # fmt: skip

# Waits of no length: they only let others run.
YIELDS = frozenset({"bateau.checkpoint", "bateau.yield_now", "trio.lowlevel.checkpoint", "anyio.lowlevel.checkpoint"})

# Exceptions that are, or include, a cancellation.
CANCELLATIONS = frozenset(
    {"asyncio.CancelledError", "trio.Cancelled", "bateau.Cancelled", "builtins.BaseException", "curio.CancelledError"}
)

# What has to be closed, and is not by being dropped: awaited calls, and classes whose instances are open at once.
OPENED_BY_AWAIT = frozenset(
    """
    bateau.net.connect bateau.net.connect_tcp bateau.net.listen_tcp bateau.net.unix.connect bateau.net.unix.listen bateau.net.udp
    bateau.fs.open bateau.subprocess.open_process
    trio.open_tcp_stream trio.open_unix_socket trio.open_file anyio.connect_tcp anyio.connect_unix anyio.open_file
    """.split()
)
OPENED_BY_CALL = frozenset({"httpx.AsyncClient", "aiohttp.ClientSession"})
CLOSING = frozenset(
    {"close", "aclose", "detach", "__aexit__", "kill", "terminate", "wait", "communicate", "wait_closed"}
)
