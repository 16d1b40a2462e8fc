"""The one part of the build that pyproject.toml can't say: the C twin, `bateau._native`, is built where it can be.

It is optional: without a compiler bateau is pure Python, slower and otherwise the same.
"""

from __future__ import annotations

from glob import glob

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "bateau._native",
            sources=sorted(glob("src/bateau/_native/*.c")),
            depends=sorted(glob("src/bateau/_native/*.h")),
            extra_compile_args=[
                "-std=gnu11",
                "-O3",
                "-fvisibility=hidden",
                "-ffp-contract=off",  # floats as in Python: a simulated clock must not round otherwise
                "-Wall",
                "-Wextra",
                "-Wno-unused-parameter",
            ],
            optional=True,
        )
    ]
)
