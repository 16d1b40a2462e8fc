"""Worker processes: results, errors, deaths, and that nothing of them is left however the loop is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bateau
from bateau.iter import WorkerDied
from bateau.iter.par import RemoteError, WorkerTraceback, processes
from support.entries import Entry
from support.par_functions import (
    alone,
    awkward,
    die_at_five,
    fail_at_seven,
    forking_death,
    leave_at_five,
    lock_for_three,
    pid,
    read_stdin,
    say,
    square,
    write_pid_and_sleep,
)

from .test_chain import check_everything

# Starting an interpreter costs a second on a busy machine: one run of everything per family of hosts.
once_per_family = pytest.mark.parametrize("entry", ["owned:native", "adopted:asyncio", "owned:trio"], indirect=True)
on_native = pytest.mark.parametrize("entry", ["owned:native"], indirect=True)


@pytest.fixture
def little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that do not hear are killed soon, not after a second."""
    monkeypatch.setattr(processes, "GRACE", 0.2)


def ended(process: int) -> bool:
    """Whether a process is no more, not even as a zombie."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@once_per_family
def test_everything_on_processes(entry: Entry, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async def main() -> None:
        async with bateau.iter.processes(2) as pool:
            await check_everything(pool, n=24)
            await errors(pool)
            # One at a time, though there are two workers.
            taken = partial(alone, str(tmp_path / "taken"))
            assert await bateau.iter(range(8)).par(1, on=pool, chunk=1).map(taken).collect() == list(range(8))
            assert os.getpid() not in set(await bateau.iter(range(20)).par(on=pool, chunk=1).map(pid).collect())
            await bateau.iter(range(1)).par(on=pool).for_each(say)
            assert await bateau.iter(range(1)).par(on=pool).map(read_stdin).collect() == [""]
        # What a worker prints comes out here.
        out, err = capfd.readouterr()
        assert out == "out 0\n"
        assert err == "err 0\n"

    async def errors(pool: Any) -> None:
        with pytest.raises(LookupError, match="seven is missing") as info:
            await bateau.iter(range(20)).par(on=pool).map(fail_at_seven).collect()
        cause = info.value.__cause__
        assert isinstance(cause, WorkerTraceback)
        # The user's frames, and only those.
        assert 'par_functions.py"' in cause.text
        assert "in fail_at_seven" in cause.text
        assert cause.text.count("File ") == 1
        assert info.value.__notes__ == ["item 7 of par(2, on=processes(2)).map(fail_at_seven), in .map(): 7"]
        with pytest.raises(RemoteError, match="Awkward: 3 and 3"):
            await bateau.iter([3]).par(on=pool).map(awkward).collect()
        it = bateau.iter(range(6)).par(on=pool, chunk=6).map(lock_for_three).iter()
        async with it:
            assert [await it.next() for _ in range(3)] == [0, 1, 2]
            with pytest.raises(TypeError, match="can't be sent back from its worker"):
                await it.next()
            assert await it.next() == 4
        with pytest.raises(TypeError, match="items can't be sent to a worker process"):
            await bateau.iter([lambda: 1]).par(on=pool).map(square).collect()

    entry.run(main)


@once_per_family
def test_a_worker_that_dies(entry: Entry, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        it = bateau.iter(range(12)).par(on=bateau.iter.processes(2), chunk=4).map(die_at_five).iter()
        got: list[int] = []
        async with it:
            with pytest.raises(WorkerDied) as info:
                while True:
                    got.append(await it.next())
            assert got == [0, 1, 2, 3]
            error = info.value
            assert error.items == (4, 5, 6, 7)
            assert error.returncode == -signal.SIGKILL
            assert error.stderr == "something terrible"
            assert "was ended by SIGKILL while it had 4 items: [4, 5, 6, 7]" in str(error)
            assert "something terrible" in str(error)
            # Another worker goes on with the rest.
            assert [x async for x in it] == [8, 9, 10, 11]
        assert "something terrible" in capfd.readouterr().err

    entry.run(main)


@pytest.mark.usefixtures("little_grace")
@on_native
def test_a_worker_that_leaves_and_one_whose_child_holds_its_pipes(entry: Entry) -> None:
    async def main() -> None:
        with pytest.raises(WorkerDied, match="exited with status 3 while it had"):
            await bateau.iter(range(12)).par(on=bateau.iter.processes(1)).map(leave_at_five).collect()
        began = time.monotonic()
        with pytest.raises(WorkerDied, match="exited with status 4 while it had 1 item: "):
            await bateau.iter([1]).par(on=bateau.iter.processes(1)).map(forking_death).collect()
        assert time.monotonic() - began < 10  # not when that child ends

    entry.run(main)


@pytest.mark.usefixtures("little_grace")
@once_per_family
def test_leaving_ends_the_workers(entry: Entry, tmp_path: Path) -> None:
    def begun(name: str) -> int | None:
        path = tmp_path / name
        text = path.read_text() if path.exists() else ""
        return int(text) if text else None

    async def main() -> None:
        on = bateau.iter.processes(2)
        # By break: workers that compute are ended, and have ended at the next wait.
        pids: list[int] = []
        async for worker in bateau.iter(range(100)).par(on=on, chunk=1).map(pid):
            pids.append(worker)
            if len(pids) == 6:
                break
        await bateau.checkpoint()
        assert all(map(ended, pids))
        # By cancellation: even one that will not hear of it.
        names = [str(tmp_path / "a"), str(tmp_path / "b")]
        async with bateau.scope() as scope:
            task = scope.spawn(bateau.iter(names).par(on=on, chunk=1).map(write_pid_and_sleep).collect)
            while begun("a") is None or begun("b") is None:
                await bateau.time.sleep(0.01)
            task.cancel("enough")
        assert ended(begun("a") or 0)
        assert ended(begun("b") or 0)
        # By a cancellation while they start.
        with bateau.move_on_after(0.05):
            await bateau.iter(range(9)).par(on=on).map(square).collect()

    entry.run(main)


@pytest.mark.usefixtures("little_grace")
@on_native
def test_a_cancelled_call_ends_its_worker_and_the_pool_goes_on(entry: Entry, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "pid"
        async with bateau.iter.processes(1) as pool:
            (first,) = await bateau.iter([0]).par(on=pool).map(pid).collect()
            async with bateau.scope() as scope:
                task = scope.spawn(bateau.iter([str(path)]).par(on=pool).map(write_pid_and_sleep).collect)
                while not path.exists() or not path.read_text():
                    await bateau.time.sleep(0.01)
                task.cancel("enough")
            assert int(path.read_text()) == first
            assert ended(first)
            (second,) = await bateau.iter([0]).par(on=pool).map(pid).collect()
            assert second != first

    entry.run(main)


def test_what_cannot_be_imported_is_named() -> None:
    def local(x: int) -> int:
        return x

    it = bateau.iter(range(3)).par(on=bateau.iter.processes(2))
    with pytest.raises(
        TypeError, match=r"\.map\(\) was given .*<lambda> .*test_processes.py:\d+.*top level of a module"
    ):
        it.map(lambda x: x)
    with pytest.raises(TypeError, match=r"\.filter\(\) was given .*local.*bateau.iter.threads"):
        it.filter(local)
    with pytest.raises(TypeError, match=r"\.fold\(\) was given"):
        bateau.run(lambda: it.fold(int, lambda a, b: a, local), runtime="native")  # type: ignore[arg-type, misc]
    with pytest.raises(TypeError, match=r"partial\(.*local\)"):
        it.map(partial(local, 3))


def program(tmp_path: Path, text: str, *args: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "program.py"
    path.write_text(text)
    return subprocess.run(
        [sys.executable, str(path), *args], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def test_functions_of_the_program_itself_and_flags(tmp_path: Path) -> None:
    done = program(
        tmp_path,
        """
