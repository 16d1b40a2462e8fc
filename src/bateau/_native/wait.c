/* Waiting: the queues of parked operations, the way an operation parks and goes on, and the final classes.

   Queues. An operation has the links of its queue in itself, so it is in at most one; joining and leaving cost no memory.
   The queue owns the operations in it. `queue` in an operation says in which it is; it is reset whenever it leaves.

   Parking. `operation_park` joins the queue, and puts the operation into `task.waiting`. It is granted by `fire` (state
   FIRED) or taken back by `abort` (ABORTED), both of the pure class, or by `operation_fire` here. When the task is
   stepped, `operation_continue` sees what has become of it.

   Final classes. The classes of hot operations are written in Python, over C fields. `finish` derives one class of each
   that has no Python between it and its memory: its objects come from a free list.

   The collector. Most of those objects are made, awaited and let go of at once, or wait in a task that is alive, which is itself out of the
   collector's lists (task.c): to put each into them and take it out again would be a tenth of its cost, and would touch its neighbours there,
   which are other connections' and in nobody's cache. So one is `unshown` in the free list, and stays that as long as it is (1) the last one
   that was handed out or went on (`last_unshown`), or (2) parked in a task whose parts are hidden. Whatever ends that shows it: the next one
   of (1), and the end of an engine's turn; for (2) the task's being shown, as what it waits for, while going on makes it one of (1).
   So no object that may be in a cycle is kept from the collector for longer than that (a send of what may be in one itself not at all); one in the free list, which gc.freeze() would have
   set aside for ever, never was in its lists. */
#include "operation.h"

/* -- WaitQueue ------------------------------------------------------------------------------------------------------------ */

static void
queue_link(WaitQueue *self, Operation *op, int at_head)
{
    Py_INCREF(op);
    op->queue = self;
    if (at_head) {
        op->before = NULL;
        op->after = self->first;
        if (self->first != NULL) {
            self->first->before = op;
        } else {
            self->last = op;
        }
        self->first = op;
    } else {
        op->after = NULL;
        op->before = self->last;
        if (self->last != NULL) {
            self->last->after = op;
        } else {
            self->first = op;
        }
        self->last = op;
    }
    self->size++;
}

/* The reference of the queue becomes the caller's. */
static void
queue_unlink(WaitQueue *self, Operation *op)
{
    if (op->before != NULL) {
        op->before->after = op->after;
    } else {
        self->first = op->after;
    }
    if (op->after != NULL) {
        op->after->before = op->before;
    } else {
        self->last = op->before;
    }
    op->before = op->after = NULL;
    op->queue = NULL;
    self->size--;
}

static Operation *
as_operation(PyObject *thing)
{
    if (!PyObject_TypeCheck(thing, &OperationType)) {
        PyErr_Format(PyExc_TypeError, "a WaitQueue takes operations, not %s", Py_TYPE(thing)->tp_name);
        return NULL;
    }
    return (Operation *)thing;
}

int
wait_queue_add(WaitQueue *self, Operation *op)
{
    if (op->queue == self) {
        return 0;
    }
    if (op->queue != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this operation is in another queue already");
        return -1;
    }
    queue_link(self, op, 0);
    return 0;
}

