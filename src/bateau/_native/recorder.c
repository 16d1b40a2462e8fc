/* The flight recorder's writer: the twin of bateau/insight/recorder/writer.py, at a tenth of its cost.
 *
 * What is written is said in bateau/insight/recorder/layout.py, and nowhere else: this file repeats its numbers. The file itself,
 * its header and its sizes are made by Python; a Ring gets the map. Under the GIL one call is one transition, so that threads
 * (a collector that ends an adopted task) may call as they like. Nothing raises into the scheduler: what fails leaves a gap.
 *
 * Sections: numbers of the layout; a hash map; texts and stacks; frames of the interpreter; records and slots; the instrument.
 */
#define Py_BUILD_CORE 1
#include "recorder.h"
#include <dlfcn.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#define TICKS() __rdtsc()
#endif
#if PY_VERSION_HEX < 0x030E0000
#include "internal/pycore_frame.h"
#define OWN_FRAMES 1
#endif

/* ---- numbers of the layout ------------------------------------------------------------------------------------------ */

enum { HOT_AT = 2048 };
enum { HOT_HEAD, HOT_TASK, HOT_STEP, HOT_IDLE, HOT_TEXTS, HOT_SLOTS, HOT_LOST_TASKS, HOT_LOST_TEXTS, HOT_STATE };
enum { SPAWN = 1, STEP, IDLE, PARK, WAKE, CANCEL, END, NOTE, TAIL = 15 };
enum { IS_NEW = 1, IS_READY, IS_WAITING, IS_FOREIGN, HAS_ENDED };
enum { RETURNED, FAILED, CANCELLED };
enum { AUTO_NAME = 1, OUTCOME_SHIFT = 8 };
enum { WORDS = 1, FRAME, STACK };
enum { DEPTH = 24, KEPT_FREE = 256 };
enum { NO_ROW, SHARING = 16, LONGEST_TICK = 10000000 }; /* of `row`; layout.py: LATER */
#define LONG (1u << 27)
#define NO_ROOM UINT32_MAX /* of a frame or stack that found none: it is not tried again */

static const uint64_t FACTORS[12] = {
    0x9E3779B97F4A7C15u, 0xC2B2AE3D27D4EB4Fu, 0x165667B19E3779F9u, 0xD6E8FEB86659FD93u, 0xA0761D6478BD642Fu, 0xE7037ED1A0B428DBu,
    0x8EBC6AF09C88C6E3u, 0x589965CC75374CC3u, 0x1D8E4E27C47D124Fu, 0xEB44ACCAB455D165u, 0x2F9BE6CC5BE4F515u, 0x9FB21C651E98DF25u,
};

typedef struct {
    uint64_t x, y; /* y: the number of 32 bits, and above it the tag */
} Unit;

typedef struct {
    /* its state */
    uint64_t since, holder;
    uint64_t state; /* and above it the checksum: stored in one */
    /* what it waits on */
    uint64_t address, number;
    uint32_t stack, operation, kind, label, wait_check, spare;
    /* which task it is */
    uint64_t id, spawned, parent;
    uint32_t name, site, reason, flags, identity_check, rest[5];
} Slot;

/* The middle part, as it is found out, and who holds the resource. */
typedef struct {
    uint64_t address, number, holder;
    uint32_t stack, operation, kind, label;
} Wait;

_Static_assert(sizeof(Unit) == 16 && sizeof(Slot) == 128, "the layout's sizes");
_Static_assert(offsetof(Slot, address) == 24 && offsetof(Slot, id) == 64, "the layout's parts");
_Static_assert(offsetof(Slot, operation) == offsetof(Slot, stack) + 4 && offsetof(Slot, label) == offsetof(Slot, kind) + 4, "pairs");

/* The compiler must not move stores across: a kill may come between any two. (Other processors don't matter: who reads a live
 * file checks what it read.) */
#define BARRIER() __asm__ __volatile__("" ::: "memory")

/* ---- a hash map from numbers to small numbers ------------------------------------------------------------------------ */

typedef struct {
    uint64_t *keys; /* 0: free */
    uint32_t *values;
    size_t mask, used;
} Map;

static inline size_t
spread(uint64_t key)
{
    key *= FACTORS[0];
    return (size_t)(key ^ (key >> 29));
}

static int
map_resize(Map *map, size_t size)
{
    uint64_t *keys = PyMem_Calloc(size, sizeof(uint64_t));
    uint32_t *values = PyMem_Calloc(size, sizeof(uint32_t));
    if (keys == NULL || values == NULL) {
        PyMem_Free(keys);
        PyMem_Free(values);
        return -1;
    }
    for (size_t i = 0; map->keys != NULL && i <= map->mask; i++) {
        if (map->keys[i] != 0) {
            size_t at = spread(map->keys[i]) & (size - 1);
            while (keys[at] != 0) {
                at = (at + 1) & (size - 1);
            }
            keys[at] = map->keys[i];
            values[at] = map->values[i];
        }
    }
    PyMem_Free(map->keys);
    PyMem_Free(map->values);
    map->keys = keys;
    map->values = values;
    map->mask = size - 1;
    return 0;
}

static inline uint32_t
map_get(const Map *map, uint64_t key)
{
    size_t at = spread(key) & map->mask;
    while (map->keys[at] != key) {
        if (map->keys[at] == 0) {
            return 0;
        }
        at = (at + 1) & map->mask;
    }
    return map->values[at];
}

static int
map_put(Map *map, uint64_t key, uint32_t value)
{
    if (map->used * 2 > map->mask && map_resize(map, (map->mask + 1) * 2) < 0) {
        return -1;
    }
    size_t at = spread(key) & map->mask;
    while (map->keys[at] != 0 && map->keys[at] != key) {
        at = (at + 1) & map->mask;
    }
    map->used += map->keys[at] == 0;
    map->keys[at] = key;
    map->values[at] = value;
    return 0;
}

static void
map_drop(Map *map, uint64_t key)
{
    size_t at = spread(key) & map->mask;
    while (map->keys[at] != key) {
        if (map->keys[at] == 0) {
            return;
        }
        at = (at + 1) & map->mask;
    }
    map->used--;
    /* Close the gap: move back whatever would no longer be found behind it. */
    for (size_t next = (at + 1) & map->mask; map->keys[next] != 0; next = (next + 1) & map->mask) {
        size_t home = spread(map->keys[next]) & map->mask;
        if (((next - home) & map->mask) >= ((next - at) & map->mask)) {
            map->keys[at] = map->keys[next];
            map->values[at] = map->values[next];
            at = next;
        }
    }
    map->keys[at] = 0;
}

/* ---- the ring ---------------------------------------------------------------------------------------------------------- */

/* What is asked of a resource or operation, by its type: worked out by Python once for each. */
typedef struct {
    uint32_t words;      /* the kind of a resource, or the name of an operation's class */
    char holders;        /* whether its holders are asked for */
    PyObject *attribute; /* its name or number, or NULL */
    PyObject *owner;     /* its one holder, or NULL */
    /* Where in an instance these, or an operation's resource, are kept; -1: they have to be asked for. */
    Py_ssize_t offset, owner_offset;
    Py_ssize_t plain; /* where the number is that C keeps as an int (a descriptor); -1: there is none */
} About;

