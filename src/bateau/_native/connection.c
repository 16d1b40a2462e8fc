/* Connections being made: the fields of bateau.net's listener, of an accept and of a connect to one address, and their attempts made here:
   accept4 or connect, and the stream that comes of it. net/_listener.py and net/_tcp.py say what they promise; fd.c waits for them.

   Theory of operation. An accept is made where all of a listener's sockets are plain ones and its streams of a class that only has
   `SocketStream`'s constructor (`plain`): the system call gives a descriptor that is non-blocking already, and the stream's fields are set
   as that constructor sets them. Any error but "nobody is there" is left to the pure attempt, which makes the call once more:
   shortages, their report and their pause are its. A connect is made here up to its first wait, if it needs one (on
   loopback and to Unix sockets it does not); from then on the pure class has it. The socket itself is made by Python's
   class, in every case: a simulated world is asked, or who has put another class in its place. What is then no plain socket is
   the pure code's.

   Ownership. A descriptor that accept4 gives is ours until a socket object has it; the socket object's is whoever
   holds that. So each way out before the stream is whole closes the one or the other, and a stream is the value of its operation
   before anything else can run: nothing that was accepted is lost (law 9). */
#include "socket.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/un.h>
#include <unistd.h>

/* bateau.net._socket.SocketWatch. */
typedef struct {
    Watch watch;
    PyObject *names, *sock, *what;
} SocketWatch;

#define SOCKET_WATCH_OBJECTS(X) X(names) X(sock) X(what)

/* bateau.net._listener.Listener: the fields that an accept needs; the others are slots. */
typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *limit, *stream_type, *watches, *sides; /* `watches`, `sides`: tuples, one of each per socket */
    PyObject *kinds; /* a tuple of (family, type with SOCK_NONBLOCK, protocol): what is accepted there */
    Py_ssize_t open, first;
    char closed, nodelay, starved, plain;
} Listener;

#define LISTENER_OBJECTS(X) X(limit) X(stream_type) X(watches) X(sides) X(kinds)

/* bateau.net._listener.Accept. */
typedef struct {
    FdsOperation base;
    PyObject *listener, *timer;
    char full, is_short;
} Accept;

/* bateau.net._tcp.ConnectOne. `one`: what the pure class has once it waits. */
typedef struct {
    FdOperation base;
    PyObject *row, *stream_type, *one;
    char nodelay;
} Connect;

static PyTypeObject SocketWatchType, ListenerType, AcceptType, NextConnectionType, ConnectType;

/* -- the fields ------------------------------------------------------------------------------------------------------------------ */

OBJECT_METHODS(socket_watch, SocketWatch, SOCKET_WATCH_OBJECTS, watch, watch.weakrefs)

OBJECT_METHODS(listener, Listener, LISTENER_OBJECTS, nothing, weakrefs)

#define ACCEPT_OBJECTS(X) X(listener) X(timer)

OBJECT_METHODS(accept, Accept, ACCEPT_OBJECTS, fds_operation, base.base.op.weakrefs)

#define CONNECT_OBJECTS(X) X(row) X(stream_type) X(one)

OBJECT_METHODS(connect, Connect, CONNECT_OBJECTS, fd_operation, base.op.weakrefs)

/* -- a stream ---------------------------------------------------------------------------------------------------------------------- */

/* The file and line of the code outside bateau that has called: as `user_site` in kernel/errors.py. */
static PyObject *
site_of_caller(void)
{
    PyFrameObject *frame = PyEval_GetFrame(); /* borrowed */
    if (frame == NULL) {
        return Py_BuildValue("(si)", "<unknown>", 0);
    }
    PyCodeObject *code = PyFrame_GetCode(frame);
    PyObject *site = NULL, *ours = kept[K_PACKAGE_DIR];
    Py_ssize_t starts = ours == NULL ? 1 : PyUnicode_Tailmatch(code->co_filename, ours, 0, PY_SSIZE_T_MAX, -1);
    if (starts == 0) {
        site = Py_BuildValue("(Oi)", code->co_filename, PyFrame_GetLineNumber(frame));
    } else if (starts > 0) {
        site = PyObject_CallOneArg(kept[K_USER_SITE], (PyObject *)frame);
    }
    Py_DECREF(code);
    return site;
}

