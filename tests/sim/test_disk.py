"""The disk of a simulated host: faults, full disks, time, locks, what scenarios do with it, and what happens at the end of a process."""

# ruff: noqa: SIM115  # how files are opened and left is the subject

from __future__ import annotations

import errno
import fcntl
import gc
import io
import os
import shutil
import stat
import time
import warnings
from itertools import pairwise

import pytest

from bateau import sim
from bateau.sim.strategy import by_name


def run(program, *args, setup=None, **options):
    """What a program gives on a simulated host; and its disk afterwards."""
    results = []

    def scenario(world):
        host = world.host("machine")
        if setup is not None:
            setup(host.disk)
        process = host.start(lambda: results.append(program(*args)))
        while process.is_alive():
            world.block("the program", world.now + 1)
        return host.disk

    disk = sim.run(scenario, **options)
    return results[0], disk


def error_of(fn, *args):
    try:
        fn(*args)
    except OSError as error:
        return errno.errorcode[error.errno], error.filename
    return None


# -- faults ------------------------------------------------------------------------------------------------------------


def test_writes_and_reads_may_be_short():
    def program():
        fd = os.open("/tmp/file", os.O_CREAT | os.O_RDWR)
        data, written = bytes(range(100)), []
        while data:
            written.append(os.write(fd, data))
            data = data[written[-1] :]
        os.lseek(fd, 0, 0)
        read = []
        while part := os.read(fd, 100):
            read.append(part)
        return written, read

    (written, read), disk = run(program, strategy="random", seed=2, faults=sim.Faults(short_write=0.9, short_read=0.9))
    assert len(written) > 1 and sum(written) == 100
    assert len(read) > 1 and b"".join(read) == disk.read("/tmp/file") == bytes(range(100))


def test_pythons_own_files_survive_short_writes_and_reads():
    def program():
        with open("/tmp/file", "w") as file:
            file.write("line\n" * 5000)
        with open("/tmp/file") as file:
            lines = list(file)
        shutil.copyfile("/tmp/file", "/tmp/copy")
        return lines

    lines, disk = run(program, strategy="random", faults=sim.Faults(short_write=0.5, short_read=0.5))
    assert lines == ["line\n"] * 5000
    assert disk.read("/tmp/copy") == b"line\n" * 5000


def test_errors_by_probability_hit_reads_writes_and_syncs():
    def program():
        fd = os.open("/tmp/file", os.O_CREAT | os.O_RDWR)
        seen = []
        for _ in range(100):
            seen += [error_of(os.write, fd, b"x"), error_of(os.pread, fd, 1, 0), error_of(os.fsync, fd)]
        return seen

    seen, _ = run(program, strategy="random", faults=sim.Faults(io_error=0.3, disk_full=0.2))
    writes, reads, syncs = seen[0::3], seen[1::3], seen[2::3]
    assert {("EIO", None), ("ENOSPC", None), None} == set(writes)
    assert {("EIO", None), None} == set(reads) == set(syncs)


def test_errors_by_script_hit_the_named_operation():
    def program():
        open("/tmp/a", "w").close()
        first = [error_of(os.rename, "/tmp/a", "/tmp/b"), error_of(os.rename, "/tmp/a", "/tmp/b")]
        second = [error_of(open, "/tmp/b"), error_of(open, "/tmp/other", "w")]
        fd = os.open("/tmp/b", os.O_RDWR)
        third = [error_of(os.write, fd, b"x") for _ in range(3)]
        return first, second, third, error_of(os.listdir, "/tmp"), error_of(os.stat, "/tmp/b")

    def setup(disk):
        disk.fail("rename", errno.EXDEV)
        disk.fail("open", errno.EACCES, path="/tmp/other")
        disk.fail("open", errno.EMFILE, path="/tmp/b")
        disk.fail("write", errno.ENOSPC, times=2)
        disk.fail("listdir")
        disk.fail("stat", errno.ESTALE, path="/tmp/b")

    found, _ = run(program, setup=setup)
    assert found == (
        [("EXDEV", "/tmp/a"), None],
        [("EMFILE", "/tmp/b"), ("EACCES", "/tmp/other")],
        [("ENOSPC", None), ("ENOSPC", None), None],
        ("EIO", "/tmp"),
        ("ESTALE", "/tmp/b"),
    )


