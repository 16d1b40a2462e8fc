"""The JSON form of a snapshot: written compactly, read strictly.

A document is an object with ``schema`` (always ``"bateau.snapshot"``) and ``version`` (``[major, minor]``) beside the fields of
``Snapshot``. A field that has its default is left out. The rules of change: a new *minor* version only adds optional fields, so a
reader takes any minor version of its major one and ignores fields it does not know, except inside ``ext``, ``data`` and ``stats``,
which belong to others and are kept as they are. A new *major* version may change anything, and is refused.
"""

from __future__ import annotations

import json
import math
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args, get_origin

from . import model
from .model import VERSION, SchemaError, Snapshot, make
from .pausing import collector_paused

NAME = "bateau.snapshot"

_CLASSES: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        model.Frame, model.Process, model.Runtime, model.Arm, model.Wait, model.Event, model.Task, model.Scope, model.Resource,
        model.Thread, model.Timer, model.Fd, model.Offload, model.Finding, model.Snapshot,
    )
}  # fmt: skip


class _Field(NamedTuple):
    """How one field is checked. ``direct``: values of exactly these types are taken as they are, unless ``check`` says more."""

    direct: frozenset[type]
    check: Callable[[Any, str], Any] | None
    default: Any
    required: bool
    schema: dict[str, Any]
    nested: bool


# -- writing -------------------------------------------------------------------------------------------------------------


