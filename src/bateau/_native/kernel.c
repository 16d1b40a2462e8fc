/* The twin of bateau.kernel. */
#include "native.h"

int
bateau_kernel_exec(PyObject *module)
{
    return 0;
}
