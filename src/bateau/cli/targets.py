"""Finding the function that a command line names: ``app.py:function`` or ``module:function``."""

from __future__ import annotations

import os
import runpy
import sys
from importlib import import_module
from typing import Any


class TargetError(ValueError):
    """There is no such function; the message says why."""


def split(target: str) -> tuple[str, str]:
    """File or module, and the name in it ("" for a file alone). Raises ``TargetError`` for neither."""
    path, colon, name = target.rpartition(":")
    if not colon:
        path, name = target, ""
    if not path.endswith(".py") and not name:
        raise TargetError(f"{target!r} is neither a file (app.py) nor a function (module:function)")
    return path, name


def check_file(path: str) -> None:
    """Raise ``TargetError`` where there is no such file."""
    if not os.path.isfile(path):
        raise TargetError(f"no file {path!r}")


def above(path: str) -> str | None:
    """The file of this relative path, here or (from a directory inside the same project) in a directory above; None: there is none."""
    folder = os.getcwd()
    while not os.path.isfile(found := os.path.join(folder, path)):
        if (folder := os.path.dirname(before := folder)) == before:
            return None
    return os.path.relpath(found)


def _as_module(path: str) -> tuple[str, str] | None:
    """Where to import a file of a package from, and by which name, so that its relative imports work; None for any other file."""
    folder, file = os.path.split(os.path.abspath(path))
    name = file.removesuffix(".py")
    if not name.isidentifier() or not os.path.isfile(os.path.join(folder, "__init__.py")):
        return None
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        name = f"{package}.{name}"
    return folder, name.removesuffix(".__init__")


def load(target: str) -> Any:
    """The function itself; executes its module. Raises ``TargetError``, and what the module raises."""
    path, name = split(target)
    if path.endswith(".py"):
        check_file(path)
        inside = _as_module(path)
        if inside is not None:
            sys.path.insert(0, inside[0])
            return _checked(getattr(import_module(inside[1]), name, None), target)
        sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
        found: Any = runpy.run_path(path, run_name="__bateau__").get(name)
    else:
        sys.path.insert(0, os.getcwd())
        try:
            module = import_module(path)
        except ModuleNotFoundError as error:
            if error.name is None or not path.startswith(error.name):
                raise
            raise TargetError(f"no module named {path!r} here or on sys.path") from None
        found = module
        for part in name.split("."):
            found = getattr(found, part, None)
    return _checked(found, target)


def _checked(found: Any, target: str) -> Any:
    if not callable(found):
        raise TargetError(f"{target!r} names no function")
    return found
