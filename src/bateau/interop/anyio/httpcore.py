"""httpcore (under httpx) asks ``sniffio`` which library runs, and refuses every answer but two; by "asyncio" it means "use anyio".

So where the answer is ours, it is given the other one: httpcore then does everything through anyio, and anyio comes to us. Nothing
else of it is touched, programs on other libraries see no difference, and where httpcore is not used it is not imported: a finder
waits for its import.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast

from .library import NAME, variable

# Where the function is defined, and who has taken its name over.
_MODULE = "httpcore._synchronization"
_COPIES = (_MODULE, "httpcore._backends.auto")
_FUNCTION = "current_async_library"


def teach() -> None:
    """Let httpcore run on this backend: at once if it has been imported, else when it is. Idempotent."""
    if _MODULE in sys.modules:
        for name in _COPIES:
            if name in sys.modules:
                _wrap(sys.modules[name])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, cast("Any", _Finder()))


def _wrap(module: ModuleType) -> None:
    ask: Callable[[], str] | None = getattr(module, _FUNCTION, None)
    if ask is None or hasattr(ask, "__wrapped__"):
        return  # another httpcore, which asks in another way; or done already

    @wraps(ask)
    def answer() -> str:
        return "asyncio" if variable.get() == NAME else ask()

    setattr(module, _FUNCTION, answer)


class _Finder:
    """Finds that one module the ordinary way, and tells when it has been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(fullname, path, target) if finder is not self else None
            if spec is not None and spec.loader is not None:
                _tell(spec.loader)
                sys.meta_path.remove(cast("Any", self))
                return spec
        return None


def _tell(loader: Any) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        _wrap(module)

    loader.exec_module = exec_module  # of this one loader, which serves this one module
