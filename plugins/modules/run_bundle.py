#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_bundle
short_description: Bundle what one node keeps of a run, without its secrets
version_added: "0.1.0"
description:
  - Writes one archive with the logs (head and tail of long ones), the frozen plan, the record, the config and the
    release's lock. Secret values and what looks like a credential are masked in every file.
author:
  - gpufleet.axolotl contributors (@gpufleet)
extends_documentation_fragment:
  - gpufleet.axolotl.run
attributes:
  check_mode:
    support: full
    description: Names the archive and writes nothing.
  diff_mode:
    support: none
    description: The archive is no configuration.
options:
  run_id:
    description: The run; empty means the newest active one, else the newest.
    type: str
    default: ""
  secrets:
    description: Values that must not leave the node.
    type: list
    elements: str
    default: []
  max_bytes:
    description: How much of each file is kept; of a longer one the first and the last half of that.
    type: int
    default: 16777216
"""

EXAMPLES = r"""
- name: Bundle the newest run
  gpufleet.axolotl.run_bundle:
    runs: /opt/axolotl/runs
"""

RETURN = r"""
run_id:
  description: The run that was bundled, or null where this node has none.
  returned: always
  type: str
path:
  description: Absolute path of the archive (tar, gzip) on the node.
  returned: when there is such a run
  type: str
fleet:
  description: Names of all nodes that take part in the run.
  returned: when there is such a run
  type: list
  elements: str
members:
  description: Names of the files in it.
  returned: when there is such a run
  type: list
  elements: str
"""

import io
import json
import os
import tarfile

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.core.masking import is_secret_name, mask
from ..module_utils.core.node_paths import NodePaths
from ..module_utils.node import run_reader
from ..module_utils.node.run_directory import RunDirectory, read_json

MARGIN = 4096
"""Bytes; longer than any secret that is handed over in an environment variable in practice."""


def sources(folder: RunDirectory) -> dict:
    """Archive name to path of each file that is there."""
    node = read_json(folder.node_file)
    release = NodePaths.under(os.path.dirname(str(node.get("work_dir")))).release(str(node.get("release_id")))
    named = {
        "trainer.log": folder.trainer_log,
        "supervisor.log": folder.supervisor_log,
        "node.json": folder.node_file,
        "state.json": folder.state_file,
        "fleet.json": folder.fleet_file,
        "connections.json": folder.connections_file,
        "config.yml": str(node.get("config")),
        "lock.txt": os.path.join(release, "lock.txt"),
        "release.json": os.path.join(release, "release.json"),
    }
    return {name: path for name, path in named.items() if os.path.isfile(path)}


def excerpt(path: str, limit: int, secrets: list) -> str:
    """The file without its secrets, or its head and tail with the gap said between them.

    More than what is kept is read and masked, so that a secret that the cut goes through does not survive in part.
    """
    size, half = os.path.getsize(path), limit // 2
    with open(path, "rb") as stream:
        if size <= limit:
            return mask(stream.read().decode("utf-8", "replace"), secrets)
        head = mask(stream.read(half + MARGIN).decode("utf-8", "replace"), secrets)[:half]
        stream.seek(max(0, size - half - MARGIN))
        tail = mask(stream.read().decode("utf-8", "replace"), secrets)[-half:]
    return f"{head}\n... about {size - limit} bytes left out here ...\n{tail}"


def without_secrets(name: str, path: str, secrets: list, limit: int) -> str:
    """What travels of a file; of the plan's environment a variable that is named like a secret loses its value."""
    node = read_json(path) if name == "node.json" else {}
    if not node:
        return excerpt(path, limit, secrets)
    environment = node.get("environment", {})
    node["environment"] = {key: "" if is_secret_name(key) else value for key, value in environment.items()}
    return mask(json.dumps(node, indent=1, sort_keys=True), secrets)


def write(archive_path: str, files: dict, secrets: list, limit: int) -> None:
    """Write the archive for its owner alone."""
    descriptor = os.open(archive_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, path in files.items():
            content = without_secrets(name, path, secrets, limit).encode()
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o644, int(os.path.getmtime(path))
            archive.addfile(member, io.BytesIO(content))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "runs": {"type": "path", "required": True},
            "run_id": {"type": "str", "default": ""},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "max_bytes": {"type": "int", "default": 16 * 1024 * 1024},
        },
        supports_check_mode=True,
    )
    folder = run_reader.find_run(module.params["runs"], module.params["run_id"])
    result: dict = {"changed": False, "run_id": None}
    if folder:
        files = sources(folder)
        path = os.path.join(folder.path, "bundle.tar.gz")
        if not module.check_mode:
            write(path, files, module.params["secrets"], module.params["max_bytes"])
        fleet = read_json(folder.node_file).get("fleet", [])
        result.update(fleet=fleet, run_id=folder.run_id, path=path, members=sorted(files))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
