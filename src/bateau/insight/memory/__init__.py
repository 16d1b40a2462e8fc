"""Another process's tasks, read from its memory: nothing is asked of the process, which may be blocked, hold its GIL, or know
nothing of bateau.

``read_process(pid)`` gives a ``Snapshot``, ``read_core(path)`` that of a core file. Linux, 64 bits, CPython 3.11 to 3.15. ``docs/design/reading-memory.md`` explains how.
"""

from .core import CoreMemory as CoreMemory
from .errors import MemoryReadError as MemoryReadError
from .errors import NotPermitted as NotPermitted
from .errors import NotPython as NotPython
from .errors import ProcessEnded as ProcessEnded
from .errors import UnsupportedVersion as UnsupportedVersion
from .reader import MemoryReader as MemoryReader
from .reader import read_core as read_core
from .reader import read_process as read_process
