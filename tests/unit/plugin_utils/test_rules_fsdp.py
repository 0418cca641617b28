# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What FSDP is told, against model and memory: each contradiction, planted alone, gives its finding and no other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from unit.fleets import FILES, fingerprints, plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import plan_notes, rules_fsdp, rules_preflight
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding

GIB = 1 << 30
CONFIG: dict[str, Any] = {
    "base_model": "/srv/model",
    "output_dir": "./out",
    "optimizer": "adamw_torch_fused",
    "bf16": True,
    "fsdp_version": 2,
    "fsdp_config": {
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "transformer_layer_cls_to_wrap": "LlamaDecoderLayer",
        "state_dict_type": "FULL_STATE_DICT",
    },
}
MODEL = {
    "folder": "/srv/model",
    "model_types": ["llama"],
    "layers": ["LlamaDecoderLayer"],
    "classes": ["LlamaDecoderLayer", "LlamaMLP"],
    "bytes": 140 * GIB,
    "parameters": 70 * GIB,
    "error": None,
}
Prints = dict[str, dict[str, Any]]


def fleet(fsdp: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **top: Any) -> tuple[Any, Prints]:
    """Two nodes that shard a model of 70 G parameters; a value of None takes the key away."""
    config = copy.deepcopy({**CONFIG, **top})
    config["fsdp_config"].update(fsdp or {})
    for part in (config, config["fsdp_config"]):
        for key in [key for key, value in part.items() if value is None]:
            del part[key]
    plan = plan_of(2, FILES._replace(config=config))
    prints = fingerprints(plan)
    prints["node0"]["base_model"] = {**MODEL, **(model or {})}
    return plan, prints


def memory(prints: Prints, total: float, available: float | None = None, *nodes: str) -> None:
    """GiB of main memory on some nodes, all where none is named."""
    for node in nodes or prints:
        left = total if available is None else available
        prints[node]["room"]["memory"] = {"total_bytes": int(total * GIB), "available_bytes": int(left * GIB)}


def only(plan: dict[str, Any], prints: Prints) -> Finding:
    (finding,) = rules_preflight.examine(plan, prints)
    return finding


def nothing(plan: dict[str, Any], prints: Prints) -> bool:
    return rules_preflight.examine(plan, prints) == []


def test_a_clean_config_has_no_findings() -> None:
    assert nothing(*fleet())


def test_a_version_that_is_not_set_means_the_old_one() -> None:
    finding = only(*fleet(fsdp_version=None))
    assert (finding.id, finding.severity, finding.hosts) == ("fsdp_version", "warning", ())
    assert nothing(*fleet({"fsdp_version": 2}, fsdp_version=None))
    assert nothing(*fleet({"version": 2}, fsdp_version=None))


@pytest.mark.parametrize("key", ["state_dict_type", "final_state_dict_type", "fsdp_state_dict_type"])
def test_a_local_state_dict(key: str) -> None:
    finding = only(
        *fleet({"state_dict_type": None if key.startswith("fsdp") else "FULL_STATE_DICT", key: "LOCAL_STATE_DICT"})
    )
    assert (finding.id, finding.severity) == ("fsdp_state_dict", "error")
    assert key.removeprefix("fsdp_") in finding.found


