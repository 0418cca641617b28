#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_info
short_description: Reads whether a release on a node is complete and unchanged
version_added: 0.1.0
description:
  - Compares commit, source tree, lock, installed packages and interpreter of a release with its name and its
    C(release.json).
  - A broken release is described, it is no failure of this module.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  path:
    description: Folder of the release.
    type: path
    required: true
  current:
    description: The link that should point to the release.
    type: path
  tools:
    description: Folder of a virtual environment in which uv is looked for before C(PATH).
    type: path
    default: ''
  uv_version:
    description: The version of uv that is looked for. When empty, any version will do.
    type: str
    default: ''
  runs:
    description: Folder with the node's runs, in which an active one that uses the release is looked for.
    type: path
    default: ''
  timeout:
    description: Seconds that each command may take.
    type: int
    default: 30
attributes:
  check_mode:
    support: full
    description: The module changes nothing.
  diff_mode:
    support: none
    description: The module changes nothing.
"""

EXAMPLES = r"""
- name: Read the release
  gpufleet.axolotl.release_info:
    path: /srv/axolotl/releases/067b021c8b87-1f0c9d2ab34e
  register: release
"""

RETURN = r"""
release:
  description: What was found.
  type: dict
  returned: success
  contains:
    complete:
      description: The release was completed, and nothing has changed since.
      type: bool
    problems:
      description: What is missing or differs, in sentences.
      type: list
      elements: str
    exists:
      description: Whether the folder exists.
      type: bool
    sealed:
      description: Whether C(release.json) is there, which is written last.
      type: bool
    release_id:
      description: The name in C(release.json).
      type: str
    commit:
      description: Commit that is checked out.
      type: str
    dirty:
      description: The first lines of C(git status --porcelain).
      type: list
      elements: str
    dirty_count:
      description: How many files differ from the commit.
      type: int
    untracked:
      description: Whether some of these are unknown to git.
      type: bool
    lock_sha256:
      description: Digest of the lock.
      type: str
    packages:
      description:
        - The number of installed packages, and those that are missing, extra or different against the lock.
        - Of those whose files differ from their RECORD the first such file, C(damaged) where it is missing or has
          another size, C(edited) where its content differs. Contents are compared for files that were touched after
          the release was completed.
      type: dict
    packages_sha256:
      description:
        - One digest of all packages, their versions and the digests of their files as recorded, equal on two nodes
          that installed the same wheels.
      type: str
    submodules:
      description:
        - C(path), C(commit) and C(state) of each submodule of the source. The state is V(current), V(absent),
          V(other_commit) or V(conflict).
      type: list
      elements: dict
    project_version:
      description: Version of the source as installed.
      type: str
    python_version:
      description: Version of the interpreter.
      type: str
    python_unchanged:
      description: Whether that is the version with which the release was completed.
      type: bool
    torch_version:
      description: Version of torch as installed.
      type: str
    train_options:
      description: Options of C(axolotl train).
      type: list
      elements: str
is_current:
  description: Whether O(current) points to the release.
  type: bool
  returned: success
in_use_by:
  description: Ids of active runs that use the release.
  type: list
  elements: str
  returned: success
uv:
  description: A uv of the wanted version on the node, V(null) when there is none.
  type: str
  returned: success
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.release_directory import read_release
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.run_directory import read_json
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.run_reader import active_runs
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.uv import find_uv


def runs_of(release_id, runs):
    """Active runs of a release."""
    return [run.run_id for run in active_runs(runs) if read_json(run.node_file).get("release_id") == release_id]


def main():
    """Read; nothing is decided here."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "current": {"type": "path"},
            "tools": {"type": "path", "default": ""},
            "uv_version": {"type": "str", "default": ""},
            "runs": {"type": "path", "default": ""},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    path, current, tools = module.params["path"], module.params["current"], module.params["tools"]
    module.exit_json(
        changed=False,
        release=read_release(path, timeout=module.params["timeout"]),
        is_current=bool(current) and os.path.islink(current) and os.path.realpath(current) == os.path.realpath(path),
        in_use_by=runs_of(os.path.basename(path), module.params["runs"]) if module.params["runs"] else [],
        uv=find_uv(module.params["uv_version"], os.path.join(tools, "bin") if tools else ""),
    )


if __name__ == "__main__":
    main()
