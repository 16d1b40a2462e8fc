/* Cancelling many: delivering to a task that is parked in one of the final operations, and the exception that it raises. */
#include "operation.h"

/* What `deliver` in kernel/cancellation.py does. */
static PyObject *
deliver(PyObject *module, PyObject *thing)
{
    if (!is_a(thing, &TaskType, &seen[SEEN_TASK])) {
        return PyObject_CallOneArg(kept[K_DELIVER], thing);
    }
    Task *task = (Task *)thing;
    PyObject *waiting = task->waiting;
    if (!task->started || task->ended || !task_is_cancelled(task) || !is_set(waiting) ||
        plain_engine(task) == NULL || !PyObject_TypeCheck(waiting, &OperationType) || !is_final((Operation *)waiting)) {
        return PyObject_CallOneArg(kept[K_DELIVER], thing);
    }
    Operation *op = (Operation *)waiting;
    if (Py_IS_TYPE(op, known[C_PASSAGE])) {
        Py_RETURN_NONE; /* shielded: the cancellation reaches the children instead */
    }
    if (op->state == PARKED && (op->resource == NULL || op->sub != NULL || op->bound)) {
        return PyObject_CallOneArg(kept[K_DELIVER], thing);
    }
    if (op->state != PARKED) {
        Py_RETURN_NONE; /* granted already: its value is delivered, and the next one raises (law 11) */
    }
    Py_INCREF(op);
    int status = 0;
    if (op->queue != NULL) {
        WaitQueue *queue = op->queue;
        Py_INCREF(queue);
        wait_queue_discard(queue, op);
        Py_DECREF(queue);
    } else {
        PyObject *left = PyObject_CallMethodNoArgs((PyObject *)op, str_unregister);
        status = left == NULL ? -1 : 0;
        Py_XDECREF(left);
    }
    if (status == 0) {
        op->state = ABORTED;
        status = task_wake(task);
    }
    Py_DECREF(op);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef cancel_functions[] = {
    {"deliver", deliver, METH_O, "Bring the cancellation of ``task.node`` to the task."},
    {NULL, NULL, 0, NULL},
};

int
kernel_cancel_ready(PyObject *module)
{
    return PyModule_AddFunctions(module, cancel_functions);
}
