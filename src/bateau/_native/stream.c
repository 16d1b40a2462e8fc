/* The hot half of a TCP or Unix stream transport of the native loop: reading, writing, buffering, flow control.
 *
 * Theory of operation. `StreamCore` derives from asyncio's transport with flow control, which only exists once asyncio is imported;
 * so the type is made by `make_stream_core(base, BufferedProtocol)`, which bateau.runtimes.native_transport calls, and its
 * Python subclass there has what happens once in a connection's life (start, close, errors, end). Our fields lie behind those of
 * the base, at `stream_offset`. The base has slots of its own (`_extra`, `_loop`, ...), which stay empty: fields of ours of
 * the same names hide them, so that there is nothing of the base's to visit or to free.
 *   - Reading: one recv for each event into the loop's shared buffer, copied into bytes of the right size (or straight into the
 *     protocol's buffer). The shared buffer is read out before anything else runs.
 *   - Writing: what a callback of the loop writes is held in the queue and sent when the callback returns, in one system call
 *     for all of it: a server that writes head and body pays for one. What is larger than HOLD_MOST, or written while no
 *     callback runs, is sent at once, with what is held before it. What the kernel does not take stays queued, and is sent
 *     (up to 64 pieces in one call) when epoll says so. `bytes` are kept, not copied; of anything else, which might be changed
 *     later, a copy. Whoever asks what is still to be sent, asks for the socket or uses it, ends the
 *     connection in whatever way, or runs the loop inside the callback, has the held bytes sent first: so only one who looks at
 *     the other end, in the same callback, can tell.
 *
 * Ownership.
 *   - The stream owns protocol, socket object, loop, context and the queued bytes; `_drop` lets go of all but the queue. The socket
 *     object owns the descriptor: it is never closed here. Before each system call the socket is asked for its
 *     number; when it is not ours any more, it was closed under us, and that is EBADF, not a stranger's data.
 *   - The loop owns the stream while it wants events (loop.c), and whoever calls in here has a reference to it.
 *   - A protocol's method may do anything to the stream: close it, replace its protocol, drop it. Therefore the protocol is held
 *     by a reference of the caller's own while it is called, and every field is read again afterwards.
 *
 * Errors: what a protocol raises, and what the socket does, goes to `_fatal_error`, as in asyncio; only SystemExit and
 * KeyboardInterrupt leave the poll.
 */
#ifdef __linux__
#include "loop.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <structmember.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define MOST_PIECES 64
/* Bytes held until the callback returns. */
#define HOLD_MOST (16 * 1024)

typedef struct {
    LoopCore *loop;      /* owned; NULL before the start and after the end */
    PyObject *protocol;  /* owned, or NULL */
    PyObject *sock;      /* owned, or NULL: after the end */
    PyObject *context;   /* owned: what the protocol's methods run in */
    PyObject *extra;     /* owned dict, or NULL */
    PyObject *server;    /* owned, or NULL */
    PyObject *empty_waiter; /* owned, or NULL: sendfile waits for the queue to be empty */

    PyObject **queue; /* owned bytes; the first has `sent` bytes that are gone already */
    Py_ssize_t first, count, capacity, sent;
    Py_ssize_t size; /* bytes in it that are still to be sent */
    Py_ssize_t high_water, low_water;

    uint32_t interest; /* what the loop was told */
    int fd, conn_lost;
    char closing, eof, paused, connected, protocol_paused, buffered, started, read_eof;
    char held;   /* all of the queue is held: sent when the callback returns. Else epoll is to say when, or it is empty */
    char listed; /* the loop has us in its list of those that hold, or held, something */
} Stream;

static Py_ssize_t stream_offset;
static PyTypeObject *stream_type;
static PyObject *buffered_protocol; /* asyncio.BufferedProtocol */
static PyObject *str_data_received, *str_eof_received, *str_get_buffer, *str_buffer_updated, *str_fileno, *str_pause_writing,
    *str_resume_writing, *str__fatal_error, *str__flow_error, *str__lost_write, *str__finish, *minus_one,
    *empty_bytes;

static inline Stream *
fields(PyObject *self)
{
    return (Stream *)((char *)self + stream_offset);
}

/* ---- errors ------------------------------------------------------------------------------------------------------------- */

static int
ends_the_loop(void)
{
    return PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
}

/* Hand the exception that is set to a method of the Python half: 0, or -1 with what must end the loop. */
static int
report(PyObject *self, PyObject *method, const char *message)
{
    if (ends_the_loop()) {
        return -1;
    }
    PyObject *error = bateau_take_exception();
    PyObject *text = PyUnicode_FromString(message);
    PyObject *result = error != NULL && text != NULL ? PyObject_CallMethodObjArgs(self, method, error, text, NULL) : NULL;
    Py_XDECREF(text);
    Py_XDECREF(error);
    if (result != NULL) {
        Py_DECREF(result);
        return 0;
    }
    if (ends_the_loop()) {
        return -1;
    }
    PyErr_WriteUnraisable(self);
    return 0;
}

