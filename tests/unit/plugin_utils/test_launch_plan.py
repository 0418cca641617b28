# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launch plan: who has which rank and runs what, and what is wrong with settings that are each valid."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.fleets import COMMIT, CONFIG, FILES, LOCK, RUN, inventory, plan_of, values_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import launch_plan


def checked(variables: dict[str, dict[str, Any]]) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.id, finding.hosts) for finding in launch_plan.check(values_of(variables))]


def with_each(name: str, *values: Any) -> dict[str, dict[str, Any]]:
    """A fleet with one value of a setting for each node; None for a node that has none."""
    variables = inventory(len(values))
    for node, value in zip(variables, values, strict=True):
        if value is not None:
            variables[node][f"axolotl_{name}"] = value
    return variables


def test_a_good_fleet_has_no_findings() -> None:
    assert checked(inventory(1)) == checked(inventory(3)) == []


def test_ranks_are_positions_unless_they_are_given() -> None:
    assert launch_plan.ranks(values_of(inventory(3))) == {"node0": 0, "node1": 1, "node2": 2}
    given = values_of(with_each("node_rank", 2, 0, 1))
    assert launch_plan.ranks(given) == {"node0": 2, "node1": 0, "node2": 1}
    assert launch_plan.check(given) == []


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
    (finding,) = launch_plan.check(values_of(with_each("node_rank", 0, 1, 1)))
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
    (finding,) = launch_plan.check(values_of(variables))
    assert (finding.id, finding.hosts, finding.found) == ("root_differs", ("node2",), "node2: /opt/other")


def test_on_shared_storage_one_node_writes_and_runs_lie_apart() -> None:
    values = values_of(inventory(3, storage="shared"))
    plan = launch_plan.build(values, FILES, RUN, "node1")
    assert (plan["storage"], plan["writer"]) == ("shared", "node1")
    assert [node for node, part in plan["nodes"].items() if part["writes"]] == ["node1"]
    for node, part in plan["nodes"].items():
        assert part["paths"]["runs"] == f"/opt/axolotl/runs/{node}"
        assert part["paths"]["run"] == f"/opt/axolotl/runs/{node}/{RUN}"
        assert launch_plan.node_paths(node, values[node]).runs == part["paths"]["runs"]
    assert len({part["paths"]["work"] for part in plan["nodes"].values()}) == 1
    local = plan_of(3)
    assert (local["storage"], local["writer"]) == ("local", "node0")
    assert all(part["writes"] for part in local["nodes"].values())
    assert local["nodes"]["node1"]["paths"]["runs"] == "/opt/axolotl/runs"


@pytest.mark.parametrize(
    ("dest", "once"),
    [
        ("data", True),
        ("../data", True),
        ("../../data", False),
        ("/opt/axolotl/model", True),
        ("/opt/axolotl2/model", False),
        ("/data/model", False),
    ],
)
def test_a_training_file_on_the_shared_root_comes_once(dest: str, once: bool) -> None:
    files = [{"src": "x", "dest": dest}]
    assert plan_of(2, storage="shared", training_files=files)["training_files"][0]["once"] is once
    assert plan_of(2, training_files=files)["training_files"][0]["once"] is False


def test_the_two_ports_differ() -> None:
    variables = inventory(2, master_port=29501)
    assert checked(variables) == [("port_twice", ())]


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "MY_PASSWORD"])
def test_secrets_have_a_place_of_their_own(name: str) -> None:
    variables = inventory(2, environment={name: "s3cr3t", "NCCL_DEBUG": "INFO", "TOKENIZERS_PARALLELISM": "false"})
    (finding,) = launch_plan.check(values_of(variables))
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


