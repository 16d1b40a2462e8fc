"""The ``bateau`` command. Each subcommand is a module with ``add_arguments`` and ``main``, imported when it is called."""

from __future__ import annotations

from .entry import main as main
