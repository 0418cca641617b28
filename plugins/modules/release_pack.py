#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_pack
short_description: Packs all that nodes without internet need for a release, once
version_added: 0.1.0
description:
  - Runs on the controller. Makes one archive with the source at O(commit) as a shallow git repository, one wheel for
    each package of O(lock), the wheel of uv, and C(requirements.txt), which names each wheel by its digest.
  - The wheels are those of the nodes' platform and Python. pip fetches them, with pip's configuration and cache, and
    holds each against the hashes of the lock.
  - A package that has no wheel is built into one here, from the source distribution that the lock pins, so that nodes
    build nothing. That is refused when the result is bound to the controller's platform.
  - An archive that is there and has its digest is kept.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  path:
    description: The archive. Beside it, with the ending C(.json), lies what it holds.
    type: path
    required: true
  source:
    description: A checkout of the repository at O(commit).
    type: path
    required: true
  commit:
    description: Full commit SHA of the source.
    type: str
    required: true
  lock:
    description: The lock of the release.
    type: path
    required: true
  lock_sha256:
    description: Digest that O(lock) must have. Empty only in check mode, while the lock is not compiled yet.
    type: str
    default: ''
  python_version:
    description: Python of the nodes, for example V(3.12).
    type: str
    required: true
  python_platform:
    description: Platform of the nodes in uv's words.
    type: str
    required: true
  torch_backend:
    description: Build of torch for which the lock was compiled.
    type: str
    default: ''
  uv_version:
    description: The uv that builds on the nodes.
    type: str
    required: true
  timeout:
    description: Seconds that each step may take.
    type: int
    default: 7200
attributes:
  check_mode:
    support: full
    description: In check mode a missing archive is reported as changed, but not made.
  diff_mode:
    support: none
    description: An archive is no reading matter.
"""

EXAMPLES = r"""
- name: Pack the release
  gpufleet.axolotl.release_pack:
    path: "{{ playbook_dir }}/artifacts/delivery/067b021c8b87-1f0c9d2ab34e.tar"
    source: "{{ playbook_dir }}/source"
    commit: 067b021c8b87a9e5e380b9173c704cf7340e30f5
    lock: "{{ playbook_dir }}/locks/example.txt"
    lock_sha256: 34ef004306eea85cb406d89c70d86c48a92e2f56d7aa2a8dccd84e922733032d
    python_version: "3.12"
    python_platform: x86_64-manylinux_2_28
    uv_version: 0.13.9
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
pack:
  description: What the archive holds. V(null) when it would be made but is not, in check mode.
  type: dict
  returned: success
  contains:
    digest:
      description: Digest over all files, as M(gpufleet.axolotl.tree_digest) gives it for the unpacked folder.
      type: str
    entries:
      description: Every file with path, kind, size and digest.
      type: list
      elements: dict
    size:
      description: Bytes of all files.
      type: int
    installed_size:
      description: Bytes that source and packages take when they are installed, byte code left out.
      type: int
    archive_sha256:
      description: Digest of the archive itself.
      type: str
    built:
      description: Wheels that were built here, for want of a published one.
      type: list
      elements: str
"""

import json
import os
import shutil
import sys
import tarfile
import zipfile

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.lock_file import LockFileError, parse_lock
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.manifest import root_digest
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.wheelhouse import (
    WheelhouseError,
    parse_wheel,
    pip_indexes,
    pip_platforms,
    requirements,
)
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.commands import run
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.file_digests import file_sha256, read_tree
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.files import replace_file
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.folder_lock import FolderBusy, only_one_in

FORMAT = 1
"""Goes up when the same inputs make another archive."""
# A source distribution that is built twice should give the same wheel: 1980 is the first year that a zip file can hold.
BUILD_TIME = "315532800"


class PackError(Exception):
    """The archive can't be made; the message is for the user."""


