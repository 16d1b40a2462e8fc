/* What a snapshot says of a task, for who looks at a hundred thousand of them (bateau/insight/collect_kernel.py, `KernelCollector.task`,
 * which defines it and goes on where this ends: with what the task waits on). Only tasks of this kernel of which there is nothing rare to
 * tell; of any other this says nothing, and Python reads it.
 *
 * `read` is that, and the wait, for as many tasks in a row as have only the usual to tell. What an operation waits for is worked out by
 * Python where it is met first (`KernelCollector.wait`, which has it learnt here); a hundred thousand then wait for the same few things.
 *
 * Under the GIL, so one task is read as it is at one moment. Two tasks are not: what is remembered from the one before (its host, its
 * scope, its spawn site) is kept alive here, so that no other thing can come to its address, and is as true as what was just read. */
#include "kernel.h"
#include "stacks.h"
#include <math.h>

/* How a wait for one thing, in one kind of operation, is told; all owned. */
typedef struct {
    PyObject *kind, *resource; /* the operation's type, and what it waits for; NULL: nothing was learnt here */
    PyObject *number;          /* the resource's, in the snapshot */
    PyObject *text;            /* what each such operation says of itself; NULL: each has to be asked */
    enum { BY_ANYONE, BY_TASKS, FROM_OUTSIDE } freed;
} Plan;

/* By a hash of both; who comes later takes the place. A power of two. */
#define PLANS 256
/* Nodes that `read` goes through before other threads may have the interpreter: about a millisecond of theirs. */
#define AT_ONCE 1000

typedef struct {
    PyObject_HEAD
    PyObject *stacks;   /* the table of stacks in C, or None: stack_of is asked for each */
    PyObject *ids;      /* a list: for each stack of that table its number in the snapshot; stack_of lengthens it */
    PyObject *stack_of; /* coroutine -> number of its stack */
    PyObject *point;    /* code and instruction -> number of its line */
    /* What the last task had, and what is said of it. */
    PyObject *host, *host_id;
    long long first_id;
    PyObject *scope, *scope_id, *parent_id; /* parent_id: NULL without a parent */
    PyObject *code, *spawned;
    int offset;
    /* For `read`: the class of waits and what tells a host's time, or None. */
    PyObject *wait, *clock;
    PyObject *timed; /* the host whose time `now` is */
    double now;
    Plan plans[PLANS];
} Look;

#define LOOK_OBJECTS(X)                                                                                                \
    X(stacks) X(ids) X(stack_of) X(point) X(wait) X(clock) X(timed) X(host) X(host_id) X(scope) X(scope_id) X(parent_id) X(code) X(spawned)

static PyObject *key_dict, *key_qualname, *key_id, *key_name, *key_state, *key_runtime, *key_scope, *key_parent, *key_entered, *key_background,
    *key_spawned, *key_stack, *unknown, *key_waits, *key_waited, *key_at_least, *key_operation, *key_resource, *key_left, *key_shielded, *key_when,
    *key_describe, *waiting, *ready;

static int
know_host(Look *self, PyObject *host)
{
    if (self->host == host) {
        return 0;
    }
    PyObject *first = PyObject_GetAttr(host, str_first_id);
    long long number = first != NULL ? PyLong_AsLongLong(first) : -1;
    Py_XDECREF(first);
    PyObject *id = number == -1 && PyErr_Occurred() ? NULL : PyLong_FromVoidPtr(host);
    if (id == NULL) {
        return -1;
    }
    self->first_id = number;
    Py_XSETREF(self->host_id, id);
    put(self->host, host);
    return 0;
}

static int
know_scope(Look *self, PyObject *scope)
{
    if (self->scope == scope) {
        return 0;
    }
    PyObject *task = ((Node *)scope)->task, *parent = NULL;
    if (is_set(task)) {
        parent = PyObject_GetAttr(task, key_id);
        if (parent == NULL) {
            return -1;
        }
    }
    PyObject *id = PyLong_FromVoidPtr(scope);
    if (id == NULL) {
        Py_XDECREF(parent);
        return -1;
    }
    Py_XSETREF(self->parent_id, parent);
    Py_XSETREF(self->scope_id, id);
    put(self->scope, scope);
    return 0;
}

