/* The fields of Primitive, the base of channels, locks and all others. */
#include "primitive.h"

#define PRIMITIVE_OBJECTS(X) X(home) X(mutex) X(name)

COLLECTED(extern, primitive, Primitive, PRIMITIVE_OBJECTS, nothing)
ENDED(static, primitive, Primitive, weakrefs)

static PyMemberDef primitive_members[] = {
    FIELD(Primitive, home, "_home"),
    FIELD(Primitive, mutex, "mutex"),
    FIELD(Primitive, name, "name"),
    {"_thread", Py_T_ULONG, offsetof(Primitive, thread), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject PrimitiveType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.PrimitiveFields",
    .tp_basicsize = sizeof(Primitive),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_weaklistoffset = offsetof(Primitive, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)primitive_dealloc,
    .tp_traverse = (traverseproc)primitive_traverse,
    .tp_clear = (inquiry)primitive_clear,
    .tp_members = primitive_members,
};

int
kernel_primitive_ready(PyObject *module)
{
    return PyModule_AddType(module, &PrimitiveType);
}
