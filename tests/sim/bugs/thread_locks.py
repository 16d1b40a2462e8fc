"""Threads take two locks in both orders: the circular wait again, this time in plain `threading` code.

Modelled on the deadlocks of "Learning from Mistakes" (Lu and others, 2008), nearly all of which involve two threads and two locks. The explanation must name both
acquisitions. Mended by one order.
"""

import threading

from support.bugs import Bug

BUG = Bug(seeds=40, error="Deadlock")


def work(first, second):
    with first:
        with second:  # <- named
            pass


def scenario(*orders):
    a, b = threading.Lock(), threading.Lock()
    locks = {"a": a, "b": b}
    threads = [threading.Thread(target=work, args=[locks[name] for name in order]) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def buggy():
    scenario("ab", "ba")


def mended():
    scenario("ab", "ab")