static int
know_site(Look *self, PyObject *code, int offset)
{
    if (self->code == code && self->offset == offset) {
        return 0;
    }
    PyObject *place = PyLong_FromLong(offset);
    PyObject *spawned = place != NULL ? PyObject_CallFunctionObjArgs(self->point, code, place, NULL) : NULL;
    Py_XDECREF(place);
    if (spawned == NULL) {
        return -1;
    }
    Py_XSETREF(self->spawned, spawned);
    self->offset = offset;
    put(self->code, code);
    return 0;
}

/* A new reference to the number of a coroutine's stack, or to None; NULL with an exception. */
static PyObject *
stack_of(Look *self, PyObject *coro)
{
    long index = self->stacks != Py_None ? bateau_stacks_of(self->stacks, coro) : STACK_NOT_KNOWN;
    if (index == STACK_EMPTY) {
        Py_RETURN_NONE;
    }
    if (index >= 0 && index < PyList_GET_SIZE(self->ids)) {
        return Py_NewRef(PyList_GET_ITEM(self->ids, index));
    }
    PyErr_Clear();
    return PyObject_CallOneArg(self->stack_of, coro);
}

/* `base` and the number after it, with a dash between. */
static PyObject *
numbered(PyObject *base, long long number)
{
    if (number < 0 || !PyUnicode_CheckExact(base) || !PyUnicode_IS_COMPACT_ASCII(base)) {
        return PyUnicode_FromFormat("%S-%lld", base, number);
    }
    char digits[24], *end = digits + sizeof digits, *at = end;
    do {
        *--at = (char)('0' + number % 10);
    } while ((number /= 10) != 0);
    *--at = '-';
    Py_ssize_t size = PyUnicode_GET_LENGTH(base);
    PyObject *name = PyUnicode_New(size + (end - at), 127);
    if (name != NULL) {
        memcpy(PyUnicode_1BYTE_DATA(name), PyUnicode_1BYTE_DATA(base), (size_t)size);
        memcpy(PyUnicode_1BYTE_DATA(name) + size, at, (size_t)(end - at));
    }
    return name;
}

/* As `Task.name` says it, but not kept in the task: 100,000 names would stay in the program that is being looked at. */
static PyObject *
name_of(Look *self, Task *task)
{
    if (is_set(task->name)) {
        return Py_NewRef(task->name);
    }
    PyObject *coro = Py_NewRef(task->coro), *base = PyObject_GetAttr(coro, key_qualname);
    Py_DECREF(coro);
    if (base == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
    }
    PyObject *name = PyErr_Occurred() ? NULL
                     : base != NULL && base != Py_None
                         ? numbered(base, task->id - self->first_id)
                         : PyUnicode_FromFormat("task-%lld", task->id - self->first_id);
    Py_XDECREF(base);
    return name;
}

static int
fill(Look *self, PyObject *fields, Task *task)
{
    if (set_field(fields, key_id, PyLong_FromLongLong(task->id)) < 0 || set_field(fields, key_name, name_of(self, task)) < 0 ||
        PyDict_SetItem(fields, key_state, unknown) < 0 || PyDict_SetItem(fields, key_runtime, self->host_id) < 0) {
        return -1;
    }
    if (is_set(task->scope) && (PyDict_SetItem(fields, key_scope, self->scope_id) < 0 ||
                                (self->parent_id != NULL && PyDict_SetItem(fields, key_parent, self->parent_id) < 0))) {
        return -1;
    }
    if (task->inner != NULL && task->inner != (PyObject *)task && set_field(fields, key_entered, PyLong_FromVoidPtr(task->inner)) < 0) {
        return -1;
    }
    if (task->background && PyDict_SetItem(fields, key_background, Py_True) < 0) {
        return -1;
    }
    if (PyDict_SetItem(fields, key_spawned, self->spawned) < 0) {
        return -1;
    }
    PyObject *coro = Py_XNewRef(task->coro), *stack = coro != NULL ? stack_of(self, coro) : Py_NewRef(Py_None);
    Py_XDECREF(coro);
    if (stack == Py_None) {
        Py_DECREF(stack);
        return 0;
    }
    return set_field(fields, key_stack, stack);
}

