"""What the command line and the ini file say to the pytest plugin, and the marks it knows."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import Any

import pytest

MODES = ("strict", "auto")
_SETTINGS = pytest.StashKey["Settings"]()


@dataclass(frozen=True)
class Settings:
    """The options of one run of pytest."""

    # ``--bateau-runtime``; None where it is not given.
    chosen: tuple[str, ...] | None
    # ``bateau_runtimes`` of the ini file.
    usual: tuple[str, ...]
    auto: bool
    leaks: bool
    timeout: float | None
    # ``--bateau-seed`` and ``--bateau-seeds``: which seeds, instead of those of the marks.
    seeds: range | None
    # ``--bateau-seed``: exactly these runs, and nothing that is pinned.
    only_seeds: bool
    # ``--bateau-replay``: exactly this run.
    token: str | None
    jobs: int
    full_trace: bool
    config: pytest.Config

    @property
    def names(self) -> tuple[str, ...]:
        """Where a test does not say: the command line's, else the ini file's, else the default of this platform."""
        return self.chosen or self.usual or _default()

    def leaks_of(self, item: pytest.Item) -> bool:
        """Whether ``item`` is checked for leaks: the nearest ``bateau_leaks`` mark, else the option."""
        mark = item.get_closest_marker("bateau_leaks")
        if mark is None:
            return self.leaks
        return bool(mark.args[0]) if mark.args else True

    def timeout_of(self, item: Any) -> float | None:
        """How many seconds ``item`` may take: the nearest ``bateau_timeout`` mark, else the option; None: as long as it likes."""
        mark = item.get_closest_marker("bateau_timeout")
        if mark is None:
            return self.timeout
        if not mark.args or not _is_time(mark.args[0]):
            raise pytest.UsageError(
                f"{item.nodeid}: bateau_timeout takes a number of seconds, as in @pytest.mark.bateau_timeout(5); "
                "0 or None: as long as it likes"
            )
        return float(mark.args[0]) if mark.args[0] else None


def _is_time(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value >= 0)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, all named ``bateau``."""
    group = parser.getgroup("bateau", "bateau: async tests on chosen runtimes, and in simulated worlds")
    group.addoption(
        "--bateau-runtime",
        metavar="NAMES",
        help="run every async test on these runtimes (comma separated; `sim` is simulated)",
    )
    group.addoption("--bateau-leaks", action="store_true", default=None, help="fail tests that leave something behind")
    group.addoption(
        "--bateau-timeout", type=float, metavar="SECONDS", help="of each async test, on its runtime's clock"
    )
    group.addoption("--bateau-seed", metavar="N|A-B", help="explore exactly this seed, or these, in @simulate tests")
    group.addoption("--bateau-seeds", type=int, metavar="N", help="explore so many seeds in each @simulate test")
    group.addoption(
        "--bateau-replay", metavar="TOKEN", help="replay this run in the chosen @simulate test, and tell its story"
    )
    group.addoption("--bateau-jobs", metavar="N|auto", default="1", help="explore seeds in so many processes")
    parser.addini(
        "bateau_mode",
        "`auto`: every async test is bateau's; `strict` (default): those that are marked",
        default="strict",
    )
    parser.addini("bateau_runtimes", "the runtimes of tests that name none", type="args", default=[])
    parser.addini("bateau_leaks", "fail tests that leave something behind", type="bool", default=False)
    parser.addini("bateau_timeout", "seconds that an async test may take, on its runtime's clock", default="")
    parser.addini(
        "bateau_pin_hash_seed", "start pytest again with PYTHONHASHSEED=0 if it has none", type="bool", default=False
    )


def configure(config: pytest.Config) -> None:
    """Make the marks known, and refuse options that make no sense before anything runs."""
    for line in (
        "bateau: an async test that bateau runs (each test that it runs has this mark)",
        "bateau_runtimes(*names): made by @bateau.testing.runtimes: the runtimes that the test runs on",
        "bateau_simulate(**options): made by @bateau.testing.simulate: explored in simulated worlds",
        "bateau_pin(*tokens): made by @bateau.testing.simulate.pin: failures that are replayed first",
        "bateau_timeout(seconds): how long the test may take, on its runtime's clock",
        "bateau_leaks(check=True): check the test for what it leaves behind, or not",
    ):
        config.addinivalue_line("markers", line)
    settings(config)


