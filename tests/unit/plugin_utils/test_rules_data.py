# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other data, planted alone in a clean fleet, gives exactly its finding on exactly its nodes."""

from __future__ import annotations

from typing import Any

import pytest
from unit.fleets import COMMIT, FILES, PREPARED, fingerprints, plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import rules_data, rules_preflight
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.data_readings import held
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding

CONFIG = {
    "base_model": "org/model",
    "tokenizer_config": "/srv/tokens",
    "datasets": [{"path": "data"}, {"path": "org/set"}],
    "dataset_prepared_path": "/opt/axolotl/prepared",
}
DATA, TOKENS, MODEL, SET = "data", "tokenizer_config: /srv/tokens", "base_model: org/model", "datasets[1].path: org/set"
OTHER = "d" * 64
URL = {"url": "https://example.org/data", "sha256": "a" * 64}
OFFLINE = {"HF_HUB_OFFLINE": "1"}
Prints = dict[str, dict[str, Any]]


def fleet(size: int = 3, entry: dict[str, Any] | None = None, **changes: Any) -> tuple[dict[str, Any], Prints]:
    """A fleet that reads a training file, a local tokenizer, and a model and a dataset of the Hub."""
    files = [{"dest": "data", **(entry or {"src": "data"})}]
    changes = {"environment": OFFLINE, **changes}
    plan = plan_of(size, FILES._replace(config=CONFIG), training_files=files, **changes)
    return plan, fingerprints(plan)


def found(plan: dict[str, Any], prints: Prints) -> list[Finding]:
    return rules_preflight.examine(plan, prints)


def only(plan: dict[str, Any], prints: Prints) -> Finding:
    (finding,) = found(plan, prints)
    return finding


def other_content(prints: Prints, name: str, *nodes: str, digest: str = OTHER) -> None:
    for node in nodes:
        prints[node]["inputs"][name].update(digest=digest, data_digest=digest, size=12_400_000)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_clean_fleet_has_no_findings(size: int) -> None:
    assert found(*fleet(size)) == []
    plan, prints = fleet(size)
    assert set(prints["node0"]["inputs"]) == {DATA, TOKENS, MODEL, SET}
    assert found({**plan, "controller_inputs": {DATA: held(prints["node0"]["inputs"][DATA])}}, prints) == []


# Files and folders


