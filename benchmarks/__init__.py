"""Side-by-side benchmarks: bateau beside asyncio, uvloop, trio and anyio.

Run with ``python -m benchmarks``; ``benchmarks/README.md`` says how to read what it prints.
"""
