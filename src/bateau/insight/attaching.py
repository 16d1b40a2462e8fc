"""Giving an agent to a running program that nobody prepared: CPython 3.14 and newer run a script for us (``sys.remote_exec``).

The script lies in a directory that only the program's user can open, and does one thing on the program's main thread: it starts a
thread. That one imports bateau, starts the agent and writes into the directory where it listens, or what went wrong. Nothing else runs on
the main thread, for that may be inside anything, with any lock held.

A main thread that waits in the system (an idle or deadlocked loop) would not come by: it is interrupted for a moment, as a debugger does
it, and its wait begins anew. CPython looks for scripts where it begins a wait again.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from .client import Client, NoAgent, connect
from .errors import InsightError
from .protocol import find_socket
from .readers import is_stopped

# The first CPython that runs a script for another process.
FIRST = (3, 14)
# Seconds between two looks whether the agent has answered, and from one interruption of a main thread that waits to the next.
_LOOK = 0.005
_NUDGE = 0.1
_MOST_NUDGES = 5
_PREFIX = "bateau-attach-"
# A longer answer is none of the script's.
_MOST_ANSWER = 65536

# What the main thread runs: one statement, which leaves no name in the program's `__main__`.
_SCRIPT = "exec(compile({body!r}, '<bateau.insight.attach>', 'exec'), {names!r})\n"

_BODY = """
import _thread

def start():
    import json, os
    try:
        os.unlink(script)  # it has been read; and this tells that it has
        answer = begin()
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    try:
        fd = os.open(answer_file + ".part", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "w") as file:
            json.dump(answer, file)
        os.rename(answer_file + ".part", answer_file)
    except OSError:
        pass  # nobody waits for it any more

def begin():
    import sys
    from importlib import util
    if "bateau" not in sys.modules and util.find_spec("bateau") is None:
        # By its file: to add a folder to sys.path would add what else lies there.
        spec = util.spec_from_file_location("bateau", os_path(package, "__init__.py"), submodule_search_locations=[package])
        module = sys.modules["bateau"] = util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop("bateau", None)
            raise
    from bateau.insight.agent import init
    agent = init()
    if agent.path is not None:
        return {"path": agent.path}
    return {"port": agent.port, "token": agent.token}

def os_path(*parts):
    import os
    return os.path.join(*parts)

_thread.start_new_thread(start, ())
"""

# In place of a script that was not reached in time: the program will look for it, and would complain if there were none.
_TOO_LATE = "import os\nos.unlink(script)\nos.rmdir(os.path.dirname(script))\n"


class CannotAttach(NoAgent):
    """The process could not be given an agent; the message says why, and what to do."""


class NotReached(CannotAttach):
    """The program's main thread ran no Python code in time."""


def attach(pid: int, *, timeout: float = 5.0) -> Client:
    """Connect to the agent of a process, and start one in it first if it has none: nothing in the program need be prepared.

    Needs CPython 3.14 or newer, of one minor version, there and here, and the right to debug the process. ``timeout``: seconds for the
    program's main thread to come to a point where Python code can run, and for the agent's answers. The agent stays: one thread, which
    sleeps until somebody asks, and its socket; both go when the program ends, and before on ``bateau.insight.init().close()`` in it.

    Blocks. Raises ``CannotAttach``, a ``NoAgent``, which says why not: another version, remote debugging switched off there, no permission,
    no Python code run in time (C code holds the interpreter, or the main thread waits in a call that is not interrupted).
    """
    if pid == os.getpid():
        from .agent import init

        agent = init()
        return connect(path=agent.path, timeout=timeout) if agent.path else connect(port=agent.port, token=agent.token)
    if find_socket(pid) is not None:
        try:
            return connect(pid, timeout=timeout)
        except NoAgent as error:
            # A file that a program left that was replaced by this one (exec). Else there is an agent, and it does not answer.
            if not isinstance(error.__cause__, ConnectionRefusedError):
                raise
    _check(pid)
    try:
        answer = _inject(pid, timeout)
    except NotReached:
        if find_socket(pid) is None:
            raise
        return connect(
            pid, timeout=timeout
        )  # somebody else asked for it at the same time, and CPython keeps one script
    if "path" in answer:
        return connect(path=answer["path"], timeout=timeout)
    if "port" in answer:
        return connect(port=answer["port"], token=answer["token"], timeout=timeout)
    raise CannotAttach(f"the agent could not be started in process {pid}: {answer.get('error', 'it did not say why')}")


