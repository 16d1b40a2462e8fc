"""What a power cut leaves of a simulated disk: for each protocol exactly the outcomes that its syncs allow, at each point and for each fate."""

# ruff: noqa: SIM115  # how files are opened and left is the subject

from __future__ import annotations

import errno
import os

import pytest

from bateau import sim
from bateau.sim.doors import opened
from bateau.sim.strategy import Strategy

CUT = {"unsynced_lost": 0.5, "unsynced_torn": 0.5}


class EveryFate(Strategy):
    """Answers the questions of a power cut in every possible way, one per run; all others as production does."""

    name = "every fate"

    def __init__(self):
        self.path = []  # (answer, how many answers there are)
        self.at = 0
        self.done = False

    def begin(self, seed):
        self.at = 0
        return not self.done

    def _next(self, n):
        if self.at == len(self.path):
            self.path.append((0, n))
        answer, _ = self.path[self.at]
        self.at += 1
        return answer

    def chance(self, stream, p):
        return self._next(2) if stream.startswith("unsynced_") else 0

    def choose(self, stream, n):
        return self._next(n) if stream.startswith("torn") else 0

    def end(self, run):
        del self.path[self.at :]
        while self.path and self.path[-1][0] + 1 == self.path[-1][1]:
            self.path.pop()
        if self.path:
            answer, n = self.path.pop()
            self.path.append((answer + 1, n))
        self.done = not self.path


def outcomes(program, before=None, *, setup=None, point=None, faults=None, restart=None):
    """What the disk can hold after a power cut in ``program``: a set of {path: content} (as sorted tuples), over all fates.

    ``point``: the cut comes where it waits for the disk for that time (counted from 0; -1: after it has ended); None: at each.
    """
    points = [point] if point is not None else range(-1, waits(program, before, setup))
    found = set()
    with opened():
        for where in points:
            fates = EveryFate()
            while not fates.done:
                found.add(cut_at(where, program, before, setup, fates, faults or sim.Faults(**CUT)))
    return found


def waits(program, before, setup):
    count = 0

    def scenario(world):
        nonlocal count
        prepare(world, before, setup)
        world.at_block = lambda thread, what: counted(thread)
        world.host("machine").start(program)
        world.block("it", 1e6)

    def counted(thread):
        nonlocal count
        count += thread.process.host.name == "machine"

    sim.run(scenario)
    return count


def prepare(world, before, setup):
    disk = world.host("machine").disk
    for path, content in (before or {}).items():
        disk.write(path, content)
    if setup is not None:
        setup(disk)
    return disk


def cut_at(point, program, before, setup, fates, faults):
    left = []

    def scenario(world):
        disk = prepare(world, before, setup)
        host, seen = world.host("machine"), 0

        def waiting(thread, what):
            nonlocal seen
            if thread.process.host is host:
                if seen == point:
                    host.crash()
                seen += 1

        world.at_block = waiting
        host.start(program)
        world.block("the program", world.now + 1e6)
        if point == -1:
            host.crash()
        assert disk.crashes == 1
        left.append(tuple(sorted(disk.tree().items())))

    fates.begin(0)
    run = sim.running.one_run(scenario, strategy=fates, faults=faults)
    if run.error is not None:
        raise run.error
    fates.end(run)
    return left[0]


def content_of(path, found):
    return {dict(each).get(path) for each in found}


OLD, NEW = b"old settings", b"new settings, longer"
ZEROS = bytes(len(NEW))


def save(sync_file, sync_directory):
    def program():
        with open("/conf.new", "wb") as file:
            file.write(NEW)
            if sync_file:
                file.flush()
                os.fsync(file.fileno())
        os.replace("/conf.new", "/conf")
        if sync_directory:
            fd = os.open("/", os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)

    return program


def test_rename_without_any_sync_may_leave_an_empty_file():
    found = outcomes(save(False, False), {"/conf": OLD})
    assert content_of("/conf", found) == {OLD, NEW, b"", ZEROS}
    assert content_of("/conf.new", found) == {None, b"", NEW, ZEROS}


def test_rename_of_a_synced_file_leaves_the_old_or_the_new_one():
    found = outcomes(save(True, False), {"/conf": OLD})
    assert content_of("/conf", found) == {OLD, NEW}
    # Until its directory is synced it may be undone even after it has ended.
    assert content_of("/conf", outcomes(save(True, False), {"/conf": OLD}, point=-1)) == {OLD, NEW}


def test_with_both_syncs_the_new_one_is_there_when_the_program_has_ended():
    assert content_of("/conf", outcomes(save(True, True), {"/conf": OLD})) == {OLD, NEW}
    assert outcomes(save(True, True), {"/conf": OLD}, point=-1) == {(("/conf", NEW), ("/home", None), ("/tmp", None))}


