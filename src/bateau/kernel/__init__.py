"""The kernel: tasks, scopes, cancellation and operations. It does no I/O and knows no host by name.

Read in this order: ``errors``, ``cancellation`` (the tree, and the only caller of ``deliver``), ``operation``
(how everything waits), ``host`` (the five things a host gives), ``task``, ``scope``, ``engine`` (the host
used where bateau itself drives).
"""
