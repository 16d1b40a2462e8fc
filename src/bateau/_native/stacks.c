/* Where suspended coroutines are, for who looks at a hundred thousand of them (bateau/insight/tables.py, `Tables.stack_of`, which defines
 * what this does and does it where this can't): through everything they await, without making a frame object for any. Those would cost more
 * than all else that is read of a task, and CPython keeps them until the coroutine ends.
 *
 * Under the GIL nothing that is read here changes meanwhile, but for one call: whether a foreign awaitable hides what it drives is asked of
 * its class, which may run Python code, and end the very coroutines that were walked through. Hence a walk owns the code objects it found.
 * A stack's code objects are in `stacks`, so their addresses stay their own.
 */
#define Py_BUILD_CORE 1
#include "kernel.h"
#include "stacks.h"
#include <string.h>
#if PY_VERSION_HEX < 0x03100000
#include "internal/pycore_frame.h"
#if PY_VERSION_HEX >= 0x030E0000
#include "internal/pycore_interpframe.h"
#endif
#ifndef FRAME_STATE_FINISHED
#define FRAME_STATE_FINISHED(state) ((state) >= FRAME_COMPLETED)
#endif

enum { DEEPEST = 64 }; /* more is left to the pure way */

typedef struct {
    PyObject_HEAD
    PyObject *waiting; /* the file whose generators are how an operation waits: a stack ends before them */
    PyObject *known;   /* bytes of a stack's places -> its index */
    PyObject *stacks;  /* a list: tuples of (code, instruction), outermost first */
} Stacks;

typedef struct {
    PyCodeObject *code; /* owned, from `walk` to the end of `bateau_stacks_of` */
    int64_t instruction;
} Place;

static PyObject *str_cr_await, *str_gi_yieldfrom, *hiding[3];

/* Whether a chain ends at this object, which is no coroutine and no generator of Python's: it drives none, and hides none. */
static int
is_end(PyObject *awaited)
{
    if (PyObject_TypeCheck(awaited, &OperationType)) {
        return 1;
    }
    static const char *const hidden[] = {"async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "anext_awaitable"};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        if (strcmp(Py_TYPE(awaited)->tp_name, hidden[i]) == 0) {
            return 0;
        }
    }
    for (int i = 0; i < 3; i++) {
        PyObject *frame;
#if PY_VERSION_HEX >= 0x030D0000
        int found = PyObject_GetOptionalAttr(awaited, hiding[i], &frame);
#else
        int found = _PyObject_LookupAttr(awaited, hiding[i], &frame);
#endif
        Py_XDECREF(frame);
        if (found != 0) {
            PyErr_Clear();
            return 0;
        }
    }
    return 1;
}

/* The places of a chain; how many were found. `*whole` is 0 where the chain goes on, in a way that only Python can follow. */
static int
walk(Stacks *self, PyObject *coro, Place *places, int *whole)
{
    int count = 0;
    *whole = 1;
    PyObject *awaited = Py_NewRef(coro);
    while (awaited != Py_None) {
        int generator = PyGen_CheckExact(awaited);
        if (!generator && !PyCoro_CheckExact(awaited)) {
            if (!is_end(awaited)) {
                *whole = 0;
            }
            break;
        }
        PyGenObject *gen = (PyGenObject *)awaited;
        if (FRAME_STATE_FINISHED(gen->gi_frame_state)) {
            break;
        }
        struct _PyInterpreterFrame *frame = (struct _PyInterpreterFrame *)&gen->gi_iframe;
#if PY_VERSION_HEX >= 0x030D0000
        PyCodeObject *code = _PyFrame_GetCode(frame);
#else
        PyCodeObject *code = frame->f_code;
#endif
        if (generator && (code->co_filename == self->waiting || PyUnicode_Compare(code->co_filename, self->waiting) == 0)) {
            break;
        }
        if (count == DEEPEST) {
            *whole = 0;
            break;
        }
        places[count].code = (PyCodeObject *)Py_NewRef((PyObject *)code);
        places[count].instruction = (int64_t)_PyInterpreterFrame_LASTI(frame) * (int64_t)sizeof(_Py_CODEUNIT);
        count++;
        PyObject *inner = PyObject_GetAttr(awaited, generator ? str_gi_yieldfrom : str_cr_await);
        if (inner == NULL) {
            PyErr_Clear();
            break;
        }
        Py_SETREF(awaited, inner);
    }
    Py_DECREF(awaited);
    return count;
}