@pytest.mark.parametrize(
    ("name", "entry", "remedy"),
    [
        (DATA, None, "run provision"),
        (DATA, {"storage": "shared"}, "shared storage"),
        (TOKENS, None, "list it in axolotl_training_files"),
    ],
)
def test_other_content_is_found_with_both_values(name: str, entry: Any, remedy: str) -> None:
    plan, prints = fleet(3, entry)
    right = prints["node0"]["inputs"][name]["digest"]
    other_content(prints, name, "node1")
    finding = only(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("training_file", ("node1",), "error")
    assert finding.expected == f"{name} as on most nodes: sha256 {right[:12]} (1 file, 12.3 MB)"
    assert finding.found == f"{prints['node1']['inputs'][name]['path']}: sha256 {OTHER[:12]} (1 file, 12.4 MB)"
    assert remedy in finding.remedy


def test_the_controllers_copy_decides_even_against_all_nodes() -> None:
    plan, prints = fleet(2)
    here = {"results": [{"item": {"dest": DATA}, "digest": "b" * 64, "files": 2, "size": 999}]}
    finding = only(rules_data.informed(plan, here, {}), prints)
    assert (finding.id, finding.hosts) == ("training_file", ("node0", "node1"))
    assert finding.expected == f"data as on the controller: sha256 {'b' * 12} (2 files, 999 bytes)"


def test_a_copy_that_the_controller_can_not_read_decides_nothing() -> None:
    plan, prints = fleet(2)
    here = {"results": [{"item": {"dest": DATA}, "digest": "", "files": 1, "size": 1}]}
    assert found(rules_data.informed(plan, here, {}), prints) == []


def test_a_url_has_its_version_in_the_inventory() -> None:
    plan, prints = fleet(2, URL)
    finding = only(plan, prints)
    assert (finding.hosts, finding.expected) == (
        ("node0", "node1"),
        f"data as the version of its URL: sha256 {'a' * 12}",
    )
    other_content(prints, DATA, "node0", "node1", digest="a" * 64)
    assert found(plan, prints) == []


def test_the_head_wins_a_tie() -> None:
    plan, prints = fleet(2)
    other_content(prints, DATA, "node0")
    assert only(plan, prints).hosts == ("node1",)


def test_each_other_content_is_a_finding_and_says_which_files() -> None:
    plan, prints = fleet(5)
    other_content(prints, DATA, "node1")
    other_content(prints, DATA, "node2", "node3", digest="c" * 64)
    prints["node4"]["inputs"][DATA] = prints["node0"]["inputs"][DATA]
    plan["controller_inputs"] = {DATA: held(prints["node0"]["inputs"][DATA])}
    named = {**plan, "input_differences": {(DATA, OTHER): "missing 1: a.jsonl"}}
    first, second = found(named, prints)
    assert (first.hosts, second.hosts) == (("node1",), ("node2", "node3"))
    assert first.found.endswith("; missing 1: a.jsonl")
    assert not second.found.endswith("a.jsonl")
    assert [difference.reference for difference in rules_data.differences(plan, prints)] == ["", ""]
    del plan["controller_inputs"]
    assert [difference.reference for difference in rules_data.differences(plan, prints)] == ["node0", "node0"]


def test_what_all_nodes_have_is_agreed_on() -> None:
    plan, prints = fleet(3)
    other_content(prints, DATA, "node1")
    prints["node2"]["inputs"][TOKENS].update(digest="", problems=["x: Permission denied"])
    agreed = rules_preflight.compare(plan, prints)[1][""]
    known = {name: value for name, value in agreed.items() if name.startswith("input ")}
    assert known == {f"input {MODEL}": COMMIT, f"input {SET}": COMMIT}
    assert agreed["python"] == "3.11.7"


def test_what_is_compared_file_by_file() -> None:
    plan, prints = fleet(12)
    assert rules_data.to_compare(plan, prints) == []
    other_content(prints, DATA, "node1", "node2")
    (one,) = rules_data.to_compare(plan, prints)
    assert one == {
        "name": "data",
        "digest": OTHER,
        "node": "node1",
        "path": "/opt/axolotl/work/data",
        "reference": "node0",
        "expected": "/opt/axolotl/work/data",
    }
    here = {"results": [{"item": plan["training_files"][0], **prints["node0"]["inputs"][DATA]}]}
    (one,) = rules_data.to_compare(rules_data.informed(plan, here, {}), prints)
    assert (one["reference"], one["expected"]) == ("", plan["training_files"][0]["src"])
    for number in range(1, 11):
        other_content(prints, DATA, f"node{number}", digest=f"{number:064}")
    assert len(rules_data.to_compare(rules_data.informed(plan, here, {}), prints)) == rules_data.COMPARED


def test_nobody_has_the_version_of_a_url_to_compare_with() -> None:
    assert rules_data.to_compare(*fleet(2, URL)) == []


@pytest.mark.parametrize(
    ("summary", "different", "end"), [("missing 1: b", [], "; missing 1: b"), ("different 1: x", [""], "MB)")]
)
def test_what_was_compared_is_said(summary: str, different: list[str], end: str) -> None:
    plan, prints = fleet()
    other_content(prints, DATA, "node1")
    (asked,) = rules_data.to_compare(plan, prints)
    difference = {"missing": [], "extra": [], "different": different}
    result = {"item": {"item": asked, "entries": []}, "summary": summary, "difference": difference}
    unread = {"item": {"item": asked}, "failed": True, "msg": "unreachable"}
    informed = rules_data.informed(plan, {"failed": True}, {"results": [unread, result]})
    assert only(informed, prints).found.endswith(end)


@pytest.mark.parametrize("name", [DATA, TOKENS])
def test_what_is_missing_is_found(name: str) -> None:
    plan, prints = fleet()
    prints["node1"]["inputs"][name].update(exists=False, digest="", data_digest="", problems=["there is nothing"])
    finding = only(plan, prints)
    assert (finding.id, finding.hosts) == ("training_file", ("node1",))
    assert finding.found == f"nothing at {prints['node1']['inputs'][name]['path']}"
    assert name in finding.expected
    assert finding.remedy


def test_what_can_not_be_read_is_found() -> None:
    plan, prints = fleet()
    prints["node2"]["inputs"][DATA].update(digest="", data_digest="", problems=["data/b: Permission denied"])
    finding = only(plan, prints)
    assert (finding.id, finding.hosts, finding.found) == ("training_file", ("node2",), "data/b: Permission denied")


def test_a_node_that_was_never_provisioned_is_not_blamed_for_lacking_training_files() -> None:
    plan, prints = fleet()
    prints["node1"]["inputs"][DATA].update(exists=False, digest="", data_digest="")
    prints["node1"]["config"].update(sha256=None, error="No such file or directory")
    assert only(plan, prints).id == "config_missing"


def test_a_dataset_that_is_prepared_need_not_be_there() -> None:
    config = {**CONFIG, "datasets": [{"path": "/srv/set"}]}
    plan = plan_of(2, FILES._replace(config=config), environment=OFFLINE)
    prints = fingerprints(plan)
    prints["node1"]["inputs"]["datasets[0].path: /srv/set"].update(exists=False, digest="", data_digest="")
    assert found(plan, prints) == []
    prints["node1"]["prepared"]["folders"] = {}
    assert only(plan, prints).id == "training_file"


# The Hub


@pytest.mark.parametrize(("environment", "severity"), [(OFFLINE, "error"), ({}, "warning")])
@pytest.mark.parametrize("name", [MODEL, SET])
def test_another_snapshot_of_the_hub_is_found(environment: dict[str, str], severity: str, name: str) -> None:
    plan, prints = fleet(environment=environment)
    prints["node1"]["inputs"][name]["revision"] = "f" * 40
    finding = only(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("hub_revision", ("node1",), severity)
    assert finding.expected == f"{name} as on most nodes: commit {COMMIT} in the Hub's cache"
    assert finding.found == f"commit {'f' * 40} in the Hub's cache"
    assert "axolotl_training_files" in finding.remedy


def test_a_folder_of_the_name_on_the_hub_is_another_model() -> None:
    plan, prints = fleet()
    local = {"kind": "path", "path": "/opt/axolotl/work/org/model", "digest": OTHER, "revision": "", "size": 5}
    prints["node1"]["inputs"][MODEL].update(local, files=2)
    finding = only(plan, prints)
    assert (finding.id, finding.hosts) == ("hub_revision", ("node1",))
    assert finding.found == f"what lies at /opt/axolotl/work/org/model, sha256 {OTHER[:12]} (2 files, 5 bytes)"


def test_what_is_not_in_the_cache_is_missed_only_off_the_net() -> None:
    plan, prints = fleet()
    prints["node1"]["inputs"][MODEL].update(exists=False, revision="")
    finding = only(plan, prints)
    assert (finding.id, finding.hosts) == ("hub_missing", ("node1",))
    assert finding.found.endswith("/models--org--model")
    assert MODEL in finding.expected
    assert "provision" in finding.remedy
    on_the_net, _unused = fleet(environment={})
    assert found(on_the_net, prints) == []


# What is prepared


def recorded(plan: dict[str, Any], prints: Prints) -> None:
    """Have provision prepared the dataset on every node, from what is there."""
    for fingerprint in prints.values():
        prepared, read = fingerprint["prepared"], fingerprint["inputs"]
        inputs = {name: value["revision"] or value["data_digest"] for name, value in read.items()}
        folders = {name: folder["digest"] for name, folder in prepared["folders"].items()}
        prepared["record"] = {
            "inputs": inputs,
            "config": plan["config"]["sha256"],
            "options": [],
            "release": plan["release_id"],
            "folders": folders,
        }
        for folder in prepared["folders"].values():
            folder["record"] = folder["digest"]


@pytest.mark.parametrize("preprocess", ["head", "each"])
def test_a_clean_fleet_with_prepared_data_has_no_findings(preprocess: str) -> None:
    plan, prints = fleet(training_files_preprocess=preprocess)
    recorded(plan, prints)
    assert found(plan, prints) == []


@pytest.mark.parametrize("name", [DATA, SET, MODEL])
def test_what_was_prepared_from_other_data_is_found(name: str) -> None:
    plan, prints = fleet()
    recorded(plan, prints)
    then = prints["node1"]["prepared"]["record"]["inputs"][name]
    prints["node1"]["prepared"]["record"]["inputs"][name] = "0" * 64
    finding = only(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("prepared_stale", ("node1",), "error")
    assert finding.found == f"it is made from other data: {name} was {'0' * 12}, is {then[:12]}"
    assert f"remove /opt/axolotl/prepared/{PREPARED}" in finding.remedy
    assert "training_files_preprocess" in finding.remedy


def test_new_weights_do_not_make_prepared_data_stale() -> None:
    plan, prints = fleet()
    recorded(plan, prints)
    for fingerprint in prints.values():
        fingerprint["inputs"][TOKENS]["digest"] = OTHER
    assert found(plan, prints) == []


def test_prepared_data_older_than_the_dataset_is_found_where_nobody_noted_anything() -> None:
    plan, prints = fleet()
    prints["node1"]["inputs"][DATA]["newest_ns"] = 3_000
    finding = only(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("prepared_stale", ("node1",), "error")
    assert finding.found.startswith(PREPARED)
    assert DATA in finding.expected
    assert f"/opt/axolotl/prepared/{PREPARED}" in finding.remedy
    recorded(plan, prints)
    assert found(plan, prints) == []


def test_one_old_folder_among_new_ones_is_a_warning() -> None:
    plan, prints = fleet()
    for fingerprint in prints.values():
        folders = fingerprint["prepared"]["folders"]
        folders["1" * 32] = {**folders[PREPARED], "newest_ns": 500}
    findings = found(plan, prints)
    assert [(finding.id, finding.hosts, finding.severity) for finding in findings] == [
        ("prepared_stale", ("node0", "node1", "node2"), "warning")
    ]


@pytest.mark.parametrize(("files", "severity"), [(1, "error"), (4, "warning")])
def test_other_rows_under_the_same_name_are_found(files: int, severity: str) -> None:
    plan, prints = fleet()
    prints["node1"]["prepared"]["folders"][PREPARED].update(digest=OTHER, files=files)
    finding = only(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("prepared_differs", ("node1",), severity)
    assert finding.expected.endswith(f"sha256 {'e' * 12} (1 file, 5.0 kB)")
    assert finding.found.startswith(f"/opt/axolotl/prepared/{PREPARED}: sha256 {OTHER[:12]}")
    assert "remove /opt/axolotl/prepared/" in finding.remedy
    assert ("dataset_num_proc" in finding.remedy) is (files != 1)


def test_a_damaged_folder_is_found() -> None:
    plan, prints = fleet()
    problem = "state.json: No such file or directory"
    prints["node1"]["prepared"]["folders"][PREPARED].update(digest="", problems=[problem])
    finding = only(plan, prints)
    assert (finding.id, finding.hosts) == ("prepared_damaged", ("node1",))
    assert finding.found == f"{PREPARED}: {problem}"
    assert f"remove /opt/axolotl/prepared/{PREPARED}" in finding.remedy


def test_rows_that_are_not_what_provision_noted_are_found() -> None:
    plan, prints = fleet()
    recorded(plan, prints)
    for fingerprint in prints.values():
        fingerprint["prepared"]["folders"][PREPARED]["digest"] = OTHER
    finding = only(plan, prints)
    assert (finding.id, finding.hosts) == ("prepared_damaged", ("node0", "node1", "node2"))
    assert "e" * 12 in finding.found
    assert OTHER[:12] in finding.found


def test_a_folder_that_can_not_be_looked_at_is_found() -> None:
    plan, prints = fleet()
    prints["node1"]["prepared"].update(folders={}, error="Permission denied")
    finding = only(plan, prints)
    assert (finding.id, finding.hosts, finding.found) == ("prepared_damaged", ("node1",), "Permission denied")


@pytest.mark.parametrize("preprocess", ["head", "each"])
def test_data_that_provision_should_have_prepared_is_missed(preprocess: str) -> None:
    plan, prints = fleet(training_files_preprocess=preprocess)
    recorded(plan, prints)
    prints["node1"]["prepared"].update(folders={})
    finding = only(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("prepared_missing", ("node1",), "warning")
    assert finding.found.endswith("/opt/axolotl/prepared")
    assert preprocess in finding.expected
    assert "provision" in finding.remedy
    assert found({**plan, "preprocess": "never"}, prints) == []


def test_data_that_was_prepared_for_another_config_is_missed() -> None:
    plan, prints = fleet(training_files_preprocess="head")
    recorded(plan, prints)
    prints["node1"]["prepared"]["record"]["config"] = "b" * 64
    finding = only(plan, prints)
    assert (finding.id, finding.hosts) == ("prepared_missing", ("node1",))
    assert finding.found.endswith("for another config")
