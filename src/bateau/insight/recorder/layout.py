"""What a recorder's file looks like: the contract between who writes it (in Python, in C) and who reads it.

One file per thread that runs tasks. All numbers are little-endian; times are nanoseconds of the monotonic clock. In this order:

* ``header``, 2,048 bytes, written once, its CRC-32 in the last four;
* ``hot words``, 64-bit, each stored whole: what a watchdog wants to see without reading anything else. They are hints: a reader of
  a file that may be damaged goes by the records;
* ``ring``: the last records, in ``ring_count`` units (a power of two) of 16 bytes. A record is one unit, or two of which the second
  has what the first has no room for. Unit number ``n`` (from 1) is at ``(n - 1) % ring_count``;
* ``tasks``: a slot of 128 bytes for each task that lives, and for some that have ended. A ring forgets; this does not. What changes with
  every wait is in one cache line, and there apart from what changes only when a task waits elsewhere than the last time;
* ``texts``: names, frames and stacks, each written once and referred to by its place. It only grows, up to its size.

Units and the parts of slots carry checksums, made with a number that is this file's alone, so that what a kill has torn, or a damaged
disk changed, is seen as such and left out.
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import Final, NamedTuple

MAGIC: Final = b"BATEAUFR"
VERSION: Final = 2
HEADER_SIZE: Final = 4096
CRC_AT: Final = 2044
HOT_AT: Final = 2048

# magic, version, header size, file size, pid, flags, thread, native thread, monotonic ns, wall ns, ring at, ring count, tasks at,
# task count, texts at, texts size, start of the process (clock ticks after boot), unit size, slot size, seed, boot id, Python's
# version, bateau's, name of the thread, argv (separated by NUL)
HEADER = Struct("<8sIIQIIQQQQQQQQQQQIIQ16s48s16s64s1024s")

# The hot words, by their index.
HOT_HEAD: Final = 0  # units written
HOT_TASK: Final = 1  # whose step is under way (0: nobody's)
HOT_STEP: Final = 2  # since when, an even number; an odd one: since then, or later by less than LATER
HOT_IDLE: Final = 3  # since when nobody's is (0: somebody's is)
HOT_TEXTS: Final = 4  # bytes of the texts in use
HOT_SLOTS: Final = 5  # slots ever used
HOT_LOST_TASKS: Final = 6  # tasks that found no slot
HOT_LOST_TEXTS: Final = 7  # names and stacks that found no place
HOT_STATE: Final = 8  # OPEN, or CLOSED in order
HOT_ALIVE: Final = (
    9  # when the watcher saw the process alive last (0: nobody watches); its loops may all have been idle
)
HOT_COUNT: Final = 10
OPEN: Final = 1
CLOSED: Final = 2

# A unit: a number of 64 bits and one of 32, and the tag: the kind (4 bits), whether a tail follows (1), which time round the ring (3), the
# checksum (24). In a record's first unit the numbers are the time and the task (its low half); in the tail what the record says, and the
# task's upper half. There is a tail only where one of these is not 0.
UNIT = Struct("<QII")
LAPS: Final = 8
LONG: Final = 1 << 27
TAIL: Final = 15
# Kinds of records, and what the two numbers are that a tail has in one.
SPAWN: Final = 1  # the name (text), the site (stack)
STEP: Final = 2  # if its time is that of the STEP just before it: since then, or later by less than LATER
IDLE: Final = 3  # (no task) the loop looks outside, and the last step has ended neither in a wait nor in an end
PARK: Final = 4  # the operation (text; 0: something foreign), the stack
WAKE: Final = 5  # by which task (low 32 bits; 0: by the loop)
CANCEL: Final = 6  # the reason (text), 1 if a scope inside the task
END: Final = 7  # the outcome, the type of the error (text)
NOTE: Final = 8  # the words (text): noted by the program, or by a hazard
KINDS: Final = ("", "spawn", "step", "idle", "park", "wake", "cancel", "end", "note")
# In nanoseconds. A writer may read the clock once for up to 16 steps in a row, of which each but the last ends with a bare yield, as long as
# the system's coarse clock has not ticked since. That one has to tick at least this often, as it does on every Linux.
LATER: Final = 10_000_000
RETURNED: Final = 0
FAILED: Final = 1
CANCELLED: Final = 2

# A slot has three parts. Which task it is: id (0: free), spawned when, parent's id, name (text), site (stack), reason of a cancellation
# (text), flags, the checksum. What it waits on, or has waited on last: the resource's address, its number (a descriptor, a task's id),
# the stack, the operation (text), the resource's kind and name (texts), the checksum. Its state: since when, who held that resource when
# the wait began (a task's id), the state and (from 8 bits up) how it ended, the checksum: that one of all three, so that no state is read
# together with what another task, or another wait, has left.
STATE = Struct("<QQII")
WAIT = Struct("<QQIIIIII")
IDENTITY = Struct("<QQQIIIII")
WAIT_AT: Final = STATE.size
IDENTITY_AT: Final = 64
SLOT_SIZE: Final = 128
OUTCOME_SHIFT: Final = 8
NEW: Final = 1
READY: Final = 2
WAITING: Final = 3
FOREIGN: Final = 4
ENDED: Final = 5
# Flags of a slot: the name is the function's, and the task's number belongs to it.
AUTO_NAME: Final = 1

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

_WAIT_WORDS = Struct("<QQQQ")
_IDENTITY_WORDS = Struct("<QQQQQ")


def _folded(total: int) -> int:
    total &= MASK
    return (total ^ (total >> 32)) & 0xFFFFFFFF


def unit_tag(seed: int, x: int, y: int, top: int, number: int, count: int) -> int:
    """The tag of unit ``number`` of a ring of ``count``: ``top`` is the kind, as it stands in a tag, and ``LONG``."""
    index = number - 1
    top |= (index // count % LAPS) << 24
    f = FACTORS
    total = (x * f[0]) ^ ((y | top << 32) * f[1]) ^ ((seed ^ index % count) * f[2])
    return top | _folded(total) >> 8


def unit_number(seed: int, index: int, count: int, x: int, y: int, tag: int) -> int:
    """Which unit this is, that stands at ``index``: from 1 to ``LAPS * count``; 0 if it was not written whole."""
    number = (tag >> 24) % LAPS * count + index + 1
    return number if tag and unit_tag(seed, x, y, tag >> 27 << 27, number, count) == tag else 0


def wait_check(seed: int, raw: bytes) -> int:
    """The checksum of what a slot says of a wait: of the 32 bytes before it."""
    f = FACTORS
    total = seed * f[4]
    for word, factor in zip(_WAIT_WORDS.unpack(raw[:32]), f[5:9], strict=True):
        total ^= word * factor
    return _folded(total)


def identity_check(seed: int, raw: bytes) -> int:
    """The checksum of which task a slot is of: of the 40 bytes before it."""
    f = FACTORS
    total = seed * f[6]
    for word, factor in zip(_IDENTITY_WORDS.unpack(raw[:40]), f[7:12], strict=True):
        total ^= word * factor
    return _folded(total)


def state_check(seed: int, since: int, holder: int, state: int, wait: int, identity: int) -> int:
    """The checksum of a slot's state, with the checksums of its other parts."""
    f = FACTORS
    return _folded((since * f[0]) ^ (holder * f[1]) ^ ((state | wait << 32) * f[2]) ^ ((seed ^ identity) * f[3]))


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
    unit_size: int
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
