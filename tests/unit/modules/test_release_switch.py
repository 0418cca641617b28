# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The link current moves in one step, only to a completed release, and says where it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unit.helpers import run_module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("one", "two", "unfinished"):
        (tmp_path / "releases" / name).mkdir(parents=True)
    for name in ("one", "two"):
        (tmp_path / "releases" / name / "release.json").write_text("{}")
    return tmp_path


def switch(root: Path, release: str, **special: bool) -> dict[str, object]:
    return run_module(
        "release_switch", {"release": str(root / "releases" / release), "current": str(root / "current")}, **special
    )


def test_it_moves_and_tells_where_it_was(root: Path) -> None:
    assert switch(root, "one")["previous"] is None
    result = switch(root, "two")
    assert (result["changed"], result["previous"]) == (True, str(root / "releases" / "one"))
    assert result["diff"] == {
        "before": f"{root}/current -> releases/one\n",
        "after": f"{root}/current -> releases/two\n",
    }
    assert os.readlink(root / "current") == "releases/two"
    assert switch(root, "two")["changed"] is False
    assert {entry.name for entry in root.iterdir()} == {"current", "releases"}


def test_a_check_moves_nothing(root: Path) -> None:
    switch(root, "one")
    assert switch(root, "two", check=True)["changed"]
    assert os.readlink(root / "current") == "releases/one"


@pytest.mark.parametrize("release", ["unfinished", "absent"])
def test_an_unfinished_release_is_refused(root: Path, release: str) -> None:
    switch(root, "one")
    result = switch(root, release)
    assert "was never completed: run provision" in str(result["msg"])
    assert os.readlink(root / "current") == "releases/one"


def test_a_folder_in_the_links_place_is_left_alone(root: Path) -> None:
    (root / "current").mkdir()
    assert "is no link" in str(switch(root, "one")["msg"])
    assert (root / "current").is_dir()


def test_a_dangling_link_is_replaced(root: Path) -> None:
    (root / "current").symlink_to("releases/gone")
    assert switch(root, "one")["changed"]
    assert os.readlink(root / "current") == "releases/one"
