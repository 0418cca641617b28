# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which NCCL, cuDNN and CUDA runtime a trainer would load: asked of the dynamic linker itself, in its environment.

What pip installed is not what counts: LD_LIBRARY_PATH, LD_PRELOAD or ld.so.conf can put another library in its place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ..core import library_versions
from . import commands
from .installed_packages import site_packages

SECONDS = 30.0
"""For loading some GiB of libraries from a cold disk; warm it takes well under one."""

NOTHING: Mapping[str, Any] = {"torch_cuda": None, "cuda_runtime": None, "cudnn": None, "nccl": None}

PROGRAM = r"""
import ctypes, glob, importlib.util, json, os, sys

DEPENDENCIES = (
    ("cublas", "libcublasLt.so.*[0-9]"), ("cublas", "libcublas.so.*[0-9]"), ("cudnn", "libcudnn.so.*[0-9]"),
    ("cuda_nvrtc", "libnvrtc.so.*[0-9]"), ("cuda_nvrtc", "libnvrtc-builtins.so.*[0-9]"),
    ("cuda_runtime", "libcudart.so.*[0-9]"), ("cuda_cupti", "libcupti.so.*[0-9]"), ("cufft", "libcufft.so.*[0-9]"),
    ("curand", "libcurand.so.*[0-9]"), ("nvjitlink", "libnvJitLink.so.*[0-9]"),
    ("cusparse", "libcusparse.so.*[0-9]"), ("cusparselt", "libcusparseLt.so.*[0-9]"),
    ("cusolver", "libcusolver.so.*[0-9]"), ("nccl", "libnccl.so.*[0-9]"),
    ("nvshmem", "libnvshmem_host.so.*[0-9]"), ("cufile", "libcufile.so.*[0-9]"),
)

class Place(ctypes.Structure):  # Dl_info of dladdr(3)
    _fields_ = [
        ("file", ctypes.c_char_p), ("base", ctypes.c_void_p), ("symbol", ctypes.c_char_p), ("address", ctypes.c_void_p)
    ]

def load_by_path(major):
    for folder, pattern in DEPENDENCIES:
        for place in sys.path:
            folders = (("nvidia", folder), ("nvidia", "cu" + major), (folder,))
            found = [path for parts in folders for path in glob.glob(os.path.join(place, *parts, "lib", pattern))]
            if found:
                ctypes.CDLL(found[0])
                break
        else:
            raise OSError(pattern + " is nowhere on sys.path")

def load_as_torch_does(torch, major):
    path = os.path.join(torch, "lib", "libtorch_global_deps.so")
    try:
        ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        load_by_path(major)
        ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        return
    with open("/proc/self/maps") as maps:
        if "libcudart.so" not in maps.read():
            return
    try:
        load_by_path(major)
    except OSError:
        pass

def handles(pattern):
    yield ctypes.CDLL(None)
    for number in range(20, 0, -1):
        try:
            yield ctypes.CDLL(pattern % number, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        except OSError:
            pass

def ask(name, pattern, by_reference):
    for handle in handles(pattern):
        function = getattr(handle, name, None)
        if function is None:
            continue
        place = Place()
        ctypes.CDLL(None).dladdr(ctypes.cast(function, ctypes.c_void_p), ctypes.byref(place))
        if by_reference:
            number = ctypes.c_int()
            function(ctypes.byref(number))
            version = number.value
        else:
            function.restype = ctypes.c_size_t
            version = function()
        return {"number": version, "path": os.fsdecode(os.path.realpath(place.file) if place.file else b"")}
    return None

torch, major = importlib.util.find_spec("torch").submodule_search_locations[0], sys.argv[1]
load_as_torch_does(torch, major)
print("\n" + json.dumps({
    "nccl": ask("ncclGetVersion", "libnccl.so.%d", True),
    "cudnn": ask("cudnnGetVersion", "libcudnn.so.%d", False),
    "cuda_runtime": ask("cudaRuntimeGetVersion", "libcudart.so.%d", True),
}))
"""
"""Run by the release's Python. It does what `import torch` does first (_load_global_deps and _preload_cuda_deps of
torch/__init__.py, 2.13), which decides on the libraries, without the seconds that the rest takes. A function that
torch would call is looked up as its libraries look it up: in what is loaded for all, else in what has the library's
soname; and dladdr says which file it came from."""


def read(release: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Which libraries a trainer of the release would load.

    Args:
        release: the release's folder.
        environment: of the trainers; this process's own does not count.

    Returns:
        torch_cuda (the CUDA that torch was built for), cuda_runtime, cudnn, nccl (version and path) and error. All are
        None for a torch without CUDA, and where there is no torch.
    """
    venv = os.path.join(release, "venv")
    cuda = _torch_cuda(venv)
    if cuda is None:
        return {**NOTHING, "error": None}
    argv = [os.path.join(venv, "bin", "python"), "-c", PROGRAM, cuda.partition(".")[0]]
    result = commands.run(argv, SECONDS, env=environment, cwd=release, inherit=False)
    try:
        said = json.loads(result.stdout.splitlines()[-1]) if result.rc == 0 else None
        found = {name: _decoded(name, answer, release) for name, answer in said.items()} if said else {}
    except (IndexError, ValueError, TypeError, KeyError, AttributeError):
        said, found = None, {}
    late = f"no answer within {SECONDS:.0f} s" if result.timed_out else result.message(300)
    error = None if said else f"loading torch's libraries: {late}"
    return {**NOTHING, **found, "torch_cuda": cuda, "error": error}


def _torch_cuda(venv: str) -> str | None:
    for folder in site_packages(venv):
        try:
            with open(os.path.join(folder, "torch", "version.py"), encoding="utf-8", errors="replace") as stream:
                return library_versions.torch_cuda(stream.read(1 << 16))
        except OSError:
            continue
    return None


def _decoded(name: str, answer: Mapping[str, Any] | None, release: str) -> Any:
    if answer is None:
        return None
    version = str(getattr(library_versions, name)(int(answer["number"])))
    return {"version": version, "path": _below(release, str(answer["path"]))} if name == "nccl" else version


def _below(release: str, path: str) -> str:
    """The path as seen through the release's own, which may lead through links."""
    real = os.path.realpath(release)
    return release + path[len(real) :] if path.startswith(f"{real}/") else path
