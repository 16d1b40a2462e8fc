/* Sockets: the fields of bateau.net's sockets and of their operations, and the attempts of those made here: one system call,
   no Python. net/_stream.py and net/_udp.py say what the operations promise; fd.c waits for them.

   Theory of operation. `stream.read(n)` and its like make an object of a final class, cheap to make and free. Its
   attempt is recv or send on the non-blocking socket. What is received goes through one shared buffer into bytes of the
   right size; only a read of more than that buffer holds gets bytes of its own, and `readinto` has the caller's, of which a view is held
   for the length of the system call. The shared buffer is read out before
   anything else can run: the GIL is held over these system calls, which do not block (it is given up only for those that
   copy a lot).

   What is not common is left to the pure code: a socket that is no plain `socket.socket` (a subclass, a simulated one), an error, which is made into the exception of the pure code by a function of its, an unusual argument.

   Ownership. The descriptor belongs to the socket object, that to its one owner (nobody else has it: `from_socket` detaches what
   it is given), and the watch to the same: closing closes the watch first and the socket next, in one go. So while the watch is
   open, `number` is the socket's; once it is closed nothing is tried here. An operation owns its stream, its data and itself for the length
   of its step (`operation_resume`), so what an attempt uses outlives it, also where the GIL is given up. */
#include <errno.h>

#include "socket.h"

char socket_shared[SHARED_SIZE];

#define OWNER_OBJECTS(X) X(family) X(on_close) X(site) X(sock) X(watch)

#define STREAM_OBJECTS(X) X(broken) X(reader) X(writer)

/* StreamRead: `size` bytes at most. StreamReadInto: into `data`, a buffer of the caller's. StreamWrite: `size` bytes of `data`, `sent` of
   them gone. */
typedef struct {
    FdOperation base;
    PyObject *stream, *data;
    Py_ssize_t size, sent;
} StreamOperation;

static PyTypeObject StreamOperationType;

/* -- the fields ------------------------------------------------------------------------------------------------------------------ */

COLLECTED(extern, owner, Owner, OWNER_OBJECTS, nothing)
ENDED(extern, owner, Owner, weakrefs)

OBJECT_METHODS(stream, Stream, STREAM_OBJECTS, owner, owner.weakrefs)

#define STREAM_OPERATION_OBJECTS(X) X(stream) X(data)

OBJECT_METHODS(stream_operation, StreamOperation, STREAM_OPERATION_OBJECTS, fd_operation, base.op.weakrefs)

/* Empty a read or write that has ended as one usually does: its stream lives on, nobody has asked for more. Whether it is empty; if not, some
   of its fields are. */
int
stream_let_go(Operation *op)
{
    StreamOperation *self = (StreamOperation *)op;
    return ((uintptr_t)op->weakrefs | (uintptr_t)op->sub) == 0 && !is_set(op->error) && !is_set(op->watcher) && empty_field(&op->error) &&
           empty_field(&op->watcher) && empty_field(&op->resource) && empty_field(&op->task) && empty_field(&op->value) && empty_field(&self->base.side) &&
           empty_field(&self->stream) && empty_field(&self->data);
}

/* -- attempts ---------------------------------------------------------------------------------------------------------------------- */

/* The attempt of the pure class. */
enum attempt
pure_attempt(FdOperation *op, int which)
{
    PyObject *result = PyObject_CallOneArg(kept[which], (PyObject *)op);
    int done = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return done < 0 ? FAILED : done ? SUCCEEDED : NOT_YET;
}

/* The system call has failed with `code`: what the pure code makes of that is raised. */
enum attempt
system_failed(FdOperation *op, int which, int code)
{
    errno = code;
    PyErr_SetFromErrno(PyExc_OSError);
    PyObject *error = take_raised();
    PyObject *result = error != NULL ? PyObject_CallFunctionObjArgs(kept[which], (PyObject *)op, error, NULL) : NULL;
    if (result != NULL) {
        PyErr_SetString(PyExc_SystemError, "a failed system call raised nothing");
        Py_DECREF(result);
    }
    Py_XDECREF(error);
    return FAILED;
}

