"""The text of source files, in the encoding that each declares."""

from __future__ import annotations

import io
import tokenize
from pathlib import Path


def read(path: Path) -> str:
    """The text of a file. Raises ``OSError``, or ``SyntaxError`` where it is not in the encoding it declares."""
    raw = path.read_bytes()
    return decode(raw)


def decode(raw: bytes) -> str:
    """The text of a file's bytes, with a newline for every end of line. Raises ``SyntaxError``."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise SyntaxError(f"not {encoding}: {error}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
