"""``python -m bateau.cli``: the same as the ``bateau`` command."""

from __future__ import annotations

import sys

from . import main

sys.exit(main())
