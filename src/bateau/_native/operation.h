/* What the files with operations share; operation.c has the theory. */
#ifndef BATEAU_OPERATION_H
#define BATEAU_OPERATION_H

#include "kernel.h"

enum { BEFORE, SUSPENDED, OVER, GIVING_WAY };

/* A send or a receive, see channel.c. */
typedef struct {
    Operation op;
    PyObject *end, *item;
} EndOperation;

typedef PySendResult (*step_function)(Operation *self, PyObject *arg, PyObject **result);

/* The four methods of an iterator, over its one step. */
#define ITERATOR(prefix, step)                                                                                         \
    static PyObject *prefix##_next(Operation *self)                                                                    \
    {                                                                                                                  \
        return operation_resume(self, Py_None, step);                                                                  \
    }                                                                                                                  \
    static PyObject *prefix##_send(Operation *self, PyObject *arg)                                                     \
    {                                                                                                                  \
        return operation_send_method(self, arg, step);                                                                 \
    }

/* The type of an operation's fields, which is its own iterator: `fields` has traverse, clear and dealloc, `iterator` next and the async slots. */
#define OPERATION_TYPE(Type, title, Struct, base, fields, iterator, members, methods)                                  \
    PyTypeObject Type = {                                                                                              \
        PyVarObject_HEAD_INIT(NULL, 0)                                                                                 \
        .tp_name = "bateau._native." title,                                                                            \
        .tp_basicsize = sizeof(Struct),                                                                                \
        .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,                                     \
        .tp_base = base,                                                                                               \
        .tp_weaklistoffset = offsetof(Operation, weakrefs),                                                            \
        .tp_new = PyType_GenericNew,                                                                                   \
        .tp_dealloc = (destructor)fields##_dealloc,                                                                    \
        .tp_finalize = (destructor)operation_finalize,                                                                 \
        .tp_traverse = (traverseproc)fields##_traverse,                                                                \
        .tp_clear = (inquiry)fields##_clear,                                                                           \
        .tp_as_async = &iterator##_async,                                                                              \
        .tp_iter = PyObject_SelfIter,                                                                                  \
        .tp_iternext = (iternextfunc)iterator##_next,                                                                  \
        .tp_members = members,                                                                                         \
        .tp_methods = methods,                                                                                         \
    };

int operation_traverse(Operation *self, visitproc visit, void *arg);
int operation_clear(Operation *self);
void operation_finalize(Operation *self);
PyObject *operation_await(PyObject *self);
PyObject *operation_resume(Operation *self, PyObject *arg, step_function step);
PyObject *operation_send_method(Operation *self, PyObject *arg, step_function step);
PySendResult operation_pass_on(Operation *self, PyObject *arg, PyObject **result);
PySendResult operation_begin_pure(Operation *self, int which, PyObject *arg, PyObject **result);
int operation_is_refused(Operation *self, Task *task); /* then operation_raise_cancelled says why */
PySendResult operation_raise_cancelled(Operation *self, Task *task, PyObject **result);
PyObject *operation_throw_on(Operation *self, PyObject *error);
PyObject *thrown_error(PyObject *const *args, Py_ssize_t nargs);

PyObject *operation_close_on(Operation *self);

/* Parking, see wait.c. */
int operation_gives_way(Operation *self, PySendResult *how, PyObject **result);
int operation_park(Operation *self, Task *task, WaitQueue *queue);
void operation_leave_wait(Operation *self); /* the wait is over, one way or the other */
PySendResult operation_parked(PyObject **result);
int find_guest(Task **task);
PySendResult operation_parked_guest(Operation *self, PyObject **result); /* the same, of any task: a plain engine's or a guest */
PySendResult operation_parked_again(Operation *self, PyObject **result);
PySendResult operation_continue(Operation *self, PyObject *arg, PyObject **result);
PyObject *parked_throw(Operation *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *parked_close(Operation *self, PyObject *ignored);

/* Free objects of the final classes, as `final_new` hands them out: all fields empty, one reference, unknown to the collector (but for a
   yield, which it knows). What was let go of is brought back to that where its last reference is dropped: it costs less than to be made and
   unmade. */
#define FREE_AT_MOST 64
struct Pool {
    PyObject *free[FREE_AT_MOST];
    int count;
};
extern struct Pool final_pools[C_COUNT];
Operation *final_made(int which);
int is_final(Operation *self);

/* The one operation that is in nobody's hands but those of who runs, and unknown to the collector: handed out last, or gone on last; or NULL.
   Borrowed: it is reset where that one is shown, parks, or ends. wait.c has the theory. */
extern Operation *last_unshown;

/* `last_unshown`, if any, becomes one that the collector knows. */
static inline void
show_last(void)
{
    if (last_unshown != NULL) {
        last_unshown->unshown = 0;
        PyObject_GC_Track(last_unshown);
        last_unshown = NULL;
    }
}

/* It is `last_unshown` from here on. */
static inline void
operation_note_unshown(Operation *op)
{
    if (last_unshown != op) {
        show_last();
        last_unshown = op;
    }
}

/* A new object of the final class `which`, or NULL with an exception. */
static inline Operation *
final_new(int which)
{
    if (!LIKELY(final_pools[which].count > 0)) {
        return final_made(which);
    }
    Operation *op = (Operation *)final_pools[which].free[--final_pools[which].count];
    if (which != C_YIELD) { /* which refers to a task only while that lets others run, and stays in the collector's lists */
        operation_note_unshown(op);
    }
    return op;
}

/* It waits in `task` from here on: unknown to the collector as that is, or shown. */
static inline void
operation_hide(Operation *op, Task *task)
{
    if (op->unshown) {
        if (last_unshown == op) {
            last_unshown = NULL;
        }
        if (!task->hidden) {
            op->unshown = 0;
            PyObject_GC_Track(op);
        }
    }
}

/* Whether to let go of `object` can't go deep, nor look at what holds it: others have it too, or it is a plain value. */
static inline int
is_shallow(PyObject *object)
{
    return object == NULL || Py_REFCNT(object) > 1 || PyLong_CheckExact(object) || PyUnicode_CheckExact(object) ||
           PyBytes_CheckExact(object);
}

/* Empty a field, if what is in it is shallow. Whether the field is empty now. */
static inline int
empty_field(PyObject **field)
{
    PyObject *object = *field;
    if (object != NULL) {
        if (!is_shallow(object)) {
            return 0;
        }
        *field = NULL;
        Py_DECREF(object);
    }
    return 1;
}

/* Of a read or write, see socket.c: as `end_let_go` in wait.c. */
int stream_let_go(Operation *op);

int sleep_forget_timer(Operation *sleep); /* of a Sleep itself: what its `unregister` does; 0: its timer is another host's */

int wait_queue_add(WaitQueue *queue, Operation *op);
void wait_queue_discard(WaitQueue *queue, Operation *op);
Operation *wait_queue_pop(WaitQueue *queue, int *failed);

static inline int
task_is_cancelled(Task *task)
{
    PyObject *inner = task->inner; /* often the task itself */
    return inner == NULL || (inner != (PyObject *)task && !is_a(inner, &NodeType, &seen[SEEN_NODE])) ||
           is_set(((Node *)inner)->effective);
}

#endif
