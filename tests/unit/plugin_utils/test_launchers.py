# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command of each launcher, argument by argument; no shell ever sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.fleets import fingerprints, inventory, plan_of, values_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import (
    launcher_choice,
    launchers,
    plan_checks,
    rules_preflight,
)
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.launcher_job import Job

OVERRIDES = {"max_steps": 3, "fsdp_config": {"offload_params": True}}
JOB = Job(
    release="/opt/releases/r",
    config="/opt/work/train.yml",
    run="/opt/runs/x",
    overrides=OVERRIDES,
    run_id="x",
    address="10.0.0.2",
    nnodes=2,
    node_rank=1,
    nproc_per_node=8,
    head_address="10.0.0.1",
    master_port=29500,
)
SIZE = ["--nnodes", "2", "--nproc-per-node", "8"]
STATIC = [
    "--nnodes",
    "2",
    "--node-rank",
    "1",
    "--nproc-per-node",
    "8",
    "--master-addr",
    "10.0.0.1",
    "--master-port",
    "29500",
]
MEETING = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "10.0.0.1:29500", "--rdzv-id", "x"]
CONF = ["--rdzv-conf", "is_host=0,join_timeout=600,read_timeout=600", "--local-addr", "10.0.0.2"]
C10D = [*SIZE, *MEETING, *CONF, "--max-restarts", "2"]
AXOLOTL = ["/opt/releases/r/venv/bin/axolotl", "train", "/opt/work/train.yml"]
OPTIONS = ["--fsdp-config.offload-params", "--max-steps=3"]
MODULE = ["-m", "axolotl.cli.train", "/opt/work/train.yml", "--fsdp-config--offload-params=True", "--max-steps=3"]
ELASTIC = {"rendezvous": "c10d", "max_restarts": 2}


@pytest.mark.parametrize(
    ("name", "changes", "argv"),
    [
        ("torchrun", {}, [*AXOLOTL, "--launcher", "torchrun", *OPTIONS, "--", *STATIC]),
        ("torchrun", ELASTIC, [*AXOLOTL, "--launcher", "torchrun", *OPTIONS, "--", *C10D]),
        ("torchrun_legacy", {}, ["/opt/releases/r/venv/bin/torchrun", *STATIC, *MODULE]),
        ("torchrun_legacy", ELASTIC, ["/opt/releases/r/venv/bin/torchrun", *C10D, *MODULE]),
        (
            "accelerate",
            {},
            [*AXOLOTL, "--launcher", "accelerate", *OPTIONS, "--", "--config_file", "/opt/runs/x/accelerate.json"],
        ),
    ],
)
def test_the_whole_command(name: str, changes: dict[str, Any], argv: list[str]) -> None:
    assert launchers.start(name, JOB._replace(**changes))["argv"] == argv


def test_the_head_alone_holds_the_store_of_c10d() -> None:
    argv = launchers.start("torchrun", JOB._replace(node_rank=0, rendezvous="c10d"))["argv"]
    assert argv[argv.index("--rdzv-conf") + 1].startswith("is_host=1,")


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    argv = launchers.start("torchrun", JOB._replace(head_address="2001:db8::1", rendezvous="c10d"))["argv"]
    assert argv[argv.index("--rdzv-endpoint") + 1] == "[2001:db8::1]:29500"


@pytest.mark.parametrize("name", sorted(launchers.C10D))
def test_axolotl_finds_nothing_to_which_it_would_add_an_id_of_its_own(name: str) -> None:
    argv = launchers.start(name, JOB._replace(rendezvous="c10d"))["argv"]
    assert not [word for word in argv if "rdzv_" in word]
    assert argv.count("--rdzv-id") == 1


def test_the_nodes_of_accelerate_differ_in_their_rank_alone() -> None:
    plan = plan_of(3, launcher="accelerate")
    read = {node: json.loads(part["start"]["files"]["accelerate.json"]) for node, part in plan["nodes"].items()}
    assert [known.pop("machine_rank") for known in read.values()] == [0, 1, 2]
    first = read["node0"]
    assert all(known == first for known in read.values())
    assert (first["num_machines"], first["num_processes"]) == (3, 24)
    assert (first["distributed_type"], first["use_cpu"]) == ("MULTI_GPU", False)


def test_all_nodes_of_c10d_have_one_id() -> None:
    plan = plan_of(3, rendezvous="c10d")
    ids = {part["start"]["argv"][part["start"]["argv"].index("--rdzv-id") + 1] for part in plan["nodes"].values()}
    assert ids == {plan["run_id"]}


@pytest.mark.parametrize(
    ("accelerator", "hcas", "name", "reason"),
    [
        ("cuda", None, "torchrun", "auto: the training goes over InfiniBand"),
        ("cuda", [], "accelerate", "auto: the training goes over plain Ethernet"),
    ],
)
def test_what_auto_becomes(accelerator: str, hcas: Any, name: str, reason: str) -> None:
    plan = plan_of(2, launcher="auto", accelerator=accelerator, hcas=hcas)
    found = launcher_choice.chosen(plan, fingerprints(plan))
    assert (found["launcher"], found["launcher_reason"]) == (name, reason)
    for part in found["nodes"].values():
        assert part["start"]["argv"][4] == name
        assert ("accelerate.json" in part["start"]["files"]) == (name == "accelerate")


def test_auto_gives_way_to_what_the_commit_and_the_rendezvous_need() -> None:
    plan = plan_of(2, launcher="auto", rendezvous="c10d", hcas=[])
    prints = fingerprints(plan)
    assert launcher_choice.chosen(plan, prints)["launcher"] == "torchrun"
    prints["node0"]["release"]["unknown_options"] = ["--launcher"]
    assert launcher_choice.chosen(plan, prints)["launcher"] == "torchrun_legacy"
    assert [finding.id for finding in rules_preflight.examine(plan, prints)] == []


def test_what_was_asked_for_stays() -> None:
    plan = plan_of(2, launcher="torchrun_legacy")
    assert launcher_choice.chosen(plan, fingerprints(plan)) == {**plan, "launcher_reason": ""}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"launcher": "accelerate", "rendezvous": "c10d"}, "axolotl_rendezvous: static"),
        ({"max_restarts": 1}, "axolotl_max_restarts: 0"),
    ],
)
def test_what_does_not_go_together(settings: dict[str, Any], said: str) -> None:
    (finding,) = plan_checks.check(values_of(inventory(2, **settings)))
    assert finding.id == "rendezvous_invalid"
    assert finding.expected.startswith(said)


@pytest.mark.parametrize(
    "settings", [{"rendezvous": "c10d", "max_restarts": 3}, {"launcher": "auto", "rendezvous": "c10d"}]
)
def test_what_goes_together(settings: dict[str, Any]) -> None:
    assert plan_checks.check(values_of(inventory(2, **settings))) == []
