/* The core of an asyncio event loop: handles, the ready queue, timers, the epoll reactor and one iteration of the loop.
 *
 * Theory of operation. `LoopCore` is the first base of `bateau.runtimes.native_loop.NativeEventLoop`, whose other base is
 * asyncio's own selector loop. What is hot is here (call_soon, call_later, readers and writers, _run_once); all the rest is
 * asyncio's, unchanged, on top of it. One iteration is asyncio's: poll, queue what is due, run what was queued when the
 * iteration began. Four things differ, none visible but in time:
 *   - a cancelled timer leaves the heap at once;
 *   - while callbacks are ready, the poll is put off until POLL_EVERY of them have run or the kernel's coarse clock has
 *     ticked (some milliseconds), unless this loop itself has done something since that may have made a descriptor ready (sent
 *     through a stream, changed a registration): what a program does to itself it sees in the next iteration, and what comes
 *     from outside may come that much later;
 *   - streams (stream.c) are called during the poll, without a handle in between;
 *   - what a callback writes to a stream is sent when the callback returns, in one piece: `held` has those streams meanwhile.
 *
 * Ownership.
 *   - A reference in the ready ring, the timer heap, an Entry, `held` or the spare list is owned by it. Whoever takes one out owns it then.
 *   - A Handle owns its callback, arguments, context and loop. `cancel` drops callback and arguments at once, unless the
 *     handle is running: then they go when it has run. So running code never loses what it runs.
 *   - A handle that has run and that only the ring had (reference count 1) is emptied and kept in `spare`; it has no
 *     reference to the loop there. Nobody can tell: nothing else refers to it, and handles have no weak references.
 *   - An Entry owns its stream while the stream wants events, so a stream that reads lives as long as its descriptor does.
 *   - References are dropped only after the field they were in has another value: a destructor may run anything, this loop's
 *     methods included. Nothing keeps a pointer into `ready`, `timers` or `entries` across a call that can run Python code.
 *
 * Descriptors. The loop never closes a descriptor that it is told to watch: the socket object does. Events carry the
 * descriptor and the generation of its registration; those of an earlier registration are dropped. A descriptor that was
 * closed under us is found out when epoll has forgotten it (ENOENT): what was registered for the old one goes then.
 *
 * Threads. Everything happens with the GIL held, but for the blocking epoll_wait. `polling` is set before the GIL is given up
 * and cleared after it is had again, so a thread that queues something either sees `polling` and writes the eventfd, or is
 * seen by the loop before it polls.
 *
 * Forks. A child shares its parent's epoll set and eventfd, where removing a descriptor would hit the parent. The first use in
 * the child makes new ones and registers there what the table says.
 *
 * The module keeps its types in static variables: it is for the main interpreter alone (`bateau_loop_exec`).
 */
#ifndef __linux__ /* no epoll: bateau.interop.asyncio gives asyncio's own loop there */
#include "native.h"

int
bateau_loop_exec(PyObject *module)
{
    return 0;
}
#else
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <structmember.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* How many callbacks may run without a poll. */
#define POLL_EVERY 64
/* How many events one poll takes. */
#define POLL_EVENTS 256
/* Milliseconds; a poll that ends early for nothing is harmless. */
#define LONGEST_POLL 86400000
/* Arguments kept in the handle itself. */
#define INLINE_ARGS 3

struct Handle {
    PyObject_HEAD
    LoopCore *loop;     /* owned; NULL while spare */
    PyObject *callback; /* owned; NULL once cancelled (None to Python) or spare */
    PyObject *context;  /* owned; NULL while spare */
    PyObject *many;     /* owned tuple where there are more than INLINE_ARGS arguments, else NULL */
    PyObject *stack[1 + INLINE_ARGS]; /* [0] is the callee's to scribble on (PY_VECTORCALL_ARGUMENTS_OFFSET) */
    PyObject *traceback; /* owned, or NULL: where it was made, in debug mode */
    int count;           /* arguments in `stack` */
    int running;         /* how many times it is being run just now */
    char cancelled;
};

struct TimerHandle {
    Handle base;
    double when;
    uint64_t sequence;
    Py_ssize_t place; /* in the heap; -1: not there */
};

PyTypeObject *bateau_loop_core_type;
static PyTypeObject *handle_type, *timer_type;
static PyObject *str_context, *str_loop, *str__run, *str__cancelled, *str_cancel, *str__callback_failed, *str__debug_check,
    *str__debug_handle, *str__debug_run, *str_running;
static unsigned bateau_forks; /* how many forks lie between this process and the one that first imported us */

static void
in_forked_child(void)
{
    bateau_forks++;
}

/* ---- small helpers ------------------------------------------------------------------------------------------------------ */

