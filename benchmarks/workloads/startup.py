"""Starting: the shortest program on each system, from the start of the interpreter to its end.

One operation is one process that imports the library, runs an empty ``async def main()`` on its loop and exits. Its CPU time is what the
operating system says of ended children. The programs are in ``systems.py``, one beside each system's name.

Cases
  empty_main  as above. Byte code is cached by the run before the measured ones.

Where semantics differ
  * None: what is not needed for an empty program, and is therefore imported later (or never), is the library's choice.
  * The floor is ``python -c pass``. A virtual environment's ``site`` is part of all of them.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping

from ..model import Case, Measured, Stopwatch, Workload


def side() -> Mapping[str, Measured]:
    """The same for all: the program is found by the system's name."""
    from ..systems import SYSTEMS

    system = SYSTEMS[os.environ["BATEAU_BENCH_SYSTEM"]]

    async def empty_main(n: int, clock: Stopwatch) -> None:
        if not system.program:
            raise RuntimeError(f"systems.py names no shortest program for {system.name}")
        for _ in range(n):
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([sys.executable, "-c", system.program], check=True, stdin=subprocess.DEVNULL)
            wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
            clock.add(after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, wall)

    return {"empty_main": empty_main}


FAMILIES = ("asyncio", "trio", "curio", "anyio", "bateau", "floor")

WORKLOAD = Workload(
    "startup",
    "Import it and run an empty main",
    (Case("empty_main", "process", fixed=5, fixed_quick=2, busy=False, tiny=1),),
    dict.fromkeys(FAMILIES, side),
)
