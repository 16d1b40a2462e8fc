/* Another process's memory, decoded in C where there is most of it: bateau/insight/memory, whose Python code defines what is read and does
 * all that this leaves to it (by answering None). What is read may be torn, freed or garbage: nothing here believes an address, and every
 * access is inside a chunk of bytes that Python has fetched.
 *
 * Ownership. A Window keeps references to the chunks it has used last. Chains keeps the places that it has met alive by the root of
 * their tree, from which nothing is ever taken out. */
#include "native.h"
#include <math.h>
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

/* A `str` as nearly all are: exactly that class, of ASCII, compact and short. `data`: where its characters begin. New; NULL without an
   exception: it is none. */
static PyObject *
short_text(Window *window, uint64_t address, uint64_t type, uint64_t data)
{
    const char *head = at(window, address, 36);
    if (head == NULL || word_at(head + 8) != type) {
        return NULL;
    }
    uint64_t length = word_at(head + 16);
    uint32_t state;
    memcpy(&state, head + 32, sizeof state);
    const char *characters = (state & 0x60) == 0x60 && length <= 256 ? at(window, address, data + length) : NULL;
    return characters != NULL ? PyUnicode_DecodeLatin1(characters + data, (Py_ssize_t)length, NULL) : NULL;
}

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
    PyObject *text = data >= 36 ? short_text(self, address, type, (uint64_t)data) : NULL;
    if (text != NULL || PyErr_Occurred()) {
        return text;
    }
    Py_RETURN_NONE;
}

/* The nodes of a list whose links are in them, from the first on. */
static PyObject *
window_linked(Window *self, PyObject *args)
{
    unsigned long long node;
    unsigned int after;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "KIn", &node, &after, &most)) {
        return NULL;
    }
    PyObject *nodes = PyList_New(0);
    while (nodes != NULL && node != 0 && PyList_GET_SIZE(nodes) < most) {
        const char *place = at(self, node + after, sizeof(uint64_t));
        PyObject *number = place != NULL ? PyLong_FromUnsignedLongLong(node) : NULL;
        node = place != NULL ? word_at(place) : 0;
        if (number == NULL || PyList_Append(nodes, number) < 0) {
            Py_CLEAR(nodes);
        }
        Py_XDECREF(number);
    }
    if (nodes == NULL && !PyErr_Occurred()) {
        Py_RETURN_NONE;
    }
    return nodes;
}

/* The words behind many addresses. */
static PyObject *
window_words(Window *self, PyObject *args)
{
    PyObject *addresses;
    unsigned int offset;
    if (!PyArg_ParseTuple(args, "O!I", &PyList_Type, &addresses, &offset)) {
        return NULL;
    }
    PyObject *words = PyList_New(0);
    for (Py_ssize_t i = 0; words != NULL && i < PyList_GET_SIZE(addresses); i++) {
        uint64_t address;
        const char *place = as_address(PyList_GET_ITEM(addresses, i), &address) ? at(self, address + offset, sizeof(uint64_t)) : NULL;
        PyObject *word = place != NULL ? PyLong_FromUnsignedLongLong(word_at(place)) : NULL;
        if (word == NULL || PyList_Append(words, word) < 0) {
            Py_CLEAR(words);
        }
        Py_XDECREF(word);
    }
    if (words == NULL && !PyErr_Occurred()) {
        Py_RETURN_NONE;
    }
    return words;
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
    Py_XSETREF(self->slow, Py_NewRef(Py_None)); /* which leads back to us; chunks do not. It is called without a look whether it is there */
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
    {"linked", (PyCFunction)window_linked, METH_VARARGS,
     "linked(first, after, most)\n--\n\nThe nodes from the first on, each linked to the next by the word at ``after``; None where one is in pieces."},
    {"words", (PyCFunction)window_words, METH_VARARGS,
     "words(addresses, offset)\n--\n\nThe word at the offset from each address in a list; None where one is in pieces."},
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

/* Follow the chain from `here`: 1 with its last place (borrowed), the addresses of its frames' variables in `frames` (unless that is NULL), those of the
 * innermost, and what that awaits; 0: it is for Python to follow; -1 with an exception. */
static int
follow(Chains *self, uint64_t here, PyObject *frames, PyObject **last, uint64_t *inmost, uint64_t *leaf)
{
    PyObject *path = self->root;
    *leaf = *inmost = 0;
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
                *last = path;
                *leaf = here;
                return 1;
            }
            const char *wrapped = at(self->window, here, WRAPPED + 8);
            if (wrapped == NULL) {
                goto leave_it;
            }
            here = word_at(wrapped + WRAPPED);
            if (known->slot == FUTURE) {
                *last = path;
                *leaf = here;
                return 1;
            }
            continue;
        }
        path = known->path;
        long slot = known->slot;
        *inmost = here + self->locals_at;
        if (frames != NULL) {
            PyObject *frame = PyLong_FromUnsignedLongLong(here + self->locals_at);
            int status = frame == NULL ? -1 : PyList_Append(frames, frame);
            Py_XDECREF(frame);
            if (status < 0) {
                goto leave_it;
            }
        }
        if (slot == 0) {
            *last = path;
            return 1;
        }
        const char *next = at(self->window, here + self->locals_at + 8 * ((uint64_t)slot - 5), 8);
        if (next == NULL) {
            goto leave_it;
        }
        here = word_at(next);
        if (self->pointers) {
            here &= ~(uint64_t)7;
        }
    }
    if (here == 0) {
        *last = path;
        return 1;
    }
