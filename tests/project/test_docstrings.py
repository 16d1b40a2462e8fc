"""Everything public has a docstring, its own or that of the contract it fulfils.

Ruff's rule for methods does not know inheritance: an overriding method would have to repeat what its base says. This check does.
"""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

from support.modules import importable

# Not for users to import; what of it is public is seen through the modules that hand it out.
INTERNAL = ("bateau.kernel", "bateau._native")


def public_modules() -> list[str]:
    return [name for name in ("bateau", *importable()) if not name.startswith(INTERNAL) and "._" not in name]


def public_things(module: ModuleType) -> list[tuple[str, object]]:
    """What a module offers: its `__all__`, or what it defines under names without an underscore."""
    if hasattr(module, "__all__"):
        return [(name, getattr(module, name)) for name in module.__all__]
    return [
        (name, thing)
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__
    ]


def undocumented(module: ModuleType) -> list[str]:
    found = [] if module.__doc__ else [module.__name__]
    for name, thing in public_things(module):
        where = f"{module.__name__}.{name}"
        if not (inspect.isclass(thing) or inspect.isroutine(thing)) or not _ours(thing):
            continue
        if not inspect.getdoc(thing):
            found.append(where)
        if not inspect.isclass(thing):
            continue
        for attribute, member in vars(thing).items():
            is_code = isinstance(member, property | classmethod | staticmethod) or inspect.isfunction(member)
            if is_code and not attribute.startswith("_") and not _inherited_doc(thing, attribute):
                found.append(f"{where}.{attribute}")
    return found


def _inherited_doc(cls: type, attribute: str) -> str | None:
    # Only bases that have it: None itself has a docstring since 3.13.
    docs = (getattr(vars(base)[attribute], "__doc__", None) for base in cls.__mro__ if attribute in vars(base))
    return next(filter(None, docs), None)


def _ours(thing: object) -> bool:
    return str(getattr(thing, "__module__", "")).startswith("bateau")


def test_everything_public_is_documented() -> None:
    missing: list[str] = []
    for name in public_modules():
        if name == "bateau.__main__":
            continue  # importing it is running it
        missing += undocumented(importlib.import_module(name))
    assert not missing, "no docstring:\n" + "\n".join(sorted(set(missing)))


def test_the_check_itself() -> None:
    module = ModuleType("bateau.sample", "A module.")
    exec(
        "class Base:\n 'A base.'\n def put(self): 'Put.'\n def bare(self): pass\n"
        "class Child(Base):\n 'A child.'\n def put(self): pass\n @property\n def size(self): return 1\n"
        "def f(): pass\n"
        "def _f(): pass\n",
        module.__dict__ | {"__name__": module.__name__},
        module.__dict__,
    )
    for thing in (module.Base, module.Child, module.f):
        thing.__module__ = module.__name__
    assert undocumented(module) == ["bateau.sample.Base.bare", "bateau.sample.Child.size", "bateau.sample.f"]
