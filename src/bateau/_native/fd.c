/* Waiting for descriptors: the fields of Side, FdWatch and FdOperation, and the wait itself. io/fd.py says what it is about.

   Theory of operation. An FdOperation is its own iterator: its step makes the attempt, parks on its side when that would
   block, and makes it again when woken. The attempt is the method `poll` of the operation's class; those of the final classes of
   streams and datagram sockets are C (socket.c). As everywhere in the twin, the first step takes this short way in the
   common case only, and else is left to the pure generator.

   A wake is a hint. The operation is FIRED from the wake to the end of the next attempt, so that who else comes finds the place
   taken; after an attempt in vain it is PARKED again, behind a check for a cancellation that came meanwhile and found nothing
   parked to abort.

   Ownership. `side.waiters` is a list and owns the operations in it; a stream's `_reader` and `_writer` own those too, as in the
   pure code, until their end. The side knows neither its watch nor its stream. Nothing here closes a descriptor: the owner
   of the socket does, after it has closed the watch. */
#include "fd.h"

static int
call_method(PyObject *self, PyObject *name, PyObject *arg)
{
    PyObject *result = PyObject_CallMethodObjArgs(self, name, arg, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* -- Side -------------------------------------------------------------------------------------------------------------------- */

#define SIDE_OBJECTS(X) X(host) X(turns) X(waiters)

COLLECTED(static, side, Side, SIDE_OBJECTS, nothing)

static void
side_dealloc(Side *self)
{
    PyObject_GC_UnTrack(self);
    side_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

void
side_drain(Side *self)
{
    if (is_set(self->host) || self->in_host) {
        self->quiet = 1;
        if (is_set(self->turns)) { /* no plain engine's */
            PyObject *turn = PyObject_CallMethod(self->turns, "mark", NULL);
            self->drained = turn != NULL ? PyLong_AsLongLong(turn) : -1;
            Py_XDECREF(turn);
            if (PyErr_Occurred()) {
                PyErr_Clear();
                self->quiet = 0; /* an attempt too many is harmless */
            }
        }
    }
}

/* Add a parked operation: 0, or -1 with an exception. */
static int
side_add(Side *self, Operation *op)
{
    if (self->closed || !is_set(self->host) || self->waiters == NULL || !PyList_CheckExact(self->waiters)) {
        return call_method((PyObject *)self, str_add, (PyObject *)op);
    }
    return PyList_Append(self->waiters, (PyObject *)op);
}

/* Whether firing what waits is no more than waking its task, without asking it. */
static inline int
is_final_and_lone(PyObject *waiter)
{
    PyTypeObject *type = Py_TYPE(waiter);
    if (type != known[C_STREAM_READ] && type != known[C_STREAM_READINTO] && type != known[C_STREAM_WRITE]) {
        return 0;
    }
    Operation *op = (Operation *)waiter;
    return !is_set(op->watcher) && op->task != NULL && is_a(op->task, &TaskType, &seen[SEEN_TASK]);
}

/* Fire the one operation in `waiters`, whose task there is. Its reference becomes ours, and the list keeps its memory for the next one:
   that a list is shorter than its room is what `list.pop` leaves too. */
static int
fire_lone(PyObject *waiters)
{
    Operation *op = (Operation *)PyList_GET_ITEM(waiters, 0);
    Py_SET_SIZE((PyVarObject *)waiters, 0);
    op->state = FIRED;
    int status = task_wake((Task *)op->task);
    Py_DECREF(op);
    return status;
}

/* Whether firing `op` is no more than waking its task: nothing else would have to be left. -1 with an exception. */
static int
is_lone(Operation *op)
{
    if (is_set(op->watcher) || op->task == NULL || !is_a(op->task, &TaskType, &seen[SEEN_TASK])) {
        return 0;
    }
    if (is_final(op) && waits_at_its_side(op)) {
        return 1;
    }
    PyObject *lone = PyObject_GetAttr((PyObject *)op, str_lone);
    int yes = lone == NULL ? -1 : PyObject_IsTrue(lone);
    Py_XDECREF(lone);
    return yes;
}

int
side_ready(Side *self)
{
    if ((self->quiet && is_set(self->turns)) || self->waiters == NULL || !PyList_CheckExact(self->waiters)) {
        PyObject *result = PyObject_CallOneArg(kept[K_SIDE_READY], (PyObject *)self);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    self->quiet = 0;
    PyObject *waiters = self->waiters; /* borrowed: compared, not used, once anything has run */
    if (PyList_GET_SIZE(waiters) == 0) {
        return call_method((PyObject *)self, str_disarm, NULL);
    }
    if (PyList_GET_SIZE(waiters) == 1) {
        PyObject *first = PyList_GET_ITEM(waiters, 0);
        if (is_final_and_lone(first)) {
            return fire_lone(waiters);
        }
        if (PyObject_TypeCheck(first, &FdOperationType)) {
            Operation *op = (Operation *)Py_NewRef(first);
            int lone = is_lone(op), status = lone < 0 ? -1 : 0;
            if (lone > 0 && self->waiters == waiters && PyList_GET_SIZE(waiters) == 1 && PyList_GET_ITEM(waiters, 0) == first &&
                op->task != NULL && is_a(op->task, &TaskType, &seen[SEEN_TASK])) {
                status = fire_lone(waiters);
                Py_DECREF(op);
                return status;
            }
            Py_DECREF(op);
            if (status < 0) {
                return -1;
            }
        }
    }
    PyObject *result = PyObject_CallOneArg(kept[K_SIDE_READY], (PyObject *)self);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static PyObject *
side_ready_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (side_ready((Side *)self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

Side *
side_of_ready(PyObject *callable)
{
    if (PyCFunction_CheckExact(callable) && PyCFunction_GET_FUNCTION(callable) == side_ready_method) {
        return (Side *)PyCFunction_GET_SELF(callable);
    }
    return NULL;
}

static PyMethodDef side_methods[] = {
    {"ready", side_ready_method, METH_NOARGS, "The host says: an attempt may succeed now."},
    {NULL, NULL, 0, NULL},
};

#define FLAG(struct_, member, name_) {name_, Py_T_BOOL, offsetof(struct_, member), 0, NULL}

static PyMemberDef side_members[] = {
    FIELD(Side, host, "host"),
    FIELD(Side, turns, "turns"),
    FIELD(Side, waiters, "waiters"),
    {"drained", Py_T_LONGLONG, offsetof(Side, drained), 0, NULL},
    {"fd", Py_T_INT, offsetof(Side, fd), 0, NULL},
    FLAG(Side, write, "write"),
    FLAG(Side, closed, "closed"),
    FLAG(Side, in_host, "in_host"),
    FLAG(Side, quiet, "quiet"),
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject SideType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.SideFields",
    .tp_basicsize = sizeof(Side),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)side_dealloc,
    .tp_traverse = (traverseproc)side_traverse,
    .tp_clear = (inquiry)side_clear,
    .tp_members = side_members,
    .tp_methods = side_methods,
};

/* -- FdWatch ----------------------------------------------------------------------------------------------------------------- */

#define WATCH_OBJECTS(X) X(home) X(label) X(reading) X(writing)

COLLECTED(extern, watch, Watch, WATCH_OBJECTS, nothing)
ENDED(static, watch, Watch, weakrefs)

static PyMemberDef watch_members[] = {
    FIELD(Watch, home, "_home"),
    FIELD(Watch, label, "_label"),
    FIELD(Watch, reading, "reading"),
    FIELD(Watch, writing, "writing"),
    {"_thread", Py_T_ULONG, offsetof(Watch, thread), 0, NULL},
    {"fd", Py_T_INT, offsetof(Watch, fd), 0, NULL},
    FLAG(Watch, closed, "closed"),
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject WatchType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.FdWatchFields",
    .tp_basicsize = sizeof(Watch),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_weaklistoffset = offsetof(Watch, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)watch_dealloc,
    .tp_traverse = (traverseproc)watch_traverse,
    .tp_clear = (inquiry)watch_clear,
    .tp_members = watch_members,
};

/* -- FdOperation -------------------------------------------------------------------------------------------------------------- */

#define FD_OPERATION_OBJECTS(X) X(side)

COLLECTED(extern, fd_operation, FdOperation, FD_OPERATION_OBJECTS, operation)
ENDED(extern, fd_operation, FdOperation, op.weakrefs)

/* The resource's word on whether `host` may wait here: 0, or -1 with an exception. */
static int
check_home(Operation *self, Task *task)
{
    PyObject *resource = self->resource;
    if (resource == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "an operation without a resource");
        return -1;
    }
    if (is_a(resource, &WatchType, &seen[SEEN_WATCH]) && ((Watch *)resource)->home == task->host) {
        return 0;
    }
    if (listener_is_at_home(resource, task->host)) {
        return 0;
    }
    return call_method(resource, str_check_home, task->host);
}

static enum attempt
attempt(Operation *self, attempt_function here)
{
    if (here != NULL) {
        return here((FdOperation *)self);
    }
    PyObject *result = PyObject_CallMethodNoArgs((PyObject *)self, str_poll);
    int done = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return done < 0 ? FAILED : done ? SUCCEEDED : NOT_YET;
}

/* The wait is over, or about to begin again. */
static void
leave(Operation *self, Task *task)
{
    if (self->unshown) {
        operation_note_unshown(self);
    }
    task->budget = STEP_BUDGET;
    put(task->waiting, NULL);
}

static PySendResult
over_with_error(Operation *self, PyObject **result)
{
    self->phase = OVER;
    *result = NULL;
    return PYGEN_ERROR;
}

/* Call `name` of the operation, whatever exception is set staying set; what it raises itself replaces that. */
static void
tell_keeping_error(Operation *self, PyObject *name)
{
    PyObject *error = take_raised();
    PyObject *result = PyObject_CallMethodNoArgs((PyObject *)self, name);
    if (result != NULL) {
        Py_DECREF(result);
        put_raised(error);
    } else {
        Py_XDECREF(error);
    }
}

/* An attempt was in vain: join the queue. */
static PySendResult
park(Operation *self, Task *task, PyObject **result)
{
    self->state = PARKED;
    int joined;
    if (attempt_of(self) != NULL && waits_at_its_side(self)) { /* asked again: the attempt may have run anything */
        PyObject *side = Py_NewRef(((FdOperation *)self)->side);
        joined = stream_register(self);
        joined = joined < 0 ? -1 : side_add((Side *)side, self);
        Py_DECREF(side);
    } else {
        joined = call_method((PyObject *)self, str_register, NULL);
    }
    if (joined < 0) {
        leave(self, task);
        if (self->state == PARKED) {
            tell_keeping_error(self, str_abort);
        }
        return over_with_error(self, result);
    }
    put(task->waiting, self);
    self->phase = SUSPENDED;
    operation_hide(self, task);
    Engine *engine = plain_engine(task);
    if (engine != NULL) {
        observe(engine, str_park, task);
    }
    return operation_parked(result);
}

static PySendResult
finish(Operation *self, PyObject **result)
{
    self->state = DONE;
    self->phase = OVER;
    *result = Py_NewRef(self->value != NULL ? self->value : Py_None);
    return PYGEN_RETURN;
}

static PySendResult
first(Operation *self, PyObject *arg, PyObject **result)
{
    Task *task = running_task();
    if (task == NULL || plain_engine(task) == NULL || self->state != NEW || task->budget <= 0 || task_is_cancelled(task) ||
        is_set(((Node *)task->inner)->stopping) || ((FdOperation *)self)->side == NULL) {
        return operation_begin_pure(self, K_FD_AWAIT, arg, result);
    }
    self->state = ABORTED; /* until it begins: an operation that raises before that had no effect */
    task->budget--;
    Py_INCREF(task);
    put(self->task, task);
    PySendResult how;
    enum attempt done = check_home(self, task) < 0 ? FAILED : attempt(self, attempt_of(self));
    if (done == SUCCEEDED) {
        how = finish(self, result);
    } else if (done == NOT_YET) {
        how = park(self, task, result);
    } else {
        how = over_with_error(self, result);
    }
    Py_DECREF(task);
    return how;
}

/* The hint has come. */
static PySendResult
again(Operation *self, Task *task, PyObject **result)
{
    leave(self, task);
    if (is_set(self->error)) {
        PyObject *error = self->error;
        self->error = NULL;
        if (PyExceptionInstance_Check(error)) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        } else {
            PyErr_SetString(PyExc_TypeError, "an operation failed with something that is no exception");
        }
        Py_DECREF(error);
        tell_keeping_error(self, str_given_up);
        return over_with_error(self, result);
    }
    enum attempt done = attempt(self, attempt_of(self));
    if (done == SUCCEEDED) {
        return finish(self, result);
    }
    if (done == FAILED) { /* whatever it was (no memory, say): nobody waits here any more */
        self->state = ABORTED;
        tell_keeping_error(self, str_given_up);
        return over_with_error(self, result);
    }
    self->state = ABORTED;
    if (task_is_cancelled(task)) {
        operation_raise_cancelled(self, task, result);
        tell_keeping_error(self, str_given_up);
        return over_with_error(self, result);
    }
    if (is_set(((Node *)task->inner)->stopping)) {
        PyObject *decided = PyObject_CallOneArg(kept[K_FD_STOPPED], (PyObject *)self); /* if that ends it */
        Py_XDECREF(decided);
        if (decided == NULL) {
            return over_with_error(self, result);
        }
    }
    return park(self, task, result);
}

PySendResult
fd_step(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->sub != NULL) {
        return operation_pass_on(self, arg, result);
    }
    if (self->phase == BEFORE) {
        return first(self, arg, result);
    }
    if (self->phase == OVER) {
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    if (self->task == NULL || !is_a(self->task, &TaskType, &seen[SEEN_TASK])) {
        PyErr_SetString(PyExc_RuntimeError, "a parked operation has no task");
        return over_with_error(self, result);
    }
    if (self->state == PARKED) {
        return operation_parked_again(self, result);
    }
    Task *task = (Task *)Py_NewRef(self->task);
    PySendResult how;
    if (self->state == FIRED) {
        how = again(self, task, result);
    } else { /* aborted, and `unregister` has given up what it had */
        leave(self, task);
        how = operation_raise_cancelled(self, task, result);
    }
    Py_DECREF(task);
    return how;
}

/* Something was thrown in where it is parked: it is given up, with the exception that is set. */
static void
give_up(Operation *self)
{
    operation_show((PyObject *)self);
    if (self->task != NULL && is_a(self->task, &TaskType, &seen[SEEN_TASK])) {
        leave(self, (Task *)self->task);
    }
    if (self->state == PARKED) {
        tell_keeping_error(self, str_abort);
    } else if (self->state == FIRED) {
        tell_keeping_error(self, str_given_up); /* `abort` has nothing to take out of the queue any more */
    }
    self->phase = OVER;
}

PyObject *
fd_throw(Operation *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *error = thrown_error(args, nargs);
    if (error == NULL) {
        return NULL;
    }
    if (self->sub != NULL) {
        PyObject *result = operation_throw_on(self, error);
        Py_DECREF(error);
        return result;
    }
    Py_INCREF(self);
    int suspended = self->phase == SUSPENDED;
    put_raised(error);
    if (suspended) {
        give_up(self);
    } else if (self->state == NEW) {
        self->state = ABORTED;
    }
    self->phase = OVER;
    Py_DECREF(self);
    return NULL;
}

PyObject *
fd_close(Operation *self, PyObject *Py_UNUSED(ignored))
{
    if (self->sub != NULL) {
        return operation_close_on(self);
    }
    if (self->phase == SUSPENDED) {
        Py_INCREF(self);
        PyErr_SetNone(PyExc_GeneratorExit);
        give_up(self);
        Py_DECREF(self);
        if (!PyErr_ExceptionMatches(PyExc_GeneratorExit)) {
            return NULL;
        }
        PyErr_Clear();
    }
    self->phase = OVER;
    Py_RETURN_NONE;
}

ITERATOR(fd, fd_step)

static PyMemberDef fd_operation_members[] = {
    FIELD(FdOperation, side, "side"),
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef fd_operation_methods[] = {
    {"send", (PyCFunction)fd_send, METH_O, "Resume it."},
    {"throw", (PyCFunction)(void (*)(void))fd_throw, METH_FASTCALL, "Throw an exception in where it waits."},
    {"close", (PyCFunction)fd_close, METH_NOARGS, "Give it up."},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods fd_async = {.am_await = operation_await, .am_send = (sendfunc)fd_step};

OPERATION_TYPE(FdOperationType, "FdOperationFields", FdOperation, &OperationType, fd_operation, fd, fd_operation_members, fd_operation_methods)

/* -- FdsOperation ------------------------------------------------------------------------------------------------------------- */

#define FDS_OPERATION_OBJECTS(X) X(sides)

COLLECTED(extern, fds_operation, FdsOperation, FDS_OPERATION_OBJECTS, fd_operation)
ENDED(static, fds_operation, FdsOperation, base.op.weakrefs)

static PyMemberDef fds_operation_members[] = {
    FIELD(FdsOperation, sides, "sides"),
    {NULL, 0, 0, 0, NULL},
};

OPERATION_TYPE(FdsOperationType, "FdsOperationFields", FdsOperation, &FdOperationType, fds_operation, fd, fds_operation_members, fd_operation_methods)

int
kernel_fd_ready(PyObject *module)
{
    PyTypeObject *types[] = {&SideType, &WatchType, &FdOperationType, &FdsOperationType};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (PyModule_AddType(module, types[i]) < 0) {
            return -1;
        }
    }
    return 0;
}
