/* The lock: acquire, release and `async with`. See bateau/sync/lock.py, and sync.c for the theory.

   Invariant, as there: where nobody owns the lock, nobody waits for it. `watched` is set while the owner's `at_end` may have
   an entry of ours, which it has while somebody waits. */
#include "sync.h"

typedef struct {
    Placed placed;
    PyObject *timer; /* of the lock's patience; set by the pure `register` alone */
} Acquire;

static PyTypeObject AcquireType;

/* -- handing over ------------------------------------------------------------------------------------------------------------- */

/* Learn of the owner's end, as Lock._watch does. 0, or -1 with an exception. */
int
lock_watch(Lock *lock)
{
    PyObject *held = lock->owner;
    if (held != NULL && is_a(held, &TaskType, &seen[SEEN_TASK]) && is_set(((Task *)held)->coro) &&
        !((Task *)held)->ended && kept[K_LOCK_OWNER_ENDED] != NULL) {
        Task *owner = (Task *)held;
        Py_INCREF(owner);
        int status = 0;
        if (!has_rare(owner, at_end)) {
            PyObject *calls = PyDict_New();
            if (calls == NULL) {
                status = -1;
            } else if (!has_rare(owner, at_end)) { /* still: making one may have run anything */
                status = put_rare(owner, at_end, calls);
            }
            Py_XDECREF(calls);
        }
        PyObject *calls = Py_XNewRef(rare_of(owner, at_end));
        PyObject *call = status == 0 ? PyMethod_New(kept[K_LOCK_OWNER_ENDED], (PyObject *)lock) : NULL;
        if (call == NULL || calls == NULL || !PyDict_CheckExact(calls)) {
            status = -1;
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_RuntimeError, "a task's at_end was replaced");
            }
        } else {
            lock->watched = 1;
            status = PyDict_SetItem(calls, (PyObject *)lock, call);
        }
        Py_XDECREF(call);
        Py_XDECREF(calls);
        Py_DECREF(owner);
        return status;
    }
    PyObject *result = PyObject_CallMethodNoArgs((PyObject *)lock, str__watch);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The owner's end is somebody else's to tell of. */
static int
lock_unwatch(Lock *lock)
{
    lock->watched = 0;
    if (lock->owner == NULL || !is_a(lock->owner, &TaskType, &seen[SEEN_TASK])) {
        return 0; /* a plain thread: there was nothing to watch */
    }
    PyObject *calls = rare_of((Task *)lock->owner, at_end);
    if (!is_set(calls) || !PyDict_CheckExact(calls)) {
        return 0;
    }
    Py_INCREF(calls);
    int status = PyDict_DelItem(calls, (PyObject *)lock);
    Py_DECREF(calls);
    if (status < 0 && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
        return 0;
    }
    return status;
}

/* For whom `op` acquires. A new reference, or NULL with an exception. */
static PyObject *
owner_of(Operation *op)
{
    if (is_a((PyObject *)op, &PlacedType, &seen[SEEN_PLACED])) {
        PyObject *owner = ((Placed *)op)->owner;
        if (is_set(owner)) {
            return Py_NewRef(owner);
        }
    }
    return PyObject_GetAttr((PyObject *)op, str_owner);
}

