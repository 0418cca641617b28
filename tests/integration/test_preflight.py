# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight on two provisioned nodes: a clean fleet passes, and each planted difference is named with its node."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fleet import LOCAL, PROJECT, Fleet

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import sockets

CONFIG = LOCAL / "node1" / "work" / "tiny.yml"


@pytest.fixture
def release() -> Path:
    return (LOCAL / "node1" / "current").resolve()


def listening_ports() -> set[int]:
    return {row.local.port for row in sockets.socket_table() if row.state == sockets.LISTEN}


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give node1's config back what a test changes in it."""
    content = CONFIG.read_bytes()
    yield
    CONFIG.write_bytes(content)


def test_clean_fleet_passes_and_changes_nothing(fleet: Fleet) -> None:
    outcome = fleet.run("preflight")
    assert outcome.rc == 0, outcome.stdout
    assert outcome.changed == 0
    assert outcome.errors == []
    artifact = outcome.artifact
    assert (artifact["verb"], artifact["verdict"], artifact["unfinished"]) == ("preflight", "pass", False)
    assert artifact["nodes"] == ["node0", "node1"]
    assert artifact["plan"]["notes"] == [
        "2 x 1 x 2 = 4 samples in each step (micro_batch_size x gradient_accumulation_steps x world_size)"
    ]
    schema = artifact["evidence"]["fingerprints"]["node0"]["schema"]
    assert (schema["refused"], schema["error"]) == ([], None)
    for part in artifact["plan"]["nodes"].values():
        assert part["derived"] == {
            "GLOO_SOCKET_IFNAME": {"value": "lo", "reason": "it carries 127.0.0.1, the node's address"}
        }
        assert part["start"]["environment"]["GLOO_SOCKET_IFNAME"] == "lo"


def test_playbook_runs_by_path_too(fleet: Fleet) -> None:
    outcome = fleet.run("preflight", playbook=str(PROJECT / "playbooks" / "preflight.yml"))
    assert outcome.rc == 0, outcome.stdout
    assert outcome.artifact["verdict"] == "pass"


def test_second_provision_changes_nothing_and_check_says_so(fleet: Fleet) -> None:
    for options in (["--check", "--diff"], []):
        outcome = fleet.run("provision", *options)
        assert outcome.rc == 0, outcome.stdout
        assert outcome.changed == 0, outcome.stdout


def test_check_predicts_what_provision_repairs(fleet: Fleet, kept: None, release: Path) -> None:
    right = CONFIG.read_bytes()
    CONFIG.write_bytes(right + b"# drift\n")
    edited = release / "source" / "src" / "axolotl" / "train.py"
    source = edited.read_bytes()
    edited.write_bytes(source + b"# edited\n")
    try:
        predicted = fleet.run("provision", "--check", "--diff")
        assert predicted.rc == 0, predicted.stdout
        assert "-# drift" in predicted.stdout
        assert predicted.changed > 0
        assert CONFIG.read_bytes() != right
        outcome = fleet.run("provision")
        assert outcome.changed == predicted.changed
        assert (CONFIG.read_bytes(), edited.read_bytes()) == (right, source)
    finally:
        edited.write_bytes(source)
    assert fleet.run("preflight").errors == []


def test_config_drift_is_named_with_the_key_and_both_values(fleet: Fleet, kept: None) -> None:
    CONFIG.write_text(CONFIG.read_text().replace("learning_rate: 0.001", "learning_rate: 0.01"))
    outcome = fleet.run("preflight", "--diff")
    assert outcome.rc != 0
    assert outcome.errors == ["config"]
    finding = outcome.finding("config")
    assert finding["hosts"] == ["node1"]
    assert (finding["expected"], finding["found"]) == ("learning_rate: 0.001", "learning_rate: 0.01")
    assert "-learning_rate: 0.001" in outcome.stdout
    assert "+learning_rate: 0.01" in outcome.stdout


def test_launch_is_refused_and_starts_nothing_when_preflight_fails(fleet: Fleet, kept: None) -> None:
    CONFIG.write_text(CONFIG.read_text().replace("learning_rate: 0.001", "learning_rate: 0.01"))
    before = sorted(LOCAL.glob("node*/runs/*"))
    outcome = fleet.run("launch")
    assert outcome.rc != 0
    assert outcome.errors == ["config"]
    assert (outcome.artifact["verdict"], outcome.artifact["unfinished"]) == ("fail", False)
    assert sorted(LOCAL.glob("node*/runs/*")) == before