import bateau, sys
def double(x):
    return 2 * x
async def main():
    print(await bateau.iter(range(5)).par(on=bateau.iter.processes(2)).map(double).collect())
if __name__ == "__main__":
    bateau.run(main)
""",
    )
    assert (done.stdout, done.stderr) == ("[0, 2, 4, 6, 8]\n", "")


def test_a_program_without_the_guard_is_told(tmp_path: Path) -> None:
    done = program(
        tmp_path,
        """
import bateau
def double(x):
    return 2 * x
async def main():
    print(await bateau.iter(range(5)).par(on=bateau.iter.processes(1)).map(double).collect())
bateau.run(main)
""",
    )
    assert done.returncode == 1
    assert 'put the call that starts the program under `if __name__ == "__main__":`' in done.stderr
    assert "could not import the program's main module" in done.stderr


def test_workers_of_a_killed_program_end(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    code = f"""
import bateau
from support.par_functions import write_pid_and_sleep
bateau.run(lambda: bateau.iter([{str(path)!r}]).par(on=bateau.iter.processes(1)).map(write_pid_and_sleep).collect())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
        try:
            while not path.exists() or not path.read_text():
                assert process.poll() is None
                time.sleep(0.01)
        finally:
            process.kill()
    worker = int(path.read_text())
    deadline = time.monotonic() + 20
    while not ended(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)
