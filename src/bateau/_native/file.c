/* Files: the fields of bateau.fs.AsyncFile, and those of its calls that need no thread when the data is in memory (fs/files.py and fs/now.py
   say what a call does and what it promises).

   Theory of operation. A call on a file that can be asked for what is in memory (`asks`) makes a Call (call.c). Its first step looks
   whether this is the common case: nobody else uses the file, the task is not cancelled and has step
   budget left, and `os.preadv` is Python's own (the simulator, or a test, puts another in its place, and means this one, too).
   Then the bytes are taken there and then, by `preadv2` with RWF_NOWAIT, and the call is over: it never parks. Everything else is
   left to the coroutine of the pure method. What the disk
   has to answer goes to the pure method that gives it to a worker thread without asking again.

   Calls that read through Python's BufferedReader (all but `pread`) need its raw file below it to say "not now". That is NowFile, whose
   `readinto`, `read` and `readall` are here: during an attempt they answer None, as a descriptor that would block, which makes the
   BufferedReader stop, and give what it has. What it had given out by then is put back with `seek`, so a refused call took
   nothing. (The pure code leaves the BufferedReader by an exception instead. Nobody sees a difference.)

   The GIL is kept throughout: nothing here waits, and no more than MOST bytes are copied. So nobody closes the descriptor during a call, except from
   Python code that the call itself runs (the destructor of something, say), and that finds the file in use.

   Files are opened (`descriptor_of`), and small ones read whole (`content_of`), in the same manner where Linux can be asked for that, too: RESOLVE_CACHED opens only what path lookup
   finds in memory. Opening may still wait for whoever serves the file system (a network, a FUSE daemon, which may be this very process), or
   for a writer (a FIFO, whose other end would also notice that somebody opened and closed it). So the path is opened as a place first
   (O_PATH: nobody notices), looked at, and the very file that was looked at is opened, by its name under /proc.

   Ownership. `file->user` is set by a call exactly while a method of the sync file runs, or while the call gives way to others: then its `mark`
   stands there, or for a pread in `file->beside`. A buffer
   that the caller lent is looked at by nobody after that method's return. `attempt` says whose attempt is going on in this thread:
   `raw` is borrowed from the File that the call owns. */
#include "call.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>
#ifdef SYS_openat2
#include <linux/openat2.h>
#endif

#define MOST 131072 /* as in fs/now.py */

enum kind { PREAD, READ, READ1, READLINE, READINTO, PEEK, SEEK, TELL };

/* bateau.fs.AsyncFile. */
typedef struct {
    PyObject_HEAD
    PyObject *file, *user, *now, *lines, *beside;
    char asks;
} File;

/* The attempt of this thread to do something without waiting. */
static _Thread_local struct {
    PyObject *raw; /* the file that must not wait, or NULL */
    Py_ssize_t left;
    char refused, unable;
} attempt;

static PyObject *verbs[TELL + 1]; /* their names, interned */

/* -- asking for what is in memory ---------------------------------------------------------------------------------------------- */

/* Up to `size` bytes at `offset` (-1: at the file's position, which moves on). -1 with errno: not now, or not at all. */
static ssize_t
ask(int fd, void *start, size_t size, off_t offset)
{
#ifdef RWF_NOWAIT
    struct iovec part = {start, size};
    return preadv2(fd, &part, 1, offset, RWF_NOWAIT);
#else
    errno = EOPNOTSUPP;
    return -1;
#endif
}

/* The descriptor of a FileIO, or -1, without an exception: it is closed, or is none. */
static int
number_of(PyObject *raw)
{
    PyObject *number = kept[K_FILEIO_FILENO] != NULL ? PyObject_CallOneArg(kept[K_FILEIO_FILENO], raw) : NULL;
    long fd = number != NULL ? PyLong_AsLong(number) : -1;
    Py_XDECREF(number);
    if (fd < 0 || fd > INT_MAX) {
        PyErr_Clear();
        return -1;
    }
    return (int)fd;
}

/* Whether os.preadv is what it always was. */
static int
is_undisturbed(void)
{
    PyObject *os = kept[K_OS];
    return os != NULL && PyDict_CheckExact(os) && PyDict_GetItemWithError(os, str_preadv) == kept[K_PREADV];
}

