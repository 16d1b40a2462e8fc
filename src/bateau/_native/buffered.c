/* Buffered streams: the fields of bateau.io.BufReader, and its read, readline, readuntil and readexactly; those of BufWriter, and its
   write and flush. io/buffered.py has the rule by which cancellation loses nothing, which is kept here as there: bytes enter the buffer in the step in which the layer below
   gave them, and leave it in the step in which they are returned.

   Theory of operation. A call makes a Call (call.c). Its first step looks whether this is the common case: a task of bateau's own is running,
   is not cancelled and has step budget left, and nobody else is reading. Then what is at hand is given at once; else the slot is taken,
   the stream below is asked, and its awaitable (`below`) is resumed from here until it has brought enough (`reader_resumed`). Everything
   else (other hosts, a borrow that stands open, bad arguments) is left to the coroutine of the pure method.

   A write that fits, and a flush that the stream below takes whole, are done in the first step as well, under the same condition; what has
   to wait is a coroutine's of the pure code, which for a flush begins where the attempt of the first step has ended.

   Ownership. The slot's `task` is set by a read exactly while it is the call's `mark`. The buffer is an
   object that the reader owns: a search or a copy in it runs no Python code, so a pointer into it is not held over any. */
#include "call.h"

enum kind { READ, EXACTLY, LINE, UNTIL, WRITE, FLUSH };

/* bateau.io.guard.Slot. */
typedef struct {
    PyObject_HEAD
    PyObject *stream, *task, *verb;
} Slot;

/* bateau.io.buffered.BufReader. */
typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *raw, *data, *slot;
    Py_ssize_t pos, size;
} Reader;

/* bateau.io.buffered.BufWriter. */
typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *raw, *buffer, *slot, *site;
    Py_ssize_t size;
    char closed, eof, open, tries, flushes;
} Writer;

static PyTypeObject SlotType, ReaderType, WriterType;

/* -- fields -------------------------------------------------------------------------------------------------------------------- */

#define SLOT_OBJECTS(X) X(stream) X(task) X(verb)
#define READER_OBJECTS(X) X(raw) X(data) X(slot)
#define WRITER_OBJECTS(X) X(raw) X(buffer) X(slot) X(site)

COLLECTED(static, slot, Slot, SLOT_OBJECTS, nothing)
OBJECT_METHODS(reader, Reader, READER_OBJECTS, nothing, weakrefs)
OBJECT_METHODS(writer, Writer, WRITER_OBJECTS, nothing, weakrefs)

static void
slot_dealloc(Slot *self)
{
    PyObject_GC_UnTrack(self);
    slot_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef slot_members[] = {
    FIELD(Slot, stream, "stream"),
    FIELD(Slot, task, "task"),
    FIELD(Slot, verb, "verb"),
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject SlotType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.SlotFields",
    .tp_basicsize = sizeof(Slot),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)slot_dealloc,
    .tp_traverse = (traverseproc)slot_traverse,
    .tp_clear = (inquiry)slot_clear,
    .tp_members = slot_members,
};

/* -- the buffer ------------------------------------------------------------------------------------------------------------------ */

/* What is buffered: its length, or -1 if the fields are not what the pure code makes them. */
static Py_ssize_t
look(Reader *self, const char **start)
{
    const char *first;
    Py_ssize_t length;
    if (self->data == NULL) {
        return -1;
    }
    if (PyBytes_CheckExact(self->data)) {
        first = PyBytes_AS_STRING(self->data);
        length = PyBytes_GET_SIZE(self->data);
    } else if (PyByteArray_CheckExact(self->data)) {
        first = PyByteArray_AS_STRING(self->data);
        length = PyByteArray_GET_SIZE(self->data);
    } else {
        return -1;
    }
    if (self->pos < 0 || self->pos > length) {
        return -1;
    }
    *start = first + self->pos;
    return length - self->pos;
}

