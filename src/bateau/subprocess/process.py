"""A child process: its pipes, its end, and the end of all it started.

Theory of operation. The child is started by Python's ``Popen`` on a worker thread. Its exit is watched through a pidfd by the
host from the start on: no thread waits. Unless it shares our terminal it leads a process group of its own, and *ending* it means
the group: terminate, grace, kill. The status of an exited child is read without reaping it, and it is reaped when its block is
left: until then its number can't become anybody else's, so that signals can't reach a stranger.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any
from weakref import ref

from .. import thread
from ..kernel.cancellation import CancelScope
from ..kernel.cleanup import Cleanup
from ..kernel.current import current_host
from ..kernel.errors import Broken, Closed, user_site
from ..kernel.flow import checkpoint
from ..kernel.hazard import report
from ..kernel.host import Host
from ..kernel.operation import Operation
from ..kernel.resource import OUTSIDE, Primitive, WaitQueue
from ..kernel.scope import Scope
from .pipes import PipeReader, PipeWriter

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, StrOrBytesPath

    Command = StrOrBytesPath | Sequence[StrOrBytesPath]

# Seconds between asking a process to end (SIGTERM) and killing it, unless told otherwise.
DEFAULT_GRACE = 2.0


class _Popen(subprocess.Popen[bytes]):
    """``Popen`` that waits for a child it knows to be killed when it is dropped itself: that is a matter of a moment."""

    killed = False

    def __del__(self, *args: Any, **kwargs: Any) -> None:
        if self.killed and self.returncode is None:
            try:
                self.wait(1)
            except (subprocess.TimeoutExpired, OSError):
                pass  # stuck in the system: Popen tells of it
        super().__del__(*args, **kwargs)


class Process(Primitive):
    """A running child, made by ``open_process``. Its streams are bytes; wrap them in ``bateau.io.BufReader`` for lines.

    Invariants: ``returncode`` is set on the host's thread when the child has exited. ``_reaped`` is set when its number was given back;
    no signal is sent after that. ``_ending`` is set once its whole group is to end.
    """

    __slots__ = (
        "_ending",
        "_group",
        "_host",
        "_pidfd",
        "_popen",
        "_reaped",
        "_release",
        "_site",
        "_waiters",
        "args",
        "grace",
        "returncode",
        "stderr",
        "stdin",
        "stdout",
    )
    kind = "process"

    def __init__(self, popen: _Popen, *, group: bool, grace: float, site: tuple[str, int]) -> None:
        super().__init__(flavour="local")
        self._popen = popen
        self._group = group
        self._site = site
        self._ending = False
        self._reaped = False
        # The exit status, ``-N`` if signal N ended it, None while it runs.
        self.returncode: int | None = None
        self._waiters = WaitQueue()
        self._host: Host = current_host()
        self._pidfd = -1
        self._release: Callable[[], None] | None = None
        # What it was started with, as in Popen.
        self.args: Any = popen.args
        # Seconds it gets to end by itself when it is being ended.
        self.grace = grace
        # Its pipes, where PIPE was asked for.
        self.stdin = PipeWriter(_take(popen, "stdin"), self._pipe("stdin")) if popen.stdin is not None else None
        self.stdout = PipeReader(_take(popen, "stdout"), self._pipe("stdout")) if popen.stdout is not None else None
        self.stderr = PipeReader(_take(popen, "stderr"), self._pipe("stderr")) if popen.stderr is not None else None
        self._watch_exit()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    def poll(self) -> int | None:
        """The exit status if it has ended, else None. Not a cancellation point."""
        return self.returncode

    def wait(self) -> Operation[int]:
        """Await it: until the child has exited; gives the exit status. A cancellation point; cancelled, the child runs on."""
        return _Exit(self)

    def send_signal(self, sig: int, *, tree: bool = False) -> None:
        """Send a signal to the child, or with ``tree`` to its whole process group. Does nothing once it has ended."""
        if self._reaped or (self.returncode is not None and not tree):
            return
        try:
            if tree and self._group:
                os.killpg(self.pid, sig)
            else:
                os.kill(self.pid, sig)
        except ProcessLookupError:
            return  # nobody is left

    def terminate(self) -> None:
        """Ask the child to end (SIGTERM)."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the child (SIGKILL)."""
        self.send_signal(signal.SIGKILL)

    async def communicate(self, input: ReadableBuffer | None = None) -> tuple[bytes | None, bytes | None]:
        """Send ``input``, close its stdin, read its output to the end and wait for it; gives ``(stdout, stderr)``.

        A stream that is not a pipe is None. A child that does not read its input is no error. A cancellation point; cancelled, what
        was read is lost and the child runs on (until its ``async with`` block ends it).
        """
        out, err = bytearray(), bytearray()
        await self._exchange(input, out, err)
        await self.wait()
        return bytes(out) if self.stdout is not None else None, bytes(err) if self.stderr is not None else None

    async def _exchange(self, input: ReadableBuffer | None, out: bytearray, err: bytearray) -> None:
        if input is not None and self.stdin is None:
            raise ValueError("input needs a pipe to the child's stdin; use stdin=subprocess.PIPE")
        if input is not None:
            memoryview(input)  # a TypeError comes from here, and not out of a group
        async with Scope(name="communicate") as scope:
            if self.stdin is not None:
                scope.spawn(_feed, self.stdin, input)
            if self.stdout is not None:
                scope.spawn(_collect, self.stdout, out)
            if self.stderr is not None:
                scope.spawn(_collect, self.stderr, err)

    # -- the end -----------------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """End the child and its process group: SIGTERM, ``grace`` seconds, SIGKILL; then its pipes. In a cancelled scope too.

        When it returns or raises, the child is dead and reaped. The rest of its group is killed as soon as the child itself is dead.
        """
        try:
            if self.returncode is None:
                async with Cleanup(self.grace + 5, site=self._site):
                    self.send_signal(signal.SIGTERM, tree=True)
                    with CancelScope(seconds=self.grace):
                        await self.wait()
                    if self.returncode is None:
                        self.send_signal(signal.SIGKILL, tree=True)
                        await self.wait()
        finally:
            self.close()
        await checkpoint()

    def close(self) -> None:
        """Kill the child and its process group at once and close the pipes. Never suspends; it is reaped as soon as it is dead."""
        self._close_pipes()
        self._ending = self._popen.killed = True
        self.send_signal(signal.SIGKILL, tree=True)
        if self.returncode is not None:
            self._reap()
        elif self._pidfd >= 0:
            try:
                self._host.add_reader(self._pidfd, self._exited)  # from now on it is kept until it is dead
            except (RuntimeError, OSError, ValueError):
                return  # its loop has ended: ``__del__`` does the rest

    def _close_pipes(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is not None:
            await self.aclose()
            return
        self._close_pipes()
        try:
            await self.wait()
        except BaseException:
            await self.aclose()
            raise
        self._reap()

    def __del__(self) -> None:
        popen = getattr(self, "_popen", None)
        if popen is None or self._reaped:
            return
        if self.returncode is not None:
            self._reap()
            return
        if self._ending:  # killed, and its loop ended before it was dead: a matter of a moment
            if self._pidfd >= 0:
                os.close(self._pidfd)
            return
        report(
            "dropped_without_close",
            f"{self.describe()} was dropped while running; use `async with open_process(...)`",
            self._site,
        )
        host, pidfd = self._host, self._pidfd
        try:
            host.call_threadsafe(lambda: _watch_orphan(host, popen, pidfd))
        except RuntimeError:  # its loop has ended, and watches no more
            if pidfd >= 0:
                os.close(pidfd)

    # -- watching ------------------------------------------------------------------------------------------------------------

    def _watch_exit(self) -> None:
        host = self._host
        if hasattr(os, "pidfd_open"):
            try:
                self._pidfd = os.pidfd_open(self.pid)
            except OSError:
                self._pidfd = -1  # an old kernel, or a sandbox that forbids it
        if self._pidfd >= 0:
            # Weakly, so that a process that was dropped while it runs can be told of.
            this = ref(self)

            def exited() -> None:
                process = this()
                if process is not None:
                    process._exited()

            host.add_reader(self._pidfd, exited)
            return
        from ..thread.pool import submit

        self._release = host.hold(self.describe())
        submit(self._wait_in_thread)

    def _wait_in_thread(self) -> None:
        """Without pidfds: wait, without reaping, on a thread of its own."""
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass  # somebody else has reaped it: it is dead all the same, and ``_exited`` knows what that means
        try:
            self._host.call_threadsafe(self._exited)
        except RuntimeError:
            self._reap()  # its loop has ended

    def _exited(self) -> None:
        """On the host's thread: the child is dead, and not yet reaped."""
        try:
            status = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:  # somebody else has reaped it, or SIGCHLD is ignored: Popen knows what that means
            self._reap()
            self.returncode = self._popen.returncode
        else:
            if status is None:
                return  # a spurious readiness
            self.returncode = status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
        if self._pidfd >= 0:
            self._host.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._release is not None:
            self._release()
        if self._ending:
            self._reap()
        while (op := self._waiters.pop()) is not None:
            op.fire(self.returncode)

    def _reap(self) -> None:
        """Give the number back; before that, if the group is to end, kill what is left of it."""
        if self._reaped:
            return
        if self._ending:
            self.send_signal(signal.SIGKILL, tree=True)
        self._reaped = True
        self._popen.poll()

    # -- as a resource -------------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        return self._waiters

    def satisfiers(self) -> Any:
        return OUTSIDE

    def describe(self) -> str:
        return f"process {self.pid} ({_program(self.args)})"

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"exited with {self.returncode}"
        return f"<Process {self.describe()} {state}>"

    def _pipe(self, name: str) -> str:
        return f"{name} of {self.describe()}"