/* -- NowFile -------------------------------------------------------------------------------------------------------------------- */

static PyObject *
refuse(void)
{
    attempt.refused = 1;
    Py_RETURN_NONE;
}

/* As NowFile._preadv: how much came, or -1 if it is refused; then the position is where it was. */
static Py_ssize_t
take(int fd, char *start, Py_ssize_t size)
{
    ssize_t n = ask(fd, start, (size_t)size, -1);
    if (n < 0) {
        attempt.unable = errno != EAGAIN && errno != EINTR; /* then the ordinary read says what it is */
        return -1;
    }
    if (n < size) { /* the end, or is the rest on the disk? */
        struct stat about;
        off_t at = lseek(fd, 0, SEEK_CUR);
        if (at < 0 || fstat(fd, &about) < 0 || at < about.st_size) {
            (void)lseek(fd, (off_t)-n, SEEK_CUR);
            return -1;
        }
    }
    return n;
}

static PyObject *
now_readinto(PyObject *self, PyObject *buffer)
{
    if (attempt.raw != self) {
        return PyObject_CallFunctionObjArgs(kept[K_NOW_READINTO], self, buffer, NULL);
    }
    int fd = number_of(self);
    if (attempt.left <= 0 || fd < 0) {
        return refuse();
    }
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0) {
        PyErr_Clear();
        return PyObject_CallFunctionObjArgs(kept[K_NOW_READINTO], self, buffer, NULL); /* says in Python's own words what it is not */
    }
    Py_ssize_t n = take(fd, view.buf, view.len < attempt.left ? view.len : attempt.left);
    PyBuffer_Release(&view);
    if (n < 0) {
        return refuse();
    }
    attempt.left -= n;
    return PyLong_FromSsize_t(n);
}

static PyObject *
read_all_now(PyObject *self)
{
    struct stat about;
    int fd = number_of(self);
    off_t at = fd >= 0 ? lseek(fd, 0, SEEK_CUR) : -1;
    if (at < 0 || fstat(fd, &about) < 0 || about.st_size < at || about.st_size - at >= attempt.left) {
        return refuse();
    }
    Py_ssize_t size = (Py_ssize_t)(about.st_size - at);
    PyObject *data = PyBytes_FromStringAndSize(NULL, size + 1); /* that one more stays empty is how the end is seen */
    if (data == NULL) {
        return NULL;
    }
    Py_ssize_t n = take(fd, PyBytes_AS_STRING(data), size + 1);
    if (n != size) { /* the file grows: reading again is a thread's business */
        if (n > 0) {
            (void)lseek(fd, (off_t)-n, SEEK_CUR);
        }
        Py_DECREF(data);
        return refuse();
    }
    _PyBytes_Resize(&data, n);
    return data;
}

static PyObject *
now_readall(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return attempt.raw == self ? read_all_now(self) : PyObject_CallOneArg(kept[K_NOW_READALL], self);
}

