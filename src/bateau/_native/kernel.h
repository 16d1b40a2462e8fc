/* What the files of the kernel's twin share: the structs, the functions kept from Python, and small helpers.

   Theory of operation. `bateau.kernel` in pure Python defines the behaviour. Each hot class there has a C base here (its
   *fields*) which gives its instances a struct instead of slots, under the same attribute names, and takes the place of
   some of its methods (`@twinned` in kernel/twin.py). A method here acts only in the common case: a task of a *plain*
   engine (one whose `ready` is our Ring, see engine.c), nothing cancelled, step budget left. For everything else it calls
   the pure method, which it keeps in `kept[]`. So a case that is not handled here is slower, never different.

   Ownership. Every PyObject* in a struct is a strong reference or NULL, and NULL reads as None from Python. The exceptions
   say so beside the field (the links of a WaitQueue). A field is replaced by Py_XSETREF or `put`, which drop the old value
   last, because a finaliser may run any code. A borrowed reference is never held over a call that can run Python code
   unless something on the C stack owns it; functions that get arguments may rely on their caller for that.

   All types are static, and their state is the process's: the module refuses a second interpreter and a second kernel
   (`claim`), and the GIL is what it relies on (a free-threaded build turns it on for this module). */
#ifndef BATEAU_KERNEL_H
#define BATEAU_KERNEL_H

#include "native.h"
#include <stddef.h>
#include <structmember.h>

/* -- compatibility: 3.11 to 3.15 ------------------------------------------------------------------------------------ */

#ifndef Py_T_INT
#define Py_T_INT T_INT
#define Py_T_UINT T_UINT
#define Py_T_LONGLONG T_LONGLONG
#define Py_T_ULONG T_ULONG
#define Py_T_BOOL T_BOOL
#define Py_T_BYTE T_BYTE
#define Py_T_DOUBLE T_DOUBLE
#define Py_T_PYSSIZET T_PYSSIZET
#define Py_T_OBJECT_EX T_OBJECT_EX
#define Py_READONLY READONLY
#endif
#ifndef _Py_T_OBJECT
#define _Py_T_OBJECT T_OBJECT
#endif

/* Take the current exception, normalized, with its traceback. A new reference; never NULL when an error is set. */
static inline PyObject *
take_raised(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb != NULL && value != NULL) {
        PyException_SetTraceback(value, tb);
    }
    Py_XDECREF(type);
    Py_XDECREF(tb);
    return value;
#endif
}

/* Raise `error` (stolen) as it is, with the traceback that it has. */
static inline void
put_raised(PyObject *error)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(error);
#else
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error, PyException_GetTraceback(error));
#endif
}

/* Replace an owned field by a new reference of `value` (which may be NULL); the old value goes last. */
static inline void
put_field(PyObject **field, PyObject *value)
{
    PyObject *old = *field;
    Py_XINCREF(value);
    *field = value;
    Py_XDECREF(old);
}
#define put(field, value) put_field(&(field), (PyObject *)(value))

/* Fields that Python code sets to None hold Py_None, those never set NULL: both mean None. */
#define is_set(field) ((field) != NULL && (PyObject *)(field) != Py_None)

/* For what is nearly always so. */
#define LIKELY(condition) __builtin_expect(!!(condition), 1)

int is_a_unseen(PyObject *object, PyTypeObject *type, PyTypeObject **seen);

/* PyObject_TypeCheck that remembers the class it saw last. `seen` owns that class, so that no other can come to its address. */
static inline int
is_a(PyObject *object, PyTypeObject *type, PyTypeObject **seen)
{
    return LIKELY(Py_TYPE(object) == *seen) || is_a_unseen(object, type, seen);
}

/* -- the structs ---------------------------------------------------------------------------------------------------- */

/* bateau.kernel.current.Running: what runs on one thread. */
typedef struct {
    PyObject_HEAD
    PyObject *task;
    /* Borrowed: `task`, while a plain engine's own turn resumes its coroutine, and NULL else. Whoever finds it equal to `task` knows
       what he needs not ask: that it is a task, of a plain engine. */
    struct Task *stepped;
    unsigned long maker; /* the thread it is of */
} Running;

#define NODE_OBJECTS(X) X(parent) X(children) X(task) X(record) X(effective) X(stopping)