def test_what_every_point_leaves_grows_with_the_syncs():
    """The n-th wait of the safe protocol: create, write, sync, rename, open the directory, sync it."""
    found = [content_of("/conf", outcomes(save(True, True), {"/conf": OLD}, point=n)) for n in range(6)]
    assert found == [{OLD}, {OLD}, {OLD}, {OLD, NEW}, {OLD, NEW}, {OLD, NEW}]
    new = [content_of("/conf.new", outcomes(save(True, True), {"/conf": OLD}, point=n)) for n in range(6)]
    assert new == [{None, b""}, {None, b"", ZEROS, NEW}, {None, b"", ZEROS, NEW}, {None, NEW}, {None, NEW}, {None, NEW}]


def test_a_rename_may_survive_although_the_data_is_the_old():
    def program():
        with open("/draft", "r+b") as file:
            file.write(b"NEW")
        os.rename("/draft", "/final")

    found = outcomes(program, {"/draft": b"old"})
    assert content_of("/final", found) == {None, b"old", b"NEW"}


def test_truncating_and_writing_in_place_may_leave_nothing():
    def program():
        with open("/conf", "wb") as file:
            file.write(NEW)

    assert content_of("/conf", outcomes(program, {"/conf": OLD})) == {OLD, b"", NEW, ZEROS}


def test_a_write_of_many_blocks_is_torn_at_their_boundaries():
    old, new = b"o" * 1536, b"n" * 1536

    def program():
        fd = os.open("/data", os.O_WRONLY)
        os.write(fd, new)

    found = content_of("/data", outcomes(program, {"/data": old}))
    assert found == {old, new, new[:512] + old[512:], new[:1024] + old[1024:]}


def test_blocks_are_those_of_the_file_not_of_the_write():
    def program():
        fd = os.open("/data", os.O_WRONLY)
        os.pwrite(fd, b"n" * 512, 256)

    found = content_of("/data", outcomes(program, {"/data": b"o" * 1024}))
    torn = b"o" * 256 + b"n" * 256 + b"o" * 512
    assert found == {b"o" * 1024, b"o" * 256 + b"n" * 512 + b"o" * 256, torn}


def test_a_log_may_lose_a_middle_record_if_the_later_ones_are_in_other_blocks():
    def program():
        fd = os.open("/log", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"a" * 512)
        os.write(fd, b"b" * 512)

    found = content_of("/log", outcomes(program, {"/log": b""}, faults=sim.Faults(unsynced_torn=0)))
    assert found == {b"", b"a" * 512, b"a" * 512 + b"b" * 512, bytes(512) + b"b" * 512}


def test_what_is_in_one_block_arrives_in_order():
    def program():
        fd = os.open("/log", os.O_WRONLY | os.O_APPEND)
        for record in (b"a", b"b", b"c"):
            os.write(fd, record)

    found = content_of("/log", outcomes(program, {"/log": b""}, faults=sim.Faults(unsynced_torn=0)))
    assert found == {b"", b"a", b"ab", b"abc"}


def test_a_synced_prefix_is_never_lost():
    def program():
        fd = os.open("/log", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"safe")
        os.fdatasync(fd)
        os.write(fd, b"more")

    assert content_of("/log", outcomes(program, {"/log": b""}, point=3)) == {b"safe", b"safemore", b"safe\0\0\0\0"}


def test_a_cut_comes_before_what_was_written_after_it():
    def program():
        fd = os.open("/data", os.O_WRONLY)
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"n" * 10, 512)

    found = content_of("/data", outcomes(program, {"/data": b"o" * 1024}, faults=sim.Faults(unsynced_torn=0)))
    assert found == {b"o" * 1024, b"", bytes(512) + b"n" * 10}


def test_o_sync_syncs_each_write():
    def program():
        fd = os.open("/log", os.O_WRONLY | os.O_APPEND | os.O_SYNC)
        os.write(fd, b"safe")

    assert content_of("/log", outcomes(program, {"/log": b""}, point=-1)) == {b"safe"}


def test_sync_makes_everything_safe():
    def program():
        os.mkdir("/d")
        with open("/d/file", "wb") as file:
            file.write(NEW)
        os.sync()

    def scenario(world):
        disk = world.host("machine").disk
        world.host("machine").start(program)
        world.block("the program", 1e6)
        assert disk.unsynced() == []
        assert disk.tree(safe=True) == disk.tree()

    sim.run(scenario)
    assert outcomes(program, point=-1) == {(("/d", None), ("/d/file", NEW), ("/home", None), ("/tmp", None))}


def test_a_directory_must_be_synced_for_each_new_name():
    def program():
        os.mkdir("/d")
        fd = os.open("/d/file", os.O_CREAT | os.O_WRONLY)
        os.write(fd, NEW)
        os.fsync(fd)

    found = outcomes(program, point=-1)
    assert content_of("/d", found) == {None}
    assert content_of("/d/file", found) == {None, NEW}
    assert any("/d" in dict(each) and "/d/file" not in dict(each) for each in found)


def test_deleted_files_may_come_back():
    found = outcomes(lambda: os.unlink("/file"), {"/file": OLD})
    assert content_of("/file", found) == {None, OLD}


def test_names_that_rest_on_each_other_survive_in_order():
    def program():
        os.rename("/a", "/b")
        os.rename("/b", "/c")

    found = outcomes(program, {"/a": OLD})
    assert {tuple(path for path, content in each if content) for each in found} == {("/a",), ("/b",), ("/c",)}


