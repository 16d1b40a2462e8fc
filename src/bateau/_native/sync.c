/* What the primitives of bateau.sync have in common: their fields, their places, and the two awaitables that are ready.

   Theory of operation. The Python of bateau/sync defines what happens; its invariants are kept here as there. The short way
   is open to a *local* primitive used by a task of its home, a plain engine (`sync_task_at_home`) or, for locks, events and
   semaphores, asyncio's loop (`sync_find_task`), with step budget left and nothing cancelled; and to the sync methods on the thread of that home (`sync_queue_here`). A transition taken here is
   whole: nothing is left half done for the pure method to go on with, and what the pure method is asked to do has not been
   begun. All else is left to it: shared primitives, other hosts, simulated worlds, plain threads, tickets, patience,
   misuse and its messages.

   Ownership. A primitive's methods may rely on their caller for `self`; an operation owns its primitive (`resource`), and is
   owned by who steps it. Code that is not ours runs in a select's `claim`, in pure methods, in an instrument, in destructors
   when a field is replaced, and in the collector when something is allocated: whatever is used after one of these is owned on
   the C stack, and what was looked up before is looked up again. */
#include "sync.h"

/* -- SyncPrimitive ---------------------------------------------------------------------------------------------------------- */

#define SYNC_OBJECTS(X) X(queue)

COLLECTED(extern, sync, Sync, SYNC_OBJECTS, primitive)
ENDED(static, sync, Sync, base.weakrefs)

static PyMemberDef sync_members[] = {
    FIELD(Sync, queue, "_queue"),
    {NULL, 0, 0, 0, NULL},
};

SYNC_TYPE(SyncType, Sync, sync, "SyncFields", &PrimitiveType, sync_members, NULL)

/* The running task if it may take the short way on `self`, else NULL. Borrowed: the engine's loop owns it. */
Task *
sync_task_at_home(Sync *self)
{
    Task *task = running_task();
    if (task == NULL || is_set(self->base.mutex) || self->base.home == NULL || self->base.home != task->host ||
        task->foreign || task->budget <= 0 || task_is_cancelled(task) || plain_engine(task) == NULL) {
        return NULL;
    }
    return task;
}

/* The same, or a guest (wait.c): 0 with the task or NULL, -1 with an exception. */
int
sync_find_task(Sync *self, Task **task)
{
    *task = NULL;
    if (running_task() != NULL) {
        *task = sync_task_at_home(self);
        return 0;
    }
    Task *guest;
    if (is_set(self->base.mutex) || self->base.home == NULL) {
        return 0;
    }
    if (find_guest(&guest) < 0) {
        return -1;
    }
    if (guest != NULL && self->base.home == guest->host && guest->budget > 0 && !task_is_cancelled(guest)) {
        *task = guest;
    }
    return 0;
}

/* The queue of `self` if a sync method may act on it here: local, and on the thread of its home. Else NULL. Borrowed. */
WaitQueue *
sync_queue_here(Sync *self)
{
    PyObject *home = self->base.home;
    if (is_set(self->base.mutex) || home == NULL || !is_a(home, &EngineType, &seen[SEEN_ENGINE]) ||
        !is_plain((Engine *)home) || self->base.thread != PyThread_get_thread_ident()) {
        return NULL;
    }
    return sync_queue(self);
}

/* The effect was had at once; `value` is stolen. */
PySendResult
sync_done(Operation *self, Task *task, PyObject *value, PyObject **result)
{
    task->budget--;
    self->state = DONE;
    self->phase = OVER;
    *result = value;
    return PYGEN_RETURN;
}

PySendResult
sync_failed(Operation *self, PyObject **result)
{
    if (self->state == NEW) {
        self->state = ABORTED;
    }
    self->phase = OVER;
    *result = NULL;
    return PYGEN_ERROR;
}

/* The pure method `which` of `self`, called as this one was. */
PyObject *
sync_call_pure(int which, PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *method = PyMethod_New(kept[which], self);
    if (method == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(method, args, (size_t)nargs, kwnames);
    Py_DECREF(method);
    return result;
}

/* -- places ------------------------------------------------------------------------------------------------------------------ */

static PyMemberDef places_members[] = {
    {"_drawn", Py_T_LONGLONG, offsetof(PlaceQueue, drawn), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject PlaceQueueType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.PlaceQueueFields",
    .tp_basicsize = sizeof(PlaceQueue),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, /* collected as its base is */
    .tp_base = &WaitQueueType,
    .tp_new = PyType_GenericNew,
    .tp_members = places_members,
};

#define PLACED_OBJECTS(X) X(owner)

COLLECTED(extern, placed, Placed, PLACED_OBJECTS, operation)
ENDED(static, placed, Placed, op.weakrefs)

static PyMemberDef placed_members[] = {
    FIELD(Placed, owner, "owner"),
    {"place", Py_T_LONGLONG, offsetof(Placed, place), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject PlacedType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.PlacedFields",
    .tp_basicsize = sizeof(Placed),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_base = &OperationType,
    .tp_weaklistoffset = offsetof(Operation, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)placed_dealloc,
    .tp_finalize = (destructor)operation_finalize,
    .tp_traverse = (traverseproc)placed_traverse,
    .tp_clear = (inquiry)placed_clear,
    .tp_members = placed_members,
};

/* -- awaitables that are ready ----------------------------------------------------------------------------------------------- */

/* They have no state, so one object of each serves everybody, and is its own iterator. Not bases of classes in Python, which
   would not inherit am_send. */

static PyObject *
ready_await(PyObject *self)
{
    return Py_NewRef(self);
}

static PySendResult
nothing_send(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(arg), PyObject **result)
{
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

static PyObject *
nothing_next(PyObject *Py_UNUSED(self))
{
    return NULL; /* says "returned None" */
}

static PySendResult
true_send(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(arg), PyObject **result)
{
    *result = Py_NewRef(Py_True);
    return PYGEN_RETURN;
}

static PyObject *
true_next(PyObject *Py_UNUSED(self))
{
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, Py_True);
    if (stop != NULL) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
    return NULL;
}

#define READY_TYPE(Type, prefix, title)                                                                                \
    static PyAsyncMethods prefix##_async = {.am_await = ready_await, .am_send = (sendfunc)prefix##_send};              \
    static PyTypeObject Type = {                                                                                       \
        PyVarObject_HEAD_INIT(NULL, 0)                                                                                 \
        .tp_name = "bateau._native." title,                                                                            \
        .tp_basicsize = sizeof(PyObject),                                                                              \
        .tp_flags = Py_TPFLAGS_DEFAULT,                                                                                \
        .tp_new = PyType_GenericNew,                                                                                   \
        .tp_as_async = &prefix##_async,                                                                                \
        .tp_iter = PyObject_SelfIter,                                                                                  \
        .tp_iternext = prefix##_next,                                                                                  \
    };

READY_TYPE(NothingType, nothing, "Nothing")
READY_TYPE(TrueType, true, "_True")

int
kernel_sync_ready(PyObject *module)
{
    PyTypeObject *types[] = {&SyncType, &PlaceQueueType, &PlacedType, &NothingType, &TrueType};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (PyModule_AddType(module, types[i]) < 0) {
            return -1;
        }
    }
    return 0;
}
