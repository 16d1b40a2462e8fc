"""A replicated key-value store: Raft on bateau's portable library. README.md says how to run it; read the files in this order.

- ``log.py``        entries, and the log in memory
- ``messages.py``   what nodes and clients tell each other, and how it goes over a stream
- ``consensus.py``  Raft's rules, as a state machine in which nothing waits
- ``storage.py``    what must survive a crash, in one file
- ``machine.py``    the key-value store that the log drives
- ``node.py``       a server: the five above, driven by real connections, a disk and a clock
- ``client.py``     a client, as a class and as a program
- ``server.py``     a server, as a program
"""
