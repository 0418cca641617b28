# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launch plan: who has which rank, where everything lies, and who runs what."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.fleets import COMMIT, CONFIG, FILES, LOCK, RUN, inventory, plan_of, values_of, with_each

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import launch_plan


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


def test_the_plan_says_what_each_node_reads_and_where_it_prepares() -> None:
    config = {"base_model": "./model", "datasets": [{"path": "org/set"}], "dataset_prepared_path": "./prepared"}
    files = FILES._replace(config=config)
    variables = with_each("root", "/srv/a", "/srv/b")
    for node in variables.values():
        node.update(axolotl_machine="one", axolotl_overrides={"base_model": "/models/x", "sequence_len": 64})
        node.update(axolotl_environment={"HF_HOME": "/hf"}, training_files_preprocess="head")
    plan = launch_plan.build(values_of(variables), files, RUN)
    assert (plan["preprocess"], plan["prepared_once"]) == ("head", False)
    assert plan["override_options"] == ["--base-model=/models/x", "--sequence-len=64"]
    for root, part in zip(("/srv/a", "/srv/b"), plan["nodes"].values(), strict=True):
        assert part["prepared"] == f"{root}/work/prepared"
        assert part["paths"]["digests"] == f"{root}/cache/digests"
        assert [(entry["name"], entry["path"]) for entry in part["inputs"]] == [
            ("base_model: /models/x", "/models/x"),
            ("datasets[0].path: org/set", f"{root}/work/org/set"),
        ]
        assert part["inputs"][1]["repository"] == "/hf/hub/datasets--org--set"
        assert part["environment"].items() <= part["start"]["environment"].items() | {
            ("PATH", launch_plan.TRAINER_PATH)
        }


@pytest.mark.parametrize(("path", "once"), [("./prepared", True), ("/opt/axolotl/p", True), ("/scratch/p", False)])
def test_what_is_prepared_on_the_shared_root_is_prepared_once(path: str, once: bool) -> None:
    files = FILES._replace(config={"dataset_prepared_path": path})
    assert plan_of(2, files, storage="shared")["prepared_once"] is once
    assert plan_of(2, files)["prepared_once"] is False


def test_the_plan_of_two_nodes() -> None:
    plan = plan_of(2, environment={"NCCL_DEBUG": "INFO"}, secrets={"HF_TOKEN": "s3cr3t"}, overrides={"max_steps": 3})
    assert (plan["run_id"], plan["commit"], plan["lock_sha256"]) == (RUN, COMMIT, LOCK)
    assert (plan["nnodes"], plan["nproc_per_node"], plan["world_size"]) == (2, 8, 16)
    assert (plan["head"], plan["head_address"]) == ("node0", "node0")
    assert plan["release_id"].startswith(COMMIT[:12] + "-")
    values = {"output_dir": "./out", "max_steps": 3}
    assert plan["config"] == {"src": "/project/configs/train.yml", "sha256": CONFIG, "values": values}
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
    assert plan["secrets"] == ["HF_TOKEN"]


def test_what_one_node_is_asked_about_the_config() -> None:
    files = FILES._replace(config={"base_model": "/models/x"})
    plan = plan_of(2, files, overrides={"fsdp-config": {"offload-params": True}, "max_steps": 3})
    assert plan["schema"] == {"overrides": {"fsdp_config.offload_params": True, "max_steps": 3}, "world_size": 16}
    assert {part["base_model"]["path"] for part in plan["nodes"].values()} == {"/models/x"}


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


def test_sources_are_meant_from_where_the_command_is_run() -> None:
    entries = [{"src": "data", "dest": "d"}, {"src": "/abs", "dest": "e"}, {"dest": "/mnt/f", "storage": "shared"}]
    assert [entry["src"] for entry in plan_of(training_files=entries)["training_files"]] == [
        "/project/data",
        "/abs",
        "",
    ]


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


def test_a_large_fleet_has_longer_to_join() -> None:
    small, large = (plan_of(size, join_timeout=100)["nodes"]["node0"]["start"] for size in (2, 5))
    assert (small["join_timeout"], large["join_timeout"]) == (102, 105)


def test_the_options_that_the_launch_uses_are_listed_for_the_check() -> None:
    overrides = {"max_steps": 3, "flash_attention": False}
    options = ["--no-flash-attention", "--max-steps"]
    assert plan_of(overrides=overrides)["train_options"] == ["--launcher", *options]
    assert plan_of(overrides=overrides, launcher="torchrun_legacy")["train_options"] == options
