#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has the datasets of a config prepared by Axolotl before the training starts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dataset_prepare
short_description: Prepares the datasets of an Axolotl config
version_added: 0.1.0
description:
  - Runs C(axolotl preprocess) as the trainers would do it, and puts what it made into its place when it is complete.
  - Beside it, C(.gpufleet-prepared.json) keeps from which data, config, overrides and release it was made. As long as
    these are the same, and the rows are what they were, nothing is done.
  - It also tells whether a node has what was prepared on another one.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  path:
    description: The folder of prepared datasets, C(dataset_prepared_path) of the config. Empty where it prepares none.
    type: path
    required: true
  state:
    description: Whether to prepare, or only to compare with what another node has prepared.
    type: str
    choices: [prepared, compared]
    default: prepared
  expect:
    description: The RV(digest) of another node, to compare with.
    type: str
    default: ""
  inputs:
    description: What the training reads, as the launch plan has it for the node.
    type: list
    elements: dict
    default: []
  release:
    description: Folder of the release.
    type: path
  config:
    description: Path of the Axolotl config on the node.
    type: path
  work:
    description: Folder in which the trainers run.
    type: path
  options:
    description: Overrides of the launch, as options of C(axolotl).
    type: list
    elements: str
    default: []
  environment:
    description: Environment of the trainers. Nothing of the session is inherited.
    type: dict
    default: {}
  secrets:
    description: Environment of the trainers that must not be shown anywhere, such as E(HF_TOKEN).
    type: dict
    default: {}
  log:
    description: File for what C(axolotl preprocess) says. Only the account that trains can read it.
    type: path
  timeout:
    description: Seconds that C(axolotl preprocess) may take.
    type: int
    default: 86400
  inputs_timeout:
    description: Seconds that reading O(inputs) may take.
    type: int
    default: 3600
  digest_cache:
    description: Folder in which the node keeps the digests of large files that have not changed. Empty for none.
    type: path
    default: ""
attributes:
  check_mode:
    support: full
    description: In check mode nothing is prepared.
  diff_mode:
    support: none
    description: What is prepared is no reading matter.
"""

EXAMPLES = r"""
- name: Prepare the datasets
  gpufleet.axolotl.dataset_prepare:
    path: /srv/training/prepared
    inputs: "{{ gpufleet_plan.plan.nodes[inventory_hostname].inputs }}"
    release: /opt/axolotl/current
    config: /srv/training/train.yml
    work: /srv/training
    environment: "{{ gpufleet_plan.plan.nodes[inventory_hostname].environment }}"
    log: /srv/training/preprocess.log
  register: prepared
"""

RETURN = r"""
digest:
  description: One digest for all that is prepared and noted. Empty where nothing is, or it is damaged.
  type: str
  returned: success
entries:
  description: The files that another node needs to have the same, with path, kind, size and digest.
  type: list
  elements: dict
  returned: when O(state=prepared)
same:
  description: Whether the node has what O(expect) names.
  type: bool
  returned: when O(state=compared)
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node import prepared_data
from ..module_utils.node.dataset_preparation import Preparation, PreparationError
from ..module_utils.node.digest_cache import DigestCache
from ..module_utils.node.folder_lock import FolderBusy, only_one_in


def prepare(module: AnsibleModule, preparation: Preparation) -> bool:
    """Prepare where it is needed; say whether it was."""
    if module.check_mode:
        try:
            return not preparation.is_done(preparation.wanted())
        except PreparationError:  # what is still to be brought can't be read yet
            return True
    with only_one_in(preparation.path):
        wanted = preparation.wanted()
        if preparation.is_done(wanted):
            return False
        preparation.prepare(wanted)
    return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["prepared", "compared"], "default": "prepared"},
            "expect": {"type": "str", "default": ""},
            "inputs": {"type": "list", "elements": "dict", "default": []},
            "release": {"type": "path"},
            "config": {"type": "path"},
            "work": {"type": "path"},
            "options": {"type": "list", "elements": "str", "default": []},
            "environment": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "log": {"type": "path"},
            "timeout": {"type": "int", "default": 86400},
            "inputs_timeout": {"type": "int", "default": 3600},
            "digest_cache": {"type": "path", "default": ""},
        },
        required_if=[("state", "prepared", ("release", "config", "work", "log"))],
        supports_check_mode=True,
    )
    params = module.params
    cache = DigestCache(params["digest_cache"], write=not module.check_mode) if params["digest_cache"] else None
    if not params["path"]:
        module.fail_json(
            msg="the config prepares no dataset (streaming, pretraining_dataset or skip_prepare_dataset): set "
            "training_files_preprocess to never"
        )
    if params["state"] == "compared":
        digest = prepared_data.digest(params["path"], cache)
        module.exit_json(changed=False, digest=digest, same=digest == params["expect"] != "")
    values = {name: params[name] for name in Preparation._fields if name != "cache"}
    secrets = {name: str(value) for name, value in params["secrets"].items()}
    values["environment"] = {name: str(value) for name, value in params["environment"].items()} | secrets
    try:
        changed = prepare(module, Preparation(**values, cache=cache))
        digest = prepared_data.digest(params["path"], cache)
        record = prepared_data.read_record(params["path"])
        entries = prepared_data.entries(params["path"], record) if digest else []
    except (PreparationError, FolderBusy, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, digest=digest, entries=[entry._asdict() for entry in entries])


if __name__ == "__main__":
    main()