struct BateauRing {
    PyObject_HEAD
    Py_buffer view;
    char *base; /* NULL once closed */
    int busy;   /* calls that are writing: what they ask may run Python code, that of close() too, which leaves them the map */
    uint64_t *hot, seed;
    uint64_t number;  /* units written */
    uint64_t fresh;   /* the time at which the running task parked, if nothing but the engine has run since; else 0 */
    uint64_t shared;  /* the time that steps in a row share, see step_time() */
    struct timespec tick; /* the system's coarse clock just before `shared` was read */
    int row; /* NO_ROW, or 1 after a step with a time of its own and nothing since; above 1: how many more may share `shared`, and 1 */
    uint32_t serial;  /* which Ring of this process this is: a task's slot is one of it */
    unsigned lap_shift;
    Unit *units;
    uint64_t unit_mask;
    Slot *slots;
    uint32_t slot_count, slots_used;
    char *texts;
    uint64_t texts_size, texts_used;
    Map tasks;  /* id -> slot + 1, of tasks that are not the native kernel's: those know it themselves */
    Map places; /* frames and stacks, by what they are made of -> text */
    Map types;  /* address of a type -> index of its About + 1 */
    About *abouts;
    uint32_t about_count, about_room;
    uint32_t *freed; /* a queue of slots: the tasks that ended last stay readable for a while */
    uint32_t freed_first, freed_count, freed_room;
    PyObject *words; /* text -> its place */
    PyObject *last_word; /* what was asked for last, and its place: a thousand tasks in a row are of one function */
    uint32_t last_place;
    PyObject *kept;  /* the code objects and types whose addresses are keys */
    PyObject *about; /* Python's function: type -> (words, attribute, holders) */
    PyObject *cancelled; /* the type that a cancelled task ends with */
    int counts; /* whether ticks may be counted, see now() */
    int shares; /* whether steps may share a reading, see step_time() */
};

static PyTypeObject *ring_type;

static struct {
    PyObject *id, *name, *private_name, *coro, *qualname, *site_code, *site_offset, *spawn_site, *scope, *task, *waiting, *resource,
        *holders, *reason, *cr_frame, *gi_frame, *ag_frame, *cr_await, *gi_yieldfrom, *ag_await;
} names;

static uint64_t
system_time(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

#ifdef TICKS
enum { LEARNING = 2000000 }; /* nanoseconds: two readings this far apart tell the rate to 25 ppm */

/* One clock for all rings, under the GIL: the first reading of both clocks (when the module was loaded, so that a ring finds the rate
 * known), the last, nanoseconds per tick (32.32), and how many ticks may pass between two readings. */
static struct {
    uint64_t ticks, time, rate, limit, told, first_ticks, first_time;
} clocks;

/* Read both clocks, and learn the rate of the ticks: from the first reading on, so ever better. */
static __attribute__((noinline)) uint64_t
read_clocks(void)
{
    uint64_t ticks = 0, time = system_time(), window = UINT64_MAX;
    if (clocks.first_ticks != 0 && time - clocks.first_time <= LEARNING) {
        return time; /* too early to tell the rate */
    }
    for (int i = 0; i < 3; i++) { /* between the two the processor may have been taken away: the closest pair counts */
        uint64_t before = TICKS(), at = system_time(), after = TICKS();
        if (after - before < window) {
            window = after - before;
            ticks = before + window / 2;
            time = at;
        }
    }
    if (clocks.first_ticks == 0) {
        clocks.first_ticks = ticks;
        clocks.first_time = time;
    }
    else if (ticks > clocks.first_ticks) {
        clocks.rate = (uint64_t)((double)(time - clocks.first_time) / (double)(ticks - clocks.first_ticks) * 4294967296.0);
        clocks.limit = clocks.rate == 0 ? 0 : (1000000ull << 32) / clocks.rate; /* a millisecond's worth */
    }
    clocks.ticks = ticks;
    clocks.time = time;
    return time;
}
#endif

/* The monotonic clock. The system's costs several times what an event does, so where the processor counts ticks that the system itself
 * trusts (its clock source is the tsc) the time since its last reading is counted in these. It is read each millisecond: a rate that is
 * off by 100 ppm is off by 100 ns. What is told never goes back. */
static inline uint64_t
now(BateauRing *ring)
{
    ring->row = NO_ROW;
#ifdef TICKS
    if (ring->counts) {
        uint64_t passed = TICKS() - clocks.ticks; /* huge if it went back */
        uint64_t time = passed < clocks.limit ? clocks.time + (passed * clocks.rate >> 32) : read_clocks();
        if (time < clocks.told) {
            time = clocks.told;
        }
        clocks.told = time;
        return time;
    }
#endif
    return system_time();
}

#ifdef CLOCK_MONOTONIC_COARSE
/* The time of the last tick of the system's clock: two words of memory, read through the kernel's own page of functions without the C
 * library's call of it where that page is found by its name. A third of what even the processor's ticks cost. */
static int (*read_coarse)(clockid_t, struct timespec *);

/* Find it; returns whether its ticks are as near to each other as the layout promises. */
static int
find_coarse(void)
{
    struct timespec apart;
    if (read_coarse == NULL) {
        void *page = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD); /* never closed: it stays as long as the process */
        void *found = page != NULL ? dlsym(page, "__vdso_clock_gettime") : NULL;
        struct timespec at;
        memcpy(&read_coarse, &found, sizeof found);
        if (read_coarse == NULL || read_coarse(CLOCK_MONOTONIC_COARSE, &at) != 0) {
            read_coarse = clock_gettime;
        }
    }
    return clock_getres(CLOCK_MONOTONIC_COARSE, &apart) == 0 && apart.tv_sec == 0 && apart.tv_nsec <= LONGEST_TICK;
}

/* When the step begins that is told now. The step before it ended with a bare yield if nothing was told since: then what is asked first
 * is only whether the system's clock has ticked since the last reading. If not, that reading is the time of this step too: it began then
 * or later, but before the next tick. So a step that lasts longer than from tick to tick is never taken for the next one; and of short
 * ones at most SHARING have one time. Whatever else is told reads the clock, and the step after it has a time of its own: times are in
 * order, and only yields in a row share.
 *
 * `tick` is read before `shared`: were it read after, a tick between both would be counted as none. */
static inline uint64_t
step_time(BateauRing *ring, int *shared)
{
    *shared = 0;
    uint64_t time = ring->fresh;
    if (time != 0) {
        ring->fresh = 0;
        return time;
    }
    int row = ring->row;
    if (row > 1) {
        struct timespec tick;
        read_coarse(CLOCK_MONOTONIC_COARSE, &tick);
        if (tick.tv_nsec == ring->tick.tv_nsec && tick.tv_sec == ring->tick.tv_sec) {
            ring->row = row - 1;
            *shared = 1;
            return ring->shared;
        }
        ring->tick = tick;
    }
    else if (row == 1) {
        read_coarse(CLOCK_MONOTONIC_COARSE, &ring->tick);
    }
    time = now(ring);
    if (ring->shares) {
        ring->row = row != NO_ROW ? SHARING : 1;
        ring->shared = time;
    }
    return time;
}
#else
#define find_coarse() 0
static inline uint64_t
step_time(BateauRing *ring, int *shared)
{
    *shared = 0;
    uint64_t time = ring->fresh != 0 ? ring->fresh : now(ring);
    ring->fresh = 0;
    return time;
}
#endif

static inline uint32_t
folded(uint64_t total)
{
    return (uint32_t)(total ^ (total >> 32));
}

static inline void
write_unit(BateauRing *ring, uint64_t number, uint64_t x, uint32_t y, uint32_t top)
{
    uint64_t index = (number - 1) & ring->unit_mask;
    Unit *unit = &ring->units[index];
    top |= (uint32_t)((number - 1) >> ring->lap_shift & 7) << 24;
    uint64_t total = x * FACTORS[0] ^ (y | (uint64_t)top << 32) * FACTORS[1] ^ (ring->seed ^ index) * FACTORS[2];
    unit->x = x;
    BARRIER();
    unit->y = y | (uint64_t)(top | folded(total) >> 8) << 32;
}

