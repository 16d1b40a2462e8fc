/* What the files about descriptors share; fd.c has the theory of waiting, reactor.c that of the events. */
#ifndef BATEAU_FD_H
#define BATEAU_FD_H

#include "operation.h"

/* bateau.io.fd.Side: one direction of a descriptor. */
typedef struct {
    PyObject_HEAD
    PyObject *host, *turns, *waiters; /* `waiters` is a list */
    long long drained;
    int fd;
    char write, closed, in_host, quiet;
} Side;

/* bateau.io.fd.FdWatch. */
typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *home, *label, *reading, *writing;
    unsigned long thread;
    int fd;
    char closed;
} Watch;

/* bateau.io.fd.FdOperation. */
typedef struct {
    Operation op;
    PyObject *side;
} FdOperation;

/* bateau.io.fd.FdsOperation: `sides` is a tuple. */
typedef struct {
    FdOperation base;
    PyObject *sides;
} FdsOperation;

/* How an attempt ended. */
enum attempt { FAILED = -1, NOT_YET, SUCCEEDED };

extern PyTypeObject SideType, WatchType, FdOperationType, FdsOperationType;

int watch_traverse(Watch *self, visitproc visit, void *arg);
int watch_clear(Watch *self);
int fds_operation_traverse(FdsOperation *self, visitproc visit, void *arg);
int fds_operation_clear(FdsOperation *self);

int fd_operation_traverse(FdOperation *self, visitproc visit, void *arg);
int fd_operation_clear(FdOperation *self);
void fd_operation_dealloc(FdOperation *self);
PySendResult fd_step(Operation *self, PyObject *arg, PyObject **result);
PyObject *fd_throw(Operation *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *fd_close(Operation *self, PyObject *ignored);
void side_drain(Side *self);
/* If `callable` is the method `ready` of a Side: that Side, borrowed. Else NULL. */
Side *side_of_ready(PyObject *callable);
int side_ready(Side *self); /* 0, or -1 with an exception */

/* The attempts of the stream's and the datagram socket's operations, see socket.c: NULL for those of other classes. */
typedef enum attempt (*attempt_function)(FdOperation *op);
attempt_function attempt_of(Operation *op);
/* Join the wait after an attempt of such an operation; 0, or -1 with an exception. */
int stream_register(Operation *op);

/* Of an operation that has an attempt: whether all it waits for, after one in vain, is its `side`. See connection.c. */
int waits_at_its_side(Operation *op);
/* Whether what `host` waits for here is known to be its own: a listener's sockets. See connection.c. */
int listener_is_at_home(PyObject *resource, PyObject *host);

#endif
