/* The engine as an asyncio event loop: the face that a task shows to asyncio, and the side that drives both.

   Theory of operation. runtimes/native_asyncio.py has it, and defines the behaviour: once asyncio is imported, each step of a
   task is announced to asyncio (`asyncio.current_task()` is the task's face), a task that yields lets asyncio's callbacks have
   their round first, and a task may wait for asyncio's futures. What is done for each step, yield and future is here, so that the
   engine's turn (engine.c) stays in C; what is rare (cancellation, errors, callbacks of a task) is left to the pure methods,
   which find the same attributes. The loop is loop.c's, embedded: it never blocks, its epoll set is one descriptor of the
   engine's reactor, and `_iterate` gives it its round.

   Ownership. A face owns its task and the task its face, until the task has ended (`bateau_face_ended`) or the collector comes. A
   side owns its engine and its loop, and the engine its side (`on_step`, `aio`): the collector's. A publication is an entry in
   asyncio's table of current tasks, which owns the face until the next one. */
#include "bridge.h"
#include "context.h"

#ifndef __linux__ /* no native loop there: see loop.c */
int
kernel_bridge_ready(PyObject *module)
{
    return 0;
}
#else
#include "loop.h"

typedef struct {
    PyObject_HEAD
    PyObject *dict, *weakrefs;
    PyObject *task, *loop;
    PyObject *waiter;    /* `_fut_waiter`: the future that the task waits for, kept until it is stepped again */
    PyObject *callbacks; /* a list, made when it is asked for */
    long cancels;
    char blocking;
} Face;

struct LoopSide {
    PyObject_HEAD
    PyObject *dict, *weakrefs;
    PyObject *engine, *loop;
    PyObject *stepping;
    PyObject *foreign;   /* a dict: tasks that wait for a future */
    PyObject *yielding;  /* a list: tasks that let asyncio's callbacks have their round */
    PyObject *table;     /* asyncio's dict of current tasks by loop; None where it has none (3.14), then `swap` is called */
    PyObject *swap;
    PyObject *face_type; /* the class of faces, a subclass of Face's */
};

extern PyTypeObject LoopSideType, LoopFaceType;

static PyObject *str_blocking, *str_get_loop, *str_add_done_callback, *str_wake_up, *str_face_ended, *str_turn, *str_wake_yielding;
static PyObject *context_keyword; /* ("context",) */

/* -- faces ------------------------------------------------------------------------------------------------------------- */

#define FACE_OBJECTS(X) X(dict) X(task) X(loop) X(waiter) X(callbacks)

OBJECT_METHODS(face, Face, FACE_OBJECTS, nothing, weakrefs)

static PyObject *
face_get_callbacks(Face *self, void *unused)
{
    if (self->callbacks == NULL) {
        PyObject *list = PyList_New(0);
        if (list == NULL) {
            return NULL;
        }
        if (self->callbacks == NULL) {
            self->callbacks = list;
        } else { /* making it ran a finaliser, which asked as well */
            Py_DECREF(list);
        }
    }
    return Py_NewRef(self->callbacks);
}

static int
face_set_callbacks(Face *self, PyObject *value, void *unused)
{
    put(self->callbacks, value);
    return 0;
}

