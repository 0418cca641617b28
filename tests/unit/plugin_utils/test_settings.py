# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings: what each takes, and that whatever is wrong is one finding that says where to set it."""

from __future__ import annotations

from typing import Any

import pytest
from unit.fleets import COMMIT, SETTINGS, inventory

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import settings


def source(kind: str, location: str, version: str, *include: str) -> dict[str, Any]:
    return {"kind": kind, "location": location, "version": version, "include": list(include)}


def read_with(name: str, value: Any) -> tuple[Any, list[Any]]:
    values, findings = settings.read({"node0": {**SETTINGS, name: value}})
    return values["node0"].get(name), findings


def test_the_least_that_an_inventory_needs() -> None:
    values, findings = settings.read(inventory())
    assert findings == []
    fleet = values["node0"]
    assert set(fleet) == {setting.name for setting in settings.SETTINGS}
    assert fleet.root == "/opt/axolotl"
    assert fleet.nproc_per_node == 8
    assert (fleet.master_port, fleet.watch_port) == (29500, 29501)
    assert fleet.machine is fleet.node_rank is fleet.address is None
    assert fleet.overrides == {}
    assert fleet.launcher == "torchrun"


def test_the_inventorys_folder_is_where_the_locks_are_by_default() -> None:
    values, _unused = settings.read({"node0": {**SETTINGS, "inventory_dir": "/project/inventories/lab"}})
    assert values["node0"].lock_dir == "/project/inventories/lab/locks"
    values, _unused = settings.read({"node0": SETTINGS})
    assert values["node0"].lock_dir == "./locks"


@pytest.mark.parametrize(
    "name", [setting.name for setting in settings.SETTINGS if setting.default is settings.REQUIRED]
)
def test_what_must_be_set_is_missed(name: str) -> None:
    variables = inventory(3)
    for node in ("node0", "node2"):
        del variables[node][name]
    _unused, findings = settings.read(variables)
    assert [(finding.id, finding.hosts) for finding in findings] == [("setting_missing", ("node0", "node2"))]
    assert findings[0].expected.startswith(f"{name}: ")
    assert findings[0].found == "not set"
    assert f"set {name} in the inventory" in findings[0].remedy