leave_it:
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *
chains_of(Chains *self, PyObject *coroutine)
{
    uint64_t here, inmost, leaf;
    PyObject *path;
    if (!as_address(coroutine, &here)) {
        return NULL;
    }
    PyObject *frames = PyList_New(0);
    int met = frames != NULL ? follow(self, here, frames, &path, &inmost, &leaf) : -1;
    if (met == 1) {
        return found(self, path, frames, leaf);
    }
    Py_XDECREF(frames);
    if (met < 0) {
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

/* ---- tasks of bateau's ------------------------------------------------------------------------------------------------ */

/* What is read of a task, in this order; the first ten are pointers. */
enum { T_CHILDREN, T_HOST, T_CORO, T_NAME, T_SCOPE, T_NODE, T_EFFECTIVE, T_STOPPING, T_SITE, T_WAITING, T_ID, T_OFFSET, T_ENDED, T_BACKGROUND, T_ALL };

/* The tables that this shares with Python's side, which fills them, in this order. All are dictionaries:
 * tasks: address -> fields; ids: address -> id; hosts: address -> first id; bases: place -> what nameless tasks there are called (None: as
 * their coroutine is, which has a name of its own); scopes:
 * address -> id of its task, or 0; sites: (address, offset) -> index of a frame, or None; operations: type -> where it has its resource, its
 * time (-1: nowhere) and its state; texts: (type, resource) -> words, resource, whether shielded; waiting: resource -> list of ids;
 * clocks: host -> what its clock says now. */
enum { TASKS, IDS, HOSTS, BASES, SCOPES, SITES, OPERATIONS, TEXTS, WAITING, CLOCKS, TABLES };

/* Reads tasks that have nothing rare about them: bateau/insight/memory/bateau_tasks.py, whose `_task` and `_state` define what is said of one. */
typedef struct {
    PyObject_HEAD
    Chains *chains;
    PyObject *tables[TABLES]; /* dicts */
    PyObject *wait;           /* the class of a wait */
    uint64_t type, none, real, str; /* of the target: the type of its tasks, None, float, str */
    uint64_t size;
    uint32_t text_at, qualname_at; /* where a compact string's characters are; where a coroutine has its name */
    uint32_t offsets[T_ALL];
    char kinds[T_ALL];
} Plain;

static PyObject *key_id, *key_name, *key_state, *key_runtime, *key_stack, *key_scope, *key_parent, *key_background, *key_spawned,
    *key_waits, *key_shielded, *key_left, *key_resource, *key_operation, *word_waiting, *str_index, *str_running, *str_round, *number_three;

/* The task's fields: 1; 0 if it is none of ours, or its memory is in pieces; -1 with an exception. */
static int
task_at(Plain *self, uint64_t address, int64_t values[T_ALL])
{
    const char *place = at(self->chains->window, address, self->size);
    if (place == NULL || word_at(place + 8) != self->type) {
        return PyErr_Occurred() ? -1 : 0;
    }
    for (int i = 0; i < T_ALL; i++) {
        const char *from = place + self->offsets[i];
        switch (self->kinds[i]) {
        case 'b': values[i] = (int8_t)*from; break;
        case 'B': values[i] = (uint8_t)*from; break;
        case 'i': {
            int32_t value;
            memcpy(&value, from, sizeof value);
            values[i] = value;
            break;
        }
        default: {
            uint64_t value = word_at(from);
            values[i] = (int64_t)(i < T_ID && value == self->none ? 0 : value);
        }
        }
    }
    return 1;
}

/* What a table has for a number: borrowed; NULL without an exception: nothing. */
static PyObject *
entry(PyObject *table, uint64_t number)
{
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *value = key != NULL ? PyDict_GetItemWithError(table, key) : NULL;
    Py_XDECREF(key);
    return value;
}

/* And for two. */
static PyObject *
entry_of_two(Plain *self, int table, uint64_t first, int64_t second)
{
    PyObject *key = Py_BuildValue("(KL)", (unsigned long long)first, (long long)second);
    PyObject *value = key != NULL ? PyDict_GetItemWithError(self->tables[table], key) : NULL;
    Py_XDECREF(key);
    return value;
}

static int
describe_task(Plain *self, PyObject *fields, const int64_t values[T_ALL], PyObject *index, PyObject *base, PyObject *parent, PyObject *site)
{
    PyObject *first = entry(self->tables[HOSTS], (uint64_t)values[T_HOST]);
    long long before = first != NULL ? PyLong_AsLongLong(first) : 0;
    if (PyErr_Occurred() || set_field(fields, key_id, PyLong_FromLongLong(values[T_ID])) < 0 ||
        set_field(fields, key_name, PyUnicode_FromFormat("%U-%lld", base, (long long)((uint64_t)values[T_ID] - (uint64_t)before))) < 0 ||
        PyDict_SetItem(fields, key_state, word_waiting) < 0 ||
        set_field(fields, key_runtime, PyLong_FromUnsignedLongLong((uint64_t)values[T_HOST])) < 0 || PyDict_SetItem(fields, key_stack, index) < 0) {
        return -1;
    }
    if (values[T_SCOPE] != 0) {
        int has = PyObject_IsTrue(parent);
        if (has < 0 || set_field(fields, key_scope, PyLong_FromUnsignedLongLong((uint64_t)values[T_SCOPE])) < 0 ||
            (has && PyDict_SetItem(fields, key_parent, parent) < 0)) {
            return -1;
        }
    }
    return values[T_BACKGROUND] && PyDict_SetItem(fields, key_background, Py_True) < 0 ? -1
           : site != NULL && site != Py_None                                           ? PyDict_SetItem(fields, key_spawned, site)
                                                                                       : 0;
}

/* What a nameless task is called whose coroutine goes through a place: new; NULL without an exception: Python has to look. */
static PyObject *
base_of(Plain *self, PyObject *path, uint64_t coro)
{
    PyObject *base = PyDict_GetItemWithError(self->tables[BASES], path);
    if (base != Py_None) {
        return base != NULL && PyUnicode_Check(base) ? Py_NewRef(base) : NULL;
    }
    const char *place = at(self->chains->window, coro + self->qualname_at, 8);
    return place != NULL ? short_text(self->chains->window, word_at(place), self->str, self->text_at) : NULL;
}

static PyObject *
plain_task(Plain *self, PyObject *number)
{
    uint64_t address, inmost, leaf;
    int64_t values[T_ALL];
    PyObject *path, *fields = NULL, *index = NULL, *running = NULL, *base = NULL, *parent = NULL, *site = NULL;
    if (!as_address(number, &address)) {
        return NULL;
    }
    int known = task_at(self, address, values);
    if (known == 1 && (values[T_CHILDREN] || values[T_ENDED] || values[T_NAME] || values[T_EFFECTIVE] || values[T_STOPPING] || !values[T_CORO] ||
                       (values[T_NODE] && (uint64_t)values[T_NODE] != address))) {
        known = 0;
    }
    if (known == 1) {
        known = follow(self->chains, (uint64_t)values[T_CORO], NULL, &path, &inmost, &leaf);
    }
    if (known == 1) {
        index = PyObject_GetAttr(path, str_index);
        running = index != NULL ? PyObject_GetAttr(path, str_running) : NULL;
        long at_stack = running != NULL ? PyLong_AsLong(index) : -1;
        known = PyErr_Occurred() ? -1 : at_stack >= 0 && running == Py_False;
    }
    if (known == 1) {
        base = base_of(self, path, (uint64_t)values[T_CORO]);
        parent = values[T_SCOPE] != 0 && base != NULL ? entry(self->tables[SCOPES], (uint64_t)values[T_SCOPE]) : NULL;
        site = values[T_SITE] != 0 && base != NULL ? entry_of_two(self, SITES, (uint64_t)values[T_SITE], values[T_OFFSET]) : NULL;
        known = PyErr_Occurred() ? -1
                                 : base != NULL && (values[T_SCOPE] == 0 || parent != NULL) &&
                                       (values[T_SITE] == 0 || site != NULL);
    }
    if (known == 1) {
        PyObject *id = NULL;
        fields = PyDict_New();
        known = fields != NULL && describe_task(self, fields, values, index, base, parent, site) == 0 &&
                        (id = PyDict_GetItemWithError(fields, key_id)) != NULL && PyDict_SetItem(self->tables[TASKS], number, fields) == 0 &&
                        PyDict_SetItem(self->tables[IDS], number, id) == 0
                    ? 1
                    : -1;
    }
    Py_XDECREF(index);
    Py_XDECREF(running);
    Py_XDECREF(base);
    if (known == 1) {
        return fields;
    }
    Py_XDECREF(fields);
    if (known < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

enum { PARKED = 1 };

/* Seconds until `when`, a float of the target's, by the clock of a task's host: a new reference; NULL without an exception: Python has to look. */
static PyObject *
time_left(Plain *self, uint64_t when, uint64_t host)
{
    const char *place = at(self->chains->window, when, 24);
    if (place == NULL || word_at(place + 8) != self->real) {
        return NULL;
    }
    double due;
    memcpy(&due, place + 16, sizeof due);
    PyObject *now = entry(self->tables[CLOCKS], host);
    if (now == NULL || !PyFloat_Check(now)) {
        return NULL;
    }
    double left = due - PyFloat_AS_DOUBLE(now);
    if (!(fabs(left) < 1e12)) { /* or no number */
        Py_RETURN_NONE;
    }
    PyObject *exact = PyFloat_FromDouble(left);
    PyObject *rounded = exact != NULL ? PyObject_CallMethodOneArg(exact, str_round, number_three) : NULL;
    Py_XDECREF(exact);
    return rounded;
}

static PyObject *
plain_wait(Plain *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t address;
    int64_t values[T_ALL];
    if (nargs != 2 || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "wait takes an address, and the fields of the task there");
        return NULL;
    }
    PyObject *fields = args[1], *left = NULL, *more = NULL;
    if (!as_address(args[0], &address)) {
        return NULL;
    }
    int known = task_at(self, address, values);
    uint64_t operation = known == 1 ? (uint64_t)values[T_WAITING] : 0;
    const char *place = operation != 0 ? at(self->chains->window, operation, 16) : NULL;
    uint64_t kind = place != NULL ? word_at(place + 8) : 0;
    PyObject *where = kind != 0 ? entry(self->tables[OPERATIONS], kind) : NULL;
    int resource_at, when_at, state_at;
    if (where == NULL || !PyArg_ParseTuple(where, "iii", &resource_at, &when_at, &state_at)) {
        goto leave_it;
    }
    int furthest = resource_at > when_at ? resource_at : when_at;
    furthest = (state_at > furthest ? state_at : furthest) + 8;
    place = resource_at >= 0 && state_at >= 0 ? at(self->chains->window, operation, (uint64_t)furthest) : NULL;
    if (place == NULL || place[state_at] != PARKED) {
        goto leave_it;
    }
    uint64_t resource = word_at(place + resource_at), when = when_at >= 0 ? word_at(place + when_at) : 0;
    resource = resource == self->none ? 0 : resource;
    when = when == self->none ? 0 : when;
    PyObject *said = entry_of_two(self, TEXTS, kind, (int64_t)resource), *text, *thing, *shielded; /* borrowed: it stays there */
    if (said == NULL || !PyArg_ParseTuple(said, "UO!O", &text, &PyLong_Type, &thing, &shielded)) {
        goto leave_it;
    }
    PyObject *ids = PyDict_GetItemWithError(self->tables[WAITING], thing), *id = PyDict_GetItemWithError(fields, key_id);
    if (ids == NULL || id == NULL || !PyList_CheckExact(ids)) {
        goto leave_it;
    }
    if (when != 0 && (left = time_left(self, when, (uint64_t)values[T_HOST])) == NULL) {
        goto leave_it;
    }
    more = PyDict_New();
    if (more == NULL || (shielded == Py_True && PyDict_SetItem(more, key_shielded, Py_True) < 0) ||
        (left != NULL && left != Py_None && PyDict_SetItem(more, key_left, left) < 0) || PyDict_SetItem(more, key_resource, thing) < 0 ||
        PyDict_SetItem(more, key_operation, text) < 0) {
        goto leave_it;
    }
    PyObject *wait = bateau_made((PyTypeObject *)self->wait, more);
    if (wait == NULL || PyDict_SetItem(fields, key_waits, wait) < 0 || PyList_Append(ids, id) < 0) {
        Py_XDECREF(wait);
        goto leave_it;
    }
    Py_DECREF(wait);
    Py_XDECREF(left);
    Py_DECREF(more);
    Py_RETURN_TRUE;
leave_it:
    Py_XDECREF(left);
    Py_XDECREF(more);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_RETURN_FALSE;
}

static PyObject *
plain_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *chains, *layout, *tables, *wait;
    unsigned long long task, none, real, str;
    unsigned int text_at, qualname_at;
    if (!PyArg_ParseTuple(args, "O!KKKO!O!O!KII", &ChainsType, &chains, &task, &none, &real, &PyTuple_Type, &layout, &PyTuple_Type, &tables,
                          &PyType_Type, &wait, &str, &text_at, &qualname_at)) {
        return NULL;
    }
    PyTypeObject *made = (PyTypeObject *)wait;
    if (PyTuple_GET_SIZE(layout) != T_ALL || PyTuple_GET_SIZE(tables) != TABLES || text_at < 36 || text_at > 4096 || qualname_at > 4096 || made->tp_new != PyBaseObject_Type.tp_new ||
        made->tp_base != &PyBaseObject_Type || !(made->tp_flags & Py_TPFLAGS_HEAPTYPE)) {
        PyErr_Format(PyExc_ValueError, "Plain takes %d fields, %d tables and a plain class", T_ALL, TABLES);
        return NULL;
    }
    Plain *self = (Plain *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->size = 16;
    for (Py_ssize_t i = 0; i < T_ALL; i++) {
        unsigned int offset;
        int kind;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(layout, i), "IC", &offset, &kind) || offset > 1 << 20 ||
            (i < T_ID ? kind != 'Q' : kind != 'b' && kind != 'B' && kind != 'i' && kind != 'q')) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_ValueError, "a field is an offset below 2**20, and Q for a pointer, one of bBiq for a number");
            }
            Py_DECREF(self);
            return NULL;
        }
        self->offsets[i] = offset;
        self->kinds[i] = (char)kind;
        self->size = offset + 8 > self->size ? offset + 8 : self->size;
    }
    for (Py_ssize_t i = 0; i < TABLES; i++) {
        if (!PyDict_CheckExact(PyTuple_GET_ITEM(tables, i))) {
            PyErr_SetString(PyExc_TypeError, "the tables of a Plain are dicts");
            Py_DECREF(self);
            return NULL;
        }
        self->tables[i] = Py_NewRef(PyTuple_GET_ITEM(tables, i));
    }
    self->type = task;
    self->none = none;
    self->real = real;
    self->str = str;
    self->text_at = text_at;
    self->qualname_at = qualname_at;
    self->wait = Py_NewRef(wait);
    self->chains = (Chains *)Py_NewRef(chains);
    return (PyObject *)self;
}

