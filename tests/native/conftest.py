"""What the tests of the native loop share as fixtures."""

from __future__ import annotations

from typing import Any

import pytest

from bateau.interop.asyncio import new_event_loop


@pytest.fixture
def loop() -> Any:
    loop = new_event_loop()
    yield loop
    loop.close()