static inline void
record(BateauRing *ring, uint64_t time, unsigned kind, uint64_t task, uint32_t a, uint32_t b)
{
    uint64_t number = ring->number + 1, rest = a | (uint64_t)b << 32;
    if (rest == 0 && task >> 32 == 0) {
        write_unit(ring, number, time, (uint32_t)task, kind << 28);
        ring->number = number;
    }
    else {
        write_unit(ring, number, time, (uint32_t)task, kind << 28 | LONG);
        write_unit(ring, number + 1, rest, (uint32_t)(task >> 32), (uint32_t)TAIL << 28);
        ring->number = number + 1;
    }
    BARRIER();
    ring->hot[HOT_HEAD] = ring->number;
    __builtin_prefetch(&ring->units[(ring->number + 4) & ring->unit_mask], 1);
}

/* ---- texts and stacks ---------------------------------------------------------------------------------------------------- */

static uint32_t
crc32(uint32_t crc, const void *data, size_t size)
{
    static uint32_t table[256];
    if (table[1] == 0) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; bit++) {
                value = value & 1 ? value >> 1 ^ 0xEDB88320u : value >> 1;
            }
            table[i] = value;
        }
    }
    const unsigned char *bytes = data;
    crc = ~crc;
    while (size--) {
        crc = table[(crc ^ *bytes++) & 255] ^ crc >> 8;
    }
    return ~crc;
}

/* Append a text; 0 if there is no room (`limit` bytes). */
static uint32_t
append(BateauRing *ring, unsigned kind, const void *content, size_t size, uint64_t limit)
{
    uint64_t at = ring->texts_used, padded = (size + 7) & ~(size_t)7;
    if (size >= 1 << 24 || at + 8 + padded > limit) {
        ring->hot[HOT_LOST_TEXTS]++;
        return 0;
    }
    uint32_t head = kind << 24 | (uint32_t)size;
    uint32_t crc = crc32(crc32(0, &head, 4), content, size);
    memcpy(ring->texts + at + 8, content, size);
    memcpy(ring->texts + at, &head, 4);
    memcpy(ring->texts + at + 4, &crc, 4);
    BARRIER();
    ring->texts_used = at + 8 + padded;
    ring->hot[HOT_TEXTS] = ring->texts_used;
    return (uint32_t)(at / 8);
}

/* The place of a text. `lasting`: it comes from the program's code; else from its data, which may use half of the room. */
static uint32_t
text(BateauRing *ring, PyObject *string, int lasting)
{
    if (string == NULL || !PyUnicode_Check(string)) {
        return 0;
    }
    if (!PyUnicode_CheckExact(string)) { /* it may have a hash of its own, which runs anything and may fail */
        PyObject *exact = PyUnicode_FromObject(string);
        uint32_t place = text(ring, exact, lasting);
        if (exact == NULL) {
            PyErr_Clear();
        }
        Py_XDECREF(exact);
        return place;
    }
    if (string == ring->last_word) {
        return ring->last_place;
    }
    PyObject *known = PyDict_GetItemWithError(ring->words, string);
    if (known != NULL) {
        ring->last_place = (uint32_t)PyLong_AsUnsignedLong(known);
        Py_XSETREF(ring->last_word, Py_NewRef(string));
        return ring->last_place;
    }
    Py_ssize_t size;
    const char *content = PyUnicode_AsUTF8AndSize(string, &size);
    PyObject *encoded = NULL;
    if (content == NULL) { /* a lone surrogate: a file name may have one */
        PyErr_Clear();
        encoded = PyUnicode_AsEncodedString(string, "utf-8", "backslashreplace");
        if (encoded == NULL) {
            PyErr_Clear();
            return 0;
        }
        content = PyBytes_AS_STRING(encoded);
        size = PyBytes_GET_SIZE(encoded);
    }
    if (size > 1024) {
        size = 1024;
        while (size > 0 && ((unsigned char)content[size] & 0xC0) == 0x80) {
            size--;
        }
    }
    uint32_t place = append(ring, WORDS, content, (size_t)size, lasting ? ring->texts_size : ring->texts_size / 2);
    Py_XDECREF(encoded);
    if (place != 0) {
        PyObject *value = PyLong_FromUnsignedLong(place);
        if (value == NULL || PyDict_SetItem(ring->words, string, value) < 0) {
            PyErr_Clear();
        }
        Py_XDECREF(value);
    }
    return place;
}

typedef struct {
    PyCodeObject *code; /* borrowed: its frame holds it */
    int offset;
} Place;

/* A number for places, in this order. It stands for them: two lists of one number would be taken for the same, so all 64 bits count.
 * Each place is multiplied by a factor of its own, and none waits for the one before. */
static inline uint64_t
mixed(uint64_t seed, const Place *places, size_t count)
{
    uint64_t total = seed * FACTORS[0];
    for (size_t i = 0; i < count; i++) {
        uint64_t place = (uint64_t)(uintptr_t)places[i].code ^ (uint64_t)(uint32_t)places[i].offset * FACTORS[4];
        total += (place ^ place >> 29) * (FACTORS[i % 12] + 2 * i);
    }
    total ^= total >> 32;
    return total * FACTORS[5] | 1; /* never 0, which is a free place */
}

/* A frame or a stack by what it says: two instructions of one line are one frame, and two calls there are one stack. */
static uint32_t
said_once(BateauRing *ring, unsigned kind, const uint32_t *content, size_t count)
{
    uint64_t key = (uint64_t)(kind + 16) * FACTORS[0];
    for (size_t i = 0; i < count; i++) {
        key += ((uint64_t)content[i] ^ (uint64_t)content[i] << 32) * (FACTORS[i % 12] + 2 * i);
    }
    key ^= key >> 32;
    key = key * FACTORS[5] | 1;
    uint32_t made = map_get(&ring->places, key);
    if (made == 0) {
        made = append(ring, kind, content, count * sizeof content[0], ring->texts_size);
        if (made != 0) {
            map_put(&ring->places, key, made);
        }
    }
    return made;
}

static uint32_t
frame_text(BateauRing *ring, Place place)
{
    uint64_t key = mixed(FRAME, &place, 1);
    uint32_t known = map_get(&ring->places, key);
    if (known != 0) {
        return known == NO_ROOM ? 0 : known;
    }
    /* The address stands for the code object only as long as that lives. */
    if (PySet_Add(ring->kept, (PyObject *)place.code) < 0) {
        PyErr_Clear();
        return 0;
    }
    uint32_t content[4] = {
        text(ring, place.code->co_filename, 1),
        text(ring, place.code->co_qualname, 1),
        (uint32_t)PyCode_Addr2Line(place.code, place.offset),
        0,
    };
    uint32_t made = said_once(ring, FRAME, content, 4);
    map_put(&ring->places, key, made != 0 ? made : NO_ROOM);
    return made;
}

static uint32_t
stack_text(BateauRing *ring, const Place *places, size_t count)
{
    if (count == 0) {
        return 0;
    }
    uint64_t key = mixed(STACK, places, count);
    uint32_t known = map_get(&ring->places, key);
    if (known != 0) {
        return known == NO_ROOM ? 0 : known;
    }
    uint32_t content[DEPTH];
    for (size_t i = 0; i < count; i++) {
        content[i] = frame_text(ring, places[i]);
    }
    uint32_t made = said_once(ring, STACK, content, count);
    map_put(&ring->places, key, made != 0 ? made : NO_ROOM);
    return made;
}

