# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""storage_marker as a real module: who sees the marker sees the folder, and nothing of it stays."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from unit.helpers import run_module

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import storage


def marker(root: Path, state: str, check: bool = False, **options: Any) -> dict[str, Any]:
    return run_module("storage_marker", {"root": str(root), "state": state, **options}, check=check)


@pytest.mark.parametrize("check", [False, True])
def test_a_marker_is_seen_where_it_is_and_nowhere_else(tmp_path: Path, check: bool) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    made = marker(root, "made", check)
    assert (made["changed"], made["problem"]) == (False, "")
    name = made["marker"]
    (tmp_path / "link").symlink_to("root")
    for folder, seen in ((root, True), (tmp_path / "link", True), (other, False), (tmp_path / "none", False)):
        found = marker(folder, "looked_for", check, marker=name)
        assert found["changed"] is False
        assert found["storage"]["seen"] is seen
        assert found["storage"]["exists"] is (folder.name != "none")
        assert found["storage"]["uid"] == os.geteuid()
        assert found["storage"]["file_system"]
    marker(root, "removed", check, marker=name)
    assert list(root.iterdir()) == []
    assert marker(root, "removed", check, marker=name)["problem"] == ""


def test_each_proof_has_a_name_of_its_own(tmp_path: Path) -> None:
    assert len({marker(tmp_path, "made")["marker"] for _unused in range(3)}) == 3


def test_a_root_that_is_missing_is_made_where_that_is_asked(tmp_path: Path) -> None:
    root = tmp_path / "a" / "root"
    assert marker(root, "made") == {**marker(root, "made"), "marker": "", "problem": "", "changed": False}
    assert marker(root, "made", True, make_root=True)["marker"] == ""
    assert not root.exists()
    made = marker(root, "made", make_root=True)
    assert made["changed"] is True
    assert (root / made["marker"]).exists()


def test_a_root_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    made = marker(tmp_path / "file" / "root", "made", make_root=True)
    assert (made["marker"], made["problem"]) == ("", f"{tmp_path}/file/root: not a directory")


def test_what_an_interrupted_proof_left_is_removed_later(tmp_path: Path) -> None:
    old, young = storage.make_marker(str(tmp_path)), storage.make_marker(str(tmp_path))
    before = time.time() - 7200
    os.utime(tmp_path / old, (before, before))
    (tmp_path / "data").touch()
    os.utime(tmp_path / "data", (before, before))
    new = storage.make_marker(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {young, new, "data"}


@pytest.mark.parametrize("name", ["data", "", "../data", ".gpufleet-marker-/../../data"])
def test_only_a_marker_is_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / "root").mkdir()
    for folder in (tmp_path, tmp_path / "root"):
        (folder / "data").touch()
    marker(tmp_path / "root", "removed", marker=name)
    assert (tmp_path / "data").exists()
    assert (tmp_path / "root" / "data").exists()


def test_what_is_mounted_is_named() -> None:
    assert storage._file_system("/proc/self").startswith("proc ")
