/* The contexts (contextvars) of tasks: copied late, and entered seldom.

   A task runs in a copy of its spawner's context. But most tasks never set a variable, and the copies of one spawner's tasks then never
   differ: so they *share* one. A `Shared` is what tasks have for a context that were spawned from the same variables and have set none
   since. It has two copies of those variables: `pristine`, which nobody ever enters, and `worn`, in which its tasks are stepped, one
   after the other. The engine's turn does not leave `worn` between two steps of such tasks (`wear`, `wear_step`, `wear_off`).

   Why nobody can tell. After each step, before anything else of Python's runs, the turn looks whether `worn` still has the variables
   of `pristine` (a context's variables are an immutable mapping, so that setting one puts another mapping there), and whether somebody
   has taken a reference to `worn` (the token of a variable that was set and reset). If so, `worn` becomes that task's own, and the others
   get a new one. Who asks a task for its `context` makes it the task's own as well: `worn` itself while the task is being stepped in it,
   else a copy of `pristine`. What runs between two steps and may be Python (an observer, the end of a task) runs outside of `worn`. A
   destructor that sets a variable between two steps is found out by the same look before the next step.

   `worn` is entered by one turn at most: a turn within a step (a nested loop) gives the tasks it steps a context of their own.

   Ownership. Tasks own their Shared, it owns both copies. The engine keeps the one that was made last for the next spawn, borrowed: a
   Shared tells its engine (borrowed too) of its end, and the engine tells it of its own.

   Which mapping a context has, CPython does not tell: it is read at its place in the object, which has been the same from 3.7 to 3.15.
   `context_ready` makes sure of it by a context's own traversal; where it is not there, each task has a copy of its own. */
#include "context.h"

static int layout_known;

static int
shared_traverse(Shared *self, visitproc visit, void *arg)
{
    Py_VISIT(self->pristine);
    Py_VISIT(self->worn);
    return 0;
}

static void
shared_dealloc(Shared *self)
{
    PyObject_GC_UnTrack(self);
    if (self->engine != NULL && self->engine->shared == self) {
        self->engine->shared = NULL;
    }
    Py_CLEAR(self->worn);
    Py_CLEAR(self->pristine);
    PyObject_GC_Del(self);
}

/* No tp_clear: a cycle through it goes through a value of its variables, and on from there through a task, which has one. */
PyTypeObject SharedType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.Shared",
    .tp_basicsize = sizeof(Shared),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)shared_dealloc,
    .tp_traverse = (traverseproc)shared_traverse,
};

/* -- making --------------------------------------------------------------------------------------------------------------- */

/* Takes over the reference to `pristine`, which nobody else has. */
static Shared *
shared_new(Engine *engine, PyObject *pristine)
{
    Shared *made = PyObject_GC_New(Shared, &SharedType);
    if (made == NULL) {
        Py_DECREF(pristine);
        return NULL;
    }
    made->pristine = pristine;
    made->vars = vars_of(pristine);
    made->worn = NULL;
    made->stepping = NULL;
    made->entered = 0;
    made->engine = engine;
    if (engine->shared != NULL) {
        engine->shared->engine = NULL;
    }
    engine->shared = made;
    PyObject_GC_Track(made);
    return made;
}

PyObject *
context_for_spawn(Engine *engine)
{
    PyObject *here = layout_known ? PyThreadState_Get()->context : NULL;
    if (here == NULL) {
        return PyContext_CopyCurrent();
    }
    PyObject *vars = vars_of(here);
    Task *spawner = running_task();
    if (spawner != NULL && spawner->host == (PyObject *)engine && is_shared(spawner->context) &&
        ((Shared *)spawner->context)->vars == vars) {
        return Py_NewRef(spawner->context);
    }
    if (engine->shared != NULL && engine->shared->vars == vars) {
        return Py_NewRef((PyObject *)engine->shared);
    }
    PyObject *pristine = PyContext_CopyCurrent();
    return pristine != NULL ? (PyObject *)shared_new(engine, pristine) : NULL;
}

int
context_share(Engine *engine, Task *task)
{
    PyObject *context = task->context;
    if (!layout_known || context == NULL || !PyContext_CheckExact(context) || Py_REFCNT(context) != 1 ||
        ((ContextLayout *)context)->weakrefs != NULL) {
        return 0;
    }
    task->context = NULL; /* ours meanwhile: making the other may run the collector, and that anything */
    Shared *shared = shared_new(engine, context);
    if (shared == NULL) {
        return -1;
    }
    Py_XSETREF(task->context, (PyObject *)shared);
    return 0;
}

void
context_engine_goes(Engine *engine)
{
    if (engine->shared != NULL) {
        engine->shared->engine = NULL;
        engine->shared = NULL;
    }
}