static PyObject *
look_task(Look *self, PyObject *object)
{
    if (!is_a(object, &TaskType, &seen[SEEN_TASK])) {
        Py_RETURN_NONE;
    }
    Task *task = (Task *)object;
    if (task->ended || !is_set(task->coro) || !is_set(task->host) || is_cancelled_inside(task) ||
        is_set(((Node *)task->inner)->stopping) || has_rare(task, extra) || task->site_code == NULL ||
        !PyCode_Check(task->site_code) || (is_set(task->scope) && !PyObject_TypeCheck(task->scope, &NodeType))) {
        Py_RETURN_NONE;
    }
    /* Asking may run Python code, hence other threads, and the task may go on: it is read as it is when these are known. */
    PyObject *host = Py_NewRef(task->host), *scope = is_set(task->scope) ? Py_NewRef(task->scope) : NULL,
             *code = Py_NewRef(task->site_code), *fields = NULL;
    int known = know_host(self, host) == 0 && (scope == NULL || know_scope(self, scope) == 0) &&
                know_site(self, code, task->site_offset) == 0;
    Py_DECREF(host);
    Py_XDECREF(scope);
    Py_DECREF(code);
    if (!known) {
        return NULL;
    }
    if (task->ended || !is_set(task->coro) || task->inner == NULL || (is_set(task->scope) && task->scope != self->scope)) {
        Py_RETURN_NONE;
    }
    fields = PyDict_New();
    if (fields != NULL && fill(self, fields, task) < 0) {
        Py_CLEAR(fields);
    }
    return fields;
}

/* -- what it waits on ------------------------------------------------------------------------------------------------ */

static Plan *
plan_at(Look *self, PyTypeObject *kind, PyObject *resource)
{
    uintptr_t hash = ((uintptr_t)kind >> 4) * 31 + ((uintptr_t)resource >> 4);
    return &self->plans[(hash ^ (hash >> 8)) & (PLANS - 1)];
}

static void
forget_plan(Plan *plan)
{
    Plan old = *plan;
    memset(plan, 0, sizeof *plan); /* first: letting go may run anything */
    Py_XDECREF(old.kind);
    Py_XDECREF(old.resource);
    Py_XDECREF(old.number);
    Py_XDECREF(old.text);
}

static PyObject *
look_learn(Look *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 5 || !PyType_Check(args[0]) || !PyLong_CheckExact(args[2]) || !(args[3] == Py_None || PyUnicode_Check(args[3])) ||
        !(args[4] == Py_None || PyBool_Check(args[4]))) {
        PyErr_SetString(PyExc_TypeError, "learn takes a class, a resource, its number, a text or None, and True, False or None");
        return NULL;
    }
    Plan *plan = plan_at(self, (PyTypeObject *)args[0], args[1]);
    forget_plan(plan);
    plan->kind = Py_NewRef(args[0]);
    plan->resource = Py_NewRef(args[1]);
    plan->number = Py_NewRef(args[2]);
    plan->text = args[3] == Py_None ? NULL : Py_NewRef(args[3]);
    plan->freed = args[4] == Py_None ? BY_ANYONE : args[4] == Py_True ? FROM_OUTSIDE : BY_TASKS;
    Py_RETURN_NONE;
}

