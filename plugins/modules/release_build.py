#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_build
short_description: Checks a release out, installs its packages from its lock, and marks it complete
version_added: 0.1.0
description:
  - Expects C(lock.txt) in O(path), and makes C(source/) and C(venv/) beside it.
  - The source is a git checkout of the one commit, without history. It is made beside its place and moved there.
  - Installs exactly what the lock pins, with hashes, and then the source itself as editable, without dependencies.
  - Imports Axolotl once, and writes C(release.json) last. Without that file a release is not complete.
  - A complete and unchanged release is left alone. Anything else is brought back to what commit and lock say.
  - Two at once on one node wait for each other, also when the first has lost its controller.
  - uv uses the node's own configuration of pip, so that mirrors and certificates need to be set up once. With
    O(delivery) it uses no network at all.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  path:
    description: Folder of the release. Its name is the release's id.
    type: path
    required: true
  repository:
    description: URL or path of the git repository.
    type: str
    required: true
  commit:
    description: Full commit SHA that C(source/) must be at.
    type: str
    required: true
  lock_sha256:
    description: Digest that C(lock.txt) must have. Empty only in check mode, while the lock is not compiled yet.
    type: str
    default: ''
  extras:
    description: Extras for which the lock was compiled.
    type: list
    elements: str
    default: []
  python_version:
    description: Python of the release, for example V(3.12). uv finds it on the node, or fetches it.
    type: str
    required: true
  python_platform:
    description: Platform for which the lock was compiled.
    type: str
    required: true
  torch_backend:
    description: Build of torch for which the lock was compiled.
    type: str
    default: ''
  uv:
    description: The uv to run.
    type: path
    required: true
  uv_cache_dir:
    description: Cache of uv. When empty, uv chooses.
    type: path
    default: ''
  delivery:
    description:
      - Folder with what M(gpufleet.axolotl.release_pack) packed. Packages come from there alone, by the digests in its
        C(requirements.txt). When empty, they come from the indexes that the node reaches.
    type: path
    default: ''
  timeout:
    description: Seconds that each step may take.
    type: int
    default: 3600
attributes:
  check_mode:
    support: full
    description: In check mode nothing is written.
  diff_mode:
    support: full
    description: Shows the state before and after.
"""

EXAMPLES = r"""
- name: Install the packages of the release
  gpufleet.axolotl.release_build:
    path: /srv/axolotl/releases/067b021c8b87-1f0c9d2ab34e
    repository: https://github.com/axolotl-ai-cloud/axolotl.git
    commit: 067b021c8b87a9e5e380b9173c704cf7340e30f5
    lock_sha256: 34ef004306eea85cb406d89c70d86c48a92e2f56d7aa2a8dccd84e922733032d
    python_version: "3.12"
    python_platform: x86_64-manylinux_2_28
    torch_backend: cu130
    uv: /srv/axolotl/tools/bin/uv
"""

RETURN = r"""
release:
  description: The release after the module, as M(gpufleet.axolotl.release_info) describes it.
  type: dict
  returned: success
repaired:
  description: What was wrong with a release that had been complete before.
  type: list
  elements: str
  returned: success