/* Hand out the next `n` bytes, or what there is. */
static PyObject *
take(Reader *self, Py_ssize_t n)
{
    const char *start;
    Py_ssize_t have = look(self, &start);
    if (have < 0) {
        PyErr_SetString(PyExc_SystemError, "the buffer of a BufReader is not what it was");
        return NULL;
    }
    if (n > have) {
        n = have;
    }
    PyObject *result;
    if (self->pos == 0 && n == have && PyBytes_CheckExact(self->data)) {
        result = Py_NewRef(self->data); /* all of it: not copied, as a slice of bytes would not be */
        self->pos = n;
    } else {
        result = PyBytes_FromStringAndSize(start, n);
        if (result != NULL) {
            self->pos += n;
        }
    }
    return result;
}

/* Append what came from below: 0, or -1 with an exception. See `_add`. */
static int
append(Reader *self, PyObject *piece)
{
    const char *start;
    if (look(self, &start) == 0 && PyBytes_CheckExact(piece)) {
        put(self->data, piece);
        self->pos = 0;
        return 0;
    }
    PyObject *result = PyObject_CallMethodOneArg((PyObject *)self, str__add, piece);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* -- what a call has at hand --------------------------------------------------------------------------------------------------------- */

static Py_ssize_t
find(const char *start, Py_ssize_t from, Py_ssize_t to, PyObject *separator)
{
    const char *what = separator != NULL ? PyBytes_AS_STRING(separator) : "\n";
    Py_ssize_t width = separator != NULL ? PyBytes_GET_SIZE(separator) : 1;
    if (to - from < width) {
        return -1;
    }
    const char *at = width == 1 ? memchr(start + from, what[0], (size_t)(to - from))
                                : memmem(start + from, (size_t)(to - from), what, (size_t)width);
    return at != NULL ? at - start : -1;
}

/* How many bytes to take: -1 for more have to come (`goal`: how many then are enough), -2 with an exception. */
static Py_ssize_t
at_hand(Call *self, Reader *reader, Py_ssize_t *goal)
{
    const char *start;
    Py_ssize_t have = look(reader, &start);
    if (have < 0) {
        PyErr_SetString(PyExc_SystemError, "the buffer of a BufReader is not what it was");
        return -2;
    }
    if (self->kind == READ) {
        *goal = self->size;
        return have > 0 || self->size == 0 ? (self->size < have ? self->size : have) : -1;
    }
    if (self->kind == EXACTLY) {
        *goal = self->size;
        return have >= self->size ? self->size : -1;
    }
    PyObject *separator = self->kind == UNTIL ? self->first : NULL;
    Py_ssize_t width = separator != NULL ? PyBytes_GET_SIZE(separator) : 1, bound = reader->size;
    Py_ssize_t at = find(start, self->place, have < bound ? have : bound, separator);
    if (at >= 0) {
        return at + width;
    }
    if (have >= bound) {
        PyObject *raised = PyObject_CallFunction(kept[K_BUFFERED_LIMIT], "On", separator != NULL ? separator : Py_None, bound);
        Py_XDECREF(raised);
        return -2;
    }
    self->place = have >= width ? have - width + 1 : 0;
    *goal = bound;
    return -1;
}

/* -- the wait -------------------------------------------------------------------------------------------------------------------------- */

/* The slot is free again. */
static void
let_go(Call *self)
{
    PyObject *slot = ((Reader *)self->owner)->slot;
    if (slot != NULL && is_a(slot, &SlotType, &seen[SEEN_SLOT])) {
        put(((Slot *)slot)->task, NULL);
    }
    Py_CLEAR(self->mark);
}

/* The iterator of an awaitable: a new reference, or NULL with an exception. */
static PyObject *
iterator_of(PyObject *awaitable)
{
    if (PyCoro_CheckExact(awaitable)) {
        return Py_NewRef(awaitable);
    }
    PyAsyncMethods *methods = Py_TYPE(awaitable)->tp_as_async;
    if (methods == NULL || methods->am_await == NULL) {
        if (PyGen_CheckExact(awaitable)) { /* a coroutine, if it is of a function under `types.coroutine` */
            PyObject *code = PyObject_GetAttrString(awaitable, "gi_code");
            int flags = code != NULL && PyCode_Check(code) ? ((PyCodeObject *)code)->co_flags : 0;
            Py_XDECREF(code);
            if (code == NULL || flags & CO_ITERABLE_COROUTINE) {
                return code != NULL ? Py_NewRef(awaitable) : NULL;
            }
        }
        PyErr_Format(PyExc_TypeError, "object %s can't be used in 'await' expression", Py_TYPE(awaitable)->tp_name);
        return NULL;
    }
    PyObject *iterator = methods->am_await(awaitable);
    if (iterator != NULL && !PyIter_Check(iterator)) {
        PyErr_Format(PyExc_TypeError, "__await__() returned non-iterator of type '%.100s'", Py_TYPE(iterator)->tp_name);
        Py_CLEAR(iterator);
    }
    return iterator;
}

/* Ask below so that there will be `goal` bytes, or the buffer's size: 0, or -1 with an exception. */
static int
ask(Call *self, Reader *reader, Py_ssize_t goal)
{
    const char *start;
    Py_ssize_t have = look(reader, &start), want;
    if (have == 0) { /* who waits for long keeps no memory */
        PyObject *empty = PyBytes_FromStringAndSize(NULL, 0);
        if (empty == NULL) {
            return -1;
        }
        put(reader->data, empty);
        Py_DECREF(empty);
        reader->pos = 0;
    }
    want = (goal > reader->size ? goal : reader->size) - (have > 0 ? have : 0);
    self->direct = self->kind == READ && self->size >= reader->size; /* nothing to gain from a copy */
    PyObject *number = PyLong_FromSsize_t(self->direct ? self->size : want);
    PyObject *raw = reader->raw != NULL ? Py_NewRef(reader->raw) : NULL;
    PyObject *awaitable = number != NULL && raw != NULL ? PyObject_CallMethodOneArg(raw, str_read, number) : NULL;
    Py_XDECREF(raw);
    Py_XDECREF(number);
    PyObject *below = awaitable != NULL ? iterator_of(awaitable) : NULL;
    Py_XDECREF(awaitable);
    if (below == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_RuntimeError, "a BufReader without a stream below");
        }
        return -1;
    }
    put(self->below, below);
    Py_DECREF(below);
    return 0;
}