/* bateau.kernel.cancellation.CancelNode. */
typedef struct Node {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *parent, *children, *task, *record, *stopping;
    /* Its place among its parent's children. Borrowed, all three: that Children owns the nodes in it (see children.c). */
    struct Node *before, *after;
    struct Children *among;
    PyObject *effective; /* last: each step of a task reads it, and what a step reads lies together (see Task) */
} Node;

/* What `children` of a node is: an insertion-ordered set of nodes, with the part of a dictionary's interface that is used. */
typedef struct Children {
    PyObject_HEAD
    Node *first, *last; /* owned, with all that are between them */
    Py_ssize_t size;
} Children;

#define CANCELLABLE_OBJECTS(X) X(deadline_at) X(host_data) X(on_stop_calls) X(relative) X(site) X(timer) X(site_code)

typedef struct {
    Node node;
    PyObject *deadline_at, *host_data, *on_stop_calls, *relative, *site, *timer;
    int given;
    char shielded;
    char cancelled_caught;
    char expired; /* of a RaisingTimeout */
    int site_offset;
    PyObject *site_code; /* if set, `site` is worked out from it when somebody asks */
} Cancellable;

#define SCOPE_OBJECTS(X)                                                                                               \
    X(host) X(deferred) X(delayed) X(drain) X(errors) X(queued) X(token) X(cleanup_budget) X(limit) X(name)    \
    X(native) X(policy)

typedef struct {
    Cancellable base;
    PyObject *host;
    PyObject *deferred, *delayed, *drain, *errors, *queued, *token, *cleanup_budget, *limit, *name, *native, *policy;
    Py_ssize_t foreground, background, running;
    char closing;
    char ending;
} Scope;

#define TASK_OBJECTS(X) X(coro) X(context) X(host) X(inner) X(waiting) X(scope) X(name) X(site_code) X(value)

/* What most tasks never have set: each task that has gets one of these with the first of them, and keeps it (task.c). */
#define RARE_OBJECTS(X)                                                                                                \
    X(error) X(extra) X(at_end) X(delivered) X(face) X(guard) X(host_task) X(joiners) X(parked) X(send) X(starting)    \
    X(throwing)

typedef struct {
    PyObject *error, *extra, *at_end, *delivered, *face, *guard, *host_task, *joiners, *parked, *send, *starting,
        *throwing;
} Rare;

typedef struct Task {
    Node node;
    /* What a step reads and writes, with node.effective before it: of a thousand tasks none is in the processor's first cache. */
    PyObject *coro, *context, *host;
    PyObject *inner; /* `node`: the innermost node entered */
    Rare *rare;      /* owned; NULL: none of those fields is set. Read through `rare_of`, set by `put_rare` */
    char scheduled, ended, spawned, /* made by scope_spawn */
        hidden, /* its coroutine and context are out of the collector's lists: see task_hide_parts */
        background, error_seen, foreign, started;
    int budget;
    /* How often it was suspended to let the others run, and how often to wait: both go round. For who looks on (a task that
       seems to run at every look may be polling). */
    unsigned int yields, waits;
    int site_offset;
    /* The rest. */
    PyObject *waiting, *scope, *name, *site_code, *value;
    long long id;
    unsigned int recorder, recorder_slot; /* which flight recorder has it (0: none), and where; see recorder.c */
} Task;

/* A seldom field of a task: borrowed, NULL if it was never set. */
#define rare_of(task, field) ((task)->rare != NULL ? (task)->rare->field : NULL)
#define has_rare(task, field) ((task)->rare != NULL && is_set((task)->rare->field))
/* Set one, to a new reference of `value` (which may be NULL): 0, or -1 with MemoryError. NULL and None are always taken. */
#define put_rare(task, field, value) task_put_rare(task, offsetof(Rare, field), (PyObject *)(value))

#define OPERATION_OBJECTS(X) X(error) X(resource) X(task) X(value) X(watcher) X(sub)

typedef struct Operation {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *error, *resource, *task, *value, *watcher;
    PyObject *sub; /* the pure generator that this operation is left to, once it has begun */
    /* Its place in a WaitQueue. Borrowed, all three: the queue owns the operations in it (see wait.c). */
    struct Operation *before, *after;
    struct WaitQueue *queue;
    char state;
    char phase;
    char guest; /* parked on what the host of a guest gave; see wait.c */
    char bound; /* parked, and not to be taken back any more: see condition.c */
    signed char which; /* of a final class: its number in `known` (see wait.c), else 0 */
    char finalized; /* its finaliser has run, so the collector will not run it again */
    char unshown; /* it is out of the collector's lists; only of a final class, see wait.c */
} Operation;

