/* The fields of Operation, and those operations that are iterators of their own: yields and checkpoints here, more beside.

   Theory of operation. `await op` asks for an iterator and gets the operation itself. Its first step looks whether this is
   the common case. If so, the wait is done here. If not, the pure generator of the same operation is made, kept in `sub`,
   and does everything: each `send`, `throw` and `close` goes on to it. One function, the *step*, serves both ways in which
   CPython resumes an awaitable: `am_send` (3.11) and `tp_iternext` (3.12 on, which ignores `am_send`).

   `phase`: BEFORE the first step; SUSPENDED in the short way; OVER; GIVING_WAY to the others, before it has begun. `sub` is set only between its first step and its end.
   `state` is that of kernel/operation.py, and means the same. */
#include "operation.h"

/* -- the base -------------------------------------------------------------------------------------------------------------- */

COLLECTED(extern, operation, Operation, OPERATION_OBJECTS, nothing)

/* An operation that was made and never awaited says so; it had no effect. */
void
operation_finalize(Operation *self)
{
    self->finalized = 1; /* by the collector, it may be */
    if (self->state != NEW || kept[K_OPERATION_DEL] == NULL) {
        return;
    }
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyObject *result = PyObject_CallOneArg(kept[K_OPERATION_DEL], (PyObject *)self);
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(result);
    PyErr_Restore(type, value, tb);
}