class Pack:
    """The steps that make one archive in a folder of its own."""

    def __init__(self, params, folder):
        self._params = params
        self._tree = os.path.join(folder, "tree")
        self._wheels = os.path.join(self._tree, "wheels")
        self._tools = os.path.join(self._tree, "tools")
        self._archive = os.path.join(folder, "archive.tar")
        self.built = []

    def make(self):
        """Make the archive and say what it holds."""
        os.makedirs(self._wheels)
        source_size = self._pack_source()
        self._fetch()
        self._build_wheels()
        self._write_requirements()
        tree = read_tree(self._tree)
        if tree.problems:
            raise PackError("; ".join(tree.problems))
        self._write_archive(tree.entries)
        return {
            "digest": root_digest(tree.entries),
            "entries": [entry._asdict() for entry in tree.entries],
            "size": tree.size,
            "installed_size": source_size + self._unpacked_size(),
            "archive_sha256": file_sha256(self._archive),
            "built": self.built,
        }, self._archive

    def _pack_source(self):
        """Bring the commit, without its history, into a repository that can be cloned offline; give its tree's size.

        A bundle would not do: git can't make a shallow one.
        """
        commit, bare = self._params["commit"], os.path.join(self._tree, "source.git")
        self._run("git", "init", "--quiet", "--bare", "--template=", bare)
        source = os.path.abspath(self._params["source"])
        self._run("git", "-C", bare, "fetch", "--quiet", "--depth=1", f"file://{source}", "HEAD:refs/heads/release")
        found = self._run("git", "-C", bare, "rev-parse", "refs/heads/release").strip()
        if found != commit:
            raise PackError(f"{source} must be at commit {commit}, found {found}")
        self._run("git", "-C", bare, "symbolic-ref", "HEAD", "refs/heads/release")
        for leftover in ("FETCH_HEAD", "description"):
            if os.path.exists(os.path.join(bare, leftover)):
                os.unlink(os.path.join(bare, leftover))
        listing = self._run("git", "-C", bare, "ls-tree", "-r", "-l", "refs/heads/release")
        sizes = [line.split(None, 4)[3] for line in listing.splitlines()]
        return sum(int(size) for size in sizes if size.isdigit())

    def _fetch(self):
        version = self._params["python_version"]
        options = ["--no-deps", "--python-version", version, "--implementation", "cp"]
        for name in pip_platforms(self._params["python_platform"]):
            options += ["--platform", name]
        options += pip_indexes(os.environ, self._params["torch_backend"])
        wheels = ["--dest", self._wheels, "--require-hashes", "--requirement", self._params["lock"]]
        self._pip("download", *options, *wheels)
        uv = f"uv=={self._params['uv_version']}"
        self._pip("download", *options, "--dest", self._tools, "--only-binary=:all:", uv)

    def _build_wheels(self):
        for name in sorted(os.listdir(self._wheels)):
            if name.endswith(".whl"):
                continue
            archive, built = os.path.join(self._wheels, name), os.path.join(self._tree, "built")
            self._pip("wheel", "--no-deps", "--wheel-dir", built, archive)
            (wheel,) = os.listdir(built)
            if not parse_wheel(wheel).any_platform:
                raise PackError(
                    f"{name} has no wheel for {self._params['python_platform']}, and what the controller builds of it "
                    f"({wheel}) is its own: build that wheel on a node, put it into a folder that find-links of the "
                    "controller's pip names, and compile the lock anew; or leave the package out"
                )
            os.rename(os.path.join(built, wheel), os.path.join(self._wheels, wheel))
            os.rmdir(built)
            os.unlink(archive)
            self.built.append(wheel)

    def _write_requirements(self):
        with open(self._params["lock"], encoding="utf-8") as stream:
            locked = parse_lock(stream.read())
        wheels = {name: file_sha256(os.path.join(self._wheels, name)) for name in os.listdir(self._wheels)}
        replace_file(os.path.join(self._tree, "requirements.txt"), requirements(locked, wheels))

    def _unpacked_size(self):
        size = 0
        for name in os.listdir(self._wheels):
            with zipfile.ZipFile(os.path.join(self._wheels, name)) as wheel:
                size += sum(member.file_size for member in wheel.infolist())
        return size

    def _write_archive(self, entries):
        def nobodys(member):
            member.uid = member.gid = member.mtime = 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.isdir() else 0o644
            return member

        with tarfile.open(self._archive, "w", format=tarfile.PAX_FORMAT) as archive:
            for entry in entries:
                archive.add(os.path.join(self._tree, entry.path), entry.path, recursive=False, filter=nobodys)

    def _pip(self, *arguments):
        options = ["--quiet", "--disable-pip-version-check", "--no-input"]
        return self._run(sys.executable, "-m", "pip", arguments[0], *options, *arguments[1:])

    def _run(self, *command):
        environment = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "SOURCE_DATE_EPOCH": BUILD_TIME}
        done = run(command, self._params["timeout"], env=environment)
        if done.rc or done.timed_out:
            words = [word for word in command[1:] if not word.startswith("-")][:2]
            raise PackError(f"{os.path.basename(command[0])} {' '.join(words)} failed: {done.message()}")
        return done.stdout


def read_pack(path, inputs):
    """What an archive holds that was made from `inputs` and is whole; None where there is none."""
    try:
        with open(f"{path}.json", encoding="utf-8") as stream:
            known = json.load(stream)
        if known["inputs"] == inputs and file_sha256(path) == known["pack"]["archive_sha256"]:
            return known["pack"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def make_pack(params, inputs):
    """Make the archive unless it is there; one process at a time."""
    with only_one_in(os.path.dirname(params["path"])):
        pack = read_pack(params["path"], inputs)  # another process may have made it meanwhile
        if pack:
            return pack
        if file_sha256(params["lock"]) != params["lock_sha256"]:
            raise PackError(f"{params['lock']} must have SHA-256 {params['lock_sha256']}")
        workplace = f"{params['path']}.part"
        shutil.rmtree(workplace, ignore_errors=True)  # of an interrupted one
        os.mkdir(workplace)
        try:
            pack, archive = Pack(params, workplace).make()
            os.replace(archive, params["path"])
        finally:
            shutil.rmtree(workplace, ignore_errors=True)
        replace_file(f"{params['path']}.json", json.dumps({"inputs": inputs, "pack": pack}, indent=1) + "\n")
        return pack


def main():
    """Keep the archive that is whole, or make it."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "source": {"type": "path", "required": True},
            "commit": {"type": "str", "required": True},
            "lock": {"type": "path", "required": True},
            "lock_sha256": {"type": "str", "default": ""},
            "python_version": {"type": "str", "required": True},
            "python_platform": {"type": "str", "required": True},
            "torch_backend": {"type": "str", "default": ""},
            "uv_version": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 7200},
        },
        supports_check_mode=True,
    )
    params = module.params
    names = ("commit", "lock_sha256", "python_version", "python_platform", "torch_backend", "uv_version")
    inputs = {"format": FORMAT, **{name: params[name] for name in names}}
    try:
        pack = read_pack(params["path"], inputs)
        changed = pack is None
        if changed and not module.check_mode:
            pack = make_pack(params, inputs)
    except (PackError, WheelhouseError, LockFileError, FolderBusy, OSError, ValueError, zipfile.BadZipFile) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, pack=pack)


if __name__ == "__main__":
    main()
