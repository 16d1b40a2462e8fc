/* The twin of bateau.kernel: what Python hands over to it, and what runs on a thread. kernel.h has the theory. */
#include "kernel.h"

/* Raised whenever something agreed with kernel/twin.py changes, so that an old build is not used with new sources. */
#define KERNEL_VERSION 18

PyObject *kept[K_COUNT];
PyTypeObject *known[C_COUNT];
PyTypeObject *seen[SEEN_COUNT];
_Thread_local Running *running_here BATEAU_QUICK_TLS;

static const char *const kept_names[K_COUNT] = {
    [K_OPERATION_DEL] = "Operation.__del__",
    [K_OPERATION_AWAIT] = "operation_await",
    [K_YIELD_AWAIT] = "YieldNow.__await__",
    [K_CHECKPOINT_AWAIT] = "Checkpoint.__await__",
    [K_MAKE_CANCELLED] = "make_cancelled",
    [K_THROWN] = "thrown",
    [K_TASK_BEGIN] = "Task._begin",
    [K_TASK_FINISH] = "Task.finish",
    [K_SCOPE_SPAWN] = "Scope.spawn",
    [K_SCOPE_CHILD_ENDED] = "Scope.child_ended",
    [K_ENGINE_TURN] = "Engine.turn",
    [K_ENGINE_WAKE] = "Engine.wake",
    [K_ENGINE_START] = "Engine.start",
    [K_AS_COROUTINE] = "as_coroutine",
    [K_ENGINE_CALL_AT] = "Engine.call_at",
    [K_ENGINE_TIMEOUT] = "Engine.timeout",
    [K_ENGINE_RUN_TIMERS] = "Engine._run_timers",
    [K_ENGINE_HAS_TIMER] = "Engine._has_timer",
    [K_CANCEL_SCOPE_ENTER] = "CancelScope.__enter__",
    [K_CANCEL_SCOPE_EXIT] = "CancelScope.__exit__",
    [K_TIMEOUT] = "timeout",
    [K_FAIL_AFTER] = "fail_after",
    [K_MOVE_ON_AFTER] = "move_on_after",
    [K_SPREAD] = "spread",
    [K_SLEEP] = "sleep",
    [K_SLEEP_AWAIT] = "Sleep.__await__",
    [K_CLOCK] = "clock",
    [K_DELIVER] = "deliver",
    [K_CANCELLED] = "cancelled",
    [K_PACKAGE_DIR] = "package_dir",
    [K_MONOTONIC] = "monotonic",
    [K_PARK] = "park",
    [K_ALL_MUST_SUCCEED] = "all_must_succeed",
    [K_NOWHERE] = "nowhere",
    [K_ACQUIRED] = "acquired",
    [K_NOTHING] = "nothing",
    [K_EVENT_SET] = "Event.set",
    [K_EVENT_CLEAR] = "Event.clear",
    [K_LOCK_RELEASE] = "Lock.release",
    [K_LOCK_AEXIT] = "Lock.__aexit__",
    [K_LOCK_OWNER_ENDED] = "lock_owner_ended",
    [K_SEMAPHORE_RELEASE] = "Semaphore.release",
    [K_SEMAPHORE_AEXIT] = "Semaphore.__aexit__",
    [K_CONDITION_AWAIT] = "condition wait.__await__",
    [K_CONDITION_REST] = "condition_rest",
    [K_CONDITION_NOTIFY] = "Condition.notify",
    [K_CONDITION_NOTIFY_ALL] = "Condition.notify_all",
    [K_CONDITION_AEXIT] = "Condition.__aexit__",
    [K_SIDE_READY] = "Side.ready",
    [K_FD_AWAIT] = "FdOperation.__await__",
    [K_FD_STOPPED] = "fd_stopped",
    [K_REACTOR_IS_AWAITED] = "reactor_find_awaited",
    [K_REACTOR_CONTROL] = "Reactor._control",
    [K_REACTOR_POLL] = "Reactor.poll",
    [K_STREAM_READ] = "SocketStream.read",
    [K_STREAM_READ_POLL] = "stream_read_poll",
    [K_STREAM_READ_FAILED] = "stream_read_failed",
    [K_STREAM_READINTO] = "SocketStream.readinto",
    [K_STREAM_READINTO_POLL] = "stream_readinto_poll",
    [K_STREAM_READINTO_FAILED] = "stream_readinto_failed",
    [K_UDP_RECVFROM] = "UdpSocket.recvfrom",
    [K_UDP_RECV] = "UdpSocket.recv",
    [K_UDP_SEND] = "UdpSocket.send",
    [K_UDP_SENDTO] = "UdpSocket.sendto",
    [K_UDP_POLL] = "udp_receive_poll",
    [K_UDP_FAILED] = "udp_receive_failed",
    [K_UDP_TRUNCATED] = "udp_truncated",
    [K_UDP_SEND_POLL] = "udp_send_poll",
    [K_UDP_SEND_FAILED] = "udp_send_failed",
    [K_LISTENER_ACCEPT] = "Listener.accept",
    [K_LISTENER_ANEXT] = "Listener.__anext__",
    [K_ACCEPT_POLL] = "accept_poll",
    [K_SOCKET_CLASS] = "socket_class",
    [K_HELD_SOCKETS] = "held_sockets",
    [K_USER_SITE] = "user_site",
    [K_STOPPED] = "stopped",
    [K_CLOSED] = "closed",
    [K_CONNECT_POLL] = "connect_poll",
    [K_CONNECT_SOCKET] = "connect_socket",
    [K_CONNECT_BEGUN] = "connect_begun",
    [K_CONNECT_FAILED] = "connect_failed",
    [K_REAL_NUMBER] = "real_number",
    [K_SOCKET_NAMES] = "names_of_socket",
    [K_SOCKET_DETACH] = "socket_detach",
    [K_STREAM_WRITE] = "SocketStream.write",
    [K_STREAM_WRITE_POLL] = "stream_write_poll",
    [K_STREAM_WRITE_FAILED] = "stream_write_failed",
    [K_SCOPE_ENTER] = "Scope.__aenter__",
    [K_SCOPE_EXIT] = "Scope.__aexit__",
    [K_SCOPE] = "scope",
    [K_DEFAULT_BUDGET] = "default_budget",
    [K_SETTLE] = "settle",
    [K_BUF_READ] = "BufReader.read",
    [K_BUF_READEXACTLY] = "BufReader.readexactly",
    [K_BUF_READLINE] = "BufReader.readline",
    [K_BUF_READUNTIL] = "BufReader.readuntil",
    [K_BUF_WRITE] = "BufWriter.write",
    [K_BUF_FLUSH] = "BufWriter.flush",
    [K_BUFFERED_FLUSH_REST] = "buffered_flush_rest",
    [K_BUFFERED_REFUSED] = "buffered_refused",
    [K_BUFFERED_LIMIT] = "buffered_limit",
    [K_BUFFERED_SHORT] = "buffered_short",
    [K_BUFFERED_NO_SEPARATOR] = "buffered_no_separator",
    [K_SIM_TURN] = "SimEngine.turn",
    [K_SIM_RUN_AHEAD] = "SimEngine._run_ahead",
    [K_NEXT_TIMER] = "Engine._next_timer",
    [K_LIVE_TIMER] = "Engine._live_timer",
    [K_NEXT_THREAD] = "World.next_thread",
    [K_LOOK] = "World.look",
    [K_FINDER] = "finder",
    [K_PASSES] = "passes",
    [K_FILE_CALL] = "file_call",
    [K_FILE_LATER] = "file_later",
    [K_FILE_READ] = "AsyncFile.read",
    [K_FILE_READLINE] = "AsyncFile.readline",
    [K_FILE_SEEK] = "AsyncFile.seek",
    [K_FILE_TELL] = "AsyncFile.tell",
    [K_FILE_READINTO] = "BinaryFile.readinto",
    [K_FILE_READ1] = "BinaryFile.read1",
    [K_FILE_PEEK] = "BinaryFile.peek",
    [K_FILE_PREAD] = "BinaryFile.pread",
    [K_FILEIO_FILENO] = "fileio_fileno",
    [K_NOW_READINTO] = "NowFile.readinto",
    [K_NOW_READALL] = "NowFile.readall",
    [K_NOW_READ] = "NowFile.read",
    [K_OS] = "names_of_os",
    [K_PREADV] = "preadv",
};

