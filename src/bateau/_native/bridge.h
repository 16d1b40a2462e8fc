/* What engine.c knows of bridge.c: the engine as an asyncio event loop. */
#ifndef BATEAU_BRIDGE_H
#define BATEAU_BRIDGE_H

#include "kernel.h"

typedef struct LoopSide LoopSide;

#ifdef __linux__
/* The side whose hook this is (`engine.on_step`), or NULL: the hook is another's. Borrowed. */
LoopSide *bateau_side_of(PyObject *hook);
/* `task` is about to step: publish it as asyncio's current task. 0, or -1 with an exception. */
int bateau_side_publish(LoopSide *side, Task *task);
/* `task`, of which nothing is cancelled, let the others run: asyncio's first, if there are any. 0, or -1. */
int bateau_side_yielded(LoopSide *side, Engine *engine, Task *task);
/* `task` suspended with `trap`. 1: it waits for a future of this loop; 0: that is for `Engine._trapped` to see to; -1. */
int bateau_side_awaits(LoopSide *side, Engine *engine, Task *task, PyObject *trap);
/* `task` has ended: its face, if it has one, is told. 0, or -1. */
int bateau_face_ended(Task *task);
#else
#define bateau_side_of(hook) ((LoopSide *)NULL)
#define bateau_side_publish(side, task) (0)
#define bateau_side_yielded(side, engine, task) (0)
#define bateau_side_awaits(side, engine, task, trap) (0)
#define bateau_face_ended(task) (0)
#endif

#endif
