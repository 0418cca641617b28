# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release as small as one can be: a repository of two files, and a stand-in for uv that installs without network.

The stand-in makes real environments: an interpreter that starts, packages with metadata and RECORD, the source as an
editable installation. What it was asked is in `uv.log` beside it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.release_name import release_id

PYTHON = ".".join(map(str, sys.version_info[:2]))
LOCK = "alpha==1.0 --hash=sha256:00\nbeta-tools==2.0+cpu --hash=sha256:01\n"
PYPROJECT = '[build-system]\nrequires = ["setuptools>=64"]\n[project.optional-dependencies]\nray = []\n'

_UV = f"""#!{sys.executable}
import base64, hashlib, os, pathlib, re, subprocess, sys
here, arguments = pathlib.Path(__file__).parent, sys.argv[1:]
with open(here / "uv.log", "a") as log:
    log.write(" ".join(arguments) + "\\n")
(here / "environment").write_text("\\n".join(f"{{name}}={{value}}" for name, value in os.environ.items()))
if (here / "fail").exists():
    step, _line, reason = (here / "fail").read_text().partition("\\n")
    if arguments[:2] == step.split():
        sys.exit(reason or "no solution found")

def install(site, name, version, files, direct_url=""):
    info = site / f"{{name}}-{{version}}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    record = ""
    for path, content in {{**files, f"{{info.name}}/METADATA": name}}.items():
        (site / path).parent.mkdir(exist_ok=True)
        (site / path).write_text(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).decode().rstrip("=")
        record += f"{{path}},sha256={{digest}},{{len(content)}}\\n"
    (info / "RECORD").write_text(record)
    if direct_url:
        (info / "direct_url.json").write_text(direct_url)

def site():
    venv = pathlib.Path(arguments[arguments.index("--python") + 1]).parent.parent
    return next(venv.glob("lib/*/site-packages"))

match arguments:
    case ["--version"]:
        print("uv 9.9.9 (stand-in)")
    case ["cache", "dir"]:
        print(here / "cache")
    case ["venv", *_unused, folder]:
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
    case ["pip", "compile", *_unused, requirements]:
        print(f"absl-py==2.5.1 --hash=sha256:00\\n# {{pathlib.Path(requirements).read_text().split()}}")
    case ["pip", "sync", *_unused, lock]:
        for name, version in re.findall(r"^(\\S+)==(\\S+)", open(lock).read(), re.M):
            name = name.replace("-", "_")
            install(site(), name, version, {{f"{{name}}/__init__.py": "x = 1\\n"}})
    case ["pip", "install", *_unused, source]:
        url = '{{"url": "file://' + source + '", "dir_info": {{"editable": true}}}}'
        install(site(), "axolotl", "0.0.1", {{"axolotl.pth": source}}, url)
"""


def git(folder: Path, *arguments: str) -> str:
    """Run git as nobody in particular."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@t.invalid", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def make_source(folder: Path) -> str:
    """Make a repository that can be imported as Axolotl can, and give its commit."""
    package = folder / "axolotl" / "cli"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "axolotl" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "main.py").write_text(
        "class Option:\n    opts, secondary_opts = ['--learning-rate', '-l'], ['--no-x']\n"
        "class train:\n    params = [Option]\n"
    )
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "x")
    return git(folder, "rev-parse", "HEAD")


def make_uv(folder: Path) -> Path:
    """Put the stand-in for uv into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    uv = folder / "uv"
    uv.write_text(_UV)
    uv.chmod(0o755)
    return uv


def prepare_release(folder: Path) -> dict[str, Any]:
    """Make a repository, put the lock into the release's folder as the role does; give release_build's arguments."""
    (folder / "new").mkdir(parents=True)
    commit = make_source(folder / "repository")
    (folder / "new" / "lock.txt").write_text(LOCK)
    inputs = {
        "commit": commit,
        "lock_sha256": hashlib.sha256(LOCK.encode()).hexdigest(),
        "extras": [],
        "python_version": PYTHON,
        "python_platform": "x86_64-manylinux_2_28",
        "torch_backend": "",
    }
    path = folder / release_id(**inputs)
    os.rename(folder / "new", path)
    uv = make_uv(folder / "bin")
    return {**inputs, "path": str(path), "repository": str(folder / "repository"), "uv": str(uv)}