/* Enter a stack that was not met before. A new reference to its index. */
static PyObject *
enter(Stacks *self, PyObject *key, const Place *places, int count)
{
    PyObject *stack = PyTuple_New(count), *index = NULL;
    for (int i = 0; stack != NULL && i < count; i++) {
        PyObject *place = Py_BuildValue("(OL)", places[i].code, (long long)places[i].instruction);
        if (place == NULL) {
            Py_CLEAR(stack);
        } else {
            PyTuple_SET_ITEM(stack, i, place);
        }
    }
    if (stack != NULL) {
        index = PyLong_FromSsize_t(PyList_GET_SIZE(self->stacks));
        if (index != NULL && (PyList_Append(self->stacks, stack) < 0 || PyDict_SetItem(self->known, key, index) < 0)) {
            Py_CLEAR(index);
        }
        Py_DECREF(stack);
    }
    return index;
}

static PyTypeObject StacksType;

int
bateau_is_stacks(PyObject *object)
{
    return Py_IS_TYPE(object, &StacksType);
}

long
bateau_stacks_of(PyObject *stacks, PyObject *coro)
{
    Stacks *self = (Stacks *)stacks;
    Place places[DEEPEST];
    int whole, count = walk(self, coro, places, &whole);
    long found = STACK_NOT_KNOWN;
    if (whole && count == 0) {
        found = STACK_EMPTY;
    } else if (whole) {
        PyObject *key = PyBytes_FromStringAndSize((const char *)places, (Py_ssize_t)(count * (int)sizeof *places));
        PyObject *index = key != NULL ? Py_XNewRef(PyDict_GetItemWithError(self->known, key)) : NULL;
        if (index == NULL && !PyErr_Occurred()) {
            index = enter(self, key, places, count);
        }
        if (index != NULL) {
            found = PyLong_AsLong(index);
        }
        Py_XDECREF(index);
        Py_XDECREF(key);
    }
    for (int i = 0; i < count; i++) {
        Py_DECREF(places[i].code);
    }
    return found;
}

static PyObject *
stacks_of(PyObject *self, PyObject *coro)
{
    long found = bateau_stacks_of(self, coro);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(found);
}

static PyObject *
stacks_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *waiting;
    if (!PyArg_ParseTuple(args, "U", &waiting)) {
        return NULL;
    }
    Stacks *self = (Stacks *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->waiting = Py_NewRef(waiting);
        self->known = PyDict_New();
        self->stacks = PyList_New(0);
        if (self->known == NULL || self->stacks == NULL) {
            Py_CLEAR(self);
        }
    }
    return (PyObject *)self;
}

static void
stacks_dealloc(Stacks *self)
{
    Py_XDECREF(self->waiting);
    Py_XDECREF(self->known);
    Py_XDECREF(self->stacks);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef stacks_methods[] = {
    {"of", (PyCFunction)stacks_of, METH_O,
     "of(coro)\n--\n\nThe index in ``stacks`` of where a coroutine is suspended; -1: it is nowhere; -2: that is for others to find out."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef stacks_members[] = {
    FIELD_SEEN(Stacks, stacks, "stacks"),
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject StacksType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.Stacks",
    .tp_doc = "Stacks(waiting)\n--\n\nThe stacks of suspended coroutines, each once. See bateau.insight.tables.",
    .tp_basicsize = sizeof(Stacks),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = stacks_new,
    .tp_dealloc = (destructor)stacks_dealloc,
    .tp_methods = stacks_methods,
    .tp_members = stacks_members,
};

int
bateau_stacks_exec(PyObject *module)
{
    static const char *const words[] = {"cr_frame", "gi_frame", "ag_frame"};
    for (int i = 0; i < 3; i++) {
        if (hiding[i] == NULL && (hiding[i] = PyUnicode_InternFromString(words[i])) == NULL) {
            return -1;
        }
    }
    if (str_cr_await == NULL && (str_cr_await = PyUnicode_InternFromString("cr_await")) == NULL) {
        return -1;
    }
    if (str_gi_yieldfrom == NULL && (str_gi_yieldfrom = PyUnicode_InternFromString("gi_yieldfrom")) == NULL) {
        return -1;
    }
    return PyModule_AddType(module, &StacksType);
}
#else
int
bateau_stacks_exec(PyObject *module)
{
    return 0; /* the interpreter's frames can't be read here: there is no such type, and the pure way is taken */
}

int
bateau_is_stacks(PyObject *object)
{
    return 0;
}

long
bateau_stacks_of(PyObject *stacks, PyObject *coro)
{
    return STACK_NOT_KNOWN;
}
#endif
