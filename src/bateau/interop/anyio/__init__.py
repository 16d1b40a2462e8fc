"""anyio on bateau's own tasks: ``install()`` once, then ``anyio.run(main, backend="bateau")``.

How anyio finds a backend. ``anyio.run(..., backend=name)`` and every call inside a program look for the module
``anyio._backends._<name>`` and take its ``backend_class``; inside a program the name is what ``sniffio`` says. There is no way to
register a third one, so ``install`` puts our module into ``sys.modules`` under the name that anyio will import. Nothing of anyio
is changed, and nothing happens before it is asked for. (httpcore, under httpx, knows two names only: see ``httpcore``.)

What an anyio program gets here is bateau's scopes and tasks: its cancel scopes are nodes of the same tree, its tasks show up in
bateau's reports, a wait that can never end is an error that says so, and bateau's own calls work in between.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["install", "use"]

_MODULE = "anyio._backends._bateau"


def install() -> None:
    """Make the backend known to anyio, in this process. Idempotent, from any thread; no task has to be running.

    Afterwards ``anyio.run(main, backend="bateau")`` runs on bateau (``backend_options={"runtime": ...}`` names another of its
    own loops than ``"native"``, or gives a runtime object), and pytest's anyio plugin takes ``"bateau"`` as its
    ``anyio_backend``. Raises ``ImportError`` if anyio (4.16 or later) or sniffio is not installed: ``pip install bateau[anyio]``.
    """
    try:
        from . import _backend, httpcore
    except ImportError as error:
        missing = getattr(error, "name", None) or ""
        if missing.partition(".")[0] in ("anyio", "sniffio"):
            raise ImportError(
                f"the anyio backend needs anyio 4.16 or later, and sniffio ({error}); install bateau[anyio]",
                name=missing,
            ) from error
        raise
    sys.modules.setdefault(_MODULE, _backend)
    httpcore.teach()


@contextmanager
def use() -> Generator[None]:
    """In a program that ``bateau.run`` started: anyio's calls in this block, and in tasks started in it, run on this backend.

    Without it they run on anyio's own backend for the loop that ``sniffio`` names, which works too where there is such a loop.
    Not a cancellation point. Raises what ``install`` raises, ``NotInRuntime`` outside any program, and ``Unsupported`` where
    another loop drives.
    """
    install()
    from ...kernel.current import current_host
    from .library import NAME, variable
    from .runtimes import refuse_riding

    refuse_riding(current_host())
    token = variable.set(NAME)
    try:
        yield
    finally:
        variable.reset(token)
