"""What each instruction of CPython's does to the stack, and what of it may touch something shared: by version, in tables.

The stack is one of instruction offsets instead of values: who has made what lies there. Instructions that are in no table count as
touching everything. So a new version of Python can make this say too much, but never too little.
"""

from __future__ import annotations

import dis
import sys
from typing import Any, Final

# The offset of the instruction that has made a value, or None if that is not known; NULL for what ``PUSH_NULL`` leaves.
Producer = int | None
NULL: Final = -1
Stack = tuple[Producer, ...]

# Kinds of actions. An action is a tuple of its kind and what the comment says (own: the instruction's offset; others: of producers).
CONST = "const"  # own, value
LOCAL = "local"  # own, name
CELL = "cell"  # own, name
SET_CELL = "set cell"  # name
GLOBAL = "global"  # own, name
SET_GLOBAL = "set global"  # name
ATTR = "attr"  # own, object, name
SET_ATTR = "set attr"  # object, name
ITEM = "item"  # container
SET_ITEM = "set item"  # container
LOOK = "look"  # operands: a C type may look into them (truth, arithmetic, formatting)
COMPARE = "compare"  # own, operands: the same, and the result is immutable
LOCALS = "locals"  # own, name, own of the second, its name
ITERATE = "iterate"  # iterator
NEXT = "next"  # own, iterator
ITER = "iter"  # own, iterable
IN_PLACE = "in place"  # left operand, right operand
RAISE = "raise"
CALL = "call"  # own, callable, positional arguments, whether there are keyword arguments
AWAIT = "await"  # own, awaitable
ASYNC_ITER = "async iter"  # own, iterable
ASYNC_NEXT = "async next"  # iterator
ENTER = "enter"  # own, context manager, names of the two methods
FRESH = "fresh"  # own: a new object that nobody else has
FUNCTION = "function"  # own, code: a new function
PLAIN = "plain"  # own: an immutable value
EVERYTHING = "everything"

Action = tuple[Any, ...]

# Actions whose first argument is what they give; and those that do nothing else.
GIVING = {CONST, LOCAL, CELL, GLOBAL, ATTR, COMPARE, ITER, NEXT, CALL, AWAIT, ASYNC_ITER, ENTER, FRESH, FUNCTION, PLAIN}
ONLY_GIVING = {CONST, LOCAL, FRESH, FUNCTION, PLAIN}

# How many values an instruction takes, of those that touch nothing. What it leaves follows from ``dis.stack_effect``.
HARMLESS: dict[str, int] = {
    "NOP": 0, "RESUME": 0, "CACHE": 0, "EXTENDED_ARG": 0, "MAKE_CELL": 0, "COPY_FREE_VARS": 0, "KW_NAMES": 0,
    "LOAD_CLOSURE": 0, "LOAD_ASSERTION_ERROR": 0, "JUMP_FORWARD": 0, "JUMP_BACKWARD": 0, "JUMP_BACKWARD_NO_INTERRUPT": 0,
    "DELETE_FAST": 0, "POP_TOP": 1, "STORE_FAST": 1, "RETURN_VALUE": 1, "RETURN_CONST": 0, "YIELD_VALUE": 1,
    "POP_EXCEPT": 1, "PUSH_EXC_INFO": 1, "CHECK_EXC_MATCH": 1, "RERAISE": 1, "SEND": 1, "END_SEND": 2, "CLEANUP_THROW": 3, "END_ASYNC_FOR": 2,
    "LIST_APPEND": 1,
    "SET_ADD": 1, "MAP_ADD": 2, "LIST_TO_TUPLE": 1, "POP_JUMP_IF_NONE": 1, "POP_JUMP_IF_NOT_NONE": 1,
    "POP_JUMP_FORWARD_IF_NONE": 1, "POP_JUMP_FORWARD_IF_NOT_NONE": 1, "POP_JUMP_BACKWARD_IF_NONE": 1,
    "POP_JUMP_BACKWARD_IF_NOT_NONE": 1,
}  # fmt: skip

# Those that look at what they take, as far as it is a container: truth, equality, a copy of it.
LOOKING: dict[str, int] = {
    "UNARY_NOT": 1, "TO_BOOL": 1, "UNARY_NEGATIVE": 1, "UNARY_POSITIVE": 1, "UNARY_INVERT": 1, "POP_JUMP_IF_TRUE": 1,
    "POP_JUMP_IF_FALSE": 1, "POP_JUMP_FORWARD_IF_TRUE": 1, "POP_JUMP_FORWARD_IF_FALSE": 1, "POP_JUMP_BACKWARD_IF_TRUE": 1,
    "POP_JUMP_BACKWARD_IF_FALSE": 1, "JUMP_IF_TRUE_OR_POP": 1, "JUMP_IF_FALSE_OR_POP": 1, "COMPARE_OP": 2, "GET_LEN": 1,
    "FORMAT_SIMPLE": 1, "FORMAT_WITH_SPEC": 2, "CONVERT_VALUE": 1,
}  # fmt: skip

