# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that share axolotl_root: one writes, the others verify, and what is declared is proven. A small release."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support.small_fleet import SmallFleet, changed


@pytest.fixture
def fleet(tmp_path: Path) -> SmallFleet:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"text": "x"}\n')
    files = [
        {"src": str(tmp_path / "data"), "dest": "data"},
        {"src": str(tmp_path / "data"), "dest": str(tmp_path / "nodes" / "all" / "more")},
    ]
    return SmallFleet(tmp_path, nodes=3, axolotl_storage="shared", axolotl_training_files=files)


def changes(said: str) -> dict[str, int]:
    """Node to the number of its changes, as the recap has it."""
    rows = re.findall(r"^(\w+) +: ok=.* changed=(\d+)", said.rpartition("PLAY RECAP")[2], re.MULTILINE)
    return {node: int(number) for node, number in rows}


def found(fleet: SmallFleet, verb: str = "provision") -> list[tuple[str, list[str]]]:
    findings = fleet.artifact(verb)["findings"]
    return [(finding["id"], finding["hosts"]) for finding in findings if finding["severity"] == "error"]


def leftovers(fleet: SmallFleet) -> list[Path]:
    return list((fleet.folder / "nodes").rglob(".gpufleet*"))


@pytest.mark.parametrize("delivery", ["pull", "push"])
def test_one_node_writes_and_the_others_verify(fleet: SmallFleet, delivery: str) -> None:
    fleet.settings["axolotl_delivery"] = delivery
    fleet.write_inventory()
    said = fleet.provision("--check")
    assert {node for node, number in changes(said).items() if number} == {"node0"}
    assert not (fleet.folder / "nodes").exists()
    said = fleet.provision()
    assert {node for node, number in changes(said).items() if number} == {"node0"}
    for task in ("Read the release that another node has written", "Read the config that another node has written"):
        assert re.search(rf"TASK \[.* : {task}\] \*+\nok: \[node\d\]\nok: \[node\d\]\n", said), said
    assert (fleet.root("node1") / "work" / "data" / "train.jsonl").exists()
    assert (fleet.root("node1") / "more" / "train.jsonl").exists()
    before = fleet.state("node0")
    assert changed(fleet.provision()) == 0
    assert fleet.state("node0") == before
    assert leftovers(fleet) == []


def test_who_writes_is_the_first_that_takes_part(fleet: SmallFleet) -> None:
    said = fleet.provision("--limit", "node1,node2")
    assert {node for node, number in changes(said).items() if number} == {"node1"}
    assert changed(fleet.provision()) == 0


def test_a_large_training_file_comes_once(fleet: SmallFleet) -> None:
    (fleet.folder / "data" / "big.bin").write_bytes(bytes(9 << 20))
    said = fleet.provision()
    assert re.findall(r"TASK \[gpufleet.axolotl.relay : Send it\] \*+\nchanged: \[(\w+)\]", said) == ["node0", "node0"]
    assert "Fetch from a neighbour" not in said
    assert changed(fleet.provision()) == 0


