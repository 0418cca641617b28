# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a config: each fault, planted alone in a clean one, gives its finding and no other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.fleets import FILES, fingerprints, plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import (
    rules_config,
    rules_fsdp,
    rules_preflight,
    training_config,
)
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding

CONFIG: dict[str, Any] = {
    "micro_batch_size": 2,
    "learning_rate": 0.1,
    "datasets": [{"path": "/srv/data", "type": "alpaca"}],
    "model_kwargs": {"whatever": 1},
    "output_dir": "./out",
}
KEYS = {
    "": [*CONFIG, "lora_r", "fsdp_config", "fsdp_version", "deepspeed", "optimizer", "plugins", "max_steps"],
    "fsdp_config": ["offload_params", "state_dict_type", "final_state_dict_type", "fsdp_version"],
    "datasets": ["path", "type", "split"],
}
Prints = dict[str, dict[str, Any]]


def fleet(config: dict[str, Any] | None = None, **changes: Any) -> tuple[dict[str, Any], Prints]:
    """A fleet whose release knows KEYS and refuses nothing."""
    plan = plan_of(3, FILES._replace(config={**CONFIG, **(config or {})}), **changes)
    prints = fingerprints(plan)
    prints["node0"]["schema"]["keys"] = copy.deepcopy(KEYS)
    return plan, prints


def examine(plan: dict[str, Any], prints: Prints) -> list[Finding]:
    return rules_preflight.examine(plan, prints)


def only(plan: dict[str, Any], prints: Prints) -> Finding:
    (finding,) = examine(plan, prints)
    return finding


def test_a_clean_config_has_no_findings() -> None:
    assert examine(*fleet()) == []


# What Axolotl refuses


def test_what_axolotl_refuses_is_said_in_its_words() -> None:
    plan, prints = fleet()
    prints["node0"]["schema"]["refused"] = [["lora_r", "Input should be a valid integer"], ["", "Value error, no\nway"]]
    finding = only(plan, prints)
    assert (finding.id, finding.severity, finding.hosts) == ("config_refused", "error", ())
    assert finding.found == "lora_r: Input should be a valid integer; no\\nway"


def test_what_was_asked_of_another_config_does_not_count() -> None:
    plan, prints = fleet()
    prints["node0"]["schema"]["refused"] = [["lora_r", "Input should be a valid integer"]]
    prints["node0"]["config"]["sha256"] = "0" * 64
    assert only(plan, prints).id == "config"


# Keys


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"learning_rat": 1}, "learning_rat (did you mean learning_rate?)"),
        ({"per_device_train_batch_size": 1}, "per_device_train_batch_size (did you mean micro_batch_size?)"),
        ({"lr": 1}, "lr (did you mean learning_rate?)"),
        ({"fsdp_config": {"offlod_params": 1}}, "fsdp_config.offlod_params (did you mean fsdp_config.offload_params?)"),
        (
            {"fsdp_config": {"fsdp_offlod_params": 1}},
            "fsdp_config.fsdp_offlod_params (did you mean fsdp_config.offload_params?)",
        ),
        ({"offload_params": True}, "offload_params (did you mean fsdp_config.offload_params?)"),
        ({"fsdp_config": {"optimizer": "x"}}, "fsdp_config.optimizer (did you mean optimizer at the top?)"),
        ({"datasets": [{"path": "/x"}, {"typ": "x"}]}, "datasets[1].typ (did you mean datasets.type?)"),
    ],
)
def test_a_key_that_may_be_another_is_an_error(config: dict[str, Any], found: str) -> None:
    finding = only(*fleet({**config, "fsdp_version": 1, "output_dir": ""}))
    assert (finding.id, finding.severity, finding.hosts, finding.found) == ("config_key_unknown", "error", (), found)


def test_a_key_that_is_like_no_other_is_a_warning() -> None:
    finding = only(*fleet({"my_own_note": 1, "fsdp_config": {"limit_all_gathers": True}, "fsdp_version": 1}))
    assert (finding.id, finding.severity) == ("config_key_unknown", "warning")
    assert finding.found == "my_own_note; fsdp_config.limit_all_gathers"


def test_the_old_prefix_and_what_takes_anything_are_known() -> None:
    assert examine(*fleet({"fsdp_config": {"fsdp_offload_params": False}, "fsdp_version": 1})) == []


def test_another_plugins_keys_may_stand_at_the_top() -> None:
    plan, prints = fleet({"plugins": ["mine.Plugin"], "mine": 1, "fsdp_config": {"x_y_z": 1}, "fsdp_version": 1})
    prints["node0"]["schema"]["foreign_plugins"] = ["mine.Plugin"]
    assert only(plan, prints).found == "fsdp_config.x_y_z"


def test_an_override_that_goes_to_torchrun_is_one_finding() -> None:
    plan, prints = fleet(overrides={"max_stepz": 1, "fsdp_config.x_y": False}, axolotl_config="x")
    prints["node0"]["release"]["unknown_options"] = ["--max-stepz", "--no-fsdp-config.x-y"]
    assert {finding.id for finding in examine(plan, prints)} == {"override_unknown", "fsdp_version"}


def test_an_override_with_a_wrong_key_that_the_options_let_pass() -> None:
    assert only(*fleet(overrides={"learning_rat": 1})).id == "config_key_unknown"


