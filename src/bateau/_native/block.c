/* The block of a scope: making a scope, entering its block and leaving it.

   `async with` awaits a Passage, one operation for each way. In, it enters the node. Out, it waits for the children (it is then the
   scope's Drain, and looks like one), and leaves the node.

   The short way out is that of a block whose body and children have just ended: no exception, nothing cancelled in or around it, no
   background, nothing deferred, no error. For anything else the pure `__aexit__` is begun, from its beginning: it finds the children
   that were waited for gone, and goes on from there. An exception that is thrown into the wait is handed to it.

   Ownership: a Passage owns its scope; the scope owns the Passage that waits, as its `drain`, until it is fired or taken back. */
#include "block.h"

typedef struct {
    Operation op;
    PyObject *scope;
    char background;
    char out; /* of a Passage: it leaves the block */
} Drain;

#define DRAIN_OBJECTS(X) X(scope)

OBJECT_METHODS(drain, Drain, DRAIN_OBJECTS, operation, op.weakrefs)

static PyMemberDef drain_members[] = {
    FIELD(Drain, scope, "scope"),
    {"background", Py_T_BOOL, offsetof(Drain, background), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject DrainType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.DrainFields",
    .tp_basicsize = sizeof(Drain),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_base = &OperationType,
    .tp_weaklistoffset = offsetof(Operation, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)drain_dealloc,
    .tp_finalize = (destructor)operation_finalize,
    .tp_traverse = (traverseproc)drain_traverse,
    .tp_clear = (inquiry)drain_clear,
    .tp_members = drain_members,
};

/* -- the steps of a passage ------------------------------------------------------------------------------------------------------ */

static PySendResult
passage_failed(Operation *self, PyObject **result)
{
    self->phase = OVER;
    *result = NULL;
    return PYGEN_ERROR;
}

static PySendResult
passage_done(Operation *self, PyObject *value, PyObject **result)
{
    self->phase = OVER;
    *result = Py_NewRef(value);
    return PYGEN_RETURN;
}

/* Its class is Python's to make, and its field Python's to set. */
static int
passage_is_sound(Drain *self)
{
    if (self->scope != NULL && PyObject_TypeCheck(self->scope, &ScopeType)) {
        return 1;
    }
    PyErr_SetString(PyExc_TypeError, "a passage is through the door of a scope");
    return 0;
}

/* Leave the rest to the pure coroutine. `thrown`: NULL, or what came out of the wait. */
static PyObject *
pure_passage(Drain *self, PyObject *thrown)
{
    if (!self->out) {
        return PyObject_CallOneArg(kept[K_SCOPE_ENTER], self->scope);
    }
    return PyObject_CallFunctionObjArgs(kept[K_SCOPE_EXIT], self->scope, Py_None, Py_None, Py_None, thrown, NULL);
}

static PySendResult
passage_begin_pure(Drain *self, PyObject *thrown, PyObject **result)
{
    PyObject *coroutine = pure_passage(self, thrown);
    if (coroutine == NULL) {
        return passage_failed(&self->op, result);
    }
    put(self->op.sub, coroutine);
    Py_DECREF(coroutine);
    self->op.state = self->op.state == NEW ? DONE : self->op.state;
    self->op.phase = SUSPENDED;
    return operation_pass_on(&self->op, Py_None, result);
}

static PySendResult
passage_in(Drain *self, PyObject **result)
{
    Scope *scope = (Scope *)self->scope;
    Task *task = running_task();
    Engine *engine = task != NULL ? plain_engine(task) : NULL;
    if (!block_can_enter(&scope->base, task, engine)) {
        return passage_begin_pure(self, NULL, result);
    }
    self->op.state = DONE;
    if (block_enter(&scope->base, task, engine) < 0) {
        return passage_failed(&self->op, result);
    }
    put(scope->host, engine);
    return passage_done(&self->op, (PyObject *)scope, result);
}

static int
is_filled_list(PyObject *list)
{
    return is_set(list) && (!PyList_CheckExact(list) || PyList_GET_SIZE(list) > 0);
}

/* The children have ended. */
static PySendResult
passage_leave(Drain *self, Task *task, int waited, PyObject **result)
{
    Scope *scope = (Scope *)self->scope;
    if (scope->foreground || scope->background || is_filled_list(scope->deferred) || is_filled_list(scope->errors) ||
        is_set(scope->base.node.record) || scope->policy == NULL || scope->policy != kept[K_ALL_MUST_SUCCEED] || running_task() != task ||
        !block_can_leave(&scope->base, task, plain_engine(task))) {
        if (waited && running_task() == task) {
            task->budget++; /* the wait was counted; the pure `__aexit__`, which finds nobody left to wait for, counts again */
        }
        return passage_begin_pure(self, NULL, result);
    }
    if (!waited) { /* counted all the same, so that a loop of empty scopes lets others run */
        task->budget--;
    }
    block_leave(&scope->base, task);
    put(scope->host, NULL);
    return passage_done(&self->op, Py_False, result);
}

static PySendResult
passage_out(Drain *self, PyObject **result)
{
    Scope *scope = (Scope *)self->scope;
    Task *task = running_task();
    Engine *engine = task != NULL ? plain_engine(task) : NULL;
    if (engine == NULL || self->op.state != NEW || task->budget <= 0 || has_rare(task, guard) ||
        scope->base.node.task != (PyObject *)task || scope->host != (PyObject *)engine) {
        return passage_begin_pure(self, NULL, result);
    }
    scope->closing = 1;
    if (scope->foreground == 0) {
        self->op.state = DONE;
        return passage_leave(self, task, 0, result);
    }
    task->budget--;
    put(scope->drain, self);
    if (operation_park(&self->op, task, NULL) < 0) {
        return passage_failed(&self->op, result);
    }
    return operation_parked(result);
}

static PySendResult
passage_step(Operation *op, PyObject *arg, PyObject **result)
{
    Drain *self = (Drain *)op;
    if (op->sub != NULL) {
        return operation_pass_on(op, arg, result);
    }
    if (!passage_is_sound(self)) {
        return passage_failed(op, result);
    }
    if (op->phase == BEFORE) {
        return self->out ? passage_out(self, result) : passage_in(self, result);
    }
    if (op->phase == SUSPENDED && op->state == FIRED) {
        op->state = DONE;
        operation_leave_wait(op);
        return passage_leave(self, (Task *)op->task, 1, result);
    }
    return operation_continue(op, arg, result);
}

ITERATOR(passage, passage_step)

/* What comes out of the wait for the children is for the pure `__aexit__` if it is a cancellation, else for who waits. */
static PyObject *
passage_throw(Operation *op, PyObject *const *args, Py_ssize_t nargs)
{
    int waits = op->sub == NULL && op->phase == SUSPENDED;
    PyObject *result = parked_throw(op, args, nargs);
    if (result != NULL || !waits || ((Drain *)op)->scope == NULL || !PyErr_ExceptionMatches(kept[K_CANCELLED])) {
        return result;
    }
    PyObject *error = take_raised();
    PySendResult how = passage_begin_pure((Drain *)op, error, &result);
    Py_DECREF(error);
    if (how == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        Py_CLEAR(result);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
    }
    return result;
}

static PyMethodDef passage_methods[] = {
    {"send", (PyCFunction)passage_send, METH_O, "Resume it."},
    {"throw", (PyCFunction)(void (*)(void))passage_throw, METH_FASTCALL, "Throw an exception in where it waits."},
    {"close", (PyCFunction)parked_close, METH_NOARGS, "Give it up."},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods passage_async = {.am_await = operation_await, .am_send = (sendfunc)passage_step};

static OPERATION_TYPE(PassageType, "PassageFields", Drain, &DrainType, drain, passage, NULL, passage_methods)

/* -- Scope.__aenter__, Scope.__aexit__ --------------------------------------------------------------------------------------------- */

static PyObject *
passage_new(Scope *scope, int out)
{
    Drain *made = (Drain *)final_new(C_PASSAGE);
    if (made != NULL) {
        put(made->scope, scope);
        put(made->op.resource, scope);
        made->background = 0;
        made->out = (char)out;
    }
    return (PyObject *)made;
}

static int
is_on_short_way(Scope *self)
{
    Task *task = running_task();
    return Py_IS_TYPE(self, known[C_SCOPE]) && known[C_PASSAGE] != NULL && task != NULL && plain_engine(task) != NULL;
}

PyObject *
scope_aenter(Scope *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_on_short_way(self)) {
        return PyObject_CallOneArg(kept[K_SCOPE_ENTER], (PyObject *)self);
    }
    return passage_new(self, 0);
}

PyObject *
scope_aexit(Scope *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3 || args[1] != Py_None || !is_on_short_way(self)) {
        PyObject *whole[5] = {(PyObject *)self, NULL, NULL, NULL, NULL};
        for (Py_ssize_t i = 0; i < nargs && i < 4; i++) {
            whole[i + 1] = args[i];
        }
        return PyObject_Vectorcall(kept[K_SCOPE_EXIT], whole, (size_t)(nargs < 4 ? nargs : 4) + 1, NULL);
    }
    return passage_new(self, 1);
}

