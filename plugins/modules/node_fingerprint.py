#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_fingerprint
short_description: Read everything about a node that must match its peers or be healthy
version_added: "0.1.0"
description:
  - One call per node reads the release (commit, edited files, lock, installed packages, Python, torch), the config's
    digest, the devices, what it sees of C(axolotl_root), who holds the given ports, which runs are active, the
    network's interfaces, the InfiniBand and RoCE adapters, and the limits that a trainer would have. It judges nothing;
    the comparison happens once, on the controller (M(gpufleet.axolotl.fleet_findings)).
  - A probe that fails says so in its place, and the others still report.
author:
  - gpufleet.axolotl contributors (@gpufleet)
attributes:
  check_mode:
    support: full
    description:
      - It changes nothing. A port is tested by binding it for a moment, unless a run is active.
      - Where the run would be a systemd unit, its limits are read by a unit that prints them and ends, leaving nothing.
  diff_mode:
    support: none
    description: It changes nothing.
options:
  release:
    description: Absolute path of the release that is to run.
    type: path
    required: true
  config:
    description: Absolute path of the Axolotl config.
    type: path
    required: true
  config_sha256:
    description:
      - SHA-256 of the config as it should be. The text of another one is returned, with its secrets masked.
    type: str
    default: ""
  runs:
    description: Absolute path of the folder with this node's runs.
    type: path
    required: true
  ports:
    description: Ports that must be free on this node.
    type: list
    elements: int
    default: []
  train_options:
    description: Options of C(axolotl train) that the launch uses; those that the release does not know are returned.
    type: list
    elements: str
    default: []
  accelerator:
    description: What the trainers run on.
    type: str
    choices: [cuda, cpu]
    default: cuda
  address:
    description: Where peers reach this node, a name or an IP address.
    type: str
    required: true
  head_address:
    description: Where they reach the head.
    type: str
    required: true
  login_address:
    description: Where the controller connects to. Empty where it does so without a network.
    type: str
    default: ""
  root:
    description: The node's C(axolotl_root).
    type: path
    default: ""
  marker:
    description: Name of the marker that M(gpufleet.axolotl.storage_marker) put into O(root), on this node or another.
    type: str
    default: ""
  inputs:
    description:
      - What the training reads, as the launch plan has it for the node. Each has C(name), C(path) and C(kind), C(path)
        or C(hub); a C(hub) also has C(repository), its folder in the Hub's cache, and C(revision).
    type: list
    elements: dict
    default: []
  inputs_timeout:
    description: Seconds that reading O(inputs) and O(prepared) may take.
    type: int
    default: 3600
  prepared:
    description: The folder with prepared datasets. Empty where the training prepares none.
    type: path
    default: ""
  digest_cache:
    description: Folder in which the node keeps the digests of large files that have not changed. Empty for none.
    type: path
    default: ""
  rehash:
    description: Whether to read all of them anew, which alone shows that a disk has changed what nobody wrote.
    type: bool
    default: false
  supervisor:
    description: What the run's supervisors run under, as for M(gpufleet.axolotl.run_start).
    type: str
    choices: [auto, systemd, process]
    default: auto
"""

EXAMPLES = r"""
- name: Read the node
  gpufleet.axolotl.node_fingerprint:
    release: /opt/axolotl/releases/0123456789ab-0123456789ab
    config: /opt/axolotl/work/config.yml
    runs: /opt/axolotl/runs
    address: 198.51.100.12
    head_address: 198.51.100.11
"""

RETURN = r"""
fingerprint:
  description:
    - C(machine) (identity, hostname, uid), C(storage) (as M(gpufleet.axolotl.storage_marker) returns it, null without
      O(marker)), C(host_python), C(release) (as M(gpufleet.axolotl.release_info)),
      C(config) (path, sha256, size, error, content, elsewhere), C(devices) (kind, count, error),
      C(ports) (free, holder), C(active_runs),
      C(network) (interfaces, default_route, login, address, head), C(infiniband) (hcas, modules, verbs, unclaimed,
      gpudirect, counters, error), C(limits) (context, memlock, open_files, processes, error).
    - C(inputs), for each name path, kind, exists, digest, data_digest, files, size, problems, newest_ns and revision.
    - C(prepared) (path, exists, folders, record, error), null without O(prepared).
  returned: always
  type: dict
"""

import platform
import time

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node import (
    config_file,
    prepared_data,
    probe_hardware,
    probe_infiniband,
    probe_limits,
    probe_network,
    run_reader,
    sockets,
    storage,
    training_inputs,
)
from ..module_utils.node.digest_cache import DigestCache
from ..module_utils.node.release_directory import read_release


def port_state(port: int, run_is_active: bool) -> dict:
    """Whether a port is free, and who holds it; a run that is just starting must not find it bound by us."""
    holder = sockets.port_holder(port)
    free = holder is None and (run_is_active or sockets.port_is_free(port))
    return {"free": free, "holder": holder._asdict() if holder else None}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "path", "required": True},
            "config": {"type": "path", "required": True},
            "config_sha256": {"type": "str", "default": ""},
            "runs": {"type": "path", "required": True},
            "ports": {"type": "list", "elements": "int", "default": []},
            "train_options": {"type": "list", "elements": "str", "default": []},
            "accelerator": {"type": "str", "choices": ["cuda", "cpu"], "default": "cuda"},
            "address": {"type": "str", "required": True},
            "head_address": {"type": "str", "required": True},
            "login_address": {"type": "str", "default": ""},
            "root": {"type": "path", "default": ""},
            "marker": {"type": "str", "default": ""},
            "inputs": {"type": "list", "elements": "dict", "default": []},
            "inputs_timeout": {"type": "int", "default": 3600},
            "prepared": {"type": "path", "default": ""},
            "digest_cache": {"type": "path", "default": ""},
            "rehash": {"type": "bool", "default": False},
            "supervisor": {"type": "str", "choices": ["auto", "systemd", "process"], "default": "auto"},
        },
        supports_check_mode=True,
    )
    options = module.params
    data_deadline = time.monotonic() + options["inputs_timeout"]
    cache = None
    if options["digest_cache"]:
        cache = DigestCache(options["digest_cache"], look_up=not options["rehash"], write=not module.check_mode)
    errors = probe_infiniband.ErrorWatch()  # what follows takes the time in which a bad link shows
    release = read_release(options["release"])
    known = release.pop("train_options")  # hundreds; empty for commits that can't be asked
    release["unknown_options"] = [name for name in options["train_options"] if known and name not in known]
    active = [run.run_id for run in run_reader.active_runs(options["runs"])]
    module.exit_json(
        changed=False,
        fingerprint={
            "machine": probe_hardware.machine(),
            "storage": storage.look(options["root"], options["marker"]) if options["marker"] else None,
            "host_python": platform.python_version(),
            "release": release,
            "config": config_file.read(options["config"], options["config_sha256"]),
            "devices": probe_hardware.devices(options["accelerator"]),
            "ports": {str(port): port_state(port, bool(active)) for port in options["ports"]},
            "active_runs": active,
            "network": probe_network.read(options["address"], options["head_address"], options["login_address"]),
            "limits": probe_limits.read(options["supervisor"]),
            "infiniband": {**probe_infiniband.read(), "counters": errors.close()},
            "inputs": training_inputs.read(options["inputs"], options["inputs_timeout"], cache),
            "prepared": prepared_data.read(options["prepared"], max(1.0, data_deadline - time.monotonic()), cache)
            if options["prepared"]
            else None,
        },
    )


if __name__ == "__main__":
    main()