static void
operation_dealloc(Operation *self)
{
    /* Subclasses written in Python call the finaliser before they come here. */
    if (Py_TYPE(self)->tp_dealloc == (destructor)operation_dealloc &&
        PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    operation_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef operation_members[] = {
    FIELD(Operation, error, "error"),
    FIELD(Operation, resource, "resource"),
    FIELD(Operation, task, "task"),
    FIELD(Operation, value, "value"),
    FIELD(Operation, watcher, "watcher"),
    {"state", Py_T_BYTE, offsetof(Operation, state), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject OperationType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.OperationFields",
    .tp_basicsize = sizeof(Operation),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_weaklistoffset = offsetof(Operation, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)operation_dealloc,
    .tp_finalize = (destructor)operation_finalize,
    .tp_traverse = (traverseproc)operation_traverse,
    .tp_clear = (inquiry)operation_clear,
    .tp_members = operation_members,
};

/* -- being left to the pure generator ---------------------------------------------------------------------------------------- */

/* One step of `sub`; with its end the operation is over. */
PySendResult
operation_pass_on(Operation *self, PyObject *arg, PyObject **result)
{
    PyObject *sub = Py_NewRef(self->sub);
    PySendResult how = PyIter_Send(sub, arg, result);
    if (how != PYGEN_NEXT) {
        self->phase = OVER;
        if (self->sub == sub) {
            Py_CLEAR(self->sub);
        }
    }
    Py_DECREF(sub);
    return how;
}

PySendResult
operation_begin_pure(Operation *self, int which, PyObject *arg, PyObject **result)
{
    PyObject *generator = PyObject_CallOneArg(kept[which], (PyObject *)self);
    if (generator == NULL) {
        self->phase = OVER;
        *result = NULL;
        return PYGEN_ERROR;
    }
    if (generator == (PyObject *)self) { /* a pure method that asked for its super()'s iterator: it would call itself */
        Py_DECREF(generator);
        PyErr_SetString(PyExc_SystemError, "an operation was left to itself");
        self->phase = OVER;
        *result = NULL;
        return PYGEN_ERROR;
    }
    put(self->sub, generator);
    Py_DECREF(generator);
    self->phase = SUSPENDED;
    return operation_pass_on(self, arg, result);
}

/* Raise the cancellation of `task`; the pure kernel knows which. */
PySendResult
operation_raise_cancelled(Operation *self, Task *task, PyObject **result)
{
    self->phase = OVER;
    *result = NULL;
    Engine *engine = plain_engine(task);
    PyObject *error, *record = task->inner != NULL && is_a(task->inner, &NodeType, &seen[SEEN_NODE])
                                   ? ((Node *)task->inner)->effective
                                   : NULL;
    if (engine != NULL && is_set(engine->exact_cancelled_type) && is_set(record)) {
        Py_INCREF(record);
        error = PyObject_CallOneArg(engine->exact_cancelled_type, record);
        Py_DECREF(record);
        if (error != NULL && !has_rare(task, delivered) && put_rare(task, delivered, error) < 0) {
            Py_CLEAR(error);
        }
    } else {
        error = PyObject_CallOneArg(kept[K_MAKE_CANCELLED], (PyObject *)task);
    }
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return PYGEN_ERROR;
}

/* An operation is begun in a task that is cancelled: the pure one asks first whether the task has dropped an earlier cancellation. If none
   was delivered, and none can have come from asyncio, there is nothing to ask. */
int
operation_is_refused(Operation *self, Task *task)
{
    Engine *engine = self->state == NEW && !has_rare(task, delivered) && !task->foreign ? plain_engine(task) : NULL;
    if (engine == NULL || is_set(engine->native_cancelling) || task->inner == NULL ||
        !is_a(task->inner, &NodeType, &seen[SEEN_NODE]) || !is_set(((Node *)task->inner)->effective)) {
        return 0;
    }
    self->state = ABORTED; /* it had no effect */
    return 1;
}

/* -- the iterator's methods ---------------------------------------------------------------------------------------------------- */

PyObject *
operation_resume(Operation *self, PyObject *arg, step_function step)
{
    PyObject *result = NULL;
    Py_INCREF(self);
    PySendResult how = step(self, arg, &result);
    Py_DECREF(self);
    if (how == PYGEN_NEXT) {
        return result;
    }
    if (how == PYGEN_RETURN) {
        /* tp_iternext says "returned None" by NULL without an exception. */
        if (result != Py_None) {
            PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
            if (stop != NULL) {
                PyErr_SetObject(PyExc_StopIteration, stop);
                Py_DECREF(stop);
            }
        }
        Py_DECREF(result);
    }
    return NULL;
}

PyObject *
operation_send_method(Operation *self, PyObject *arg, step_function step)
{
    if (self->phase == BEFORE && arg != Py_None) { /* as of a generator, which the pure code has here */
        PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started operation");
        return NULL;
    }
    PyObject *result = operation_resume(self, arg, step);
    if (result == NULL && !PyErr_Occurred()) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return result;
}

/* The exception that generator.throw's arguments mean: a new reference, or NULL with an error. */
PyObject *
thrown_error(PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 3) {
        PyErr_Format(PyExc_TypeError, "throw takes 1 to 3 arguments, not %zd", nargs);
        return NULL;
    }
    PyObject *error, *value = nargs > 1 && args[1] != Py_None ? args[1] : NULL;
    if (PyExceptionInstance_Check(args[0])) {
        error = Py_NewRef(args[0]);
    } else if (!PyExceptionClass_Check(args[0])) {
        PyErr_Format(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException, not %s",
                     Py_TYPE(args[0])->tp_name);
        return NULL;
    } else if (value != NULL && PyExceptionInstance_Check(value)) {
        error = Py_NewRef(value);
    } else {
        error = value != NULL ? PyObject_CallOneArg(args[0], value) : PyObject_CallNoArgs(args[0]);
        if (error != NULL && !PyExceptionInstance_Check(error)) {
            PyErr_SetString(PyExc_TypeError, "calling the class did not give an exception");
            Py_CLEAR(error);
        }
    }
    if (error != NULL && nargs > 2 && args[2] != Py_None && PyException_SetTraceback(error, args[2]) < 0) {
        Py_CLEAR(error);
    }
    return error;
}

/* Pass throw(...) on to `sub`. */
PyObject *
operation_throw_on(Operation *self, PyObject *error)
{
    PyObject *sub = Py_NewRef(self->sub);
    PyObject *result = PyObject_CallMethodOneArg(sub, str_throw, error);
    if (result == NULL) {
        self->phase = OVER;
        if (self->sub == sub) {
            Py_CLEAR(self->sub);
        }
    }
    Py_DECREF(sub);
    return result;
}

/* throw, for operations that do nothing special about it: it comes out where they are suspended. */
static PyObject *
simple_throw(Operation *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *error = thrown_error(args, nargs);
    if (error == NULL) {
        return NULL;
    }
    PyObject *result = NULL;
    if (self->sub != NULL) {
        result = operation_throw_on(self, error);
        Py_DECREF(error);
        return result;
    }
    if (self->state == NEW) {
        self->state = ABORTED;
    }
    self->phase = OVER;
    put_raised(error);
    return NULL;
}

/* close, of what is left to a pure generator. */
PyObject *
operation_close_on(Operation *self)
{
    PyObject *sub = Py_NewRef(self->sub);
    PyObject *result = PyObject_CallMethodNoArgs(sub, str_close);
    self->phase = OVER;
    if (self->sub == sub) {
        Py_CLEAR(self->sub);
    }
    Py_DECREF(sub);
    return result;
}

static PyObject *
simple_close(Operation *self, PyObject *Py_UNUSED(ignored))
{
    if (self->sub != NULL) {
        return operation_close_on(self);
    }
    if (self->phase == SUSPENDED) {
        self->phase = OVER;
    }
    Py_RETURN_NONE;
}

PyObject *
operation_await(PyObject *self)
{
    if (((Operation *)self)->phase != BEFORE) {
        const char *name = Py_TYPE(self)->tp_name, *dot = strrchr(name, '.'); /* a final class's has a module's name in front */
        PyErr_Format(PyExc_RuntimeError, "this %s was awaited before; each call gives a single-use awaitable, so call again",
                     dot != NULL ? dot + 1 : name);
        return NULL;
    }
    return Py_NewRef(self);
}

/* -- yields and checkpoints -------------------------------------------------------------------------------------------------------- */

/* The task whose step this is in, if nothing but letting the others run is to be done in it; else NULL. */
static inline Task *
yields_simply(void)
{
    Running *here = running_here;
    Task *task = here != NULL ? here->stepped : NULL;
    return task != NULL && (PyObject *)task == here->task && !task_is_cancelled(task) && !has_rare(task, guard) ? task : NULL;
}

/* After the others have run: what `yield_once` does. */
static PySendResult
yield_resumed(Operation *self, PyObject **result)
{
    PyObject *guest = self->task; /* set of a guest alone: then ours */
    Task *task = guest != NULL ? (Task *)guest : running_task();
    PySendResult how = PYGEN_RETURN;
    self->phase = OVER;
    self->task = NULL;
    if (task != NULL && task_is_cancelled(task)) {
        how = operation_raise_cancelled(self, task, result);
    } else {
        *result = Py_NewRef(Py_None);
    }
    Py_XDECREF(guest);
    return how;
}

/* Who yields: a task of an engine, or a guest (wait.c), which the operation then owns until it goes on. -1 with an exception. */
static int
who_yields(Operation *self, Task **task)
{
    *task = running_task();
    if (*task != NULL) {
        return plain_engine(*task) != NULL;
    }
    if (self->state != NEW) {
        return 0;
    }
    return find_guest(task) < 0 ? -1 : *task != NULL;
}

static PySendResult
yield_failed(Operation *self, PyObject **result)
{
    self->state = ABORTED;
    self->phase = OVER;
    *result = NULL;
    return PYGEN_ERROR;
}

static void
yield_suspends(Operation *self, Task *task)
{
    self->phase = SUSPENDED;
    task->budget = STEP_BUDGET;
    if (task != running_task()) {
        put(self->task, task);
    }
}

static __attribute__((noinline)) PySendResult
yield_fully(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->sub != NULL) {
        return operation_pass_on(self, arg, result);
    }
    if (self->phase == BEFORE) {
        Task *task;
        int knows = who_yields(self, &task);
        if (knows < 0) {
            return yield_failed(self, result);
        }
        if (self->state != NEW || !knows || task_is_cancelled(task) || has_rare(task, guard)) {
            if (task != NULL && operation_is_refused(self, task)) {
                return operation_raise_cancelled(self, task, result);
            }
            return operation_begin_pure(self, K_YIELD_AWAIT, arg, result);
        }
        self->state = DONE;
        yield_suspends(self, task);
        *result = Py_NewRef(Py_None);
        return PYGEN_NEXT;
    }
    return yield_resumed(self, result);
}

static inline PySendResult
yield_for(Operation *self, Task *simply, PyObject *arg, PyObject **result)
{
    if (simply != NULL && ((uintptr_t)self->sub | (uintptr_t)self->task) == 0) {
        if (self->phase == SUSPENDED) {
            self->phase = OVER;
            *result = Py_NewRef(Py_None);
            return PYGEN_RETURN;
        }
        if (self->phase == BEFORE && self->state == NEW) {
            self->state = DONE;
            self->phase = SUSPENDED;
            simply->budget = STEP_BUDGET;
            *result = Py_NewRef(Py_None);
            return PYGEN_NEXT;
        }
    }
    return yield_fully(self, arg, result);
}

/* Below a block of another class than the one seen last. */
static __attribute__((noinline)) PySendResult
yield_anew(Operation *self, PyObject *arg, PyObject **result)
{
    return yield_for(self, yields_simply(), arg, result);
}

/* Calls nothing that comes back, so that it needs none of the stack: it is half of what a yield costs. */
static PySendResult
yield_step(Operation *self, PyObject *arg, PyObject **result)
{
    Running *here = running_here;
    Task *task = here != NULL ? here->stepped : NULL;
    if (task != NULL) {
        PyObject *inner = task->inner;
        if (LIKELY(inner == (PyObject *)task || (inner != NULL && Py_TYPE(inner) == seen[SEEN_NODE]))) {
            int simply = (PyObject *)task == here->task && !is_set(((Node *)inner)->effective) && !has_rare(task, guard);
            return yield_for(self, simply ? task : NULL, arg, result);
        }
    }
    return yield_anew(self, arg, result);
}

static PySendResult
checkpoint_step(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->sub != NULL) {
        return operation_pass_on(self, arg, result);
    }
    if (self->phase == BEFORE) {
        Task *task;
        int knows = who_yields(self, &task);
        if (knows < 0) {
            return yield_failed(self, result);
        }
        if (self->state != NEW || !knows || task_is_cancelled(task) ||
            (has_rare(task, guard) && task->budget <= 0)) {
            if (task != NULL && operation_is_refused(self, task)) {
                return operation_raise_cancelled(self, task, result);
            }
            return operation_begin_pure(self, K_CHECKPOINT_AWAIT, arg, result);
        }
        self->state = DONE;
        if (task->budget > 0) {
            task->budget--;
            self->phase = OVER;
            *result = Py_NewRef(Py_None);
            return PYGEN_RETURN;
        }
        yield_suspends(self, task);
        *result = Py_NewRef(Py_None);
        return PYGEN_NEXT;
    }
    return yield_resumed(self, result);
}