COMPARING = {"COMPARE_OP", "UNARY_NOT", "TO_BOOL"}

# Those whose result is a new object.
MAKING = {
    "BUILD_LIST",
    "BUILD_TUPLE",
    "BUILD_SET",
    "BUILD_MAP",
    "BUILD_STRING",
    "BUILD_SLICE",
    "BUILD_CONST_KEY_MAP",
    "MAKE_FUNCTION",
}

NO_FALL_THROUGH = {
    "RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT",
}  # fmt: skip


class _Operands:
    """The stack of producers while one instruction takes its operands and leaves its results."""

    def __init__(self, stack: Stack) -> None:
        self.stack = list(stack)

    def pop(self) -> Producer:
        return self.stack.pop() if self.stack else None

    def take(self, count: int) -> list[Producer]:
        """The topmost ``count``, the lowest first."""
        taken = [self.pop() for _ in range(count)]
        taken.reverse()
        return taken

    def push(self, *producers: Producer) -> None:
        self.stack.extend(producers)

    def at(self, depth: int) -> Producer:
        return self.stack[-depth] if depth <= len(self.stack) else None

    def swap(self, depth: int) -> None:
        while len(self.stack) < depth:
            self.stack.insert(0, None)
        self.stack[-1], self.stack[-depth] = self.stack[-depth], self.stack[-1]

    def result(self) -> Stack:
        return tuple(self.stack)

    def padded(self, by: int) -> Stack:
        """The stack with ``by`` unknown values more, or without its topmost ones."""
        return (*self.stack, *(None,) * by) if by >= 0 else tuple(self.stack[:by])


def step(instruction: dis.Instruction, stack: Stack) -> tuple[Action | None, list[tuple[bool, Stack]]]:
    """The action of one instruction, and the stacks after it: (whether it jumps, stack)."""
    operands = _Operands(stack)
    name, own = instruction.opname, instruction.offset
    known = _SPECIAL.get(name)
    action: Action | None
    if known is not None:
        action = known(instruction, operands)
        after = operands.result()
        if name == "FOR_ITER":
            return action, [(False, after), (True, _jumped(instruction, stack))]
        return action, [(False, after)] if name not in NO_FALL_THROUGH else []
    if name in MAKING:
        taken = operands.take(1 - _effect(instruction, False))
        operands.push(own)
        action = (FUNCTION, own, taken[-1]) if name == "MAKE_FUNCTION" else (FRESH, own)
        return action, [(False, operands.result())]
    if name in HARMLESS:
        operands.take(HARMLESS[name])
        return None, _after_taking(instruction, operands, HARMLESS[name])
    if name in LOOKING:
        looked = operands.take(LOOKING[name])
        if name in COMPARING:
            operands.push(own)
            return (COMPARE, own, *looked), [(False, operands.result())]
        return (LOOK, *looked), _after_taking(instruction, operands, LOOKING[name])
    # Anybody's guess: it may have touched everything, the stack included.
    return (EVERYTHING, name), _after_taking(instruction, _Operands((None,) * len(stack)), 0)


def _after_taking(instruction: dis.Instruction, operands: _Operands, taken: int) -> list[tuple[bool, Stack]]:
    results: list[tuple[bool, Stack]] = []
    if instruction.opname not in NO_FALL_THROUGH:
        results.append((False, operands.padded(_effect(instruction, False) + taken)))
    if _jumps(instruction):
        results.append((True, operands.padded(_effect(instruction, True) + taken)))
    return results


def _jumps(instruction: dis.Instruction) -> bool:
    return instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs


def _effect(instruction: dis.Instruction, jump: bool) -> int:
    argument = instruction.arg if instruction.opcode >= dis.HAVE_ARGUMENT else None
    return dis.stack_effect(instruction.opcode, argument, jump=jump)


def _jumped(instruction: dis.Instruction, stack: Stack) -> Stack:
    return _Operands(stack).padded(_effect(instruction, True))


# -- instructions that do something ------------------------------------------------------------------------------------------


def _load(kind: str) -> Any:
    def load(instruction: dis.Instruction, operands: _Operands) -> Action:
        operands.push(instruction.offset)
        return kind, instruction.offset, instruction.argval

    return load


def _load_fast_twice(instruction: dis.Instruction, operands: _Operands) -> Action:
    first, second = instruction.offset, -2 - instruction.offset
    operands.push(first, second)
    return LOCALS, first, instruction.argval[0], second, instruction.argval[1]


def _store_fast_twice(instruction: dis.Instruction, operands: _Operands) -> Action | None:
    operands.take(2)
    return None


