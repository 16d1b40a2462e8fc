"""One file, read once: its tree, the scopes and names in it, its functions, and what each of them does.

A single pass over the tree, without recursion (a long chain of operators is a deep tree), notes everything that rules ask for. What a
name stands for is answered with care: where it could be two things it is neither.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Module
Suspension: TypeAlias = ast.Await | ast.AsyncFor | ast.AsyncWith | ast.ListComp | ast.SetComp | ast.DictComp
Kind: TypeAlias = Literal["import", "function", "class", "value", "annotated", "parameter", "with", "other"]


@dataclass(slots=True)
class Binding:
    """One way in which a name gets its value. ``target``: the full name that an import stands for. ``scope``: where it was written."""

    kind: Kind
    scope: Scope
    target: str = ""
    value: ast.expr | None = None
    annotation: ast.expr | None = None
    function: Function | None = None
    cls: Class | None = None


@dataclass(slots=True, eq=False)
class Scope:
    """The names of a module, a class body or a function."""

    kind: Literal["module", "class", "function"]
    module: Module
    parent: Scope | None = None
    owner: Class | None = None  # of a method: the class; of a class body: itself
    self_name: str = ""  # of a method: the name of its first parameter
    names: dict[str, list[Binding]] = field(default_factory=dict[str, list[Binding]])
    elsewhere: dict[str, Scope] = field(default_factory=dict[str, "Scope"])  # global and nonlocal names
    star: bool = False  # `from x import *`: names may come from there

    def bind(self, name: str, binding: Binding) -> None:
        """Note one more way in which ``name`` gets a value."""
        self.elsewhere.get(name, self).names.setdefault(name, []).append(binding)

    def lookup(self, name: str) -> tuple[Scope, list[Binding]] | None:
        """Where ``name`` is bound as seen from here, and how; None where it is a builtin or unknown."""
        scope: Scope | None = self
        while scope is not None:
            found = scope.elsewhere.get(name, scope).names.get(name)
            if found:
                return scope, found
            scope = scope.parent
            while scope is not None and scope.kind == "class":  # a class's names are not seen from its methods
                scope = scope.parent
        return None


@dataclass(slots=True, eq=False)
class Class:
    """A class: its methods, and what is assigned to attributes of its instances."""

    node: ast.ClassDef
    module: Module
    name: str  # qualified within the module
    scope: Scope  # of its body
    attributes: dict[str, list[Binding]] = field(default_factory=dict[str, list[Binding]])

    def methods(self, name: str) -> list[Function]:
        """The functions that the class's body defines under that name."""
        found = self.scope.names.get(name, ())
        return [binding.function for binding in found if binding.function is not None]


@dataclass(slots=True, eq=False)
class Function:
    """A function, a lambda, or a module's own code: what it does, in the order of the text, without what nested functions do."""

    node: FunctionNode
    module: Module
    name: str  # qualified within the module; "" for the module's own code
    scope: Scope
    parent: Function | None = None
    cls: Class | None = None  # of a method
    suspensions: list[Suspension] = field(default_factory=list[Suspension])
    yields: list[ast.Yield | ast.YieldFrom] = field(default_factory=list["ast.Yield | ast.YieldFrom"])
    calls: list[ast.Call] = field(default_factory=list[ast.Call])
    withs: list[ast.With | ast.AsyncWith] = field(default_factory=list["ast.With | ast.AsyncWith"])
    tries: list[ast.Try] = field(default_factory=list[ast.Try])
    loops: list[ast.While | ast.For | ast.AsyncFor] = field(default_factory=list["ast.While | ast.For | ast.AsyncFor"])
    loads: list[ast.Name | ast.Attribute] = field(default_factory=list["ast.Name | ast.Attribute"])
    inner: list[Function] = field(default_factory=list["Function"])
    scopes: dict[ast.AST, Scope] = field(default_factory=dict[ast.AST, Scope])  # of code in class bodies inside it

    @property
    def is_async(self) -> bool:
        """Whether it is written ``async def``."""
        return isinstance(self.node, ast.AsyncFunctionDef)

    @property
    def is_generator(self) -> bool:
        """Whether calling it gives a generator (an asynchronous one if it is ``async``)."""
        return bool(self.yields)

    @property
    def body(self) -> list[ast.stmt]:
        """Its statements; none for a lambda."""
        return [] if isinstance(self.node, ast.Lambda) else self.node.body

    @property
    def decorators(self) -> list[ast.expr]:
        """What it is decorated with."""
        return self.node.decorator_list if isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef) else []


