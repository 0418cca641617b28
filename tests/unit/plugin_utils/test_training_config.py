# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The config as the training will see it: overrides count, secrets don't show, and no YAML is too much for it."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from unit.fleets import FILES, plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import training_config
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.config_difference import Unreadable


def plan_with(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return plan_of(2, FILES._replace(config=config), **changes)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"max_steps": 2}, {"max_steps": 2, "fsdp_config": {"offload_params": True}}),
        ({"max-steps": 2}, {"max_steps": 2, "fsdp_config": {"offload_params": True}}),
        ({"fsdp_config": {"offload_params": False}}, {"max_steps": 9, "fsdp_config": {"offload_params": False}}),
        ({"fsdp_config.version": 2}, {"max_steps": 9, "fsdp_config": {"offload_params": True, "version": 2}}),
        ({"trl": {"beta": 1}}, {"max_steps": 9, "fsdp_config": {"offload_params": True}, "trl": {"beta": 1}}),
        ({"max_steps": {"a": 1}}, {"max_steps": {"a": 1}, "fsdp_config": {"offload_params": True}}),
    ],
)
def test_overrides_stand_over_the_config(overrides: dict[str, Any], expected: dict[str, Any]) -> None:
    config = {"max_steps": 9, "fsdp_config": {"offload_params": True}}
    assert training_config.effective(config, overrides) == expected
    assert config == {"max_steps": 9, "fsdp_config": {"offload_params": True}}


def test_secrets_are_masked_and_what_json_has_not_is_text() -> None:
    config = {
        "hub_token": "hf_0123456789abcdefghij",
        "wandb": {"api_key": ["a"]},
        "special_tokens": {"pad_token": "<pad>"},
        "base_model": "https://me:hunter22@example.org/model",
        "day": datetime.date(2026, 1, 2),
        "few": {1},
        "learning_rate": float("nan"),
        7: None,
        "much": 1 << 20000,
    }
    found = training_config.effective(config, {})
    assert found == {
        "hub_token": "********",
        "wandb": {"api_key": "********"},
        "special_tokens": {"pad_token": "<pad>"},
        "base_model": "https://********@example.org/model",
        "day": "2026-01-02",
        "few": [1],
        "learning_rate": "nan",
        "7": None,
        "much": "a number of 20001 bits",
    }
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("&a [*a]", "more than 32 levels"),
        ("&a {a: *a}", "more than 32 levels"),
        ("".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]\n" for n in range(9)), "20000 values"),
    ],
)
def test_a_bomb_is_refused(text: str, said: str) -> None:
    config = yaml.safe_load(text)
    with pytest.raises(Unreadable, match=said):
        training_config.effective({"config": config}, {})


@pytest.mark.parametrize(
    ("config", "version", "kinds"),
    [
        ({}, "", None),
        ({"fsdp_version": 2}, "2", None),
        ({"fsdp_config": {"offload_params": True}}, "", "FULL_STATE_DICT"),
        ({"fsdp_config": {"fsdp_version": 2}}, "2", "SHARDED_STATE_DICT"),
        ({"fsdp_config": {"version": "2"}}, "2", "SHARDED_STATE_DICT"),
        ({"fsdp_version": 2, "fsdp_config": {"fsdp_state_dict_type": "FULL_STATE_DICT"}}, "2", "FULL_STATE_DICT"),
    ],
)
def test_what_fsdp_takes_where_nothing_is_said(config: dict[str, Any], version: str, kinds: str | None) -> None:
    plan = plan_with(config)
    assert training_config.fsdp_version(plan) == version
    wanted = {"state_dict_type": kinds, "final_state_dict_type": kinds} if kinds else {}
    assert training_config.state_dict_types(plan) == wanted


def test_the_final_model_may_be_saved_in_another_way() -> None:
    plan = plan_with({"fsdp_version": 2, "fsdp_config": {"final_state_dict_type": "FULL_STATE_DICT"}})
    assert list(training_config.state_dict_types(plan).values()) == ["SHARDED_STATE_DICT", "FULL_STATE_DICT"]


@pytest.mark.parametrize(
    ("config", "factors"),
    [
        ({}, [1, 1, 16]),
        ({"micro_batch_size": 4, "gradient_accumulation_steps": "3"}, [4, 3, 16]),
        ({"micro_batch_size": 4, "tensor_parallel_size": 2, "context_parallel_size": 4}, [4, 1, 2]),
        ({"micro_batch_size": "many"}, []),
        ({"micro_batch_size": 0}, []),
        ({"micro_batch_size": True}, []),
        ({"micro_batch_size": 2, "batch_size": 8}, []),
    ],
)
def test_the_samples_of_a_step(config: dict[str, Any], factors: list[int]) -> None:
    assert list(training_config.samples_per_step(plan_with(config)).values()) == factors


def test_an_override_counts_there_too() -> None:
    plan = plan_with({"micro_batch_size": 4}, overrides={"micro_batch_size": 2})
    assert training_config.samples_per_step(plan)["micro_batch_size"] == 2


KEYS = st.sampled_from(
    ["fsdp_config", "fsdp_version", "micro_batch_size", "bf16", "version", "state_dict_type", "x", 1]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=3) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=9,
)


@given(config=st.dictionaries(KEYS, VALUES, max_size=6))
def test_whatever_stands_in_it_nothing_is_raised(config: dict[Any, Any]) -> None:
    plan = plan_with(config)
    json.dumps(plan, allow_nan=False)
    training_config.fsdp(plan)
    training_config.fsdp_version(plan)
    training_config.state_dict_types(plan)
    training_config.is_mixed_precision(plan)
    training_config.samples_per_step(plan)
