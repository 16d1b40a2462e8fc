/* Timeouts: `timeout`, and entering and leaving a cancel scope in a task of a plain engine.

   The short way in: the scope is fresh and not cancelled. In an engine that is an asyncio loop as well, how many of asyncio's
   cancellations the task has met so far is kept, to tell those from ours. The short way out: the block is left by the task that
   entered it, as the innermost, and nothing is cancelled around it. Then there is little to decide, and leaving is unlinking. See
   `enter` and `leave` in kernel/cancellation.py. */
#include "block.h"
#include "bridge.h"
#include <math.h>

static int
is_known_scope(Cancellable *self)
{
    return Py_IS_TYPE(self, known[C_RAISING_TIMEOUT]) || Py_IS_TYPE(self, known[C_CANCEL_SCOPE]);
}

/* Whether `node` may be entered by the short way: it is fresh, and nothing is cancelled in it yet. */
int
block_can_enter(Cancellable *self, Task *task, Engine *engine)
{
    return engine != NULL && bateau_counts_cancellations(engine) && !is_set(self->node.task) && !is_set(self->node.record) &&
           !is_set(self->node.children) && task->inner != NULL && is_a(task->inner, &NodeType, &seen[SEEN_NODE]);
}

/* What `_arm` does with a deadline: expire, or set the timer. `known` is the time, where that has just been asked. */
static int
arm(Cancellable *self, Engine *engine, double when, const double *known)
{
    double now = known != NULL ? *known : 0.0;
    if (known == NULL && engine_now(engine, &now) < 0) {
        return -1;
    }
    if (when <= now) {
        PyObject *expired = PyObject_CallMethodNoArgs((PyObject *)self, str__expire);
        Py_XDECREF(expired);
        return expired == NULL ? -1 : 0;
    }
    Timer *timer = engine_set_timer(engine, when, (PyObject *)self);
    if (timer == NULL) {
        return -1;
    }
    put(self->timer, timer);
    Py_DECREF(timer);
    return 0;
}

/* What `enter` does, `Cancellable._enter` and `_arm` with it. 0, or -1 with an exception. */
int
block_enter(Cancellable *self, Task *task, Engine *engine)
{
    double when = Py_HUGE_VAL, now = 0.0;
    int has_now = 0;
    if (is_set(self->relative)) {
        double seconds = PyFloat_AsDouble(self->relative);
        if ((seconds == -1.0 && PyErr_Occurred()) || engine_now(engine, &now) < 0) {
            return -1;
        }
        has_now = seconds > 0.0; /* no time passes in here that a timer of this length would notice */
        when = now + seconds;
        PyObject *deadline = PyFloat_FromDouble(when);
        if (deadline == NULL) {
            return -1;
        }
        put(self->deadline_at, deadline);
        Py_DECREF(deadline);
    } else if (is_set(self->deadline_at)) {
        when = PyFloat_AsDouble(self->deadline_at);
        if (when == -1.0 && PyErr_Occurred()) {
            return -1;
        }
    }
    if (is_set(engine->native_cancelling)) {
        PyObject *cancels = PyLong_FromLong(bateau_face_cancels(task));
        if (cancels == NULL) {
            return -1;
        }
        put(self->host_data, cancels);
        Py_DECREF(cancels);
    }
    Node *parent = (Node *)task->inner;
    if (node_join(parent, &self->node) < 0) {
        return -1;
    }
    put(self->node.task, task);
    put(self->node.parent, parent);
    put(self->node.stopping, parent->stopping);
    if (!self->shielded) {
        put(self->node.effective, parent->effective);
    }
    put(task->inner, self);
    if (when != Py_HUGE_VAL && arm(self, engine, when, has_now ? &now : NULL) < 0) {
        /* It was not entered, and nobody will leave it. */
        PyObject *error = take_raised();
        block_leave(self, task);
        put(self->node.task, NULL);
        put_raised(error);
        return -1;
    }
    return 0;
}

/* Whether `node` may be left by the short way: by the task that entered it, as the innermost, nothing cancelled around it. */
int
block_can_leave(Cancellable *self, Task *task, Engine *engine)
{
    PyObject *parent = self->node.parent;
    return engine != NULL && bateau_counts_cancellations(engine) && self->given == 0 && self->node.task == (PyObject *)task &&
           task->inner == (PyObject *)self && parent != NULL &&
           is_a(parent, &NodeType, &seen[SEEN_NODE]) && !is_set(((Node *)parent)->effective) &&
           (!is_set(self->timer) || Py_IS_TYPE(self->timer, &TimerType));
}

void
block_leave(Cancellable *self, Task *task)
{
    PyObject *parent = Py_NewRef(self->node.parent);
    if (is_set(self->timer)) {
        PyObject *timer = self->timer;
        self->timer = NULL;
        timer_cancel((Timer *)timer);
        Py_DECREF(timer);
    }
    put(task->inner, parent);
    node_leave(&self->node); /* the caller owns it as well */
    put_rare(task, delivered, NULL);
    Py_DECREF(parent);
}

