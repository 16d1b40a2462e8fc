/* The fields of CancelNode and Task, and a task's beginning and end.

   A task refers to itself (`task`, `inner`) until it has ended, as in the pure kernel, so that it is freed with its last
   handle and not by the collector.

   What few tasks ever have set (an error, joiners, a face to asyncio...) is in a struct of its own, `rare`. The task owns it, and
   nothing else points to it. It comes with the first such field that is set to something, and goes when the task is cleared or freed,
   never before: so `task->rare` once seen set stays while the task is owned by somebody and is not garbage. Its fields are strong
   references or NULL like the task's own, visited and cleared with them. From Python they are attributes like the others; None is
   what they read as, set or not. */
#include "context.h"

/* -- CancelNode ------------------------------------------------------------------------------------------------------ */

OBJECT_METHODS(node, Node, NODE_OBJECTS, nothing, weakrefs)

static PyMemberDef node_members[] = {
    FIELD(Node, parent, "parent"),
    FIELD(Node, children, "children"),
    FIELD(Node, task, "task"),
    FIELD(Node, record, "record"),
    FIELD(Node, effective, "effective"),
    FIELD(Node, stopping, "stopping"),
    FIELD_SEEN(Node, after, "_after"),
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

/* A task that is alive is left out of the collector's lists: its scope or engine owns it, and of 100,000 of them each collection would
   visit every field. So are its coroutine and its context, from its first suspension on, or from its spawning where it is one of many.
   They are back in them from its end on, or when its engine closes (Engine.close). Objects of the interpreter's own classes can't be freed
   while they are out of them, so they are back before the task lets go of them, whoever makes it do so. */
void
task_hide_parts(Task *self)
{
    if (self->coro == NULL || !Py_IS_TYPE(self->coro, &PyCoro_Type) || self->context == NULL ||
        (!is_shared(self->context) && !PyContext_CheckExact(self->context))) {
        return; /* Python has put something else there */
    }
    PyObject_GC_UnTrack(self->coro);
    if (!is_shared(self->context)) {
        PyObject_GC_UnTrack(self->context);
    }
    self->hidden = 1;
}

static inline void
show(PyObject *part)
{
    if (part != NULL && PyObject_IS_GC(part) && !PyObject_GC_IsTracked(part)) {
        PyObject_GC_Track(part);
    }
}

static void
show_parts(Task *self)
{
    if (!self->hidden) {
        return;
    }
    self->hidden = 0;
    if (self->coro != NULL && Py_IS_TYPE(self->coro, &PyCoro_Type)) {
        show(self->coro);
    }
    if (self->context != NULL && PyContext_CheckExact(self->context)) {
        show(self->context);
    }
    if (is_set(self->waiting)) {
        operation_show(self->waiting);
    }
}

void
task_track(Task *self)
{
    if (!PyObject_GC_IsTracked((PyObject *)self)) {
        PyObject_GC_Track(self);
    }
    show_parts(self);
}

static int
task_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    if (name == str_coro || name == str_context) {
        show_parts((Task *)self);
    }
    return PyObject_GenericSetAttr(self, name, value);
}

#define FREE_RARES 64

static struct {
    Rare *free[FREE_RARES]; /* all fields NULL */
    int count;
} rares;

int
task_put_rare(Task *self, size_t field, PyObject *value)
{
    if (self->rare == NULL) {
        if (!is_set(value)) {
            return 0; /* as it is */
        }
        Rare *made = rares.count > 0 ? rares.free[--rares.count] : PyMem_Calloc(1, sizeof(Rare));
        if (made == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->rare = made;
    }
    put_field((PyObject **)((char *)self->rare + field), value);
    return 0;
}

static void
drop_rare(Task *self)
{
    while (self->rare != NULL) { /* a finaliser may set another */
        Rare *rare = self->rare;
        self->rare = NULL;
#define DROP(f) Py_CLEAR(rare->f);
        RARE_OBJECTS(DROP)
#undef DROP
        if (rares.count < FREE_RARES) {
            rares.free[rares.count++] = rare;
        } else {
            PyMem_Free(rare);
        }
    }
}

static int
task_traverse(Task *self, visitproc visit, void *arg)
{
    TASK_OBJECTS(VISIT_FIELD)
    if (self->rare != NULL) {
#define VISIT_RARE(f) Py_VISIT(self->rare->f);
        RARE_OBJECTS(VISIT_RARE)
#undef VISIT_RARE
    }
    return node_traverse(&self->node, visit, arg);
}

static int
task_clear(Task *self)
{
    show_parts(self);
    TASK_OBJECTS(CLEAR_FIELD)
    drop_rare(self);
    return node_clear(&self->node);
}

#define SELDOM(X) X(rare) X(name) X(context) X(waiting)
#define ALSO(f) | (uintptr_t)self->f

/* The same, for a task that most often has few of its fields set when it is freed. */
static void
task_clear_few(Task *self)
{
    if ((0 SELDOM(ALSO) ALSO(node.task) ALSO(node.children) ALSO(node.record) ALSO(node.effective) ALSO(node.stopping)) != 0) {
        task_clear(self);
        return;
    }
    Py_CLEAR(self->site_code);
    Py_CLEAR(self->value);
    Py_CLEAR(self->coro);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->host);
    Py_CLEAR(self->scope);
    Py_CLEAR(self->node.parent);
}