ITERATOR(yield, yield_step)
ITERATOR(checkpoint, checkpoint_step)

#define SIMPLE_TYPE(Type, prefix, title)                                                                               \
    static PyMethodDef prefix##_methods[] = {                                                                          \
        {"send", (PyCFunction)prefix##_send, METH_O, "Resume it."},                                                    \
        {"throw", (PyCFunction)(void (*)(void))simple_throw, METH_FASTCALL, "Throw an exception in where it waits."},  \
        {"close", (PyCFunction)simple_close, METH_NOARGS, "Give it up."},                                              \
        {NULL, NULL, 0, NULL},                                                                                         \
    };                                                                                                                 \
    static PyAsyncMethods prefix##_async = {                                                                           \
        .am_await = operation_await,                                                                                   \
        .am_send = (sendfunc)prefix##_step,                                                                            \
    };                                                                                                                 \
    PyTypeObject Type = {                                                                                              \
        PyVarObject_HEAD_INIT(NULL, 0)                                                                                 \
        .tp_name = "bateau._native." title,                                                                            \
        .tp_basicsize = sizeof(Operation),                                                                             \
        .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,                                     \
        .tp_base = &OperationType,                                                                                     \
        .tp_weaklistoffset = offsetof(Operation, weakrefs),                                                            \
        .tp_new = PyType_GenericNew,                                                                                   \
        .tp_dealloc = (destructor)operation_dealloc,                                                                   \
        .tp_finalize = (destructor)operation_finalize,                                                                 \
        .tp_traverse = (traverseproc)operation_traverse,                                                               \
        .tp_clear = (inquiry)operation_clear,                                                                          \
        .tp_as_async = &prefix##_async,                                                                                \
        .tp_iter = PyObject_SelfIter,                                                                                  \
        .tp_iternext = (iternextfunc)prefix##_next,                                                                    \
        .tp_methods = prefix##_methods,                                                                                \
    };

