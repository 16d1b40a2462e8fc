"""What a supervisor of workers raises."""

from __future__ import annotations

from ..kernel.errors import BateauError


class WorkersFailed(BateauError, RuntimeError):
    """A worker failed before it was ready for the first time, or more often than the policy allows. The message says which and how."""
