/* Calls: the awaitables that the methods of files and of buffered streams give (file.c, buffered.c), where the pure code has coroutines.

   Theory of operation. A Call is its own iterator, single use. Its first step is its owner's (`begin`), which does the common
   case there and then, or finds something to be resumed from here until its end: `below`. That is the coroutine of the pure
   method (`call_leave`), whose end is the call's, or what the stream below was asked for, and then `resumed` says what comes of it.

   BEFORE -> OVER, or -> SUSPENDED (with `below`) or GIVING_WAY (the others run first, then it begins again) -> ... -> OVER. While `begin`
   runs the call is OVER: no code that is run meanwhile may begin it again, or end it.

   Ownership. A call owns all that it refers to. `mark` is set exactly while something of the call stands at its owner and keeps others
   away; whatever ends the call (a result, an exception, `close`, its being dropped) has `let_go` take it back, once. `below` is held
   on the C stack while it is resumed, so it may be taken away meanwhile. Freed calls are kept for the next ones. */
#include "call.h"

/* -- its life ----------------------------------------------------------------------------------------------------------------------- */

/* Freeing what is let go must not disturb an exception that is on its way. */
void
call_let_go(Call *self)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    self->of->let_go(self);
    PyErr_Restore(type, value, tb);
}

/* Resume what is below, once. When that has ended, it is let go. */
PySendResult
call_below(Call *self, PyObject *arg, PyObject **result)
{
    PyObject *below = Py_NewRef(self->below);
    PySendResult how = PyIter_Send(below, arg, result);
    if (how != PYGEN_NEXT && self->below == below) {
        self->below = NULL;
        Py_DECREF(below); /* it is still held: nothing is freed under an exception */
    }
    Py_DECREF(below);
    return how;
}

static inline PySendResult
answered(Call *self, PySendResult how, PyObject **result)
{
    if (self->resumed != NULL) {
        return self->resumed(self, how, result);
    }
    return call_over(self, how == PYGEN_RETURN ? *result : NULL, result);
}

/* Resume what is below, until the call waits or has ended. */
PySendResult
call_resume(Call *self, PyObject *arg, PyObject **result)
{
    PySendResult how = call_below(self, arg, result);
    return how == PYGEN_NEXT ? how : answered(self, how, result);
}

/* Leave it to `coro` (stolen; NULL: there is none, with an exception). */
PySendResult
call_leave(Call *self, PyObject *coro, PyObject *arg, PyObject **result)
{
    if (coro == NULL) {
        return call_over(self, NULL, result);
    }
    Py_XSETREF(self->below, coro);
    self->resumed = NULL;
    self->phase = SUSPENDED;
    return call_resume(self, arg, result);
}

static PySendResult
call_step(Call *self, PyObject *arg, PyObject **result)
{
    *result = NULL;
    if (self->phase == BEFORE) {
        if (arg != Py_None) {
            PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
            return PYGEN_ERROR;
        }
        self->phase = OVER;
        return self->of->begin(self, arg, result);
    }
    if (self->phase == GIVING_WAY) {
        call_over(self, NULL, result);
        return self->of->begin(self, Py_None, result);
    }
    if (self->phase == OVER || self->below == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    return call_resume(self, arg, result);
}

/* -- its methods ---------------------------------------------------------------------------------------------------------------------- */

static PyObject *
call_await(Call *self)
{
    if (self->phase != BEFORE) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return NULL;
    }
    return Py_NewRef((PyObject *)self);
}

/* What a method of an iterator gives for a step: NULL at the end, with StopIteration unless that is None's and `bare`. */
static PyObject *
stepped(PySendResult how, PyObject *result, int bare)
{
    if (how == PYGEN_NEXT) {
        return result;
    }
    if (how == PYGEN_RETURN) {
        if (result != Py_None) {
            PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result); /* (a tuple would be taken for its arguments) */
            if (stop != NULL) {
                PyErr_SetObject(PyExc_StopIteration, stop);
                Py_DECREF(stop);
            }
        } else if (!bare) {
            PyErr_SetNone(PyExc_StopIteration);
        }
        Py_DECREF(result);
    }
    return NULL;
}

static PyObject *
resumed_with(Call *self, PyObject *arg, int bare)
{
    PyObject *result = NULL;
    Py_INCREF(self);
    PySendResult how = call_step(self, arg, &result);
    Py_DECREF(self);
    return stepped(how, result, bare);
}

static PyObject *
call_next(Call *self)
{
    return resumed_with(self, Py_None, 1);
}

static PyObject *
call_send(Call *self, PyObject *arg)
{
    return resumed_with(self, arg, 0);
}

/* The method of an iterator that need not have it: NULL with an exception, or without one if it has not. */
static PyObject *
optional(PyObject *below, PyObject *name)
{
    PyObject *method = PyObject_GetAttr(below, name);
    if (method == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
    }
    return method;
}

/* Throw `error` (stolen) into what is below; where that takes none, it is raised where the call waits, as in a coroutine. */
static PySendResult
throw_below(Call *self, PyObject *error, PyObject **result)
{
    PyObject *below = Py_NewRef(self->below);
    PySendResult how = PYGEN_NEXT;
    PyObject *method = optional(below, str_throw);
    *result = method != NULL ? PyObject_CallOneArg(method, error) : NULL;
    if (method == NULL && !PyErr_Occurred()) {
        put_raised(error);
    } else {
        Py_DECREF(error);
    }
    Py_XDECREF(method);
    if (*result == NULL) {
        how = PYGEN_ERROR;
        if (PyErr_ExceptionMatches(PyExc_StopIteration)) { /* it was met inside, which has ended */
            PyObject *stop = take_raised();
            *result = stop != NULL ? PyObject_GetAttrString(stop, "value") : NULL;
            Py_XDECREF(stop);
            how = *result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
        }
        if (self->below == below) {
            self->below = NULL;
            Py_DECREF(below);
        }
        how = answered(self, how, result);
    }
    Py_DECREF(below);
    return how;
}