"""

import contextlib
import errno
import json
import os
import shutil
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.release_name import ReleaseNameError, release_id
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.commands import run
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.files import replace_file
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.folder_lock import FolderBusy, only_one_in
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.git_checkout import GitError, check_out
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.release_directory import (
    SEAL,
    read_release,
    read_source,
)
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.uv import offline_settings, only_one, uv_settings

# Imports what training imports, so that a broken environment shows now, and its byte code is compiled by then.
# Releases before Axolotl's command line was made with click have no list of options to offer.
PROVE_IMPORT = """
import json, axolotl.cli.main as main
options = {name for option in getattr(main.train, "params", []) for name in (*option.opts, *option.secondary_opts)}
print("\\n" + json.dumps(sorted(name for name in options if name.startswith("--"))))
"""


# What the release's name is derived from.
INPUTS = ("commit", "lock_sha256", "extras", "python_version", "python_platform", "torch_backend")


INSTALL_SOURCE = ("pip", "install", "--quiet", "--no-deps", "--no-build-isolation")


class BuildError(Exception):
    """A step failed; the message says which, and what it said."""


class Build:
    """The steps that bring one release to completion."""

    def __init__(self, params, inputs):
        self._params = params
        self._inputs = inputs
        self._path = params["path"]
        self._source = os.path.join(self._path, "source")
        self._python = os.path.join(self._path, "venv", "bin", "python")
        if params["delivery"]:
            self._environment = offline_settings(params["uv_cache_dir"])
        else:
            self._environment = uv_settings(params["uv"], params["uv_cache_dir"])

    def apply(self, before):
        """Bring everything to the lock; release.json goes first and comes back last."""
        self._remove_seal()
        if before["commit"] != self._params["commit"] or before["dirty_count"]:
            self._check_out()
        check_source(self._path, self._params["commit"])
        if not environment_is_intact(before):
            self._make_environment(before)
        self._uv(*INSTALL_SOURCE, "--python", self._python, "--editable", self._source)
        train_options = self._prove_import()
        after = read_release(self._path)
        seal = json.dumps(self._seal(after, train_options), indent=2, sort_keys=True) + "\n"
        replace_file(os.path.join(self._path, SEAL), seal, durable=True)

    def _check_out(self):
        """Make it anew from nothing: what was cut off or edited is not worth finding out."""
        params = self._params
        try:
            check_out(params["repository"], params["commit"], self._source, params["timeout"])
        except GitError as error:
            raise BuildError(
                f"{error}. Correct axolotl_repository or axolotl_commit, or the node's way there; with "
                "axolotl_delivery: push nodes need no git server"
            ) from None

    def _make_environment(self, before):
        """Make it from nothing: what a cut off or edited installation holds can't be known, and uv's cache is quick."""
        wanted = self._params["python_version"]
        self._uv("venv", "--quiet", "--clear", "--python", wanted, os.path.join(self._path, "venv"))
        with only_one(self._params["uv"], self._environment):
            spoilt = sorted({**before["packages"]["damaged"], **before["packages"]["edited"]})
            if before["sealed"] and spoilt:
                # Installed files are often hard links into the cache, so that an edit has reached the cache too.
                self._uv("cache", "clean", "--quiet", *spoilt)
            self._uv(
                "pip", "sync", "--quiet", "--require-hashes", *self._packages(), "--python", self._python, self._lock()
            )

    def _lock(self):
        """What is installed: the lock, or the same packages by the digests of the wheels that were delivered."""
        if self._params["delivery"]:
            return os.path.join(self._params["delivery"], "requirements.txt")
        return os.path.join(self._path, "lock.txt")

    def _packages(self):
        """Options that say where packages come from."""
        if self._params["delivery"]:
            return ["--no-index", "--find-links", os.path.join(self._params["delivery"], "wheels")]
        return ["--torch-backend", self._params["torch_backend"]] if self._params["torch_backend"] else []

    def _seal(self, found, train_options):
        return {
            "release_id": os.path.basename(self._path),
            "inputs": self._inputs,
            "python_version": found["python_version"],
            "torch_version": found["torch_version"],
            "project_version": found["project_version"],
            "train_options": train_options,
            "completed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def _prove_import(self):
        environment = {"AXOLOTL_DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
        done = run([self._python, "-I", "-c", PROVE_IMPORT], self._params["timeout"], env=environment, cwd=self._path)
        try:
            return json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            raise BuildError(f"the installed release can't import Axolotl: {done.message()}") from None

    def _uv(self, *arguments):
        # In the source's folder, so that its own [tool.uv] counts as it did for the lock.
        done = run([self._params["uv"], *arguments], self._params["timeout"], env=self._environment, cwd=self._source)
        if done.rc or done.timed_out:
            message = done.message()
            if os.strerror(errno.ENOSPC) in message:
                message += self._make_room()
            raise BuildError(f"uv {' '.join(arguments[:2])} failed in {self._path}: {message}")

    def _make_room(self):
        """Take away what filled the disk, since half an environment is of no use; say what to do."""
        shutil.rmtree(os.path.join(self._path, "venv"), ignore_errors=True)
        return (
            ". What was half installed has been removed. Make room (old releases under axolotl_root are yours to "
            "remove), or set axolotl_root or axolotl_uv_cache_dir to a larger disk"
        )

    def _remove_seal(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._path, SEAL))


def environment_is_intact(release):
    """Whether packages and interpreter are still what they were when the release was completed, if it ever was."""
    packages = release["packages"]
    differs = any(packages[name] for name in ("missing", "extra", "different", "damaged", "edited"))
    return release["python_unchanged"] and not differs


def describe(release):
    """The state of a release as the lines of a diff."""
    lines = ["complete"] if release["complete"] else release["problems"]
    return "".join(f"{line}\n" for line in lines)


def check_inputs(before, params, inputs):
    """Only the wanted lock may be installed under the release's name."""
    if release_id(**inputs) != os.path.basename(params["path"]):
        raise BuildError(f"these inputs make the release {release_id(**inputs)}, not {params['path']}")
    if before["lock_sha256"] != params["lock_sha256"]:
        found = before["lock_sha256"] or "no readable lock"
        raise BuildError(f"{before['path']}/lock.txt must have SHA-256 {params['lock_sha256']}, found {found}")


def check_source(path, commit):
    """Only a clean checkout of the wanted commit may be installed under the release's name."""
    source = read_source(path)
    if source["commit"] != commit or source["dirty_count"]:
        found = f"{source['commit'] or 'no commit'}, {source['dirty_count']} edited file(s): {source['dirty']}"
        raise BuildError(f"{path}/source must be a clean checkout of {commit}, found {found}")


def build(params):
    """Bring the release to completion, alone on this node; give its state before and after."""
    with only_one_in(params["path"], params["timeout"]):
        before = read_release(params["path"])  # whoever was at work here before may have completed it
        if before["complete"]:
            return before, before
        inputs = {name: params[name] for name in INPUTS}
        check_inputs(before, params, inputs)
        Build(params, inputs).apply(before)
        after = read_release(params["path"])
    if not after["complete"]:
        raise BuildError(f"{params['path']} is not complete after its installation: {'; '.join(after['problems'])}")
    return before, after


def main():
    """Leave a complete release alone; else apply the lock."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "repository": {"type": "str", "required": True},
            "commit": {"type": "str", "required": True},
            "lock_sha256": {"type": "str", "default": ""},
            "extras": {"type": "list", "elements": "str", "default": []},
            "python_version": {"type": "str", "required": True},
            "python_platform": {"type": "str", "required": True},
            "torch_backend": {"type": "str", "default": ""},
            "uv": {"type": "path", "required": True},
            "uv_cache_dir": {"type": "path", "default": ""},
            "delivery": {"type": "path", "default": ""},
            "timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        if module.check_mode:
            before = after = read_release(params["path"])
        else:
            before, after = build(params)
    except (BuildError, FolderBusy, ReleaseNameError, OSError) as error:
        module.fail_json(msg=str(error))
    changed = not before["complete"]
    repaired = before["problems"] if before["sealed"] else []
    diff = {"before": describe(before), "after": "complete\n"}
    module.exit_json(changed=changed, release=after, repaired=repaired, diff=diff)


if __name__ == "__main__":
    main()
