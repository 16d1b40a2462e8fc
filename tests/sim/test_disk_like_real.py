"""Simulated disks are like real ones: random programs return, raise and leave the same on both."""

from __future__ import annotations

import codecs
import os
import pickle
import shutil
import tempfile

import pytest

from bateau import sim
from support.fileplay import Player

STEPS = 300
NOBODY = 65534


def on_disk(play, uid=0):
    """What ``play()`` gives on the disk of a simulated host, in an empty directory."""
    results = []

    def program():
        os.mkdir("/home/play")
        os.chdir("/home/play")
        results.append(play())

    def scenario(world):
        host = world.host("machine")
        host.disk.names.root.mode |= 0o777
        host.disk.names.find(host.disk.names.root, "/home").mode |= 0o777
        host.disk.uid, host.disk.gid = uid, uid if uid == NOBODY else os.getegid()
        process = host.start(program)
        world.block("the program", 1e6)
        assert not process.is_alive()

    sim.run(scenario)
    return results[0]


def in_folder(play, folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        return play()
    finally:
        os.chdir(before)


def assert_equal(real, simulated):
    for number, (expected, got) in enumerate(zip(real, simulated, strict=True)):
        assert got == expected, f"step {number}: {real[max(0, number - 5) : number + 1]}"


@pytest.mark.skipif(os.geteuid() != 0, reason="ordinary users have the next test")
@pytest.mark.parametrize("seed", range(30))
def test_random_programs(tmp_path, seed):
    def play():
        return Player(seed).play(STEPS)

    assert_equal(in_folder(play, tmp_path), on_disk(play))


@pytest.fixture
def open_folder():
    """A folder that everybody can reach, which pytest's own are not."""
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("seed", range(15))
def test_random_programs_of_an_ordinary_user(open_folder, seed):
    """Permissions are enforced unless one is root."""
    uid = os.geteuid() or NOBODY

    def play():
        return Player(seed).play(STEPS)

    real = in_folder(play, open_folder) if os.geteuid() else as_user(uid, lambda: in_folder(play, open_folder))
    simulated = on_disk(play, uid)
    assert_equal(real, simulated)


def as_user(uid, fn):
    """Run it in a child that has given up root (and may find no module any more)."""
    codecs.lookup("latin-1")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.chdir("/")  # not every user may come back to where this process is
            os.setgid(uid)
            os.setgroups([])
            os.setuid(uid)
            answer = pickle.dumps(fn())
        except BaseException as error:
            answer = pickle.dumps(error)
        with open(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if isinstance(answer, BaseException):
        raise answer
    return answer