BAD = [
    ("training_files_preprocess", "always"),
    ("parity_reference", "most"),
    ("parity_pinned", {"drivers": "580.65.06"}),
    ("parity_group", 5),
    ("parity_exceptions", {"driver": "waived"}),
    ("parity_record", ["parity.json"]),
    ("parity_rehash", "often"),
    ("parity_timeout", 0),
    ("axolotl_root", "relative/path"),
    ("axolotl_root", "/a/../b"),
    ("axolotl_root", "/a/.."),
    ("axolotl_root", "/"),
    ("axolotl_root", "/a//b"),
    ("axolotl_root", "/a\\\\b"),
    ("axolotl_root", "/a'b"),
    ("axolotl_root", "/a$b"),
    ("axolotl_root", "/a b"),
    ("axolotl_root", "/a\n/b"),
    ("axolotl_root", 5),
    ("axolotl_machine", ""),
    ("axolotl_user", "root"),
    ("axolotl_user", "Train"),
    ("axolotl_user", "-train"),
    ("axolotl_user", "train; id"),
    ("axolotl_node_rank", -1),
    ("axolotl_node_rank", True),
    ("axolotl_node_rank", "first"),
    ("axolotl_repository", "  "),
    ("axolotl_commit", "main"),
    ("axolotl_commit", COMMIT[:12]),
    ("axolotl_commit", COMMIT + "0"),
    ("axolotl_commit", COMMIT.upper()),
    ("axolotl_commit", 1234567),
    ("axolotl_extras", "deepspeed"),
    ("axolotl_extras", [1]),
    ("axolotl_extras", [""]),
    ("axolotl_requirements", {"torch": "2.13.0"}),
    ("axolotl_python_version", 3.11),
    ("axolotl_torch_backend", 130),
    ("axolotl_training_files", "data"),
    ("axolotl_training_files", ["data"]),
    ("axolotl_training_files", [{"src": "a"}]),
    ("axolotl_training_files", [{"dest": "a"}]),
    ("axolotl_training_files", [{"src": "a", "dest": "a", "storage": "nfs"}]),
    ("axolotl_training_files", [{"src": "a", "dest": "a", "mode": "0644"}]),
    ("axolotl_training_files", [{"src": "a", "url": "https://b/c", "sha256": "0" * 64, "dest": "a"}]),
    ("axolotl_training_files", [{"src": "a", "revision": "0" * 40, "dest": "a"}]),
    ("axolotl_training_files", [{"url": "https://b/c", "dest": "a"}]),
    ("axolotl_training_files", [{"url": "https://b/c", "sha256": "0" * 40, "dest": "a"}]),
    ("axolotl_training_files", [{"url": "b/c", "sha256": "0" * 64, "dest": "a"}]),
    ("axolotl_training_files", [{"git": "https://b/c", "revision": "main", "dest": "a"}]),
    ("axolotl_training_files", [{"git": "https://b/c", "revision": "0" * 40, "include": ["*"], "dest": "a"}]),
    ("axolotl_training_files", [{"hub": "org/model", "revision": "main", "dest": "a"}]),
    ("axolotl_training_files", [{"hub": "org/model", "dest": "a"}]),
    ("axolotl_training_files", [{"hub": "https://b/org/model", "revision": "0" * 40, "dest": "a"}]),
    ("axolotl_training_files", [{"hub": "org/model", "revision": "0" * 40, "include": "*", "dest": "a"}]),
    ("training_files_preprocess", "all"),
    ("axolotl_accelerator", "rocm"),
    ("axolotl_nproc_per_node", 0),
    ("axolotl_nproc_per_node", "eight"),
    ("axolotl_nproc_per_node", 8.0),
    ("axolotl_nproc_per_node", [8]),
    ("axolotl_delivery", "send"),
    ("axolotl_storage", "nfs"),
    ("axolotl_launcher", "mpirun"),
    ("axolotl_rendezvous", "etcd"),
    ("rerun", ["x"]),
    ("smoke", "maybe"),
    ("axolotl_require_smoke", -1),
    ("axolotl_max_restarts", -1),
    ("axolotl_rendezvous_timeout", 0),
    ("axolotl_launcher", ["torchrun"]),
    ("axolotl_master_port", 80),
    ("axolotl_master_port", 65536),
    ("axolotl_master_port", "29500 "),
    ("axolotl_watch_port", "-1"),
    ("axolotl_overrides", ["max_steps=3"]),
    ("infiniband_provider", "mlnx"),
    ("infiniband_provider", True),
    ("infiniband_doca_version", "3.2"),
    ("infiniband_doca_version", "latest"),
    ("infiniband_doca_version", 3.2),
    ("infiniband_doca_key", ["key.asc"]),
    ("infiniband_doca_repository", " "),
    ("infiniband_reboot", "sometimes"),
    ("axolotl_overrides", {1: 2}),
    ("axolotl_environment", {"NAME WITH SPACE": "x"}),
    ("axolotl_environment", {"A=B": "x"}),
    ("axolotl_environment", {"A": ["x"]}),
    ("axolotl_environment", {"A": None}),
    ("axolotl_environment", "A=x"),
    ("axolotl_secrets", {"HF-TOKEN": "x"}),
    ("axolotl_interface", "eth0,eth1"),
    ("axolotl_interface", "=ib0"),
    ("axolotl_interface", "a-name-that-is-too-long"),
    ("axolotl_interface", ["ib0"]),
    ("axolotl_hcas", "mlx5_0"),
    ("axolotl_hcas", ["=mlx5_0"]),
    ("axolotl_hcas", ["mlx5_0:first"]),
    ("axolotl_management_networks", "192.0.2.0/24"),
    ("axolotl_management_networks", ["192.0.2.7/24"]),
    ("axolotl_management_networks", ["eth0"]),
    ("axolotl_management_networks", [5]),
    ("axolotl_supervisor", "docker"),
    ("axolotl_join_timeout", 0),
    ("axolotl_watch_grace", 10**9),
    ("axolotl_stop_grace", "5s"),
    ("axolotl_follow", "maybe"),
    ("axolotl_follow", 1),
    ("axolotl_follow_interval", 0),
    ("axolotl_expected_tokens", -1),
    ("gpufleet_artifacts_dir", ""),
    ("axolotl_firewall", "iptables"),
    ("axolotl_peer_addresses", "192.0.2.1"),
    ("axolotl_peer_addresses", ["node1"]),
    ("axolotl_peer_addresses", ["192.0.2.1/24"]),
    ("axolotl_peer_addresses", ["0.0.0.0/0"]),
    ("axolotl_peer_addresses", ["fe80::1%ib0"]),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_one_finding_that_names_the_setting(name: str, value: Any) -> None:
    kept, findings = read_with(name, value)
    assert kept is None
    assert [(finding.id, finding.hosts, finding.severity) for finding in findings] == [
        ("setting_invalid", ("node0",), "error")
    ]
    assert findings[0].expected.startswith(f"{name}: ")
    assert f"set {name} in the inventory (group_vars of axolotl_nodes" in findings[0].remedy
    per_node = next(setting.per_node for setting in settings.SETTINGS if setting.name == name)
    assert ("host_vars" in findings[0].remedy) == per_node


def test_every_setting_is_tried_with_something_bad() -> None:
    unrestricted = {
        "axolotl_address",
        "axolotl_python_platform",
        "axolotl_lock_dir",
        "axolotl_uv_version",
        "axolotl_uv_cache_dir",
        "axolotl_config",
    }  # texts, as others that are tried
    assert {name for name, _unused in BAD} | unrestricted == {setting.name for setting in settings.SETTINGS}


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("axolotl_master_port", "29600", 29600),
        ("axolotl_nproc_per_node", "2", 2),
        ("axolotl_follow", "no", False),
        ("axolotl_follow", "False", False),
        ("axolotl_follow", "yes", True),
        ("axolotl_node_rank", "0", 0),
        ("axolotl_node_rank", 0, 0),
        ("axolotl_root", "/opt/axolotl/", "/opt/axolotl"),
        ("axolotl_environment", {"A": 1, "B": "x y", "C": True}, {"A": "1", "B": "x y", "C": "True"}),
        (
            "axolotl_training_files",
            [{"src": "a", "dest": "b"}],
            [{"src": "a", "dest": "b", "storage": "copy", "source": None}],
        ),
        (
            "axolotl_training_files",
            [{"dest": "/mnt/b", "storage": "shared"}],
            [{"src": "", "dest": "/mnt/b", "storage": "shared", "source": None}],
        ),
        (
            "axolotl_training_files",
            [{"url": "https://b/c", "sha256": "A" * 64, "dest": "d"}],
            [{"src": "", "dest": "d", "storage": "copy", "source": source("url", "https://b/c", "a" * 64)}],
        ),
        (
            "axolotl_training_files",
            [{"git": "git@b:c.git", "revision": "0" * 40, "dest": "d"}],
            [{"src": "", "dest": "d", "storage": "copy", "source": source("git", "git@b:c.git", "0" * 40)}],
        ),
        (
            "axolotl_training_files",
            [{"hub": "datasets/org/data", "revision": "0" * 40, "include": ["*.json"], "dest": "d"}],
            [
                {
                    "src": "",
                    "dest": "d",
                    "storage": "copy",
                    "source": source("hub", "datasets/org/data", "0" * 40, "*.json"),
                }
            ],
        ),
    ],
)
def test_what_is_given_with_e_is_text_and_is_typed_here(name: str, value: Any, parsed: Any) -> None:
    assert read_with(name, value) == (parsed, [])