/* A (file, line) pair, for what was spawned by no frame. */
static uint32_t
pair_text(BateauRing *ring, PyObject *pair)
{
    if (pair == NULL || !PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 || !PyLong_Check(PyTuple_GET_ITEM(pair, 1))) {
        return 0;
    }
    PyObject *known = PyDict_GetItemWithError(ring->words, pair);
    if (known != NULL) {
        return (uint32_t)PyLong_AsUnsignedLong(known);
    }
    PyErr_Clear(); /* a str of another class may have a hash that fails */
    uint32_t content[4] = {text(ring, PyTuple_GET_ITEM(pair, 0), 1), 0, (uint32_t)PyLong_AsLong(PyTuple_GET_ITEM(pair, 1)), 0};
    uint32_t frame = append(ring, FRAME, content, sizeof content, ring->texts_size);
    uint32_t made = frame == 0 ? 0 : append(ring, STACK, &frame, sizeof frame, ring->texts_size);
    PyObject *value = made == 0 ? NULL : PyLong_FromUnsignedLong(made);
    if (value != NULL) {
        PyDict_SetItem(ring->words, pair, value);
        Py_DECREF(value);
    }
    PyErr_Clear();
    return made;
}

/* ---- frames of the interpreter ---------------------------------------------------------------------------------------------- */

/* The coroutines and generators that are running inside each other, innermost first: behind the plain functions that have called
 * us, up to the plain function that drives them. Where the interpreter's own frames are known, no frame object is made: that
 * would cost a parked task its memory. */
