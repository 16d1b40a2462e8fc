/* The native runtime's look at the descriptors: epoll, and the calls of whom it concerns. runtimes/native.py has the reactor.

   Registrations carry a generation. An event that was reported for an earlier registration of the same number (the
   descriptor was closed under us and its number given to another; one is kept alive by a duplicate) says nothing about
   the present one, and is dropped; the reactor is told, since such an event may be reported for ever (`_nobodys`). Events of one poll are called in the order of epoll; what an earlier one has taken out
   of the tables meanwhile is not called any more.

   A reactor in a simulated world has no real epoll set (`epoll` is -1): the pure code acts there.

   Ownership. The descriptors of the epoll set and of the wake-up belong to the Python side (`_epoll`, `_eventfd`), which closes
   them; here are their numbers, -1 once closed. The tables own their callables; what is called is held meanwhile.
   `generations` is a plain array, indexed by number, that only grows.

   FdTable. What to call, by number: a mapping like the dictionaries of the pure code, over an array, so that an event costs neither
   a number object nor a look-up. Beside each callable is the Side that it is the method `ready` of, if it is one: that is
   the callable's own `__self__`, so it lives as long as the entry. A simulated world's numbers mean nothing to the system, and may be
   any: there the tables are dictionaries. */
#include "fd.h"

#ifdef __linux__
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define POLL_EVENTS 256
#define READABLE (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)
#define WRITABLE (EPOLLOUT | EPOLLHUP | EPOLLERR)

/* -- FdTable -------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject *callable; /* owned, or NULL */
    Side *side;         /* borrowed from `callable`, or NULL */
} Entry;

typedef struct {
    PyObject_HEAD
    Entry *entries;
    Py_ssize_t room, used; /* `used`: how many are filled */
} FdTable;

static PyTypeObject FdTableType;

