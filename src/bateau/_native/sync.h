/* What the primitives of bateau.sync share; sync.c has the theory. */
#ifndef BATEAU_SYNC_H
#define BATEAU_SYNC_H

#include "operation.h"
#include "primitive.h"

/* bateau.sync.base.SyncPrimitive: a primitive with one queue. */
typedef struct {
    Primitive base;
    PyObject *queue;
} Sync;

/* bateau.sync.places.PlaceQueue. */
typedef struct {
    WaitQueue base;
    long long drawn;
} PlaceQueue;

/* bateau.sync.places.PlacedAcquire, and who will own the lock that is acquired (semaphores leave it NULL). */
typedef struct {
    Operation op;
    PyObject *owner;
    long long place;
} Placed;

typedef struct {
    Sync sync;
    PyObject *owner, *patience;
    char watched;
} Lock;

extern PyTypeObject SyncType, PlaceQueueType, PlacedType, LockType;

int sync_traverse(Sync *self, visitproc visit, void *arg);
int sync_clear(Sync *self);
int placed_traverse(Placed *self, visitproc visit, void *arg);
int placed_clear(Placed *self);

Task *sync_task_at_home(Sync *self);
int sync_find_task(Sync *self, Task **task);
WaitQueue *sync_queue_here(Sync *self);
PySendResult sync_done(Operation *self, Task *task, PyObject *value, PyObject **result);
PySendResult sync_failed(Operation *self, PyObject **result);
PyObject *sync_call_pure(int which, PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

int lock_pass_on(Lock *lock);
int lock_watch(Lock *lock);

/* The queue of a primitive, or NULL if somebody has put something else there. Borrowed. */
static inline WaitQueue *
sync_queue(Sync *self)
{
    return self->queue != NULL && is_a(self->queue, &WaitQueueType, &seen[SEEN_QUEUE]) ? (WaitQueue *)self->queue : NULL;
}

static inline PlaceQueue *
sync_places(Sync *self)
{
    return self->queue != NULL && is_a(self->queue, &PlaceQueueType, &seen[SEEN_PLACES]) ? (PlaceQueue *)self->queue : NULL;
}

/* Whether this operation is one that the twin made, and has not begun. */
static inline int
sync_is_fresh(Operation *self)
{
    return self->state == NEW && is_final(self) && self->resource != NULL;
}

/* The type of a primitive's fields. */
#define SYNC_TYPE(Type, Struct, prefix, title, base, members, methods)                                                 \
    PyTypeObject Type = {                                                                                              \
        PyVarObject_HEAD_INIT(NULL, 0)                                                                                 \
        .tp_name = "bateau._native." title,                                                                            \
        .tp_basicsize = sizeof(Struct),                                                                                \
        .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,                                     \
        .tp_base = base,                                                                                               \
        .tp_weaklistoffset = offsetof(Primitive, weakrefs),                                                            \
        .tp_new = PyType_GenericNew,                                                                                   \
        .tp_dealloc = (destructor)prefix##_dealloc,                                                                    \
        .tp_traverse = (traverseproc)prefix##_traverse,                                                                \
        .tp_clear = (inquiry)prefix##_clear,                                                                           \
        .tp_members = members,                                                                                         \
        .tp_methods = methods,                                                                                         \
    };

/* The type of an operation's fields, which is its own iterator; `step` does its steps. */
#define SYNC_OPERATION_TYPE(Type, Struct, prefix, title, base, members, throw_, close_)                                \
    ITERATOR(prefix, prefix##_step)                                                                                    \
    static PyMethodDef prefix##_methods[] = {                                                                          \
        {"send", (PyCFunction)prefix##_send, METH_O, "Resume it."},                                                    \
        {"throw", (PyCFunction)(void (*)(void))throw_, METH_FASTCALL, "Throw an exception in where it waits."},        \
        {"close", (PyCFunction)close_, METH_NOARGS, "Give it up."},                                                    \
        {NULL, NULL, 0, NULL},                                                                                         \
    };                                                                                                                 \
    static PyAsyncMethods prefix##_async = {.am_await = operation_await, .am_send = (sendfunc)prefix##_step};          \
    static OPERATION_TYPE(Type, title, Struct, base, prefix, prefix, members, prefix##_methods)

#endif
