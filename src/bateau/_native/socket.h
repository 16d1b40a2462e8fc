/* What streams and datagrams share; socket.c has the theory. */
#ifndef BATEAU_SOCKET_H
#define BATEAU_SOCKET_H

#include "fd.h"

#include <netinet/in.h>
#include <sys/socket.h>

#ifndef MSG_NOSIGNAL /* Python ignores the signal anyway */
#define MSG_NOSIGNAL 0
#endif

/* Bytes. What one attempt moves without giving up the GIL. */
#define SHARED_SIZE 65536

/* Read out before anything else can run. */
extern char socket_shared[SHARED_SIZE];

/* bateau.net._socket.SocketOwner. */
typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *family, *on_close, *site, *sock, *watch;
    int number; /* of the descriptor, plus one; 0 where that is not for system calls from here (see `_real_number`) */
} Owner;

/* bateau.net._stream.SocketStream. */
typedef struct {
    Owner owner;
    PyObject *broken, *reader, *writer;
    char eof_sent;
} Stream;

extern PyTypeObject OwnerType, StreamType;

int owner_traverse(Owner *self, visitproc visit, void *arg);
int owner_clear(Owner *self);
void owner_dealloc(Owner *self);

/* The number of the owner's descriptor, or -1 where the pure code is to see to it. */
static inline int
number_of(Owner *owner, Watch *watch)
{
    return owner->number > 0 && !watch->closed ? owner->number - 1 : -1;
}

static inline int
would_block(int code)
{
    return code == EAGAIN || code == EWOULDBLOCK;
}

/* The attempt of the pure class. */
enum attempt pure_attempt(FdOperation *op, int which);
/* The system call has failed with `code`: what the pure code makes of that is raised. */
enum attempt system_failed(FdOperation *op, int which, int code);
/* Call the pure method instead. */
PyObject *socket_leave_to(int which, PyObject *self, PyObject *const *args, Py_ssize_t nargs);

attempt_function datagram_attempt_of(Operation *op);   /* NULL for what is no datagram's, see udp.c */
attempt_function connection_attempt_of(Operation *op); /* NULL for what makes no connection, see connection.c */

typedef union {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
} Address;

/* Read the tuple of an IP address: whether it is a plain one of `family`. Raises nothing. See udp.c. */
int address_read(PyObject *tuple, int family, Address *address);
/* How long that is. */
socklen_t address_length(const Address *address);

#endif