/* One recv of at most `size` bytes: new bytes; or NULL, with an exception or, else, the error's number in `code`. */
static PyObject *
receive(int fd, Py_ssize_t size, int *code)
{
    ssize_t got;
    *code = 0;
    if (size <= SHARED_SIZE) {
        do {
            got = recv(fd, socket_shared, (size_t)size, 0);
        } while (got < 0 && errno == EINTR);
        if (got >= 0) {
            return PyBytes_FromStringAndSize(socket_shared, got);
        }
        *code = errno;
        return NULL;
    }
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    if (data == NULL) {
        return NULL;
    }
    char *start = PyBytes_AS_STRING(data);
    do {
        Py_BEGIN_ALLOW_THREADS
        got = recv(fd, start, (size_t)size, 0);
        *code = got < 0 ? errno : 0;
        Py_END_ALLOW_THREADS
    } while (*code == EINTR);
    if (got < 0) {
        Py_DECREF(data);
        return NULL;
    }
    if (got != size) {
        _PyBytes_Resize(&data, got);
    }
    return data;
}

/* Whether nobody else has the place of this direction: who has may have left it, and the pure code asks. */
static int
is_free(PyObject *other, FdOperation *op)
{
    return !is_set(other) || other == (PyObject *)op;
}

static enum attempt
attempt_read(FdOperation *op)
{
    StreamOperation *self = (StreamOperation *)op;
    Stream *stream = (Stream *)self->stream;
    Side *side = (Side *)op->side;
    if (side->closed || !is_free(stream->reader, op) || self->size <= 0) { /* recv itself would wait for the first byte, of which it takes none */
        return pure_attempt(op, K_STREAM_READ_POLL);
    }
    if (side->quiet) {
        return NOT_YET; /* the last read took all there was, and no event came since */
    }
    int fd = number_of(&stream->owner, (Watch *)op->op.resource), code;
    if (fd < 0) {
        return pure_attempt(op, K_STREAM_READ_POLL);
    }
    PyObject *data = receive(fd, self->size, &code);
    if (data == NULL) {
        if (would_block(code)) {
            side_drain(side);
            return NOT_YET;
        }
        return code ? system_failed(op, K_STREAM_READ_FAILED, code) : FAILED;
    }
    Py_ssize_t got = PyBytes_GET_SIZE(data);
    if (got > 0 && got < self->size) {
        side_drain(side);
    }
    if (is_set(stream->reader)) {
        put(stream->reader, NULL);
    }
    Py_XSETREF(op->op.value, data);
    return SUCCEEDED;
}

static enum attempt
attempt_readinto(FdOperation *op)
{
    StreamOperation *self = (StreamOperation *)op;
    Stream *stream = (Stream *)self->stream;
    Side *side = (Side *)op->side;
    PyObject *buffer = self->data;
    if (side->closed || !is_free(stream->reader, op) || buffer == NULL ||
        (!PyByteArray_CheckExact(buffer) && !PyMemoryView_Check(buffer))) { /* others' views may be made by Python code */
        return pure_attempt(op, K_STREAM_READINTO_POLL);
    }
    int fd = number_of(&stream->owner, (Watch *)op->op.resource), code;
    Py_buffer view;
    if (fd < 0 || PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0) {
        PyErr_Clear();
        return pure_attempt(op, K_STREAM_READINTO_POLL); /* says what is wrong */
    }
    if (view.len == 0) {
        PyBuffer_Release(&view);
        return pure_attempt(op, K_STREAM_READINTO_POLL);
    }
    if (side->quiet) {
        PyBuffer_Release(&view);
        return NOT_YET; /* the last read took all there was, and no event came since */
    }
    Py_ssize_t size = view.len;
    ssize_t got;
    do {
        if (size <= SHARED_SIZE) {
            got = recv(fd, view.buf, (size_t)size, 0);
            code = got < 0 ? errno : 0;
        } else { /* the view keeps the memory where it is */
            Py_BEGIN_ALLOW_THREADS
            got = recv(fd, view.buf, (size_t)size, 0);
            code = got < 0 ? errno : 0;
            Py_END_ALLOW_THREADS
        }
    } while (code == EINTR);
    PyBuffer_Release(&view);
    if (code) {
        if (would_block(code)) {
            side_drain(side);
            return NOT_YET;
        }
        return system_failed(op, K_STREAM_READINTO_FAILED, code);
    }
    PyObject *count = PyLong_FromSsize_t(got);
    if (count == NULL) {
        return FAILED;
    }
    if (got > 0 && got < size) {
        side_drain(side);
    }
    if (is_set(stream->reader)) {
        put(stream->reader, NULL);
    }
    put(self->data, NULL); /* nothing touches it from here on */
    Py_XSETREF(op->op.value, count);
    return SUCCEEDED;
}