static PyObject *
now_read(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t size = -1;
    if (attempt.raw != self || nargs > 1) {
        PyObject *all[3] = {self, nargs > 0 ? args[0] : NULL, nargs > 1 ? args[1] : NULL};
        return PyObject_Vectorcall(kept[K_NOW_READ], all, (size_t)(nargs < 2 ? nargs + 1 : 3), NULL);
    }
    if (nargs == 1 && args[0] != Py_None) {
        size = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
        if (size == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    if (size < 0) {
        return read_all_now(self);
    }
    int fd = number_of(self);
    if (size > attempt.left || fd < 0) {
        return refuse();
    }
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    if (data == NULL) {
        return NULL;
    }
    Py_ssize_t n = take(fd, PyBytes_AS_STRING(data), size);
    if (n < 0) {
        Py_DECREF(data);
        return refuse();
    }
    attempt.left -= n;
    if (n < size) {
        _PyBytes_Resize(&data, n);
    }
    return data;
}

static PyMethodDef now_methods[] = {
    {"readinto", now_readinto, METH_O, "readinto($self, buffer, /)\n--\n\nAs ``FileIO.readinto``, but during an attempt it does not wait."},
    {"readall", now_readall, METH_NOARGS, "readall($self, /)\n--\n\nAs ``FileIO.readall``, but during an attempt it does not wait."},
    {"read", (PyCFunction)(void (*)(void))now_read, METH_FASTCALL,
     "read($self, size=-1, /)\n--\n\nAs ``FileIO.read``, but during an attempt it does not wait."},
    {NULL, NULL, 0, NULL},
};

/* A base beside io.FileIO, so it has no fields. */
static PyTypeObject NowFileType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.NowFileFields",
    .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_methods = now_methods,
};

/* -- whole files ---------------------------------------------------------------------------------------------------------------- */

/* The file systems whose files are opened without asking anybody. */
static int
is_local(int fd)
{
    struct statfs about;
    if (fstatfs(fd, &about) < 0) {
        return 0;
    }
    switch ((unsigned long)about.f_type & 0xffffffff) {
    case 0xef53:     /* ext2, ext3, ext4 */
    case 0x58465342: /* xfs */
    case 0x9123683e: /* btrfs */
    case 0xf2f52010: /* f2fs */
        return 1;
    default:
        return 0;
    }
}

/* Open `path` as a place, if that is found in memory; -1: it is not, or this system can't be asked. */
static int
place_of(const char *path)
{
#if defined(SYS_openat2) && defined(RESOLVE_CACHED) && defined(RWF_NOWAIT)
    static int unable;
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_CACHED};
    if (unable) {
        return -1;
    }
    long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
    if (fd < 0 && (errno == ENOSYS || errno == EPERM || errno == EINVAL)) {
        unable = 1;
    }
    return (int)fd;
#else
    return -1;
#endif
}

/* Open the regular file `path` for reading: its descriptor; -1 with an exception, or because it can't be had now. `size`: how long it is. */
static int
open_now(PyObject *path, off_t *size)
{
    PyObject *encoded = NULL;
    struct stat about;
    char name[40];
    int fd = -1;
    if (!is_undisturbed() || !PyUnicode_FSConverter(path, &encoded)) {
        return -1;
    }
    int place = place_of(PyBytes_AS_STRING(encoded));
    Py_DECREF(encoded);
    if (place < 0) {
        return -1;
    }
    if (fstat(place, &about) == 0 && S_ISREG(about.st_mode) && is_local(place) &&
        PySys_Audit("open", "Osi", path, "rb", O_RDONLY | O_CLOEXEC) == 0) {
        snprintf(name, sizeof(name), "/proc/self/fd/%d", place);
        fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* (somebody may hold a lease on it, to be called back: that would wait) */
        *size = about.st_size;
    }
    close(place);
    return fd;
}

static PyObject *
content_of(PyObject *module, PyObject *path)
{
    off_t size;
    int fd = open_now(path, &size);
    PyObject *data = NULL;
    if (fd >= 0) {
        if (size < MOST) {
            data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size + 1); /* that one more stays empty is how the end is seen */
        }
        if (data != NULL && ask(fd, PyBytes_AS_STRING(data), (size_t)size + 1, 0) != size) {
            Py_CLEAR(data);
        }
        close(fd);
        if (data != NULL) {
            _PyBytes_Resize(&data, (Py_ssize_t)size);
        }
    }
    if (data != NULL || PyErr_Occurred()) {
        return data;
    }
    Py_RETURN_NONE;
}

