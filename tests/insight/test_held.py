"""An agent that can't answer, because C code holds the interpreter: nobody waits for it for long."""

from __future__ import annotations

import os
import signal

import pytest

from bateau.insight.client import Client, NoAgent, connect
from bateau.insight.memory.held import is_held
from bateau.insight.readers import ProcessMemory, reader_for
from support.memory_children import child

pytestmark = pytest.mark.real_os("it looks at other processes")

PROGRAM = """
import re, sys, time
import bateau

bateau.insight.init()
if sys.argv[1] == "holds":
    def block():
        re.match(r"(a+)+$", "a" * 60 + "b")
tell(ready=True)
block()
"""


def test_a_regular_expression_holds_the_interpreter() -> None:
    with child(PROGRAM, "holds") as (pid, _):
        while not is_held(pid):  # it has told, and is about to
            os.kill(pid, 0)
        reader, why = reader_for(pid)
        assert isinstance(reader, ProcessMemory)
        assert why is not None and "something holds the interpreter" in why
        (thread,) = [one for one in reader.read().threads if one.name == "MainThread"]
        assert thread.stack is not None


def test_who_waits_holds_nothing() -> None:
    with child(PROGRAM, "waits") as (pid, _):
        reader, why = reader_for(pid)
        assert isinstance(reader, Client) and why is None
        reader.close()
        assert not is_held(pid)


def test_it_is_asked_once_and_decides() -> None:
    with child(PROGRAM, "waits") as (pid, _):
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)  # all of its threads
        asked: list[int] = []

        def held() -> bool:
            asked.append(pid)
            return True

        def goes_on() -> bool:
            os.kill(pid, signal.SIGCONT)
            return False

        with pytest.raises(NoAgent, match="something holds the interpreter"):
            connect(pid, timeout=30, is_held=held)
        assert asked == [pid]
        with connect(pid, timeout=30, is_held=goes_on) as client:
            assert client.hello["pid"] == pid
