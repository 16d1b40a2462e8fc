/* The timers of a plain engine: a binary heap whose timers know their place, so that cancelling one takes it out at once.

   Not so in a simulated engine: there a cancelled timer stays as a husk, as in the pure heap, until it comes to the head or
   the husks are the majority. The world's choices are asked whenever something comes soon, husks too, and the runs of both
   kernels are to be the same.

   The heap owns its timers. A timer's pointer to its engine is borrowed: it is reset when the timer leaves the heap, which
   it does at the latest when the engine drops all. */
#include "kernel.h"
#include <math.h>
#include <time.h>

int
engine_now(Engine *engine, double *now)
{
    if (engine->now != NULL && engine->now == kept[K_MONOTONIC]) { /* time.monotonic: the same clock, without the call */
        struct timespec spec;
        if (clock_gettime(CLOCK_MONOTONIC, &spec) == 0) {
            *now = (double)((long long)spec.tv_sec * 1000000000LL + spec.tv_nsec) / 1e9;
            return 0;
        }
    }
    if (engine->clock != NULL) {
        return clock_monotonic(engine->clock, now);
    }
    PyObject *value = is_set(engine->now) ? PyObject_CallNoArgs(engine->now)
                                          : PyObject_CallMethod((PyObject *)engine, "now", NULL);
    if (value == NULL) {
        return -1;
    }
    *now = PyFloat_AsDouble(value);
    Py_DECREF(value);
    return *now == -1.0 && PyErr_Occurred() ? -1 : 0;
}

static inline int
is_before(const Timer *a, const Timer *b)
{
    return a->when < b->when || (a->when == b->when && a->order < b->order);
}

static inline void
place(Engine *engine, Timer *timer, Py_ssize_t index)
{
    engine->heap[index] = timer;
    timer->index = index;
}

static void
sift_up(Engine *engine, Py_ssize_t index)
{
    Timer *timer = engine->heap[index];
    while (index > 0) {
        Py_ssize_t above = (index - 1) / 2;
        if (!is_before(timer, engine->heap[above])) {
            break;
        }
        place(engine, engine->heap[above], index);
        index = above;
    }
    place(engine, timer, index);
}

static void
sift_down(Engine *engine, Py_ssize_t index)
{
    Timer *timer = engine->heap[index];
    for (;;) {
        Py_ssize_t below = 2 * index + 1;
        if (below >= engine->timers) {
            break;
        }
        if (below + 1 < engine->timers && is_before(engine->heap[below + 1], engine->heap[below])) {
            below++;
        }
        if (!is_before(engine->heap[below], timer)) {
            break;
        }
        place(engine, engine->heap[below], index);
        index = below;
    }
    place(engine, timer, index);
}

/* Take a timer out of its heap; the heap's reference becomes the caller's. */
static void
take_out(Timer *timer)
{
    Engine *engine = timer->engine;
    Py_ssize_t index = timer->index;
    Timer *last = engine->heap[--engine->timers];
    timer->engine = NULL;
    if (last != timer) {
        place(engine, last, index);
        sift_up(engine, index);
        sift_down(engine, last->index);
    }
}

Timer *
engine_set_timer(Engine *engine, double when, PyObject *target)
{
    if (engine->timers == engine->heap_room) {
        Py_ssize_t room = engine->heap_room > 0 ? engine->heap_room * 2 : 16;
        if (room > PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(Timer *)) {
            return (Timer *)PyErr_NoMemory();
        }
        Timer **heap = PyMem_Realloc(engine->heap, (size_t)room * sizeof(Timer *));
        if (heap == NULL) {
            return (Timer *)PyErr_NoMemory();
        }
        engine->heap = heap;
        engine->heap_room = room;
    }
    Timer *timer = PyObject_GC_New(Timer, &TimerType); /* runs no code but the collector's */
    if (timer == NULL) {
        return NULL;
    }
    timer->when = when;
    timer->order = ++engine->timer_order;
    timer->target = Py_NewRef(target);
    timer->engine = NULL;
    timer->index = 0;
    /* Not shown to the collector: the heap owns it, and the engine drops its timers when it closes. */
    if (engine->timers == engine->heap_room) { /* a finaliser has set timers in between */
        Py_DECREF(timer);
        return engine_set_timer(engine, when, target);
    }
    timer->engine = engine;
    engine->heap[engine->timers] = (Timer *)Py_NewRef((PyObject *)timer);
    sift_up(engine, engine->timers++);
    return timer;
}