/* The stream ended before the call had what it asked for. */
static PySendResult
ended(Call *self, Reader *reader, PyObject **result)
{
    if (self->kind == EXACTLY) {
        PyObject *raised = PyObject_CallFunction(kept[K_BUFFERED_SHORT], "On", reader, self->size);
        Py_XDECREF(raised);
        return call_over(self, NULL, result);
    }
    PyObject *rest = take(reader, PY_SSIZE_T_MAX);
    if (rest != NULL && self->kind == UNTIL) {
        PyObject *raised = PyObject_CallFunctionObjArgs(kept[K_BUFFERED_NO_SEPARATOR], rest, self->first, NULL);
        Py_DECREF(rest);
        Py_XDECREF(raised);
        return call_over(self, NULL, result);
    }
    return call_over(self, rest, result);
}

/* What was asked below has answered: until it has brought enough, or waits. */
static PySendResult
reader_resumed(Call *self, PySendResult how, PyObject **result)
{
    Reader *reader = (Reader *)self->owner;
    while (how == PYGEN_RETURN && !self->direct) {
        PyObject *piece = *result;
        Py_ssize_t size = PyObject_Size(piece), goal = 0;
        int added = size > 0 ? append(reader, piece) : (int)size;
        Py_DECREF(piece);
        if (added < 0) {
            return call_over(self, NULL, result);
        }
        if (size == 0) {
            return ended(self, reader, result);
        }
        Py_ssize_t count = at_hand(self, reader, &goal);
        if (count >= 0) {
            return call_over(self, take(reader, count), result);
        }
        if (count == -2 || ask(self, reader, goal) < 0) {
            return call_over(self, NULL, result);
        }
        how = call_below(self, Py_None, result);
    }
    return how == PYGEN_NEXT ? how : call_over(self, how == PYGEN_RETURN ? *result : NULL, result);
}