def test_a_full_disk():
    def program():
        with open("/tmp/file", "wb", buffering=0) as file:
            first = file.write(b"x" * 6000)
            second = file.write(b"x" * 6000)  # what there is space for
            third = error_of(file.write, b"x")
        usage = shutil.disk_usage("/")
        fourth = error_of(open, "/tmp/new", "w"), error_of(os.mkdir, "/tmp/directory")
        os.truncate("/tmp/file", 100)
        with open("/tmp/new", "wb") as file:
            file.write(b"y" * 5000)
        os.unlink("/tmp/new")
        return first, second, third, usage.free, fourth, shutil.disk_usage("/").used

    def setup(disk):
        disk.capacity = disk.used + 10_000

    (first, second, third, free, fourth, used), disk = run(program, setup=setup)
    assert (first, second, third, free) == (6000, 4000, ("ENOSPC", None), 0)
    assert fourth == (("ENOSPC", "/tmp/new"), ("ENOSPC", "/tmp/directory"))
    assert used < disk.capacity
    assert disk.used == disk.capacity - 10_000 + 100


def test_space_of_a_deleted_file_comes_back_when_it_is_closed():
    def program():
        file = open("/tmp/file", "wb")
        file.write(b"x" * 5000)
        file.flush()
        os.unlink("/tmp/file")
        before = os.fstat(file.fileno()).st_nlink
        file.close()
        return before

    used = []
    (links), disk = run(program, setup=lambda disk: used.append(disk.used))
    assert links == 0
    assert disk.used == used[0]


def test_corruption_by_script_stays_until_it_is_overwritten():
    def program():
        with open("/data", "rb") as file:
            return file.read(), file.seek(0), file.read()

    def setup(disk):
        disk.write("/data", b"abcd")
        disk.corrupt("/data", 1, bit=5)
        with pytest.raises(ValueError, match="no byte 4"):
            disk.corrupt("/data", 4)

    (first, _, second), disk = run(program, setup=setup)
    assert first == second == b"aBcd" == disk.read("/data")


def test_bits_flip_only_after_a_crash():
    def program():
        with open("/data", "rb") as file:
            return file.read()

    def scenario(world):
        host = world.host("machine")
        host.disk.write("/data", bytes(100))
        found = []
        for _ in range(2):
            process = host.start(lambda: found.append(program()))
            while process.is_alive():
                world.block("it", world.now + 1)
            host.crash()
        return found, host.disk.read("/data")

    (before, after), kept = sim.run(scenario, strategy="fifo", faults=sim.Faults(corrupt=1.0))
    assert before == bytes(100)
    assert sum(byte.bit_count() for byte in after) == 1
    assert kept == after


# -- time, order, determinism ------------------------------------------------------------------------------------------


def test_operations_and_syncs_take_time():
    def program():
        times = [time.monotonic()]
        fd = os.open("/tmp/file", os.O_CREAT | os.O_RDWR)
        times.append(time.monotonic())
        os.write(fd, b"x")
        times.append(time.monotonic())
        os.fsync(fd)
        times.append(time.monotonic())
        os.path.exists("/tmp/none")
        times.append(time.monotonic())
        return [later - earlier for earlier, later in pairwise(times)]

    default, _ = run(program)
    assert all(0.000_01 <= seconds <= 0.000_5 for seconds in (default[0], default[1], default[3]))
    assert 0.000_5 <= default[2] <= 0.02
    slow, _ = run(program, disk_latency=sim.Latency(1, 1, 0), sync_latency=sim.Latency(5, 5, 0))
    assert slow == [1, 1, 5, 1]
    none, _ = run(program, disk_latency=None, sync_latency=None)
    assert none == [0, 0, 0, 0]


