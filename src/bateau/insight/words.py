"""How the tools write a duration, a number of things, and a text that is too long: the same everywhere."""

from __future__ import annotations


def duration(value: float | None) -> str:
    """Seconds in few characters: ``12 us``, ``3.4 ms``, ``1.25 s``, ``3m07s``, ``2h05m``; ``-`` for None."""
    if value is None:
        return "-"
    if value < 0:
        return f"-{duration(-value)}"
    if value < 0.0009995:
        return f"{value * 1e6:.0f} us"
    if value < 0.9995:
        return f"{value * 1e3:.3g} ms"
    if value < 59.95:
        return f"{value:.3g} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def count(number: int, what: str) -> str:
    """``1 task``, ``12,000 tasks``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def cut(text: str, most: int) -> str:
    """At most ``most`` characters, the last three of them dots where some had to go."""
    return text if len(text) <= most else text[: most - 3] + "..."