static PyObject *
make_side(int fd, int write)
{
    PyTypeObject *type = known[C_SIDE];
    Side *side = (Side *)type->tp_alloc(type, 0); /* all its fields zero: None and False */
    if (side == NULL) {
        return NULL;
    }
    side->fd = fd;
    side->write = (char)write;
    if ((side->waiters = PyList_New(0)) == NULL) {
        Py_CLEAR(side);
    }
    return (PyObject *)side;
}

/* The watch of a socket, as its constructor makes it. */
static PyObject *
make_watch(PyTypeObject *of, PyObject *sock, int fd)
{
    PyTypeObject *type = known[C_SOCKET_WATCH];
    SocketWatch *made = (SocketWatch *)type->tp_alloc(type, 0);
    if (made == NULL) {
        return NULL;
    }
    made->watch.fd = fd;
    made->sock = Py_NewRef(sock);
    if ((made->watch.reading = make_side(fd, 0)) == NULL || (made->watch.writing = make_side(fd, 1)) == NULL ||
        (made->what = PyObject_GetAttr((PyObject *)of, str__kind)) == NULL || PySet_Add(kept[K_HELD_SOCKETS], sock) < 0) {
        Py_CLEAR(made);
    }
    return (PyObject *)made;
}

/* A stream of class `type` that owns `sock`, whose descriptor is `fd` and does not block: as `SocketStream.__init__` makes it. NULL with
   an exception: then `sock` is still the caller's. */
static PyObject *
make_stream(PyTypeObject *type, PyObject *sock, int fd, PyObject *family, PyObject *on_close)
{
    PyObject *site = site_of_caller();
    Stream *made = site != NULL ? (Stream *)type->tp_alloc(type, 0) : NULL;
    if (made == NULL) {
        Py_XDECREF(site);
        return NULL;
    }
    made->owner.site = site;
    made->owner.sock = Py_NewRef(sock);
    made->owner.family = Py_NewRef(family);
    made->owner.on_close = Py_XNewRef(on_close);
    made->owner.number = fd + 1;
    made->owner.watch = make_watch(type, sock, fd); /* last: a stream without one has nothing to close */
    if (made->owner.watch == NULL) {
        PyObject *error = take_raised();
        Py_DECREF(made);
        put_raised(error);
        return NULL;
    }
    return (PyObject *)made;
}

/* Close a socket object, whatever exception is set staying set. */
static void
close_keeping_error(PyObject *sock)
{
    PyObject *error = take_raised(), *closed = PyObject_CallMethodNoArgs(sock, str_close);
    if (closed == NULL) {
        PyErr_WriteUnraisable(sock);
    }
    Py_XDECREF(closed);
    put_raised(error);
}

/* -- accepting --------------------------------------------------------------------------------------------------------------------- */

/* Python code can set the fields to anything; not then. */
static int
is_sound(Listener *self)
{
    PyObject *tuples[] = {self->watches, self->sides, self->kinds};
    for (size_t i = 0; i < 3; i++) {
        if (tuples[i] == NULL || !PyTuple_CheckExact(tuples[i]) || PyTuple_GET_SIZE(tuples[i]) == 0 ||
            PyTuple_GET_SIZE(tuples[i]) != PyTuple_GET_SIZE(self->watches)) {
            return 0;
        }
    }
    return self->stream_type != NULL && PyType_Check(self->stream_type) &&
           PyType_IsSubtype((PyTypeObject *)self->stream_type, &StreamType) && known[C_SIDE] != NULL &&
           known[C_SOCKET_WATCH] != NULL && kept[K_SOCKET_CLASS] != NULL && PyType_Check(kept[K_SOCKET_CLASS]) &&
           kept[K_HELD_SOCKETS] != NULL;
}

#ifdef SOCK_NONBLOCK

/* A socket object that owns `fd`; it takes `fd` over, also if it fails. `args`: room for the object, then what its constructor takes.
   That is Python code, so it may end (by a signal's handler, say) with the descriptor in the object already, which a traceback keeps
   alive: then it is taken out, else it would be closed twice. */
