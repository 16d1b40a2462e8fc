"""Walk a site, page by page, as an async generator: ``bateau run examples/url_explorer.py http://127.0.0.1:8000/ [MOST]``.

The generator owns a connection. Whoever listens to it may stop at any page: it is closed where the loop is left, and with it
the connection.
"""

import sys
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import bateau
from bateau.cli.demo.http import Pool, Site
from bateau.cli.demo.links import links_of


@bateau.generator
async def explore(root: str) -> AsyncIterator[tuple[str, int]]:
    """Yield (URL, size) of every page reachable from ``root`` on its site, breadth first, each once."""
    pool = Pool(Site(root))
    try:
        seen, todo = {root}, [root]
        for url in todo:
            page = await pool.get(urlsplit(url).path or "/")
            yield url, len(page.body)
            for link in links_of(url, page.headers.get("content-type", ""), page.body):
                if link not in seen:
                    seen.add(link)
                    todo.append(link)
    finally:
        pool.close()


@bateau.main
async def main(root: str, most: str = "10") -> None:
    async for number, (url, size) in explore(root).enumerate(1):
        print(f"{size:8} {url}")
        if number == int(most):
            break


if __name__ == "__main__":
    main(*sys.argv[1:])
