"""What the instructions of a function may touch, worked out once from its bytecode; ``watching`` follows them while they run.

For each instruction that may touch something shared there is an *action*: what it does, and which earlier instructions have put its
operands on the stack. Which these are is found by running through the function with a stack of instruction offsets instead of values,
along all paths; where two paths disagree, or something unusual is done to the stack, nothing is known (None). What one instruction
does, ``instructions`` has.
"""

from __future__ import annotations

import dis
from collections import Counter
from dataclasses import dataclass
from types import CodeType
from typing import Protocol

from .instructions import (
    ASYNC_ITER,
    CALL,
    ENTER,
    GIVING,
    ITER,
    LOCALS,
    ONLY_GIVING,
    Action,
    Producer,
    Stack,
    step,
)


@dataclass(frozen=True)
class Plan:
    """What is known of one function: its actions by offset. ``shared_frame``: its local variables may be used by several tasks."""

    actions: dict[int, Action]
    shared_frame: bool
    # Producers whose values are used more than once.
    again: frozenset[Producer]


GENERATOR_FLAGS = 0x20 | 0x200  # CO_GENERATOR, CO_ASYNC_GENERATOR


def plan_of(code: CodeType) -> Plan:
    """Work it out."""
    instructions = list(dis.get_instructions(code))
    by_offset = {instruction.offset: place for place, instruction in enumerate(instructions)}
    handlers = _handlers(code)
    # The whole stack on entry to each instruction, as far as it has been reached.
    entries: dict[int, Stack] = {0: ()}
    todo = [0]
    actions: dict[int, Action] = {}
    while todo:
        place = todo.pop()
        instruction = instructions[place]
        stack = entries[place]
        action, stacks = step(instruction, stack)
        if action is None:
            actions.pop(instruction.offset, None)
        else:
            actions[instruction.offset] = action
        following = [(by_offset[instruction.argval] if jumps else place + 1, after) for jumps, after in stacks]
        # An exception may lead from here to a handler, with the lower part of the stack.
        following.extend(
            (by_offset[entry.target], (*stack[: entry.depth], *(None,) * (1 + entry.lasti)))
            for entry in handlers
            if entry.start <= instruction.offset < entry.end and len(stack) >= entry.depth
        )
        for target, after in following:
            merged = _merged(entries[target], after) if target in entries else after
            if merged != entries.get(target):
                entries[target] = merged
                todo.append(target)
    _note_keywords(instructions, actions)
    again = _drop_unused(actions)
    _extend(instructions, actions)
    return Plan(actions, bool(code.co_flags & GENERATOR_FLAGS), again)


def _note_keywords(instructions: list[dis.Instruction], actions: dict[int, Action]) -> None:
    """Before 3.13 an instruction before the call says that there are keyword arguments."""
    pending = False
    for instruction in instructions:
        if instruction.opname == "KW_NAMES":
            pending = True
        elif instruction.opname == "CALL" and pending:
            pending = False
            if instruction.offset in actions:
                actions[instruction.offset] = (*actions[instruction.offset][:-1], True)


def _drop_unused(actions: dict[int, Action]) -> frozenset[Producer]:
    """What nobody asks for need not be remembered, nor, if that was all, the instruction be followed. Gives what is asked for twice."""
    used: Counter[Producer] = Counter()
    for kind, *rest in actions.values():
        for operand in rest[1:] if kind in GIVING else rest:
            if kind == CALL and operand.__class__ is tuple:
                used.update(each for each in operand if type(each) is int)
            elif type(operand) is int:
                used[operand] += 1
    for offset, (kind, *rest) in list(actions.items()):
        if kind == LOCALS:
            if rest[0] not in used and rest[2] not in used:
                del actions[offset]
        elif kind in GIVING and rest[0] not in used:
            if kind in ONLY_GIVING:
                del actions[offset]
            elif kind not in (ITER, ENTER, ASYNC_ITER):  # these are asked for in later steps as well
                actions[offset] = (kind, None, *rest[1:])
    return frozenset(producer for producer, times in used.items() if times > 1)


def _extend(instructions: list[dis.Instruction], actions: dict[int, Action]) -> None:
    """Before an instruction with a long argument stand prefixes; some versions report only the first of them."""
    for place, instruction in enumerate(instructions):
        if instruction.opname == "EXTENDED_ARG":
            real = next(each for each in instructions[place:] if each.opname != "EXTENDED_ARG")
            if real.offset in actions:
                actions[instruction.offset] = actions[real.offset]


class _Handler(Protocol):
    """An entry of the exception table: instructions from ``start`` up to ``end`` lead to ``target``, with ``depth`` values left."""

    start: int
    end: int
    target: int
    depth: int
    lasti: bool


def _handlers(code: CodeType) -> list[_Handler]:
    return list(dis._parse_exception_table(code))  # type: ignore[attr-defined]  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType, reportAttributeAccessIssue]  # stubs leave out what is private


def _merged(one: Stack, other: Stack) -> Stack:
    if len(one) != len(other):
        raise ValueError("two paths come here with stacks of different depth: an instruction is not understood")
    return tuple(a if a == b else None for a, b in zip(one, other, strict=True))
