"""What names and expressions stand for, across the files of a project: full names, functions, classes, and types of instances.

Nothing is imported or run. Where an answer is not sure (a name bound in two ways, a decorated function, a star import) there is none.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from pathlib import Path

from .knowledge import AWAITED_RESULTS, RESULTS
from .module import Binding, Class, Function, Module, Scope
from .reading import read

_BUILTINS = frozenset(dir(builtins))
_DEEP = 8  # how many aliases, re-exports and attributes are followed

# Submodules in which asyncio's and others' public names live.
_INSIDE = {
    **dict.fromkeys(
        (f"asyncio.{each}" for each in "base_events events exceptions futures locks queues runners streams taskgroups tasks threads timeouts".split()),
        "asyncio",
    ),
    "posix": "os",
    "posixpath": "os.path",
    "concurrent.futures.thread": "concurrent.futures",
    "concurrent.futures._base": "concurrent.futures",
    "multiprocessing.context": "multiprocessing",
}  # fmt: skip

# Decorators that leave a function what it is: called, it does the same.
_TRANSPARENT = {
    "builtins.staticmethod", "builtins.classmethod", "abc.abstractmethod", "typing.override", "typing.final", "typing.overload",
    "typing_extensions.override", "typing_extensions.final", "typing_extensions.overload",
}  # fmt: skip
# The same of classes: their methods stay what they are.
_TRANSPARENT_FOR_CLASSES = {
    "dataclasses.dataclass", "functools.total_ordering", "typing.final", "typing.runtime_checkable", "attr.s", "attr.define", "attr.frozen",
    "attrs.define", "attrs.frozen", "attrs.mutable",
}  # fmt: skip


def canonical(name: str) -> str:
    """The documented name of what may have been imported from where it is implemented."""
    module, _, last = name.rpartition(".")
    return f"{_INSIDE[module]}.{last}" if module in _INSIDE else name


class Project:
    """The files that are looked at together, and those of the same packages that they import."""

    def __init__(self) -> None:
        self._modules: dict[tuple[Path, str], Module | None] = {}
        self._names: dict[ast.expr, str | None] = {}
        self._types: dict[ast.expr, str | None] = {}

    def add(self, module: Module) -> None:
        """Let others find it by its name."""
        self._modules[module.root, module.name] = module

    def modules(self) -> Iterator[Module]:
        """Every file that has been read, also those that were only imported."""
        yield from [module for module in self._modules.values() if module is not None]

    def module(self, name: str, near: Module) -> Module | None:
        """The file that ``name`` means in an import of ``near``: of its own package, or a script's neighbour."""
        key = near.root, name
        if key in self._modules:
            return self._modules[key]
        found = None
        if name.partition(".")[0] == near.name.partition(".")[0] or "." not in near.name:
            base = near.root.joinpath(*name.split("."))
            path = next((each for each in (base.with_suffix(".py"), base / "__init__.py") if each.is_file()), None)
            if path is not None:
                try:
                    found = Module(path, str(path), read(path))
                except (SyntaxError, ValueError, OSError):
                    found = None  # told where that file itself is looked at
        self._modules[key] = found
        return found

    # ------------------------------------------------------------ names

    def name_of(self, node: ast.expr, scope: Scope, depth: int = 0) -> str | None:
        """The full name that an expression stands for, as ``asyncio.sleep``; None where it is not sure."""
        if depth:
            return self._name_of(node, scope, depth) if depth <= _DEEP else None
        try:
            return self._names[node]  # of a node, since a node stands in one scope
        except KeyError:
            found = self._names[node] = self._name_of(node, scope, 0)
            return found

    def _name_of(self, node: ast.expr, scope: Scope, depth: int) -> str | None:
        if isinstance(node, ast.Attribute):
            base = self.name_of(node.value, scope, depth + 1)
            return canonical(f"{base}.{node.attr}") if base else None
        if not isinstance(node, ast.Name):
            return None
        found = scope.lookup(node.id)
        if found is None:
            if node.id in _BUILTINS and not scope.module.scope.star:
                return f"builtins.{node.id}"
            return None
        where, bindings = found
        real = [each for each in bindings if not _is_nothing(each)]
        names = {self._bound(each, node.id, where, depth) for each in real}
        return names.pop() if len(names) == 1 else None

    def _bound(self, binding: Binding, name: str, where: Scope, depth: int) -> str | None:
        if binding.kind == "import":
            return canonical(binding.target)
        if binding.function is not None:
            return f"{where.module.name}.{binding.function.name}"
        if binding.cls is not None:
            return f"{where.module.name}.{binding.cls.name}"
        if binding.kind == "value" and isinstance(binding.value, ast.Name | ast.Attribute):
            if isinstance(binding.value, ast.Name) and binding.value.id == name:
                return None
            return self.name_of(binding.value, binding.scope, depth + 1)
        return None

    def find(self, name: str, near: Module, depth: int = 0) -> list[Function] | Class | None:
        """The functions (one, mostly) or the class of the project that a full name means."""
        parts = name.split(".")
        for cut in range(len(parts) - 1, 0, -1):
            module = near if near.name == ".".join(parts[:cut]) else self.module(".".join(parts[:cut]), near)
            if module is not None:
                return self._find_in(module, parts[cut:], depth)
        return None

    def _find_in(self, module: Module, parts: list[str], depth: int) -> list[Function] | Class | None:
        scope = module.scope
        for index, part in enumerate(parts):
            bindings = [each for each in scope.names.get(part, ()) if not _is_nothing(each)]
            if not bindings:
                return None
            last = index == len(parts) - 1
            functions = [each.function for each in bindings if each.function is not None]
            if len(functions) == len(bindings):
                if last:
                    return functions
                scope = functions[-1].scope
                continue
            if len(bindings) > 1:
                return None
            (binding,) = bindings
            if binding.cls is not None:
                if last:
                    return binding.cls
                scope = binding.cls.scope
            elif binding.kind == "import" and depth < _DEEP:
                return self.find(".".join([binding.target, *parts[index + 1 :]]), module, depth + 1)
            else:
                return None
        return None

    # ------------------------------------------------------------ what is called

    def called_name(self, call: ast.Call, function: Function) -> str | None:
        """The full name of what a function's call calls, with the class of its object for a method."""
        scope = function.scopes.get(call, function.scope)
        name = self.name_of(call.func, scope)
        if name is None and isinstance(call.func, ast.Attribute):
            kind = self.type_of(call.func.value, scope)
            name = f"{kind}.{call.func.attr}" if kind is not None else None
        return name

    def called(self, call: ast.Call, scope: Scope) -> list[Function]:
        """The functions of the project that a call may mean: one, or several definitions under one name. None of them decorated."""
        return [each for each in self.meant(call.func, scope) if self.is_plain(each)]

    def meant(self, node: ast.expr, scope: Scope) -> list[Function]:
        """The functions of the project that an expression means, decorated or not."""
        name = self.name_of(node, scope)
        if name is not None:
            found = self.find(name, scope.module)
            return found if isinstance(found, list) else []
        if isinstance(node, ast.Attribute):
            cls = self.class_of(node.value, scope)
            if cls is not None:
                return self.method(cls, node.attr)
        return []

    def is_plain(self, function: Function) -> bool:
        """Whether calling it does what is written in it: nothing has been wrapped around it."""
        outer = function.scope.parent
        if outer is None or not all(self.name_of(each, outer) in _TRANSPARENT for each in function.decorators):
            return False
        cls = function.cls
        if cls is None or cls.scope.parent is None:
            return True
        around = [each.func if isinstance(each, ast.Call) else each for each in cls.node.decorator_list]
        return all(self.name_of(each, cls.scope.parent) in _TRANSPARENT_FOR_CLASSES for each in around)

    def method(self, cls: Class, name: str, depth: int = 0) -> list[Function]:
        """The method of that name, of the class or of its bases within the project."""
        own = cls.scope.names.get(name)
        if own:
            return cls.methods(name) if all(each.function is not None for each in own) else []
        if name in cls.attributes or depth > _DEEP:
            return []
        for base in self.bases(cls):
            if base is None:
                return []  # its method may come first
            found = self.method(base, name, depth + 1)
            if found:
                return found
        return []

    def bases(self, cls: Class) -> Iterator[Class | None]:
        """The bases of a class; None for one that is not of the project."""
        outer = cls.scope.parent
        for node in cls.node.bases:
            name = self.name_of(node.value if isinstance(node, ast.Subscript) else node, outer) if outer else None
            found = self.find(name, cls.module) if name is not None else None
            yield found if isinstance(found, Class) else None

    # ------------------------------------------------------------ types of instances

    def class_of(self, node: ast.expr, scope: Scope) -> Class | None:
        """The class of the project of which an expression is an instance."""
        if isinstance(node, ast.Name) and (owner := _self_of(node, scope)) is not None:
            return owner
        name = self.type_of(node, scope)
        found = self.find(name, scope.module) if name is not None else None
        return found if isinstance(found, Class) else None

    def type_of(self, node: ast.expr, scope: Scope, depth: int = 0) -> str | None:
        """The full name of the class of which an expression is an instance; None where it is not sure."""
        if depth > _DEEP:
            return None
        if node in self._types:
            return self._types[node]
        self._types[node] = None  # what depends on itself has no type
        found = self._types[node] = self._type_of(node, scope, depth)
        return found

    def _type_of(self, node: ast.expr, scope: Scope, depth: int) -> str | None:
        if isinstance(node, ast.Call):
            return self._result(node, scope, depth)
        if isinstance(node, ast.Await):
            called = self.name_of(node.value.func, scope) if isinstance(node.value, ast.Call) else None
            if called in AWAITED_RESULTS:
                return AWAITED_RESULTS[called]
            return self.type_of(node.value, scope, depth + 1) if called and _is_class_name(called) else None
        if isinstance(node, ast.Name):
            found = scope.lookup(node.id)
            return self._agreed(found[1], depth) if found is not None else None
        if isinstance(node, ast.Attribute):
            cls = self.class_of(node.value, scope) if depth < _DEEP else None
            return self._attribute(cls, node.attr, depth) if cls is not None else None
        if isinstance(node, ast.BoolOp):
            return self.type_of(node.values[-1], scope, depth + 1)
        if isinstance(node, ast.IfExp):
            sides = [each for each in (node.body, node.orelse) if not isinstance(each, ast.Constant)]
            names = {self.type_of(each, scope, depth + 1) for each in sides}
            return names.pop() if len(names) == 1 else None
        return None

    def _result(self, call: ast.Call, scope: Scope, depth: int) -> str | None:
        name = self.name_of(call.func, scope)
        if name is not None:
            return RESULTS.get(name) or (name if _is_class_name(name) else None)
        if isinstance(call.func, ast.Attribute):
            of = self.type_of(call.func.value, scope, depth + 1)
            return RESULTS.get(f"{of}.{call.func.attr}") if of is not None else None
        return None

    def _attribute(self, cls: Class, name: str, depth: int) -> str | None:
        bindings = [*cls.attributes.get(name, ()), *cls.scope.names.get(name, ())]
        if bindings:
            return self._agreed(bindings, depth)
        for base in self.bases(cls):
            if base is not None and (found := self._attribute(base, name, depth + 1)) is not None:
                return found
        return None

    def _agreed(self, bindings: Iterable[Binding], depth: int) -> str | None:
        real = [each for each in bindings if not _is_nothing(each)]
        names = {self._bound_type(each, depth) for each in real}
        return names.pop() if len(names) == 1 else None

    def _bound_type(self, binding: Binding, depth: int) -> str | None:
        if binding.annotation is not None:
            return self._annotated(binding.annotation, binding.scope)
        if binding.value is None or binding.kind not in ("value", "with"):
            return None
        return self.type_of(binding.value, binding.scope, depth + 1)

    def _annotated(self, node: ast.expr, scope: Scope) -> str | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                node = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                return None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            sides = [each for each in (node.left, node.right) if not _is_none(each)]
            return self._annotated(sides[0], scope) if len(sides) == 1 else None
        if isinstance(node, ast.Subscript):
            outer = self.name_of(node.value, scope)
            if outer in ("typing.Optional", "typing.Final", "typing.ClassVar", "typing.Annotated"):
                inner = node.slice
                return self._annotated(inner.elts[0] if isinstance(inner, ast.Tuple) else inner, scope)
            return outer
        return self.name_of(node, scope)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_nothing(binding: Binding) -> bool:
    """``name = None``, beside which another binding says what it is when it is something; a declaration without a value of a type is one."""
    return binding.kind == "value" and binding.value is not None and _is_none(binding.value)


def _is_class_name(name: str) -> bool:
    last = name.rpartition(".")[2].lstrip("_")
    return last[:1].isupper() and not last.isupper()


def _self_of(node: ast.Name, scope: Scope) -> Class | None:
    """The class whose instance (or which itself) ``self`` is, also in functions inside a method."""
    found = scope.lookup(node.id)
    if found is None:
        return None
    where, bindings = found
    if where.owner is not None and where.kind == "function" and where.self_name == node.id and len(bindings) == 1:
        return where.owner
    return None
