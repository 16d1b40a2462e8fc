"""Which of Python's blocking calls has which counterpart here: data for tools, tested against the real signatures.

Lint, the run-time hazards and the documentation read the same table, so that they give the same advice. Nothing here imports what it
names; ``find`` looks a call up by its full name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

# How the counterpart is used: awaited; in ``async with`` or ``async for``; called; or the blocking call itself is handed to
# the counterpart, which runs it elsewhere (``await bateau.thread.run(input, "? ")``).
How = Literal["await", "async with", "async for", "call", "hand over"]


@dataclass(frozen=True)
class Counterpart:
    """One blocking call and what to use instead.

    ``blocking`` and ``bateau`` are full names. ``renamed`` maps parameters of the one to those of the other; ``instead`` says, for
    each parameter that has no counterpart, what to do. Whatever is in neither has the same name and meaning in both.
    """

    blocking: str
    bateau: str
    how: How = "await"
    renamed: Mapping[str, str] = field(default_factory=dict[str, str])
    instead: Mapping[str, str] = field(default_factory=dict[str, str])
    note: str = ""

    @property
    def same_arguments(self) -> bool:
        """Whether a call can be rewritten by its name alone (and its ``how``): a fix that a tool may apply."""
        return not self.renamed and not self.instead and self.how != "hand over" and not self.note

    def advice(self) -> str:
        """One sentence: what to write instead of the blocking call."""
        short = self.blocking.removeprefix("builtins.")
        if self.how == "hand over":
            text = f"await {self.bateau}({short}, ...)"
        else:
            text = {"await": "await ", "async with": "async with ", "async for": "async for ... in "}.get(self.how, "")
            text += self.bateau
        return f"use `{text}` instead of `{short}`" + (f": {self.note}" if self.note else "")


_TIMEOUT = {"timeout": "with bateau.timeout(seconds):"}
_LOCK = {"blocking": "try_acquire(), which never waits", **_TIMEOUT}
_QUEUE = {"block": "try_send() and try_recv(), which never wait", **_TIMEOUT}
_TEXT = dict.fromkeys(
    ("bufsize", "universal_newlines", "encoding", "errors", "text", "pipesize"),
    "the streams are unbuffered bytes; bateau.io.BufReader gives lines",
)
_PREEXEC = {
    "preexec_fn": "user, group, umask, process_group or env: code can't run safely after fork beside other threads"
}

_TIME = (
    Counterpart("time.sleep", "bateau.time.sleep"),
    Counterpart(
        "threading.Timer",
        "bateau.time.sleep",
        note="spawn a task that sleeps, then calls; cancelling the task cancels it",
    ),
)

_BUILTINS = (
    Counterpart("builtins.open", "bateau.fs.open", "async with"),
    Counterpart("io.open", "bateau.fs.open", "async with"),
    Counterpart("builtins.input", "bateau.thread.run", "hand over"),
    Counterpart(
        "builtins.print", "bateau.thread.run", "hand over", note="only where the output may block, as a pipe may"
    ),
    Counterpart("getpass.getpass", "bateau.thread.run", "hand over"),
)

# ``os``, ``os.path`` and ``shutil`` under their own names, with their own arguments.
_SAME_FUNCTIONS = {
    "os": "access chmod getcwd link listdir lstat makedirs mkdir readlink remove removedirs rename renames replace rmdir stat "
    "symlink truncate unlink utime",
    "os.path": "exists getmtime getsize isdir isfile islink lexists realpath samefile",
    "shutil": "copy copy2 copyfile copymode copystat copytree disk_usage move rmtree which",
}

_OS = (
    *(
        Counterpart(f"{module}.{name}", f"bateau.fs.{name}")
        for module, names in _SAME_FUNCTIONS.items()
        for name in names.split()
    ),
    Counterpart("os.walk", "bateau.fs.walk", "async for"),
    Counterpart("os.scandir", "bateau.fs.scandir", "async for", note="the methods of the entries are awaited"),
    Counterpart("os.system", "bateau.subprocess.run", renamed={"command": "args"}, note="with shell=True; gives a CompletedProcess"),
    Counterpart("os.popen", "bateau.subprocess.check_output", renamed={"cmd": "args"},
                instead={"mode": "text=True", "buffering": "the output comes as one"}, note="with shell=True"),
    Counterpart("os.waitpid", "bateau.subprocess.Process.wait", renamed={"pid": "self"}, instead={"options": "Process.poll()"}),
    Counterpart("os.fsync", "bateau.fs.AsyncFile.fsync", renamed={"fd": "self"}),
)  # fmt: skip

_TEMPFILE = (
    *(Counterpart(f"tempfile.{name}", f"bateau.fs.{name}") for name in ("mkstemp", "mkdtemp", "gettempdir")),
    Counterpart("tempfile.TemporaryFile", "bateau.fs.TemporaryFile", "async with"),
    Counterpart("tempfile.NamedTemporaryFile", "bateau.fs.NamedTemporaryFile", "async with",
                instead={"delete_on_close": "delete=False and fs.unlink"}),
    Counterpart("tempfile.SpooledTemporaryFile", "bateau.fs.SpooledTemporaryFile", "async with"),
    Counterpart("tempfile.TemporaryDirectory", "bateau.fs.TemporaryDirectory", "async with",
                instead={"delete": "fs.mkdtemp, which never deletes"}),
)  # fmt: skip

_PATH_METHODS = (
    "absolute chmod cwd exists expanduser group hardlink_to home is_block_device is_char_device is_dir is_fifo is_file is_mount "
    "is_socket is_symlink lchmod lstat mkdir owner read_bytes read_text readlink rename replace resolve rmdir samefile stat symlink_to "
    "touch unlink write_bytes write_text"
)
# Parameters of newer Pythons that the oldest supported one can't honour.
_NEWER = {"recurse_symlinks": "a walk() of your own", "follow_symlinks": "stat(), which has it"}
_PATHLIB = (
    *(
        Counterpart(
            f"pathlib.Path.{name}",
            f"bateau.fs.Path.{name}",
            instead={
                "is_dir": _NEWER,
                "is_file": _NEWER,
                "owner": _NEWER,
                "group": _NEWER,
                "read_text": {"newline": "open(newline=...)"},
            }.get(name, {}),
        )
        for name in _PATH_METHODS.split()
    ),
    Counterpart("pathlib.Path.open", "bateau.fs.Path.open", "async with"),
    Counterpart("pathlib.Path.iterdir", "bateau.fs.Path.iterdir", "async for"),
    Counterpart("pathlib.Path.glob", "bateau.fs.Path.glob", "async for", instead=_NEWER),
    Counterpart("pathlib.Path.rglob", "bateau.fs.Path.rglob", "async for", instead=_NEWER),
    Counterpart("pathlib.Path.walk", "bateau.fs.Path.walk", "async for"),
)

# The methods of open files: text and binary alike, then binary.
_FILES = (
    *(
        Counterpart(f"io.{kind}.{name}", f"bateau.fs.{ours}.{name}")
        for kind, ours in (
            ("TextIOWrapper", "TextFile"),
            ("BufferedReader", "BinaryFile"),
            ("BufferedWriter", "BinaryFile"),
        )
        for name in ("read", "readline", "readlines", "write", "writelines", "flush", "seek", "tell", "truncate")
    ),
    *(
        Counterpart(f"io.BufferedReader.{name}", f"bateau.fs.BinaryFile.{name}")
        for name in ("readinto", "read1", "peek")
    ),
    Counterpart("io.TextIOWrapper.close", "bateau.fs.AsyncFile.aclose"),
    Counterpart("io.BufferedReader.close", "bateau.fs.AsyncFile.aclose"),
    Counterpart("io.BufferedWriter.close", "bateau.fs.AsyncFile.aclose"),
)

_SUBPROCESS = (
    Counterpart("subprocess.run", "bateau.subprocess.run", renamed={"popenargs": "args", "kwargs": "options"}),
    Counterpart("subprocess.call", "bateau.subprocess.call", renamed={"popenargs": "args", "kwargs": "options"}),
    Counterpart("subprocess.check_call", "bateau.subprocess.check_call", renamed={"popenargs": "args", "kwargs": "options"}),
    Counterpart("subprocess.check_output", "bateau.subprocess.check_output", renamed={"popenargs": "args", "kwargs": "options"}),
    Counterpart("subprocess.getoutput", "bateau.subprocess.check_output", renamed={"cmd": "args"},
                instead={"encoding": "encoding=", "errors": "errors="}, note="with shell=True, text=True"),
    Counterpart("subprocess.Popen", "bateau.subprocess.open_process", "async with", instead={**_TEXT, **_PREEXEC}),
    Counterpart("subprocess.Popen.wait", "bateau.subprocess.Process.wait", instead=_TIMEOUT),
    Counterpart("subprocess.Popen.communicate", "bateau.subprocess.Process.communicate", instead=_TIMEOUT),
)  # fmt: skip

_SOCKET = (
    Counterpart("socket.create_connection", "bateau.net.connect_tcp", renamed={"source_address": "local_address"},
                instead={"address": "host and port, as two arguments", "all_errors": "an ExceptionGroup is raised anyway", **_TIMEOUT}),
    Counterpart("socket.create_server", "bateau.net.listen_tcp",
                instead={"address": "host and port, as two arguments", "dualstack_ipv6": "host=None listens on both"}),
    Counterpart("socket.getaddrinfo", "bateau.net.getaddrinfo"),
    Counterpart("socket.getnameinfo", "bateau.net.getnameinfo"),
    Counterpart("socket.gethostbyname", "bateau.net.resolve", note="gives all addresses, of both families"),
    Counterpart("socket.socket.accept", "bateau.net.Listener.accept", note="gives a stream alone; its peer is in get_extra_info"),
    Counterpart("socket.socket.recv", "bateau.net.SocketStream.recv"),
    Counterpart("socket.socket.recv_into", "bateau.net.SocketStream.readinto"),
    Counterpart("socket.socket.sendall", "bateau.net.SocketStream.sendall"),
    Counterpart("socket.socket.recvfrom", "bateau.net.UdpSocket.recvfrom"),
    Counterpart("socket.socket.sendto", "bateau.net.UdpSocket.sendto"),
    Counterpart("ssl.SSLContext.wrap_socket", "bateau.ssl.wrap", renamed={"sock": "stream", "self": "context"},
                instead={"do_handshake_on_connect": "the handshake is done before wrap returns"}),
    Counterpart("select.select", "bateau.select", "async with", instead=_TIMEOUT, note="over the streams' ready() operations"),
    Counterpart("urllib.request.urlopen", "bateau.thread.run", "hand over", note="or an async HTTP client; asyncio's and trio's run here"),
    Counterpart("sqlite3.connect", "bateau.thread.run", "hand over", note="with check_same_thread=False, one call at a time"),
)  # fmt: skip

_THREADING = (
    Counterpart("threading.Lock", "bateau.sync.Lock", "call"),
    Counterpart("threading.Lock.acquire", "bateau.sync.Lock.acquire", instead=_LOCK),
    Counterpart("threading.RLock", "bateau.sync.Lock", "call", note="not reentrant: pass on that the lock is held"),
    Counterpart("threading.Semaphore", "bateau.sync.Semaphore", "call"),
    Counterpart("threading.Semaphore.acquire", "bateau.sync.Semaphore.acquire", instead=_LOCK),
    Counterpart("threading.BoundedSemaphore", "bateau.sync.BoundedSemaphore", "call"),
    Counterpart("threading.Condition", "bateau.sync.Condition", "call"),
    Counterpart("threading.Condition.wait", "bateau.sync.Condition.wait", instead=_TIMEOUT),
    Counterpart("threading.Condition.wait_for", "bateau.sync.Condition.wait_for", instead=_TIMEOUT),
    Counterpart("threading.Event", "bateau.sync.Event", "call"),
    Counterpart("threading.Event.wait", "bateau.sync.Event.wait", instead=_TIMEOUT),
    Counterpart("threading.Barrier", "bateau.sync.Barrier", "call", instead=_TIMEOUT),
    Counterpart("threading.Barrier.wait", "bateau.sync.Barrier.wait", instead=_TIMEOUT),
    Counterpart("threading.Thread", "bateau.Scope.spawn", "call", renamed={"target": "fn"},
                instead={"group": "a scope", "kwargs": "functools.partial", "daemon": "background=True"},
                note="spawn_blocking for a sync function"),
    Counterpart("threading.Thread.join", "bateau.Task.join", instead=_TIMEOUT, note="await the task itself"),
    Counterpart("queue.Queue", "bateau.channel.channel", "call", renamed={"maxsize": "capacity"},
                note="gives a sender and a receiver; 0 is no capacity, unbounded=True is"),
    Counterpart("queue.Queue.put", "bateau.channel.Sender.send", instead=_QUEUE),
    Counterpart("queue.Queue.get", "bateau.channel.Receiver.recv", instead=_QUEUE),
    Counterpart("queue.Queue.put_nowait", "bateau.channel.Sender.try_send", "call"),
    Counterpart("queue.Queue.get_nowait", "bateau.channel.Receiver.try_recv", "call"),
    Counterpart("queue.SimpleQueue", "bateau.channel.channel", "call", note="with unbounded=True"),
    Counterpart("concurrent.futures.ThreadPoolExecutor.submit", "bateau.Scope.spawn_blocking", "call",
                instead={"kwargs": "functools.partial"}),
    Counterpart("concurrent.futures.Future.result", "bateau.thread.wrap_future", renamed={"self": "future"}, instead=_TIMEOUT),
    Counterpart("concurrent.futures.wait", "bateau.join", instead={"fs": "one argument for each", "return_when": "race for the first",
                **_TIMEOUT}),
)  # fmt: skip

_SIGNAL = (
    Counterpart("signal.signal", "bateau.signal.open", "async with", renamed={"signalnum": "signals"},
                instead={"handler": "the body of `async for`"}),
    Counterpart("signal.sigwait", "bateau.signal.SignalStream.wait", instead={"sigset": "the arguments of signal.open"}),
    Counterpart("signal.pause", "bateau.signal.SignalStream.wait"),
)  # fmt: skip

TABLE: tuple[Counterpart, ...] = (
    *_TIME, *_BUILTINS, *_OS, *_TEMPFILE, *_PATHLIB, *_FILES, *_SUBPROCESS, *_SOCKET, *_THREADING, *_SIGNAL
)  # fmt: skip


@cache
def _by_name() -> dict[str, Counterpart]:
    return {entry.blocking: entry for entry in TABLE}


# Where the implementation of a documented name lives, for tools that see what a name resolves to.
_ALIASES = {
    "posix.": "os.",
    "posixpath.": "os.path.",
    "genericpath.": "os.path.",
    "_io.": "io.",
    "_queue.": "queue.",
    "_thread.": "threading.",
}


def find(blocking: str) -> Counterpart | None:
    """The counterpart of a blocking call, by its full name (``"time.sleep"``, ``"open"``, ``"posix.stat"``), or None."""
    table = _by_name()
    found = table.get(blocking) or table.get(f"builtins.{blocking}")
    if found is None:
        for private, public in _ALIASES.items():
            if blocking.startswith(private):
                return table.get(public + blocking[len(private) :])
    return found


def for_module(module: str) -> Iterator[Counterpart]:
    """Every entry of one module of Python's library, such as ``"os"``; in the table's order."""
    return (entry for entry in TABLE if entry.blocking.startswith(f"{module}."))