static size_t
running_stack(Place *places)
{
    size_t count = 0;
#ifdef OWN_FRAMES
    PyThreadState *thread = PyThreadState_Get();
#if PY_VERSION_HEX >= 0x030D0000
    struct _PyInterpreterFrame *frame = thread->current_frame;
#else
    struct _PyInterpreterFrame *frame = thread->cframe->current_frame;
#endif
    for (; frame != NULL && count < DEPTH; frame = frame->previous) {
#if PY_VERSION_HEX >= 0x030C0000
        if (frame->owner == FRAME_OWNED_BY_CSTACK) {
            continue; /* where C calls the interpreter */
        }
#endif
        if (frame->owner != FRAME_OWNED_BY_GENERATOR) {
            if (count != 0) {
                break;
            }
            continue;
        }
#if PY_VERSION_HEX >= 0x030D0000
        places[count].code = _PyFrame_GetCode(frame);
#else
        places[count].code = frame->f_code;
#endif
        places[count].offset = _PyInterpreterFrame_LASTI(frame) * (int)sizeof(_Py_CODEUNIT);
        count++;
    }
#else
    PyFrameObject *frame = (PyFrameObject *)Py_XNewRef((PyObject *)PyEval_GetFrame());
    while (frame != NULL && count < DEPTH) {
        PyObject *generator = PyFrame_GetGenerator(frame); /* of a plain function None, whatever its documentation says */
        int drives = generator == NULL || generator == Py_None;
        Py_XDECREF(generator);
        if (!drives) {
            places[count].code = PyFrame_GetCode(frame);
            Py_DECREF(places[count].code); /* the frame holds it, and is held by what is running */
            places[count].offset = PyFrame_GetLasti(frame);
            count++;
        }
        else if (count != 0) {
            break;
        }
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
#endif
    return count;
}

static PyObject *
first_attribute(PyObject *thing, PyObject *const *choice)
{
    for (int i = 0; i < 3; i++) {
        PyObject *found = PyObject_GetAttr(thing, choice[i]);
        if (found != NULL) {
            return found;
        }
        PyErr_Clear();
    }
    return NULL;
}

/* The same for a suspended coroutine, from what it says of itself. */
static size_t
suspended_stack(PyObject *coro, Place *places)
{
    PyObject *const frames[3] = {names.cr_frame, names.gi_frame, names.ag_frame};
    PyObject *const awaits[3] = {names.cr_await, names.gi_yieldfrom, names.ag_await};
    Place outermost_first[DEPTH];
    size_t count = 0;
    Py_XINCREF(coro);
    while (coro != NULL && coro != Py_None && count < DEPTH) {
        PyObject *frame = first_attribute(coro, frames);
        if (frame == NULL || !PyFrame_Check(frame)) {
            Py_XDECREF(frame);
            break;
        }
        outermost_first[count].code = PyFrame_GetCode((PyFrameObject *)frame);
        Py_DECREF(outermost_first[count].code); /* the coroutine holds it */
        outermost_first[count].offset = PyFrame_GetLasti((PyFrameObject *)frame);
        count++;
        Py_DECREF(frame);
        PyObject *inner = first_attribute(coro, awaits);
        Py_DECREF(coro);
        coro = inner;
    }
    Py_XDECREF(coro);
    for (size_t i = 0; i < count; i++) {
        places[i] = outermost_first[count - 1 - i];
    }
    return count;
}

/* ---- tasks and their slots --------------------------------------------------------------------------------------------------- */

/* An attribute, or NULL without an exception. */
static PyObject *
attribute(PyObject *thing, PyObject *name)
{
    PyObject *found = PyObject_GetAttr(thing, name);
    if (found == NULL) {
        PyErr_Clear();
    }
    return found;
}

static uint64_t
number_of(PyObject *thing)
{
    if (thing == NULL || !PyLong_Check(thing)) {
        return 0;
    }
    uint64_t value = PyLong_AsUnsignedLongLongMask(thing);
    PyErr_Clear();
    return value;
}

/* Where instances of a class with __slots__ keep an attribute; -1 if it is none of these. */
static Py_ssize_t
place_of(PyTypeObject *type, PyObject *name)
{
    PyObject *member = _PyType_Lookup(type, name);
    if (member != NULL && Py_IS_TYPE(member, &PyMemberDescr_Type)
        && PyType_IsSubtype(type, PyDescr_TYPE(member)) /* it may have been put into a class that is not its own */
        && (((PyMemberDescrObject *)member)->d_member->type == T_OBJECT_EX
            || ((PyMemberDescrObject *)member)->d_member->type == T_OBJECT)) { /* of which NULL is None: nothing, either way */
        return ((PyMemberDescrObject *)member)->d_member->offset;
    }
    return -1;
}

/* Where instances keep an attribute that is an int of C's; -1 if it is none. */
static Py_ssize_t
plain_place_of(PyTypeObject *type, PyObject *name)
{
    PyObject *member = _PyType_Lookup(type, name);
    if (member != NULL && Py_IS_TYPE(member, &PyMemberDescr_Type) && PyType_IsSubtype(type, PyDescr_TYPE(member))
        && ((PyMemberDescrObject *)member)->d_member->type == T_INT) {
        return ((PyMemberDescrObject *)member)->d_member->offset;
    }
    return -1;
}

/* An attribute whose place is known (or -1), or NULL without an exception. */
static inline PyObject *
placed(PyObject *thing, Py_ssize_t offset, PyObject *name)
{
    if (offset >= 0) {
        return Py_XNewRef(*(PyObject **)((char *)thing + offset));
    }
    return attribute(thing, name);
}

/* What every event asks of a task: places in the kernel's own class of tasks, or in whichever came last. */
static struct {
    PyTypeObject *type;
    Py_ssize_t id, plain_id, waiting; /* plain: a C number */
} in_task;

static inline void
know_task(PyObject *task)
{
    if (Py_TYPE(task) != in_task.type) {
        PyObject *member = _PyType_Lookup(Py_TYPE(task), names.id);
        in_task.plain_id = member != NULL && Py_IS_TYPE(member, &PyMemberDescr_Type)
                                   && PyType_IsSubtype(Py_TYPE(task), PyDescr_TYPE(member))
                                   && ((PyMemberDescrObject *)member)->d_member->type == T_LONGLONG
                               ? ((PyMemberDescrObject *)member)->d_member->offset
                               : -1;
        in_task.id = place_of(Py_TYPE(task), names.id);
        in_task.waiting = place_of(Py_TYPE(task), names.waiting);
        Py_XSETREF(in_task.type, (PyTypeObject *)Py_NewRef(Py_TYPE(task)));
    }
}

static inline uint64_t
id_of(PyObject *task)
{
    know_task(task);
    if (in_task.plain_id >= 0) {
        return (uint64_t)*(long long *)((char *)task + in_task.plain_id);
    }
    PyObject *id = placed(task, in_task.id, names.id);
    uint64_t value = number_of(id);
    Py_XDECREF(id);
    return value;
}

/* A task of the native kernel, which knows its slot; else NULL. */
static inline Task *
own_task(PyObject *task)
{
    return is_a(task, &TaskType, &seen[SEEN_TASK]) ? (Task *)task : NULL;
}

static inline void
seal_state(BateauRing *ring, Slot *slot, uint32_t state, uint64_t since, uint64_t holder)
{
    uint64_t total = since * FACTORS[0] ^ holder * FACTORS[1] ^ (state | (uint64_t)slot->wait_check << 32) * FACTORS[2]
                     ^ (ring->seed ^ slot->identity_check) * FACTORS[3];
    slot->since = since;
    slot->holder = holder;
    BARRIER();
    slot->state = state | (uint64_t)folded(total) << 32;
    BARRIER();
}

/* Between these two and seal_state() the slot is nobody's: its checksums contradict each other. */
static inline void
seal_wait(BateauRing *ring, Slot *slot)
{
    uint64_t total = ring->seed * FACTORS[4] ^ slot->address * FACTORS[5] ^ slot->number * FACTORS[6]
                     ^ (slot->stack | (uint64_t)slot->operation << 32) * FACTORS[7]
                     ^ (slot->kind | (uint64_t)slot->label << 32) * FACTORS[8];
    slot->wait_check = folded(total);
    BARRIER();
}

static void
seal_identity(BateauRing *ring, Slot *slot)
{
    uint64_t total = ring->seed * FACTORS[6] ^ slot->id * FACTORS[7] ^ slot->spawned * FACTORS[8] ^ slot->parent * FACTORS[9]
                     ^ (slot->name | (uint64_t)slot->site << 32) * FACTORS[10]
                     ^ (slot->reason | (uint64_t)slot->flags << 32) * FACTORS[11];
    slot->identity_check = folded(total);
    BARRIER();
}

static inline Slot *
slot_of(BateauRing *ring, PyObject *task, uint64_t id)
{
    Task *own = own_task(task);
    if (own != NULL) {
        return own->recorder == ring->serial ? &ring->slots[own->recorder_slot] : NULL;
    }
    uint32_t index = id == 0 ? 0 : map_get(&ring->tasks, id); /* 0 is a free place of the map */
    return index == 0 ? NULL : &ring->slots[index - 1];
}

/* It will be written to: where a system call was made since, it is not in the cache any more. */
static inline void
fetch(Slot *slot)
{
    __builtin_prefetch(slot, 1); /* NULL does no harm */
}

static Slot *
take_slot(BateauRing *ring, PyObject *task, uint64_t id)
{
    uint32_t index;
    if (id == 0) {
        return NULL;
    }
    if (ring->freed_count > KEPT_FREE || (ring->freed_count && ring->slots_used == ring->slot_count)) {
        index = ring->freed[ring->freed_first];
        ring->freed_first = (ring->freed_first + 1) & (ring->freed_room - 1);
        ring->freed_count--;
    }
    else if (ring->slots_used < ring->slot_count) {
        index = ring->slots_used++;
        ring->hot[HOT_SLOTS] = ring->slots_used;
    }
    else {
        ring->hot[HOT_LOST_TASKS]++;
        return NULL;
    }
    Task *own = own_task(task);
    if (own != NULL) {
        own->recorder = ring->serial;
        own->recorder_slot = index;
    }
    else if (map_put(&ring->tasks, id, index + 1) < 0) {
        return NULL;
    }
    return &ring->slots[index];
}

/* A task that has ended gives its slot back; it is readable until many more have. */
static void
give_slot(BateauRing *ring, PyObject *task, uint64_t id, Slot *slot)
{
    Task *own = own_task(task);
    if (own != NULL) {
        own->recorder = 0;
    }
    else {
        map_drop(&ring->tasks, id);
    }
    if (ring->freed_count == ring->freed_room) {
        uint32_t room = ring->freed_room ? ring->freed_room * 2 : 1024; /* a power of two */
        uint32_t *freed = PyMem_Malloc(room * sizeof *freed);
        if (freed == NULL) {
            return; /* one slot less */
        }
        for (uint32_t i = 0; i < ring->freed_count; i++) {
            freed[i] = ring->freed[(ring->freed_first + i) & (ring->freed_room - 1)];
        }
        PyMem_Free(ring->freed);
        ring->freed = freed;
        ring->freed_first = 0;
        ring->freed_room = room;
    }
    ring->freed[(ring->freed_first + ring->freed_count++) & (ring->freed_room - 1)] = (uint32_t)(slot - ring->slots);
}

static uint32_t
site_of(BateauRing *ring, PyObject *task)
{
    PyObject *code = attribute(task, names.site_code);
    uint32_t site = 0;
    if (code != NULL && PyCode_Check(code)) {
        PyObject *offset = attribute(task, names.site_offset);
        Place place = {(PyCodeObject *)code, (int)number_of(offset)};
        site = stack_text(ring, &place, 1);
        Py_XDECREF(offset);
    }
    else {
        if (code == NULL) {
            code = attribute(task, names.spawn_site);
        }
        site = pair_text(ring, code);
    }
    Py_XDECREF(code);
    return site;
}

/* What a task says of itself, in a struct: name, spawn site, parent. */
static void
describe(BateauRing *ring, Slot *made, PyObject *task)
{
    PyObject *name = attribute(task, names.private_name);
    if (name == NULL) {
        name = attribute(task, names.name);
    }
    if (name != NULL && name != Py_None) {
        made->name = text(ring, name, 0);
    }
    Py_XDECREF(name);
    if (made->name == 0) {
        PyObject *coro = attribute(task, names.coro);
        PyObject *qualname = coro != NULL ? attribute(coro, names.qualname) : NULL;
        made->name = text(ring, qualname, 1);
        made->flags |= AUTO_NAME;
        Py_XDECREF(qualname);
        Py_XDECREF(coro);
    }
    made->site = site_of(ring, task);
    PyObject *scope = attribute(task, names.scope);
    PyObject *parent = scope != NULL && scope != Py_None ? attribute(scope, names.task) : NULL;
    if (parent != NULL && parent != Py_None) {
        made->parent = id_of(parent);
    }
    Py_XDECREF(parent);
    Py_XDECREF(scope);
}

/* The same of a task of the native kernel, read from its fields: nothing here runs Python code. */
static void
describe_own(BateauRing *ring, Slot *made, Task *task)
{
    if (is_set(task->name)) {
        made->name = text(ring, task->name, 0);
    }
    if (made->name == 0 && is_set(task->coro)) {
#if PY_VERSION_HEX < 0x030E0000
        if (PyCoro_CheckExact(task->coro)) {
            made->name = text(ring, ((PyCoroObject *)task->coro)->cr_qualname, 1);
        }
        else
#endif
        {
            PyObject *qualname = attribute(task->coro, names.qualname);
            made->name = text(ring, qualname, 1);
            Py_XDECREF(qualname);
        }
        made->flags |= AUTO_NAME;
    }
    if (task->site_code != NULL && PyCode_Check(task->site_code)) {
        Place place = {(PyCodeObject *)task->site_code, task->site_offset};
        made->site = stack_text(ring, &place, 1);
    }
    else {
        made->site = pair_text(ring, task->site_code);
    }
    if (is_set(task->scope) && PyObject_TypeCheck(task->scope, &NodeType)) {
        PyObject *parent = ((Node *)task->scope)->task;
        made->parent = is_set(parent) ? id_of(parent) : 0;
    }
}

/* The slot of a task, made from what the task says of itself if it has none. */
static Slot *
enter(BateauRing *ring, PyObject *task, uint64_t id, uint64_t time)
{
    Slot *slot = take_slot(ring, task, id);
    if (slot == NULL) {
        return NULL;
    }
    Slot made = {.id = id, .spawned = time};
    Task *own = own_task(task);
    if (own != NULL) {
        describe_own(ring, &made, own);
    }
    else {
        describe(ring, &made, task);
    }
    /* Which task it is comes first, and contradicts the state until that is sealed. */
    memcpy(&slot->id, &made.id, sizeof made - offsetof(Slot, id));
    BARRIER();
    seal_identity(ring, slot);
    memcpy(&slot->address, &made.address, offsetof(Slot, id) - offsetof(Slot, address));
    seal_wait(ring, slot);
    seal_state(ring, slot, IS_NEW, time, 0);
    return slot;
}

static uint32_t
about(BateauRing *ring, PyObject *thing)
{
    PyTypeObject *type = Py_TYPE(thing);
    uint32_t known = map_get(&ring->types, (uint64_t)(uintptr_t)type);
    if (known != 0) {
        return known;
    }
    About made = {0};
    if (ring->about == NULL) { /* the collector has been here */
        return 0;
    }
    PyObject *answer = PyObject_CallOneArg(ring->about, (PyObject *)type);
    PyObject *words = NULL, *attribute_name = Py_None, *owner = Py_None;
    int holders = 0;
    if (answer != NULL && PyArg_ParseTuple(answer, "OOpO", &words, &attribute_name, &holders, &owner)) {
        made.words = text(ring, words, 1);
        made.attribute = attribute_name == Py_None ? NULL : Py_NewRef(attribute_name);
        made.holders = (char)holders;
        made.owner = owner == Py_None ? NULL : Py_NewRef(owner);
    }
    PyErr_Clear(); /* what has no answer has no words; and a type may not be asked anything while an exception is set */
    made.offset = place_of(type, made.attribute != NULL ? made.attribute : names.resource);
    made.plain = made.attribute != NULL ? plain_place_of(type, made.attribute) : -1;
    made.owner_offset = made.owner != NULL ? place_of(type, made.owner) : -1;
    Py_XDECREF(answer);
    if (PySet_Add(ring->kept, (PyObject *)type) < 0) {
        PyErr_Clear();
    }
    if (ring->about_count == ring->about_room) { /* only now: what Python was asked above may have added others */
        uint32_t room = ring->about_room ? ring->about_room * 2 : 64;
        About *abouts = PyMem_Realloc(ring->abouts, room * sizeof *abouts);
        if (abouts == NULL) {
            Py_XDECREF(made.attribute);
            Py_XDECREF(made.owner);
            return 0;
        }
        ring->abouts = abouts;
        ring->about_room = room;
    }
    ring->abouts[ring->about_count++] = made;
    map_put(&ring->types, (uint64_t)(uintptr_t)type, ring->about_count);
    return ring->about_count;
}

/* Who holds a resource: the first of its holders. */
static uint64_t
holder_of(PyObject *resource, const About *found)
{
    if (found->owner != NULL) {
        PyObject *owner = placed(resource, found->owner_offset, found->owner);
        Task *own = owner != NULL ? own_task(owner) : NULL;
        uint64_t id = own != NULL ? (uint64_t)own->id : 0;
        if (own == NULL && owner != NULL && owner != Py_None && !PyLong_Check(owner)) { /* a number: a thread's */
            id = id_of(owner);
        }
        Py_XDECREF(owner);
        return id;
    }
    PyObject *holders = PyObject_CallMethodNoArgs(resource, names.holders);
    PyObject *iterator = holders != NULL ? PyObject_GetIter(holders) : NULL;
    PyObject *first = iterator != NULL ? PyIter_Next(iterator) : NULL;
    uint64_t id = first != NULL ? id_of(first) : 0;
    PyErr_Clear();
    Py_XDECREF(first);
    Py_XDECREF(iterator);
    Py_XDECREF(holders);
    return id;
}

static void
wait_on(BateauRing *ring, Wait *wait, PyObject *operation)
{
    uint32_t of_operation = about(ring, operation);
    wait->operation = of_operation ? ring->abouts[of_operation - 1].words : 0;
    PyObject *resource = placed(operation, of_operation ? ring->abouts[of_operation - 1].offset : -1, names.resource);
    if (resource == NULL || resource == Py_None) {
        Py_XDECREF(resource);
        return;
    }
    wait->address = (uint64_t)(uintptr_t)resource;
    uint32_t of_resource = about(ring, resource);
    if (of_resource != 0) {
        About found = ring->abouts[of_resource - 1]; /* a copy: the table may move */
        wait->kind = found.words;
        if (found.plain >= 0) {
            wait->number = (uint64_t)(int64_t)*(int *)((char *)resource + found.plain);
        }
        else if (found.attribute != NULL) {
            PyObject *value = placed(resource, found.offset, found.attribute);
            if (value != NULL && PyUnicode_Check(value)) {
                wait->label = text(ring, value, 0);
            }
            else {
                wait->number = number_of(value);
            }
            Py_XDECREF(value);
        }
        if (found.holders) {
            wait->holder = holder_of(resource, &found);
        }
    }
    Py_DECREF(resource);
}

/* ---- what the instrument is told ------------------------------------------------------------------------------------------------ */

void
bateau_ring_step(BateauRing *ring, uint64_t task)
{
    if (ring->base != NULL) {
        int shared;
        uint64_t time = step_time(ring, &shared);
        ring->hot[HOT_TASK] = task;
        ring->hot[HOT_STEP] = (time & ~(uint64_t)1) | (uint64_t)shared;
        ring->hot[HOT_IDLE] = 0;
        record(ring, time, STEP, task, 0, 0);
    }
}

static inline void
rest(BateauRing *ring, uint64_t time)
{
    ring->hot[HOT_TASK] = 0;
    ring->hot[HOT_IDLE] = time;
}

void
bateau_ring_idle(BateauRing *ring)
{
    ring->fresh = 0;
    if (ring->base != NULL && ring->hot[HOT_TASK] != 0) {
        uint64_t time = now(ring);
        rest(ring, time);
        record(ring, time, IDLE, 0, 0, 0);
    }
}

static void
wake(BateauRing *ring, PyObject *task)
{
    if (ring->base == NULL) {
        return;
    }
    uint64_t id = id_of(task);
    Slot *slot = slot_of(ring, task, id);
    fetch(slot);
    uint64_t time = now(ring);
    if (slot != NULL) {
        seal_state(ring, slot, IS_READY, time, slot->holder);
    }
    record(ring, time, WAKE, id, (uint32_t)ring->hot[HOT_TASK], 0);
}

/* Around whatever may run Python code between two uses of the map. */
static int
begin(BateauRing *ring)
{
    if (ring->base == NULL) {
        return 0;
    }
    ring->busy++;
    return 1;
}

static void
leave(BateauRing *ring)
{
    if (--ring->busy == 0 && ring->base == NULL) {
        PyBuffer_Release(&ring->view);
    }
}

/* Whether the slot says of a wait what is to be said, as mostly where a task waits in a loop. Without a branch for each field, and word by
 * word: compared as vectors, what was just written in halves would have to come back from the cache first. */
static inline int
waits_alike(const Slot *slot, const Wait *wait)
{
    uint64_t place, what;
    memcpy(&place, &slot->stack, sizeof place);
    memcpy(&what, &slot->kind, sizeof what);
    return ((slot->address ^ wait->address) | (slot->number ^ wait->number) | (place ^ (wait->stack | (uint64_t)wait->operation << 32))
            | (what ^ (wait->kind | (uint64_t)wait->label << 32)))
           == 0;
}

/* `operation`: what the task waits on, NULL for something foreign. `running`: the task is, so that its stack is taken from the running
 * frames; with none of it running, the stack is read from `coro` (NULL: there is none to read). */
static void
park(BateauRing *ring, PyObject *task, PyObject *operation, PyObject *coro, int running)
{
    uint64_t id = id_of(task);
    fetch(slot_of(ring, task, id));
    Place places[DEPTH];
    size_t count = running ? running_stack(places) : 0;
    if (count == 0 && coro != NULL) {
        count = suspended_stack(coro, places);
    }
    Wait wait = {.stack = stack_text(ring, places, count)};
    if (operation != NULL) {
        wait_on(ring, &wait, operation); /* may run Python code: the slot is looked for after it */
    }
    uint64_t time = now(ring);
    Slot *slot = slot_of(ring, task, id);
    if (slot == NULL) {
        slot = enter(ring, task, id, time);
    }
    if (slot != NULL) {
        if (!waits_alike(slot, &wait)) {
            slot->address = wait.address;
            slot->number = wait.number;
            slot->stack = wait.stack;
            slot->operation = wait.operation;
            slot->kind = wait.kind;
            slot->label = wait.label;
            BARRIER();
            seal_wait(ring, slot);
        }
        seal_state(ring, slot, operation != NULL ? IS_WAITING : IS_FOREIGN, time, wait.holder);
    }
    if (ring->hot[HOT_TASK] == id) {
        rest(ring, time);
        ring->fresh = time;
    }
    record(ring, time, PARK, id, wait.operation, wait.stack);
}

static void
spawn(BateauRing *ring, PyObject *task)
{
    uint64_t id = id_of(task), time = now(ring);
    Slot *slot = slot_of(ring, task, id);
    if (slot != NULL) { /* it waited for its place, or starts again */
        seal_state(ring, slot, IS_READY, time, slot->holder);
        return;
    }
    slot = enter(ring, task, id, time);
    record(ring, time, SPAWN, id, slot != NULL ? slot->name : 0, slot != NULL ? slot->site : 0);
}

static void
end(BateauRing *ring, PyObject *task, PyObject *error)
{
    uint64_t id = id_of(task), time = now(ring);
    uint32_t outcome = RETURNED, type = 0;
    if (error != Py_None) {
        int cancelled = PyObject_IsInstance(error, ring->cancelled);
        PyErr_Clear();
        outcome = cancelled == 1 ? CANCELLED : FAILED;
        PyObject *name = PyType_GetQualName(Py_TYPE(error));
        type = text(ring, name, 1);
        Py_XDECREF(name);
        PyErr_Clear();
    }
    Slot *slot = slot_of(ring, task, id);
    if (slot != NULL) {
        seal_state(ring, slot, HAS_ENDED | outcome << OUTCOME_SHIFT, time, slot->holder);
        give_slot(ring, task, id, slot);
    }
    if (ring->hot[HOT_TASK] == id) {
        rest(ring, time);
    }
    record(ring, time, END, id, outcome, type);
}

/* A task waits for `task.waiting`, or for something foreign if that is None: which is told once the task is suspended, from the
 * engine's own frames. */
static void
park_task(BateauRing *ring, PyObject *task)
{
    know_task(task);
    PyObject *operation = placed(task, in_task.waiting, names.waiting);
    int waits = operation != NULL && operation != Py_None;
    PyObject *coro = waits ? NULL : attribute(task, names.coro);
    park(ring, task, waits ? operation : NULL, coro == Py_None ? NULL : coro, waits);
    Py_XDECREF(coro);
    Py_XDECREF(operation);
}

void
bateau_ring_tell(BateauRing *ring, PyObject *event, Task *task)
{
    if (event == str_wake) {
        wake(ring, (PyObject *)task);
    }
    else if (event == str_idle) {
        bateau_ring_idle(ring);
    }
    else if (event == str_step) {
        bateau_ring_step(ring, (uint64_t)task->id);
    }
    else if (begin(ring)) {
        if (event == str_park) {
            park_task(ring, (PyObject *)task);
        }
        else if (event == str_spawn) {
            spawn(ring, (PyObject *)task);
        }
        else if (event == str_end) {
            end(ring, (PyObject *)task, has_rare(task, error) ? task->rare->error : Py_None);
        }
        leave(ring);
    }
}

BateauRing *
bateau_ring_of(PyObject *instrument)
{
    return instrument != NULL && ring_type != NULL && Py_IS_TYPE(instrument, ring_type) ? (BateauRing *)instrument : NULL;
}

static PyObject *
ring_step(BateauRing *ring, PyObject *task)
{
    ring->fresh = 0; /* another engine than the native one: who knows what it did since */
    ring->row = NO_ROW;
    bateau_ring_step(ring, id_of(task));
    Py_RETURN_NONE;
}

static PyObject *
ring_idle(BateauRing *ring, PyObject *Py_UNUSED(ignored))
{
    bateau_ring_idle(ring);
    Py_RETURN_NONE;
}

static PyObject *
ring_wake(BateauRing *ring, PyObject *task)
{
    wake(ring, task);
    Py_RETURN_NONE;
}

static PyObject *
ring_spawn(BateauRing *ring, PyObject *task)
{
    if (begin(ring)) {
        spawn(ring, task);
        leave(ring);
    }
    Py_RETURN_NONE;
}

static PyObject *
ring_park(BateauRing *ring, PyObject *task)
{
    if (begin(ring)) {
        park_task(ring, task);
        leave(ring);
    }
    Py_RETURN_NONE;
}

static PyObject *
ring_adopt(BateauRing *ring, PyObject *task)
{
    if (!begin(ring)) {
        Py_RETURN_NONE;
    }
    uint64_t id = id_of(task);
    if (slot_of(ring, task, id) == NULL) {
        PyObject *operation = attribute(task, names.waiting);
        PyObject *coro = attribute(task, names.coro);
        if (operation != NULL && operation != Py_None) {
            park(ring, task, operation, coro == Py_None ? NULL : coro, 0);
        }
        else {
            enter(ring, task, id, now(ring));
        }
        Py_XDECREF(coro);
        Py_XDECREF(operation);
    }
    leave(ring);
    Py_RETURN_NONE;
}

static PyObject *
ring_cancel(BateauRing *ring, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "cancel takes a node and a record");
        return NULL;
    }
    if (!begin(ring)) {
        Py_RETURN_NONE;
    }
    PyObject *reason = attribute(args[1], names.reason);
    PyObject *task = attribute(args[0], names.task);
    if (task != NULL && task != Py_None) {
        uint32_t words = text(ring, reason, 0);
        uint64_t id = id_of(task);
        int inside = task != args[0];
        Slot *slot = slot_of(ring, task, id);
        if (slot != NULL && !inside) {
            slot->reason = words;
            BARRIER();
            seal_identity(ring, slot);
            seal_state(ring, slot, (uint32_t)slot->state, slot->since, slot->holder);
        }
        record(ring, now(ring), CANCEL, id, words, (uint32_t)inside);
    }
    Py_XDECREF(task);
    Py_XDECREF(reason);
    leave(ring);
    Py_RETURN_NONE;
}