class Module:
    """A file: ``name`` is what others import it by (or the file's stem), ``root`` the folder that name is relative to."""

    def __init__(self, path: Path, shown: str, text: str) -> None:
        self.path = path
        self.shown = shown
        self.text = text
        self.root, self.name = module_name(path)
        self.package = self.name if path.name == "__init__.py" else self.name.rpartition(".")[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape sequence is another tool's business
            self.tree = ast.parse(text, str(path))
        self.parents: dict[ast.AST, ast.AST] = {}
        self.scope = Scope("module", self)
        self.top = Function(self.tree, self, "", self.scope)
        self.functions: list[Function] = [self.top]
        self.classes: list[Class] = []
        _Collector(self).collect()

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around ``node``, innermost first."""
        parents = self.parents
        found = parents.get(node)
        while found is not None:
            yield found
            found = parents.get(found)

    def is_inside(self, node: ast.AST, outer: ast.AST) -> bool:
        """Whether ``node`` is ``outer``, or in it."""
        return node is outer or any(each is outer for each in self.ancestors(node))


def module_name(path: Path) -> tuple[Path, str]:
    """The folder that a file's full name is relative to, and that name: packages are the folders that have an ``__init__.py``."""
    parts = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists() and folder.parent != folder:
        parts.append(folder.name)
        folder = folder.parent
    return folder, ".".join(reversed(parts)) or path.parent.name


@dataclass(slots=True)
class _Context:
    """Where the pass is: code of which function, names of which scope."""

    function: Function
    scope: Scope


# Fields of nodes that hold nothing that a rule asks for: never looked into.
_LEAVES = {
    "ctx",
    "op",
    "ops",
    "id",
    "attr",
    "arg",
    "kind",
    "type_comment",
    "lineno",
    "conversion",
    "is_async",
    "level",
    "simple",
}


_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {ast.Constant: ()}


def _fields(kind: type[ast.AST]) -> tuple[str, ...]:
    """The fields of a type of nodes that may hold others to be looked into."""
    found = _FIELDS.get(kind)
    if found is None:
        found = _FIELDS[kind] = tuple(each for each in kind._fields if each not in _LEAVES)
    return found


class _Collector:
    """The pass over the tree."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.stack: list[tuple[ast.AST, ast.AST, _Context]] = []  # node, its parent, context; the last is next
        self.named: set[ast.AST] = set()  # targets whose binding has been noted with its value

    def collect(self) -> None:
        module = self.module
        self.push(module.tree.body, module.tree, _Context(module.top, module.scope))
        parents = module.parents
        while self.stack:
            node, parent, context = self.stack.pop()
            parents[node] = parent
            handler = _HANDLERS.get(type(node))
            if handler is None or handler(self, node, context):
                self.children(node, context)

    def push(self, nodes: list[ast.stmt] | list[ast.expr], parent: ast.AST, context: _Context) -> None:
        self.stack.extend([(node, parent, context) for node in reversed(nodes)])

    def children(self, node: ast.AST, context: _Context) -> None:
        found: list[tuple[ast.AST, ast.AST, _Context]] = []
        for name in _fields(type(node)):
            value: Any = getattr(node, name, None)
            if value.__class__ is list:
                found += [(child, node, context) for child in value if isinstance(child, ast.AST)]
            elif isinstance(value, ast.AST) and not isinstance(value, ast.Constant):
                found.append((value, node, context))
        found.reverse()
        self.stack += found

    # Each handler says whether the node's children are to be visited in the same context.

    def on_import(self, node: ast.Import, context: _Context) -> bool:
        for alias in node.names:
            if alias.asname:
                context.scope.bind(alias.asname, Binding("import", context.scope, alias.name))
            else:
                top = alias.name.partition(".")[0]
                context.scope.bind(top, Binding("import", context.scope, top))
        return False

    def on_import_from(self, node: ast.ImportFrom, context: _Context) -> bool:
        base = node.module or ""
        if node.level:
            parts = self.module.package.split(".") if self.module.package else []
            parts = parts[: len(parts) - node.level + 1]
            base = ".".join([*parts, *([base] if base else [])])
        for alias in node.names:
            if alias.name == "*":
                context.scope.star = True
            else:
                context.scope.bind(alias.asname or alias.name, Binding("import", context.scope, f"{base}.{alias.name}"))
        return False

    def on_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, context: _Context) -> bool:
        outer = context.scope
        owner = outer.owner if outer.kind == "class" else None
        function = Function(
            node, self.module, self.qualified(node.name, context), Scope("function", self.module, outer)
        )
        function.parent, function.cls = context.function, owner
        self.add(function, context)
        outer.bind(node.name, Binding("function", outer, function=function))
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        extra = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
        for each in every:
            function.scope.bind(each.arg, Binding("parameter", outer, annotation=each.annotation))
        for each in extra:
            function.scope.bind(each.arg, Binding("other", outer))
        static = any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in node.decorator_list)
        if owner is not None and every and not static:
            function.scope.owner, function.scope.self_name = owner, every[0].arg
        defaults = [each for each in (*arguments.defaults, *arguments.kw_defaults) if each is not None]
        self.push([*node.decorator_list, *defaults], node, context)
        self.push(node.body, node, _Context(function, function.scope))
        return False

    def on_lambda(self, node: ast.Lambda, context: _Context) -> bool:
        function = Function(
            node, self.module, self.qualified("<lambda>", context), Scope("function", self.module, context.scope)
        )
        function.parent = context.function
        self.add(function, context)
        for each in ast.walk(node.args):
            if isinstance(each, ast.arg):
                function.scope.bind(each.arg, Binding("other", context.scope))
        self.push([each for each in (*node.args.defaults, *node.args.kw_defaults) if each is not None], node, context)
        self.push([node.body], node, _Context(function, function.scope))
        return False

    def add(self, function: Function, context: _Context) -> None:
        self.module.functions.append(function)
        context.function.inner.append(function)

    def qualified(self, name: str, context: _Context) -> str:
        scope = context.scope
        prefix = scope.owner.name if scope.kind == "class" and scope.owner is not None else context.function.name
        return f"{prefix}.{name}" if prefix else name

    def on_class(self, node: ast.ClassDef, context: _Context) -> bool:
        scope = Scope("class", self.module, context.scope)
        cls = Class(node, self.module, self.qualified(node.name, context), scope)
        scope.owner = cls
        self.module.classes.append(cls)
        context.scope.bind(node.name, Binding("class", context.scope, cls=cls))
        self.push([*node.decorator_list, *node.bases, *(each.value for each in node.keywords)], node, context)
        self.push(node.body, node, _Context(context.function, scope))
        return False

    def on_assign(self, node: ast.Assign, context: _Context) -> bool:
        for target in node.targets:
            self.assigned(target, Binding("value", context.scope, value=node.value), context)
        return True

    def on_annotated(self, node: ast.AnnAssign, context: _Context) -> bool:
        binding = Binding("annotated", context.scope, value=node.value, annotation=node.annotation)
        self.assigned(node.target, binding, context)
        return True

    def on_named(self, node: ast.NamedExpr, context: _Context) -> bool:
        self.assigned(node.target, Binding("value", context.scope, value=node.value), context)
        return True

    def assigned(self, target: ast.expr, binding: Binding, context: _Context) -> None:
        if isinstance(target, ast.Name):
            self.named.add(target)
            context.scope.bind(target.id, binding)
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            scope = context.scope
            if scope.owner is not None and scope.kind == "function" and target.value.id == scope.self_name:
                self.named.add(target)
                scope.owner.attributes.setdefault(target.attr, []).append(binding)

    def on_with(self, node: ast.With | ast.AsyncWith, context: _Context) -> bool:
        context.function.withs.append(node)
        if isinstance(node, ast.AsyncWith):
            context.function.suspensions.append(node)
        for item in node.items:
            if item.optional_vars is not None:
                self.assigned(item.optional_vars, Binding("with", context.scope, value=item.context_expr), context)
        return True

    def on_try(self, node: ast.Try, context: _Context) -> bool:
        context.function.tries.append(node)
        return True

    def on_handler(self, node: ast.ExceptHandler, context: _Context) -> bool:
        if node.name:
            context.scope.bind(node.name, Binding("other", context.scope))
        return True

    def on_loop(self, node: ast.While | ast.For | ast.AsyncFor, context: _Context) -> bool:
        context.function.loops.append(node)
        if isinstance(node, ast.AsyncFor):
            context.function.suspensions.append(node)
        return True

    def on_await(self, node: ast.Await, context: _Context) -> bool:
        context.function.suspensions.append(node)
        return True

    def on_comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp, context: _Context) -> bool:
        if any(each.is_async for each in node.generators):
            context.function.suspensions.append(node)
        return True

    def on_yield(self, node: ast.Yield | ast.YieldFrom, context: _Context) -> bool:
        context.function.yields.append(node)
        return True

    def on_call(self, node: ast.Call, context: _Context) -> bool:
        context.function.calls.append(node)
        if context.scope is not context.function.scope:
            context.function.scopes[node] = context.scope
        return True

    def on_name(self, node: ast.Name, context: _Context) -> bool:
        if isinstance(node.ctx, ast.Load):
            context.function.loads.append(node)
        elif isinstance(node.ctx, ast.Store) and node not in self.named:
            context.scope.bind(node.id, Binding("other", context.scope))
        return False

    def on_attribute(self, node: ast.Attribute, context: _Context) -> bool:
        if isinstance(node.ctx, ast.Load):
            context.function.loads.append(node)
        elif node not in self.named:
            self.assigned(node, Binding("other", context.scope), context)
        return True

    def on_match(self, node: ast.MatchAs | ast.MatchStar | ast.MatchMapping, context: _Context) -> bool:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if name:
            context.scope.bind(name, Binding("other", context.scope))
        return True

    def on_elsewhere(self, node: ast.Global | ast.Nonlocal, context: _Context) -> bool:
        scope = context.scope
        for name in node.names:
            outer: Scope | None = self.module.scope
            if isinstance(node, ast.Nonlocal):
                outer = scope.parent
                while outer is not None and (outer.kind == "class" or name not in outer.names):
                    outer = outer.parent
            if outer is not None:
                scope.elsewhere[name] = outer
        return False


_HANDLERS: dict[type[ast.AST], Callable[[_Collector, Any, _Context], bool]] = {
    ast.Import: _Collector.on_import,
    ast.ImportFrom: _Collector.on_import_from,
    ast.FunctionDef: _Collector.on_function,
    ast.AsyncFunctionDef: _Collector.on_function,
    ast.Lambda: _Collector.on_lambda,
    ast.ClassDef: _Collector.on_class,
    ast.Assign: _Collector.on_assign,
    ast.AnnAssign: _Collector.on_annotated,
    ast.NamedExpr: _Collector.on_named,
    ast.With: _Collector.on_with,
    ast.AsyncWith: _Collector.on_with,
    ast.Try: _Collector.on_try,
    ast.ExceptHandler: _Collector.on_handler,
    ast.While: _Collector.on_loop,
    ast.For: _Collector.on_loop,
    ast.AsyncFor: _Collector.on_loop,
    ast.Await: _Collector.on_await,
    ast.ListComp: _Collector.on_comprehension,
    ast.SetComp: _Collector.on_comprehension,
    ast.DictComp: _Collector.on_comprehension,
    ast.Yield: _Collector.on_yield,
    ast.YieldFrom: _Collector.on_yield,
    ast.Call: _Collector.on_call,
    ast.Name: _Collector.on_name,
    ast.Attribute: _Collector.on_attribute,
    ast.MatchAs: _Collector.on_match,
    ast.MatchStar: _Collector.on_match,
    ast.MatchMapping: _Collector.on_match,
    ast.Global: _Collector.on_elsewhere,
    ast.Nonlocal: _Collector.on_elsewhere,
}
