/* What the files of bateau._native share: the order in which their parts are set up. */
#ifndef BATEAU_NATIVE_H
#define BATEAU_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Each adds its types and functions to the module; 0, or -1 with an exception. */
int bateau_kernel_exec(PyObject *module);
int bateau_loop_exec(PyObject *module);
int bateau_recorder_exec(PyObject *module);
int bateau_stacks_exec(PyObject *module);
int bateau_look_exec(PyObject *module);
int bateau_rows_exec(PyObject *module);
int bateau_memory_exec(PyObject *module);

/* An instance of a plain class, which has `fields` for its dictionary: a new reference, or NULL with an exception. See look.c. */
PyObject *bateau_made(PyTypeObject *type, PyObject *fields);

/* Set a field to a new reference, which is taken over (NULL: an exception is set): 0, or -1 with an exception. */
static inline int
set_field(PyObject *fields, PyObject *key, PyObject *value)
{
    int status = value == NULL ? -1 : PyDict_SetItem(fields, key, value);
    Py_XDECREF(value);
    return status;
}

#endif