@pytest.mark.parametrize("name", ["adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "lion_8bit", "paged_lion_8bit"])
def test_an_optimizer_that_fsdp2_can_not_work_with(name: str) -> None:
    plan, prints = fleet(optimizer=name)
    finding = only(plan, prints)
    assert (finding.id, finding.found) == ("fsdp_optimizer", f"optimizer: {name}, of bitsandbytes")
    prints["node0"]["schema"]["refused"] = [["", f"Value error, FSDP2 not compatible with {name}, use another"]]
    assert only(plan, prints).id == "config_refused"
    assert nothing(*fleet(optimizer=name, fsdp_version=1))


@pytest.mark.parametrize("name", ["adamw_torch_8bit", "ao_adamw_8bit", "adamw_torch_fused", None])
def test_optimizers_that_it_can(name: str | None) -> None:
    assert nothing(*fleet(optimizer=name))


def test_a_layer_of_another_model() -> None:
    finding = only(*fleet({"transformer_layer_cls_to_wrap": "MistralDecoderLayer"}))
    assert (finding.id, finding.severity) == ("fsdp_wrap_class", "error")
    assert "LlamaDecoderLayer" in finding.expected
    assert finding.remedy == "set fsdp_config.transformer_layer_cls_to_wrap to LlamaDecoderLayer"


def test_a_part_that_is_no_layer() -> None:
    finding = only(*fleet({"transformer_layer_cls_to_wrap": "LlamaDecoderLayer, LlamaMLP"}))
    assert (finding.id, finding.severity) == ("fsdp_wrap_class", "warning")
    assert finding.found.startswith("LlamaMLP, ")


def test_a_model_that_is_not_here_yet_says_nothing_of_its_layers() -> None:
    assert nothing(*fleet({"transformer_layer_cls_to_wrap": "MistralDecoderLayer"}, {"layers": []}))


def test_a_size_that_is_not_set() -> None:
    plan, prints = fleet({"auto_wrap_policy": "SIZE_BASED_WRAP", "transformer_layer_cls_to_wrap": None})
    assert only(plan, prints).id == "fsdp_wrap_size"
    prints["node0"]["schema"]["refused"] = [["fsdp_config", "fsdp_config.min_num_params is required"]]
    assert only(plan, prints).id == "config_refused"
    assert nothing(*fleet({"auto_wrap_policy": "SIZE_BASED_WRAP", "min_num_params": "1000"}))


# Memory


def test_the_head_holds_the_whole_model() -> None:
    plan, prints = fleet()
    memory(prints, 281)
    assert nothing(plan, prints)
    memory(prints, 279)
    finding = only(plan, prints)
    assert (finding.id, finding.severity, finding.hosts) == ("fsdp_memory", "error", ("node0",))
    assert finding.expected.startswith("280.0 GiB of main memory for FULL_STATE_DICT")
    assert finding.found == "node0: 279.0 GiB"
    memory(prints, 500, 200)
    finding = only(plan, prints)
    assert (finding.severity, finding.found) == ("warning", "node0: 200.0 GiB available of 500.0 GiB")


@pytest.mark.parametrize("change", [{"adapter": "lora"}, {"bf16": "full"}, {"bf16": None}])
def test_what_is_not_trained_in_mixed_precision_stays_as_it_is_stored(change: dict[str, Any]) -> None:
    plan, prints = fleet(**change)
    memory(prints, 141)
    assert nothing(plan, prints)
    memory(prints, 139)
    assert only(plan, prints).expected.startswith("140.0 GiB")


def test_a_sharded_checkpoint_asks_nothing_of_the_head() -> None:
    plan, prints = fleet({"state_dict_type": "SHARDED_STATE_DICT"})
    memory(prints, 1)
    assert list(rules_fsdp._full_state(plan, prints)) == []


def test_offloading_needs_memory_on_every_node() -> None:
    plan, prints = fleet({"offload_params": True})
    memory(prints, 561)  # half of 70 G parameters in 4 x 4 bytes each
    assert nothing(plan, prints)
    memory(prints, 559, None, "node1")
    finding = only(plan, prints)
    assert (finding.id, finding.hosts, finding.found) == ("fsdp_memory", ("node1",), "node1: 559.0 GiB")
    assert finding.expected.startswith("560.0 GiB of main memory for offload_params: 1/2 of all parameters")


@pytest.mark.parametrize(("change", "needed"), [({"optimizer": "lion"}, 280), ({"adapter": "lora"}, 70)])
def test_other_optimizers_and_adapters_need_less(change: dict[str, Any], needed: int) -> None:
    plan, prints = fleet({"offload_params": True}, **change)
    memory(prints, needed + 1)
    assert list(rules_fsdp._offload(plan, prints)) == []
    memory(prints, needed - 1)
    assert [finding.hosts for finding in rules_fsdp._offload(plan, prints)] == [("node0", "node1")]


def test_nodes_that_share_a_machine_share_its_memory() -> None:
    plan, prints = fleet({"offload_params": True})
    for fingerprint in prints.values():
        fingerprint["machine"]["identity"] = "one"
    memory(prints, 1100)
    (finding,) = rules_fsdp._offload(plan, prints)
    assert finding.expected.startswith("1120.0 GiB")


@pytest.mark.parametrize("size", [{"bytes": None, "parameters": None}, {"bytes": "x", "parameters": -3}])
def test_a_model_of_unknown_size_asks_nothing(size: dict[str, Any]) -> None:
    plan, prints = fleet({"offload_params": True}, size)
    memory(prints, 1)
    assert nothing(plan, prints)


# The plan's notes


def test_the_plan_says_what_a_step_is() -> None:
    plan, prints = fleet(micro_batch_size=4, gradient_accumulation_steps=2)
    said = "4 x 2 x 16 = 128 samples in each step (micro_batch_size x gradient_accumulation_steps x world_size)"
    assert plan_notes.notes(plan, prints) == [said]
    plan, prints = fleet(micro_batch_size=4, tensor_parallel_size=2)
    assert plan_notes.notes(plan, prints)[0].startswith("4 x 1 x 8 = 32 samples in each step (")
    assert plan_notes.notes(*fleet(micro_batch_size="x")) == []


def test_the_plan_says_what_is_kept_unsharded() -> None:
    plan, prints = fleet({"reshard_after_forward": False})
    note = plan_notes.notes(plan, prints)[1]
    assert note.startswith("reshard_after_forward is false: ")
    assert note.endswith("each GPU holds the whole model, 140.0 GiB instead of 1/16 of it")
    assert plan_notes.notes(*fleet({"reshard_after_forward": False}, {"bytes": None, "parameters": None}))[1].endswith(
        "the whole model"
    )
    assert len(plan_notes.notes(*fleet({"reshard_after_forward": True}))) == 1
