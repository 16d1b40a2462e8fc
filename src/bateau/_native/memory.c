/* Another process's memory, decoded in C where there is most of it: bateau/insight/memory, whose Python code defines what is read and does
 * all that this leaves to it (by answering None). What is read may be torn, freed or garbage: nothing here believes an address, and every
 * access is inside a chunk of bytes that Python has fetched.
 *
 * Ownership. A Window keeps references to the chunks it has used last. Chains keeps the places that it has met alive by the root of
 * their tree, from which nothing is ever taken out. */
#include "native.h"
#include <stdint.h>
#include <string.h>
#include <structmember.h>

/* ---- chunks ------------------------------------------------------------------------------------------------------- */

enum { KEPT = 4096 }; /* chunks at hand: a gigabyte's */

typedef struct {
    PyObject_HEAD
    PyObject *chunks; /* number -> bytes; fetches what it has not */
    PyObject *slow;   /* address -> word, for what is in no whole chunk */
    int shift;
    uint64_t numbers[KEPT];
    PyObject *kept[KEPT]; /* owned: bytes; NULL: nothing at hand there */
} Window;

static PyTypeObject WindowType;

/* `size` bytes at an address; NULL without an exception where no chunk has them in one piece. */
static inline const char *
at(Window *window, uint64_t address, uint64_t size)
{
    uint64_t number = address >> window->shift, place = number & (KEPT - 1);
    PyObject *chunk = window->kept[place];
    if (chunk == NULL || window->numbers[place] != number) {
        PyObject *key = PyLong_FromUnsignedLongLong(number);
        chunk = key != NULL ? PyObject_GetItem(window->chunks, key) : NULL;
        Py_XDECREF(key);
        if (chunk == NULL || !PyBytes_CheckExact(chunk)) {
            Py_XDECREF(chunk);
            return NULL; /* an exception is the caller's to tell from nothing */
        }
        window->numbers[place] = number;
        Py_XSETREF(window->kept[place], chunk);
    }
    uint64_t offset = address & (((uint64_t)1 << window->shift) - 1), length = (uint64_t)PyBytes_GET_SIZE(chunk);
    return offset <= length && size <= length - offset ? PyBytes_AS_STRING(chunk) + offset : NULL;
}

static inline uint64_t
word_at(const char *place)
{
    uint64_t value;
    memcpy(&value, place, sizeof value);
    return value;
}

/* An address that Python gave: 0 with an exception if it is none. */
static int
as_address(PyObject *number, uint64_t *address)
{
    *address = PyLong_AsUnsignedLongLong(number);
    if (*address == UINT64_MAX && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) { /* below the first byte, or behind the last */
            PyErr_Clear();
            *address = 0;
            return 1;
        }
        return 0;
    }
    return 1;
}

static PyObject *
window_word(Window *self, PyObject *number)
{
    uint64_t address;
    if (!as_address(number, &address)) {
        return NULL;
    }
    const char *place = at(self, address, sizeof(uint64_t));
    if (place != NULL) {
        return PyLong_FromUnsignedLongLong(word_at(place));
    }
    return PyErr_Occurred() ? NULL : PyObject_CallOneArg(self->slow, number);
}

/* A `str` as nearly all are: exactly that class, of ASCII, compact and short. */
static PyObject *
window_text(Window *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t address, type;
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "text takes an address, the address of str, and where its characters begin");
        return NULL;
    }
    long data = PyLong_AsLong(args[2]);
    if (!as_address(args[0], &address) || !as_address(args[1], &type) || (data == -1 && PyErr_Occurred())) {
        return NULL;
    }
    const char *head = at(self, address, 36);
    if (head != NULL && word_at(head + 8) == type && data >= 36) {
        uint64_t length = word_at(head + 16);
        uint32_t state;
        memcpy(&state, head + 32, sizeof state);
        const char *characters = (state & 0x60) == 0x60 && length <= 256 ? at(self, address, (uint64_t)data + length) : NULL;
        if (characters != NULL) {
            return PyUnicode_DecodeLatin1(characters + data, (Py_ssize_t)length, NULL);
        }
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
window_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *chunks, *slow;
    int shift;
    if (!PyArg_ParseTuple(args, "OiO", &chunks, &shift, &slow)) {
        return NULL;
    }
    if (shift < 12 || shift > 40) {
        PyErr_SetString(PyExc_ValueError, "the shift of a chunk is from 12 to 40 bits");
        return NULL;
    }
    Window *self = (Window *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->chunks = Py_NewRef(chunks);
        self->slow = Py_NewRef(slow);
        self->shift = shift;
    }
    return (PyObject *)self;
}

