#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_lock
short_description: Compiles the exact package set of an Axolotl release, once
version_added: 0.1.0
description:
  - Runs C(uv pip compile) on the controller for the platform of the nodes. The result is the lock that every node
    applies.
  - A lock that exists is never compiled again. It is the contract. Delete the file to make a new one.
  - The build requirements of the source are locked too, so that installing the source resolves nothing.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  path:
    description: The lock on the controller.
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
  extras:
    description: Extras of the source. Each must be defined by that commit.
    type: list
    elements: str
    default: []
  requirements:
    description: Additional requirement lines, for example V(torch==2.13.0).
    type: list
    elements: str
    default: []
  python_version:
    description: Python of the nodes, for example V(3.12).
    type: str
    required: true
  python_platform:
    description: Platform of the nodes in uv's words.
    type: str
    default: x86_64-manylinux_2_28
  torch_backend:
    description:
      - Which build of torch uv chooses, for example V(cu130) or V(cpu). When empty, the configured indexes decide.
    type: str
    default: ''
  uv:
    description: The uv to run. By default the one beside the Python that runs this module, else the one on C(PATH).
    type: path
  timeout:
    description: Seconds after which the resolution is given up.
    type: int
    default: 600
attributes:
  check_mode:
    support: full
    description: In check mode a missing lock is reported as changed, but not compiled.
  diff_mode:
    support: full
    description: Shows the compiled lock.
"""

EXAMPLES = r"""
- name: Compile the lock of the release
  gpufleet.axolotl.release_lock:
    path: "{{ playbook_dir }}/locks/example.txt"
    source: "{{ playbook_dir }}/source"
    commit: 067b021c8b87a9e5e380b9173c704cf7340e30f5
    extras: [deepspeed]
    python_version: "3.12"
    torch_backend: cu130
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
path:
  description: The lock.
  type: str
  returned: success
sha256:
  description: Digest of the lock. V(null) when it would be compiled but is not, in check mode.
  type: str
  returned: success
release_id:
  description: Name of the release that commit and lock make. V(null) when the lock does not exist yet, in check mode.
  type: str
  returned: success
packages:
  description: How many packages the lock pins.
  type: int
  returned: success
"""

import hashlib
import os
import sys
import tempfile

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.lock_file import (
    LockFileError,
    header,
    inputs_of,
    parse_lock,
)
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.pyproject import (
    ProjectError,
    build_requirements,
    check_extras,
)
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.release_name import (
    ReleaseNameError,
    lock_inputs,
    release_id,
)
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.commands import run
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.files import replace_file
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.uv import find_uv, uv_settings

try:
    import tomllib
except ImportError:
    tomllib = None  # type: ignore[assignment]


class LockError(Exception):
    """The lock can't be made or used; the message is for the user."""


def compile_lock(params, inputs):
    """Resolve the packages for the nodes' platform and return the text of the lock."""
    if tomllib is None:
        raise LockError(
            f"compiling a lock needs Python 3.11 or newer on the controller, found {sys.version.split()[0]}"
        )
    uv = params["uv"] or find_uv()
    if not uv:
        raise LockError(
            "uv was not found, neither beside the controller's Python nor on PATH: install it there (pip install uv)"
        )
    pyproject = os.path.join(params["source"], "pyproject.toml")
    try:
        with open(pyproject, "rb") as stream:
            project = tomllib.load(stream)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise LockError(f"{pyproject} of commit {params['commit']} can't be read: {error}") from None
    extras = check_extras(project, inputs["extras"], params["commit"])
    with tempfile.NamedTemporaryFile("w", suffix=".in", encoding="utf-8") as more:
        more.write("".join(f"{line}\n" for line in [*build_requirements(project), *inputs["requirements"]]))
        more.flush()
        command = [uv, "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"]
        command += ["--python", sys.executable, "--python-version", params["python_version"]]
        command += ["--python-platform", params["python_platform"]]
        command += ["--torch-backend", params["torch_backend"]] if params["torch_backend"] else []
        command += [part for extra in extras for part in ("--extra", extra)]
        # In the source's folder, so that what its own [tool.uv] says about its packages counts.
        done = run(
            [*command, "pyproject.toml", more.name], params["timeout"], env=uv_settings(uv), cwd=params["source"]
        )
    if done.rc or done.timed_out:
        raise LockError(f"the packages of commit {params['commit']} can't be resolved: {done.message()}")
    return header(inputs) + done.stdout


def existing_lock(path, inputs):
    """Read the lock that is there, unless it was compiled from something else."""
    with open(path, encoding="utf-8") as stream:
        text = stream.read()
    compiled_from = inputs_of(text)
    if compiled_from is not None and compiled_from != inputs:
        raise LockError(
            f"the lock {path} was compiled from {compiled_from}, but {inputs} is asked for: "
            "name another lock, or delete this one"
        )
    return text


def write_lock(path, text):
    """Write the lock all at once: a half lock would become the contract."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    replace_file(path, text)


def main():
    """Keep the lock that exists, or compile it."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "source": {"type": "path", "required": True},
            "commit": {"type": "str", "required": True},
            "extras": {"type": "list", "elements": "str", "default": []},
            "requirements": {"type": "list", "elements": "str", "default": []},
            "python_version": {"type": "str", "required": True},
            "python_platform": {"type": "str", "default": "x86_64-manylinux_2_28"},
            "torch_backend": {"type": "str", "default": ""},
            "uv": {"type": "path"},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params = module.params
    target = (params["python_version"], params["python_platform"], params["torch_backend"])
    result = {"changed": False, "path": params["path"], "sha256": None, "release_id": None, "packages": 0}
    try:
        inputs = lock_inputs(params["commit"], params["extras"], params["requirements"], *target)
        if os.path.exists(params["path"]):
            text = existing_lock(params["path"], inputs)
        else:
            result["changed"] = True
            if module.check_mode:
                module.exit_json(diff={"before": "", "after": "a lock, compiled from its inputs\n"}, **result)
            text = compile_lock(params, inputs)
            result["diff"] = {"before": "", "after": text, "after_header": params["path"]}
        result["packages"] = len(parse_lock(text))
        result["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        result["release_id"] = release_id(params["commit"], result["sha256"], params["extras"], *target)
        if result["changed"]:
            write_lock(params["path"], text)
    except (LockError, LockFileError, ProjectError, ReleaseNameError, OSError, UnicodeDecodeError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