static double
monotonic(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* A clock that costs next to nothing: it moves every few milliseconds. */
static int64_t
coarse_tick(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* The exception that is set, normalized and owned by the caller; none is set any more. */
PyObject *
bateau_take_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL && traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

static int
ends_the_loop(void)
{
    return PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
}

static int
check_open(LoopCore *self)
{
    if (self->closed || self->core_closed) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    return 0;
}

/* ---- handles ------------------------------------------------------------------------------------------------------------ */

static void
handle_drop_call(Handle *self)
{
    PyObject *callback = self->callback, *many = self->many, *args[INLINE_ARGS];
    int count = self->count;
    for (int i = 0; i < count; i++) {
        args[i] = self->stack[1 + i];
        self->stack[1 + i] = NULL;
    }
    self->callback = self->many = NULL;
    self->count = 0;
    Py_XDECREF(callback);
    Py_XDECREF(many);
    for (int i = 0; i < count; i++) {
        Py_DECREF(args[i]);
    }
}

static int
handle_clear(Handle *self)
{
    handle_drop_call(self);
    Py_CLEAR(self->context);
    Py_CLEAR(self->traceback);
    Py_CLEAR(self->loop);
    return 0;
}

static int
handle_traverse(Handle *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    Py_VISIT(self->many);
    Py_VISIT(self->traceback);
    for (int i = 0; i < self->count; i++) {
        Py_VISIT(self->stack[1 + i]);
    }
    return 0;
}

static void
handle_dealloc(Handle *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, handle_dealloc) /* each may be an argument of the next */
    handle_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

/* Fill an empty handle. Takes new references to everything; `context` may be NULL: a copy of the current one. */
static int
handle_fill(Handle *self, LoopCore *loop, PyObject *callback, PyObject *const *args, Py_ssize_t count, PyObject *context)
{
    if (context == NULL) {
        context = PyContext_CopyCurrent();
        if (context == NULL) {
            return -1;
        }
    }
    else {
        Py_INCREF(context);
    }
    if (count > INLINE_ARGS) {
        PyObject *many = PyTuple_New(count);
        if (many == NULL) {
            Py_DECREF(context);
            return -1;
        }
        for (Py_ssize_t i = 0; i < count; i++) {
            Py_INCREF(args[i]);
            PyTuple_SET_ITEM(many, i, args[i]);
        }
        self->many = many;
    }
    else {
        for (Py_ssize_t i = 0; i < count; i++) {
            Py_INCREF(args[i]);
            self->stack[1 + i] = args[i];
        }
        self->count = (int)count;
    }
    self->context = context;
    Py_INCREF(callback);
    self->callback = callback;
    Py_INCREF(loop);
    self->loop = loop;
    return 0;
}

static Handle *
handle_new(LoopCore *loop, PyObject *callback, PyObject *const *args, Py_ssize_t count, PyObject *context)
{
    Handle *self;
    if (loop->spare_count > 0) {
        self = loop->spare[--loop->spare_count]; /* the list's reference is ours now */
    }
    else {
        self = (Handle *)handle_type->tp_alloc(handle_type, 0);
        if (self == NULL) {
            return NULL;
        }
    }
    if (handle_fill(self, loop, callback, args, count, context) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

/* Give up a handle that has run: our reference goes, or the handle becomes a spare one. */
static void
handle_release(LoopCore *loop, Handle *self)
{
    if (Py_REFCNT(self) == 1 && Py_IS_TYPE(self, handle_type) && loop->spare_count < 64 && !loop->core_closed) {
        handle_clear(self);
        /* What that ran may have closed the loop, filled the list, or found us (gc.get_objects). */
        if (Py_REFCNT(self) == 1 && loop->spare_count < 64 && !loop->core_closed) {
            self->cancelled = 0;
            loop->spare[loop->spare_count++] = self;
            return;
        }
    }
    Py_DECREF(self);
}

/* Run it in its context, and tell the loop's exception handler what goes wrong. -1 only for what must end the loop. */
static int
handle_run(Handle *self)
{
    if (self->callback == NULL) {
        return 0;
    }
    PyObject *result = NULL;
    self->running++;
    if (PyContext_Enter(self->context) == 0) {
        if (self->many == NULL) {
            result = PyObject_Vectorcall(
                self->callback, self->stack + 1, (size_t)self->count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        }
        else {
            result = PyObject_Call(self->callback, self->many, NULL);
        }
        if (PyContext_Exit(self->context) < 0) {
            Py_CLEAR(result);
        }
    }
    int status = 0;
    if (result == NULL) {
        if (ends_the_loop()) {
            status = -1;
        }
        else {
            PyObject *error = bateau_take_exception();
            LoopCore *loop = self->loop;
            Py_XINCREF(loop);
            if (loop != NULL && error != NULL) {
                result = PyObject_CallMethodObjArgs((PyObject *)loop, str__callback_failed, self, error, NULL);
                if (result == NULL) {
                    if (ends_the_loop()) {
                        status = -1;
                    }
                    else {
                        PyErr_WriteUnraisable((PyObject *)self);
                    }
                }
            }
            Py_XDECREF(loop);
            Py_XDECREF(error);
        }
    }
    Py_XDECREF(result);
    if (--self->running == 0 && self->cancelled) {
        if (status < 0) { /* destructors must not meet a set exception */
            PyObject *type, *value, *traceback;
            PyErr_Fetch(&type, &value, &traceback);
            handle_drop_call(self);
            PyErr_Restore(type, value, traceback);
        }
        else {
            handle_drop_call(self);
        }
    }
    return status;
}

static void timer_leave(LoopCore *loop, TimerHandle *timer);

static PyObject *
handle_cancel(Handle *self, PyObject *unused)
{
    if (self->cancelled) {
        Py_RETURN_NONE;
    }
    self->cancelled = 1;
    Py_INCREF(self);
    if (PyObject_TypeCheck(self, timer_type) && self->loop != NULL) {
        timer_leave(self->loop, (TimerHandle *)self);
    }
    if (self->loop != NULL && self->loop->debug) {
        /* As asyncio's: what it was stays to be seen in its repr. */
        PyObject *shown = PyObject_Repr((PyObject *)self);
        if (shown == NULL) {
            PyErr_Clear();
        }
        Py_XSETREF(self->traceback, shown != NULL ? PyTuple_Pack(2, shown, self->traceback ? self->traceback : Py_None)
                                                  : NULL);
        Py_XDECREF(shown);
        if (PyErr_Occurred()) {
            PyErr_Clear();
        }
    }
    if (!self->running) {
        handle_drop_call(self);
    }
    Py_DECREF(self);
    Py_RETURN_NONE;
}

static PyObject *
handle_cancelled(Handle *self, PyObject *unused)
{
    return PyBool_FromLong(self->cancelled);
}

static PyObject *
handle_get_context(Handle *self, PyObject *unused)
{
    return Py_NewRef(self->context != NULL ? self->context : Py_None);
}

static PyObject *
handle_run_method(Handle *self, PyObject *unused)
{
    Py_INCREF(self);
    int status = handle_run(self);
    Py_DECREF(self);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
handle_get_callback(Handle *self, void *unused)
{
    return Py_NewRef(self->callback != NULL && !self->cancelled ? self->callback : Py_None);
}

static PyObject *
handle_get_args(Handle *self, void *unused)
{
    if (self->callback == NULL || self->cancelled) {
        Py_RETURN_NONE;
    }
    if (self->many != NULL) {
        return Py_NewRef(self->many);
    }
    int count = self->count;
    PyObject *args = PyTuple_New(count);
    if (args != NULL && self->count != count) { /* making it ran the collector (3.11), and that a finaliser, which cancelled us */
        Py_DECREF(args);
        Py_RETURN_NONE;
    }
    if (args != NULL) {
        for (int i = 0; i < count; i++) {
            PyTuple_SET_ITEM(args, i, Py_NewRef(self->stack[1 + i]));
        }
    }
    return args;
}

/* `traceback` is the pair that a cancelled handle keeps in debug mode: (its repr, its traceback). */
static int
is_shown(Handle *self)
{
    return self->cancelled && self->traceback != NULL && PyTuple_CheckExact(self->traceback)
           && PyTuple_GET_SIZE(self->traceback) == 2 && PyUnicode_Check(PyTuple_GET_ITEM(self->traceback, 0));
}

static PyObject *
handle_get_traceback(Handle *self, void *unused)
{
    if (is_shown(self)) {
        return Py_NewRef(PyTuple_GET_ITEM(self->traceback, 1));
    }
    return Py_NewRef(self->traceback != NULL ? self->traceback : Py_None);
}

static int
handle_set_traceback(Handle *self, PyObject *value, void *unused)
{
    Py_XINCREF(value);
    Py_XSETREF(self->traceback, value);
    return 0;
}

static PyObject *
handle_get_loop(Handle *self, void *unused)
{
    return Py_NewRef(self->loop != NULL ? (PyObject *)self->loop : Py_None);
}

static PyObject *
handle_repr(Handle *self)
{
    if (is_shown(self)) {
        return Py_NewRef(PyTuple_GET_ITEM(self->traceback, 0));
    }
    if (self->loop == NULL) {
        return PyUnicode_FromFormat("<%s>", Py_TYPE(self)->tp_name);
    }
    return PyObject_CallMethod((PyObject *)self->loop, "_handle_repr", "O", self);
}

static PyMethodDef handle_methods[] = {
    {"cancel", (PyCFunction)handle_cancel, METH_NOARGS, "Keep the callback from being called."},
    {"cancelled", (PyCFunction)handle_cancelled, METH_NOARGS, "Whether it was cancelled."},
    {"get_context", (PyCFunction)handle_get_context, METH_NOARGS, "The context that the callback runs in."},
    {"_run", (PyCFunction)handle_run_method, METH_NOARGS, "Call the callback."},
    {NULL},
};

static PyMemberDef handle_members[] = {
    {"_cancelled", T_BOOL, offsetof(Handle, cancelled), READONLY, NULL},
    {NULL},
};

static PyGetSetDef handle_getset[] = {
    {"_callback", (getter)handle_get_callback, NULL, NULL, NULL},
    {"_args", (getter)handle_get_args, NULL, NULL, NULL},
    {"_context", (getter)handle_get_context, NULL, NULL, NULL},
    {"_loop", (getter)handle_get_loop, NULL, NULL, NULL},
    {"_source_traceback", (getter)handle_get_traceback, (setter)handle_set_traceback, NULL, NULL},
    {NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, "A callback of a native loop, as asyncio.Handle."},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_clear, handle_clear},
    {Py_tp_repr, handle_repr},
    {Py_tp_methods, handle_methods},
    {Py_tp_members, handle_members},
    {Py_tp_getset, handle_getset},
    {0, NULL},
};

static PyType_Spec handle_spec = {
    .name = "bateau._native.Handle",
    .basicsize = sizeof(Handle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = handle_slots,
};

/* ---- the ready queue ---------------------------------------------------------------------------------------------------- */

/* Takes over the reference, also when it fails. */
static int
ready_push(LoopCore *self, PyObject *handle)
{
    if (self->ready_count == self->ready_capacity) {
        size_t capacity = self->ready_capacity ? self->ready_capacity * 2 : 64;
        PyObject **ring = PyMem_New(PyObject *, capacity);
        if (ring == NULL) {
            Py_DECREF(handle);
            PyErr_NoMemory();
            return -1;
        }
        for (size_t i = 0; i < self->ready_count; i++) {
            ring[i] = self->ready[(self->ready_head + i) & (self->ready_capacity - 1)];
        }
        PyMem_Free(self->ready);
        self->ready = ring;
        self->ready_head = 0;
        self->ready_capacity = capacity;
    }
    self->ready[(self->ready_head + self->ready_count++) & (self->ready_capacity - 1)] = handle;
    return 0;
}

/* The oldest; the reference is the caller's. There must be one. */
static PyObject *
ready_pop(LoopCore *self)
{
    PyObject *handle = self->ready[self->ready_head];
    self->ready_head = (self->ready_head + 1) & (self->ready_capacity - 1);
    self->ready_count--;
    return handle;
}

/* ---- timers ------------------------------------------------------------------------------------------------------------- */

static inline int
timer_before(TimerHandle *a, TimerHandle *b)
{
    return a->when < b->when || (a->when == b->when && a->sequence < b->sequence);
}

static void
timer_sift_up(LoopCore *self, Py_ssize_t place, TimerHandle *timer)
{
    while (place > 0) {
        Py_ssize_t parent = (place - 1) / 2;
        if (!timer_before(timer, self->timers[parent])) {
            break;
        }
        self->timers[place] = self->timers[parent];
        self->timers[place]->place = place;
        place = parent;
    }
    self->timers[place] = timer;
    timer->place = place;
}

static void
timer_sift_down(LoopCore *self, Py_ssize_t place, TimerHandle *timer)
{
    for (;;) {
        Py_ssize_t child = 2 * place + 1;
        if (child >= self->timer_count) {
            break;
        }
        if (child + 1 < self->timer_count && timer_before(self->timers[child + 1], self->timers[child])) {
            child++;
        }
        if (!timer_before(self->timers[child], timer)) {
            break;
        }
        self->timers[place] = self->timers[child];
        self->timers[place]->place = place;
        place = child;
    }
    self->timers[place] = timer;
    timer->place = place;
}

/* Takes a reference of its own. */
static int
timer_enter(LoopCore *self, TimerHandle *timer)
{
    if (self->timer_count == self->timer_capacity) {
        Py_ssize_t capacity = self->timer_capacity ? self->timer_capacity * 2 : 16;
        TimerHandle **timers = PyMem_Resize(self->timers, TimerHandle *, capacity);
        if (timers == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->timers = timers;
        self->timer_capacity = capacity;
    }
    Py_INCREF(timer);
    timer->sequence = self->timer_sequence++;
    timer_sift_up(self, self->timer_count++, timer);
    return 0;
}

/* Out of the heap; its reference is the caller's, who must know that it is there. */
static void
timer_take_out(LoopCore *self, TimerHandle *timer)
{
    Py_ssize_t place = timer->place;
    TimerHandle *last = self->timers[--self->timer_count];
    timer->place = -1;
    if (last != timer) {
        if (place > 0 && timer_before(last, self->timers[(place - 1) / 2])) {
            timer_sift_up(self, place, last);
        }
        else {
            timer_sift_down(self, place, last);
        }
    }
}

static void
timer_leave(LoopCore *self, TimerHandle *timer)
{
    if (timer->place >= 0) {
        timer_take_out(self, timer);
        Py_DECREF(timer); /* the caller has a reference of its own */
    }
}

static PyObject *
timer_get_when(TimerHandle *self, PyObject *unused)
{
    return PyFloat_FromDouble(self->when);
}

static PyMethodDef timer_methods[] = {
    {"when", (PyCFunction)timer_get_when, METH_NOARGS, "The loop time that it is due at, in seconds."},
    {NULL},
};

static PyMemberDef timer_members[] = {
    {"_when", T_DOUBLE, offsetof(TimerHandle, when), READONLY, NULL},
    {NULL},
};

static PyObject *
timer_get_scheduled(TimerHandle *self, void *unused)
{
    return PyBool_FromLong(self->place >= 0);
}

static PyGetSetDef timer_getset[] = {
    {"_scheduled", (getter)timer_get_scheduled, NULL, NULL, NULL},
    {NULL},
};

static PyType_Slot timer_slots[] = {
    {Py_tp_doc, "A callback of a native loop that is due at a time, as asyncio.TimerHandle."},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_clear, handle_clear},
    {Py_tp_methods, timer_methods},
    {Py_tp_members, timer_members},
    {Py_tp_getset, timer_getset},
    {0, NULL},
};

static PyType_Spec timer_spec = {
    .name = "bateau._native.TimerHandle",
    .basicsize = sizeof(TimerHandle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = timer_slots,
};

/* ---- the reactor -------------------------------------------------------------------------------------------------------- */

static uint32_t
entry_wanted(Entry *entry)
{
    return (entry->reader != NULL ? (uint32_t)EPOLLIN : 0) | (entry->writer != NULL ? (uint32_t)EPOLLOUT : 0)
           | entry->stream_mask;
}

static int
tell_epoll(LoopCore *self, int op, int fd, Entry *entry, uint32_t mask)
{
    struct epoll_event event = {.events = mask, .data.u64 = ((uint64_t)entry->generation << 32) | (uint32_t)fd};
    return epoll_ctl(self->epoll_fd, op, fd, &event);
}

static int
open_reactor(LoopCore *self)
{
    self->forks = bateau_forks;
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    self->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = UINT32_MAX};
    if (self->epoll_fd < 0 || self->wake_fd < 0 || epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, self->wake_fd, &event) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

static void
close_reactor_fds(LoopCore *self)
{
    int epoll_fd = self->epoll_fd, wake_fd = self->wake_fd;
    self->epoll_fd = self->wake_fd = -1;
    if (epoll_fd >= 0) {
        close(epoll_fd);
    }
    if (wake_fd >= 0) {
        close(wake_fd);
    }
}

/* Before each use of the epoll set: in a forked child, make one of its own. */
static int
own_reactor(LoopCore *self)
{
    if (self->forks == bateau_forks || self->epoll_fd < 0) {
        return 0;
    }
    close_reactor_fds(self);
    self->polling = self->woken = 0;
    self->poll_now = 1;
    if (open_reactor(self) < 0) {
        close_reactor_fds(self);
        return -1;
    }
    for (int fd = 0; fd < self->entry_count; fd++) {
        Entry *entry = &self->entries[fd];
        if (entry->mask && tell_epoll(self, EPOLL_CTL_ADD, fd, entry, entry->mask) < 0) {
            entry->mask = 0; /* closed in the child */
            self->registered--;
        }
    }
    return 0;
}

/* The entry of a descriptor, made if need be. The pointer is good until anything else is called. */
static Entry *
entry_at(LoopCore *self, int fd)
{
    if (fd >= self->entry_count) {
        if (fcntl(fd, F_GETFD) < 0) { /* no table of gigabytes for a number that is no descriptor */
            PyErr_SetFromErrno(PyExc_OSError);
            return NULL;
        }
        int count = self->entry_count ? self->entry_count : 64;
        while (count <= fd) {
            if (count > INT32_MAX / 2) {
                PyErr_NoMemory();
                return NULL;
            }
            count *= 2;
        }
        Entry *entries = PyMem_Resize(self->entries, Entry, (size_t)count);
        if (entries == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        memset(entries + self->entry_count, 0, sizeof(Entry) * (size_t)(count - self->entry_count));
        self->entries = entries;
        self->entry_count = count;
    }
    return &self->entries[fd];
}

/* epoll has forgotten a descriptor that the table has: it was closed, and its number is another file's now. Take out what was
 * registered for the old one: all but what `keep` names. */
static void
drop_stale(LoopCore *self, int fd, PyObject *keep)
{
    Entry *entry = &self->entries[fd];
    PyObject *stale[3] = {NULL, NULL, NULL};
    if (entry->reader != NULL && entry->reader != keep) {
        stale[0] = entry->reader;
        entry->reader = NULL;
    }
    if (entry->writer != NULL && entry->writer != keep) {
        stale[1] = entry->writer;
        entry->writer = NULL;
    }
    if (entry->stream != NULL && entry->stream != keep) {
        stale[2] = entry->stream;
        entry->stream = NULL;
        entry->stream_mask = 0;
    }
    Py_XDECREF(stale[0]);
    Py_XDECREF(stale[1]);
    Py_XDECREF(stale[2]);
}

/* Bring epoll in line with the entry, of which `fresh` was just put in. On failure the caller takes it out again. */
static int
entry_update(LoopCore *self, int fd, PyObject *fresh)
{
    Entry *entry = &self->entries[fd];
    uint32_t wanted = entry_wanted(entry);
    if (wanted == entry->mask) {
        return 0;
    }
    if (wanted == 0) {
        /* It may be closed already, then epoll has forgotten it by itself. */
        tell_epoll(self, EPOLL_CTL_DEL, fd, entry, 0);
        entry->mask = 0;
        self->registered--;
        return 0;
    }
    self->poll_now = 1;
    if (entry->mask != 0) {
        if (tell_epoll(self, EPOLL_CTL_MOD, fd, entry, wanted) == 0) {
            entry->mask = wanted;
            return 0;
        }
        if (errno != ENOENT || fresh == NULL) {
            goto failed;
        }
        entry->mask = 0;
        self->registered--;
        drop_stale(self, fd, fresh);
        entry = &self->entries[fd];
        wanted = entry_wanted(entry);
        if (entry->mask != 0 || wanted == 0) {
            return 0; /* a destructor has been here meanwhile */
        }
    }
    entry->generation++;
    if (tell_epoll(self, EPOLL_CTL_ADD, fd, entry, wanted) < 0
        && (errno != EEXIST || tell_epoll(self, EPOLL_CTL_MOD, fd, entry, wanted) < 0)) {
        goto failed;
    }
    entry->mask = wanted;
    self->registered++;
    return 0;
failed:
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* As the selectors module reads a file object: ValueError for what is none. */
static int
as_descriptor(PyObject *file)
{
    int fd = PyObject_AsFileDescriptor(file);
    if (fd < 0 && (PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_AttributeError))) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "Invalid file object: %R", file);
    }
    return fd;
}

static int
call_cancel(PyObject *handle)
{
    PyObject *result = PyObject_CallMethodNoArgs(handle, str_cancel);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The value of the one keyword that there may be, `context`; NULL for none and for None. -1: another keyword. */
static int
context_of(PyObject *const *args, Py_ssize_t count, PyObject *names, PyObject **context)
{
    *context = NULL;
    if (names == NULL || PyTuple_GET_SIZE(names) == 0) {
        return 0;
    }
    PyObject *name = PyTuple_GET_ITEM(names, 0);
    if (PyTuple_GET_SIZE(names) != 1 || (name != str_context && PyUnicode_Compare(name, str_context) != 0)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "the only keyword argument is 'context'");
        }
        return -1;
    }
    if (args[count] != Py_None) {
        if (!PyContext_CheckExact(args[count])) {
            PyErr_Format(PyExc_TypeError, "context must be a contextvars.Context, not %.100s", Py_TYPE(args[count])->tp_name);
            return -1;
        }
        *context = args[count];
    }
    return 0;
}

static PyObject *
add_handle(LoopCore *self, PyObject *const *args, Py_ssize_t count, PyObject *names, int writes)
{
    PyObject *context;
    if (context_of(args, count, names, &context) < 0) {
        return NULL;
    }
    if (count < 2) {
        return PyErr_Format(PyExc_TypeError, "expected a file descriptor and a callback");
    }
    if (check_open(self) < 0 || own_reactor(self) < 0) {
        return NULL;
    }
    int fd = as_descriptor(args[0]);
    if (fd < 0) {
        return NULL;
    }
    Handle *handle = handle_new(self, args[1], args + 2, count - 2, context);
    Entry *entry = handle != NULL ? entry_at(self, fd) : NULL;
    if (entry == NULL) {
        Py_XDECREF(handle);
        return NULL;
    }
    PyObject **place = writes ? &entry->writer : &entry->reader;
    PyObject *old = *place;
    *place = Py_NewRef((PyObject *)handle);
    if (entry_update(self, fd, (PyObject *)handle) < 0) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        place = writes ? &self->entries[fd].writer : &self->entries[fd].reader;
        if (*place == (PyObject *)handle) {
            *place = old;
            old = (PyObject *)handle;
        }
        Py_XDECREF(old);
        Py_DECREF(handle);
        PyErr_Restore(type, value, traceback);
        return NULL;
    }
    if (old != NULL) {
        int status = call_cancel(old);
        Py_DECREF(old);
        if (status < 0) {
            Py_DECREF(handle);
            return NULL;
        }
    }
    return (PyObject *)handle;
}

static PyObject *
remove_handle(LoopCore *self, PyObject *file, int writes)
{
    if (self->closed || self->core_closed) {
        Py_RETURN_FALSE;
    }
    if (own_reactor(self) < 0) {
        return NULL;
    }
    int fd = as_descriptor(file);
    if (fd < 0) {
        /* A socket that is closed already: epoll has forgotten it, and so may we. */
        if (!PyLong_Check(file) && PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear();
            Py_RETURN_FALSE;
        }
        return NULL;
    }
    if (fd >= self->entry_count) {
        Py_RETURN_FALSE;
    }
    Entry *entry = &self->entries[fd];
    PyObject **place = writes ? &entry->writer : &entry->reader;
    PyObject *old = *place;
    if (old == NULL) {
        Py_RETURN_FALSE;
    }
    *place = NULL;
    if (entry_update(self, fd, NULL) < 0) {
        PyErr_Clear(); /* the descriptor is gone, so is its registration */
        entry = &self->entries[fd];
        if (entry->mask) {
            entry->mask = 0;
            self->registered--;
        }
    }
    int status = call_cancel(old);
    Py_DECREF(old);
    return status < 0 ? NULL : Py_NewRef(Py_True);
}

/* What a stream wants of its descriptor from now on. 0: nothing, the entry lets go of it (the caller has a reference). */
int
bateau_stream_interest(LoopCore *self, int fd, PyObject *stream, uint32_t mask)
{
    if (self->core_closed) {
        return 0;
    }
    if (own_reactor(self) < 0) {
        return -1;
    }
    Entry *entry = entry_at(self, fd);
    if (entry == NULL) {
        return -1;
    }
    PyObject *old = entry->stream;
    if (mask == 0) {
        if (old != stream) {
            return 0; /* the number is another stream's by now */
        }
        entry->stream = NULL;
    }
    else if (old != stream) {
        entry->stream = Py_NewRef(stream);
    }
    else {
        old = NULL; /* stays */
    }
    entry->stream_mask = mask;
    int status = entry_update(self, fd, mask ? stream : NULL);
    if (status < 0 && mask != 0) {
        entry = &self->entries[fd];
        if (entry->stream == stream) {
            entry->stream = NULL;
            entry->stream_mask = 0;
            if (entry->mask && entry_wanted(entry) == 0) {
                entry->mask = 0;
                self->registered--;
            }
            PyObject *type, *value, *traceback;
            PyErr_Fetch(&type, &value, &traceback);
            Py_DECREF(stream);
            PyErr_Restore(type, value, traceback);
        }
    }
    else if (status < 0) {
        PyErr_Clear(); /* the descriptor is gone */
        status = 0;
    }
    Py_XDECREF(old);
    return status;
}

char *
bateau_receive_buffer(LoopCore *self)
{
    if (self->receive == NULL) {
        self->receive = PyMem_Malloc(RECEIVE_SIZE);
        if (self->receive == NULL) {
            PyErr_NoMemory();
        }
    }
    return self->receive;
}

static void
wake(LoopCore *self)
{
    if ((self->polling || self->embedded) && !self->woken && self->wake_fd >= 0 && self->forks == bateau_forks) {
        uint64_t one = 1;
        self->woken = 1;
        /* Full means awake already. */
        if (write(self->wake_fd, &one, sizeof one) < 0 && errno != EAGAIN) {
            self->woken = 0;
        }
    }
}

/* ---- streams that hold what was written ---------------------------------------------------------------------------------- */

int
bateau_loop_hold(LoopCore *self, PyObject *stream)
{
    if (self->held_count == self->held_capacity) {
        Py_ssize_t capacity = self->held_capacity ? self->held_capacity * 2 : 8;
        PyObject **held = PyMem_Resize(self->held, PyObject *, capacity);
        if (held == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->held = held;
        self->held_capacity = capacity;
    }
    if (self->held_count == 0) {
        self->held_forks = bateau_forks;
    }
    self->held[self->held_count++] = Py_NewRef(stream);
    return 0;
}

int
bateau_loop_forked(LoopCore *self)
{
    return self->held_forks != bateau_forks;
}

int
bateau_loop_holds(LoopCore *self)
{
    return self->holding && (self->held_count == 0 || self->held_forks == bateau_forks);
}

/* The callback has returned, with `status`: send what it has written. */
static int
flush_held(LoopCore *self, int status)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback); /* it may be what ends the loop: all that was written goes out before */
    while (self->held_count) {
        PyObject *stream = self->held[--self->held_count];
        if (bateau_stream_flush(stream) < 0) {
            if (status == 0) {
                status = -1;
                PyErr_Fetch(&type, &value, &traceback);
            }
            else {
                PyErr_Clear(); /* the loop ends by the first */
            }
        }
        Py_DECREF(stream);
    }
    PyErr_Restore(type, value, traceback);
    return status;
}

/* Around each callback: `was` is what `holding` was before, which is not 0 in a loop that runs inside a callback of its own. */
static inline int
callback_returned(LoopCore *self, char was, int status)
{
    if (self->held_count) {
        self->holding = 0; /* what an error's handler writes is sent at once */
        status = flush_held(self, status);
    }
    self->holding = was;
    return status;
}

/* Something is held and nothing has returned: we run inside a callback of ours, and may wait here for the answer to what it wrote. */
static int
send_before_poll(LoopCore *self)
{
    char was = self->holding;
    self->holding = 0;
    int status = flush_held(self, 0);
    self->holding = was;
    return status;
}

/* A reader or writer is ready: queue it, as asyncio's loop does. */
static int
queue_handle(LoopCore *self, int fd, int writes)
{
    Entry *entry = &self->entries[fd];
    PyObject *handle = writes ? entry->writer : entry->reader;
    if (Py_IS_TYPE(handle, handle_type) && ((Handle *)handle)->cancelled) {
        if (writes) {
            entry->writer = NULL;
        }
        else {
            entry->reader = NULL;
        }
        int status = entry_update(self, fd, NULL);
        Py_DECREF(handle);
        return status;
    }
    return ready_push(self, Py_NewRef(handle));
}

/* Wait at most `timeout` milliseconds (-1: for ever) and dispatch. */
static int
poll_once(LoopCore *self, int timeout)
{
    struct epoll_event events[POLL_EVENTS];
    int count;
    self->put_off = 0;
    self->poll_now = 0;
    self->tick = coarse_tick();
    if (self->held_count && send_before_poll(self) < 0) {
        return -1;
    }
    if (own_reactor(self) < 0) {
        return -1;
    }
    int epoll_fd = self->epoll_fd;
    if (timeout == 0) {
        count = epoll_wait(epoll_fd, events, POLL_EVENTS, 0);
    }
    else {
        self->polling = 1;
        Py_BEGIN_ALLOW_THREADS
        count = epoll_wait(epoll_fd, events, POLL_EVENTS, timeout);
        Py_END_ALLOW_THREADS
        self->polling = 0;
    }
    self->events = count > 0 ? count : 0;
    if (count < 0) {
        if (errno == EINTR) {
            return 0;
        }
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    for (int i = 0; i < count; i++) {
        uint32_t what = events[i].events;
        uint64_t data = events[i].data.u64;
        if (data == UINT32_MAX) {
            uint64_t wakes;
            self->woken = 0;
            if (read(self->wake_fd, &wakes, sizeof wakes) < 0 && errno != EAGAIN && errno != EINTR) {
                PyErr_SetFromErrno(PyExc_OSError);
                return -1;
            }
            continue;
        }
        int fd = (int)(uint32_t)data;
        /* Looked up anew after each call: anything may have changed. */
        if (fd >= self->entry_count || self->entries[fd].generation != (uint32_t)(data >> 32) || !self->entries[fd].mask) {
            continue;
        }
        uint32_t readable = what & ~(uint32_t)EPOLLOUT, writable = what & ~(uint32_t)EPOLLIN;
        if (readable && self->entries[fd].reader != NULL && queue_handle(self, fd, 0) < 0) {
            return -1;
        }
        if (writable && self->entries[fd].writer != NULL && queue_handle(self, fd, 1) < 0) {
            return -1;
        }
        Entry *entry = &self->entries[fd];
        uint32_t ready = ((readable ? (uint32_t)EPOLLIN : 0) | (writable ? (uint32_t)EPOLLOUT : 0)) & entry->stream_mask;
        if (ready) {
            PyObject *stream = Py_NewRef(entry->stream);
            char was = self->holding;
            self->holding = 1;
            int status = callback_returned(self, was, bateau_stream_ready(stream, ready));
            if (status < 0) {
                PyObject *type, *value, *traceback;
                PyErr_Fetch(&type, &value, &traceback);
                Py_DECREF(stream);
                PyErr_Restore(type, value, traceback);
                return -1;
            }
            Py_DECREF(stream);
            if (self->core_closed) {
                return 0;
            }
        }
    }
    return 0;
}

#if PY_VERSION_HEX < 0x030C0000
/* ---- the running loop, on Python 3.11 ------------------------------------------------------------------------------------
 *
 * asyncio's `_get_running_loop`, which each wait of its queues, events and locks calls, makes a system call there (getpid, to
 * see a fork; from 3.12 on it does not). `running_loop_getter` gives one that makes none while a loop of ours runs.
 * asyncio keeps the running loop in the thread's dict, in an object made anew each time that it changes: as long as the dict
 * has the object that was there when our run began, and nobody has forked, the answer is ours. Else asyncio's own is asked. */

static LoopCore *marked;
static PyObject *asyncios_getter; /* owned, or NULL until there is a getter of ours */

static void
unmark(LoopCore *self)
{
    PyObject *marker = self->marker;
    if (marker == NULL) {
        return;
    }
    LoopCore **place = &marked;
    while (*place != self) {
        place = &(*place)->next_marked;
    }
    *place = self->next_marked;
    self->next_marked = NULL;
    self->marker = NULL;
    Py_DECREF(marker); /* it refers to us, and the collector doesn't see that */
}

/* A run begins: remember what says that we are this thread's loop. */
static void
mark(LoopCore *self)
{
    PyObject *dict = asyncios_getter != NULL ? PyThreadState_GetDict() : NULL;
    PyObject *running = dict != NULL ? PyObject_CallNoArgs(asyncios_getter) : NULL;
    PyObject *marker = running == (PyObject *)self ? PyDict_GetItemWithError(dict, str_running) : NULL;
    Py_XDECREF(running);
    if (marker == NULL) {
        PyErr_Clear(); /* driven by hand inside another loop's run, say: asyncio is asked each time */
        return;
    }
    self->marker = Py_NewRef(marker);
    self->marker_forks = bateau_forks;
    self->next_marked = marked;
    marked = self;
}

/* `original`: asyncio's own, which is this function's self. */
static PyObject *
get_running_loop(PyObject *original, PyObject *unused)
{
    PyObject *dict = marked != NULL ? PyThreadState_GetDict() : NULL;
    if (dict != NULL) {
        PyObject *marker = PyDict_GetItemWithError(dict, str_running);
        if (marker == NULL && PyErr_Occurred()) {
            return NULL;
        }
        for (LoopCore *loop = marked; loop != NULL; loop = loop->next_marked) {
            if (loop->marker == marker && loop->marker_forks == bateau_forks) {
                return Py_NewRef((PyObject *)loop);
            }
        }
    }
    return PyObject_CallNoArgs(original);
}

static PyMethodDef get_running_loop_def = {
    "_get_running_loop", get_running_loop, METH_NOARGS, "The running loop of this thread, or None: as asyncio's own."};

static PyObject *
running_loop_getter(PyObject *module, PyObject *original)
{
    if (asyncios_getter == NULL) {
        asyncios_getter = Py_NewRef(original);
    }
    return PyCFunction_New(&get_running_loop_def, original);
}
#endif

/* ---- one iteration ------------------------------------------------------------------------------------------------------ */

static int
poll_timeout(LoopCore *self)
{
    if (self->ready_count || self->stopping) {
        return 0;
    }
    if (self->timer_count) {
        double left = (self->timers[0]->when - monotonic()) * 1000.0;
        return left <= 0 ? 0 : left >= LONGEST_POLL ? LONGEST_POLL : (int)ceil(left);
    }
    return -1;
}

/* Run an entry of the ready queue, whose reference is ours. */
static int
run_entry(LoopCore *self, PyObject *item)
{
    int status = 0;
    if (self->debug) {
        PyObject *result = PyObject_CallMethodOneArg((PyObject *)self, str__debug_run, item);
        status = result == NULL ? -1 : 0;
        Py_XDECREF(result);
    }
    else if (Py_IS_TYPE(item, handle_type) || Py_IS_TYPE(item, timer_type)) {
        if (!((Handle *)item)->cancelled) {
            status = handle_run((Handle *)item);
        }
        if (status == 0) {
            handle_release(self, (Handle *)item);
            return 0;
        }
    }
    else { /* an asyncio.Handle: a signal's */
        PyObject *cancelled = PyObject_GetAttr(item, str__cancelled);
        int skip = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
        Py_XDECREF(cancelled);
        PyObject *result = skip == 0 ? PyObject_CallMethodNoArgs(item, str__run) : NULL;
        status = skip < 0 || (skip == 0 && result == NULL) ? -1 : 0;
        Py_XDECREF(result);
    }
    if (status < 0) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        Py_DECREF(item);
        PyErr_Restore(type, value, traceback);
    }
    else {
        Py_DECREF(item);
    }
    return status;
}

static int
run_ready(LoopCore *self, PyObject *item)
{
    char was = self->holding;
    self->holding = 1;
    return callback_returned(self, was, run_entry(self, item));
}

/* Queue what is due, then run what is queued by now. */
static int
run_what_is_ready(LoopCore *self)
{
    if (self->timer_count) {
        double due = monotonic() + 1e-9;
        while (self->timer_count && self->timers[0]->when < due) {
            TimerHandle *timer = self->timers[0];
            timer_take_out(self, timer);
            if (ready_push(self, (PyObject *)timer) < 0) {
                return -1;
            }
        }
    }
    for (size_t left = self->ready_count; left > 0 && self->ready_count > 0; left--) {
        self->put_off++;
        if (run_ready(self, ready_pop(self)) < 0) {
            return -1;
        }
    }
    return 0;
}

int
bateau_core_wants_poll(LoopCore *self)
{
    return self->poll_now || self->put_off >= POLL_EVERY || self->stopping || !self->ready_count || self->tick != coarse_tick();
}

static int
run_iteration(LoopCore *self)
{
    int timeout = poll_timeout(self);
    if (timeout != 0 || bateau_core_wants_poll(self)) {
        if (poll_once(self, timeout) < 0 || PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
    return run_what_is_ready(self);
}

double
bateau_core_rest(LoopCore *self)
{
    if (self->ready_count) {
        return 0;
    }
    if (self->timer_count) {
        double left = self->timers[0]->when - monotonic();
        return left > 0 ? left : 0;
    }
    return -1;
}

int
bateau_core_round(LoopCore *self, int polled)
{
    if (check_open(self) < 0) {
        return -1;
    }
    if (polled > 0) {
        if (poll_once(self, 0) < 0) {
            return -1;
        }
    } else if (polled == 0) { /* the other reactor's poll was ours as well */
        self->put_off = 0;
        self->poll_now = 0;
        self->tick = coarse_tick();
    }
    return PyErr_CheckSignals() < 0 ? -1 : run_what_is_ready(self);
}

/* The descriptor that tells another's reactor when one of ours is ready. From now on that one blocks, never we. */
static PyObject *
core_embed(LoopCore *self, PyObject *unused)
{
    if (check_open(self) < 0 || own_reactor(self) < 0) {
        return NULL;
    }
    self->embedded = 1;
    return PyLong_FromLong(self->epoll_fd);
}

/* `BaseEventLoop.run_forever` calls it until `_stopping`. While it does, we stay here until then; called by itself, it is one
 * iteration. */
static PyObject *
core_run_once(LoopCore *self, PyObject *unused)
{
    if (check_open(self) < 0) {
        return NULL;
    }
    Py_INCREF(self);
#if PY_VERSION_HEX < 0x030C0000
    if (self->thread_id != NULL && self->marker == NULL) {
        mark(self);
    }
#endif
    int status;
    do {
        status = run_iteration(self);
    } while (status == 0 && !self->stopping && self->thread_id != NULL && !self->closed && !self->core_closed);
    Py_DECREF(self);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- scheduling: asyncio's methods --------------------------------------------------------------------------------------- */

/* In debug mode: refuse what asyncio refuses, from the thread that it refuses. */
static int
debug_check(LoopCore *self, PyObject *callback, const char *method)
{
    PyObject *name = PyUnicode_FromString(method);
    PyObject *result =
        name != NULL ? PyObject_CallMethodObjArgs((PyObject *)self, str__debug_check, callback, name, NULL) : NULL;
    Py_XDECREF(name);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
debug_handle(LoopCore *self, PyObject *handle)
{
    PyObject *result = PyObject_CallMethodOneArg((PyObject *)self, str__debug_handle, handle);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static PyObject *
schedule(LoopCore *self, PyObject *const *args, Py_ssize_t count, PyObject *names, const char *method)
{
    PyObject *context;
    if (count < 1) {
        return PyErr_Format(PyExc_TypeError, "%s() missing 1 required positional argument: 'callback'", method);
    }
    if (check_open(self) < 0 || context_of(args, count, names, &context) < 0) {
        return NULL;
    }
    if (self->debug && debug_check(self, args[0], method) < 0) {
        return NULL;
    }
    Handle *handle = handle_new(self, args[0], args + 1, count - 1, context);
    if (handle == NULL) {
        return NULL;
    }
    if ((self->debug && debug_handle(self, (PyObject *)handle) < 0) || ready_push(self, Py_NewRef((PyObject *)handle)) < 0) {
        Py_DECREF(handle);
        return NULL;
    }
    return (PyObject *)handle;
}

static PyObject *
core_call_soon(LoopCore *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return schedule(self, args, count, names, "call_soon");
}

static PyObject *
core_call_soon_threadsafe(LoopCore *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *handle = schedule(self, args, count, names, "call_soon_threadsafe");
    if (handle != NULL) {
        wake(self);
    }
    return handle;
}

static PyObject *
schedule_at(LoopCore *self, double when, PyObject *const *args, Py_ssize_t count, PyObject *names, const char *method)
{
    PyObject *context;
    if (check_open(self) < 0 || context_of(args, count, names, &context) < 0) {
        return NULL;
    }
    if (self->debug && debug_check(self, args[1], method) < 0) {
        return NULL;
    }
    if (isnan(when)) {
        PyErr_SetString(PyExc_ValueError, "a time must be a number, not NaN");
        return NULL;
    }
    TimerHandle *timer = (TimerHandle *)timer_type->tp_alloc(timer_type, 0);
    if (timer == NULL) {
        return NULL;
    }
    timer->place = -1;
    timer->when = when;
    if (handle_fill(&timer->base, self, args[1], args + 2, count - 2, context) < 0
        || (self->debug && debug_handle(self, (PyObject *)timer) < 0) || timer_enter(self, timer) < 0) {
        Py_DECREF(timer);
        return NULL;
    }
    return (PyObject *)timer;
}

static int
seconds(PyObject *value, const char *name, double *result)
{
    if (value == Py_None) {
        PyErr_Format(PyExc_TypeError, "%s must not be None", name);
        return -1;
    }
    *result = PyFloat_AsDouble(value);
    return *result == -1.0 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *
core_call_at(LoopCore *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    double when;
    if (count < 2) {
        return PyErr_Format(PyExc_TypeError, "call_at() needs a time and a callback");
    }
    return seconds(args[0], "when", &when) < 0 ? NULL : schedule_at(self, when, args, count, names, "call_at");
}

static PyObject *
core_call_later(LoopCore *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    double delay;
    if (count < 2) {
        return PyErr_Format(PyExc_TypeError, "call_later() needs a delay and a callback");
    }
    return seconds(args[0], "delay", &delay) < 0
               ? NULL
               : schedule_at(self, monotonic() + delay, args, count, names, "call_later");
}

static PyObject *
core_time(LoopCore *self, PyObject *unused)
{
    return PyFloat_FromDouble(monotonic());
}

static PyObject *
core_get_debug(LoopCore *self, PyObject *unused)
{
    return PyBool_FromLong(self->debug);
}

/* asyncio.Future(loop=self), without a tuple and a dict made for each: the ones that its __init__ reads are always the same. */
static PyObject *
core_create_future(LoopCore *self, PyObject *unused)
{
    static PyObject *no_args;
    if (self->future_type == NULL || !PyType_Check(self->future_type) || ((PyTypeObject *)self->future_type)->tp_new == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the loop was not initialized");
        return NULL;
    }
    if (no_args == NULL && (no_args = PyTuple_New(0)) == NULL) {
        return NULL;
    }
    if (self->future_kwargs == NULL) {
        self->future_kwargs = Py_BuildValue("{OO}", str_loop, self);
        if (self->future_kwargs == NULL) {
            return NULL;
        }
    }
    PyTypeObject *type = (PyTypeObject *)self->future_type;
    PyObject *future = type->tp_new(type, no_args, NULL);
    if (future != NULL && type->tp_init(future, no_args, self->future_kwargs) < 0) {
        Py_CLEAR(future);
    }
    return future;
}

static PyObject *
core_add_reader(LoopCore *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return add_handle(self, args, count, names, 0);
}

static PyObject *
core_add_writer(LoopCore *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return add_handle(self, args, count, names, 1);
}

static PyObject *
core_remove_reader(LoopCore *self, PyObject *file)
{
    return remove_handle(self, file, 0);
}

static PyObject *
core_remove_writer(LoopCore *self, PyObject *file)
{
    return remove_handle(self, file, 1);
}

static PyObject *
core_add_callback(LoopCore *self, PyObject *handle)
{
    if (check_open(self) < 0 || ready_push(self, Py_NewRef(handle)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
core_write_to_self(LoopCore *self, PyObject *unused)
{
    wake(self);
    Py_RETURN_NONE;
}

static PyObject *
core_timer_handle_cancelled(LoopCore *self, PyObject *unused)
{
    Py_RETURN_NONE; /* asyncio's loop counts those that it has still in its heap; there are none here */
}

/* What epoll was told about a descriptor, in the selectors module's terms. */
static PyObject *
core_registered(LoopCore *self, PyObject *arg)
{
    int fd = as_descriptor(arg);
    if (fd < 0) {
        return NULL;
    }
    uint32_t mask = fd < self->entry_count ? self->entries[fd].mask : 0;
    return PyLong_FromLong((mask & EPOLLIN ? 1 : 0) | (mask & EPOLLOUT ? 2 : 0));
}

static PyObject *
core_descriptors(LoopCore *self, PyObject *unused)
{
    PyObject *found = PyList_New(0);
    for (int fd = 0; found != NULL && fd < self->entry_count; fd++) {
        if (self->entries[fd].mask) {
            PyObject *number = PyLong_FromLong(fd);
            if (number == NULL || PyList_Append(found, number) < 0) {
                Py_CLEAR(found);
            }
            Py_XDECREF(number);
        }
    }
    return found;
}

/* ---- the object --------------------------------------------------------------------------------------------------------- */

static int
core_clear(LoopCore *self)
{
    while (self->ready_count) {
        PyObject *item = ready_pop(self);
        Py_DECREF(item);
    }
    while (self->held_count) {
        PyObject *stream = self->held[--self->held_count];
        Py_DECREF(stream);
    }
    while (self->timer_count) {
        TimerHandle *timer = self->timers[self->timer_count - 1];
        timer_take_out(self, timer);
        Py_DECREF(timer);
    }
    for (int fd = 0; fd < self->entry_count; fd++) {
        Entry entry = self->entries[fd];
        self->entries[fd] = (Entry){.generation = entry.generation + 1};
        if (entry.mask) {
            self->registered--;
        }
        Py_XDECREF(entry.reader);
        Py_XDECREF(entry.writer);
        Py_XDECREF(entry.stream);
    }
    while (self->spare_count) {
        Handle *spare = self->spare[--self->spare_count];
        Py_DECREF(spare);
    }
#if PY_VERSION_HEX < 0x030C0000
    unmark(self);
#endif
    Py_CLEAR(self->thread_id);
    Py_CLEAR(self->future_kwargs); /* it refers to us */
    return 0;
}

/* The end of its reactor and of all that waits in it; the loop can't be used again. */
static PyObject *
core_close(LoopCore *self, PyObject *unused)
{
    if (!self->core_closed) {
        self->core_closed = 1;
        close_reactor_fds(self);
        core_clear(self);
        char *receive = self->receive;
        self->receive = NULL;
        PyMem_Free(receive);
    }
    Py_RETURN_NONE;
}

static int
core_gc_clear(LoopCore *self)
{
    self->core_closed = 1;
    core_clear(self);
    Py_CLEAR(self->future_type);
    Py_CLEAR(self->future_kwargs);
    return 0;
}

static int
core_traverse(LoopCore *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (size_t i = 0; i < self->ready_count; i++) {
        Py_VISIT(self->ready[(self->ready_head + i) & (self->ready_capacity - 1)]);
    }
    for (Py_ssize_t i = 0; i < self->timer_count; i++) {
        Py_VISIT(self->timers[i]);
    }
    for (Py_ssize_t i = 0; i < self->held_count; i++) {
        Py_VISIT(self->held[i]);
    }
    for (int fd = 0; fd < self->entry_count; fd++) {
        Py_VISIT(self->entries[fd].reader);
        Py_VISIT(self->entries[fd].writer);
        Py_VISIT(self->entries[fd].stream);
    }
    for (int i = 0; i < self->spare_count; i++) {
        Py_VISIT(self->spare[i]);
    }
    Py_VISIT(self->thread_id);
    Py_VISIT(self->future_type);
    Py_VISIT(self->future_kwargs);
    return 0;
}

static void
core_dealloc(LoopCore *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    core_gc_clear(self);
    close_reactor_fds(self);
    PyMem_Free(self->ready);
    PyMem_Free(self->timers);
    PyMem_Free(self->entries);
    PyMem_Free(self->held);
    PyMem_Free(self->receive);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
core_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    LoopCore *self = (LoopCore *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->epoll_fd = self->wake_fd = -1;
    if (open_reactor(self) < 0) {
        self->closed = self->core_closed = 1; /* BaseEventLoop.__del__ need not close what never was */
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        Py_DECREF(self);
        PyErr_Restore(type, value, traceback);
        return NULL;
    }
    return (PyObject *)self;
}

static PyObject *
core_get_flag(LoopCore *self, void *offset)
{
    return PyBool_FromLong(*((char *)self + (size_t)offset));
}

static int
core_set_flag(LoopCore *self, PyObject *value, void *offset)
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    if (truth < 0) {
        return -1;
    }
    *((char *)self + (size_t)offset) = (char)truth;
    return 0;
}

static PyObject *
core_get_thread_id(LoopCore *self, void *unused)
{
    return Py_NewRef(self->thread_id != NULL ? self->thread_id : Py_None);
}

static int
core_set_thread_id(LoopCore *self, PyObject *value, void *unused)
{
    self->poll_now = 1; /* a run begins with a poll */
#if PY_VERSION_HEX < 0x030C0000
    unmark(self); /* the run is over, or has not begun */
#endif
    PyObject *old = self->thread_id;
    self->thread_id = value == Py_None ? NULL : value;
    Py_XINCREF(self->thread_id);
    Py_XDECREF(old);
    return 0;
}

/* A picture of the queue for whoever looks: changing the list changes nothing. */
static PyObject *
core_get_ready(LoopCore *self, void *unused)
{
    PyObject *list = NULL;
    do { /* making it may run the collector, and that finalisers, which call call_soon */
        Py_XDECREF(list);
        list = PyList_New((Py_ssize_t)self->ready_count);
    } while (list != NULL && PyList_GET_SIZE(list) != (Py_ssize_t)self->ready_count);
    if (list != NULL) {
        for (size_t i = 0; i < self->ready_count; i++) {
            PyObject *item = self->ready[(self->ready_head + i) & (self->ready_capacity - 1)];
            PyList_SET_ITEM(list, (Py_ssize_t)i, Py_NewRef(item));
        }
    }
    return list;
}

static PyObject *
core_get_scheduled(LoopCore *self, void *unused)
{
    PyObject *list = NULL;
    do { /* as above */
        Py_XDECREF(list);
        list = PyList_New(self->timer_count);
    } while (list != NULL && PyList_GET_SIZE(list) != self->timer_count);
    if (list != NULL) {
        for (Py_ssize_t i = 0; i < self->timer_count; i++) {
            PyList_SET_ITEM(list, i, Py_NewRef((PyObject *)self->timers[i]));
        }
    }
    return list;
}

/* BaseEventLoop.__init__ makes containers that nobody uses here. */
static int
core_set_nothing(LoopCore *self, PyObject *value, void *unused)
{
    return 0;
}

static PyMethodDef core_methods[] = {
    {"call_soon", (PyCFunction)(void (*)(void))core_call_soon, METH_FASTCALL | METH_KEYWORDS,
     "Call callback(*args) in the next iteration of the loop."},
    {"call_soon_threadsafe", (PyCFunction)(void (*)(void))core_call_soon_threadsafe, METH_FASTCALL | METH_KEYWORDS,
     "As call_soon, from any thread."},
    {"call_at", (PyCFunction)(void (*)(void))core_call_at, METH_FASTCALL | METH_KEYWORDS,
     "Call callback(*args) at a time of this loop's clock, in seconds."},
    {"call_later", (PyCFunction)(void (*)(void))core_call_later, METH_FASTCALL | METH_KEYWORDS,
     "Call callback(*args) after a delay in seconds."},
    {"time", (PyCFunction)core_time, METH_NOARGS, "The loop's clock: monotonic, in seconds."},
    {"get_debug", (PyCFunction)core_get_debug, METH_NOARGS, "Whether the loop is in debug mode."},
    {"create_future", (PyCFunction)core_create_future, METH_NOARGS, "Make an asyncio.Future of this loop."},
    {"_run_once", (PyCFunction)core_run_once, METH_NOARGS, NULL},
    {"_add_reader", (PyCFunction)(void (*)(void))core_add_reader, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_add_writer", (PyCFunction)(void (*)(void))core_add_writer, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_remove_reader", (PyCFunction)core_remove_reader, METH_O, NULL},
    {"_remove_writer", (PyCFunction)core_remove_writer, METH_O, NULL},
    {"_add_callback", (PyCFunction)core_add_callback, METH_O, NULL},
    {"_write_to_self", (PyCFunction)core_write_to_self, METH_NOARGS, NULL},
    {"_timer_handle_cancelled", (PyCFunction)core_timer_handle_cancelled, METH_O, NULL},
    {"_core_registered", (PyCFunction)core_registered, METH_O, NULL},
    {"_core_descriptors", (PyCFunction)core_descriptors, METH_NOARGS, NULL},
    {"_core_embed", (PyCFunction)core_embed, METH_NOARGS, NULL},
    {"_core_close", (PyCFunction)core_close, METH_NOARGS, NULL},
    {NULL},
};

static PyMemberDef core_members[] = {
    {"_core_future_type", T_OBJECT, offsetof(LoopCore, future_type), 0, NULL},
    {NULL},
};

static PyGetSetDef core_getset[] = {
    {"_stopping", (getter)core_get_flag, (setter)core_set_flag, NULL, (void *)offsetof(LoopCore, stopping)},
    {"_debug", (getter)core_get_flag, (setter)core_set_flag, NULL, (void *)offsetof(LoopCore, debug)},
    {"_closed", (getter)core_get_flag, (setter)core_set_flag, NULL, (void *)offsetof(LoopCore, closed)},
    {"_thread_id", (getter)core_get_thread_id, (setter)core_set_thread_id, NULL, NULL},
    {"_ready", (getter)core_get_ready, (setter)core_set_nothing, NULL, NULL},
    {"_scheduled", (getter)core_get_scheduled, (setter)core_set_nothing, NULL, NULL},
    {NULL},
};

static PyType_Slot core_slots[] = {
    {Py_tp_doc, "The hot half of bateau.interop.asyncio's loop."},
    {Py_tp_new, core_new},
    {Py_tp_dealloc, core_dealloc},
    {Py_tp_traverse, core_traverse},
    {Py_tp_clear, core_gc_clear},
    {Py_tp_methods, core_methods},
    {Py_tp_members, core_members},
    {Py_tp_getset, core_getset},
    {0, NULL},
};

static PyType_Spec core_spec = {
    .name = "bateau._native.LoopCore",
    .basicsize = sizeof(LoopCore),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = core_slots,
};

static int
intern(PyObject **place, const char *text)
{
    if (*place == NULL) {
        *place = PyUnicode_InternFromString(text);
    }
    return *place == NULL ? -1 : 0;
}

static int
make_types(void)
{
    if (bateau_loop_core_type != NULL) {
        return 0;
    }
    if (intern(&str_context, "context") < 0 || intern(&str_loop, "loop") < 0 || intern(&str__run, "_run") < 0
        || intern(&str__cancelled, "_cancelled") < 0 || intern(&str_cancel, "cancel") < 0
        || intern(&str__callback_failed, "_callback_failed") < 0 || intern(&str__debug_check, "_debug_check") < 0
        || intern(&str_running, "__asyncio_running_event_loop__") < 0 || intern(&str__debug_handle, "_debug_handle") < 0 || intern(&str__debug_run, "_debug_run") < 0) {
        return -1;
    }
    handle_type = (PyTypeObject *)PyType_FromSpec(&handle_spec);
    if (handle_type == NULL) {
        return -1;
    }
    timer_type = (PyTypeObject *)PyType_FromSpecWithBases(&timer_spec, (PyObject *)handle_type);
    if (timer_type == NULL) {
        return -1;
    }
    int error = pthread_atfork(NULL, NULL, in_forked_child);
    if (error) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    bateau_loop_core_type = (PyTypeObject *)PyType_FromSpec(&core_spec);
    return bateau_loop_core_type == NULL ? -1 : 0;
}

#if PY_VERSION_HEX < 0x030C0000
static PyMethodDef module_methods[] = {
    {"running_loop_getter", running_loop_getter, METH_O, NULL},
    {NULL},
};
#endif

int
bateau_loop_exec(PyObject *module)
{
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "bateau._native works in the main interpreter only; here bateau is pure Python");
        return -1;
    }
    if (make_types() < 0 || PyModule_AddObjectRef(module, "LoopCore", (PyObject *)bateau_loop_core_type) < 0
        || PyModule_AddObjectRef(module, "Handle", (PyObject *)handle_type) < 0
        || PyModule_AddObjectRef(module, "TimerHandle", (PyObject *)timer_type) < 0) {
        return -1;
    }
#if PY_VERSION_HEX < 0x030C0000
    if (PyModule_AddFunctions(module, module_methods) < 0) {
        return -1;
    }
#endif
    return bateau_stream_exec(module);
}
#endif
