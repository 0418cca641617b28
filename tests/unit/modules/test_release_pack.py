# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release is packed once, whole, for the nodes' platform; pip and git are the real ones, the index is a folder."""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from unit.helpers import run_module
from unit.releases import PYTHON, git, make_source
from unit.wheels import make_sdist, make_wheel

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.file_digests import read_tree

COMPACT = PYTHON.replace(".", "")
TAG = f"cp{COMPACT}-cp{COMPACT}-manylinux_2_17_x86_64"


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    links = tmp_path / "links"
    make_wheel(links, "uv", "9.9.9")
    lock = f"alpha==1.0 --hash=sha256:{make_wheel(links, 'alpha', '1.0')}\n"
    lock += f"gamma==3.0 \\\n    --hash=sha256:{make_wheel(links, 'gamma', '3.0', TAG)}\n"
    lock += f"delta==4.0 --hash=sha256:{make_sdist(links, 'delta', '4.0')}\n"
    for name, value in {"CONFIG_FILE": "/dev/null", "NO_INDEX": "1", "FIND_LINKS": str(links)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    (tmp_path / "lock.txt").write_text(lock)
    commit = make_source(tmp_path / "source")
    (tmp_path / "source" / "later").touch()
    git(tmp_path / "source", "add", "later")
    git(tmp_path / "source", "commit", "--quiet", "--message", "later")
    git(tmp_path / "source", "checkout", "--quiet", commit)
    return {
        "path": str(tmp_path / "cache" / "release.tar"),
        "source": str(tmp_path / "source"),
        "commit": commit,
        "lock": str(tmp_path / "lock.txt"),
        "lock_sha256": hashlib.sha256(lock.encode()).hexdigest(),
        "python_version": PYTHON,
        "python_platform": "x86_64-manylinux_2_28",
        "uv_version": "9.9.9",
    }


def pack(arguments: dict[str, Any], **special: Any) -> dict[str, Any]:
    return run_module("release_pack", arguments, **special)


def entry_of(result: dict[str, Any], path: str) -> dict[str, Any]:
    return next(entry for entry in result["pack"]["entries"] if entry["path"] == path)


def unpacked(arguments: dict[str, Any], folder: Path) -> Path:
    with tarfile.open(arguments["path"]) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_a_pack_holds_the_commit_and_one_wheel_of_each_package(arguments: dict[str, Any], tmp_path: Path) -> None:
    result = pack(arguments)
    assert result["changed"], result
    tree = unpacked(arguments, tmp_path / "node")
    found = result["pack"]
    assert read_tree(str(tree)).digest == found["digest"]
    assert [entry._asdict() for entry in read_tree(str(tree)).entries] == found["entries"]
    assert found["built"] == ["delta-4.0-py3-none-any.whl"]
    assert {path.name for path in tree.glob("wheels/*")} == {
        *("alpha-1.0-py3-none-any.whl", "delta-4.0-py3-none-any.whl", f"gamma-3.0-{TAG}.whl")
    }
    assert [path.name for path in tree.glob("tools/*")] == ["uv-9.9.9-py3-none-any.whl"]
    lines = (tree / "requirements.txt").read_text().splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["alpha==1.0", "delta==4.0", "gamma==3.0"]
    for line, wheel in zip(lines, sorted(tree.glob("wheels/*")), strict=True):
        assert line.endswith(hashlib.sha256(wheel.read_bytes()).hexdigest())
    git(tree, "clone", "--quiet", "source.git", "checkout")
    assert git(tree / "checkout", "rev-parse", "HEAD") == arguments["commit"]
    assert git(tree / "checkout", "status", "--porcelain") == ""
    assert git(tree / "checkout", "rev-list", "--all", "--count") == "1"
    assert found["installed_size"] > sum(len("x = 1\n") for _package in range(3))
    assert sorted(path.name for path in Path(arguments["path"]).parent.iterdir()) == ["release.tar", "release.tar.json"]


def test_a_pack_that_is_whole_is_kept_and_a_torn_one_is_made_anew(arguments: dict[str, Any]) -> None:
    first = pack(arguments)
    assert pack(arguments) == {**first, "changed": False}
    archive = Path(arguments["path"])
    content = archive.read_bytes()
    archive.write_bytes(content[:-1] + b"x")
    again = pack(arguments)
    assert again["changed"]
    # What was fetched is the same; what is built need not be, to the byte.
    for name in ("wheels/alpha-1.0-py3-none-any.whl", f"wheels/gamma-3.0-{TAG}.whl", "tools/uv-9.9.9-py3-none-any.whl"):
        assert entry_of(again, name) == entry_of(first, name)
    assert pack({**arguments, "uv_version": "9.9.8"})["failed"], "there is no such uv to pack"


def test_what_an_interrupted_one_left_is_no_obstacle(arguments: dict[str, Any]) -> None:
    folder = Path(arguments["path"]).parent
    (folder / "release.tar.part" / "tree").mkdir(parents=True)
    (folder / "release.tar.part" / "archive.tar").write_text("half")
    assert pack(arguments)["changed"]
    assert sorted(path.name for path in folder.iterdir()) == ["release.tar", "release.tar.json"]


def test_a_check_makes_nothing(arguments: dict[str, Any]) -> None:
    result = pack(arguments, check=True)
    assert (result["changed"], result["pack"]) == (True, None)
    assert not Path(arguments["path"]).parent.exists()
    pack(arguments)
    assert pack(arguments, check=True)["changed"] is False


def test_a_wheel_that_is_not_the_locks_is_refused(arguments: dict[str, Any], tmp_path: Path) -> None:
    make_wheel(tmp_path / "links", "alpha", "1.0", package="x = 'swapped'\n")
    result = pack(arguments)
    assert result["failed"]
    assert "HASHES" in result["msg"] or "hash" in result["msg"]
    assert "alpha" in result["msg"]
    assert list(Path(arguments["path"]).parent.iterdir()) == []


def test_what_can_only_be_built_for_the_controller_is_refused_by_name(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    digest = make_sdist(tmp_path / "links", "kernels", "5.0", TAG.replace("manylinux_2_17", "linux"))
    lock = Path(arguments["lock"])
    lock.write_text(f"{lock.read_text()}kernels==5.0 --hash=sha256:{digest}\n")
    arguments["lock_sha256"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    result = pack(arguments)
    for words in ("kernels-5.0.tar.gz has no wheel for x86_64-manylinux_2_28", "find-links", "leave the package out"):
        assert words in result["msg"]


def test_another_commit_or_another_lock_is_refused(arguments: dict[str, Any]) -> None:
    assert "must be at commit" in pack({**arguments, "commit": "0" * 40})["msg"]
    Path(arguments["lock"]).write_text("alpha==1.0\n")
    assert "must have SHA-256" in pack(arguments)["msg"]


def test_it_says_what_it_was_made_from(arguments: dict[str, Any]) -> None:
    pack(arguments)
    known = json.loads(Path(f"{arguments['path']}.json").read_text())
    assert known["inputs"]["commit"] == arguments["commit"]
    assert str(sys.prefix) not in json.dumps(known)
