"""A missed notify in `threading` code: the flag is looked at without the lock, and set and notified before the wait begins.

Modelled on the missed signal of the POSIX manual's page on `pthread_cond_wait`, and on bugs of hand-made queues. The explanation must
name the wait. Mended by looking under the lock.
"""

import threading

from support.bugs import Bug

BUG = Bug(seeds=40, error="Deadlock", proof=300)


class Mailbox:
    def __init__(self):
        self.condition = threading.Condition()
        self.letter = None

    def put(self, letter):
        with self.condition:
            self.letter = letter
            self.condition.notify()

    def take(self):
        if self.letter is None:
            with self.condition:
                self.condition.wait()  # <- named
        return self.letter


class CarefulMailbox(Mailbox):
    def take(self):
        with self.condition:
            self.condition.wait_for(lambda: self.letter is not None)
            return self.letter


def scenario(mailbox):
    taken = []
    reader = threading.Thread(target=lambda: taken.append(mailbox.take()))
    reader.start()
    mailbox.put("a letter")
    reader.join()
    assert taken == ["a letter"]


def buggy():
    scenario(Mailbox())


def mended():
    scenario(CarefulMailbox())
