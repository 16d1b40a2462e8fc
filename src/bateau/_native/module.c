/* bateau._native: the C twin of bateau.kernel, the native event loop, and the flight recorder's writer. Only the module itself is made here. */
#include "native.h"

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, bateau_kernel_exec},
    {Py_mod_exec, bateau_loop_exec},
    {Py_mod_exec, bateau_recorder_exec},
    {Py_mod_exec, bateau_stacks_exec},
    {Py_mod_exec, bateau_look_exec},
    {Py_mod_exec, bateau_rows_exec},
    {Py_mod_exec, bateau_memory_exec},
    /* Types are static and their state is the process's: one interpreter, one thread at a time (see kernel.h). */
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "bateau._native",
    .m_doc = "The C twin of bateau.kernel, the native event loop, the flight recorder's writer. BATEAU_PURE=1 keeps bateau from using it.",
    .m_size = 0,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
