"""Replay: the answers of a recorded run, again."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Actor, Choices, Strategy


class Replay(Strategy):
    """Answers from ``choices``, and 0 where they say nothing.

    An answer that is too large for its question (the choices were edited, or the program is another one now) becomes the largest
    possible. ``strayed`` tells of such, and of answers that were never asked for.
    """

    name = "replay"

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        # Any value above 0 has the question asked; the answers are those recorded.
        self.yields = 1.0 if any(stream.startswith("yields ") for stream in choices) else 0.0
        self._start()

    def begin(self, seed: int) -> bool:
        self._start()
        return True

    def _start(self) -> None:
        self._at = dict.fromkeys(self.choices, 0)
        self._cut: list[tuple[str, int]] = []

    def step(self, stream: str, ready: Sequence[Actor], may_wait: bool) -> int:
        at = self._at.get(stream)
        if at is None:
            return 0
        self._at[stream] = at + 1
        answer = self.choices[stream].get(at, 0)
        return answer and self._fit(stream, at, answer, len(ready) if may_wait else len(ready) - 1)

    def chance(self, stream: str, p: float) -> int:
        return self.choose(stream, 2)

    def choose(self, stream: str, n: int) -> int:
        at = self._at.get(stream)
        if at is None:
            return 0
        self._at[stream] = at + 1
        answer = self.choices[stream].get(at, 0)
        return answer and self._fit(stream, at, answer, n - 1)

    def _fit(self, stream: str, at: int, answer: int, most: int) -> int:
        if answer <= most:
            return answer
        self._cut.append((stream, at))
        return most

    def strayed(self) -> list[str]:
        """How the run since ``begin`` differed from what was recorded, in sentences; empty if it asked the same questions."""
        found = [f"answer {at} of {stream!r} was too large for its question" for stream, at in self._cut]
        for stream, answers in self.choices.items():
            left = sum(1 for at, answer in answers.items() if answer and at >= self._at[stream])
            if left:
                found.append(f"{left} of the {len(answers)} answers of {stream!r} were never asked for")
        return found