@pytest.mark.parametrize("delivery", ["pull", "push"])
def test_two_provisions_at_once(fleet: SmallFleet, delivery: str, tmp_path: Path) -> None:
    """From two controllers, whose writing nodes are different ones."""
    fleet.settings["axolotl_delivery"] = delivery
    fleet.write_inventory()
    fleet.provision("--limit", "node0")  # compiles the lock and packs
    expected = fleet.state("node0")
    fleet.remove_nodes()
    running = []
    for number, nodes in enumerate(("node0,node2", "node1")):
        folder = tmp_path / f"project{number}"
        folder.mkdir()
        running.append(
            subprocess.Popen(
                fleet.command("provision", "--limit", nodes),
                cwd=folder,
                env=fleet.environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "".join(said)[-20000:]
    assert fleet.state("node0") == expected
    assert changed(fleet.provision()) == 0
    assert leftovers(fleet) == []


def test_a_node_that_lacks_the_storage_is_named_and_nothing_is_built(fleet: SmallFleet) -> None:
    root = fleet.root("node0")
    root.mkdir(parents=True)
    fleet.write_inventory(node2={"ansible_python_interpreter": without(fleet, root)})
    assert fleet.run("provision").returncode != 0
    assert storage_findings(fleet, "provision") == {"storage_not_shared": ["node2"]}
    (finding,) = (finding for finding in fleet.artifact()["findings"] if finding["severity"] == "error")
    assert "a folder on tmpfs" in finding["found"]
    assert f"{root} is the folder that node0 sees" in finding["expected"]
    assert list(root.iterdir()) == []
    fleet.write_inventory()
    fleet.provision()
    before = fleet.state("node0")
    fleet.write_inventory(node2={"ansible_python_interpreter": without(fleet, root)})
    assert fleet.run("preflight").returncode != 0
    assert storage_findings(fleet, "preflight") == {"storage_not_shared": ["node2"]}
    fleet.write_inventory()
    fleet.run("preflight")
    assert storage_findings(fleet, "preflight") == {}
    assert fleet.state("node0") == before


def test_nodes_that_do_not_see_what_was_written_are_named(fleet: SmallFleet) -> None:
    """They see the storage, but on node1 the releases are hidden, and on node2 config and training files."""
    fleet.settings.update(axolotl_look_again=1, training_files_look_again=1)
    fleet.settings["axolotl_firewall"] = "none"  # which these Pythons, in a user namespace, may not read
    fleet.write_inventory()
    fleet.provision()
    before = fleet.state("node0")
    releases, work = (without(fleet, fleet.root("node0") / name) for name in ("releases", "work"))
    fleet.write_inventory(node1={"ansible_python_interpreter": releases}, node2={"ansible_python_interpreter": work})
    assert fleet.run("provision").returncode != 0
    findings = [finding for finding in fleet.artifact()["findings"] if finding["severity"] == "error"]
    assert [(finding["id"], finding["hosts"]) for finding in findings] == [
        ("provision_failed", ["node1"]),
        ("provision_failed", ["node2"]),
    ]
    assert "node1 sees no complete release in" in findings[0]["found"]
    assert "there is no such folder" in findings[0]["found"]
    assert "as node2 sees it is not what node0 has written there" in findings[1]["found"]
    assert fleet.state("node0") == before


def without(fleet: SmallFleet, root: Path) -> str:
    """A Python that sees an empty folder in the place of `root`: all nodes on this machine would see the same."""
    wrapper = fleet.folder / f"python-without-{root.name}"
    python = fleet.settings["ansible_python_interpreter"]
    mounted = f'mount -t tmpfs tmpfs {root} && exec {python} "$@"'
    wrapper.write_text(f"#!/bin/sh\nexec unshare --user --map-root-user --mount sh -c '{mounted}' sh \"$@\"\n")
    wrapper.chmod(0o755)
    return str(wrapper)


def storage_findings(fleet: SmallFleet, verb: str) -> dict[str, list[str]]:
    """What is said of the storage: preflight finds this machine too small for three nodes, too."""
    errors = dict(found(fleet, verb))
    return {name: hosts for name, hosts in errors.items() if verb == "provision" or name.startswith("storage_")}


def test_nodes_that_overwrite_each_other_are_named_and_nothing_is_built(fleet: SmallFleet) -> None:
    fleet.settings["axolotl_storage"] = "local"
    roots = {name: fleet.folder / "nodes" / name for name in fleet.names}
    roots["node0"].mkdir(parents=True)
    roots["node1"].symlink_to("node0")
    fleet.write_inventory()
    assert fleet.run("provision").returncode != 0
    assert storage_findings(fleet, "provision") == {"storage_is_shared": ["node1"]}
    assert list(roots["node0"].iterdir()) == []
    roots["node1"].unlink()
    fleet.provision()
    fleet.remove_nodes(["node1"])
    roots["node1"].symlink_to("node0")
    fleet.run("preflight")
    assert storage_findings(fleet, "preflight") == {"storage_is_shared": ["node1"]}