static void
task_dealloc(Task *self)
{
    PyObject_GC_UnTrack(self);
    if (self->node.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    show_parts(self);
    task_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* -- making and freeing those that scopes spawn ------------------------------------------------------------------------------- */

/* The public class is written in Python, over these fields, and adds none of its own: `task_settle_class` gives it a way to be freed
   without the general one of such classes, and the memory of its tasks is kept for the next ones. */
#define FREE_TASKS 128

static struct {
    PyObject *free[FREE_TASKS]; /* without a reference count, all fields zero; each still owns a reference to its class */
    int count;
} pool;

static void
pooled_dealloc(Task *self)
{
    PyObject *task = (PyObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, pooled_dealloc) /* its value may be another task's handle, and so on */
    if (self->node.weakrefs != NULL) {
        PyObject_ClearWeakRefs(task);
    }
    show_parts(self);
    task_clear_few(self);
    if (type == known[C_TASK] && pool.count < FREE_TASKS && !PyObject_GC_IsFinalized(task)) {
        self->id = 0;
        self->recorder = self->recorder_slot = 0; /* of one that has not ended: its slot is not the next task's */
        self->site_offset = self->budget = 0;
        self->yields = self->waits = 0;
        self->background = self->ended = self->error_seen = self->foreign = self->scheduled = self->started = 0;
        self->spawned = 0;
        pool.free[pool.count++] = task;
    } else {
        PyObject_GC_Del(self);
        Py_DECREF(type);
    }
    Py_TRASHCAN_END
}

/* Called with the public class, once. */
void
task_settle_class(PyTypeObject *type)
{
    if ((type->tp_flags & Py_TPFLAGS_HEAPTYPE) && type->tp_dictoffset == 0 && type->tp_finalize == NULL &&
        type->tp_basicsize == (Py_ssize_t)sizeof(Task) && type->tp_itemsize == 0) {
        type->tp_dealloc = (destructor)pooled_dealloc;
    }
}

/* A task with all fields zero, out of the collector's lists. */
Task *
task_new(void)
{
    PyTypeObject *type = known[C_TASK];
    if (pool.count > 0) {
        PyObject *task = pool.free[--pool.count];
        _Py_NewReference(task);
        return (Task *)task;
    }
    if (type->tp_dealloc != (destructor)pooled_dealloc) {
        PyObject *made = type->tp_alloc(type, 0);
        if (made != NULL) {
            PyObject_GC_UnTrack(made);
        }
        return (Task *)made;
    }
    Task *task = PyObject_GC_New(Task, type);
    if (task != NULL) {
        memset((char *)task + sizeof(PyObject), 0, sizeof(Task) - sizeof(PyObject));
    }
    return task;
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
    /* All fields are NULL. */
    self->id = ++numbers;
    self->node.task = Py_NewRef((PyObject *)self);
    self->inner = Py_NewRef((PyObject *)self);
    self->host = Py_NewRef(host);
    self->coro = Py_NewRef(coro);
    self->context = Py_XNewRef(context);
    if (name != NULL && name != Py_None) {
        self->name = Py_NewRef(name);
    }
    if (scope != NULL && scope != Py_None) {
        Node *parent = (Node *)scope;
        self->scope = Py_NewRef(scope);
        self->node.parent = Py_NewRef(scope);
        self->node.effective = Py_XNewRef(parent->effective);
        self->node.stopping = Py_XNewRef(parent->stopping);
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
    if (self->coro != NULL || self->host != NULL || self->inner != NULL || !PyObject_TypeCheck(args[0], &EngineType) || !is_plain((Engine *)args[0]) ||
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

static PyObject *
track(PyObject *module, PyObject *thing)
{
    if (PyObject_TypeCheck(thing, &TaskType)) {
        Task *task = (Task *)thing;
        task_track(task);
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
        PyObject *error = has_rare(self, error) ? self->rare->error : Py_None;
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
    Engine *engine = plain_engine(self);
    if (engine == NULL) { /* an observer is to be told, or another host's ways are to be gone */
        task_track(self);
        PyObject *done = PyObject_CallFunctionObjArgs(kept[K_TASK_FINISH], self, value, error != NULL ? error : Py_None, NULL);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    Py_INCREF(self); /* the scope may hold the last reference */
    int status = -1;
    self->ended = 1;
    show_parts(self);
    Py_CLEAR(self->context);
    put_rare(self, delivered, NULL);
    put(self->value, value);
    if (error != NULL) {
        if (put_rare(self, error, error) < 0) {
            goto end;
        }
        self->error_seen = 0;
        put(self->waiting, NULL);
        if (drop_our_frames(error) < 0) {
            goto end;
        }
    }
    engine = plain_engine(self);
    if (engine != NULL) {
        observe(engine, str_end, self);
    } else if (tell_instrument_of_end(self) < 0) {
        goto end;
    }
    if (is_set(self->scope)) {
        PyObject *scope = Py_NewRef(self->scope);
        int told = 0;
        if (Py_IS_TYPE(scope, known[C_SCOPE])) {
            told = scope_child_ended((Scope *)scope, self);
        } else {
            PyObject *result = PyObject_CallMethodOneArg(scope, str_child_ended, (PyObject *)self);
            told = result == NULL ? -1 : 0;
            Py_XDECREF(result);
        }
        Py_DECREF(scope);
        if (told < 0) {
            goto end;
        }
    }
    if (self->ended) { /* a supervisor may have restarted it */
        put(self->node.task, NULL);
        if (self->inner == (PyObject *)self) { /* else a scope was left open in it: whoever leaves that will be told so */
            put(self->inner, kept[K_NOWHERE]);
        }
        if (has_rare(self, joiners) && task_tell_joiners(self) < 0) {
            goto end;
        }
    }
    if (has_rare(self, at_end) && task_tell(self, "_tell_watchers") < 0) {
        goto end;
    }
    status = 0;
end:
    if (Py_REFCNT(self) > 2) { /* with ours and our caller's it goes at once; with a handle elsewhere it may be part of a cycle */
        task_track(self);
    }
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

static PyAsyncMethods task_async = {.am_await = task_await};

static PyMethodDef task_methods[] = {
    {"join", task_join, METH_NOARGS, "join($self, /)\n--\n\nThe operation that ``await task`` runs, for ``select``."},
    {"_begin", (PyCFunction)(void (*)(void))task_begin_method, METH_FASTCALL, "Set every field but the site."},
    {"finish", (PyCFunction)(void (*)(void))task_finish_method, METH_FASTCALL, "The coroutine has ended; called once, by the host."},
    {NULL, NULL, 0, NULL},
};

/* The seldom fields, by their place in Rare. */
static PyObject *
task_get_rare(Task *self, void *field)
{
    PyObject *value = self->rare != NULL ? *(PyObject **)((char *)self->rare + (size_t)field) : NULL;
    return Py_NewRef(value != NULL ? value : Py_None);
}

static int
task_set_rare(Task *self, PyObject *value, void *field)
{
    return task_put_rare(self, (size_t)field, value);
}

static PyObject *
task_get_context(Task *self, void *closure)
{
    if (context_own(self) < 0) {
        return NULL;
    }
    return Py_NewRef(self->context != NULL ? self->context : Py_None);
}

static int
task_set_context(Task *self, PyObject *value, void *closure)
{
    put(self->context, value);
    return 0;
}

#define RARE(member, name_) {name_, (getter)task_get_rare, (setter)task_set_rare, NULL, (void *)offsetof(Rare, member)}

static PyGetSetDef task_getset[] = {
    {"context", (getter)task_get_context, (setter)task_set_context, NULL, NULL},
    RARE(error, "_error"),
    RARE(extra, "_extra"),
    RARE(at_end, "at_end"),
    RARE(delivered, "delivered"),
    RARE(face, "face"),
    RARE(guard, "guard"),
    RARE(host_task, "host_task"),
    RARE(joiners, "joiners"),
    RARE(parked, "parked"),
    RARE(send, "send"),
    RARE(starting, "starting"),
    RARE(throwing, "throwing"),
    {NULL, NULL, NULL, NULL, NULL},
};

#define BOOL(member) {#member, Py_T_BOOL, offsetof(Task, member), 0, NULL}

static PyMemberDef task_members[] = {
    FIELD(Task, name, "_name"),
    FIELD(Task, site_code, "_site_code"),
    FIELD(Task, value, "_value"),
    FIELD(Task, coro, "coro"),
    FIELD(Task, host, "host"),
    FIELD(Task, inner, "node"),
    FIELD(Task, scope, "scope"),
    FIELD(Task, waiting, "waiting"),
    {"id", Py_T_LONGLONG, offsetof(Task, id), 0, NULL},
    {"_site_offset", Py_T_INT, offsetof(Task, site_offset), 0, NULL},
    {"budget", Py_T_INT, offsetof(Task, budget), 0, NULL},
    {"_yields", Py_T_UINT, offsetof(Task, yields), Py_READONLY, NULL},
    {"_waits", Py_T_UINT, offsetof(Task, waits), Py_READONLY, NULL},
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
    .tp_as_async = &task_async,
    .tp_setattro = task_setattro,
    .tp_traverse = (traverseproc)task_traverse,
    .tp_clear = (inquiry)task_clear,
    .tp_members = task_members,
    .tp_getset = task_getset,
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
