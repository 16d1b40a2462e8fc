"""Faults of async code that can be seen before it runs.

``bateau lint`` is the command; ``check_paths`` and ``check_source`` are the same for programs. A rule has the name of the hazard that it finds, which
reports at run time, the console and the book share. It tells only of what is wrong as it is written, or nearly surely so. Nothing is imported or
run, and nothing but Python's own library is needed.
"""

from __future__ import annotations

from .diagnostic import Diagnostic as Diagnostic
from .engine import NoSuchPath as NoSuchPath
from .engine import Report as Report
from .engine import check_paths as check_paths
from .engine import check_source as check_source
from .rules import RULES as RULES
from .rules import Rule as Rule
from .settings import BadSettings as BadSettings
from .settings import Settings as Settings

__all__ = [
    "RULES",
    "BadSettings",
    "Diagnostic",
    "NoSuchPath",
    "Report",
    "Rule",
    "Settings",
    "check_paths",
    "check_source",
]
