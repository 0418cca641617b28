# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dataset is prepared by the real Axolotl, once, and every node trains on that."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fleet import LOCAL, Fleet, run_folder

pytestmark = [pytest.mark.training, pytest.mark.timeout(600)]

PREPARED = {node: LOCAL / node / "work" / "prepared" for node in ("node0", "node1")}
ONCE = {"training_files_preprocess": "head"}


@pytest.fixture
def unprepared(provisioned: Path) -> Iterator[None]:
    """Both nodes without a prepared dataset, before and after."""
    for folder in PREPARED.values():
        shutil.rmtree(folder, ignore_errors=True)
    yield
    for folder in PREPARED.values():
        shutil.rmtree(folder, ignore_errors=True)


def rows(node: str) -> dict[str, bytes]:
    return {str(path.relative_to(PREPARED[node])): path.read_bytes() for path in PREPARED[node].rglob("*.arrow")}


def test_what_one_node_has_prepared_all_train_on(unprepared: None, fleet: Fleet) -> None:
    missing = fleet.run("preflight", **ONCE)
    assert missing.rc == 0
    assert {host for name, hosts, _severity in missing.found() if name == "prepared_missing" for host in hosts} == {
        "node0",
        "node1",
    }

    provision = fleet.run("provision", **ONCE)
    assert provision.rc == 0, provision.stdout
    assert rows("node0") == rows("node1") != {}
    again = fleet.run("provision", **ONCE)
    assert (again.rc, again.changed) == (0, 0), again.stdout

    outcome = fleet.run("launch", **ONCE)
    assert outcome.rc == 0, outcome.stdout
    assert outcome.artifact["evidence"]["world_size"] == 2
    for node in PREPARED:
        log = (run_folder(node, outcome.artifact["run_id"]) / "trainer.log").read_text()
        assert "Loading prepared dataset from disk" in log

    damaged = next(PREPARED["node1"].rglob("*.arrow"))
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    found = fleet.run("preflight", **ONCE)
    assert (found.rc != 0, found.finding("prepared_damaged")["hosts"]) == (True, ["node1"])
    shutil.rmtree(PREPARED["node1"])
    mended = fleet.run("provision", **ONCE)
    assert mended.rc == 0, mended.stdout
    assert rows("node0") == rows("node1")
