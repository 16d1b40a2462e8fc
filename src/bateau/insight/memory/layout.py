"""Where the fields of CPython's structures lie, per minor version.

Up to 3.12 the interpreter says nothing about itself: the numbers are those of its headers on 64-bit machines, the same in every
release of a minor version. From 3.13 on ``_PyRuntime`` starts with a table of offsets, which is believed; what it leaves out
(types, dictionaries, weak references, generators of 3.13) stands here. Built-in ``_asyncio`` has a table of its own from 3.14 on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from .cache import Memory
from .errors import Fault, MemoryReadError, UnsupportedVersion

COOKIE: Final = b"xdebugpy"
OLDEST, NEWEST = (3, 11), (3, 15)


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets in bytes, named by structure and field. ``version`` is (major, minor)."""

    version: tuple[int, int]
    # _PyRuntimeState, PyInterpreterState
    runtime_interpreters: int
    interpreter_next: int
    interpreter_id: int
    interpreter_threads: int
    interpreter_modules: int
    # The GIL's state is pointed to by the interpreter (``gil_in_interpreter``) or part of the runtime (3.11).
    gil: int
    gil_in_interpreter: bool
    # PyThreadState. Up to 3.12 the frame is one pointer further away (``thread_cframe``).
    thread_next: int
    thread_cframe: int | None
    thread_frame: int
    thread_ident: int
    thread_native_id: int
    # _PyInterpreterFrame
    frame_code: int
    frame_previous: int
    frame_instruction: int
    # Up to 3.13 the number of slots in use; from 3.14 on a pointer behind the last one.
    frame_stacktop: int
    frame_owner: int
    frame_locals: int
    # PyCodeObject
    code_flags: int
    code_firstlineno: int
    code_nlocalsplus: int
    code_localsplusnames: int
    code_filename: int
    code_name: int
    code_qualname: int
    code_linetable: int
    code_bytecode: int
    # PyGenObject and its like
    generator_state: int
    generator_frame: int
    # The states of a suspended one, and of those the one that awaits something (None: ask the bytecode).
    suspended: tuple[int, ...]
    suspended_awaiting: int | None
    created: int
    executing: int
    # How far from the top of the value stack what it awaits is.
    awaited_slot: int
    # PyASCIIObject, PyCompactUnicodeObject
    string_ascii_size: int
    string_compact_size: int
    # The items of a tuple; ``lv_tag`` style integers from 3.12 on.
    tuple_items: int
    tagged_integers: bool
    # PyTypeObject, PyHeapTypeObject
    type_dictoffset: int
    type_cached_keys: int
    # Values of an instance without a dictionary: "pointers" (3.11), "tagged" (3.12), "inline" (from 3.13 on).
    instance_values: str
    # _asyncio.Future and Task
    future_callback0: int
    future_callbacks: int
    future_exception: int
    future_result: int
    future_state: int
    task_waiter: int
    task_coro: int
    task_name: int
    task_must_cancel: int | None
    # The C list of tasks (from 3.14 on): in the task, in the interpreter's and in the thread's state.
    task_node: int | None = None
    interpreter_tasks: int | None = None
    thread_tasks: int | None = None


_3_11: Final = Layout(
    version=(3, 11),
    runtime_interpreters=40,
    interpreter_next=0,
    interpreter_id=48,
    interpreter_threads=16,
    interpreter_modules=888,
    gil=360,
    gil_in_interpreter=False,
    thread_next=8,
    thread_cframe=56,
    thread_frame=8,
    thread_ident=152,
    thread_native_id=160,
    frame_code=32,
    frame_previous=48,
    frame_instruction=56,
    frame_stacktop=64,
    frame_owner=69,
    frame_locals=72,
    code_flags=48,
    code_firstlineno=72,
    code_nlocalsplus=76,
    code_localsplusnames=96,
    code_filename=112,
    code_name=120,
    code_qualname=128,
    code_linetable=136,
    code_bytecode=184,
    generator_state=75,
    generator_frame=80,
    suspended=(-1,),
    suspended_awaiting=None,
    created=-2,
    executing=0,
    awaited_slot=1,
    string_ascii_size=48,
    string_compact_size=72,
    tuple_items=24,
    tagged_integers=False,
    type_dictoffset=288,
    type_cached_keys=872,
    instance_values="pointers",
    future_callback0=24,
    future_callbacks=40,
    future_exception=48,
    future_result=64,
    future_state=88,
    task_waiter=128,
    task_coro=136,
    task_name=144,
    task_must_cancel=160,
)

