/* Awaiting a task: the operation of `await task`, and the telling of those who await one that has ended. */
#include "operation.h"

typedef struct {
    Operation op;
    PyObject *target;
} Join;

#define JOIN_OBJECTS(X) X(target)

OBJECT_METHODS(join, Join, JOIN_OBJECTS, operation, op.weakrefs)

/* Only a `Join` itself: its subclass that can't be cancelled has the pure kernel's ways. And only of a task that has not failed. */
static PySendResult
join_first(Join *self, PyObject *arg, PyObject **result)
{
    Task *task = running_task();
    Engine *engine = task != NULL ? plain_engine(task) : NULL;
    Task *target = self->target != NULL && is_a(self->target, &TaskType, &seen[SEEN_TASK]) ? (Task *)self->target : NULL;
    if (engine == NULL || target == NULL || !is_final(&self->op) || self->op.state != NEW || task->budget <= 0 ||
        task_is_cancelled(task) || target == task || target->host != task->host ||
        (target->ended && has_rare(target, error))) {
        if (task != NULL && is_final(&self->op) && operation_is_refused(&self->op, task)) {
            return operation_raise_cancelled(&self->op, task, result);
        }
        return operation_begin_pure(&self->op, K_OPERATION_AWAIT, arg, result);
    }
    task->budget--;
    if (target->ended) {
        target->error_seen = 1;
        self->op.state = DONE;
        self->op.phase = OVER;
        *result = Py_NewRef(target->value != NULL ? target->value : Py_None);
        return PYGEN_RETURN;
    }
    if (!has_rare(target, joiners)) {
        PyObject *made = WaitQueueType.tp_alloc(&WaitQueueType, 0);
        if (made == NULL) {
            goto failed;
        }
        int status = 0;
        if (!has_rare(target, joiners)) { /* making it may have run a finaliser */
            status = put_rare(target, joiners, made);
        }
        Py_DECREF(made);
        if (status < 0) {
            goto failed;
        }
    }
    if (!has_rare(target, joiners) || !Py_IS_TYPE(target->rare->joiners, &WaitQueueType)) {
        PyErr_SetString(PyExc_TypeError, "those who await a task are kept in a WaitQueue");
        goto failed;
    }
    if (operation_park(&self->op, task, (WaitQueue *)target->rare->joiners) < 0) {
        goto failed;
    }
    return operation_parked(result);
failed:
    self->op.state = ABORTED;
    self->op.phase = OVER;
    *result = NULL;
    return PYGEN_ERROR;
}

static PySendResult
join_step(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->sub != NULL) {
        return operation_pass_on(self, arg, result);
    }
    return self->phase == BEFORE ? join_first((Join *)self, arg, result) : operation_continue(self, arg, result);
}

ITERATOR(join, join_step)

PyObject *
task_join(PyObject *task, PyObject *Py_UNUSED(ignored))
{
    Join *op = (Join *)final_new(C_JOIN);
    if (op != NULL) {
        put(op->target, task);
        put(op->op.resource, task);
    }
    return (PyObject *)op;
}

PyObject *
task_await(PyObject *task)
{
    return task_join(task, NULL); /* its own iterator */
}

/* `Task._tell_joiners`: 0, or -1 with an exception. */
int
task_tell_joiners(Task *self)
{
    if (!has_rare(self, joiners) || !PyObject_TypeCheck(self->rare->joiners, &WaitQueueType)) { /* a field that Python may set */
        PyErr_SetString(PyExc_TypeError, "those who await a task are kept in a WaitQueue");
        return -1;
    }
    WaitQueue *queue = (WaitQueue *)Py_NewRef(self->rare->joiners);
    int status = 0, failed;
    Operation *op;
    while (status == 0 && (op = wait_queue_pop(queue, &failed)) != NULL) {
        self->error_seen = 1;
        if (Py_IS_TYPE(op, known[C_JOIN]) && !has_rare(self, error)) {
            status = operation_fire(op, self->value != NULL ? self->value : Py_None);
        } else {
            PyObject *done = PyObject_CallFunctionObjArgs(kept[K_SETTLE], op, self, NULL);
            Py_XDECREF(done);
            status = done == NULL ? -1 : 0;
        }
        Py_DECREF(op);
    }
    Py_DECREF(queue);
    return status < 0 || failed ? -1 : 0;
}

static PyMemberDef join_members[] = {
    FIELD(Join, target, "target"),
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef join_methods[] = {
    {"send", (PyCFunction)join_send, METH_O, "Resume it."},
    {"throw", (PyCFunction)(void (*)(void))parked_throw, METH_FASTCALL, "Throw an exception in where it waits."},
    {"close", (PyCFunction)parked_close, METH_NOARGS, "Give it up."},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods join_async = {.am_await = operation_await, .am_send = (sendfunc)join_step};

static OPERATION_TYPE(JoinType, "JoinFields", Join, &OperationType, join, join, join_members, join_methods)

int
kernel_join_ready(PyObject *module)
{
    return PyModule_AddType(module, &JoinType);
}