SIMPLE_TYPE(YieldType, yield, "YieldFields")
SIMPLE_TYPE(CheckpointType, checkpoint, "CheckpointFields")

/* The functions of kernel/flow.py that make them: an object with its first state, no constructor called. METH_FASTCALL, because that is
   what CPython calls without a detour (of a module's functions; not METH_NOARGS). */
static PyObject *
make_yield(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 0) {
        return PyErr_Format(PyExc_TypeError, "yield_now() takes no arguments (%zd given)", nargs);
    }
    return (PyObject *)final_new(C_YIELD);
}

static PyObject *
make_checkpoint(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 0) {
        return PyErr_Format(PyExc_TypeError, "checkpoint() takes no arguments (%zd given)", nargs);
    }
    return (PyObject *)final_new(C_CHECKPOINT);
}

static PyMethodDef operation_functions[] = {
    {"yield_now", (PyCFunction)(void (*)(void))make_yield, METH_FASTCALL,
     "yield_now()\n--\n\nAwait it: let every other ready task run once. A cancellation point, before and after the turn."},
    {"checkpoint", (PyCFunction)(void (*)(void))make_checkpoint, METH_FASTCALL,
     "checkpoint()\n--\n\nAwait it: a cancellation check, and a turn for the others if this task's step budget is used up.\n\n"
     "A cancellation point; cancelled, it had no effect."},
    {NULL, NULL, 0, NULL},
};

int
kernel_operation_ready(PyObject *module)
{
    if (PyModule_AddFunctions(module, operation_functions) < 0 || PyModule_AddType(module, &OperationType) < 0 ||
        PyModule_AddType(module, &YieldType) < 0) {
        return -1;
    }
    return PyModule_AddType(module, &CheckpointType);
}
