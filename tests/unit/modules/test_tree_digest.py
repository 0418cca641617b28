# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two trees are compared by one digest, and by name when they differ."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import blake3
import pytest
from unit.helpers import run_module, wait_for


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "a").write_text("a")
    (tmp_path / "tree" / "deep" / "b").write_text("b")
    return tmp_path / "tree"


def digest(path: Path, check: bool = False, **arguments: Any) -> dict[str, Any]:
    return run_module("tree_digest", {"path": str(path), **arguments}, check=check)


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


def test_of_many_files_the_few_that_differ_are_named(tree: Path) -> None:
    for number in range(2000):
        (tree / f"{number:04d}").write_text(f"{number}")
    wanted = digest(tree, entries=True)["entries"]
    for number in (7, 800, 1999):
        (tree / f"{number:04d}").write_text("other")
    result = digest(tree, compare=wanted)
    assert result["difference"]["different"] == ["0007", "0800", "1999"]
    assert result["summary"] == "different 3: 0007, 0800, 1999"
    assert "entries" not in result


def test_odd_names_are_compared_and_shown_on_one_line(tree: Path) -> None:
    (tree / os.fsdecode(b"\xff\n")).touch()
    wanted = digest(tree, entries=True)
    assert digest(tree, compare=wanted["entries"])["same"] is True
    (tree / os.fsdecode(b"\xff\n")).rename(tree / "\\xff\n")
    result = digest(tree, compare=wanted["entries"])
    assert result["digest"] != wanted["digest"]
    assert result["summary"] == r"missing 1: \xff\n; extra 1: \x5cxff\n"


def test_blake3_is_another_digest_of_the_same(tree: Path) -> None:
    assert digest(tree / "a", algorithm="blake3")["digest"] == blake3.blake3(b"a").hexdigest()


def test_an_algorithm_that_is_not_there_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.parent / "blake3.py").write_text("raise ImportError('as on a node without it')\n")
    monkeypatch.setenv("PYTHONPATH", str(tree.parent))
    result = digest(tree, algorithm="blake3")
    assert result["failed"] is True
    assert "install the package blake3" in result["msg"]
    assert "digest" not in result


def test_kept_digests_are_used_and_counted(tree: Path, tmp_path: Path) -> None:
    (tree / "large").write_bytes(bytes(200_000))
    cache = tmp_path / "cache"
    plain = digest(tree)
    assert (plain["cached_files"], plain["cached_size"]) == (0, 0)
    # A file that has just been written is kept after some seconds alone.
    wait_for(lambda: digest(tree, cache=str(cache))["cached_files"] == 1)
    store = (cache / "gpufleet-digests").read_bytes()
    checked = digest(tree, cache=str(cache), check=True)
    assert checked["changed"] is False
    assert (checked["cached_files"], checked["cached_size"], checked["digest"]) == (1, 200_000, plain["digest"])
    rehashed = digest(tree, cache=str(cache), rehash=True, check=True)
    assert (rehashed["cached_files"], rehashed["digest"]) == (0, plain["digest"])
    assert (cache / "gpufleet-digests").read_bytes() == store
    cache.chmod(0o777)
    mistrusted = digest(tree, cache=str(cache))
    assert (mistrusted["cached_files"], mistrusted["digest"]) == (0, plain["digest"])
    assert "others may write to it (mode 0777)" in str(mistrusted["warnings"])