def test_all_that_is_wrong_comes_at_once() -> None:
    variables = inventory(2, commit="main", master_port=1)
    del variables["node1"]["axolotl_config"]
    variables["node0"]["axolotl_root"] = "here"
    _unused, findings = settings.read(variables)
    assert sorted((finding.expected.split(":")[0], finding.hosts) for finding in findings) == [
        ("axolotl_commit", ("node0", "node1")),
        ("axolotl_config", ("node1",)),
        ("axolotl_master_port", ("node0", "node1")),
        ("axolotl_root", ("node0",)),
    ]


def test_what_is_the_fleets_must_be_equal_everywhere() -> None:
    variables = inventory(3)
    variables["node1"]["axolotl_nproc_per_node"] = 4
    _unused, findings = settings.read(variables)
    assert [(finding.id, finding.hosts) for finding in findings] == [("setting_differs", ("node1",))]
    assert findings[0].expected == "axolotl_nproc_per_node is equal on all nodes, as on most: 8"
    assert findings[0].found == "4 on node1"
    assert "set axolotl_nproc_per_node in the inventory" in findings[0].remedy
    assert "once for all" in findings[0].remedy


def test_the_same_value_in_two_spellings_is_equal() -> None:
    variables = inventory(2)
    variables["node1"]["axolotl_master_port"] = "29500"
    assert settings.read(variables)[1] == []


