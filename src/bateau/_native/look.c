/* What a snapshot says of a task, for who looks at a hundred thousand of them (bateau/insight/collect_kernel.py, `KernelCollector.task`,
 * which defines it and goes on where this ends: with what the task waits on). Only tasks of this kernel of which there is nothing rare to
 * tell; of any other this says nothing, and Python reads it.
 *
 * Under the GIL, so one task is read as it is at one moment. Two tasks are not: what is remembered from the one before (its host, its
 * scope, its spawn site) is kept alive here, so that no other thing can come to its address, and is as true as what was just read. */
#include "kernel.h"
#include "stacks.h"

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
} Look;

#define LOOK_OBJECTS(X)                                                                                                \
    X(stacks) X(ids) X(stack_of) X(point) X(host) X(host_id) X(scope) X(scope_id) X(parent_id) X(code) X(spawned)

static PyObject *key_dict, *key_qualname, *key_id, *key_name, *key_state, *key_runtime, *key_scope, *key_parent, *key_entered, *key_background,
    *key_spawned, *key_stack, *unknown;

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
                         ? PyUnicode_FromFormat("%S-%lld", base, task->id - self->first_id)
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

static PyObject *
look_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *stacks, *ids, *of, *point;
    if (!PyArg_ParseTuple(args, "OO!OO", &stacks, &PyList_Type, &ids, &of, &point)) {
        return NULL;
    }
    if (stacks != Py_None && !bateau_is_stacks(stacks)) {
        PyErr_Format(PyExc_TypeError, "Look takes a Stacks or None first, not a %s", Py_TYPE(stacks)->tp_name);
        return NULL;
    }
    Look *self = (Look *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->stacks = Py_NewRef(stacks);
        self->ids = Py_NewRef(ids);
        self->stack_of = Py_NewRef(of);
        self->point = Py_NewRef(point);
    }
    return (PyObject *)self;
}

static int
look_traverse(Look *self, visitproc visit, void *arg)
{
    LOOK_OBJECTS(VISIT_FIELD)
    return 0;
}

static int
look_clear(Look *self)
{
    /* The first four are read without a look whether they are there, and a cycle is broken by any one of the others' owners. */
    Py_CLEAR(self->host);
    Py_CLEAR(self->scope);
    Py_CLEAR(self->code);
    return 0;
}

static void
look_dealloc(Look *self)
{
    PyObject_GC_UnTrack(self);
    LOOK_OBJECTS(CLEAR_FIELD)
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef look_methods[] = {
    {"task", (PyCFunction)look_task, METH_O,
     "task(task)\n--\n\nThe fields of a task but for what it waits on, in state ``unknown``; None: it is for Python to read."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject LookType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.Look",
    .tp_doc = "Look(stacks, ids, stack_of, point)\n--\n\nReads tasks for a snapshot. See bateau.insight.collect_kernel.",
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
    PyTypeObject *type = (PyTypeObject *)args[0];
    if (type->tp_init == NULL || type->tp_new != PyBaseObject_Type.tp_new || !(type->tp_flags & Py_TPFLAGS_HEAPTYPE) ||
        type->tp_base != &PyBaseObject_Type) {
        PyErr_Format(PyExc_TypeError, "%s is no plain class", type->tp_name);
        return NULL;
    }
    return bateau_made(type, args[1]);
}

static PyMethodDef functions[] = {
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
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (*words[i].place == NULL && (*words[i].place = PyUnicode_InternFromString(words[i].word)) == NULL) {
            return -1;
        }
    }
    return PyModule_AddFunctions(module, functions) < 0 ? -1 : PyModule_AddType(module, &LookType);
}