def test_waiting_for_a_file_in_a_loop_ends():
    def waiter():
        while not os.path.exists("/tmp/ready"):
            pass
        return time.monotonic()

    def scenario(world):
        host, seen = world.host("machine"), []
        host.start(lambda: seen.append(waiter()))
        world.block("it", world.now + 0.05)
        host.disk.write("/tmp/ready", b"")
        world.block("it", world.now + 0.05)
        return seen

    assert sim.run(scenario)[0] == pytest.approx(0.05, abs=0.001)


def test_a_blocked_event_loop_is_blocked_by_the_disk_as_in_production():
    async def program():
        started = time.monotonic()
        with open("/tmp/file", "w") as file:
            file.write("x")
            file.flush()
            os.fsync(file.fileno())
        return time.monotonic() - started

    async def scenario(world):
        return await world.host("machine").start(program)

    assert sim.run(scenario, sync_latency=sim.Latency(2, 2, 0)) >= 2


def test_stamps_are_from_the_hosts_clock():
    def program():
        open("/tmp/file", "w").close()
        time.sleep(10)
        first = os.stat("/tmp/file")
        with open("/tmp/file", "a") as file:
            file.write("x")
        second = os.stat("/tmp/file")
        os.chmod("/tmp/file", 0o600)
        time.sleep(1)
        os.rename("/tmp/file", "/tmp/other")
        third = os.stat("/tmp/other")
        return first, second, third, time.time()

    (first, second, third, now), _ = run(program)
    assert second.st_mtime - first.st_mtime == pytest.approx(10, abs=0.01)
    assert third.st_mtime == second.st_mtime
    assert third.st_ctime - second.st_ctime == pytest.approx(1, abs=0.01)
    assert now == pytest.approx(third.st_ctime, abs=0.01)
    assert first.st_mtime_ns == pytest.approx(first.st_mtime * 1e9)


def test_the_same_seed_gives_the_same_run_and_another_lists_in_another_order():
    def program():
        import tempfile

        for name in "abcdefgh":
            open(f"/home/{name}", "w").close()
        with tempfile.NamedTemporaryFile() as file:
            return os.listdir("/home"), file.name, os.stat("/home/a").st_ino

    def digest(seed):
        def scenario(world):
            process = world.host("machine").start(lambda: found.append(program()))
            while process.is_alive():
                world.block("it", world.now + 1)

        found, chosen = [], by_name("random")
        chosen.begin(seed)
        run = sim.running.one_run(scenario, seed=seed, strategy=chosen)
        assert run.error is None
        return run.digest, found

    assert digest(0) == digest(0)
    (_, [(first, one, _)]), (_, [(second, two, _)]) = digest(0), digest(1)
    assert first != sorted(first)
    assert first != second and sorted(first) == sorted(second)
    assert one != two


def test_what_real_caches_hold_does_not_change_a_run():
    """Source lines are read on the real machine, once in each process: no simulated time passes for that."""
    import linecache

    def program():
        import traceback

        try:
            raise ValueError
        except ValueError:
            return len(traceback.format_exc()), time.monotonic()

    linecache.clearcache()
    assert run(program)[0] == run(program)[0]