def test_independent_names_survive_in_any_combination():
    def program():
        os.mkdir("/x")
        os.mkdir("/y")

    found = {tuple(path for path, _ in each if len(path) == 2) for each in outcomes(program)}
    assert found == {(), ("/x",), ("/y",), ("/x", "/y")}


def test_with_a_journal_names_survive_in_order_and_any_sync_commits_them():
    def journal(disk):
        disk.journal = True

    def program():
        os.mkdir("/x")
        os.mkdir("/y")

    found = {tuple(path for path, _ in each if len(path) == 2) for each in outcomes(program, setup=journal)}
    assert found == {(), ("/x",), ("/x", "/y")}

    found = outcomes(save(True, False), {"/conf": OLD}, setup=journal, point=3)
    assert content_of("/conf.new", found) == {NEW, None}  # its name is safe since the file was synced
    found = outcomes(save(False, False), {"/conf": OLD}, setup=journal)
    assert content_of("/conf", found) == {OLD, NEW, b"", ZEROS}


def test_hard_links_are_one_file_after_the_cut_too():
    def program():
        os.link("/a", "/b")
        fd = os.open("/", os.O_RDONLY)
        os.fsync(fd)
        with open("/b", "r+b") as file:
            file.write(b"NEW")

    for each in outcomes(program, {"/a": b"old"}, point=-1):
        left = dict(each)
        assert left["/a"] == left["/b"] in {b"old", b"NEW"}


def test_a_failed_sync_gives_up_what_was_pending():
    """As Linux does: who tries again is told that all is well, and the data is gone at the next power cut."""
    said = []

    def program():
        fd = os.open("/log", os.O_WRONLY)
        os.write(fd, b"NEW")
        for _ in range(2):
            try:
                os.fsync(fd)
                said.append("synced")
            except OSError as error:
                said.append(errno.errorcode[error.errno])
        assert open("/log", "rb").read() == b"NEW"

    def scenario(world):
        host = world.host("machine")
        host.disk.write("/log", b"old")
        host.disk.fail("fsync", errno.EIO, path="/log")
        host.start(program)
        world.block("the program", 1e6)
        host.crash()
        assert said == ["EIO", "synced"]
        assert host.disk.read("/log") == b"old"

    sim.run(scenario)


def test_killing_a_process_loses_nothing_of_what_it_has_written():
    def program():
        file = open("/log", "wb")
        file.write(b"written")
        file.flush()
        file.write(b"only in the program's own buffer")
        import time

        time.sleep(100)

    def scenario(world):
        host = world.host("machine")
        process = host.start(program)
        world.block("the program", 1.0)
        process.kill()
        assert host.disk.read("/log") == b"written"

    sim.run(scenario, faults=sim.Faults(unsynced_lost=1))


def test_cuts_are_choices_that_replay_and_shrink():
    def scenario(world):
        host = world.host("machine")
        host.start(save(False, False))
        world.block("the program", 1e6)
        host.crash()
        assert host.disk.exists("/conf")
        assert host.disk.read("/conf") == NEW

    with pytest.raises(sim.Found) as found:
        sim.explore(scenario, seeds=100)
    answers = found.value.run.choices
    assert sum(map(len, answers.values())) == 1, answers
    assert "the power cut" in found.value.story
    with pytest.raises(AssertionError):
        sim.explore(scenario, seeds=1, strategy=sim.strategy.Replay(answers))


def test_crash_everywhere_finds_the_missing_sync():
    def scenario(program):
        async def run(world):
            machine = world.host("machine")
            machine.disk.write("/conf", OLD)
            process = machine.start(program)
            try:
                await process
            except BaseException:
                if process.exit_code == 0:
                    raise
            machine.crash()
            assert machine.disk.read("/conf") in {OLD, NEW}

        return run

    options = {"restart_after": None, "faults": sim.Faults(unsynced_lost=0.9)}
    with pytest.raises(sim.Found):
        sim.crash_everywhere(scenario(save(False, True)), "machine", **options)
    sim.crash_everywhere(scenario(save(True, True)), "machine", **options)


def test_what_was_written_long_ago_has_reached_the_drive():
    """Programs that never sync don't make a power cut ask for ever: a kernel writes back by itself."""

    def program():
        fd = os.open("/log", os.O_CREAT | os.O_WRONLY)
        for number in range(10_000):
            os.pwrite(fd, b"x" * 10, number * 512)
        for number in range(10_000):
            os.mkdir(f"/tmp/{number}")

    def scenario(world):
        host = world.host("machine")
        host.start(program)
        world.block("the program", 1e6)
        assert host.disk.read("/log")[: 512 * 1000 : 512] == b"x" * 1000
        host.crash()
        left = host.disk.tree()
        assert "/tmp/1000" in left
        assert "/tmp/9999" not in left
        assert left["/log"][512 * 1000] == ord("x")

    sim.run(scenario, strategy="fifo", faults=sim.Faults(unsynced_lost=1), disk_latency=None)