def test_the_plan_of_two_nodes() -> None:
    plan = plan_of(2, environment={"NCCL_DEBUG": "INFO"}, secrets={"HF_TOKEN": "s3cr3t"}, overrides={"max_steps": 3})
    assert (plan["run_id"], plan["commit"], plan["lock_sha256"]) == (RUN, COMMIT, LOCK)
    assert (plan["nnodes"], plan["nproc_per_node"], plan["world_size"]) == (2, 8, 16)
    assert (plan["head"], plan["head_address"]) == ("node0", "node0")
    assert plan["release_id"].startswith(COMMIT[:12] + "-")
    assert plan["config"] == {"src": "/project/configs/train.yml", "sha256": CONFIG}
    release = f"/opt/axolotl/releases/{plan['release_id']}"
    for rank, node in enumerate(("node0", "node1")):
        part = plan["nodes"][node]
        assert (part["rank"], part["machine"], part["address"]) == (rank, node, node)
        assert part["paths"]["release"] == release
        assert part["paths"]["config"] == "/opt/axolotl/work/train.yml"
        assert part["paths"]["output_dir"] == "/opt/axolotl/work/out"
        assert part["paths"]["run"] == f"/opt/axolotl/runs/{RUN}"
        start = part["start"]
        assert (start["node"], start["node_rank"], start["fleet"]) == (node, rank, ["node0", "node1"])
        assert start["argv"] == [
            f"{release}/venv/bin/axolotl",
            *("train", "/opt/axolotl/work/train.yml", "--launcher", "torchrun", "--max-steps=3", "--"),
            *("--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "8"),
            *("--master-addr", "node0", "--master-port", "29500"),
        ]
        assert start["environment"]["PATH"].split(":")[0] == f"{release}/venv/bin"
        assert start["environment"]["NCCL_DEBUG"] == "INFO"
        assert start["work_dir"] == start["environment"]["HOME"] == "/opt/axolotl/work"
    text = json.dumps(plan)
    assert "s3cr3t" not in text
    assert "HF_TOKEN" not in text


def test_nodes_stand_in_the_order_of_their_ranks() -> None:
    plan = launch_plan.build(values_of(with_each("node_rank", 2, 0, 1)), FILES, RUN)
    assert list(plan["nodes"]) == ["node1", "node2", "node0"]
    assert plan["head"] == "node1"
    assert plan["nodes"]["node0"]["start"]["fleet"] == ["node1", "node2", "node0"]


def test_without_a_lock_there_is_no_release_and_nothing_to_start() -> None:
    plan = plan_of(files=FILES._replace(lock_sha256=None))
    assert plan["release_id"] is None
    for part in plan["nodes"].values():
        assert part["start"] is None
        assert part["paths"]["release"] is None


def test_an_output_folder_may_be_absolute_or_missing() -> None:
    absolute = plan_of(files=FILES._replace(config={"output_dir": "/data/out"}))
    assert absolute["nodes"]["node0"]["paths"]["output_dir"] == "/data/out"
    missing = plan_of(files=FILES._replace(config={}))
    assert missing["nodes"]["node0"]["paths"]["output_dir"] == ""


def test_an_override_of_the_output_folder_counts() -> None:
    plan = plan_of(overrides={"output_dir": "other"})
    assert plan["nodes"]["node0"]["paths"]["output_dir"] == "/opt/axolotl/work/other"


def test_the_releases_programs_come_first_whatever_path_is_wanted() -> None:
    part = plan_of(environment={"PATH": "/opt/bin"})["nodes"]["node0"]
    assert part["start"]["environment"]["PATH"] == f"{part['paths']['release']}/venv/bin:/opt/bin"


def test_the_options_that_the_launch_uses_are_listed_for_the_check() -> None:
    assert plan_of(overrides={"max_steps": 3, "flash_attention": False})["train_options"] == [
        "--max-steps",
        "--no-flash-attention",
    ]


def test_sources_are_meant_from_where_the_command_is_run() -> None:
    entries = [{"src": "data", "dest": "d"}, {"src": "/abs", "dest": "e"}, {"dest": "/mnt/f", "storage": "shared"}]
    assert [entry["src"] for entry in plan_of(training_files=entries)["training_files"]] == [
        "/project/data",
        "/abs",
        "",
    ]


def test_each_node_writes_on_storage_of_its_own() -> None:
    plan = plan_of()
    assert [node["writes"] for node in plan["nodes"].values()] == [True, True]
    assert {node["paths"]["runs"] for node in plan["nodes"].values()} == {"/opt/axolotl/runs"}


def test_one_node_writes_what_all_share() -> None:
    entries = [{"src": "a", "dest": "a"}, {"src": "b", "dest": "/data/b"}, {"src": "c", "dest": "/opt/axolotl/c"}]
    plan = launch_plan.build(
        values_of(inventory(3, storage="shared", training_files=entries)), FILES, RUN, writer="node1"
    )
    assert [name for name, node in plan["nodes"].items() if node["writes"]] == ["node1"]
    assert [node["paths"]["runs"] for node in plan["nodes"].values()] == [
        f"/opt/axolotl/runs/node{number}" for number in range(3)
    ]
    assert [entry["once"] for entry in plan["training_files"]] == [True, False, True]


def test_a_shared_root_is_the_same_everywhere() -> None:
    variables = inventory(3, storage="shared")
    variables["node2"]["axolotl_root"] = "/elsewhere"
    assert checked(variables) == [("root_differs", ("node2",))]
    variables = inventory(2, storage="shared", machine="one")
    assert checked(variables) == []


def test_the_controller_fetches_what_it_delivers() -> None:
    entries = [
        {"hub": "org/model", "revision": "0" * 40, "dest": "model"},
        {"hub": "org/model", "revision": "0" * 40, "dest": "/mnt/model", "storage": "shared"},
        {"hub": "org/model", "revision": "1" * 40, "dest": "other"},
    ]
    assert [entry["src"] for entry in plan_of(training_files=entries)["training_files"]] == ["", "", ""]
    first, shared, other = (
        entry["src"] for entry in plan_of(training_files=entries, delivery="push")["training_files"]
    )
    assert first.startswith("sources/")
    assert first != other
    assert shared == ""


@pytest.mark.parametrize("change", [{"extras": ["deepspeed"]}, {"python_version": "3.11"}, {"torch_backend": "cu130"}])
def test_what_a_release_is_made_of_is_in_its_name(change: dict[str, Any]) -> None:
    assert plan_of(**change)["release_id"] != plan_of()["release_id"]


@pytest.mark.parametrize("change", [{"nproc_per_node": 4}, {"overrides": {"max_steps": 1}}, {"master_port": 29600}])
def test_what_is_of_one_launch_is_not(change: dict[str, Any]) -> None:
    assert plan_of(**change)["release_id"] == plan_of()["release_id"]


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
    (finding,) = launch_plan.check(values_of(inventory(2, **{name: value})))
    assert (finding.id, finding.found) == ("secret_exposed", found)
    assert "s3cr3t" not in str(finding)


@pytest.mark.parametrize("url", ["ssh://git@example.org/a.git", "git@example.org:a.git", "https://example.org/a@b.git"])
def test_a_url_without_a_credential_is_none(url: str) -> None:
    assert checked(inventory(1, repository=url)) == []


def test_a_large_fleet_has_longer_to_join() -> None:
    small, large = (plan_of(size, join_timeout=100)["nodes"]["node0"]["start"] for size in (2, 5))
    assert (small["join_timeout"], large["join_timeout"]) == (102, 105)


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
    findings = launch_plan.check(values_of(variables))
    assert [finding.id for finding in findings] == ["setting_missing"] * 2
    assert [finding.expected.partition(":")[0] for finding in findings] == [
        "infiniband_doca_version",
        "infiniband_doca_key",
    ]
    for known in variables.values():
        known["infiniband_provider"] = "inbox"
    assert checked(variables) == []
