"""anyio's child processes over bateau's: the exit is watched by the loop, without a thread."""

from __future__ import annotations

import os
from contextvars import copy_context
from typing import Any

from anyio import BrokenResourceError, BusyResourceError, ClosedResourceError, EndOfStream, abc

from ...kernel.cancellation import CancelScope as KernelScope
from ...kernel.current import current_host
from ...kernel.errors import Busy, Closed
from ...kernel.flow import checkpoint
from ...kernel.task import Task
from ...subprocess import process as children
from ...subprocess.pipes import PipeReader, PipeWriter
from ...thread import run as run_in_thread
from ...time import sleep_forever
from .scopes import outer_site


class PipeReceiver(abc.ByteReceiveStream):
    """The output of a child."""

    def __init__(self, pipe: PipeReader) -> None:
        self._pipe = pipe
        self._ended = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if max_bytes < 1:
            raise ValueError("max_bytes must be a positive integer")
        if self._ended:
            await checkpoint()
            raise EndOfStream
        try:
            data = await self._pipe.read(max_bytes)
        except Closed:
            raise ClosedResourceError from None
        except Busy:
            raise BusyResourceError("reading from") from None
        except OSError as error:
            raise BrokenResourceError from error
        if not data:
            self._ended = True
            self._pipe.close()  # many a program reads to the end and drops the process
            raise EndOfStream
        return data

    async def aclose(self) -> None:
        self._ended = False
        self._pipe.close()


class PipeSender(abc.ByteSendStream):
    """The input of a child."""

    def __init__(self, pipe: PipeWriter) -> None:
        self._pipe = pipe

    async def send(self, item: bytes) -> None:
        try:
            await self._pipe.write(item)
        except Closed:
            raise ClosedResourceError from None
        except Busy:
            raise BusyResourceError("writing to") from None
        except OSError as error:
            raise BrokenResourceError from error

    async def aclose(self) -> None:
        self._pipe.close()


class Process(abc.Process):
    """See ``anyio.abc.Process``."""

    def __init__(self, process: children.Process) -> None:
        self._process = process
        self._stdin = PipeSender(process.stdin) if process.stdin is not None else None
        self._stdout = PipeReceiver(process.stdout) if process.stdout is not None else None
        self._stderr = PipeReceiver(process.stderr) if process.stderr is not None else None

    async def aclose(self) -> None:
        for stream in (self._stdin, self._stdout, self._stderr):
            if stream is not None:
                await stream.aclose()
        try:
            await self.wait()
        except BaseException:
            self.kill()
            with KernelScope(shield=True):
                await self.wait()
            raise

    async def wait(self) -> int:
        code = await self._process.wait()
        self._process._reap()
        return code

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, signal: int) -> None:
        self._process.send_signal(signal)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    @property
    def stdin(self) -> abc.ByteSendStream | None:
        return self._stdin

    @property
    def stdout(self) -> abc.ByteReceiveStream | None:
        return self._stdout

    @property
    def stderr(self) -> abc.ByteReceiveStream | None:
        return self._stderr


async def open_process(command: Any, options: dict[str, Any]) -> Process:
    """Start a child, as ``anyio.open_process`` does: a text goes through the shell, a sequence does not."""
    shell = isinstance(command, (str, bytes, os.PathLike))
    given: Any = command if shell else list(command)  # pyright: ignore[reportUnknownVariableType]  # users are not type-checked
    site = outer_site()
    make: Any = children._Popen
    # A job that has begun gives its value even if this task is cancelled meanwhile: no child is lost between the two lines.
    popen = await run_in_thread(lambda: make(given, bufsize=0, shell=shell, **options))
    return Process(children.Process(popen, group=False, grace=children.DEFAULT_GRACE, site=site))


def kill_at_shutdown(workers: set[abc.Process]) -> None:
    """Kill the processes of ``anyio.to_process`` when the run ends."""

    async def wait_for_the_end() -> None:
        try:
            await sleep_forever()
        finally:
            for process in workers:
                if process.returncode is None:
                    process.kill()
            with KernelScope(shield=True):
                for process in workers:
                    await process.aclose()

    host = current_host()
    host.spawn_root(Task(host, wait_for_the_end(), name="anyio process pool", context=copy_context()))