/* bateau.kernel.resource.WaitQueue: the operations parked on one resource, first in, first out. */
typedef struct WaitQueue {
    PyObject_HEAD
    PyObject *weakrefs;
    Operation *first, *last; /* owned, with all that are between them */
    Py_ssize_t size;
} WaitQueue;

/* The states of kernel/operation.py. */
enum { NEW, PARKED, FIRED, DONE, ABORTED };

/* What the engine's C side knows; the rest of an Engine is in its instance dictionary. */
#define ENGINE_OBJECTS(X)                                                                                              \
    X(ready) X(policy) X(choose) X(on_step) X(on_yield) X(aio) X(roots) X(mid_step) X(postponed)                       \
    X(native_cancelling) X(soon) X(inbox) X(now) X(exact_cancelled_type) X(instrument)                                 \
    X(world) X(process) X(simulated) X(clock) X(stream) X(yields) X(after_step)

typedef struct {
    PyObject_HEAD
    PyObject *ready, *policy, *choose, *on_step, *on_yield, *aio, *roots, *mid_step, *postponed, *native_cancelling,
        *soon, *inbox, *now, *exact_cancelled_type, *instrument;
    /* Of a simulated engine only, see simulated.c: its world, process, reactor and clock, the names of its streams. */
    PyObject *world, *process, *simulated, *clock, *stream, *yields, *after_step;
    struct Timer **heap; /* owned: `timers` of them, the earliest first; see timer.c */
    Py_ssize_t timers, heap_room;
    Py_ssize_t husks; /* how many of the timers were cancelled: only a simulated engine keeps such; see timer.c */
    long long timer_order;
    struct Shared *shared; /* the contexts of those spawned last, borrowed, or NULL; see context.c */
    unsigned long thread_id;
} Engine;

/* A pending call at a point in time. `engine` is borrowed, and NULL unless the timer is in that engine's heap, at `index`.
   `target` is NULL once it was cancelled. */
typedef struct Timer {
    PyObject_HEAD
    Engine *engine;
    Py_ssize_t index;
    double when;
    long long order;
    PyObject *target; /* what to do: a callable, a node that expires, a sleep that is due */
} Timer;

/* A double-ended queue of references. */
typedef struct {
    PyObject_HEAD
    PyObject **items; /* owned: `size` of them from `head` on, round the end */
    Py_ssize_t head, size, room;
    PyObject *weakrefs;
} Ring;

extern PyTypeObject RunningType, NodeType, CancellableType, ScopeType, TaskType, OperationType, EngineType, RingType,
    WaitQueueType, TimerType, ChildrenType;

/* -- what Python gave us -------------------------------------------------------------------------------------------- */

/* Pure functions by name (kernel/twin.py keeps them here) and classes. Set while the kernel is being imported; never
   taken back. Index -> name in kernel.c. */