_3_12: Final = replace(
    _3_11,
    version=(3, 12),
    interpreter_id=8,
    interpreter_threads=72,
    interpreter_modules=944,
    gil=384,
    gil_in_interpreter=True,
    thread_frame=0,
    thread_ident=136,
    thread_native_id=144,
    frame_code=0,
    frame_previous=8,
    frame_owner=70,
    code_firstlineno=68,
    code_nlocalsplus=72,
    code_bytecode=192,
    generator_state=67,
    generator_frame=72,
    string_ascii_size=40,
    string_compact_size=56,
    tagged_integers=True,
    type_cached_keys=880,
    instance_values="tagged",
)

# What the table of 3.13 leaves out; the fields that it has are replaced.
_3_13: Final = replace(
    _3_12,
    version=(3, 13),
    gil=16,
    thread_cframe=None,
    suspended=(-2, -1),
    suspended_awaiting=-1,
    created=-3,
    instance_values="inline",
    future_state=96,
    task_waiter=112,
    task_coro=120,
    task_name=128,
    task_must_cancel=None,
)

_3_14: Final = replace(
    _3_13,
    version=(3, 14),
    tuple_items=32,
    future_state=104,
    task_waiter=120,
    task_coro=128,
    task_name=136,
)

_SUPPLEMENTS: Final = {
    (3, 13): _3_13,
    (3, 14): _3_14,
    (3, 15): replace(
        _3_14,
        version=(3, 15),
        type_cached_keys=888,
        suspended=(1, 2),
        suspended_awaiting=2,
        created=0,
        executing=4,
        awaited_slot=2,
    ),
}

# Within so many bytes of its beginning lies every field of a frame, a code object or a thread's state.
_NEAR: Final = 2048

# The fields of ``_Py_DebugOffsets`` behind cookie, version and free_threaded, in order; each is 8 bytes.
_FIELDS_3_13: Final = """
runtime: size finalizing interpreters_head
interpreter: size id next threads_head gc imports_modules sysdict builtins ceval_gil gil gil_enabled gil_locked gil_holder
thread: size prev next interp current_frame thread_id native_thread_id datastack_chunk status
frame: size previous executable instr_ptr localsplus owner
code: size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds bytecode
object: size ob_type
type: size tp_name tp_repr tp_flags
tuple: size ob_item ob_size
"""
_FIELDS_3_14: Final = """
runtime: size finalizing interpreters_head
interpreter: size id next threads_head threads_main gc imports_modules sysdict builtins ceval_gil gil gil_enabled gil_locked
interpreter: gil_holder code_generation tlbc_generation
thread: size prev next interp current_frame thread_id native_thread_id datastack_chunk status
frame: size previous executable instr_ptr localsplus owner stackpointer tlbc_index
code: size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds bytecode tlbc
object: size ob_type
type: size tp_name tp_repr tp_flags
tuple: size ob_item ob_size
"""
_FIELDS_3_15: Final = """
runtime: size finalizing interpreters_head
interpreter: size id next threads_head threads_main gc imports_modules sysdict builtins ceval_gil gil gil_enabled gil_locked
interpreter: gil_holder code_generation tlbc_generation
thread: size prev next interp current_frame base_frame last_profiled_frame last_profiled_sequence
thread: thread_id native_thread_id datastack_chunk status holds_gil gil_requested current_exception exc_state
exc_stackitem: exc_value
frame: size previous executable instr_ptr localsplus owner stackpointer tlbc_index
code: size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds bytecode tlbc
object: size ob_type
type: size tp_name tp_repr tp_flags tp_basicsize tp_dictoffset
heaptype: size cached_keys
tuple: size ob_item ob_size
"""
_FIELDS: Final = {(3, 13): _FIELDS_3_13, (3, 14): _FIELDS_3_14, (3, 15): _FIELDS_3_15}


