"""What goes wrong in reading a program or asking its agent: apart from the snapshot, for who only asks for a text need not load that."""

from __future__ import annotations


class InsightError(Exception):
    """What goes wrong in reading or asking; the message says what to do."""


class ReadError(InsightError):
    """A program could not be read: it is gone, access is denied, or it runs no Python that this reader knows."""


class SchemaError(InsightError, ValueError):
    """Data that claims to be a snapshot, and is none; the message names the place (``tasks[3].state``)."""