enum kept_name {
    K_OPERATION_DEL,
    K_OPERATION_AWAIT,
    K_YIELD_AWAIT,
    K_CHECKPOINT_AWAIT,
    K_MAKE_CANCELLED,
    K_THROWN,
    K_TASK_BEGIN,
    K_TASK_FINISH,
    K_SCOPE_SPAWN,
    K_SCOPE_CHILD_ENDED,
    K_ENGINE_TURN,
    K_ENGINE_WAKE,
    K_ENGINE_START,
    K_AS_COROUTINE,
    K_ENGINE_CALL_AT,
    K_ENGINE_TIMEOUT,
    K_ENGINE_RUN_TIMERS,
    K_ENGINE_HAS_TIMER,
    K_CANCEL_SCOPE_ENTER,
    K_CANCEL_SCOPE_EXIT,
    K_TIMEOUT,
    K_FAIL_AFTER,
    K_MOVE_ON_AFTER,
    K_SPREAD,
    K_SLEEP,
    K_SLEEP_AWAIT,
    K_CLOCK,
    K_DELIVER,
    K_CANCELLED,
    K_PACKAGE_DIR,
    K_MONOTONIC,
    K_PARK,
    K_ALL_MUST_SUCCEED,
    K_NOWHERE,
    K_ACQUIRED,
    K_NOTHING,
    K_EVENT_SET,
    K_EVENT_CLEAR,
    K_LOCK_RELEASE,
    K_LOCK_AEXIT,
    K_LOCK_OWNER_ENDED,
    K_SEMAPHORE_RELEASE,
    K_SEMAPHORE_AEXIT,
    K_CONDITION_AWAIT,
    K_CONDITION_REST,
    K_CONDITION_NOTIFY,
    K_CONDITION_NOTIFY_ALL,
    K_CONDITION_AEXIT,
    K_SIDE_READY,
    K_FD_AWAIT,
    K_FD_STOPPED,
    K_REACTOR_IS_AWAITED,
    K_REACTOR_CONTROL,
    K_REACTOR_POLL,
    K_STREAM_READ,
    K_STREAM_READ_POLL,
    K_STREAM_READ_FAILED,
    K_STREAM_READINTO,
    K_STREAM_READINTO_POLL,
    K_STREAM_READINTO_FAILED,
    K_UDP_RECVFROM,
    K_UDP_RECV,
    K_UDP_SEND,
    K_UDP_SENDTO,
    K_UDP_POLL,
    K_UDP_FAILED,
    K_UDP_TRUNCATED,
    K_UDP_SEND_POLL,
    K_UDP_SEND_FAILED,
    K_LISTENER_ACCEPT,
    K_LISTENER_ANEXT,
    K_ACCEPT_POLL,
    K_SOCKET_CLASS,
    K_HELD_SOCKETS,
    K_USER_SITE,
    K_STOPPED,
    K_CLOSED,
    K_CONNECT_POLL,
    K_CONNECT_SOCKET,
    K_CONNECT_BEGUN,
    K_CONNECT_FAILED,
    K_REAL_NUMBER,
    K_SOCKET_NAMES,
    K_SOCKET_DETACH,
    K_STREAM_WRITE,
    K_STREAM_WRITE_POLL,
    K_STREAM_WRITE_FAILED,
    K_SCOPE_ENTER,
    K_SCOPE_EXIT,
    K_SCOPE,
    K_DEFAULT_BUDGET,
    K_SETTLE,
    K_BUF_READ,
    K_BUF_READEXACTLY,
    K_BUF_READLINE,
    K_BUF_READUNTIL,
    K_BUF_WRITE,
    K_BUF_FLUSH,
    K_BUFFERED_FLUSH_REST,
    K_BUFFERED_REFUSED,
    K_BUFFERED_LIMIT,
    K_BUFFERED_SHORT,
    K_BUFFERED_NO_SEPARATOR,
    K_SIM_TURN,
    K_SIM_RUN_AHEAD,
    K_NEXT_TIMER,
    K_LIVE_TIMER,
    K_NEXT_THREAD,
    K_LOOK,
    K_FINDER,
    K_PASSES,
    K_FILE_CALL,
    K_FILE_LATER,
    K_FILE_READ,
    K_FILE_READLINE,
    K_FILE_SEEK,
    K_FILE_TELL,
    K_FILE_READINTO,
    K_FILE_READ1,
    K_FILE_PEEK,
    K_FILE_PREAD,
    K_FILEIO_FILENO,
    K_NOW_READINTO,
    K_NOW_READALL,
    K_NOW_READ,
    K_OS,
    K_PREADV,
    K_COUNT
};
extern PyObject *kept[K_COUNT];

enum known_class {
    C_TASK,
    C_SCOPE,
    C_OPERATION,
    C_ENGINE,
    C_CANCEL_SCOPE,
    C_RAISING_TIMEOUT,
    C_LOCK,
    C_SEMAPHORE,
    C_SIDE,
    C_SOCKET_WATCH,
    /* Those that `finish` has made final; see wait.c. */
    C_YIELD,
    C_CHECKPOINT,
    C_SEND,
    C_RECV,
    C_NEXT,
    C_SLEEP,
    C_EVENT_WAIT,
    C_LOCK_ACQUIRE,
    C_SEMAPHORE_ACQUIRE,
    C_CONDITION_WAIT,
    C_UDP_RECVFROM,
    C_UDP_RECV,
    C_UDP_SEND,
    C_STREAM_READ,
    C_STREAM_READINTO,
    C_STREAM_WRITE,
    C_ACCEPT,
    C_NEXT_CONNECTION,
    C_CONNECT_ONE,
    C_PASSAGE,
    C_JOIN,
    C_NOW_FILE,
    C_BUFFERED_READER,
    C_COUNT
};
extern PyTypeObject *known[C_COUNT];