def _check(pid: int) -> None:
    """Refuse what can't succeed, in words of ours: with the versions, and what to do."""
    here = sys.version_info[:2]
    if not hasattr(sys, "remote_exec"):
        raise CannotAttach(
            f"to start an agent in a running process needs Python 3.14 or newer there and here, and this is {_dotted(here)}: run bateau "
            f"with the Python of process {pid}, or have the program call bateau.insight.init()"
        )
    if not sys.platform.startswith("linux"):
        return  # the call itself says what is wrong
    if is_stopped(pid):
        raise CannotAttach(
            f"process {pid} is stopped (a signal, a debugger): no agent can start in it until it goes on"
        )
    from .memory.interpreter import find_python
    from .memory.process import ProcessMemory

    try:
        version = find_python(ProcessMemory(pid)).version
        there = tuple(int(part) for part in version.split(".")[:2])
    except (InsightError, OSError) as error:
        raise CannotAttach(f"can't attach to process {pid}: {error}") from error
    if there < FIRST:
        raise CannotAttach(
            f"process {pid} runs Python {version}, and only 3.14 and newer can be given an agent from outside: have the program call "
            "bateau.insight.init(), or start it with `bateau run`"
        )
    if there != here:
        raise CannotAttach(
            f"process {pid} runs Python {version}, and this is {_dotted(here)}: run bateau with Python {_dotted(there)}, which "
            "alone can start an agent there"
        )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _inject(pid: int, timeout: float) -> dict[str, Any]:
    """Have the program run the script, and wait for what that has to say."""
    try:
        _sweep(tempfile.gettempdir())
        directory = tempfile.mkdtemp(prefix=f"{_PREFIX}{pid}-")  # of mode 0700
    except OSError as error:
        raise CannotAttach(f"there is no place for the script: {error}") from error
    pending = False
    script, answer = os.path.join(directory, "script.py"), os.path.join(directory, "answer.json")
    names = {"script": script, "answer_file": answer, "package": str(Path(__file__).resolve().parents[1])}
    try:
        try:
            _write(script, _SCRIPT.format(body=_BODY, names=names))
            _hand_to_user(pid, script, directory)
            _check_sees(pid, script)
            remote_exec: Any = getattr(sys, "remote_exec")  # noqa: B009  # not known to a checker for 3.11
            remote_exec(pid, script)
        except PermissionError as error:
            from .memory.errors import not_permitted

            raise CannotAttach(str(not_permitted(pid)).replace("read the memory of", "attach to", 1)) from error
        except ProcessLookupError as error:
            raise CannotAttach(f"process {pid} has ended") from error
        except (OSError, RuntimeError, ValueError) as error:
            raise CannotAttach(f"can't attach to process {pid}: {_in_words(error)}") from error
        pending = True
        found = _wait(pid, script, answer, timeout)
        pending = False
        return found
    finally:
        if pending and os.path.exists(script):
            _leave(script)
        else:
            shutil.rmtree(directory, ignore_errors=True)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)


def _hand_to_user(pid: int, *paths: str) -> None:
    """Root may look into anybody's process; the script is for that one's user, the directory last: from then on it is not ours."""
    with contextlib.suppress(FileNotFoundError):  # no such process, or no /proc: the call says it
        state = os.stat(f"/proc/{pid}")
        if os.geteuid() == 0 and state.st_uid != 0:
            for path in paths:
                os.chown(path, state.st_uid, state.st_gid)


def _check_sees(pid: int, script: str) -> None:
    """A process in a container has other files under the same names."""
    try:
        seen = os.path.samefile(f"/proc/{pid}/root{script}", script)
    except FileNotFoundError:
        seen = not os.path.exists(f"/proc/{pid}/root/")  # gone, or a system without /proc
    if not seen:
        raise RuntimeError(f"it does not see our {os.path.dirname(script)}; it is in a container: run bateau in there")


