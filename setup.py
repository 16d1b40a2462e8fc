"""The one part of the build that pyproject.toml can't say: the C twin, `bateau._native`, is built where it can be.

It is optional: without a compiler bateau is pure Python, slower and otherwise the same. Installers hide what a build prints, so that why
it failed is written beside where the module would be, for `bateau runtimes` to tell.
"""

from __future__ import annotations

import sys
from glob import glob
from pathlib import Path
from subprocess import CalledProcessError

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class Build(build_ext):
    """Builds the extension, or notes why that failed."""

    def build_extension(self, ext: Extension) -> None:
        if self.editable_mode:  # the sources themselves are what will be imported
            folder = Path(self.get_finalized_command("build_py").get_package_dir("bateau"))
        else:
            folder = Path(self.get_ext_fullpath(ext.name)).parent
        note = folder / f"_native.{sys.implementation.cache_tag}.failed.txt"  # as kernel/twin.py looks for it
        note.unlink(missing_ok=True)
        try:
            super().build_extension(ext)
        except Exception as error:  # setuptools decides which of them the build survives
            folder.mkdir(parents=True, exist_ok=True)
            note.write_text(f"{_in_short(error)}\n", encoding="utf-8")
            raise


def _in_short(error: BaseException) -> str:
    """A failed command's error holds the command, with its thirty options; its name says as much."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CalledProcessError):
            return f"{cause.cmd[0]} ended with status {cause.returncode}"
        cause = cause.__cause__ or cause.__context__
    return str(error)


setup(
    cmdclass={"build_ext": Build},
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
    ],
)