static PyObject *
ring_end(BateauRing *ring, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "end takes a task and its error");
        return NULL;
    }
    if (begin(ring)) {
        end(ring, args[0], args[1]);
        leave(ring);
    }
    Py_RETURN_NONE;
}

static PyObject *
ring_since(BateauRing *ring, PyObject *task)
{
    uint64_t since = 0;
    if (ring->base != NULL) {
        Slot *slot = slot_of(ring, task, id_of(task));
        uint32_t state = slot != NULL ? (uint32_t)slot->state : 0;
        since = state == IS_WAITING || state == IS_FOREIGN ? slot->since : 0;
    }
    return PyLong_FromUnsignedLongLong(since);
}

static PyObject *
ring_note(BateauRing *ring, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyUnicode_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "note takes the id of a task (or 0) and a str");
        return NULL;
    }
    if (begin(ring)) {
        record(ring, now(ring), NOTE, number_of(args[0]), text(ring, args[1], 0), 0);
        leave(ring);
    }
    Py_RETURN_NONE;
}

/* ---- the type --------------------------------------------------------------------------------------------------------------------- */

static PyObject *
ring_close(BateauRing *ring, PyObject *Py_UNUSED(ignored))
{
    if (ring->base != NULL) {
        ring->base = NULL;
        if (ring->busy == 0) {
            PyBuffer_Release(&ring->view); /* else leave() does */
        }
    }
    Py_RETURN_NONE;
}