/* No table of gigabytes for a number that is no descriptor: 0, or -1 with an exception. */
static int
check_number(int fd)
{
    if (fcntl(fd, F_GETFD) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

/* An array of `size`-byte entries that has one for `fd`, the new ones zero: 0, or -1 with an exception. */
static int
grow(void **array, Py_ssize_t *room, int fd, size_t size)
{
    Py_ssize_t wanted = *room < 64 ? 64 : *room;
    while (wanted <= fd) {
        wanted *= 2;
    }
    char *more = PyMem_Realloc(*array, (size_t)wanted * size);
    if (more == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(more + (size_t)*room * size, 0, (size_t)(wanted - *room) * size);
    *array = more;
    *room = wanted;
    return 0;
}

static int
table_traverse(FdTable *self, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < self->room; i++) {
        Py_VISIT(self->entries[i].callable);
    }
    return 0;
}

/* Empty the entry; what it had is dropped last, since that may run anything. */
static void
table_take(FdTable *self, Py_ssize_t fd)
{
    PyObject *old = self->entries[fd].callable;
    self->entries[fd] = (Entry){NULL, NULL};
    self->used -= old != NULL;
    Py_XDECREF(old);
}

static int
table_clear(FdTable *self)
{
    for (Py_ssize_t i = 0; i < self->room; i++) {
        table_take(self, i);
    }
    return 0;
}

static void
table_dealloc(FdTable *self)
{
    PyObject_GC_UnTrack(self);
    table_clear(self);
    PyMem_Free(self->entries);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static inline PyObject *
table_at(FdTable *self, Py_ssize_t fd) /* borrowed, or NULL without an exception */
{
    return fd >= 0 && fd < self->room ? self->entries[fd].callable : NULL;
}

/* The number that `key` is, -1 for what can be no key; no exception. */
static Py_ssize_t
number_in(PyObject *key)
{
    Py_ssize_t fd = PyLong_Check(key) ? PyLong_AsSsize_t(key) : -1;
    PyErr_Clear();
    return fd;
}

static int
table_assign(FdTable *self, PyObject *key, PyObject *callable)
{
    Py_ssize_t fd = number_in(key);
    if (callable == NULL) {
        if (table_at(self, fd) == NULL) {
            PyErr_SetObject(PyExc_KeyError, key);
            return -1;
        }
        table_take(self, fd);
        return 0;
    }
    if (fd < 0 || fd > INT_MAX) {
        PyErr_SetString(PyExc_ValueError, "a file descriptor is 0 or more");
        return -1;
    }
    if (fd >= self->room &&
        (check_number((int)fd) < 0 || grow((void **)&self->entries, &self->room, (int)fd, sizeof(Entry)) < 0)) {
        return -1;
    }
    PyObject *old = self->entries[fd].callable;
    self->entries[fd] = (Entry){Py_NewRef(callable), side_of_ready(callable)};
    self->used += old == NULL;
    Py_XDECREF(old);
    return 0;
}

static PyObject *
table_subscript(FdTable *self, PyObject *key)
{
    PyObject *found = table_at(self, number_in(key));
    if (found == NULL) {
        PyErr_SetObject(PyExc_KeyError, key);
    }
    return Py_XNewRef(found);
}

static Py_ssize_t
table_length(FdTable *self)
{
    return self->used;
}

static int
table_contains(FdTable *self, PyObject *key)
{
    return table_at(self, number_in(key)) != NULL;
}

static PyObject *
table_get(FdTable *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 2) {
        PyErr_Format(PyExc_TypeError, "get takes 1 or 2 arguments, not %zd", nargs);
        return NULL;
    }
    PyObject *found = table_at(self, number_in(args[0]));
    return Py_NewRef(found != NULL ? found : nargs > 1 ? args[1] : Py_None);
}

static PyObject *
table_pop(FdTable *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 2) {
        PyErr_Format(PyExc_TypeError, "pop takes 1 or 2 arguments, not %zd", nargs);
        return NULL;
    }
    Py_ssize_t fd = number_in(args[0]);
    PyObject *found = table_at(self, fd);
    if (found != NULL) {
        Py_INCREF(found);
        table_take(self, fd);
        return found;
    }
    if (nargs == 1) {
        PyErr_SetObject(PyExc_KeyError, args[0]);
        return NULL;
    }
    return Py_NewRef(args[1]);
}

/* A list of the numbers, or of (number, callable): a copy, so that who goes through it may change the table. */
static PyObject *
table_list(FdTable *self, int with_callables)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t fd = 0; list != NULL && fd < self->room; fd++) {
        PyObject *callable = self->entries[fd].callable;
        if (callable == NULL) {
            continue;
        }
        Py_INCREF(callable); /* making the item may run the collector, and that anything */
        PyObject *item = with_callables ? Py_BuildValue("nO", fd, callable) : PyLong_FromSsize_t(fd);
        Py_DECREF(callable);
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *
table_items(FdTable *self, PyObject *Py_UNUSED(ignored))
{
    return table_list(self, 1);
}

static PyObject *
table_keys(FdTable *self, PyObject *Py_UNUSED(ignored))
{
    return table_list(self, 0);
}

static PyObject *
table_iter(FdTable *self)
{
    PyObject *list = table_list(self, 0);
    PyObject *iterator = list != NULL ? PyObject_GetIter(list) : NULL;
    Py_XDECREF(list);
    return iterator;
}

static PyObject *
table_clear_method(FdTable *self, PyObject *Py_UNUSED(ignored))
{
    table_clear(self);
    Py_RETURN_NONE;
}

static PyMethodDef table_methods[] = {
    {"get", (PyCFunction)(void (*)(void))table_get, METH_FASTCALL, "As a dictionary's."},
    {"pop", (PyCFunction)(void (*)(void))table_pop, METH_FASTCALL, "As a dictionary's."},
    {"items", (PyCFunction)table_items, METH_NOARGS, "(number, callable) of each, by number: a copy."},
    {"keys", (PyCFunction)table_keys, METH_NOARGS, "The numbers, in order: a copy."},
    {"clear", (PyCFunction)table_clear_method, METH_NOARGS, "As a dictionary's."},
    {NULL, NULL, 0, NULL},
};

static PySequenceMethods table_sequence = {.sq_contains = (objobjproc)table_contains};

static PyMappingMethods table_mapping = {
    .mp_length = (lenfunc)table_length,
    .mp_subscript = (binaryfunc)table_subscript,
    .mp_ass_subscript = (objobjargproc)table_assign,
};

static PyTypeObject FdTableType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.FdTable",
    .tp_doc = "What to call, by the number of a descriptor.",
    .tp_basicsize = sizeof(FdTable),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)table_dealloc,
    .tp_traverse = (traverseproc)table_traverse,
    .tp_clear = (inquiry)table_clear,
    .tp_iter = (getiterfunc)table_iter,
    .tp_as_sequence = &table_sequence,
    .tp_as_mapping = &table_mapping,
    .tp_methods = table_methods,
};

