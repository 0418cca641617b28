# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases reach nodes without a network, once, whole, and whatever interrupts it. The release is a small one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support.small_fleet import OFFLINE, SmallFleet, changed


@pytest.fixture
def fleet(tmp_path: Path) -> SmallFleet:
    return SmallFleet(tmp_path, nodes=3, axolotl_delivery="push")


def senders(stdout: str) -> list[str]:
    """The nodes that the controller sent its copy to."""
    return re.findall(r"TASK \[gpufleet.axolotl.relay : Send it\] \*+\nchanged: \[(\w+)\]", stdout)


def test_nodes_without_a_network_get_what_others_pull(tmp_path: Path, fleet: SmallFleet) -> None:
    fleet.settings["axolotl_delivery"] = "pull"
    fleet.write_inventory()
    fleet.provision()
    pulled = {node: fleet.state(node) for node in fleet.names}
    fleet.remove_nodes()
    fleet.settings["axolotl_delivery"] = "push"
    fleet.write_inventory()
    said = fleet.provision("--check")
    assert changed(said) > 0
    assert not (tmp_path / "nodes").exists() or not any((tmp_path / "nodes").rglob("*"))
    fleet.provision("--limit", "node0")  # while the controller has its network, it packs
    fleet.remove_nodes()
    # The cache of uv knows what was pulled, and a new node's does not.
    fleet.settings["axolotl_uv_cache_dir"] = str(tmp_path / "new-cache")
    fleet.write_inventory()
    reach = subprocess.run([*OFFLINE, "ip", "route", "show", "default"], check=True, capture_output=True, text=True)
    assert reach.stdout == ""
    said = fleet.provision(offline=True)
    assert senders(said) == ["node0"]
    for node in fleet.names:
        found = {name: digest for name, digest in fleet.state(node).items() if "/delivery/" not in name}
        assert found == pulled[node]
    assert changed(fleet.provision(offline=True)) == 0


def test_the_controller_sends_one_copy_and_none_when_a_node_has_it(fleet: SmallFleet) -> None:
    said = fleet.provision()
    assert senders(said) == ["node0"]
    assert said.count("TASK [gpufleet.axolotl.relay : Fetch from a neighbour, and offer it in turn]") == 2
    before = fleet.state("node1")
    fleet.remove_nodes(["node1"])
    said = fleet.provision()
    assert senders(said) == []
    assert fleet.state("node1") == before


def test_a_damaged_release_is_repaired_from_its_own_delivery(fleet: SmallFleet) -> None:
    fleet.provision()
    before = fleet.state("node2")
    next(fleet.release("node2").glob("venv/lib/*/site-packages/beta/__init__.py")).unlink()
    said = fleet.provision(offline=True)
    assert senders(said) == []
    assert "Fetch from a neighbour" not in said
    assert fleet.state("node2") == before


def test_a_large_training_file_leaves_the_controller_once(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "empty").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"w" * (9 << 20))
    (tmp_path / "small.jsonl").write_text("{}\n")
    files = [{"src": str(tmp_path / "small.jsonl"), "dest": "small.jsonl"}, {"src": str(folder), "dest": "model"}]
    fleet = SmallFleet(tmp_path, nodes=3, axolotl_training_files=files)
    said = fleet.provision()
    assert senders(said) == ["node0"]
    for node in fleet.names:
        work = fleet.root(node) / "work"
        assert (work / "model" / "weights.bin").read_bytes() == b"w" * (9 << 20)
        assert (work / "small.jsonl").read_text() == "{}\n"
    said = fleet.provision()
    assert changed(said) == 0
    assert "relay" not in said
    # One node has it still, so the controller sends nothing.
    (fleet.root("node1") / "work" / "model" / "weights.bin").write_bytes(b"x")
    said = fleet.provision()
    assert senders(said) == []
    assert (fleet.root("node1") / "work" / "model" / "weights.bin").read_bytes() == b"w" * (9 << 20)
