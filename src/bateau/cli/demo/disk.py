"""The disk's side of the proof: what the web server should have served."""

from __future__ import annotations

import os
from hashlib import sha256
from urllib.parse import quote, unquote, urlsplit

# Written by whichever Python runs next, so no two looks at them need agree; both sides leave them out.
LEFT_OUT = ("__pycache__", "site-packages")


# What Python's web server serves in place of a folder's listing, first found first.
INDEX_PAGES = ("index.html", "index.htm")


def wanted(url: str) -> bool:
    """Whether the crawler should visit ``url``."""
    parts = unquote(urlsplit(url).path).split("/")
    return not any(part in LEFT_OUT for part in parts)


def expected(root: str) -> dict[str, str]:
    """URL path -> SHA-256 of every file below ``root`` that Python's web server leads to.

    A folder with an index page serves that page in place of its listing, so what lies in it need not be led to.
    """
    found: dict[str, str] = {}
    todo = [("", root)]
    for prefix, folder in todo:
        names = sorted(os.listdir(folder))
        index = next((name for name in INDEX_PAGES if name in names), None)
        if index is not None:
            found[f"{prefix}/"] = _hash(os.path.join(folder, index))
            continue
        for name in names:
            path = os.path.join(folder, name)
            if name in LEFT_OUT:
                continue
            if os.path.isdir(path):
                todo.append((f"{prefix}/{quote(name, errors='surrogatepass')}", path))
            elif os.path.exists(path):
                found[f"{prefix}/{quote(name, errors='surrogatepass')}"] = _hash(path)
    return found


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return sha256(file.read()).hexdigest()


class Comparison:
    """What differs between the crawl and the disk; all empty is the proof."""

    def __init__(self, crawled: dict[str, str], root: str, *, partial: bool) -> None:
        on_disk = expected(root)
        # Links on an index page may lead to what no listing shows: those files count as well, if they are what the disk has.
        for path in crawled.keys() - on_disk.keys():
            file = os.path.join(root, unquote(path, errors="surrogatepass").lstrip("/"))
            if os.path.isfile(file):
                on_disk[path] = _hash(file)
        self.checked = len(crawled)
        # A crawl that was cut short owes nothing it did not reach.
        self.missing = [] if partial else sorted(on_disk.keys() - crawled.keys())
        self.extra = sorted(crawled.keys() - on_disk.keys())
        self.different = sorted(path for path in crawled.keys() & on_disk.keys() if crawled[path] != on_disk[path])

    @property
    def equal(self) -> bool:
        """Whether every file crawled equals the disk's (and, for a whole crawl, none is missing)."""
        return not (self.missing or self.extra or self.different)
