"""Bad input that once passed unseen: each is a clear error, at once."""

from __future__ import annotations

import pytest

import bateau
from bateau import subprocess


@pytest.mark.parametrize("wrong", ["soon", True, b"1"])
def test_deadlines_that_are_no_time(wrong):
    for make in (bateau.deadline, lambda when: bateau.scope(deadline=when)):
        with pytest.raises(TypeError, match=f"clock or None, not {type(wrong).__name__}"):
            make(wrong)


def test_nan_is_no_deadline(entry):
    nan = float("nan")
    for make in (bateau.deadline, lambda when: bateau.scope(deadline=when)):
        with pytest.raises(ValueError, match="not nan"):
            make(nan)

    async def main():
        with bateau.timeout(0.01) as block:
            with pytest.raises(ValueError, match="not nan"):
                block.reschedule(nan)
            with pytest.raises(TypeError, match="not str"):
                block.reschedule("soon")
            await bateau.time.sleep_forever()

    with pytest.raises(TimeoutError):  # the deadline it had still holds
        entry.run(main)


@pytest.mark.parametrize("nothing", [[], (), ""])
def test_no_program_to_run(entry, nothing):
    async def main():
        with pytest.raises(ValueError, match="args is empty; give the program"):
            await subprocess.run(nothing)

    entry.run(main)