static uint64_t
field(const char *base, size_t at)
{
    uint64_t value;
    memcpy(&value, base + at, sizeof value);
    return value;
}

static PyObject *
recorder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *map, *about_function, *cancelled;
    int counts;
    if (!PyArg_ParseTuple(args, "OOOp", &map, &about_function, &cancelled, &counts)) {
        return NULL;
    }
    BateauRing *ring = (BateauRing *)type->tp_alloc(type, 0);
    if (ring == NULL) {
        return NULL;
    }
    if (PyObject_GetBuffer(map, &ring->view, PyBUF_WRITABLE) < 0) {
        Py_DECREF(ring);
        return NULL;
    }
    ring->base = ring->view.buf;
    const char *base = ring->base;
    uint64_t ring_at = field(base, 64), ring_count = field(base, 72), tasks_at = field(base, 80), tasks = field(base, 88),
             texts_at = field(base, 96), size = (uint64_t)ring->view.len;
    ring->texts_size = field(base, 104);
    if (size < 4096 || memcmp(base, "BATEAUFR", 8) != 0 || ring_count == 0 || (ring_count & (ring_count - 1)) != 0
        || ring_at > size || ring_count > (size - ring_at) / sizeof(Unit) || tasks_at > size || tasks >= UINT32_MAX
        || tasks > (size - tasks_at) / sizeof(Slot) || texts_at > size || ring->texts_size > size - texts_at) {
        Py_DECREF(ring);
        PyErr_SetString(PyExc_ValueError, "this buffer has not been prepared as a recorder's file");
        return NULL;
    }
    ring->hot = (uint64_t *)(ring->base + HOT_AT);
    ring->seed = field(base, 128);
    ring->units = (Unit *)(ring->base + ring_at);
    ring->unit_mask = ring_count - 1;
    while (ring_count >>= 1) {
        ring->lap_shift++;
    }
    static uint32_t serials;
    ring->serial = ++serials != 0 ? serials : ++serials; /* a task's 0 is none */
    ring->slots = (Slot *)(ring->base + tasks_at);
    ring->slot_count = (uint32_t)tasks;
    ring->texts = ring->base + texts_at;
    ring->texts_used = ring->hot[HOT_TEXTS];
    ring->words = PyDict_New();
    ring->kept = PySet_New(NULL);
    ring->about = Py_NewRef(about_function);
    if (ring->words == NULL || ring->kept == NULL || map_resize(&ring->tasks, 1024) < 0 || map_resize(&ring->places, 1024) < 0
        || map_resize(&ring->types, 256) < 0) {
        Py_DECREF(ring);
        return PyErr_NoMemory();
    }
    ring->cancelled = Py_NewRef(cancelled);
    ring->counts = counts;
    ring->shares = find_coarse();
    return (PyObject *)ring;
}

