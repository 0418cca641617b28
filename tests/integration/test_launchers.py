# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every launcher trains the same, and takes its command as it is meant: held against the real parsers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.fleet import LOCAL, PROJECT, Fleet, Outcome, alive

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import launchers
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.launcher_job import Job

pytestmark = [pytest.mark.training, pytest.mark.timeout(600)]

LOSSES = [6.075, 6.018, 5.986, 5.963]
"""Of `axolotl train configs/tiny.yml` in two processes by torchrun, as logged on the machines that CI knows."""
NEAR = 0.002
"""Other processors round otherwise."""

WAYS: dict[str, dict[str, Any]] = {
    "torchrun_legacy": {"axolotl_launcher": "torchrun_legacy"},
    "c10d": {"axolotl_rendezvous": "c10d"},
    "accelerate": {"axolotl_launcher": "accelerate"},
}

PARSE = r"""
import json, sys
from accelerate.commands.launch import launch_command_parser
from axolotl.cli.main import train
from torch.distributed.run import get_args_parser

def torchrun(words):
    found = get_args_parser().parse_args([*words, "x.py"] if "-m" not in words else words)
    names = ("nnodes", "node_rank", "nproc_per_node", "master_addr", "master_port", "rdzv_backend", "rdzv_endpoint",
             "rdzv_id", "rdzv_conf", "max_restarts", "local_addr", "module", "training_script", "training_script_args")
    return {name: getattr(found, name) for name in names}

def axolotl(words):
    context = train.make_context("train", list(words))
    known = {name: value for name, value in context.params.items() if value is not None}
    return {"launcher": known["launcher"], "config": known["config"], "max_steps": known.get("max_steps"),
            "offload": known.get("fsdp_config__offload_params"), "rest": context.args}

def accelerate(words):
    found = launch_command_parser().parse_args([*words, "x.py"])
    return {"config_file": found.config_file, "script": found.training_script}

parsers = {"torchrun": torchrun, "axolotl": axolotl, "accelerate": accelerate}
print(json.dumps([parsers[name](words) for name, words in json.load(sys.stdin)]))
"""


