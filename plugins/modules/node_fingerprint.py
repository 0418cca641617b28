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
  - One call per node reads the system, the release (commit, edited files, lock, installed packages, Python, torch), the
    config's digest, what the release's Axolotl says of the config, the base model's layers and size, the GPUs and their
    driver, the libraries that a trainer would load, the settings that NCCL would have, the room on its disks and in its
    memory, what it sees of C(axolotl_root), who holds the given ports, which runs are active, the network's
    interfaces, the InfiniBand and RoCE adapters, and the limits that a trainer would have. It judges nothing; the
    comparison happens once, on the controller (M(gpufleet.axolotl.fleet_findings)).
  - The probes run at the same time, each for a limited time. One that fails or hangs says so in its place, and the
    others still report. A node on which everything hangs is read within three minutes.
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
  schema:
    description:
      - What to ask the release's Axolotl about the config. C(overrides), dotted key to value, is put over it, and
        C(world_size) is the number of all trainer processes. Empty to ask nothing, since nodes with one release and one
        config get one answer.
    type: dict
    default: {}
  base_model:
    description:
      - Where the base model is, with C(path), C(repository), its folder in the Hub's cache, and C(revision). Empty not
        to read it.
    type: dict
    default: {}
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
  environment:
    description:
      - The trainers' environment, without secrets. What is said of libraries and of NCCL's settings holds for it; the
        module's own environment does not count.
    type: dict
    default: {}
  output_dir:
    description: Where the run writes its checkpoints. It need not exist. Empty where the config names none.
    type: path
    default: ""
"""

EXAMPLES = r"""
- name: Read the node
  gpufleet.axolotl.node_fingerprint:
    release: /opt/axolotl/releases/0123456789ab-0123456789ab
    config: /srv/training/config.yml
    runs: /opt/axolotl/runs
    address: 198.51.100.12
    head_address: 198.51.100.11
    environment:
      NCCL_IB_TIMEOUT: "22"
"""

RETURN = r"""
fingerprint:
  description:
    - What was read, in sections. A value that can't be read, or does not exist, is V(null). Each section has C(error),
      a sentence where its probe failed, else V(null).
  returned: always
  type: dict
  contains:
    machine:
      description: C(identity), C(hostname), C(uid).
      type: dict
    system:
      description: C(kernel), C(os), C(glibc), C(architecture).
      type: dict
    host_python:
      description: Version of the Python that ran this module.
      type: str
    storage:
      description: As M(gpufleet.axolotl.storage_marker) returns it, null without O(marker).
      type: dict
    release:
      description: As M(gpufleet.axolotl.release_info) returns it, with C(unknown_options) in place of C(train_options).
      type: dict
    config:
      description:
        - C(path), C(sha256), C(size) in bytes; C(content), the text with masked secrets of one that is not the wanted
          one; C(elsewhere), where the wanted one lies if it is not in its place.
      type: dict
    schema:
      description:
        - C(keys), dotted place in the config to the keys that the release's Axolotl knows there, null where it was not
          asked; C(refused), key and message of each value that it would not take; and C(foreign_plugins), plugins that
          are not its own.
      type: dict
    base_model:
      description:
        - C(folder), C(model_types), C(layers) (the classes that transformers keeps whole), C(classes) (all of its
          architecture), C(bytes) of its weights, and C(parameters), null where they can't be told.
      type: dict
    accelerate:
      description: C(default_config), a config of accelerate that the trainers would find, else null.
      type: dict
    devices:
      description: C(kind) and C(count) of what there is to train on. A count includes GPUs that the environment hides.
      type: dict
    gpus:
      description:
        - C(driver), C(cuda) (the highest CUDA that the driver supports), C(nvswitch), C(fabric_manager) (as systemd has
          it), and C(devices), from one call of C(nvidia-smi).
        - A device has C(index), C(name), C(uuid), C(memory_mib), C(memory_used_mib), C(ecc), C(mig) and C(persistence)
          (Enabled or Disabled), C(performance_state), C(pcie) (width, width_max, generation, generation_max),
          C(remap_pending), C(remap_failed), C(throttle) (harmful reasons that are active), C(fabric), and C(processes)
          that compute on it (pid, name, memory_mib).
      type: dict
    libraries:
      description:
        - C(torch_cuda) (the CUDA for which torch was built), C(cuda_runtime), C(cudnn), and C(nccl) with its C(version)
          and C(path), as a trainer would load them. Null for a torch without CUDA.
      type: dict
    nccl:
      description:
        - C(files) from which NCCL takes settings (path, exists, error), in order of precedence.
        - C(settings), name to C(value) and C(source), a path or V(environment).
      type: dict
    room:
      description:
        - C(output_dir) and C(root) (path, free_bytes, total_bytes), C(shm) (size_bytes, free_bytes), C(memory)
          (total_bytes, available_bytes), and C(neighbours) (ipv4 and ipv6, the most entries of the kernel's neighbour
          table).
      type: dict
    inputs:
      description:
        - What the training reads, by name, each with C(path), C(kind), C(exists), C(digest), C(data_digest), C(files),
          C(size), C(problems), C(newest_ns) and C(revision).
      type: dict
    prepared:
      description: C(path), C(exists), C(folders), C(record). Null without O(prepared).
      type: dict
    ports:
      description: Port to C(free) and C(holder).
      type: dict
    active_runs:
      description: Id of each active run to who started it, with which config.
      type: dict
    network:
      description: C(interfaces), C(left_out), C(default_route), C(login), C(address), C(head).
      type: dict
    infiniband:
      description:
        - C(hcas), C(modules), C(verbs), C(unclaimed), C(gpudirect), C(counters), and C(stack) (name inbox, doca or
          mlnx_ofed, version, error).
      type: dict
    limits:
      description: C(context), C(memlock), C(open_files), C(processes).
      type: dict
    errors:
      description: Probe to its error, for the runs and ports, whose sections have no C(error).
      type: dict
    seconds:
      description: Probe to the seconds that it took.
      type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node import fingerprint


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "path", "required": True},
            "config": {"type": "path", "required": True},
            "config_sha256": {"type": "str", "default": ""},
            "schema": {"type": "dict", "default": {}},
            "base_model": {"type": "dict", "default": {}},
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
            "environment": {"type": "dict", "default": {}},
            "output_dir": {"type": "path", "default": ""},
        },
        supports_check_mode=True,
    )
    environment = {str(name): str(value) for name, value in module.params["environment"].items()}
    found = fingerprint.read({**module.params, "environment": environment}, keep=not module.check_mode)
    module.exit_json(changed=False, fingerprint=found)


if __name__ == "__main__":
    main()