/* scope(), or scope(name=...): what the function in scopes.py does. */
static PyObject *
scope_function(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyFrameObject *frame = PyEval_GetFrame();
    PyObject *name = NULL;
    Py_ssize_t named = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    PyTypeObject *type = known[C_SCOPE];
    int plain = nargs == 0 && named <= 1 && frame != NULL && type != NULL && kept[K_DEFAULT_BUDGET] != NULL;
    if (plain && named == 1) {
        name = args[0];
        plain = PyTuple_GET_ITEM(kwnames, 0) == str_name && PyUnicode_CheckExact(name);
    }
    if (!plain) {
        return PyObject_Vectorcall(kept[K_SCOPE], args, (size_t)nargs, kwnames);
    }
    PyObject *label = name != NULL ? Py_NewRef(name) : PyUnicode_FromStringAndSize(NULL, 0);
    PyObject *errors = PyList_New(0);
    Scope *self = label != NULL && errors != NULL ? (Scope *)type->tp_alloc(type, 0) : NULL;
    if (self != NULL) {
        put(self->name, label);
        put(self->errors, errors);
        put(self->policy, kept[K_ALL_MUST_SUCCEED]);
        put(self->cleanup_budget, kept[K_DEFAULT_BUDGET]);
        self->base.site_code = (PyObject *)PyFrame_GetCode(frame);
        self->base.site_offset = PyFrame_GetLasti(frame);
    }
    Py_XDECREF(label);
    Py_XDECREF(errors);
    return (PyObject *)self;
}

