/* Sleeping: the operation of time.sleep, in a task of a plain engine. */
#include "operation.h"
#include <math.h>

typedef struct {
    Operation op;
    PyObject *seconds, *when, *timer;
} Sleep;

#define SLEEP_OBJECTS(X) X(seconds) X(when) X(timer)

OBJECT_METHODS(sleep, Sleep, SLEEP_OBJECTS, operation, op.weakrefs)

int
sleep_forget_timer(Operation *op)
{
    PyObject *timer = ((Sleep *)op)->timer;
    if (timer == NULL || !Py_IS_TYPE(timer, &TimerType)) {
        return 0;
    }
    ((Sleep *)op)->timer = NULL;
    timer_cancel((Timer *)timer);
    Py_DECREF(timer);
    return 1;
}

static PySendResult
sleep_failed(Operation *self, PyObject **result)
{
    self->state = ABORTED;
    self->phase = OVER;
    *result = NULL;
    return PYGEN_ERROR;
}

static PySendResult
sleep_first(Sleep *self, PyObject *arg, PyObject **result)
{
    Task *task = running_task();
    Engine *engine = task != NULL ? plain_engine(task) : NULL;
    if (engine == NULL || self->op.state != NEW || task->budget <= 0 || task_is_cancelled(task) ||
        is_set(self->when) || self->seconds == NULL || !PyFloat_CheckExact(self->seconds) ||
        PyFloat_AS_DOUBLE(self->seconds) <= 0.0) {
        if (task != NULL && operation_is_refused(&self->op, task)) {
            return operation_raise_cancelled(&self->op, task, result);
        }
        return operation_begin_pure(&self->op, K_SLEEP_AWAIT, arg, result);
    }
    double now;
    if (engine_now(engine, &now) < 0) {
        return sleep_failed(&self->op, result);
    }
    double due = now + PyFloat_AS_DOUBLE(self->seconds);
    PyObject *when = isinf(due) ? Py_NewRef(self->seconds) : PyFloat_FromDouble(due);
    if (when == NULL) {
        return sleep_failed(&self->op, result);
    }
    put(self->when, when);
    Py_DECREF(when);
    task->budget--;
    if (due <= now) {
        self->op.state = DONE;
        self->op.phase = OVER;
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    if (!isinf(due)) { /* else it is cancelled some day, and needs no timer */
        Timer *timer = engine_set_timer(engine, due, (PyObject *)self);
        if (timer == NULL) {
            return sleep_failed(&self->op, result);
        }
        put(self->timer, timer);
        Py_DECREF(timer);
    }
    if (operation_park(&self->op, task, NULL) < 0) {
        return sleep_failed(&self->op, result);
    }
    return operation_parked(result);
}

static PySendResult
sleep_step(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->sub != NULL) {
        return operation_pass_on(self, arg, result);
    }
    return self->phase == BEFORE ? sleep_first((Sleep *)self, arg, result) : operation_continue(self, arg, result);
}

ITERATOR(sleep, sleep_step)

static PyMemberDef sleep_members[] = {
    FIELD(Sleep, seconds, "seconds"),
    FIELD(Sleep, when, "when"),
    FIELD(Sleep, timer, "timer"),
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef sleep_methods[] = {
    {"send", (PyCFunction)sleep_send, METH_O, "Resume it."},
    {"throw", (PyCFunction)(void (*)(void))parked_throw, METH_FASTCALL, "Throw an exception in where it waits."},
    {"close", (PyCFunction)parked_close, METH_NOARGS, "Give it up."},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods sleep_async = {.am_await = operation_await, .am_send = (sendfunc)sleep_step};

static OPERATION_TYPE(SleepType, "SleepFields", Sleep, &OperationType, sleep, sleep, sleep_members, sleep_methods)

/* sleep(seconds), for a float (or small int) that needs no word about it. */
static PyObject *
sleep_function(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs == 1 && kwnames == NULL && kept[K_CLOCK] != NULL && known[C_SLEEP] != NULL &&
        (PyFloat_CheckExact(args[0]) || PyLong_CheckExact(args[0]))) {
        double seconds = PyFloat_AsDouble(args[0]);
        if (seconds == -1.0 && PyErr_Occurred()) {
            return NULL;
        }
        if (seconds > 0.0 && !isinf(seconds)) {
            PyObject *length = PyFloat_CheckExact(args[0]) ? Py_NewRef(args[0]) : PyFloat_FromDouble(seconds);
            Sleep *op = length != NULL ? (Sleep *)final_new(C_SLEEP) : NULL;
            if (op != NULL) {
                put(op->seconds, length);
                put(op->op.resource, kept[K_CLOCK]);
            }
            Py_XDECREF(length);
            return (PyObject *)op;
        }
    }
    return PyObject_Vectorcall(kept[K_SLEEP], args, (size_t)nargs, kwnames);
}

static PyMethodDef sleep_functions[] = {
    {"sleep", (PyCFunction)(void (*)(void))sleep_function, METH_FASTCALL | METH_KEYWORDS,
     "sleep(seconds)\n--\n\nAwait it: suspend this task for ``seconds`` (0: only let every other ready task run once).\n\n"
     "A cancellation point; cancelled, it ends at once. Never wakes early. Raises ``ValueError`` for a negative time and\n"
     "``TypeError`` for what is no number, when called. ``math.inf`` sleeps until cancelled."},
    {NULL, NULL, 0, NULL},
};

int
kernel_sleep_ready(PyObject *module)
{
    return PyModule_AddFunctions(module, sleep_functions) < 0 ? -1 : PyModule_AddType(module, &SleepType);
}
