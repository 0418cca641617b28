# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages as small as they can be: wheels, and a source distribution whose build needs nothing but Python."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

_BACKEND = """
import zipfile

def build_wheel(directory, settings=None, metadata=None):
    name = "{wheel}"
    with zipfile.ZipFile(directory + "/" + name, "w") as wheel:
        for path, text in {members!r}.items():
            wheel.writestr(path, text)
    return name
"""


def members(name: str, version: str, tag: str, package: str) -> dict[str, str]:
    """What a wheel of one module holds."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": package,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    return {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}


def make_wheel(folder: Path, name: str, version: str, tag: str = "py3-none-any", package: str = "x = 1\n") -> str:
    """Put a wheel into a folder; give its SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in members(name, version, tag, package).items():
            wheel.writestr(member, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_sdist(folder: Path, name: str, version: str, tag: str = "py3-none-any") -> str:
    """Put a source distribution into a folder that builds into a wheel of that tag; give its SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    backend = _BACKEND.format(wheel=f"{name}-{version}-{tag}.whl", members=members(name, version, tag, "x = 1\n"))
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend,
    }
    path = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member, text in files.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{member}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()
