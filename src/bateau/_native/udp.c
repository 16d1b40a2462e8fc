/* Datagrams: the fields of bateau.net's UDP socket and of its operations, and their attempts. socket.c has the theory and the rules of
   ownership, which hold here as well; net/_udp.py says what the operations promise.

   Addresses. Making the tuple of an IP address, and reading one, costs as much as half a system call, and most datagrams come from
   and go to the same few. Two small tables remember them: by the bytes of the address (what comes in), and by the identity of
   the tuple (what goes out). An entry owns its tuple, so no other can come to that one's address, and a tuple of a str and
   ints never changes; one that means an address of the other family is read again. Other families, and whatever looks unusual (the
   name of an interface in an address), are left to the pure code. */
#include "socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

/* bateau.net._udp's operations: `n` bytes at most, or `data` to `address` (or to the peer). */
typedef struct {
    FdOperation base;
    PyObject *owner, *data, *address;
    Py_ssize_t n;
} Datagram;

static PyTypeObject UdpSocketType, DatagramType;

/* -- addresses ------------------------------------------------------------------------------------------------------------------- */

#define REMEMBERED 256

typedef struct {
    Address address;
    PyObject *tuple; /* owned, or NULL */
} Known;

static Known by_bytes[REMEMBERED], by_tuple[REMEMBERED];

socklen_t
address_length(const Address *address)
{
    return address->any.sa_family == AF_INET6 ? sizeof(address->six) : sizeof(address->four);
}

static int
is_same(const Address *one, const Address *other)
{
    if (one->any.sa_family != other->any.sa_family) {
        return 0;
    }
    if (one->any.sa_family == AF_INET) {
        return one->four.sin_addr.s_addr == other->four.sin_addr.s_addr && one->four.sin_port == other->four.sin_port;
    }
    return one->six.sin6_port == other->six.sin6_port && one->six.sin6_flowinfo == other->six.sin6_flowinfo &&
           one->six.sin6_scope_id == other->six.sin6_scope_id &&
           memcmp(&one->six.sin6_addr, &other->six.sin6_addr, sizeof(one->six.sin6_addr)) == 0;
}

static Known *
place_of(const Address *address)
{
    uint32_t mixed, port;
    if (address->any.sa_family == AF_INET) {
        mixed = address->four.sin_addr.s_addr;
        port = address->four.sin_port;
    } else {
        uint32_t words[4];
        memcpy(words, &address->six.sin6_addr, sizeof(words));
        mixed = ((words[0] * 31 + words[1]) * 31 + words[2]) * 31 + words[3];
        port = address->six.sin6_port;
    }
    return &by_bytes[((mixed ^ (port << 16 | port)) * 2654435761u) >> 24];
}

static Known *
place_of_tuple(PyObject *tuple)
{
    return &by_tuple[((uintptr_t)tuple >> 4) % REMEMBERED];
}

static void
remember(Known *place, const Address *address, PyObject *tuple)
{
    PyObject *old = place->tuple;
    place->address = *address;
    place->tuple = Py_NewRef(tuple);
    Py_XDECREF(old);
}

/* The tuple of an address that a datagram came from: a new reference, or NULL with an exception. */
static PyObject *
tuple_of(const Address *address)
{
    Known *place = place_of(address);
    if (place->tuple != NULL && is_same(&place->address, address)) {
        return Py_NewRef(place->tuple);
    }
    char text[INET6_ADDRSTRLEN];
    int is_six = address->any.sa_family == AF_INET6;
    if (inet_ntop(address->any.sa_family, is_six ? (const void *)&address->six.sin6_addr : &address->four.sin_addr, text,
                  sizeof(text)) == NULL) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *tuple = is_six ? Py_BuildValue("siII", text, (int)ntohs(address->six.sin6_port), ntohl(address->six.sin6_flowinfo),
                                             address->six.sin6_scope_id)
                             : Py_BuildValue("si", text, (int)ntohs(address->four.sin_port));
    if (tuple != NULL) {
        remember(place, address, tuple);
        remember(place_of_tuple(tuple), address, tuple);
    }
    return tuple;
}

