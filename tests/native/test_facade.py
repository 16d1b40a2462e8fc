"""The module ``bateau`` has a class of its own in the native build: it must be found to be a module like any other."""

import copy
import gc
import importlib
import inspect
import pickle
import subprocess
import sys
import types
from unittest import mock

import pytest

import bateau
from bateau.kernel.twin import native

MODULE = sys.modules["bateau"]


def look_up():
    """From one place in the code, which remembers what it found."""
    return MODULE.now


def test_the_native_build_has_the_quick_class():
    assert type(bateau) is (types.ModuleType if native is None else native.Facade)


def test_it_is_a_module():
    assert isinstance(bateau, types.ModuleType)
    assert inspect.ismodule(bateau)
    assert inspect.getmodule(bateau.Scope).__name__.startswith("bateau.")
    assert repr(bateau).startswith("<module 'bateau' from ")
    assert bateau.__name__ == "bateau"
    assert bateau.__dict__ is vars(bateau)
    assert set(bateau.__all__) <= set(dir(bateau))


def test_a_name_that_is_missing():
    for _ in range(3):
        with pytest.raises(AttributeError, match=r"module 'bateau' has no attribute 'nowhere'"):
            bateau.nowhere  # noqa: B018
    with pytest.raises(TypeError):
        getattr(bateau, 1)  # type: ignore[call-overload]


def test_what_was_found_is_forgotten_with_each_change():
    found = look_up()
    with mock.patch.object(bateau, "now", "patched"):
        assert look_up() == "patched"
        vars(bateau)["now"] = "written past the module"
        assert look_up() == "written past the module"
    assert look_up() is found
    with mock.patch.dict(vars(bateau), now="replaced"):
        assert look_up() == "replaced"
    assert look_up() is found


def test_a_name_that_was_deleted_is_loaded_again():
    found = look_up()
    del bateau.now
    assert look_up() is found  # by `__getattr__`, which finds the same function
    assert vars(bateau)["now"] is found


def test_a_value_that_only_the_module_had_is_freed_when_it_is_replaced():
    class Value:
        pass

    def look():
        return MODULE.only_here

    gone = []
    try:
        for _ in range(3):
            bateau.only_here = Value()
            assert isinstance(look(), Value)
            bateau.only_here.__class__.__del__ = lambda self: gone.append(1)
        del bateau.only_here
        gc.collect()
        assert len(gone) == 3
        with pytest.raises(AttributeError):
            look()
    finally:
        vars(bateau).pop("only_here", None)


def test_names_that_are_not_in_the_code():
    for name in ("now", "yield_now"):
        made = "".join(list(name))
        assert getattr(bateau, made) is getattr(bateau, name)
        assert getattr(bateau, type("Name", (str,), {})(name)) is getattr(bateau, name)


def test_the_class_comes_first_where_it_has_a_name_of_its_own():
    vars(bateau)["__dict__"] = "shadow"
    try:
        assert bateau.__dict__ is vars(bateau)
    finally:
        del vars(bateau)["__dict__"]


@pytest.mark.skipif(native is None, reason="modules can't be copied or pickled; the native class can")
def test_a_copy_is_the_module():
    assert copy.copy(bateau) is bateau
    assert copy.deepcopy({"module": bateau})["module"] is bateau
    assert pickle.loads(pickle.dumps(bateau)) is bateau


def test_functions_that_use_it_are_sent_by_value():
    cloudpickle = pytest.importorskip("cloudpickle")
    namespace = {"bateau": bateau}
    exec("def use(): return bateau.yield_now", namespace)
    sent = cloudpickle.dumps(namespace["use"])
    assert pickle.loads(sent)() is bateau.yield_now


def test_reload_and_many_threads_at_its_first_use():
    code = (
        "import importlib, threading, bateau\n"
        "names = [n for n in bateau.__all__ if n not in ('testing',)]\n"
        "found, start = [], threading.Barrier(6)\n"
        "def look():\n"
        "    start.wait()\n"
        "    found.append([id(getattr(bateau, n)) for n in names])\n"
        "threads = [threading.Thread(target=look) for _ in range(6)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert len(found) == 6 and all(f == found[0] for f in found), found\n"
        "before, kind = bateau.Scope, type(bateau)\n"
        "assert importlib.reload(bateau) is bateau\n"
        "assert bateau.Scope is before and type(bateau) is kind\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_class_that_somebody_else_gives_it_is_kept():
    class Other(types.ModuleType):
        pass

    before = type(bateau)
    bateau.__class__ = Other
    try:
        assert look_up() is importlib.import_module("bateau.kernel.flow").now
    finally:
        bateau.__class__ = before


@pytest.mark.skipif(sys.version_info < (3, 15), reason="imports are lazy from 3.15 on (PEP 810)")
def test_an_import_that_was_not_made_yet_is_made():
    code = "import bateau, typing; assert bateau.Any is typing.Any, bateau.Any"
    subprocess.run([sys.executable, "-X", "lazy_imports=all", "-c", code], check=True, timeout=60)
