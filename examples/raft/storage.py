"""What must survive a crash: the term, the vote and the log, in one file that only grows.

Theory of operation. Raft allows a node to answer only when what it answers by is on the disk. All changes of one turn are one batch,
appended and synced together: ``[term, vote, first, entries]``, in which entries from ``first`` on replace what the log had there.
Reading the batches in order gives the last state.

    file  = MAGIC, version, batch, batch, ...
    batch = mark, its own position in the file, length, checksum, that many bytes of JSON

A crash may tear the last batch in any way: the disk may have kept a part of it, or later parts and not earlier ones. Nothing that
depended on it had been said, so it is cut off. Nothing else can be torn, because a batch is written only when the one before it is
synced. So if an intact batch stands behind a broken one, the disk has lost what it had promised to keep. To go on without it could
mean to vote twice, or to lose an entry that others count on: then the file is refused (``Damaged``). Remove the server from the
cluster, delete its directory, and add it again.

The file is made under another name and renamed when its beginning is on the disk: it is never seen without one. Names are data as
well, of the directories they are in: those above the file are synced before it has its name, and its own whenever it is opened.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from typing import Any, NamedTuple

from bateau import fs, thread

from .log import Entry, Log
from .messages import decode_entry

MAGIC = struct.Struct("!12sI")
VERSION = 1
MARK = b"RAFT"
HEAD = struct.Struct("!4sQII")

_to_json = json.JSONEncoder(separators=(",", ":")).encode


class Damaged(RuntimeError):
    """The file is not what was synced to it."""


class Batch(NamedTuple):
    """What changed: the term and the vote, and the entries from index ``first`` on (0: no change of the log)."""

    term: int
    vote: str | None
    first: int
    entries: list[Entry]


class Storage:
    """The file of one node, which nobody else may write. Made by ``open_storage``.

    Invariants: all of the file up to ``_end`` is synced, and nothing is behind it but what a failed write left. Once a write or sync
    has failed nobody knows what is on the disk, and a second sync would say "all is well" without having tried: so it is ``_failed``
    for good, and the node ends.
    """

    def __init__(self, file: fs.BinaryFile, batches: list[Batch], end: int) -> None:
        self._file = file
        self._end = end
        self._failed = False
        self.term = 0
        self.vote: str | None = None
        self.log = Log()
        for batch in batches:
            self._replay(batch)
        self.log.mark_saved()

    def _replay(self, batch: Batch) -> None:
        self.term, self.vote = batch.term, batch.vote
        if batch.first:
            self.log.cut(batch.first)
            for entry in batch.entries:
                self.log.append(entry)

    async def save(self, batch: Batch) -> None:
        """Append ``batch``; when this returns it is on the disk. Raises ``OSError``; then this storage can't be used any more.

        A cancellation point; cancelled, nobody knows whether it is on the disk, as after a crash: don't go on.
        """
        if self._failed:
            raise RuntimeError("a write to this storage failed or was cancelled; open it again")
        data = encode_batch(batch, self._end)
        self._failed = True  # until it is done
        await self._file.write(data)
        await self._file.fsync()
        self._end += len(data)
        self._failed = False

    async def aclose(self) -> None:
        """Close the file. A cancellation point; it is closed in any case."""
        try:
            await self._file.aclose()
        except OSError:
            if not self._failed:  # else it is the same error again, about bytes that count for nothing
                raise

    async def __aenter__(self) -> Storage:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def open_storage(directory: str) -> Storage:
    """Open the storage in ``directory``, or make it, and recover what it has. Raises ``Damaged``, ``OSError``.

    A cancellation point; cancelled, nothing stays open.
    """
    directory = os.path.abspath(directory)
    path = os.path.join(directory, "journal")
    if not await fs.exists(path):
        await _make(directory, path)
    file = await fs.open(path, "r+b")
    try:
        data = await file.read()
        batches, end = recover(data, path)
        if end < len(data):
            await file.truncate(end)
        # Also if nothing was cut off: what a killed process had written and not synced can be read, and is still not on the disk.
        await file.fsync()
        await thread.run(_sync_directory, directory)
        await file.seek(end)
        return Storage(file, batches, end)
    except BaseException:
        await file.aclose()
        raise


async def _make(directory: str, path: str) -> None:
    await fs.makedirs(directory, exist_ok=True)
    await thread.run(_sync_names, directory)
    async with fs.open(path + ".new", "wb") as file:
        await file.write(MAGIC.pack(b"bateau-raft\0", VERSION))
        await file.fsync()
    await fs.replace(path + ".new", path)


def _sync_names(directory: str) -> None:
    """A name is its directory's data: it is on the disk when the directory is synced, and so on up to the root."""
    above = os.path.dirname(directory)
    while above != directory:
        try:
            _sync_directory(above)
        except PermissionError:
            return  # who may not read it has not made anything up there
        directory, above = above, os.path.dirname(above)


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- the file's format ---------------------------------------------------------------------------------------------------


def encode_batch(batch: Batch, position: int) -> bytes:
    """``batch`` as it stands in the file at ``position``."""
    data = _to_json(batch).encode()
    return HEAD.pack(MARK, position, len(data), _checksum(position, data)) + data


def _checksum(position: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(position.to_bytes(8, "big") + len(data).to_bytes(4, "big")))


def batch_at(data: bytes, position: int) -> tuple[Batch, int] | None:
    """The batch at ``position`` and where the next one begins; None if there is no whole and intact one."""
    if len(data) < position + HEAD.size:
        return None
    mark, claimed, length, checksum = HEAD.unpack_from(data, position)
    begin, end = position + HEAD.size, position + HEAD.size + length
    if mark != MARK or claimed != position or end > len(data) or _checksum(position, data[begin:end]) != checksum:
        return None
    term, vote, first, entries = json.loads(data[begin:end])
    return Batch(term, vote, first, [decode_entry(entry) for entry in entries]), end


def recover(data: bytes, path: Any) -> tuple[list[Batch], int]:
    """The batches of a file, and where its intact part ends. Raises ``Damaged``; see the module's head."""
    if len(data) < MAGIC.size or MAGIC.unpack_from(data)[0] != b"bateau-raft\0":
        raise Damaged(f"{path} is no raft journal, or has lost its beginning")
    if (version := MAGIC.unpack_from(data)[1]) != VERSION:
        raise Damaged(f"{path} has version {version} of the format; this program knows version {VERSION}")
    batches: list[Batch] = []
    end = MAGIC.size
    while (found := batch_at(data, end)) is not None:
        batches.append(found[0])
        end = found[1]
    behind = data.find(MARK, end + 1)
    while behind >= 0:
        if batch_at(data, behind) is not None:
            raise Damaged(
                f"{path} is broken at byte {end}, and an intact batch follows at byte {behind}: synced data was lost. "
                "Remove this server from the cluster, delete its directory, and add it again"
            )
        behind = data.find(MARK, behind + 1)
    return batches, end