static PyObject *
socket_of(int fd, PyObject **args)
{
    PyTypeObject *type = (PyTypeObject *)kept[K_SOCKET_CLASS];
    PyObject *none = PyTuple_New(0), *sock = none != NULL ? type->tp_new(type, none, NULL) : NULL;
    Py_XDECREF(none);
    args[0] = sock;
    PyObject *done = sock != NULL ? PyObject_VectorcallMethod(str___init__, args, 5, NULL) : NULL;
    if (done != NULL) {
        Py_DECREF(done);
        return sock;
    }
    PyObject *error = take_raised();
    PyObject *number = sock != NULL ? PyObject_CallOneArg(kept[K_SOCKET_DETACH], sock) : NULL;
    if (sock != NULL && number == NULL) {
        PyErr_WriteUnraisable(sock);
    }
    Py_XDECREF(number);
    Py_XDECREF(sock);
    close(fd);
    put_raised(error);
    return NULL;
}

/* The stream of a connection that was accepted on socket `index`. It takes `fd` over, also if it fails. */
static PyObject *
accepted(Listener *self, Py_ssize_t index, int fd)
{
    PyObject *kind = PyTuple_GET_ITEM(self->kinds, index), *stream = NULL;
    PyObject *number = PyTuple_CheckExact(kind) && PyTuple_GET_SIZE(kind) == 3 ? PyLong_FromLong(fd) : NULL;
    if (number == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_SystemError, "the fields of a listener are not what they were");
        }
        close(fd);
        return NULL;
    }
    int one = 1; /* some systems refuse it on a connection that is gone again: its reader will be told that */
    if (self->nodelay && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0) {
        errno = 0;
    }
    PyObject *family = Py_NewRef(PyTuple_GET_ITEM(kind, 0)), *type = Py_NewRef(self->stream_type);
    Py_INCREF(kind);
    PyObject *sock = socket_of(fd, (PyObject *[]){NULL, family, PyTuple_GET_ITEM(kind, 1), PyTuple_GET_ITEM(kind, 2), number});
    Py_DECREF(kind);
    Py_DECREF(number);
    if (sock != NULL) {
        PyObject *on_close = PyObject_GetAttr((PyObject *)self, str__stream_closed);
        stream = on_close != NULL ? make_stream((PyTypeObject *)type, sock, fd, family, on_close) : NULL;
        Py_XDECREF(on_close);
        if (stream == NULL) {
            close_keeping_error(sock);
        }
        Py_DECREF(sock);
    }
    Py_DECREF(type);
    Py_DECREF(family);
    return stream;
}

/* Whether `socket.socket`, of which Python's own accept makes one, is the class that it always was. */
static int
is_undisturbed(void)
{
    PyObject *names = kept[K_SOCKET_NAMES];
    return names != NULL && PyDict_CheckExact(names) && PyDict_GetItemWithError(names, str_socket) == kept[K_SOCKET_CLASS];
}

/* Whether as many are open as may be; -1 if `limit` is no plain number. Raises nothing. */
static int
is_full(Listener *self)
{
    if (!is_set(self->limit)) {
        return 0;
    }
    Py_ssize_t limit = PyLong_CheckExact(self->limit) ? PyLong_AsSsize_t(self->limit) : -1;
    PyErr_Clear();
    return limit < 0 ? -1 : self->open >= limit;
}

