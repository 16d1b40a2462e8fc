"""Python's own web server, as a child process that ends with the scope."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import bateau
from bateau import subprocess


@asynccontextmanager
async def serving(folder: str) -> AsyncGenerator[tuple[str, Any]]:
    """Serve ``folder`` on a free port of the loopback; gives the URL and the process. It is killed on the way out."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", folder]
    command += ["--protocol", "HTTP/1.1"]
    async with await subprocess.open_process(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        heading = b""
        async with bateau.timeout(30):
            while not heading.endswith(b"\n"):
                chunk = await process.stdout.read(4096)
                if not chunk:
                    raise OSError(f"the web server ended before it served: exit status {await process.wait()}")
                heading += chunk
        # "Serving HTTP on 127.0.0.1 port 40923 (http://127.0.0.1:40923/) ..."
        port = int(heading.split(b" port ")[1].split()[0])
        try:
            yield f"http://127.0.0.1:{port}/", process
        finally:
            process.kill()
