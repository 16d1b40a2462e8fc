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
/* How many of asyncio's cancellations the task has met that nobody has taken back: what `engine.native_cancelling` says, where
 * `bateau_counts_cancellations` says that it is ours, or that there is no asyncio. */
long bateau_face_cancels(Task *task);
int bateau_counts_cancellations(Engine *engine);
#else
#define bateau_face_cancels(task) (0L)
#define bateau_counts_cancellations(engine) (!is_set((engine)->native_cancelling))
#define bateau_side_of(hook) ((LoopSide *)NULL)
#define bateau_side_publish(side, task) (0)
#define bateau_side_yielded(side, engine, task) (0)
#define bateau_side_awaits(side, engine, task, trap) (0)
#define bateau_face_ended(task) (0)
#endif

#endif