Timer *
engine_pop_timer(Engine *engine)
{
    Timer *timer = engine->heap[0];
    if (timer->target == NULL) {
        engine->husks--;
    }
    take_out(timer);
    return timer;
}

void
engine_drop_husks(Engine *engine)
{
    while (engine->timers > 0 && engine->heap[0]->target == NULL) {
        Py_DECREF(engine_pop_timer(engine)); /* it refers to nothing: no code runs */
    }
}

/* Take all husks out, and order what is left anew. */
static void
sweep(Engine *engine)
{
    Py_ssize_t left = 0;
    for (Py_ssize_t i = 0; i < engine->timers; i++) {
        Timer *timer = engine->heap[i];
        if (timer->target != NULL) {
            place(engine, timer, left++);
        } else {
            timer->engine = NULL;
            Py_DECREF(timer); /* it refers to nothing: no code runs */
        }
    }
    engine->timers = left;
    engine->husks = 0;
    for (Py_ssize_t i = left / 2 - 1; i >= 0; i--) {
        sift_down(engine, i);
    }
}

void
timer_cancel(Timer *timer)
{
    Engine *engine = timer->engine;
    if (engine == NULL || timer->target == NULL) {
        return;
    }
    PyObject *target = timer->target;
    timer->target = NULL;
    if (engine->world == NULL) {
        take_out(timer);
        Py_DECREF(timer);
    } else if (++engine->husks > 64 && engine->husks * 2 > engine->timers) { /* as Engine._timer_cancelled */
        sweep(engine);
    }
    Py_DECREF(target);
}

void
engine_drop_timers(Engine *engine)
{
    while (engine->timers > 0) {
        Timer *timer = engine->heap[engine->timers - 1];
        take_out(timer);
        Py_CLEAR(timer->target);
        Py_DECREF(timer);
    }
    engine->husks = 0;
    PyMem_Free(engine->heap);
    engine->heap = NULL;
    engine->heap_room = 0;
}

/* -- EngineTimer -------------------------------------------------------------------------------------------------------- */

#define TIMER_OBJECTS(X) X(target)

COLLECTED(static, timer, Timer, TIMER_OBJECTS, nothing)

static void
timer_dealloc(Timer *self)
{
    PyObject_GC_UnTrack(self);
    timer_clear(self);
    PyObject_GC_Del(self);
}

static PyObject *
timer_cancel_method(Timer *self, PyObject *Py_UNUSED(ignored))
{
    Py_INCREF(self);
    timer_cancel(self);
    Py_DECREF(self);
    Py_RETURN_NONE;
}

static PyMethodDef timer_methods[] = {
    {"cancel", (PyCFunction)timer_cancel_method, METH_NOARGS, "Never call it."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef timer_members[] = {
    {"when", Py_T_DOUBLE, offsetof(Timer, when), Py_READONLY, NULL},
    {"order", Py_T_LONGLONG, offsetof(Timer, order), Py_READONLY, NULL},
    {"fn", _Py_T_OBJECT, offsetof(Timer, target), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject TimerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.EngineTimer",
    .tp_doc = "One pending call.",
    .tp_basicsize = sizeof(Timer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)timer_dealloc,
    .tp_traverse = (traverseproc)timer_traverse,
    .tp_clear = (inquiry)timer_clear,
    .tp_members = timer_members,
    .tp_methods = timer_methods,
};

int
kernel_timer_ready(PyObject *module)
{
    return PyModule_AddType(module, &TimerType);
}
