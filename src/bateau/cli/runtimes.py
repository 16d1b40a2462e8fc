"""``bateau runtimes``: what can run here, and why not if not."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..kernel import twin
from ..runtimes import registry
from ..runtimes.base import FEATURES

DESCRIPTION = "List every known runtime, bateau's own and those that others registered, and whether it can run here."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``bateau runtimes``."""
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def _rows() -> list[dict[str, Any]]:
    default = registry.default_name()
    rows: list[dict[str, Any]] = []
    for name in registry.names():
        problem = registry.why_unavailable(name)
        features: list[str] = []
        about = ""
        if problem is None:
            runtime = registry.get(name)
            features = sorted(feature for feature in FEATURES if runtime.supports(feature))
            about = (type(runtime).__doc__ or "").strip().splitlines()[0]
        rows.append(
            {
                "name": name,
                "default": name == default,
                "problem": problem,
                "features": features,
                "about": about,
                "kernel": twin.about(),
            }
        )
    return rows


def main(args: argparse.Namespace) -> int:
    """Print the table."""
    rows = _rows()
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len(str(row["name"])) for row in rows)
    for row in rows:
        mark = "*" if row["default"] else " "
        if row["problem"] is not None:
            print(f"{mark} {row['name']:{width}}  not available: {row['problem']}")
            continue
        print(f"{mark} {row['name']:{width}}  {row['about']}")
        print(f"  {'':{width}}  features: {', '.join(row['features']) or 'none'}")
    print(f"\nkernel: {twin.about()}")
    print("* the default here; choose another with --runtime, BATEAU_RUNTIME or bateau.run(..., runtime=...)")
    return 0