/* Item `index` of an address tuple, 0 if it is not that long: -1 if it is no number up to `most`. Raises nothing. */
static long long
number_at(PyObject *tuple, Py_ssize_t index, long long most)
{
    if (index >= PyTuple_GET_SIZE(tuple)) {
        return 0;
    }
    PyObject *item = PyTuple_GET_ITEM(tuple, index);
    long long number = PyLong_CheckExact(item) ? PyLong_AsLongLong(item) : -1;
    PyErr_Clear();
    return number > most ? -1 : number;
}

int
address_read(PyObject *tuple, int family, Address *address)
{
    Py_ssize_t size = PyTuple_CheckExact(tuple) ? PyTuple_GET_SIZE(tuple) : 0;
    int is_six = family == AF_INET6;
    if (size < 2 || size > (is_six ? 4 : 2) || !PyUnicode_CheckExact(PyTuple_GET_ITEM(tuple, 0)) ||
        (family != AF_INET && !is_six)) {
        return 0;
    }
    const char *text = PyUnicode_AsUTF8(PyTuple_GET_ITEM(tuple, 0));
    PyErr_Clear();
    long long port = number_at(tuple, 1, 65535), flow = number_at(tuple, 2, 0xfffff), interface = number_at(tuple, 3, UINT32_MAX);
    memset(address, 0, sizeof(*address));
    if (text == NULL || port < 0 || flow < 0 || interface < 0 || strlen(text) != (size_t)PyUnicode_GET_LENGTH(PyTuple_GET_ITEM(tuple, 0)) ||
        inet_pton(family, text, is_six ? (void *)&address->six.sin6_addr : &address->four.sin_addr) != 1) {
        return 0;
    }
    address->any.sa_family = (sa_family_t)family;
    if (is_six) {
        address->six.sin6_port = htons((uint16_t)port);
        address->six.sin6_flowinfo = htonl((uint32_t)flow);
        address->six.sin6_scope_id = (uint32_t)interface;
    } else {
        address->four.sin_port = htons((uint16_t)port);
    }
    return 1;
}

/* The address that `tuple` means to a socket of `family`: whether it is a plain one of that. Raises nothing. */
static int
address_of(PyObject *tuple, int family, Address *address)
{
    Known *place = place_of_tuple(tuple);
    if (place->tuple == tuple && place->address.any.sa_family == family) {
        *address = place->address;
        return 1;
    }
    if (!address_read(tuple, family, address)) {
        return 0;
    }
    remember(place, address, tuple);
    return 1;
}

/* -- attempts ---------------------------------------------------------------------------------------------------------------------- */

/* AF_INET, AF_INET6, or -1 for another one. */
static int
family_of(Owner *owner)
{
    long family = owner->family != NULL && PyLong_Check(owner->family) ? PyLong_AsLong(owner->family) : -1;
    PyErr_Clear();
    return family == AF_INET || family == AF_INET6 ? (int)family : -1;
}

static enum attempt
attempt_receive(FdOperation *op)
{
    Datagram *self = (Datagram *)op;
    Owner *owner = (Owner *)self->owner;
    int fd = number_of(owner, (Watch *)op->op.resource), family = family_of(owner);
    if (fd < 0 || family < 0 || self->n < 0 || self->n >= SHARED_SIZE) {
        return pure_attempt(op, K_UDP_POLL);
    }
    Address address;
    socklen_t length = sizeof(address);
    ssize_t got;
    do { /* one byte more than may come */
        got = recvfrom(fd, socket_shared, (size_t)self->n + 1, 0, &address.any, &length);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return would_block(errno) ? NOT_YET : system_failed(op, K_UDP_FAILED, errno);
    }
    PyObject *data = PyBytes_FromStringAndSize(socket_shared, got < self->n ? got : self->n);
    PyObject *from = NULL;
    if (data != NULL) {
        int named = length >= sizeof(address.any.sa_family) && address.any.sa_family == family && length == address_length(&address);
        from = named ? tuple_of(&address) : Py_NewRef(Py_None);
    }
    PyObject *value = from == NULL ? NULL : PyTuple_Pack(2, data, from);
    if (value != NULL && got > self->n) {
        PyObject *raised = PyObject_CallFunctionObjArgs(kept[K_UDP_TRUNCATED], (PyObject *)op, data, from, NULL);
        Py_XDECREF(raised);
        Py_CLEAR(value);
    }
    if (value != NULL && Py_TYPE(op) == known[C_UDP_RECV]) {
        Py_SETREF(value, Py_NewRef(data));
    }
    Py_XDECREF(from);
    Py_XDECREF(data);
    if (value == NULL) {
        return FAILED;
    }
    Py_XSETREF(op->op.value, value);
    return SUCCEEDED;
}