/* An attribute that need not be there: 1 with a new reference, 0 without, -1 with an exception. */
static int
optional(PyObject *object, PyObject *name, PyObject **value)
{
    *value = PyObject_GetAttr(object, name);
    if (*value != NULL) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* As `round(seconds, 3)`: the nearest number of three digits after the point, by way of its text. */
static PyObject *
thousandths(double seconds)
{
    char *text = PyOS_double_to_string(seconds, 'f', 3, 0, NULL);
    if (text == NULL) {
        return NULL;
    }
    double rounded = PyOS_string_to_double(text, NULL, NULL);
    PyMem_Free(text);
    return rounded == -1.0 && PyErr_Occurred() ? NULL : PyFloat_FromDouble(rounded);
}

/* Of a wait that time ends: how long it has still to go, if it says when that is. */
static int
tell_left(Look *self, PyObject *fields, PyObject *op, PyObject *host)
{
    PyObject *when;
    int status = optional(op, key_when, &when);
    if (status <= 0) {
        return status;
    }
    double at = PyFloat_CheckExact(when) ? PyFloat_AS_DOUBLE(when) : Py_HUGE_VAL;
    Py_DECREF(when);
    if (!isfinite(at)) {
        return 0;
    }
    if (self->timed != host) {
        PyObject *now = PyObject_CallOneArg(self->clock, host);
        double seconds = now != NULL ? PyFloat_AsDouble(now) : -1.0;
        Py_XDECREF(now);
        if (seconds == -1.0 && PyErr_Occurred()) {
            return -1;
        }
        put(self->timed, host);
        self->now = seconds;
    }
    return set_field(fields, key_left, thousandths(at - self->now));
}

static int
fill_wait(Look *self, PyObject *fields, Operation *op, PyObject *host, PyObject *number, PyObject *text, int freed)
{
    if (set_field(fields, key_operation, text != NULL ? Py_NewRef(text) : PyObject_CallMethodNoArgs((PyObject *)op, key_describe)) < 0 ||
        PyDict_SetItem(fields, key_resource, number) < 0 ||
        (freed == FROM_OUTSIDE && tell_left(self, fields, (PyObject *)op, host) < 0)) {
        return -1;
    }
    PyObject *shielded = PyObject_GetAttr((PyObject *)op, key_shielded);
    int is_shielded = shielded != NULL ? PyObject_IsTrue(shielded) : -1;
    Py_XDECREF(shielded);
    return is_shielded > 0 ? PyDict_SetItem(fields, key_shielded, Py_True) : is_shielded;
}

/* What an operation waits for, as a `model.Wait`. */
static PyObject *
wait_of(Look *self, Operation *op, PyObject *host, Plan *plan)
{
    /* Asking may run Python code: what is used after that is ours meanwhile. */
    PyObject *number = Py_NewRef(plan->number), *text = Py_XNewRef(plan->text), *fields = PyDict_New(), *wait = NULL;
    if (fields != NULL && fill_wait(self, fields, op, host, number, text, plan->freed) == 0) {
        wait = bateau_made((PyTypeObject *)self->wait, fields);
    }
    Py_DECREF(number);
    Py_XDECREF(text);
    Py_XDECREF(fields);
    return wait;
}

/* -- many tasks ------------------------------------------------------------------------------------------------------ */

/* Where `read` puts what it finds. Borrowed. */
typedef struct {
    PyObject *tasks, *seen, *waits, *todo;
} Found;

/* Enter a task that waits, with its fields. */
static int
enter(Found *found, Task *task, Operation *op, PyObject *fields, PyObject *wait)
{
    PyObject *number = PyDict_GetItemWithError(fields, key_id), *row = NULL;
    if (number == NULL || PyDict_SetItem(fields, key_waits, wait) < 0 ||
        PyDict_SetItem(fields, key_state, op->state == PARKED ? waiting : ready) < 0 ||
        PyDict_SetItem(found->tasks, number, fields) < 0 ||
        (row = PyTuple_Pack(3, fields, (PyObject *)task, (PyObject *)op)) == NULL) {
        return -1;
    }
    int status = PyList_Append(found->waits, row);
    Py_DECREF(row);
    if (status == 0 && is_set(task->node.children) && Py_IS_TYPE(task->node.children, &ChildrenType)) {
        for (Node *child = ((Children *)task->node.children)->first; child != NULL && status == 0; child = child->after) {
            status = PyList_Append(found->todo, (PyObject *)child);
        }
    }
    return status;
}

/* Read a node that is a task with only the usual to tell: 1; 0: it is left to Python; -1 with an exception. */
static int
read_usual(Look *self, Found *found, PyObject *object)
{
    if (!is_a(object, &TaskType, &seen[SEEN_TASK])) {
        return 0;
    }
    Task *task = (Task *)object;
    Operation *op = (Operation *)task->waiting;
    if (!is_set(op) || !PyObject_TypeCheck(op, &OperationType) || op->resource == NULL || !is_set(task->host) ||
        (is_set(task->node.children) && !Py_IS_TYPE(task->node.children, &ChildrenType))) {
        return 0;
    }
    Plan *plan = plan_at(self, Py_TYPE(op), op->resource);
    if (plan->kind != (PyObject *)Py_TYPE(op) || plan->resource != op->resource ||
        (plan->freed == BY_TASKS && (has_rare(task, host_task) || has_rare(task, face)))) { /* another library's timeout may end it */
        return 0;
    }
    PyObject *address = PyLong_FromVoidPtr(object);
    Py_ssize_t before = PySet_GET_SIZE(found->seen);
    if (address == NULL || PySet_Add(found->seen, address) < 0) {
        Py_XDECREF(address);
        return -1;
    }
    int status = 1;
    if (PySet_GET_SIZE(found->seen) > before) {
        Py_INCREF(op);
        PyObject *host = Py_NewRef(task->host), *fields = look_task(self, object), *wait = NULL;
        status = fields == NULL ? -1 : fields == Py_None ? 0 : 1;
        if (status > 0 && (plan->kind != (PyObject *)Py_TYPE(op) || plan->resource != op->resource)) {
            status = 0; /* to be asked where it was spawned ran Python code, which went on with it */
        }
        if (status > 0) {
            wait = wait_of(self, op, host, plan);
            status = wait == NULL ? -1 : enter(found, task, op, fields, wait) < 0 ? -1 : 1;
        }
        Py_XDECREF(wait);
        Py_XDECREF(fields);
        Py_DECREF(host);
        Py_DECREF(op);
        if (status <= 0 && PySet_Discard(found->seen, address) < 0) {
            status = -1;
        }
    }
    Py_DECREF(address);
    return status;
}

static PyObject *
look_read(Look *self, PyObject *args)
{
    PyObject *nodes;
    Py_ssize_t start;
    Found found;
    if (!PyArg_ParseTuple(args, "O!nO!O!O!O!", &PyList_Type, &nodes, &start, &PyDict_Type, &found.tasks, &PySet_Type, &found.seen,
                          &PyList_Type, &found.waits, &PyList_Type, &found.todo)) {
        return NULL;
    }
    if (start < 0 || !PyType_Check(self->wait) || !PyCallable_Check(self->clock)) {
        PyErr_SetString(PyExc_ValueError, "read starts at 0 or later, of a Look that was given a class of waits and a clock");
        return NULL;
    }
    Py_ssize_t at = start;
    for (; at < PyList_GET_SIZE(nodes) && at - start < AT_ONCE; at++) {
        PyObject *node = Py_NewRef(PyList_GET_ITEM(nodes, at));
        int status = read_usual(self, &found, node);
        Py_DECREF(node);
        if (status < 0 && !PyErr_ExceptionMatches(PyExc_Exception)) {
            return NULL; /* an interrupt */
        }
        if (status <= 0) {
            PyErr_Clear(); /* whatever it was, Python meets it again, and says so */
            break;
        }
    }
    return PyLong_FromSsize_t(at);
}

/* Whether `bateau_made` may make instances of it: 0, or -1 with TypeError. */
static int
check_plain(PyObject *object)
{
    PyTypeObject *type = PyType_Check(object) ? (PyTypeObject *)object : Py_TYPE(object);
    if (!PyType_Check(object) || type->tp_init == NULL || type->tp_new != PyBaseObject_Type.tp_new ||
        !(type->tp_flags & Py_TPFLAGS_HEAPTYPE) || type->tp_base != &PyBaseObject_Type) {
        PyErr_Format(PyExc_TypeError, "%s is no plain class", type->tp_name);
        return -1;
    }
    return 0;
}

static PyObject *
look_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *stacks, *ids, *of, *point, *wait = Py_None, *clock = Py_None;
    if (!PyArg_ParseTuple(args, "OO!OO|OO", &stacks, &PyList_Type, &ids, &of, &point, &wait, &clock)) {
        return NULL;
    }
    if (stacks != Py_None && !bateau_is_stacks(stacks)) {
        PyErr_Format(PyExc_TypeError, "Look takes a Stacks or None first, not a %s", Py_TYPE(stacks)->tp_name);
        return NULL;
    }
    if (wait != Py_None && check_plain(wait) < 0) {
        return NULL;
    }
    Look *self = (Look *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->stacks = Py_NewRef(stacks);
        self->ids = Py_NewRef(ids);
        self->stack_of = Py_NewRef(of);
        self->point = Py_NewRef(point);
        self->wait = Py_NewRef(wait);
        self->clock = Py_NewRef(clock);
    }
    return (PyObject *)self;
}

