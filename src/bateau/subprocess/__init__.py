"""Child processes on any runtime, under Python's own names: ``run``, ``check_output``, ``open_process``, ``PIPE``...

A cancelled or timed-out call ends the child with everything it started, and leaves no zombie and no descriptor behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from subprocess import DEVNULL as DEVNULL
from subprocess import PIPE as PIPE
from subprocess import STDOUT as STDOUT
from subprocess import CalledProcessError as CalledProcessError
from subprocess import CompletedProcess as CompletedProcess
from subprocess import SubprocessError as SubprocessError
from subprocess import TimeoutExpired as TimeoutExpired
from subprocess import list2cmdline as list2cmdline
from typing import IO, TYPE_CHECKING, Any

from ..kernel.cancellation import CancelScope, check_seconds
from .pipes import PipeReader as PipeReader
from .pipes import PipeWriter as PipeWriter
from .process import DEFAULT_GRACE as DEFAULT_GRACE
from .process import Process as Process
from .process import open_process as open_process

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, StrOrBytesPath

    from .process import Command


async def run(
    args: Command,
    *,
    input: ReadableBuffer | str | None = None,
    stdin: int | IO[Any] | None = None,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    capture_output: bool = False,
    shell: bool = False,
    cwd: StrOrBytesPath | None = None,
    timeout: float | None = None,
    check: bool = False,
    encoding: str | None = None,
    errors: str | None = None,
    text: bool | None = None,
    env: Mapping[str, str] | None = None,
    grace: float = DEFAULT_GRACE,
    **options: Any,
) -> CompletedProcess[Any]:
    """Run a command to its end: ``subprocess.run``, awaited. Gives a ``CompletedProcess``.

    The arguments are those of Python's ``run``; ``options`` go on to ``Popen``. ``timeout`` is in seconds; when it is over, the child and
    its process group are ended (SIGTERM, ``grace`` seconds, SIGKILL) and ``TimeoutExpired`` carries the output so far.
    ``check`` raises ``CalledProcessError`` for an exit status other than 0. A cancellation point; cancelled, the child and its
    group are ended first.
    """
    check_seconds(timeout, "timeout")
    if input is not None:
        if stdin is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        stdin = PIPE
    if capture_output:
        if stdout is not None or stderr is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        stdout = stderr = PIPE
    as_text = bool(text or encoding or errors or options.pop("universal_newlines", None))
    data = _encoded(input, as_text, encoding, errors)
    out, err = bytearray(), bytearray()
    opening = open_process(
        args, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env, shell=shell, grace=grace, **options
    )
    async with opening as process:
        limit = CancelScope(seconds=timeout)
        status = 0
        with limit:
            await process._exchange(data, out, err)
            status = await process.wait()
        if limit.cancelled_caught:
            await process.aclose()
            assert timeout is not None
            raise TimeoutExpired(process.args, timeout, _partial(process.stdout, out), _partial(process.stderr, err))
    result: CompletedProcess[Any] = CompletedProcess(
        process.args,
        status,
        _decoded(process.stdout, out, as_text, encoding, errors),
        _decoded(process.stderr, err, as_text, encoding, errors),
    )
    if check:
        result.check_returncode()
    return result


async def call(args: Command, *, timeout: float | None = None, **options: Any) -> int:
    """Run a command and give its exit status. See ``run``."""
    return int((await run(args, timeout=timeout, **options)).returncode)


async def check_call(args: Command, **options: Any) -> int:
    """Run a command; raise ``CalledProcessError`` unless its exit status is 0. See ``run``."""
    return int((await run(args, check=True, **options)).returncode)


async def check_output(args: Command, *, timeout: float | None = None, **options: Any) -> Any:
    """Run a command and give its standard output; raise ``CalledProcessError`` unless its exit status is 0. See ``run``."""
    if "stdout" in options:
        raise ValueError("stdout argument not allowed, it will be overridden.")
    return (await run(args, stdout=PIPE, timeout=timeout, check=True, **options)).stdout


def _encoded(input: Any, as_text: bool, encoding: str | None, errors: str | None) -> Any:
    if not isinstance(input, str):
        if as_text and input is not None:
            raise TypeError(f"input must be a str in text mode, not {type(input).__name__}")
        return input
    if not as_text:
        raise TypeError("input must be bytes, not str; or say text=True")
    return input.encode(_codec(encoding), errors or "strict")


def _decoded(stream: Any, data: bytearray, as_text: bool, encoding: str | None, errors: str | None) -> Any:
    if stream is None:
        return None
    if not as_text:
        return bytes(data)
    return data.decode(_codec(encoding), errors or "strict").replace("\r\n", "\n").replace("\r", "\n")


def _codec(encoding: str | None) -> str:
    import locale

    return encoding or locale.getpreferredencoding(False)


def _partial(stream: Any, data: bytearray) -> bytes | None:
    return bytes(data) if stream is not None and data else None
