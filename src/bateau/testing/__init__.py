"""Tools for those who test what they built on bateau."""

from __future__ import annotations
