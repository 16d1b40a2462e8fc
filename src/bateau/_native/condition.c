/* The condition: wait, notify, and `async with` by its lock. See bateau/sync/condition.py, and sync.c for the theory.

   A wait is two waits in one operation. It parks in the condition's queue, in which moment the lock is released; who notifies
   moves it to the lock's, and it stays parked. From then on it can't be aborted (`bound`, which is `notified` in Python), and
   its grant is the lock. A wait that ends in any other way needs the lock again before it may raise: that is left to the pure
   generator `_rest`. */
#include "sync.h"

typedef struct {
    Sync sync;
    PyObject *lock;
} Condition;

typedef struct {
    Placed placed;
    PyObject *condition;
} Wait;

static PyTypeObject ConditionType, WaitType;

/* -- the condition ---------------------------------------------------------------------------------------------------------- */

#define CONDITION_OBJECTS(X) X(lock)

OBJECT_METHODS(condition, Condition, CONDITION_OBJECTS, sync, sync.base.weakrefs)

static PyMemberDef condition_members[] = {
    FIELD(Condition, lock, "lock"),
    {NULL, 0, 0, 0, NULL},
};

/* The condition's lock if it is local and held by `task`, else NULL. Borrowed. */
static Lock *
held_by(Condition *self, Task *task)
{
    if (self->lock == NULL || !is_a(self->lock, &LockType, &seen[SEEN_LOCK])) {
        return NULL;
    }
    Lock *lock = (Lock *)self->lock;
    return lock->owner == (PyObject *)task && !is_set(lock->sync.base.mutex) && sync_places(&lock->sync) != NULL ? lock : NULL;
}

static PyObject *
condition_wait(Condition *self, PyObject *Py_UNUSED(ignored))
{
    Wait *op = (Wait *)final_new(C_CONDITION_WAIT);
    if (op != NULL) {
        op->placed.op.bound = 0;
        put(op->placed.op.resource, self);
        put(op->condition, self);
    }
    return (PyObject *)op;
}