/* What a table of either kind has for a number: borrowed, or NULL, with an exception or not. `side`: set if it is known to be one's. */
static PyObject *
look_up(PyObject *table, Py_ssize_t fd, Side **side)
{
    *side = NULL;
    if (table == NULL) {
        return NULL;
    }
    if (Py_IS_TYPE(table, &FdTableType)) {
        FdTable *known_table = (FdTable *)table;
        if (fd >= known_table->room) {
            return NULL;
        }
        *side = known_table->entries[fd].side;
        return known_table->entries[fd].callable;
    }
    if (!PyDict_CheckExact(table)) {
        return NULL;
    }
    PyObject *number = PyLong_FromSsize_t(fd);
    PyObject *callable = number != NULL ? PyDict_GetItemWithError(table, number) : NULL;
    Py_XDECREF(number);
    *side = callable != NULL ? side_of_ready(callable) : NULL;
    return callable;
}

/* -- Reactor -------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *readers, *writers;
    PyObject *awaited; /* the number of a descriptor that somebody waited for, when that was asked last */
    uint32_t *generations; /* of `room` descriptors; 0 for those that were never registered */
    Py_ssize_t room;
    long long polled; /* when the last poll ended, in nanoseconds of the (coarse) monotonic clock: for who asks how long a step has lasted */
    int epoll, wake;
    char awaited_writes;
} Reactor;

#define REACTOR_OBJECTS(X) X(awaited) X(readers) X(writers)

COLLECTED(static, reactor, Reactor, REACTOR_OBJECTS, nothing)

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
    if (fd >= self->room && (check_number((int)fd) < 0 ||
                             grow((void **)&self->generations, &self->room, (int)fd, sizeof(uint32_t)) < 0)) {
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

/* Call what `table` has for `fd`, and count it: 0, or -1 with an exception. */
static int
call(PyObject *table, int fd, int *called)
{
    Side *side;
    PyObject *callable = look_up(table, fd, &side);
    if (callable == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_INCREF(callable);
    ++*called;
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

/* Whether an event is of the present registration of its number. Asked before each call: the one before may have closed anything. */
static inline int
is_present(Reactor *self, int fd, uint32_t generation)
{
    return fd < self->room && self->generations[fd] == generation;
}

static int
dispatch(Reactor *self, const struct epoll_event *event)
{
    int fd = (int)(uint32_t)event->data.u64;
    uint32_t generation = (uint32_t)(event->data.u64 >> 32), mask = event->events;
    int called = 0, status = 0;
    if (is_present(self, fd, generation)) {
        if (fd == self->wake) {
            uint64_t count;
            ssize_t got = read(fd, &count, sizeof(count));
            (void)got; /* nothing in it: read already */
            return 0;
        }
        if (mask & READABLE) {
            status = call(self->readers, fd, &called);
        }
        if (status == 0 && mask & WRITABLE && is_present(self, fd, generation)) {
            status = call(self->writers, fd, &called);
        }
    }
    if (status == 0 && !called) {
        PyObject *number = PyLong_FromLong(fd);
        PyObject *result = number != NULL ? PyObject_CallMethodOneArg((PyObject *)self, str__nobodys, number) : NULL;
        Py_XDECREF(number);
        Py_XDECREF(result);
        status = result == NULL ? -1 : 0;
    }
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
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "Invalid value NaN (not a number)");
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
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* costs a few nanoseconds, and lags by a few milliseconds */
    self->polled = (long long)now.tv_sec * 1000000000 + now.tv_nsec;
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
    Py_ssize_t last = self->awaited != NULL ? number_in(self->awaited) : -1;
    if (last >= 0 && last != number_in(own)) {
        Side *side;
        if (look_up(table, last, &side) == NULL && PyErr_Occurred()) {
            return NULL;
        }
        if (side != NULL && side->waiters != NULL && PyList_CheckExact(side->waiters) && PyList_GET_SIZE(side->waiters) > 0) {
            Py_RETURN_TRUE;
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
    {"_polled", Py_T_LONGLONG, offsetof(Reactor, polled), 0, NULL},
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
    return PyModule_AddType(module, &FdTableType) < 0 ? -1 : PyModule_AddType(module, &ReactorType);
}

#else /* no epoll: the native runtime says so by itself */

int
kernel_reactor_ready(PyObject *module)
{
    Py_INCREF(&PyDict_Type);
    Py_INCREF(&PyBaseObject_Type);
    if (PyModule_AddObject(module, "FdTable", (PyObject *)&PyDict_Type) < 0) {
        return -1;
    }
    return PyModule_AddObject(module, "ReactorFields", (PyObject *)&PyBaseObject_Type);
}
#endif