enum seen_class {
    SEEN_TASK,
    SEEN_ENGINE,
    SEEN_NODE,
    SEEN_SENDER,
    SEEN_RECEIVER,
    SEEN_STATE,
    SEEN_QUEUE,
    SEEN_PLACES,
    SEEN_PLACED,
    SEEN_EVENT,
    SEEN_LOCK,
    SEEN_SEMAPHORE,
    SEEN_CONDITION,
    SEEN_OWNER,
    SEEN_SIDE,
    SEEN_WATCH,
    SEEN_STREAM,
    SEEN_SLOT,
    SEEN_LISTENER,
    SEEN_COUNT
};
extern PyTypeObject *seen[SEEN_COUNT];

/* What this thread runs, or NULL. Borrowed: the thread-local object of kernel/current.py owns it. glibc has room for one pointer of a
   module that is loaded late in each thread's own block, where it is read without a call. */
#ifdef __GLIBC__
#define BATEAU_QUICK_TLS __attribute__((tls_model("initial-exec")))
#else
#define BATEAU_QUICK_TLS
#endif
extern _Thread_local Running *running_here BATEAU_QUICK_TLS;

/* The task that runs on this thread (borrowed), or NULL. */
static inline Task *
running_task(void)
{
    Running *here = running_here;
    return here != NULL && is_set(here->task) && is_a(here->task, &TaskType, &seen[SEEN_TASK]) ? (Task *)here->task : NULL;
}

/* The same, where it is most often one that an engine's own turn resumes. */
static inline Task *
task_of_step(void)
{
    Running *here = running_here;
    if (LIKELY(here != NULL && here->stepped != NULL && (PyObject *)here->stepped == here->task)) {
        return here->stepped;
    }
    return running_task();
}

/* Interned method names. */
#define NAMES(X)                                                                                                       \
    X(_raised) X(_trapped) X(_ended) X(_after_interrupt) X(_turn_by_policy) X(_run_calls) X(_run_timers) X(step)       \
    X(_failed) X(fire) X(claim) X(wake) X(push) X(pop) X(finish) X(child_ended) X(cr_frame) X(_admit) X(ended)         \
    X(throw) X(close) X(send) X(resume_aborted) X(name) X(background) X(priority) X(_timers) X(first_id) \
    X(_expire) X(_due) X(unregister) X(tb_next) X(satisfied) X(_come_home) X(admit) \
    X(shielded) X(heard) X(coro) X(context) X(park) X(end) X(spawn) X(idle) X(instrument) X(owner) X(release) X(turn_to_lock) X(_watch) X(_note_taken)           \
    X(_note_returned) X(__aenter__) X(__aexit__) X(add) X(disarm) X(lone) X(poll) X(register) X(abort)                      \
    X(check_home) X(given_up) X(_nobodys) X(_add) X(read) \
    X(check) X(chance) X(follows) X(only) X(main) X(dead) X(awake)                                                      \
    X(ready) X(pending) X(calls) X(_hot) X(_inbox) X(_soon) X(_attend) X(_note_choice) X(_first_timer) X(before_call)  \
    X(let_time_pass) X(resumed) X(popleft) X(process) X(end_with) X(try_write) X(preadv) X(raw) X(_stream_closed) X(_kind) X(family) X(socket) X(__init__)
#define DECLARE_NAME(n) extern PyObject *str_##n;
NAMES(DECLARE_NAME)
#undef DECLARE_NAME

/* -- the parts ------------------------------------------------------------------------------------------------------ */

int ring_grow(Ring *ring);                  /* 0, or -1 with an exception */
static inline int
ring_push(Ring *ring, PyObject *item) /* 0, or -1 with an exception */
{
    if (ring->size == ring->room && ring_grow(ring) < 0) {
        return -1;
    }
    Py_ssize_t place = ring->head + ring->size++;
    ring->items[place < ring->room ? place : place - ring->room] = Py_NewRef(item);
    return 0;
}
static inline int
ring_push_owned(Ring *ring, PyObject *item) /* the same, of a reference that is handed over */
{
    if (ring->size == ring->room && ring_grow(ring) < 0) {
        Py_DECREF(item);
        return -1;
    }
    Py_ssize_t place = ring->head + ring->size++;
    ring->items[place < ring->room ? place : place - ring->room] = item;
    return 0;
}
static inline PyObject *
ring_shift(Ring *ring) /* the first, handed over; NULL (no exception) if empty */
{
    if (ring->size == 0) {
        return NULL;
    }
    PyObject *item = ring->items[ring->head];
    ring->head = ring->head + 1 < ring->room ? ring->head + 1 : 0;
    ring->size--;
    return item;
}
PyObject *ring_take(Ring *ring, Py_ssize_t index); /* the one there, handed over; NULL (no exception) if there is none */
Ring *ring_new(void);

