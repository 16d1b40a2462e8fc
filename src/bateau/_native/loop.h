/* What loop.c and stream.c share: the core of an asyncio event loop, as its transports see it. */
#ifndef BATEAU_LOOP_H
#define BATEAU_LOOP_H

#include "native.h"

#include <stdint.h>
#include <sys/epoll.h>

/* One recv takes at most this much: asyncio's own size. */
#define RECEIVE_SIZE (256 * 1024)

typedef struct Handle Handle;
typedef struct TimerHandle TimerHandle;

/* What a descriptor is registered for; see the head of loop.c. */
typedef struct {
    PyObject *reader;     /* owned, or NULL: a handle to be queued when the descriptor is readable */
    PyObject *writer;     /* owned, or NULL */
    PyObject *stream;     /* owned while stream_mask is not 0, else NULL */
    uint32_t stream_mask; /* what the stream wants: EPOLLIN, EPOLLOUT */
    uint32_t mask;        /* what the kernel was told; 0: the descriptor is not in the epoll set */
    uint32_t generation;  /* of this registration: an event of an earlier one is not ours */
} Entry;

typedef struct LoopCore {
    PyObject_HEAD

    /* The ready queue: a ring of owned references. capacity is a power of two; head is the oldest. */
    PyObject **ready;
    size_t ready_head, ready_count, ready_capacity;

    /* Timers: a binary heap of owned references, each timer knows its place. */
    TimerHandle **timers;
    Py_ssize_t timer_count, timer_capacity;
    uint64_t timer_sequence;

    /* The reactor. */
    Entry *entries;
    int entry_count;
    int registered; /* entries whose mask is not 0 */
    int epoll_fd;   /* -1 once closed */
    int wake_fd;    /* an eventfd; -1 once closed */
    unsigned forks; /* bateau_forks when the two were made */
    int embedded;   /* another's reactor has our epoll set, and polls for us: each wake-up has to be written */
    int polling;    /* a thread may be blocked in epoll_wait: a wake-up has to be written */
    int woken;      /* it has been */
    int poll_now;   /* something was done that may have made a descriptor ready: do not put the poll off */
    int put_off;    /* callbacks run since the last poll */
    int events;     /* what that one found */
    int64_t tick;   /* of the coarse clock, when that was */

    /* Streams that hold what a callback has written until it returns (stream.c): owned references. Empty between callbacks. */
    PyObject **held;
    Py_ssize_t held_count, held_capacity;
    unsigned held_forks; /* bateau_forks when the first came in: what a parent holds is not its child's to send */
    char holding;        /* a callback runs: streams may hold */

    char *receive;  /* RECEIVE_SIZE bytes, made on first use; its contents are nobody's between two calls */

    /* Handles that nobody else has any more, to be used again. */
    Handle *spare[64];
    int spare_count;

    /* BaseEventLoop's own fields, here because every call reads them. */
    char stopping, debug, closed, core_closed;
    PyObject *thread_id; /* owned, or NULL */
#if PY_VERSION_HEX < 0x030C0000
    PyObject *marker;      /* owned while it runs, or NULL: what asyncio put into the thread's dict when we became its running loop */
    unsigned marker_forks; /* bateau_forks at that time */
    struct LoopCore *next_marked; /* of those that have a marker; borrowed, each takes itself out */
#endif
    PyObject *future_type; /* owned, or NULL until asyncio's side sets it */
    PyObject *future_kwargs; /* owned: {"loop": self}, or NULL; with the type, what create_future needs */
} LoopCore;

extern PyTypeObject *bateau_loop_core_type;

/* loop.c, for stream.c. All need the GIL; -1 means an exception is set. */
int bateau_stream_interest(LoopCore *loop, int fd, PyObject *stream, uint32_t mask);
int bateau_loop_hold(LoopCore *loop, PyObject *stream); /* flush it when the callback that runs has returned */
int bateau_loop_holds(LoopCore *loop); /* whether what is written now may wait: a callback runs, and all that waits is this process's */
int bateau_loop_forked(LoopCore *loop); /* whether what is held was written by the process that this one was forked from */
char *bateau_receive_buffer(LoopCore *loop);
PyObject *bateau_take_exception(void);
int bateau_stream_exec(PyObject *module);

/* loop.c, for bridge.c, which embeds a loop. */
double bateau_core_rest(LoopCore *loop);            /* seconds until it has something to do; negative: it has nothing in sight */
int bateau_core_wants_poll(LoopCore *loop);         /* whether it has nothing to run, or should look at its descriptors first */
int bateau_core_round(LoopCore *loop, int polled);  /* 1: look at its descriptors; 0: those were looked at, none is ready; -1: not now */

/* stream.c, for loop.c: what epoll reported for a stream. */
int bateau_stream_ready(PyObject *stream, uint32_t events);
/* stream.c, for loop.c: send what it holds. 0, or -1 with what must end the loop. */
int bateau_stream_flush(PyObject *stream);

#endif
