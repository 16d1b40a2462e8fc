"""The table of counterparts against the real signatures, of this Python and of bateau."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import types
from contextlib import AbstractAsyncContextManager

import pytest

import bateau
from bateau import counterparts
from bateau.counterparts import TABLE, Counterpart

# Names younger than the oldest Python that bateau runs on.
YOUNGER = {"pathlib.Path.walk"}


def resolve(name):
    """The object of a full name, and the name with which it hangs on its owner."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            if isinstance(found, types.BuiltinFunctionType):
                found = type(found())  # before 3.13 threading.Lock is a function that makes one
            found = getattr(found, part)
        return found
    raise LookupError(name)


def parameters(name):
    """Its parameters by name, or None where C code keeps them to itself."""
    try:
        found = dict(inspect.signature(resolve(name)).parameters)
    except (ValueError, TypeError):
        return None
    # A class's method is looked up on the class, so that a function has a `self` that a C method may not show.
    return found


def entries():
    return pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.blocking)


@entries()
def test_both_sides_exist(entry):
    if entry.blocking in YOUNGER and not hasattr(resolve("pathlib.Path"), "walk"):
        pytest.skip("this Python is older than the method")
    assert callable(resolve(entry.blocking))
    assert callable(resolve(entry.bateau))


@entries()
def test_every_parameter_is_accounted_for(entry):
    """Same name in both, or renamed, or said what to do instead: nobody's argument gets lost on the way."""
    if entry.how == "hand over":
        pytest.skip("the blocking call itself runs, with its own arguments")
    try:
        theirs = parameters(entry.blocking)
    except AttributeError:
        pytest.skip("this Python is older than the method")
    ours = parameters(entry.bateau)
    if ours is None:
        assert theirs is None, "only what mirrors a function without a signature may have none"
        return
    options = any(parameter.kind is parameter.VAR_KEYWORD for parameter in ours.values())
    for name in entry.renamed.values():
        assert name in ours or name == "self", f"renamed to {name}, which {entry.bateau} does not take"
    if theirs is None or entry.note:
        return  # where there is a note, the call has another shape, and the note says which
    positional = {p.name for p in theirs.values() if p.kind is p.POSITIONAL_ONLY and p.name != "self"}
    for name in theirs:
        if name == "self" or name in entry.renamed or name in entry.instead:
            continue
        if name in positional and len([n for n in ours if n != "self"]) >= len(positional):
            continue  # given by place, so that its name is nobody's business
        assert name in ours or options, f"{entry.blocking}({name}=...) has no counterpart in {entry.bateau}"


@entries()
def test_defaults_are_the_same(entry):
    if not entry.same_arguments:
        return
    try:
        theirs = parameters(entry.blocking)
    except AttributeError:
        return
    ours = parameters(entry.bateau)
    for name, parameter in (theirs or {}).items():
        if name not in ours or parameter.default is parameter.empty or parameter.kind is parameter.POSITIONAL_ONLY:
            continue
        here = ours[name].default
        assert here == parameter.default or (entry.blocking, name) in DIFFERENT, (name, here, parameter.default)


# Defaults that differ on purpose.
DIFFERENT = {("builtins.open", "mode"), ("subprocess.run", "env")}


@entries()
def test_the_renamed_and_dropped_are_real(entry):
    """An entry that speaks of a parameter nobody has is stale."""
    try:
        theirs = parameters(entry.blocking)
    except AttributeError:
        return
    if theirs is None or entry.blocking.startswith(("pathlib.", "tempfile.")):
        return  # these also tell of parameters of newer Pythons
    unknown = [name for name in (*entry.renamed, *entry.instead) if name not in theirs and name != "self"]
    assert set(unknown) <= LATER_PYTHONS.get(entry.blocking, set())


LATER_PYTHONS = {"subprocess.Popen": set(), "socket.create_connection": set()}


def test_no_name_twice_and_no_file_method_forgotten():
    names = [entry.blocking for entry in TABLE]
    assert len(names) == len(set(names))
    from bateau import fs

    public = {name for name, value in vars(fs).items() if inspect.iscoroutinefunction(value)}
    mirrored = {entry.bateau.rpartition(".")[2] for entry in TABLE if entry.bateau.startswith("bateau.fs.")}
    assert public <= mirrored


def test_how_is_true():
    """What is said to be awaited, iterated or entered is just that."""
    from bateau import fs, subprocess

    examples = {
        "async with": [fs.open("x"), fs.TemporaryDirectory(), subprocess.open_process("x")],
        "async for": [fs.walk("."), fs.scandir("."), fs.Path().iterdir()],
    }
    for made in examples["async with"]:
        assert isinstance(made, AbstractAsyncContextManager)
    for made in examples["async for"]:
        assert hasattr(made, "__anext__")
    for entry in TABLE:
        target = resolve(entry.bateau)
        if inspect.iscoroutinefunction(target):
            assert entry.how in ("await", "hand over"), entry


def test_lookup_and_advice():
    assert counterparts.find("time.sleep").bateau == "bateau.time.sleep"
    assert counterparts.find("open") is counterparts.find("builtins.open")
    assert counterparts.find(f"{os.stat.__module__}.stat") is counterparts.find("os.stat")
    assert counterparts.find("nothing.at.all") is None
    assert counterparts.find("time.sleep").advice() == "use `await bateau.time.sleep` instead of `time.sleep`"
    assert counterparts.find("input").advice() == "use `await bateau.thread.run(input, ...)` instead of `input`"
    assert counterparts.find("time.sleep").same_arguments
    assert not counterparts.find("queue.Queue").same_arguments
    assert {entry.blocking for entry in counterparts.for_module("time")} == {"time.sleep"}
    assert all(re.fullmatch(r"[\w.]+", entry.blocking) for entry in TABLE)


def test_the_table_imports_nothing():
    import subprocess
    import sys

    code = "import sys; import bateau.counterparts; assert not {'asyncio', 'bateau.fs', 'bateau.net', 'socket'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_advice_works(tmp_path):
    """A few rows, done: the blocking call and its counterpart give the same."""
    import pathlib
    import shutil
    import socket
    import subprocess

    file = tmp_path / "file"
    file.write_text("content")

    async def main():
        for name, args in {
            "os.path.getsize": (file,),
            "os.listdir": (tmp_path,),
            "shutil.which": ("sh",),
            "pathlib.Path.read_text": (None,),
            "subprocess.check_output": (["echo", "x"],),
            "socket.getaddrinfo": ("127.0.0.1", 80),
        }.items():
            entry = counterparts.find(name)
            theirs, ours = resolve(entry.blocking), resolve(entry.bateau)
            if name.startswith("pathlib."):
                assert await ours(bateau.fs.Path(file)) == theirs(pathlib.Path(file))
            else:
                assert await ours(*args) == theirs(*args), name

    bateau.run(main)
    assert shutil
    assert subprocess
    assert socket


def test_an_entry_is_plain_data():
    assert Counterpart("a.b", "bateau.c") == Counterpart("a.b", "bateau.c")