static enum attempt
attempt_accept(FdOperation *op)
{
    Accept *self = (Accept *)op;
    Listener *listener = (Listener *)self->listener;
    int full = listener->closed || !listener->plain || !is_sound(listener) || !is_undisturbed() ? -1 : is_full(listener);
    if (full < 0) {
        return pure_attempt(op, K_ACCEPT_POLL);
    }
    self->is_short = 0;
    self->full = (char)full;
    if (full) {
        return NOT_YET;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(listener->watches), first = listener->first;
    for (Py_ssize_t offset = 0; offset < count; offset++) {
        Py_ssize_t index = (size_t)(first + offset) % (size_t)count;
        Watch *watch = (Watch *)PyTuple_GET_ITEM(listener->watches, index);
        if (!is_a((PyObject *)watch, &WatchType, &seen[SEEN_WATCH]) || watch->closed) {
            return pure_attempt(op, K_ACCEPT_POLL);
        }
        int fd;
        do { /* it does not block */
            fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        } while (fd < 0 && errno == EINTR);
        if (fd < 0) {
            if (would_block(errno)) {
                continue;
            }
            return pure_attempt(op, K_ACCEPT_POLL); /* asks once more, and knows what each error means */
        }
        PyObject *stream = accepted(listener, index, fd);
        if (stream == NULL) {
            return FAILED;
        }
        listener->open++;
        listener->first = (index + 1) % count; /* one busy address must not starve the others */
        listener->starved = 0;
        Py_XSETREF(op->op.value, stream);
        return SUCCEEDED;
    }
    return NOT_YET;
}

#else

static enum attempt
attempt_accept(FdOperation *op)
{
    return pure_attempt(op, K_ACCEPT_POLL);
}

#endif

static int
is_accept(Operation *op)
{
    PyTypeObject *type = Py_TYPE(op);
    return type == known[C_ACCEPT] || type == known[C_NEXT_CONNECTION];
}

int
waits_at_its_side(Operation *op)
{
    if (!is_accept(op)) {
        return 1;
    }
    Accept *self = (Accept *)op;
    PyObject *sides = self->base.sides;
    return !self->full && !self->is_short && sides != NULL && PyTuple_CheckExact(sides) && PyTuple_GET_SIZE(sides) == 1 &&
           PyTuple_GET_ITEM(sides, 0) == self->base.base.side;
}

int
listener_is_at_home(PyObject *resource, PyObject *host)
{
    if (!is_a(resource, &ListenerType, &seen[SEEN_LISTENER])) {
        return 0;
    }
    PyObject *watches = ((Listener *)resource)->watches;
    if (watches == NULL || !PyTuple_CheckExact(watches)) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(watches); i++) {
        PyObject *watch = PyTuple_GET_ITEM(watches, i);
        if (!is_a(watch, &WatchType, &seen[SEEN_WATCH]) || ((Watch *)watch)->home != host) {
            return 0;
        }
    }
    return 1;
}

/* An accept, or NULL with an exception; NULL without one if the pure code is to make it. */
static PyObject *
make_accept(Listener *self, int which)
{
    if (known[which] == NULL || !is_sound(self) || !is_a(PyTuple_GET_ITEM(self->sides, 0), &SideType, &seen[SEEN_SIDE])) {
        return NULL;
    }
    Accept *op = (Accept *)final_new(which); /* its fields are NULL */
    if (op == NULL) {
        return NULL;
    }
    op->base.base.op.resource = Py_NewRef((PyObject *)self);
    op->listener = Py_NewRef((PyObject *)self);
    op->base.sides = Py_NewRef(self->sides);
    op->base.base.side = Py_NewRef(PyTuple_GET_ITEM(self->sides, 0));
    op->full = op->is_short = 0; /* they may be another's, from before */
    return (PyObject *)op;
}

static PyObject *
listener_accept(Listener *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *op = make_accept(self, C_ACCEPT);
    return op != NULL || PyErr_Occurred() ? op : PyObject_CallOneArg(kept[K_LISTENER_ACCEPT], (PyObject *)self);
}

static PyObject *
listener_anext(Listener *self)
{
    PyObject *op = make_accept(self, C_NEXT_CONNECTION);
    return op != NULL || PyErr_Occurred() ? op : PyObject_CallOneArg(kept[K_LISTENER_ANEXT], (PyObject *)self);
}

/* -- the next connection: an accept that ends a loop -------------------------------------------------------------------------------- */

/* The listener's end is the loop's. */
static void
end_the_loop(void)
{
    if ((is_set(kept[K_STOPPED]) && PyErr_ExceptionMatches(kept[K_STOPPED])) ||
        (is_set(kept[K_CLOSED]) && PyErr_ExceptionMatches(kept[K_CLOSED]))) {
        PyErr_Clear();
        PyErr_SetNone(PyExc_StopAsyncIteration);
    }
}

static PySendResult
next_connection_step(Operation *self, PyObject *arg, PyObject **result)
{
    PySendResult how = fd_step(self, arg, result);
    if (how == PYGEN_ERROR) {
        end_the_loop();
    }
    return how;
}

static PyObject *
next_connection_throw(Operation *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *result = fd_throw(self, args, nargs);
    if (result == NULL && PyErr_Occurred()) {
        end_the_loop();
    }
    return result;
}

