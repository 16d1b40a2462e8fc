"""Heat in a rod with moving material: neighbour-dependent work, the same to the last bit wherever it is computed (story S48).

    python examples/heat.py                       one worker
    python examples/heat.py --on processes        two worker processes
    python examples/heat.py --on dask             two workers of a local Dask cluster (pip install 'bateau[dask]')

The rod is cut into blocks. A block's next state needs its own and the nearest cell of its neighbours, and nothing else: so blocks far from
each other may be steps apart, and no worker waits for the slowest. It is computing, not waiting: nothing here is gained by async functions,
and `step` is a plain one. Async only conducts.
"""

from __future__ import annotations

import argparse
import math
import sys
from array import array
from hashlib import sha256
from time import perf_counter

import bateau
from bateau.iter.par import Executor

DIFFUSION = 0.2
FLOW = 0.05


def step(key: int, block: array[float], around: dict[int, array[float]]) -> array[float]:
    """One time step of one block: diffusion, and transport to the right. The ends of the rod are isolated."""
    left = around[key - 1][-1] if key - 1 in around else block[0]
    right = around[key + 1][0] if key + 1 in around else block[-1]
    cells = array("d", [left, *block, right])
    return array(
        "d",
        (
            cells[i] + DIFFUSION * (cells[i - 1] - 2.0 * cells[i] + cells[i + 1]) - FLOW * (cells[i] - cells[i - 1])
            for i in range(1, len(cells) - 1)
        ),
    )


def rod(blocks: int, size: int) -> dict[int, array[float]]:
    """Two hot spots on a cold rod."""
    total = blocks * size

    def heat(i: int) -> float:
        return math.exp(-(((i - 0.3 * total) / (0.05 * total)) ** 2)) + 0.5 * math.exp(-(((i - 0.7 * total) / 10) ** 2))

    return {b: array("d", map(heat, range(b * size, (b + 1) * size))) for b in range(blocks)}


def neighbours(blocks: int) -> dict[int, list[int]]:
    """Who is beside whom."""
    return {b: [n for n in (b - 1, b + 1) if 0 <= n < blocks] for b in range(blocks)}


def fingerprint(blocks: dict[int, array[float]]) -> str:
    """Equal for results that are equal to the last bit."""
    return sha256(b"".join(blocks[key].tobytes() for key in sorted(blocks))).hexdigest()


def executor(name: str) -> Executor:
    """Where to compute."""
    return {
        "tasks": lambda: bateau.iter.tasks(1),
        "threads": lambda: bateau.iter.threads(2),
        "processes": lambda: bateau.iter.processes(2),
        "dask": lambda: bateau.iter.dask(workers=2),
    }[name]()


async def main(on: str, blocks: int, size: int, steps: int) -> None:
    began = perf_counter()
    graph = bateau.iter.graph(rod(blocks, size), neighbours(blocks))
    result = await graph.run(step, steps, on=executor(on))
    hottest = max(max(block) for block in result.values())
    print(f"{on}: {blocks} blocks of {size} cells, {steps} steps in {perf_counter() - began:.2f} s")
    print(f"hottest {hottest!r}, all cells {fingerprint(result)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", choices=["tasks", "threads", "processes", "dask"], default="tasks")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--size", type=int, default=500, help="cells in a block")
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args(sys.argv[1:])
    bateau.run(main, given.on, given.blocks, given.size, given.steps)
