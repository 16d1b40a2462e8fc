"""S46: a C library that can only be polled, polled by hand with guessed sleeps. Here: a typed async iterator, on one thread.

The library is a real one, made by gcc from ``examples/cameras/camera.c`` and called through ctypes, as the example does it.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time as clock
from collections import Counter
from pathlib import Path

import pytest

import bateau

EXAMPLE = Path(__file__).parents[2] / "examples" / "cameras" / "cameras.py"


@pytest.fixture(scope="module")
def cameras():
    spec = importlib.util.spec_from_file_location("cameras_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def library(cameras, tmp_path_factory):
    return cameras.load(str(tmp_path_factory.mktemp("camera")))


FPS = (20, 30, 50, 60, 100)


def test_five_devices_on_one_thread(entry, cameras, library):
    async def main():
        devices = [cameras.Camera(library, n, fps, 1_000_000) for n, fps in enumerate(FPS)]
        threads: set[int] = set()
        polled = [device.poll for device in devices]
        for device, poll in zip(devices, polled, strict=True):
            device.poll = lambda poll=poll: (threads.add(threading.get_ident()), poll())[1]
        numbers: dict[int, list[int]] = {n: [] for n in range(5)}
        late: list[float] = []
        polls: Counter[int] = Counter()
        cpu, wall = clock.process_time(), clock.monotonic()
        enough = bateau.sync.Event()

        async def watch(camera):
            async for frame in cameras.frames(camera):
                numbers[frame.device].append(frame.number)
                if min(map(len, numbers.values())) == 15:
                    enough.set()
                late.append(clock.monotonic() - frame.taken_at)
                assert frame.pixels == bytes([frame.number & 255]) * 64
                polls[frame.device] = camera.polls

        with bateau.fail_after(30):  # three quarters of a second, on a machine that does nothing else
            async with bateau.scope() as scope:
                for device in devices:
                    scope.spawn(watch, device)
                await enough.wait()
                scope.cancel("enough of each")
        cpu, wall = clock.process_time() - cpu, clock.monotonic() - wall
        assert library.cam_count_open() == 0  # closed, though every one was left in the middle
        assert threads == {threading.get_ident()}
        for n in range(5):
            assert numbers[n] == sorted(set(numbers[n]))
            assert polls[n] / len(numbers[n]) < 60  # an eager loop asks tens of thousands of times
        assert sorted(late)[len(late) // 4] < 0.05  # the others may have met a machine that stood still
        assert cpu < wall * 0.8  # no busy loop

    entry.run(main)


def test_no_frame_is_lost_by_timeouts(entry, cameras, library):
    """The consumer gives up its wait every 3 ms; a frame comes every 10 ms."""

    async def main():
        got, given = [], []
        camera = cameras.Camera(library, 7, 100, 20)
        polled = camera.poll

        def poll():
            frame = polled()
            if frame is not None:
                given.append(frame.number)
            return frame

        camera.poll = poll
        stream = cameras.frames(camera)
        over = False
        while not over:
            with bateau.move_on_after(0.003):
                frame = await stream.next(None)
                over = frame is None
                if frame is not None:
                    got.append(frame.number)
        assert (
            got == given == sorted(set(got))
        )  # (the device itself drops frames when this machine stands still for 40 ms)
        assert got[-1] == 19
        assert library.cam_count_open() == 0

    entry.run(main)


def test_an_unplugged_device_ends_its_stream(entry, cameras, library):
    async def main():
        got = await cameras.frames(cameras.Camera(library, 1, 500, 3)).map(lambda frame: frame.number).collect()
        assert got[-1:] == [2]
        assert library.cam_count_open() == 0

    entry.run(main)


def test_a_polled_source_and_the_rest_of_the_program(entry, cameras, library):
    """Pace, batches and a merge of all cameras, in one chain."""

    async def main():
        streams = [cameras.frames(cameras.Camera(library, n, 200, 30)) for n in range(5)]
        batches = await streams[0].merge(*streams[1:]).map(lambda frame: frame.device).batch(16, 0.05).collect()
        seen = Counter(device for batch in batches for device in batch)
        assert set(seen) == set(range(5))
        assert all(len(batch) <= 16 for batch in batches)
        assert library.cam_count_open() == 0

    entry.run(main)


def test_a_closed_camera_never_reaches_the_library(cameras, library):
    """A consumer may still hold a frame when the device is closed: what it asks then has an answer, not a null pointer."""
    camera = cameras.Camera(library, 1, 500, 3)
    camera.poll()
    camera.close()
    camera.close()
    assert camera.polls == 1
    with pytest.raises(StopIteration):
        camera.poll()
    assert library.cam_count_open() == 0