static PyObject *
call_throw(Call *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *error = thrown_error(args, nargs), *result = NULL;
    if (error == NULL) {
        return NULL;
    }
    Py_INCREF(self);
    PySendResult how = PYGEN_ERROR;
    if (self->phase == SUSPENDED && self->below != NULL) {
        how = throw_below(self, error, &result);
    } else {
        put_raised(error);
        if (self->phase != OVER) {
            call_over(self, NULL, &result);
        }
    }
    Py_DECREF(self);
    return stepped(how, result, 0);
}

static PyObject *
call_close(Call *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *result, *closed = NULL, *below = self->phase == SUSPENDED ? Py_XNewRef(self->below) : NULL;
    if (self->phase == OVER) { /* or `begin` is running, and sees to its end */
        Py_RETURN_NONE;
    }
    Py_INCREF(self);
    if (below != NULL) {
        PyObject *method = optional(below, str_close);
        closed = method != NULL ? PyObject_CallNoArgs(method) : PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
        Py_XDECREF(method);
        if (self->below == below) {
            self->below = NULL;
            Py_DECREF(below);
        }
        Py_DECREF(below);
    } else {
        closed = Py_NewRef(Py_None);
    }
    call_over(self, NULL, &result);
    Py_DECREF(self);
    return closed;
}

static PyMethodDef call_methods[] = {
    {"send", (PyCFunction)call_send, METH_O, "Resume it."},
    {"throw", (PyCFunction)(void (*)(void))call_throw, METH_FASTCALL, "Throw an exception in where it waits."},
    {"close", (PyCFunction)call_close, METH_NOARGS, "Give it up."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef call_members[] = {
    {"owner", _Py_T_OBJECT, offsetof(Call, owner), Py_READONLY, "The file or the buffered stream."},
    {"cr_await", _Py_T_OBJECT, offsetof(Call, below), Py_READONLY, "What it waits for."},
    {NULL, 0, 0, 0, NULL},
};

/* -- making and freeing ----------------------------------------------------------------------------------------------------------------- */

struct SpareCalls spare_calls;
static PyTypeObject CallType;

COLLECTED(static, call, Call, CALL_OBJECTS, nothing)

/* With what a spare one has, too: nothing below, and no mark. */
Call *
call_allocate(void)
{
    Call *call = PyObject_GC_New(Call, &CallType);
    if (call != NULL) {
        call->below = call->mark = NULL;
        call->finalized = 0;
    }
    return call;
}

static void
call_finalize(Call *self)
{
    PyObject *type, *value, *tb;
    self->finalized = 1;
    if (self->phase == OVER) {
        return;
    }
    PyErr_Fetch(&type, &value, &tb);
    if (self->phase != BEFORE) { /* dropped where it waits */
        PyObject *closed = call_close(self, NULL);
        if (closed == NULL) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        Py_XDECREF(closed);
    } else {
        self->phase = OVER;
        if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine '%s' was never awaited", self->of->names[(int)self->kind]) < 0) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
    }
    PyErr_Restore(type, value, tb);
}

static inline void
free_call(Call *self)
{
    Py_CLEAR(self->owner);
    Py_CLEAR(self->first);
    if (((uintptr_t)self->second | (uintptr_t)self->below | (uintptr_t)self->mark) != 0) {
        call_clear(self);
    }
    int room = (int)(sizeof(spare_calls.calls) / sizeof(spare_calls.calls[0]));
    if (LIKELY(spare_calls.count < room && !self->finalized)) {
        spare_calls.calls[spare_calls.count++] = self;
    } else {
        PyObject_GC_Del(self);
    }
}

static __attribute__((noinline)) void call_dealloc_deep(Call *self);

static void
call_dealloc(Call *self)
{
    if (self->phase != OVER && PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    if (LIKELY(is_shallow(self->first) && is_shallow(self->second))) {
        free_call(self);
    } else {
        call_dealloc_deep(self);
    }
}

/* Its argument may be another call, and so on. */
static void
call_dealloc_deep(Call *self)
{
    Py_TRASHCAN_BEGIN(self, call_dealloc)
    free_call(self);
    Py_TRASHCAN_END
}

static PyAsyncMethods call_async = {.am_await = (unaryfunc)call_await, .am_send = (sendfunc)call_step};

static PyTypeObject CallType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.Call",
    .tp_doc = "A call of a file or a buffered stream: single use, to be awaited.",
    .tp_basicsize = sizeof(Call),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_dealloc = (destructor)call_dealloc,
    .tp_finalize = (destructor)call_finalize,
    .tp_traverse = (traverseproc)call_traverse,
    .tp_clear = (inquiry)call_clear,
    .tp_as_async = &call_async,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)call_next,
    .tp_members = call_members,
    .tp_methods = call_methods,
};

int
kernel_call_ready(PyObject *module)
{
    return PyModule_AddType(module, &CallType);
}