static int
ring_traverse(BateauRing *ring, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(ring));
    Py_VISIT(ring->words);
    Py_VISIT(ring->kept);
    Py_VISIT(ring->about);
    Py_VISIT(ring->cancelled);
    return 0;
}

static int
ring_clear(BateauRing *ring)
{
    Py_CLEAR(ring->about);
    return 0;
}

static void
ring_dealloc(BateauRing *ring)
{
    PyTypeObject *type = Py_TYPE(ring);
    PyObject_GC_UnTrack(ring);
    if (ring->base != NULL) {
        ring->base = NULL;
        PyBuffer_Release(&ring->view);
    }
    for (uint32_t i = 0; i < ring->about_count; i++) {
        Py_XDECREF(ring->abouts[i].attribute);
        Py_XDECREF(ring->abouts[i].owner);
    }
    PyMem_Free(ring->abouts);
    PyMem_Free(ring->freed);
    Map *const maps[3] = {&ring->tasks, &ring->places, &ring->types};
    for (int i = 0; i < 3; i++) {
        PyMem_Free(maps[i]->keys);
        PyMem_Free(maps[i]->values);
    }
    Py_XDECREF(ring->words);
    Py_XDECREF(ring->last_word);
    Py_XDECREF(ring->kept);
    Py_XDECREF(ring->about);
    Py_XDECREF(ring->cancelled);
    type->tp_free((PyObject *)ring);
    Py_DECREF(type);
}

static PyMethodDef ring_methods[] = {
    {"spawn", (PyCFunction)ring_spawn, METH_O, "A task was made."},
    {"step", (PyCFunction)ring_step, METH_O, "A task is about to run."},
    {"idle", (PyCFunction)ring_idle, METH_NOARGS, "No task runs any more."},
    {"park", (PyCFunction)ring_park, METH_O, "A task waits."},
    {"wake", (PyCFunction)ring_wake, METH_O, "A task is ready."},
    {"cancel", (PyCFunction)(void (*)(void))ring_cancel, METH_FASTCALL, "A node was cancelled."},
    {"end", (PyCFunction)(void (*)(void))ring_end, METH_FASTCALL, "A task has ended."},
    {"adopt", (PyCFunction)ring_adopt, METH_O, "A task that ran before it was recorded."},
    {"since", (PyCFunction)ring_since, METH_O, "When a task began to wait, in nanoseconds; 0 if it does not."},
    {"note", (PyCFunction)(void (*)(void))ring_note, METH_FASTCALL, "Words of the program's, about a task (its id, or 0)."},
    {"close", (PyCFunction)ring_close, METH_NOARGS, "Write no more, and let go of the map."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot ring_slots[] = {
    {Py_tp_doc, "Ring(map, about, cancelled, counts)\n--\n\nThe writer of one recorder file. See bateau.insight.recorder.writer."},
    {Py_tp_new, recorder_new},
    {Py_tp_traverse, ring_traverse},
    {Py_tp_clear, ring_clear},
    {Py_tp_dealloc, ring_dealloc},
    {Py_tp_methods, ring_methods},
    {0, NULL},
};

static PyType_Spec ring_spec = {
    .name = "bateau._native.Ring",
    .basicsize = sizeof(BateauRing),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = ring_slots,
};

int
bateau_recorder_exec(PyObject *module)
{
#define NAME(field, word)                                                                                                            \
    if (names.field == NULL && (names.field = PyUnicode_InternFromString(word)) == NULL) {                                          \
        return -1;                                                                                                                   \
    }
    NAME(id, "id")
    NAME(name, "name")
    NAME(private_name, "_name")
    NAME(coro, "coro")
    NAME(qualname, "__qualname__")
    NAME(site_code, "_site_code")
    NAME(site_offset, "_site_offset")
    NAME(spawn_site, "spawn_site")
    NAME(scope, "scope")
    NAME(task, "task")
    NAME(waiting, "waiting")
    NAME(resource, "resource")
    NAME(holders, "holders")
    NAME(reason, "reason")
    NAME(cr_frame, "cr_frame")
    NAME(gi_frame, "gi_frame")
    NAME(ag_frame, "ag_frame")
    NAME(cr_await, "cr_await")
    NAME(gi_yieldfrom, "gi_yieldfrom")
    NAME(ag_await, "ag_await")
#undef NAME
#ifdef TICKS
    read_clocks();
#endif
    ring_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &ring_spec, NULL);
    if (ring_type == NULL) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "Ring", (PyObject *)ring_type);
}
