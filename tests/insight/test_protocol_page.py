"""The protocol's page names every field and every request there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from bateau.insight.peer import _REQUESTS
from bateau.insight.schema import _CLASSES, NAME, VERSION

PAGE = (Path(__file__).parents[2] / "docs" / "insight.md").read_text()


def documented() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    owner = ""
    for line in PAGE.splitlines():
        row = re.match(r"\| (?:`(\w+)` |)\| (`[^|]+`) \|", line)
        if row:
            owner = row[1] or owner
            found.setdefault(owner, set()).update(re.findall(r"`(\w+)`", row[2]))
    return found


def test_every_field_is_on_the_page() -> None:
    found = documented()
    for name, cls in _CLASSES.items():
        assert {field.name for field in fields(cls)} == found[name], name


def test_every_request_is_on_the_page() -> None:
    asked = re.findall(r"^\| `(\w+)` \| [^|]*\| [^|]* \|$", PAGE.partition("### Asking an agent")[2], re.MULTILINE)
    assert sorted(name for name in asked if name != "do") == sorted(["hello", *_REQUESTS])


def test_the_version_is_on_the_page() -> None:
    assert f'"schema": "{NAME}"' in PAGE
    assert f'"version": {list(VERSION)}' in PAGE