static PyObject *
scope_enter(Cancellable *self, PyObject *Py_UNUSED(ignored))
{
    Task *task = running_task();
    Engine *engine = task != NULL ? plain_engine(task) : NULL;
    if (!is_known_scope(self) || !block_can_enter(self, task, engine)) {
        return PyObject_CallOneArg(kept[K_CANCEL_SCOPE_ENTER], (PyObject *)self);
    }
    if (block_enter(self, task, engine) < 0) {
        return NULL;
    }
    return Py_NewRef((PyObject *)self);
}

/* The short ways out: nothing is cancelled in or around the block, whatever it raises; or the block of a quiet scope was cancelled, nothing
   around it is, and this is the cancellation, which ends here. */
static PyObject *
scope_exit(Cancellable *self, PyObject *const *args, Py_ssize_t nargs)
{
    Task *task = running_task();
    Engine *engine = task != NULL ? plain_engine(task) : NULL;
    int absorbs = nargs == 3 && is_set(self->node.record);
    if (nargs != 3 || !is_known_scope(self) || !block_can_leave(self, task, engine) ||
        (absorbs && (args[1] == Py_None || is_set(engine->native_cancelling) || !Py_IS_TYPE(self, known[C_CANCEL_SCOPE]) ||
                     !PyObject_TypeCheck(args[1], (PyTypeObject *)kept[K_CANCELLED])))) {
        PyObject *whole[4] = {(PyObject *)self, Py_None, Py_None, Py_None};
        for (Py_ssize_t i = 0; i < nargs && i < 3; i++) {
            whole[i + 1] = args[i];
        }
        return PyObject_Vectorcall(kept[K_CANCEL_SCOPE_EXIT], whole, 4, NULL);
    }
    block_leave(self, task);
    if (absorbs) {
        self->cancelled_caught = 1;
        Py_RETURN_TRUE;
    }
    Py_RETURN_FALSE;
}

/* What the functions in scopes.py do, for a number of seconds that needs no word about it. */
static PyObject *
make_scope(int kind, int otherwise, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyFrameObject *frame = PyEval_GetFrame();
    double seconds = 0.0;
    PyTypeObject *type = known[kind];
    int plain = nargs == 1 && kwnames == NULL && frame != NULL && type != NULL;
    if (plain && PyFloat_CheckExact(args[0])) {
        seconds = PyFloat_AS_DOUBLE(args[0]);
    } else if (plain && PyLong_CheckExact(args[0])) {
        seconds = PyLong_AsDouble(args[0]);
        if (seconds == -1.0 && PyErr_Occurred()) {
            return NULL;
        }
    } else {
        plain = 0;
    }
    if (!plain || !(seconds >= 0.0)) {
        return PyObject_Vectorcall(kept[otherwise], args, (size_t)nargs, kwnames);
    }
    Cancellable *self = (Cancellable *)type->tp_alloc(type, 0);
    if (self != NULL) {
        put(self->relative, args[0]);
        self->site_code = (PyObject *)PyFrame_GetCode(frame);
        self->site_offset = PyFrame_GetLasti(frame);
    }
    return (PyObject *)self;
}

static PyObject *
timeout_function(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return make_scope(C_RAISING_TIMEOUT, K_TIMEOUT, args, nargs, kwnames);
}

static PyObject *
fail_after_function(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return make_scope(C_RAISING_TIMEOUT, K_FAIL_AFTER, args, nargs, kwnames);
}

static PyObject *
move_on_after_function(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return make_scope(C_CANCEL_SCOPE, K_MOVE_ON_AFTER, args, nargs, kwnames);
}

static PyMethodDef cancel_scope_methods[] = {
    {"__enter__", (PyCFunction)scope_enter, METH_NOARGS, "Enter the block."},
    {"__exit__", (PyCFunction)(void (*)(void))scope_exit, METH_FASTCALL, "Leave the block."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject CancelScopeType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.CancelScopeFields",
    .tp_basicsize = sizeof(Cancellable),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_base = &CancellableType, /* whose flags for the collector, traverse, clear and dealloc it inherits */
    .tp_weaklistoffset = offsetof(Node, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_methods = cancel_scope_methods,
};

static PyMethodDef timeout_functions[] = {
    {"timeout", (PyCFunction)(void (*)(void))timeout_function, METH_FASTCALL | METH_KEYWORDS,
     "timeout(seconds)\n--\n\nA block that may take ``seconds`` (None: for ever) from entering, then is cancelled and raises\n"
     "``TimeoutError``.\n\nFor ``with`` or ``async with``; leaving it never suspends. ``reschedule(when)`` moves the deadline."},
    {"fail_after", (PyCFunction)(void (*)(void))fail_after_function, METH_FASTCALL | METH_KEYWORDS,
     "fail_after(seconds)\n--\n\nThe same as ``timeout``, under trio's and anyio's name for it."},
    {"move_on_after", (PyCFunction)(void (*)(void))move_on_after_function, METH_FASTCALL | METH_KEYWORDS,
     "move_on_after(seconds)\n--\n\nLike ``timeout``, but it ends quietly: ``cancelled_caught`` tells whether the block was cut short."},
    {NULL, NULL, 0, NULL},
};

int
kernel_timeout_ready(PyObject *module)
{
    return PyModule_AddFunctions(module, timeout_functions) < 0 ? -1 : PyModule_AddType(module, &CancelScopeType);
}