static int
look_traverse(Look *self, visitproc visit, void *arg)
{
    LOOK_OBJECTS(VISIT_FIELD)
    for (int i = 0; i < PLANS; i++) {
        Py_VISIT(self->plans[i].kind);
        Py_VISIT(self->plans[i].resource);
    }
    return 0;
}

static int
look_clear(Look *self)
{
    for (int i = 0; i < PLANS; i++) {
        forget_plan(&self->plans[i]);
    }
    Py_CLEAR(self->timed);
    /* The first six are read without a look whether they are there, and a cycle is broken by any one of the others' owners. */
    Py_CLEAR(self->host);
    Py_CLEAR(self->scope);
    Py_CLEAR(self->code);
    return 0;
}

static void
look_dealloc(Look *self)
{
    PyObject_GC_UnTrack(self);
    look_clear(self);
    LOOK_OBJECTS(CLEAR_FIELD)
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef look_methods[] = {
    {"task", (PyCFunction)look_task, METH_O,
     "task(task)\n--\n\nThe fields of a task but for what it waits on, in state ``unknown``; None: it is for Python to read."},
    {"learn", (PyCFunction)(void (*)(void))look_learn, METH_FASTCALL,
     "learn(kind, resource, number, text, outside)\n--\n\nHow ``read`` tells of operations of class ``kind`` on that resource, which has that "
     "number: with this text (None: each is\nasked), and freed from outside (True), by tasks (False), or by anyone (None)."},
    {"read", (PyCFunction)look_read, METH_VARARGS,
     "read(nodes, start, tasks, seen, waits, todo)\n--\n\nEnter what is in that list of nodes from ``start`` on: each task's fields in "
     "``tasks`` by its number, its address in ``seen``,\n(fields, task, operation) in ``waits``, its children in ``todo``. Returns where it "
     "stopped: that node is for Python to read."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject LookType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.Look",
    .tp_doc = "Look(stacks, ids, stack_of, point, wait=None, clock=None)\n--\n\nReads tasks for a snapshot. See bateau.insight.collect_kernel.",
    .tp_basicsize = sizeof(Look),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = look_new,
    .tp_dealloc = (destructor)look_dealloc,
    .tp_traverse = (traverseproc)look_traverse,
    .tp_clear = (inquiry)look_clear,
    .tp_methods = look_methods,
};

PyObject *
bateau_made(PyTypeObject *type, PyObject *fields)
{
    PyObject *new = type->tp_alloc(type, 0);
    /* By way of the attribute: what PyObject_GenericSetDict sets is not looked at by 3.13.0, which has the first values in the object. */
    if (new != NULL && PyObject_GenericSetAttr(new, key_dict, fields) < 0) {
        Py_CLEAR(new);
    }
    return new;
}

/* See `make` in bateau/insight/model.py. */
static PyObject *
made(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !PyType_Check(args[0]) || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "make takes a class and a dict");
        return NULL;
    }
    return check_plain(args[0]) < 0 ? NULL : bateau_made((PyTypeObject *)args[0], args[1]);
}

