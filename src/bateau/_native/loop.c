/* The native event loop. */
#include "native.h"

int
bateau_loop_exec(PyObject *module)
{
    return 0;
}
