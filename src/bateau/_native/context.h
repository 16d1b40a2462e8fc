/* Contexts that tasks share; context.c has the theory. */
#ifndef BATEAU_CONTEXT_H
#define BATEAU_CONTEXT_H

#include "kernel.h"

/* A context as CPython lays it out, as far as it is read here. */
typedef struct {
    PyObject_HEAD
    PyObject *before;
    PyObject *vars;
    PyObject *weakrefs;
    int entered;
} ContextLayout;

#define vars_of(context) (((ContextLayout *)(context))->vars)

typedef struct Shared {
    PyObject_HEAD
    PyObject *pristine, *worn; /* contexts; `worn` may be NULL */
    PyObject *vars;            /* borrowed: pristine's */
    Task *stepping;            /* borrowed, only compared: whose step `worn` is entered for */
    Engine *engine;            /* borrowed, or NULL: whose `shared` this may be */
    char entered;              /* `worn` is, by a turn */
} Shared;

extern PyTypeObject SharedType;

static inline int
is_shared(PyObject *context)
{
    return context != NULL && Py_IS_TYPE(context, &SharedType);
}

/* What a turn has entered, if that is a shared context: both owned, or both NULL. */
typedef struct {
    Shared *shared;
    PyObject *worn;
    PyThreadState *thread;
} Wear;

PyObject *context_for_spawn(Engine *engine); /* a new reference */
int context_share(Engine *engine, Task *task); /* what only the task has becomes what others may join: 0, or -1 with an exception */
void context_engine_goes(Engine *engine);
int context_own(Task *task);                 /* what it shares becomes its own: 0, or -1 with an exception */

int wear_off(Wear *wear); /* leave it: 0, or -1 with an exception */
int wear_enter(Wear *wear, Task *task);
int wear_changed(Wear *wear, Task *task);

/* Before a step. 0: its context has been entered; 1: it has its own, to be entered by the caller; -1: an exception. */
static inline int
wear_begin(Wear *wear, Task *task)
{
    Shared *shared = wear->shared;
    if (shared != NULL && task->context == (PyObject *)shared && shared->worn == wear->worn && vars_of(wear->worn) == shared->vars) {
        shared->stepping = task;
        return 0;
    }
    return wear_enter(wear, task);
}

/* After a step in a shared context: 0, or -1 with an exception (and the context has been left, as far as that can be). */
static inline int
wear_end(Wear *wear, Task *task)
{
    Shared *shared = wear->shared;
    if (shared->stepping == task && wear->thread->context == wear->worn && Py_REFCNT(wear->worn) == 3 &&
        vars_of(wear->worn) == shared->vars) {
        shared->stepping = NULL;
        return 0;
    }
    return wear_changed(wear, task);
}

#endif