def parsed(provisioned: Path, questions: list[tuple[str, list[str]]]) -> list[dict[str, Any]]:
    """What the release's own parsers make of arguments."""
    release = (LOCAL / "node0" / "current").resolve()
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "HF_HUB_OFFLINE": "1", "AXOLOTL_DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [str(release / "venv/bin/python"), "-c", PARSE],
        input=json.dumps(questions),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_the_real_parsers_take_every_command_as_it_is_meant(provisioned: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.yml"
    config.write_text("base_model: x\n")
    overrides = {"max_steps": 3, "fsdp_config": {"offload_params": True}}
    job = Job("/r", str(config), "/run", overrides, "a-run", "10.0.0.2", 2, 1, 8, "10.0.0.1", 29500)
    elastic = job._replace(rendezvous="c10d", max_restarts=2)

    def argv(name: str, of: Job) -> list[str]:
        command: list[str] = launchers.start(name, of)["argv"]
        return command

    def behind(words: list[str]) -> list[str]:
        return words[words.index("--") + 1 :]

    static, c10d, accelerate = argv("torchrun", job), argv("torchrun", elastic), argv("accelerate", job)
    answers = parsed(
        provisioned,
        [
            ("axolotl", static[2:]),
            ("torchrun", behind(static)),
            ("torchrun", behind(c10d)),
            ("torchrun", argv("torchrun_legacy", job)[1:]),
            ("axolotl", accelerate[2:]),
            ("accelerate", behind(accelerate)),
        ],
    )
    assert answers[0] == {
        "launcher": "torchrun",
        "config": str(config),
        "max_steps": "3",  # its own loader makes a number of it
        "offload": True,
        "rest": behind(static),
    }
    wanted = {"nnodes": "2", "node_rank": 1, "nproc_per_node": "8", "master_addr": "10.0.0.1", "master_port": 29500}
    assert {name: answers[1][name] for name in wanted} == wanted
    assert answers[1]["rdzv_backend"] == "static"
    meeting = {"rdzv_backend": "c10d", "rdzv_endpoint": "10.0.0.1:29500", "rdzv_id": "a-run", "max_restarts": 2}
    assert {name: answers[2][name] for name in meeting} == meeting
    assert answers[2]["rdzv_conf"] == "is_host=0,join_timeout=600,read_timeout=600"
    assert answers[2]["local_addr"] == "10.0.0.2"
    assert {name: answers[3][name] for name in wanted} == wanted
    assert (answers[3]["module"], answers[3]["training_script"]) == (True, "axolotl.cli.train")
    assert answers[3]["training_script_args"] == [str(config), "--fsdp-config--offload-params=True", "--max-steps=3"]
    assert (answers[4]["launcher"], answers[4]["rest"]) == ("accelerate", behind(accelerate))
    assert answers[5] == {"config_file": "/run/accelerate.json", "script": "x.py"}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_trains_the_same(fleet: Fleet, way: str) -> None:
    outcome = fleet.run("launch", **WAYS[way])
    assert outcome.rc == 0, outcome.stdout
    evidence = outcome.artifact["evidence"]
    assert (outcome.artifact["verdict"], evidence["world_size"], evidence["ranks_seen"]) == ("pass", 2, [0, 1])
    assert evidence["losses"] == pytest.approx(LOSSES, abs=NEAR)
    assert len(evidence["nodes_with_losses"]) == 1


def planted(fleet: Fleet, *replacements: tuple[str, str], **settings: Any) -> Outcome:
    """Launch with something changed in the text of the plan that preflight has completed, which must not pass."""
    plan = "preflight_judgement.plan | to_json"
    for pattern, replacement in replacements:
        plan += f" | regex_replace({pattern!r}, {replacement!r})"
    outcome = fleet.run("launch", run_plan="{{ " + plan + " | from_json }}", **settings)
    assert (outcome.rc != 0, outcome.artifact["verdict"]) == (True, "fail")
    assert alive(outcome.artifact["run_id"]) == []
    return outcome


def test_an_accelerate_that_starts_processes_without_a_world(fleet: Fleet) -> None:
    cpu = (("MULTI_GPU", "MULTI_CPU"), ("(?<=use_cpu..: )false", "true"))
    outcome = planted(fleet, *cpu, axolotl_launcher="accelerate")
    assert outcome.artifact["evidence"]["exit_codes"] == {"node0": 0, "node1": 0}
    assert outcome.finding("no_world")["hosts"] == ["node0", "node1"]


def test_nodes_with_two_ids_never_meet_and_say_so_in_time(fleet: Fleet) -> None:
    id_of_node1 = '"--rdzv-id", "{}", "--rdzv-conf", "is_host=0'
    other = (id_of_node1.format('[^"]+'), id_of_node1.format("another"))
    outcome = planted(fleet, other, axolotl_rendezvous="c10d", axolotl_rendezvous_timeout=20)
    finding = outcome.finding("rendezvous_failed")
    assert finding["hosts"] == ["node0", "node1"]
    assert f"with id {outcome.artifact['run_id']}" in finding["found"]
    assert "with id another" in finding["found"]
    assert outcome.errors == ["rendezvous_failed"]


def test_torchruns_default_of_one_process_for_each_node(fleet: Fleet) -> None:
    outcome = planted(fleet, ('"--nproc-per-node", "1", ', ""), ('"nproc_per_node": 1', '"nproc_per_node": 2'))
    assert outcome.artifact["evidence"]["exit_codes"] == {"node0": 0, "node1": 0}
    assert outcome.finding("ranks")["found"] == "node0 had rank 0; node1 had rank 1"
    assert "no_world" in outcome.errors


def test_a_node_rank_twice(fleet: Fleet) -> None:
    outcome = planted(fleet, ('"--node-rank", "1"', '"--node-rank", "0"'))
    assert outcome.finding("trainer_failed")


def test_a_run_is_run_again_from_its_record(fleet: Fleet, tmp_path: Path) -> None:
    overrides = {"max_steps": 2, "learning_rate": 0.01}
    first = fleet.run("launch", axolotl_overrides=overrides, axolotl_launcher="torchrun_legacy")
    assert first.rc == 0, first.stdout
    record = first.artifact["plan"]
    assert set(record["data"]) == {"model", "data.jsonl"}
    changed = tmp_path / "tiny.yml"
    changed.write_text((PROJECT / "configs" / "tiny.yml").read_text() + "weight_decay: 0.5\n")

    again = fleet.run("launch", rerun=first.artifact["run_id"], axolotl_config=str(changed))
    assert again.rc == 0, again.stdout
    assert again.artifact["run_id"] != first.artifact["run_id"]
    assert again.artifact["evidence"]["losses"] == first.artifact["evidence"]["losses"]
    for node, part in again.artifact["plan"]["nodes"].items():
        assert part["start"]["argv"] == record["nodes"][node]["start"]["argv"]
        assert part["start"]["environment"] == record["nodes"][node]["start"]["environment"]


@pytest.mark.parametrize("run_id", ["20260101T000000Z-none", "../../etc"])
def test_a_run_without_record_is_not_run_again(bare_fleet: Fleet, run_id: str) -> None:
    outcome = bare_fleet.run("launch", rerun=run_id)
    assert (outcome.rc != 0, outcome.errors) == (True, ["rerun_unknown"])


def test_a_smoke_run_says_go_and_is_demanded(fleet: Fleet) -> None:
    refused = fleet.run("launch", axolotl_require_smoke=24)
    assert (refused.rc != 0, refused.errors) == (True, ["smoke_missing"])
    outcome = fleet.run("launch", smoke=True)
    assert outcome.rc == 0, outcome.stdout
    assert "smoke run: go" in outcome.stdout
    assert (outcome.artifact["evidence"]["step"], len(outcome.artifact["evidence"]["losses"])) == (2, 2)
    assert outcome.artifact["evidence"]["checkpoints"]["node1"]["checkpoint-2"] == ["rng_state_1.pth"]
    for node in ("node0", "node1"):
        assert list((LOCAL / node / "work" / "smoke").iterdir()) == []
    granted = fleet.run("launch", "--check", axolotl_require_smoke=24)
    assert granted.rc == 0, granted.stdout