int
context_own(Task *task)
{
    if (!is_shared(task->context)) {
        return 0;
    }
    Shared *shared = (Shared *)task->context;
    PyObject *own;
    if (Py_REFCNT(shared) == 1) { /* it was the last: nobody needs two of them */
        own = shared->pristine;
        shared->pristine = NULL;
    } else if (shared->stepping == task && shared->worn != NULL) {
        own = shared->worn;
        shared->worn = NULL;
        shared->stepping = NULL;
        shared->entered = 0; /* what is entered is the task's now */
    } else {
        /* Copying may run the collector (3.11), and that anything: as long as we have the Shared, nobody takes the `pristine` that is
           being copied for the last one's own. */
        Py_INCREF(shared);
        own = PyContext_Copy(shared->pristine);
        int still = task->context == (PyObject *)shared;
        Py_DECREF(shared);
        if (own == NULL) {
            return -1;
        }
        if (!still) {
            Py_DECREF(own);
            return context_own(task);
        }
    }
    task->context = own;
    Py_DECREF(shared);
    return 0;
}

/* -- wearing ---------------------------------------------------------------------------------------------------------------- */

int
wear_off(Wear *wear)
{
    Shared *shared = wear->shared;
    if (shared == NULL) {
        return 0;
    }
    PyObject *worn = wear->worn;
    wear->shared = NULL;
    wear->worn = NULL;
    if (shared->worn == worn) {
        shared->entered = 0;
        if (vars_of(worn) != shared->vars || Py_REFCNT(worn) > 3) { /* a destructor between two steps */
            shared->worn = NULL;
            Py_DECREF(worn);
        }
    }
    int status = PyContext_Exit(worn);
    Py_DECREF(worn);
    Py_DECREF(shared);
    return status;
}

/* Enter the context of a task that shares it. 0, -1 with an exception, or 1 if it has to have its own. */
int
wear_enter(Wear *wear, Task *task)
{
    if (wear->shared != NULL && wear_off(wear) < 0) {
        return -1;
    }
    if (!is_shared(task->context)) {
        return 1;
    }
    Shared *shared = (Shared *)task->context;
    if (shared->entered || (Py_REFCNT(shared) == 1 && shared->engine == NULL)) { /* by the turn around this one; or nobody will join it */
        return context_own(task) < 0 ? -1 : 1;
    }
    Py_INCREF(shared);
    if (shared->worn == NULL || vars_of(shared->worn) != shared->vars || Py_REFCNT(shared->worn) > 1) {
        PyObject *made = PyContext_Copy(shared->pristine);
        if (made == NULL || shared->entered || task->context != (PyObject *)shared) {
            int status = made == NULL ? -1 : context_own(task) < 0 ? -1 : 1;
            Py_XDECREF(made);
            Py_DECREF(shared);
            return status;
        }
        Py_XSETREF(shared->worn, made);
    }
    PyObject *worn = Py_NewRef(shared->worn);
    if (PyContext_Enter(worn) < 0) {
        Py_DECREF(worn);
        Py_DECREF(shared);
        return -1;
    }
    shared->entered = 1;
    shared->stepping = task;
    wear->shared = shared;
    wear->worn = worn;
    return 0;
}

/* The task that was stepped in `worn` has set a variable, or somebody has taken its context. 0, or -1 with an exception. */
int
wear_changed(Wear *wear, Task *task)
{
    Shared *shared = wear->shared;
    if (shared->worn == wear->worn && task->context == (PyObject *)shared) {
        shared->stepping = task;
        if (context_own(task) < 0) {
            return -1;
        }
    }
    shared->stepping = NULL;
    return wear_off(wear);
}

/* -- the look at the layout ------------------------------------------------------------------------------------------------- */

static int
look_for(PyObject *referent, void *wanted)
{
    if (*(PyObject **)wanted == referent) {
        *(PyObject **)wanted = NULL;
    }
    return 0;
}

int
kernel_context_ready(PyObject *module)
{
    if (PyType_Ready(&SharedType) < 0) {
        return -1;
    }
    PyObject *context = PyContext_New();
    if (context == NULL) {
        return -1;
    }
    PyTypeObject *type = Py_TYPE(context);
    if (type->tp_basicsize == sizeof(ContextLayout) && type->tp_traverse != NULL) {
        PyObject *vars = vars_of(context), *wanted = vars;
        if (vars != NULL) {
            type->tp_traverse(context, look_for, &wanted);
            layout_known = wanted == NULL && strcmp(Py_TYPE(vars)->tp_name, "hamt") == 0;
        }
    }
    Py_DECREF(context);
    return 0;
}
