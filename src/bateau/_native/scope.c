/* The fields of what can be cancelled and of scopes; spawning, and the end of a child. */
#include "context.h"

/* -- Cancellable --------------------------------------------------------------------------------------------------------- */

static int
cancellable_traverse(Cancellable *self, visitproc visit, void *arg)
{
    CANCELLABLE_OBJECTS(VISIT_FIELD)
    return NodeType.tp_traverse((PyObject *)self, visit, arg);
}

static int
cancellable_clear(Cancellable *self)
{
    CANCELLABLE_OBJECTS(CLEAR_FIELD)
    return NodeType.tp_clear((PyObject *)self);
}

static void
cancellable_dealloc(Cancellable *self)
{
    PyObject_GC_UnTrack(self);
    if (self->node.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    cancellable_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* `site`: a (file, line) pair, worked out when it is first asked for. */
static PyObject *
cancellable_get_site(Cancellable *self, void *closure)
{
    if (self->site == NULL && self->site_code != NULL && PyCode_Check(self->site_code)) {
        PyCodeObject *code = (PyCodeObject *)self->site_code;
        PyObject *site = Py_BuildValue("(Oi)", code->co_filename, PyCode_Addr2Line(code, self->site_offset));
        if (site == NULL) {
            return NULL;
        }
        put(self->site, site);
        Py_DECREF(site);
    }
    return Py_NewRef(self->site != NULL ? self->site : Py_None);
}

static int
cancellable_set_site(Cancellable *self, PyObject *value, void *closure)
{
    put(self->site, value);
    return 0;
}

static PyGetSetDef cancellable_getset[] = {
    {"site", (getter)cancellable_get_site, (setter)cancellable_set_site, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef cancellable_members[] = {
    FIELD(Cancellable, deadline_at, "deadline_at"),
    FIELD(Cancellable, host_data, "host_data"),
    FIELD(Cancellable, on_stop_calls, "on_stop_calls"),
    FIELD(Cancellable, relative, "relative"),
    FIELD(Cancellable, timer, "timer"),
    /* For readers of a process's memory, which can't ask `site`. */
    FIELD(Cancellable, site, "_site"),
    FIELD(Cancellable, site_code, "_site_code"),
    {"_site_offset", Py_T_INT, offsetof(Cancellable, site_offset), 0, NULL},
    {"given", Py_T_INT, offsetof(Cancellable, given), 0, NULL},
    {"shielded", Py_T_BOOL, offsetof(Cancellable, shielded), 0, NULL},
    {"cancelled_caught", Py_T_BOOL, offsetof(Cancellable, cancelled_caught), 0, NULL},
    {"expired", Py_T_BOOL, offsetof(Cancellable, expired), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject CancellableType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.CancellableFields",
    .tp_basicsize = sizeof(Cancellable),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_base = &NodeType,
    .tp_weaklistoffset = offsetof(Node, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)cancellable_dealloc,
    .tp_traverse = (traverseproc)cancellable_traverse,
    .tp_clear = (inquiry)cancellable_clear,
    .tp_members = cancellable_members,
    .tp_getset = cancellable_getset,
};

/* -- Scope --------------------------------------------------------------------------------------------------------------- */

OBJECT_METHODS(scope, Scope, SCOPE_OBJECTS, cancellable, base.node.weakrefs)

/* Leave a call to the pure function `which`, as it came. */
static PyObject *
call_kept(int which, PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t count = nargs + (kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0);
    PyObject *small[8], **whole = small;
    if (count + 1 > 8) {
        whole = PyMem_Malloc((size_t)(count + 1) * sizeof(PyObject *));
        if (whole == NULL) {
            return PyErr_NoMemory();
        }
    }
    whole[0] = self;
    for (Py_ssize_t i = 0; i < count; i++) {
        whole[i + 1] = args[i];
    }
    PyObject *result = PyObject_Vectorcall(kept[which], whole, (size_t)nargs + 1, kwnames);
    if (whole != small) {
        PyMem_Free(whole);
    }
    return result;
}

/* The engine if this scope is open to a spawn from here, by the short way; else NULL. */
static Engine *
scope_short_way(Scope *self)
{
    if (self->host == NULL || self->closing || !is_a(self->host, &EngineType, &seen[SEEN_ENGINE]) ||
        self->policy == NULL || self->policy != kept[K_ALL_MUST_SUCCEED]) {
        return NULL;
    }
    Engine *engine = (Engine *)self->host;
    if (!is_plain(engine) ||
        engine->thread_id != PyThread_get_thread_ident()) {
        return NULL;
    }
    return engine;
}

/* The task's place among the children, counted; and its start. */
static int
scope_admit(Scope *self, Engine *engine, Task *task)
{
    if (node_join(&self->base.node, &task->node) < 0) {
        return -1;
    }
    observe(engine, str_spawn, task);
    self->foreground++;
    task->started = 1;
    if (engine_enqueue(engine, task) < 0) { /* the scope must not wait for a child that never runs */
        task->started = 0;
        self->foreground--;
        node_leave(&task->node);
        return -1;
    }
    return 0;
}

/* A scope with so many children alive spawns them faster than it runs them: they will see a collection before they run. */
#define MANY_ALIVE 200

static PyObject *
scope_spawn(Scope *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Engine *engine = scope_short_way(self);
    PyObject *name = NULL;
    Py_ssize_t named = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    if (named == 1 && PyTuple_GET_ITEM(kwnames, 0) == str_name) {
        name = args[nargs];
    } else if (named) {
        engine = NULL;
    }
    PyFrameObject *frame = PyEval_GetFrame(); /* borrowed: the caller's */
    if (engine == NULL || nargs < 1 || frame == NULL || is_set(self->limit) || is_set(self->base.node.effective) ||
        (name != NULL && name != Py_None && !PyUnicode_Check(name))) {
        return call_kept(K_SCOPE_SPAWN, (PyObject *)self, args, nargs, kwnames);
    }
    PyObject *fn = args[0], *coro, *result = NULL, *context = NULL;
    Task *task = NULL;
    if (Py_IS_TYPE(fn, &PyCoro_Type)) {
        if (nargs > 1) {
            return call_kept(K_SCOPE_SPAWN, (PyObject *)self, args, nargs, kwnames);
        }
        coro = Py_NewRef(fn);
    } else {
        if (!PyFunction_Check(fn) && !PyMethod_Check(fn) && !PyCFunction_Check(fn)) {
            return call_kept(K_SCOPE_SPAWN, (PyObject *)self, args, nargs, kwnames);
        }
        coro = PyObject_Vectorcall(fn, args + 1, (size_t)(nargs - 1), NULL);
        if (coro == NULL) {
            return NULL;
        }
        if (!Py_IS_TYPE(coro, &PyCoro_Type)) { /* as_coroutine(fn, args, made=coro): says what is wrong, or wraps it */
            PyObject *rest = PyTuple_New(nargs - 1);
            if (rest == NULL) {
                goto end;
            }
            for (Py_ssize_t i = 1; i < nargs; i++) {
                PyTuple_SET_ITEM(rest, i - 1, Py_NewRef(args[i]));
            }
            Py_SETREF(coro, PyObject_CallFunctionObjArgs(kept[K_AS_COROUTINE], fn, rest, Py_None, coro, NULL));
            Py_DECREF(rest);
            if (coro == NULL) {
                return NULL;
            }
        }
    }
    context = context_for_spawn(engine);
    if (context == NULL) {
        goto end;
    }
    task = task_new();
    if (task == NULL || task_begin(task, (PyObject *)engine, coro, (PyObject *)self, name, context) < 0) {
        goto end;
    }
    task->site_code = (PyObject *)PyFrame_GetCode(frame);
    task->site_offset = PyFrame_GetLasti(frame);
    task->spawned = 1;
    if (self->foreground >= MANY_ALIVE) {
        task_hide_parts(task);
    }
    /* Calling fn may have run anything: that the scope was cancelled is in `effective` then. */
    if (is_set(task->node.effective) || self->closing || self->host != (PyObject *)engine) {
        PyObject *admitted = PyObject_CallMethodObjArgs((PyObject *)self, str__admit, task, Py_False, NULL);
        if (admitted == NULL) {
            goto end;
        }
        Py_DECREF(admitted);
    } else if (scope_admit(self, engine, task) < 0) {
        goto end;
    }
    result = Py_NewRef((PyObject *)task);
end:
    if (task != NULL && result == NULL) {
        task_track(task); /* it refers to itself, so only the collector can free it */
    }
    Py_XDECREF(task);
    Py_XDECREF(context);
    Py_XDECREF(coro);
    return result;
}

/* What scope.child_ended(task) does for a child that simply returned; else the pure one. */
int
scope_child_ended(Scope *self, Task *task)
{
    PyObject *children = self->base.node.children;
    int cancelled = has_rare(task, error) && kept[K_CANCELLED] != NULL &&
                    PyObject_TypeCheck(task->rare->error, (PyTypeObject *)kept[K_CANCELLED]);
    if (task->background || is_set(self->limit) || is_set(self->queued) || (has_rare(task, error) && !cancelled) ||
        has_rare(task, starting) || self->policy != kept[K_ALL_MUST_SUCCEED] || children == NULL ||
        task->node.among != (Children *)children || plain_engine(task) == NULL) {
        PyObject *done = PyObject_CallFunctionObjArgs(kept[K_SCOPE_CHILD_ENDED], self, task, NULL);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    node_leave(&task->node); /* the caller owns it as well */
    if (cancelled && is_set(self->base.node.record)) { /* the default policy has nothing to say to it */
        self->base.cancelled_caught = 1;
    }
    self->foreground--;
    if (self->foreground == 0 && is_set(self->drain)) {
        return scope_satisfy_drain(self);
    }
    return 0;
}

static PyObject *
scope_child_ended_method(Scope *self, PyObject *task)
{
    if (!is_a(task, &TaskType, &seen[SEEN_TASK])) {
        PyErr_SetString(PyExc_TypeError, "child_ended takes a task");
        return NULL;
    }
    if (scope_child_ended(self, (Task *)task) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef scope_methods[] = {
    {"spawn", (PyCFunction)(void (*)(void))scope_spawn, METH_FASTCALL | METH_KEYWORDS,
     "spawn($self, fn, /, *args, name=None, background=False, priority=0)\n--\n\nStart ``fn(*args)`` as a child task."},
    {"__aenter__", (PyCFunction)scope_aenter, METH_NOARGS, "Enter the block."},
    {"__aexit__", (PyCFunction)(void (*)(void))scope_aexit, METH_FASTCALL, "Wait for the children, and leave the block."},
    {"child_ended", (PyCFunction)scope_child_ended_method, METH_O, "Called by the task, once each time it ends."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef scope_members[] = {
    FIELD(Scope, host, "_host"),
    FIELD(Scope, deferred, "_deferred"),
    FIELD(Scope, delayed, "_delayed"),
    FIELD(Scope, drain, "_drain"),
    FIELD(Scope, errors, "_errors"),
    FIELD(Scope, queued, "_queued"),
    FIELD(Scope, token, "_token"),
    FIELD(Scope, cleanup_budget, "cleanup_budget"),
    FIELD(Scope, limit, "limit"),
    FIELD(Scope, name, "name"),
    FIELD(Scope, native, "native"),
    FIELD(Scope, policy, "policy"),
    {"_foreground", Py_T_PYSSIZET, offsetof(Scope, foreground), 0, NULL},
    {"_background", Py_T_PYSSIZET, offsetof(Scope, background), 0, NULL},
    {"_running", Py_T_PYSSIZET, offsetof(Scope, running), 0, NULL},
    {"_closing", Py_T_BOOL, offsetof(Scope, closing), 0, NULL},
    {"_ending", Py_T_BOOL, offsetof(Scope, ending), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject ScopeType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.ScopeFields",
    .tp_basicsize = sizeof(Scope),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_base = &CancellableType,
    .tp_weaklistoffset = offsetof(Node, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)scope_dealloc,
    .tp_traverse = (traverseproc)scope_traverse,
    .tp_clear = (inquiry)scope_clear,
    .tp_members = scope_members,
    .tp_methods = scope_methods,
};

int
kernel_scope_ready(PyObject *module)
{
    if (PyModule_AddType(module, &NodeType) < 0 || PyModule_AddType(module, &CancellableType) < 0) {
        return -1;
    }
    return PyModule_AddType(module, &ScopeType);
}