def to_data(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot as what ``json`` can write: dictionaries, lists, texts, numbers."""
    return {"schema": NAME, "version": list(VERSION), **_data(snapshot)}


def to_json(snapshot: Snapshot) -> str:
    """The snapshot as one JSON document, without line breaks. Values in ``ext`` and ``data`` that JSON has not become texts."""
    return b"".join(to_pieces(snapshot)).decode("ascii")


def to_pieces(snapshot: Snapshot) -> list[bytes]:
    """``to_json`` as bytes, in pieces: for who only writes them, a large document need never be there in one piece."""
    head = {"schema": NAME, "version": list(VERSION), **_lean(snapshot)}
    pieces: list[bytes] = []
    with collector_paused():
        try:
            for name, found in head.items():
                value: Any = found
                pieces.append(f"{',' if pieces else '{'}{json.dumps(name)}:".encode("ascii"))
                if _is_exactly(value, tuple) and value and type(value[0]) in _MOST:
                    _table(pieces, value)
                else:
                    pieces.append(_dumps(value).encode("ascii"))
        except ValueError:  # an infinity somewhere: the long way leaves it out
            whole = json.dumps(to_data(snapshot), separators=(",", ":"), default=_plain, allow_nan=False)
            return [whole.encode("ascii")]
    pieces.append(b"}")
    return pieces


# How many rows are turned into JSON at once: other threads wait for no longer than that takes.
_ROWS = 1000


def _table(pieces: list[bytes], things: tuple[Any, ...]) -> None:
    """A table of objects, some at a time: few are all there as dictionaries."""
    before = b"["
    for start in range(0, len(things), _ROWS):
        pieces += before, _rows(things, start, start + _ROWS, _MOST, _lean, _dumps)
        before = b","
    pieces.append(b"]")


def rows_in_python(
    things: tuple[Any, ...],
    start: int,
    end: int,
    most: dict[type[Any], int],
    lean: Callable[[Any], dict[str, Any]],
    dumps: Callable[[Any], str],
) -> bytes:
    """The things from ``start`` to ``end`` as JSON, with commas between: each an object of what its ``__dict__`` has (which ``lean``
    chooses from, of who has at least as many fields as ``most`` says of its class), and in it the same for its fields.

    This is the definition; ``_native/rows.c`` writes the same bytes.
    """
    rows: list[dict[str, Any]] = []
    for thing in things[start:end]:
        row = lean(thing)
        wait: Any = row.get("waits")  # `json` asks for none of them this way
        rows.append(row if type(wait) not in most else {**row, "waits": lean(wait)})
    return dumps(rows)[1:-1].encode("ascii")


_rows = rows_in_python
if not TYPE_CHECKING and os.environ.get("BATEAU_PURE") != "1":
    try:
        _rows = import_module("bateau._native").rows
    except (ImportError, AttributeError):
        pass  # nothing was compiled: it stays as it is


def _default(value: Any) -> Any:
    """What ``json`` asks for each of our objects: this way 100,000 of them are never all there as dictionaries."""
    return _lean(value) if type(value) in _SPECS else _plain(value)


def _lean(thing: Any) -> dict[str, Any]:
    """The fields to write. What ``make`` made has few, which are written as they are: a default among them says nothing new."""
    values: dict[str, Any] = thing.__dict__
    specs = _SPECS[type(thing)]
    if len(values) < len(specs):
        return values
    return {name: value for name, value in values.items() if specs[name].required or value != specs[name].default}


def _data(thing: Any) -> dict[str, Any]:
    specs = _SPECS[type(thing)]
    found: dict[str, Any] = {}
    for name, value in thing.__dict__.items():
        spec = specs.get(name)
        if spec is None or (not spec.required and (value is spec.default or value == spec.default)):
            continue
        if type(value) is float and not math.isfinite(value):
            continue  # JSON has no infinity: an endless wait has no ``left``
        if spec.nested:
            value = _data_of(value)
        elif isinstance(value, Mapping):
            value = _finite(value)
        found[name] = value
    return found


def _finite(value: Any) -> Any:
    """What others have added, with texts for the numbers that JSON has not."""
    if isinstance(value, Mapping):
        mapping: Mapping[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]  # of whatever
        return {str(key): _finite(item) for key, item in mapping.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in cast("list[Any]", value)]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _data_of(value: Any) -> Any:
    return [_data(item) for item in value] if _is_exactly(value, tuple) else _data(value)


def _is_exactly(value: Any, kind: type) -> bool:
    """``type(value) is kind``, of which a type checker draws no conclusions: what is inside stays unknown."""
    return type(value) is kind


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, cast("frozenset[Any]", value)))
    return str(value)


_dumps = json.JSONEncoder(separators=(",", ":"), default=_default, allow_nan=False).encode


# -- reading -------------------------------------------------------------------------------------------------------------


def from_json(text: str | bytes) -> Snapshot:
    """Read a document of ``to_json``. Raises ``SchemaError``, naming the place, for anything else."""
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"not a snapshot: not JSON ({error})") from None
    return from_data(data)


def from_data(data: Any) -> Snapshot:
    """``from_json`` for what a JSON reader made. Takes the lists and dictionaries apart: don't use them any more."""
    document = cast("dict[str, Any]", data)
    if type(data) is not dict or document.get("schema") != NAME:
        raise SchemaError(f'not a snapshot: a document with "schema": "{NAME}" was expected')
    given = document.get("version")
    version = cast("list[Any]", given)
    if type(given) is not list or len(version) != 2 or not all(type(part) is int for part in version):
        raise SchemaError("version: must be [major, minor]")
    if version[0] != VERSION[0]:
        raise SchemaError(
            f"version: this is a snapshot of version {version[0]}.{version[1]}, and this bateau reads version {VERSION[0]}; "
            "use the bateau that wrote it, or a newer one"
        )
    snapshot: Snapshot = _read(Snapshot, document, "")
    _check_indices(snapshot)
    return snapshot


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _read(cls: type[Any], data: Any, path: str) -> Any:
    if type(data) is not dict:
        raise SchemaError(f"{path}: must be an object, not {_type_name(data)}")
    specs = _SPECS[cls]
    found: dict[str, Any] = {}
    for name, value in cast("dict[str, Any]", data).items():
        spec = specs.get(name)
        if spec is None:
            continue  # of a later minor version
        if type(value) not in spec.direct:
            if spec.check is None or (value is None and not spec.direct):
                raise SchemaError(f"{_join(path, name)}: must be {_wanted(spec)}, not {_type_name(value)}")
            value = spec.check(value, _join(path, name))
        elif spec.check is not None and value is not None:
            value = spec.check(value, _join(path, name))
        found[name] = value
    for name in _REQUIRED[cls]:
        if name not in found:
            raise SchemaError(f"{_join(path, name)}: is missing")
    return make(cls, found)


def _check_indices(snapshot: Snapshot) -> None:
    """Every index into ``frames`` and ``stacks`` is one: consumers look them up without asking."""
    frames, stacks = len(snapshot.frames), len(snapshot.stacks)
    for at, stack in enumerate(snapshot.stacks):
        for index in stack:
            if not 0 <= index < frames:
                raise SchemaError(f"stacks[{at}]: there is no frame {index}")
    for table, name, limit in _INDICES:
        for at, item in enumerate(getattr(snapshot, table)):
            index = getattr(item, name)
            if index is not None and not 0 <= index < (stacks if limit == "stacks" else frames):
                raise SchemaError(f"{table}[{at}].{name}: there is no entry {index} in {limit}")


_INDICES = (
    ("tasks", "stack", "stacks"), ("tasks", "spawned", "frames"), ("scopes", "site", "frames"), ("threads", "stack", "stacks"),
    ("offloads", "site", "frames"), ("findings", "site", "frames"),
)  # fmt: skip


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _type_name(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        int: "a number",
        float: "a number",
        bool: "true or false",
    }
    return "null" if value is None else names.get(type(value), "something else")  # pyright: ignore[reportUnknownArgumentType]  # of whatever


def _wanted(spec: _Field) -> str:
    return str(spec.schema.get("type", "something else"))


# -- the fields, from the classes' annotations ---------------------------------------------------------------------------


def _field(kind: Any, default: Any, required: bool) -> _Field:
    parts = get_args(kind) if get_origin(kind) in (typing.Union, type(int | str)) else (kind,)
    direct: set[type] = set()
    check: Callable[[Any, str], Any] | None = None
    schemas: list[dict[str, Any]] = []
    nested = False
    for part in parts:
        if part is type(None):
            direct.add(type(None))
            schemas.append({"type": "null"})
            continue
        types, check, schema, nested = _part(part)
        direct |= types
        schemas.append(schema)
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return _Field(frozenset(direct), check, default, required, schema, nested)


def _part(kind: Any) -> tuple[set[type], Callable[[Any, str], Any] | None, dict[str, Any], bool]:
    """For one type: what is taken as it is, how anything is checked further, its JSON schema, whether to convert for writing."""
    simple: dict[Any, tuple[set[type], str]] = {
        int: ({int}, "integer"),
        float: ({float, int}, "number"),
        str: ({str}, "string"),
        bool: ({bool}, "boolean"),
    }
    if kind in simple:
        types, name = simple[kind]
        return types, None, {"type": name}, False
    origin = get_origin(kind)
    if origin is typing.Literal:
        allowed = get_args(kind)
        return {str}, _one_of(frozenset(allowed)), {"type": "string", "enum": list(allowed)}, False
    if origin is tuple:
        inner = get_args(kind)[0]
        types, check, schema, nested = _part(inner)
        return (
            set(),
            _list_of(frozenset(types), check, str(schema.get("type", "object"))),
            {"type": "array", "items": schema},
            nested,
        )
    if origin is not None and issubclass(origin, Mapping):
        inner = get_args(kind)[1]
        types = _part(inner)[0] if inner is not Any else set[type]()
        return set(), _mapping_of(frozenset(types)), {"type": "object"}, False
    return set(), lambda value, path: _read(kind, value, path), {"$ref": f"#/$defs/{kind.__name__}"}, True


def _one_of(allowed: frozenset[Any]) -> Callable[[Any, str], Any]:
    def check(value: Any, path: str) -> Any:
        if type(value) is not str or value not in allowed:
            raise SchemaError(f"{path}: must be one of {', '.join(sorted(allowed))}, not {value!r}")
        return value

    return check


def _list_of(types: frozenset[type], inner: Callable[[Any, str], Any] | None, wanted: str) -> Callable[[Any, str], Any]:
    def check(value: Any, path: str) -> Any:
        if not _is_exactly(value, list):
            raise SchemaError(f"{path}: must be a list, not {_type_name(value)}")
        items: list[Any] = value
        if inner is not None:
            return tuple(inner(item, f"{path}[{at}]") for at, item in enumerate(items))
        for at, item in enumerate(items):
            if type(item) not in types:
                raise SchemaError(f"{path}[{at}]: must be a {wanted}, not {_type_name(item)}")
        return tuple(items)

    return check


def _mapping_of(types: frozenset[type]) -> Callable[[Any, str], Any]:
    def check(value: Any, path: str) -> Any:
        if type(value) is not dict:
            raise SchemaError(f"{path}: must be an object, not {_type_name(value)}")
        if types:
            for key, item in cast("dict[str, Any]", value).items():
                if type(item) not in types:
                    raise SchemaError(f"{path}.{key}: must not be {_type_name(item)}")
        return cast("dict[str, Any]", value)

    return check


def _specs(cls: type[Any]) -> dict[str, _Field]:
    hints = typing.get_type_hints(cls)
    return {field.name: _field(hints[field.name], field.default, field.default is MISSING) for field in fields(cls)}


_SPECS: dict[type[Any], dict[str, _Field]] = {cls: _specs(cls) for cls in _CLASSES.values()}
# How many fields each has: who was given fewer has no field to leave out.
_MOST: dict[type[Any], int] = {cls: len(specs) for cls, specs in _SPECS.items()}
_REQUIRED: dict[type[Any], tuple[str, ...]] = {
    cls: tuple(name for name, spec in specs.items() if spec.required) for cls, specs in _SPECS.items()
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a snapshot, for tools in other languages."""
    definitions: dict[str, Any] = {}
    for name, cls in _CLASSES.items():
        doc = (cls.__doc__ or "").strip().partition("\n\n")[0]
        definitions[name] = {
            "type": "object",
            "description": " ".join(doc.split()),
            "properties": {field: spec.schema for field, spec in _SPECS[cls].items()},
            "required": list(_REQUIRED[cls]),
        }
    top = definitions.pop("Snapshot")
    top["properties"] = {
        "schema": {"const": NAME},
        "version": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        **top["properties"],
    }
    top["required"] = ["schema", "version", *top["required"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": NAME, **top, "$defs": definitions}
