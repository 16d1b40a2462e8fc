"""What can't be tested on an interpreter built with Py_DEBUG (``make test-debug``), and why."""

from __future__ import annotations

import sys

import pytest

ON_DEBUG_BUILD = hasattr(sys, "gettotalrefcount")

# It checks each call and each block of memory, without optimisation: several times slower.
needs_optimised_python = pytest.mark.skipif(
    ON_DEBUG_BUILD, reason="on a debug build of Python: the test's subject is a time"
)
