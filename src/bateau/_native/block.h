/* Entering and leaving a block: what timeouts (timeout.c) and scopes (block.c) share. */
#ifndef BATEAU_BLOCK_H
#define BATEAU_BLOCK_H

#include "operation.h"

int block_can_enter(Cancellable *self, Task *task, Engine *engine);
int block_enter(Cancellable *self, Task *task, Engine *engine);
int block_can_leave(Cancellable *self, Task *task, Engine *engine);
void block_leave(Cancellable *self, Task *task);

#endif