static inline int
is_plain(Engine *engine)
{
    return engine->ready != NULL && Py_IS_TYPE(engine->ready, &RingType);
}

/* The engine of a task if it is plain (see engine.c), else NULL. Borrowed, no exception. */
static inline Engine *
plain_engine(Task *task)
{
    PyObject *host = task->host;
    if (host == NULL || !is_a(host, &EngineType, &seen[SEEN_ENGINE])) {
        return NULL;
    }
    Engine *engine = (Engine *)host;
    return is_plain(engine) ? engine : NULL;
}

/* Whether a cancellation has reached the block that the task is in. */
static inline int
is_cancelled_inside(Task *task)
{
    return task->inner == NULL || !is_a(task->inner, &NodeType, &seen[SEEN_NODE]) || is_set(((Node *)task->inner)->effective);
}

int task_put_rare(Task *task, size_t field, PyObject *value); /* see put_rare */
int task_wake(Task *task);                             /* host.wake(task) */
/* Tell the engine's instrument, if it has one, of `task` (NULL: of nobody's); see kernel/instrument.py. What it raises is unraisable. */
void engine_observe(Engine *engine, PyObject *event, Task *task);
static inline void
observe(Engine *engine, PyObject *event, Task *task)
{
    if (is_set(engine->instrument)) {
        engine_observe(engine, event, task);
    }
}
int engine_enqueue(Engine *engine, Task *task);        /* make ready; plain engines only */
int task_finish(Task *task, PyObject *value, PyObject *error); /* error: NULL or a cancellation */
Task *task_new(void); /* for scope_spawn: all fields zero, hidden from the collector until it has ended */
void task_hide_parts(Task *task);
void task_track(Task *task);
void task_settle_class(PyTypeObject *type);
int task_begin(Task *task, PyObject *host, PyObject *coro, PyObject *scope, PyObject *name, PyObject *context);
int scope_child_ended(Scope *scope, Task *task);       /* scope.child_ended(task): 0, or -1 with an exception */
int scope_satisfy_drain(Scope *scope);                 /* its last foreground child has ended: 0, or -1 with an exception */
PyObject *scope_aenter(Scope *scope, PyObject *ignored);
PyObject *scope_aexit(Scope *scope, PyObject *const *args, Py_ssize_t nargs);
PyObject *task_await(PyObject *task);
PyObject *task_join(PyObject *task, PyObject *ignored);
int task_tell_joiners(Task *task);                     /* task._tell_joiners() */
int operation_fire(Operation *op, PyObject *value);    /* op.fire(value) */
void operation_show(PyObject *op);                     /* to the collector, if it was kept from it */

int node_join(Node *parent, Node *child); /* parent.children[child] = None: 0, or -1 with an exception */
void node_leave(Node *child);             /* wherever it is; may drop the last reference to it */

#define STEP_BUDGET 64 /* as in kernel/operation.py */
#define TURN_BUDGET 256 /* as in kernel/engine.py */

int engine_now(Engine *engine, double *now);            /* 0, or -1 with an exception */
Timer *engine_set_timer(Engine *engine, double when, PyObject *target); /* a new reference */
void timer_cancel(Timer *timer);
void engine_drop_timers(Engine *engine);
void engine_drop_husks(Engine *engine);                 /* those before the first timer that was not cancelled */
Timer *engine_pop_timer(Engine *engine);                /* the first, which must be there; the heap's reference */
int engine_run_what_is_due(Engine *engine);             /* calls and timers: 0, or -1 with an exception */
int engine_step(Engine *engine, Running *running, PyObject *outer, Task *task); /* one step, in whatever way it needs */

/* The simulator, see simulated.c. */
int simulated_turn(Engine *engine, Running *running, long budget);
int simulated_run_ahead(Engine *engine, Running *running, long budget);
int clock_monotonic(PyObject *clock, double *value);