static int
fail(PyObject *self, const char *message)
{
    return report(self, str__fatal_error, message);
}

/* errno becomes the exception, and that the stream's end. */
static int
fail_errno(PyObject *self, const char *message)
{
    PyErr_SetFromErrno(PyExc_OSError);
    return fail(self, message);
}

/* Whether the descriptor is still our socket's; else errno is EBADF. -1: an exception is set. */
static int
is_ours(Stream *s)
{
    PyObject *sock = Py_NewRef(s->sock);
    PyObject *number = PyObject_CallMethodNoArgs(sock, str_fileno);
    Py_DECREF(sock);
    if (number == NULL) {
        return -1;
    }
    long fd = PyLong_AsLong(number);
    Py_DECREF(number);
    if (fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (fd != s->fd) {
        errno = EBADF;
        return 0;
    }
    return 1;
}

/* ---- what the loop is told ---------------------------------------------------------------------------------------------- */

static int
set_interest(PyObject *self, uint32_t interest)
{
    Stream *s = fields(self);
    if (interest == s->interest || s->loop == NULL) {
        return 0;
    }
    LoopCore *loop = s->loop;
    Py_INCREF(loop);
    Py_INCREF(self); /* the loop may let go of us */
    s->interest = interest;
    int status = bateau_stream_interest(loop, s->fd, self, interest);
    if (status < 0) {
        s->interest = 0;
    }
    Py_DECREF(self);
    Py_DECREF(loop);
    return status;
}

static int
update_reading(PyObject *self)
{
    Stream *s = fields(self);
    int reads = s->started && !s->closing && !s->paused && !s->read_eof;
    if (set_interest(self, reads ? s->interest | (uint32_t)EPOLLIN : s->interest & ~(uint32_t)EPOLLIN) < 0) {
        return fail(self, "Fatal read error on socket transport"); /* epoll has no room: nobody would ever hear of its data */
    }
    return 0;
}

/* Want less. Where even that fails (the descriptor was closed under us) nothing is registered any more, and the end goes on. */
static int
reduce_interest(PyObject *self, uint32_t without)
{
    if (set_interest(self, fields(self)->interest & ~without) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_OSError)) {
            return -1;
        }
        PyErr_Clear();
    }
    return 0;
}

/* ---- the queue ---------------------------------------------------------------------------------------------------------- */

/* Takes over the reference to `data`, also when it fails. `sent`: how much of it is gone already; the queue is empty then. */
static int
queue_push(Stream *s, PyObject *data, Py_ssize_t sent)
{
    if (s->first + s->count == s->capacity) {
        if (s->first > 0 && s->first >= s->count) {
            memmove(s->queue, s->queue + s->first, sizeof(PyObject *) * (size_t)s->count);
            s->first = 0;
        }
        else {
            Py_ssize_t capacity = s->capacity ? s->capacity * 2 : 8;
            PyObject **queue = PyMem_New(PyObject *, capacity);
            if (queue == NULL) {
                Py_DECREF(data);
                PyErr_NoMemory();
                return -1;
            }
            if (s->count > 0) {
                memcpy(queue, s->queue + s->first, sizeof(PyObject *) * (size_t)s->count);
            }
            PyMem_Free(s->queue);
            s->queue = queue;
            s->first = 0;
            s->capacity = capacity;
        }
    }
    if (s->count == 0) {
        s->sent = sent;
    }
    s->queue[s->first + s->count++] = data;
    s->size += PyBytes_GET_SIZE(data) - sent;
    return 0;
}

/* `length` bytes more are gone. Bytes have no destructor that could run anything. */
static void
queue_consume(Stream *s, Py_ssize_t length)
{
    s->size -= length;
    length += s->sent;
    while (s->count > 0 && length >= PyBytes_GET_SIZE(s->queue[s->first])) {
        PyObject *data = s->queue[s->first++];
        s->count--;
        length -= PyBytes_GET_SIZE(data);
        Py_DECREF(data);
    }
    s->sent = length;
    if (s->count == 0) {
        s->first = s->sent = 0;
        if (s->capacity > 64) {
            PyMem_Free(s->queue);
            s->queue = NULL;
            s->capacity = 0;
        }
    }
}

static void
queue_clear(Stream *s)
{
    while (s->count > 0) {
        s->count--;
        PyObject *data = s->queue[s->first++];
        Py_DECREF(data);
    }
    s->first = s->sent = s->size = 0;
    s->held = 0;
}

/* ---- flow control ------------------------------------------------------------------------------------------------------- */