/* The awaited future is done. */
static PyObject *
face_wake_up(Face *self, PyObject *future)
{
    if (future == self->waiter && is_set(self->task)) { /* else it was thrown out of that wait, and may be in another by now */
        Task *task = (Task *)Py_NewRef(self->task);
        int status = task_wake(task);
        Py_DECREF(task);
        if (status < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef face_methods[] = {
    {"wake_up", (PyCFunction)face_wake_up, METH_O,
     "The awaited future is done; it hands over its result or error itself when the task resumes."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef face_members[] = {
    {"_task", _Py_T_OBJECT, offsetof(Face, task), Py_READONLY, NULL},
    {"_bateau", _Py_T_OBJECT, offsetof(Face, task), Py_READONLY, NULL}, /* where the finder of current tasks looks */
    FIELD(Face, loop, "_loop"),
    FIELD(Face, waiter, "_fut_waiter"),
    {"_cancels", T_LONG, offsetof(Face, cancels), 0, NULL},
    {"_asyncio_future_blocking", Py_T_BOOL, offsetof(Face, blocking), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef face_getset[] = {
    {"_callbacks", (getter)face_get_callbacks, (setter)face_set_callbacks, NULL, NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject LoopFaceType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.LoopFaceFields",
    .tp_doc = "What asyncio sees of a task.",
    .tp_basicsize = sizeof(Face),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_dictoffset = offsetof(Face, dict),
    .tp_weaklistoffset = offsetof(Face, weakrefs),
    .tp_dealloc = (destructor)face_dealloc,
    .tp_traverse = (traverseproc)face_traverse,
    .tp_clear = (inquiry)face_clear,
    .tp_members = face_members,
    .tp_getset = face_getset,
    .tp_methods = face_methods,
};

/* The face of a task; borrowed from the task. */
static Face *
face_of(LoopSide *side, Task *task)
{
    if (has_rare(task, face)) {
        if (!PyObject_TypeCheck(task->rare->face, &LoopFaceType)) {
            PyErr_Format(PyExc_TypeError, "a task's face is a %.100s", Py_TYPE(task->rare->face)->tp_name);
            return NULL;
        }
        return (Face *)task->rare->face;
    }
    PyTypeObject *type = (PyTypeObject *)side->face_type;
    if (type == NULL || !PyType_Check(type) || !PyType_IsSubtype(type, &LoopFaceType)) {
        PyErr_SetString(PyExc_TypeError, "the class of faces is not set");
        return NULL;
    }
    Face *face = (Face *)type->tp_alloc(type, 0);
    if (face == NULL) {
        return NULL;
    }
    face->task = Py_NewRef((PyObject *)task);
    face->loop = Py_XNewRef(side->loop);
    int status = put_rare(task, face, face);
    Py_DECREF(face);
    return status < 0 ? NULL : face;
}

long
bateau_face_cancels(Task *task)
{
    return has_rare(task, face) && PyObject_TypeCheck(task->rare->face, &LoopFaceType) ? ((Face *)task->rare->face)->cancels : 0;
}

int
bateau_face_ended(Task *task)
{
    if (!has_rare(task, face)) {
        return 0;
    }
    if (PyObject_TypeCheck(task->rare->face, &LoopFaceType)) {
        PyObject *callbacks = ((Face *)task->rare->face)->callbacks;
        if (callbacks == NULL || (PyList_CheckExact(callbacks) && PyList_GET_SIZE(callbacks) == 0)) {
            put_rare(task, face, NULL); /* nobody needs it there any more, and each would keep the other for the collector */
            return 0;
        }
    }
    PyObject *face = Py_NewRef(task->rare->face);
    PyObject *result = PyObject_CallMethodNoArgs(face, str_face_ended);
    Py_DECREF(face);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* -- sides: what the engine's turn calls --------------------------------------------------------------------------------- */

#define SIDE_OBJECTS(X) X(dict) X(engine) X(loop) X(stepping) X(foreign) X(yielding) X(table) X(swap) X(face_type)

/* The loop, if it is the native one; borrowed. */
static LoopCore *
core_of(LoopSide *side)
{
    PyObject *loop = side->loop;
    return loop != NULL && PyObject_TypeCheck(loop, bateau_loop_core_type) ? (LoopCore *)loop : NULL;
}

LoopSide *
bateau_side_of(PyObject *hook)
{
    return PyObject_TypeCheck(hook, &LoopSideType) && core_of((LoopSide *)hook) != NULL ? (LoopSide *)hook : NULL;
}

int
bateau_counts_cancellations(Engine *engine)
{
    return !is_set(engine->native_cancelling) || (is_set(engine->on_step) && bateau_side_of(engine->on_step) != NULL);
}

/* What asyncio.current_task() returns from now on; NULL: none. */
static int
set_current(LoopSide *side, PyObject *face)
{
    PyObject *table = side->table, *loop = side->loop;
    if (loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the side has no loop");
        return -1;
    }
    if (table != NULL && PyDict_CheckExact(table)) {
        if (face != NULL) {
            return PyDict_SetItem(table, loop, face);
        }
        int there = PyDict_Contains(table, loop);
        return there <= 0 ? there : PyDict_DelItem(table, loop);
    }
    if (!is_set(side->swap)) {
        PyErr_SetString(PyExc_RuntimeError, "the side knows no way to publish a task");
        return -1;
    }
    PyObject *result = PyObject_CallFunctionObjArgs(side->swap, loop, face != NULL ? face : Py_None, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
is_dict(PyObject *field)
{
    return field != NULL && PyDict_CheckExact(field);
}

int
bateau_side_publish(LoopSide *side, Task *task)
{
    Face *face = face_of(side, task);
    if (face == NULL) {
        return -1;
    }
    if (is_set(face->waiter)) { /* it is being resumed; kept until now, as an asyncio task does */
        PyObject *waiter = face->waiter;
        face->waiter = NULL;
        int there = is_dict(side->foreign) ? PyDict_Contains(side->foreign, (PyObject *)task) : 0;
        if (there > 0) {
            there = PyDict_DelItem(side->foreign, (PyObject *)task);
        }
        Py_INCREF(face); /* letting go of the future may run anything */
        Py_DECREF(waiter);
        if (there >= 0) {
            put(side->stepping, task);
            there = set_current(side, (PyObject *)face);
        }
        Py_DECREF(face);
        return there < 0 ? -1 : 0;
    }
    put(side->stepping, task);
    return has_rare(task, face) ? set_current(side, task->rare->face) : 0;
}

int
bateau_side_yielded(LoopSide *side, Engine *engine, Task *task)
{
    if (task->scheduled) {
        return 0;
    }
    LoopCore *core = core_of(side);
    if (core == NULL || core->ready_count == 0 || side->yielding == NULL || !PyList_CheckExact(side->yielding)) {
        return engine_enqueue(engine, task);
    }
    task->scheduled = 1;
    if (PyList_Append(side->yielding, (PyObject *)task) < 0) {
        task->scheduled = 0; /* it is in no queue: the next wake-up finds it */
        return -1;
    }
    return 0;
}

/* future.add_done_callback(face.wake_up, context=task.context) */
static int
call_when_done(PyObject *future, Face *face, Task *task)
{
    PyObject *wake_up = PyObject_GetAttr((PyObject *)face, str_wake_up);
    if (wake_up == NULL) {
        return -1;
    }
    if (context_own(task) < 0) {
        Py_DECREF(wake_up);
        return -1;
    }
    PyObject *context = Py_XNewRef(task->context);
    PyObject *args[3] = {future, wake_up, context != NULL ? context : Py_None};
    PyObject *result = PyObject_VectorcallMethod(str_add_done_callback, args, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, context_keyword);
    Py_XDECREF(context);
    Py_DECREF(wake_up);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* What is wrong will be said by the pure method, in its words; but what a signal's handler raised is raised once. */
static int
left_to_pure(void)
{
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

int
bateau_side_awaits(LoopSide *side, Engine *engine, Task *task, PyObject *trap)
{
    if (has_rare(task, throwing) || is_cancelled_inside(task) || !is_set(task->context) || !is_dict(side->foreign)) {
        return 0;
    }
    PyObject *blocking = PyObject_GetAttr(trap, str_blocking);
    if (blocking == NULL) {
        return left_to_pure();
    }
    int waits = blocking == Py_True;
    Py_DECREF(blocking);
    PyObject *loop = waits ? PyObject_CallMethodNoArgs(trap, str_get_loop) : NULL;
    if (loop == NULL) {
        return left_to_pure();
    }
    int ours = loop == side->loop;
    Py_DECREF(loop);
    if (!ours || !has_rare(task, face) || !PyObject_TypeCheck(task->rare->face, &LoopFaceType)) {
        return 0;
    }
    Face *face = (Face *)Py_NewRef(task->rare->face);
    observe(engine, str_park, task);
    int status = PyObject_SetAttr(trap, str_blocking, Py_False);
    if (status == 0) {
        put(face->waiter, trap);
        status = PyDict_SetItem(side->foreign, (PyObject *)task, Py_None);
    }
    if (status == 0) {
        status = call_when_done(trap, face, task);
    }
    Py_DECREF(face);
    return status < 0 ? -1 : 1;
}

/* -- sides: the object ---------------------------------------------------------------------------------------------------- */

OBJECT_METHODS(side, LoopSide, SIDE_OBJECTS, nothing, weakrefs)

static PyObject *
side_publish(LoopSide *self, PyObject *task)
{
    if (!is_a(task, &TaskType, &seen[SEEN_TASK])) {
        return PyErr_Format(PyExc_TypeError, "expected a task, not %.100s", Py_TYPE(task)->tp_name);
    }
    if (bateau_side_publish(self, (Task *)task) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
side_call(LoopSide *self, PyObject *args, PyObject *kwargs)
{
    PyObject *task;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs)) {
        return PyErr_Format(PyExc_TypeError, "no keyword arguments, please");
    }
    return PyArg_ParseTuple(args, "O", &task) ? side_publish(self, task) : NULL;
}

/* The engine's turn is over: no task of ours is asyncio's current one. */
static PyObject *
side_unpublish(LoopSide *self, PyObject *unused)
{
    put(self->stepping, NULL);
    if (set_current(self, NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* How long the program may sleep for asyncio's sake, in seconds; None: for ever. Not at all while a task has let asyncio's
   callbacks go first: they may have had their round since, and who waits for that is in nobody's queue. */
static PyObject *
side_timeout(LoopSide *self, PyObject *unused)
{
    LoopCore *core = core_of(self);
    if (self->yielding == NULL || !PyList_CheckExact(self->yielding) || PyList_GET_SIZE(self->yielding) > 0) {
        return PyFloat_FromDouble(0.0);
    }
    double left = core != NULL ? bateau_core_rest(core) : 0;
    if (left < 0) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble(left);
}

static int
call(PyObject *object, PyObject *method)
{
    PyObject *result = PyObject_CallMethodNoArgs(object, method);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Whether the program's main task has ended, or has been taken leave of: then whoever drives us looks after each round whether
   what is left has ended. -1 with an exception. */
static int
has_ended(Engine *engine)
{
    PyObject *task = PyObject_GetAttr((PyObject *)engine, str_main);
    if (task == NULL) {
        return -1;
    }
    int ended = !is_a(task, &TaskType, &seen[SEEN_TASK]) || ((Task *)task)->ended;
    Py_DECREF(task);
    return ended;
}

/* How many turns of the engine count as much as a callback of asyncio's, for how long its poll is put off. */
#define TURN_COUNTS 8

/* How often asyncio's descriptors may be looked at before the reactor's are. */
#define POLLS 16

/* Turns of the engine and rounds of asyncio's loop, in turns, for as long as there is something to run. asyncio's descriptors are
   looked at here, without the reactor, which would have to be asked twice (it only knows that one of them is ready); it has its
   turn when the coarse clock ticks, after POLLS looks, or when there is nothing to run, to wait. At the end no task of ours is
   asyncio's current one. */
static PyObject *
side_spin(LoopSide *self, PyObject *unused)
{
    LoopCore *core = core_of(self);
    if (core == NULL || self->engine == NULL || !PyObject_TypeCheck(self->engine, &EngineType)) {
        return PyErr_Format(PyExc_RuntimeError, "the side has no engine or no native loop");
    }
    Engine *engine = (Engine *)Py_NewRef(self->engine);
    Py_INCREF(core);
    int status = 0;
    int64_t tick = core->tick;
    for (int polls = 0;;) {
        if (self->yielding == NULL || !PyList_CheckExact(self->yielding) || PyList_GET_SIZE(self->yielding) > 0) {
            status = call((PyObject *)self, str_wake_yielding);
        }
        if (status == 0) {
            status = call((PyObject *)engine, str_turn);
        }
        if (status == 0) {
            put(self->stepping, NULL);
            status = set_current(self, NULL);
        }
        core->put_off += TURN_COUNTS;
        int ended = status == 0 ? has_ended(engine) : -1;
        if (ended != 0) {
            status = ended < 0 ? -1 : 0;
            break;
        }
        int look = bateau_core_wants_poll(core);
        if (look && (core->registered <= 1 || ++polls > POLLS || core->tick != tick)) {
            break;
        }
        status = bateau_core_round(core, look ? 1 : -1);
        if (status < 0 || (look && core->events == 0)) {
            break;
        }
    }
    Py_DECREF(core);
    Py_DECREF(engine);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* asyncio's round after a poll. `polled`: whether the reactor said that a descriptor of asyncio's is ready. */
static PyObject *
side_iterate(LoopSide *self, PyObject *polled)
{
    LoopCore *core = core_of(self);
    int ready = PyObject_IsTrue(polled);
    if (ready < 0) {
        return NULL;
    }
    if (core == NULL) {
        return PyErr_Format(PyExc_RuntimeError, "the side has no native loop");
    }
    Py_INCREF(core);
    int status = bateau_core_round(core, ready);
    Py_DECREF(core);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
side_is_waiting(LoopSide *self, PyObject *unused)
{
    LoopCore *core = core_of(self);
    return PyBool_FromLong(core != NULL && (core->ready_count > 0 || core->timer_count > 0 || core->registered > 1));
}

static PyMethodDef side_methods[] = {
    {"_publish", (PyCFunction)side_publish, METH_O, "``task`` is about to step."},
    {"_unpublish", (PyCFunction)side_unpublish, METH_NOARGS, "The turn is over: there is no current task."},
    {"_rest", (PyCFunction)side_timeout, METH_NOARGS, "How long asyncio lets the program sleep, in seconds; None: for ever."},
    {"_spin", (PyCFunction)side_spin, METH_NOARGS, "Run what can run: the engine's tasks, and asyncio's callbacks in between."},
    {"_iterate", (PyCFunction)side_iterate, METH_O, "Give asyncio's loop its round, after a poll."},
    {"_is_waiting", (PyCFunction)side_is_waiting, METH_NOARGS,
     "Whether asyncio's loop has callbacks, timers, or descriptors other than its self-pipe."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef side_members[] = {
    FIELD_SET(LoopSide, engine, "engine"),
    FIELD_SET(LoopSide, loop, "loop"),
    FIELD(LoopSide, stepping, "stepping"),
    FIELD_SET(LoopSide, foreign, "_foreign"),
    FIELD_SET(LoopSide, yielding, "_yielding"),
    FIELD(LoopSide, table, "_table"),
    FIELD(LoopSide, swap, "_swap"),
    FIELD(LoopSide, face_type, "_face_type"),
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef side_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject LoopSideType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.LoopSideFields",
    .tp_doc = "The asyncio side of an engine; calling it announces a task's step.",
    .tp_basicsize = sizeof(LoopSide),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_dictoffset = offsetof(LoopSide, dict),
    .tp_weaklistoffset = offsetof(LoopSide, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)side_dealloc,
    .tp_traverse = (traverseproc)side_traverse,
    .tp_clear = (inquiry)side_clear,
    .tp_call = (ternaryfunc)side_call,
    .tp_members = side_members,
    .tp_getset = side_getset,
    .tp_methods = side_methods,
};

static int
intern(PyObject **place, const char *text)
{
    *place = PyUnicode_InternFromString(text);
    return *place == NULL ? -1 : 0;
}

int
kernel_bridge_ready(PyObject *module)
{
    if (intern(&str_blocking, "_asyncio_future_blocking") < 0 || intern(&str_get_loop, "get_loop") < 0 ||
        intern(&str_add_done_callback, "add_done_callback") < 0 || intern(&str_wake_up, "wake_up") < 0 ||
        intern(&str_face_ended, "ended") < 0 || intern(&str_turn, "turn") < 0 ||
        intern(&str_wake_yielding, "wake_yielding") < 0 || (context_keyword = Py_BuildValue("(s)", "context")) == NULL) {
        return -1;
    }
    return PyModule_AddType(module, &LoopFaceType) < 0 ? -1 : PyModule_AddType(module, &LoopSideType);
}
#endif
