# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training reads, read on a node: real files, and a cache of the Hub as its library lays it out."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import training_inputs

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def read(path: Path, **facts: Any) -> dict[str, Any]:
    entry = {"name": "it", "path": str(path), "kind": "path", **facts}
    return training_inputs.read([entry], timeout=60)["it"]


def hub(tmp_path: Path, revision: str = "main") -> dict[str, Any]:
    return read(tmp_path / "org" / "model", kind="hub", repository=str(tmp_path / "cache"), revision=revision)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights")
    return folder


def test_a_file_has_the_digest_that_any_tool_gives(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("rows")
    found = read(tmp_path / "data.jsonl")
    digest = hashlib.sha256(b"rows").hexdigest()
    assert (found["digest"], found["data_digest"], found["files"], found["size"]) == (digest, digest, 1, 4)
    assert (found["exists"], found["kind"], found["problems"], found["revision"]) == (True, "path", [], "")


def test_weights_count_for_the_content_and_not_for_the_data(model: Path) -> None:
    before = read(model)
    (model / "model.safetensors").write_text("WEIGHTS")
    after = read(model)
    assert before["digest"] != after["digest"]
    assert before["data_digest"] == after["data_digest"] != after["digest"]
    (model / "config.json").write_text("[]")
    assert read(model)["data_digest"] != after["data_digest"]


def test_the_newest_change_is_that_of_the_data(model: Path) -> None:
    def set_back(path: Path) -> None:
        os.utime(path, ns=(1, 1))

    for path in (*model.iterdir(), model):
        set_back(path)
    changed = read(model)["newest_ns"]
    assert changed == os.stat(model / "config.json").st_ctime_ns, "a copy that keeps its times is new all the same"
    os.utime(model / "model.safetensors", ns=(2 * changed, 2 * changed))
    assert read(model)["newest_ns"] == changed
    os.utime(model / "config.json", ns=(2 * changed, 2 * changed))
    assert read(model)["newest_ns"] == 2 * changed


def test_a_file_that_is_taken_away_is_a_change(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    os.utime(tmp_path, ns=(1, 1))
    before = read(tmp_path)["newest_ns"]
    (tmp_path / "c").unlink()
    assert read(tmp_path)["newest_ns"] > before


def test_what_is_missing_or_unreadable_has_no_digest(model: Path) -> None:
    found = read(model.with_name("absent"))
    assert (found["exists"], found["digest"], found["data_digest"]) == (False, "", "")
    assert "there is nothing" in found["problems"][0]
    (model / "dangling").symlink_to("nowhere")
    found = read(model)
    assert (found["exists"], found["digest"], found["data_digest"]) == (True, "", "")
    assert "dangling" in found["problems"][0]


def test_what_takes_too_long_has_a_problem_and_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(training_inputs, "read_tree", lambda *arguments, **options: release.wait(60))
    entries = [{"name": name, "path": str(tmp_path), "kind": "path"} for name in ("a", "b")]
    found = training_inputs.read(entries, timeout=0.2)
    release.set()
    for name in ("a", "b"):
        assert (found[name]["exists"], found[name]["digest"]) == (True, "")
        assert found[name]["problems"] == [f"{tmp_path}: not read within 0.2 s"]


@pytest.mark.parametrize("revision", ["main", "v2", "refs/pr/1"])
def test_a_branch_leads_to_its_commit_in_the_hubs_cache(tmp_path: Path, revision: str) -> None:
    reference = tmp_path / "cache" / "refs" / revision
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)
    assert hub(tmp_path, revision)["exists"] is False, "the reference alone is no model"
    (tmp_path / "cache" / "snapshots" / COMMIT).mkdir(parents=True)
    found = hub(tmp_path, revision)
    assert (found["exists"], found["kind"], found["revision"]) == (True, "hub", COMMIT)
    assert (found["path"], found["digest"]) == (str(tmp_path / "cache"), "")
    assert found["newest_ns"] == os.stat(reference).st_mtime_ns


def test_a_commit_is_itself_and_never_changes(tmp_path: Path) -> None:
    assert hub(tmp_path, COMMIT)["exists"] is False
    (tmp_path / "cache" / "snapshots" / COMMIT).mkdir(parents=True)
    found = hub(tmp_path, COMMIT)
    assert (found["exists"], found["revision"], found["newest_ns"]) == (True, COMMIT, 0)


@pytest.mark.parametrize("content", ["", "../../etc", "\udcff"])
def test_a_reference_that_names_no_commit_leads_nowhere(tmp_path: Path, content: str) -> None:
    reference = tmp_path / "cache" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_bytes(content.encode("utf-8", "surrogateescape"))
    found = hub(tmp_path)
    assert (found["exists"], found["revision"]) == (False, "")


def test_a_folder_of_the_hubs_name_comes_first_as_it_does_for_the_trainers(tmp_path: Path) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    (tmp_path / "org" / "model" / "config.json").write_text("{}")
    found = hub(tmp_path)
    assert (found["kind"], found["exists"], found["files"]) == ("path", True, 1)
