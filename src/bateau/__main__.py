"""``python -m bateau``: the same as the ``bateau`` command, where that is not on the path (another interpreter's, a vendored folder)."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