# -- threads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["fifo", "random", "pct"])
def test_threads_that_share_a_descriptor_never_get_or_lose_the_same_bytes(strategy):
    def program():
        import threading

        with open("/tmp/file", "wb") as file:
            file.write(bytes(range(60)))
        fd, out = os.open("/tmp/file", os.O_RDONLY), os.open("/tmp/out", os.O_CREAT | os.O_WRONLY)
        parts = []

        def copy():
            while part := os.read(fd, 10):
                parts.append(part)
                os.write(out, part)

        threads = [threading.Thread(target=copy) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return parts

    for seed in range(5):
        parts, disk = run(program, strategy=strategy, seed=seed)
        assert sorted(b"".join(parts)) == sorted(disk.read("/tmp/out")) == list(range(60))


@pytest.mark.parametrize("strategy", ["fifo", "random", "pct"])
def test_threads_that_share_a_buffered_file_take_turns(strategy):
    """Python's buffered files hold a real lock, for which no simulated thread must ever wait."""

    def program():
        import threading

        with open("/tmp/file", "wb", buffering=16) as file, open("/tmp/text", "w", buffering=1) as text:

            def write(number):
                for count in range(10):
                    file.write(b"%d:%d;" % (number, count) * 3)
                    file.flush()
                    print(f"{number} {count}", file=text)

            threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        found = []
        with open("/tmp/file", "rb", buffering=16) as file:

            def read():
                while part := file.read(7):
                    found.append(part)

            threads = [threading.Thread(target=read) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return sum(map(len, found))

    for seed in range(5):
        size, disk = run(program, strategy=strategy, seed=seed)
        records = sorted(disk.read("/tmp/file").split(b";"))
        assert size == len(disk.read("/tmp/file"))
        assert records == sorted(
            [b""]
            + [b"%d:%d" % (n, c) for n in range(3) for c in range(10)] * 1
            + [b"%d:%d" % (n, c) for n in range(3) for c in range(10)] * 2
        )
        assert len(disk.read("/tmp/text").splitlines()) == 30


# -- locks -------------------------------------------------------------------------------------------------------------


def flocker(path, operation, seen, hold=1.0):
    with open(path, "w") as file:
        fcntl.flock(file, operation)
        seen.append((os.getpid(), round(time.monotonic(), 1)))
        time.sleep(hold)


@pytest.mark.parametrize(
    ("operations", "times"),
    [
        ([fcntl.LOCK_EX, fcntl.LOCK_EX], [0.0, 1.0]),
        ([fcntl.LOCK_SH, fcntl.LOCK_SH], [0.0, 0.0]),
        ([fcntl.LOCK_SH, fcntl.LOCK_EX], [0.0, 1.0]),
    ],
)
def test_flock_makes_processes_wait(operations, times):
    def scenario(world):
        host, seen = world.host("machine"), []
        for operation in operations:
            host.start(flocker, "/tmp/lock", operation, seen)
        world.block("them", 10.0)
        return [at for _, at in seen]

    assert sim.run(scenario) == times


def test_locks_are_let_go_when_their_process_dies():
    def scenario(world):
        host, seen = world.host("machine"), []
        first = host.start(flocker, "/tmp/lock", fcntl.LOCK_EX, seen, 1e6)
        world.block("it", 1.0)
        host.start(flocker, "/tmp/lock", fcntl.LOCK_EX, seen)
        world.block("it", 2.0)
        assert len(seen) == 1
        first.kill()
        world.block("it", 3.0)
        return [at for _, at in seen]

    assert sim.run(scenario) == [0.0, 2.0]


def test_a_lock_that_can_not_be_had_at_once():
    def program():
        with open("/tmp/lock", "w") as first, open("/tmp/lock", "w") as second:
            fcntl.flock(first, fcntl.LOCK_EX)
            refused = error_of(fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(first, fcntl.LOCK_UN)
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(first, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the other kind
            fcntl.lockf(second, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the same process
        return refused

    assert run(program)[0] == ("EAGAIN", None)


def test_record_locks_belong_to_processes_and_ranges():
    def holder():
        file = open("/tmp/file", "r+b")
        fcntl.lockf(file, fcntl.LOCK_EX, 10, 100)
        fcntl.lockf(file, fcntl.LOCK_SH, 10, 200)
        fcntl.lockf(file, fcntl.LOCK_UN, 2, 104)
        time.sleep(1)
        open("/tmp/file", "rb").close()  # closing any of its descriptors lets all go: the well-known trap
        time.sleep(10)
        file.close()

    def other(seen):
        with open("/tmp/file", "r+b") as file:
            for start, kind in (
                (0, fcntl.LOCK_EX),
                (95, fcntl.LOCK_EX),
                (104, fcntl.LOCK_EX),
                (200, fcntl.LOCK_SH),
                (200, fcntl.LOCK_EX),
            ):
                length = 100 if start == 0 else 10 if start != 104 else 2
                seen.append(error_of(fcntl.lockf, file, kind | fcntl.LOCK_NB, length, start))
                fcntl.lockf(file, fcntl.LOCK_UN, length, start)
            os.lseek(file.fileno(), 100, 0)
            seen.append(error_of(os.lockf, file.fileno(), os.F_TEST, 5))
            fcntl.lockf(file, fcntl.LOCK_EX, 10, 100)
            seen.append(round(time.monotonic(), 1))

    def scenario(world):
        host, seen = world.host("machine"), []
        host.disk.write("/tmp/file", bytes(300))
        host.start(holder)
        world.block("it", 0.5)
        host.start(other, seen)
        world.block("it", 20)
        return seen

    busy = ("EAGAIN", None)
    assert sim.run(scenario) == [None, busy, None, None, busy, ("EACCES", None), 1.0]


# -- processes, crashes, descriptors -----------------------------------------------------------------------------------


def test_the_disk_survives_a_restart_and_programs_find_what_was_synced():
    def program(counts):
        try:
            with open("/count") as file:
                count = int(file.read())
        except FileNotFoundError:
            count = 0
        counts.append(count)
        with open("/count.new", "w") as file:
            file.write(str(count + 1))
            file.flush()
            os.fsync(file.fileno())
        os.rename("/count.new", "/count")
        fd = os.open("/", os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        time.sleep(1e6)

    def scenario(world):
        host, counts = world.host("machine"), []
        host.start(program, counts)
        for _ in range(3):
            world.block("it", world.now + 1)
            host.crash()
            host.restart()
        world.block("it", world.now + 1)
        return counts

    options = {"strategy": "random", "faults": sim.Faults(unsynced_lost=1.0)}
    for seed in range(5):
        assert sim.run(scenario, seed=seed, **options) == [0, 1, 2, 3]


def test_processes_have_directories_and_masks_of_their_own_and_hosts_their_own_disks():
    def mover():
        os.mkdir("/tmp/here")
        os.chdir("/tmp/here")
        os.umask(0o077)
        open("file", "w").close()
        return os.getcwd(), oct(os.stat("file").st_mode)

    def other():
        open("file", "w").close()
        return os.getcwd(), oct(os.stat("file").st_mode), os.path.exists("/tmp/here")

    async def scenario(world):
        one, two = world.host("one"), world.host("two")
        return [await one.start(mover), await one.start(other), await two.start(other)]

    assert sim.run(scenario) == [
        ("/tmp/here", "0o100600"),
        ("/home", "0o100644", True),
        ("/home", "0o100644", False),
    ]


def test_descriptors_are_the_processs_own_and_limited():
    def program():
        fds = []
        try:
            while True:
                fds.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            full = errno.errorcode[error.errno]
        os.close(fds.pop())
        file = open("/tmp/file", "w")
        refused = error_of(open, "/tmp/other", "w")
        file.close()
        os.close(fds[0])
        return full, refused, error_of(os.fstat, fds[0]), error_of(os.pread, fds[0], 1, 0), len(fds) > 1000

    found, _ = run(program)
    assert found == ("EMFILE", ("EMFILE", "/tmp/other"), ("EBADF", None), ("EBADF", None), True)


def test_ordinary_users_are_refused_what_modes_refuse():
    def program():
        seen = [os.getuid(), os.geteuid()]
        with open("/home/mine", "w") as file:
            file.write("x")
        os.chmod("/home/mine", 0)
        seen += [error_of(open, "/home/mine"), error_of(open, "/etc/passwd", "w"), error_of(os.mkdir, "/new")]
        seen += [error_of(os.unlink, "/owned"), error_of(os.chmod, "/owned", 0), error_of(os.chown, "/home/mine", 0, 0)]
        os.chmod("/home/mine", 0o600)
        seen += [error_of(open, "/owned", "w"), os.access("/owned", os.W_OK), os.access("/owned", os.R_OK)]
        return seen

    def setup(disk):
        disk.write("/owned", "by root")
        disk.uid = disk.gid = 1000
        disk.names.find(disk.names.root, "/home").uid = 1000

    found, _ = run(program, setup=setup)
    assert found == [
        1000, 1000, ("EACCES", "/home/mine"), ("ENOENT", "/etc/passwd"), ("EACCES", "/new"), ("EACCES", "/owned"),
        ("EPERM", "/owned"), ("EPERM", "/home/mine"), ("EACCES", "/owned"), False, True,
    ]  # fmt: skip


def test_what_killed_programs_leave_open_is_dropped_in_silence(recwarn):
    def program():
        import tempfile

        kept = [
            open("/tmp/a", "w"),
            open("/tmp/b", "wb", buffering=0),
            tempfile.NamedTemporaryFile("w"),
            os.scandir("/tmp"),
        ]
        kept[0].write("not flushed")
        kept.append(tempfile.TemporaryDirectory())
        try:
            time.sleep(1e6)
        finally:
            with open("/tmp/cleanup", "w"):
                pass
            os.unlink("/tmp/a")

    def scenario(world):
        host = world.host("machine")
        process = host.start(program)
        other = host.start(program)
        world.block("it", 1.0)
        process.kill()
        world.block("it", 2.0)
        assert other.is_alive()
        return host.disk

    disk = sim.run(scenario)
    gc.collect()
    left = disk.tree("/tmp")
    assert left["/tmp/a"] == b""
    assert "/tmp/cleanup" not in left
    assert len(left) == 6  # and two temporary files and directories
    assert [str(each.message) for each in recwarn] == []


def test_files_that_are_left_open_are_warned_of_as_on_a_real_disk():
    def program():
        file = open("/tmp/a", "w")
        file.write("flushed at the end")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del file
        return [(each.category, str(each.message)) for each in caught]

    found, disk = run(program)
    assert found == [(ResourceWarning, "unclosed file <_io.TextIOWrapper name='/tmp/a' mode='w' encoding='UTF-8'>")]
    assert disk.read("/tmp/a") == b"flushed at the end"


def test_a_file_is_of_no_use_outside_its_world():
    found, _ = run(lambda: open("/tmp/a", "w+b", buffering=0))
    with pytest.raises(RuntimeError, match=r"host.disk.read"):
        found.read()
    found.close()
    assert found.closed


def test_file_objects_are_checked_as_real_ones():
    def refused(*args, **kwargs):
        with pytest.raises((ValueError, TypeError, io.UnsupportedOperation)) as caught:
            open(*args, **kwargs)
        return type(caught.value), str(caught.value)

    def program(path):
        open(path, "a").close()
        seen = [
            refused(path, "rw"), refused(path, "rr"), refused(path, "q"), refused(path, "tb"), refused(path, "rb", encoding="utf-8"),
            refused(path, "rb", errors="strict"), refused(path, "rb", newline=""), refused(path, "r", 0), refused(path, "b"),
            refused(path, closefd=False), refused(path, 5), refused(3.5), refused(path + "\0"), refused(path, newline="x"),
            refused(path, opener=lambda *_: "x"), refused(path, opener=lambda *_: -1),
        ]  # fmt: skip
        with open(path, "w") as file:
            for method in (file.read, file.buffer.read, lambda: list(file)):
                with pytest.raises(io.UnsupportedOperation) as caught:
                    method()
                seen.append(str(caught.value))
        raw = file.buffer.raw
        for method in (lambda: file.write("x"), lambda: raw.write(b"x"), raw.read, raw.fileno, raw.tell, raw.seekable):
            with pytest.raises(ValueError, match="closed file"):
                method()
        return seen

    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        expected = program(file.name)
    assert run(program, "/tmp/file")[0] == expected


# -- what scenarios do with it -----------------------------------------------------------------------------------------


def test_the_disk_by_hand():
    def scenario(world):
        disk = world.host("machine").disk
        disk.write("/etc/app/conf", "ä = 1\n")
        disk.mkdir("/var/lib/app")
        assert disk.read("/etc/app/conf") == "ä = 1\n".encode()
        assert disk.exists("/var/lib/app") and not disk.exists("/var/lib/none")
        assert disk.tree() == {
            "/etc": None, "/etc/app": None, "/etc/app/conf": "ä = 1\n".encode(), "/home": None, "/tmp": None, "/var": None,
            "/var/lib": None, "/var/lib/app": None,
        }  # fmt: skip
        assert disk.tree("/etc/app") == {"/etc/app/conf": "ä = 1\n".encode()}
        assert disk.tree(safe=True) == disk.tree()
        assert disk.unsynced() == []
        with pytest.raises(FileNotFoundError):
            disk.read("/none")
        with pytest.raises(IsADirectoryError):
            disk.read("/etc")
        assert world.now == 0

    sim.run(scenario)


def test_unsynced_says_what_could_be_lost():
    def program():
        with open("/tmp/file", "w") as file:
            file.write("x")
        os.rename("/tmp/file", "/tmp/other")

    _, disk = run(program)
    assert disk.unsynced() == ["create /tmp/file", "rename /tmp/file to /tmp/other", "1 changes of /tmp/other"]
    assert "/tmp/other" not in disk.tree(safe=True)
    disk.sync()
    assert disk.unsynced() == []


def test_snapshots_are_restored_here_and_elsewhere():
    def program():
        os.link("/data", "/twin")
        with open("/twin", "w") as file:
            file.write("changed")

    async def scenario(world):
        one, two = world.host("one"), world.host("two")
        one.disk.write("/data", "original")
        before = one.disk.snapshot()
        await one.start(program)
        after = one.disk.snapshot()
        assert one.disk.read("/data") == b"changed"
        one.disk.restore(before)
        assert one.disk.read("/data") == b"original" and not one.disk.exists("/twin")
        two.disk.restore(after)
        await two.start(lambda: os.truncate("/data", 3))
        assert two.disk.read("/twin") == b"cha"  # still one file
        two.disk.restore(after)
        assert two.disk.tree("/") | one.disk.tree("/") == {
            "/data": b"original", "/home": None, "/tmp": None, "/twin": b"changed"
        }  # fmt: skip
        assert two.disk.unsynced() == []

    sim.run(scenario)


def test_invariants_may_read_files():
    """In the scheduler no time passes, and nothing waits."""
    seen = []

    def program():
        for number in range(5):
            with open("/tmp/file", "w") as file:
                file.write(str(number))
            time.sleep(0.1)

    async def scenario(world):
        def look():
            if os.path.exists("/home"):
                seen.append(world.host("machine").disk.exists("/tmp/file"))
            return True

        sim.always(look)
        await world.host("machine").start(program)

    sim.run(scenario)
    assert True in seen


def test_the_story_tells_what_was_done_to_the_disk():
    def program():
        with open("/tmp/file", "w") as file:
            file.write("x" * 10)
            file.flush()
            os.fsync(file.fileno())
        os.rename("/tmp/file", "/tmp/other")
        raise RuntimeError("to have a story")

    async def scenario(world):
        await world.host("machine").start(program)

    with pytest.raises(sim.Found) as found:
        sim.explore(scenario, seeds=1)
    for line in (
        "open /tmp/file for writing",
        "write 10 bytes at 0 to /tmp/file",
        "fsync /tmp/file",
        "rename /tmp/file to /tmp/other",
    ):
        assert line in found.value.story


def test_large_sparse_files_take_no_memory_until_they_are_written():
    def program():
        with open("/tmp/file", "wb") as file:
            file.truncate(10**12)
            file.seek(5)
            file.write(b"x")
        size = os.path.getsize("/tmp/file")
        with open("/tmp/file", "rb") as file:
            start = file.read(8)
            file.seek(10**11)
            middle = file.read(3)
        fd = os.open("/tmp/file", os.O_RDWR)
        return size, start, middle, error_of(os.pwrite, fd, b"x", 10**11)

    found, disk = run(program)
    assert found == (10**12, b"\0\0\0\0\0x\0\0", b"\0\0\0", ("EFBIG", None))
    assert disk.used < 100_000


def test_memory_files_and_copies_in_the_kernel():
    def program():
        fd = os.memfd_create("name")
        os.write(fd, b"0123456789")
        out = os.open("/tmp/out", os.O_CREAT | os.O_RDWR)
        copied = os.copy_file_range(fd, out, 5, offset_src=2)
        sent = os.sendfile(out, fd, 0, 3)
        os.posix_fadvise(out, 0, 0, os.POSIX_FADV_DONTNEED)
        return copied, sent, os.pread(out, 100, 0), stat.S_ISREG(os.fstat(fd).st_mode), os.fstat(fd).st_nlink

    assert run(program)[0] == (5, 3, b"23456012", True, 0)
