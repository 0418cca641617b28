# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room is told where something will be written, whether the folder exists yet or not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unit import sysfs

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import probe_room, probe_system


def test_disks_shared_memory_and_neighbours(tmp_path: Path) -> None:
    output = tmp_path / "not" / "yet"
    sysfs.write(tmp_path, sys__net__ipv4__neigh__default__gc_thresh3=1024)
    (tmp_path / "meminfo").write_text("MemTotal:  8 kB\nMemFree:  1 kB\nMemAvailable:  6 kB\nSwapTotal:  0 kB\n")
    found = probe_room.read(str(output), str(tmp_path), shm=str(tmp_path), proc=str(tmp_path))
    status = os.statvfs(tmp_path)
    total = status.f_blocks * status.f_frsize
    for name, path in (("output_dir", output), ("root", tmp_path)):
        assert (found[name]["path"], found[name]["total_bytes"]) == (str(path), total)
        assert 0 < found[name]["free_bytes"] <= total
    assert found["shm"]["size_bytes"] == total
    assert found["memory"] == {"total_bytes": 8192, "available_bytes": 6144}
    assert found["neighbours"] == {"ipv4": 1024, "ipv6": None}
    assert found["error"] is None


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    found = probe_room.read("", "", shm=str(tmp_path / "absent"), proc=str(tmp_path))
    assert found == {
        "output_dir": None,
        "root": None,
        "shm": None,
        "memory": None,
        "neighbours": {"ipv4": None, "ipv6": None},
        "error": None,
    }


def test_a_file_system_that_can_not_be_asked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = os.statvfs

    def stale(path: str) -> os.statvfs_result:
        if path == str(tmp_path):
            raise OSError(116, "Stale file handle")
        return asked(path)

    monkeypatch.setattr(os, "statvfs", stale)
    found = probe_room.read(str(tmp_path), "/", shm=str(tmp_path / "absent"))
    assert (found["output_dir"], found["error"]) == (None, f"{tmp_path}: Stale file handle")
    assert found["root"]["total_bytes"] > 0


def test_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_system, "os_release", lambda: 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n')
    found = probe_system.read()
    assert found["os"] == "Debian GNU/Linux 12 (bookworm)"
    assert (found["kernel"], found["architecture"]) == (os.uname().release, os.uname().machine)
    assert found["error"] is None
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36")
    assert probe_system.read()["glibc"] == "2.36"
    monkeypatch.setattr(os, "confstr", lambda name: None)
    monkeypatch.setattr(probe_system, "os_release", lambda: "")
    assert (probe_system.read()["glibc"], probe_system.read()["os"]) == (None, None)
