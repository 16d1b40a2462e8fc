/* The engine's turn: the loop that steps ready tasks.

   An engine is *plain* if its `ready` queue is our Ring. kernel/engine.py gives it one unless its class overrides what is
   done here, and so says that waking a task may be an append, and stepping one the code below. A scheduling policy, a
   chooser or an `on_step` hook (but for asyncio's side, see bridge.c) is met by the pure `turn`. The simulator's engine
   has a turn of its own, see simulated.c.

   Ownership: the Ring owns the tasks in it; the loop owns the one that it steps. Nothing borrowed is held over a step. */
#include "bridge.h"
#include "context.h"
#include "operation.h"
#include "recorder.h"

static int
engine_traverse(Engine *self, visitproc visit, void *arg)
{
    ENGINE_OBJECTS(VISIT_FIELD)
    for (Py_ssize_t i = 0; i < self->timers; i++) {
        Py_VISIT(self->heap[i]);
    }
    return 0;
}

static int
engine_clear(Engine *self)
{
    ENGINE_OBJECTS(CLEAR_FIELD)
    engine_drop_timers(self);
    return 0;
}

static void
engine_dealloc(Engine *self)
{
    PyObject_GC_UnTrack(self);
    context_engine_goes(self);
    engine_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

void
engine_observe(Engine *engine, PyObject *event, Task *task)
{
    PyObject *instrument = Py_NewRef(engine->instrument);
    BateauRing *ring = bateau_ring_of(instrument);
    if (ring != NULL) {
        bateau_ring_tell(ring, event, task);
    } else {
        PyObject *error = event != str_end ? NULL : has_rare(task, error) ? task->rare->error : Py_None;
        PyObject *result = PyObject_CallMethodObjArgs(instrument, event, (PyObject *)task, error, NULL);
        if (result == NULL) {
            PyErr_WriteUnraisable(instrument);
        }
        Py_XDECREF(result);
    }
    Py_DECREF(instrument);
}

int
engine_enqueue(Engine *engine, Task *task)
{
    task->scheduled = 1;
    if (!is_set(engine->policy)) {
        if (!is_plain(engine)) { /* code that ran since that was asked has replaced it */
            PyErr_SetString(PyExc_RuntimeError, "the engine's ready queue was replaced while it ran");
            return -1;
        }
        if (ring_push((Ring *)engine->ready, (PyObject *)task) == 0) {
            return 0;
        }
    } else {
        PyObject *result = PyObject_CallMethodOneArg(engine->policy, str_push, (PyObject *)task);
        if (result != NULL) {
            Py_DECREF(result);
            return 0;
        }
    }
    task->scheduled = 0; /* it is in no queue: the next wake-up finds it */
    return -1;
}

static PyObject *
engine_wake(Engine *self, PyObject *task)
{
    if (!is_plain(self) || !is_a(task, &TaskType, &seen[SEEN_TASK])) {
        return PyObject_CallFunctionObjArgs(kept[K_ENGINE_WAKE], self, task, NULL);
    }
    Task *found = (Task *)task;
    if (!found->scheduled && !found->ended) {
        if (engine_enqueue(self, found) < 0) {
            return NULL;
        }
        observe(self, str_wake, found);
    }
    Py_RETURN_NONE;
}

static PyObject *
engine_start(Engine *self, PyObject *task)
{
    if (!is_plain(self) || !is_a(task, &TaskType, &seen[SEEN_TASK])) {
        return PyObject_CallFunctionObjArgs(kept[K_ENGINE_START], self, task, NULL);
    }
    if (engine_enqueue(self, (Task *)task) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* The main task, above all: it and what it spawns are then stepped in one context, see context.c. */
static PyObject *
engine_share_context(Engine *self, PyObject *task)
{
    if (is_plain(self) && is_a(task, &TaskType, &seen[SEEN_TASK]) && context_share(self, (Task *)task) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Call a method of the engine for its effect: 0, or -1 with an exception. */
static int
tell(Engine *self, PyObject *name, PyObject *first, PyObject *second)
{
    PyObject *result = PyObject_CallMethodObjArgs((PyObject *)self, name, first, second, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The step of `task` ended with the exception that is set. */
static int
step_raised(Engine *self, Task *task, PyObject *coro)
{
    PyObject *error = take_raised();
    if (error == NULL) {
        PyErr_SetString(PyExc_SystemError, "a step failed without an exception");
        return -1;
    }
    int status = -1;
    PyObject *frame = PyObject_GetAttr(coro, str_cr_frame);
    if (frame == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        frame = Py_NewRef(Py_None);
    }
    if (frame != NULL && frame != Py_None) {
        status = tell(self, str__raised, (PyObject *)task, error); /* it has not ended: let it arrive inside */
    } else if (frame != NULL && is_set(task->scope) && kept[K_CANCELLED] != NULL &&
               PyObject_TypeCheck(error, (PyTypeObject *)kept[K_CANCELLED])) {
        status = task_finish(task, Py_None, error);
        if (status == 0) {
            status = bateau_face_ended(task);
        }
    } else if (frame != NULL) {
        PyObject *result =
            PyObject_CallMethodObjArgs((PyObject *)self, str__ended, (PyObject *)task, Py_None, error, NULL);
        Py_XDECREF(result);
        status = result == NULL ? -1 : 0;
    }
    Py_XDECREF(frame);
    Py_DECREF(error);
    return status;
}

/* Resume a coroutine, by its own class's function where it is Python's. */
static inline PySendResult
resume(PyObject *coro, PyObject **value)
{
    if (Py_IS_TYPE(coro, &PyCoro_Type)) {
        return PyCoro_Type.tp_as_async->am_send(coro, Py_None, value);
    }
    return PyIter_Send(coro, Py_None, value);
}

/* What follows from what a step of `task` gave: `how` and `value` (stolen; NULL with an exception) are the coroutine's. 0, or -1 with an
   exception that is the engine's, not the task's. All contexts have been left. */
static int
after_step(Engine *self, Running *running, PyObject *outer, Task *task, LoopSide *side, PyObject *coro, PySendResult how, PyObject *value)
{
    int status = -1;
    if (how == PYGEN_NEXT) {
        if (task->spawned && !task->hidden && !task->ended) {
            task_hide_parts(task);
        }
        if (value == Py_None) {
            task->yields++;
        } else {
            task->waits++;
        }
        if (value == Py_None && side == NULL) {
            status = engine_enqueue(self, task);
        } else if (value == Py_None && !is_cancelled_inside(task)) {
            status = bateau_side_yielded(side, self, task);
        } else if (value == kept[K_PARK] && !has_rare(task, throwing)) {
            status = 0;
        } else {
            put(running->task, outer);
            status = side != NULL && value != Py_None ? bateau_side_awaits(side, self, task, value) : 0;
            if (status == 0) {
                status = tell(self, str__trapped, (PyObject *)task, value);
            } else if (status > 0) {
                status = 0;
            }
        }
    } else {
        put(running->task, outer);
        if (how == PYGEN_ERROR) {
            status = step_raised(self, task, coro);
        } else if (!is_set(task->scope)) {
            PyObject *result =
                PyObject_CallMethodObjArgs((PyObject *)self, str__ended, (PyObject *)task, value, Py_None, NULL);
            Py_XDECREF(result);
            status = result == NULL ? -1 : 0;
        } else {
            status = task_finish(task, value, NULL); /* no root: only asyncio may have to be told */
            if (status == 0) {
                status = bateau_face_ended(task);
            }
        }
    }
    Py_XDECREF(value);
    return status;
}

/* Resume `task` once, in whatever context it has: 0, or -1 as `after_step`. No context is entered before or after it. */
static int
step(Engine *self, Running *running, PyObject *outer, Task *task, BateauRing *ring, LoopSide *side, PyThreadState *thread)
{
    if (!is_set(task->coro) || !is_set(task->context)) {
        return tell(self, str_step, (PyObject *)task, NULL); /* says what is wrong */
    }
    if (ring != NULL) {
        bateau_ring_step(ring, (uint64_t)task->id);
    } else {
        observe(self, str_step, task);
    }
    PyObject *coro = Py_NewRef(task->coro), *value = NULL;
    task->scheduled = 0;
    put(running->task, task);
    if (side != NULL && bateau_side_publish(side, task) < 0) {
        put(running->task, outer);
        Py_DECREF(coro);
        return -1;
    }
    PySendResult how = PYGEN_ERROR;
    Wear wear = {NULL, NULL, thread};
    int own = wear_begin(&wear, task);
    PyObject *context = own > 0 ? Py_XNewRef(task->context) : NULL;
    if (own == 0 || (own > 0 && PyContext_Enter(context) == 0)) {
        running->stepped = task->host == (PyObject *)self ? task : NULL;
        how = resume(coro, &value);
        running->stepped = NULL;
        if ((own == 0 && (wear_end(&wear, task) < 0 || wear_off(&wear) < 0)) || (own > 0 && PyContext_Exit(context) < 0)) {
            Py_CLEAR(value);
            how = PYGEN_ERROR;
        }
    }
    int status = after_step(self, running, outer, task, side, coro, how, value);
    Py_XDECREF(context);
    Py_DECREF(coro);
    return status;
}

/* Whether task_hide_parts has been here, or need not: only spawned tasks hide theirs. */
static inline int
nothing_to_hide(Task *task)
{
    return task->hidden || !task->spawned;
}

/* What follows from a quick step that was not one of the two common ones. The references to `task` and `coro` are taken over. */
static __attribute__((noinline)) int
step_oddly(Engine *self, Running *running, PyObject *outer, Task *task, PyObject *coro, PySendResult how, PyObject *value, Wear *wear)
{
    running->stepped = NULL;
    if (wear_end(wear, task) < 0 || wear_off(wear) < 0) {
        Py_CLEAR(value);
        how = PYGEN_ERROR;
    }
    int status = after_step(self, running, outer, task, NULL, coro, how, value);
    Py_DECREF(coro);
    Py_DECREF(task);
    return status;
}

/* The same for the most part of all steps: nobody but a recorder in C observes them, the coroutine is Python's own, and its task shares its
   context. Then it stays entered from step to step, and what a step costs beyond the coroutine is this. `task` is handed over, and one of
   the turn's budget is spent for it; it goes on with those that are ready as long as they are the same, and nothing but these lines ran
   since the step before: so what `wear_end` has just seen need not be looked at again. The others stay in the queue. */
static __attribute__((noinline)) int
step_quickly(Engine *self, Ring *ready, Running *running, PyObject *outer, Task *task, BateauRing *ring, Wear *wear, long *budget)
{
    Shared *const shared = wear->shared;
    PyObject *const worn = wear->worn, *const vars = shared->vars;
    PyThreadState *const thread = wear->thread;
    PyObject *const hook = self->on_step, *const instrument = self->instrument, *const policy = self->policy;
    const sendfunc send = PyCoro_Type.tp_as_async->am_send;
    PyObject *coro = task->coro;
    for (;;) {
        if (ring != NULL) {
            bateau_ring_step(ring, (uint64_t)task->id);
        }
        PyObject *value = NULL;
        Py_INCREF(coro);
        task->scheduled = 0;
        put(running->task, task);
        running->stepped = task;
        shared->stepping = task;
        PySendResult how = send(coro, Py_None, &value);
        int worn_well = shared->stepping == task && thread->context == worn && Py_REFCNT(worn) == 3 && vars_of(worn) == vars;
        if (!LIKELY(worn_well && how == PYGEN_NEXT && nothing_to_hide(task))) {
            return step_oddly(self, running, outer, task, coro, how, value, wear);
        }
        shared->stepping = NULL;
        running->stepped = NULL;
        if (value == Py_None && self->ready == (PyObject *)ready && self->policy == policy && !is_set(policy)) {
            task->yields++;
            task->scheduled = 1;
            if (ready->size == ready->room && ring_grow(ready) < 0) {
                task->scheduled = 0; /* it is in no queue: the next wake-up finds it */
                Py_DECREF(value);
                Py_DECREF(coro);
                Py_DECREF(task);
                return -1;
            }
            ring_push_owned(ready, (PyObject *)task);
        } else if (value == kept[K_PARK] && !has_rare(task, throwing)) {
            task->waits++;
            if (!LIKELY(Py_REFCNT(task) > 2)) { /* ours and that of `running` */
                Py_DECREF(value);
                Py_DECREF(coro);
                Py_DECREF(task);
                return 0;
            }
            Py_DECREF(task);
        } else {
            shared->stepping = task;
            return step_oddly(self, running, outer, task, coro, how, value, wear);
        }
        Py_DECREF(value);
        if (!LIKELY(Py_REFCNT(coro) > 1)) { /* it is not the task's any more, and goes */
            Py_DECREF(coro);
            return 0;
        }
        Py_DECREF(coro);
        /* The next one, if it is such a one. */
        if (*budget <= 0 || ready->size == 0 || self->on_step != hook || self->instrument != instrument) {
            return 0;
        }
        task = (Task *)ready->items[ready->head];
        if (Py_TYPE(task) != seen[SEEN_TASK] || task->context != (PyObject *)shared || task->host != (PyObject *)self || task->ended ||
            has_rare(task, throwing)) {
            return 0;
        }
        coro = task->coro;
        if (coro == NULL || !Py_IS_TYPE(coro, &PyCoro_Type)) {
            return 0;
        }
        ring_shift(ready);
        --*budget;
    }
}

/* Whether it is for step_quickly; its shared context is entered then. */
static inline int
is_quick(Engine *self, Task *task, Wear *wear)
{
    if (!is_shared(task->context)) {
        return 0;
    }
    int own = wear_begin(wear, task); /* may run the collector, so the rest is looked at after it */
    if (own != 0) {
        PyErr_Clear(); /* no memory: `step` tries again, and tells the task */
        return 0;
    }
    return task->host == (PyObject *)self && task->coro != NULL && Py_IS_TYPE(task->coro, &PyCoro_Type) && !task->ended &&
           !has_rare(task, throwing);
}

/* Whether a Python container in a field has something in it; -1 with an exception. */
static int
is_filled(PyObject *container)
{
    if (!is_set(container)) {
        return 0;
    }
    Py_ssize_t size = PyObject_Size(container);
    return size < 0 ? -1 : size > 0;
}

int
engine_step(Engine *self, Running *running, PyObject *outer, Task *task)
{
    int nested = is_filled(self->mid_step);
    if (nested < 0) {
        return -1;
    }
    if (task->ended || has_rare(task, throwing) || is_set(self->on_step) || nested) {
        return tell(self, str_step, (PyObject *)task, NULL);
    }
    return step(self, running, outer, task, NULL, NULL, PyThreadState_Get());
}

/* A timer is due. Its target is what it was set for. */
static int
ring_the_bell(PyObject *target)
{
    PyObject *result;
    if (PyObject_TypeCheck(target, &OperationType)) { /* a sleep */
        Operation *op = (Operation *)target;
        if (op->state != PARKED) {
            return 0;
        }
        if (!is_set(op->watcher)) {
            return operation_fire(op, Py_None);
        }
        result = PyObject_CallMethodNoArgs(target, str__due);
    } else if (PyObject_TypeCheck(target, &NodeType)) {
        result = PyObject_CallMethodNoArgs(target, str__expire);
    } else {
        result = PyObject_CallNoArgs(target);
    }
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
run_timers(Engine *self)
{
    double now;
    if (self->timers == 0) {
        return 0;
    }
    if (engine_now(self, &now) < 0) {
        return -1;
    }
    while (self->timers > 0 && self->heap[0]->when <= now) {
        Timer *timer = engine_pop_timer(self);
        PyObject *target = timer->target;
        timer->target = NULL;
        Py_DECREF(timer);
        int status = target != NULL ? ring_the_bell(target) : 0;
        Py_XDECREF(target);
        if (status < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
engine_run_timers(Engine *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_plain(self)) {
        return PyObject_CallOneArg(kept[K_ENGINE_RUN_TIMERS], (PyObject *)self);
    }
    if (run_timers(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
engine_call_at(Engine *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "call_at takes a time and a function, not %zd arguments", nargs);
        return NULL;
    }
    if (!is_plain(self)) {
        return PyObject_CallFunctionObjArgs(kept[K_ENGINE_CALL_AT], self, args[0], args[1], NULL);
    }
    double when = PyFloat_AsDouble(args[0]);
    if (when == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    return (PyObject *)engine_set_timer(self, when, args[1]);
}

/* For who looks: the list may be made while another thread's destructor sets or cancels one, so it is asked for again then. */
static PyObject *
engine_pending_timers(Engine *self, PyObject *Py_UNUSED(ignored))
{
    for (;;) {
        Py_ssize_t count = self->timers, husks = self->husks;
        PyObject *list = PyList_New(count - husks);
        if (list == NULL) {
            return NULL;
        }
        if (self->timers == count && self->husks == husks) { /* making the list may have run anything; nothing runs from here on */
            for (Py_ssize_t i = 0, place = 0; i < count; i++) {
                if (self->heap[i]->target != NULL) {
                    PyList_SET_ITEM(list, place++, Py_NewRef(self->heap[i]));
                }
            }
            return list;
        }
        Py_DECREF(list);
    }
}

static PyObject *
engine_has_timer(Engine *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_plain(self)) {
        return PyObject_CallOneArg(kept[K_ENGINE_HAS_TIMER], (PyObject *)self);
    }
    return PyBool_FromLong(self->timers > self->husks);
}

static PyObject *
engine_timeout(Engine *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_plain(self)) {
        return PyObject_CallOneArg(kept[K_ENGINE_TIMEOUT], (PyObject *)self);
    }
    int inbox = is_filled(self->inbox), soon = is_filled(self->soon), policy = is_filled(self->policy);
    if (inbox < 0 || soon < 0 || policy < 0) {
        return NULL;
    }
    if (!is_plain(self) || ((Ring *)self->ready)->size > 0 || inbox || soon || policy) {
        return PyLong_FromLong(0);
    }
    engine_drop_husks(self);
    if (self->timers == 0) {
        Py_RETURN_NONE;
    }
    double when = self->heap[0]->when, now;
    if (engine_now(self, &now) < 0) {
        return NULL;
    }
    return PyFloat_FromDouble(when > now ? when - now : 0.0);
}

/* The calls from elsewhere, and the timers that are due. */
int
engine_run_what_is_due(Engine *self)
{
    int inbox = is_filled(self->inbox), soon = is_filled(self->soon);
    if (inbox < 0 || soon < 0 || ((inbox || soon) && tell(self, str__run_calls, NULL, NULL) < 0)) {
        return -1;
    }
    if (self->timers > 0) {
        return run_timers(self);
    }
    return 0;
}

static PyObject *
engine_turn(Engine *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "turn takes at most one argument, not %zd", nargs);
        return NULL;
    }
    Running *running = running_here;
    if (self->world != NULL) {
        if (!is_plain(self) || running == NULL) {
            return PyObject_CallFunctionObjArgs(kept[K_SIM_TURN], self, nargs ? args[0] : NULL, NULL);
        }
        long steps = nargs ? PyLong_AsLong(args[0]) : TURN_BUDGET;
        if ((steps == -1 && PyErr_Occurred()) || simulated_turn(self, running, steps) < 0) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    int nested = is_filled(self->mid_step);
    if (nested < 0) {
        return NULL;
    }
    if (!is_plain(self) || running == NULL || nested || is_set(self->policy) || is_set(self->choose) ||
        (is_set(self->on_step) && bateau_side_of(self->on_step) == NULL)) {
        return PyObject_CallFunctionObjArgs(kept[K_ENGINE_TURN], self, nargs ? args[0] : NULL, NULL);
    }
    long budget = nargs ? PyLong_AsLong(args[0]) : TURN_BUDGET;
    if (budget == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (engine_run_what_is_due(self) < 0) {
        return NULL;
    }
    Ring *ready = (Ring *)Py_NewRef(self->ready);
    Py_INCREF(running);
    PyObject *outer = Py_XNewRef(running->task);
    /* For the length of the turn: a recorder that is closed meanwhile ignores what it is told. */
    PyObject *instrument = Py_XNewRef(self->instrument);
    BateauRing *ring = bateau_ring_of(instrument);
    int status = 0;
    Wear wear = {NULL, NULL, PyThreadState_Get()};
    PyObject *hook = Py_NewRef(is_set(self->on_step) ? self->on_step : Py_None); /* keeps `side` */
    LoopSide *side = hook != Py_None ? bateau_side_of(hook) : NULL;
    if (hook != Py_None && side == NULL) {
        budget = 0; /* what was due has set it: the pure turn is next */
    }
    /* A step may import asyncio, which sets on_step: the rest is the next turn's. And it may set an observer. */
    PyObject *const found_hook = self->on_step, *const found_instrument = self->instrument; /* compared, so that the loop asks little */
    const int quick_here = side == NULL && (!is_set(instrument) || ring != NULL);
    while (status == 0 && budget-- > 0 && self->on_step == found_hook) {
        PyObject *item = ring_shift(ready);
        if (item == NULL) {
            break;
        }
        if (!is_a(item, &TaskType, &seen[SEEN_TASK])) {
            PyErr_Format(PyExc_TypeError, "a %s is in the ready queue", Py_TYPE(item)->tp_name);
            Py_DECREF(item);
            status = -1;
            break;
        }
        Task *task = (Task *)item;
        int quick = quick_here && self->instrument == found_instrument ? is_quick(self, task, &wear) : 0;
        if (quick) {
            status = step_quickly(self, ready, running, outer, task, ring, &wear, &budget);
            continue;
        }
        if (wear_off(&wear) < 0) {
            status = -1;
        } else if (task->ended || has_rare(task, throwing)) {
            status = tell(self, str_step, item, NULL);
        } else {
            status = step(self, running, outer, task, ring, side, wear.thread);
        }
        Py_DECREF(item);
    }
    if (wear_off(&wear) < 0) {
        status = -1;
    }
    put(running->task, outer);
    show_last(); /* the system may be waited for next */
    observe(self, str_idle, NULL);
    if (status < 0) {
        PyObject *error = take_raised();
        if (tell(self, str__after_interrupt, NULL, NULL) < 0) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        put_raised(error);
    }
    Py_DECREF(hook);
    Py_XDECREF(instrument);
    Py_XDECREF(outer);
    Py_DECREF(running);
    Py_DECREF(ready);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
engine_run_ahead(Engine *self, PyObject *Py_UNUSED(ignored))
{
    Running *running = running_here;
    if (self->world == NULL || !is_plain(self) || running == NULL) {
        return PyObject_CallOneArg(kept[K_SIM_RUN_AHEAD], (PyObject *)self);
    }
    if (simulated_run_ahead(self, running, TURN_BUDGET) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
engine_next_timer(Engine *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_plain(self)) {
        return PyObject_CallOneArg(kept[K_NEXT_TIMER], (PyObject *)self);
    }
    if (self->timers == 0) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble(self->heap[0]->when);
}

static PyObject *
engine_live_timer(Engine *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_plain(self)) {
        return PyObject_CallOneArg(kept[K_LIVE_TIMER], (PyObject *)self);
    }
    engine_drop_husks(self);
    return engine_next_timer(self, NULL);
}

/* The engine has closed: no timer will ring, and the collector may have what still refers to its target. */
static PyObject *
engine_drop_timers_method(Engine *self, PyObject *Py_UNUSED(ignored))
{
    engine_drop_timers(self);
    Py_RETURN_NONE;
}

static PyMethodDef engine_methods[] = {
    {"_drop_timers", (PyCFunction)engine_drop_timers_method, METH_NOARGS, "Nothing will ring any more."},
    {"wake", (PyCFunction)engine_wake, METH_O, "Make a parked task run. Doubled wakes are one."},
    {"_share_context", (PyCFunction)engine_share_context, METH_O, "A root task's context may be shared by what it spawns."},
    {"start", (PyCFunction)engine_start, METH_O, "Make a new task runnable."},
    {"call_at", (PyCFunction)(void (*)(void))engine_call_at, METH_FASTCALL, "Call ``fn`` once ``now() >= when``."},
    {"timeout", (PyCFunction)engine_timeout, METH_NOARGS,
     "How long a poll may block: 0 with work waiting, None with no timer."},
    {"_run_timers", (PyCFunction)engine_run_timers, METH_NOARGS, "Call what is due."},
    {"_pending_timers", (PyCFunction)engine_pending_timers, METH_NOARGS, "The timers that are set, in no order."},
    {"_has_timer", (PyCFunction)engine_has_timer, METH_NOARGS, "Whether a timer is set."},
    {"_run_ahead", (PyCFunction)engine_run_ahead, METH_NOARGS,
     "In a world: turns, until something else is to be done than to let time pass."},
    {"_next_timer", (PyCFunction)engine_next_timer, METH_NOARGS, "When the first timer is due, cancelled or not; or None."},
    {"_live_timer", (PyCFunction)engine_live_timer, METH_NOARGS, "When the first timer that was not cancelled is due, or None."},
    {"turn", (PyCFunction)(void (*)(void))engine_turn, METH_FASTCALL,
     "Run what is due: calls from other threads, timers, then at most ``budget`` task steps."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef engine_members[] = {
    FIELD_SET(Engine, ready, "ready"),
    FIELD_SET(Engine, policy, "policy"),
    FIELD_SET(Engine, choose, "choose"),
    FIELD_SET(Engine, on_step, "on_step"),
    FIELD_SET(Engine, on_yield, "on_yield"),
    FIELD_SET(Engine, aio, "aio"),
    FIELD_SET(Engine, roots, "roots"),
    FIELD_SET(Engine, mid_step, "_mid_step"),
    FIELD_SET(Engine, postponed, "_postponed"),
    FIELD_SET(Engine, native_cancelling, "native_cancelling"),
    FIELD_SET(Engine, soon, "_soon"),
    FIELD_SET(Engine, inbox, "_inbox"),
    FIELD_SET(Engine, now, "now"),
    FIELD_SET(Engine, exact_cancelled_type, "exact_cancelled_type"),
    {"instrument", _Py_T_OBJECT, offsetof(Engine, instrument), 0, NULL}, /* None in the class: the others are set by __init__ */
    FIELD_SET(Engine, world, "world"),
    FIELD_SET(Engine, process, "process"),
    FIELD_SET(Engine, simulated, "simulated"),
    FIELD_SET(Engine, clock, "clock"),
    FIELD_SET(Engine, stream, "stream"),
    FIELD_SET(Engine, yields, "yields"),
    FIELD_SET(Engine, after_step, "after_step"),
    {"thread_id", Py_T_ULONG, offsetof(Engine, thread_id), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject EngineType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.EngineFields",
    .tp_basicsize = sizeof(Engine),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)engine_dealloc,
    .tp_traverse = (traverseproc)engine_traverse,
    .tp_clear = (inquiry)engine_clear,
    .tp_members = engine_members,
    .tp_methods = engine_methods,
};

int
kernel_engine_ready(PyObject *module)
{
    return PyModule_AddType(module, &EngineType);
}