static const char *const known_names[C_COUNT] = {
    [C_TASK] = "Task",
    [C_SCOPE] = "Scope",
    [C_OPERATION] = "Operation",
    [C_ENGINE] = "Engine",
    [C_CANCEL_SCOPE] = "CancelScope",
    [C_RAISING_TIMEOUT] = "RaisingTimeout",
    [C_LOCK] = "Lock",
    [C_SEMAPHORE] = "Semaphore",
    [C_SIDE] = "Side",
    [C_SOCKET_WATCH] = "SocketWatch",
    [C_YIELD] = "YieldNow",
    [C_CHECKPOINT] = "Checkpoint",
    [C_SEND] = "Send",
    [C_RECV] = "Recv",
    [C_NEXT] = "Next",
    [C_SLEEP] = "Sleep",
    [C_EVENT_WAIT] = "event wait",
    [C_LOCK_ACQUIRE] = "lock acquire",
    [C_SEMAPHORE_ACQUIRE] = "semaphore acquire",
    [C_CONDITION_WAIT] = "condition wait",
    [C_UDP_RECVFROM] = "ReceiveFrom",
    [C_UDP_RECV] = "ReceiveData",
    [C_UDP_SEND] = "SendDatagram",
    [C_STREAM_READ] = "StreamRead",
    [C_STREAM_READINTO] = "StreamReadInto",
    [C_STREAM_WRITE] = "StreamWrite",
    [C_ACCEPT] = "Accept",
    [C_NEXT_CONNECTION] = "NextConnection",
    [C_CONNECT_ONE] = "ConnectOne",
    [C_PASSAGE] = "Passage",
    [C_JOIN] = "Join",
    [C_NOW_FILE] = "NowFile",
    [C_BUFFERED_READER] = "BufferedReader",
};

