"""Threads count in a shared variable without a lock: read, add, write, and another's count is gone.

Modelled on the first example of every text on threads; here the read and the write stand in two statements with a call between
them, as in a counter that logs. The story must name the line between. Mended by a lock.
"""

import threading
import time

from support.bugs import Bug

BUG = Bug(seeds=40, says="were counted")


class Counter:
    def __init__(self):
        self.value = 0
        self.lock = threading.Lock()


def count(counter, pause):
    time.sleep(pause)
    before = counter.value
    time.sleep(0)  # <- named
    counter.value = before + 1


def count_locked(counter, pause):
    time.sleep(pause)
    with counter.lock:
        before = counter.value
        time.sleep(0)
        counter.value = before + 1


def scenario(count):
    counter = Counter()
    threads = [threading.Thread(target=count, args=(counter, pause)) for pause in (0.0, 0.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value == 2, f"only {counter.value} of 2 were counted"


def buggy():
    scenario(count)


def mended():
    scenario(count_locked)
