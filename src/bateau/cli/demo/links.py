"""Which pages a page leads to."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.hrefs.extend(value for name, value in attrs if name == "href" and value)


def links_of(url: str, content_type: str, body: bytes) -> list[str]:
    """The absolute URLs, without fragments, of the same site that an HTML page links to, in its order, each once."""
    if not content_type.startswith("text/html"):
        return []
    parser = _Anchors()
    parser.feed(body.decode("utf-8", "replace"))
    here = urlsplit(url)
    found: dict[str, None] = {}
    for href in parser.hrefs:
        try:
            target = urldefrag(urljoin(url, href)).url
            parts = urlsplit(target)
        except ValueError:
            continue  # not a URL at all
        if (parts.scheme, parts.netloc) == (here.scheme, here.netloc):
            found[target] = None
    return list(found)