int kernel_scope_ready(PyObject *module);
int kernel_task_ready(PyObject *module);
int kernel_operation_ready(PyObject *module);
int kernel_engine_ready(PyObject *module);
int kernel_context_ready(PyObject *module);
int kernel_ring_ready(PyObject *module);
int kernel_children_ready(PyObject *module);
int kernel_wait_ready(PyObject *module);
int kernel_timer_ready(PyObject *module);
int kernel_timeout_ready(PyObject *module);
int kernel_block_ready(PyObject *module);
int kernel_join_ready(PyObject *module);
int kernel_sleep_ready(PyObject *module);
int kernel_cancel_ready(PyObject *module);
int kernel_channel_ready(PyObject *module);
int kernel_primitive_ready(PyObject *module);
int kernel_sync_ready(PyObject *module);
int kernel_event_ready(PyObject *module);
int kernel_lock_ready(PyObject *module);
int kernel_semaphore_ready(PyObject *module);
int kernel_condition_ready(PyObject *module);
int kernel_fd_ready(PyObject *module);
int kernel_socket_ready(PyObject *module);
int kernel_udp_ready(PyObject *module);
int kernel_connection_ready(PyObject *module);
int kernel_reactor_ready(PyObject *module);
int kernel_bridge_ready(PyObject *module);
int kernel_call_ready(PyObject *module);
int kernel_buffered_ready(PyObject *module);
int kernel_file_ready(PyObject *module);
int kernel_simulated_ready(PyObject *module);
int kernel_facade_ready(PyObject *module);

/* -- making types --------------------------------------------------------------------------------------------------- */

#define FIELD(struct_, member, name_) {name_, _Py_T_OBJECT, offsetof(struct_, member), 0, NULL}
#define FIELD_SET(struct_, member, name_) {name_, Py_T_OBJECT_EX, offsetof(struct_, member), 0, NULL}
#define FIELD_SEEN(struct_, member, name_) {name_, _Py_T_OBJECT, offsetof(struct_, member), Py_READONLY, NULL}
#define VISIT_FIELD(f) Py_VISIT(self->f);
#define CLEAR_FIELD(f) Py_CLEAR(self->f);
#define NO_OBJECTS(X)

/* traverse and clear of a struct: of its own references, which OBJECTS lists, then of `base`'s, which is its first member (`nothing`: it
   has none). One text for all, so that no type can forget a field in one of the two. `linkage`: static or extern. */
#define COLLECTED(linkage, prefix, Struct, OBJECTS, base)                                                              \
    linkage int prefix##_traverse(Struct *self, visitproc visit, void *arg)                                            \
    {                                                                                                                  \
        OBJECTS(VISIT_FIELD)                                                                                           \
        return base##_traverse((void *)self, visit, arg);                                                              \
    }                                                                                                                  \
    linkage int prefix##_clear(Struct *self)                                                                           \
    {                                                                                                                  \
        OBJECTS(CLEAR_FIELD)                                                                                           \
        return base##_clear((void *)self);                                                                             \
    }

/* dealloc of a struct that can be referred to weakly. Those with a finaliser are bases of classes written in Python, whose own dealloc
   calls that before this; a type that is made of the struct itself, or keeps its freed objects, has a dealloc of its own. */
#define ENDED(linkage, prefix, Struct, weakrefs)                                                                       \
    linkage void prefix##_dealloc(Struct *self)                                                                        \
    {                                                                                                                  \
        PyObject_GC_UnTrack(self);                                                                                     \
        if (self->weakrefs != NULL) {                                                                                  \
            PyObject_ClearWeakRefs((PyObject *)self);                                                                  \
        }                                                                                                              \
        prefix##_clear(self);                                                                                          \
        Py_TYPE(self)->tp_free((PyObject *)self);                                                                      \
    }

/* All three. */
#define OBJECT_METHODS(prefix, Struct, OBJECTS, base, weakrefs)                                                        \
    COLLECTED(static, prefix, Struct, OBJECTS, base)                                                                   \
    ENDED(static, prefix, Struct, weakrefs)

static inline int
nothing_traverse(void *Py_UNUSED(self), visitproc Py_UNUSED(visit), void *Py_UNUSED(arg))
{
    return 0;
}

static inline int
nothing_clear(void *Py_UNUSED(self))
{
    return 0;
}

#endif