static PySendResult
begin_pure(Call *self, PyObject *arg, PyObject **result)
{
    static const int which[] = {[READ] = K_BUF_READ,       [EXACTLY] = K_BUF_READEXACTLY, [LINE] = K_BUF_READLINE,
                                [UNTIL] = K_BUF_READUNTIL, [WRITE] = K_BUF_WRITE,         [FLUSH] = K_BUF_FLUSH};
    PyObject *coro = PyObject_CallFunctionObjArgs(kept[which[(int)self->kind]], self->owner, self->first, NULL);
    return call_leave(self, coro, arg, result);
}

/* Whether the running task may go on without a look at anything (`passes`, before it counts), and nobody is in the middle of a call. */
static int
is_common(Task *task, PyObject *slot)
{
    return task != NULL && !task->foreign && task->budget > 0 && !task_is_cancelled(task) && !has_rare(task, guard) && slot != NULL &&
           is_a(slot, &SlotType, &seen[SEEN_SLOT]) && !is_set(((Slot *)slot)->task);
}

static PySendResult
begin_write(Call *self, PyObject *arg, PyObject **result)
{
    Writer *writer = (Writer *)self->owner;
    Task *task = running_task();
    PyObject *buffer = writer->buffer;
    if (!PyBytes_CheckExact(self->first) || !writer->open || buffer == NULL || !PyByteArray_CheckExact(buffer) ||
        !is_common(task, writer->slot)) {
        return begin_pure(self, arg, result);
    }
    Py_ssize_t have = PyByteArray_GET_SIZE(buffer), more = PyBytes_GET_SIZE(self->first);
    if (more > writer->size - have) {
        return begin_pure(self, arg, result);
    }
    task->budget--;
    Py_INCREF(buffer);
    int status = PyByteArray_Resize(buffer, have + more);
    if (status == 0) {
        memcpy(PyByteArray_AS_STRING(buffer) + have, PyBytes_AS_STRING(self->first), (size_t)more);
    }
    Py_DECREF(buffer);
    return call_over(self, status == 0 ? Py_NewRef(Py_None) : NULL, result);
}

/* Hand over what `raw` takes at once, as `_send_some`: 1 if nothing is left, 0 if something is, -1 with an exception. */
static int
send_some(Writer *writer)
{
    PyObject *buffer = Py_NewRef(writer->buffer), *raw = Py_NewRef(writer->raw);
    PyObject *count = PyObject_CallMethodOneArg(raw, str_try_write, buffer);
    int status = -1;
    if (count != NULL) {
        Py_ssize_t sent = PyNumber_AsSsize_t(count, PyExc_OverflowError), have = PyByteArray_GET_SIZE(buffer);
        if (sent == have) {
            status = PyByteArray_Resize(buffer, 0) < 0 ? -1 : 1;
        } else if (sent != -1 || !PyErr_Occurred()) {
            status = PySequence_DelSlice(buffer, 0, sent); /* as Python's slices: what is out of range is not deleted */
        }
    } else if (PyErr_ExceptionMatches(kept[K_BUFFERED_REFUSED])) {
        PyErr_Clear(); /* seen to by the rest */
        status = 0;
    }
    Py_XDECREF(count);
    Py_DECREF(raw);
    Py_DECREF(buffer);
    return status;
}

