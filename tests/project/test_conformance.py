"""The runtime contract: our own runtimes pass the kit, and so does a third party's, registered by entry point alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bateau
from bateau.testing import conformance

TOY = Path(__file__).parents[2] / "examples" / "toy_runtime"


def test_our_own_runtimes_conform(runtime: Any) -> None:
    done = conformance.check_runtime(runtime.name)
    assert len(done) >= 13


def test_the_kit_fails_a_runtime_that_forgets_wakes() -> None:
    """The kit is worth something: break one operation of a host and it says which check fails."""
    from bateau.runtimes.engine_session import EngineSession
    from bateau.runtimes.native import NativeEngine, NativeRuntime

    class Lossy(NativeEngine):
        def call_threadsafe(self, fn: Any) -> None:
            if fn.__name__ != "set":
                super().call_threadsafe(fn)

    class LossyRuntime(NativeRuntime):
        name = "lossy"

        def open(self) -> Any:
            return EngineSession(Lossy())

    with pytest.raises(conformance.Failed, match="threads_can_wake_it"):
        conformance.check_runtime(LossyRuntime(), timeout=3)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder as pip would leave it: the module, and the metadata that names its entry point."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(TOY / "toy_runtime.py", folder)
    info = folder / "bateau_toy_runtime-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bateau-toy-runtime\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[bateau.runtimes]\ntoy = toy_runtime:ToyRuntime\n")
    return str(folder)


def _python(site: str, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([site, *sys.path])}
    return subprocess.run([sys.executable, *args], env=env, capture_output=True, text=True, timeout=120)


def test_the_entry_point_in_the_example_is_the_one_tested() -> None:
    assert 'toy = "toy_runtime:ToyRuntime"' in (TOY / "pyproject.toml").read_text()


def test_a_third_party_runtime_conforms_without_an_edit_to_bateau(site: str) -> None:
    out = _python(
        site, "-X", "dev", "-W", "error", "-c",
        "from bateau.testing.conformance import check_runtime; print(len(check_runtime('toy')))",
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) >= 13


def test_a_third_party_runtime_is_listed_and_chosen_by_name(site: str, tmp_path: Path) -> None:
    out = _python(site, "-m", "bateau.cli", "runtimes")
    assert "toy" in out.stdout
    app = tmp_path / "app.py"
    app.write_text(
        "import bateau\n"
        "@bateau.main\n"
        "async def main():\n"
        "    await bateau.time.sleep(0.01)\n"
        "    print(bateau.current_task().host.name)\n"
        "main()\n"
    )
    out = _python(site, "-m", "bateau.cli", "run", "--runtime", "toy", str(app))
    assert (out.stdout, out.returncode) == ("toy\n", 0), out.stderr


def test_unsupported_features_name_an_alternative() -> None:
    from bateau.runtimes import registry

    rt = registry.get("asyncio")
    assert not rt.supports("trio")
    with pytest.raises(bateau.Unsupported, match=r"'asyncio' has no trio; use runtime='trio'"):
        rt.require("trio")
    with pytest.raises(ValueError, match="unknown feature 'magic'; known: asyncio"):
        rt.supports("magic")
