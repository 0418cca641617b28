# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk without room for the release is found before anything is written to it. Mounting a small one takes root."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.small_fleet import SmallFleet


def test_a_disk_too_small_for_the_release(tmp_path: Path) -> None:
    fleet = SmallFleet(tmp_path, nodes=2, axolotl_delivery="push")
    disk = fleet.root("node1")
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        done = fleet.run("provision")
        assert done.returncode != 0
        findings = fleet.artifact()["findings"]
        assert [(finding["id"], finding["hosts"]) for finding in findings] == [("provision_failed", ["node1"])]
        assert "the disk is too small for" in findings[0]["found"]
        assert "axolotl_root" in findings[0]["found"]
        assert list(disk.iterdir()) == []
        assert (fleet.root("node0") / "current").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
