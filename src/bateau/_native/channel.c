/* The channel: sends and receives of a local channel between tasks of one plain engine. See channel/queue.py for the
   invariants of the state, which are kept here as there.

   The short way is open to an operation if its end was used before by the running task and needs no further check
   (`_at_home`), and nothing is cancelled. It does not call Python but for a select's `claim`, and for `admit`. */
#include "operation.h"
#include "primitive.h"

typedef struct {
    Primitive base;
    PyObject *items, *sending, *receiving, *senders, *receivers, *lost;
    Py_ssize_t capacity, limit;
} QueueState;

#define STATE_OBJECTS(X) X(items) X(sending) X(receiving) X(senders) X(receivers) X(lost)

typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *seat, *site, *state;
    long long at_home;
} End;

#define END_OBJECTS(X) X(seat) X(site) X(state)

static PyTypeObject QueueStateType, EndType, SenderType, ReceiverType, SendType, RecvType;

/* -- the fields ------------------------------------------------------------------------------------------------------------ */

OBJECT_METHODS(state, QueueState, STATE_OBJECTS, primitive, base.weakrefs)

static PyMemberDef state_members[] = {
    FIELD(QueueState, items, "items"),
    FIELD(QueueState, sending, "sending"),
    FIELD(QueueState, receiving, "receiving"),
    FIELD(QueueState, senders, "senders"),
    FIELD(QueueState, receivers, "receivers"),
    FIELD(QueueState, lost, "lost"),
    {"capacity", Py_T_PYSSIZET, offsetof(QueueState, capacity), 0, NULL},
    {"limit", Py_T_PYSSIZET, offsetof(QueueState, limit), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

OBJECT_METHODS(end, End, END_OBJECTS, nothing, weakrefs)

static PyMemberDef end_members[] = {
    FIELD(End, seat, "_seat"),
    FIELD(End, site, "_site"),
    FIELD(End, state, "_state"),
    {"_at_home", Py_T_LONGLONG, offsetof(End, at_home), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define END_OPERATION_OBJECTS(X) X(end) X(item)

OBJECT_METHODS(end_operation, EndOperation, END_OPERATION_OBJECTS, operation, op.weakrefs)

static PyMemberDef end_operation_members[] = {
    FIELD(EndOperation, end, "end"),
    FIELD(EndOperation, item, "item"),
    {NULL, 0, 0, 0, NULL},
};

/* -- the short way ------------------------------------------------------------------------------------------------------------ */

static inline int
is_queue(PyObject *field)
{
    return field != NULL && Py_IS_TYPE(field, &WaitQueueType);
}

/* Whether none of these ends is open. Anything but a dictionary is left to the pure way, which is what is done if there are none. */
static inline int
are_all_closed(PyObject *ends)
{
    return ends == NULL || !PyDict_CheckExact(ends) || PyDict_GET_SIZE(ends) == 0;
}

/* The state, if the operation of the running task `here` may take the short way; borrowed from the operation's end. 1, 0 or -1 with an
   exception. */
static inline int
short_way(EndOperation *self, Task *here, QueueState **state, PyTypeObject **end_seen)
{
    if (here == NULL || (running_here->stepped != here && plain_engine(here) == NULL) || self->op.state != NEW || here->budget <= 0 ||
        task_is_cancelled(here) || self->end == NULL || !is_a(self->end, &EndType, end_seen)) {
        return 0;
    }
    End *end = (End *)self->end;
    if (end->at_home != here->id) {
        PyObject *home = PyObject_CallMethodOneArg((PyObject *)end, str__come_home, (PyObject *)here);
        int may = home == NULL ? -1 : PyObject_IsTrue(home);
        Py_XDECREF(home);
        if (may <= 0) {
            return may;
        }
    }
    PyObject *found = end->state;
    if (found == NULL || !is_a(found, &QueueStateType, &seen[SEEN_STATE])) {
        return 0;
    }
    QueueState *queue = (QueueState *)found;
    if (is_set(queue->base.mutex) || !is_queue(queue->sending) || !is_queue(queue->receiving) || queue->items == NULL ||
        !Py_IS_TYPE(queue->items, &RingType)) {
        return 0;
    }
    *state = queue;
    return 1;
}

/* The effect was had at once. */
static PySendResult
done(Operation *self, Task *task, PyObject *value, PyObject **result)
{
    task->budget--;
    self->state = DONE;
    self->phase = OVER;
    *result = value; /* stolen */
    return PYGEN_RETURN;
}

static PySendResult
failed(Operation *self, PyObject **result)
{
    if (self->state == NEW) {
        self->state = ABORTED;
    }
    self->phase = OVER;
    *result = NULL;
    return PYGEN_ERROR;
}

static PySendResult
send_first(EndOperation *self, Task *task, PyObject *arg, PyObject **result)
{
    QueueState *state;
    int may = short_way(self, task, &state, &seen[SEEN_SENDER]);
    if (may <= 0) {
        return may < 0 ? failed(&self->op, result) : operation_begin_pure(&self->op, K_OPERATION_AWAIT, arg, result);
    }
    PyObject *item = self->item != NULL ? self->item : Py_None;
    int wrong;
    Py_INCREF(state);
    Py_INCREF(task);
    PySendResult how;
    Operation *receiver = wait_queue_pop((WaitQueue *)state->receiving, &wrong);
    if (receiver != NULL) {
        wrong = operation_fire(receiver, item) < 0;
        Py_DECREF(receiver);
        how = wrong ? failed(&self->op, result) : done(&self->op, task, Py_NewRef(Py_None), result);
    } else if (wrong) {
        how = failed(&self->op, result);
    } else if (((Ring *)state->items)->size < state->limit) {
        how = ring_push((Ring *)state->items, item) < 0 ? failed(&self->op, result)
                                                        : done(&self->op, task, Py_NewRef(Py_None), result);
    } else if (are_all_closed(state->receivers)) {
        how = operation_begin_pure(&self->op, K_OPERATION_AWAIT, arg, result); /* raises Broken */
    } else {
        how = operation_park(&self->op, task, (WaitQueue *)state->sending) < 0 ? failed(&self->op, result)
                                                                               : operation_parked(result);
    }
    Py_DECREF(task);
    Py_DECREF(state);
    return how;
}

static PySendResult
recv_first(EndOperation *self, Task *task, PyObject *arg, PyObject **result)
{
    QueueState *state;
    int may = short_way(self, task, &state, &seen[SEEN_RECEIVER]);
    if (may <= 0) {
        return may < 0 ? failed(&self->op, result) : operation_begin_pure(&self->op, K_OPERATION_AWAIT, arg, result);
    }
    Py_INCREF(state);
    Py_INCREF(task);
    PySendResult how;
    PyObject *item = ring_shift((Ring *)state->items);
    if (item != NULL) {
        how = done(&self->op, task, item, result);
        if (((WaitQueue *)state->sending)->size > 0) {
            PyObject *admitted = PyObject_CallMethodNoArgs((PyObject *)state, str_admit);
            if (admitted == NULL) { /* the item stays the first */
                PyErr_WriteUnraisable((PyObject *)state);
            }
            Py_XDECREF(admitted);
        }
    } else if (((WaitQueue *)state->sending)->size > 0 || are_all_closed(state->senders)) {
        how = operation_begin_pure(&self->op, K_OPERATION_AWAIT, arg, result);
    } else {
        how = operation_park(&self->op, task, (WaitQueue *)state->receiving) < 0 ? failed(&self->op, result)
                                                                                 : operation_parked(result);
    }
    Py_DECREF(task);
    Py_DECREF(state);
    return how;
}

static __attribute__((noinline)) PySendResult
send_otherwise(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->sub != NULL) {
        return operation_pass_on(self, arg, result);
    }
    Task *task = task_of_step();
    PySendResult how;
    if ((self->phase == GIVING_WAY || task == NULL || task->budget <= 0) && operation_gives_way(self, &how, result)) {
        return how;
    }
    return send_first((EndOperation *)self, task, arg, result);
}

/* Going on needs none of the stack that the beginning does. */
static PySendResult
send_step(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->sub == NULL && (self->phase == SUSPENDED || self->phase == OVER)) {
        return operation_continue(self, arg, result);
    }
    return send_otherwise(self, arg, result);
}

static __attribute__((noinline)) PySendResult
recv_otherwise(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->sub != NULL) {
        return operation_pass_on(self, arg, result);
    }
    Task *task = task_of_step();
    PySendResult how;
    if ((self->phase == GIVING_WAY || task == NULL || task->budget <= 0) && operation_gives_way(self, &how, result)) {
        return how;
    }
    return recv_first((EndOperation *)self, task, arg, result);
}

/* Going on needs none of the stack that the beginning does. */
static PySendResult
recv_step(Operation *self, PyObject *arg, PyObject **result)
{
    if (self->sub == NULL && (self->phase == SUSPENDED || self->phase == OVER)) {
        return operation_continue(self, arg, result);
    }
    return recv_otherwise(self, arg, result);
}

ITERATOR(send, send_step)
ITERATOR(recv, recv_step)

/* -- making them ---------------------------------------------------------------------------------------------------------------- */

static PyObject *
make_operation(End *end, int which, PyObject *item)
{
    EndOperation *op = (EndOperation *)final_new(which);
    if (op == NULL) {
        return NULL;
    }
    op->op.resource = Py_XNewRef(end->state); /* all its fields were empty */
    op->end = Py_NewRef((PyObject *)end);
    op->item = Py_XNewRef(item);
    if (item != NULL && PyType_IS_GC(Py_TYPE(item))) { /* it may lead back to the operation */
        operation_show((PyObject *)op);
    }
    return (PyObject *)op;
}

static PyObject *
sender_send(End *self, PyObject *item)
{
    return make_operation(self, C_SEND, item);
}

static PyObject *
receiver_recv(End *self, PyObject *Py_UNUSED(ignored))
{
    return make_operation(self, C_RECV, NULL);
}

static PyObject *
receiver_anext(End *self)
{
    return make_operation(self, C_NEXT, NULL);
}

/* -- the types ---------------------------------------------------------------------------------------------------------------- */

#define BASE_TYPE(Type, Struct, prefix, title, base, members, methods, async)                                          \
    static PyTypeObject Type = {                                                                                       \
        PyVarObject_HEAD_INIT(NULL, 0)                                                                                 \
        .tp_name = "bateau._native." title,                                                                            \
        .tp_basicsize = sizeof(Struct),                                                                                \
        .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,                                     \
        .tp_base = base,                                                                                               \
        .tp_weaklistoffset = offsetof(Struct, weakrefs),                                                               \
        .tp_new = PyType_GenericNew,                                                                                   \
        .tp_dealloc = (destructor)prefix##_dealloc,                                                                    \
        .tp_traverse = (traverseproc)prefix##_traverse,                                                                \
        .tp_clear = (inquiry)prefix##_clear,                                                                           \
        .tp_as_async = async,                                                                                          \
        .tp_members = members,                                                                                         \
        .tp_methods = methods,                                                                                         \
    };

BASE_TYPE(EndType, End, end, "EndFields", NULL, end_members, NULL, NULL)

static PyTypeObject QueueStateType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.QueueStateFields",
    .tp_basicsize = sizeof(QueueState),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_base = &PrimitiveType,
    .tp_weaklistoffset = offsetof(Primitive, weakrefs),
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)state_dealloc,
    .tp_traverse = (traverseproc)state_traverse,
    .tp_clear = (inquiry)state_clear,
    .tp_members = state_members,
};

