"""``bateau console``: a ``top`` for tasks, with who waits on what and who could free it.

What is shown is worked out in plain functions of a snapshot (``listing``, ``problems``, ``trends``); only ``app`` and ``screens`` need
textual, which comes with ``pip install bateau[console]``.
"""
