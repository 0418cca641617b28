# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with an inventory whose settings are each valid by itself is found, all at once."""

from __future__ import annotations

from typing import Any

import pytest
from unit.fleets import FILES, RUN, inventory, plan_of, values_of, with_each

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import launch_plan, plan_checks


def checked(variables: dict[str, dict[str, Any]]) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.id, finding.hosts) for finding in plan_checks.check(values_of(variables))]


def test_a_good_fleet_has_no_findings() -> None:
    assert checked(inventory(1)) == checked(inventory(3)) == []


def test_ranks_are_positions_unless_they_are_given() -> None:
    assert launch_plan.ranks(values_of(inventory(3))) == {"node0": 0, "node1": 1, "node2": 2}
    given = values_of(with_each("node_rank", 2, 0, 1))
    assert launch_plan.ranks(given) == {"node0": 2, "node1": 0, "node2": 1}
    assert plan_checks.check(given) == []


@pytest.mark.parametrize(
    ("ranks", "rule", "nodes"),
    [
        ((0, None, 1), "rank_missing", ("node1",)),
        ((None, 0), "rank_missing", ("node0",)),
        ((0, 1, 1), "rank_invalid", ("node1", "node2")),
        ((0, 2), "rank_invalid", ("node1",)),
        ((1, 2), "rank_invalid", ("node1",)),
        ((0, 0), "rank_invalid", ("node0", "node1")),
        ((5,), "rank_invalid", ("node0",)),
    ],
)
def test_ranks_that_make_no_world(ranks: tuple[int | None, ...], rule: str, nodes: tuple[str, ...]) -> None:
    assert checked(with_each("node_rank", *ranks)) == [(rule, nodes)]


def test_the_wrong_ranks_are_shown() -> None:
    (finding,) = plan_checks.check(values_of(with_each("node_rank", 0, 1, 1)))
    assert finding.found == "node1: 1, node2: 1"
    assert finding.expected == "each rank from 0 to 2 exactly once"
    assert "axolotl_node_rank" in finding.remedy


def test_roots_differ_only_on_one_machine() -> None:
    variables = with_each("root", "/opt/a", "/opt/b")
    assert checked(variables) == [("root_differs", ("node0", "node1"))]
    for known in variables.values():
        known["axolotl_machine"] = "one"
    assert checked(variables) == []


def test_nodes_on_one_machine_need_a_root_each() -> None:
    variables = inventory(3)
    for node in ("node0", "node2"):
        variables[node]["axolotl_machine"] = "one"
    assert checked(variables) == [("root_shared", ("node0", "node2"))]


def test_a_shared_root_is_one_for_all_nodes() -> None:
    variables = inventory(3, storage="shared")
    assert checked(variables) == []
    for known in variables.values():
        known["axolotl_machine"] = "one"
    assert checked(variables) == []
    variables["node2"]["axolotl_root"] = "/opt/other"
    (finding,) = plan_checks.check(values_of(variables))
    assert (finding.id, finding.hosts, finding.found) == ("root_differs", ("node2",), "node2: /opt/other")


def test_the_two_ports_differ() -> None:
    variables = inventory(2, master_port=29501)
    assert checked(variables) == [("port_twice", ())]


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "MY_PASSWORD"])
def test_secrets_have_a_place_of_their_own(name: str) -> None:
    variables = inventory(2, environment={name: "s3cr3t", "NCCL_DEBUG": "INFO", "TOKENIZERS_PARALLELISM": "false"})
    (finding,) = plan_checks.check(values_of(variables))
    assert (finding.id, finding.found) == ("secret_exposed", f"{name} in axolotl_environment")
    assert "axolotl_secrets" in finding.remedy
    assert "s3cr3t" not in str(finding)


def test_each_bad_override_is_a_finding() -> None:
    variables = inventory(2, overrides={"max_steps": 3, "nnodes": 4, "datasets": [1]})
    assert checked(variables) == [("override_invalid", ()), ("override_invalid", ())]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.1.1", "::1", "localhost"])