static PySendResult
begin_flush(Call *self, PyObject *arg, PyObject **result)
{
    Writer *writer = (Writer *)self->owner;
    Task *task = running_task();
    PyObject *buffer = writer->buffer;
    if (!writer->tries || writer->flushes || writer->closed || buffer == NULL || !PyByteArray_CheckExact(buffer) ||
        writer->raw == NULL || !PyTuple_CheckExact(kept[K_BUFFERED_REFUSED]) || !is_common(task, writer->slot)) {
        return begin_pure(self, arg, result);
    }
    task->budget--;
    int done = PyByteArray_GET_SIZE(buffer) == 0 ? 1 : send_some(writer);
    if (done < 0) {
        return call_over(self, NULL, result);
    }
    if (done) {
        return call_over(self, Py_NewRef(Py_None), result);
    }
    return call_leave(self, PyObject_CallOneArg(kept[K_BUFFERED_FLUSH_REST], self->owner), arg, result);
}

static PySendResult
begin(Call *self, PyObject *arg, PyObject **result)
{
    if (self->kind >= WRITE) {
        return self->kind == WRITE ? begin_write(self, arg, result) : begin_flush(self, arg, result);
    }
    Reader *reader = (Reader *)self->owner;
    Task *task = running_task();
    const char *start;
    if (!is_common(task, reader->slot) || look(reader, &start) < 0) {
        return begin_pure(self, arg, result);
    }
    Py_ssize_t goal = 0, count = at_hand(self, reader, &goal);
    if (count >= 0) {
        PyObject *taken = take(reader, count);
        task->budget -= taken != NULL;
        return call_over(self, taken, result);
    }
    if (count == -2) {
        return call_over(self, NULL, result);
    }
    self->mark = Py_NewRef((PyObject *)task);
    put(((Slot *)reader->slot)->task, task);
    if (ask(self, reader, goal) < 0) {
        return call_over(self, NULL, result);
    }
    self->resumed = reader_resumed;
    self->phase = SUSPENDED;
    return call_resume(self, arg, result);
}

static const char *const names[] = {[READ] = "BufReader.read",       [EXACTLY] = "BufReader.readexactly", [LINE] = "BufReader.readline",
                                    [UNTIL] = "BufReader.readuntil", [WRITE] = "BufWriter.write",         [FLUSH] = "BufWriter.flush"};

static const CallsOf calls = {begin, let_go, names};

/* -- the methods of the reader ------------------------------------------------------------------------------------------------------------ */

static PyObject *
leave_to_pure(int which, Reader *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t named = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    PyObject *all[8] = {(PyObject *)self};
    if (nargs + named > 6) {
        PyErr_SetString(PyExc_TypeError, "too many arguments");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < nargs + named; i++) {
        all[i + 1] = args[i];
    }
    return PyObject_Vectorcall(kept[which], all, (size_t)(nargs + 1), kwnames);
}

/* A call that takes a number of bytes. */
static PyObject *
counted(Reader *self, enum kind kind, int which, Py_ssize_t standard, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t n = standard;
    int common = kwnames == NULL && nargs <= 1;
    if (common && nargs == 1) {
        n = PyLong_CheckExact(args[0]) ? PyLong_AsSsize_t(args[0]) : -1;
        PyErr_Clear();
    }
    if (!common || n < 0) {
        return leave_to_pure(which, self, args, nargs, kwnames);
    }
    return call_new(&calls, kind, (PyObject *)self, nargs ? args[0] : NULL, NULL, n, 0);
}

static PyObject *
reader_read(Reader *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return counted(self, READ, K_BUF_READ, 65536, args, nargs, kwnames); /* io.abc.DEFAULT_SIZE */
}

static PyObject *
reader_readexactly(Reader *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return counted(self, EXACTLY, K_BUF_READEXACTLY, -1, args, nargs, kwnames);
}

static PyObject *
reader_readline(Reader *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (kwnames != NULL || nargs > 1 || (nargs == 1 && args[0] != Py_None)) {
        return leave_to_pure(K_BUF_READLINE, self, args, nargs, kwnames);
    }
    return call_new(&calls, LINE, (PyObject *)self, NULL, NULL, 0, 0);
}