/* -- connecting -------------------------------------------------------------------------------------------------------------------- */

/* Any address that a stream is connected to. */
typedef union {
    Address ip;
    struct sockaddr_un path;
    struct sockaddr any;
} Peer;

/* The address that the system takes, of one in Python's form: its length; 0 if that is for the pure code. Raises nothing. */
static socklen_t
read_peer(int family, PyObject *address, Peer *peer)
{
    if (family == AF_INET || family == AF_INET6) {
        return address_read(address, family, &peer->ip) ? address_length(&peer->ip) : 0;
    }
    PyObject *bytes = NULL;
    if (family != AF_UNIX || (!PyUnicode_CheckExact(address) && !PyBytes_CheckExact(address)) ||
        (PyUnicode_CheckExact(address) ? (bytes = PyUnicode_EncodeFSDefault(address)) : (bytes = Py_NewRef(address))) == NULL) {
        PyErr_Clear();
        return 0;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(bytes);
    socklen_t length = 0;
    if (size > 0 && size < (Py_ssize_t)sizeof(peer->path.sun_path)) {
        memset(&peer->path, 0, sizeof(peer->path));
        peer->path.sun_family = AF_UNIX;
        memcpy(peer->path.sun_path, PyBytes_AS_STRING(bytes), (size_t)size);
        int abstract = PyBytes_AS_STRING(bytes)[0] == 0; /* it has no NUL at its end: all of it is the name */
        length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)size + !abstract);
    }
    Py_DECREF(bytes);
    return length;
}

/* The system's answer to a connect: 0; EINPROGRESS while that is open; else the error's number. */
static int
call_connect(int fd, int family, const Peer *peer, socklen_t length)
{
    if (connect(fd, &peer->any, length) == 0) {
        return 0;
    }
    int code = errno;
    if (code != EINPROGRESS && (family == AF_UNIX || (code != EALREADY && code != EINTR && !would_block(code)))) {
        return code; /* of a Unix socket, EAGAIN says that the listener has no room */
    }
    struct pollfd asked = {.fd = fd, .events = POLLOUT};
    if (poll(&asked, 1, 0) <= 0) {
        return EINPROGRESS;
    }
    socklen_t size = sizeof(code);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0 ? errno : code;
}

/* The socket of an attempt: NULL with an exception, which the pure code has worded. */
static PyObject *
socket_for(Connect *self)
{
    PyObject *sock = PyObject_CallOneArg(kept[K_CONNECT_SOCKET], (PyObject *)self);
    if (sock == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
        PyObject *error = take_raised(), *result;
        result = PyObject_CallFunctionObjArgs(kept[K_CONNECT_FAILED], (PyObject *)self, error, NULL);
        Py_XDECREF(result); /* it raises */
        Py_DECREF(error);
    }
    return sock;
}

/* The pure class goes on with a socket: where nothing was tried yet, or what was tried is still open. */
static enum attempt
leave_socket(Connect *self, PyObject *sock, int tried)
{
    PyObject *result = PyObject_CallFunctionObjArgs(kept[K_CONNECT_BEGUN], (PyObject *)self, sock, tried ? Py_True : Py_False, NULL);
    int done = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return done < 0 ? FAILED : done ? SUCCEEDED : NOT_YET;
}

/* It stands: its stream. */
static enum attempt
connected(Connect *self, PyTypeObject *type, PyObject *sock, int fd, PyObject *family)
{
    int one = 1;
    if (self->nodelay && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        close_keeping_error(sock);
        return FAILED;
    }
    PyObject *stream = make_stream(type, sock, fd, family, NULL);
    if (stream == NULL) {
        close_keeping_error(sock);
        return FAILED;
    }
    Py_XSETREF(self->base.op.value, stream);
    return SUCCEEDED;
}