def test_other_machines_do_not_reach_a_head_on_loopback(address: str) -> None:
    variables = with_each("address", address, None)
    assert checked(variables) == [("head_loopback", ("node0",))]
    variables = with_each("address", None, address)
    assert checked(variables) == []
    variables = with_each("address", address, None)
    for node, known in variables.items():
        known.update(axolotl_machine="one", axolotl_root=f"/opt/{node}")
    assert checked(variables) == []


def test_the_head_is_who_has_rank_0() -> None:
    variables = with_each("node_rank", 1, 0)
    variables["node1"]["axolotl_address"] = "127.0.0.1"
    assert checked(variables) == [("head_loopback", ("node1",))]


def test_all_that_is_wrong_comes_at_once() -> None:
    variables = with_each("node_rank", 0, 0)
    for known in variables.values():
        known.update(axolotl_master_port=29501, axolotl_environment={"HF_TOKEN": "x"})
    assert [rule for rule, _unused in checked(variables)] == ["rank_invalid", "port_twice", "secret_exposed"]


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("repository", "https://me:s3cr3t@example.org/a.git", "a credential in axolotl_repository"),
        ("repository", "https://ghp_s3cr3t@example.org/a.git", "a credential in axolotl_repository"),
        ("requirements", ["x @ https://me:s3cr3t@example.org/x.whl"], "a credential in axolotl_requirements"),
        (
            "training_files",
            [{"url": "https://example.org/x?X-Amz-Signature=s3cr3t", "sha256": "0" * 64, "dest": "x"}],
            "a credential in axolotl_training_files",
        ),
        (
            "training_files",
            [{"git": "https://me:s3cr3t@example.org/x", "revision": "0" * 40, "dest": "x"}],
            "a credential in axolotl_training_files",
        ),
        ("overrides", {"a": {"b": {"hub_token": "s3cr3t"}}}, "hub_token in axolotl_overrides"),
        ("environment", {"HF_TOKEN": "s3cr3t"}, "HF_TOKEN in axolotl_environment"),
    ],
)
def test_secrets_outside_their_place_are_refused_and_not_shown(name: str, value: Any, found: str) -> None:
    (finding,) = plan_checks.check(values_of(inventory(2, **{name: value})))
    assert (finding.id, finding.found) == ("secret_exposed", found)
    assert "s3cr3t" not in str(finding)


@pytest.mark.parametrize("url", ["ssh://git@example.org/a.git", "git@example.org:a.git", "https://example.org/a@b.git"])
def test_a_url_without_a_credential_is_none(url: str) -> None:
    assert checked(inventory(1, repository=url)) == []


def test_infiniband_is_for_the_role_as_it_stands_in_the_settings() -> None:
    variables = inventory(2)
    for known in variables.values():
        known.update(infiniband_provider="doca", infiniband_doca_version="3.2.1", infiniband_doca_key="keys/doca.asc")
    assert checked(variables) == []
    assert launch_plan.build(values_of(variables), FILES, RUN)["infiniband"] == {
        "provider": "doca",
        "doca_version": "3.2.1",
        "doca_key": "/project/keys/doca.asc",
        "doca_repository": "https://linux.mellanox.com/public/repo/doca",
        "reboot": False,
    }
    assert plan_of(1)["infiniband"]["provider"] == "none"


def test_doca_needs_a_version_and_a_key() -> None:
    variables = inventory(2)
    for known in variables.values():
        known["infiniband_provider"] = "doca"
    findings = plan_checks.check(values_of(variables))
    assert [finding.id for finding in findings] == ["setting_missing"] * 2
    assert [finding.expected.partition(":")[0] for finding in findings] == [
        "infiniband_doca_version",
        "infiniband_doca_key",
    ]
    for known in variables.values():
        known["infiniband_provider"] = "inbox"
    assert checked(variables) == []
