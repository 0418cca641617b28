# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a release on a node: is it complete, and is it still what its name says?"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any

from ..core.lock_file import LockFileError, compare_installed, parse_lock
from ..core.release_name import ReleaseNameError, release_id
from . import installed_packages
from .commands import CommandResult, run

SEAL = "release.json"
_LISTED = 20
_SUBMODULE_STATES = {" ": "current", "-": "absent", "+": "other_commit", "U": "conflict"}
"""The first letter of a line of `git submodule status` (git-submodule(1)) to what it says."""
_PYTHON_VERSION = "import sys; print('.'.join(map(str, sys.version_info[:3])))"


def read_release(path: str, *, timeout: float = 30) -> dict[str, Any]:
    """Describe the release in folder `path`. It never raises: what is broken is named in `problems`.

    `complete` says that the release was finished and that nothing has changed since: its commit, its clean tree,
    its lock, its packages and its interpreter are what release.json and the folder's name say.
    """
    reading = _Reading(os.path.realpath(path), timeout)
    found = nothing(path, exists=os.path.isdir(path))
    if not found["exists"]:
        return {**found, "problems": [f"{path}: there is no such folder"]}
    found.update(reading.seal())
    found.update(reading.source())
    found.update(reading.lock())
    found.update(reading.environment())
    reading.check_identity(found)
    found["problems"] = reading.problems
    found["complete"] = found["sealed"] and not reading.problems
    return found


def read_seal(path: str) -> dict[str, Any] | None:
    """The content of release.json, which is written last; None when the release is not complete."""
    try:
        with open(os.path.join(path, SEAL), encoding="utf-8") as stream:
            seal = json.load(stream)
    except (OSError, ValueError):
        return None
    return seal if isinstance(seal, dict) else None


def read_source(path: str, *, timeout: float = 30) -> dict[str, Any]:
    """The part of `read_release` that is about source/: commit, dirty, dirty_count, untracked, submodules."""
    return _Reading(os.path.realpath(path), timeout).source()


def git(path: str, *arguments: str, timeout: float = 30) -> CommandResult:
    """Ask git about a checkout without writing to it, whoever owns it."""
    command = ["git", "-c", f"safe.directory={path}", "-c", "core.quotePath=false", "-C", path, *arguments]
    return run(command, timeout, env={"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"})


def nothing(path: str, *, exists: bool) -> dict[str, Any]:
    """A release of which nothing has been read; `problems` is left to whoever knows why."""
    return {
        "path": path,
        "exists": exists,
        "complete": False,
        "sealed": False,
        "release_id": None,
        "commit": None,
        "dirty": [],
        "dirty_count": 0,
        "untracked": False,
        "submodules": [],
        "lock_sha256": None,
        "packages": {"count": 0, "missing": {}, "extra": {}, "different": {}, "damaged": {}, "edited": {}},
        "packages_sha256": None,
        "project_version": None,
        "python_version": None,
        "python_unchanged": False,
        "torch_version": None,
        "train_options": [],
    }