static enum attempt
attempt_send(FdOperation *op)
{
    Datagram *self = (Datagram *)op;
    Owner *owner = (Owner *)self->owner;
    Address address;
    int fd = number_of(owner, (Watch *)op->op.resource), to = is_set(self->address);
    if (fd < 0 || self->data == NULL || !PyBytes_CheckExact(self->data) ||
        (to && !address_of(self->address, family_of(owner), &address))) {
        return pure_attempt(op, K_UDP_SEND_POLL);
    }
    ssize_t sent;
    do {
        sent = sendto(fd, PyBytes_AS_STRING(self->data), (size_t)PyBytes_GET_SIZE(self->data), MSG_NOSIGNAL,
                      to ? &address.any : NULL, to ? address_length(&address) : 0);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        return would_block(errno) ? NOT_YET : system_failed(op, K_UDP_SEND_FAILED, errno);
    }
    PyObject *count = PyLong_FromSsize_t(sent);
    if (count == NULL) {
        return FAILED;
    }
    Py_XSETREF(op->op.value, count);
    return SUCCEEDED;
}

attempt_function
datagram_attempt_of(Operation *op)
{
    PyTypeObject *type = Py_TYPE(op);
    int sends = type == known[C_UDP_SEND];
    if (!sends && type != known[C_UDP_RECVFROM] && type != known[C_UDP_RECV]) {
        return NULL;
    }
    Datagram *self = (Datagram *)op;
    if (self->owner == NULL || !is_a(self->owner, &OwnerType, &seen[SEEN_OWNER]) || self->base.side == NULL ||
        !is_a(self->base.side, &SideType, &seen[SEEN_SIDE]) || op->resource == NULL ||
        !is_a(op->resource, &WatchType, &seen[SEEN_WATCH])) {
        return NULL;
    }
    return sends ? attempt_send : attempt_receive;
}

/* -- making them --------------------------------------------------------------------------------------------------------------------- */

static PyObject *
make(Owner *owner, int which, int left_to, PyObject *const *args, Py_ssize_t nargs, Py_ssize_t n)
{
    Watch *watch = (Watch *)owner->watch;
    if (known[which] != NULL && watch != NULL && PyObject_TypeCheck(watch, &WatchType) && is_set(watch->reading) && is_set(watch->writing)) {
        Py_INCREF(watch); /* making the operation may run the collector */
        Datagram *op = (Datagram *)final_new(which);
        if (op != NULL) {
            put(op->owner, owner);
            put(op->base.op.resource, watch);
            put(op->base.side, which == C_UDP_SEND ? watch->writing : watch->reading);
            op->n = n;
            if (which == C_UDP_SEND) {
                put(op->data, args[0]);
                put(op->address, nargs > 1 ? args[1] : NULL);
            }
        }
        Py_DECREF(watch);
        return (PyObject *)op;
    }
    return socket_leave_to(left_to, (PyObject *)owner, args, nargs);
}

static PyObject *
receive_call(Owner *self, int which, int left_to, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t n = 65535; /* MAX_DATAGRAM */
    if (nargs == 1) {
        n = PyLong_CheckExact(args[0]) ? PyLong_AsSsize_t(args[0]) : -1;
        PyErr_Clear();
    }
    if (nargs > 1 || n < 0) {
        return socket_leave_to(left_to, (PyObject *)self, args, nargs);
    }
    return make(self, which, left_to, args, nargs, n);
}

static PyObject *
udp_recvfrom(Owner *self, PyObject *const *args, Py_ssize_t nargs)
{
    return receive_call(self, C_UDP_RECVFROM, K_UDP_RECVFROM, args, nargs);
}