/* -- looking again --------------------------------------------------------------------------------------------------- */

/* See `_dated` in bateau/insight/collect.py, which defines it. */
static int
date(PyObject *row, PyObject *before, PyObject *times, PyObject *now, PyObject *seen_now, PyObject *since)
{
    PyObject *fields = PyTuple_CheckExact(row) && PyTuple_GET_SIZE(row) == 3 ? PyTuple_GET_ITEM(row, 0) : NULL;
    if (fields == NULL || !PyDict_CheckExact(fields)) {
        PyErr_SetString(PyExc_TypeError, "each wait is (fields, task, what)");
        return -1;
    }
    PyObject *what = PyTuple_GET_ITEM(row, 2), *number = PyDict_GetItemWithError(fields, key_id);
    if (number == NULL || PyDict_SetItem(seen_now, number, what) < 0) {
        return -1;
    }
    PyObject *at = PyDict_GetItemWithError(before, number) == what ? PyDict_GetItemWithError(times, number) : NULL;
    if (at == NULL) {
        return PyErr_Occurred() ? -1 : PyDict_SetItem(since, number, now);
    }
    PyObject *wait = PyDict_GetItemWithError(fields, key_waits), *values = NULL, *known;
    if (PyDict_SetItem(since, number, at) < 0 || wait == NULL || (values = PyObject_GetAttr(wait, key_dict)) == NULL) {
        return -1;
    }
    int status = -1;
    if (PyDict_CheckExact(values)) {
        known = PyDict_GetItemWithError(values, key_waited);
        status = PyErr_Occurred() ? -1
                 : known != NULL && known != Py_None
                     ? 0
                     : (set_field(values, key_waited, thousandths(PyFloat_AsDouble(now) - PyFloat_AsDouble(at))) < 0 ||
                        PyDict_SetItem(values, key_at_least, Py_True) < 0)
                           ? -1
                           : 0;
    }
    Py_DECREF(values);
    return status;
}

