# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each rule, planted alone in a clean fleet, gives exactly its finding on exactly its nodes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from unit.fleets import fingerprints, plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import rules_preflight

Fingerprints = dict[str, dict[str, Any]]
HALF = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}
"""Half of a node's GPUs, so that none of those that are meant is left without a trainer."""


def found(plan: dict[str, Any], prints: Fingerprints) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.id, finding.hosts) for finding in rules_preflight.examine(plan, prints)]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_clean_fleet_has_no_findings(size: int) -> None:
    plan = plan_of(size)
    assert found(plan, fingerprints(plan)) == []


def test_nodes_that_share_a_machine_on_purpose_are_clean() -> None:
    plan = plan_of(2, machine="one", nproc_per_node=4)
    assert found(plan, fingerprints(plan)) == []


def set_in(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(fingerprint: dict[str, Any]) -> None:
        for name in path[:-1]:
            fingerprint = fingerprint[name]
        fingerprint[path[-1]] = value

    return change


def unsealed(fingerprint: dict[str, Any]) -> None:
    fingerprint["release"].update(sealed=False, complete=False, problems=["release.json is missing"])


def edited(fingerprint: dict[str, Any]) -> None:
    fingerprint["release"].update(dirty=[" M src/axolotl/train.py", "?? new.py"], dirty_count=2)


def config_gone(fingerprint: dict[str, Any]) -> None:
    fingerprint["config"].update(sha256=None, size=0, error="No such file or directory")


PLANTED = [
    ("release_missing", set_in("release", "exists", value=False), "no such folder"),
    ("release_unfinished", unsealed, "release.json is missing"),
    ("source_edited", edited, "2 file(s) differ: src/axolotl/train.py, new.py"),
    (
        "packages",
        set_in("release", "packages", "different", value={"torch": {"locked": "2.13.0", "installed": "2.12.0"}}),
        "torch 2.12.0 instead of 2.13.0",
    ),
    ("packages", set_in("release", "packages", "missing", value={"peft": "0.20.0"}), "peft 0.20.0 is missing"),
    ("packages", set_in("release", "packages", "extra", value={"evil": "1.0"}), "evil 1.0 is not in the lock"),
    (
        "package_edited",
        set_in("release", "packages", "damaged", value={"trl": "trl/__init__.py"}),
        "trl: trl/__init__.py",
    ),
    (
        "package_edited",
        set_in("release", "packages", "edited", value={"trl": "trl/trainer.py"}),
        "trl: trl/trainer.py",
    ),
    ("config_missing", config_gone, "no such file or directory"),
    ("config", set_in("config", "sha256", value="d" * 64), "d" * 64),
    ("devices", set_in("devices", "count", value=7), "7 GPUs"),
    ("devices", set_in("devices", value={"kind": "cuda", "count": 0, "error": "nvidia-smi: no driver"}), "no driver"),
    (
        "run_active",
        set_in("active_runs", value={"20260101T000000Z-old": "ada@desk, /x/train.yml"}),
        "Z-old, started by ada@desk, /x",
    ),
    ("runs_as_root", set_in("machine", "uid", value=0), "root"),
    ("machine_twice", set_in("machine", "identity", value="id-of-node0"), "node0, node1 are the same machine"),
]


@pytest.mark.parametrize(("rule", "plant", "said"), PLANTED)
def test_what_is_planted_on_one_node_is_found_there_alone(rule: str, plant: Callable[..., None], said: str) -> None:
    plan = plan_of(3, nproc_per_node=4, environment=HALF) if rule == "machine_twice" else plan_of(3)
    prints = fingerprints(plan)
    plant(prints["node1"])
    (finding,) = rules_preflight.examine(plan, prints)
    assert finding.id == rule
    assert finding.hosts == (("node0", "node1") if rule == "machine_twice" else ("node1",))
    assert said in finding.found
    assert finding.expected
    assert finding.remedy
    assert finding.severity == ("warning" if rule == "runs_as_root" else "error")


@pytest.mark.parametrize(
    ("rule", "plant"),
    [
        ("commit", set_in("release", "commit", value="f" * 40)),
        ("lock", set_in("release", "lock_sha256", value="b" * 64)),
        ("config", set_in("config", "sha256", value="d" * 64)),
    ],
)
def test_what_is_pinned_can_be_wrong_on_all_nodes(rule: str, plant: Callable[..., None]) -> None:
    plan = plan_of(2)
    prints = fingerprints(plan)
    for fingerprint in prints.values():
        plant(fingerprint)
    assert found(plan, prints) == [(rule, ("node0", "node1"))]


def test_a_finding_says_both_values() -> None:
    plan = plan_of(2)
    prints = fingerprints(plan)
    prints["node1"]["config"]["sha256"] = "d" * 64
    (finding,) = rules_preflight.examine(plan, prints)
    assert plan["config"]["sha256"] in finding.expected
    assert "d" * 64 in finding.found
    assert "provision" in finding.remedy


def test_the_files_of_a_package_in_another_version_are_not_blamed_too() -> None:
    plan = plan_of(2)
    prints = fingerprints(plan)
    pair = {"locked": "1.0", "installed": "1.1"}
    prints["node1"]["release"]["packages"].update(different={"trl": pair}, damaged={"trl": "trl/__init__.py"})
    assert found(plan, prints) == [("packages", ("node1",))]


CONFIG = "learning_rate: 0.001  # tuned\nsequence_len: 512\n"


@pytest.mark.parametrize(
    ("content", "rule", "expected", "said"),
    [
        (CONFIG.replace("0.001", "0.01"), "config", "learning_rate: 0.001", "learning_rate: 0.01"),
        (CONFIG + "adapter: lora\n", "config", "adapter: not set", 'adapter: "lora"'),
        (CONFIG.replace("  # tuned", ""), "config_form", "byte for byte", "the same keys and values in another form"),
        (": [", "config", "c" * 64, "no valid YAML"),
        (None, "config", "c" * 64, "d" * 64),
    ],
)
def test_what_differs_in_a_config_is_named(content: str | None, rule: str, expected: str, said: str) -> None:
    plan = plan_of(3)
    prints = fingerprints(plan)
    prints["node1"]["config"].update(sha256="d" * 64, content=content)
    (finding,) = rules_preflight.examine(plan, prints, CONFIG)
    assert (finding.id, finding.hosts) == (rule, ("node1",))
    assert finding.severity == ("warning" if rule == "config_form" else "error")
    assert expected in finding.expected
    assert said in finding.found


def test_a_config_at_another_path_is_found_there() -> None:
    plan = plan_of(2)
    prints = fingerprints(plan)
    prints["node1"]["config"].update(sha256=None, error="No such file or directory", elsewhere="/opt/axolotl/train.yml")
    (finding,) = rules_preflight.examine(plan, prints)
    assert finding.found == "no such file or directory; it lies in /opt/axolotl/train.yml"


def test_the_heads_value_wins_a_tie() -> None:
    plan = plan_of(2)
    prints = fingerprints(plan)
    prints["node0"]["release"]["torch_version"] = "2.12.0"
    assert found(plan, prints) == [("torch", ("node1",))]


def test_everything_is_found_at_once() -> None:
    plan = plan_of(3)
    prints = fingerprints(plan)
    for rule, plant, _unused in PLANTED:
        if rule not in ("release_missing", "machine_twice", "config"):
            plant(prints["node1"])
    wanted = {rule for rule, _unused, _unused in PLANTED} - {"release_missing", "machine_twice", "config"}
    assert {rule for rule, _unused in found(plan, prints)} == wanted


def test_one_machine_that_is_declared_must_be_one() -> None:
    plan = plan_of(2, machine="one", nproc_per_node=4, environment=HALF)
    prints = fingerprints(plan)
    prints["node1"]["machine"]["identity"] = "another"
    assert found(plan, prints) == [("machine_differs", ("node0", "node1"))]


def test_nodes_that_share_a_machine_share_its_devices() -> None:
    plan = plan_of(2, machine="one", nproc_per_node=5)
    findings = rules_preflight.examine(plan, fingerprints(plan))
    assert [(finding.id, finding.hosts) for finding in findings] == [("devices", ("node0",)), ("devices", ("node1",))]
    assert findings[0].expected == "at least 10 GPUs for its trainer processes"


@pytest.mark.parametrize(
    ("holder", "said"),
    [
        ({"pid": 4242, "command": "/usr/bin/python3 serve.py"}, "held by pid 4242 (/usr/bin/python3 serve.py)"),
        ({"pid": 0, "command": ""}, "held by a process of another user"),
        (None, "it can't be listened on"),
    ],
)
@pytest.mark.parametrize("name", ["master_port", "watch_port"])
def test_a_taken_port_is_named_with_its_holder(name: str, holder: Any, said: str) -> None:
    plan = plan_of(2)
    prints = fingerprints(plan)
    prints["node0"]["ports"][str(plan[name])] = {"free": False, "holder": holder}
    (finding,) = rules_preflight.examine(plan, prints)
    assert (finding.id, finding.hosts, finding.found) == ("port_taken", ("node0",), said)
    assert str(plan[name]) in finding.expected
    assert f"axolotl_{name}" in finding.remedy


def test_an_active_run_is_one_finding_with_all_its_nodes() -> None:
    plan = plan_of(3)
    prints = fingerprints(plan)
    for node in ("node0", "node2"):
        prints[node]["active_runs"] = {"old": ""}
    (finding,) = rules_preflight.examine(plan, prints)
    assert (finding.id, finding.hosts) == ("run_active", ("node0", "node2"))
    assert "gpufleet_run_id=old" in finding.remedy


def test_overrides_that_the_commit_does_not_know() -> None:
    plan = plan_of(2, overrides={"max_steps": 3, "learning_rat": 1})
    prints = fingerprints(plan)
    prints["node0"]["release"]["unknown_options"] = ["--learning-rat"]
    (finding,) = rules_preflight.examine(plan, prints)
    assert (finding.id, finding.hosts) == ("override_unknown", ())
    assert finding.found.startswith("--learning-rat,")


def test_an_axolotl_that_starts_no_launcher_is_named() -> None:
    plan = plan_of(2)
    prints = fingerprints(plan)
    for fingerprint in prints.values():
        fingerprint["release"]["unknown_options"] = ["--launcher"]
    (finding,) = rules_preflight.examine(plan, prints)
    assert (finding.id, finding.hosts) == ("launcher_unknown", ())
    assert "torchrun_legacy" in finding.remedy


def test_a_missing_release_is_not_blamed_for_all_that_it_lacks() -> None:
    plan = plan_of(2)
    prints = fingerprints(plan)
    prints["node1"]["release"].update(
        exists=False, sealed=False, commit=None, lock_sha256=None, python_version=None, torch_version=None
    )
    assert found(plan, prints) == [("release_missing", ("node1",))]


def test_nodes_that_could_not_be_read_do_not_disturb_the_others() -> None:
    plan = plan_of(3)
    prints = fingerprints(plan)
    del prints["node0"]
    assert found(plan, prints) == []
    assert found(plan, {}) == []


def test_examining_changes_nothing() -> None:
    plan = plan_of(2)
    prints = fingerprints(plan)
    before = copy.deepcopy((plan, prints))
    rules_preflight.examine(plan, prints)
    assert (plan, prints) == before
