# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two trees are compared by one digest, and by name when they differ."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from unit.helpers import run_module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "a").write_text("a")
    (tmp_path / "tree" / "deep" / "b").write_text("b")
    return tmp_path / "tree"


def digest(path: Path, **arguments: Any) -> dict[str, Any]:
    return run_module("tree_digest", {"path": str(path), **arguments})


def test_entries_come_only_when_asked_for(tree: Path) -> None:
    assert "entries" not in digest(tree)
    assert [entry["path"] for entry in digest(tree, entries=True)["entries"]] == ["a", "deep/b"]


def test_a_copy_is_the_same(tree: Path) -> None:
    wanted = digest(tree, entries=True)
    shutil.copytree(tree, tree.with_name("copy"))
    assert digest(tree.with_name("copy"), expect=wanted["digest"])["same"] is True
    assert digest(tree.with_name("copy"), compare=wanted["entries"])["same"] is True


def test_differences_are_named(tree: Path) -> None:
    wanted = digest(tree, entries=True)
    (tree / "a").write_text("A")
    (tree / "deep" / "b").rename(tree / "new")
    assert digest(tree, expect=wanted["digest"])["same"] is False
    result = digest(tree, compare=wanted["entries"])
    assert result["same"] is False
    assert result["difference"] == {"missing": ["deep/b"], "extra": ["new"], "different": ["a"]}
    assert result["summary"] == "missing 1: deep/b; extra 1: new; different 1: a"


def test_one_other_file_is_named_so(tree: Path) -> None:
    wanted = digest(tree / "a", entries=True)["entries"]
    assert digest(tree / "deep" / "b", compare=wanted)["summary"] == "different 1: the file itself"


def test_what_could_not_be_read_is_never_the_same(tree: Path) -> None:
    wanted = digest(tree, entries=True)["entries"]
    (tree / "dangling").symlink_to("nowhere")
    result = digest(tree, compare=wanted, follow=True)
    assert result["same"] is False
    assert "dangling: No such file" in result["summary"]
    assert digest(tree.with_name("absent"), expect="")["same"] is False


def test_entries_of_another_form_are_refused(tree: Path) -> None:
    assert "needs path, kind, size and digest" in digest(tree, compare=[{"path": "a"}])["msg"]