class _Exit(Operation[int]):
    """Waiting for a process to end."""

    __slots__ = ("process",)

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self.process = process

    def poll(self) -> bool:
        self.value = self.process.returncode
        return self.value is not None

    def register(self) -> None:
        self.process._waiters.add(self)

    def unregister(self) -> None:
        self.process._waiters.discard(self)

    def describe(self) -> str:
        return f"end of {self.process.describe()}"


class OpeningProcess:
    """What ``open_process`` gives: ``async with`` it, or ``await`` it and close the process yourself."""

    def __init__(self, args: Command, grace: float, options: dict[str, Any], site: tuple[str, int]) -> None:
        self._args = args
        self._grace = grace
        self._options = options
        self._site = site
        self._opened: Process | None = None

    async def _open(self) -> Process:
        args, options = self._args, self._options
        if not args:
            raise ValueError("args is empty; give the program to run and its arguments, such as ['ls', '-l']")
        group = self._own_group()
        # A job that has begun gives its value even if this task is cancelled meanwhile: no child is lost between the two lines.
        start: Any = _Popen
        popen: _Popen = await thread.run(lambda: start(args, bufsize=0, **options))
        return Process(popen, group=group, grace=self._grace, site=self._site)

    def _own_group(self) -> bool:
        """Give the child a group of its own, unless the caller decided, or it reads our terminal (a background group can't)."""
        options = self._options
        if options.get("start_new_session") or options.get("process_group") == 0:
            return True
        if "process_group" in options or "start_new_session" in options or os.name != "posix":
            return False
        if options.get("stdin") is None and _is_terminal(0):
            return False
        options["process_group"] = 0
        return True

    def __await__(self) -> Generator[Any, Any, Process]:
        return self._open().__await__()

    async def __aenter__(self) -> Process:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        opened, self._opened = self._opened, None
        assert opened is not None
        await opened.__aexit__(exc_type, exc, tb)