static enum attempt
attempt_write(FdOperation *op)
{
    StreamOperation *self = (StreamOperation *)op;
    Stream *stream = (Stream *)self->stream;
    Watch *watch = (Watch *)op->op.resource;
    if (is_set(stream->broken) || stream->eof_sent || watch->closed || ((Side *)op->side)->closed || !is_free(stream->writer, op)) {
        return pure_attempt(op, K_STREAM_WRITE_POLL); /* says what it is */
    }
    if (self->sent < self->size) {
        int fd = number_of(&stream->owner, watch);
        if (fd < 0 || self->data == NULL || !PyBytes_CheckExact(self->data)) {
            return pure_attempt(op, K_STREAM_WRITE_POLL);
        }
        if (self->sent < 0 || self->size > PyBytes_GET_SIZE(self->data)) {
            PyErr_SetString(PyExc_SystemError, "the fields of a write are not what they were");
            return FAILED;
        }
        PyObject *data = Py_NewRef(self->data);
        const char *start = PyBytes_AS_STRING(data);
        Py_ssize_t done = self->sent, size = self->size; /* Python code can set the fields while the GIL is given up */
        int code = 0;
        while (done < size && !code) {
            Py_ssize_t left = size - done;
            ssize_t sent;
            if (left <= SHARED_SIZE) {
                sent = send(fd, start + done, (size_t)left, MSG_NOSIGNAL);
                code = sent < 0 ? errno : 0;
            } else {
                const char *rest = start + done;
                Py_BEGIN_ALLOW_THREADS
                sent = send(fd, rest, (size_t)left, MSG_NOSIGNAL);
                code = sent < 0 ? errno : 0;
                Py_END_ALLOW_THREADS
            }
            if (code == EINTR) {
                code = 0;
            } else if (!code) {
                self->sent = done += sent;
            }
        }
        Py_DECREF(data);
        if (code) {
            return would_block(code) ? NOT_YET : system_failed(op, K_STREAM_WRITE_FAILED, code);
        }
    }
    if (is_set(stream->writer)) {
        put(stream->writer, NULL);
    }
    put(self->data, NULL);
    return SUCCEEDED;
}

/* Python code can set an operation's fields to anything; not then. */
static int
is_sound(Operation *op)
{
    StreamOperation *self = (StreamOperation *)op;
    return self->stream != NULL && is_a(self->stream, &StreamType, &seen[SEEN_STREAM]) && self->base.side != NULL &&
           is_a(self->base.side, &SideType, &seen[SEEN_SIDE]) && op->resource != NULL &&
           is_a(op->resource, &WatchType, &seen[SEEN_WATCH]);
}

attempt_function
attempt_of(Operation *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (type == known[C_STREAM_READ]) {
        return is_sound(op) ? attempt_read : NULL;
    }
    if (type == known[C_STREAM_WRITE]) {
        return is_sound(op) ? attempt_write : NULL;
    }
    if (type == known[C_STREAM_READINTO]) {
        return is_sound(op) ? attempt_readinto : NULL;
    }
    attempt_function found = datagram_attempt_of(op);
    return found != NULL ? found : connection_attempt_of(op);
}

int
stream_register(Operation *op)
{
    if (Py_TYPE(op) == known[C_STREAM_READ] || Py_TYPE(op) == known[C_STREAM_READINTO]) {
        put(((Stream *)((StreamOperation *)op)->stream)->reader, op);
    } else if (Py_TYPE(op) == known[C_STREAM_WRITE]) {
        put(((Stream *)((StreamOperation *)op)->stream)->writer, op);
    }
    return 0;
}

