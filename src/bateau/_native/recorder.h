/* The flight recorder's ring, for the other parts of bateau._native: an engine written in C records without a call of Python's.
 *
 *     BateauRing *ring = bateau_ring_of(host_instrument);      NULL: none, or an observer written in Python, to be called as one
 *     if (ring != NULL) bateau_ring_tell(ring, str_wake, task);
 *
 * All of it under the GIL. Nothing here raises or changes a pending exception; what is not the bare step, wake and idle may run Python
 * code (a resource is asked who holds it). What each event means: bateau/kernel/instrument.py. What is written:
 * bateau/insight/recorder/layout.py.
 */
#ifndef BATEAU_RECORDER_H
#define BATEAU_RECORDER_H

#include "kernel.h"
#include <stdint.h>

typedef struct BateauRing BateauRing;

BateauRing *bateau_ring_of(PyObject *instrument);
/* `event`: the name of the instrument's method. `task`: NULL with str_idle. */
void bateau_ring_tell(BateauRing *ring, PyObject *event, Task *task);
/* str_step, as the engine's turn tells it: right after what it was told before, so that a task which parked has ended its step now. */
void bateau_ring_step(BateauRing *ring, uint64_t task);
void bateau_ring_idle(BateauRing *ring);

#endif