static int
tell_protocol(PyObject *self, PyObject *method, const char *message)
{
    Stream *s = fields(self);
    if (s->protocol == NULL) {
        return 0;
    }
    PyObject *protocol = Py_NewRef(s->protocol);
    PyObject *result = PyObject_CallMethodNoArgs(protocol, method);
    int status = 0;
    if (result == NULL) {
        status = report(self, str__flow_error, message);
    }
    Py_XDECREF(result);
    if (status == 0) {
        Py_DECREF(protocol);
        return 0;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    Py_DECREF(protocol);
    PyErr_Restore(type, value, traceback);
    return status;
}

static int
maybe_pause(PyObject *self)
{
    Stream *s = fields(self);
    if (s->size <= s->high_water || s->protocol_paused) {
        return 0;
    }
    s->protocol_paused = 1;
    return tell_protocol(self, str_pause_writing, "protocol.pause_writing() failed");
}

static int
maybe_resume(PyObject *self)
{
    Stream *s = fields(self);
    if (!s->protocol_paused || s->size > s->low_water) {
        return 0;
    }
    s->protocol_paused = 0;
    return tell_protocol(self, str_resume_writing, "protocol.resume_writing() failed");
}

/* ---- writing ------------------------------------------------------------------------------------------------------------ */

/* What of it the kernel took; -1 with errno for an error, 0 where it is full. */
static Py_ssize_t
send_now(int fd, const char *data, Py_ssize_t length)
{
    Py_ssize_t sent;
    do {
        sent = send(fd, data, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : sent;
}

/* The stream takes writes; else an exception is set. 1: it was lost, the data goes nowhere (asyncio says so, not at once). */
static int
check_writable(PyObject *self)
{
    Stream *s = fields(self);
    if (s->eof) {
        PyErr_SetString(PyExc_RuntimeError, "Cannot call write() after write_eof()");
        return -1;
    }
    if (s->empty_waiter != NULL && s->empty_waiter != Py_None) {
        PyErr_SetString(PyExc_RuntimeError, "unable to write; sendfile is in progress");
        return -1;
    }
    return 0;
}

static int
lost_write(PyObject *self)
{
    PyObject *result = PyObject_CallMethodNoArgs(self, str__lost_write);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The queue is empty: whoever waited for that goes on. */
static int
drained(PyObject *self)
{
    PyObject *result = PyObject_CallMethodNoArgs(self, str__finish);
    if (result == NULL) {
        return fail(self, "Fatal write error on socket transport");
    }
    Py_DECREF(result);
    return 0;
}

static int
write_ready(PyObject *self)
{
    Stream *s = fields(self);
    struct iovec pieces[MOST_PIECES];
    s->held = 0; /* what remains is sent when epoll says so */
    if (s->conn_lost || s->loop == NULL || s->sock == NULL) {
        return set_interest(self, s->interest & ~(uint32_t)EPOLLOUT);
    }
    int ours = is_ours(s);
    if (ours < 0) {
        return fail(self, "Fatal write error on socket transport");
    }
    if (s->size > 0) {
        Py_ssize_t count = s->count < MOST_PIECES ? s->count : MOST_PIECES, sent = -1;
        for (Py_ssize_t i = 0; i < count; i++) {
            PyObject *data = s->queue[s->first + i];
            Py_ssize_t gone = i == 0 ? s->sent : 0;
            pieces[i].iov_base = PyBytes_AS_STRING(data) + gone;
            pieces[i].iov_len = (size_t)(PyBytes_GET_SIZE(data) - gone);
        }
        if (ours && count == 1) {
            sent = send(s->fd, pieces[0].iov_base, pieces[0].iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        else if (ours) {
            struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};
            sent = sendmsg(s->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        if (sent < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
                return 0;
            }
            int error = errno;
            queue_clear(s);
            if (reduce_interest(self, EPOLLOUT) < 0) {
                return -1;
            }
            errno = error;
            return fail_errno(self, "Fatal write error on socket transport");
        }
        if (s->loop != NULL) {
            s->loop->poll_now = 1;
        }
        queue_consume(s, sent);
        if (maybe_resume(self) < 0) { /* may write more, close, anything */
            return -1;
        }
    }
    if (s->size > 0) {
        return 0;
    }
    if (set_interest(self, s->interest & ~(uint32_t)EPOLLOUT) < 0) {
        return fail(self, "Fatal write error on socket transport");
    }
    if (s->conn_lost || (!s->closing && !s->eof && s->empty_waiter == NULL)) {
        return 0;
    }
    return drained(self);
}

/* There is something in the queue that the kernel has no room for: go on when epoll says so. */
static int
wait_writable(PyObject *self)
{
    if (set_interest(self, fields(self)->interest | (uint32_t)EPOLLOUT) < 0) {
        return fail(self, "Fatal write error on socket transport"); /* what is queued would never be sent */
    }
    return maybe_pause(self);
}

/* What is held goes out when the callback returns. */
static int
hold(PyObject *self)
{
    Stream *s = fields(self);
    s->held = 1;
    if (!s->listed) {
        if (bateau_loop_hold(s->loop, self) < 0) {
            queue_clear(s);
            return -1;
        }
        s->listed = 1;
    }
    return 0;
}

/* Send what is held, as far as the kernel takes it. */
static int
send_held(PyObject *self)
{
    Stream *s = fields(self);
    if (!s->held) {
        return 0;
    }
    if (s->loop != NULL && bateau_loop_forked(s->loop)) {
        queue_clear(s); /* our parent sends it */
        return 0;
    }
    if (write_ready(self) < 0) {
        return -1;
    }
    return s->size > 0 && !s->held && !s->conn_lost && s->loop != NULL ? wait_writable(self) : 0;
}

/* Called by the loop when the callback has returned; our place in its list is gone. */
int
bateau_stream_flush(PyObject *self)
{
    Stream *s = fields(self);
    s->listed = 0;
    if (!s->held) {
        return 0;
    }
    PyObject *context = Py_XNewRef(s->context);
    int entered = context != NULL && PyContext_Enter(context) == 0; /* an error is told in it */
    if (!entered) {
        PyErr_Clear(); /* a loop that runs inside a callback of this stream's: told in that one's */
    }
    int status = send_held(self);
    if (entered) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        if (PyContext_Exit(context) < 0) {
            PyErr_WriteUnraisable(self);
        }
        PyErr_Restore(type, value, traceback);
    }
    Py_XDECREF(context);
    return status;
}

/* Send or queue what `owner`, exact bytes or NULL, or else `view` has. */
static int
write_bytes(PyObject *self, PyObject *owner, Py_buffer *view)
{
    Stream *s = fields(self);
    const char *data = owner != NULL ? PyBytes_AS_STRING(owner) : view->buf;
    Py_ssize_t length = owner != NULL ? PyBytes_GET_SIZE(owner) : view->len, sent = 0;
    if (check_writable(self) < 0) {
        return -1;
    }
    if (length == 0) {
        return 0;
    }
    if (s->conn_lost) {
        return lost_write(self);
    }
    if (s->loop == NULL || s->sock == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the transport was not started");
        return -1;
    }
    if (s->held && bateau_loop_forked(s->loop)) {
        queue_clear(s); /* our parent sends it */
    }
    if (s->size == 0 || s->held) {
        int may_hold = bateau_loop_holds(s->loop) && s->size + length <= HOLD_MOST && s->size + length <= s->high_water;
        if (may_hold || s->held) {
            owner = owner != NULL ? Py_NewRef(owner) : PyBytes_FromStringAndSize(data, length);
            if (owner == NULL || queue_push(s, owner, 0) < 0) {
                return -1;
            }
            return may_hold ? hold(self) : send_held(self);
        }
        int ours = is_ours(s);
        if (ours < 0) {
            return -1;
        }
        sent = ours ? send_now(s->fd, data, length) : -1;
        if (sent < 0) {
            return fail_errno(self, "Fatal write error on socket transport");
        }
        if (s->loop == NULL || s->conn_lost) {
            return 0; /* fileno() of a class of somebody's ended it */
        }
        s->loop->poll_now = 1; /* the other end may be this loop's, too */
        if (sent == length) {
            return 0;
        }
    }
    if (owner != NULL) {
        Py_INCREF(owner);
    }
    else {
        owner = PyBytes_FromStringAndSize(data + sent, length - sent);
        sent = 0;
        if (owner == NULL) {
            return -1;
        }
    }
    if (queue_push(s, owner, sent) < 0) {
        return -1;
    }
    return wait_writable(self);
}

static PyObject *
stream_write(PyObject *self, PyObject *data)
{
    int status;
    if (PyBytes_CheckExact(data)) {
        status = write_bytes(self, data, NULL);
    }
    else if (PyBytes_Check(data) || PyByteArray_Check(data) || PyMemoryView_Check(data)) {
        Py_buffer view;
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
            return NULL;
        }
        status = write_bytes(self, NULL, &view);
        if (status < 0) {
            PyObject *type, *value, *traceback;
            PyErr_Fetch(&type, &value, &traceback);
            PyBuffer_Release(&view);
            PyErr_Restore(type, value, traceback);
        }
        else {
            PyBuffer_Release(&view);
        }
    }
    else {
        return PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not '%.200s'",
                            Py_TYPE(data)->tp_name);
    }
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_writelines(PyObject *self, PyObject *lines)
{
    PyObject *data = PyObject_CallMethod(empty_bytes, "join", "O", lines);
    if (data == NULL) {
        return NULL;
    }
    PyObject *result = stream_write(self, data);
    Py_DECREF(data);
    return result;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

static int
read_eof(PyObject *self)
{
    Stream *s = fields(self);
    PyObject *protocol = Py_NewRef(s->protocol);
    PyObject *result = PyObject_CallMethodNoArgs(protocol, str_eof_received);
    int keep_open = result == NULL ? -1 : PyObject_IsTrue(result), status = 0;
    Py_XDECREF(result);
    if (keep_open < 0) {
        status = fail(self, "Fatal error: protocol.eof_received() call failed.");
    }
    else if (keep_open) {
        /* There will be nothing more to read, but the protocol can still write. */
        s->read_eof = 1;
        if (update_reading(self) < 0) {
            status = fail(self, "Fatal read error on socket transport");
        }
    }
    else {
        result = PyObject_CallMethod(self, "close", NULL);
        if (result == NULL) {
            status = fail(self, "Fatal read error on socket transport");
        }
        Py_XDECREF(result);
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    Py_DECREF(protocol);
    PyErr_Restore(type, value, traceback);
    return status;
}

static Py_ssize_t
receive(int fd, void *buffer, Py_ssize_t length)
{
    Py_ssize_t received;
    do {
        received = recv(fd, buffer, (size_t)length, MSG_DONTWAIT);
    } while (received < 0 && errno == EINTR);
    return received;
}

/* A recv gave no data: nothing just now, the end, or an error. */
static int
no_data(PyObject *self, Py_ssize_t received)
{
    if (received == 0) {
        return read_eof(self);
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : fail_errno(self, "Fatal read error on socket transport");
}

static int
read_into_protocol(PyObject *self, PyObject *protocol)
{
    Stream *s = fields(self);
    static const char failed[] = "Fatal error: protocol.get_buffer() call failed.";
    Py_buffer view;
    PyObject *buffer = PyObject_CallMethodOneArg(protocol, str_get_buffer, minus_one);
    if (buffer == NULL) {
        return fail(self, failed);
    }
    if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0) {
        Py_DECREF(buffer);
        return fail(self, failed);
    }
    if (view.len == 0) {
        PyBuffer_Release(&view);
        Py_DECREF(buffer);
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
        return fail(self, failed);
    }
    /* get_buffer() may have done anything. */
    int ours = s->conn_lost || s->sock == NULL ? -2 : is_ours(s);
    Py_ssize_t received = ours > 0 ? receive(s->fd, view.buf, view.len) : -1;
    int error = errno;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyBuffer_Release(&view);
    Py_DECREF(buffer);
    PyErr_Restore(type, value, traceback);
    if (ours == -2) {
        return 0;
    }
    if (ours == -1) {
        return fail(self, "Fatal read error on socket transport");
    }
    errno = error;
    if (received <= 0) {
        return no_data(self, received);
    }
    PyObject *length = PyLong_FromSsize_t(received);
    PyObject *result = length != NULL ? PyObject_CallMethodOneArg(protocol, str_buffer_updated, length) : NULL;
    Py_XDECREF(length);
    if (result == NULL) {
        return fail(self, "Fatal error: protocol.buffer_updated() call failed.");
    }
    Py_DECREF(result);
    return 0;
}

static int
read_for_protocol(PyObject *self, PyObject *protocol)
{
    Stream *s = fields(self);
    int ours = is_ours(s);
    char *buffer = ours < 0 || s->loop == NULL ? NULL : bateau_receive_buffer(s->loop);
    if (buffer == NULL) {
        return PyErr_Occurred() ? fail(self, "Fatal read error on socket transport") : 0;
    }
    if (!ours) {
        errno = EBADF;
    }
    Py_ssize_t received = ours ? receive(s->fd, buffer, RECEIVE_SIZE) : -1;
    if (received <= 0) {
        return no_data(self, received);
    }
    PyObject *data = PyBytes_FromStringAndSize(buffer, received);
    if (data == NULL) {
        return fail(self, "Fatal read error on socket transport");
    }
    PyObject *result = PyObject_CallMethodOneArg(protocol, str_data_received, data);
    Py_DECREF(data);
    if (result == NULL) {
        return fail(self, "Fatal error: protocol.data_received() call failed.");
    }
    Py_DECREF(result);
    return 0;
}

static int
read_ready(PyObject *self)
{
    Stream *s = fields(self);
    if (s->conn_lost || s->loop == NULL || s->sock == NULL || s->protocol == NULL) {
        return 0;
    }
    PyObject *protocol = Py_NewRef(s->protocol);
    int status = s->buffered ? read_into_protocol(self, protocol) : read_for_protocol(self, protocol);
    if (status < 0) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        Py_DECREF(protocol);
        PyErr_Restore(type, value, traceback);
    }
    else {
        Py_DECREF(protocol);
    }
    return status;
}

/* Called by the loop's poll, which holds a reference to the stream: 0, or -1 with what must end the loop. */
int
bateau_stream_ready(PyObject *self, uint32_t events)
{
    Stream *s = fields(self);
    if (s->context == NULL) {
        return 0;
    }
    PyObject *context = Py_NewRef(s->context);
    if (PyContext_Enter(context) < 0) {
        Py_DECREF(context);
        return fail(self, "Fatal error on transport");
    }
    int status = 0;
    if (events & EPOLLIN && s->interest & EPOLLIN) {
        status = read_ready(self);
    }
    if (status == 0 && events & EPOLLOUT && s->interest & EPOLLOUT) {
        status = write_ready(self);
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyContext_Exit(context) < 0) {
        PyErr_WriteUnraisable(self);
    }
    Py_DECREF(context);
    PyErr_Restore(type, value, traceback);
    return status;
}

/* ---- the methods -------------------------------------------------------------------------------------------------------- */

static PyObject *
stream_set_protocol(PyObject *self, PyObject *protocol)
{
    Stream *s = fields(self);
    int buffered = PyObject_IsInstance(protocol, buffered_protocol);
    if (buffered < 0) {
        return NULL;
    }
    s->buffered = (char)buffered;
    s->connected = 1;
    PyObject *old = s->protocol;
    s->protocol = Py_NewRef(protocol);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

static PyObject *
stream_get_protocol(PyObject *self, PyObject *unused)
{
    Stream *s = fields(self);
    return Py_NewRef(s->protocol != NULL ? s->protocol : Py_None);
}

/* _begin(loop, sock, fd, protocol, context=None): once, before anything else. Without a context it is a copy of the caller's. */
static PyObject *
stream_begin(PyObject *self, PyObject *args)
{
    Stream *s = fields(self);
    PyObject *loop, *sock, *protocol, *context = Py_None;
    int fd;
    if (!PyArg_ParseTuple(args, "O!OiO|O", bateau_loop_core_type, &loop, &sock, &fd, &protocol, &context)) {
        return NULL;
    }
    if (context != Py_None && !PyContext_CheckExact(context)) {
        return PyErr_Format(PyExc_TypeError, "context must be a contextvars.Context, not %.100s", Py_TYPE(context)->tp_name);
    }
    if (s->context != NULL || fd < 0) {
        PyErr_SetString(PyExc_RuntimeError, "a transport starts once, on an open socket");
        return NULL;
    }
    s->context = context != Py_None ? Py_NewRef(context) : PyContext_CopyCurrent();
    if (s->context == NULL) {
        return NULL;
    }
    s->loop = (LoopCore *)Py_NewRef(loop);
    s->sock = Py_NewRef(sock);
    s->fd = fd;
    return stream_set_protocol(self, protocol);
}

/* connection_made() has been called: read from now on, unless that paused or closed it. */
static PyObject *
stream_start_reading(PyObject *self, PyObject *unused)
{
    fields(self)->started = 1;
    if (update_reading(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_pause_reading(PyObject *self, PyObject *unused)
{
    Stream *s = fields(self);
    if (!s->closing && !s->paused) {
        s->paused = 1;
        if (update_reading(self) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_resume_reading(PyObject *self, PyObject *unused)
{
    Stream *s = fields(self);
    if (!s->closing && s->paused) {
        s->paused = 0;
        s->started = 1; /* as asyncio: whoever resumes before the start has started it */
        if (update_reading(self) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_is_reading(PyObject *self, PyObject *unused)
{
    Stream *s = fields(self);
    return PyBool_FromLong(!s->closing && !s->paused);
}

static PyObject *
stream_is_closing(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(fields(self)->closing);
}

static PyObject *
stream_get_write_buffer_size(PyObject *self, PyObject *unused)
{
    if (send_held(self) < 0) {
        return NULL;
    }
    return PyLong_FromSsize_t(fields(self)->size);
}

static PyObject *
stream_maybe_pause_protocol(PyObject *self, PyObject *unused)
{
    if (send_held(self) < 0 || maybe_pause(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* get_extra_info(name, default=None). Who has the socket may write to it. */
static PyObject *
stream_get_extra_info(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "default", NULL};
    PyObject *name, *other = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get_extra_info", names, &name, &other) || send_held(self) < 0) {
        return NULL;
    }
    PyObject *extra = fields(self)->extra, *value = NULL;
    if (extra != NULL) {
        Py_INCREF(extra);
        value = PyDict_GetItemWithError(extra, name);
        Py_XINCREF(value);
        Py_DECREF(extra);
        if (value == NULL && PyErr_Occurred()) {
            return NULL;
        }
    }
    return value != NULL ? value : Py_NewRef(other);
}

/* Send what is held, before something happens that a program could tell it by. */
static PyObject *
stream_flush(PyObject *self, PyObject *unused)
{
    if (send_held(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Forget what is still to be sent. */
static PyObject *
stream_clear_queue(PyObject *self, PyObject *unused)
{
    Stream *s = fields(self);
    queue_clear(s);
    if (reduce_interest(self, EPOLLOUT) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* `closing` is set: read no more. */
static PyObject *
stream_stop_reading(PyObject *self, PyObject *unused)
{
    if (reduce_interest(self, EPOLLIN) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static void
drop(PyObject *self)
{
    Stream *s = fields(self);
    PyObject *gone[] = {(PyObject *)s->loop, s->protocol, s->sock, s->server};
    s->loop = NULL;
    s->protocol = s->sock = s->server = NULL;
    s->interest = 0;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(gone); i++) {
        Py_XDECREF(gone[i]);
    }
}

/* The end: connection_lost() has been called, and the socket closed. */
static PyObject *
stream_drop(PyObject *self, PyObject *unused)
{
    queue_clear(fields(self));
    int status = set_interest(self, 0);
    if (status < 0) {
        PyErr_Clear(); /* nothing can be registered any more */
    }
    drop(self);
    Py_RETURN_NONE;
}

/* ---- the type ----------------------------------------------------------------------------------------------------------- */

static int
stream_clear(PyObject *self)
{
    Stream *s = fields(self);
    queue_clear(s);
    drop(self);
    Py_CLEAR(s->context);
    Py_CLEAR(s->extra);
    Py_CLEAR(s->empty_waiter);
    return 0;
}

static int
stream_traverse(PyObject *self, visitproc visit, void *arg)
{
    Stream *s = fields(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(s->loop);
    Py_VISIT(s->protocol);
    Py_VISIT(s->sock);
    Py_VISIT(s->context);
    Py_VISIT(s->extra);
    Py_VISIT(s->server);
    Py_VISIT(s->empty_waiter);
    return 0;
}

static void
stream_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    stream_clear(self);
    PyMem_Free(fields(self)->queue);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
stream_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *self = type->tp_alloc(type, 0);
    if (self != NULL) {
        fields(self)->fd = -1;
        fields(self)->high_water = 64 * 1024;
        fields(self)->low_water = 16 * 1024;
    }
    return self;
}

/* Object fields that Python reads, and some it sets: the closure is the field's offset in Stream. */
static PyObject *
get_object(PyObject *self, void *offset)
{
    PyObject *value = *(PyObject **)((char *)fields(self) + (size_t)offset);
    return Py_NewRef(value != NULL ? value : Py_None);
}

static int
set_object(PyObject *self, PyObject *value, void *offset)
{
    PyObject **place = (PyObject **)((char *)fields(self) + (size_t)offset), *old = *place;
    *place = value == NULL || value == Py_None ? NULL : Py_NewRef(value);
    Py_XDECREF(old);
    return 0;
}

static PyObject *
get_flag(PyObject *self, void *offset)
{
    return PyBool_FromLong(*((char *)fields(self) + (size_t)offset));
}

static int
set_flag(PyObject *self, PyObject *value, void *offset)
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    if (truth >= 0) {
        *((char *)fields(self) + (size_t)offset) = (char)truth;
    }
    return truth < 0 ? -1 : 0;
}

static PyObject *
get_int(PyObject *self, void *offset)
{
    return PyLong_FromLong(*(int *)((char *)fields(self) + (size_t)offset));
}

static int
set_conn_lost(PyObject *self, PyObject *value, void *unused)
{
    long count = value == NULL ? 0 : PyLong_AsLong(value);
    if (count == -1 && PyErr_Occurred()) {
        return -1;
    }
    fields(self)->conn_lost = count > INT_MAX ? INT_MAX : (int)count;
    return 0;
}

static PyObject *
get_size(PyObject *self, void *offset)
{
    return PyLong_FromSsize_t(*(Py_ssize_t *)((char *)fields(self) + (size_t)offset));
}

static int
set_size(PyObject *self, PyObject *value, void *offset)
{
    Py_ssize_t size = value == NULL ? -1 : PyNumber_AsSsize_t(value, NULL); /* more than there can be means without end */
    if (size == -1 && PyErr_Occurred()) {
        return -1;
    }
    *(Py_ssize_t *)((char *)fields(self) + (size_t)offset) = size;
    return 0;
}

static PyMethodDef stream_methods[] = {
    {"write", stream_write, METH_O, "Send data, or queue it."},
    {"writelines", stream_writelines, METH_O, "Send or queue several pieces of data."},
    {"set_protocol", stream_set_protocol, METH_O, "Whom to tell from now on."},
    {"get_protocol", stream_get_protocol, METH_NOARGS, "Who is told."},
    {"pause_reading", stream_pause_reading, METH_NOARGS, "Tell the protocol of no more data until resume_reading()."},
    {"resume_reading", stream_resume_reading, METH_NOARGS, "Undo pause_reading()."},
    {"is_reading", stream_is_reading, METH_NOARGS, "Whether data is received."},
    {"is_closing", stream_is_closing, METH_NOARGS, "Whether it is closing, or closed."},
    {"get_write_buffer_size", stream_get_write_buffer_size, METH_NOARGS, "How many bytes are queued."},
    {"get_extra_info", (PyCFunction)(void (*)(void))stream_get_extra_info, METH_VARARGS | METH_KEYWORDS,
     "What is known of the connection, by name."},
    {"_flush", stream_flush, METH_NOARGS, NULL},
    {"_begin", stream_begin, METH_VARARGS, NULL},
    {"_start_reading", stream_start_reading, METH_NOARGS, NULL},
    {"_stop_reading", stream_stop_reading, METH_NOARGS, NULL},
    {"_clear_queue", stream_clear_queue, METH_NOARGS, NULL},
    {"_maybe_pause_protocol", stream_maybe_pause_protocol, METH_NOARGS, NULL},
    {"_drop", stream_drop, METH_NOARGS, NULL},
    {NULL},
};

#define AT(field) ((void *)offsetof(Stream, field))

static PyGetSetDef stream_getset[] = {
    {"_loop", get_object, NULL, NULL, AT(loop)},
    {"_protocol", get_object, NULL, NULL, AT(protocol)},
    {"_sock", get_object, NULL, NULL, AT(sock)},
    {"_extra", get_object, set_object, NULL, AT(extra)},
    {"_server", get_object, set_object, NULL, AT(server)},
    {"_empty_waiter", get_object, set_object, NULL, AT(empty_waiter)},
    {"_sock_fd", get_int, NULL, NULL, AT(fd)},
    {"_conn_lost", get_int, set_conn_lost, NULL, AT(conn_lost)},
    {"_closing", get_flag, set_flag, NULL, AT(closing)},
    {"_eof", get_flag, set_flag, NULL, AT(eof)},
    {"_paused", get_flag, NULL, NULL, AT(paused)},
    {"_protocol_connected", get_flag, NULL, NULL, AT(connected)},
    {"_protocol_paused", get_flag, NULL, NULL, AT(protocol_paused)},
    {"_high_water", get_size, set_size, NULL, AT(high_water)},
    {"_low_water", get_size, set_size, NULL, AT(low_water)},
    {NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, "The hot half of a stream transport."},
    {Py_tp_new, stream_new},
    {Py_tp_dealloc, stream_dealloc},
    {Py_tp_traverse, stream_traverse},
    {Py_tp_clear, stream_clear},
    {Py_tp_methods, stream_methods},
    {Py_tp_getset, stream_getset},
    {0, NULL},
};

/* make_stream_core(base, BufferedProtocol): the type, made once. */
static PyObject *
make_stream_core(PyObject *module, PyObject *args)
{
    PyTypeObject *base;
    PyObject *protocol;
    if (!PyArg_ParseTuple(args, "O!O!", &PyType_Type, &base, &PyType_Type, &protocol)) {
        return NULL;
    }
    if (stream_type != NULL) {
        return Py_NewRef((PyObject *)stream_type);
    }
    if (base->tp_itemsize != 0 || base->tp_dictoffset != 0 || base->tp_weaklistoffset != 0) {
        PyErr_SetString(PyExc_ImportError, "asyncio's transport is not laid out as bateau's C part knows it");
        return NULL;
    }
    const Py_ssize_t unit = (Py_ssize_t) _Alignof(max_align_t);
    stream_offset = (base->tp_basicsize + unit - 1) / unit * unit;
    PyType_Spec spec = {
        .name = "bateau._native.StreamCore",
        .basicsize = (int)(stream_offset + (Py_ssize_t)sizeof(Stream)),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
        .slots = stream_slots,
    };
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpecWithBases(&spec, (PyObject *)base);
    if (type == NULL) {
        return NULL;
    }
    buffered_protocol = Py_NewRef(protocol);
    stream_type = type;
    return Py_NewRef((PyObject *)type);
}

static PyMethodDef module_methods[] = {
    {"make_stream_core", make_stream_core, METH_VARARGS, NULL},
    {NULL},
};

int
bateau_stream_exec(PyObject *module)
{
    static const struct {
        PyObject **place;
        const char *text;
    } names[] = {
        {&str_data_received, "data_received"}, {&str_eof_received, "eof_received"},   {&str_get_buffer, "get_buffer"},
        {&str_buffer_updated, "buffer_updated"}, {&str_fileno, "fileno"},             {&str_pause_writing, "pause_writing"},
        {&str_resume_writing, "resume_writing"}, {&str__fatal_error, "_fatal_error"}, {&str__flow_error, "_flow_error"},
        {&str__lost_write, "_lost_write"},       {&str__finish, "_drained"},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (*names[i].place == NULL && (*names[i].place = PyUnicode_InternFromString(names[i].text)) == NULL) {
            return -1;
        }
    }
    if (minus_one == NULL && (minus_one = PyLong_FromLong(-1)) == NULL) {
        return -1;
    }
    if (empty_bytes == NULL && (empty_bytes = PyBytes_FromStringAndSize(NULL, 0)) == NULL) {
        return -1;
    }
    return PyModule_AddFunctions(module, module_methods);
}
#else
typedef int bateau_stream_needs_epoll; /* a file may not be empty */
#endif