/* -- making them --------------------------------------------------------------------------------------------------------------------- */

/* An operation of `stream`, or NULL: with an exception, or if the pure code is to make it (`left`). */
static StreamOperation *
stream_operation(Stream *stream, int which, int *left)
{
    Watch *watch = (Watch *)stream->owner.watch;
    *left = known[which] == NULL || watch == NULL || !is_a((PyObject *)watch, &WatchType, &seen[SEEN_WATCH]);
    if (*left) {
        return NULL;
    }
    PyObject *side = which == C_STREAM_WRITE ? watch->writing : watch->reading;
    *left = side == NULL || !is_a(side, &SideType, &seen[SEEN_SIDE]);
    if (*left) {
        return NULL;
    }
    Py_INCREF(watch); /* for the operation; and making it may run the collector */
    Py_INCREF(side);
    StreamOperation *op = (StreamOperation *)final_new(which); /* its fields are NULL */
    if (op == NULL) {
        Py_DECREF(side);
        Py_DECREF(watch);
        return NULL;
    }
    op->stream = Py_NewRef((PyObject *)stream);
    op->base.op.resource = (PyObject *)watch;
    op->base.side = side;
    op->sent = 0;
    return op;
}

PyObject *
socket_leave_to(int which, PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *all[3] = {self, nargs > 0 ? args[0] : NULL, nargs > 1 ? args[1] : NULL};
    return PyObject_Vectorcall(kept[which], all, (size_t)(nargs < 2 ? nargs + 1 : 3), NULL);
}

static PyObject *
stream_read(Stream *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t size = SHARED_SIZE; /* io.abc.DEFAULT_SIZE */
    if (nargs > 1 || (nargs == 1 && !PyLong_CheckExact(args[0]))) {
        return socket_leave_to(K_STREAM_READ, (PyObject *)self, args, nargs); /* says what is wrong */
    }
    if (nargs == 1) {
        size = PyLong_AsSsize_t(args[0]);
        if (size < 0) {
            PyErr_Clear();
            return socket_leave_to(K_STREAM_READ, (PyObject *)self, args, nargs);
        }
    }
    int left;
    StreamOperation *op = stream_operation(self, C_STREAM_READ, &left);
    if (left) {
        return socket_leave_to(K_STREAM_READ, (PyObject *)self, args, nargs);
    }
    if (op != NULL) {
        op->size = size;
    }
    return (PyObject *)op;
}

static PyObject *
stream_readinto(Stream *self, PyObject *buffer)
{
    int left = !PyByteArray_CheckExact(buffer);
    if (left && PyMemoryView_Check(buffer)) {
        Py_buffer view;
        left = PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0;
        if (!left) {
            PyBuffer_Release(&view);
        }
        PyErr_Clear();
    }
    StreamOperation *op = left ? NULL : stream_operation(self, C_STREAM_READINTO, &left);
    if (left) {
        return socket_leave_to(K_STREAM_READINTO, (PyObject *)self, &buffer, 1); /* says what is wrong */
    }
    if (op != NULL) {
        op->data = Py_NewRef(buffer);
        op->size = 0;
    }
    return (PyObject *)op;
}

static PyObject *
stream_write(Stream *self, PyObject *data)
{
    int left = !PyBytes_CheckExact(data);
    StreamOperation *op = left ? NULL : stream_operation(self, C_STREAM_WRITE, &left);
    if (left) {
        return socket_leave_to(K_STREAM_WRITE, (PyObject *)self, &data, 1);
    }
    if (op != NULL) {
        put(op->data, data);
        op->size = PyBytes_GET_SIZE(data);
    }
    return (PyObject *)op;
}

/* -- the types ----------------------------------------------------------------------------------------------------------------------- */

