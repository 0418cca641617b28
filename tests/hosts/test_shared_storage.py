# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three hosts whose axolotl_root lies on one storage: built once, seen by all, and named where it is not mounted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.host_fleet import HostFleet
from support.small_fleet import SmallFleet, changed

from tools.hosts.bed import SHARED, Bed

NODES = ["host0", "host1", "host2"]
ROOT = f"{SHARED}/axolotl"
WORK = f"{ROOT}/work"


@pytest.fixture(scope="module")
def hosts(bare_hosts: Bed) -> Iterator[Bed]:
    """Bare hosts, and nothing on the storage that they share."""
    clear(bare_hosts)
    yield bare_hosts
    clear(bare_hosts)


def clear(bed: Bed) -> None:
    bed.execute("host0", "find", SHARED, "-mindepth", "1", "-delete")


@pytest.fixture
def fleet(hosts: Bed, tmp_path: Path) -> HostFleet:
    """Three hosts as nodes, and a release of two packages, brought by the controller."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"text": "x"}\n')
    fleet = HostFleet(hosts, tmp_path, NODES)
    write_inventory(fleet)
    return fleet


def write_inventory(fleet: HostFleet, **changes: Any) -> None:
    files = [{"src": str(fleet.folder / "data"), "dest": "data"}]
    fleet.write_hosts(**{"axolotl_root": ROOT, "axolotl_storage": "shared", "axolotl_training_files": files, **changes})


@contextmanager
def covered(bed: Bed, host: str) -> Iterator[None]:
    """The storage is not what this host sees: something else is mounted at its path. It must stay empty."""
    bed.execute(host, "mount", "-t", "tmpfs", "-o", "mode=0777", "tmpfs", SHARED)
    try:
        yield
        assert bed.execute(host, "ls", "-A", SHARED) == ""
    finally:
        bed.execute(host, "umount", SHARED)


def changes(said: str) -> dict[str, int]:
    """Node to the number of its changes, where there are any, as the recap has it."""
    rows = re.findall(r"^(\w+) +: ok=.* changed=(\d+)", said.rpartition("PLAY RECAP")[2], re.MULTILINE)
    return {node: int(number) for node, number in rows if int(number)}


def of_storage(fleet: SmallFleet, verb: str) -> dict[str, list[str]]:
    """What is said of the storage; provision must say nothing else is wrong."""
    findings = [finding for finding in fleet.artifact(verb)["findings"] if finding["severity"] == "error"]
    errors = {finding["id"]: finding["hosts"] for finding in findings}
    return {name: hosts for name, hosts in errors.items() if verb == "provision" or name.startswith("storage_")}


def files(bed: Bed) -> str:
    return bed.execute("host0", "find", SHARED, "-path", "*/runs", "-prune", "-o", "-printf", "%p %s %T@ %u\\n")


@pytest.mark.timeout(900)
def test_one_storage_for_three_hosts(hosts: Bed, fleet: HostFleet) -> None:
    said = fleet.provision("--check")
    assert hosts.execute("host1", "ls", "-A", SHARED) == ""
    fleet.provision("--tags", "host")
    said = fleet.provision()
    assert set(changes(said)) == {"host0"}
    task = "gpufleet.axolotl.axolotl : Read the release that another node has written"
    assert re.search(rf"TASK \[{task}\] \*+\nok: \[host[12]\]\nok: \[host[12]\]\n", said), said[-4000:]
    for host in NODES:
        current = hosts.execute(
            host, "su", "train", "-c", f"{ROOT}/current/venv/bin/python -c 'import axolotl.cli.main'"
        )
        assert current == ""
        assert hosts.execute(host, "cat", f"{WORK}/data/train.jsonl") == '{"text": "x"}'
    before = files(hosts)
    assert ".gpufleet" not in before
    assert changed(fleet.provision()) == 0
    fleet.run("preflight")
    assert of_storage(fleet, "preflight") == {}
    after = files(hosts)
    assert [line for line in after.splitlines() if line not in before and f"{ROOT} " not in line] == []

    with covered(hosts, "host1"):
        for verb in ("provision", "preflight"):
            assert fleet.run(verb).returncode != 0
            assert of_storage(fleet, verb) == {"storage_not_shared": ["host1"]}
    finding = next(found for found in fleet.artifact("preflight")["findings"] if found["id"] == "storage_not_shared")
    assert "no such folder" in finding["found"]
    assert ROOT in finding["expected"]
    assert "host0" in finding["expected"]

    write_inventory(fleet, axolotl_storage="local")
    for verb in ("provision", "preflight"):
        assert fleet.run(verb).returncode != 0
        assert of_storage(fleet, verb) == {"storage_is_shared": ["host1", "host2"]}

    write_inventory(fleet)
    hosts.execute("host2", "sh", "-c", "loginctl terminate-user train; sleep 1; usermod --uid 4321 train")
    assert fleet.run("provision").returncode != 0
    assert of_storage(fleet, "provision") == {"storage_not_writable": ["host2"]}


def test_the_writer_lacks_the_storage(hosts: Bed, fleet: HostFleet) -> None:
    """Before anything is built: the others would otherwise wait for what can never come."""
    clear(hosts)
    hosts.execute("host0", "mount", "-t", "tmpfs", "-o", "mode=0777", "tmpfs", SHARED)
    try:
        assert fleet.run("provision").returncode != 0
        assert of_storage(fleet, "provision") == {"storage_not_shared": ["host1", "host2"]}
        assert hosts.execute("host0", "find", SHARED, "-mindepth", "1") == ROOT
    finally:
        hosts.execute("host0", "umount", SHARED)
