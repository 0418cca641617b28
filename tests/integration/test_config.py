# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A config is held against the real Axolotl of the release, its transformers, and the model on the nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.fleet import LOCAL, PROJECT, Fleet

NAME = "contradictions.yml"
FSDP = {"auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "state_dict_type": "FULL_STATE_DICT"}
ON_PURPOSE = {"runs_as_root"}
"""What the tests' own account may bring along."""


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Writes a config with changes on the controller, and on the nodes, as provision does; gives its path."""
    copies = [LOCAL / node / "work" / NAME for node in ("node0", "node1")]

    def write(**changes: Any) -> str:
        text = yaml.safe_dump({**yaml.safe_load((PROJECT / "configs" / "tiny.yml").read_text()), **changes})
        for path in (tmp_path / NAME, *copies):
            path.write_text(text)
        return str(tmp_path / NAME)

    yield write
    for path in copies:
        path.unlink(missing_ok=True)


def test_every_contradiction_is_one_finding(fleet: Fleet, config: Callable[..., str]) -> None:
    wrong = config(
        learning_rat=0.1,
        per_device_train_batch_size=4,
        optimizer="paged_adamw_8bit",
        auto_resume_from_checkpoints=True,
        deepspeed={"zero_optimization": {"stage": 1}},
        fsdp_version=2,
        fsdp_config={
            **FSDP,
            "offlod_params": True,
            "transformer_layer_cls_to_wrap": "MistralDecoderLayer",
            "final_state_dict_type": "LOCAL_STATE_DICT",
            "limit_all_gathers": True,
        },
    )
    outcome = fleet.run("preflight", axolotl_config=wrong)
    assert outcome.rc != 0
    assert sorted(outcome.errors) == [
        "checkpoint_storage",
        "config_key_unknown",
        "deepspeed_with_fsdp",
        "fsdp_optimizer",
        "fsdp_state_dict",
        "fsdp_wrap_class",
    ]
    unknown, harmless = [row for row in outcome.artifact["findings"] if row["id"] == "config_key_unknown"]
    for name, meant in (
        ("fsdp_config.offlod_params", "fsdp_config.offload_params"),
        ("learning_rat", "learning_rate"),
        ("per_device_train_batch_size", "micro_batch_size"),
    ):
        assert f"{name} (did you mean {meant}?)" in unknown["found"]
    assert (harmless["severity"], harmless["found"]) == ("warning", "fsdp_config.limit_all_gathers")
    assert "LlamaDecoderLayer" in outcome.finding("fsdp_wrap_class")["expected"]


def test_what_axolotl_refuses_with_the_overrides_over_it(fleet: Fleet) -> None:
    left = LOCAL / "node1" / "work" / ".cache" / "huggingface" / "accelerate" / "default_config.yaml"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_text("num_machines: 1\n")
    try:
        overrides = {"fsdp_version": 2, "fsdp_config": {**FSDP, "auto_wrap_policy": "SIZE_BASED_WRAP"}}
        outcome = fleet.run("preflight", axolotl_overrides=overrides)
    finally:
        left.unlink()
    found = {row["id"]: row for row in outcome.artifact["findings"] if row["id"] not in ON_PURPOSE}
    assert set(found) == {"config_refused", "accelerate_config"}
    assert "min_num_params" in found["config_refused"]["found"]
    assert found["accelerate_config"]["hosts"] == ["node1"]


def test_the_example_for_gpus_is_taken(fleet: Fleet, config: Callable[..., str]) -> None:
    """But for what a machine without GPUs has not: it is asked of the model of the tests."""
    example = yaml.safe_load((PROJECT / "configs" / "llama-fsdp2.yml").read_text())
    here = {"base_model": "./model", "datasets": [{"path": "./data.jsonl", "ds_type": "json", "type": "alpaca"}]}
    outcome = fleet.run("preflight", axolotl_config=config(**{**example, **here}))
    assert {row["id"] for row in outcome.artifact["findings"]} <= ON_PURPOSE
