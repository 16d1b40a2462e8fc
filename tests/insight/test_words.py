"""How durations, numbers and long texts are written, in every tool."""

from __future__ import annotations

import pytest

from bateau.insight.words import count, cut, duration


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (0.0, "0 us"), (12e-6, "12 us"), (0.0034, "3.4 ms"), (0.9999, "1 s"), (1.25, "1.25 s"), (59.99, "1m00s"),
        (187, "3m07s"), (7500, "2h05m"), (-0.5, "-500 ms"),
    ],
)  # fmt: skip
def test_durations(value: float | None, text: str) -> None:
    assert duration(value) == text


def test_counts_and_cuts() -> None:
    assert (count(1, "task"), count(0, "task"), count(12_000, "task")) == ("1 task", "0 tasks", "12,000 tasks")
    assert (cut("abcdef", 6), cut("abcdefg", 6)) == ("abcdef", "abc...")
