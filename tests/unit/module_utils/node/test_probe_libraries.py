# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which NCCL a trainer would load is asked of the dynamic linker, with libraries as small as they can be.

A C compiler makes them: libtorch_global_deps.so as PyTorch's wheels have it, linked to libraries in the folders of
NVIDIA's wheels. Where there is none, the tests with a stand-in for the release's Python remain.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import probe_libraries

COMPILER = shutil.which("cc")
NONE = {"torch_cuda": None, "cuda_runtime": None, "cudnn": None, "nccl": None, "error": None}
FUNCTIONS = {
    "nccl": "int ncclGetVersion(int *v) {{ *v = {}; return 0; }}",
    "cudnn": "unsigned long cudnnGetVersion(void) {{ return {}; }}",
    "cudart": "int cudaRuntimeGetVersion(int *v) {{ *v = {}; return 0; }}",
}
SONAMES = {"nccl": "libnccl.so.2", "cudnn": "libcudnn.so.9", "cudart": "libcudart.so.13"}
FOLDERS = {"nccl": "nccl", "cudnn": "cudnn", "cudart": "cu13"}


def compile_library(path: Path, source: str, *arguments: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [str(COMPILER), "-shared", "-fPIC", "-x", "c", "-", "-o", str(path), "-x", "none", *arguments]
    subprocess.run(command, input=source, text=True, check=True)
    return path


def make_library(folder: Path, name: str, number: int) -> Path:
    soname = SONAMES[name]
    return compile_library(folder / soname, FUNCTIONS[name].format(number), f"-Wl,-soname,{soname}")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """site-packages of a release with a torch for CUDA 13.0; its Python is real, its torch can't be imported."""
    python = Path(sys.executable).resolve()
    venv = tmp_path / "release" / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(python)
    (venv / "pyvenv.cfg").write_text(f"home = {python.parent}\n")
    site = venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (site / "torch" / "lib").mkdir(parents=True)
    (site / "torch" / "version.py").write_text("cuda: Optional[str] = '13.0'\n")
    (site / "torch" / "__init__.py").write_text("raise SystemExit('torch was imported')\n")
    return site


def make_torch(site: Path, *linked: str, rpath: bool = True) -> None:
    """libtorch_global_deps.so with some libraries that it needs; the others are found by their folders alone."""
    numbers = {"nccl": 22809, "cudnn": 91501, "cudart": 13000}
    made = {name: make_library(site / "nvidia" / FOLDERS[name] / "lib", name, numbers[name]) for name in SONAMES}
    folders = ":".join(f"$ORIGIN/../../nvidia/{FOLDERS[name]}/lib" for name in linked)
    options = ["-Wl,--no-as-needed", *(str(made[name]) for name in linked)]
    if rpath:
        options += [f"-Wl,-rpath,{folders}", "-Wl,--enable-new-dtags"]
    compile_library(site / "torch" / "lib" / "libtorch_global_deps.so", "", *options)


def make_rest(site: Path) -> None:
    """The libraries that PyTorch loads by their paths before NCCL; without one of them it gives up."""
    stems = ("cublasLt", "cublas", "nvrtc", "nvrtc-builtins", "cupti", "cufft", "curand", "nvJitLink", "cusparse")
    for stem in (*stems, "cusparseLt", "cusolver", "nvshmem_host", "cufile"):
        compile_library(site / "nvidia" / "cu13" / "lib" / f"lib{stem}.so.1", "")


def read(site: Path, release: Path | None = None, **environment: str) -> dict[str, Any]:
    return probe_libraries.read(str(release or site.parents[3]), environment)


needs_compiler = pytest.mark.skipif(not COMPILER, reason="there is no C compiler to make libraries with")


@needs_compiler
def test_the_libraries_of_the_release(site: Path) -> None:
    make_torch(site, "nccl", "cudnn", "cudart")
    assert read(site) == {
        "torch_cuda": "13.0",
        "cuda_runtime": "13.0",
        "cudnn": "9.15.1",
        "nccl": {"version": "2.28.9", "path": str(site / "nvidia" / "nccl" / "lib" / "libnccl.so.2")},
        "error": None,
    }


@needs_compiler
@pytest.mark.parametrize("rest", [True, False])
def test_what_torch_itself_loads_by_its_path(site: Path, rest: bool) -> None:
    """PyTorch's wheels don't link NCCL there; it is loaded by its path, if everything before it is."""
    make_torch(site, "cudart")
    if rest:
        make_rest(site)
    found = read(site)
    assert (found["cuda_runtime"], found["error"]) == ("13.0", None)
    assert (found["nccl"] or {}).get("version") == ("2.28.9" if rest else None)


@needs_compiler
def test_libraries_that_only_their_paths_find(site: Path) -> None:
    make_torch(site, "nccl", "cudnn", "cudart", rpath=False)
    assert "libnccl.so.2" in read(site)["error"] or "nowhere on sys.path" in read(site)["error"]
    make_rest(site)
    assert (read(site)["nccl"]["version"], read(site)["error"]) == ("2.28.9", None)


@needs_compiler
@pytest.mark.parametrize("variable", ["LD_LIBRARY_PATH", "LD_PRELOAD"])
def test_the_trainers_environment_can_put_another_one_in_its_place(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    make_torch(site, "nccl", "cudnn", "cudart")
    other = make_library(tmp_path / "other", "nccl", 2804)
    value = str(other if variable == "LD_PRELOAD" else other.parent)
    assert read(site, **{variable: value})["nccl"] == {"version": "2.8.4", "path": str(other)}
    monkeypatch.setenv(variable, value)  # that of the one who asks does not count
    assert read(site)["nccl"]["version"] == "2.28.9"


@needs_compiler
def test_a_release_behind_a_link_is_named_as_it_was_asked_for(site: Path, tmp_path: Path) -> None:
    make_torch(site, "nccl", "cudart")
    (tmp_path / "current").symlink_to("release")
    path = read(site, tmp_path / "current")["nccl"]["path"]
    assert path.startswith(f"{tmp_path}/current/venv/lib/")


def test_a_torch_without_its_library_says_so(site: Path) -> None:
    found = read(site)
    assert "libtorch_global_deps.so" in found["error"] or "nowhere on sys.path" in found["error"]
    assert {**found, "error": None} == {**NONE, "torch_cuda": "13.0"}


def test_a_torch_for_cpu_loads_nothing(site: Path) -> None:
    (site / "torch" / "version.py").write_text("cuda: Optional[str] = None\n")
    shutil.rmtree(site.parents[2] / "bin")
    assert read(site) == NONE


def test_where_no_torch_is_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert probe_libraries.read(str(tmp_path), {}) == NONE


def stand_in(site: Path, script: str) -> None:
    python = site.parents[2] / "bin" / "python"
    python.unlink()
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)


ANSWER = {"nccl": {"number": 22703, "path": "/usr/lib/libnccl.so.2"}, "cudnn": None, "cuda_runtime": None}


def test_what_a_library_prints_is_no_answer(site: Path) -> None:
    stand_in(site, f"echo 'NCCL version 9.9'; echo; echo '{json.dumps(ANSWER)}'")
    assert read(site) == {**NONE, "torch_cuda": "13.0", "nccl": {"version": "2.27.3", "path": "/usr/lib/libnccl.so.2"}}


@pytest.mark.parametrize(
    "script",
    ["exit 0", "echo '[1]'", "echo null", "echo '{\"nccl\": {}}'", 'echo \'{"nope": {"number": 1}}\'', "exit 3"],
)
def test_an_answer_that_is_none_is_an_error(site: Path, script: str) -> None:
    stand_in(site, script)
    found = read(site)
    assert found.pop("error").startswith("loading torch's libraries: ")
    assert {**found, "error": None} == {**NONE, "torch_cuda": "13.0"}


def test_a_library_that_hangs_is_not_waited_for(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_libraries, "SECONDS", 1.0)
    stand_in(site, "exec sleep 100")
    assert probe_libraries.read(str(site.parents[3]), {"PATH": "/usr/bin:/bin"})["error"] == (
        "loading torch's libraries: no answer within 1 s"
    )
