"""What a recorder's file looks like: the contract between who writes it (in Python, in C) and who reads it.

One file per thread that runs tasks. All numbers are little-endian; times are nanoseconds of the monotonic clock. In this order:

* ``header``, 2,048 bytes, written once, its CRC-32 in the last four;
* ``hot words``, 64-bit, each stored whole: what a watchdog wants to see without reading anything else. They are hints: a reader of
  a file that may be damaged goes by the records;
* ``ring``: the last ``ring_count`` records (a power of two) of 32 bytes. Record number ``n`` (from 1) is at ``(n - 1) % ring_count``;
* ``tasks``: a slot of 96 bytes for each task that lives, and for some that have ended. A ring forgets; this does not;
* ``texts``: names, frames and stacks, each written once and referred to by its place. It only grows, up to its size.

Records and slots carry a checksum, made with a number that is this file's alone. It is written last and spoiled first, so that what
a kill has torn, or a damaged disk changed, is seen as such and left out.
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import Final, NamedTuple

MAGIC: Final = b"BATEAUFR"
VERSION: Final = 1
HEADER_SIZE: Final = 4096
CRC_AT: Final = 2044
HOT_AT: Final = 2048

# magic, version, header size, file size, pid, flags, thread, native thread, monotonic ns, wall ns, ring at, ring count, tasks at,
# task count, texts at, texts size, start of the process (clock ticks after boot), record size, slot size, seed, boot id, Python's
# version, bateau's, name of the thread, argv (separated by NUL)
HEADER = Struct("<8sIIQIIQQQQQQQQQQQIIQ16s48s16s64s1024s")

# The hot words, by their index.
HOT_HEAD: Final = 0  # records written
HOT_TASK: Final = 1  # whose step is under way (0: nobody's)
HOT_STEP: Final = 2  # since when
HOT_IDLE: Final = 3  # since when nobody's is (0: somebody's is)
HOT_TEXTS: Final = 4  # bytes of the texts in use
HOT_SLOTS: Final = 5  # slots ever used
HOT_LOST_TASKS: Final = 6  # tasks that found no slot
HOT_LOST_TEXTS: Final = 7  # names and stacks that found no place
HOT_STATE: Final = 8  # OPEN, or CLOSED in order
HOT_COUNT: Final = 9
OPEN: Final = 1
CLOSED: Final = 2

# time; task (56 bits) and kind (8 bits); two numbers, by kind; the record's number (its low 32 bits); the checksum
RECORD = Struct("<QQIIII")
# Kinds of records, and what the two numbers are.
SPAWN: Final = 1  # the name (text), the site (stack)
STEP: Final = 2
IDLE: Final = 3  # (no task) the loop looks outside, and the last step has ended neither in a wait nor in an end
PARK: Final = 4  # the operation (text; 0: something foreign), the stack
WAKE: Final = 5  # by which task (low 32 bits; 0: by the loop)
CANCEL: Final = 6  # the reason (text), 1 if a scope inside the task
END: Final = 7  # the outcome, the type of the error (text)
NOTE: Final = 8  # the words (text): noted by the program, or by a hazard
KINDS: Final = ("", "spawn", "step", "idle", "park", "wake", "cancel", "end", "note")
RETURNED: Final = 0
FAILED: Final = 1
CANCELLED: Final = 2

# id (0: free); state, flags; since when; spawned when; parent's id; the resource's address; its number (a descriptor, a task's id);
# who held it when the wait began; name (text), site (stack); stack, operation (text); the resource's kind, its name (texts);
# reason of a cancellation (text), the checksum
SLOT = Struct("<QIIQQQQQQIIIIIIII")
NEW: Final = 1
READY: Final = 2
WAITING: Final = 3
FOREIGN: Final = 4
ENDED: Final = 5
# Flags of a slot: the name is the function's, and the task's number belongs to it; how it ended (two bits).
AUTO_NAME: Final = 1
OUTCOME_SHIFT: Final = 4

# A text: its kind (8 bits) and size (24 bits), the CRC-32 of both and the content; then the content, padded to 8 bytes. It is
# referred to by its place in units of 8 bytes. 0 is no text.
TEXT = Struct("<II")
WORDS: Final = 1  # UTF-8
FRAME: Final = 2  # file, function (texts), line, 0
STACK: Final = 3  # frames, innermost first
FRAME_ENTRY = Struct("<IIII")
# How deep a stack is recorded, from the innermost frame.
DEPTH: Final = 24

MASK: Final = (1 << 64) - 1
# Odd numbers without a pattern: any single bit that is changed changes the product, and with it the sum.
FACTORS: Final = (
    0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB,
    0x8EBC6AF09C88C6E3, 0x589965CC75374CC3, 0x1D8E4E27C47D124F, 0xEB44ACCAB455D165, 0x2F9BE6CC5BE4F515, 0x9FB21C651E98DF25,
)  # fmt: skip

_RECORD_WORDS = Struct("<QQQI")
_SLOT_WORDS = Struct("<11QI")


def record_check(seed: int, time: int, who: int, a: int, b: int, number: int) -> int:
    """The checksum of a record."""
    f = FACTORS
    total = ((time * f[0]) ^ (who * f[1]) ^ ((a | b << 32) * f[2]) ^ ((number ^ seed) * f[3])) & MASK
    return (total ^ (total >> 32)) & 0xFFFFFFFF


def record_is_sound(seed: int, raw: bytes) -> bool:
    """Whether the 32 bytes are a record that was written whole."""
    time, who, a, b, number, check = RECORD.unpack(raw)
    return bool(number) and record_check(seed, time, who, a, b, number) == int(check)


def slot_check(seed: int, raw: bytes) -> int:
    """The checksum of a slot: of its first 92 bytes."""
    total = seed * FACTORS[11]
    for word, factor in zip(_SLOT_WORDS.unpack(raw[:92]), FACTORS, strict=True):
        total ^= word * factor
    total &= MASK
    return (total ^ (total >> 32)) & 0xFFFFFFFF


def text_entry(kind: int, content: bytes) -> bytes:
    """A text as it is written."""
    head = (kind << 24 | len(content)).to_bytes(4, "little")
    return head + zlib.crc32(content, zlib.crc32(head)).to_bytes(4, "little") + content + b"\0" * (-len(content) % 8)


class Header(NamedTuple):
    """The fields of ``HEADER``."""

    magic: bytes
    version: int
    header_size: int
    file_size: int
    pid: int
    flags: int
    thread: int
    native_thread: int
    monotonic: int
    wall: int
    ring_at: int
    ring_count: int
    tasks_at: int
    task_count: int
    texts_at: int
    texts_size: int
    started: int
    record_size: int
    slot_size: int
    seed: int
    boot: bytes
    python: bytes
    bateau: bytes
    name: bytes
    argv: bytes

    def packed(self) -> bytes:
        """The first 2,048 bytes of a file."""
        raw = HEADER.pack(*self).ljust(CRC_AT, b"\0")
        return raw + zlib.crc32(raw).to_bytes(4, "little")


# Flags of a header: the loop is another's, so that steps are seen only at waits of ours.
RIDES: Final = 1
