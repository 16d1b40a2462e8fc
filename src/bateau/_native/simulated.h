/* The structs of the simulator's twin; simulated.c has the theory. */
#ifndef BATEAU_SIMULATED_H
#define BATEAU_SIMULATED_H

#include "kernel.h"

#define WORLD_OBJECTS(X)                                                                                               \
    X(strategy) X(walk) X(asked) X(choices) X(checks) X(heap) X(after_step) X(at_block) X(ready) X(thread) X(now)

/* bateau.sim.world.World: what each step looks at. The rest of it is in its instance dictionary. */
typedef struct {
    PyObject_HEAD
    PyObject *strategy, *walk, *asked, *choices, *checks, *heap, *after_step, *at_block, *ready, *thread, *now;
    long long steps, steps_at_jump, attend_at, order;
    long long looks, steps_at_look, looks_without_step, looks_at_once;
    unsigned long long roll;
    double stall, yields, looked_at;
    char over, detailed, in_event;
} World;

#define EVENT_OBJECTS(X) X(when) X(fn) X(args)

/* A function to be called at a moment of virtual time; `moment` is what `when` is. */
typedef struct {
    PyObject_HEAD
    PyObject *when, *fn, *args;
    double moment;
    long long order;
    char background;
} Event;

/* bateau.sim.host.HostClock. */
typedef struct {
    PyObject_HEAD
    PyObject *world;
    double rate, at, monotonic, wall;
} Clock;

extern PyTypeObject WorldType, EventType, ClockType;

#endif