def settings(config: pytest.Config) -> Settings:
    """The options of this run; raises ``UsageError`` for what can't be."""
    found = config.stash.get(_SETTINGS, None)
    if found is None:
        found = config.stash[_SETTINGS] = _read(config)
    return found


def _read(config: pytest.Config) -> Settings:
    mode = config.getini("bateau_mode")
    if mode not in MODES:
        raise pytest.UsageError(f"bateau_mode must be one of {', '.join(MODES)}, not {mode!r}")
    given: Any = config.getoption("bateau_runtime")
    chosen = None
    if given is not None:
        chosen = _names([given])
        _check_names(chosen, "--bateau-runtime")
    ini = _names(config.getini("bateau_runtimes"))
    _check_names(ini, "bateau_runtimes")
    timeout = config.getoption("bateau_timeout")
    if timeout is None:
        try:
            timeout = float(config.getini("bateau_timeout") or 0)
        except ValueError:
            raise pytest.UsageError(
                f"bateau_timeout must be a number of seconds, not {config.getini('bateau_timeout')!r}"
            ) from None
    if timeout < 0:
        raise pytest.UsageError(f"bateau_timeout must be 0 (none) or more seconds, not {timeout:g}")
    return Settings(
        chosen=chosen,
        usual=ini,
        auto=mode == "auto",
        leaks=bool(config.getoption("bateau_leaks") or config.getini("bateau_leaks")),
        timeout=timeout or None,
        seeds=_seeds(config),
        only_seeds=config.getoption("bateau_seed") is not None,
        token=config.getoption("bateau_replay"),
        jobs=_jobs(str(config.getoption("bateau_jobs"))),
        full_trace=bool(config.getoption("fulltrace", False)),
        config=config,
    )


def _names(given: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for each in given for name in re.split(r"[,\s]+", each) if name))


def _default() -> tuple[str, ...]:
    from ..runtimes import registry

    return (os.environ.get("BATEAU_RUNTIME") or registry.default_name(),)


def unknown(names: tuple[str, ...]) -> str | None:
    """What to say of a name that no runtime has; None: all are known."""
    if not names:
        return None
    from ..runtimes import registry

    known = registry.names()
    wrong = next((name for name in names if name not in known), None)
    return None if wrong is None else f"unknown runtime {wrong!r}; known: {', '.join(known)}"


def _check_names(names: tuple[str, ...], where: str) -> None:
    problem = unknown(names)
    if problem is not None:
        raise pytest.UsageError(f"{where}: {problem}")


def why_unavailable(name: str) -> str | None:
    """Why the runtime can't run here, or None."""
    from ..runtimes import registry

    return registry.why_unavailable(name)


def _seeds(config: pytest.Config) -> range | None:
    one, many = config.getoption("bateau_seed"), config.getoption("bateau_seeds")
    if one is not None and many is not None:
        raise pytest.UsageError("--bateau-seed says which seeds, --bateau-seeds how many: give one of them")
    if many is not None:
        if many < 1:
            raise pytest.UsageError(f"--bateau-seeds must be 1 or more, not {many}")
        return range(many)
    if one is None:
        return None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", one.strip())
    if match is None or (match[2] is not None and int(match[2]) < int(match[1])):
        raise pytest.UsageError(f"--bateau-seed takes a seed or a range of them, as in 7 or 0-99, not {one!r}")
    return range(int(match[1]), int(match[2] or match[1]) + 1)


def _jobs(given: str) -> int:
    if given == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not given.isdigit() or int(given) < 1:
        raise pytest.UsageError(f"--bateau-jobs takes a number of processes, 1 or more, or `auto`, not {given!r}")
    return int(given)


# -- the hash seed -------------------------------------------------------------------------------------------------------


def hash_seed_is_pinned() -> bool:
    """Whether every run of this Python orders sets of strings alike."""
    return os.environ.get("PYTHONHASHSEED", "random") not in {"", "random"}


def pin_hash_seed(config: pytest.Config) -> None:
    """Start this pytest again with ``PYTHONHASHSEED=0``, if the ini file asks for it and the environment has none."""
    if hash_seed_is_pinned() or not config.getini("bateau_pin_hash_seed"):
        return
    if list(config.invocation_params.args) != sys.argv[1:]:
        config.issue_config_time_warning(
            pytest.PytestConfigWarning(
                "bateau_pin_hash_seed: this pytest was started by a program, which can't be started again from here; "
                "set PYTHONHASHSEED=0 in its environment"
            ),
            stacklevel=2,
        )
        return
    os.environ["PYTHONHASHSEED"] = "0"
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