static int
window_traverse(Window *self, visitproc visit, void *arg)
{
    Py_VISIT(self->chunks);
    Py_VISIT(self->slow);
    return 0;
}

static int
window_clear(Window *self)
{
    Py_CLEAR(self->slow); /* which leads back to us; chunks do not */
    self->slow = Py_NewRef(Py_None);
    return 0;
}

static void
window_dealloc(Window *self)
{
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->chunks);
    Py_CLEAR(self->slow);
    for (int i = 0; i < KEPT; i++) {
        Py_CLEAR(self->kept[i]);
    }
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef window_methods[] = {
    {"word", (PyCFunction)window_word, METH_O, "word(address)\n--\n\nThe unsigned 64-bit number there."},
    {"text", (PyCFunction)(void (*)(void))window_text, METH_FASTCALL,
     "text(address, type, data)\n--\n\nThe string there, if it is short, of ASCII and exactly of that type; else None."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject WindowType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.Window",
    .tp_doc = "Window(chunks, shift, slow)\n--\n\nReads words out of chunks of memory. See bateau.insight.memory.cache.",
    .tp_basicsize = sizeof(Window),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = window_new,
    .tp_dealloc = (destructor)window_dealloc,
    .tp_traverse = (traverseproc)window_traverse,
    .tp_clear = (inquiry)window_clear,
    .tp_methods = window_methods,
};

/* ---- structures --------------------------------------------------------------------------------------------------- */

enum { MOST_FIELDS = 32 };

/* One structure, read as a list of its fields. */
typedef struct {
    PyObject_HEAD
    Window *window;
    int count;
    uint64_t size; /* up to the end of its last field */
    uint32_t offsets[MOST_FIELDS];
    char kinds[MOST_FIELDS]; /* as in Python's struct */
} Record;

static uint32_t
size_of(char kind)
{
    switch (kind) {
    case 'b': case 'B': return 1;
    case 'h': case 'H': return 2;
    case 'i': case 'I': return 4;
    case 'q': case 'Q': return 8;
    default: return 0;
    }
}

static PyObject *
field(const char *place, char kind, uint64_t none)
{
    uint64_t value = 0;
    memcpy(&value, place, size_of(kind));
    switch (kind) {
    case 'b': return PyLong_FromLong((int8_t)value);
    case 'h': return PyLong_FromLong((int16_t)value);
    case 'i': return PyLong_FromLong((int32_t)value);
    case 'q': return PyLong_FromLongLong((int64_t)value);
    case 'Q': return PyLong_FromUnsignedLongLong(value == none ? 0 : value);
    default: return PyLong_FromUnsignedLong((unsigned long)value);
    }
}

static PyObject *
record_read(Record *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t address, none;
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "read takes an address, and that of None");
        return NULL;
    }
    if (!as_address(args[0], &address) || !as_address(args[1], &none)) {
        return NULL;
    }
    PyObject *values = PyList_New(self->count); /* before the look: making it may run the collector, and that anything */
    const char *place = values != NULL ? at(self->window, address, self->size) : NULL;
    if (place == NULL) {
        Py_XDECREF(values);
        if (PyErr_Occurred()) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    for (int i = 0; values != NULL && i < self->count; i++) {
        PyObject *value = field(place + self->offsets[i], self->kinds[i], none);
        if (value == NULL) {
            Py_CLEAR(values);
        } else {
            PyList_SET_ITEM(values, i, value);
        }
    }
    return values;
}