static int
plain_traverse(Plain *self, visitproc visit, void *arg)
{
    Py_VISIT(self->chains);
    Py_VISIT(self->wait);
    for (int i = 0; i < TABLES; i++) {
        Py_VISIT(self->tables[i]);
    }
    return 0;
}

static void
plain_dealloc(Plain *self)
{
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->chains);
    Py_XDECREF(self->wait);
    for (int i = 0; i < TABLES; i++) {
        Py_XDECREF(self->tables[i]);
    }
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef plain_methods[] = {
    {"task", (PyCFunction)plain_task, METH_O,
     "task(address)\n--\n\nThe fields of the task there, entered into the tables; None: it is for Python to read."},
    {"wait", (PyCFunction)(void (*)(void))plain_wait, METH_FASTCALL,
     "wait(address, fields)\n--\n\nSay what that task waits on; False: it is for Python to say."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject PlainType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.PlainTasks",
    .tp_doc = "PlainTasks(chains, type, none, float, layout, tables, wait, str, text, qualname)\n--\n\n"
              "Reads tasks that have nothing rare about them. See bateau.insight.memory.bateau_tasks.",
    .tp_basicsize = sizeof(Plain),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = plain_new,
    .tp_dealloc = (destructor)plain_dealloc,
    .tp_traverse = (traverseproc)plain_traverse,
    .tp_methods = plain_methods,
};

/* ---- tasks of asyncio's ----------------------------------------------------------------------------------------------- */

enum { A_TYPE, A_LOOP, A_CALLBACK, A_STATE, A_WAITER, A_CORO, A_NAME, A_ALL };

/* The tables that this shares with Python's side, as above: tasks, ids; kinds: type of a task -> where its instances have a dictionary (None: it is written
 * in Python); plain: stack -> the slot of the variable with what is waited for there, and how to word that (None: a sleep's handle);
 * roles: type of what is awaited -> "future" and others; shared: (resource, words) -> the wait of all who wait there; waiting; due: type of a
 * timer's handle -> where its time is (negative: the number itself). */
enum { A_TASKS, A_IDS, A_KINDS, A_PLAIN, A_ROLES, A_SHARED, A_WAITING, A_DUE, A_TABLES };

/* Reads tasks that wait in a usual way: bateau/insight/memory/asyncio_tasks.py, whose `_read` defines what is said of one. */
typedef struct {
    PyObject_HEAD
    Chains *chains;
    PyObject *tables[A_TABLES];
    PyObject *wait, *name;    /* the class of a wait; address of a name -> the name */
    uint64_t str, real;       /* of the target: str and float */
    uint32_t text_at;         /* where a compact string's characters are */
    uint64_t size, state_at;
    double now;
    uint32_t offsets[A_ALL];
} Usual;

static PyObject *key_foreign, *key_library, *word_asyncio, *word_sleep, *str_created;

/* A sleep's wait: a new reference; NULL without an exception: it is for Python. `id`s of all who wait for the clock are in one list. */
static PyObject *
sleep_of(Usual *self, uint64_t handle)
{
    const char *place = at(self->chains->window, handle, 16);
    PyObject *due = place != NULL ? entry(self->tables[A_DUE], word_at(place + 8)) : NULL;
    long slot = due != NULL ? PyLong_AsLong(due) : 0;
    if (slot == 0 || (slot == -1 && PyErr_Occurred())) {
        return NULL;
    }
    place = at(self->chains->window, handle + (uint64_t)(slot < 0 ? -slot : slot), 8);
    if (place != NULL && slot > 0) {
        place = at(self->chains->window, word_at(place), 24);
        place = place != NULL && word_at(place + 8) == self->real ? place + 16 : NULL;
    }
    if (place == NULL) {
        return NULL;
    }
    double when;
    memcpy(&when, place, sizeof when);
    if (!(fabs(when - self->now) < 1e12)) {
        return NULL; /* for ever, or no number */
    }
    PyObject *exact = PyFloat_FromDouble(when - self->now);
    PyObject *left = exact != NULL ? PyObject_CallMethodOneArg(exact, str_round, number_three) : NULL;
    PyObject *one = PyLong_FromLong(1), *more = left != NULL && one != NULL ? PyDict_New() : NULL, *wait = NULL;
    if (more != NULL && PyDict_SetItem(more, key_foreign, Py_True) == 0 && PyDict_SetItem(more, key_left, left) == 0 &&
        PyDict_SetItem(more, key_resource, one) == 0 && PyDict_SetItem(more, key_operation, word_sleep) == 0) {
        wait = bateau_made((PyTypeObject *)self->wait, more);
    }
    Py_XDECREF(exact);
    Py_XDECREF(left);
    Py_XDECREF(one);
    Py_XDECREF(more);
    return wait;
}

/* What a task waits on whose innermost variables are at `inmost`; and the list of those who wait for the same, borrowed. */
static PyObject *
wait_of(Usual *self, PyObject *index, uint64_t inmost, PyObject **ids)
{
    PyObject *known = PyDict_GetItemWithError(self->tables[A_PLAIN], index), *words, *wait;
    int slot;
    if (known == NULL || !PyArg_ParseTuple(known, "iO", &slot, &words)) {
        return NULL;
    }
    const char *place = slot >= 0 ? at(self->chains->window, inmost + 8 * (uint64_t)slot, 8) : NULL;
    uint64_t thing = place != NULL ? word_at(place) & ~(uint64_t)7 : 0; /* (from 3.14 on they are marks) */
    if (thing == 0) {
        return NULL;
    }
    if (words == Py_None) {
        *ids = entry(self->tables[A_WAITING], 1);
        return *ids != NULL ? sleep_of(self, thing) : NULL;
    }
    PyObject *number = PyLong_FromUnsignedLongLong(thing), *key = number != NULL ? PyTuple_Pack(2, number, words) : NULL;
    wait = key != NULL ? PyDict_GetItemWithError(self->tables[A_SHARED], key) : NULL;
    *ids = wait != NULL ? PyDict_GetItemWithError(self->tables[A_WAITING], number) : NULL;
    Py_XDECREF(key);
    Py_XDECREF(number);
    return *ids != NULL ? Py_NewRef(wait) : NULL;
}

/* Its name: new; of the usual kind here, of any other by Python. */
static PyObject *
name_at(Usual *self, uint64_t address)
{
    PyObject *text = short_text(self->chains->window, address, self->str, self->text_at);
    if (text != NULL || PyErr_Occurred()) {
        return text;
    }
    PyObject *number = PyLong_FromUnsignedLongLong(address), *name = number != NULL ? PyObject_CallOneArg(self->name, number) : NULL;
    Py_XDECREF(number);
    return name;
}

static PyObject *
usual_task(Usual *self, PyObject *number)
{
    uint64_t address, values[A_ALL], inmost, leaf;
    PyObject *path, *index = NULL, *running = NULL, *created = NULL, *wait = NULL, *ids = NULL, *fields = NULL, *id = NULL;
    if (!as_address(number, &address)) {
        return NULL;
    }
    const char *place = at(self->chains->window, address, self->size);
    if (place == NULL) {
        goto leave_it;
    }
    for (int i = 0; i < A_ALL; i++) {
        values[i] = i == A_STATE ? 0 : word_at(place + self->offsets[i]);
    }
    int32_t state;
    memcpy(&state, place + self->offsets[A_STATE], sizeof state);
    PyObject *kind = entry(self->tables[A_KINDS], values[A_TYPE]);
    if (kind == NULL || kind == Py_None || state != 0 || values[A_CALLBACK] != 0 || values[A_CORO] == 0 || values[A_WAITER] == 0) {
        goto leave_it;
    }
    place = at(self->chains->window, values[A_WAITER], self->state_at + 4 > 16 ? self->state_at + 4 : 16); /* where the state is, that memory says */
    if (place == NULL) {
        goto leave_it;
    }
    memcpy(&state, place + self->state_at, sizeof state);
    PyObject *role = entry(self->tables[A_ROLES], word_at(place + 8));
    if (role == NULL || state != 0 || !PyUnicode_Check(role) || PyUnicode_Compare(role, str_future) != 0 ||
        follow(self->chains, values[A_CORO], NULL, &path, &inmost, &leaf) != 1) {
        goto leave_it;
    }
    index = PyObject_GetAttr(path, str_index);
    running = index != NULL ? PyObject_GetAttr(path, str_running) : NULL;
    created = running != NULL ? PyObject_GetAttr(path, str_created) : NULL;
    if (created == NULL || running != Py_False || created != Py_False || (wait = wait_of(self, index, inmost, &ids)) == NULL) {
        goto leave_it;
    }
    id = PyLong_FromLongLong((long long)(0 - address));
    fields = PyDict_New();
    if (id == NULL || fields == NULL || PyDict_SetItem(fields, key_id, id) < 0 || set_field(fields, key_name, name_at(self, values[A_NAME])) < 0 ||
        PyDict_SetItem(fields, key_state, word_waiting) < 0 || set_field(fields, key_runtime, PyLong_FromUnsignedLongLong(values[A_LOOP])) < 0 ||
        PyDict_SetItem(fields, key_library, word_asyncio) < 0 || PyDict_SetItem(fields, key_stack, index) < 0 ||
        PyDict_SetItem(fields, key_waits, wait) < 0 || !PyList_CheckExact(ids) || PyList_Append(ids, id) < 0 ||
        PyDict_SetItem(self->tables[A_TASKS], number, fields) < 0 || PyDict_SetItem(self->tables[A_IDS], number, id) < 0) {
        goto leave_it;
    }
    Py_DECREF(index);
    Py_DECREF(running);
    Py_DECREF(created);
    Py_DECREF(wait);
    Py_DECREF(fields);
    Py_DECREF(id);
    Py_RETURN_TRUE;
leave_it:
    Py_XDECREF(index);
    Py_XDECREF(running);
    Py_XDECREF(created);
    Py_XDECREF(wait);
    Py_XDECREF(fields);
    Py_XDECREF(id);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_RETURN_FALSE;
}

static PyObject *
usual_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *chains, *offsets, *tables, *wait, *name;
    unsigned long long str, real;
    unsigned int text_at, state_at;
    double now;
    if (!PyArg_ParseTuple(args, "O!KKIIdO!O!O!O", &ChainsType, &chains, &str, &real, &text_at, &state_at, &now, &PyTuple_Type, &offsets,
                          &PyTuple_Type, &tables, &PyType_Type, &wait, &name)) {
        return NULL;
    }
    PyTypeObject *made = (PyTypeObject *)wait;
    if (PyTuple_GET_SIZE(offsets) != A_ALL || PyTuple_GET_SIZE(tables) != A_TABLES || text_at < 36 || text_at > 4096 || state_at > 4096 ||
        made->tp_new != PyBaseObject_Type.tp_new || made->tp_base != &PyBaseObject_Type || !(made->tp_flags & Py_TPFLAGS_HEAPTYPE)) {
        PyErr_Format(PyExc_ValueError, "UsualTasks takes %d offsets, %d tables and a plain class", A_ALL, A_TABLES);
        return NULL;
    }
    Usual *self = (Usual *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < A_ALL; i++) {
        unsigned long offset = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(offsets, i));
        if (offset > 1 << 20) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_ValueError, "an offset is below 2**20");
            }
            Py_DECREF(self);
            return NULL;
        }
        self->offsets[i] = (uint32_t)offset;
        self->size = offset + 8 > self->size ? offset + 8 : self->size;
    }
    for (Py_ssize_t i = 0; i < A_TABLES; i++) {
        if (!PyDict_CheckExact(PyTuple_GET_ITEM(tables, i))) {
            PyErr_SetString(PyExc_TypeError, "the tables of UsualTasks are dicts");
            Py_DECREF(self);
            return NULL;
        }
        self->tables[i] = Py_NewRef(PyTuple_GET_ITEM(tables, i));
    }
    self->str = str;
    self->real = real;
    self->text_at = text_at;
    self->state_at = state_at;
    self->now = now;
    self->wait = Py_NewRef(wait);
    self->name = Py_NewRef(name);
    self->chains = (Chains *)Py_NewRef(chains);
    return (PyObject *)self;
}

