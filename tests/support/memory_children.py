"""Child processes that print what is true of them and then stay as they are, to be read from outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bateau.insight.memory import read_process
from bateau.insight.model import Snapshot

# Walks the awaits of a coroutine by what Python itself says of it: the truth that the reader of memory is compared with.
TRUTH = """
import json, sys, time

def chain(awaited):
    found = []
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            found.append([frame.f_code.co_qualname, frame.f_lineno])
        after = next((getattr(awaited, name) for name in ("cr_await", "ag_await", "gi_yieldfrom")
                      if getattr(awaited, name, None) is not None), None)
        if after is None and type(awaited).__name__ in ("async_generator_asend", "coroutine_wrapper", "async_generator_athrow"):
            import gc
            after = next((o for o in gc.get_referents(awaited) if hasattr(o, "ag_frame") or hasattr(o, "cr_frame")), None)
        awaited = after
    return found

def tell(**truth):
    print(json.dumps(truth), flush=True)

def block():
    time.sleep(1000)
"""


def read_blocked(pid: int) -> Snapshot:
    """A snapshot of a child that has told its truth and then called its function ``block``, once it is in there."""
    deadline = time.monotonic() + 60
    while True:
        snapshot = read_process(pid)
        stacks = [snapshot.stack(thread.stack) for thread in snapshot.threads]
        if any(stack and stack[-1].function.rpartition(".")[2] == "block" for stack in stacks):
            return snapshot
        assert time.monotonic() < deadline, stacks


@cache
def interpreters() -> dict[str, str]:
    """Other CPythons on this machine, by minor version: on the path, or among pyenv's."""
    found: dict[str, str] = {}
    for minor in range(11, 16):
        version = f"3.{minor}"
        candidates = [
            shutil.which(f"python{version}"),
            *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}")),
        ]
        for path in filter(None, candidates):
            asked = [str(path), "-c", "import sys; print(sys.version_info[:2])"]
            answer = subprocess.run(asked, capture_output=True, text=True)
            if answer.returncode == 0 and answer.stdout.strip() == f"(3, {minor})":
                found[version] = str(path)
                break
    return found


@contextmanager
def child(program: str, *arguments: str, python: str = sys.executable) -> Iterator[tuple[int, Any]]:
    """Run ``program`` (which calls ``tell`` once) and give its pid and what it told. It is killed at the end."""
    process = subprocess.Popen(
        [python, "-c", TRUTH + program, *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.fail(f"the child ended with {process.wait()} before it said anything")
        yield process.pid, json.loads(line)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
