"""Which runtime an anyio program of this backend runs on: ``backend_options={"runtime": ...}``, native by default."""

from __future__ import annotations

from typing import Any

from ...kernel.errors import Unsupported
from ...kernel.host import Host
from ...runtimes import registry
from ...runtimes.base import Runtime

Options = dict[str, Any]

# What rides on another loop: anyio has a backend for each, which is the better one there.
_OTHERS = {"asyncio": "asyncio", "uvloop": "asyncio", "trio": "trio"}


def chosen(options: Options) -> Runtime:
    """The runtime that ``options`` name. Raises ``TypeError`` for unknown options, ``Unsupported`` for runtimes of other loops."""
    unknown = options.keys() - {"runtime"}
    if unknown:
        raise TypeError(f"the bateau backend has one option, `runtime`; unknown: {', '.join(sorted(unknown))}")
    runtime = registry.get(options.get("runtime", "native"))
    other = _OTHERS.get(runtime.name)
    if other is not None:
        raise Unsupported(
            f"anyio's bateau backend runs on bateau's own loops, not on {runtime.name!r}; "
            f"there use anyio's own backend ({other!r}), in whose tasks bateau works as well"
        )
    return runtime


def refuse_riding(host: Host) -> None:
    """Raise ``Unsupported`` on a host whose tasks are another loop's."""
    if host.rides:
        raise Unsupported(
            f"anyio's bateau backend runs on bateau's own loops, and this is {host.describe()}; here anyio's own backend "
            "works, with bateau's calls beside it"
        )
