# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example inventory is one that works: read as Ansible reads it, it makes a plan without a finding."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.manager import VariableManager
from unit import fleets

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import (
    launch_plan,
    nccl_settings,
    plan_checks,
    rules_preflight,
    settings,
)

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLE = PROJECT / "inventories" / "example"
GROUP_VARS = EXAMPLE / "group_vars" / f"{settings.GROUP}.yml"
NAMES = {setting.name for setting in settings.SETTINGS}

# What Axolotl's schema has for fsdp_version 2; it drops any other key without a word.
FSDP2_KEYS = {
    "activation_checkpointing",
    "auto_wrap_policy",
    "cpu_offload_pin_memory",
    "cpu_ram_efficient_loading",
    "final_state_dict_type",
    "min_num_params",
    "mixed_precision_policy",
    "offload_params",
    "reshard_after_forward",
    "state_dict_type",
    "transformer_layer_cls_to_wrap",
}


def read_inventory(folder: Path) -> dict[str, dict[str, Any]]:
    """Node to its settings, templated, in the order of the group."""
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(folder)])
    manager = VariableManager(loader=loader, inventory=inventory)
    nodes = {}
    for host in inventory.groups[settings.GROUP].get_hosts():
        known = manager.get_vars(host=host)
        templar = Templar(loader=loader, variables=known)
        nodes[host.name] = {name: templar.template(known[name]) for name in NAMES & set(known)}
    return nodes


@pytest.fixture(scope="module")
def inventory() -> dict[str, dict[str, Any]]:
    return read_inventory(EXAMPLE)


@pytest.fixture(scope="module")
def values(inventory: dict[str, dict[str, Any]]) -> dict[str, settings.Values]:
    found, findings = settings.read(inventory)
    assert findings == []
    return found


@pytest.fixture(scope="module")
def config_path(values: dict[str, settings.Values]) -> Path:
    return Path(values["gpu-a"].config).resolve()


@pytest.fixture(scope="module")
def plan(values: dict[str, settings.Values], config_path: Path) -> dict[str, Any]:
    content = config_path.read_bytes()
    files = launch_plan.ControllerFiles(
        config_path=str(config_path),
        config=yaml.safe_load(content),
        config_sha256=hashlib.sha256(content).hexdigest(),
        lock_path="/locks/example.txt",
        lock_sha256="0" * 64,
        source_cache="/cache/example",
        base="/",
    )
    assert plan_checks.check(values) == []
    return launch_plan.build(values, files, "20260101T000000Z-0000")


def test_two_nodes_of_eight_are_a_world_of_sixteen(plan: dict[str, Any]) -> None:
    assert {node: part["rank"] for node, part in plan["nodes"].items()} == {"gpu-a": 0, "gpu-b": 1}
    assert (plan["nnodes"], plan["nproc_per_node"], plan["world_size"]) == (2, 8, 16)
    assert plan["accelerator"] == "cuda"


def test_both_nodes_meet_at_the_heads_data_address(plan: dict[str, Any], inventory: dict[str, dict[str, Any]]) -> None:
    assert plan["head_address"] == inventory["gpu-a"]["axolotl_address"]
    for part in plan["nodes"].values():
        argv = part["start"]["argv"]
        assert argv[argv.index("--master-addr") + 1] == plan["head_address"]


def test_what_is_derived_is_not_set_by_hand(plan: dict[str, Any]) -> None:
    prints = fleets.fingerprints(plan)
    derived = nccl_settings.derive(plan, prints)["gpu-b"]
    assert set(derived) == {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "NCCL_IB_HCA", "NCCL_IB_DISABLE"}
    assert rules_preflight.examine(plan, prints) == []


def test_nodes_differ_in_rank_alone(plan: dict[str, Any]) -> None:
    one, other = (part["start"] for part in plan["nodes"].values())
    rank = one["argv"].index("--node-rank") + 1
    assert one["argv"][:rank] == other["argv"][:rank]
    assert one["argv"][rank + 1 :] == other["argv"][rank + 1 :]
    assert one["environment"] == other["environment"]


def test_every_variable_of_the_collection_is_a_setting() -> None:
    """A misspelt name would be taken for somebody else's variable, and its default would count."""
    written = yaml.safe_load(GROUP_VARS.read_text())
    for host in yaml.safe_load((EXAMPLE / "hosts.yml").read_text())[settings.GROUP]["hosts"].values():
        written.update(host)
    assert {name for name in written if not name.startswith("ansible_")} <= NAMES


def test_the_commented_training_files_are_valid_ones() -> None:
    lines = re.findall(r"^  # ((?:-|  \w+:) .*)$", GROUP_VARS.read_text(), flags=re.MULTILINE)
    entries = settings.training_files(yaml.safe_load("\n".join(lines)))
    assert [(entry["dest"], entry["storage"]) for entry in entries] == [
        ("models/SmolLM2-135M", "copy"),
        ("data/eval.jsonl", "copy"),
        ("/mnt/shared/models/SmolLM2-135M", "shared"),
    ]


def test_example_config_has_keys_that_fsdp2_knows(config_path: Path) -> None:
    config = yaml.safe_load(config_path.read_text())
    assert config["fsdp_version"] == 2
    assert set(config["fsdp_config"]) <= FSDP2_KEYS
    assert config["fsdp_config"]["state_dict_type"] in {"FULL_STATE_DICT", "SHARDED_STATE_DICT"}
    assert not {"deepspeed", "fsdp"} & set(config)


def test_example_config_finds_its_files(config_path: Path, plan: dict[str, Any]) -> None:
    config = yaml.safe_load(config_path.read_text())
    assert config["dataset_prepared_path"].startswith("/")
    assert config["output_dir"].startswith("/")
    assert plan["nodes"]["gpu-b"]["paths"]["output_dir"] == config["output_dir"]
    destinations = {str(Path(entry["dest"])) for entry in plan["training_files"]}
    assert {str(Path(dataset["path"])) for dataset in config["datasets"]} <= destinations
