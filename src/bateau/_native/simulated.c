/* The simulator's hot paths: a world's clock, events and choices, and the turn of an engine in it.

   Theory of operation. `sim/world.py`, `sim/timeline.py`, `sim/host.py` and `sim/runtime.py` define the behaviour; here are the fields that are read at
   each step, and the methods that are called at each. An engine is *simulated* if its `world` is set. It is plain as well (its
   `ready` is our Ring) unless its strategy looks inside of steps, which it can't do here. Then its turn is `simulated_turn`:
   who steps next is asked of the world (`ask_step`), and the world is told of each step. Where nothing else can happen than
   that time passes, `run_ahead` goes on from turn to turn by itself.

   Same seed, same trace, on both kernels: each question is asked here exactly where the pure code asks it, also those about a
   timer that was cancelled (its husk stays in the heap, see timer.c), and floats are added and multiplied in the same order
   (setup.py turns off contraction, which would round once where Python rounds twice).

   The world's `now` and an event's `when` are kept as the objects that they were given as: the digest shows them.

   Ownership as in kernel.h. An Event in the heap is owned by the list. */
#include "simulated.h"
#include "recorder.h"
#include <math.h>

/* -- events --------------------------------------------------------------------------------------------------------------- */

COLLECTED(static, event, Event, EVENT_OBJECTS, nothing)

static void
event_dealloc(Event *self)
{
    PyObject_GC_UnTrack(self);
    event_clear(self);
    PyObject_GC_Del(self);
}

static int
is_before(const Event *a, const Event *b)
{
    return a->moment < b->moment || (a->moment == b->moment && a->order < b->order);
}