static PyObject *
udp_recv(Owner *self, PyObject *const *args, Py_ssize_t nargs)
{
    return receive_call(self, C_UDP_RECV, K_UDP_RECV, args, nargs);
}

static PyObject *
udp_send(Owner *self, PyObject *data)
{
    if (!PyBytes_CheckExact(data)) {
        return socket_leave_to(K_UDP_SEND, (PyObject *)self, &data, 1);
    }
    return make(self, C_UDP_SEND, K_UDP_SEND, &data, 1, 0);
}

static PyObject *
udp_sendto(Owner *self, PyObject *const *args, Py_ssize_t nargs)
{
    Address address;
    if (nargs != 2 || !PyBytes_CheckExact(args[0]) || !address_of(args[1], family_of(self), &address)) {
        return socket_leave_to(K_UDP_SENDTO, (PyObject *)self, args, nargs); /* says what is wrong */
    }
    return make(self, C_UDP_SEND, K_UDP_SENDTO, args, nargs, 0);
}

/* -- the types ----------------------------------------------------------------------------------------------------------------------- */

#define DATAGRAM_OBJECTS(X) X(owner) X(data) X(address)

OBJECT_METHODS(datagram, Datagram, DATAGRAM_OBJECTS, fd_operation, base.op.weakrefs)

ITERATOR(datagram, fd_step)

static PyMemberDef datagram_members[] = {
    FIELD(Datagram, owner, "owner"),
    FIELD(Datagram, data, "data"),
    FIELD(Datagram, address, "address"),
    {"n", Py_T_PYSSIZET, offsetof(Datagram, n), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef datagram_methods[] = {
    {"send", (PyCFunction)datagram_send, METH_O, "Resume it."},
    {"throw", (PyCFunction)(void (*)(void))fd_throw, METH_FASTCALL, "Throw an exception in where it waits."},
    {"close", (PyCFunction)fd_close, METH_NOARGS, "Give it up."},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods datagram_async = {.am_await = operation_await, .am_send = (sendfunc)fd_step};

static OPERATION_TYPE(DatagramType, "DatagramFields", Datagram, &FdOperationType, datagram, datagram, datagram_members, datagram_methods)

static PyMethodDef udp_methods[] = {
    {"recvfrom", (PyCFunction)(void (*)(void))udp_recvfrom, METH_FASTCALL,
     "recvfrom($self, n=65535, /)\n--\n\nAwait it: the next datagram and the address of its sender.\n\n"
     "A cancellation point; cancelled, no datagram is lost. Raises ``Truncated`` if it was longer than ``n`` bytes, ``Closed``,\n"
     "``ConnectionRefusedError`` on a connected socket whose peer has no such port."},
    {"recv", (PyCFunction)(void (*)(void))udp_recv, METH_FASTCALL,
     "recv($self, n=65535, /)\n--\n\nAwait it: the next datagram alone. See ``recvfrom``."},
    {"send", (PyCFunction)udp_send, METH_O,
     "send($self, data, /)\n--\n\nAwait it: send one datagram to the peer this socket is connected to; returns its length in bytes.\n\n"
     "A cancellation point; cancelled, nothing was sent. Raises ``OSError`` for a datagram that is too large, or a peer that\n"
     "refused an earlier one; ``Closed``."},
    {"sendto", (PyCFunction)(void (*)(void))udp_sendto, METH_FASTCALL,
     "sendto($self, data, address, /)\n--\n\nAwait it: send one datagram to ``address``, an IP address and a port. See ``send``.\n\n"
     "Raises ``ValueError`` for a host name: ``await net.resolve(host, port)`` gives addresses."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject UdpSocketType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.UdpSocketFields",
    .tp_basicsize = sizeof(Owner),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_base = &OwnerType,
    .tp_weaklistoffset = offsetof(Owner, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)owner_dealloc,
    .tp_traverse = (traverseproc)owner_traverse,
    .tp_clear = (inquiry)owner_clear,
    .tp_methods = udp_methods,
};

int
kernel_udp_ready(PyObject *module)
{
    return PyModule_AddType(module, &UdpSocketType) < 0 ? -1 : PyModule_AddType(module, &DatagramType);
}