static enum attempt
attempt_connect(FdOperation *op)
{
    Connect *self = (Connect *)op;
    PyObject *row = self->row;
    if (is_set(self->one) || row == NULL || !PyTuple_Check(row) || PyTuple_GET_SIZE(row) != 5 || self->stream_type == NULL ||
        !PyType_Check(self->stream_type) || !PyType_IsSubtype((PyTypeObject *)self->stream_type, &StreamType) ||
        known[C_SIDE] == NULL || known[C_SOCKET_WATCH] == NULL || kept[K_HELD_SOCKETS] == NULL) {
        return pure_attempt(op, K_CONNECT_POLL);
    }
    /* Held: to make the socket runs Python code, which can set the fields to something else. */
    PyTypeObject *type = (PyTypeObject *)Py_NewRef(self->stream_type);
    Py_INCREF(row);
    enum attempt done = FAILED;
    PyObject *sock = socket_for(self);
    if (sock == NULL) {
        goto end;
    }
    PyObject *family = PyTuple_GET_ITEM(row, 0), *number = PyObject_CallOneArg(kept[K_REAL_NUMBER], sock);
    int fd = number != NULL ? (int)PyLong_AsLong(number) - 1 : -1;
    Py_XDECREF(number);
    Peer peer;
    int its = PyLong_Check(family) ? (int)PyLong_AsLong(family) : -1;
    if (PyErr_Occurred()) {
        close_keeping_error(sock);
        goto end;
    }
    socklen_t length = fd >= 0 ? read_peer(its, PyTuple_GET_ITEM(row, 4), &peer) : 0;
    if (length == 0) {
        done = leave_socket(self, sock, 0);
        goto end;
    }
    int code = call_connect(fd, its, &peer, length);
    if (code == EINPROGRESS) {
        done = leave_socket(self, sock, 1);
    } else if (code) {
        done = system_failed(op, K_CONNECT_FAILED, code);
        close_keeping_error(sock);
    } else {
        done = connected(self, type, sock, fd, family);
    }
end:
    Py_DECREF(row);
    Py_DECREF(type);
    Py_XDECREF(sock);
    return done;
}

/* connect_one(resource, side, row, stream_type, nodelay): the final form of a `ConnectOne`. */
static PyObject *
connect_one(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 5 || !is_a(args[1], &SideType, &seen[SEEN_SIDE])) {
        PyErr_SetString(PyExc_TypeError, "connect_one takes a resource, a side, a row, a class of streams and whether to set TCP_NODELAY");
        return NULL;
    }
    int nodelay = PyObject_IsTrue(args[4]);
    Connect *op = nodelay < 0 ? NULL : (Connect *)final_new(C_CONNECT_ONE);
    if (op == NULL) {
        return NULL;
    }
    op->base.op.resource = Py_NewRef(args[0]);
    op->base.side = Py_NewRef(args[1]);
    op->row = Py_NewRef(args[2]);
    op->stream_type = Py_NewRef(args[3]);
    op->nodelay = (char)nodelay;
    return (PyObject *)op;
}

/* -- the types ----------------------------------------------------------------------------------------------------------------------- */

attempt_function
connection_attempt_of(Operation *op)
{
    FdOperation *self = (FdOperation *)op;
    if (is_accept(op)) {
        PyObject *listener = ((Accept *)op)->listener;
        return listener != NULL && is_a(listener, &ListenerType, &seen[SEEN_LISTENER]) && self->side != NULL &&
                       is_a(self->side, &SideType, &seen[SEEN_SIDE])
                   ? attempt_accept
                   : NULL;
    }
    if (Py_TYPE(op) == known[C_CONNECT_ONE]) {
        return self->side != NULL && is_a(self->side, &SideType, &seen[SEEN_SIDE]) ? attempt_connect : NULL;
    }
    return NULL;
}

static PyMemberDef socket_watch_members[] = {
    FIELD(SocketWatch, names, "_names"),
    FIELD(SocketWatch, sock, "_sock"),
    FIELD(SocketWatch, what, "_what"),
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject SocketWatchType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.SocketWatchFields",
    .tp_basicsize = sizeof(SocketWatch),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_base = &WatchType,
    .tp_weaklistoffset = offsetof(Watch, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)socket_watch_dealloc,
    .tp_traverse = (traverseproc)socket_watch_traverse,
    .tp_clear = (inquiry)socket_watch_clear,
    .tp_members = socket_watch_members,
};

