"""The flight recorder: what every task did last, in mapped files that survive the process.

``layout`` is the format; ``writer`` and ``_native/recorder.c`` write it, ``reading`` reads it; ``files`` says where it is kept;
``recording`` ties a process to its files.
"""

from __future__ import annotations