def test_nodes_may_differ_in_what_is_theirs() -> None:
    variables = inventory(2)
    for number, node in enumerate(variables):
        own = {"root": f"/opt/{node}", "machine": "m", "node_rank": number, "address": f"10.0.0.{number}"}
        variables[node].update({f"axolotl_{name}": value for name, value in own.items()})
    values, findings = settings.read(variables)
    assert findings == []
    assert values["node1"].root == "/opt/node1"


@pytest.mark.parametrize("value", ["s3cr3t", {"HF_TOKEN": ["s3cr3t"]}, {"HF TOKEN": "s3cr3t"}])
def test_invalid_secrets_are_not_shown(value: Any) -> None:
    _unused, findings = read_with("axolotl_secrets", value)
    assert len(findings) == 1
    assert "s3cr3t" not in str(findings)
    assert "axolotl_secrets" in findings[0].expected


def test_differing_secrets_are_not_shown() -> None:
    variables = inventory(2, secrets={"HF_TOKEN": "s3cr3t"})
    variables["node1"]["axolotl_secrets"] = {"HF_TOKEN": "0th3r"}
    _unused, findings = settings.read(variables)
    assert [finding.id for finding in findings] == ["setting_differs"]
    assert "s3cr3t" not in str(findings)
    assert "0th3r" not in str(findings)


def test_a_long_value_is_cut() -> None:
    _unused, findings = read_with("axolotl_commit", "x" * 100_000)
    assert len(findings[0].found) <= 200


def test_only_what_the_verb_needs_is_looked_at() -> None:
    variables = {"node0": {"axolotl_root": "/opt/axolotl", "axolotl_commit": "main"}}
    values, findings = settings.read(variables, {"axolotl_root", "axolotl_follow_interval"})
    assert findings == []
    assert values["node0"] == {"axolotl_root": "/opt/axolotl", "axolotl_follow_interval": 10}


def test_a_value_that_can_not_be_told_is_invalid() -> None:
    variables = inventory(2)
    for name in ("axolotl_root", "axolotl_secrets"):
        variables["node1"][name] = settings.Unreadable("'nowhere' is undefined")
    _unused, findings = settings.read(variables)
    assert [(finding.id, finding.hosts, finding.found) for finding in findings] == [
        ("setting_invalid", ("node1",), "'nowhere' is undefined")
    ] * 2
    assert {finding.expected.partition(":")[0] for finding in findings} == {"axolotl_root", "axolotl_secrets"}
