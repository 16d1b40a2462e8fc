"""What can't be tested while the address sanitizer is loaded (``make test-asan``), and why: all of it is here.

It preloads itself into Python and into every process that a test starts.
"""

from __future__ import annotations

import os

import pytest

UNDER_ASAN = "asan" in os.environ.get("LD_PRELOAD", "")


def _not_under_asan(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(UNDER_ASAN, reason=f"under the address sanitizer: {reason}")


# Its map of what may be read takes 16 TiB of address space: writing that as a core file has no end, and no RLIMIT_AS leaves room for it.
needs_plain_memory = _not_under_asan("its shadow is terabytes of address space")
# A segmentation fault is reported by it, which then aborts.
needs_plain_faults = _not_under_asan("it handles faults itself")
# It replaces malloc, and all that is native runs several times slower.
needs_plain_speed = _not_under_asan("the test's subject is a time")