#define DEFINE_NAME(n) PyObject *str_##n;
NAMES(DEFINE_NAME)
#undef DEFINE_NAME

/* What is_a does with another class than the last: apart from it, so that the short ways need no room for it. */
int
is_a_unseen(PyObject *object, PyTypeObject *type, PyTypeObject **seen)
{
    PyTypeObject *its = Py_TYPE(object);
    if (its != type && !PyType_IsSubtype(its, type)) {
        return 0;
    }
    PyTypeObject *old = *seen;
    Py_INCREF(its);
    *seen = its;
    Py_XDECREF(old);
    return 1;
}

/* -- what kernel/twin.py calls -------------------------------------------------------------------------------------- */

static PyObject *
claim(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    static int claimed;
    if (claimed) {
        PyErr_SetString(PyExc_RuntimeError, "another copy of bateau in this process has the C twin");
        return NULL;
    }
    claimed = 1;
    Py_RETURN_NONE;
}

static PyObject *
keep(PyObject *module, PyObject *args)
{
    const char *name;
    PyObject *function;
    if (!PyArg_ParseTuple(args, "sO:keep", &name, &function)) {
        return NULL;
    }
    for (int i = 0; i < K_COUNT; i++) {
        if (strcmp(kept_names[i], name) == 0) {
            put(kept[i], function);
            break;
        }
    }
    Py_RETURN_NONE; /* a name that nothing here falls back to: the method is replaced as a whole */
}

static PyObject *
know(PyObject *module, PyObject *args)
{
    const char *name;
    PyObject *type;
    if (!PyArg_ParseTuple(args, "sO!:know", &name, &PyType_Type, &type)) {
        return NULL;
    }
    for (int i = 0; i < C_COUNT; i++) {
        if (strcmp(known_names[i], name) == 0 && known[i] == NULL) {
            known[i] = (PyTypeObject *)Py_NewRef(type);
            if (i == C_TASK) {
                task_settle_class(known[i]);
            }
            break;
        }
    }
    Py_RETURN_NONE;
}

/* own(class, name): the method `name` of a C base becomes the class's own. CPython calls a C method without a detour only where the object
   is exactly of the class whose method it is. Names that are slots are left as they are: nobody calls those by name. */
static PyObject *
own(PyObject *module, PyObject *args)
{
    PyTypeObject *type;
    PyObject *name;
    if (!PyArg_ParseTuple(args, "O!U:own", &PyType_Type, &type, &name)) {
        return NULL;
    }
    PyObject *found = PyObject_GetAttr((PyObject *)type, name), *method;
    if (found == NULL) {
        return NULL;
    }
    int status = 0;
    if (Py_IS_TYPE(found, &PyMethodDescr_Type)) {
        method = PyDescr_NewMethod(type, ((PyMethodDescrObject *)found)->d_method);
        status = method == NULL ? -1 : PyObject_SetAttr((PyObject *)type, name, method);
        Py_XDECREF(method);
    }
    Py_DECREF(found);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Stands for the pure functions until kernel/twin.py has handed them over. */
static PyObject *
not_imported(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyErr_SetString(PyExc_RuntimeError, "bateau's kernel has not been imported, or BATEAU_PURE=1 keeps this twin of it out");
    return NULL;
}

static PyMethodDef not_imported_method = {"not_imported", (PyCFunction)(void (*)(void))not_imported,
                                          METH_VARARGS | METH_KEYWORDS, NULL};

/* What is looked at, and not only called, is NULL until then. */
static int
keep_placeholders(void)
{
    PyObject *function = PyCFunction_New(&not_imported_method, NULL);
    if (function == NULL) {
        return -1;
    }
    for (int i = 0; i < K_COUNT; i++) {
        switch (i) {
        case K_OPERATION_DEL:
        case K_CANCELLED:
        case K_CLOCK:
        case K_NOWHERE:
        case K_MONOTONIC:
        case K_PARK:
        case K_PACKAGE_DIR:
        case K_ALL_MUST_SUCCEED:
        case K_DEFAULT_BUDGET:
        case K_FINDER:
        case K_SOCKET_CLASS:
        case K_SOCKET_NAMES:
        case K_HELD_SOCKETS:
        case K_STOPPED:
        case K_CLOSED:
            break;
        default:
            kept[i] = Py_NewRef(function);
        }
    }
    Py_DECREF(function);
    return 0;
}

static PyMethodDef functions[] = {
    {"claim", claim, METH_NOARGS, "Be the one kernel of this process; raises RuntimeError the second time."},
    {"keep", keep, METH_VARARGS, "Keep a pure function, to be called where the twin does not act."},
    {"know", know, METH_VARARGS, "Learn one of the kernel's classes."},
    {"own", own, METH_VARARGS, "Make a class's own what is its C base's method."},
    {NULL, NULL, 0, NULL},
};

/* -- Running -------------------------------------------------------------------------------------------------------- */

static PyObject *
running_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Running *self = (Running *)type->tp_alloc(type, 0);
    if (self != NULL) {
        if (running_here == NULL) { /* made by the thread that it is of, once: see _ThreadState */
            running_here = self;
        }
        self->maker = PyThread_get_thread_ident();
    }
    return (PyObject *)self;
}

