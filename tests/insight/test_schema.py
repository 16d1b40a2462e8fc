"""The snapshot's JSON form: nothing is lost on the way, and what is no snapshot is refused by name of the place."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bateau.insight import SchemaError, from_json, json_schema, schema, to_json
from bateau.insight.model import (
    Arm,
    Event,
    Fd,
    Finding,
    Frame,
    Offload,
    Process,
    Resource,
    Runtime,
    Scope,
    Snapshot,
    Task,
    Thread,
    Timer,
    Wait,
    make,
)
from bateau.insight.schema import from_data, to_data


def full() -> Snapshot:
    arms = (Arm("a", "receive", resource=9), Arm("b", state="running", task=4, last=True))
    return Snapshot(
        taken_at=1.5,
        process=Process(7, argv=("x", "y"), started_at=0.5),
        source="memory",
        exact=True,
        frames=(Frame("a.py", 3, "main"), Frame("/lib/asyncio/locks.py", 100, "Lock.acquire", "stdlib")),
        stacks=((0,), (0, 1)),
        runtimes=(Runtime(1, "native", thread=5, owned=True, holds=("a thread",), ext={"mine": [1, {"a": None}]}),),
        tasks=(
            Task(1, "main", "running", runtime=1, stack=0),
            Task(
                -140000000000000,
                "other",
                "waiting",
                library="asyncio",
                stack=1,
                spawned=0,
                waits=Wait("select", resource=8, waited=2.0, at_least=True, arms=arms),
                stats={"steps": 3, "busy": 0.5},
                events=(Event("began", 0.25, {"url": "/"}),),
                context={"v": "1"},
            ),
        ),
        scopes=(Scope(3, "Scope", "program", site=0, limit=2, cancelled="why"),),
        resources=(Resource(9, "channel", "channel 'jobs' (2/2)", waiters=(1,), freed_by="tasks", used=2, capacity=2),),
        threads=(Thread(5, "MainThread", stack=0, runtime=1, daemon=False),),
        timers=(Timer(1, -0.5, "sleep"),),
        fds=(Fd(4, 1, reading=True, target="socket:[1]"),),
        offloads=(Offload(1, "open", "queued", site=0),),
        findings=(Finding("lock_held_long", "text", 0, (1,), ago=1.5, first_ago=9.0, count=3),),
        gauges={"connections": 3},
        gaps=("trio could not be read",),
        ext={"tool": {"a": [1]}},
    )


def test_everything_comes_back() -> None:
    snapshot = full()
    assert from_json(to_json(snapshot)) == snapshot


_TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20) | st.sampled_from(
    ["", 'a "b"', "\\", "\x7f", "\n", "é", "😀"]
)
_NUMBERS = (
    st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([-0.0, 1e22, 5e-324, -(1 << 63)])
)
_PLAIN = st.none() | st.booleans() | _NUMBERS | _TEXTS
_VALUES = st.recursive(
    _PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3), max_leaves=5
)
_WAITS = st.fixed_dictionaries(
    {"operation": _TEXTS}, optional={"resource": _NUMBERS, "left": _NUMBERS, "arms": st.just((Arm("a", task=4),))}
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"id": _NUMBERS, "name": _TEXTS, "state": _TEXTS},
            optional={
                "waits": _WAITS.map(lambda fields: make(Wait, fields)) | st.none(),
                "ext": _VALUES,
                "stack": _PLAIN,
            },
        ),
        max_size=4,
    ),
    st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_rows_are_the_same_to_the_last_byte_however_they_are_written(fields: list[dict[str, Any]], start: int) -> None:
    """What writes the tables of a document (in C, where that was built) against its definition."""
    tasks = (*(make(Task, dict(each)) for each in fields), *full().tasks, full().resources[0], Process(1))
    options = (tasks, start, start + 5, schema._MOST, schema._lean, schema._dumps)
    assert schema._rows(*options) == schema.rows_in_python(*options)


def test_rows_refuse_what_their_definition_refuses() -> None:
    for left in (float("inf"), float("nan")):
        tasks = (make(Task, {"id": 1, "name": "a", "state": "new", "waits": Wait("b", left=left)}),)
        for write in (schema._rows, schema.rows_in_python):
            with pytest.raises(ValueError):
                write(tasks, 0, 1, schema._MOST, schema._lean, schema._dumps)


def test_what_has_its_default_is_left_out() -> None:
    data = to_data(Snapshot(1.0, Process(1), tasks=(Task(1, "a", "new"),)))
    assert data == {
        "schema": "bateau.snapshot",
        "version": [1, 2],
        "taken_at": 1.0,
        "process": {"pid": 1},
        "tasks": [{"id": 1, "name": "a", "state": "new"}],
    }


def test_made_in_one_step_is_the_same() -> None:
    quick = make(Task, {"id": 1, "name": "a", "state": "new"})
    assert quick == Task(1, "a", "new")
    assert quick.priority == 0
    assert hash(quick.waits) == hash(None)
    with pytest.raises(AttributeError):
        quick.name = "b"  # type: ignore[misc]


def test_infinity_is_left_out() -> None:
    task = Task(1, "a", "waiting", waits=Wait("sleep", left=float("inf")))
    assert json.loads(to_json(Snapshot(1.0, Process(1), tasks=(task,))))["tasks"][0]["waits"] == {"operation": "sleep"}


def test_unknown_fields_are_ignored_and_extensions_kept() -> None:
    data = json.loads(to_json(full()))
    data["version"] = [1, 99]
    data["new_table"] = [1]
    data["tasks"][0]["colour"] = "red"
    assert from_data(data) == full()


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("schema",), "other", "not a snapshot"),
        (("version",), [2, 0], "version 2.0, and this bateau reads version 1"),
        (("version",), "1.0", "version: must be"),
        (("taken_at",), "now", "taken_at: must be number, not a text"),
        (("tasks",), {}, "tasks: must be a list, not an object"),
        (("tasks", 1), 3, r"tasks\[1\]: must be an object"),
        (("tasks", 1, "id"), True, r"tasks\[1\].id: must be integer, not true or false"),
        (("tasks", 1, "id"), None, r"tasks\[1\].id: must be integer, not null"),
        (("tasks", 1, "state"), "asleep", r"tasks\[1\].state: must be one of ended, new"),
        (("tasks", 1, "stack"), 2, r"tasks\[1\].stack: there is no entry 2 in stacks"),
        (("tasks", 1, "stack"), -1, r"tasks\[1\].stack: there is no entry -1"),
        (("tasks", 1, "waits", "arms", 0, "task"), "x", r"tasks\[1\].waits.arms\[0\].task: must be"),
        (("tasks", 1, "stats", "busy"), "x", r"tasks\[1\].stats.busy: must not be a text"),
        (("stacks", 1, 1), 7, r"stacks\[1\]: there is no frame 7"),
        (("stacks", 1, 1), "7", r"stacks\[1\]\[1\]: must be a integer"),
        (("resources", 0, "waiters", 0), 1.5, r"resources\[0\].waiters\[0\]: must be"),
        (("process",), None, "process: must be"),
    ],
)
def test_what_is_wrong_is_named(path: tuple[Any, ...], value: Any, fault: str) -> None:
    data: Any = json.loads(to_json(full()))
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(SchemaError, match=fault):
        from_data(data)


def test_what_is_missing_is_named() -> None:
    data: Any = json.loads(to_json(full()))
    del data["tasks"][0]["name"]
    with pytest.raises(SchemaError, match=r"tasks\[0\].name: is missing"):
        from_data(data)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema":"bateau.snapshot"}', "[" * 100_000, "NaN", b"\xff\xfe\xff"]
)
def test_what_is_no_document_is_refused(text: str | bytes) -> None:
    with pytest.raises(SchemaError):
        from_json(text)


def test_what_json_has_not_is_a_text_in_an_extension() -> None:
    read = from_json(to_json(Snapshot(1.0, Process(1), ext={"a": [float("inf"), {1: {3}}]})))
    assert read.ext == {"a": ["inf", {"1": ["3"]}]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_document_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    """Whatever stands at whatever place: a snapshot that can be written again, or a ``SchemaError``."""
    document: Any = json.loads(to_json(full()))
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or data.draw(st.booleans()):
            place[key] = data.draw(json_values)
            break
        place = place[key]
    try:
        snapshot = from_data(copy.deepcopy(document))
    except SchemaError:
        return
    assert from_json(to_json(snapshot)) == snapshot


def test_the_machine_readable_schema_names_every_field() -> None:
    schema = json_schema()
    assert schema["required"] == ["schema", "version", "taken_at", "process"]
    assert schema["$defs"]["Task"]["properties"]["waits"] == {"anyOf": [{"$ref": "#/$defs/Wait"}, {"type": "null"}]}
    assert schema["$defs"]["Task"]["properties"]["state"]["enum"][0] == "new"
    json.dumps(schema)
