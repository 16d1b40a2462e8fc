"""Every waiting call of the public library, each parked for real. Not a test module."""

from support.waits import forms, inside, outside  # noqa: F401  # they fill the table
from support.waits.table import TABLE, Case, Setup, World

__all__ = ["TABLE", "Case", "Setup", "World"]
