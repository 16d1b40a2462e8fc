"""Real ``threading`` code in a world: its threads are simulated ones, and what they wait for is the world's.

What a program says stays ``threading``'s own Python (``Thread``, ``Condition``, ``Event``, ``queue.Queue``, executors); what that stands
on is replaced: locks (``locks``), the start and the end of threads and who is the current one (``table``), C's ``SimpleQueue``
(``queues``), and the pools that a process shares (``table``, ``executors``). ``adopting`` finds the locks that modules made before any
world was open. ``tracing`` adds choices at each line or opcode. The doors are in ``sim/doors/threads.py``.

Every operation on a lock, and whatever else threads synchronise by, is a ``World.point``: others may run first. Nothing else switches
threads, unless the option ``threads="lines"`` (or ``"opcodes"``) asks for more.
"""