static PyMemberDef owner_members[] = {
    FIELD(Owner, family, "_family"),
    FIELD(Owner, on_close, "_on_close"),
    FIELD(Owner, site, "_site"),
    FIELD(Owner, sock, "_sock"),
    FIELD(Owner, watch, "_watch"),
    {"_number", Py_T_INT, offsetof(Owner, number), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject OwnerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.SocketOwnerFields",
    .tp_basicsize = sizeof(Owner),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_weaklistoffset = offsetof(Owner, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)owner_dealloc,
    .tp_traverse = (traverseproc)owner_traverse,
    .tp_clear = (inquiry)owner_clear,
    .tp_members = owner_members,
};

static PyMemberDef stream_members[] = {
    FIELD(Stream, broken, "_broken"),
    FIELD(Stream, reader, "_reader"),
    FIELD(Stream, writer, "_writer"),
    {"_eof_sent", Py_T_BOOL, offsetof(Stream, eof_sent), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef stream_methods[] = {
    {"read", (PyCFunction)(void (*)(void))stream_read, METH_FASTCALL,
     "read($self, n=65536, /)\n--\n\nSee ``AsyncRead.read``. With data at hand it costs one system call and does not suspend."},
    {"recv", (PyCFunction)(void (*)(void))stream_read, METH_FASTCALL,
     "recv($self, n=65536, /)\n--\n\n``read`` under the name it has in Python's socket module."},
    {"readinto", (PyCFunction)stream_readinto, METH_O,
     "readinto($self, buffer, /)\n--\n\nSee ``AsyncRead.readinto``. The kernel writes into ``buffer`` itself; nothing touches it once this has ended."},
    {"write", (PyCFunction)stream_write, METH_O,
     "write($self, data, /)\n--\n\nSee ``AsyncWrite.write``. Returns once the kernel has taken over all of ``data``."},
    {"sendall", (PyCFunction)stream_write, METH_O,
     "sendall($self, data, /)\n--\n\n``write`` under the name it has in Python's socket module."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject StreamType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.SocketStreamFields",
    .tp_basicsize = sizeof(Stream),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_base = &OwnerType,
    .tp_weaklistoffset = offsetof(Owner, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)stream_dealloc,
    .tp_traverse = (traverseproc)stream_traverse,
    .tp_clear = (inquiry)stream_clear,
    .tp_members = stream_members,
    .tp_methods = stream_methods,
};

ITERATOR(stream, fd_step)

static PyMemberDef read_members[] = {
    {"n", Py_T_PYSSIZET, offsetof(StreamOperation, size), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMemberDef readinto_members[] = {
    FIELD(StreamOperation, data, "buffer"),
    {NULL, 0, 0, 0, NULL},
};

static PyMemberDef write_members[] = {
    FIELD(StreamOperation, data, "data"),
    {"total", Py_T_PYSSIZET, offsetof(StreamOperation, size), 0, NULL},
    {"sent", Py_T_PYSSIZET, offsetof(StreamOperation, sent), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMemberDef stream_operation_members[] = {
    FIELD(StreamOperation, stream, "stream"),
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef stream_operation_methods[] = {
    {"send", (PyCFunction)stream_send, METH_O, "Resume it."},
    {"throw", (PyCFunction)(void (*)(void))fd_throw, METH_FASTCALL, "Throw an exception in where it waits."},
    {"close", (PyCFunction)fd_close, METH_NOARGS, "Give it up."},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods stream_async = {.am_await = operation_await, .am_send = (sendfunc)fd_step};

#define STREAM_TYPE(Type, title, base, members)                                                                        \
    static OPERATION_TYPE(Type, title, StreamOperation, base, stream_operation, stream, members, stream_operation_methods)

STREAM_TYPE(StreamOperationType, "StreamOperationFields", &FdOperationType, stream_operation_members)
STREAM_TYPE(StreamReadType, "StreamReadFields", &StreamOperationType, read_members)
STREAM_TYPE(StreamReadIntoType, "StreamReadIntoFields", &StreamOperationType, readinto_members)
STREAM_TYPE(StreamWriteType, "StreamWriteFields", &StreamOperationType, write_members)

int
kernel_socket_ready(PyObject *module)
{
    PyTypeObject *types[] = {&OwnerType, &StreamType, &StreamOperationType, &StreamReadType, &StreamReadIntoType, &StreamWriteType};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (PyModule_AddType(module, types[i]) < 0) {
            return -1;
        }
    }
    return 0;
}