class _Reading:
    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._seal: dict[str, Any] = {}
        self._locked: dict[str, str] | None = None
        self.problems: list[str] = []

    def _below(self, *names: str) -> str:
        return os.path.join(self._path, *names)

    def seal(self) -> dict[str, Any]:
        seal = read_seal(self._path)
        if seal is None:
            self.problems.append(f"{SEAL} is missing or unreadable: the release was never completed")
        self._seal = seal or {}
        return {
            "sealed": seal is not None,
            "release_id": self._seal.get("release_id"),
            "train_options": self._seal.get("train_options", []),
        }

    def source(self) -> dict[str, Any]:
        source = self._below("source")
        # Without this check git would look upwards and describe a repository that happens to hold the whole root.
        if not os.path.exists(os.path.join(source, ".git")):
            self.problems.append("source/ holds no git checkout")
            return {"commit": None, "dirty": [], "dirty_count": 0, "untracked": False, "submodules": []}
        head = git(source, "rev-parse", "--verify", "HEAD", timeout=self._timeout)
        status = git(source, "status", "--porcelain", "-z", "--untracked-files=all", timeout=self._timeout)
        for result, question in ((head, "which commit"), (status, "whether it is clean")):
            if result.rc:
                self.problems.append(f"git can't say of source/ {question}: {result.message(300)}")
        dirty = _dirty(status.stdout) if status.rc == 0 else []
        if dirty:
            names = ", ".join(line[3:] for line in dirty[:3]) + (", ..." if len(dirty) > 3 else "")
            self.problems.append(f"source/ was edited: {len(dirty)} file(s) differ from the commit: {names}")
        return {
            "commit": head.stdout.strip() if head.rc == 0 else None,
            "dirty": dirty[:_LISTED],
            "dirty_count": len(dirty),
            "untracked": any(line.startswith("??") for line in dirty),
            "submodules": self._submodules(source),
        }

    def _submodules(self, source: str) -> list[dict[str, str]]:
        """Path, commit that is checked out (for one that is absent: the recorded one) and state of each submodule."""
        if not os.path.exists(os.path.join(source, ".gitmodules")):
            return []
        status = git(source, "submodule", "status", "--recursive", timeout=self._timeout)
        if status.rc:
            self.problems.append(f"git can't say which submodules source/ has: {status.message(300)}")
            return []
        lines = [
            re.fullmatch(r"([ +U-])([0-9a-f]{40,64}) (.+?)(?: \([^()]*\))?", line) for line in status.stdout.split("\n")
        ]
        return [
            {"path": line.group(3), "commit": line.group(2), "state": _SUBMODULE_STATES[line.group(1)]}
            for line in lines
            if line
        ]

    def lock(self) -> dict[str, Any]:
        try:
            with open(self._below("lock.txt"), "rb") as stream:
                content = stream.read()
            self._locked = parse_lock(content.decode("utf-8"))
        except (OSError, UnicodeDecodeError, LockFileError) as error:
            self.problems.append(f"lock.txt can't be read: {error}")
            return {"lock_sha256": None}
        return {"lock_sha256": hashlib.sha256(content).hexdigest()}

    def environment(self) -> dict[str, Any]:
        version = run([self._below("venv", "bin", "python"), "-I", "-S", "-c", _PYTHON_VERSION], self._timeout)
        if version.rc:
            self.problems.append(f"the interpreter of venv/ does not start: {version.message(300)}")
        python_version = version.stdout.strip() if version.rc == 0 else None
        sealed_version = self._seal.get("python_version")
        if self._seal and python_version and python_version != sealed_version:
            self.problems.append(f"Python is {python_version}, it was {sealed_version} when the release was completed")
        installed, project = self._installed()
        missing, extra, different = compare_installed(self._locked or {}, installed)
        if self._locked is not None and (missing or extra or different):
            self.problems.append(f"the packages differ from the lock: {_differences(missing, extra, different)}")
        checked = installed_packages.check(self._packages(), self._completed_at())
        for found, what in ((checked.damaged, "are missing or have another size"), (checked.edited, "were edited")):
            if found:
                files = [f"{name}: {path}" for name, path in found.items()]
                self.problems.append(f"installed files {what}: {_some(files)}")
        if project is None:
            self.problems.append("source/ is not installed in venv/")
        return {
            "packages": {
                "count": len(installed),
                "missing": missing,
                "extra": extra,
                "different": {name: {"locked": pair[0], "installed": pair[1]} for name, pair in different.items()},
                "damaged": checked.damaged,
                "edited": checked.edited,
            },
            "packages_sha256": checked.sha256 if installed else None,
            "project_version": project,
            "python_version": python_version,
            "python_unchanged": python_version is not None and python_version == sealed_version,
            "torch_version": installed.get("torch"),
        }

    def _packages(self) -> list[installed_packages.Package]:
        return list(installed_packages.packages(self._below("venv")))

    def _installed(self) -> tuple[dict[str, str], str | None]:
        """The installed packages, and apart from them the version of the source that is installed as editable."""
        installed: dict[str, str] = {}
        project = None
        for package in self._packages():
            if installed_packages.editable_path(package.metadata) == self._below("source"):
                project = package.version
            else:
                installed[package.name] = package.version
        return installed, project

    def _completed_at(self) -> int | None:
        """When the release was completed, in nanoseconds by its file system's own clock, which may be another host's.

        release.json is written last, so every file that was installed with the release is older.
        """
        try:
            return os.stat(self._below(SEAL)).st_mtime_ns if self._seal else None
        except OSError:
            return None

    def check_identity(self, found: dict[str, Any]) -> None:
        """The folder's name is derived from what the release holds, so whatever was swapped shows here."""
        commit, lock_sha256 = found["commit"], found["lock_sha256"]
        if not self._seal or commit is None or lock_sha256 is None:
            return
        inputs = self._seal.get("inputs")
        if not isinstance(inputs, dict):
            inputs = {}
        for name, value in (("commit", commit), ("lock_sha256", lock_sha256)):
            if inputs.get(name) != value:
                self.problems.append(f"{name} is {value}, it was {inputs.get(name)} when the release was completed")
        try:
            expected = release_id(**inputs)
        except (TypeError, ReleaseNameError) as error:
            self.problems.append(f"{SEAL} has no valid inputs: {error}")
            return
        if os.path.basename(self._path) != expected or found["release_id"] != expected:
            self.problems.append(f"the folder is named {os.path.basename(self._path)}, its content is {expected}")


def _dirty(status: str) -> list[str]:
    """Lines of `git status --porcelain -z`, less what installing and importing the source itself leaves behind."""
    fields = iter(status.split("\0"))
    lines = []
    for line in fields:
        if line[:1] in ("R", "C"):
            next(fields, None)  # a rename or copy is followed by its other name
        parts = line[3:].split("/")
        build_output = "__pycache__" in parts or any(part.endswith(".egg-info") for part in parts)
        if line and not (line.startswith("??") and build_output):
            lines.append(line)
    return lines


def _differences(missing: dict[str, str], extra: dict[str, str], different: dict[str, tuple[str, str]]) -> str:
    sentences = [f"{name} is {found}, locked is {locked}" for name, (locked, found) in different.items()]
    sentences += [f"{name} {version} is missing" for name, version in missing.items()]
    sentences += [f"{name} {version} is not in the lock" for name, version in extra.items()]
    return _some(sentences)


def _some(sentences: list[str], limit: int = 5) -> str:
    left_out = len(sentences) - limit
    return "; ".join(sentences[:limit]) + (f"; and {left_out} more" if left_out > 0 else "")
