/* The rows of a snapshot as JSON, for who writes a hundred thousand of them: bateau/insight/schema.py, `_rows`, defines what is written, to the
 * last byte, and is asked for every value that is not of the usual kinds.
 *
 * Ownership. The text grows in memory of this call's alone. What is written is kept alive by its row's dictionary, and that by a reference here;
 * nothing but `lean` and `dumps` runs Python code. */
#include "native.h"
#include <math.h>
#include <string.h>

typedef struct {
    char *text;
    size_t length, room;
    PyObject *fields; /* a dict: class -> how many fields it has: objects of these are written as what their __dict__ has */
    PyObject *lean;   /* one with all its fields -> those to write */
    PyObject *dumps;  /* anything else -> its JSON */
} Rows;

enum { DEEPEST = 16 }; /* of objects within each other: a snapshot's are three deep */

static int
make_room(Rows *rows, size_t more)
{
    if (rows->room - rows->length >= more) {
        return 0;
    }
    size_t room = rows->room * 2 + more;
    char *text = PyMem_Realloc(rows->text, room);
    if (text == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    rows->text = text;
    rows->room = room;
    return 0;
}

static int
put_bytes(Rows *rows, const char *bytes, size_t length)
{
    if (make_room(rows, length) < 0) {
        return -1;
    }
    memcpy(rows->text + rows->length, bytes, length);
    rows->length += length;
    return 0;
}

/* As Python's own writer has it. */
static int
put_dumped(Rows *rows, PyObject *value)
{
    PyObject *text = PyObject_CallOneArg(rows->dumps, value);
    Py_ssize_t length = 0;
    const char *bytes = text != NULL ? PyUnicode_AsUTF8AndSize(text, &length) : NULL;
    int status = bytes != NULL ? put_bytes(rows, bytes, (size_t)length) : -1;
    Py_XDECREF(text);
    return status;
}

static int
put_text(Rows *rows, PyObject *text)
{
    if (!PyUnicode_IS_COMPACT_ASCII(text)) {
        return put_dumped(rows, text);
    }
    const char *from = PyUnicode_DATA(text);
    size_t length = (size_t)PyUnicode_GET_LENGTH(text);
    if (make_room(rows, length + 2) < 0) {
        return -1;
    }
    char *to = rows->text + rows->length;
    *to++ = '"';
    for (size_t i = 0; i < length; i++) {
        unsigned char one = (unsigned char)from[i];
        if (one < ' ' || one == '"' || one == '\\' || one == 127) {
            return put_dumped(rows, text);
        }
        *to++ = (char)one;
    }
    *to = '"';
    rows->length += length + 2;
    return 0;
}

static int
put_float(Rows *rows, PyObject *value)
{
    double number = PyFloat_AS_DOUBLE(value);
    if (!isfinite(number)) {
        PyErr_SetString(PyExc_ValueError, "JSON has no infinity");
        return -1;
    }
    char *text = PyOS_double_to_string(number, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (text == NULL) {
        return -1;
    }
    int status = put_bytes(rows, text, strlen(text));
    PyMem_Free(text);
    return status;
}

static int
put_whole(Rows *rows, PyObject *value)
{
    int beyond;
    long long number = PyLong_AsLongLongAndOverflow(value, &beyond);
    if (beyond) {
        return put_dumped(rows, value);
    }
    char digits[24], *at = digits + sizeof digits;
    unsigned long long left = number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number;
    do {
        *--at = (char)('0' + left % 10);
        left /= 10;
    } while (left != 0);
    if (number < 0) {
        *--at = '-';
    }
    return put_bytes(rows, at, (size_t)(digits + sizeof digits - at));
}

static int put_object(Rows *rows, PyObject *object, Py_ssize_t most, int depth);

static int
put_value(Rows *rows, PyObject *value, int depth)
{
    if (PyUnicode_CheckExact(value)) {
        return put_text(rows, value);
    }
    if (PyLong_CheckExact(value)) {
        return put_whole(rows, value);
    }
    if (PyFloat_CheckExact(value)) {
        return put_float(rows, value);
    }
    if (value == Py_None) {
        return put_bytes(rows, "null", 4);
    }
    if (value == Py_True) {
        return put_bytes(rows, "true", 4);
    }
    if (value == Py_False) {
        return put_bytes(rows, "false", 5);
    }
    PyObject *most = PyDict_GetItemWithError(rows->fields, (PyObject *)Py_TYPE(value)); /* borrowed: the caller keeps it */
    if (most == NULL || depth >= DEEPEST) {
        return PyErr_Occurred() ? -1 : put_dumped(rows, value);
    }
    Py_ssize_t fields = PyLong_AsSsize_t(most);
    return fields == -1 && PyErr_Occurred() ? -1 : put_object(rows, value, fields, depth + 1);
}

/* An object of the snapshot's, which has at most so many fields. */
static int
put_object(Rows *rows, PyObject *object, Py_ssize_t most, int depth)
{
    PyObject *values = PyObject_GenericGetDict(object, NULL), *key, *value;
    if (values != NULL && PyDict_GET_SIZE(values) >= most) {
        Py_SETREF(values, PyObject_CallOneArg(rows->lean, object));
    }
    if (values == NULL || !PyDict_CheckExact(values)) {
        if (values != NULL) {
            PyErr_SetString(PyExc_TypeError, "lean must return a dict");
        }
        Py_XDECREF(values);
        return -1;
    }
    int status = put_bytes(rows, "{", 1);
    const char *comma = "";
    for (Py_ssize_t at = 0; status == 0 && PyDict_Next(values, &at, &key, &value);) {
        if (!PyUnicode_CheckExact(key)) {
            PyErr_SetString(PyExc_TypeError, "the name of a field must be a str");
            status = -1;
            break;
        }
        Py_INCREF(key);
        Py_INCREF(value);
        status = put_bytes(rows, comma, strlen(comma)) < 0 || put_text(rows, key) < 0 || put_bytes(rows, ":", 1) < 0 ||
                         put_value(rows, value, depth) < 0
                     ? -1
                     : 0;
        Py_DECREF(key);
        Py_DECREF(value);
        comma = ",";
    }
    Py_DECREF(values);
    return status == 0 ? put_bytes(rows, "}", 1) : -1;
}

static PyObject *
rows_of(PyObject *Py_UNUSED(module), PyObject *args)
{
    Rows rows = {0};
    PyObject *things;
    Py_ssize_t start, end;
    if (!PyArg_ParseTuple(args, "O!nnO!OO", &PyTuple_Type, &things, &start, &end, &PyDict_Type, &rows.fields, &rows.lean, &rows.dumps)) {
        return NULL;
    }
    end = end < PyTuple_GET_SIZE(things) ? end : PyTuple_GET_SIZE(things);
    int status = start < 0 ? -1 : 0;
    if (status < 0) {
        PyErr_SetString(PyExc_ValueError, "start must be 0 or more");
    } else if (end > start) {
        status = make_room(&rows, (size_t)(end - start) * 256);
    }
    for (Py_ssize_t i = start; status == 0 && i < end; i++) {
        status = (i > start ? put_bytes(&rows, ",", 1) : 0) < 0 ? -1 : put_value(&rows, PyTuple_GET_ITEM(things, i), 0);
    }
    PyObject *text = status == 0 ? PyBytes_FromStringAndSize(rows.text, (Py_ssize_t)rows.length) : NULL;
    PyMem_Free(rows.text);
    return text;
}

static PyMethodDef functions[] = {
    {"rows", (PyCFunction)rows_of, METH_VARARGS,
     "rows(things, start, end, fields, lean, dumps)\n--\n\nThe things from start to end as JSON with commas between. See bateau.insight.schema."},
    {NULL, NULL, 0, NULL},
};

int
bateau_rows_exec(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
