"""Five cameras behind a C library that can only be polled, on one thread: ``bateau run examples/cameras/cameras.py [FRAMES]``.

By hand this is a thread for each camera, or a loop that sleeps for a guessed time. Here each camera is an async iterator of
frames, polled no more often than its pace asks for, and closed when its consumer leaves. Needs gcc, which makes the library.
"""

import ctypes
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import bateau


class Frame(NamedTuple):
    """One picture: who took it, its number, when (on the monotonic clock, in seconds), and its pixels."""

    device: int
    number: int
    taken_at: float
    pixels: bytes


class _Frame(ctypes.Structure):
    _fields_ = [
        ("device", ctypes.c_uint32),
        ("number", ctypes.c_uint32),
        ("taken_at", ctypes.c_double),
        ("pixels", ctypes.c_uint8 * 64),
    ]


def load(folder: str) -> ctypes.CDLL:
    """Make the shared library in ``folder`` and load it, with the types of its functions."""
    path = Path(folder) / "libcamera.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", path, Path(__file__).parent / "camera.c"], check=True)
    library = ctypes.CDLL(str(path))
    library.cam_open.restype = ctypes.c_void_p
    library.cam_open.argtypes = [ctypes.c_uint32, ctypes.c_double, ctypes.c_uint32]
    library.cam_poll.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Frame)]
    library.cam_polls.restype = ctypes.c_uint64
    library.cam_polls.argtypes = [ctypes.c_void_p]
    library.cam_close.restype = None
    library.cam_close.argtypes = [ctypes.c_void_p]
    return library


class Camera:
    """One device of the C library."""

    def __init__(self, library: ctypes.CDLL, device: int, fps: float, frames: int) -> None:
        self._library = library
        self._device = library.cam_open(device, fps, frames)
        self._polls = 0
        if not self._device:
            raise OSError(f"no camera {device}")

    def poll(self) -> Frame | None:
        """The next frame, or None if there is none yet. Raises ``StopIteration`` once the device is unplugged or closed."""
        if self._device is None:
            raise StopIteration
        frame = _Frame()
        state = self._library.cam_poll(self._device, frame)
        if state < 0:
            raise StopIteration
        return Frame(frame.device, frame.number, frame.taken_at, bytes(frame.pixels)) if state else None

    @property
    def polls(self) -> int:
        """How often it was polled, also once it is closed (a consumer may hold its last frame longer than the device lives)."""
        return self._polls if self._device is None else int(self._library.cam_polls(self._device))

    def close(self) -> None:
        """Give the device back; again is harmless."""
        if self._device is not None:
            self._polls = self.polls
            device, self._device = self._device, None
            self._library.cam_close(device)


@bateau.generator
async def frames(camera: Camera) -> AsyncIterator[Frame]:
    """The frames of ``camera``, which is closed when the loop over them is left, however that happens."""
    try:
        async for frame in bateau.iter.from_poll(camera.poll, min=0.001, max=0.05):
            yield frame
    finally:
        camera.close()


@bateau.main
async def main(most: str = "50") -> None:
    with tempfile.TemporaryDirectory() as folder:
        library = await bateau.thread.run(load, folder)
        cameras = [Camera(library, device, fps, int(most)) for device, fps in enumerate((20, 30, 50, 60, 100))]

        async def watch(camera: Camera) -> str:
            seen = lost = 0
            last = -1
            polls = 0
            async for frame in frames(camera):
                lost += frame.number - last - 1
                last = frame.number
                seen += 1
                polls = camera.polls
            return f"{seen} frames, {lost} lost, {polls / max(seen, 1):.1f} polls for each"

        for device, report in enumerate(await bateau.join([watch(camera) for camera in cameras])):
            print(f"camera {device}: {report}")
        print(f"devices still open: {library.cam_count_open()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