def test_edited_source_file_is_named(fleet: Fleet, release: Path) -> None:
    edited = release / "source" / "src" / "axolotl" / "train.py"
    content = edited.read_bytes()
    edited.write_bytes(content + b"# edited\n")
    try:
        outcome = fleet.run("preflight")
    finally:
        edited.write_bytes(content)
    assert outcome.errors == ["source_edited"]
    finding = outcome.finding("source_edited")
    assert finding["hosts"] == ["node1"]
    assert "src/axolotl/train.py" in finding["found"]


def test_another_commit_is_named(fleet: Fleet, release: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
        command = ["git", "-C", str(release / "source"), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    pinned = git("rev-parse", "HEAD")
    git("commit", "--quiet", "--allow-empty", "--message", "drift")
    other = git("rev-parse", "HEAD")
    try:
        outcome = fleet.run("preflight")
    finally:
        git("reset", "--quiet", "--hard", pinned)
    assert outcome.errors == ["commit"]
    finding = outcome.finding("commit")
    assert finding["hosts"] == ["node1"]
    assert pinned in finding["expected"]
    assert other in finding["found"]


def test_another_package_version_is_named(fleet: Fleet, release: Path) -> None:
    metadata = next(release.glob("venv/lib/python*/site-packages/colorama-*.dist-info"))
    other = metadata.with_name("colorama-0.0.1.dist-info")
    metadata.rename(other)
    try:
        outcome = fleet.run("preflight")
    finally:
        other.rename(metadata)
    assert outcome.errors == ["packages"]
    finding = outcome.finding("packages")
    assert finding["hosts"] == ["node1"]
    assert "colorama 0.0.1 instead of" in finding["found"]


def test_taken_rendezvous_port_is_named_with_its_holder(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 29514)):
        outcome = fleet.run("preflight")
    assert outcome.errors == ["port_taken"]
    finding = outcome.finding("port_taken")
    assert finding["hosts"] == ["node0"]
    assert f"pid {os.getpid()}" in finding["found"]
    assert "29514" in finding["expected"]


def test_name_that_does_not_resolve_is_one_finding(fleet: Fleet) -> None:
    outcome = fleet.run("preflight", axolotl_address="head.invalid")
    assert outcome.rc != 0
    assert outcome.errors == ["name_resolution"]
    finding = outcome.finding("name_resolution")
    assert finding["hosts"] == ["node0", "node1"]
    assert "head.invalid" in finding["expected"]


def test_both_nodes_dial_each_other_and_leave_nothing_behind(fleet: Fleet) -> None:
    before = listening_ports()
    outcome = fleet.run("preflight", "--check")
    mesh = outcome.artifact["evidence"]["mesh"]
    for node, other in (("node0", 1), ("node1", 0)):
        assert (mesh[node]["reached"], mesh[node]["failed"]) == (1, {})
        assert mesh[node]["ports"] == {"29514": "reached", "29515": "reached"}
        ((position, offset, error),) = mesh[node]["clocks"]
        assert position == other
        assert abs(offset) <= error + 0.001  # it is one clock
    assert listening_ports() <= before


def test_run_that_starts_gets_the_ports_from_preflight(fleet: Fleet) -> None:
    """Its folder is made before it listens; that a run is starting is a finding, and its ports are left alone."""
    folder = LOCAL / "node0" / "runs" / "20260101T000000Z-abcd"
    folder.mkdir(parents=True)
    soon = time.time() + 120  # as young as it is now when a slow machine comes to look at it
    os.utime(folder, (soon, soon))
    try:
        outcome = fleet.run("preflight")
    finally:
        folder.rmdir()
    assert outcome.errors == ["run_active"]
    assert outcome.artifact["evidence"]["mesh"]["node1"]["ports"] == {}


def test_interface_that_is_not_there_is_one_finding(fleet: Fleet) -> None:
    outcome = fleet.run("launch", axolotl_interface="none0")
    assert outcome.rc != 0
    assert outcome.errors == ["interface_missing"]
    finding = outcome.finding("interface_missing")
    assert finding["hosts"] == ["node0", "node1"]
    assert finding["expected"] == "interface none0 (axolotl_interface)"


def test_more_processes_than_devices(fleet: Fleet) -> None:
    processors = len(os.sched_getaffinity(0))
    outcome = fleet.run("preflight", axolotl_nproc_per_node=processors)
    findings = [finding for finding in outcome.artifact["findings"] if finding["id"] == "devices"]
    assert sorted(host for finding in findings for host in finding["hosts"]) == ["node0", "node1"]
    assert f"at least {2 * processors}" in findings[0]["expected"]


def test_override_that_axolotl_would_hand_to_torchrun(fleet: Fleet) -> None:
    outcome = fleet.run("preflight", axolotl_overrides={"max_stepz": 3})
    assert outcome.errors == ["override_unknown"]
    assert "--max-stepz" in outcome.finding("override_unknown")["found"]
