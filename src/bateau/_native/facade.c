/* The class of the module `bateau` itself: what a program looks up at every call (`bateau.yield_now()`) is found with little ado.

   Why. CPython makes an attribute of a module as cheap as a local name, but not if the module has a `__getattr__` (PEP 562), nor if
   its class is not exactly ModuleType. `bateau` has one, so that importing it loads no tool, and can't be rid of it while a program runs:
   some of its names are classes whose modules take longer to import than all that a small program needs, and a class can't
   be stood in for. So each lookup is a call of `tp_getattro`, and this is one that is quick.

   What it finds is what ModuleType would have found: the value under that name in the module's dictionary. All else is left to ModuleType:
   names that begin with an underscore (the class may have its own of that name, which come first) and those that are missing.

   Ownership. A slot of the cache owns its name, so that no other can come to that address. Its value is borrowed from the dictionary,
   which has it for as long as its version is the one noted: each change of any dictionary gives it a version that none had
   before. CPython 3.14 has no such versions; there the dictionary is asked each time. */
#include "kernel.h"

/* Where an instance of ModuleType has its dictionary (borrowed, may be NULL). */
static inline PyObject *
dictionary_of(PyObject *module)
{
    return *(PyObject **)((char *)module + PyModule_Type.tp_dictoffset);
}

static int
is_common(PyObject *name)
{
    return PyUnicode_CheckExact(name) && PyUnicode_GET_LENGTH(name) > 0 && PyUnicode_READ_CHAR(name, 0) != '_';
}

#if PY_VERSION_HEX < 0x030E0000

#define SLOTS 64 /* a power of two; twice what a program uses of the names */

static struct {
    PyObject *name;   /* owned */
    PyObject *value;  /* borrowed, see above */
    uint64_t version; /* of the dictionary in which it was found */
} __attribute__((aligned(32))) cache[SLOTS];

static inline uint64_t
version_of(PyObject *dictionary)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* from 3.12 on, where it is as good as before */
    return ((PyDictObject *)dictionary)->ma_version_tag;
#pragma GCC diagnostic pop
}

/* What was not found in the cache. Apart from what is common, which needs none of the stack then. */
static __attribute__((noinline)) PyObject *
look_up(PyObject *self, PyObject *name, size_t slot)
{
    PyObject *dictionary = dictionary_of(self);
    PyObject *value = dictionary != NULL && is_common(name) ? PyDict_GetItemWithError(dictionary, name) : NULL;
    if (value == NULL) {
        return PyErr_Occurred() ? NULL : PyModule_Type.tp_getattro(self, name);
    }
    Py_INCREF(value);
    if (PyUnicode_CHECK_INTERNED(name)) { /* the name that is in the program's code, not one that was put together */
        put(cache[slot].name, name);
        cache[slot].value = value;
        cache[slot].version = version_of(dictionary);
    }
    return value;
}

static PyObject *
facade_getattro(PyObject *self, PyObject *name)
{
    PyObject *dictionary = dictionary_of(self);
    size_t slot = ((uintptr_t)name >> 4) % SLOTS;
    if (LIKELY(dictionary != NULL && cache[slot].name == name && cache[slot].version == version_of(dictionary))) {
        return Py_NewRef(cache[slot].value);
    }
    return look_up(self, name, slot);
}

#else

#if PY_VERSION_HEX >= 0x030F0000
PyAPI_DATA(PyTypeObject) PyLazyImport_Type; /* declared in a header of the interpreter's own */
#define is_lazy(value) Py_IS_TYPE(value, &PyLazyImport_Type)
#else
#define is_lazy(value) 0
#endif

static PyObject *
facade_getattro(PyObject *self, PyObject *name)
{
    PyObject *dictionary = dictionary_of(self), *value = NULL;
    if (dictionary != NULL && is_common(name) && PyDict_GetItemRef(dictionary, name, &value) < 0) {
        return NULL;
    }
    if (value != NULL && is_lazy(value)) { /* an import that has not been made yet (`-X lazy_imports=all`): ModuleType makes it */
        Py_CLEAR(value);
    }
    return value != NULL ? value : PyModule_Type.tp_getattro(self, name);
}

#endif

/* Those who copy and pickle modules by name know them by their exact class, so this one says what they would. */
static PyObject *
facade_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *name = PyModule_GetNameObject(self), *importlib = PyImport_ImportModule("importlib"), *import = NULL, *made = NULL;
    if (name != NULL && importlib != NULL && (import = PyObject_GetAttrString(importlib, "import_module")) != NULL) {
        made = Py_BuildValue("O(O)", import, name);
    }
    Py_XDECREF(import);
    Py_XDECREF(importlib);
    Py_XDECREF(name);
    return made;
}

static PyMethodDef facade_methods[] = {
    {"__reduce__", facade_reduce, METH_NOARGS, "By its name: a copy of the module is the module."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject FacadeType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.Facade",
    .tp_doc = "A module whose attributes are found quickly, although it has a __getattr__.",
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_base = &PyModule_Type,
    .tp_getattro = facade_getattro,
    .tp_methods = facade_methods,
};

int
kernel_facade_ready(PyObject *module)
{
    return PyModule_AddType(module, &FacadeType);
}
