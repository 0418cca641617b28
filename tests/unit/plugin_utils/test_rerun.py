# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken from a run's record, and what keeps a launch from being that run again."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from unit.fleets import FILES, fingerprints, inventory, plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import rerun, rules_preflight, settings
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.rerun import NoRecord


def recorded(**changes: Any) -> dict[str, Any]:
    plan = plan_of(2, **changes)
    plan[rerun.SETTINGS] = rerun.defining(inventory(2, **changes)["node0"])
    return plan


def test_what_defines_a_run_is_a_setting_of_the_fleet() -> None:
    known = {setting.name: setting for setting in settings.SETTINGS}
    assert set(rerun.DEFINING) <= set(known)
    assert not [name for name in rerun.DEFINING if known[name].per_node]
    assert "axolotl_secrets" not in rerun.DEFINING


def test_the_record_says_what_and_the_inventory_where() -> None:
    record = recorded(overrides={"max_steps": 3}, nproc_per_node=4)
    now = {**inventory(1, overrides={"seed": 1}, launcher="accelerate")["node0"], "axolotl_interface": "ib1"}
    found = rerun.variables(now, record, "/artifacts/x/files/train.yml")
    assert found["axolotl_overrides"] == {"max_steps": 3}
    assert found["axolotl_nproc_per_node"] == 4
    assert "axolotl_launcher" not in found, "it was the default then"
    assert (found["axolotl_config"], found["axolotl_interface"]) == ("/artifacts/x/files/train.yml", "ib1")
    assert found["axolotl_root"] == now["axolotl_root"]


def test_an_older_record_does_not_say() -> None:
    with pytest.raises(NoRecord, match="older version"):
        rerun.variables({}, plan_of(1), "x")


def test_the_same_run_differs_in_nothing() -> None:
    assert list(rerun.differences(recorded(), recorded())) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lock_sha256": "b" * 64}, "lock_sha256 bbbb"),
        ({"release_id": "other"}, "release_id other"),
        ({"config": {"src": "x", "sha256": "d" * 64}}, "sha256 dddd"),
        ({"nodes": {"node0": {"rank": 0}}}, "nodes node0"),
        ({"nodes": {"node0": {"rank": 1}, "node1": {"rank": 0}}}, "nodes node1, node0"),
    ],
)
def test_what_differs_is_named_with_both_values(change: dict[str, Any], said: str) -> None:
    (finding,) = rerun.differences(recorded(), {**recorded(), **change})
    assert finding.id == "rerun_differs"
    assert finding.found.startswith(said)
    assert finding.expected.endswith(f"as in run {recorded()['run_id']}")


def test_secrets_are_missed_by_name() -> None:
    record = recorded(secrets={"HF_TOKEN": "s3cr3t", "WANDB_API_KEY": "s3cr3t"})
    assert record["secrets"] == ["HF_TOKEN", "WANDB_API_KEY"]
    assert "s3cr3t" not in str(record)
    (finding,) = rerun.differences(record, recorded(secrets={"HF_TOKEN": "other"}))
    assert finding.found == "without WANDB_API_KEY"


def test_other_data_is_named() -> None:
    plan = plan_of(2, FILES._replace(config={"datasets": [{"path": "/srv/data"}]}))
    prints = fingerprints(plan)
    (name,) = prints["node0"]["inputs"]
    digest = prints["node0"]["inputs"][name]["digest"]
    plan["rerun"] = {"run_id": "then", "data": {name: digest, "gone": "e" * 64}}
    assert rules_preflight.examine(plan, prints) == []
    changed = copy.deepcopy(plan)
    changed["rerun"]["data"][name] = "e" * 64
    (finding,) = rules_preflight.examine(changed, prints)
    assert (finding.id, finding.found) == ("rerun_data", digest[:12])