static PyObject *
descriptor_of(PyObject *module, PyObject *path)
{
    off_t size;
    int fd = open_now(path, &size);
    if (fd >= 0 && fcntl(fd, F_SETFL, 0) < 0) { /* nothing else is set in it, and this was for opening alone */
        close(fd);
        fd = -1;
    }
    if (fd >= 0 || PyErr_Occurred()) {
        return fd >= 0 ? PyLong_FromLong(fd) : NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef file_functions[] = {
    {"content_of", content_of, METH_O,
     "content_of($module, path, /)\n--\n\nThe whole of a small file that stands in memory; None: read it in a thread, which also knows what is wrong."},
    {"descriptor_of", descriptor_of, METH_O,
     "descriptor_of($module, path, /)\n--\n\nA regular file, opened for reading without waiting; None: open it in a thread, which also knows what is wrong."},
    {NULL, NULL, 0, NULL},
};

/* -- a call's first step -------------------------------------------------------------------------------------------------------- */

/* Leave it to a pure method: `which` takes the verb and the arguments. */
static PySendResult
leave(Call *self, int which, PyObject *arg, PyObject **result)
{
    PyObject *coro = PyObject_CallFunctionObjArgs(kept[which], self->owner, verbs[(int)self->kind], self->first, self->second, NULL);
    return call_leave(self, coro, arg, result);
}

/* As kernel/flow.py's `passes`: whether the effect may come now. If not, or if something is wrong, the pure code finds out why. */
static int
passes(void)
{
    Task *task = running_task();
    if (task != NULL && !task->foreign) {
        if (task->budget <= 0 || task_is_cancelled(task) || has_rare(task, guard)) {
            return 0;
        }
        task->budget--;
        return 1;
    }
    PyObject *result = kept[K_PASSES] != NULL ? PyObject_CallNoArgs(kept[K_PASSES]) : NULL;
    int yes = result != NULL ? PyObject_IsTrue(result) : 0;
    Py_XDECREF(result);
    if (result == NULL || yes < 0) {
        PyErr_Clear();
        return 0;
    }
    return yes;
}

/* The bytes, or NULL: with an exception, or because it can't be had now (`code`: why, 0 for EAGAIN and the like). */
static PyObject *
pread_now(Call *self, int fd, int *code)
{
    Py_ssize_t size = self->size;
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    *code = 0;
    if (data == NULL) {
        return NULL;
    }
    char one;
    ssize_t n = ask(fd, PyBytes_AS_STRING(data), (size_t)size, (off_t)self->place), more = 0;
    /* Less than was asked for is the end of the file only if nothing follows; else the rest is on the disk. */
    if (n > 0 && n < size) {
        more = ask(fd, &one, 1, (off_t)self->place + n);
    }
    if (n < 0 || more < 0) {
        *code = errno != EAGAIN && errno != EINTR ? errno : 0;
    }
    if (n < 0 || more != 0) {
        Py_DECREF(data);
        return NULL;
    }
    if (n < size) {
        _PyBytes_Resize(&data, n);
    }
    return data;
}

/* Where a BufferedReader has its raw file: CPython shows it as a plain field. 0: it does not (any more). */
static Py_ssize_t
place_of_raw(void)
{
    static Py_ssize_t place = -1;
    if (place < 0) {
        PyObject *field = PyDict_GetItemWithError(known[C_BUFFERED_READER]->tp_dict, str_raw);
        place = field != NULL && Py_IS_TYPE(field, &PyMemberDescr_Type) && ((PyMemberDescrObject *)field)->d_member->type == _Py_T_OBJECT
                    ? ((PyMemberDescrObject *)field)->d_member->offset
                    : 0;
    }
    return place;
}

/* Whether the sync file still stands on the raw one: `detach` takes that away. */
static int
is_attached(File *file)
{
    if (file->file == file->now) {
        return 1;
    }
    if (file->file == NULL) {
        return 0;
    }
    if (Py_TYPE(file->file) == known[C_BUFFERED_READER] && place_of_raw() > 0) {
        return *(PyObject **)((char *)file->file + place_of_raw()) == file->now;
    }
    PyObject *raw = PyObject_GetAttr(file->file, str_raw);
    if (raw == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(raw); /* compared alone */
    return raw != NULL && raw == file->now;
}

static PySendResult
pread_step(Call *self, File *file, PyObject *arg, PyObject **result)
{
    int code, fd = is_attached(file) ? number_of(file->now) : -1;
    if (fd < 0) {
        return leave(self, K_FILE_CALL, arg, result); /* says what it is */
    }
    PyObject *data = pread_now(self, fd, &code);
    if (data != NULL || PyErr_Occurred()) {
        return call_over(self, data, result);
    }
    if (code) {
        file->asks = 0;
    }
    return leave(self, K_FILE_LATER, arg, result);
}

/* A refused call has given out `data` in part, or nothing: go back to where it began. 0, or -1 with an exception. */
static int
go_back(Call *self, PyObject *sync, PyObject *data)
{
    Py_ssize_t given = 0;
    if (self->kind != PEEK && PyBytes_Check(data)) {
        given = PyBytes_GET_SIZE(data);
    } else if (self->kind == READINTO && PyLong_Check(data)) {
        given = PyLong_AsSsize_t(data);
    }
    if (given <= 0) {
        return given < 0 && PyErr_Occurred() ? -1 : 0;
    }
    PyObject *here = PyObject_CallMethodNoArgs(sync, verbs[TELL]);
    PyObject *number = here != NULL ? PyLong_FromSsize_t(given) : NULL;
    PyObject *place = number != NULL ? PyNumber_Subtract(here, number) : NULL;
    PyObject *done = place != NULL ? PyObject_CallMethodOneArg(sync, verbs[SEEK], place) : NULL;
    Py_XDECREF(here);
    Py_XDECREF(number);
    Py_XDECREF(place);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* Call the sync file's own method, which must not wait. */
static PySendResult
method_step(Call *self, File *file, PyObject *arg, PyObject **result)
{
    PyObject *task = running_here != NULL && is_set(running_here->task) ? running_here->task : Py_None;
    PyObject *user = PyTuple_Pack(2, verbs[(int)self->kind], task);
    if (user == NULL) {
        return call_over(self, NULL, result);
    }
    PyObject *sync = Py_NewRef(file->file), *raw = Py_NewRef(file->now);
    PyObject *all[3] = {sync, self->first, self->second};
    size_t count = self->second != NULL ? 3 : self->first != NULL ? 2 : 1;
    put(file->user, user);
    attempt.raw = raw;
    attempt.left = MOST;
    attempt.refused = attempt.unable = 0;
    PyObject *value = PyObject_VectorcallMethod(verbs[(int)self->kind], all, count, NULL);
    attempt.raw = NULL;
    int refused = attempt.refused, unable = attempt.unable, status = 0;
    if (refused && value != NULL) {
        status = go_back(self, sync, value);
        Py_CLEAR(value);
    }
    if (unable) {
        file->asks = 0;
    }
    if (file->user == user) {
        Py_CLEAR(file->user);
    }
    Py_DECREF(user);
    Py_DECREF(raw);
    Py_DECREF(sync);
    if (value != NULL || status < 0 || PyErr_Occurred()) {
        return call_over(self, value, result);
    }
    return leave(self, K_FILE_LATER, arg, result);
}

/* A call whose task has used up its step budget lets the others run first, as a checkpoint does; its place is taken, as in the pure code. */
static int
give_way(Call *self, File *file)
{
    Task *task = running_task();
    if (task == NULL || task->budget > 0 || plain_engine(task) == NULL || task_is_cancelled(task) || has_rare(task, guard) ||
        (self->kind == PREAD && (file->beside == NULL || !PyList_CheckExact(file->beside)))) {
        return 0;
    }
    PyObject *mark = PyTuple_Pack(2, verbs[(int)self->kind], (PyObject *)task);
    if (mark == NULL || (self->kind == PREAD && PyList_Append(file->beside, mark) < 0)) {
        Py_XDECREF(mark);
        PyErr_Clear();
        return 0;
    }
    if (self->kind != PREAD) {
        put(file->user, mark);
    }
    put(self->mark, mark);
    Py_DECREF(mark);
    task->budget = STEP_BUDGET;
    self->phase = GIVING_WAY;
    return 1;
}

/* Give up the place that was kept. */
static void
unmark(Call *self)
{
    File *file = (File *)self->owner;
    PyObject *mark = self->mark;
    self->mark = NULL;
    if (file->user == mark) {
        Py_CLEAR(file->user);
    }
    if (file->beside != NULL && PyList_CheckExact(file->beside)) {
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(file->beside); i++) {
            if (PyList_GET_ITEM(file->beside, i) == mark) {
                if (PyList_SetSlice(file->beside, i, i + 1, NULL) < 0) {
                    PyErr_Clear();
                }
                break;
            }
        }
    }
    Py_DECREF(mark);
}

/* Whether the sync file is one whose methods stop when the raw file says None. */
static int
is_familiar(Call *self, File *file)
{
    PyTypeObject *type = Py_TYPE(file->file);
    if (type == known[C_BUFFERED_READER]) {
        return 1;
    }
    /* The others of a raw file are Python's, and call `read` for each byte. */
    return file->file == file->now && (self->kind == READ || self->kind == READINTO || self->kind == SEEK || self->kind == TELL);
}

static PySendResult
begin(Call *self, PyObject *arg, PyObject **result)
{
    File *file = (File *)self->owner;
    if (!file->asks || is_set(file->user) || file->now == NULL || known[C_NOW_FILE] == NULL || !Py_IS_TYPE(file->now, known[C_NOW_FILE]) ||
        !is_undisturbed()) {
        return leave(self, K_FILE_CALL, arg, result);
    }
    if (give_way(self, file)) {
        *result = Py_NewRef(Py_None);
        return PYGEN_NEXT;
    }
    if (self->kind == PREAD) {
        return passes() ? pread_step(self, file, arg, result) : leave(self, K_FILE_CALL, arg, result);
    }
    if (attempt.raw != NULL || file->file == NULL || file->lines == NULL || !PyList_CheckExact(file->lines) ||
        PyList_GET_SIZE(file->lines) > 0 || !is_familiar(self, file) || number_of(file->now) < 0 || !passes()) {
        return leave(self, K_FILE_CALL, arg, result);
    }
    return method_step(self, file, arg, result);
}

static const char *const names[] = {
    [PREAD] = "AsyncFile.pread", [READ] = "AsyncFile.read", [READ1] = "AsyncFile.read1", [READLINE] = "AsyncFile.readline",
    [READINTO] = "AsyncFile.readinto", [PEEK] = "AsyncFile.peek", [SEEK] = "AsyncFile.seek", [TELL] = "AsyncFile.tell",
};

static const CallsOf calls = {begin, unmark, names};

/* -- the file --------------------------------------------------------------------------------------------------------- */

#define FILE_OBJECTS(X) X(file) X(user) X(now) X(lines) X(beside)

COLLECTED(static, file, File, FILE_OBJECTS, nothing)

static PyObject *
leave_to_pure(int which, File *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *all[4] = {(PyObject *)self, NULL, NULL, NULL};
    for (Py_ssize_t i = 0; i < nargs && i < 3; i++) {
        all[i + 1] = args[i];
    }
    return PyObject_Vectorcall(kept[which], all, (size_t)(nargs < 3 ? nargs : 3) + 1, NULL);
}

/* A call with `fewest` to `most` arguments; whatever is unusual goes to the pure method. */
static PyObject *
called(File *self, enum kind kind, int which, Py_ssize_t fewest, Py_ssize_t most, PyObject *const *args, Py_ssize_t nargs)
{
    if (!self->asks || nargs < fewest || nargs > most) {
        return leave_to_pure(which, self, args, nargs);
    }
    return call_new(&calls, kind, (PyObject *)self, nargs > 0 ? args[0] : NULL, nargs > 1 ? args[1] : NULL, 0, 0);
}

#define CALL(name, kind, which, fewest, most)                                                                          \
    static PyObject *file_##name(File *self, PyObject *const *args, Py_ssize_t nargs)                                  \
    {                                                                                                                  \
        return called(self, kind, which, fewest, most, args, nargs);                                                   \
    }

CALL(read, READ, K_FILE_READ, 0, 1)
CALL(seek, SEEK, K_FILE_SEEK, 1, 2)
CALL(tell, TELL, K_FILE_TELL, 0, 0)
CALL(readinto, READINTO, K_FILE_READINTO, 1, 1)
CALL(read1, READ1, K_FILE_READ1, 0, 1)
CALL(peek, PEEK, K_FILE_PEEK, 0, 1)

static PyObject *
file_readline(File *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs == 1 && args[0] == Py_None) { /* to Python's files this is -1, and here the same as nothing */
        nargs = 0;
    }
    return called(self, READLINE, K_FILE_READLINE, 0, 1, args, nargs);
}

static PyObject *
file_pread(File *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (!self->asks || nargs != 2 || !PyLong_CheckExact(args[0]) || !PyLong_CheckExact(args[1])) {
        return leave_to_pure(K_FILE_PREAD, self, args, nargs);
    }
    Py_ssize_t size = PyLong_AsSsize_t(args[0]);
    long long offset = PyLong_AsLongLong(args[1]);
    if (size < 0 || offset < 0 || size > MOST) { /* too large a number is -1, with an exception */
        PyErr_Clear();
        return leave_to_pure(K_FILE_PREAD, self, args, nargs);
    }
    return call_new(&calls, PREAD, (PyObject *)self, args[0], args[1], size, offset);
}

static void
file_dealloc(File *self)
{
    PyObject_GC_UnTrack(self);
    file_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef file_members[] = {
    FIELD(File, file, "_file"),
    FIELD(File, user, "_user"),
    FIELD(File, now, "_now"),
    FIELD(File, lines, "_lines"),
    FIELD(File, beside, "_beside"),
    {"_asks", Py_T_BOOL, offsetof(File, asks), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define METHOD(name, text) {#name, (PyCFunction)(void (*)(void))file_##name, METH_FASTCALL, text}

static PyMethodDef file_methods[] = {
    METHOD(read, "read($self, size=-1, /)\n--\n\n"
                 "Up to ``size`` bytes (or characters); all that is left if negative or None. Empty at the end. A cancellation point."),
    METHOD(readline, "readline($self, size=-1, /)\n--\n\n"
                     "The next line with its end, at most ``size`` bytes or characters of it; empty at the end. A cancellation point."),
    METHOD(seek, "seek($self, offset, whence=0, /)\n--\n\n"
                 "Move to ``offset`` from the start, the position or the end (``whence`` 0, 1, 2); returns the new position."),
    METHOD(tell, "tell($self, /)\n--\n\nThe position, also in the middle of an iteration. A cancellation point."),
    {NULL, NULL, 0, NULL},
};

static PyTypeObject FileType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.AsyncFileFields",
    .tp_basicsize = sizeof(File),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)file_dealloc,
    .tp_traverse = (traverseproc)file_traverse,
    .tp_clear = (inquiry)file_clear,
    .tp_members = file_members,
    .tp_methods = file_methods,
};

static PyMethodDef binary_methods[] = {
    METHOD(readinto, "readinto($self, buffer, /)\n--\n\n"
                     "Read into ``buffer`` and return how many bytes were put there; 0 at the end. A cancellation point.\n\n"
                     "Nothing touches the buffer after the call has returned or raised."),
    METHOD(read1, "read1($self, size=-1, /)\n--\n\nUp to ``size`` bytes with at most one read of the file itself. A cancellation point."),
    METHOD(peek, "peek($self, size=0, /)\n--\n\n"
                 "Bytes ahead of the position, without moving it; as many as the buffer holds. A cancellation point."),
    METHOD(pread, "pread($self, size, offset, /)\n--\n\n"
                  "Up to ``size`` bytes at ``offset``; the position stays. A cancellation point. POSIX only.\n\n"
                  "On a file that is opened for reading alone, or unbuffered, any number of tasks may do this at once."),
    {NULL, NULL, 0, NULL},
};

/* Of binary files only; it adds no fields, so that it can stand beside AsyncFile. */
static PyTypeObject BinaryFileType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.BinaryFileFields",
    .tp_basicsize = sizeof(File),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_base = &FileType,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)file_dealloc,
    .tp_traverse = (traverseproc)file_traverse,
    .tp_clear = (inquiry)file_clear,
    .tp_methods = binary_methods,
};

int
kernel_file_ready(PyObject *module)
{
    static const char *const names[] = {
        [PREAD] = "pread", [READ] = "read", [READ1] = "read1", [READLINE] = "readline",
        [READINTO] = "readinto", [PEEK] = "peek", [SEEK] = "seek", [TELL] = "tell",
    };
    for (int i = 0; i <= TELL; i++) {
        if ((verbs[i] = PyUnicode_InternFromString(names[i])) == NULL) {
            return -1;
        }
    }
    if (PyModule_AddFunctions(module, file_functions) < 0) {
        return -1;
    }
    PyTypeObject *types[] = {&FileType, &BinaryFileType, &NowFileType};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (PyModule_AddType(module, types[i]) < 0) {
            return -1;
        }
    }
    return 0;
}
