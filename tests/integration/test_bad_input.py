# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input gets one clear finding before anything is touched, and the exit code says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.fleet import LOCAL, Fleet

COMMIT = "cfe962a45cfe12064a375f9c784487998059c657"


@pytest.mark.parametrize(
    ("variables", "rule", "words"),
    [
        ({"axolotl_commit": "main"}, "setting_invalid", ["axolotl_commit", "40 hex", "main"]),
        ({"axolotl_commit": COMMIT[:12]}, "setting_invalid", ["axolotl_commit", "40 hex", COMMIT[:12]]),
        (
            {"axolotl_config": "/nonexistent/config.yml"},
            "config_missing",
            ["/nonexistent/config.yml", "axolotl_config"],
        ),
        ({"axolotl_master_port": 70000}, "setting_invalid", ["axolotl_master_port", "65535", "70000"]),
        ({"axolotl_master_port": 29515}, "port_twice", ["axolotl_watch_port", "29515"]),
        ({"axolotl_nproc_per_node": 0}, "setting_invalid", ["axolotl_nproc_per_node", "from 1"]),
        ({"axolotl_node_rank": 0}, "rank_invalid", ["axolotl_node_rank", "node0: 0, node1: 0"]),
        ({"axolotl_node_rank": 7}, "rank_invalid", ["from 0 to 1"]),
        ({"axolotl_root": "/srv/axolotl"}, "root_shared", ["axolotl_root", "/srv/axolotl"]),
        ({"axolotl_root": "relative"}, "setting_invalid", ["axolotl_root", "absolute path"]),
        ({"axolotl_overrides": {"nnodes": 3}}, "override_invalid", ["nnodes", "launcher"]),
        ({"axolotl_overrides": {"datasets": [1]}}, "override_invalid", ["datasets", "config"]),
        ({"axolotl_environment": {"HF_TOKEN": "x"}}, "secret_exposed", ["HF_TOKEN", "axolotl_secrets"]),
        ({"axolotl_launcher": "mpirun"}, "setting_invalid", ["axolotl_launcher", "torchrun"]),
        ({"axolotl_python_version": "3.99"}, "lock_missing", ["provision"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_launch_refuses(bare_fleet: Fleet, variables: dict[str, Any], rule: str, words: list[str]) -> None:
    outcome = bare_fleet.run("launch", **variables)
    assert outcome.rc != 0
    assert outcome.errors == [rule]
    finding = outcome.finding(rule)
    text = " ".join([*finding["hosts"], finding["expected"], finding["found"], finding["remedy"]])
    for word in words:
        assert word in text
    assert (outcome.artifact["verdict"], outcome.artifact["unfinished"]) == ("fail", False)
    assert outcome.changed == 0


def test_all_that_is_wrong_comes_at_once(bare_fleet: Fleet) -> None:
    outcome = bare_fleet.run("launch", axolotl_commit="main", axolotl_master_port=1, axolotl_launcher="mpirun")
    assert outcome.errors == ["setting_invalid"] * 3


@pytest.mark.parametrize("content", [b"learning_rate: [1\n", b"- a list\n", b"\xff\xfe\x00"])
def test_config_that_is_no_mapping(bare_fleet: Fleet, tmp_path: Path, content: bytes) -> None:
    config = tmp_path / "broken.yml"
    config.write_bytes(content)
    outcome = bare_fleet.run("launch", axolotl_config=str(config))
    assert outcome.errors == ["config_invalid"]
    assert str(config) in outcome.finding("config_invalid")["expected"]


@pytest.mark.parametrize("verb", ["provision", "preflight", "launch", "status", "stop", "collect"])
def test_empty_group(bare_fleet: Fleet, tmp_path: Path, verb: str) -> None:
    inventory = tmp_path / "empty.yml"
    inventory.write_text("axolotl_nodes:\n  hosts: {}\n")
    outcome = bare_fleet.run(verb, inventory=inventory)
    assert outcome.rc != 0
    assert outcome.errors == ["group_empty"]


def test_limit_to_a_host_outside_the_group(bare_fleet: Fleet, tmp_path: Path) -> None:
    inventory = tmp_path / "other.yml"
    inventory.write_text(
        "other:\n  hosts:\n    stranger:\n      ansible_connection: local\naxolotl_nodes:\n  hosts: {}\n"
    )
    outcome = bare_fleet.run("launch", "--limit", "stranger", inventory=inventory)
    assert outcome.rc != 0
    assert outcome.errors == ["group_empty"]


def test_unreachable_node_is_a_finding_and_never_a_smaller_world(provisioned: Path, fleet: Fleet) -> None:
    # Nothing answers ssh on this port of this machine.
    outcome = fleet.run("launch", "--extra-vars", "@" + str(_unreachable(fleet)))
    assert outcome.rc != 0
    assert outcome.errors == ["unreachable"]
    assert outcome.finding("unreachable")["hosts"] == ["node1"]
    assert outcome.artifact["verdict"] == "fail"


@pytest.mark.parametrize("verb", ["provision", "preflight", "status", "stop", "collect"])
def test_every_verb_names_an_unreachable_node(provisioned: Path, fleet: Fleet, verb: str) -> None:
    outcome = fleet.run(verb, "--extra-vars", "@" + str(_unreachable(fleet)))
    assert outcome.rc != 0
    assert outcome.finding("unreachable")["hosts"] == ["node1"]


def _unreachable(fleet: Fleet) -> Path:
    """Variables that take node1's connection to a port where no ssh server listens."""
    path = fleet.folder / "unreachable.yml"
    path.write_text(
        "ansible_connection: \"{{ 'ansible.builtin.ssh' if inventory_hostname == 'node1' else 'local' }}\"\n"
        "ansible_host: 127.0.0.1\nansible_port: 9\nansible_ssh_common_args: -o ConnectTimeout=3\n"
    )
    return path


def test_limited_launch_is_refused(fleet: Fleet) -> None:
    outcome = fleet.run("launch", "--limit", "node1")
    assert outcome.rc != 0
    assert outcome.errors == ["limited"]
    assert outcome.finding("limited")["hosts"] == ["node0"]


def test_commit_that_the_repository_lacks(fleet: Fleet) -> None:
    missing = "0123456789" * 4
    outcome = fleet.run("provision", axolotl_commit=missing)
    assert outcome.rc != 0
    assert outcome.errors == ["provision_failed"]
    finding = outcome.finding("provision_failed")
    assert missing in finding["found"]
    assert "axolotl_repository or axolotl_commit" in finding["found"]
    assert not list((LOCAL / "node0" / "releases").glob("0123*"))


def test_extra_that_the_commit_does_not_define(fleet: Fleet) -> None:
    outcome = fleet.run("provision", axolotl_extras=["fsdp"])
    assert outcome.rc != 0
    assert outcome.errors == ["provision_failed"]
    found = outcome.finding("provision_failed")["found"]
    assert "fsdp" in found
    assert "deepspeed" in found  # one of those that it does define


def test_values_with_spaces_and_metacharacters_arrive_intact(fleet: Fleet) -> None:
    value = "a b; $(touch /tmp/pwned) `id` \"quoted\" 'single' && | > *"
    outcome = fleet.run("launch", "--check", "--diff", axolotl_overrides={"wandb_name": value})
    assert outcome.rc == 0, outcome.stdout
    argv = outcome.artifact["plan"]["nodes"]["node1"]["start"]["argv"]
    assert f"--wandb-name={value}" in argv
    assert outcome.artifact["check"] is True
    assert not Path("/tmp/pwned").exists()


@pytest.mark.parametrize("verb", ["status", "stop", "collect"])
def test_limit_that_leaves_nothing_of_the_group(bare_fleet: Fleet, tmp_path: Path, verb: str) -> None:
    inventory = tmp_path / "fleet.yml"
    inventory.write_text(
        "other:\n  hosts:\n    stranger:\n      ansible_connection: local\n"
        f"axolotl_nodes:\n  hosts:\n    node0:\n      ansible_connection: local\n      axolotl_root: {tmp_path}/root\n"
    )
    outcome = bare_fleet.run(verb, "--limit", "stranger", inventory=inventory)
    assert outcome.rc != 0
    assert outcome.errors == ["limited"]


def test_tags_that_nothing_has_do_not_empty_a_verb(fleet: Fleet) -> None:
    outcome = fleet.run("preflight", "--tags", "nosuch")
    assert outcome.rc == 0, outcome.stdout
    assert (outcome.artifact["verdict"], outcome.artifact["unfinished"]) == ("pass", False)
    assert outcome.artifact["evidence"]["fingerprints"]


def test_setting_that_refers_to_nothing(bare_fleet: Fleet) -> None:
    outcome = bare_fleet.run("launch", axolotl_commit="{{ no_such_variable }}")
    assert outcome.errors == ["setting_invalid"]
    assert "no_such_variable" in outcome.finding("setting_invalid")["found"]
