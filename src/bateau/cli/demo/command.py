"""The command: one crawl, or one on each runtime side by side."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import sysconfig
import time
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

import bateau
from bateau import signal

from ...runtimes import registry
from .crawl import Crawl, Page
from .disk import INDEX_PAGES, Comparison, wanted
from .report import human, print_report, show_progress
from .server import serving

DESCRIPTION = (
    "Start Python's own web server on the standard library's files, crawl it with a bounded number of "
    "workers, hash every body, and compare with the disk. Ctrl-C stops (again: cancels) and still reports."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``bateau demo``."""
    parser.add_argument("--runtime", "-r", metavar="R", help="a name that `bateau runtimes` lists")
    parser.add_argument("--all", action="store_true", help="run on every available runtime and compare the results")
    parser.add_argument(
        "--url", help="crawl this http or https site instead (nothing is started and nothing is compared)"
    )
    parser.add_argument("--root", metavar="DIR", help="serve and check this folder instead of the standard library")
    parser.add_argument(
        "--workers", "-w", type=int, default=16, metavar="N", help="pages in flight at once (default: 16)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="visit at most N pages")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds for one page (default: 10)")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress line")


class Result:
    """How one crawl ended."""

    def __init__(self, crawl: Crawl) -> None:
        self.crawl = crawl
        self.seconds = 0.0
        self.cpu = 0.0
        self.note: str | None = None
        self.comparison: Comparison | None = None

    @property
    def ok(self) -> bool:
        """Whole, and equal to the disk. What a page of the disk's links to may be missing there as well."""
        if (self.comparison is None or self.crawl.limit is not None) and self.crawl.broken:
            return False
        return self.note is None and (self.comparison is None or self.comparison.equal)


def main(args: argparse.Namespace) -> int:
    """Run the demo. 0: proven; 1: broken, partial or different; 2: can't run; 130: interrupted."""
    if find_spec("h11") is None:
        print("bateau demo: needs the HTTP parser h11: pip install 'bateau[demo]'", file=sys.stderr)
        return 2
    try:
        runtimes = _runtimes(args)
        if args.url is None and not os.path.isdir(_folder(args)):
            raise ValueError(f"--root: {args.root!r} is not a folder")
        for option, least in (("workers", 1), ("limit", 1)):
            value = getattr(args, option)
            if value is not None and value < least:
                raise ValueError(f"--{option} must be {least} or more, not {value}")
        if not args.timeout > 0:
            raise ValueError(f"--timeout must be more than 0 seconds, not {args.timeout:g}")
    except (ValueError, bateau.Unsupported) as error:
        print(f"bateau demo: {error}", file=sys.stderr)
        return 2
    results: dict[str, Result] = {}
    for name in runtimes:
        print(f"crawling on runtime {name!r}", file=sys.stderr)
        try:
            result = _crawl_on(name, args)
        except (ValueError, OSError) as error:
            print(f"bateau demo: {error}", file=sys.stderr)
            return 2
        results[name] = result
        print_report(result.crawl, result.seconds, result.comparison, result.note)
        if result.note == "interrupted":
            return 130
    if args.all:
        _print_table(results)
        if len({result.crawl.digest() for result in results.values()}) > 1:
            return 1
    return 0 if all(result.ok for result in results.values()) else 1


def _runtimes(args: argparse.Namespace) -> list[str]:
    if not args.all:
        return [registry.get(args.runtime).name]
    found: list[str] = []
    for name in registry.names():
        if name == "sim":
            continue  # it has no processes and no disks of this machine, which are what the demo is about
        problem = registry.why_unavailable(name)
        if problem is None:
            found.append(name)
        else:
            print(f"leaving out runtime {name!r}: {problem}", file=sys.stderr)
    return found


def _crawl_on(name: str, args: argparse.Namespace) -> Result:
    holder: list[Result] = []
    started, cpu = time.perf_counter(), _cpu()
    interrupted = False
    try:
        bateau.run(_program, args, holder, runtime=name)
    except KeyboardInterrupt:
        if not holder:
            raise
        interrupted = True
    result = holder[0]
    result.seconds = time.perf_counter() - started
    result.cpu = _cpu() - cpu
    crawl = result.crawl
    if interrupted or (crawl.stopped and crawl.gave_up is None):
        result.note = "interrupted"
    elif crawl.gave_up is not None:
        result.note = crawl.gave_up
    if args.url is None:
        # Listings are made by the server, not read from the disk: they count as pages, not as files. An index page is a file.
        folder = _folder(args)
        files = [page for page in crawl.pages.values() if page.problem is None and not _is_listing(page, folder)]
        crawled = {urlsplit(page.url).path: page.digest for page in files}
        result.comparison = Comparison(crawled, folder, partial=result.note is not None or args.limit is not None)
    return result


async def _program(args: argparse.Namespace, holder: list[Result]) -> None:
    if args.url is not None:
        await _crawl(args, args.url, holder)
        return
    async with serving(_folder(args)) as (url, process):
        await _crawl(args, url, holder)
        if process.returncode is not None and holder[0].crawl.gave_up is None:
            holder[0].crawl.gave_up = f"the web server ended with status {process.returncode}"


async def _crawl(args: argparse.Namespace, url: str, holder: list[Result]) -> None:
    crawl = Crawl(
        url, workers=args.workers, timeout=args.timeout, limit=args.limit, wanted=wanted if args.url is None else None
    )
    holder.append(Result(crawl))
    async with bateau.scope(name="demo") as scope:
        scope.spawn(_end_on_sigterm, scope, crawl, name="SIGTERM", background=True)
        if not args.quiet:
            scope.spawn(show_progress, crawl, name="progress", background=True)
        await crawl.run()


async def _end_on_sigterm(scope: bateau.Scope, crawl: Crawl) -> None:
    """What a service manager sends is answered as Ctrl-C is: the web server must not outlive us, and the report is due."""
    with signal.open(signal.SIGTERM) as terminations:
        await terminations.wait()
        crawl.stopped = True
        scope.stop(reason="SIGTERM")
        await terminations.wait()
        scope.cancel("SIGTERM, twice")


def _is_listing(page: Page, folder: str) -> bool:
    path = os.path.join(folder, unquote(urlsplit(page.url).path).lstrip("/"))
    return page.is_listing and not any(os.path.exists(os.path.join(path, name)) for name in INDEX_PAGES)


def _folder(args: argparse.Namespace) -> str:
    return args.root or sysconfig.get_paths()["stdlib"]


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _print_table(results: dict[str, Result]) -> None:
    print()
    print(f"{'runtime':10} {'pages':>6} {'bytes':>10} {'broken':>6} {'seconds':>8} {'CPU s':>7} {'pages/s':>8}  result")
    for name, result in results.items():
        crawl = result.crawl
        proof = "proven" if result.ok else "NOT PROVEN"
        print(
            f"{name:10} {len(crawl.pages):6} {human(crawl.received):>10} {len(crawl.broken):6} {result.seconds:8.2f} "
            f"{result.cpu:7.2f} {len(crawl.pages) / result.seconds:8.0f}  {proof} {crawl.digest()[:16]}"
        )
    same = len({result.crawl.digest() for result in results.values()}) == 1
    print("the same result on each" if same else "THE RESULTS DIFFER")