static PyMethodDef sender_methods[] = {
    {"send", (PyCFunction)sender_send, METH_O,
     "send($self, item, /)\n--\n\nAwait it: send ``item``, waiting while the channel is full. First come, first served.\n\n"
     "A cancellation point; cancelled, the item was not sent. Raises ``Closed`` if this sender is closed, ``Broken``\n"
     "if every receiver is."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef receiver_methods[] = {
    {"recv", (PyCFunction)receiver_recv, METH_NOARGS,
     "recv($self)\n--\n\nAwait it: the next item, waiting while there is none. First come, first served.\n\n"
     "A cancellation point; cancelled, no item was taken, so a timeout around it loses nothing. Raises ``EndOfStream``\n"
     "once every sender is closed and everything was received, ``Closed`` if this receiver is closed."},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods receiver_async = {.am_anext = (unaryfunc)receiver_anext};

BASE_TYPE(SenderType, End, end, "SenderFields", &EndType, NULL, sender_methods, NULL)
BASE_TYPE(ReceiverType, End, end, "ReceiverFields", &EndType, NULL, receiver_methods, &receiver_async)

#define WAIT_TYPE(Type, prefix, title)                                                                                 \
    static PyMethodDef prefix##_methods[] = {                                                                          \
        {"send", (PyCFunction)prefix##_send, METH_O, "Resume it."},                                                    \
        {"throw", (PyCFunction)(void (*)(void))parked_throw, METH_FASTCALL, "Throw an exception in where it waits."},  \
        {"close", (PyCFunction)parked_close, METH_NOARGS, "Give it up."},                                              \
        {NULL, NULL, 0, NULL},                                                                                         \
    };                                                                                                                 \
    static PyAsyncMethods prefix##_async = {                                                                           \
        .am_await = operation_await,                                                                                   \
        .am_send = (sendfunc)prefix##_step,                                                                            \
    };                                                                                                                 \
    static OPERATION_TYPE(Type, title, EndOperation, &OperationType, end_operation, prefix, end_operation_members, prefix##_methods)

WAIT_TYPE(SendType, send, "SendFields")
WAIT_TYPE(RecvType, recv, "RecvFields")

int
kernel_channel_ready(PyObject *module)
{
    PyTypeObject *types[] = {&QueueStateType, &EndType, &SenderType, &ReceiverType, &SendType, &RecvType};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (PyModule_AddType(module, types[i]) < 0) {
            return -1;
        }
    }
    return 0;
}
