/* Ring: the queue of ready tasks, a double-ended queue with the part of collections.deque's interface that is used.

   It owns its items. Items are taken out before they are dropped, so that what a finaliser sees is consistent. */
#include "kernel.h"

static inline PyObject **
slot_at(Ring *self, Py_ssize_t index)
{
    Py_ssize_t place = self->head + index;
    return &self->items[place < self->room ? place : place - self->room];
}

Ring *
ring_new(void)
{
    return (Ring *)RingType.tp_alloc(&RingType, 0);
}

int
ring_grow(Ring *self)
{
    Py_ssize_t room = self->room > 0 ? self->room * 2 : 16;
    if (room > PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(PyObject *)) {
        PyErr_NoMemory();
        return -1;
    }
    PyObject **items = PyMem_Malloc((size_t)room * sizeof(PyObject *));
    if (items == NULL) { /* a task that can't be queued is one that was not woken: try with little */
        room = self->room + 16;
        items = PyMem_Malloc((size_t)room * sizeof(PyObject *));
    }
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < self->size; i++) {
        items[i] = *slot_at(self, i);
    }
    PyMem_Free(self->items);
    self->items = items;
    self->head = 0;
    self->room = room;
    return 0;
}

PyObject *
ring_take(Ring *self, Py_ssize_t index)
{
    if (index < 0 || index >= self->size) {
        return NULL;
    }
    PyObject *item = *slot_at(self, index);
    if (index < self->size / 2) { /* the shorter side moves up */
        for (Py_ssize_t i = index; i > 0; i--) {
            *slot_at(self, i) = *slot_at(self, i - 1);
        }
        self->head = self->head + 1 < self->room ? self->head + 1 : 0;
    } else {
        for (Py_ssize_t i = index; i + 1 < self->size; i++) {
            *slot_at(self, i) = *slot_at(self, i + 1);
        }
    }
    self->size--;
    return item;
}

static PyObject *
ring_append(Ring *self, PyObject *item)
{
    if (ring_push(self, item) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
ring_appendleft(Ring *self, PyObject *item)
{
    if (self->size == self->room && ring_grow(self) < 0) {
        return NULL;
    }
    self->head = self->head > 0 ? self->head - 1 : self->room - 1;
    self->items[self->head] = Py_NewRef(item);
    self->size++;
    Py_RETURN_NONE;
}

static PyObject *
ring_popleft(Ring *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *item = ring_shift(self);
    if (item == NULL) {
        PyErr_SetString(PyExc_IndexError, "pop from an empty queue");
    }
    return item;
}

static int
ring_drop_all(Ring *self)
{
    PyObject *item;
    while ((item = ring_shift(self)) != NULL) {
        Py_DECREF(item);
    }
    return 0;
}

static PyObject *
ring_clear_method(Ring *self, PyObject *Py_UNUSED(ignored))
{
    ring_drop_all(self);
    Py_RETURN_NONE;
}

static Py_ssize_t
ring_length(Ring *self)
{
    return self->size;
}

static PyObject *
ring_item(Ring *self, Py_ssize_t index)
{
    if (index < 0 || index >= self->size) {
        PyErr_SetString(PyExc_IndexError, "queue index out of range");
        return NULL;
    }
    return Py_NewRef(*slot_at(self, index));
}

static int
ring_ass_item(Ring *self, Py_ssize_t index, PyObject *value)
{
    if (index < 0 || index >= self->size) {
        PyErr_SetString(PyExc_IndexError, "queue index out of range");
        return -1;
    }
    PyObject *old = *slot_at(self, index);
    if (value != NULL) {
        *slot_at(self, index) = Py_NewRef(value);
    } else {
        for (Py_ssize_t i = index; i + 1 < self->size; i++) {
            *slot_at(self, i) = *slot_at(self, i + 1);
        }
        self->size--;
    }
    Py_DECREF(old);
    return 0;
}

static PyObject *
ring_iter(Ring *self)
{
    PyObject *copy = NULL;
    do { /* making the tuple may run the collector, and that finalisers, which wake tasks */
        Py_XDECREF(copy);
        copy = PyTuple_New(self->size);
        if (copy == NULL) {
            return NULL;
        }
    } while (PyTuple_GET_SIZE(copy) != self->size);
    for (Py_ssize_t i = 0; i < self->size; i++) {
        PyTuple_SET_ITEM(copy, i, Py_NewRef(*slot_at(self, i)));
    }
    PyObject *iterator = PyObject_GetIter(copy);
    Py_DECREF(copy);
    return iterator;
}

static int
ring_traverse(Ring *self, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < self->size; i++) {
        Py_VISIT(*slot_at(self, i));
    }
    return 0;
}

static void
ring_dealloc(Ring *self)
{
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, ring_dealloc)
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    ring_drop_all(self);
    PyMem_Free(self->items);
    Py_TYPE(self)->tp_free((PyObject *)self);
    Py_TRASHCAN_END
}

static PyObject *
ring_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) || (kwargs != NULL && PyDict_GET_SIZE(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "Deque takes no arguments");
        return NULL;
    }
    return type->tp_alloc(type, 0);
}

static PyMethodDef ring_methods[] = {
    {"append", (PyCFunction)ring_append, METH_O, "Add at the end."},
    {"appendleft", (PyCFunction)ring_appendleft, METH_O, "Add at the head."},
    {"popleft", (PyCFunction)ring_popleft, METH_NOARGS, "Take out the first."},
    {"clear", (PyCFunction)ring_clear_method, METH_NOARGS, "Take out all."},
    {NULL, NULL, 0, NULL},
};

static PySequenceMethods ring_sequence = {
    .sq_length = (lenfunc)ring_length,
    .sq_item = (ssizeargfunc)ring_item,
    .sq_ass_item = (ssizeobjargproc)ring_ass_item,
};

PyTypeObject RingType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.Deque",
    .tp_doc = "A queue of ready tasks. Iterating it goes over a copy.",
    .tp_basicsize = sizeof(Ring),
    .tp_weaklistoffset = offsetof(Ring, weakrefs),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = ring_make,
    .tp_dealloc = (destructor)ring_dealloc,
    .tp_traverse = (traverseproc)ring_traverse,
    .tp_clear = (inquiry)ring_drop_all,
    .tp_iter = (getiterfunc)ring_iter,
    .tp_as_sequence = &ring_sequence,
    .tp_methods = ring_methods,
};

int
kernel_ring_ready(PyObject *module)
{
    return PyModule_AddType(module, &RingType);
}
