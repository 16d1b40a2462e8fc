/* The native runtime's look at the descriptors: epoll, and the calls of whom it concerns. runtimes/native.py has the reactor.

   Registrations carry a generation. An event that was reported for an earlier registration of the same number (the
   descriptor was closed under us and its number given to another; one is kept alive by a duplicate) says nothing about
   the present one, and is dropped; the reactor is told, since such an event may be reported for ever (`_nobodys`). Events of one poll are called in the order of epoll; what an earlier one has taken out
   of the tables meanwhile is not called any more.

   A reactor in a simulated world has no real epoll set (`epoll` is -1): the pure code acts there.

   Ownership. The descriptors of the epoll set and of the wake-up belong to the Python side (`_epoll`, `_eventfd`), which closes
   them; here are their numbers, -1 once closed. The tables are Python dictionaries of callables by number, and own those;
   what is called is held meanwhile. `generations` is a plain array, indexed by number, that only grows. */
#include "fd.h"

#ifdef __linux__
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/epoll.h>
#include <unistd.h>

#define POLL_EVENTS 256
#define READABLE (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)
#define WRITABLE (EPOLLOUT | EPOLLHUP | EPOLLERR)

typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *readers, *writers;
    PyObject *awaited; /* the number of a descriptor that somebody waited for, when that was asked last */
    uint32_t *generations; /* of `room` descriptors; 0 for those that were never registered */
    Py_ssize_t room;
    int epoll, wake;
    char awaited_writes;
} Reactor;

static int
reactor_traverse(Reactor *self, visitproc visit, void *arg)
{
    Py_VISIT(self->awaited);
    Py_VISIT(self->readers);
    Py_VISIT(self->writers);
    return 0;
}

static int
reactor_clear(Reactor *self)
{
    Py_CLEAR(self->awaited);
    Py_CLEAR(self->readers);
    Py_CLEAR(self->writers);
    return 0;
}

static void
reactor_dealloc(Reactor *self)
{
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    reactor_clear(self);
    PyMem_Free(self->generations);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
reactor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Reactor *self = (Reactor *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->epoll = self->wake = -1;
    }
    return (PyObject *)self;
}

