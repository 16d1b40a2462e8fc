/* The event: set, clear and wait. See bateau/sync/event.py, and sync.c for the theory. */
#include "sync.h"

typedef struct {
    Sync sync;
    char flag;
} Event;


static PyTypeObject EventType;

/* -- the event --------------------------------------------------------------------------------------------------------------- */

OBJECT_METHODS(event, Event, NO_OBJECTS, sync, sync.base.weakrefs)

static PyMemberDef event_members[] = {
    {"_flag", Py_T_BOOL, offsetof(Event, flag), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *
event_is_set(Event *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->flag);
}

static PyObject *
event_set(Event *self, PyObject *Py_UNUSED(ignored))
{
    WaitQueue *queue = sync_queue_here(&self->sync);
    if (queue == NULL) {
        return PyObject_CallOneArg(kept[K_EVENT_SET], (PyObject *)self);
    }
    self->flag = 1;
    if (queue->first == NULL) {
        Py_RETURN_NONE;
    }
    Py_INCREF(queue);
    int failed = 0;
    Operation *op;
    while (!failed && (op = wait_queue_pop(queue, &failed)) != NULL) {
        failed = operation_fire(op, Py_True) < 0;
        Py_DECREF(op);
    }
    Py_DECREF(queue);
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
event_clear_flag(Event *self, PyObject *Py_UNUSED(ignored))
{
    if (sync_queue_here(&self->sync) == NULL) {
        return PyObject_CallOneArg(kept[K_EVENT_CLEAR], (PyObject *)self);
    }
    self->flag = 0;
    Py_RETURN_NONE;
}

static PyObject *
event_wait(Event *self, PyObject *Py_UNUSED(ignored))
{
    Operation *op = final_new(C_EVENT_WAIT);
    if (op != NULL) {
        put(op->resource, self);
    }
    return (PyObject *)op;
}

static PyMethodDef event_methods[] = {
    {"is_set", (PyCFunction)event_is_set, METH_NOARGS, "is_set($self)\n--\n\nWhether the flag is true."},
    {"set", (PyCFunction)event_set, METH_NOARGS,
     "set($self)\n--\n\nMake the flag true and wake all who wait, even if it is cleared again before they run. Never suspends."},
    {"clear", (PyCFunction)event_clear_flag, METH_NOARGS,
     "clear($self)\n--\n\nMake the flag false: who waits from now on, waits for the next ``set()``."},
    {"wait", (PyCFunction)event_wait, METH_NOARGS,
     "wait($self)\n--\n\nWait until the flag is true; gives True. A cancellation point; cancelled, it had no effect."},
    {NULL, NULL, 0, NULL},
};

static SYNC_TYPE(EventType, Event, event, "EventFields", &SyncType, event_members, event_methods)

/* -- waiting for it ---------------------------------------------------------------------------------------------------------- */

OBJECT_METHODS(event_wait, Operation, NO_OBJECTS, operation, weakrefs)

static PySendResult
event_wait_first(Operation *self, PyObject *arg, PyObject **result)
{
    Event *event = sync_is_fresh(self) && is_a(self->resource, &EventType, &seen[SEEN_EVENT]) ? (Event *)self->resource : NULL;
    Task *task = NULL;
    if (event != NULL && sync_find_task(&event->sync, &task) < 0) {
        return sync_failed(self, result);
    }
    WaitQueue *queue = task != NULL && self->state == NEW ? sync_queue(&event->sync) : NULL;
    if (queue == NULL) {
        return operation_begin_pure(self, K_OPERATION_AWAIT, arg, result);
    }
    if (event->flag) {
        return sync_done(self, task, Py_NewRef(Py_True), result);
    }
    task->budget--;
    Py_INCREF(queue);
    Py_INCREF(task);
    PySendResult how = operation_park(self, task, queue) < 0 ? sync_failed(self, result) : operation_parked_guest(self, result);
    Py_DECREF(task);
    Py_DECREF(queue);
    return how;
}

static PySendResult
event_wait_step(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->sub != NULL) {
        return operation_pass_on(self, arg, result);
    }
    PySendResult how;
    if (operation_gives_way(self, &how, result)) {
        return how;
    }
    return self->phase == BEFORE ? event_wait_first(self, arg, result) : operation_continue(self, arg, result);
}

SYNC_OPERATION_TYPE(EventWaitType, Operation, event_wait, "EventWaitFields", &OperationType, NULL, parked_throw, parked_close)

int
kernel_event_ready(PyObject *module)
{
    return PyModule_AddType(module, &EventType) < 0 ? -1 : PyModule_AddType(module, &EventWaitType);
}