static PyObject *
dated(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *waits, *before, *times, *now;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "O!O!O!O!n", &PyTuple_Type, &waits, &PyDict_Type, &before, &PyDict_Type, &times, &PyFloat_Type, &now, &most)) {
        return NULL;
    }
    PyObject *seen_now = PyDict_New(), *since = PyDict_New(), *found = NULL;
    int status = seen_now != NULL && since != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; status == 0 && i < PyTuple_GET_SIZE(waits) && PyDict_GET_SIZE(seen_now) < most; i++) {
        status = date(PyTuple_GET_ITEM(waits, i), before, times, now, seen_now, since);
        if (status < 0 && !PyErr_Occurred()) {
            PyErr_SetString(PyExc_KeyError, "each task that waits has an id and what it waits on");
        }
    }
    if (status == 0) {
        found = PyTuple_Pack(2, seen_now, since);
    }
    Py_XDECREF(seen_now);
    Py_XDECREF(since);
    return found;
}

/* See `KernelCollector.look_again`: those of the waits that it has to look at, since they may have gone on. */
static PyObject *
unsteady(PyObject *Py_UNUSED(module), PyObject *waits)
{
    if (!PyList_CheckExact(waits)) {
        PyErr_SetString(PyExc_TypeError, "unsteady takes a list");
        return NULL;
    }
    PyObject *found = PyList_New(0);
    for (Py_ssize_t i = 0; found != NULL && i < PyList_GET_SIZE(waits); i++) {
        PyObject *row = PyList_GET_ITEM(waits, i);
        if (PyTuple_CheckExact(row) && PyTuple_GET_SIZE(row) == 3 && PyDict_CheckExact(PyTuple_GET_ITEM(row, 0))) {
            PyObject *task = PyTuple_GET_ITEM(row, 1), *op = PyTuple_GET_ITEM(row, 2);
            if (is_a(task, &TaskType, &seen[SEEN_TASK]) && PyObject_TypeCheck(op, &OperationType) && ((Task *)task)->waiting == op &&
                (((Operation *)op)->state == PARKED) ==
                    (PyDict_GetItemWithError(PyTuple_GET_ITEM(row, 0), key_state) == waiting)) {
                continue;
            }
        }
        if (PyErr_Occurred() || PyList_Append(found, row) < 0) {
            Py_CLEAR(found);
        }
    }
    return found;
}

static PyMethodDef functions[] = {
    {"dated", dated, METH_VARARGS,
     "dated(waits, before, times, now, most)\n--\n\nSay since when each wait has been seen. See bateau.insight.collect."},
    {"unsteady", unsteady, METH_O, "unsteady(waits)\n--\n\nThe waits whose tasks may have gone on. See bateau.insight.collect_kernel."},
    {"make", (PyCFunction)(void (*)(void))made, METH_FASTCALL,
     "make(cls, fields)\n--\n\nAn instance of a plain class with these fields, which it takes over."},
    {NULL, NULL, 0, NULL},
};

int
bateau_look_exec(PyObject *module)
{
    static struct {
        PyObject **place;
        const char *word;
    } const words[] = {
        {&key_qualname, "__qualname__"}, {&key_id, "id"},           {&key_name, "name"},       {&key_state, "state"},
        {&key_runtime, "runtime"},   {&key_scope, "scope"},     {&key_parent, "parent"},   {&key_entered, "entered"},
        {&key_dict, "__dict__"},     {&key_background, "background"}, {&key_spawned, "spawned"}, {&key_stack, "stack"}, {&unknown, "unknown"},
        {&key_waits, "waits"},       {&key_waited, "waited"},   {&key_at_least, "at_least"}, {&key_operation, "operation"},
        {&key_resource, "resource"}, {&key_left, "left"},       {&key_shielded, "shielded"}, {&key_when, "when"},
        {&key_describe, "describe"}, {&waiting, "waiting"},     {&ready, "ready"},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (*words[i].place == NULL && (*words[i].place = PyUnicode_InternFromString(words[i].word)) == NULL) {
            return -1;
        }
    }
    return PyModule_AddFunctions(module, functions) < 0 ? -1 : PyModule_AddType(module, &LookType);
}
