# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight's judgement takes from the controller, and what it leaves there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from unit.fleets import fingerprints, plan_of

from ansible_collections.gpufleet.axolotl.plugins.action import fleet_findings

CONFIG = "learning_rate: 0.001\nhub_token: hf_" + "x" * 30 + "\n"


@pytest.fixture
def plan(tmp_path: Path) -> dict[str, Any]:
    """Two nodes whose plan was made from a real file."""
    config = tmp_path / "train.yml"
    config.write_text(CONFIG)
    plan = plan_of(2)
    plan["config"] = {"src": str(config), "sha256": hashlib.sha256(CONFIG.encode()).hexdigest()}
    plan["parity"]["record"] = str(tmp_path / "records" / "parity.json")
    return plan


def judged(plan: dict[str, Any], prints: dict[str, Any], check: bool = False, diff: bool = False) -> dict[str, Any]:
    """The judgement on nodes that all reach each other."""
    action = object.__new__(fleet_findings.ActionModule)
    action._task = SimpleNamespace(check_mode=check, diff=diff)
    skipped = {node: {"skipped": True} for node in plan["nodes"]}
    results = {
        "fingerprint": {node: {"fingerprint": found} for node, found in prints.items()},
        "listener": skipped,
        "probe": skipped,
    }
    return action._preflight(plan, results, [])


def ids(judgement: dict[str, Any]) -> list[str]:
    return [finding["id"] for finding in judgement["findings"] if finding["id"] != "mesh_unread"]


def test_the_plan_gets_notes_and_the_evidence_no_list_of_keys(plan: dict[str, Any]) -> None:
    plan["config"]["values"] = {"micro_batch_size": 2}
    prints = fingerprints(plan)
    prints["node0"]["schema"]["keys"] = {"": ["micro_batch_size"]}
    judgement = judged(plan, prints)
    assert judgement["plan"]["notes"][0].startswith("2 x 1 x 16 = 32 samples in each step")
    assert judgement["evidence"]["fingerprints"]["node0"]["schema"]["keys"] is None


def test_a_fit_fleet_is_recorded_once(plan: dict[str, Any]) -> None:
    record = Path(plan["parity"]["record"])
    assert judged(plan, fingerprints(plan))["changed"]
    text = record.read_text()
    assert json.loads(text)["agreed"][""]["python"] == "3.11.7"
    assert not judged(plan, fingerprints(plan))["changed"]
    assert record.read_text() == text


def test_a_check_records_nothing_but_says_that_it_would(plan: dict[str, Any]) -> None:
    assert judged(plan, fingerprints(plan), check=True)["changed"]
    assert not Path(plan["parity"]["record"]).exists()


def test_a_fleet_that_is_not_fit_is_not_recorded(plan: dict[str, Any]) -> None:
    prints = fingerprints(plan)
    prints["node1"]["release"]["python_version"] = "3.11.9"
    judgement = judged(plan, prints)
    assert ids(judgement) == ["python"]
    assert not judgement["changed"]
    assert not Path(plan["parity"]["record"]).exists()


def test_drift_since_the_record_is_a_warning(plan: dict[str, Any]) -> None:
    judged(plan, fingerprints(plan))
    prints = fingerprints(plan)
    for found in prints.values():
        found["release"]["python_version"] = "3.11.9"
    (finding,) = judged(plan, prints)["findings"]
    assert (finding["id"], finding["severity"], finding["hosts"]) == ("drift", "warning", ["node0", "node1"])
    assert (finding["expected"], finding["found"]) == ("python 3.11.7, as recorded", "python 3.11.9")
    assert plan["parity"]["record"] in finding["remedy"]


def test_a_damaged_record_is_said_and_left_alone(plan: dict[str, Any]) -> None:
    record = Path(plan["parity"]["record"])
    record.parent.mkdir()
    record.write_text("{")
    assert ids(judged(plan, fingerprints(plan))) == ["record_invalid"]
    assert record.read_text() == "{"


def test_a_record_that_can_not_be_written_is_said(plan: dict[str, Any]) -> None:
    Path(plan["parity"]["record"]).parent.write_text("in the way")
    assert ids(judged(plan, fingerprints(plan))) == ["record_invalid"]


def test_an_exception_of_the_inventory_takes_the_error_away(plan: dict[str, Any]) -> None:
    plan["parity"]["exceptions"] = {"driver": {"severity": "waived", "reason": "until March", "hosts": []}}
    prints = fingerprints(plan)
    prints["node1"]["gpus"]["driver"] = "580.65.06"
    judgement = judged(plan, prints)
    assert [(one["id"], one["severity"], one["reason"]) for one in judgement["findings"]] == [
        ("driver", "waived", "until March")
    ]
    assert judgement["changed"], "a fleet is fit with what its owner accepts"


def differing(prints: dict[str, Any], content: str) -> None:
    digest = hashlib.sha256(content.encode()).hexdigest()
    prints["node1"]["config"].update(sha256=digest, content=content)


def test_a_configs_difference_is_shown_on_request_and_not_kept(
    plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(fleet_findings.display, "display", lambda text, **_options: shown.append(text))
    prints = fingerprints(plan)
    for found in prints.values():
        found["config"]["sha256"] = plan["config"]["sha256"]
    differing(prints, "learning_rate: 0.01\nhub_token: '********'\n")
    judgement = judged(plan, prints)
    assert shown == []
    judgement = judged(plan, prints, diff=True)
    (text,) = shown
    assert "-learning_rate: 0.001" in text
    assert "+learning_rate: 0.01" in text
    assert "hf_" not in text
    assert judgement["evidence"]["fingerprints"]["node1"]["config"]["content"] is None
    (finding,) = judgement["findings"]
    assert (finding["expected"], finding["found"]) == ("learning_rate: 0.001", "learning_rate: 0.01")


def test_a_config_that_was_changed_since_is_not_compared_key_by_key(plan: dict[str, Any]) -> None:
    prints = fingerprints(plan)
    for found in prints.values():
        found["config"]["sha256"] = plan["config"]["sha256"]
    differing(prints, "learning_rate: 0.01\n")
    Path(plan["config"]["src"]).write_text("learning_rate: 5\n")
    (finding,) = judged(plan, prints)["findings"]
    assert finding["expected"] == f"config with sha256 {plan['config']['sha256']}"
