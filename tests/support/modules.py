"""Which of bateau's modules there are to be imported here."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator

import bateau
from bateau.kernel.twin import native

# Importing these raises ImportError where the C part is not in use.
NATIVE = ("bateau.runtimes.native_loop", "bateau.runtimes.native_transport", "bateau.runtimes.native_asyncio_twin")


def importable() -> Iterator[str]:
    """The names of all modules below ``bateau``, packages included."""
    for module in pkgutil.walk_packages(bateau.__path__, "bateau.", onerror=lambda _: None):
        if native is not None or module.name not in NATIVE:
            yield module.name
