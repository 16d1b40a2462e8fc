/* The flight recorder's ring, for the other parts of bateau._native: an engine written in C records without a call of Python's.
 *
 *     BateauRing *ring = bateau_ring_of(host_instrument);      NULL: none, or an observer written in Python, to be called as one
 *     if (ring != NULL) bateau_ring_step(ring, task_id);
 *
 * All of it under the GIL. Nothing here raises or changes a pending exception. What each call means: bateau/kernel/instrument.py.
 * What is written: bateau/insight/recorder/layout.py.
 */
#ifndef BATEAU_RECORDER_H
#define BATEAU_RECORDER_H

#include "native.h"
#include <stdint.h>

typedef struct BateauRing BateauRing;

BateauRing *bateau_ring_of(PyObject *instrument);
void bateau_ring_step(BateauRing *ring, uint64_t task);
void bateau_ring_idle(BateauRing *ring);
void bateau_ring_wake(BateauRing *ring, uint64_t task);
/* `operation`: what the task waits on, NULL for something foreign. The stack is taken from the running frames, so call it while
 * the task is running; with none of it running, the stack is read from `coro` (NULL: there is none to read). */
void bateau_ring_park(BateauRing *ring, uint64_t task, PyObject *operation, PyObject *coro);

#endif
