"""``pytest.skip()`` and ``pytest.xfail()`` where they are called inside scopes."""

from __future__ import annotations

from typing import cast

import pytest

MAGIC = (pytest.skip.Exception, pytest.xfail.Exception)


def single_outcome(error: BaseException) -> BaseException:
    """What ``pytest.skip()`` raised, if ``error`` is that or a group of nothing else (a scope's); else ``error``."""
    given = error
    if not isinstance(error, BaseExceptionGroup):
        return error
    todo: list[BaseException] = [error]
    leaves: list[BaseException] = []
    for each in todo:
        if isinstance(each, BaseExceptionGroup):
            todo += cast("BaseExceptionGroup[BaseException]", each).exceptions
        else:
            leaves.append(each)
    return leaves[0] if leaves and all(isinstance(each, MAGIC) for each in leaves) else given