def _store_then_load_fast(instruction: dis.Instruction, operands: _Operands) -> Action | None:
    operands.pop()
    stored, loaded = instruction.argval
    if stored == loaded:
        operands.push(None)
        return None
    operands.push(instruction.offset)
    return LOCAL, instruction.offset, loaded


def _load_global(instruction: dis.Instruction, operands: _Operands) -> Action:
    own = instruction.offset
    if (instruction.arg or 0) & 1:
        operands.push(*((own, NULL) if NULL_AFTER else (NULL, own)))
    else:
        operands.push(own)
    return GLOBAL, own, instruction.argval


def _load_attr(instruction: dis.Instruction, operands: _Operands) -> Action:
    own = instruction.offset
    base = operands.pop()
    operands.push(own)
    if instruction.opname == "LOAD_METHOD" or (METHOD_IN_ATTR and (instruction.arg or 0) & 1):
        operands.push(own)
    return ATTR, own, base, instruction.argval


def _store_attr(instruction: dis.Instruction, operands: _Operands) -> Action:
    base = operands.pop()
    if instruction.opname == "STORE_ATTR":
        operands.pop()
    return SET_ATTR, base, instruction.argval


def _subscript(instruction: dis.Instruction, operands: _Operands) -> Action:
    container, _ = operands.take(2)
    operands.push(None)
    return ITEM, container


def _store_subscript(instruction: dis.Instruction, operands: _Operands) -> Action:
    container, _ = operands.take(2)
    if instruction.opname == "STORE_SUBSCR":
        operands.pop()
    return SET_ITEM, container


def _slice(instruction: dis.Instruction, operands: _Operands) -> Action:
    container, _, _ = operands.take(3)
    if instruction.opname == "STORE_SLICE":
        operands.pop()
        return SET_ITEM, container
    operands.push(None)
    return ITEM, container


def _store(kind: str) -> Any:
    def store(instruction: dis.Instruction, operands: _Operands) -> Action:
        if instruction.opname.startswith("STORE"):
            operands.pop()
        return kind, instruction.argval

    return store


def _binary(instruction: dis.Instruction, operands: _Operands) -> Action:
    left, right = operands.take(2)
    operands.push(None)
    if instruction.argrepr.endswith("="):
        return IN_PLACE, left, right
    return LOOK, left, right


def _compare_identity(instruction: dis.Instruction, operands: _Operands) -> Action:
    operands.take(2)
    operands.push(instruction.offset)
    return PLAIN, instruction.offset


def _contains(instruction: dis.Instruction, operands: _Operands) -> Action:
    _, container = operands.take(2)
    operands.push(None)
    return ITERATE, container  # ``in`` uses up an iterator


def _get_iter(instruction: dis.Instruction, operands: _Operands) -> Action:
    iterable = operands.pop()
    operands.push(instruction.offset)
    return ITER, instruction.offset, iterable


def _for_iter(instruction: dis.Instruction, operands: _Operands) -> Action:
    iterator = operands.at(1)
    operands.push(instruction.offset)
    return NEXT, instruction.offset, iterator


def _end_for(instruction: dis.Instruction, operands: _Operands) -> Action | None:
    operands.take(-_effect(instruction, False))
    return None


def _leave_by_exception(instruction: dis.Instruction, operands: _Operands) -> Action:
    operands.push(None)
    return EVERYTHING, "a block left by an exception"


def _take_from(instruction: dis.Instruction, operands: _Operands) -> Action:
    """Unpacking, and adding all of something to what is being built."""
    source = operands.pop()
    if instruction.opname.startswith("UNPACK"):
        operands.push(*(None,) * (_effect(instruction, False) + 1))
    return ITERATE, source


def _format(instruction: dis.Instruction, operands: _Operands) -> Action:
    looked = operands.take(2 if (instruction.arg or 0) & 4 else 1)
    operands.push(None)
    return (LOOK, *looked)


def _intrinsic(instruction: dis.Instruction, operands: _Operands) -> Action | None:
    operands.pop()
    operands.push(None)
    return None if instruction.arg in HARMLESS_INTRINSICS else (EVERYTHING, "intrinsic")


def _copy(instruction: dis.Instruction, operands: _Operands) -> Action | None:
    operands.push(operands.at(instruction.arg or 1))
    return None


def _swap(instruction: dis.Instruction, operands: _Operands) -> Action | None:
    operands.swap(instruction.arg or 1)
    return None


def _push_null(instruction: dis.Instruction, operands: _Operands) -> Action | None:
    operands.push(NULL)
    return None


def _nothing(instruction: dis.Instruction, operands: _Operands) -> Action | None:
    return None  # the arguments are taken by the CALL behind it, whatever ``stack_effect`` says


def _complete_function(instruction: dis.Instruction, operands: _Operands) -> Action | None:
    _, function = operands.take(2)
    operands.push(function)
    return None


