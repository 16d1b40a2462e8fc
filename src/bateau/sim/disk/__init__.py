"""The disk of a simulated host: its tree of files, and which of it survives a power cut.

``disk`` is what scenarios and tests use; ``inode`` (files' content and its durability), ``tree`` (names and theirs), ``file`` (open
files), ``locks``, ``outside`` (what of the real machine can be read) and ``raw`` (Python's own file object over an open file) are its parts.
"""

from __future__ import annotations

from .disk import Disk as Disk