static PyObject *
record_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *window, *fields;
    if (!PyArg_ParseTuple(args, "O!O!", &WindowType, &window, &PyTuple_Type, &fields)) {
        return NULL;
    }
    if (PyTuple_GET_SIZE(fields) > MOST_FIELDS) {
        PyErr_Format(PyExc_ValueError, "a Record has at most %d fields", MOST_FIELDS);
        return NULL;
    }
    Record *self = (Record *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(fields); i++) {
        unsigned int offset;
        int kind;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(fields, i), "IC", &offset, &kind) || offset > 1 << 20 || kind > 127 ||
            size_of((char)kind) == 0) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_ValueError, "a field is an offset below 2**20, and one of bBhHiIqQ");
            }
            Py_DECREF(self);
            return NULL;
        }
        self->offsets[i] = offset;
        self->kinds[i] = (char)kind;
        uint64_t end = (uint64_t)offset + size_of((char)kind);
        self->size = end > self->size ? end : self->size;
        self->count++;
    }
    self->window = (Window *)Py_NewRef(window);
    return (PyObject *)self;
}

static int
record_traverse(Record *self, visitproc visit, void *arg)
{
    Py_VISIT(self->window);
    return 0;
}

static void
record_dealloc(Record *self)
{
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->window);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef record_methods[] = {
    {"read", (PyCFunction)(void (*)(void))record_read, METH_FASTCALL,
     "read(address, none)\n--\n\nThe fields of the structure there, pointers to None as 0; None where no chunk has all of it."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject RecordType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.Record",
    .tp_doc = "Record(window, fields)\n--\n\nReads a structure of ``(offset, format)``. See bateau.insight.memory.fields.",
    .tp_basicsize = sizeof(Record),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = record_new,
    .tp_dealloc = (destructor)record_dealloc,
    .tp_traverse = (traverseproc)record_traverse,
    .tp_methods = record_methods,
};

/* ---- chains of awaits ------------------------------------------------------------------------------------------------ */

/* A place in a chain that was met: after which place, by what was read of the next link, which place, and where what it awaits is. */
typedef struct {
    PyObject *before; /* NULL: unused, or no place */
    uint64_t type, state, code, instruction;
    PyObject *path; /* borrowed, see the head; NULL: what is of this type is no place, and `slot` says what it is */
    long slot;
} Known;

enum { END, FUTURE, WRAPPER }; /* a chain ends there; or at what it wraps; or goes on there */
enum { WRAPPED = 16 };

typedef struct {
    PyObject_HEAD
    Window *window;
    PyObject *root, *roles, *chain; /* the place above all; type -> what it is to the walk; the class of what is found */
    uint64_t state_at, code_at, instruction_at, locals_at, head;
    int pointers;
    Known *known; /* a hash table */
    size_t mask, used;
} Chains;

enum { LONGEST = 64 }; /* more is left to Python */

static PyObject *str_after, *str_slot, *str_end, *str_future, *str_wrapper;

static size_t
spread(PyObject *before, uint64_t type, uint64_t state, uint64_t code, uint64_t instruction)
{
    uint64_t key = (uint64_t)(uintptr_t)before ^ type * 0x9E3779B97F4A7C15u ^ code * 0xC2B2AE3D27D4EB4Fu;
    key = (key ^ instruction * 0x165667B19E3779F9u ^ state) * 0xD6E8FEB86659FD93u;
    return (size_t)(key ^ key >> 31);
}

/* Its place in the table: where it is, or a free one. */
static Known *
find(Chains *self, PyObject *before, uint64_t type, uint64_t state, uint64_t code, uint64_t instruction)
{
    size_t place = spread(before, type, state, code, instruction) & self->mask;
    for (;; place = (place + 1) & self->mask) {
        Known *known = &self->known[place];
        if (known->type == 0 || (known->before == before && known->type == type && known->state == state &&
                                 known->code == code && known->instruction == instruction)) {
            return known;
        }
    }
}

static int
grow(Chains *self)
{
    Known *old = self->known;
    size_t size = old == NULL ? 0 : self->mask + 1, larger = size == 0 ? 256 : size * 2;
    Known *made = PyMem_Calloc(larger, sizeof *made);
    if (made == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->known = made;
    self->mask = larger - 1;
    for (size_t i = 0; i < size; i++) {
        if (old[i].type != 0) {
            *find(self, old[i].before, old[i].type, old[i].state, old[i].code, old[i].instruction) = old[i];
        }
    }
    PyMem_Free(old);
    return 0;
}

static int
remember(Chains *self, Known found)
{
    if (self->used * 2 > self->mask && grow(self) < 0) {
        return -1;
    }
    *find(self, found.before, found.type, found.state, found.code, found.instruction) = found;
    self->used++;
    return 0;
}

/* Ask Python's side about a link that was not met before: 1 if it knows it (and so do we now), 0 if not, -1 with an exception. */
static int
learn(Chains *self, PyObject *path, uint64_t type, int64_t state, uint64_t code, uint64_t instruction)
{
    PyObject *after = PyObject_GetAttr(path, str_after);
    PyObject *key = after != NULL ? Py_BuildValue("(KLKK)", type, (long long)state, code, instruction) : NULL;
    PyObject *next = key != NULL && PyDict_Check(after) ? PyDict_GetItemWithError(after, key) : NULL; /* borrowed: it stays there */
    Py_XDECREF(key);
    Py_XDECREF(after);
    if (next != NULL) {
        PyObject *number = PyObject_GetAttr(next, str_slot);
        long slot = number != NULL ? PyLong_AsLong(number) : -1;
        Py_XDECREF(number);
        if (slot < 0) {
            return PyErr_Occurred() ? -1 : 0;
        }
        return remember(self, (Known){path, type, (uint64_t)state, code, instruction, next, slot}) < 0 ? -1 : 1;
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    PyObject *number = PyLong_FromUnsignedLongLong(type);
    PyObject *role = number != NULL ? PyDict_GetItemWithError(self->roles, number) : NULL; /* borrowed */
    Py_XDECREF(number);
    PyObject *const roles[] = {[END] = str_end, [FUTURE] = str_future, [WRAPPER] = str_wrapper};
    for (long what = 0; role != NULL && PyUnicode_Check(role) && what < 3; what++) {
        if (PyUnicode_Compare(role, roles[what]) == 0) {
            return remember(self, (Known){NULL, type, 0, 0, 0, NULL, what}) < 0 ? -1 : 1;
        }
    }
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *
found(Chains *self, PyObject *path, PyObject *frames, uint64_t leaf)
{
    PyObject *address = PyLong_FromUnsignedLongLong(leaf);
    PyTypeObject *type = (PyTypeObject *)self->chain;
    PyObject *chain = address != NULL ? type->tp_alloc(type, 4) : NULL; /* a tuple's own way to be made */
    if (chain == NULL) {
        Py_XDECREF(address);
        Py_DECREF(frames);
        return NULL;
    }
    PyTuple_SET_ITEM(chain, 0, Py_NewRef(path));
    PyTuple_SET_ITEM(chain, 1, frames);
    PyTuple_SET_ITEM(chain, 2, address);
    PyTuple_SET_ITEM(chain, 3, Py_NewRef(Py_False));
    return chain;
}

static PyObject *
chains_of(Chains *self, PyObject *coroutine)
{
    uint64_t here;
    if (!as_address(coroutine, &here)) {
        return NULL;
    }
    PyObject *path = self->root, *frames = PyList_New(0);
    if (frames == NULL) {
        return NULL;
    }
    for (int depth = 0; here != 0 && depth < LONGEST; depth++) {
        const char *place = at(self->window, here, self->head);
        if (place == NULL) {
            goto leave_it;
        }
        uint64_t type = word_at(place + 8), code = word_at(place + self->code_at),
                 instruction = word_at(place + self->instruction_at);
        int64_t state = (int8_t)place[self->state_at];
        if (type == 0) {
            goto leave_it;
        }
        Known *known = find(self, path, type, (uint64_t)state, code, instruction);
        if (known->type == 0) {
            known = find(self, NULL, type, 0, 0, 0);
        }
        if (known->type == 0) {
            int learnt = learn(self, path, type, state, code, instruction);
            if (learnt <= 0) {
                goto leave_it;
            }
            depth--;
            continue;
        }
        if (known->path == NULL) {
            if (known->slot == END) {
                return found(self, path, frames, here);
            }
            const char *wrapped = at(self->window, here, WRAPPED + 8);
            if (wrapped == NULL) {
                goto leave_it;
            }
            here = word_at(wrapped + WRAPPED);
            if (known->slot == FUTURE) {
                return found(self, path, frames, here);
            }
            continue;
        }
        path = known->path;
        PyObject *frame = PyLong_FromUnsignedLongLong(here + self->locals_at);
        int status = frame == NULL ? -1 : PyList_Append(frames, frame);
        Py_XDECREF(frame);
        if (status < 0) {
            goto leave_it;
        }
        if (known->slot == 0) {
            return found(self, path, frames, 0);
        }
        const char *next = at(self->window, here + self->locals_at + 8 * ((uint64_t)known->slot - 5), 8);
        if (next == NULL) {
            goto leave_it;
        }
        here = word_at(next);
        if (self->pointers) {
            here &= ~(uint64_t)7;
        }
    }
    if (here == 0) {
        return found(self, path, frames, 0);
    }
leave_it:
    Py_DECREF(frames);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
chains_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *window, *root, *roles, *chain;
    unsigned int state, code, instruction, locals;
    int pointers;
    if (!PyArg_ParseTuple(args, "O!OO!O!IIIIp", &WindowType, &window, &root, &PyDict_Type, &roles, &PyType_Type, &chain, &state, &code,
                          &instruction, &locals, &pointers)) {
        return NULL;
    }
    if (!PyType_IsSubtype((PyTypeObject *)chain, &PyTuple_Type) || state > 4096 || code > 4096 || instruction > 4096 || locals > 4096) {
        PyErr_SetString(PyExc_ValueError, "Chains takes a kind of tuple, and where the parts of a generator are");
        return NULL;
    }
    Chains *self = (Chains *)type->tp_alloc(type, 0);
    if (self == NULL || grow(self) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    self->window = (Window *)Py_NewRef(window);
    self->root = Py_NewRef(root);
    self->roles = Py_NewRef(roles);
    self->chain = Py_NewRef(chain);
    self->state_at = state;
    self->code_at = code;
    self->instruction_at = instruction;
    self->locals_at = locals;
    uint64_t ends[4] = {16, (uint64_t)state + 1, (uint64_t)code + 8, (uint64_t)instruction + 8};
    for (int i = 0; i < 4; i++) {
        self->head = ends[i] > self->head ? ends[i] : self->head;
    }
    self->pointers = pointers;
    return (PyObject *)self;
}

static int
chains_traverse(Chains *self, visitproc visit, void *arg)
{
    Py_VISIT(self->window);
    Py_VISIT(self->root);
    Py_VISIT(self->roles);
    Py_VISIT(self->chain);
    return 0;
}

static void
chains_dealloc(Chains *self)
{
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->window);
    Py_XDECREF(self->root);
    Py_XDECREF(self->roles);
    Py_XDECREF(self->chain);
    PyMem_Free(self->known);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef chains_methods[] = {
    {"of", (PyCFunction)chains_of, METH_O,
     "of(coroutine)\n--\n\nThe chain of a coroutine that goes through places met before; None: it is for Python to follow."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject ChainsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.Chains",
    .tp_doc = "Chains(window, root, roles, chain, state, code, instruction, locals, pointers)\n--\n\n"
              "Follows chains of awaits. See bateau.insight.memory.frames.",
    .tp_basicsize = sizeof(Chains),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = chains_new,
    .tp_dealloc = (destructor)chains_dealloc,
    .tp_traverse = (traverseproc)chains_traverse,
    .tp_methods = chains_methods,
};

int
bateau_memory_exec(PyObject *module)
{
    static struct {
        PyObject **place;
        const char *word;
    } const words[] = {{&str_after, "after"}, {&str_slot, "slot"}, {&str_end, "end"}, {&str_future, "future"}, {&str_wrapper, "wrapper"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (*words[i].place == NULL && (*words[i].place = PyUnicode_InternFromString(words[i].word)) == NULL) {
            return -1;
        }
    }
    return PyModule_AddType(module, &WindowType) < 0 || PyModule_AddType(module, &RecordType) < 0 ? -1
                                                                                                      : PyModule_AddType(module, &ChainsType);
}