def layout_for(memory: Memory, runtime: int, version_hex: int | None) -> Layout:
    """The layout of the interpreter whose ``_PyRuntime`` lies at ``runtime``.

    ``version_hex`` is the value of ``Py_Version``, None where it is not known. Raises ``UnsupportedVersion``.
    """
    if memory.read(runtime, 8) == COOKIE:
        return _from_debug_offsets(memory, runtime)
    if version_hex is None:
        raise UnsupportedVersion(f"a CPython older than 3.11 (it does not say which); supported are {_range()}")
    version = _version(version_hex)
    if version == (3, 11):
        return _3_11
    if version == (3, 12):
        return _3_12
    raise UnsupportedVersion(f"CPython {version[0]}.{version[1]}; supported are {_range()}")


def _from_debug_offsets(memory: Memory, runtime: int) -> Layout:
    version = _version(memory.word(runtime + 8))
    if version not in _FIELDS:
        raise UnsupportedVersion(f"CPython {version[0]}.{version[1]}; supported are {_range()}")
    if memory.word(runtime + 16):
        raise UnsupportedVersion(
            "a free-threaded build of CPython: its objects are laid out differently, and not known here"
        )
    names = [
        f"{structure}.{name}"
        for line in _FIELDS[version].split("\n")
        if line
        for structure, _, rest in (line.partition(": "),)
        for name in rest.split()
    ]
    fields = dict(zip(names, memory.words(runtime + 24, len(names)), strict=True))
    _check(fields, version)
    return _apply(_SUPPLEMENTS[version], fields)


def _check(fields: Mapping[str, int], version: tuple[int, int]) -> None:
    """The table may have changed between releases of one minor version: refuse rather than read nonsense."""
    # PyObject and the head of PyTypeObject are the stable part of the interface: they show whether the fields are where we think.
    stable = {"object.size": 16, "object.ob_type": 8, "type.tp_name": 24, "type.tp_flags": 168, "tuple.ob_size": 16}
    # A frame and a code object are small: what lies further is no place in them, but memory that was not what we took it for.
    near = {
        name: at
        for name, at in fields.items()
        if name.startswith(("frame.", "code.", "thread.", "tuple."))
        and not name.endswith((".size", ".tlbc", ".tlbc_index"))
    }
    if any(fields[name] != value for name, value in stable.items()) or max(near.values()) > _NEAR:
        raise UnsupportedVersion(f"this build of CPython {version[0]}.{version[1]} describes itself in an unknown form")


def _apply(base: Layout, fields: Mapping[str, int]) -> Layout:
    return replace(
        base,
        runtime_interpreters=fields["runtime.interpreters_head"],
        interpreter_next=fields["interpreter.next"],
        interpreter_id=fields["interpreter.id"],
        interpreter_threads=fields["interpreter.threads_head"],
        interpreter_modules=fields["interpreter.imports_modules"],
        gil=fields["interpreter.ceval_gil"],
        thread_next=fields["thread.next"],
        thread_frame=fields["thread.current_frame"],
        thread_ident=fields["thread.thread_id"],
        thread_native_id=fields["thread.native_thread_id"],
        frame_code=fields["frame.executable"],
        frame_previous=fields["frame.previous"],
        frame_instruction=fields["frame.instr_ptr"],
        frame_stacktop=fields.get("frame.stackpointer", base.frame_stacktop),
        frame_owner=fields["frame.owner"],
        frame_locals=fields["frame.localsplus"],
        code_firstlineno=fields["code.firstlineno"],
        code_localsplusnames=fields["code.localsplusnames"],
        code_filename=fields["code.filename"],
        code_name=fields["code.name"],
        code_qualname=fields["code.qualname"],
        code_linetable=fields["code.linetable"],
        code_bytecode=fields["code.bytecode"],
        tuple_items=fields["tuple.ob_item"],
        type_cached_keys=fields.get("heaptype.cached_keys", base.type_cached_keys),
    )


def with_asyncio_table(layout: Layout, memory: Memory, table: int) -> Layout:
    """``layout`` with what the section ``.AsyncioDebug``, mapped at ``table``, says (from 3.14 on)."""
    try:
        words = memory.words(table, 13)
    except Fault as fault:
        raise MemoryReadError(f"the table of _asyncio can't be read: {fault}") from None
    return replace(
        layout,
        task_name=words[1],
        task_coro=words[5],
        task_node=words[6],
        interpreter_tasks=words[8],
        thread_tasks=words[12],
    )


def _version(version_hex: int) -> tuple[int, int]:
    return version_hex >> 24 & 0xFF, version_hex >> 16 & 0xFF


def _range() -> str:
    return f"CPython {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
