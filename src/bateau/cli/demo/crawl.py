"""The crawler: one task per page in a scope with a limit, which ends when there is no page left to visit."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from urllib.parse import urlsplit

import bateau

from .http import Pool, Response, Site
from .links import links_of

# So many pages failing one after the other mean that the server is gone: give up, and report.
GIVE_UP_AFTER = 50


class Page:
    """What was found at one URL. ``problem`` is set if it could not be read."""

    __slots__ = ("digest", "is_listing", "problem", "seconds", "size", "url")

    def __init__(self, url: str) -> None:
        self.url = url
        self.size = 0
        self.digest = ""
        self.seconds = 0.0
        self.is_listing = False
        self.problem: str | None = None


class Crawl:
    """One crawl: the pages so far, and what is going on. Readable at any moment, also after it was cut short."""

    def __init__(
        self,
        root: str,
        *,
        workers: int,
        timeout: float,
        limit: int | None = None,
        wanted: Callable[[str], bool] | None = None,
    ) -> None:
        site = Site(root)
        if workers < 1:
            raise ValueError(f"workers must be 1 or more, not {workers}")
        self.root = root
        self.workers = workers
        self.timeout = timeout
        self.limit = limit
        self.wanted = wanted
        self.pages: dict[str, Page] = {}
        self.seen: dict[str, None] = {}
        self.in_flight = 0
        self.most_in_flight = 0
        self.received = 0
        self.stopped = False
        self.gave_up: str | None = None
        self._failures_in_a_row = 0
        self._pool = Pool(site)
        self._scope: bateau.Scope | None = None

    async def run(self) -> None:
        """Visit every page reachable from the root, each once. Asked to stop, it finishes what is in flight.

        A cancellation point. However it ends, ``pages`` holds exactly what was read.
        """
        async with bateau.scope(name="crawl", limit=self.workers) as scope:
            self._scope = scope
            scope.own(self._pool)
            self._discover(self.root)

    def _discover(self, url: str) -> None:
        if url in self.seen or (self.wanted is not None and not self.wanted(url)):
            return
        if self.limit is not None and len(self.seen) >= self.limit:
            return
        self.seen[url] = None
        assert self._scope is not None
        self._scope.spawn(self._visit, url, name=url)

    async def _visit(self, url: str) -> None:
        if bateau.stopping() or self.gave_up is not None:
            self.stopped = True
            return
        page = Page(url)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        started = bateau.now()
        try:
            async with bateau.timeout(self.timeout):
                response = await self._pool.get(_target(url))
        except (OSError, EOFError, ExceptionGroup) as error:  # TimeoutError is an OSError; a refused connect is a group
            page.problem = str(error) or type(error).__name__
            self._failed(page.problem)
        else:
            self._take(page, response)
        finally:
            self.in_flight -= 1
        page.seconds = bateau.now() - started
        self.pages[url] = page

    def _take(self, page: Page, response: Response) -> None:
        body = response.body
        page.size = len(body)
        self.received += len(body)
        self._failures_in_a_row = 0
        if response.status != 200:
            page.problem = f"status {response.status}"
            return
        page.digest = sha256(body).hexdigest()
        content_type = response.headers.get("content-type", "")
        page.is_listing = page.url.endswith("/") and content_type.startswith("text/html")
        if page.is_listing:
            for url in links_of(page.url, content_type, body):
                self._discover(url)

    def _failed(self, problem: str) -> None:
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= GIVE_UP_AFTER and self.gave_up is None:
            self.gave_up = f"{GIVE_UP_AFTER} pages failed in a row, the last one with: {problem}"

    @property
    def broken(self) -> list[Page]:
        """The pages that could not be read, in order of their ends."""
        return [page for page in self.pages.values() if page.problem is not None]

    @property
    def unvisited(self) -> int:
        """How many known pages were not visited to their end."""
        return len(self.seen) - len(self.pages)

    def digest(self) -> str:
        """One hash over every page's path, status and hash: equal for equal results, in whatever order they came."""
        total = sha256()
        for url in sorted(self.pages):
            page = self.pages[url]
            total.update(f"{urlsplit(url).path} {page.problem or page.digest}\n".encode())
        return total.hexdigest()


def _target(url: str) -> str:
    parts = urlsplit(url)
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path
