"""What the demo prints: a live line while it crawls, a report at the end."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

import bateau

from .crawl import Crawl
from .disk import Comparison


def human(size: float) -> str:
    """``size`` bytes, readable."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


async def show_progress(crawl: Crawl) -> None:
    """Keep a line up to date: on a terminal in place, elsewhere every two seconds. Runs until cancelled."""
    terminal = sys.stderr.isatty()
    started = bateau.now()
    try:
        while True:
            await bateau.time.sleep(0.1 if terminal else 2)
            seconds = bateau.now() - started
            done = len(crawl.pages)
            line = (
                f"{done} of {len(crawl.seen)} pages, {crawl.in_flight} in flight, {human(crawl.received)}, "
                f"{done / seconds:.0f} pages/s, {human(crawl.received / seconds)}/s"
            )
            if crawl.broken:
                line += f", {len(crawl.broken)} broken"
            print(f"\r{line}\x1b[K" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
    finally:
        if terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def print_report(crawl: Crawl, seconds: float, comparison: Comparison | None, note: str | None) -> None:
    """The end: what was read, what failed, what was slow, and the proof."""
    pages = crawl.pages
    print(
        f"{len(pages)} pages, {human(crawl.received)} in {seconds:.2f} s ({len(pages) / max(seconds, 1e-9):.0f} pages/s)"
    )
    print(f"at most {crawl.most_in_flight} in flight (bound: {crawl.workers}); hash of all: {crawl.digest()[:16]}")
    if note is not None:
        print(f"PARTIAL: {note}; {crawl.unvisited} known pages were not visited")
    _print_some("broken", [f"{urlsplit(page.url).path}: {page.problem}" for page in crawl.broken])
    slowest = sorted(pages.values(), key=lambda page: page.seconds, reverse=True)[:3]
    for page in slowest:
        print(f"  slow: {page.seconds * 1000:7.1f} ms  {human(page.size):>10}  {urlsplit(page.url).path}")
    if comparison is None:
        return
    if comparison.equal:
        whole = note is None and crawl.limit is None
        what = "all files and hashes equal the disk's" if whole else "every file read equals the disk's"
        print(f"PROVEN: {comparison.checked} files; {what}")
        return
    print("DIFFERENT from the disk:")
    _print_some("missing", comparison.missing)
    _print_some("not on the disk", comparison.extra)
    _print_some("other content", comparison.different)


def _print_some(what: str, lines: list[str], most: int = 5) -> None:
    for line in lines[:most]:
        print(f"  {what}: {line}")
    if len(lines) > most:
        print(f"  {what}: and {len(lines) - most} more")
