/* The floor of a switch between tasks: coroutines resumed in turns by a loop in C that does nothing else.

   A module for `benchmarks/switch_floor.py`, which compiles it. `once()` makes the least awaitable there can be: it suspends the coroutine once.
   `drive(coroutines, contexts)` resumes them all in turns until all have ended: in their contexts, or as they are (contexts is None).
   No queue but an array, no state of a task, no cancellation, no recorder, no look at the system. Takes CPython 3.11 to 3.13. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

typedef struct {
    PyObject_HEAD
    char suspended;
} Once;

static PyTypeObject OnceType;
#define SPARES 4096
static Once *spares[SPARES]; /* without a reference count */
static int count;

static PyObject *
once(PyObject *module, PyObject *ignored)
{
    (void)module, (void)ignored;
    if (count > 0) {
        PyObject *found = (PyObject *)spares[--count];
        _Py_NewReference(found);
        ((Once *)found)->suspended = 0;
        return found;
    }
    Once *made = PyObject_New(Once, &OnceType);
    if (made != NULL) {
        made->suspended = 0;
    }
    return (PyObject *)made;
}

static void
once_dealloc(Once *self)
{
    if (count < SPARES) {
        spares[count++] = self;
    } else {
        PyObject_Free(self);
    }
}

static PySendResult
once_send(PyObject *self, PyObject *arg, PyObject **result)
{
    (void)arg;
    *result = Py_NewRef(Py_None);
    if (((Once *)self)->suspended) {
        return PYGEN_RETURN;
    }
    ((Once *)self)->suspended = 1;
    return PYGEN_NEXT;
}

static PyObject *
once_next(PyObject *self)
{
    if (((Once *)self)->suspended) {
        return NULL;
    }
    ((Once *)self)->suspended = 1;
    return Py_NewRef(Py_None);
}

static PyAsyncMethods once_async = {.am_await = PyObject_SelfIter, .am_send = once_send};

static PyTypeObject OnceType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "resume.Once",
    .tp_basicsize = sizeof(Once),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = (destructor)once_dealloc,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = once_next,
    .tp_as_async = &once_async,
};

static PyObject *
drive(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *coroutines, *contexts;
    if (!PyArg_ParseTuple(args, "O!O", &PyList_Type, &coroutines, &contexts)) {
        return NULL;
    }
    Py_ssize_t all = PyList_GET_SIZE(coroutines), left = all;
    while (left > 0) {
        left = all;
        for (Py_ssize_t i = 0; i < all; i++) {
            PyObject *coroutine = PyList_GET_ITEM(coroutines, i), *result = NULL;
            PyObject *context = contexts != Py_None ? PyList_GET_ITEM(contexts, i) : NULL;
            if (coroutine == Py_None) {
                left--;
                continue;
            }
            if (context != NULL && PyContext_Enter(context) < 0) {
                return NULL;
            }
            PySendResult how = PyIter_Send(coroutine, Py_None, &result);
            if (context != NULL && PyContext_Exit(context) < 0) {
                Py_XDECREF(result);
                return NULL;
            }
            if (how == PYGEN_ERROR) {
                return NULL;
            }
            Py_DECREF(result);
            if (how == PYGEN_RETURN) {
                PyList_SetItem(coroutines, i, Py_NewRef(Py_None));
            }
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"once", once, METH_NOARGS, "An awaitable that suspends once."},
    {"drive", drive, METH_VARARGS, "Resume coroutines in turns until they have ended."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "resume", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC
PyInit_resume(void)
{
    return PyType_Ready(&OnceType) < 0 ? NULL : PyModule_Create(&definition);
}