def test_of_very_many_keys_some_are_looked_up() -> None:
    plan, prints = fleet({f"learning_rate{number}": 1 for number in range(2000)})
    assert [finding.severity for finding in examine(plan, prints)] == ["error", "warning"]


@pytest.mark.parametrize("keys", [None, {}, {"": []}])
def test_where_axolotl_was_not_asked_nothing_is_said_of_keys(keys: Any) -> None:
    plan, prints = fleet({"learning_rat": 1})
    prints["node0"]["schema"]["keys"] = keys
    assert examine(plan, prints) == []


# What does not go together


def test_deepspeed_beside_fsdp() -> None:
    plan, prints = fleet({"deepspeed": {"zero_optimization": {}}, "fsdp_config": {"offload_params": False}}, root="/a")
    prints["node0"]["schema"]["keys"] = None
    plan["config"]["values"]["fsdp_version"] = 1
    finding = only(plan, prints)
    assert (finding.id, finding.found) == ("deepspeed_with_fsdp", "deepspeed and fsdp_config")
    plan["config"]["values"].pop("fsdp_config")
    assert examine(plan, prints) == []
    plan["config"]["values"]["fsdp"] = ["full_shard"]
    prints["node0"]["schema"]["refused"] = [["", "deepspeed and fsdp cannot be used together."]]
    assert only(plan, prints).id == "config_refused"


SHARDED = {"fsdp_version": 2, "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}}
LAST_SHARDED = {
    "fsdp_version": 2,
    "fsdp_config": {"state_dict_type": "FULL_STATE_DICT", "final_state_dict_type": "SHARDED_STATE_DICT"},
}
NOT_SAID = {"fsdp_version": 2, "fsdp_config": {"offload_params": False}}
FULL = {"fsdp_version": 2, "fsdp_config": {"state_dict_type": "FULL_STATE_DICT"}}
LOCAL_1 = {"fsdp_version": 1, "fsdp_config": {"state_dict_type": "LOCAL_STATE_DICT"}}
RESUMED = {"auto_resume_from_checkpoints": True}


@pytest.mark.parametrize("config", [SHARDED, LAST_SHARDED, NOT_SAID, LOCAL_1, RESUMED])
def test_parts_of_a_checkpoint_need_one_place(config: dict[str, Any]) -> None:
    plan, prints = fleet(config)
    prints["node0"]["schema"]["keys"] = None
    finding = only(plan, prints)
    assert (finding.id, finding.severity, finding.hosts) == ("checkpoint_storage", "error", ())
    assert "/opt/axolotl/work/out" in finding.found
    assert [found.id for found in rules_config._checkpoints({**plan, "storage": "shared"}, prints)] == []
    alone = {**plan, "nodes": {"node0": plan["nodes"]["node0"]}}
    assert list(rules_config._checkpoints(alone, prints)) == []


def test_a_place_of_which_nobody_has_said_what_it_is() -> None:
    for storage in ("local", "shared"):
        plan, prints = fleet({**RESUMED, "output_dir": "/mnt/out"}, storage=storage)
        (finding,) = rules_config._checkpoints(plan, prints)
        assert (finding.id, finding.severity) == ("checkpoint_storage", "warning")
        assert "/mnt/out" in finding.found


def test_one_that_is_written_by_one_needs_none() -> None:
    plan, prints = fleet(FULL)
    assert list(rules_config._checkpoints(plan, prints)) == []


def test_ray_needs_it_too() -> None:
    plan, prints = fleet()
    (finding,) = rules_config._checkpoints({**plan, "launcher": "ray"}, prints)
    assert finding.found.startswith("Ray's workers write to one folder, but")


def test_a_default_config_of_accelerate() -> None:
    plan, prints = fleet()
    path = "/opt/axolotl/work/.cache/huggingface/accelerate/default_config.yaml"
    prints["node2"]["accelerate"]["default_config"] = path
    finding = only(plan, prints)
    assert (finding.id, finding.severity, finding.hosts) == ("accelerate_config", "warning", ("node2",))
    assert finding.found == path


# Hostile values

OTHERS = """fsdp_config learning_rat auto_wrap_policy fsdp a.b transformer_layer_cls_to_wrap use_ray bf16 min_num_params
auto_resume_from_checkpoints reshard_after_forward micro_batch_size"""
NAMES = st.sampled_from([*KEYS[""], *KEYS["fsdp_config"], *OTHERS.split(), "x" * 5000, "", "\n\x1b["])
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["SHARDED_STATE_DICT", "FULL_STATE_DICT", "LOCAL_STATE_DICT", "SIZE_BASED_WRAP", "adamw_8bit"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(config=st.dictionaries(NAMES, ANY, max_size=8))
def test_whatever_stands_there_no_rule_fails(config: dict[str, Any]) -> None:
    plan, prints = fleet()
    plan["config"]["values"] = training_config.effective(config, {})
    plan["nodes"]["node0"]["paths"]["output_dir"] = str(config.get("output_dir", ""))
    findings = [finding for rule in (*rules_config.RULES, *rules_fsdp.RULES) for finding in rule(plan, prints)]
    for finding in findings:
        for text in (finding.expected, finding.found, finding.remedy):
            assert text.isprintable()
            assert len(text) < 5000
    rules_fsdp.unsharded(plan, prints)
