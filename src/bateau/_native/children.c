/* Children: what a node of the cancellation tree has below it, in the order in which they came.

   A list whose links are in the nodes: joining and leaving cost no memory and look nothing up, also among a hundred thousand.
   It owns the nodes in it. `among` in a node says in whose list it is, so it is in at most one; it is reset whenever it leaves.
   Python sees the part of a dictionary (of nodes, each to None) that the pure kernel uses. */
#include "kernel.h"

static void
link_node(Children *self, Node *node)
{
    Py_INCREF(node);
    node->among = self;
    node->after = NULL;
    node->before = self->last;
    if (self->last != NULL) {
        self->last->after = node;
    } else {
        self->first = node;
    }
    self->last = node;
    self->size++;
}

/* The reference of the list becomes the caller's. */
static void
unlink_node(Children *self, Node *node)
{
    if (node->before != NULL) {
        node->before->after = node->after;
    } else {
        self->first = node->after;
    }
    if (node->after != NULL) {
        node->after->before = node->before;
    } else {
        self->last = node->before;
    }
    node->before = node->after = NULL;
    node->among = NULL;
    self->size--;
}

static int
add(Children *self, Node *node)
{
    if (node->among == self) {
        return 0;
    }
    if (node->among != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this node is among another's children already");
        return -1;
    }
    link_node(self, node);
    return 0;
}

int
node_join(Node *parent, Node *child)
{
    if (!is_set(parent->children)) {
        PyObject *made = ChildrenType.tp_alloc(&ChildrenType, 0);
        if (made == NULL) {
            return -1;
        }
        if (!is_set(parent->children)) { /* making it may have run a finaliser */
            put(parent->children, made);
        }
        Py_DECREF(made);
    }
    if (!Py_IS_TYPE(parent->children, &ChildrenType)) {
        PyErr_SetString(PyExc_TypeError, "the children of a node are kept in a Children");
        return -1;
    }
    return add((Children *)parent->children, child);
}

void
node_leave(Node *child)
{
    Children *among = child->among;
    if (among != NULL) {
        unlink_node(among, child);
        Py_DECREF(child);
    }
}

/* -- as a mapping ------------------------------------------------------------------------------------------------------------ */

static Node *
as_node(PyObject *thing)
{
    if (!PyObject_TypeCheck(thing, &NodeType)) {
        PyErr_Format(PyExc_TypeError, "the children of a node are nodes, not %s", Py_TYPE(thing)->tp_name);
        return NULL;
    }
    return (Node *)thing;
}

static Py_ssize_t
children_length(Children *self)
{
    return self->size;
}

static int
children_contains(Children *self, PyObject *thing)
{
    return PyObject_TypeCheck(thing, &NodeType) && ((Node *)thing)->among == self;
}

/* children[node] = None; del children[node] */
static int
children_assign(Children *self, PyObject *thing, PyObject *value)
{
    Node *node = as_node(thing);
    if (node == NULL) {
        return -1;
    }
    if (value != NULL) {
        return add(self, node);
    }
    if (node->among != self) {
        PyErr_SetObject(PyExc_KeyError, thing);
        return -1;
    }
    node_leave(node);
    return 0;
}

static PyObject *
children_pop(Children *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 2) {
        PyErr_Format(PyExc_TypeError, "pop takes a node and a default, not %zd arguments", nargs);
        return NULL;
    }
    if (children_contains(self, args[0])) {
        node_leave((Node *)args[0]);
        Py_RETURN_NONE;
    }
    if (nargs == 2) {
        return Py_NewRef(args[1]);
    }
    PyErr_SetObject(PyExc_KeyError, args[0]);
    return NULL;
}

static PyObject *
children_iter(Children *self)
{
    PyObject *copy = NULL;
    do { /* making the tuple may run the collector, and that finalisers, which cancel and spawn */
        Py_XDECREF(copy);
        copy = PyTuple_New(self->size);
        if (copy == NULL) {
            return NULL;
        }
    } while (PyTuple_GET_SIZE(copy) != self->size);
    Py_ssize_t i = 0;
    for (Node *node = self->first; node != NULL; node = node->after) {
        PyTuple_SET_ITEM(copy, i++, Py_NewRef((PyObject *)node));
    }
    PyObject *iterator = PyObject_GetIter(copy);
    Py_DECREF(copy);
    return iterator;
}

static int
children_traverse(Children *self, visitproc visit, void *arg)
{
    for (Node *node = self->first; node != NULL; node = node->after) {
        Py_VISIT(node);
    }
    return 0;
}

static int
children_clear(Children *self)
{
    while (self->first != NULL) {
        Node *node = self->first;
        unlink_node(self, node);
        Py_DECREF(node);
    }
    return 0;
}

static void
children_dealloc(Children *self)
{
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, children_dealloc)
    children_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
    Py_TRASHCAN_END
}

static PyMethodDef children_methods[] = {
    {"pop", (PyCFunction)(void (*)(void))children_pop, METH_FASTCALL, "Take a node out; the default, or KeyError, if it is not in."},
    {NULL, NULL, 0, NULL},
};

/* For readers of a process's memory: the first; and of each node the one after it. */
static PyMemberDef children_members[] = {
    FIELD_SEEN(Children, first, "_first"),
    {NULL, 0, 0, 0, NULL},
};

static PyMappingMethods children_mapping = {
    .mp_length = (lenfunc)children_length,
    .mp_ass_subscript = (objobjargproc)children_assign,
};

static PySequenceMethods children_sequence = {
    .sq_length = (lenfunc)children_length,
    .sq_contains = (objobjproc)children_contains,
};

PyTypeObject ChildrenType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.Children",
    .tp_doc = "The nodes below a node, in the order in which they came. Iterating it goes over a copy.",
    .tp_basicsize = sizeof(Children),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)children_dealloc,
    .tp_traverse = (traverseproc)children_traverse,
    .tp_clear = (inquiry)children_clear,
    .tp_iter = (getiterfunc)children_iter,
    .tp_as_mapping = &children_mapping,
    .tp_as_sequence = &children_sequence,
    .tp_methods = children_methods,
    .tp_members = children_members,
};

int
kernel_children_ready(PyObject *module)
{
    return PyModule_AddType(module, &ChildrenType);
}
