# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The artifact of a verb from its begin to its end, and what people read of it."""

from __future__ import annotations

from typing import Any

from unit.fleets import RUN, plan_of, trained_together

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import evidence, verdict
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import WARNING, Finding, names, table

ERROR = Finding("commit", ("node1",), "commit a", "commit b", "run provision")
HINT = Finding("runs_as_root", ("node0", "node1"), "a user", "root", "set ansible_user", WARNING)
CONTROLLER = {"host": "here", "pid": 1}


def begun(verb: str = "launch", check: bool = False) -> dict[str, Any]:
    return verdict.begun(verb, check, CONTROLLER)


def run_evidence() -> dict[str, Any]:
    nodes = trained_together()
    return evidence.summarise(evidence.recorded_plan(nodes), nodes, {node: node for node in nodes})


def test_what_is_begun_is_an_unfinished_fail() -> None:
    artifact = begun()
    assert (artifact["verdict"], artifact["unfinished"], artifact["check"]) == ("fail", True, False)
    assert artifact["controller"] == CONTROLLER
    assert set(artifact) >= {
        "verb",
        "verdict",
        "unfinished",
        "check",
        "run_id",
        "nodes",
        "plan",
        "findings",
        "evidence",
    }


def test_what_becomes_known_is_added() -> None:
    plan = plan_of(2)
    artifact = verdict.merged(begun(), [HINT], plan, None)
    assert (artifact["run_id"], artifact["nodes"], artifact["plan"]) == (RUN, ["node0", "node1"], plan)
    artifact = verdict.merged(artifact, [HINT, ERROR], None, {"a": 1})
    assert [finding["id"] for finding in artifact["findings"]] == ["runs_as_root", "commit"]
    assert (artifact["run_id"], artifact["plan"]) == (RUN, plan)
    artifact = verdict.merged(artifact, [], None, {"b": 2, "run_id": "other"})
    assert artifact["evidence"] == {"a": 1, "b": 2, "run_id": "other"}
    assert artifact["run_id"] == "other"


def test_merging_changes_nothing_in_place() -> None:
    artifact = begun()
    verdict.merged(artifact, [ERROR], plan_of(1), {"a": 1})
    assert artifact == begun()


def test_errors_fail_and_warnings_do_not() -> None:
    assert verdict.closed(begun())["verdict"] == "pass"
    assert verdict.closed(verdict.merged(begun(), [HINT], None, None))["verdict"] == "pass"
    assert verdict.closed(verdict.merged(begun(), [HINT, ERROR], None, None))["verdict"] == "fail"
    assert verdict.closed(begun())["unfinished"] is False
    assert verdict.closed(begun(), unfinished=True)["unfinished"] is True


def test_the_line_of_a_good_run() -> None:
    artifact = verdict.closed(verdict.merged(begun(), [], plan_of(2), run_evidence()))
    assert verdict.line(artifact) == (
        f"PASS launch; run {RUN}; 2 nodes; world size 2, ranks 0 to 1; loss 6.5 > 6 > 5.5"
    )


def test_the_line_names_the_first_error() -> None:
    artifact = verdict.merged(begun("preflight", check=True), [HINT, ERROR], None, None)
    assert verdict.line(verdict.closed(artifact)) == (
        "FAIL preflight (check mode); 0 nodes; 1 error, first commit on node1; 1 warning"
    )
    other = Finding("lock", (), "a", "b", "c")
    artifact = verdict.closed(verdict.merged(begun(), [other, ERROR], None, None), unfinished=True)
    assert verdict.line(artifact) == "FAIL launch; 0 nodes; 2 errors, first lock; not finished"


def test_many_losses_are_shown_by_their_ends() -> None:
    found = {"losses": [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, None]}
    assert "loss 9 > not finite" in verdict.line(verdict.closed(verdict.merged(begun(), [], None, found)))


def test_the_text_has_the_findings_errors_first_and_the_line_last() -> None:
    text = verdict.text(verdict.closed(verdict.merged(begun(), [HINT, ERROR], None, None)))
    assert text.index("ERROR commit on node1") < text.index("WARNING runs_as_root on node0, node1")
    assert "    expected: commit a\n    found:    commit b\n    remedy:   run provision" in text
    assert text.splitlines()[-1].startswith("FAIL launch; ")


def test_the_text_of_status_has_a_row_per_node() -> None:
    nodes = trained_together()
    nodes["node1"]["run"]["state"].update(outcome=None, phase="running")
    nodes["node1"]["run"]["processes"] = [1, 2]
    found = {"nodes": evidence.node_states(nodes)}
    text = verdict.text(verdict.closed(verdict.merged(begun("status"), [], None, found)))
    assert text.splitlines()[:2] == [
        "node0  rank 0  ended  step 3/3  loss 5.5  finished: trainer exited with 0",
        "node1  rank 1  running  2 processes",
    ]


def test_findings_survive_the_artifact() -> None:
    assert Finding.from_dict(ERROR.as_dict()) == ERROR
    assert ERROR.as_dict()["hosts"] == ["node1"]


def test_many_hosts_are_counted() -> None:
    assert names(["a", "b"]) == "a, b"
    assert names([str(number) for number in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
    assert table([]) == ""
