"""S42: a thread of a C library, of which Python knows nothing, completes an asyncio future."""

import asyncio
import ctypes

from support.hazards import until_found_off_loop

WATCH = {"lost_wakeup": 0.05}
RUNTIMES = ("native", "asyncio")


async def main():
    libc = ctypes.CDLL(None)
    future = asyncio.get_running_loop().create_future()
    wake = until_found_off_loop("lost_wakeup", asyncio.get_running_loop())

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    def callback(_):
        libc.usleep(100_000)  # until the loop sleeps
        future.set_result("done")
        return

    thread = ctypes.c_ulong()
    asyncio.get_running_loop().call_later(0.01, lambda: libc.pthread_create(ctypes.byref(thread), None, callback, None))
    await future  # <- found
    libc.pthread_join(thread, None)
    wake.join()
