/* Cancelling many: delivering to a task that is parked in one of the final operations, and the exception that it raises. */
#include "operation.h"

static int
deliver_pure(PyObject *thing)
{
    PyObject *done = PyObject_CallOneArg(kept[K_DELIVER], thing);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* What `deliver` in kernel/cancellation.py does: 0, or -1 with an exception. */
static int
deliver_to(PyObject *thing)
{
    if (!is_a(thing, &TaskType, &seen[SEEN_TASK])) {
        return deliver_pure(thing);
    }
    Task *task = (Task *)thing;
    PyObject *waiting = task->waiting;
    if (!task->started || task->ended || !task_is_cancelled(task) || !is_set(waiting) ||
        plain_engine(task) == NULL || !PyObject_TypeCheck(waiting, &OperationType) || !is_final((Operation *)waiting)) {
        return deliver_pure(thing);
    }
    Operation *op = (Operation *)waiting;
    if (Py_IS_TYPE(op, known[C_PASSAGE])) {
        return 0; /* shielded: the cancellation reaches the children instead */
    }
    if (op->state == PARKED && (op->resource == NULL || op->sub != NULL || op->bound)) {
        return deliver_pure(thing);
    }
    if (op->state != PARKED) {
        return 0; /* granted already: its value is delivered, and the next one raises (law 11) */
    }
    Py_INCREF(op);
    int status = 0;
    if (op->queue != NULL) {
        WaitQueue *queue = op->queue;
        Py_INCREF(queue);
        wait_queue_discard(queue, op);
        Py_DECREF(queue);
    } else if (!Py_IS_TYPE(op, known[C_SLEEP]) || !sleep_forget_timer(op)) {
        PyObject *left = PyObject_CallMethodNoArgs((PyObject *)op, str_unregister);
        status = left == NULL ? -1 : 0;
        Py_XDECREF(left);
    }
    if (status == 0) {
        op->state = ABORTED;
        status = task_wake(task);
    }
    Py_DECREF(op);
    return status;
}

static PyObject *
deliver(PyObject *module, PyObject *thing)
{
    if (deliver_to(thing) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* -- a whole subtree ------------------------------------------------------------------------------------------------------------- */

/* Whether a cancellation from above stops before `node`; -1 with an exception. */
static int
is_shielded(PyObject *node)
{
    if (is_a(node, &TaskType, &seen[SEEN_TASK])) {
        return 0;
    }
    if (PyObject_TypeCheck(node, &CancellableType)) {
        return ((Cancellable *)node)->shielded;
    }
    PyObject *value = PyObject_GetAttr(node, str_shielded);
    int shielded = value == NULL ? -1 : PyObject_IsTrue(value);
    Py_XDECREF(value);
    return shielded;
}

/* The children of `node` that its cancellation reaches, appended to `todo`. */
static int
extend_by_children(PyObject *todo, Node *node)
{
    Children *children = (Children *)node->children;
    if (!is_set(children) || children->size == 0) {
        return 0;
    }
    PyObject *below = PySequence_Tuple((PyObject *)children); /* asking may run anything */
    if (below == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(below); i++) {
        PyObject *child = PyTuple_GET_ITEM(below, i);
        int shielded = is_shielded(child);
        if (shielded < 0 || (!shielded && !is_set(((Node *)child)->effective) && PyList_Append(todo, child) < 0)) {
            Py_DECREF(below);
            return -1;
        }
    }
    Py_DECREF(below);
    return 0;
}

/* What `_spread` does, for nodes that are ours: marks the unshielded subtree, then delivers to the tasks found, then tells who listens. */
static PyObject *
spread(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "spread takes a node and a record, not %zd arguments", nargs);
        return NULL;
    }
    if (!PyObject_TypeCheck(args[0], &NodeType)) {
        return PyObject_Vectorcall(kept[K_SPREAD], args, 2, NULL);
    }
    PyObject *todo = PyList_New(0), *found = PyList_New(0), *listeners = PyList_New(0), *result = NULL;
    if (todo == NULL || found == NULL || listeners == NULL || PyList_Append(todo, args[0]) < 0) {
        goto end;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(todo); i++) { /* which grows meanwhile */
        Node *node = (Node *)PyList_GET_ITEM(todo, i);
        put(node->effective, args[1]);
        PyObject *task = node->task;
        if (!is_set(task)) {
            if (PyList_Append(listeners, (PyObject *)node) < 0) {
                goto undo;
            }
        } else if (is_a(task, &TaskType, &seen[SEEN_TASK]) && ((Task *)task)->inner == (PyObject *)node &&
                   PyList_Append(found, task) < 0) {
            goto undo;
        }
        if (is_set(node->children) && !Py_IS_TYPE(node->children, &ChildrenType)) {
            PyErr_SetString(PyExc_TypeError, "the children of a node are kept in a Children");
            goto undo;
        }
        if (extend_by_children(todo, node) < 0) {
            goto undo;
        }
    }
    PyObject *failure = NULL; /* the first: the other tasks are told all the same */
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(found); i++) {
        if (deliver_to(PyList_GET_ITEM(found, i)) < 0) {
            if (failure == NULL) {
                failure = take_raised();
            } else {
                PyErr_Clear();
            }
        }
    }
    if (failure != NULL) {
        put_raised(failure);
        goto end;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(listeners); i++) {
        PyObject *told = PyObject_CallMethodNoArgs(PyList_GET_ITEM(listeners, i), str_heard);
        if (told == NULL) {
            goto end;
        }
        Py_DECREF(told);
    }
    result = Py_NewRef(Py_None);
    goto end;
undo:; /* nobody has been told: nothing is cancelled, and it can be tried again */
    PyObject *error = take_raised();
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(todo); i++) {
        Node *node = (Node *)PyList_GET_ITEM(todo, i);
        if (node->effective == args[1]) {
            put(node->effective, NULL);
        }
    }
    put_raised(error);
end:
    Py_XDECREF(todo);
    Py_XDECREF(found);
    Py_XDECREF(listeners);
    return result;
}

static PyMethodDef cancel_functions[] = {
    {"deliver", deliver, METH_O, "Bring the cancellation of ``task.node`` to the task."},
    {"spread", (PyCFunction)(void (*)(void))spread, METH_FASTCALL, "Mark what is below a cancelled node, and deliver to the tasks found."},
    {NULL, NULL, 0, NULL},
};

int
kernel_cancel_ready(PyObject *module)
{
    return PyModule_AddFunctions(module, cancel_functions);
}