static int
usual_traverse(Usual *self, visitproc visit, void *arg)
{
    Py_VISIT(self->chains);
    Py_VISIT(self->wait);
    Py_VISIT(self->name);
    for (int i = 0; i < A_TABLES; i++) {
        Py_VISIT(self->tables[i]);
    }
    return 0;
}

static int
usual_clear(Usual *self)
{
    Py_XSETREF(self->name, Py_NewRef(Py_None)); /* which leads back to us; nothing else does */
    return 0;
}

static void
usual_dealloc(Usual *self)
{
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->chains);
    Py_XDECREF(self->wait);
    Py_XDECREF(self->name);
    for (int i = 0; i < A_TABLES; i++) {
        Py_XDECREF(self->tables[i]);
    }
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef usual_methods[] = {
    {"task", (PyCFunction)usual_task, METH_O, "task(address)\n--\n\nEnter the task there into the tables; False: it is for Python to read."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject UsualType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bateau._native.UsualTasks",
    .tp_doc = "UsualTasks(chains, str, float, text, state, now, offsets, tables, wait, name)\n--\n\n"
              "Reads asyncio's tasks that wait in a usual way. See bateau.insight.memory.asyncio_tasks.",
    .tp_basicsize = sizeof(Usual),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = usual_new,
    .tp_dealloc = (destructor)usual_dealloc,
    .tp_traverse = (traverseproc)usual_traverse,
    .tp_clear = (inquiry)usual_clear,
    .tp_methods = usual_methods,
};

int
bateau_memory_exec(PyObject *module)
{
    static struct {
        PyObject **place;
        const char *word;
    } const words[] = {{&str_after, "after"}, {&str_slot, "slot"}, {&str_end, "end"}, {&str_future, "future"}, {&str_wrapper, "wrapper"},
                 {&key_id, "id"}, {&key_name, "name"}, {&key_state, "state"}, {&key_runtime, "runtime"}, {&key_stack, "stack"},
                 {&key_scope, "scope"}, {&key_parent, "parent"}, {&key_background, "background"},
                 {&key_spawned, "spawned"}, {&key_waits, "waits"}, {&key_shielded, "shielded"}, {&key_left, "left"},
                 {&key_resource, "resource"}, {&key_operation, "operation"}, {&word_waiting, "waiting"}, {&str_index, "index"},
                 {&str_running, "running"}, {&str_created, "created"}, {&key_foreign, "foreign"}, {&key_library, "library"},
                 {&word_asyncio, "asyncio"}, {&word_sleep, "asyncio.sleep"}, {&str_round, "__round__"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (*words[i].place == NULL && (*words[i].place = PyUnicode_InternFromString(words[i].word)) == NULL) {
            return -1;
        }
    }
    if (number_three == NULL && (number_three = PyLong_FromLong(3)) == NULL) {
        return -1;
    }
    return PyModule_AddType(module, &WindowType) < 0 || PyModule_AddType(module, &RecordType) < 0 || PyModule_AddType(module, &ChainsType) < 0 ||
                   PyModule_AddType(module, &UsualType) < 0
               ? -1
               : PyModule_AddType(module, &PlainType);
}
