# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Overrides as arguments; no shell ever sees them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.override_options import (
    InvalidOverride,
    module_options,
    override_options,
)


@pytest.mark.parametrize(
    "value",
    [
        "two words",
        " leading and trailing ",
        "it's",
        'say "x"',
        "$(touch /tmp/x)",
        "`id`",
        "a; b && c | d > e",
        "line\nbreak",
        "*?[a]",
        "--nnodes=4",
        "a=b",
        "",
        "é\u2028",
    ],
)
def test_a_value_stays_one_argument_whatever_is_in_it(value: str) -> None:
    assert override_options({"wandb_name": value}) == [f"--wandb-name={value}"]
    assert module_options({"wandb_name": value}) == [f"--wandb-name={value}"]


@given(st.text().filter(lambda text: "\0" not in text))
def test_any_text_stays_one_argument(value: str) -> None:
    assert override_options({"wandb_name": value}) == ["--wandb-name=" + value]


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        ({"flash_attention": True}, ["--flash-attention"]),
        ({"flash_attention": False}, ["--no-flash-attention"]),
        ({"learning_rate": 1e-05}, ["--learning-rate=1e-05"]),
        ({"learning_rate": "2e-5"}, ["--learning-rate=2e-5"]),
        ({"seed": 0}, ["--seed=0"]),
        ({"a": {"b_c": {"d": 1}, "e": "x"}, "f": 2}, ["--a.b-c.d=1", "--a.e=x", "--f=2"]),
        ({}, []),
    ],
)
def test_how_a_value_is_written(overrides: dict[str, Any], options: list[str]) -> None:
    assert override_options(overrides) == options


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        ({"flash_attention": False}, ["--flash-attention=False"]),
        (
            {"fsdp_config": {"offload_params": True}, "max_steps": 2},
            ["--fsdp-config--offload-params=True", "--max-steps=2"],
        ),
    ],
)
def test_how_the_module_takes_a_value(overrides: dict[str, Any], options: list[str]) -> None:
    assert module_options(overrides) == options


@pytest.mark.parametrize(
    "key",
    [
        "nnodes",
        "nproc_per_node",
        "nproc-per-node",
        "rdzv_id",
        "master_addr",
        "max_restarts",
        "log_dir",
        "tee",
        "module",
    ],
)
def test_keys_that_torchrun_would_take_for_its_own_are_refused(key: str) -> None:
    with pytest.raises(InvalidOverride, match="launcher"):
        override_options({key: "x"})


@pytest.mark.parametrize("key", ["launcher", "use_ray", "num_processes", "sweep", "config"])
def test_options_of_axolotl_itself_are_refused(key: str) -> None:
    with pytest.raises(InvalidOverride, match="launch"):
        override_options({key: "x"})


@pytest.mark.parametrize("key", ["", "a b", "a=b", "a;b", "--", "a..b", ".a", "a\n"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidOverride, match="is no config key"):
        override_options({key: "x"})


@pytest.mark.parametrize("value", [None, ["a"], ("a",), [], "nul\0"])
def test_what_has_no_form_on_the_command_line_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOverride, match="set it in the config"):
        override_options({"datasets": value})
    with pytest.raises(InvalidOverride):
        override_options({"nested": {"deeper": value}})
