# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real training of two nodes that share axolotl_root: one release, one output folder, and records that lie apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fleet import Fleet

pytestmark = [pytest.mark.training, pytest.mark.timeout(600)]


def test_nodes_that_share_their_root_train_as_one_world(provisioned: Path, tmp_path: Path) -> None:
    root = tmp_path / "storage"
    shared = {"axolotl_root": str(root), "axolotl_storage": "shared", "training_files_preprocess": "head"}
    fleet = Fleet(tmp_path)
    outcome = fleet.run("provision", **shared)
    assert outcome.rc == 0, outcome.stdout
    outcome = fleet.run("launch", **shared)
    assert outcome.rc == 0, outcome.stdout
    evidence, run_id = outcome.artifact["evidence"], outcome.artifact["run_id"]
    assert (outcome.artifact["verdict"], evidence["world_size"]) == ("pass", 2)
    assert evidence["nodes_with_losses"] == ["node0"]
    # Both see what both have written.
    written = ["rng_state_0.pth", "rng_state_1.pth"]
    assert [evidence["checkpoints"][node]["checkpoint-4"] for node in ("node0", "node1")] == [written, written]
    assert sorted(str(path.relative_to(root)) for path in root.glob("runs/*/*")) == [
        f"runs/node0/{run_id}",
        f"runs/node1/{run_id}",
    ]
    # One of them prepared the dataset, and both took that.
    logs = [(root / "runs" / node / run_id / "trainer.log").read_text() for node in ("node0", "node1")]
    assert all("Loading prepared dataset from disk" in log for log in logs)
    status = fleet.run("status", **shared)
    assert (status.rc, status.artifact["run_id"]) == (0, run_id)
    collected = fleet.run("collect", **shared)
    assert collected.rc == 0, collected.stdout
    for node in ("node0", "node1"):
        log = fleet.folder / "project" / "artifacts" / run_id / node / "trainer.log"
        assert (root / "runs" / node / run_id / "trainer.log").read_bytes() == log.read_bytes()
