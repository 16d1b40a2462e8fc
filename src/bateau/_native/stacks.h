/* The table of stacks, for the other parts of bateau._native: what `Stacks.of` answers, without the Python number. */
#ifndef BATEAU_STACKS_H
#define BATEAU_STACKS_H

#include "native.h"

enum { STACK_EMPTY = -1, STACK_NOT_KNOWN = -2 };

int bateau_is_stacks(PyObject *object);
/* Which stack a coroutine has, of a Stacks; STACK_NOT_KNOWN also with an exception set. */
long bateau_stacks_of(PyObject *stacks, PyObject *coro);

#endif