/* `op`, taken out of the condition's queue, waits for the lock now: Wait.turn_to_lock. The caller owns all three. */
static int
turn_to_lock(Operation *op, Lock *lock, PlaceQueue *places)
{
    if (!PyObject_TypeCheck(op, &WaitType) || !is_final(op)) {
        PyObject *result = PyObject_CallMethodOneArg((PyObject *)op, str_turn_to_lock, (PyObject *)lock);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    Wait *wait = (Wait *)op;
    op->bound = 1;
    put(op->resource, lock);
    if (!is_set(lock->owner)) {
        put(lock->owner, wait->placed.owner);
        return operation_fire(op, Py_True);
    }
    wait->placed.place = ++places->drawn;
    if (wait_queue_add(&places->base, op) < 0) {
        return -1;
    }
    return lock->watched ? 0 : lock_watch(lock);
}

/* Move the first `n` waiters on. 0, or -1 with an exception. */
static int
notify(WaitQueue *queue, Lock *lock, long long n)
{
    int failed = 0;
    PlaceQueue *places = sync_places(&lock->sync);
    Py_INCREF(queue);
    Py_INCREF(lock);
    Py_INCREF(places);
    while (!failed && n-- > 0) {
        Operation *op = wait_queue_pop(queue, &failed);
        if (op == NULL) {
            break;
        }
        failed = turn_to_lock(op, lock, places) < 0;
        Py_DECREF(op);
    }
    Py_DECREF(places);
    Py_DECREF(lock);
    Py_DECREF(queue);
    return failed ? -1 : 0;
}

static PyObject *
condition_notify(Condition *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Task *task = running_task();
    WaitQueue *queue = task != NULL ? sync_queue_here(&self->sync) : NULL;
    Lock *lock = queue != NULL ? held_by(self, task) : NULL;
    long long n = 1;
    if (nargs == 1) {
        int overflow = 0;
        n = PyLong_CheckExact(args[0]) ? PyLong_AsLongLongAndOverflow(args[0], &overflow) : -1;
    }
    if (lock == NULL || kwnames != NULL || nargs > 1 || n < 0) {
        return sync_call_pure(K_CONDITION_NOTIFY, (PyObject *)self, args, nargs, kwnames);
    }
    if (notify(queue, lock, n) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
condition_notify_all(Condition *self, PyObject *Py_UNUSED(ignored))
{
    Task *task = running_task();
    WaitQueue *queue = task != NULL ? sync_queue_here(&self->sync) : NULL;
    Lock *lock = queue != NULL ? held_by(self, task) : NULL;
    if (lock == NULL) {
        return PyObject_CallOneArg(kept[K_CONDITION_NOTIFY_ALL], (PyObject *)self);
    }
    if (notify(queue, lock, queue->size) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
condition_aenter(Condition *self, PyObject *Py_UNUSED(ignored))
{
    return PyObject_CallMethodNoArgs(self->lock != NULL ? self->lock : Py_None, str___aenter__);
}

static PyObject *
condition_aexit(Condition *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs != 3 || kwnames != NULL || self->lock == NULL) {
        return sync_call_pure(K_CONDITION_AEXIT, (PyObject *)self, args, nargs, kwnames);
    }
    PyObject *whole[4] = {self->lock, args[0], args[1], args[2]};
    return PyObject_VectorcallMethod(str___aexit__, whole, 4, NULL);
}

static PyMethodDef condition_methods[] = {
    {"wait", (PyCFunction)condition_wait, METH_NOARGS,
     "wait($self)\n--\n\nRelease the lock, wait to be notified, acquire the lock again; gives True.\n\n"
     "A cancellation point. The lock is held again also when this raises; a cancelled wait has used up no notification.\n"
     "Look at the condition again afterwards: another task may have been faster. ``wait_for`` does that."},
    {"notify", (PyCFunction)(void (*)(void))condition_notify, METH_FASTCALL | METH_KEYWORDS,
     "notify($self, n=1)\n--\n\nWake the ``n`` tasks that have waited longest (or all, if fewer wait). Never suspends."},
    {"notify_all", (PyCFunction)condition_notify_all, METH_NOARGS, "notify_all($self)\n--\n\nWake all who wait. Never suspends."},
    {"__aenter__", (PyCFunction)condition_aenter, METH_NOARGS, "__aenter__($self)\n--\n\nAcquire its lock."},
    {"__aexit__", (PyCFunction)(void (*)(void))condition_aexit, METH_FASTCALL | METH_KEYWORDS,
     "__aexit__($self, exc_type, exc, tb)\n--\n\nRelease its lock."},
    {NULL, NULL, 0, NULL},
};

static SYNC_TYPE(ConditionType, Condition, condition, "ConditionFields", &SyncType, condition_members, condition_methods)

/* -- waiting for it --------------------------------------------------------------------------------------------------------- */

#define WAIT_OBJECTS(X) X(condition)

OBJECT_METHODS(wait, Wait, WAIT_OBJECTS, placed, placed.op.weakrefs)

static PyMemberDef wait_members[] = {
    FIELD(Wait, condition, "condition"),
    {"notified", Py_T_BOOL, offsetof(Wait, placed.op.bound), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PySendResult
wait_first(Wait *self, PyObject *arg, PyObject **result)
{
    Operation *op = &self->placed.op;
    Condition *condition = sync_is_fresh(op) && is_a(op->resource, &ConditionType, &seen[SEEN_CONDITION])
                               ? (Condition *)op->resource
                               : NULL;
    Task *task = condition != NULL ? sync_task_at_home(&condition->sync) : NULL;
    WaitQueue *queue = task != NULL ? sync_queue(&condition->sync) : NULL;
    Lock *lock = queue != NULL ? held_by(condition, task) : NULL;
    if (lock == NULL || self->condition != (PyObject *)condition) {
        return operation_begin_pure(op, K_CONDITION_AWAIT, arg, result);
    }
    Py_INCREF(task);
    Py_INCREF(queue);
    Py_INCREF(lock);
    task->budget--;
    put(self->placed.owner, task);
    put(op->task, task);
    op->state = PARKED;
    int status = wait_queue_add(queue, op);
    if (status == 0 && (status = lock_pass_on(lock)) < 0) { /* before the task parks, as in the pure `register` */
        wait_queue_discard(queue, op);
    }
    if (status < 0) {
        op->state = ABORTED;
    } else if (op->state == PARKED) {
        status = operation_park(op, task, NULL);
    } else { /* passing it on has run code that has notified it, and granted it the lock: it parks all the same, and is stepped */
        op->phase = SUSPENDED;
        put(task->waiting, op);
        Engine *engine = plain_engine(task);
        if (engine != NULL) {
            observe(engine, str_park, task);
        }
    }
    Py_DECREF(lock);
    Py_DECREF(queue);
    Py_DECREF(task);
    return status < 0 ? sync_failed(op, result) : operation_parked(result);
}

/* What `_rest` gives: the wait was aborted, or (`thrown`) something was thrown into it. */
static PySendResult
wait_rest(Operation *self, PyObject *thrown, PyObject **result)
{
    operation_show((PyObject *)self); /* it waits in the generator from here on */
    PyObject *generator = PyObject_CallFunctionObjArgs(kept[K_CONDITION_REST], (PyObject *)self, thrown, NULL);
    if (generator == NULL) {
        return sync_failed(self, result);
    }
    put(self->sub, generator);
    Py_DECREF(generator);
    return operation_pass_on(self, Py_None, result);
}

static PySendResult
wait_step(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->sub != NULL) {
        return operation_pass_on(self, arg, result);
    }
    PySendResult how;
    if (operation_gives_way(self, &how, result)) {
        return how;
    }
    if (self->phase == BEFORE) {
        return wait_first((Wait *)self, arg, result);
    }
    if (self->phase == SUSPENDED && self->state == ABORTED) {
        return wait_rest(self, Py_None, result);
    }
    return operation_continue(self, arg, result);
}

static PyObject *
wait_throw(Operation *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (self->sub != NULL || self->phase != SUSPENDED) {
        return parked_throw(self, args, nargs);
    }
    PyObject *error = thrown_error(args, nargs), *result = NULL;
    if (error == NULL) {
        return NULL;
    }
    Py_INCREF(self);
    PySendResult how = wait_rest(self, error, &result);
    Py_DECREF(error);
    Py_DECREF(self);
    if (how == PYGEN_NEXT) {
        return result;
    }
    if (how == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
        Py_DECREF(result);
    }
    return NULL;
}

SYNC_OPERATION_TYPE(WaitType, Wait, wait, "ConditionWaitFields", &PlacedType, wait_members, wait_throw, parked_close)

int
kernel_condition_ready(PyObject *module)
{
    return PyModule_AddType(module, &ConditionType) < 0 ? -1 : PyModule_AddType(module, &WaitType);
}