/* Grant `op` the lock, whose owner is set: its patience, if any, is at its end. */
static int
grant(Operation *op)
{
    if (PyObject_TypeCheck(op, &AcquireType) && is_set(((Acquire *)op)->timer)) {
        PyObject *result = PyObject_CallMethodOneArg((PyObject *)op, str_fire, Py_True);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    return operation_fire(op, Py_True);
}

/* Lock._pass_on: the owner gives it up, and the first waiter becomes the owner. The caller owns `lock`. */
int
lock_pass_on(Lock *lock)
{
    PlaceQueue *places = sync_places(&lock->sync);
    if (places == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the lock's queue was replaced");
        return -1;
    }
    Py_INCREF(places);
    WaitQueue *queue = &places->base;
    int failed = 0;
    Operation *op = NULL;
    if (lock->watched && lock_unwatch(lock) < 0) {
        failed = 1;
    } else if (queue->first == NULL) {
        put(lock->owner, NULL);
    } else if ((op = wait_queue_pop(queue, &failed)) != NULL) {
        PyObject *owner = owner_of(op);
        failed = owner == NULL;
        if (owner != NULL) {
            put(lock->owner, owner);
            Py_DECREF(owner);
            /* It is the owner: it is told so also where memory is short for the watch. */
            PyObject *error = queue->first != NULL && lock_watch(lock) < 0 ? take_raised() : NULL;
            failed = grant(op) < 0;
            if (error != NULL) {
                PyErr_Clear();
                put_raised(error);
                failed = 1;
            }
        }
        Py_DECREF(op);
    } else if (!failed) {
        put(lock->owner, NULL);
    }
    Py_DECREF(places);
    return failed ? -1 : 0;
}

/* -- the lock --------------------------------------------------------------------------------------------------------------- */

#define LOCK_OBJECTS(X) X(owner) X(patience)

OBJECT_METHODS(lock, Lock, LOCK_OBJECTS, sync, sync.base.weakrefs)

static PyMemberDef lock_members[] = {
    FIELD(Lock, owner, "_owner"),
    FIELD(Lock, patience, "patience"),
    {"_watched", Py_T_BOOL, offsetof(Lock, watched), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *
lock_acquire(Lock *self, PyObject *Py_UNUSED(ignored))
{
    Acquire *op = (Acquire *)final_new(C_LOCK_ACQUIRE);
    if (op != NULL) {
        put(op->placed.op.resource, self);
    }
    return (PyObject *)op;
}

static PyObject *
lock_release(Lock *self, PyObject *Py_UNUSED(ignored))
{
    Task *me = running_task();
    int knows = me != NULL && plain_engine(me) != NULL;
    if (me == NULL && is_set(self->owner) && !is_set(self->sync.base.mutex)) {
        if (find_guest(&me) < 0) {
            return NULL;
        }
        knows = me != NULL;
    }
    if (!knows || self->owner != (PyObject *)me || is_set(self->sync.base.mutex) || sync_places(&self->sync) == NULL) {
        return PyObject_CallOneArg(kept[K_LOCK_RELEASE], (PyObject *)self);
    }
    if (lock_pass_on(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
lock_aenter(Lock *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_set(self->owner)) {
        Task *task;
        if (sync_find_task(&self->sync, &task) < 0) {
            return NULL;
        }
        if (task != NULL && !is_set(self->owner)) {
            task->budget--;
            put(self->owner, task);
            return Py_NewRef(kept[K_ACQUIRED]);
        }
    }
    return lock_acquire(self, NULL);
}

static PyObject *
lock_aexit(Lock *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs != 3 || kwnames != NULL) {
        return sync_call_pure(K_LOCK_AEXIT, (PyObject *)self, args, nargs, kwnames);
    }
    PyObject *released = Py_TYPE(self) == known[C_LOCK] ? lock_release(self, NULL)
                                                        : PyObject_CallMethodNoArgs((PyObject *)self, str_release);
    if (released == NULL) {
        return NULL;
    }
    Py_DECREF(released);
    return Py_NewRef(kept[K_NOTHING]);
}

static PyMethodDef lock_methods[] = {
    {"acquire", (PyCFunction)lock_acquire, METH_NOARGS,
     "acquire($self)\n--\n\nWait until the lock is this task's own; gives True. A cancellation point; cancelled, it had no effect.\n\n"
     "Raises ``OwnershipError`` if this task has it already, ``AbandonedLock`` if its owner has ended."},
    {"release", (PyCFunction)lock_release, METH_NOARGS,
     "release($self)\n--\n\nGive the lock to the first who waits, or free it. Never suspends.\n\n"
     "Raises ``OwnershipError`` unless the calling task (or plain thread) is the owner."},
    {"__aenter__", (PyCFunction)lock_aenter, METH_NOARGS, "__aenter__($self)\n--\n\nAcquire it."},
    {"__aexit__", (PyCFunction)(void (*)(void))lock_aexit, METH_FASTCALL | METH_KEYWORDS,
     "__aexit__($self, exc_type, exc, tb)\n--\n\nRelease it."},
    {NULL, NULL, 0, NULL},
};

SYNC_TYPE(LockType, Lock, lock, "LockFields", &SyncType, lock_members, lock_methods)

/* -- acquiring -------------------------------------------------------------------------------------------------------------- */

#define ACQUIRE_OBJECTS(X) X(timer)

OBJECT_METHODS(acquire, Acquire, ACQUIRE_OBJECTS, placed, placed.op.weakrefs)

static PyMemberDef acquire_members[] = {
    FIELD(Acquire, timer, "timer"),
    {NULL, 0, 0, 0, NULL},
};

static PySendResult
acquire_first(Acquire *self, PyObject *arg, PyObject **result)
{
    Operation *op = &self->placed.op;
    Lock *lock = sync_is_fresh(op) && is_a(op->resource, &LockType, &seen[SEEN_LOCK]) ? (Lock *)op->resource : NULL;
    Task *task = NULL;
    if (lock != NULL && sync_find_task(&lock->sync, &task) < 0) {
        return sync_failed(op, result);
    }
    if (task == NULL || op->state != NEW) {
        return operation_begin_pure(op, K_OPERATION_AWAIT, arg, result);
    }
    if (!is_set(lock->owner)) {
        put(lock->owner, task);
        return sync_done(op, task, Py_NewRef(Py_True), result);
    }
    PyObject *held = lock->owner;
    PlaceQueue *places = sync_places(&lock->sync);
    if (held == (PyObject *)task || !is_a(held, &TaskType, &seen[SEEN_TASK]) || ((Task *)held)->ended ||
        is_set(lock->patience) || places == NULL) {
        return operation_begin_pure(op, K_OPERATION_AWAIT, arg, result);
    }
    Py_INCREF(lock);
    Py_INCREF(task);
    Py_INCREF(places);
    PySendResult how;
    if (!lock->watched && lock_watch(lock) < 0) {
        how = sync_failed(op, result);
    } else if (lock->owner != held || op->state != NEW) { /* watching has made a dict, and that may have run anything */
        how = operation_begin_pure(op, K_OPERATION_AWAIT, arg, result);
    } else {
        task->budget--;
        put(self->placed.owner, task);
        self->placed.place = ++places->drawn;
        how = operation_park(op, task, &places->base) < 0 ? sync_failed(op, result) : operation_parked_guest(op, result);
    }
    Py_DECREF(places);
    Py_DECREF(task);
    Py_DECREF(lock);
    return how;
}

static PySendResult
acquire_step(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->sub != NULL) {
        return operation_pass_on(self, arg, result);
    }
    PySendResult how;
    if (operation_gives_way(self, &how, result)) {
        return how;
    }
    return self->phase == BEFORE ? acquire_first((Acquire *)self, arg, result) : operation_continue(self, arg, result);
}

SYNC_OPERATION_TYPE(AcquireType, Acquire, acquire, "LockAcquireFields", &PlacedType, acquire_members, parked_throw, parked_close)

int
kernel_lock_ready(PyObject *module)
{
    return PyModule_AddType(module, &LockType) < 0 ? -1 : PyModule_AddType(module, &AcquireType);
}