def open_process(
    args: Command,
    *,
    stdin: int | IO[Any] | None = None,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    cwd: StrOrBytesPath | None = None,
    env: Mapping[str, str] | None = None,
    shell: bool = False,
    grace: float = DEFAULT_GRACE,
    **options: Any,
) -> OpeningProcess:
    """Start a child process, for an ``async with`` block (or ``await`` it). The async form of ``Popen``.

    The arguments are ``Popen``'s (``options``: the remaining ones), except that streams are bytes, unbuffered, and that there is no
    ``preexec_fn``. Leaving the block waits for the child; leaving it by an exception or a cancellation ends the child with all
    its process group, giving it ``grace`` seconds between SIGTERM and SIGKILL. A child that inherits a terminal as stdin
    stays in our group, and is then ended alone. Starting and leaving are cancellation points. Raises what ``Popen`` raises.
    """
    for name in ("text", "encoding", "errors", "universal_newlines", "bufsize", "preexec_fn"):
        if options.pop(name, None) is not None:
            raise TypeError(f"open_process takes no {name}: {_REFUSED.get(name, 'its streams are unbuffered bytes')}")
    options.update(stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env, shell=shell)
    return OpeningProcess(args, grace, options, user_site(sys._getframe(1)))


def _watch_orphan(host: Host, popen: _Popen, pidfd: int) -> None:
    """Reap a child whose ``Process`` was dropped, when it has ended."""

    def exited() -> None:
        if popen.poll() is not None:
            host.remove_reader(pidfd)
            os.close(pidfd)

    if pidfd >= 0:
        host.add_reader(pidfd, exited)


_REFUSED = {
    "preexec_fn": "it would run after fork beside other threads; use user, group, umask, process_group or env instead"
}


async def _feed(stdin: PipeWriter, input: ReadableBuffer | None) -> None:
    try:
        if input is not None:
            await stdin.write(input)
    except (Broken, Closed):
        return  # it does not want all of it, which is its own affair (as with Python's communicate)
    finally:
        stdin.close()


async def _collect(stream: PipeReader, into: bytearray) -> None:
    while data := await stream.read():
        into += data
    stream.close()


def _take(popen: Any, name: str) -> Any:
    """Take over a pipe from ``Popen``: one owner closes it."""
    file = getattr(popen, name)
    setattr(popen, name, None)
    return file


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def _program(args: Any) -> str:
    first: Any = args if isinstance(args, (str, bytes, os.PathLike)) else next(iter(args), "?")  # pyright: ignore[reportUnknownVariableType]  # of whatever
    return os.fsdecode(first)[:80]
