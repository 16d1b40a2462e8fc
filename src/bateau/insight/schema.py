"""The JSON form of a snapshot: written compactly, read strictly.

A document is an object with ``schema`` (always ``"bateau.snapshot"``) and ``version`` (``[major, minor]``) beside the fields of
``Snapshot``. A field that has its default is left out. The rules of change: a new *minor* version only adds optional fields, so a
reader takes any minor version of its major one and ignores fields it does not know, except inside ``ext``, ``data`` and ``stats``,
which belong to others and are kept as they are. A new *major* version may change anything, and is refused.
"""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, NamedTuple, cast, get_args, get_origin

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
    head = {"schema": NAME, "version": list(VERSION), **_lean(snapshot)}
    with collector_paused():
        try:
            parts = [
                f"{json.dumps(name)}:{_table(snapshot.tasks) if name == 'tasks' else _dumps(value)}"
                for name, value in head.items()
            ]
        except ValueError:  # an infinity somewhere: the long way leaves it out
            return json.dumps(to_data(snapshot), separators=(",", ":"), default=_plain, allow_nan=False)
        return "{" + ",".join(parts) + "}"


# How many tasks are turned into JSON at once.
_ROWS = 1000


def _table(tasks: tuple[model.Task, ...]) -> str:
    """Tasks with their waits, so many at once: `json` asks for none of them then, and few are all there as dictionaries."""
    parts: list[str] = []
    for start in range(0, len(tasks), _ROWS):
        rows: list[dict[str, Any]] = []
        for task in tasks[start : start + _ROWS]:
            row = _lean(task)
            wait: model.Wait | None = row.get("waits")
            rows.append(row if wait is None else {**row, "waits": _lean(wait)})
        parts.append(_dumps(rows)[1:-1])
    return f"[{','.join(parts)}]"


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
        mapping: Mapping[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
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
    return "null" if value is None else names.get(type(value), "something else")  # pyright: ignore[reportUnknownArgumentType]


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
