"""Byte streams on any runtime: interfaces, buffers, and what can be done with any stream.

Names are loaded when first used, as in ``bateau`` itself.
"""

from __future__ import annotations

from .abc import DEFAULT_SIZE as DEFAULT_SIZE
from .abc import READ as READ
from .abc import WRITE as WRITE
from .abc import AsyncBufRead as AsyncBufRead
from .abc import AsyncBufWrite as AsyncBufWrite
from .abc import AsyncRead as AsyncRead
from .abc import AsyncResource as AsyncResource
from .abc import AsyncStream as AsyncStream
from .abc import AsyncWrite as AsyncWrite
from .abc import LimitExceeded as LimitExceeded