#define RUNNING_OBJECTS(X) X(task)

COLLECTED(static, running, Running, RUNNING_OBJECTS, nothing)

static void
running_dealloc(Running *self)
{
    PyObject_GC_UnTrack(self);
    if (running_here == self) {
        running_here = NULL;
    }
    running_clear(self);
    if (self->maker != PyThread_get_thread_ident()) {
        return; /* its thread may still look at it, or has ended; either way these few bytes stay */
    }
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef running_members[] = {
    FIELD(Running, task, "task"),
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject RunningType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.RunningFields",
    .tp_basicsize = sizeof(Running),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = running_make,
    .tp_dealloc = (destructor)running_dealloc,
    .tp_traverse = (traverseproc)running_traverse,
    .tp_clear = (inquiry)running_clear,
    .tp_members = running_members,
};

/* -- the module ----------------------------------------------------------------------------------------------------- */

int
bateau_kernel_exec(PyObject *module)
{
    static int done;
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) { /* nor may it take the main one's place */
        PyErr_SetString(PyExc_ImportError, "bateau._native works in the main interpreter only; here bateau is pure Python");
        return -1;
    }
    if (done) { /* a second interpreter: the types and what was kept are the first one's */
        PyErr_SetString(PyExc_ImportError, "bateau._native serves one interpreter of a process");
        return -1;
    }
    done = 1;
#define MAKE_NAME(n)                                                                                                   \
    if ((str_##n = PyUnicode_InternFromString(#n)) == NULL) {                                                          \
        return -1;                                                                                                     \
    }
    NAMES(MAKE_NAME)
#undef MAKE_NAME
    if (keep_placeholders() < 0) {
        return -1;
    }
    if (PyModule_AddIntConstant(module, "VERSION", KERNEL_VERSION) < 0 || PyModule_AddFunctions(module, functions) < 0 ||
        PyModule_AddType(module, &RunningType) < 0 || kernel_ring_ready(module) < 0 || kernel_context_ready(module) < 0 ||
        kernel_children_ready(module) < 0 || kernel_scope_ready(module) < 0 ||
        kernel_task_ready(module) < 0 || kernel_operation_ready(module) < 0 || kernel_engine_ready(module) < 0 ||
        kernel_wait_ready(module) < 0 || kernel_primitive_ready(module) < 0 || kernel_channel_ready(module) < 0 ||
        kernel_sync_ready(module) < 0 || kernel_event_ready(module) < 0 || kernel_lock_ready(module) < 0 ||
        kernel_semaphore_ready(module) < 0 || kernel_condition_ready(module) < 0 ||
        kernel_timer_ready(module) < 0 || kernel_timeout_ready(module) < 0 || kernel_sleep_ready(module) < 0 ||
        kernel_cancel_ready(module) < 0 || kernel_fd_ready(module) < 0 || kernel_socket_ready(module) < 0 || kernel_udp_ready(module) < 0 ||
        kernel_connection_ready(module) < 0 ||
        kernel_reactor_ready(module) < 0 || kernel_call_ready(module) < 0 || kernel_buffered_ready(module) < 0 || kernel_file_ready(module) < 0 || kernel_block_ready(module) < 0 || kernel_join_ready(module) < 0 ||
        kernel_bridge_ready(module) < 0 || kernel_simulated_ready(module) < 0 || kernel_facade_ready(module) < 0) {
        return -1;
    }
    return 0;
}