def _in_words(error: Exception) -> str:
    text = str(error)
    if "not enabled in the remote process" in text:
        return f"{text} (PYTHON_DISABLE_REMOTE_DEBUG, -X disable-remote-debug, or how its Python was built)"
    if "not enabled" in text:
        return "remote debugging is switched off for this very Python; unset PYTHON_DISABLE_REMOTE_DEBUG"
    return text


def _wait(pid: int, script: str, answer: str, timeout: float) -> dict[str, Any]:
    """The script's answer. A main thread that has not come to the script is interrupted now and then, where it waits."""
    end = time.monotonic() + timeout
    nudges, next_nudge = 0, time.monotonic() + _NUDGE / 2
    while True:
        with contextlib.suppress(FileNotFoundError):
            return _read_answer(answer)
        now = time.monotonic()
        if now >= end:
            break
        if not _is_alive(pid):
            raise CannotAttach(f"process {pid} has ended")
        if now >= next_nudge and nudges < _MOST_NUDGES and os.path.exists(script):
            _nudge(pid)
            nudges, next_nudge = nudges + 1, time.monotonic() + _NUDGE
        time.sleep(_LOOK)
    if not os.path.exists(script):
        raise CannotAttach(
            f"the agent in process {pid} has not answered in {timeout:g} s: the program is too busy to start it"
        )
    from .memory.held import is_held

    raise NotReached(
        f"the main thread of process {pid} has run no Python code for {timeout:g} s ("
        + (
            "C code holds the interpreter"
            if is_held(pid)
            else "it waits in the system or in C code: a lock, a sleep, a read"
        )
        + "), so no agent could be started"
    )


def _read_answer(path: str) -> dict[str, Any]:
    """Written by the program: a file, as we hope. Raises ``FileNotFoundError`` as long as there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            found: Any = json.loads(file.read(_MOST_ANSWER))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise CannotAttach(f"what the script in the process answered can't be read: {error}") from error
    return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]  # JSON


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    return True


def _leave(script: str) -> None:
    """The program will still look for the script when it comes to: then it finds one that removes itself and its directory."""
    with contextlib.suppress(OSError):
        state = os.stat(script)
        _write(script + ".late", _SCRIPT.format(body=_TOO_LATE, names={"script": script}))
        if state.st_uid != os.geteuid():
            os.chown(script + ".late", state.st_uid, state.st_gid)
        os.replace(script + ".late", script)


def _sweep(parent: str) -> None:
    """Remove what was left for programs that have ended without coming to it."""
    for name in os.listdir(parent):
        if not name.startswith(_PREFIX):
            continue
        pid, path = name.removeprefix(_PREFIX).partition("-")[0], os.path.join(parent, name)
        with contextlib.suppress(OSError):
            if pid.isdecimal() and not _is_alive(int(pid)) and os.lstat(path).st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)


# -- interrupting a wait -------------------------------------------------------------------------------------------------

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000
# Seconds for the main thread to stop; it takes microseconds, except in a disk's driver.
_STOP = 1.0


def _nudge(pid: int) -> None:
    """Stop the main thread and let it go on at once. On a thread of ours, with whose end the system lets go of it in any case."""
    if sys.platform.startswith("linux"):
        thread = threading.Thread(target=_interrupt, args=(pid,), name="bateau-attach", daemon=True)
        thread.start()
        thread.join()


def _interrupt(pid: int) -> None:
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes, ptrace.restype = (ctypes.c_long,) * 4, ctypes.c_long
    if ptrace(_SEIZE, pid, 0, 0):
        return  # a debugger has it, or we may not: the program may come by all the same
    ptrace(_INTERRUPT, pid, 0, 0)
    end = time.monotonic() + _STOP
    while time.monotonic() < end:
        try:
            # Not the exited: a child of ours is for somebody else to wait for.
            stop = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | _WALL)
        except OSError:
            return
        if stop is not None:
            # A signal came between, and is not to be lost.
            ptrace(_DETACH, pid, 0, stop.si_status if stop.si_status < 0x80 else 0)
            return
        time.sleep(0.0005)