static PyObject *
reader_readuntil(Reader *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (kwnames != NULL || nargs < 1 || nargs > 2 || (nargs == 2 && args[1] != Py_None) || !PyBytes_CheckExact(args[0]) ||
        PyBytes_GET_SIZE(args[0]) == 0) {
        return leave_to_pure(K_BUF_READUNTIL, self, args, nargs, kwnames);
    }
    return call_new(&calls, UNTIL, (PyObject *)self, args[0], NULL, 0, 0);
}

static PyObject *
writer_write(Writer *self, PyObject *data)
{
    return call_new(&calls, WRITE, (PyObject *)self, data, NULL, 0, 0);
}

static PyObject *
writer_flush(Writer *self, PyObject *Py_UNUSED(ignored))
{
    return call_new(&calls, FLUSH, (PyObject *)self, NULL, NULL, 0, 0);
}

#define READER_METHOD(name, text) {#name, (PyCFunction)(void (*)(void))reader_##name, METH_FASTCALL | METH_KEYWORDS, text}

static PyMethodDef reader_methods[] = {
    READER_METHOD(read, "read($self, n=65536, /)\n--\n\nSee ``AsyncRead.read``."),
    READER_METHOD(readexactly, "readexactly($self, n, /)\n--\n\nSee ``AsyncBufRead.readexactly``."),
    READER_METHOD(readline, "readline($self, limit=None)\n--\n\nSee ``AsyncBufRead.readline``."),
    READER_METHOD(readuntil, "readuntil($self, separator=b'\\n', limit=None)\n--\n\nSee ``AsyncBufRead.readuntil``."),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef reader_members[] = {
    FIELD(Reader, raw, "raw"),
    FIELD(Reader, data, "_data"),
    FIELD(Reader, slot, "_slot"),
    {"_pos", Py_T_PYSSIZET, offsetof(Reader, pos), 0, NULL},
    {"_size", Py_T_PYSSIZET, offsetof(Reader, size), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject ReaderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.BufReaderFields",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_weaklistoffset = offsetof(Reader, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)reader_dealloc,
    .tp_traverse = (traverseproc)reader_traverse,
    .tp_clear = (inquiry)reader_clear,
    .tp_members = reader_members,
    .tp_methods = reader_methods,
};

static PyMethodDef writer_methods[] = {
    {"write", (PyCFunction)writer_write, METH_O, "write($self, data, /)\n--\n\nSee ``AsyncWrite.write``."},
    {"flush", (PyCFunction)writer_flush, METH_NOARGS, "flush($self)\n--\n\nSee ``AsyncWrite.flush``."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef writer_members[] = {
    FIELD(Writer, raw, "raw"),
    FIELD(Writer, buffer, "_buffer"),
    FIELD(Writer, slot, "_slot"),
    FIELD(Writer, site, "_site"),
    {"_size", Py_T_PYSSIZET, offsetof(Writer, size), 0, NULL},
    {"_closed", Py_T_BOOL, offsetof(Writer, closed), 0, NULL},
    {"_eof", Py_T_BOOL, offsetof(Writer, eof), 0, NULL},
    {"_open", Py_T_BOOL, offsetof(Writer, open), 0, NULL},
    {"_tries", Py_T_BOOL, offsetof(Writer, tries), 0, NULL},
    {"_flushes", Py_T_BOOL, offsetof(Writer, flushes), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject WriterType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.BufWriterFields",
    .tp_basicsize = sizeof(Writer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_weaklistoffset = offsetof(Writer, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)writer_dealloc,
    .tp_traverse = (traverseproc)writer_traverse,
    .tp_clear = (inquiry)writer_clear,
    .tp_members = writer_members,
    .tp_methods = writer_methods,
};

int
kernel_buffered_ready(PyObject *module)
{
    PyTypeObject *types[] = {&WriterType, &SlotType, &ReaderType};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (PyModule_AddType(module, types[i]) < 0) {
            return -1;
        }
    }
    return 0;
}
