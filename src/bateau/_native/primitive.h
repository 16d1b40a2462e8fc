/* The fields that all portable primitives share (kernel/resource.py has the invariants). */
#ifndef BATEAU_PRIMITIVE_H
#define BATEAU_PRIMITIVE_H

#include "kernel.h"

typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *home, *mutex, *name;
    unsigned long thread;
} Primitive;

extern PyTypeObject PrimitiveType;

int primitive_traverse(Primitive *self, visitproc visit, void *arg);
int primitive_clear(Primitive *self);

#endif