def _start_generator(instruction: dis.Instruction, operands: _Operands) -> Action | None:
    operands.push(None)  # what is sent to start it, which ``stack_effect`` does not count
    return None


def _call(instruction: dis.Instruction, operands: _Operands) -> Action:
    keywords = instruction.opname == "CALL_KW"
    arguments = operands.take((instruction.arg or 0) + keywords)
    first, second = operands.take(2)
    operands.push(instruction.offset)
    return CALL, instruction.offset, second if first == NULL else first, tuple(arguments), keywords


def _await(instruction: dis.Instruction, operands: _Operands) -> Action:
    awaitable = operands.pop()
    operands.push(None)
    return AWAIT, instruction.offset, awaitable


def _async_iter(instruction: dis.Instruction, operands: _Operands) -> Action:
    iterable = operands.pop()
    operands.push(instruction.offset)
    return ASYNC_ITER, instruction.offset, iterable


def _async_next(instruction: dis.Instruction, operands: _Operands) -> Action:
    iterator = operands.at(1)
    operands.push(None)
    return ASYNC_NEXT, iterator


def _enter(names: tuple[str, str]) -> Any:
    def enter(instruction: dis.Instruction, operands: _Operands) -> Action:
        manager = operands.pop()
        # The method that leaves the block again, and what entering gives: an awaitable, of an async one.
        operands.push(instruction.offset, instruction.offset)
        return ENTER, instruction.offset, manager, *names

    return enter


def _raise(instruction: dis.Instruction, operands: _Operands) -> Action:
    operands.take(instruction.arg or 0)
    return (RAISE,)


_SPECIAL: dict[str, Any] = {
    "LOAD_CONST": _load(CONST),
    "LOAD_SMALL_INT": _load(CONST),
    "LOAD_FAST": _load(LOCAL),
    "LOAD_FAST_CHECK": _load(LOCAL),
    "LOAD_FAST_BORROW": _load(LOCAL),
    "LOAD_FAST_AND_CLEAR": _load(LOCAL),
    "LOAD_FAST_LOAD_FAST": _load_fast_twice,
    "STORE_FAST_STORE_FAST": _store_fast_twice,
    "STORE_FAST_LOAD_FAST": _store_then_load_fast,
    "LOAD_DEREF": _load(CELL),
    "STORE_DEREF": _store(SET_CELL),
    "DELETE_DEREF": _store(SET_CELL),
    "LOAD_GLOBAL": _load_global,
    "STORE_GLOBAL": _store(SET_GLOBAL),
    "DELETE_GLOBAL": _store(SET_GLOBAL),
    "LOAD_ATTR": _load_attr,
    "LOAD_METHOD": _load_attr,
    "STORE_ATTR": _store_attr,
    "DELETE_ATTR": _store_attr,
    "BINARY_SUBSCR": _subscript,
    "STORE_SUBSCR": _store_subscript,
    "DELETE_SUBSCR": _store_subscript,
    "BINARY_SLICE": _slice,
    "STORE_SLICE": _slice,
    "BINARY_OP": _binary,
    "IS_OP": _compare_identity,
    "CONTAINS_OP": _contains,
    "GET_ITER": _get_iter,
    "FOR_ITER": _for_iter,
    "END_FOR": _end_for,
    "WITH_EXCEPT_START": _leave_by_exception,
    "UNPACK_SEQUENCE": _take_from,
    "UNPACK_EX": _take_from,
    "LIST_EXTEND": _take_from,
    "SET_UPDATE": _take_from,
    "DICT_UPDATE": _take_from,
    "DICT_MERGE": _take_from,
    "FORMAT_VALUE": _format,
    "CALL_INTRINSIC_1": _intrinsic,
    "COPY": _copy,
    "SWAP": _swap,
    "PUSH_NULL": _push_null,
    "PRECALL": _nothing,
    "SET_FUNCTION_ATTRIBUTE": _complete_function,
    "CALL": _call,
    "RETURN_GENERATOR": _start_generator,
    "CALL_KW": _call,
    "GET_AWAITABLE": _await,
    "GET_AITER": _async_iter,
    "GET_ANEXT": _async_next,
    "BEFORE_WITH": _enter(("__enter__", "__exit__")),
    "BEFORE_ASYNC_WITH": _enter(("__aenter__", "__aexit__")),
    "RAISE_VARARGS": _raise,
}
# From 3.12 on LOAD_ATTR loads methods too; from 3.13 on NULL comes after the callable.
METHOD_IN_ATTR = sys.version_info >= (3, 12)
NULL_AFTER = sys.version_info >= (3, 13)
# UNARY_POSITIVE, LIST_TO_TUPLE, and those of asynchronous generators and StopIteration.
HARMLESS_INTRINSICS = {3, 4, 5, 6}