int
scope_satisfy_drain(Scope *self)
{
    PyObject *drain = Py_NewRef(self->drain);
    int status;
    if (Py_IS_TYPE(drain, known[C_PASSAGE])) {
        put(self->drain, NULL);
        status = operation_fire((Operation *)drain, Py_None);
        Py_DECREF(drain);
        return status;
    }
    PyObject *satisfied = PyObject_CallMethodNoArgs(drain, str_satisfied), *fired = NULL;
    status = satisfied == NULL ? -1 : 0;
    if (satisfied == Py_True) {
        put(self->drain, NULL);
        fired = PyObject_CallMethodOneArg(drain, str_fire, Py_None);
        status = fired == NULL ? -1 : 0;
    }
    Py_XDECREF(fired);
    Py_XDECREF(satisfied);
    Py_DECREF(drain);
    return status;
}

static PyMethodDef block_functions[] = {
    {"scope", (PyCFunction)(void (*)(void))scope_function, METH_FASTCALL | METH_KEYWORDS,
     "scope(*, name=None, policy=None, limit=None, timeout=None, deadline=None, shield=False, cleanup_budget=10.0)\n--\n\n"
     "A place for tasks: ``async with bateau.scope() as s: s.spawn(fn, *args)``. It ends when its last child has.\n\n"
     "``policy`` says what children's ends mean (default: the first failure cancels the rest and is raised in an\n"
     "``ExceptionGroup``); ``limit`` bounds how many children run at once (others queue; background children don't count);\n"
     "``timeout`` (seconds from entering) or ``deadline`` (on ``bateau.now()``'s clock) cancels the scope, which then ends quietly\n"
     "with ``cancelled_caught`` set; ``shield`` keeps outer cancellations out; ``cleanup_budget`` is how many seconds deferred\n"
     "cleanup may take. Raises ``ValueError`` for a negative time or a limit below 1."},
    {NULL, NULL, 0, NULL},
};

int
kernel_block_ready(PyObject *module)
{
    if (PyModule_AddFunctions(module, block_functions) < 0 || PyModule_AddType(module, &DrainType) < 0) {
        return -1;
    }
    return PyModule_AddType(module, &PassageType);
}
