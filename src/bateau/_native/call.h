/* What the files with calls share; call.c has the theory. */
#ifndef BATEAU_CALL_H
#define BATEAU_CALL_H

#include "operation.h"

typedef struct Call Call;

/* What the calls of one kind of object are about: one of these for files, one for buffered streams. */
typedef struct {
    PySendResult (*begin)(Call *self, PyObject *arg, PyObject **result); /* the first step */
    void (*let_go)(Call *self);                                          /* take `mark` back from the owner, and let go of it */
    const char *const *names;                                            /* by `kind`, for the warning that nobody awaited it */
} CallsOf;

/* What is made of the end of `below`: `how` and `*result` are as PyIter_Send left them, never PYGEN_NEXT. */
typedef PySendResult (*resumed_function)(Call *self, PySendResult how, PyObject **result);

#define CALL_OBJECTS(X) X(owner) X(first) X(second) X(below) X(mark)

struct Call {
    PyObject_HEAD
    PyObject *owner;          /* the file, the reader, the writer */
    PyObject *first, *second; /* the arguments as given, or NULL */
    PyObject *below;          /* what is resumed, or NULL */
    PyObject *mark;           /* what stands at the owner exactly as long as this call keeps others away; else NULL */
    const CallsOf *of;
    resumed_function resumed; /* NULL: the end of `below` is the call's */
    Py_ssize_t size;          /* of those that are asked for a number of bytes */
    long long place;          /* where in the file, or in what is buffered */
    char kind, phase;
    char direct;    /* what comes from below is the result, past the buffer */
    char finalized; /* its finaliser has run, so the collector will not run it again */
};

/* Freed calls: emptied, untracked, without a reference count. */
extern struct SpareCalls {
    int count;
    Call *calls[32];
} spare_calls;

Call *call_allocate(void);
void call_let_go(Call *self);
PySendResult call_below(Call *self, PyObject *arg, PyObject **result);
PySendResult call_resume(Call *self, PyObject *arg, PyObject **result);
PySendResult call_leave(Call *self, PyObject *coro, PyObject *arg, PyObject **result);

/* The call of a method: NULL with MemoryError. */
static inline PyObject *
call_new(const CallsOf *of, int kind, PyObject *owner, PyObject *first, PyObject *second, Py_ssize_t size, long long place)
{
    Call *call;
    if (LIKELY(spare_calls.count > 0)) {
        call = spare_calls.calls[--spare_calls.count];
        _Py_NewReference((PyObject *)call);
    } else if ((call = call_allocate()) == NULL) {
        return NULL;
    }
    call->owner = Py_NewRef(owner);
    call->first = Py_XNewRef(first);
    call->second = Py_XNewRef(second);
    call->of = of;
    call->resumed = NULL;
    call->size = size;
    call->place = place;
    call->kind = (char)kind;
    call->phase = BEFORE;
    call->direct = 0;
    PyObject_GC_Track(call);
    return (PyObject *)call;
}

/* The call has ended: with `value` (stolen), or with the exception that is set. */
static inline PySendResult
call_over(Call *self, PyObject *value, PyObject **result)
{
    self->phase = OVER;
    if (self->mark != NULL) {
        call_let_go(self);
    }
    *result = value;
    return value != NULL ? PYGEN_RETURN : PYGEN_ERROR;
}

#endif
