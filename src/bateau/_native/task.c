/* The fields of CancelNode and Task, and a task's beginning and end.

   A task refers to itself (`task`, `inner`) until it has ended, as in the pure kernel, so that it is freed with its last
   handle and not by the collector. */
#include "kernel.h"

/* -- CancelNode ------------------------------------------------------------------------------------------------------ */

static int
node_traverse(Node *self, visitproc visit, void *arg)
{
    NODE_OBJECTS(VISIT_FIELD)
    return 0;
}

static int
node_clear(Node *self)
{
    NODE_OBJECTS(CLEAR_FIELD)
    return 0;
}

static void
node_dealloc(Node *self)
{
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    node_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef node_members[] = {
    FIELD(Node, parent, "parent"),
    FIELD(Node, children, "children"),
    FIELD(Node, task, "task"),
    FIELD(Node, record, "record"),
    FIELD(Node, effective, "effective"),
    FIELD(Node, stopping, "stopping"),
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject NodeType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.NodeFields",
    .tp_basicsize = sizeof(Node),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_weaklistoffset = offsetof(Node, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)node_dealloc,
    .tp_traverse = (traverseproc)node_traverse,
    .tp_clear = (inquiry)node_clear,
    .tp_members = node_members,
};

/* -- Task -------------------------------------------------------------------------------------------------------------- */

static int
task_traverse(Task *self, visitproc visit, void *arg)
{
    TASK_OBJECTS(VISIT_FIELD)
    return node_traverse(&self->node, visit, arg);
}

static int
task_clear(Task *self)
{
    TASK_OBJECTS(CLEAR_FIELD)
    return node_clear(&self->node);
}

static void
task_dealloc(Task *self)
{
    PyObject_GC_UnTrack(self);
    if (self->node.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    task_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

int
task_wake(Task *task)
{
    Engine *engine = plain_engine(task);
    if (engine != NULL) {
        if (task->scheduled || task->ended) {
            return 0;
        }
        if (engine_enqueue(engine, task) < 0) {
            return -1;
        }
        observe(engine, str_wake, task);
        return 0;
    }
    if (!is_set(task->host)) {
        return 0;
    }
    PyObject *result = PyObject_CallMethodOneArg(task->host, str_wake, (PyObject *)task);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static long long numbers; /* the `id` of the task made last */

/* For a task of a plain engine that was just made: what Task._begin does. Fields that begin as None are NULL already. */
int
task_begin(Task *self, PyObject *host, PyObject *coro, PyObject *scope, PyObject *name, PyObject *context)
{
    self->id = ++numbers;
    put(self->node.task, self);
    put(self->inner, self);
    put(self->host, host);
    put(self->coro, coro);
    put(self->context, context);
    if (name != NULL && name != Py_None) {
        put(self->name, name);
    }
    if (scope != NULL && scope != Py_None) {
        Node *parent = (Node *)scope;
        put(self->scope, scope);
        put(self->node.parent, scope);
        put(self->node.effective, parent->effective);
        put(self->node.stopping, parent->stopping);
    }
    self->budget = STEP_BUDGET;
    return 0;
}

static PyObject *
task_begin_method(Task *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 5) {
        PyErr_Format(PyExc_TypeError, "_begin takes 5 arguments, not %zd", nargs);
        return NULL;
    }
    PyObject *scope = args[2];
    if (is_set(self->coro) || !PyObject_TypeCheck(args[0], &EngineType) || !is_plain((Engine *)args[0]) ||
        (scope != Py_None && !PyObject_TypeCheck(scope, &ScopeType))) {
        PyObject *whole[6] = {(PyObject *)self, args[0], args[1], args[2], args[3], args[4]};
        PyObject *result = PyObject_Vectorcall(kept[K_TASK_BEGIN], whole, 6, NULL);
        self->id = ++numbers;
        return result;
    }
    if (task_begin(self, args[0], args[1], scope, args[3], args[4]) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
last_number(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLongLong(numbers);
}

static PyObject *
count_from(PyObject *module, PyObject *number)
{
    long long value = PyLong_AsLongLong(number);
    if (value == -1 && PyErr_Occurred()) {
        return NULL;
    }
    numbers = value;
    Py_RETURN_NONE;
}

/* A task that is alive is left out of the collector's lists: its scope or engine owns it, and of 100,000 of them each
   collection would visit every field. It is back in them from its end on, or when its engine closes (Engine.close). */
void
task_track(Task *self)
{
    if (!PyObject_GC_IsTracked((PyObject *)self)) {
        PyObject_GC_Track(self);
    }
}

static PyObject *
track(PyObject *module, PyObject *thing)
{
    if (PyObject_TypeCheck(thing, &TaskType)) {
        Task *task = (Task *)thing;
        task_track(task);
        if (is_set(task->waiting) && PyObject_IS_GC(task->waiting) && !PyObject_GC_IsTracked(task->waiting)) {
            PyObject_GC_Track(task->waiting);
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef task_functions[] = {
    {"track", track, METH_O, "Show a task that will not be stepped any more to the garbage collector."},
    {"last_number", last_number, METH_NOARGS, "The id of the task made last."},
    {"count_from", count_from, METH_O, "Number the tasks made from now on after this number."},
    {NULL, NULL, 0, NULL},
};

/* Call `self.name()` for what only few tasks have. */
static int
task_tell(Task *self, const char *name)
{
    PyObject *result = PyObject_CallMethod((PyObject *)self, name, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Cut the end of a cancellation's traceback that is bateau's own: see `_drop_our_frames` in kernel/task.py. */
static int
drop_our_frames(PyObject *error)
{
    PyObject *tb = PyException_GetTraceback(error), *last = NULL;
    PyObject *ours = kept[K_PACKAGE_DIR];
    for (PyTracebackObject *found = (PyTracebackObject *)tb; found != NULL; found = found->tb_next) {
        PyCodeObject *code = PyFrame_GetCode(found->tb_frame);
        Py_ssize_t starts = PyUnicode_Tailmatch(code->co_filename, ours, 0, PY_SSIZE_T_MAX, -1);
        Py_DECREF(code);
        if (starts < 0) {
            Py_XDECREF(tb);
            return -1;
        }
        if (!starts) {
            last = (PyObject *)found;
        }
    }
    int status = 0;
    if (last == NULL) {
        status = PyException_SetTraceback(error, Py_None);
    } else if (((PyTracebackObject *)last)->tb_next != NULL) {
        status = PyObject_SetAttr(last, str_tb_next, Py_None);
    }
    Py_XDECREF(tb);
    return status;
}

/* On another host than an engine: what `Task.finish` does. */
static int
tell_instrument_of_end(Task *self)
{
    PyObject *instrument = is_set(self->host) ? PyObject_GetAttr(self->host, str_instrument) : Py_NewRef(Py_None);
    PyObject *result = instrument;
    if (instrument != NULL && instrument != Py_None) {
        PyObject *error = is_set(self->error) ? self->error : Py_None;
        result = PyObject_CallMethodObjArgs(instrument, str_end, (PyObject *)self, error, NULL);
        Py_DECREF(instrument);
    }
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* `error`: NULL, or the cancellation with which it ends (see `Task._failed`). */
int
task_finish(Task *self, PyObject *value, PyObject *error)
{
    if (self->ended) {
        return 0;
    }
    if (plain_engine(self) == NULL) { /* an observer is to be told, or another host's ways are to be gone */
        task_track(self);
        PyObject *done = PyObject_CallFunctionObjArgs(kept[K_TASK_FINISH], self, value, error != NULL ? error : Py_None, NULL);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    Py_INCREF(self); /* the scope may hold the last reference */
    int status = -1;
    self->ended = 1;
    task_track(self);
    Py_CLEAR(self->context);
    Py_CLEAR(self->delivered);
    put(self->value, value);
    if (error != NULL) {
        put(self->error, error);
        self->error_seen = 0;
        put(self->waiting, NULL);
        if (drop_our_frames(error) < 0) {
            goto end;
        }
    }
    Engine *engine = plain_engine(self);
    if (engine != NULL) {
        observe(engine, str_end, self);
    } else if (tell_instrument_of_end(self) < 0) {
        goto end;
    }
    if (is_set(self->scope)) {
        PyObject *scope = Py_NewRef(self->scope);
        PyObject *result = Py_IS_TYPE(scope, known[C_SCOPE])
                               ? scope_child_ended((Scope *)scope, self)
                               : PyObject_CallMethodOneArg(scope, str_child_ended, (PyObject *)self);
        Py_DECREF(scope);
        if (result == NULL) {
            goto end;
        }
        Py_DECREF(result);
    }
    if (self->ended) { /* a supervisor may have restarted it */
        put(self->node.task, NULL);
        if (self->inner == (PyObject *)self) { /* else a scope was left open in it: whoever leaves that will be told so */
            put(self->inner, kept[K_NOWHERE]);
        }
        if (is_set(self->joiners) && task_tell(self, "_tell_joiners") < 0) {
            goto end;
        }
    }
    if (is_set(self->at_end) && task_tell(self, "_tell_watchers") < 0) {
        goto end;
    }
    status = 0;
end:
    Py_DECREF(self);
    return status;
}

static PyObject *
task_finish_method(Task *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "finish takes a value and an error, not %zd arguments", nargs);
        return NULL;
    }
    if (args[1] != Py_None || kept[K_NOWHERE] == NULL || known[C_SCOPE] == NULL) {
        task_track(self);
        return PyObject_CallFunctionObjArgs(kept[K_TASK_FINISH], self, args[0], args[1], NULL);
    }
    if (task_finish(self, args[0], NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef task_methods[] = {
    {"_begin", (PyCFunction)(void (*)(void))task_begin_method, METH_FASTCALL, "Set every field but the site."},
    {"finish", (PyCFunction)(void (*)(void))task_finish_method, METH_FASTCALL, "The coroutine has ended; called once, by the host."},
    {NULL, NULL, 0, NULL},
};

#define BOOL(member) {#member, Py_T_BOOL, offsetof(Task, member), 0, NULL}

static PyMemberDef task_members[] = {
    FIELD(Task, error, "_error"),
    FIELD(Task, extra, "_extra"),
    FIELD(Task, name, "_name"),
    FIELD(Task, site_code, "_site_code"),
    FIELD(Task, value, "_value"),
    FIELD(Task, at_end, "at_end"),
    FIELD(Task, context, "context"),
    FIELD(Task, coro, "coro"),
    FIELD(Task, delivered, "delivered"),
    FIELD(Task, face, "face"),
    FIELD(Task, guard, "guard"),
    FIELD(Task, host, "host"),
    FIELD(Task, host_task, "host_task"),
    FIELD(Task, joiners, "joiners"),
    FIELD(Task, inner, "node"),
    FIELD(Task, parked, "parked"),
    FIELD(Task, scope, "scope"),
    FIELD(Task, send, "send"),
    FIELD(Task, starting, "starting"),
    FIELD(Task, throwing, "throwing"),
    FIELD(Task, waiting, "waiting"),
    {"id", Py_T_LONGLONG, offsetof(Task, id), 0, NULL},
    {"_site_offset", Py_T_INT, offsetof(Task, site_offset), 0, NULL},
    {"budget", Py_T_INT, offsetof(Task, budget), 0, NULL},
    BOOL(background),
    BOOL(ended),
    BOOL(error_seen),
    BOOL(foreign),
    BOOL(scheduled),
    BOOL(started),
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject TaskType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.TaskFields",
    .tp_basicsize = sizeof(Task),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_base = &NodeType,
    .tp_weaklistoffset = offsetof(Node, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)task_dealloc,
    .tp_traverse = (traverseproc)task_traverse,
    .tp_clear = (inquiry)task_clear,
    .tp_members = task_members,
    .tp_methods = task_methods,
};

int
kernel_task_ready(PyObject *module)
{
    if (PyModule_AddFunctions(module, task_functions) < 0) {
        return -1;
    }
    return PyModule_AddType(module, &NodeType) < 0 ? -1 : PyModule_AddType(module, &TaskType);
}
