/* The semaphore: acquire, release and `async with`. See bateau/sync/semaphore.py, and sync.c for the theory.

   Invariant, as there: where a permit is free, nobody waits. The numbers are Python's, of any size; here those that fit. */
#include "sync.h"

typedef struct {
    Sync sync;
    PyObject *value, *max_value, *held;
} Semaphore;

static PyTypeObject SemaphoreType;

/* The most entries of `held`: from there on the pure method, which drops the tasks that have ended. */
#define HELD_AT_MOST 256

/* -- permits ---------------------------------------------------------------------------------------------------------------- */

/* A whole number of moderate size: 1, or 0 if it is something else. */
static int
small(PyObject *number, long long *value)
{
    int overflow;
    if (number == NULL || !PyLong_CheckExact(number)) {
        return 0;
    }
    *value = PyLong_AsLongLongAndOverflow(number, &overflow);
    return !overflow && *value > -(1LL << 60) && *value < (1LL << 60);
}

static int
add_to(PyObject **field, long long value)
{
    PyObject *number = PyLong_FromLongLong(value);
    if (number == NULL) {
        return -1;
    }
    put_field(field, number);
    Py_DECREF(number);
    return 0;
}

static int
tell(Semaphore *self, PyObject *name, PyObject *task, PyObject *count)
{
    PyObject *result = PyObject_CallMethodObjArgs((PyObject *)self, name, task, count, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* `by` more permits are noted as held by `task`; what else _note_taken and _note_returned do is left to them. */
static int
note(Semaphore *self, PyObject *task, int by)
{
    PyObject *held = self->held;
    PyObject *count = NULL;
    long long value = 0;
    int pure = held == NULL || !PyDict_CheckExact(held) || (by > 0 && PyDict_GET_SIZE(held) >= HELD_AT_MOST);
    if (!pure) {
        count = PyDict_GetItemWithError(held, task);
        if (count == NULL && PyErr_Occurred()) {
            return -1;
        }
        pure = count != NULL ? !small(count, &value) : by < 0;
    }
    if (pure) {
        PyObject *one = PyLong_FromLong(1);
        int told = one == NULL ? -1 : tell(self, by > 0 ? str__note_taken : str__note_returned, task, by > 0 ? NULL : one);
        Py_XDECREF(one);
        return told;
    }
    Py_INCREF(held);
    int status;
    if (value + by == 0) {
        status = PyDict_DelItem(held, task);
    } else {
        PyObject *number = PyLong_FromLongLong(value + by);
        status = number == NULL ? -1 : PyDict_SetItem(held, task, number);
        Py_XDECREF(number);
    }
    Py_DECREF(held);
    return status;
}

/* One more permit is held by `task`, if there is memory for that: it is for reports, and no permit is lost for them. */
static int
note_taken(Semaphore *self, PyObject *task)
{
    if (note(self, task, 1) == 0) {
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* Take a permit for `task`: 1, 0 if none is free, -1 with an exception. */
static int
take(Semaphore *self, Task *task)
{
    long long value;
    if (!small(self->value, &value) || value <= 0) {
        return 0;
    }
    return add_to(&self->value, value - 1) < 0 || note_taken(self, (PyObject *)task) < 0 ? -1 : 1;
}

/* Give one permit to the first who waits, or to nobody. The caller owns `self` and `queue`. */
static int
give(Semaphore *self, WaitQueue *queue)
{
    int failed = 0;
    Operation *op = queue->first != NULL ? wait_queue_pop(queue, &failed) : NULL;
    if (op != NULL) {
        failed = (is_set(op->task) && note_taken(self, op->task) < 0) || operation_fire(op, Py_True) < 0;
        Py_DECREF(op);
        return failed ? -1 : 0;
    }
    long long value;
    if (failed) {
        return -1;
    }
    if (!small(self->value, &value)) {
        PyErr_SetString(PyExc_RuntimeError, "the semaphore's value was replaced");
        return -1;
    }
    return add_to(&self->value, value + 1);
}

/* -- the semaphore ---------------------------------------------------------------------------------------------------------- */

#define SEMAPHORE_OBJECTS(X) X(value) X(max_value) X(held)

OBJECT_METHODS(semaphore, Semaphore, SEMAPHORE_OBJECTS, sync, sync.base.weakrefs)

static PyMemberDef semaphore_members[] = {
    FIELD(Semaphore, value, "_value"),
    FIELD(Semaphore, max_value, "max_value"),
    FIELD(Semaphore, held, "_held"),
    {NULL, 0, 0, 0, NULL},
};

static PyObject *
semaphore_acquire(Semaphore *self, PyObject *Py_UNUSED(ignored))
{
    Operation *op = final_new(C_SEMAPHORE_ACQUIRE);
    if (op != NULL) {
        put(op->resource, self);
    }
    return (PyObject *)op;
}

/* How many permits `release(...)` gives back if that can be done here, else 0. */
static long long
how_many(Semaphore *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, WaitQueue *queue)
{
    long long n = 1, value, most;
    if (kwnames != NULL || nargs > 1 || (nargs == 1 && (!small(args[0], &n) || n < 1)) || !small(self->value, &value)) {
        return 0;
    }
    if (is_set(self->max_value) && (!small(self->max_value, &most) || value + n - queue->size > most)) {
        return 0;
    }
    return n;
}

static PyObject *
semaphore_release(Semaphore *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    WaitQueue *queue = sync_queue_here(&self->sync);
    Task *task = running_task();
    long long n = queue != NULL && task != NULL ? how_many(self, args, nargs, kwnames, queue) : 0;
    if (n == 0) {
        return sync_call_pure(K_SEMAPHORE_RELEASE, (PyObject *)self, args, nargs, kwnames);
    }
    Py_INCREF(queue);
    Py_INCREF(task);
    int status = n == 1 ? note(self, (PyObject *)task, -1) : tell(self, str__note_returned, (PyObject *)task, args[0]);
    while (status == 0 && n-- > 0) {
        status = give(self, queue);
    }
    Py_DECREF(task);
    Py_DECREF(queue);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
semaphore_aenter(Semaphore *self, PyObject *Py_UNUSED(ignored))
{
    Task *task;
    if (sync_find_task(&self->sync, &task) < 0) {
        return NULL;
    }
    int taken = task != NULL ? take(self, task) : 0;
    if (taken > 0) {
        task->budget--;
        return Py_NewRef(kept[K_ACQUIRED]);
    }
    return taken < 0 ? NULL : semaphore_acquire(self, NULL);
}

static PyObject *
semaphore_aexit(Semaphore *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs != 3 || kwnames != NULL) {
        return sync_call_pure(K_SEMAPHORE_AEXIT, (PyObject *)self, args, nargs, kwnames);
    }
    PyObject *released = Py_TYPE(self) == known[C_SEMAPHORE] ? semaphore_release(self, NULL, 0, NULL)
                                                             : PyObject_CallMethodNoArgs((PyObject *)self, str_release);
    if (released == NULL) {
        return NULL;
    }
    Py_DECREF(released);
    return Py_NewRef(kept[K_NOTHING]);
}

static PyMethodDef semaphore_methods[] = {
    {"acquire", (PyCFunction)semaphore_acquire, METH_NOARGS,
     "acquire($self)\n--\n\nWait for a permit; gives True. A cancellation point; cancelled, it had no effect."},
    {"release", (PyCFunction)(void (*)(void))semaphore_release, METH_FASTCALL | METH_KEYWORDS,
     "release($self, n=1)\n--\n\nGive back ``n`` permits, to those who wait first. Never suspends. Callable from anywhere the flavour allows.\n\n"
     "Raises ``ValueError`` for ``n`` below 1, or if there would be more than ``max_value`` (then nothing is given back)."},
    {"__aenter__", (PyCFunction)semaphore_aenter, METH_NOARGS, "__aenter__($self)\n--\n\nAcquire it."},
    {"__aexit__", (PyCFunction)(void (*)(void))semaphore_aexit, METH_FASTCALL | METH_KEYWORDS,
     "__aexit__($self, exc_type, exc, tb)\n--\n\nRelease it."},
    {NULL, NULL, 0, NULL},
};

static SYNC_TYPE(SemaphoreType, Semaphore, semaphore, "SemaphoreFields", &SyncType, semaphore_members, semaphore_methods)

/* -- acquiring -------------------------------------------------------------------------------------------------------------- */


OBJECT_METHODS(permit, Placed, NO_OBJECTS, placed, op.weakrefs)

static PySendResult
permit_first(Placed *self, PyObject *arg, PyObject **result)
{
    Operation *op = &self->op;
    Semaphore *semaphore = sync_is_fresh(op) && is_a(op->resource, &SemaphoreType, &seen[SEEN_SEMAPHORE])
                               ? (Semaphore *)op->resource
                               : NULL;
    Task *task = NULL;
    if (semaphore != NULL && sync_find_task(&semaphore->sync, &task) < 0) {
        return sync_failed(op, result);
    }
    PlaceQueue *places = task != NULL && op->state == NEW ? sync_places(&semaphore->sync) : NULL;
    long long value;
    if (places == NULL || !small(semaphore->value, &value)) {
        return operation_begin_pure(op, K_OPERATION_AWAIT, arg, result);
    }
    Py_INCREF(semaphore);
    Py_INCREF(task);
    Py_INCREF(places);
    PySendResult how;
    int taken = take(semaphore, task);
    if (taken > 0) {
        how = sync_done(op, task, Py_NewRef(Py_True), result);
    } else if (taken < 0) {
        how = sync_failed(op, result);
    } else {
        task->budget--;
        self->place = ++places->drawn;
        how = operation_park(op, task, &places->base) < 0 ? sync_failed(op, result) : operation_parked_guest(op, result);
    }
    Py_DECREF(places);
    Py_DECREF(task);
    Py_DECREF(semaphore);
    return how;
}

static PySendResult
permit_step(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->sub != NULL) {
        return operation_pass_on(self, arg, result);
    }
    PySendResult how;
    if (operation_gives_way(self, &how, result)) {
        return how;
    }
    return self->phase == BEFORE ? permit_first((Placed *)self, arg, result) : operation_continue(self, arg, result);
}

SYNC_OPERATION_TYPE(PermitType, Placed, permit, "SemaphoreAcquireFields", &PlacedType, NULL, parked_throw, parked_close)

int
kernel_semaphore_ready(PyObject *module)
{
    return PyModule_AddType(module, &SemaphoreType) < 0 ? -1 : PyModule_AddType(module, &PermitType);
}