static int
make_room(Reactor *self, int fd)
{
    if (fd < self->room) {
        return 0;
    }
    if (fcntl(fd, F_GETFD) < 0) { /* no table of gigabytes for a number that is no descriptor */
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    Py_ssize_t room = self->room < 64 ? 64 : self->room;
    while (room <= fd) {
        room *= 2;
    }
    uint32_t *more = PyMem_Realloc(self->generations, (size_t)room * sizeof(uint32_t));
    if (more == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(more + self->room, 0, (size_t)(room - self->room) * sizeof(uint32_t));
    self->generations = more;
    self->room = room;
    return 0;
}

/* _control(op, fd, mask): epoll_ctl. Adding begins a new generation. */
static PyObject *
reactor_control(Reactor *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "_control takes 3 arguments, not %zd", nargs);
        return NULL;
    }
    if (self->epoll < 0) {
        return PyObject_CallFunctionObjArgs(kept[K_REACTOR_CONTROL], (PyObject *)self, args[0], args[1], args[2], NULL);
    }
    long op = PyLong_AsLong(args[0]), fd = PyLong_AsLong(args[1]), mask = PyLong_AsLong(args[2]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (fd < 0 || fd > INT_MAX) {
        PyErr_SetString(PyExc_ValueError, "a file descriptor is 0 or more");
        return NULL;
    }
    if (make_room(self, (int)fd) < 0) {
        return NULL;
    }
    uint32_t generation = self->generations[fd] + (op == EPOLL_CTL_ADD || self->generations[fd] == 0);
    struct epoll_event event = {.events = (uint32_t)mask, .data.u64 = (uint64_t)generation << 32 | (uint32_t)fd};
    if (epoll_ctl(self->epoll, (int)op, (int)fd, &event) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    self->generations[fd] = generation;
    Py_RETURN_NONE;
}

/* Call what `table` has for `number`, and count it: 0, or -1 with an exception. */
static int
call(PyObject *table, PyObject *number, int *called)
{
    if (table == NULL || !PyDict_CheckExact(table)) {
        return 0;
    }
    PyObject *callable = PyDict_GetItemWithError(table, number);
    if (callable == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_INCREF(callable);
    ++*called;
    Side *side = side_of_ready(callable);
    int status;
    if (side != NULL) {
        status = side_ready(side);
    } else {
        PyObject *result = PyObject_CallNoArgs(callable);
        status = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    Py_DECREF(callable);
    return status;
}

static int
dispatch(Reactor *self, const struct epoll_event *event)
{
    int fd = (int)(uint32_t)event->data.u64;
    uint32_t generation = (uint32_t)(event->data.u64 >> 32), mask = event->events;
    int present = fd < self->room && self->generations[fd] == generation;
    if (present && fd == self->wake) {
        uint64_t count;
        ssize_t got = read(fd, &count, sizeof(count));
        (void)got; /* nothing in it: read already */
        return 0;
    }
    PyObject *number = PyLong_FromLong(fd);
    if (number == NULL) {
        return -1;
    }
    int called = 0, status = present && mask & READABLE ? call(self->readers, number, &called) : 0;
    if (status == 0 && present && mask & WRITABLE) {
        status = call(self->writers, number, &called);
    }
    if (status == 0 && !called) {
        PyObject *result = PyObject_CallMethodOneArg((PyObject *)self, str__nobodys, number);
        Py_XDECREF(result);
        status = result == NULL ? -1 : 0;
    }
    Py_DECREF(number);
    return status;
}

static int
milliseconds(PyObject *timeout, int *found)
{
    *found = -1;
    if (timeout == Py_None) {
        return 0;
    }
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    double most = 86400.0; /* LONGEST_POLL */
    *found = seconds <= 0.0 ? 0 : (int)ceil((seconds < most ? seconds : most) * 1000.0);
    return 0;
}

static PyObject *
reactor_poll(Reactor *self, PyObject *timeout)
{
    struct epoll_event events[POLL_EVENTS];
    int wait, count, code = 0;
    if (self->epoll < 0) {
        return PyObject_CallFunctionObjArgs(kept[K_REACTOR_POLL], (PyObject *)self, timeout, NULL);
    }
    if (milliseconds(timeout, &wait) < 0) {
        return NULL;
    }
    if (wait == 0) {
        count = epoll_wait(self->epoll, events, POLL_EVENTS, 0);
        code = errno;
    } else {
        int epoll = self->epoll;
        Py_BEGIN_ALLOW_THREADS
        count = epoll_wait(epoll, events, POLL_EVENTS, wait);
        code = errno;
        Py_END_ALLOW_THREADS
    }
    if (count < 0) {
        if (code == EINTR) { /* a poll that ends early for nothing is harmless */
            if (PyErr_CheckSignals() < 0) {
                return NULL;
            }
            Py_RETURN_NONE;
        }
        errno = code;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    for (int i = 0; i < count; i++) {
        if (dispatch(self, &events[i]) < 0) {
            return NULL; /* the others are reported again */
        }
    }
    Py_RETURN_NONE;
}

/* is_awaited(own): whether a descriptor other than `own` may still bring something to somebody. */
static PyObject *
reactor_is_awaited(Reactor *self, PyObject *own)
{
    /* The one that was found last, most likely a listener, which is waited for all the time. */
    PyObject *table = self->awaited_writes ? self->writers : self->readers;
    if (self->awaited != NULL && table != NULL && PyDict_CheckExact(table)) {
        PyObject *callable = PyDict_GetItemWithError(table, self->awaited);
        Side *side = callable != NULL ? side_of_ready(callable) : NULL;
        if (side != NULL && side->waiters != NULL && PyList_CheckExact(side->waiters) && PyList_GET_SIZE(side->waiters) > 0) {
            Py_RETURN_TRUE;
        }
        if (callable == NULL && PyErr_Occurred()) {
            return NULL;
        }
    }
    put(self->awaited, NULL);
    PyObject *found = PyObject_CallFunctionObjArgs(kept[K_REACTOR_IS_AWAITED], (PyObject *)self, own, NULL);
    if (found != NULL && PyTuple_CheckExact(found) && PyTuple_GET_SIZE(found) == 2) { /* (fd, whether it is a writer) */
        put(self->awaited, PyTuple_GET_ITEM(found, 0));
        self->awaited_writes = PyTuple_GET_ITEM(found, 1) == Py_True;
        Py_SETREF(found, Py_NewRef(Py_True));
    } else if (found == Py_None) {
        Py_SETREF(found, Py_NewRef(Py_False));
    }
    return found;
}

static PyMethodDef reactor_methods[] = {
    {"is_awaited", (PyCFunction)reactor_is_awaited, METH_O,
     "Whether an fd other than ``own`` may still bring something to somebody."},
    {"poll", (PyCFunction)reactor_poll, METH_O,
     "Wait at most ``timeout`` seconds (None: for ever) and call what is ready."},
    {"_control", (PyCFunction)(void (*)(void))reactor_control, METH_FASTCALL, "epoll_ctl; adding begins a new generation."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef reactor_members[] = {
    FIELD(Reactor, readers, "_readers"),
    FIELD(Reactor, writers, "_writers"),
    {"_epoll_fd", Py_T_INT, offsetof(Reactor, epoll), 0, NULL},
    {"_wake_fd", Py_T_INT, offsetof(Reactor, wake), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject ReactorType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.ReactorFields",
    .tp_basicsize = sizeof(Reactor),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_weaklistoffset = offsetof(Reactor, weakrefs),
    .tp_new = reactor_new,
    .tp_dealloc = (destructor)reactor_dealloc,
    .tp_traverse = (traverseproc)reactor_traverse,
    .tp_clear = (inquiry)reactor_clear,
    .tp_members = reactor_members,
    .tp_methods = reactor_methods,
};

int
kernel_reactor_ready(PyObject *module)
{
    return PyModule_AddType(module, &ReactorType);
}

#else /* no epoll: the native runtime says so by itself */

int
kernel_reactor_ready(PyObject *module)
{
    Py_INCREF(&PyBaseObject_Type);
    return PyModule_AddObject(module, "ReactorFields", (PyObject *)&PyBaseObject_Type);
}
#endif