static PyObject *
event_compare(PyObject *self, PyObject *other, int how)
{
    if (how != Py_LT || !Py_IS_TYPE(other, &EventType)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return PyBool_FromLong(is_before((Event *)self, (Event *)other));
}

static PyObject *
event_cancel(Event *self, PyObject *Py_UNUSED(ignored))
{
    put(self->fn, NULL);
    put(self->args, NULL);
    Py_RETURN_NONE;
}

static PyMethodDef event_methods[] = {
    {"cancel", (PyCFunction)event_cancel, METH_NOARGS, "Never call it. Idempotent."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef event_members[] = {
    FIELD(Event, when, "when"),
    FIELD(Event, fn, "fn"),
    FIELD(Event, args, "args"),
    {"order", Py_T_LONGLONG, offsetof(Event, order), Py_READONLY, NULL},
    {"background", Py_T_BOOL, offsetof(Event, background), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject EventType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.WorldEvent",
    .tp_doc = "A function to be called at a moment of virtual time.",
    .tp_basicsize = sizeof(Event),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)event_dealloc,
    .tp_traverse = (traverseproc)event_traverse,
    .tp_clear = (inquiry)event_clear,
    .tp_richcompare = event_compare,
    .tp_members = event_members,
    .tp_methods = event_methods,
};

/* -- the heap of events: a list, ordered as heapq orders it ---------------------------------------------------------------- */

/* The event at `index`, borrowed; NULL with an exception if something else is there. */
static Event *
event_at(PyObject *heap, Py_ssize_t index)
{
    PyObject *item = PyList_GET_ITEM(heap, index);
    if (!Py_IS_TYPE(item, &EventType)) {
        PyErr_Format(PyExc_TypeError, "a %s is in the heap of events", Py_TYPE(item)->tp_name);
        return NULL;
    }
    return (Event *)item;
}

static int
is_heap(PyObject *heap)
{
    if (heap == NULL || !PyList_CheckExact(heap)) {
        PyErr_SetString(PyExc_TypeError, "the heap of events is no list");
        return 0;
    }
    return 1;
}

static int
heap_push(PyObject *heap, Event *event)
{
    if (PyList_Append(heap, (PyObject *)event) < 0) {
        return -1;
    }
    PyObject **items = ((PyListObject *)heap)->ob_item;
    Py_ssize_t index = PyList_GET_SIZE(heap) - 1;
    while (index > 0) {
        Py_ssize_t above = (index - 1) / 2;
        if (!is_before(event, (Event *)items[above])) {
            break;
        }
        items[index] = items[above];
        index = above;
    }
    items[index] = (PyObject *)event;
    return 0;
}

/* Take out the first: a new reference, or NULL with an exception. */
static Event *
heap_pop(PyObject *heap)
{
    Py_ssize_t size = PyList_GET_SIZE(heap) - 1;
    PyObject **items = ((PyListObject *)heap)->ob_item;
    Event *first = (Event *)Py_NewRef(items[0]), *last = (Event *)Py_NewRef(items[size]);
    if (PyList_SetSlice(heap, size, size + 1, NULL) < 0) {
        Py_DECREF(first);
        Py_DECREF(last);
        return NULL;
    }
    if (size == 0) {
        Py_DECREF(last);
        return first;
    }
    Py_ssize_t index = 0;
    items = ((PyListObject *)heap)->ob_item;
    for (;;) {
        Py_ssize_t below = 2 * index + 1;
        if (below >= size) {
            break;
        }
        if (below + 1 < size && is_before((Event *)items[below + 1], (Event *)items[below])) {
            below++;
        }
        if (!is_before((Event *)items[below], last)) {
            break;
        }
        items[index] = items[below];
        index = below;
    }
    items[index] = (PyObject *)last;
    Py_DECREF(first); /* the list's reference to it; the caller's is left */
    return first;
}

/* -- the world's fields ----------------------------------------------------------------------------------------------------- */

COLLECTED(static, world, World, WORLD_OBJECTS, nothing)

static void
world_dealloc(World *self)
{
    PyObject_GC_UnTrack(self);
    world_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int
double_of(PyObject *object, double *value)
{
    if (object != NULL && PyFloat_CheckExact(object)) {
        *value = PyFloat_AS_DOUBLE(object);
        return 0;
    }
    if (object == NULL) {
        PyErr_SetString(PyExc_TypeError, "the time of a simulated world or event was taken away");
        return -1;
    }
    *value = PyFloat_AsDouble(object);
    return *value == -1.0 && PyErr_Occurred() ? -1 : 0;
}

/* -- time --------------------------------------------------------------------------------------------------------------------- */

static Event *
make_event(World *self, PyObject *when, PyObject *fn, PyObject *const *args, Py_ssize_t count)
{
    double moment, now;
    if (!is_heap(self->heap) || double_of(when, &moment) < 0 || double_of(self->now, &now) < 0) {
        return NULL;
    }
    PyObject *tuple = PyTuple_New(count);
    Event *event = tuple != NULL ? PyObject_GC_New(Event, &EventType) : NULL;
    if (event == NULL) {
        Py_XDECREF(tuple);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    }
    int late = moment > now; /* also false for a NaN, as in `when if when > self.now else self.now` */
    event->when = Py_NewRef(late ? when : self->now);
    event->moment = late ? moment : now;
    event->fn = Py_NewRef(fn);
    event->args = tuple;
    event->order = ++self->order;
    event->background = 0;
    PyObject_GC_Track(event);
    if (heap_push(self->heap, event) < 0) {
        Py_CLEAR(event);
    }
    return event;
}

static PyObject *
world_at(World *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 2) {
        PyErr_Format(PyExc_TypeError, "at takes a time and a function, not %zd arguments", nargs);
        return NULL;
    }
    return (PyObject *)make_event(self, args[0], args[1], args + 2, nargs - 2);
}

static PyObject *
world_after(World *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 2) {
        PyErr_Format(PyExc_TypeError, "after takes a delay and a function, not %zd arguments", nargs);
        return NULL;
    }
    double now;
    PyObject *when = double_of(self->now, &now) < 0 ? NULL : PyNumber_Add(self->now, args[0]);
    if (when == NULL) {
        return NULL;
    }
    Event *event = make_event(self, when, args[1], args + 2, nargs - 2);
    Py_DECREF(when);
    return (PyObject *)event;
}

/* The first event that was not cancelled, borrowed, after the husks before it were dropped; 0 and NULL if there is none. */
static int
first_event(World *self, Event **found)
{
    *found = NULL;
    if (!is_heap(self->heap)) {
        return -1;
    }
    while (PyList_GET_SIZE(self->heap) > 0) {
        Event *event = event_at(self->heap, 0);
        if (event == NULL) {
            return -1;
        }
        if (is_set(event->fn)) {
            *found = event;
            return 0;
        }
        event = heap_pop(self->heap);
        if (event == NULL) {
            return -1;
        }
        Py_DECREF(event);
    }
    return 0;
}

static PyObject *
world_next_event(World *self, PyObject *Py_UNUSED(ignored))
{
    Event *event;
    if (first_event(self, &event) < 0) {
        return NULL;
    }
    return Py_NewRef(event != NULL && event->when != NULL ? event->when : Py_None);
}

/* Call a method of the world for its effect: 0, or -1 with an exception. */
static int
tell_world(World *self, PyObject *name, PyObject *argument)
{
    PyObject *result = PyObject_CallMethodObjArgs((PyObject *)self, name, argument, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Whether there are invariants to be asked; -1 with an exception. */
static int
has_checks(World *self)
{
    PyObject *checks = self->checks;
    if (checks == NULL) {
        return 0;
    }
    return PyList_CheckExact(checks) ? PyList_GET_SIZE(checks) > 0 : PyObject_IsTrue(checks);
}

static int
run_due(World *self)
{
    for (;;) {
        double now;
        if (!is_heap(self->heap) || double_of(self->now, &now) < 0) {
            return -1;
        }
        if (PyList_GET_SIZE(self->heap) == 0) {
            return 0;
        }
        Event *event = event_at(self->heap, 0);
        if (event == NULL) {
            return -1;
        }
        if (!(event->moment <= now)) {
            return 0;
        }
        event = heap_pop(self->heap);
        if (event == NULL) {
            return -1;
        }
        PyObject *fn = event->fn, *args = Py_XNewRef(event->args);
        event->fn = NULL;
        if (!is_set(fn)) {
            Py_XDECREF(fn);
            Py_XDECREF(args);
            Py_DECREF(event);
            continue;
        }
        char outer = self->in_event;
        self->in_event = 1;
        PyObject *result = PyObject_CallObject(fn, args);
        self->in_event = outer;
        Py_DECREF(fn);
        Py_XDECREF(args);
        Py_DECREF(event);
        if (result == NULL) {
            return -1;
        }
        Py_DECREF(result);
        int checks = has_checks(self);
        if (checks < 0 || (checks && tell_world(self, str_check, NULL) < 0)) {
            return -1;
        }
    }
}

static PyObject *
world_run_due(World *self, PyObject *Py_UNUSED(ignored))
{
    if (run_due(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
jump(World *self, PyObject *when)
{
    double moment, now;
    if (double_of(when, &moment) < 0 || double_of(self->now, &now) < 0) {
        return -1;
    }
    if (moment > now) {
        put(self->now, when);
    }
    self->steps_at_jump = self->steps;
    return run_due(self);
}

static PyObject *
world_jump(World *self, PyObject *when)
{
    if (jump(self, when) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* -- choices -------------------------------------------------------------------------------------------------------------------- */

/* How many questions this stream had; counts one more. -1 with an exception. */
static long long
count_question(World *self, PyObject *stream)
{
    if (self->asked == NULL || !PyDict_CheckExact(self->asked)) {
        PyErr_SetString(PyExc_TypeError, "the world's questions are no dictionary");
        return -1;
    }
    PyObject *known = PyDict_GetItemWithError(self->asked, stream);
    long long index = 0;
    if (known != NULL) {
        index = PyLong_AsLongLong(known);
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    PyObject *next = PyLong_FromLongLong(index + 1);
    int status = next != NULL ? PyDict_SetItem(self->asked, stream, next) : -1;
    Py_XDECREF(next);
    return status < 0 ? -1 : index;
}

/* Keep a non-zero answer: a new reference of it stays in the table. */
static int
record(World *self, PyObject *stream, long long index, long long value)
{
    if (self->choices == NULL || !PyDict_CheckExact(self->choices)) {
        PyErr_SetString(PyExc_TypeError, "the world's choices are no dictionary");
        return -1;
    }
    PyObject *table = PyDict_GetItemWithError(self->choices, stream);
    if (table == NULL) {
        table = PyErr_Occurred() ? NULL : PyDict_New();
        int status = table != NULL ? PyDict_SetItem(self->choices, stream, table) : -1;
        Py_XDECREF(table); /* the dictionary of choices has it */
        if (status < 0) {
            return -1;
        }
    }
    Py_INCREF(table);
    PyObject *key = PyLong_FromLongLong(index), *answer = PyLong_FromLongLong(value);
    int status = key != NULL && answer != NULL ? PyObject_SetItem(table, key, answer) : -1;
    Py_XDECREF(key);
    Py_XDECREF(answer);
    Py_DECREF(table);
    /* Modulo 2**48, of which 2**64 is a multiple: what overflows was not to be seen anyway. */
    self->roll = (self->roll * 1000003u + (unsigned long long)value * 31u + (unsigned long long)index) & 0xFFFFFFFFFFFFull;
    return status;
}

/* A random walk's next number: 0, or -1 with an exception. `which`: its place in `walk`. */
static int
draw(PyObject *walk, int which, double *drawn)
{
    PyObject *value = PyObject_CallNoArgs(PyTuple_GET_ITEM(walk, which));
    if (value == NULL) {
        return -1;
    }
    int status = double_of(value, drawn);
    Py_DECREF(value);
    return status;
}

/* What `Random` would answer, from its own generators (see `Seeded.walk`): (order, faults, waits, scale). */
enum { WALK_ORDER, WALK_FAULTS, WALK_WAITS, WALK_SCALE, WALK_SIZE };

static inline int
is_walk(PyObject *walk)
{
    return is_set(walk) && PyTuple_CheckExact(walk) && PyTuple_GET_SIZE(walk) == WALK_SIZE &&
           PyFloat_CheckExact(PyTuple_GET_ITEM(walk, WALK_WAITS)) && PyFloat_CheckExact(PyTuple_GET_ITEM(walk, WALK_SCALE));
}

/* Who of the `n` in `ready` runs next; `n`: nobody yet. -1 with an exception. */
static Py_ssize_t
ask_step(World *self, PyObject *stream, PyObject *ready, Py_ssize_t n, int may_wait)
{
    long long index = count_question(self, stream), value;
    if (index < 0) {
        return -1;
    }
    if (is_walk(self->walk)) {
        double drawn;
        if (draw(self->walk, WALK_ORDER, &drawn) < 0) {
            return -1;
        }
        if (may_wait) {
            drawn = (drawn - PyFloat_AS_DOUBLE(PyTuple_GET_ITEM(self->walk, WALK_WAITS))) *
                    PyFloat_AS_DOUBLE(PyTuple_GET_ITEM(self->walk, WALK_SCALE));
        }
        value = drawn < 0 ? n : (long long)(drawn * (double)n);
    } else {
        PyObject *answer = PyObject_CallMethodObjArgs(self->strategy, str_step, stream, ready,
                                                      may_wait ? Py_True : Py_False, NULL);
        if (answer == NULL) {
            return -1;
        }
        value = PyLong_AsLongLong(answer);
        Py_DECREF(answer);
        if (value == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    if (value) {
        if (record(self, stream, index, value) < 0) {
            return -1;
        }
        if (self->detailed) {
            PyObject *number = PyLong_FromLongLong(value);
            PyObject *result = number == NULL ? NULL
                                              : PyObject_CallMethodObjArgs((PyObject *)self, str__note_choice, stream,
                                                                           ready, number, NULL);
            Py_XDECREF(number);
            Py_XDECREF(result);
            if (result == NULL) {
                return -1;
            }
        }
        if (value < 0) {
            PyErr_Format(PyExc_ValueError, "the strategy's answer must not be negative, and was %lld", value);
            return -1;
        }
    }
    return (Py_ssize_t)value;
}

static PyObject *
world_choose_step(World *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "choose_step takes 3 arguments, not %zd", nargs);
        return NULL;
    }
    if (!is_set(self->strategy)) {
        return PyLong_FromLong(0);
    }
    Py_ssize_t n = PyObject_Size(args[1]);
    int may_wait = PyObject_IsTrue(args[2]);
    if (n < 0 || may_wait < 0) {
        return NULL;
    }
    Py_ssize_t value = ask_step(self, args[0], args[1], n, may_wait);
    return value < 0 ? NULL : PyLong_FromSsize_t(value);
}

/* Whether a fault of probability `p` (also given as the `object`, or NULL) happens: 0 or 1, or -1 with an exception. */
static int
ask_chance(World *self, PyObject *stream, double p, PyObject *object)
{
    if (!is_set(self->strategy) || p <= 0) {
        return 0;
    }
    long long index = count_question(self, stream), value;
    if (index < 0) {
        return -1;
    }
    if (is_walk(self->walk)) {
        double drawn;
        if (draw(self->walk, WALK_FAULTS, &drawn) < 0) {
            return -1;
        }
        value = drawn < p;
    } else {
        PyObject *given = object != NULL ? Py_NewRef(object) : PyFloat_FromDouble(p);
        PyObject *answer =
            given == NULL ? NULL : PyObject_CallMethodObjArgs(self->strategy, str_chance, stream, given, NULL);
        Py_XDECREF(given);
        if (answer == NULL) {
            return -1;
        }
        value = PyLong_AsLongLong(answer);
        Py_DECREF(answer);
        if (value == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    if (value && record(self, stream, index, value) < 0) {
        return -1;
    }
    return value != 0;
}

static PyObject *
world_chance(World *self, PyObject *const *args, Py_ssize_t nargs)
{
    double p;
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "chance takes 2 arguments, not %zd", nargs);
        return NULL;
    }
    if (double_of(args[1], &p) < 0) {
        return NULL;
    }
    int happens = ask_chance(self, args[0], p, args[1]);
    return happens < 0 ? NULL : PyBool_FromLong(happens);
}

/* -- who runs -------------------------------------------------------------------------------------------------------------------- */

/* The value of a boolean attribute, or -1 with an exception. */
static int
flag(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL) {
        return -1;
    }
    int truth = value == Py_True ? 1 : value == Py_False ? 0 : PyObject_IsTrue(value);
    Py_DECREF(value);
    return truth;
}

/* The next event comes: 1. Its error ends the run: then 1 too. 0: that is for the pure method. -1 with an exception. */
static int
pass_to_event(World *self)
{
    Event *event;
    if (first_event(self, &event) < 0) {
        return -1;
    }
    if (event == NULL || event->background) {
        return 0;
    }
    PyObject *when = Py_XNewRef(event->when);
    int status = jump(self, when);
    Py_XDECREF(when);
    if (status < 0) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        PyObject *error = take_raised();
        status = tell_world(self, str_end_with, error);
        Py_DECREF(error);
        if (status < 0) {
            return -1;
        }
    }
    return 1;
}

/* Where one thread is ready, or none and an event will come. Choices, and the dead, are for the pure method, which begins anew. */
static PyObject *
world_next_thread(World *self, PyObject *Py_UNUSED(ignored))
{
    int follows = is_set(self->strategy) && !is_walk(self->walk) ? flag(self->strategy, str_follows) : 0;
    while (follows == 0) {
        Py_ssize_t count = PyObject_Size(self->ready);
        if (count < 0) {
            return NULL;
        }
        if (count > 1) {
            break;
        }
        if (count == 0) {
            int passed = pass_to_event(self);
            if (passed < 0) {
                return NULL;
            }
            if (passed == 0) {
                break;
            }
            continue;
        }
        PyObject *first = PySequence_GetItem(self->ready, 0);
        PyObject *process = first != NULL ? PyObject_GetAttr(first, str_process) : NULL;
        int dead = process != NULL ? flag(process, str_dead) : -1;
        Py_XDECREF(process);
        Py_XDECREF(first);
        if (dead < 0) {
            return NULL;
        }
        if (dead) {
            break;
        }
        return PyObject_CallMethodNoArgs(self->ready, str_popleft);
    }
    return follows < 0 ? NULL : PyObject_CallOneArg(kept[K_NEXT_THREAD], (PyObject *)self);
}

/* A program looks at a clock. Once it does so too often, the pure method says what then. */
#define MANY_LOOKS 9999 /* below STEPS_BEFORE_CREEP and MOST_IDLE_LOOKS of sim/world.py */

static PyObject *
world_look(World *self, PyObject *Py_UNUSED(ignored))
{
    double now;
    if (double_of(self->now, &now) < 0) {
        return NULL;
    }
    long long without_step = self->steps != self->steps_at_look ? 0 : self->looks_without_step;
    long long at_once = now != self->looked_at ? 0 : self->looks_at_once;
    if (without_step >= MANY_LOOKS || at_once >= MANY_LOOKS) {
        return PyObject_CallOneArg(kept[K_LOOK], (PyObject *)self);
    }
    self->looks++;
    self->steps_at_look = self->steps;
    self->looks_without_step = without_step + 1;
    self->looked_at = now;
    self->looks_at_once = at_once + 1;
    Py_RETURN_NONE;
}

static PyMethodDef world_methods[] = {
    {"look", (PyCFunction)world_look, METH_NOARGS, "A program looks at a clock."},
    {"next_thread", (PyCFunction)world_next_thread, METH_NOARGS,
     "The scheduler: who goes on. Lets time pass until somebody can."},
    {"at", (PyCFunction)(void (*)(void))world_at, METH_FASTCALL, "Call ``fn(*args)`` in the scheduler at virtual time ``when``."},
    {"after", (PyCFunction)(void (*)(void))world_after, METH_FASTCALL, "``at``, ``delay`` seconds from now."},
    {"next_event", (PyCFunction)world_next_event, METH_NOARGS, "When the next event comes, or None."},
    {"run_due", (PyCFunction)world_run_due, METH_NOARGS, "Call what is due now."},
    {"jump", (PyCFunction)world_jump, METH_O, "Let the clock go on to ``when`` and call what is due."},
    {"choose_step", (PyCFunction)(void (*)(void))world_choose_step, METH_FASTCALL, "Who of ``ready`` runs next."},
    {"chance", (PyCFunction)(void (*)(void))world_chance, METH_FASTCALL, "A fault decision."},
    {NULL, NULL, 0, NULL},
};

#define COUNT(member, name) {name, Py_T_LONGLONG, offsetof(World, member), 0, NULL}

static PyMemberDef world_members[] = {
    FIELD_SET(World, strategy, "strategy"),
    FIELD_SET(World, walk, "_walk"),
    FIELD_SET(World, asked, "asked"),
    FIELD_SET(World, choices, "choices"),
    FIELD_SET(World, checks, "checks"),
    FIELD_SET(World, heap, "_heap"),
    FIELD_SET(World, after_step, "after_step"),
    FIELD_SET(World, at_block, "at_block"),
    FIELD_SET(World, ready, "ready"),
    FIELD_SET(World, thread, "thread"),
    FIELD_SET(World, now, "now"),
    COUNT(steps, "steps"),
    COUNT(steps_at_jump, "_steps_at_jump"),
    COUNT(attend_at, "_attend_at"),
    COUNT(order, "_order"),
    COUNT(looks, "looks"),
    COUNT(steps_at_look, "_steps_at_look"),
    COUNT(looks_without_step, "_looks_without_step"),
    COUNT(looks_at_once, "_looks_at_once"),
    {"_looked_at", Py_T_DOUBLE, offsetof(World, looked_at), 0, NULL},
    {"_roll", Py_T_LONGLONG, offsetof(World, roll), 0, NULL},
    {"stall", Py_T_DOUBLE, offsetof(World, stall), 0, NULL},
    {"yields", Py_T_DOUBLE, offsetof(World, yields), 0, NULL},
    {"over", Py_T_BOOL, offsetof(World, over), 0, NULL},
    {"detailed", Py_T_BOOL, offsetof(World, detailed), 0, NULL},
    {"in_event", Py_T_BOOL, offsetof(World, in_event), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject WorldType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.WorldFields",
    .tp_basicsize = sizeof(World),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)world_dealloc,
    .tp_traverse = (traverseproc)world_traverse,
    .tp_clear = (inquiry)world_clear,
    .tp_members = world_members,
    .tp_methods = world_methods,
};

/* -- the clock of a host ---------------------------------------------------------------------------------------------------------- */

#define CLOCK_OBJECTS(X) X(world)

COLLECTED(static, clock, Clock, CLOCK_OBJECTS, nothing)

static void
clock_dealloc(Clock *self)
{
    PyObject_GC_UnTrack(self);
    clock_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static World *
clock_world(Clock *self)
{
    if (self->world == NULL || !PyObject_TypeCheck(self->world, &WorldType)) {
        PyErr_SetString(PyExc_TypeError, "a host's clock needs a simulated world");
        return NULL;
    }
    return (World *)self->world;
}

int
clock_monotonic(PyObject *clock, double *value)
{
    if (!PyObject_TypeCheck(clock, &ClockType)) {
        PyErr_SetString(PyExc_TypeError, "a simulated engine needs the clock of a simulated host");
        return -1;
    }
    Clock *self = (Clock *)clock;
    World *world = clock_world(self);
    double now;
    if (world == NULL || double_of(world->now, &now) < 0) {
        return -1;
    }
    *value = self->monotonic + (now - self->at) * self->rate;
    return 0;
}

/* HostClock.world_time_at; a new reference: the world's own `now` where that is it. */
static PyObject *
clock_world_time_at(Clock *self, double monotonic)
{
    World *world = clock_world(self);
    double now;
    if (world == NULL || double_of(world->now, &now) < 0) {
        return NULL;
    }
    double when = self->at + (monotonic - self->monotonic) / self->rate;
    while (self->monotonic + (when - self->at) * self->rate < monotonic) {
        when = nextafter(when, Py_HUGE_VAL);
    }
    return now > when ? Py_NewRef(world->now) : PyFloat_FromDouble(when); /* as max(when, now): the first of equals */
}

static PyObject *
clock_monotonic_method(Clock *self, PyObject *Py_UNUSED(ignored))
{
    double value;
    return clock_monotonic((PyObject *)self, &value) < 0 ? NULL : PyFloat_FromDouble(value);
}

static PyObject *
clock_world_time_at_method(Clock *self, PyObject *monotonic)
{
    double value;
    return double_of(monotonic, &value) < 0 ? NULL : clock_world_time_at(self, value);
}

static PyMethodDef clock_methods[] = {
    {"monotonic", (PyCFunction)clock_monotonic_method, METH_NOARGS,
     "As ``time.monotonic()`` on this host; it starts at 0 with the world."},
    {"world_time_at", (PyCFunction)clock_world_time_at_method, METH_O,
     "The first virtual time at which ``monotonic()`` is at least the given value."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef clock_members[] = {
    FIELD_SET(Clock, world, "world"),
    {"rate", Py_T_DOUBLE, offsetof(Clock, rate), 0, NULL},
    {"_at", Py_T_DOUBLE, offsetof(Clock, at), 0, NULL},
    {"_monotonic", Py_T_DOUBLE, offsetof(Clock, monotonic), 0, NULL},
    {"_wall", Py_T_DOUBLE, offsetof(Clock, wall), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject ClockType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.ClockFields",
    .tp_basicsize = sizeof(Clock),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)clock_dealloc,
    .tp_traverse = (traverseproc)clock_traverse,
    .tp_clear = (inquiry)clock_clear,
    .tp_members = clock_members,
    .tp_methods = clock_methods,
};

/* -- the turn ------------------------------------------------------------------------------------------------------------------------ */

/* Whether something comes so soon that time may go on although somebody could run. */
static int
may_time_pass(Engine *self, World *world, double soon, double soon_outside)
{
    if (self->timers > 0 && self->heap[0]->when <= soon) {
        return 1;
    }
    if (!is_heap(world->heap)) {
        return -1;
    }
    if (PyList_GET_SIZE(world->heap) == 0) {
        return 0;
    }
    Event *event = event_at(world->heap, 0);
    return event == NULL ? -1 : event->moment <= soon_outside;
}

/* Who steps next, taken out of the queue (a new reference). NULL without an exception: time went on instead. */
static PyObject *
take_next(Engine *self, World *world, Ring *ready, double soon, double soon_outside)
{
    if (!is_set(world->strategy)) {
        return ring_shift(ready);
    }
    int may_wait = may_time_pass(self, world, soon, soon_outside);
    Py_ssize_t index = 0, n = ready->size;
    if (may_wait < 0) {
        return NULL;
    }
    if (n > 1 || may_wait) {
        index = ask_step(world, self->stream, (PyObject *)ready, n, may_wait);
        if (index < 0) {
            return NULL;
        }
        if (index >= n) {
            PyObject *until = PyObject_CallMethodNoArgs((PyObject *)self, str__first_timer);
            if (until != NULL) {
                tell_world(world, str_let_time_pass, until);
                Py_DECREF(until);
            }
            return NULL;
        }
    } else if (!is_walk(world->walk)) {
        int follows = flag(world->strategy, str_follows);
        if (follows > 0) {
            PyObject *only = PyObject_GetItem((PyObject *)ready, Py_False); /* the first */
            PyObject *result = only == NULL ? NULL
                                            : PyObject_CallMethodObjArgs(world->strategy, str_only, self->stream, only, NULL);
            Py_XDECREF(only);
            Py_XDECREF(result);
            follows = result == NULL ? -1 : 1;
        }
        if (follows < 0) {
            return NULL;
        }
    }
    PyObject *task = ring_take(ready, index);
    if (task == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the strategy has changed the queue of ready tasks");
    }
    return task;
}

/* The world hears of a step: what World.stepped does, and what must be before anything else is stepped. */
static int
tell_of_step(Engine *self, World *world, PyObject *task)
{
    if (is_set(self->after_step)) {
        PyObject *result = PyObject_CallOneArg(self->after_step, task);
        Py_XDECREF(result);
        if (result == NULL) {
            return -1;
        }
    }
    world->steps++;
    if (is_set(world->after_step)) {
        PyObject *result = PyObject_CallFunctionObjArgs(world->after_step, self->process, task, NULL);
        Py_XDECREF(result);
        if (result == NULL) {
            return -1;
        }
    }
    int checks = has_checks(world);
    if (checks < 0 || (checks && tell_world(world, str_check, NULL) < 0)) {
        return -1;
    }
    if (world->steps >= world->attend_at && tell_world(world, str__attend, NULL) < 0) {
        return -1;
    }
    int dead = world->over ? 1 : flag(self->process, str_dead);
    return dead <= 0 ? dead : tell_world(world, str_before_call, world->thread);
}

int
simulated_turn(Engine *self, Running *running, long budget)
{
    if (engine_run_what_is_due(self) < 0) {
        return -1;
    }
    if (!PyObject_TypeCheck(self->world, &WorldType) || !is_plain(self)) {
        PyErr_SetString(PyExc_TypeError, "a simulated engine needs a simulated world and a queue of its own");
        return -1;
    }
    World *world = (World *)Py_NewRef(self->world);
    Ring *ready = (Ring *)Py_NewRef(self->ready);
    PyObject *outer = Py_XNewRef(running->task);
    Py_INCREF(running);
    double now, outside;
    int status = engine_now(self, &now) < 0 || double_of(world->now, &outside) < 0 ? -1 : 0;
    double soon = now + world->stall, soon_outside = outside + world->stall, yields = world->yields;
    while (status == 0 && ready->size > 0 && budget-- > 0) {
        PyObject *item = take_next(self, world, ready, soon, soon_outside);
        if (item == NULL) {
            status = PyErr_Occurred() ? -1 : 0;
            break;
        }
        if (!is_a(item, &TaskType, &seen[SEEN_TASK])) {
            PyErr_Format(PyExc_TypeError, "a %s is in the ready queue", Py_TYPE(item)->tp_name);
            status = -1;
        } else {
            status = yields > 0 ? ask_chance(world, self->yields, yields, NULL) : 0;
            if (status > 0) {
                ((Task *)item)->budget = 0;
                status = 0;
            }
        }
        if (status == 0) {
            status = engine_step(self, running, outer, (Task *)item);
            put(running->task, outer);
        }
        if (status == 0) {
            status = tell_of_step(self, world, item);
        }
        Py_DECREF(item);
    }
    Py_DECREF(running);
    Py_XDECREF(outer);
    Py_DECREF(ready);
    Py_DECREF(world);
    return status;
}

/* -- where nothing happens but that time passes ------------------------------------------------------------------------------------- */

/* Whether an attribute of `object` is a container with nothing in it, or None; -1 with an exception. */
static int
is_empty(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL) {
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    Py_DECREF(value);
    return truth < 0 ? -1 : !truth;
}

/* Let time go on to the engine's first timer, if a poll would do just that: 1. 0: it would do more. -1 with an exception. */
static int
pass_time(Engine *self, World *world)
{
    if (self->timers == 0 || ((Ring *)self->ready)->size > 0 || is_set(world->at_block) || world->over) {
        return 0;
    }
    engine_drop_husks(self);
    double now;
    if (self->timers == 0 || engine_now(self, &now) < 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    double when = self->heap[0]->when;
    if (when <= now) {
        return 0;
    }
    struct {
        PyObject *object, *name;
    } quiet[] = {
        {(PyObject *)self, str__inbox},
        {(PyObject *)self, str__soon},
        {self->simulated, str_awake},
        {self->simulated, str__hot},
        {self->process, str_dead},
        {(PyObject *)world, str_ready},
        {world->thread, str_pending},
        {world->thread, str_calls},
    };
    for (size_t i = 0; i < sizeof(quiet) / sizeof(quiet[0]); i++) {
        int empty = is_empty(quiet[i].object, quiet[i].name);
        if (empty <= 0) {
            return empty;
        }
    }
    if (is_set(world->strategy) && !is_walk(world->walk)) {
        int follows = flag(world->strategy, str_follows);
        if (follows) {
            return follows < 0 ? -1 : 0;
        }
    }
    Event *following;
    PyObject *deadline = clock_world_time_at((Clock *)self->clock, when);
    double moment;
    if (deadline == NULL || first_event(world, &following) < 0 || double_of(deadline, &moment) < 0) {
        Py_XDECREF(deadline);
        return -1;
    }
    int status = 0;
    if (following == NULL || moment < following->moment) {
        status = jump(world, deadline) < 0 ? -1 : 1;
    }
    Py_DECREF(deadline);
    return status;
}

int
simulated_run_ahead(Engine *self, Running *running, long budget)
{
    while (is_plain(self) && !is_set(self->aio)) {
        if (simulated_turn(self, running, budget) < 0) {
            return -1;
        }
        PyObject *main = PyObject_GetAttr((PyObject *)self, str_main);
        if (main == NULL) {
            return -1;
        }
        int ended = main != Py_None && is_a(main, &TaskType, &seen[SEEN_TASK]) && ((Task *)main)->ended;
        Py_DECREF(main);
        if (ended || is_set(self->aio) || is_set(self->on_step) || !is_plain(self)) {
            return 0;
        }
        int passed = pass_time(self, (World *)self->world);
        if (passed <= 0) {
            return passed;
        }
    }
    return 0;
}

int
kernel_simulated_ready(PyObject *module)
{
    EventType.tp_hash = PyBaseObject_Type.tp_hash; /* by identity; a type that compares inherits none */
    if (PyType_Ready(&EventType) < 0 || PyModule_AddType(module, &EventType) < 0) {
        return -1;
    }
    return PyModule_AddType(module, &WorldType) < 0 ? -1 : PyModule_AddType(module, &ClockType);
}