static PyMemberDef listener_members[] = {
    FIELD(Listener, limit, "limit"),
    FIELD(Listener, stream_type, "_stream_type"),
    FIELD(Listener, watches, "_watches"),
    FIELD(Listener, sides, "_sides"),
    FIELD(Listener, kinds, "_kinds"),
    {"_open", Py_T_PYSSIZET, offsetof(Listener, open), 0, NULL},
    {"_first", Py_T_PYSSIZET, offsetof(Listener, first), 0, NULL},
    {"_closed", Py_T_BOOL, offsetof(Listener, closed), 0, NULL},
    {"_nodelay", Py_T_BOOL, offsetof(Listener, nodelay), 0, NULL},
    {"_starved", Py_T_BOOL, offsetof(Listener, starved), 0, NULL},
    {"_plain", Py_T_BOOL, offsetof(Listener, plain), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef listener_methods[] = {
    {"accept", (PyCFunction)listener_accept, METH_NOARGS,
     "accept($self, /)\n--\n\nAwait it: the next connection, as a stream. Several tasks may accept at once.\n\n"
     "When the process lacks descriptors or memory it reports that once and waits instead of failing or spinning. A\n"
     "cancellation point; cancelled, no connection is lost. Raises ``Stopped`` when its scope is asked to stop, ``Closed``\n"
     "when the listener is closed."},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods listener_async = {.am_anext = (unaryfunc)listener_anext};

static PyTypeObject ListenerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.ListenerFields",
    .tp_basicsize = sizeof(Listener),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_weaklistoffset = offsetof(Listener, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)listener_dealloc,
    .tp_traverse = (traverseproc)listener_traverse,
    .tp_clear = (inquiry)listener_clear,
    .tp_as_async = &listener_async,
    .tp_members = listener_members,
    .tp_methods = listener_methods,
};

ITERATOR(connection, fd_step)
ITERATOR(next_connection, next_connection_step)

static PyMemberDef accept_members[] = {
    FIELD(Accept, listener, "listener"),
    FIELD(Accept, timer, "timer"),
    {"full", Py_T_BOOL, offsetof(Accept, full), 0, NULL},
    {"short", Py_T_BOOL, offsetof(Accept, is_short), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMemberDef connect_members[] = {
    FIELD(Connect, row, "row"),
    FIELD(Connect, stream_type, "stream_type"),
    FIELD(Connect, one, "one"),
    {"nodelay", Py_T_BOOL, offsetof(Connect, nodelay), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef connection_operation_methods[] = {
    {"send", (PyCFunction)connection_send, METH_O, "Resume it."},
    {"throw", (PyCFunction)(void (*)(void))fd_throw, METH_FASTCALL, "Throw an exception in where it waits."},
    {"close", (PyCFunction)fd_close, METH_NOARGS, "Give it up."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef next_connection_methods[] = {
    {"send", (PyCFunction)next_connection_send, METH_O, "Resume it."},
    {"throw", (PyCFunction)(void (*)(void))next_connection_throw, METH_FASTCALL, "Throw an exception in where it waits."},
    {"close", (PyCFunction)fd_close, METH_NOARGS, "Give it up."},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods connection_async = {.am_await = operation_await, .am_send = (sendfunc)fd_step};
static PyAsyncMethods next_connection_async = {.am_await = operation_await, .am_send = (sendfunc)next_connection_step};

static OPERATION_TYPE(AcceptType, "AcceptFields", Accept, &FdsOperationType, accept, connection, accept_members, connection_operation_methods)
static OPERATION_TYPE(NextConnectionType, "NextConnectionFields", Accept, &AcceptType, accept, next_connection, accept_members,
               next_connection_methods)
static OPERATION_TYPE(ConnectType, "ConnectOneFields", Connect, &FdOperationType, connect, connection, connect_members,
               connection_operation_methods)

static PyMethodDef connection_functions[] = {
    {"connect_one", (PyCFunction)(void (*)(void))connect_one, METH_FASTCALL, "A connect to one address; see net/_tcp.py."},
    {NULL, NULL, 0, NULL},
};

int
kernel_connection_ready(PyObject *module)
{
    PyTypeObject *types[] = {&SocketWatchType, &ListenerType, &AcceptType, &NextConnectionType, &ConnectType};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (PyModule_AddType(module, types[i]) < 0) {
            return -1;
        }
    }
    return PyModule_AddFunctions(module, connection_functions);
}