static PyObject *
queue_add(WaitQueue *self, PyObject *thing)
{
    Operation *op = as_operation(thing);
    if (op == NULL || wait_queue_add(self, op) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
queue_add_first(WaitQueue *self, PyObject *thing)
{
    Operation *op = as_operation(thing);
    if (op == NULL) {
        return NULL;
    }
    if (op->queue == self) {
        queue_unlink(self, op);
        Py_DECREF(op); /* the caller has another */
    } else if (op->queue != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this operation is in another queue already");
        return NULL;
    }
    queue_link(self, op, 1);
    Py_RETURN_NONE;
}

void
wait_queue_discard(WaitQueue *self, Operation *op)
{
    if (op->queue == self) {
        queue_unlink(self, op);
        Py_DECREF(op);
    }
}

static PyObject *
queue_discard(WaitQueue *self, PyObject *thing)
{
    Operation *op = as_operation(thing);
    if (op == NULL) {
        return NULL;
    }
    wait_queue_discard(self, op);
    Py_RETURN_NONE;
}

/* The first that may still be granted, taken out and handed over; NULL if there is none, or with an exception (`failed`). */
Operation *
wait_queue_pop(WaitQueue *self, int *failed)
{
    *failed = 0;
    while (self->first != NULL) {
        Operation *op = self->first;
        queue_unlink(self, op);
        if (!is_set(op->watcher)) {
            return op;
        }
        PyObject *granted = PyObject_CallMethodNoArgs((PyObject *)op, str_claim);
        int may = granted == NULL ? -1 : PyObject_IsTrue(granted);
        Py_XDECREF(granted);
        if (may > 0) {
            return op;
        }
        Py_DECREF(op);
        if (may < 0) {
            *failed = 1;
            return NULL;
        }
    }
    return NULL;
}

static PyObject *
queue_pop(WaitQueue *self, PyObject *Py_UNUSED(ignored))
{
    int failed;
    Operation *op = wait_queue_pop(self, &failed);
    if (op != NULL) {
        return (PyObject *)op;
    }
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
queue_peek(WaitQueue *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self->first != NULL ? (PyObject *)self->first : Py_None);
}

static Py_ssize_t
queue_length(WaitQueue *self)
{
    return self->size;
}

static int
queue_contains(WaitQueue *self, PyObject *thing)
{
    return PyObject_TypeCheck(thing, &OperationType) && ((Operation *)thing)->queue == self;
}

static PyObject *
queue_iter(WaitQueue *self)
{
    PyObject *copy = NULL;
    do { /* making the tuple may run the collector, and that finalisers, which close ends */
        Py_XDECREF(copy);
        copy = PyTuple_New(self->size);
        if (copy == NULL) {
            return NULL;
        }
    } while (PyTuple_GET_SIZE(copy) != self->size);
    Py_ssize_t i = 0;
    for (Operation *op = self->first; op != NULL; op = op->after) {
        PyTuple_SET_ITEM(copy, i++, Py_NewRef((PyObject *)op));
    }
    PyObject *iterator = PyObject_GetIter(copy);
    Py_DECREF(copy);
    return iterator;
}

static int
queue_traverse(WaitQueue *self, visitproc visit, void *arg)
{
    for (Operation *op = self->first; op != NULL; op = op->after) {
        Py_VISIT(op);
    }
    return 0;
}

static int
queue_clear(WaitQueue *self)
{
    while (self->first != NULL) {
        Operation *op = self->first;
        queue_unlink(self, op);
        Py_DECREF(op);
    }
    return 0;
}

static void
queue_dealloc(WaitQueue *self)
{
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    queue_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef queue_methods[] = {
    {"add", (PyCFunction)queue_add, METH_O, "Append a parked operation."},
    {"add_first", (PyCFunction)queue_add_first, METH_O, "Put a parked operation at the head: it keeps a place it had before."},
    {"discard", (PyCFunction)queue_discard, METH_O, "Take an operation out, if it is in."},
    {"pop", (PyCFunction)queue_pop, METH_NOARGS,
     "Take out the first operation that may still be granted, or return None. The caller must fire it."},
    {"peek", (PyCFunction)queue_peek, METH_NOARGS, "The first operation, left in place."},
    {NULL, NULL, 0, NULL},
};

static PySequenceMethods queue_sequence = {
    .sq_length = (lenfunc)queue_length,
    .sq_contains = (objobjproc)queue_contains,
};

PyTypeObject WaitQueueType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.WaitQueue",
    .tp_doc = "The operations parked on one resource, first in, first out. Iterating it goes over a copy.",
    .tp_basicsize = sizeof(WaitQueue),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_weaklistoffset = offsetof(WaitQueue, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)queue_dealloc,
    .tp_traverse = (traverseproc)queue_traverse,
    .tp_clear = (inquiry)queue_clear,
    .tp_iter = (getiterfunc)queue_iter,
    .tp_as_sequence = &queue_sequence,
    .tp_methods = queue_methods,
};

/* -- parking ---------------------------------------------------------------------------------------------------------------- */

/* For the step of a final operation that has not begun: where the step budget is used up, it lets the others run once, as in
   `Operation.__await__`, and begins after that. True: `how` and `result` are this step's. False: begin. */
int
operation_gives_way(Operation *self, PySendResult *how, PyObject **result)
{
    Task *task = running_task();
    if (self->phase == GIVING_WAY) {
        if (task == NULL) { /* driven by hand: the pure generator says what is wrong */
            self->state = NEW;
            self->phase = BEFORE;
            return 0;
        }
        if (task_is_cancelled(task)) {
            *how = operation_raise_cancelled(self, task, result);
            return 1;
        }
        task->budget++; /* the one that gave way has been counted; a world may have emptied the budget meanwhile, for the next one */
        self->state = NEW;
        self->phase = BEFORE;
        return 0;
    }
    if (self->phase != BEFORE || task == NULL || task->budget > 0 || self->state != NEW || !is_final(self) ||
        task->foreign || has_rare(task, guard) || task_is_cancelled(task) || plain_engine(task) == NULL) {
        return 0;
    }
    self->state = ABORTED; /* until it begins */
    self->phase = GIVING_WAY;
    task->budget = STEP_BUDGET;
    *result = Py_NewRef(Py_None);
    *how = PYGEN_NEXT;
    return 1;
}

int
operation_park(Operation *self, Task *task, WaitQueue *queue)
{
    put(self->task, task);
    self->state = PARKED;
    if (queue != NULL && wait_queue_add(queue, self) < 0) {
        self->state = ABORTED;
        return -1;
    }
    put(task->waiting, self);
    self->phase = SUSPENDED;
    operation_hide(self, task);
    Engine *engine = plain_engine(task);
    if (engine != NULL) {
        observe(engine, str_park, task);
    }
    return 0;
}

PySendResult
operation_parked(PyObject **result)
{
    *result = Py_NewRef(kept[K_PARK]);
    return PYGEN_NEXT;
}

/* A guest is a task of ours that rides on asyncio's loop (runtimes/asyncio_host.py). asyncio steps it, so it is not in
   `running_here`: the kernel's finder names it. It parks on what its host gives, a future, and its host tells who looks on; all
   else is as on an engine. Tasks on a host with a native tree (trio's) are no guests: their waits are left to the pure generators. */

/* 0 with the guest that runs on this thread (borrowed: its asyncio task owns it) or NULL; -1 with an exception. */
int
find_guest(Task **task)
{
    *task = NULL;
    if (!is_set(kept[K_FINDER])) {
        return 0;
    }
    PyObject *found = PyObject_CallNoArgs(kept[K_FINDER]);
    if (found == NULL) {
        return -1;
    }
    if (is_a(found, &TaskType, &seen[SEEN_TASK]) && Py_REFCNT(found) > 1) {
        Task *its = (Task *)found;
        if (!its->foreign && is_set(its->host) && !is_a(its->host, &EngineType, &seen[SEEN_ENGINE])) {
            *task = its;
        }
    }
    Py_DECREF(found);
    return 0;
}

static int thrown_into(Operation *self, PyObject *error);
static PySendResult outcome(Operation *self, PyObject **result);

/* What is set is raised where the guest waits: `_thrown` decides, as for what foreign code throws. */
static PySendResult
guest_failed(Operation *self, PyObject **result)
{
    PyObject *error = take_raised();
    int decided = thrown_into(self, error);
    Py_DECREF(error);
    if (decided < 0) {
        *result = NULL;
        return PYGEN_ERROR;
    }
    return outcome(self, result);
}

PySendResult
operation_parked_guest(Operation *self, PyObject **result)
{
    Task *task = (Task *)self->task; /* operation_park has set it */
    if (is_a(task->host, &EngineType, &seen[SEEN_ENGINE])) {
        return operation_parked(result);
    }
    PyObject *host = Py_NewRef(task->host);
    PyObject *future = PyObject_CallMethodOneArg(host, str_park, (PyObject *)task);
    Py_DECREF(host);
    if (future == NULL) { /* the loop was closed, say */
        return guest_failed(self, result);
    }
    self->guest = 1;
    *result = future;
    return PYGEN_NEXT;
}

/* A guest goes on: `Host.resumed` is told. 0, or -1 with an exception. */
static int
guest_resumed(Operation *self)
{
    Task *task = (Task *)self->task;
    PyObject *call = PyObject_GetAttr(task->host, str_resumed);
    PyObject *told = call != NULL && call != Py_None ? PyObject_CallOneArg(call, (PyObject *)task) : NULL;
    int status = told == NULL && call != Py_None ? -1 : 0;
    Py_XDECREF(told);
    Py_XDECREF(call);
    return status;
}

/* Woken for nothing (law 11): it waits on, which who observes is told as `Host.park` tells it. */
PySendResult
operation_parked_again(Operation *self, PyObject **result)
{
    Engine *engine = self->task != NULL && is_a(self->task, &TaskType, &seen[SEEN_TASK]) ? plain_engine((Task *)self->task) : NULL;
    if (engine != NULL) {
        observe(engine, str_park, (Task *)self->task);
    }
    return self->guest ? operation_parked_guest(self, result) : operation_parked(result);
}

/* The wait is over, one way or the other. */
void
operation_leave_wait(Operation *self)
{
    self->phase = OVER;
    self->guest = 0;
    if (self->unshown) {
        operation_note_unshown(self);
    }
    if (self->task != NULL && is_a(self->task, &TaskType, &seen[SEEN_TASK])) {
        Task *task = (Task *)self->task;
        task->budget = STEP_BUDGET;
        put(task->waiting, NULL);
    }
}

/* What a granted operation gives: its error or its value. */
static PySendResult
outcome(Operation *self, PyObject **result)
{
    if (is_set(self->error)) {
        PyObject *error = self->error;
        self->error = NULL;
        if (PyExceptionInstance_Check(error)) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        } else {
            PyErr_SetString(PyExc_TypeError, "an operation failed with something that is no exception");
        }
        Py_DECREF(error);
        *result = NULL;
        return PYGEN_ERROR;
    }
    *result = Py_NewRef(self->value != NULL ? self->value : Py_None);
    return PYGEN_RETURN;
}

PySendResult
operation_continue(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->phase == OVER) {
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    if (self->guest && guest_resumed(self) < 0) {
        return guest_failed(self, result);
    }
    if (self->state == FIRED) {
        self->state = DONE;
        operation_leave_wait(self);
        return outcome(self, result);
    }
    if (self->state == ABORTED) {
        operation_leave_wait(self);
        if (self->task == NULL || !is_a(self->task, &TaskType, &seen[SEEN_TASK])) {
            PyErr_SetString(PyExc_RuntimeError, "an aborted operation has no task");
            *result = NULL;
            return PYGEN_ERROR;
        }
        return operation_raise_cancelled(self, (Task *)self->task, result);
    }
    return operation_parked_again(self, result);
}

/* Foreign code throws into the parked operation: the pure kernel decides what has happened (`_thrown`). 0: it goes on. */
static int
thrown_into(Operation *self, PyObject *error)
{
    PyObject *decided = PyObject_CallFunctionObjArgs(kept[K_THROWN], (PyObject *)self,
                                                     self->task != NULL ? self->task : Py_None, error, NULL);
    operation_leave_wait(self);
    Py_XDECREF(decided);
    return decided == NULL ? -1 : 0;
}

PyObject *
parked_throw(Operation *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *error = thrown_error(args, nargs), *result = NULL;
    if (error == NULL) {
        return NULL;
    }
    if (self->sub != NULL) {
        result = operation_throw_on(self, error);
        Py_DECREF(error);
        return result;
    }
    if (self->phase != SUSPENDED) {
        if (self->state == NEW) {
            self->state = ABORTED;
        }
        self->phase = OVER;
        put_raised(error);
        return NULL;
    }
    Py_INCREF(self);
    if (thrown_into(self, error) == 0 && outcome(self, &result) == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
    }
    Py_XDECREF(result);
    Py_DECREF(error);
    Py_DECREF(self);
    return NULL;
}

PyObject *
parked_close(Operation *self, PyObject *Py_UNUSED(ignored))
{
    if (self->sub != NULL) {
        return operation_close_on(self);
    }
    if (self->phase == SUSPENDED) {
        PyObject *error = PyObject_CallNoArgs(PyExc_GeneratorExit);
        if (error == NULL) {
            return NULL;
        }
        Py_INCREF(self);
        int decided = thrown_into(self, error);
        Py_DECREF(error);
        Py_DECREF(self);
        if (decided < 0) {
            if (!PyErr_ExceptionMatches(PyExc_GeneratorExit)) {
                return NULL;
            }
            PyErr_Clear();
        }
    } else if (self->phase == GIVING_WAY) {
        self->phase = OVER;
    }
    Py_RETURN_NONE;
}

/* -- granting ------------------------------------------------------------------------------------------------------------------ */

/* task_wake, where nobody chooses what runs next and nobody observes. */
static inline int
wake_quickly(Task *task)
{
    Engine *engine = plain_engine(task);
    if (engine == NULL || is_set(engine->policy) || is_set(engine->instrument)) {
        return task_wake(task);
    }
    if (task->scheduled || task->ended) {
        return 0;
    }
    task->scheduled = 1;
    if (ring_push((Ring *)engine->ready, (PyObject *)task) < 0) {
        task->scheduled = 0; /* it is in no queue: the next wake-up finds it */
        return -1;
    }
    return 0;
}

int
operation_fire(Operation *op, PyObject *value)
{
    if (is_final(op) && !is_set(op->watcher) && op->task != NULL && is_a(op->task, &TaskType, &seen[SEEN_TASK])) {
        put(op->value, value);
        op->state = FIRED;
        if (LIKELY(wake_quickly((Task *)op->task) == 0)) {
            return 0;
        }
        PyObject *task = op->task; /* looked up again: a policy's push may have run anything */
        if (op->state == FIRED && task != NULL && is_a(task, &TaskType, &seen[SEEN_TASK]) && !((Task *)task)->scheduled &&
            plain_engine((Task *)task) != NULL) {
            op->state = PARKED; /* no memory to make it ready: it waits on, and can be cancelled */
        }
        return -1;
    }
    PyObject *result = PyObject_CallMethodOneArg((PyObject *)op, str_fire, value);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* -- final classes ---------------------------------------------------------------------------------------------------------------- */

struct Pool final_pools[C_COUNT];

Operation *last_unshown;

static void final_dealloc(Operation *self);

void
operation_show(PyObject *object)
{
    if (!PyObject_TypeCheck(object, &OperationType) || !((Operation *)object)->unshown) {
        return;
    }
    Operation *op = (Operation *)object;
    op->unshown = 0;
    if (last_unshown == op) {
        last_unshown = NULL;
    }
    PyObject_GC_Track(op);
}

/* The opposite, of one that ends. */
static inline void
unshow(Operation *op)
{
    if (last_unshown == op) {
        last_unshown = NULL;
    }
    if (!op->unshown) {
        PyObject_GC_UnTrack(op);
        op->unshown = 1;
    }
}

int
is_final(Operation *self)
{
    return Py_TYPE(self)->tp_dealloc == (destructor)final_dealloc;
}

/* The same, where none is free. */
Operation *
final_made(int which)
{
    PyTypeObject *type = known[which];
    if (type == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this class of bateau has not been imported");
        return NULL;
    }
    PyObject *op = (PyObject *)PyObject_GC_New(Operation, type); /* allocates what the class says */
    if (op == NULL) {
        return NULL;
    }
    memset((char *)op + sizeof(PyObject), 0, (size_t)type->tp_basicsize - sizeof(PyObject));
    ((Operation *)op)->which = (signed char)which;
    if (which == C_YIELD) {
        PyObject_GC_Track(op);
    } else {
        ((Operation *)op)->unshown = 1;
        operation_note_unshown((Operation *)op);
    }
    return (Operation *)op;
}

static int
final_traverse(Operation *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    PyTypeObject *fields = Py_TYPE(self);
    while (fields != NULL && (fields->tp_flags & Py_TPFLAGS_HEAPTYPE)) { /* the static class with the fields */
        fields = fields->tp_base;
    }
    return fields != NULL && fields->tp_traverse != NULL ? fields->tp_traverse((PyObject *)self, visit, arg) : 0;
}

static int
final_clear(Operation *self)
{
    PyTypeObject *fields = Py_TYPE(self);
    while (fields != NULL && (fields->tp_flags & Py_TPFLAGS_HEAPTYPE)) {
        fields = fields->tp_base;
    }
    return fields != NULL && fields->tp_clear != NULL ? fields->tp_clear((PyObject *)self) : 0;
}

#define OR_FIELD(f) | (uintptr_t)self->f

static inline int
is_empty(Operation *self)
{
    return ((uintptr_t)self->weakrefs OPERATION_OBJECTS(OR_FIELD)) == 0;
}

/* Empty a send or receive that has ended as one usually does: its end and channel live on, nobody has asked for more. Whether it is empty;
   if not, some of its fields are. */
static inline int
end_let_go(EndOperation *self)
{
    Operation *op = &self->op;
    return ((uintptr_t)op->weakrefs | (uintptr_t)op->error | (uintptr_t)op->watcher | (uintptr_t)op->sub) == 0 &&
           empty_field(&op->resource) && empty_field(&op->task) && empty_field(&op->value) && empty_field(&self->end) && empty_field(&self->item);
}

/* Into the pool if there is room: an emptied one, with the reference that it is found with there. */
static inline int
final_keep(Operation *self, int which)
{
    if (final_pools[which].count == FREE_AT_MOST) {
        return 0;
    }
    self->state = NEW;
    self->phase = BEFORE;
    final_pools[which].free[final_pools[which].count++] = (PyObject *)self;
    return 1;
}

/* Those that leave nothing to be dropped but a few references, and may be used again as they are. */
static inline int
final_keep_quickly(Operation *self, PyTypeObject *type)
{
#ifdef Py_REF_DEBUG
    return 0; /* it counts all references, and what is brought back is none of those that it has seen made */
#endif
    int which = self->which;
    if (known[which] != type || self->state == NEW || self->finalized) {
        return 0;
    }
    switch (which) {
    case C_SEND:
    case C_RECV:
    case C_NEXT:
        if (!end_let_go((EndOperation *)self)) {
            return 0;
        }
        break;
    case C_STREAM_READ:
    case C_STREAM_READINTO:
    case C_STREAM_WRITE:
        if (!stream_let_go(self)) {
            return 0;
        }
        break;
    default:
        return 0;
    }
    if (!LIKELY(final_keep(self, which))) {
        return 0;
    }
    unshow(self);
    Py_SET_REFCNT(self, 1);
    return 1;
}

/* Apart from what is common, which needs less of the stack. */
static __attribute__((noinline)) void
final_dealloc_slowly(Operation *self)
{
    PyObject *op = (PyObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    int finalized = PyObject_GC_IsFinalized(op);
    if (self->state == NEW && !finalized) {
        /* Not PyObject_CallFinalizerFromDealloc: its mark would stay on an object of the free list. */
        Py_SET_REFCNT(op, 1);
        operation_finalize(self);
        self->finalized = 0; /* not by the collector */
        if (Py_REFCNT(op) > 1) { /* somebody has kept it */
            self->state = ABORTED;
            operation_show(op);
            Py_DECREF(op);
            return;
        }
        Py_SET_REFCNT(op, 0);
        self->state = ABORTED; /* said once, also if the trashcan brings it here again */
    }
    unshow(self);
    self->finalized = 1; /* not the quick way, if the trashcan brings it here again: the collector does not know it any more */
    Py_TRASHCAN_BEGIN(self, final_dealloc) /* its item may be another operation, and so on */
    self->finalized = 0;
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    final_clear(self);
    int which = self->which;
    if (known[which] == type && !finalized && final_keep(self, which)) {
#ifdef Py_REF_DEBUG
        _Py_NewReference(op);
#else
        Py_SET_REFCNT(op, 1);
#endif
        if (which == C_YIELD) {
            self->unshown = 0;
            PyObject_GC_Track(op);
        }
    }
    else {
        PyObject_GC_Del(self);
        Py_DECREF(type);
    }
    Py_TRASHCAN_END
}

static __attribute__((noinline)) void
final_dealloc_some(Operation *self)
{
    if (!final_keep_quickly(self, Py_TYPE(self))) {
        final_dealloc_slowly(self);
    }
}

static void
final_dealloc(Operation *self)
{
#ifndef Py_REF_DEBUG /* see final_keep_quickly */
    if (self->which == C_YIELD && Py_TYPE(self) == known[C_YIELD] && self->state != NEW && !self->finalized && is_empty(self) &&
        final_keep(self, C_YIELD)) {
        Py_SET_REFCNT(self, 1);
        return;
    }
#endif
    final_dealloc_some(self);
}

/* finish(class): the final class derived from it. */
static PyObject *
finish(PyObject *module, PyObject *base)
{
    if (!PyType_Check(base) || !PyType_IsSubtype((PyTypeObject *)base, &OperationType)) {
        PyErr_SetString(PyExc_TypeError, "finish takes a class of operations");
        return NULL;
    }
    PyTypeObject *type = (PyTypeObject *)base;
    if (type->tp_dictoffset != 0) {
        PyErr_SetString(PyExc_TypeError, "a final class has no instance dictionary");
        return NULL;
    }
    PyTypeObject *fields = type; /* the static class with the C fields, whose slots are to be met without a detour */
    while (fields->tp_flags & Py_TPFLAGS_HEAPTYPE) {
        fields = fields->tp_base;
    }
    if (fields->tp_as_async == NULL || fields->tp_as_async->am_send == NULL || fields->tp_iternext == NULL) {
        PyErr_SetString(PyExc_TypeError, "a final class is its own iterator");
        return NULL;
    }
    PyType_Slot final_slots[] = {
        {Py_tp_dealloc, final_dealloc},
        {Py_tp_traverse, final_traverse},
        {Py_tp_clear, final_clear},
        {Py_tp_iter, PyObject_SelfIter},
        {Py_tp_iternext, fields->tp_iternext},
        {Py_am_await, fields->tp_as_async->am_await},
        {Py_am_send, fields->tp_as_async->am_send},
        {0, NULL},
    };
    char name[200]; /* with a module's name in front, which is set rightly below: else it is warned about */
    PyOS_snprintf(name, sizeof(name), "bateau.%s", type->tp_name);
    PyType_Spec spec = {
        .name = name,
        .basicsize = (int)type->tp_basicsize,
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = final_slots,
    };
    PyObject *made = PyType_FromSpecWithBases(&spec, base);
    if (made == NULL) {
        return NULL;
    }
    static const char *const copied[] = {"__module__", "__qualname__", "__doc__", NULL};
    for (int i = 0; copied[i] != NULL; i++) {
        PyObject *value = PyObject_GetAttrString(base, copied[i]);
        if (value == NULL || PyObject_SetAttrString(made, copied[i], value) < 0) {
            Py_XDECREF(value);
            Py_DECREF(made);
            return NULL;
        }
        Py_DECREF(value);
    }
    return made;
}

static PyMethodDef wait_functions[] = {
    {"finish", finish, METH_O, "Derive the final form of a class of operations."},
    {NULL, NULL, 0, NULL},
};

int
kernel_wait_ready(PyObject *module)
{
    return PyModule_AddFunctions(module, wait_functions) < 0 ? -1 : PyModule_AddType(module, &WaitQueueType);
}
